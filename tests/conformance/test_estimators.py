"""One suite for every estimator: the contract, and the mean against the exact hypergradient."""

from dataclasses import replace
from functools import partial
from types import FunctionType

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.followers import ExactFollower, QLearningFollower
from cbrl_bayes.hypergradients import (
    ESTIMATORS,
    HPGD,
    RTQ,
    BoltzmannCovariance,
    Exact,
    FollowerAccess,
    LearnedModel,
    Penalty,
    SoBiRL,
    ZerothOrder,
)
from cbrl_bayes.hypergradients.pairs import leader_view
from cbrl_bayes.mdp import best_response, rollout
from cbrl_bayes.problems import READY_MADE, SampledContexts, leader_outcome, random_mdp, two_state
from tests.conformance.checks import MEANS, PROBLEMS, SMALL, MeanCheck, check_contract, measure_mean
from tests.conftest import make_moving_problem

QUICK = "moving"
"""The problem of the default suite: its incentive moves reward, transitions and initial law.
The others are walked by `make test-slow`."""

QUICK_MEANS = [(name, QUICK) for name in ESTIMATORS if name not in ("rt_q", "zeroth_order")]


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
        _slow_unless(
            problem == QUICK and name in ("exact", "amd", "sobirl", "penalty"),
            name,
            problem,
            name=f"{name} on {problem}",
        )
        for name in ESTIMATORS
        for problem in PROBLEMS
    ],
)
def test_contract(name, problem_name):
    check_contract(SMALL[name], PROBLEMS[problem_name]())


@pytest.mark.parametrize(
    ("problem_name", "name"),
    [
        _slow_unless((name, problem) in QUICK_MEANS, problem, name, name=f"{name} on {problem}")
        for problem, checks in MEANS.items()
        for name in checks
    ],
)
def test_mean_is_the_exact_hypergradient(problem_name, name):
    """Within 4 standard errors (false alarm below 1e-3) and the bias that is owned up to."""
    found = measure_mean(MEANS[problem_name][name], PROBLEMS[problem_name]())
    assert found.distance < found.bound
    assert found.objective_error < found.objective_bound
    # A bound wider than the gradient itself could not fail.
    assert found.bound < 1.0


GENERAL = {
    "learned_model": MeanCheck(
        LearnedModel(num_rollouts=100, max_steps=60, law_memory=1.0),
        200,
        allowance=0.05,
        carries=True,
    ),
    "hpgd": MeanCheck(HPGD(num_rollouts=30, num_branches=40, max_steps=40), 300),
    "sobirl": MeanCheck(SoBiRL(num_sweeps=60), 3, 1e-6, carries=True),
    "penalty": MeanCheck(
        Penalty(price=1e5, max_price=1e5, num_inner_steps=20), 3, 1e-3, carries=True
    ),
    "zeroth_order": MeanCheck(
        ZerothOrder(num_rollouts=None, num_directions=50, radius=1e-3), 200, allowance=0.01
    ),
}


@pytest.mark.slow
def test_rt_q_levels_differ_as_their_policies_do():
    """The coupled difference against that of two plain HPGD means; it is far from zero here."""
    problem = make_moving_problem()
    x = problem.incentive.random_start(jax.random.key(8), 0.3)
    parameters = problem.default_parameters
    context = jax.tree.map(lambda leaf: leaf[0], problem.contexts.values)
    mdp, _ = leader_view(problem, context, parameters)(x)
    best = best_response(mdp).log_policy
    logs = jnp.stack([jnp.full(best.shape, -jnp.log(best.shape[1])), best])
    rollouts = HPGD(num_rollouts=60, num_branches=30, max_steps=80)

    def coupled(key):
        keys = jax.random.split(key, 3)
        found = RTQ(rollouts=rollouts).difference(problem, x, context, parameters, mdp, logs, keys)
        return ravel_pytree(found[0])[0]

    def plain(key, log_policy):
        found = rollouts.from_rollouts(
            problem,
            x,
            context,
            parameters,
            partial(rollout, mdp, jnp.exp(log_policy)),
            tuple(jax.random.split(key)),
        )
        return ravel_pytree(found[0])[0]

    def mean_and_variance(fn, *more):
        found = np.stack([jax.jit(fn)(k, *more) for k in jax.random.split(jax.random.key(2), 400)])
        return found.mean(0), found.var(0, ddof=1) / len(found)

    together, noise = mean_and_variance(coupled)
    (low, low_noise), (high, high_noise) = (mean_and_variance(plain, log) for log in logs)
    error = np.sqrt(noise + low_noise + high_noise)
    assert (np.abs(together - (high - low)) < 4 * error).all()
    assert (np.abs(together) > 8 * error).any()


FACTOR = 1.7


@pytest.mark.parametrize("name", ["amd", "sobirl", "penalty"])
def test_followers_of_their_own_temperature_and_continuation(name):
    """Two weighted followers and a factor on their temperatures: still the exact hypergradient."""
    problem = replace(
        make_moving_problem().with_followers(("calm", "keen"), (0.3, 0.7)),
        per_follower=("temperature",),
    )
    parameters = problem.complete_parameters({"temperature": np.array([0.6, 0.25])})
    x = problem.incentive.random_start(jax.random.key(8), 0.3)
    found = []
    for estimator in (Exact(), MEANS[QUICK][name].estimator):
        state = estimator.init(problem, x, key=jax.random.key(0))
        step = jax.jit(partial(estimator.estimate, problem.heated(FACTOR)))
        for key in jax.random.split(jax.random.key(1), 8):
            gradient, state, _ = step(x, parameters, state, key=key)
        found.append(ravel_pytree(gradient)[0])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-3, atol=1e-3 * np.abs(found[0]).max())


@pytest.mark.parametrize("discount", [0.0, pytest.param(0.3, marks=pytest.mark.slow)])
def test_boltzmann_covariance_at_small_discounts(discount):
    """The critic's returns must not vanish with the leader's discount."""
    problem = replace(
        random_mdp(num_states=5, num_actions=3, num_parameters=6, quadratic=False),
        leader_discount=discount,
    )
    check = MeanCheck(BoltzmannCovariance(num_rollouts=400, max_steps=40), 200, allowance=0.05)
    found = measure_mean(check, problem)
    assert found.distance < found.bound < 0.5


@pytest.mark.slow
def test_memory_does_not_carry_into_other_contexts():
    """Where contexts are drawn anew, what was learned in the last ones must not be used."""
    family = SampledContexts(lambda p, key: 1.0 + 0.5 * jax.random.normal(key), 3)
    problem = replace(two_state(), contexts=family)
    x, parameters = problem.incentive.initial, problem.default_parameters
    learner = QLearningFollower(num_steps=5)
    for estimator in (
        HPGD(num_rollouts=12, num_branches=6, max_steps=2, oracle=learner),
        BoltzmannCovariance(num_rollouts=12, max_steps=2, critic_memory=0.9, oracle=learner),
    ):
        state = estimator.init(problem, x, key=jax.random.key(0))
        step = jax.jit(partial(estimator.estimate, problem))
        first, after, _ = step(x, parameters, state, key=jax.random.key(1))
        again, _, _ = step(x, parameters, after, key=jax.random.key(1))
        assert float(first["bonus"]) == float(again["bonus"])


REFUSED = {"boltzmann_covariance", "rt_q", "amd", "doubly_robust"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n == "zeroth_order" else []) for n in GENERAL],
)
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
    with pytest.raises(
        InvalidInputError, match="received: num_states = 0; accepted: num_states >= 1"
    ):
        random_mdp(num_states=0)


@pytest.mark.parametrize(
    "problem_name", [_slow_unless(n in ("moving", "two_state"), n, name=n) for n in PROBLEMS]
)
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


def test_trajectory_estimators_get_trajectories_and_no_policy():
    """What an oracle hands over is a plain function: nothing hangs on it but what it returns."""
    problem = PROBLEMS["four_rooms"]()
    oracle = ExactFollower()
    incentive = problem.incentive.transform(problem.incentive.initial)
    sample, _, _ = oracle.train(
        problem,
        incentive,
        problem.contexts.values[0],
        problem.default_parameters,
        oracle.initial_memory(problem),
        key=jax.random.key(0),
    )
    assert isinstance(sample, FunctionType)
    assert not vars(sample)


def test_trajectory_estimators_import_no_solver():
    """The modules that promise to need trajectories alone cannot reach a policy or its values."""
    import ast
    import inspect

    import cbrl_bayes.hypergradients as room

    solvers = {
        "best_response",
        "respond",
        "policy_values",
        "expected_return",
        "occupancy",
        "rollout",
        "soft_bellman",
        "value_iteration",
        "respond_everywhere",
        "leader_gain",
    }
    watched = ["hpgd", "boltzmann_covariance", "rollout_terms", "pairs"]
    names = {
        type(SMALL[n]).__module__ for n in SMALL if SMALL[n].access is FollowerAccess.TRAJECTORIES
    }
    # These two solve what they learned: `test_what_the_problem_says_of_the_law_does_not_enter`.
    learned = {f"{room.__name__}.{n}" for n in ("learned_model", "doubly_robust")}
    assert names - learned == {
        f"{room.__name__}.{n}" for n in ("hpgd", "boltzmann_covariance", "zeroth_order")
    }
    for name in watched:
        source = inspect.getsource(__import__(f"{room.__name__}.{name}", fromlist=["x"]))
        imported = {
            alias.name
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert not imported & solvers
