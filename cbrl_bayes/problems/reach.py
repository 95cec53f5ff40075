"""How far the numbers of a readable incentive can go."""

import jax
import numpy as np

from cbrl_bayes.problems.incentive import IncentiveSpace

FAR = (30.0, 300.0)
"""How far out, on the unconstrained scale, the reach of an incentive is measured."""
MOST_PROBES = 400
SETTLED, TINY = 1e-3, 1e-9
"""Shares of the way from the start: what moves less has a bound; what is less is 0."""


def reach_of(space: IncentiveSpace) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the least and the largest readable value of every entry, infinite where none.

    The transform is tried far out in many directions; what still grows there has no bound.
    """
    rng = np.random.default_rng(0)
    size = space.size
    around = [np.eye(size), -np.eye(size)] if size <= MOST_PROBES else []
    ways = np.vstack(
        [np.ones((1, size)), -np.ones((1, size)), *around, rng.normal(size=(50, size))]
    )
    look = jax.vmap(lambda vector: dict(space.transform(space.unflatten(vector))))
    centre = np.asarray(space.flatten(space.initial))
    start = look(centre[None])
    near, far = (look(centre + distance * ways) for distance in FAR)
    found = {}
    for name in space.labels:
        ends = []
        for extreme, worst in ((np.min, -np.inf), (np.max, np.inf)):
            one, two = (
                extreme(np.nan_to_num(np.asarray(at[name]), nan=worst), axis=0)
                for at in (near, far)
            )
            with np.errstate(invalid="ignore"):
                way = abs(one - np.asarray(start[name])[0])
                settled = abs(two - one) <= SETTLED * way
                two = np.where(abs(two) < TINY * way, 0.0, two)
            ends.append(np.where(settled & np.isfinite(two), two, worst))
        found[name] = (ends[0], ends[1])
    return found
