"""One suite for every estimator on every ready-made problem."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from cbrl_bayes.hypergradients import ESTIMATORS, HPGD, Exact
from cbrl_bayes.problems import READY_MADE, bus_replacement, four_rooms, leader_outcome, two_state
from tests.conftest import make_moving_problem

PROBLEMS = {
    "bus_replacement": bus_replacement,
    "four_rooms": four_rooms,
    "two_state": two_state,
    "moving": make_moving_problem,
}


def test_every_ready_made_problem_is_covered():
    assert set(READY_MADE) <= set(PROBLEMS)


def _setting(name, problem):
    if name == "hpgd":
        return ESTIMATORS[name](num_rollouts=8, num_branches=4, max_steps=30)
    return ESTIMATORS[name]()


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("problem_name", PROBLEMS)
def test_contract(name, problem_name):
    """Shapes as the incentive's, finite, one compilation, same key same answer, vmap as loop."""
    problem = PROBLEMS[problem_name]()
    estimator = _setting(name, problem)
    x = problem.incentive.random_start(jax.random.key(5), 0.5)
    parameters = problem.default_parameters
    state = estimator.init(problem, x, key=jax.random.key(0))
    traces = []

    @jax.jit
    def step(x, state, key):
        traces.append(1)
        return estimator.estimate(problem, x, parameters, state, key=key)

    gradient, after, info = step(x, state, jax.random.key(1))
    again, _, _ = step(x, state, jax.random.key(1))
    step(x, after, jax.random.key(2))
    assert len(traces) == 1
    assert jax.tree.structure(gradient) == jax.tree.structure(x)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    for leaf, shape in zip(jax.tree.leaves(gradient), jax.tree.leaves(x), strict=True):
        assert leaf.shape == shape.shape
        assert bool(jnp.isfinite(leaf).all())
    np.testing.assert_array_equal(ravel_pytree(gradient)[0], ravel_pytree(again)[0])
    assert np.isfinite(float(info.objective))
    assert 0.0 <= float(info.truncated_share) <= 1.0
    assert int(info.status) == 0
    keys = jax.random.split(jax.random.key(3), 2)
    batched = jax.vmap(lambda k: step(x, state, k)[0])(keys)
    single = ravel_pytree(step(x, state, keys[1])[0])[0]
    row = ravel_pytree(jax.tree.map(lambda leaf: leaf[1], batched))[0]
    # Batched linear algebra rounds differently.
    np.testing.assert_allclose(row, single, rtol=1e-6, atol=1e-8)


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


@pytest.mark.parametrize(
    ("problem", "estimator", "repeats"),
    [
        (two_state(), HPGD(num_rollouts=64, num_branches=32, max_steps=3), 200),
        (make_moving_problem(), HPGD(num_rollouts=60, num_branches=20, max_steps=150), 300),
        (
            make_moving_problem(),
            HPGD(num_rollouts=60, num_branches=20, max_steps=150, common_noise=False,
                 truncation_exponent=1.0, num_contexts=2),
            600,
        ),
        (
            four_rooms(temperature=0.005),
            HPGD(num_rollouts=40, num_branches=40, max_steps=1000),
            200,
        ),
        (
            bus_replacement(discount=0.9, leader_discount=0.9, target_mileage=20_000, num_bins=20),
            HPGD(num_rollouts=40, num_branches=20, max_steps=300),
            200,
        ),
    ],
    ids=["two_state", "moving", "moving, plain truncation", "four_rooms", "bus"],
)  # fmt: skip
def test_hpgd_is_unbiased(problem, estimator, repeats):
    """Mean over keys within 4 standard errors of exact, per coordinate and in the objective."""
    x = problem.incentive.random_start(jax.random.key(8), 0.3)
    parameters = problem.default_parameters
    exact, _, truth = Exact().estimate(
        problem, x, parameters, Exact().init(problem, x, key=jax.random.key(0)),
        key=jax.random.key(0),
    )  # fmt: skip
    state = estimator.init(problem, x, key=jax.random.key(0))

    @jax.jit
    def one(key):
        gradient, _, info = estimator.estimate(problem, x, parameters, state, key=key)
        return ravel_pytree(gradient)[0], info.objective, info.truncated_share

    draws = [one(key) for key in jax.random.split(jax.random.key(12), repeats)]
    gradients = np.stack([np.asarray(g) for g, _, _ in draws])
    objectives = np.array([float(o) for _, o, _ in draws])
    assert max(float(share) for _, _, share in draws) < 0.02
    expected = np.asarray(ravel_pytree(exact)[0])
    errors = gradients.std(0, ddof=1) / np.sqrt(repeats)
    # Four standard errors: 6e-5 per coordinate, below 1 % for the 105 cells together.
    assert (np.abs(gradients.mean(0) - expected) < 4 * errors + 1e-12).all()
    error = objectives.std(ddof=1) / np.sqrt(repeats)
    assert abs(objectives.mean() - float(truth.objective)) < 4 * error
