"""Robust designs against brute force, risk measures against their definitions."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cbrl_bayes as cb
from cbrl_bayes.designs import (
    AcrossContexts,
    CVaR,
    Expectation,
    MeanVariance,
    MinimaxRegret,
    PosteriorCriterion,
    VaR,
    WorstCase,
    evaluate_designs,
)
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.hypergradients import HPGD, Exact
from cbrl_bayes.problems import leader_outcome
from cbrl_bayes.problems.constraints import Bounds, Budget, Monotone, constrained
from cbrl_bayes.robust import (
    ConstrainedCriterion,
    CostAtMost,
    FollowerValueAtLeast,
    ObjectiveAtLeast,
    posterior_depth,
)
from cbrl_bayes.robust.search import search_designs
from tests.conftest import make_moving_problem

CRITERIA = (
    Expectation(),
    MeanVariance(2.0),
    CVaR(0.2),
    VaR(0.2),
    WorstCase(0.8),
    MinimaxRegret(0.8),
)


def test_risk_measures_are_those_of_scipy_and_of_sorting():
    rng = np.random.default_rng(0)
    worth = rng.normal(size=40)
    weights = rng.dirichlet(np.ones(40))
    ordered = np.sort(worth)
    # Equal weights: a fifth of 40 draws is 8 of them.
    assert CVaR(0.2).value(worth, worth, worth) == pytest.approx(ordered[:8].mean(), abs=1e-12)
    quantile = np.quantile(worth, 0.2, method="inverted_cdf")
    assert VaR(0.2).value(jnp.asarray(worth), worth, worth) == quantile
    # Any weights: the definition of Rockafellar and Uryasev, maximised over the threshold.
    thresholds = worth[:, None]
    shortfall = np.maximum(thresholds - worth, 0.0) @ weights
    best = (worth - shortfall / 0.3).max()
    found = CVaR(0.3).of_distribution(jnp.asarray(worth), jnp.asarray(weights))
    assert found == pytest.approx(best, abs=1e-12)
    assert CVaR(1.0).of_distribution(jnp.asarray(worth), weights) == pytest.approx(weights @ worth)
    # Exponential utility of normal worth: mean - aversion / 2 * variance.
    sample = rng.normal(1.0, 0.5, size=400_000)
    certain = -np.log(np.mean(np.exp(-2.0 * sample))) / 2.0
    # Four standard errors of the certainty equivalent at this sample size are .006.
    assert MeanVariance(2.0).value(sample, sample, sample) == pytest.approx(certain, abs=0.006)


def test_criteria_of_draws_look_at_the_credible_set_only():
    worth, best = np.array([1.0, 5.0, -9.0, 3.0]), np.array([2.0, 9.0, 0.0, 3.5])
    depth = np.array([0.25, 0.5, 0.75, 0.0])
    assert WorstCase(0.7).value(worth, best, depth) == 1.0
    assert WorstCase(1.0).value(worth, best, depth) == -9.0
    assert MinimaxRegret(0.7).value(worth, best, depth) == -4.0
    assert MinimaxRegret(1.0).value(worth, best, depth) == -9.0


def test_depth_is_the_rank_of_the_mahalanobis_distance():
    rng = np.random.default_rng(1)
    law = rng.dirichlet([4.0, 3.0, 3.0], size=200)
    draws = {"temperature": rng.lognormal(size=200), "context_probability": law}
    depth = posterior_depth(draws)
    assert sorted(depth) == pytest.approx(np.arange(200) / 200)
    # The last probability follows from the others, on the log scale nearly so: leaving the
    # temperature alone, distances agree with those of scipy.
    x = np.log(draws["temperature"])
    alone = posterior_depth({"temperature": draws["temperature"]})
    assert (np.argsort(alone, kind="stable") == np.argsort(np.abs(x - x.mean()))).all()
    assert (posterior_depth({"fixed": np.ones(5)}) == 0.0).all()


def _draws(num=24):
    rng = np.random.default_rng(3)
    return {"temperature": 0.25 * np.exp(0.5 * rng.normal(size=num))}


def _grid(problem, draws, points):
    scores = evaluate_designs(problem, points[:, None], draws, key=jax.random.key(0))
    return scores.objective


def test_robust_designs_are_those_of_a_grid():
    problem, draws = cb.problems.two_state(), _draws()
    points = np.linspace(-1.0, 4.0, 401)
    table = _grid(problem, draws, points)
    best, depth = table.max(0), posterior_depth(draws)
    own = points[table.argmax(0)][:, None]
    study = search_designs(
        problem,
        draws,
        names=("start",),
        designs=np.array([[0.5]]),
        own=own,
        criteria=CRITERIA,
        estimator=Exact(),
        key=jax.random.key(1),
    )
    assert study.names == ("start", *(criterion.name for criterion in CRITERIA))
    for row, criterion in enumerate(CRITERIA):
        values = np.array([float(criterion.value(jnp.asarray(w), best, depth)) for w in table])
        found = study.criterion_value[row, 1 + row]
        # The grid's spacing of .0125 costs at most its slope times that.
        slope = np.abs(np.diff(values)).max()
        assert found >= values.max() - slope - 1e-9, criterion
        assert found <= values.max() + slope, criterion
        # No design of the table is better by this criterion.
        assert found == study.criterion_value[row].max()
    assert (study.status == 0).all()
    assert (study.best >= study.scores.objective.max(0) - 1e-12).all()


@pytest.fixture(scope="module")
def moving():
    """A problem, and a program for its objective and follower's value under every draw."""
    problem = make_moving_problem()

    def outcomes(point, draws):
        return jax.lax.map(lambda draw: leader_outcome(problem, point, draw), draws)

    return problem, jax.jit(outcomes)


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda c: c.name)
def test_gradient_of_a_criterion_against_differences(moving, criterion):
    problem, outcomes = moving
    rng = np.random.default_rng(5)
    draws = {
        "temperature": rng.uniform(0.3, 1.0, size=9),
        "context_probability": rng.dirichlet([3.0, 3.0], size=9),
    }
    best, depth = rng.normal(2.0, size=9), posterior_depth(draws)
    estimator = PosteriorCriterion(Exact(), 9, criterion, best, depth)
    x = problem.incentive.initial
    full = {name: jnp.asarray(value) for name, value in draws.items()}

    def value(point):
        return float(criterion.value(outcomes(point, full).objective, best, depth))

    state = estimator.init(problem, x, key=jax.random.key(0))
    gradient, _, info = estimator.estimate(problem, x, full, state, key=jax.random.key(1))
    assert float(info.objective) == pytest.approx(value(x), abs=1e-12)
    step = 1e-5
    for i in range(3):
        e = np.eye(3)[i] * step
        slope = (value({"x": x["x"] + e}) - value({"x": x["x"] - e})) / (2 * step)
        # Central differences: error of order step squared and rounding over step.
        assert float(gradient["x"][i]) == pytest.approx(slope, abs=1e-7)


def test_gradient_with_chance_constraints_against_differences(moving):
    problem, outcomes = moving
    rng = np.random.default_rng(6)
    draws = {"temperature": jnp.asarray(rng.uniform(0.3, 1.0, size=7))}
    draws["context_probability"] = jnp.asarray(rng.dirichlet([3.0, 3.0], size=7))
    zero = jnp.zeros(7)
    constraints = (ObjectiveAtLeast(9.0, 0.7), FollowerValueAtLeast(9.0, 0.9))  # both missed
    estimator = ConstrainedCriterion(7, CVaR(0.3), constraints, (2.0, 3.0), zero, zero)

    def value(point):
        found = outcomes(point, draws)
        total = CVaR(0.3).value(found.objective, zero, zero)
        lowest = np.sort(found.objective)[2], np.sort(found.follower_value[:, 0])[0]
        return float(total) - 2.0 * (9.0 - lowest[0]) - 3.0 * (9.0 - lowest[1])

    x = problem.incentive.initial
    state = estimator.init(problem, x, key=jax.random.key(0))
    gradient, _, info = estimator.estimate(problem, x, draws, state, key=jax.random.key(1))
    assert float(info.objective) == pytest.approx(value(x), abs=1e-12)
    for i in range(3):
        e = np.eye(3)[i] * 1e-5
        slope = (value({"x": x["x"] + e}) - value({"x": x["x"] - e})) / 2e-5
        assert float(gradient["x"][i]) == pytest.approx(slope, abs=1e-7)


def test_a_chance_constraint_binds_where_brute_force_says():
    problem, draws = cb.problems.two_state(), _draws()
    points = np.linspace(0.0, 2.0, 401)
    scores = evaluate_designs(problem, points[:, None], draws, key=jax.random.key(0))
    free = points[scores.objective.mean(1).argmax()]
    costs = scores.incentive_cost[scores.objective.mean(1).argmax()]
    limit = float(np.median(costs))
    allowed = (scores.incentive_cost <= limit).mean(1) >= 0.9
    wanted = scores.objective.mean(1)[allowed].max()
    study = search_designs(
        problem,
        draws,
        names=("free",),
        designs=np.array([[free]]),
        own=np.full((24, 1), free),
        criteria=(Expectation(),),
        constraints=(CostAtMost(limit, 0.9),),
        estimator=Exact(),
        key=jax.random.key(2),
    )
    assert study.feasible.tolist() == [False, True]
    assert study.satisfied[0, 1] >= 0.9 > study.satisfied[0, 0]
    reached = study.criterion_value[0, 1]
    unconstrained = scores.objective.mean(1).max()
    # Most of what the constraint leaves: within a twentieth of what it costs.
    assert reached >= wanted - 0.05 * (unconstrained - wanted)
    assert reached < unconstrained


def test_the_penalty_allows_as_many_misses_as_the_constraint():
    problem = cb.problems.two_state()
    draws = {"temperature": jnp.linspace(0.2, 0.6, 10)}
    full = {"context_probability": jnp.full((10, 2), 0.5), **draws}
    x = {"bonus": jnp.array(0.9)}
    worth = jax.lax.map(lambda d: leader_outcome(problem, x, d).objective, full)
    zero = jnp.zeros(10)
    # One of ten may miss: a limit between the lowest and the second lowest costs nothing.
    limit = float(jnp.sort(worth)[:2].mean())
    for prob, free in ((0.9, True), (0.95, False)):
        estimator = ConstrainedCriterion(
            10, Expectation(), (ObjectiveAtLeast(limit, prob),), (5.0,), zero, zero
        )
        state = estimator.init(problem, x, key=jax.random.key(0))
        _, _, info = estimator.estimate(problem, x, full, state, key=jax.random.key(1))
        assert (abs(float(info.objective - worth.mean())) < 1e-12) is free


@pytest.mark.slow
def test_a_demand_that_cannot_be_met_is_reported():
    problem, draws = cb.problems.two_state(), _draws(8)
    study = search_designs(
        problem,
        draws,
        names=("start",),
        designs=np.array([[0.5]]),
        own=np.full((8, 1), 0.5),
        criteria=(Expectation(),),
        constraints=(ObjectiveAtLeast(1e6),),
        estimator=Exact(),
        key=jax.random.key(2),
    )
    assert not study.feasible.any()
    assert (study.satisfied == 0.0).all()


def test_contexts_can_carry_the_risk_instead():
    problem = make_moving_problem()  # two contexts with chances .3 and .7
    x = problem.incentive.initial
    plain = leader_outcome(problem, x, problem.default_parameters).by_context
    risky = replace(problem, aggregate=AcrossContexts(CVaR(0.4)))
    found = leader_outcome(risky, x, problem.default_parameters).objective
    low, high = np.argsort(plain)
    chances = np.array([0.3, 0.7])
    share = min(chances[low], 0.4) / 0.4
    expected = share * plain[low] + (1 - share) * plain[high]
    assert float(found) == pytest.approx(float(expected), abs=1e-12)
    with pytest.raises(InvalidInputError, match="does not apply to contexts"):
        AcrossContexts(MinimaxRegret())


def test_hard_constraints_keep_every_design_feasible():
    problem = make_moving_problem()
    rng = np.random.default_rng(8)
    for constraint, holds in (
        (Bounds("x", -0.5, 0.25), lambda v: (v >= -0.5).all() and (v <= 0.25).all()),
        (Budget("x", 0.6), lambda v: np.abs(v).sum() <= 0.6 + 1e-12),
        (Monotone("x", rising=False), lambda v: (np.diff(v) <= 0).all()),
    ):
        bound = constrained(problem, constraint)
        for _ in range(200):
            value = rng.normal(scale=3.0, size=3)
            found = np.asarray(bound.incentive.transform({"x": jnp.asarray(value)})["x"])
            assert holds(found), constraint
            again = bound.incentive.transform({"x": jnp.asarray(found)})["x"]
            np.testing.assert_allclose(again, found, atol=1e-12)
    both = constrained(problem, Monotone("x"), Bounds("x", 0.0, 1.0), Monotone("x"))
    value = np.asarray(both.incentive.transform({"x": jnp.array([3.1, -0.4, 0.2])})["x"])
    assert (np.diff(value) >= 0).all()
    assert value.min() >= 0
    assert value.max() <= 1


def test_a_bound_that_binds_is_reached_from_outside():
    problem = cb.problems.two_state()
    free = cb.hypergradients.AscentProgram(problem, Exact(), cb.Ascent(num_steps=200))
    best = float(free.run(problem.default_parameters, key=jax.random.key(0)).unconstrained["bonus"])
    bound = constrained(problem, Bounds("bonus", 0.0, best / 2))
    program = cb.hypergradients.AscentProgram(bound, Exact(), cb.Ascent(num_steps=200))
    found = program.run(
        problem.default_parameters, key=jax.random.key(0), start={"bonus": jnp.array(0.8 * best)}
    )
    reached = float(bound.incentive.transform(found.unconstrained)["bonus"])
    # The ascent keeps the best point it saw; its last steps are a hundredth of the rate .1.
    assert reached == pytest.approx(best / 2, abs=2e-3)


def test_wrong_settings_are_refused():
    problem, draws = cb.problems.two_state(), _draws(4)
    with pytest.raises(InvalidInputError, match=r"level is out of range; received: 0"):
        CVaR(0.0)
    with pytest.raises(InvalidInputError, match="chance constraint is out of range"):
        CostAtMost(float("nan"))
    with pytest.raises(InvalidInputError, match="bounds are out of order"):
        Bounds("bonus", 1.0, 0.0)
    with pytest.raises(InvalidInputError, match=r"no such array; received: bonsu; accepted: bonus"):
        constrained(problem, Bounds("bonsu", 0.0, 1.0))
    with pytest.raises(InvalidInputError, match="a schedule has one axis"):
        constrained(problem, Monotone("bonus"))
    for k in (1e-12, 1.0, 1e12):  # in any unit
        with pytest.raises(InvalidInputError, match="undo each other"):
            constrained(make_moving_problem(), Budget("x", k), Bounds("x", 0.5 * k, k))
        constrained(make_moving_problem(), Bounds("x", 0.0, k), Budget("x", k))
    known = {
        "names": ("a",),
        "designs": np.zeros((1, 1)),
        "own": np.zeros((4, 1)),
        "key": jax.random.key(0),
    }
    with pytest.raises(InvalidInputError, match="need different names"):
        search_designs(problem, draws, criteria=(CVaR(0.1), CVaR(0.1)), estimator=Exact(), **known)
    with pytest.raises(InvalidInputError, match="undo each other"):
        constrained(make_moving_problem(), Monotone("x"), Bounds("x", -1000.0, 1000.0))
    with pytest.raises(InvalidInputError, match="has no price of its incentive"):
        search_designs(
            replace(problem, incentive_price_fn=None),
            draws,
            criteria=(CVaR(0.1),),
            constraints=(CostAtMost(1.0),),
            estimator=Exact(),
            **known,
        )
    with pytest.raises(InvalidInputError, match="need the exact hypergradient; received: HPGD"):
        search_designs(
            problem,
            draws,
            criteria=(CVaR(0.1),),
            constraints=(CostAtMost(1.0),),
            estimator=HPGD(),
            **known,
        )
