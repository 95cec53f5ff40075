r"""A prior on transitions that lets states be alike, as much as their counts say they are.

Where a law lists successors (`SuccessorTransition`), a place in the list often means the same in
every state: a direction on a map, a change of mileage. Then the rows of one action share a base
:math:`m_a`, a law over places in the list:

.. math:: P(s, a) \sim \text{Dirichlet}(w\, b_{sa}), \qquad b_{sa} = m_a \text{ by place,}

equal successors added up (two moves into walls both stay). The weight w, in visits, says how alike
states are. It has a uniform prior over powers of two from 1/4 to 65,536 and is learned from the
Dirichlet-multinomial likelihood of all counts at the estimated base; w and then the base are drawn
anew for every law. If states differ, w comes out small, and each state is learned by itself.
"""

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float
from scipy.special import gammaln, softmax

from cbrl_bayes.mdp import SuccessorTransition
from cbrl_bayes.problems import Problem
from cbrl_bayes.problems.successors import first_equal

WEIGHTS = 2.0 ** np.arange(-2, 17)
TURNS = 5
"""Of expectation-maximisation, which shares counts of equal successors among their places."""


@dataclass(frozen=True)
class AlikeStates:
    """The prior, for one problem.

    Parameters
    ----------
    first : array, shape (R, A, K, K)
        1 where the first place with the same successor as place j is f; R rows of states, of all
        contexts where each has its own law.
    """

    first: Float[np.ndarray, "row action place first"]

    @classmethod
    def of(cls, problem: Problem, num_tables: int) -> "AlikeStates | None":
        """Return the prior; None where the law lists no successors."""
        parameters = problem.default_parameters
        values, _ = problem.contexts.support(parameters)
        incentive = problem.incentive.transform(problem.incentive.initial)
        own = problem.follower_parameters(parameters, 0)
        tables = []
        for number in range(num_tables):
            context = jax.tree.map(lambda leaf, n=number: np.asarray(leaf)[n], values)
            transition = problem.mdp_fn(incentive, context, own).transition
            if not isinstance(transition, SuccessorTransition):
                return None
            listed = np.asarray(transition.successor)
            tables.append(np.eye(listed.shape[-1])[first_equal(listed)])
        return cls(np.concatenate(tables))

    def base(self, shares: Float[np.ndarray, "action place"]) -> Float[np.ndarray, "row action k"]:
        """Return the base of every row, equal successors added up in the first place."""
        return np.einsum("aj,rajf->raf", shares, self.first)

    def learned(self, counts: Float[np.ndarray, "row action k"]) -> dict[str, np.ndarray]:
        """Return the estimated base, and the log posterior of each of `WEIGHTS`."""
        places = counts.shape[-1]
        shares = np.full((counts.shape[1], places), 1.0 / places)
        for _ in range(TURNS):
            pooled = self._by_place(counts, shares).sum(0) + 1.0 / places
            shares = pooled / pooled.sum(-1, keepdims=True)
        base, total = self.base(shares), counts.sum(-1)
        log = []
        for weight in WEIGHTS:
            own = np.where(base > 0.0, weight * base, 1.0)
            rows = gammaln(own + np.where(base > 0.0, counts, 0.0)) - gammaln(own)
            log.append((rows.sum(-1) + gammaln(weight) - gammaln(weight + total)).sum())
        return {"shares": shares, "log_weight": np.array(log)}

    def draw(
        self, counts: Float[np.ndarray, "table state action k"], num: int, rng: np.random.Generator
    ) -> Float[np.ndarray, "draw table state action k"]:
        """Draw laws given counts of transitions, each with a weight and a base of its own."""
        rows = counts.reshape(-1, *counts.shape[2:])
        found = self.learned(rows)
        chance = softmax(found["log_weight"])
        total = rows.sum(-1, keepdims=True)
        drawn = []
        for weight in rng.choice(WEIGHTS, size=num, p=chance):
            # A row tells of the base as much as its own weight lets it.
            told = rows * weight / np.maximum(weight + total, 1e-300)
            places = self._by_place(told, found["shares"]).sum(0) + 1.0 / rows.shape[-1]
            shares = rng.gamma(places)
            base = self.base(shares / np.maximum(shares.sum(-1, keepdims=True), 1e-300))
            law = rng.gamma(np.where(base > 0.0, rows + weight * base, 1.0)) * (base > 0.0)
            law = np.where(law.sum(-1, keepdims=True) > 0.0, law, base)  # all gammas underflowed
            drawn.append(law / law.sum(-1, keepdims=True))
        return np.stack(drawn).reshape(num, *counts.shape)

    def _by_place(self, counts: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Share counts of equal successors among their places."""
        whole = np.maximum(self.base(shares), 1e-300)
        return shares * np.einsum("raf,rajf->raj", counts / whole, self.first)
