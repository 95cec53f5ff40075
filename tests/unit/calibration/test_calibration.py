"""Ranks, bands and counts by hand and by conjugate posteriors; one program serves all data."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
from numpyro import handlers
from numpyro.infer.util import log_density
from scipy.stats import beta, binom

import cbrl_bayes as cb
from cbrl_bayes.behaviour import count_behaviour, make_trajectories
from cbrl_bayes.calibration import (
    CalibrationSettings,
    SimulatedFits,
    binomial_band,
    decision_coverage,
    detectable_coverage,
    fit_simulated,
    fits,
    rank_uniformity,
    ranks_of,
    study_simulated,
)
from cbrl_bayes.designs import DesignSettings, study_designs
from cbrl_bayes.designs.evaluation import Score
from cbrl_bayes.designs.programs import StudyPrograms
from cbrl_bayes.errors import InvalidInputError, ResultsError
from cbrl_bayes.hypergradients import (
    Ascent,
    AscentResult,
    AscentStatus,
    AscentTrace,
    Exact,
    Search,
    SearchResult,
)
from cbrl_bayes.inference import (
    BehaviourModel,
    BehaviourSimulation,
    PerGroup,
    PreferenceModel,
    PreferenceSimulation,
    ShareSimulation,
)
from cbrl_bayes.inference.shares import DirichletShares
from cbrl_bayes.plots import plot_coverage, plot_ranks
from cbrl_bayes.problems import (
    SampledContexts,
    bus_replacement,
    contract_design,
    four_rooms,
    two_state,
)
from cbrl_bayes.results import Table

TRIALS = 12


def ranked(posterior_weight, num=500, kept=99, seed=0):
    """Ranks under a beta-binomial whose posterior counts the data ``posterior_weight`` times."""
    rng = np.random.default_rng(seed)
    truth = rng.beta(2.0, 3.0, num)
    successes = rng.binomial(TRIALS, truth)
    w = posterior_weight
    draws = rng.beta(
        2.0 + w * successes[:, None], 3.0 + w * (TRIALS - successes)[:, None], (num, kept)
    )
    ranks = ranks_of(truth, draws, rng)
    return xr.Dataset(
        {
            "rank": (("data_set", "quantity"), ranks[:, None]),
            "fractional_rank": (
                ("data_set", "quantity"),
                ((ranks + rng.random(num)) / (kept + 1))[:, None],
            ),
            "effective_size": (("data_set", "quantity"), np.full((num, 1), 1000.0)),
        }
        | {
            name: ("data_set", np.zeros(num, int))
            for name in ("failed", "num_divergent", "num_unsolved")
        },
        coords={"quantity": ["chance"]},
        attrs={"num_draws": kept},
    )


def test_an_exact_posterior_passes_and_a_wrong_one_does_not():
    """False alarm .001; data counted twice are seen in each of 20 repetitions (power >= .86).

    (If the power were below .86, all 20 would be seen with probability below .05.)
    """
    assert rank_uniformity(ranked(1.0), false_alarm=0.001).frame["uniform"].all()
    for seed in range(20):
        wrong = rank_uniformity(ranked(2.0, seed=seed), false_alarm=0.001).frame
        assert not wrong["uniform"].any()
        assert wrong["covered_90"].item() < 0.85


def test_failed_fits_are_no_clean_verdict():
    """Ranks of the other fits are uniform; what the failed ones would have said is not known."""
    found = ranked(1.0)
    found["failed"][:3] = 1
    found["num_divergent"][:5] = 7
    found["num_unsolved"][0] = 2
    row = rank_uniformity(found).frame.loc["chance"]
    assert (row["failed"], row["divergent"], row["unsolved"]) == (3, 5, 1)
    assert row["p_value"] >= row["level"]
    assert not row["uniform"]


def test_one_data_set_is_enough_to_tell_quantities_from_constants(monkeypatch):
    """What is 0 in the truth and in all draws is a reference, not a parameter."""
    rng = np.random.default_rng(0)
    draws = {
        "chance": rng.random((1, 9)),
        "logit": np.stack([rng.random((1, 9)), np.zeros((1, 9))], axis=-1),
    }
    fits = SimulatedFits(
        truth={"chance": np.array([0.5]), "logit": np.array([[0.5, 0.0]])},
        draws=draws,
        effective_size={"chance": np.ones(1), "logit": np.ones((1, 2))},
        num_divergent=np.zeros(1),
        num_unsolved=np.zeros(1),
        failed=np.zeros(1, bool),
    )
    monkeypatch.setattr("cbrl_bayes.calibration.study.fit_simulated", lambda *a, **k: fits)
    found = cb.calibrate_inference(Coin(), key=jax.random.key(0))
    assert found["quantity"].values.tolist() == ["chance", "logit[0]"]


def test_the_test_of_ranks_keeps_its_false_alarm_rate():
    """150 right posteriors at level .05, within the band of probability .9999."""
    tables = (
        rank_uniformity(ranked(1.0, num=200, seed=seed), false_alarm=0.05) for seed in range(150)
    )
    alarms = sum(not table.frame["uniform"].item() for table in tables)
    low, high = binomial_band(150, 0.05, 0.9999)
    assert low <= alarms <= high


def test_ranks_count_draws_below_and_break_ties_evenly():
    rng = np.random.default_rng(1)
    assert ranks_of(np.array([0.5, 9.0]), np.array([[0.0, 1.0], [1.0, 2.0]]), rng).tolist() == [
        1,
        2,
    ]
    many = ranks_of(np.zeros(9000), np.zeros((9000, 2)), rng)
    counted = np.bincount(many, minlength=3)
    # 5 standard deviations of a binomial(9000, 1/3).
    assert (abs(counted - 3000) < 5 * np.sqrt(9000 * 2 / 9)).all()
    assert ranks_of(np.array([np.nan, 1.0]), np.array([[0.0], [np.inf]]), rng).tolist() == [-1, -1]
    assert ranks_of(np.zeros((4, 3)), np.ones((4, 5, 3)), rng).shape == (4, 3)


@pytest.mark.parametrize(("num", "prob", "inside"), [(30, 0.9, 0.99), (200, 0.9, 0.999)])
def test_binomial_bands_hold_what_they_say(num, prob, inside):
    low, high = binomial_band(num, prob, inside)
    law = binom(num, prob)
    assert law.cdf(high) - law.cdf(low - 1) >= inside
    # A narrower band would leave more than half of the rest in one tail.
    assert law.cdf(low) > (1 - inside) / 2
    assert law.sf(high - 1) > (1 - inside) / 2 or high == num


@pytest.mark.parametrize("num", [30, 60, 100])
def test_detectable_coverage_is_seen_with_the_stated_power(num):
    low, _ = binomial_band(num, 0.9)
    assert binom(num, detectable_coverage(num)).cdf(low - 1) == pytest.approx(0.8, abs=1e-9)
    assert np.isnan(detectable_coverage(2))  # no count of two is too small


def by_hand(optimum, predicted, true_optimum, realised, incentive, true_incentive, in_common):
    many = ("data_set", "draw")
    return xr.Dataset(
        {
            "optimum": (many, optimum),
            "predicted": (many, predicted),
            "true_optimum": ("data_set", true_optimum),
            "better_optimum": ("data_set", true_optimum),
            "realised": ("data_set", realised),
            "in_common": ("draw", in_common),
            "incentive": ((*many, "coordinate"), incentive[..., None]),
            "true_incentive": (("data_set", "coordinate"), true_incentive[:, None]),
        },
        coords={"coordinate": ["bonus"]},
    )


def test_coverage_is_counted_as_by_hand():
    """19 draws 1, ..., 19: the 90 % interval is 1 to 19, ends included."""
    steps = np.tile(np.arange(1.0, 20.0), (3, 1))
    found = decision_coverage(
        by_hand(
            optimum=steps,
            predicted=np.zeros((3, 19)),
            true_optimum=np.array([1.0, 19.0, 19.5]),
            realised=np.zeros(3),
            incentive=np.full((3, 19), 4.0),
            true_incentive=np.full(3, 4.0),
            in_common=np.arange(19) % 2 == 0,
        )
    ).frame
    assert found.loc["optimal objective", "covered"] == 2
    assert found.loc["regret of the common design", "covered"] == 2
    assert found.loc["optimal objective", "mean_predicted"] == 10.0
    assert found.loc["optimal objective", "mean_true"] == pytest.approx(39.5 / 3)
    gaps = np.array([1.0, 19.0, 19.5]) - 10.0
    assert found.loc["optimal objective", "difference"] == pytest.approx(gaps.mean())
    error = gaps.std(ddof=1) / np.sqrt(3)
    assert found.loc["optimal objective", "difference_standard_error"] == pytest.approx(error)
    # Tied: the interval is a point that holds the truth; ties broken at random may leave it.
    assert found.loc["incentive bonus", "covered"] == 3
    assert found.loc["incentive bonus", "untied"] <= 3
    # 9 draws held out give no 90 % interval between order statistics.
    assert not found.index.str.contains("held out").any()


def test_order_statistics_give_exactly_the_stated_probability():
    """P(X lies between the k-th of each end of N others) = 1 - 2 k / (N + 1), by a beta law."""
    num, order = 39, 2
    below = beta(order, num + 1 - order)
    assert 1.0 - 2.0 * below.mean() == pytest.approx(0.9, abs=1e-12)
    data = np.random.default_rng(0).normal(size=(4000, 40))
    empty = np.zeros(4000)
    found = decision_coverage(
        by_hand(
            data[:, 1:],
            data[:, 1:],
            data[:, 0],
            data[:, 0],
            data[:, 1:],
            empty,
            np.arange(39) % 2 == 0,
        ),
        band_prob=0.9999,
    ).frame
    row = found.loc["optimal objective"]
    assert row["low"] <= row["covered"] <= row["high"]
    assert "objective of the common design, draws held out" in found.index


def test_a_shift_that_coverage_cannot_see_is_seen_by_the_mean_rank():
    """Draws a fifth too wide and .6 too high: intervals hold the truth often enough."""
    data = np.random.default_rng(1).normal(size=(500, 40))
    draws, truth = 1.2 * data[:, 1:] + 0.6, data[:, 0]
    empty, apart = np.zeros(500), np.arange(39) % 2 == 0
    for given, seen in ((draws, True), (data[:, 1:], False)):
        found = decision_coverage(by_hand(given, given, truth, truth, given, empty, apart)).frame
        row = found.loc["optimal objective"]
        # P(-1.645 * 1.2 + .6 < z < 1.645 * 1.2 + .6) = .910.
        assert row["low"] <= row["covered"] <= row["high"]
        # Without a shift a p-value is below .001 in one of 1,000 cases; this seed is none.
        assert (row["rank_p_value"] < 0.001) == seen


def test_intervals_without_order_statistics_are_refused():
    flat = np.zeros((2, 20))
    with pytest.raises(InvalidInputError, match=r"no order statistics.*19, 39 or 59"):
        decision_coverage(
            by_hand(flat, flat, np.zeros(2), np.zeros(2), flat, np.zeros(2), np.zeros(20, bool))
        )


def observed(simulation, data):
    """The same episodes in the format of observed behaviour."""
    problem = simulation.problem
    data = jax.tree.map(np.asarray, data)
    steps = data["active"].sum(1)
    episodes = range(simulation.num_episodes)
    hidden = [e >= simulation.num_episodes - simulation.num_hidden for e in episodes]
    discrete = simulation.context_family is None
    slot = np.where(data["goes_on"], data["slot"], -1)
    table = make_trajectories(
        [data["state"][e, : steps[e]] for e in episodes],
        [data["action"][e, : steps[e]] for e in episodes],
        group=[problem.followers.names[e % problem.followers.num_followers] for e in episodes],
        context=["" if hidden[e] else problem.contexts.names[data["context"][e]] for e in episodes]
        if discrete
        else None,
        incentives={"baseline": simulation.incentive},
        successor_slot=[slot[e, : steps[e]] for e in episodes]
        if simulation.record_transitions
        else None,
    )
    return table if discrete else table.assign(context_value=("episode", data["value"]))


def context_family():
    """Costs of effort that are normal around an unknown mean."""
    problem = dataclasses.replace(
        two_state(),
        contexts=SampledContexts(
            lambda p, key: p["cost_mean"] + 0.5 * jax.random.normal(key), 8, {"cost_mean": 1.0}
        ),
    )
    family = cb.ContextFamily(
        lambda p: dist.Normal(p["cost_mean"], 0.5), {"cost_mean": dist.Normal(1.0, 1.0)}
    )
    return problem, family


def simulations():
    groups = two_state().with_followers(("young", "old"), (0.5, 0.5))
    contract = contract_design()
    paid = contract.incentive.transform(contract.incentive.initial)
    continuous, family = context_family()
    return {
        "pooled": BehaviourSimulation(two_state(), num_episodes=7, num_steps=2),
        "groups": BehaviourSimulation(
            groups,
            {"temperature": PerGroup(dist.LogNormal(-1.0, 1.0))},
            num_episodes=7,
            num_steps=1,
        ),
        "hidden": BehaviourSimulation(
            contract, num_episodes=7, num_steps=3, num_hidden=4, incentive=paid
        ),
        "all hidden": BehaviourSimulation(
            contract, num_episodes=5, num_steps=3, num_hidden=5, incentive=paid
        ),
        "hidden, moves tell": BehaviourSimulation(
            four_rooms(temperature=0.05), num_episodes=4, num_steps=30, num_hidden=3
        ),
        "continuous": BehaviourSimulation(
            continuous, context_family=family, num_episodes=6, num_steps=1
        ),
        "transitions": BehaviourSimulation(
            bus_replacement(num_bins=12, target_mileage=30_000),
            num_episodes=2,
            num_steps=15,
            record_transitions=True,
        ),
    }


@pytest.mark.parametrize(
    "name",
    [
        name if name == "continuous" else pytest.param(name, marks=pytest.mark.slow)
        for name in simulations()
    ],
)
def test_the_traced_program_is_the_model_of_the_counted_data(name):
    """Up to the constant of the multinomial, which the two layouts count alike row by row.

    Log densities differ by rounding only; two points, so that a constant would show.
    """
    simulation = simulations()[name]
    trace = handlers.trace(handlers.seed(simulation.prior, jax.random.key(3))).get_trace()
    truth = {n: s["value"] for n, s in trace.items() if s["type"] == "sample"}
    data = simulation.simulate({n: s["value"] for n, s in trace.items()}, jax.random.key(4))
    table = observed(simulation, data)
    model = BehaviourModel(
        simulation.problem,
        count_behaviour(simulation.problem, table),
        simulation.priors,
        simulation.context_family,
    )
    traced = jax.jit(lambda d, values: log_density(simulation.program, (d,), {}, values)[0])
    for power in (1.0, 1.3):
        values = {
            n: v**power / (v**power).sum() if "probability" in n else v * power
            for n, v in truth.items()
        }
        expected, _ = log_density(model, (), {}, values)
        assert float(traced(data, values)) == pytest.approx(float(expected), rel=1e-9, abs=1e-9)


@pytest.mark.slow
def test_shares_and_preferences_are_simulated_from_their_own_models():
    rows = np.array([[0, 0, 1, 0], [0, 1, 2, 1], [0, 2, 0, 1]])
    tie = PreferenceModel(rows, np.ones((3, 3)), 1, 3, 2)
    for simulation, shape in (
        (PreferenceSimulation(tie, num_judgements=5), (3, 3)),
        (ShareSimulation(DirichletShares(), np.zeros((6, 1))), (6, 3)),
    ):
        trace = handlers.trace(handlers.seed(simulation.prior, 0)).get_trace()
        truth = {
            n: s["value"] for n, s in trace.items() if s["type"] in ("sample", "deterministic")
        }
        data = simulation.simulate(truth, jax.random.key(1))
        assert data.shape == shape
        assert np.allclose(data.sum(1), 5.0 if shape == (3, 3) else 1.0)
        latent = {n: v for n, v in truth.items() if trace[n]["type"] == "sample"}
        assert np.isfinite(log_density(simulation.program, (data,), {}, latent)[0])


class Coin:
    """A beta-binomial in NumPyro, whose posterior is known."""

    def prior(self):
        numpyro.sample("chance", dist.Beta(2.0, 3.0))

    def simulate(self, truth, key):
        return dist.Binomial(TRIALS, truth["chance"]).sample(key)

    def program(self, data):
        chance = numpyro.sample("chance", dist.Beta(2.0, 3.0))
        numpyro.sample("successes", dist.Binomial(TRIALS, chance), obs=data)


@pytest.mark.slow
def test_simulated_fits_are_the_known_posterior_whatever_the_batches():
    settings = CalibrationSettings(
        num_data_sets=4, num_draws=100, num_warmup=150, thinning=4, batch=3
    )
    fits = fit_simulated(Coin(), key=jax.random.key(5), settings=settings)
    again = fit_simulated(
        Coin(), key=jax.random.key(5), settings=dataclasses.replace(settings, batch=4)
    )
    assert np.array_equal(fits.draws["chance"], again.draws["chance"])
    assert fits.num_divergent.sum() == fits.num_unsolved.sum() == fits.failed.sum() == 0
    # The log-likelihood gives back the data, and so the exact posterior.
    for index in range(4):
        chance = fits.truth["chance"][index]
        terms = binom(TRIALS, chance).logpmf(np.arange(TRIALS + 1))
        successes = np.argmin(abs(terms - fits.truth["log_likelihood"][index]))
        exact = beta(2.0 + successes, 3.0 + TRIALS - successes)
        size = min(100.0, fits.effective_size["chance"][index])
        # 5 standard errors of a mean of so many effective draws.
        assert abs(fits.draws["chance"][index].mean() - exact.mean()) < 5 * exact.std() / size**0.5


def test_a_chain_that_does_not_move_has_no_effective_draws():
    moving = np.random.default_rng(0).normal(size=(400, 1))
    chains = np.stack([np.zeros((400, 1)), moving])
    found = fits._effective_size(chains)[:, 0]
    assert found[0] == 0.0
    # Independent draws: 400, give or take the noise of the estimate.
    assert 200 < found[1] < 800


def test_studies_of_simulated_data_are_studies():
    """The draws' numbers are those of `study_designs` with the same key; the truth is one more."""
    problem = two_state()
    ascent = Ascent(num_steps=30, learning_rate=0.3)
    settings = DesignSettings(
        search=Search(ascent=ascent, num_starts=2),
        per_draw=Search(ascent=ascent),
        num_search_draws=2,
    )
    draws = {"temperature": np.array([0.2, 0.3, 0.5])}
    key = jax.random.key(7)
    truth = {"temperature": np.array([0.3, np.nan])}
    both = {"temperature": np.stack([draws["temperature"]] * 2)}
    record = study_simulated(problem, truth, both, estimator=Exact(), key=key, settings=settings)
    study = study_designs(
        problem, draws, estimator=Exact(), key=jax.random.fold_in(key, 0), settings=settings
    )
    # The same operations; programs of one and of several calls may round differently.
    close = {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(record.optimum[0], study.objective, **close)
    np.testing.assert_allclose(record.predicted[0], study.design_objective[0], **close)
    np.testing.assert_allclose(record.incentive["bonus"][0], study.incentive["bonus"], **close)
    # A truth that is one of the draws has that draw's optimum (random starts apart: none here).
    assert record.true_optimum[0] == pytest.approx(record.optimum[0, 1], abs=1e-12)
    assert record.better_optimum[0] >= record.true_optimum[0]
    assert record.in_common.tolist() == [True, False, True]
    # A fit without finite numbers is kept, as not a number.
    assert np.isnan(record.optimum[1]).all()
    assert record.broken.tolist() == [0, 4]


def test_unsolved_best_responses_are_no_results(monkeypatch):
    """Best responses at a temperature of .5 do not converge: a draw, and the truth that equals it.

    Searches and scores are stand-ins, so that nothing is compiled.
    """
    best = AscentResult(
        unconstrained={"bonus": np.zeros(())},
        objective=1.0,
        trace=AscentTrace(*(np.zeros(1) for _ in dataclasses.fields(AscentTrace))),
        status=AscentStatus.CONVERGED,
        gain=0.0,
    )
    found = SearchResult(best, np.zeros(1), np.zeros((1, 1)))
    search = SimpleNamespace(run=lambda *_, **__: found)

    def score(x, parameters, key):
        zero, unsolved = np.zeros(()), int(parameters["temperature"] > 0.45)
        return Score(np.ones(()), zero, zero, zero, np.zeros(1), np.asarray(unsolved))

    for name, stand_in in dict.fromkeys(("plug_in", "again", "common", "own"), search).items():
        monkeypatch.setattr(StudyPrograms, name, stand_in)
    monkeypatch.setattr(StudyPrograms, "score", staticmethod(score))
    record = study_simulated(
        two_state(),
        {"temperature": np.array([0.5])},
        {"temperature": np.array([[0.2, 0.5]])},
        estimator=Exact(),
        key=jax.random.key(7),
    )
    assert np.isnan(record.optimum[0]).tolist() == [False, True]
    assert np.isnan(record.predicted[0]).tolist() == [False, True]
    assert np.isnan([record.true_optimum[0], record.realised[0]]).all()
    assert record.broken.tolist() == [2]


def test_what_cannot_be_simulated_is_refused():
    problem = two_state()
    with pytest.raises(InvalidInputError, match="sizes are out of range"):
        BehaviourSimulation(problem, num_episodes=3, num_hidden=4)
    with pytest.raises(InvalidInputError, match="num_hidden > 0 requires"):
        BehaviourSimulation(problem, num_hidden=1, record_transitions=True)
    with pytest.raises(InvalidInputError, match=r"unknown incentives.*bonus"):
        BehaviourSimulation(problem, incentive={"subsidy": 1.0})
    with pytest.raises(
        InvalidInputError,
        match="settings of the calibration are out of range; received: num_draws = 3",
    ):
        CalibrationSettings(num_draws=3)
    with pytest.raises(InvalidInputError, match="num_data_sets"):
        cb.DecisionCalibrationSettings(num_data_sets=0)
    with pytest.raises(InvalidInputError, match="do not fit"):
        study_simulated(
            problem,
            {"temperature": np.ones(2)},
            {"temperature": np.ones((3, 2))},
            estimator=Exact(),
            key=jax.random.key(0),
        )
    with pytest.raises(InvalidInputError, match="false_alarm"):
        rank_uniformity(ranked(1.0, num=50), false_alarm=0.0)


def test_figures_show_every_model_and_problem():
    figure = plot_ranks(
        {"right": ranked(1.0, num=60), "twice": ranked(2.0, num=60)}, num_simulations=50
    )
    assert [panel.get_title() for panel in figure.axes[:2]] == [
        "right (60 data sets)",
        "twice (60 data sets)",
    ]
    table = pd.DataFrame(
        {"share": [0.9, 0.8], "low": [20, 20], "high": [30, 30], "data_sets": [30, 30]},
        index=["optimal objective", "incentive bonus"],
    )
    figure = plot_coverage({"two_state": Table("", {"": table}, prob=0.8)})
    assert "30 data sets" in figure.axes[0].get_yticklabels()[0].get_text()
    assert "share of 80 % intervals" in figure.axes[0].get_xlabel()
    with pytest.raises(InvalidInputError, match="no tables"):
        plot_coverage({})


SMALL = CalibrationSettings(num_data_sets=3, num_draws=4, num_warmup=10, thinning=1, batch=2)
QUICK = Search(ascent=Ascent(num_steps=10))
SMALL_STUDIES = cb.DecisionCalibrationSettings(
    num_data_sets=2,
    num_draws=9,
    num_warmup=10,
    thinning=1,
    batch=2,
    design=DesignSettings(search=QUICK, per_draw=QUICK, num_search_draws=4),
)


@pytest.mark.parametrize(
    "call",
    [
        lambda **how: cb.calibrate_inference(Coin(), settings=SMALL, **how),
        lambda **how: cb.calibrate_decisions(
            BehaviourSimulation(two_state(), num_episodes=3, num_steps=1),
            settings=SMALL_STUDIES,
            **how,
        ),
    ],
)
def test_calibrations_go_on_where_they_were(call, tmp_path):
    """One thread or two, interrupted or not: the same numbers, and nothing is done twice."""
    again = []
    first = call(key=jax.random.key(2), checkpoint=tmp_path / "kept", num_workers=1)
    second = call(
        key=jax.random.key(2),
        checkpoint=tmp_path / "kept",
        progress=lambda stage, done, total: again.append((done, total)),
    )
    xr.testing.assert_identical(first.drop_attrs(), second.drop_attrs())
    assert all(done == total for done, total in again)
    for row in tmp_path.glob("kept/*/0.0"):
        row.unlink()
    third = call(key=jax.random.key(2), checkpoint=tmp_path / "kept", num_workers=2)
    xr.testing.assert_allclose(first.drop_attrs(), third.drop_attrs(), rtol=1e-12)
    with pytest.raises(ResultsError, match="key"):
        call(key=jax.random.key(3), checkpoint=tmp_path / "kept")


def test_the_searches_of_a_calibration_are_compiled_once():
    """A second and a third data set need no program that the first did not."""
    programs = []

    def listen(name, *_, **__):
        programs.append(name.endswith("backend_compile_duration"))

    draws = np.random.default_rng(0).uniform(0.2, 0.5, (3, 4))
    settings = DesignSettings(search=QUICK, per_draw=Search(ascent=Ascent(num_steps=11)))
    jax.monitoring.register_event_duration_secs_listener(listen)
    needed = []
    for num in (1, 3):
        programs.clear()
        study_simulated(
            two_state(),
            {"temperature": draws[:num, 0]},
            {"temperature": draws[:num]},
            estimator=Exact(),
            key=jax.random.key(0),
            settings=settings,
        )
        needed.append(sum(programs))
    jax.monitoring.unregister_event_duration_listener(listen)
    assert 0 < needed[1] <= needed[0]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: cb.calibrate_inference(two_state(), key=0), "key is not a JAX random key"),
        (lambda: cb.calibrate_inference(5, key=jax.random.key(0)), "subject cannot be calibrated"),
        (
            lambda: cb.calibrate_decisions(Coin(), key=jax.random.key(0)),
            "subject has the wrong type; received: a Coin; accepted: BehaviourSimulation",
        ),
        (
            lambda: cb.calibrate_decisions(two_state(), key=jax.random.key(0), settings=SMALL),
            r"try: cb.DecisionCalibrationSettings\(...\)",
        ),
        (
            lambda: cb.calibrate_decisions(
                two_state(), key=jax.random.key(0), executor=cb.DeviceExecutor()
            ),
            "whole studies cannot be part of one compiled program",
        ),
    ],
)
def test_wrong_arguments_of_calibrations_are_named(call, match):
    with pytest.raises(InvalidInputError, match=match):
        call()
