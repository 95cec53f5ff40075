r"""States that are alike, as much as their counts say they are.

Where a law lists successors (`SuccessorTransition`), a place in the list often means the same in
every state: a direction on a map, a change of mileage. Then the rows of one action share a base
:math:`m_a`, a law over places in the list:

.. math:: P(s, a) \sim \text{Dirichlet}(w\, b_{sa}), \qquad b_{sa} = m_a \text{ by place,}

equal successors added up (two moves into walls both stay). The weight w, in visits, says how alike
states are. It has a uniform prior over `WEIGHTS` and is learned from the Dirichlet-multinomial
likelihood of all counts at the estimated base, less what estimating the base is worth by itself:
(K - 1)/2 log(1 + visits that tell of it) for each action. One row alone says nothing of likeness.
If states differ, w comes out small, and each state is learned by itself.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, Int

from cbrl_bayes.problems.successors import first_equal

WEIGHTS = 2.0 ** np.arange(-2, 17, 2)
TURNS = 10
"""Of expectation-maximisation, which shares counts of equal successors among their places."""


class AlikeStates(NamedTuple):
    """What counts say of the rows of an action in general.

    Attributes
    ----------
    first : int array, shape (S, A, K)
        The first place with the same successor.
    counts : array, shape (S, A, K)
        Transitions seen, those of equal successors in their first place.
    shares : array, shape (A, K)
        The estimated base m.
    log_weight : array, shape (number of `WEIGHTS`,)
        Log posterior of each weight, up to a constant.
    """

    first: Int[Array, "state action place"]
    counts: Float[Array, "state action place"]
    shares: Float[Array, "action place"]
    log_weight: Float[Array, " weight"]

    @classmethod
    def learned(cls, successor: Int[Array, "state action place"], counts: Array) -> "AlikeStates":
        """Estimate the base from rows of listed successors, and weigh each weight."""
        places = counts.shape[-1]
        shares = jnp.full(counts.shape[1:], 1.0 / places)
        blank = jnp.zeros(len(WEIGHTS))
        found = cls(first_equal(successor), counts, shares, blank)

        shares = jax.lax.fori_loop(
            0, TURNS, lambda _, shares: _law(found._pooled(counts, shares)), shares
        )
        base, total = found._by_row(shares), counts.sum(-1)

        def fit(weight: Array) -> Array:
            own = jnp.where(base > 0.0, weight * base, 1.0)
            rows = gammaln(own + jnp.where(base > 0.0, counts, 0.0)) - gammaln(own)
            likelihood = (rows.sum(-1) + gammaln(weight) - gammaln(weight + total)).sum()
            telling = (total * weight / (weight + total)).sum(0)
            return likelihood - 0.5 * (places - 1) * jnp.log1p(telling).sum()

        return found._replace(shares=shares, log_weight=jax.lax.map(fit, jnp.asarray(WEIGHTS)))

    def pseudo_counts(self) -> Float[Array, "state action place"]:
        """Return what states tell of each other, in visits, at the most likely weight.

        They tell no more than was seen of the action anywhere.
        """
        weight = jnp.asarray(WEIGHTS)[self.log_weight.argmax()]
        seen = self.counts.sum((0, 2))
        return (weight * seen / (weight + seen))[:, None] * self._by_row(self.shares)

    def drawn_pseudo_counts(self, key: Array) -> Float[Array, "state action place"]:
        """Return what states tell of each other, at a weight and a base that are drawn."""
        weight_key, start_key, base_key = jax.random.split(key, 3)
        weight = jnp.asarray(WEIGHTS)[jax.random.categorical(weight_key, self.log_weight)]
        # A row tells of the base as much as its own weight lets it.
        told = self.counts * weight / (weight + self.counts.sum(-1, keepdims=True))
        # What the counts do not tell, as the split of places that are equal everywhere, stays as
        # it was drawn at first.
        start = jax.random.dirichlet(start_key, jnp.ones(told.shape[-1]), told.shape[1:2])
        places = jax.lax.fori_loop(0, TURNS, lambda _, p: _law(self._pooled(told, p)), start)
        shares = jax.nn.softmax(jax.random.loggamma(base_key, self._pooled(told, places)), axis=-1)
        return weight * self._by_row(shares)

    def _pooled(self, counts: Array, shares: Array) -> Float[Array, "action place"]:
        """Return the visits of each place, of all rows, and of a prior of one visit."""
        return self._by_place(counts, shares).sum(0) + 1.0 / counts.shape[-1]

    def _by_row(self, shares: Float[Array, "action place"]) -> Float[Array, "state action place"]:
        """Return the base of every row, equal successors added up in the first place."""
        state, action = jnp.indices(self.first.shape[:2])
        blank = jnp.zeros(self.first.shape)
        spread = jnp.broadcast_to(shares, self.first.shape)
        return blank.at[state[..., None], action[..., None], self.first].add(spread)

    def _by_place(self, counts: Array, shares: Array) -> Float[Array, "state action place"]:
        """Share counts of equal successors among their places."""
        whole = self._by_row(shares)
        each = jnp.where(whole > 0.0, counts / jnp.where(whole > 0.0, whole, 1.0), 0.0)
        return shares * jnp.take_along_axis(each, self.first, axis=-1)


def _law(weights: Float[Array, "action place"]) -> Float[Array, "action place"]:
    return weights / weights.sum(-1, keepdims=True)
