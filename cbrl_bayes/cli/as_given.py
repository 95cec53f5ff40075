"""Commands that only print: one estimate of the parameters, one design for given parameters."""

import time
from dataclasses import replace
from functools import partial
from typing import Any, cast

import jax
import numpy as np
import xarray as xr
from jaxtyping import Array

from cbrl_bayes.designs import watch_in_rounds
from cbrl_bayes.designs.running import Running
from cbrl_bayes.errors import InvalidInputError, require_kind
from cbrl_bayes.hypergradients import (
    DoublyRobust,
    Estimator,
    LearnedModel,
    Rounds,
    Search,
    SearchProgram,
)
from cbrl_bayes.inference import maximum_likelihood
from cbrl_bayes.problems import Problem, leader_outcome
from cbrl_bayes.progress import reporter
from cbrl_bayes.workflow import behaviour_model

FEWEST_ROLLOUTS = 30
"""Of one step of an ascent on a budget."""
Z = 1.645
"""A normal number lies within it with probability .9."""


def maximum(problem: Problem, data: xr.Dataset) -> dict[str, Any]:
    """Return the maximum-likelihood estimates with their standard errors."""
    begun = time.perf_counter()
    found = maximum_likelihood(behaviour_model(problem, data))
    return {
        **found.estimates,
        "log_likelihood": found.log_likelihood,
        "choice_log_likelihood": found.choice_log_likelihood,
        "transition_log_likelihood": found.transition_log_likelihood,
        "standard_errors": found.standard_errors,
        "converged": found.converged,
        "seconds": time.perf_counter() - begun,
        **({"boundary": list(found.boundary)} if found.boundary else {}),
    }


def design_as_given(
    problem: Problem,
    estimator: Estimator,
    search: Search | Rounds,
    seed: int,
    follower_steps: int | None = None,
) -> dict[str, Any]:
    """Search the best incentive for the problem's default parameters."""
    begun = time.perf_counter()
    key = jax.random.key(seed)
    found = (
        _by_rounds(problem, estimator, search, key, follower_steps)
        if isinstance(search, Rounds)
        else _by_ascents(problem, estimator, search, key, follower_steps)
    )
    unconstrained = found.pop("unconstrained")
    outcome = leader_outcome(problem, unconstrained, problem.default_parameters, key=key)
    return {
        "leader_objective": float(outcome.objective),
        "seconds": time.perf_counter() - begun,
        "objective_unit": problem.objective_unit,
        "incentive_cost": float(outcome.incentive_cost),
        **found,
        "incentive": {
            name: np.asarray(value)
            for name, value in problem.incentive.transform(unconstrained).items()
        },
    }


def _by_ascents(
    problem: Problem, estimator: Estimator, search: Search, key: Array, follower_steps: int | None
) -> dict[str, Any]:
    if estimator == DoublyRobust():
        # Along an ascent corrections of many steps serve each other: one step's are too noisy.
        estimator = DoublyRobust(correction_memory=0.99)
    if follower_steps is not None:
        estimator, search = _within_budget(problem, estimator, search, follower_steps, key)
    program = SearchProgram(problem, estimator, search)
    with reporter() as report:
        done = 0

        def on_step(steps: int) -> None:
            nonlocal done
            done += steps
            report("ascent steps", done, search.total_steps)

        found = program.run(problem.default_parameters, key=key, on_step=on_step)
    best = found.best
    told: dict[str, Any] = {
        "unconstrained": best.unconstrained,
        "status": best.status.name,
        "restart_objectives": found.restart_objectives,
    }
    if not estimator.is_exact:
        tail = np.asarray(best.trace.objective)[-max(1, search.ascent.num_steps // 5) :]
        error = tail.std(ddof=1) / np.sqrt(len(tail)) if len(tail) > 1 else np.nan
        told |= _promise(tail.mean() + error * np.array([-Z, 0.0, Z]))
        told["follower_steps"] = int(np.sum(best.trace.follower_steps))
    return told


def _by_rounds(
    problem: Problem, estimator: Estimator, rounds: Rounds, key: Array, follower_steps: int | None
) -> dict[str, Any]:
    settings = rounds
    if follower_steps is not None:
        settings = replace(rounds, follower_steps=follower_steps)
    require_kind(
        estimator,
        LearnedModel | DoublyRobust,
        "estimator of a search in rounds",
        "--estimator learned_model",
    )
    with reporter() as report:
        found = watch_in_rounds(
            problem,
            {},
            estimator=cast(Any, estimator),
            rounds=settings,
            key=key,
            run=Running(report=report),
        )
    return {
        "unconstrained": problem.incentive.unflatten(found.unconstrained),
        **_promise(np.quantile(found.promised, [0.05, 0.5, 0.95]), found.promised.mean()),
        "seen_objective": float(found.seen),
        "seen_standard_error": float(found.standard_error),
        "follower_steps": int(found.follower_steps),
        "designs_watched": len(found.round_seen),
    }


def _promise(levels: np.ndarray, mean: float | None = None) -> dict[str, Any]:
    """Return what the estimator expects of the design, with a 90 % interval."""
    return {
        "promised_objective": float(levels[1] if mean is None else mean),
        "promised_interval": [float(levels[0]), float(levels[2])],
    }


def _within_budget(
    problem: Problem, estimator: Estimator, search: Search, follower_steps: int, key: Array
) -> tuple[Estimator, Search]:
    """Return the estimator with as many rollouts per step as the budget allows, and the search."""
    model = estimator.model if isinstance(estimator, DoublyRobust) else estimator
    if not hasattr(model, "num_rollouts") or model.num_rollouts is None:
        raise InvalidInputError(
            "--follower-steps needs an estimator that simulates",
            received=type(estimator).__name__,
            accepted="learned_model, doubly_robust, hpgd, boltzmann_covariance",
        )
    start = problem.incentive.initial
    parameters = problem.default_parameters
    state = estimator.init(problem, start, key=key)
    _, _, info = jax.jit(partial(estimator.estimate, problem))(start, parameters, state, key=key)
    per_rollout = max(float(info.follower_steps), 1.0) / model.num_rollouts
    # Too few rollouts are noise; rather fewer steps then.
    num = max(FEWEST_ROLLOUTS, int(follower_steps / (search.total_steps * per_rollout)))
    most_steps = int(follower_steps / (num * per_rollout * len(search.ascent.stages)))
    shorter = replace(search.ascent, num_steps=max(1, min(search.ascent.num_steps, most_steps)))
    changed = replace(cast(LearnedModel, model), num_rollouts=num)
    whole = changed if model is estimator else replace(cast(DoublyRobust, estimator), model=changed)
    return whole, replace(search, ascent=shorter)
