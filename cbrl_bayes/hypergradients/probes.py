"""Whether anything near a point is better: probes along several directions, near and far.

A zero gradient is no proof of an optimum: nobody may respond, or a transform is saturated. And at
a kink the gradient never vanishes. So each round looks at points uphill, from 1e-4 to 100 scales
away, and at points along a random and the constant direction and against them, .1 to 100 scales
away, and moves to
the best. It ends when a round gains less than a small share of the *reaction*: the spread of the
objective over the probes within one scale.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cbrl_bayes.hypergradients.steps import chosen

UPHILL = np.logspace(-4, 2, 9)
AROUND = np.array([0.1, 1.0, 3.0, 10.0, 30.0, 100.0])
SIZES = np.concatenate([UPHILL, AROUND, -AROUND, AROUND, -AROUND])
WAYS = np.repeat([0, 1, 2], [len(UPHILL), 2 * len(AROUND), 2 * len(AROUND)])
NEAR = 1.0
MOST_ROUNDS = 6
ROUNDING = 1e-12


class Place(NamedTuple):
    """A point, shape (P,), and the objective and its gradient there."""

    point: Float[Array, " coordinate"]
    objective: Float[Array, ""]
    gradient: Float[Array, " coordinate"]


class Probes(NamedTuple):
    """Rounds of probes under way.

    Attributes
    ----------
    centre, best : Place
        Where the round looks around, and the best of what it saw; -inf for what is not defined.
    number, rounds : int
        The next probe of this round, and the rounds before it.
    lowest, highest : arrays, shape (2,)
        Of the objective over this round's probes: within one scale, and all.
    gain : float
        What the last whole round gained, in the unit of the objective.
    converged : bool
        Whether that was next to nothing beside the reaction.
    flat : bool
        Whether the objective reacted to none of that round's probes.
    """

    centre: Place
    best: Place
    number: Int[Array, ""]
    rounds: Int[Array, ""]
    lowest: Float[Array, "2"]
    highest: Float[Array, "2"]
    gain: Float[Array, ""]
    converged: Bool[Array, ""]
    flat: Bool[Array, ""]

    @classmethod
    def around(cls, place: Place) -> "Probes":
        """Return probes before the first round."""
        zero, no = jnp.zeros((), int), jnp.zeros((), bool)
        both = jnp.full(2, place.objective)
        return cls(place, place, zero, zero, both, both, jnp.array(jnp.inf), no, no)

    @property
    def over(self) -> Bool[Array, ""]:
        """Whether there is nothing more to look at."""
        lost = ~jnp.isfinite(self.centre.objective)
        return self.converged | (self.rounds >= MOST_ROUNDS) | lost

    def next_point(self, scale: Float[np.ndarray, " coordinate"]) -> Float[Array, " coordinate"]:
        """Return the next probe; ``scale`` is what counts as one step of each coordinate."""
        uphill = self.centre.gradient * scale
        # First by its largest entry: the square of a tiny slope would be zero.
        uphill = uphill / jnp.maximum(jnp.abs(uphill).max(), 1e-300)
        uphill = uphill / jnp.maximum(jnp.linalg.norm(uphill), 1e-300)
        # The same directions in every ascent: fixed numbers cost nothing to compile.
        random = np.random.default_rng(0).normal(size=(MOST_ROUNDS, *scale.shape))
        way = jnp.select(
            [jnp.asarray(WAYS)[self.number] == way for way in range(2)],
            [uphill, jnp.asarray(random)[self.rounds]],
            jnp.ones(scale.shape),
        )
        return self.centre.point + scale * way * jnp.asarray(SIZES)[self.number]

    def seen(self, probe: Place, tolerance: float) -> "Probes":
        """Return what is known after one more probe; after the last of a round, move."""
        fine = jnp.isfinite(probe.objective)
        near = jnp.abs(jnp.asarray(SIZES)[self.number]) <= NEAR
        counts = fine & jnp.stack([near, jnp.ones((), bool)])
        after = self._replace(
            best=chosen(fine & (probe.objective > self.best.objective), probe, self.best),
            number=self.number + 1,
            lowest=jnp.where(counts, jnp.minimum(self.lowest, probe.objective), self.lowest),
            highest=jnp.where(counts, jnp.maximum(self.highest, probe.objective), self.highest),
        )
        return chosen(after.number == len(SIZES), after._moved(tolerance), after)

    def _moved(self, tolerance: float) -> "Probes":
        gain = self.best.objective - self.centre.objective
        rounding = ROUNDING * jnp.abs(self.centre.objective)
        reaction, reach = self.highest - self.lowest
        return Probes.around(self.best)._replace(
            rounds=self.rounds + 1,
            gain=gain,
            converged=gain <= jnp.maximum(tolerance * reaction, rounding),
            flat=reach <= rounding,
        )
