"""Whether anything near a point is better: probes along several directions, near and far."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

UPHILL = np.logspace(-4, 2, 9)
AROUND = np.array([0.1, 1.0, 10.0, 100.0])
SIZES = np.concatenate([UPHILL, AROUND, AROUND, -AROUND])
WAYS = np.repeat([0, 1, 2], [len(UPHILL), len(AROUND), 2 * len(AROUND)])
NEAR = 1.0
MOST_ROUNDS = 6
ROUNDING = 1e-12


class Settled(NamedTuple):
    """Where probes ended.

    Attributes
    ----------
    point, gradient : arrays, shape (P,)
    objective : float
    gain : float
        What the last round of probes still gained, in the unit of the objective.
    converged : bool
        Whether that is next to nothing beside the reaction.
    flat : bool
        Whether the objective reacts to none of the probes.
    """

    point: Float[Array, " coordinate"]
    objective: Float[Array, ""]
    gradient: Float[Array, " coordinate"]
    gain: Float[Array, ""]
    converged: Bool[Array, ""]
    flat: Bool[Array, ""]


def settle(
    evaluate: Callable[[Array], tuple[Array, Array]],
    point: Float[Array, " coordinate"],
    objective: Float[Array, ""],
    gradient: Float[Array, " coordinate"],
    *,
    scale: Float[Array, " coordinate"],
    tolerance: float,
    key: Key[Array, ""],
) -> Settled:
    """Move to better points nearby until there is none.

    A zero gradient is no proof of an optimum: nobody may respond, or a transform is saturated. And
    at a kink the gradient never vanishes. So each round looks at points uphill, from 1e-4 to 100
    scales away, and at points along a random and the constant direction, .1 to 100 scales away, and
    moves to the best. It ends when a round gains less than ``tolerance`` times the *reaction*: the
    spread of the objective over the probes within one scale.

    Parameters
    ----------
    evaluate : callable
        Point -> (objective, gradient); -inf where the problem is not defined.
    point, gradient : arrays, shape (P,)
    objective : float
        At ``point``, where ``gradient`` was found too.
    scale : array, shape (P,)
        What counts as one step of each coordinate (`Scale`).
    tolerance : float
        > 0.
    key : typed key

    Returns
    -------
    Settled
    """
    near = np.abs(SIZES) <= NEAR

    def unfinished(carry: tuple[Settled, Array]) -> Array:
        found, number = carry
        return ~found.converged & (number < MOST_ROUNDS) & jnp.isfinite(found.objective)

    def look(carry: tuple[Settled, Array]) -> tuple[Settled, Array]:
        at, number = carry
        uphill = at.gradient * scale
        # First by its largest entry: the square of a tiny slope would be zero.
        uphill = uphill / jnp.maximum(jnp.abs(uphill).max(), 1e-300)
        uphill = uphill / jnp.maximum(jnp.linalg.norm(uphill), 1e-300)
        random = jax.random.normal(jax.random.fold_in(key, number), scale.shape)
        ways = jnp.stack([uphill, random, jnp.ones_like(scale)])[WAYS]
        points = at.point + scale * ways * SIZES[:, None]
        values, slopes = jax.lax.map(evaluate, points)
        values = jnp.where(jnp.isfinite(values), values, -jnp.inf)
        best = values.argmax()
        gain = jnp.maximum(values[best] - at.objective, 0.0)
        rounding = ROUNDING * jnp.abs(at.objective)
        reaction = _spread(jnp.where(near, values, -jnp.inf), at.objective)
        better = gain > 0.0
        after = Settled(
            jnp.where(better, points[best], at.point),
            at.objective + gain,
            jnp.where(better, slopes[best], at.gradient),
            gain,
            gain <= jnp.maximum(tolerance * reaction, rounding),
            _spread(values, at.objective) <= rounding,
        )
        return after, number + 1

    no = jnp.zeros((), bool)
    first = Settled(point, objective, gradient, jnp.array(jnp.inf), no, no)
    return jax.lax.while_loop(unfinished, look, (first, jnp.zeros((), int)))[0]


def _spread(values: Array, own: Array) -> Array:
    """Return the largest less the smallest of the values that are finite, ``own`` among them."""
    finite = jnp.isfinite(values)
    high = jnp.where(finite, values, own).max()
    low = jnp.where(finite, values, own).min()
    return jnp.maximum(high, own) - jnp.minimum(low, own)
