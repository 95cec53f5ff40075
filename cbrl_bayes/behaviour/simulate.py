"""Simulate behaviour with known truth, in the format of observed behaviour."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Key

from cbrl_bayes.behaviour.schema import make_trajectories
from cbrl_bayes.errors import (
    InvalidInputError,
    as_numbers,
    require_key,
    require_kind,
    require_ranges,
)
from cbrl_bayes.problems import POPULATION, DiscreteContexts, Problem, settled, walk


def simulate_trajectories(
    problem: Problem,
    *,
    key: Key[Array, ""],
    num_episodes: int,
    num_steps: int,
    parameters: Mapping[str, Any] | None = None,
    incentive: Mapping[str, Any] | None = None,
    regime: str = "baseline",
    context_observed: bool = True,
) -> xr.Dataset:
    """Let the problem's followers act, each in a context of its own.

    Parameters
    ----------
    problem : Problem
    key : typed key
    num_episodes : int
        Episodes, shared evenly among the problem's followers in turn.
    num_steps : int
        Longest episode.
    parameters : mapping, optional
        The truth; default: the problem's defaults.
    incentive : mapping, optional
        Readable incentive in force. Default: zero.
    regime : str
        Its name.
    context_observed : bool
        Whether to record the contexts (of a continuous family, as ``context_value``).

    Returns
    -------
    xarray.Dataset
    """
    require_kind(problem, Problem, "problem", "cb.problems.two_state(), or a cb.Problem")
    require_key(key)
    counts = {"num_episodes": num_episodes, "num_steps": num_steps}
    require_ranges(counts, "sizes of the data", num_episodes=">= 1", num_steps=">= 1")
    truth = problem.complete_parameters(parameters)
    in_force = _in_force(problem, incentive)
    applied = {name: jnp.asarray(numbers) for name, numbers in in_force.items()}
    truth = settled(problem, applied, truth, key=jax.random.fold_in(key, 1))
    if not np.isfinite(np.asarray(truth.get(POPULATION, 0.0))).all():
        raise InvalidInputError(
            "no equilibrium was found under this incentive: followers who meet do not settle",
            received={name: numbers.tolist() for name, numbers in in_force.items()},
            remedy="another Population.start, or more max_steps; cb.equilibrium shows the residual",
        )
    follower = np.arange(num_episodes) % problem.followers.num_followers

    def act(episode: tuple[Any, Array, Array]) -> tuple[Array, Array, Array]:
        context, who, walker = episode
        one = problem.follower_parameters(truth, who)
        _, steps = walk(problem, applied, context, one, key=walker, num_steps=num_steps)
        return steps.state[0], steps.action[0], steps.active[0].sum()

    @jax.jit
    def everyone(key: Key[Array, ""]) -> Any:
        context_key, walk_key = jax.random.split(key)
        values, chosen = problem.contexts.draw(truth, context_key, num_episodes)
        walkers = jax.random.split(walk_key, num_episodes)
        return values, chosen, jax.lax.map(act, (values, follower, walkers))

    values, chosen, (state, action, length) = jax.tree.map(np.asarray, everyone(key))
    who = [problem.followers.names[index] for index in follower]
    discrete = isinstance(problem.contexts, DiscreteContexts)
    observed = discrete and context_observed
    names = [problem.contexts.names[int(i)] for i in chosen] if observed else None
    data = make_trajectories(
        [row[:steps] for row, steps in zip(state, length, strict=True)],
        [row[:steps] for row, steps in zip(action, length, strict=True)],
        group=who if problem.followers.num_followers > 1 else None,
        context=names,
        regime=[regime] * num_episodes,
        incentives={regime: in_force},
    )
    if not discrete and context_observed:
        if np.ndim(values) != 1:
            raise InvalidInputError(
                "only contexts that are single numbers can be recorded",
                received=f"values of shape {np.shape(values)[1:]}",
                remedy="context_observed=False",
            )
        data["context_value"] = ("episode", np.asarray(values))
    return data


def _in_force(problem: Problem, incentive: Mapping[str, Any] | None) -> dict[str, np.ndarray]:
    """Return every array of the incentive, 0 where none is given; refuse what does not fit."""
    readable = problem.incentive.transform(problem.incentive.initial)
    in_force = {name: np.zeros(np.shape(array)) for name, array in readable.items()}
    require_kind(incentive, Mapping | None, "incentive", "{'bonus': 0.4}")
    foreign = sorted(set(incentive or {}) - set(in_force))
    if foreign:
        raise InvalidInputError(
            f"problem {problem.name!r} has no incentives {foreign}", accepted=", ".join(in_force)
        )
    for name, array in (incentive or {}).items():
        numbers, shape = as_numbers(f"incentive {name!r}", array), in_force[name].shape
        if numbers.shape != shape or not np.isfinite(numbers).all():
            raise InvalidInputError(
                f"incentive {name!r} cannot be used",
                received=numbers.tolist(),
                accepted=f"finite numbers, shape {shape}",
            )
        in_force[name] = numbers
    return in_force
