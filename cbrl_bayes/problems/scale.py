"""How large a change of the incentive, and of the leader's reward, is: what searches measure by."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cbrl_bayes.mdp import MDP

if TYPE_CHECKING:
    from cbrl_bayes.problems.record import Problem

MOST_CONTEXTS = 3
LADDER = 2.0 ** np.arange(-60, 61, 3)
NUM_BISECTIONS = 12
NUM_DIRECTIONS = 4
ROUNDING, NOTHING = 1e-15, 1e-9
"""Shares of the largest reward, and of the follower's typical one: what is less is what rounding
left of a difference, as of a price at cost."""


@dataclass(frozen=True)
class Scale:
    """What counts as one step, so that a search does not depend on the unit of money or time.

    Attributes
    ----------
    incentive : array, shape (P,)
        A change of each unconstrained coordinate that matters to the follower or the leader.
    objective : float
        Typical size of the leader's reward; > 0.
    """

    incentive: Float[np.ndarray, " coordinate"]
    objective: float


def find_scale(problem: "Problem") -> Scale:
    """Return the scale of a problem; that of the incentive as declared, or found.

    To find it, every leaf of the unconstrained incentive is moved away from its start in a few
    random directions. Its scale is the smallest move that changes a reward or the temperature by
    half of the typical reward, or a probability or the discount by a half, or by half of what the
    largest moves bring about. With all
    money multiplied by k the scale of an incentive in money is k times as large.
    """
    sizes = [int(np.size(leaf)) for leaf in jax.tree.leaves(problem.incentive.initial)]
    rewards, money = _typical_rewards(problem)
    given = jax.tree.leaves(problem.incentive.scale)
    if not given:
        given = _found_scales(problem, rewards, money)
    scales = np.broadcast_to(np.asarray(given, float), (len(sizes),))
    return Scale(np.repeat(scales, sizes), money)


def _typical_rewards(problem: "Problem") -> tuple[float, float]:
    """Return the sizes of the follower's and of the leader's rewards at the start."""

    def rewards(who: Array) -> tuple[list[Array], list[Array], Any]:
        own, leader = [], []
        for mdp, of_leader in _models(problem, problem.incentive.initial, who):
            own.append(mdp.reward)
            leader.append(of_leader)
        return own, leader, jnp.asarray(mdp.temperature)

    own, leader, temperature = jax.jit(_of_followers(problem, rewards))()
    follower = _typical(own) + float(temperature[0])
    found = _typical(leader)
    return follower, found if found > NOTHING * follower else follower


def _of_followers(problem: "Problem", function: Callable[[Array], Any]) -> Callable[[], Any]:
    """Return what calls a function for every follower that may differ; they come first."""
    return lambda: jax.lax.map(function, jnp.asarray(problem.all_followers))


def _models(problem: "Problem", unconstrained: Any, who: Array) -> Iterator[tuple[MDP, Array]]:
    """Yield the first contexts' MDPs, and what the leader has of every state and action."""
    incentive = problem.incentive.transform(unconstrained)
    one = problem.follower_parameters(problem.first_parameters, who)
    values, _ = problem.contexts.support(problem.default_parameters, jax.random.key(0))
    for number in range(min(problem.contexts.num_contexts, MOST_CONTEXTS)):
        context = jax.tree.map(lambda leaf, i=number: jnp.asarray(leaf)[i], values)
        mdp = problem.mdp_fn(incentive, context, one)
        if problem.leader_reward_fn is not None:
            yield mdp, problem.leader_net_reward(incentive, context, one)
        elif problem.objective_fn is not None:
            uniform = jnp.full(mdp.reward.shape, 1.0 / mdp.reward.shape[1])
            yield mdp, problem.objective_fn(incentive, uniform, context, one)


def _typical(arrays: list[Array]) -> float:
    """Return the lower quartile of the sizes that are not zero (or rounding); 0 if there is none.

    The lower one, so that huge losses, which only forbid something, do not set the scale.
    """
    sizes = np.abs(np.concatenate([np.ravel(one) for one in arrays]))
    sizes = np.sort(sizes[np.isfinite(sizes)])
    sizes = sizes[sizes > ROUNDING * sizes.max(initial=0.0)]
    return float(sizes[(len(sizes) - 1) // 4]) if len(sizes) else 0.0


def _found_scales(problem: "Problem", reward: float, money: float) -> list[float]:
    """Return the scale of every leaf; see `find_scale`."""
    space = problem.incentive
    leaves = jax.tree.leaves(space.initial)
    ends = np.cumsum([np.size(leaf) for leaf in leaves])
    random = jax.random.normal(jax.random.key(0), (NUM_DIRECTIONS, space.size))
    directions = jnp.concatenate([random, jnp.ones((1, space.size))])

    def features_of(who: Array, point: Array) -> Array:
        """Return all that an incentive can change, each in its own unit, as one vector."""
        found = []
        for mdp, of_leader in _models(problem, space.unflatten(point), who):
            found += [mdp.reward / reward, mdp.transition.probability, mdp.initial]
            found += [
                jnp.asarray(mdp.temperature) / reward,
                jnp.asarray(mdp.discount),
                of_leader / money,
            ]
        return jnp.concatenate([jnp.ravel(one) for one in found])

    def features(point: Array) -> Array:
        return _of_followers(problem, lambda who: features_of(who, point))()

    @jax.jit
    def moved(start: Array, mask: Array, size: Array) -> Array:
        """Return the largest change of anything that moves of this size bring about."""
        before = features(start)

        def one(direction: Array) -> Array:
            change = jnp.abs(features(start + size * mask * direction) - before)
            return jnp.where(jnp.isfinite(change), change, jnp.inf).max()

        return jax.lax.map(one, directions).max()

    start = jnp.asarray(space.flatten(space.initial))
    position = np.arange(space.size)
    masks = [
        (position >= end - np.size(leaf)) & (position < end)
        for end, leaf in zip(ends, leaves, strict=True)
    ]
    return [_half_way(partial(moved, start, mask)) for mask in masks]


def _half_way(moved: Callable[[Any], Array]) -> float:
    """Return the size of the smallest move that brings about half of what can be expected."""
    reached = np.array([float(moved(size)) for size in LADDER])
    wanted = 0.5 * min(1.0, reached.max())
    if wanted == 0.0:
        return 1.0  # nothing that can be seen here reacts to it
    first = int(np.argmax(reached >= wanted))
    low, high = LADDER[max(first - 1, 0)], LADDER[first]
    for _ in range(NUM_BISECTIONS if first else 0):
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if float(moved(middle)) >= wanted else (middle, high)
    return float(high)
