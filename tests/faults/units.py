"""The same problem in other units of money, and rewards of any size: the same answer."""

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize_scalar

import cbrl_bayes as cb
from cbrl_bayes.hypergradients import AscentProgram
from tests.faults.registry import KEY, Bench, Fault, held

KIND = "units"
COSTS, BENEFIT, LAMBDA = (0.5, 1.5), 2.0, 0.25


def worth(bonus: float) -> float:
    """Return the leader's objective in closed form, at k = 1 (`two_state`)."""
    work = [1.0 / (1.0 + np.exp(-(bonus - cost) / LAMBDA)) for cost in COSTS]
    return float(np.mean([(BENEFIT - bonus) * p for p in work]))


@cache
def best() -> tuple[float, float]:
    """Return the best bonus and its objective, by a search on one number."""
    found = minimize_scalar(lambda x: -worth(x), bounds=(0.0, 2.0), options={"xatol": 1e-10})
    return float(found.x), -float(found.fun)


def money(k: float) -> cb.Problem:
    return cb.problems.two_state(
        benefit=BENEFIT * k, costs=tuple(cost * k for cost in COSTS), temperature=LAMBDA * k
    )


def _ascent(k: float, *, declared: bool) -> Any:
    def run(bench: Bench) -> list[float]:
        problem = money(k)
        if not declared:
            problem = replace(problem, incentive=replace(problem.incentive, scale=None))
        program = AscentProgram(problem, cb.Exact(), cb.Ascent(num_steps=100))
        found = program.run(problem.default_parameters, key=KEY)
        assert found.status == 0
        return [float(found.unconstrained["bonus"]) / k, found.objective / k]

    return run


@cache
def _solver() -> Any:
    """One program for rewards of all sizes: they are its arguments."""
    rng = np.random.default_rng(1)
    law = cb.DenseTransition(jnp.asarray(rng.dirichlet(np.ones(4), size=(4, 3))))
    reward = jnp.asarray(rng.normal(size=(4, 3)))

    def solve(k: Any, shift: Any) -> Any:
        mdp = cb.MDP(reward * k + shift, law, jnp.eye(4)[0], 0.9, 0.3 * k)
        answer = cb.best_response(mdp)
        return answer.policy, answer.status

    return jax.jit(solve)


def _policy(k: float, shift: float = 0.0) -> Any:
    def run(bench: Bench) -> np.ndarray:
        policy, status = _solver()(k, shift)
        assert int(status) == 0
        return np.asarray(policy)

    return run


@cache
def _right_policy() -> np.ndarray:
    """Value iteration in plain NumPy, at k = 1."""
    rng = np.random.default_rng(1)
    law, reward = rng.dirichlet(np.ones(4), size=(4, 3)), rng.normal(size=(4, 3))
    value = np.zeros(4)
    for _ in range(600):  # .9 ** 600 is 4e-28
        q = reward + 0.9 * law @ value
        value = 0.3 * np.logaddexp.reduce(q / 0.3, axis=-1)
    return np.exp((q - value[:, None]) / 0.3)


FAULTS: list[Fault] = [
    *(
        held(
            KIND,
            f"{name} times {k:g}",
            _ascent(k, declared=declared),
            list(best()),
            # The probes that end an ascent leave 1e-3 of the objective, .05 of the bonus.
            tolerance=0.02,
            slow=not declared or k < 1,
        )
        for name, declared in (("money", True), ("money, scale found", False))
        for k in (1e-6, 1e6)
    ),
    *(
        held(KIND, f"a policy with money times {k:g}", _policy(k), _right_policy(), tolerance=1e-9)
        for k in (1e-9, 1e-6, 1.0, 1e6, 1e9)
    ),
    *(
        # A constant b adds b / (1 - .9) to all values: of 1e9, 16 digits leave 1e-6 of a
        # temperature of .3, and so of the policy.
        held(
            KIND,
            f"{shift:g} more of reward everywhere",
            _policy(1.0, shift),
            _right_policy(),
            tolerance=tolerance,
        )
        for shift, tolerance in ((1e3, 1e-9), (1e6, 1e-7), (-1e9, 1e-4))
    ),
]
