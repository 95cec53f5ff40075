"""Commands that only print: one estimate of the parameters, one design for given parameters."""

import time
from typing import Any

import jax
import numpy as np
import xarray as xr

from cbrl_bayes.hypergradients import Estimator, Search, SearchProgram
from cbrl_bayes.inference import maximum_likelihood
from cbrl_bayes.problems import Problem, leader_outcome
from cbrl_bayes.progress import reporter
from cbrl_bayes.workflow import behaviour_model


def maximum(problem: Problem, data: xr.Dataset) -> dict[str, Any]:
    """Return the maximum-likelihood estimates with their standard errors."""
    found = maximum_likelihood(behaviour_model(problem, data))
    return {
        **found.estimates,
        "log_likelihood": found.log_likelihood,
        "choice_log_likelihood": found.choice_log_likelihood,
        "transition_log_likelihood": found.transition_log_likelihood,
        "standard_errors": found.standard_errors,
        "converged": found.converged,
        **({"boundary": list(found.boundary)} if found.boundary else {}),
    }


def design_as_given(
    problem: Problem, estimator: Estimator, search: Search, seed: int
) -> dict[str, Any]:
    """Search the best incentive for the problem's default parameters."""
    begun = time.perf_counter()
    program = SearchProgram(problem, estimator, search)
    parameters = problem.default_parameters
    with reporter() as report:
        done = 0

        def on_step(steps: int) -> None:
            nonlocal done
            done += steps
            report("ascent steps", done, search.total_steps)

        found = program.run(parameters, key=jax.random.key(seed), on_step=on_step)
    best = found.best
    outcome = leader_outcome(problem, best.unconstrained, parameters, key=jax.random.key(seed))
    return {
        "leader_objective": float(outcome.objective),
        "seconds": time.perf_counter() - begun,
        "objective_unit": problem.objective_unit,
        "incentive_cost": float(outcome.incentive_cost),
        "status": best.status.name,
        "restart_objectives": found.restart_objectives,
        "incentive": {
            name: np.asarray(value)
            for name, value in problem.incentive.transform(best.unconstrained).items()
        },
    }
