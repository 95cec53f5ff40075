"""One suite for every estimator: the contract, and the mean against the exact hypergradient."""

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.followers import ExactFollower
from cbrl_bayes.hypergradients import (
    ESTIMATORS,
    HPGD,
    Exact,
    FollowerAccess,
    Penalty,
    SoBiRL,
    ZerothOrder,
)
from cbrl_bayes.problems import READY_MADE, leader_outcome, random_mdp
from tests.conformance.checks import (
    MEANS,
    PROBLEMS,
    SMALL,
    MeanCheck,
    check_contract,
    measure_mean,
)

QUICK = "moving"
"""The problem of the default suite: its incentive moves reward, transitions and initial law.
The others are walked by `make test-slow`."""

QUICK_MEANS = [(name, QUICK) for name in ESTIMATORS if name != "rt_q"] + [("rt_q", "two_state")]


def _slow_unless(quick, *values, name):
    return pytest.param(*values, id=name, marks=[] if quick else [pytest.mark.slow])


def test_everything_ready_made_is_covered():
    assert set(READY_MADE) <= set(PROBLEMS)
    assert set(SMALL) == set(ESTIMATORS)
    for name, estimator in SMALL.items():
        assert isinstance(estimator, ESTIMATORS[name])


@pytest.mark.parametrize(
    ("name", "problem_name"),
    [
        _slow_unless(problem == QUICK, name, problem, name=f"{name} on {problem}")
        for name in ESTIMATORS
        for problem in PROBLEMS
    ],
)
def test_contract(name, problem_name):
    check_contract(SMALL[name], PROBLEMS[problem_name]())


@pytest.mark.parametrize(
    ("problem_name", "name"),
    [
        _slow_unless(
            (name, problem) in QUICK_MEANS,
            problem, name, name=f"{name} on {problem}",
        )
        for problem, checks in MEANS.items()
        for name in checks
    ],
)  # fmt: skip
def test_mean_is_the_exact_hypergradient(problem_name, name):
    """Within 4 standard errors (false alarm below 1e-3) and the bias that is owned up to."""
    found = measure_mean(MEANS[problem_name][name], PROBLEMS[problem_name]())
    assert found.distance < found.bound
    assert found.objective_error < found.objective_bound
    # A bound wider than the gradient itself could not fail.
    assert found.bound < 1.0


GENERAL = {
    "hpgd": MeanCheck(HPGD(num_rollouts=30, num_branches=40, max_steps=40), 300),
    "sobirl": MeanCheck(SoBiRL(num_sweeps=60), 3, 1e-6, carries=True),
    "penalty": MeanCheck(
        Penalty(price=1e5, max_price=1e5, num_inner_steps=20), 3, 1e-3, carries=True
    ),
    "zeroth_order": MeanCheck(
        ZerothOrder(num_rollouts=None, num_directions=50, radius=1e-3), 200, allowance=0.01
    ),
}
REFUSED = {"boltzmann_covariance", "rt_q", "amd"}


@pytest.mark.parametrize("name", GENERAL)
def test_general_objectives(name):
    """Half the squares of incentive and policy; at zero the value is known, -S / (2 A)."""
    problem = random_mdp(num_states=5, num_actions=3, num_parameters=6)
    found = measure_mean(GENERAL[name], problem)
    assert found.distance < found.bound < 1.0


def test_estimators_that_need_a_leader_reward_say_so():
    problem = random_mdp(num_states=5, num_actions=3, num_parameters=6)
    assert set(GENERAL) | REFUSED | {"exact"} == set(ESTIMATORS)
    for name in REFUSED:
        with pytest.raises(InvalidInputError, match="estimator that takes any objective"):
            check_contract(SMALL[name], problem)


def test_random_mdp_has_its_known_optimum():
    """At weight 0 play is uniform: both squares are least, and the gradient vanishes."""
    problem = random_mdp()
    estimator, x = Exact(), problem.incentive.initial
    state = estimator.init(problem, x, key=jax.random.key(0))
    gradient, _, info = estimator.estimate(
        problem, x, problem.default_parameters, state, key=jax.random.key(0)
    )
    assert float(info.objective) == pytest.approx(-1.0, abs=1e-12)
    assert float(np.abs(gradient["weight"]).max()) < 1e-12
    with pytest.raises(InvalidInputError, match="all >= 1"):
        random_mdp(num_states=0)


@pytest.mark.parametrize("problem_name", PROBLEMS)
def test_exact_against_central_differences(problem_name):
    """Relative error below 1e-6 along random directions."""
    problem = PROBLEMS[problem_name]()
    x = problem.incentive.random_start(jax.random.key(8), 0.5)
    flat, unravel = ravel_pytree(x)
    estimator, parameters = Exact(), problem.default_parameters
    state = estimator.init(problem, x, key=jax.random.key(0))
    gradient, _, _ = estimator.estimate(problem, x, parameters, state, key=jax.random.key(1))
    slope = np.asarray(ravel_pytree(gradient)[0])
    worth = jax.jit(lambda v: leader_outcome(problem, unravel(v), parameters).objective)
    rng = np.random.default_rng(4)
    for _ in range(5):
        # Along the gradient and something random, so that no direction is nearly flat.
        direction = slope / np.linalg.norm(slope) + 0.3 * rng.normal(size=slope.size) / np.sqrt(
            slope.size
        )
        h = 1e-4
        values = [float(worth(flat + k * h * direction)) for k in (-2, -1, 1, 2)]
        central = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
        assert abs(slope @ direction - central) < 1e-6 * abs(central)


def _reachable_arrays(thing, seen):
    """Everything that attributes, closures' owners and containers of an object lead to."""
    if id(thing) in seen:
        return
    seen[id(thing)] = thing
    if isinstance(thing, dict):
        children = list(thing.values())
    elif isinstance(thing, list | tuple):
        children = list(thing)
    else:
        children = list(vars(thing).values()) if hasattr(thing, "__dict__") else []
        children += [getattr(thing, name) for name in ("args", "keywords") if hasattr(thing, name)]
    for child in children:
        _reachable_arrays(child, seen)


def test_trajectory_estimators_get_trajectories_and_no_policy():
    """The sampler an oracle hands over has no attribute that leads to policy or values."""
    problem = PROBLEMS["four_rooms"]()
    oracle = ExactFollower()
    incentive = problem.incentive.transform(problem.incentive.initial)
    sample, _, _ = oracle.train(
        problem, incentive, problem.contexts.values[0], problem.default_parameters,
        oracle.initial_memory(problem), key=jax.random.key(0),
    )  # fmt: skip
    seen: dict = {}
    _reachable_arrays(sample, seen)
    assert not [thing for thing in seen.values() if getattr(thing, "size", 0) > 1]


def test_trajectory_estimators_import_no_solver():
    """The modules that promise to need trajectories alone cannot reach a policy or its values."""
    import ast
    import inspect

    import cbrl_bayes.hypergradients as room

    solvers = {
        "best_response", "respond", "policy_values", "expected_return", "occupancy", "rollout",
        "soft_bellman", "value_iteration", "respond_everywhere", "leader_gain",
    }  # fmt: skip
    watched = ["hpgd", "boltzmann_covariance", "rollout_terms", "pairs"]
    names = {type(SMALL[n]).__module__ for n in SMALL
             if SMALL[n].access is FollowerAccess.TRAJECTORIES}  # fmt: skip
    assert names == {f"{room.__name__}.{n}"
                     for n in ("hpgd", "boltzmann_covariance", "zeroth_order")}  # fmt: skip
    for name in watched:
        source = inspect.getsource(__import__(f"{room.__name__}.{name}", fromlist=["x"]))
        imported = {
            alias.name for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.ImportFrom) for alias in node.names
        }  # fmt: skip
        assert not imported & solvers
