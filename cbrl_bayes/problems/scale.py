"""How large a change of the incentive, and of the leader's reward, is: what searches measure by."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

if TYPE_CHECKING:
    from cbrl_bayes.problems.record import Problem

MOST_CONTEXTS = 3
LADDER = 2.0 ** np.arange(-60, 61, 3)
NUM_BISECTIONS = 12
NUM_DIRECTIONS = 4


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
    random directions. Its scale is the smallest move that changes a reward by half of the typical
    reward, or a probability by a half, or by half of what the largest moves bring about. With all
    money multiplied by k the scale of an incentive in money is k times as large.
    """
    declared = problem.incentive.scale
    sizes = [int(np.size(leaf)) for leaf in jax.tree.leaves(problem.incentive.initial)]
    with jax.ensure_compile_time_eval():
        rewards, money = _typical_rewards(problem)
        if declared is None:
            found = _found_scales(problem, rewards, money)
        else:
            given = jax.tree.leaves(declared)
            found = [
                float(one) for one in (given if len(given) == len(sizes) else given * len(sizes))
            ]
    return Scale(np.repeat(found, sizes), money)


def _typical_rewards(problem: "Problem") -> tuple[float, float]:
    """Return the sizes of the follower's and of the leader's rewards at the start."""
    incentive = problem.incentive.transform(problem.incentive.initial)
    one = problem.follower_parameters(problem.default_parameters, 0)
    own, leader = [], []
    for context in _some_contexts(problem):
        mdp = problem.mdp_fn(incentive, context, one)
        own.append(np.ravel(mdp.reward))
        if problem.leader_reward_fn is not None:
            leader.append(np.ravel(problem.leader_reward_fn(incentive, context, one)))
        elif problem.objective_fn is not None:
            uniform = jnp.full(mdp.reward.shape, 1.0 / mdp.reward.shape[1])
            leader.append(np.ravel(problem.objective_fn(incentive, uniform, context, one)))
    temperature = float(jnp.max(mdp.temperature))
    follower = _typical(own) + temperature
    return follower, _typical(leader) or follower


def _some_contexts(problem: "Problem") -> list[Any]:
    values, _ = problem.contexts.support(problem.default_parameters, jax.random.key(0))
    num = min(problem.contexts.num_contexts, MOST_CONTEXTS)
    return [jax.tree.map(lambda leaf, i=i: jnp.asarray(leaf)[i], values) for i in range(num)]


def _typical(arrays: list[np.ndarray]) -> float:
    """Return the lower median of the sizes that are not zero; 0 if there is none.

    The lower one, so that a few huge losses, which only forbid something, do not set the scale.
    """
    sizes = np.abs(np.concatenate(arrays)) if arrays else np.zeros(0)
    sizes = np.sort(sizes[np.isfinite(sizes) & (sizes > 0.0)])
    return float(sizes[(len(sizes) - 1) // 2]) if len(sizes) else 0.0


def _found_scales(problem: "Problem", reward: float, money: float) -> list[float]:
    leaves, tree = jax.tree.flatten(problem.incentive.initial)
    start = [jnp.asarray(leaf, float) for leaf in leaves]
    keys = jax.random.split(jax.random.key(0), len(start))
    scales = []
    features = _features(problem, reward, money)
    at_start = features(problem.incentive.initial)
    for number, key in enumerate(keys):
        random = jax.random.normal(key, (NUM_DIRECTIONS, *start[number].shape))
        directions = jnp.concatenate([random, jnp.ones((1, *start[number].shape))])

        def moved(size: Array, number: int = number, directions: Array = directions) -> Array:
            """Return the largest change of anything that moves of this size bring about."""

            def one(direction: Array) -> Array:
                point = [*start[:number], start[number] + size * direction, *start[number + 1 :]]
                change = jnp.abs(features(jax.tree.unflatten(tree, point)) - at_start)
                return jnp.where(jnp.isfinite(change), change, jnp.inf).max()

            return jax.lax.map(one, directions).max()

        scales.append(_half_way(jax.jit(moved)))
    return scales


def _features(problem: "Problem", reward: float, money: float) -> Callable[[Any], Array]:
    """Return all that an incentive can change, each in its own unit, as one vector."""
    one = problem.follower_parameters(problem.default_parameters, 0)
    contexts = _some_contexts(problem)

    def features(unconstrained: Any) -> Array:
        incentive = problem.incentive.transform(unconstrained)
        found = []
        for context in contexts:
            mdp = problem.mdp_fn(incentive, context, one)
            found += [mdp.reward / reward, mdp.transition.probability, mdp.initial]
            if problem.leader_reward_fn is not None:
                found.append(problem.leader_net_reward(incentive, context, one) / money)
            elif problem.objective_fn is not None:
                uniform = jnp.full(mdp.reward.shape, 1.0 / mdp.reward.shape[1])
                found.append(problem.objective_fn(incentive, uniform, context, one) / money)
        return jnp.concatenate([jnp.ravel(one) for one in found])

    return features


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
