"""Value of information, against closed forms, quadrature, enumeration and repetition."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import beta as beta_law, betabinom, binom, norm, qmc

import cbrl_bayes as cb
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.information import (
    Experiment,
    FutureData,
    KernelRegression,
    SplineRegression,
    conditional_benefit,
    expected_regret,
    partial_information,
    perfect_information,
    reweighted_information,
    sample_information,
    simulate_experiments,
)
from cbrl_bayes.information.sampling import likelihood_summary
from cbrl_bayes.information.smoothing import Basis, residual_correlation
from cbrl_bayes.mdp import MDP, DenseTransition
from cbrl_bayes.problems import DiscreteContexts, IncentiveSpace, Labels, Problem

KEY = jax.random.key(0)


def expected_positive_part(mean, sd):
    """E max(0, X) for X ~ N(mean, sd)."""
    return mean * norm.cdf(mean / sd) + sd * norm.pdf(mean / sd)


@pytest.fixture(scope="module")
def standard():
    """Scrambled Sobol points as standard normals: means are good to about 1e-3 / sqrt(4)."""
    return qmc.MultivariateNormalQMC(np.zeros(3), seed=1).random(2**11)


@pytest.fixture(scope="module")
def normal_case(standard):
    """Net benefits {0, p1 - p2}, p1 ~ N(1, 1), p2 ~ N(0, 2)."""
    first, second = 1.0 + standard[:, 0], 2.0 * standard[:, 1]
    return np.stack([np.zeros_like(first), first - second], axis=1), first, second


def test_perfect_information_in_the_normal_case(normal_case):
    benefit, _, _ = normal_case
    exact = expected_positive_part(1.0, np.sqrt(5.0)) - 1.0
    assert exact == pytest.approx(0.479811, abs=5e-7)
    # Sobol points: 2e-4 at 2,048 points by repetition with other scrambles.
    found = perfect_information(benefit, key=KEY)
    assert found.value == pytest.approx(exact, abs=1e-3)
    assert found.held_out == found.value


@pytest.mark.parametrize("regression", [SplineRegression(), KernelRegression()])
def test_partial_information_in_the_normal_case(normal_case, regression):
    benefit, first, second = normal_case
    known_first = expected_positive_part(1.0, 1.0) - 1.0
    known_second = expected_positive_part(1.0, 2.0) - 1.0
    assert (known_first, known_second) == pytest.approx((0.083315, 0.395593), abs=5e-7)
    # Features / draws = 8 / 2,048 of the residual variance: errors of 1e-3 in the fitted values.
    for inputs, exact in ((first, known_first), (second, known_second)):
        found = partial_information(benefit, inputs, key=KEY, regression=regression)
        assert found.value == pytest.approx(exact, abs=3e-3)
        assert found.held_out == pytest.approx(exact, abs=0.03)  # counts by raw draws: noisier
    assert expected_regret(benefit) > known_second > known_first


def test_a_group_with_an_interaction_is_worth_what_quadrature_says(standard):
    """B = .5 + p1 p2 + p3: each of p1, p2 alone is worth nothing, both together much."""
    first, second, third = standard.T
    benefit = np.stack([np.zeros_like(first), 0.5 + first * second + third], axis=1)
    # Given p1, .5 + p1 p2 is N(.5, |p1|): one integral is left.
    grid = np.linspace(1e-6, 9.0, 20_001)
    weight = norm.pdf(grid) / norm.pdf(grid).sum()
    exact = float(weight @ expected_positive_part(0.5, grid)) - 0.5
    both = partial_information(benefit, np.stack([first, second], axis=1), key=KEY)
    # A smooth fit blunts the corner of the maximum a little: .0006 at 4,096 points.
    assert both.value == pytest.approx(exact, abs=6e-3)
    assert both.explained == pytest.approx(0.5, abs=0.02)
    for alone in (first, second):
        # Truth 0; 8 features on 2,048 draws of residual variance 2 leave noise of .09 * sqrt(...)
        # around .5, of which next to nothing crosses zero.
        assert partial_information(benefit, alone, key=KEY).value < 2e-3


def test_answers_do_not_depend_on_the_scale_of_a_parameter(standard):
    first, second, third = standard[:400].T
    benefit = np.stack([np.zeros_like(first), first * second + third], axis=1)
    plain = conditional_benefit(benefit, np.stack([first, second], axis=1))
    other = conditional_benefit(benefit, np.stack([np.exp(first), -second], axis=1))
    # Ranks are the same, or reversed; what is left is rounding, amplified by the fit.
    np.testing.assert_allclose(plain, other, atol=1e-6)


def test_structure_that_a_fit_missed_shows_in_its_residuals():
    inputs = np.random.default_rng(3).normal(size=(600, 2))
    noise = np.random.default_rng(4).normal(size=600)
    target = inputs[:, 0] * inputs[:, 1] + 0.5 * noise
    (good,) = KernelRegression().bases(inputs, target[:, None])
    straight = Basis(np.c_[np.ones(600), inputs], np.zeros(3))
    value, error = residual_correlation(inputs, (target - straight.fit(target))[:, None])
    assert value > 0.3
    assert value > 4 * error
    # False alarm of 4 standard errors, one-sided: 3e-5.
    value, error = residual_correlation(inputs, (target - good.fit(target))[:, None])
    assert value < 4 * error


def test_overfitting_is_upward_and_held_out_values_show_it():
    """A parameter without any bearing, two options that are equal on average: truth is 0."""
    found = []
    for seed in range(40):
        noise, unrelated = np.random.default_rng(seed).normal(size=(2, 200))
        benefit = np.stack([np.zeros(200), noise], axis=1)
        value = partial_information(benefit, unrelated, key=jax.random.key(seed))
        found.append((value.value, value.held_out, value.standard_error))
    fitted, held_out, _ = np.array(found).T
    # Fitted values have variance 8 / 200; E|N(0, .2)| / 2 = .08, less what the better constant
    # option takes: about .05. Wanted: clearly above 0, at more than five standard errors.
    assert fitted.mean() > 5 * fitted.std(ddof=1) / np.sqrt(40)
    assert 0.02 < fitted.mean() < 0.08
    # The rule found on other draws gains nothing; false alarm of 4 standard errors 3e-5.
    assert held_out.mean() < 4 * held_out.std(ddof=1) / np.sqrt(40)
    # The penalised regression notices that there is nothing to fit.
    few = [
        partial_information(
            np.stack([np.zeros(200), np.random.default_rng(s).normal(size=200)], axis=1),
            np.random.default_rng(100 + s).normal(size=(200, 2)),
            key=KEY,
        ).value
        for s in range(5)
    ]
    assert np.mean(few) < fitted.mean()


@pytest.mark.parametrize("persistence", [0.0, 0.8])
def test_standard_errors_match_the_spread_over_repetitions(persistence):
    """Independent draws, and a chain with autocorrelation .8 (nine draws for one)."""
    repetitions, num = 40, 400
    block = 1 if persistence == 0.0 else 20
    values, errors = [], []
    for seed in range(repetitions):
        steps = np.random.default_rng(seed).normal(size=num)
        chain = [steps[0]]
        for step in steps[1:]:
            chain.append(persistence * chain[-1] + np.sqrt(1 - persistence**2) * step)
        benefit = np.stack([np.zeros(num), 0.3 + np.array(chain)], axis=1)
        found = perfect_information(benefit, key=jax.random.key(seed), block_length=block)
        values.append(found.value)
        errors.append(found.standard_error)
    # The spread of 40 is known to 11 % (one sd); blocks of 20 miss some 15 % of a variance that
    # correlation makes nine times as large. Without blocks the second ratio is near 1 / 3.
    assert 0.65 < np.mean(errors) / np.std(values, ddof=1) < 1.4


def test_noisy_scores_are_bracketed():
    """Scores with noise of sd 1 over true net benefits {0, t}, t ~ N(.2, .5)."""
    generator = np.random.default_rng(0)
    num = 4000
    truth = np.stack([np.zeros(num), 0.2 + 0.5 * generator.normal(size=num)], axis=1)
    noisy = [truth + generator.normal(size=truth.shape) for _ in range(2)]
    exact = expected_positive_part(0.2, 0.5) - 0.2
    found = perfect_information(noisy[0], again=noisy[1], key=KEY)
    # Noise of the average, sd 1 between options, doubles the apparent value; the rule that
    # chooses by one score earns less than the truth. Both gaps are over ten standard errors.
    assert found.value > exact + 5 * found.standard_error
    assert found.held_out < exact - 3 * found.held_out_standard_error
    exact_scores = perfect_information(truth, again=truth, key=KEY)
    assert exact_scores.value == pytest.approx(exact_scores.held_out)


def normal_data(parameter, noise, num, sd):
    """Means of ``num`` observations with standard deviation ``sd`` of a normal parameter."""
    total = num * (parameter + noise * sd / np.sqrt(num))
    natural = np.stack([parameter, -(parameter**2) / 2.0], axis=1) / sd**2
    return FutureData(np.stack([total, np.full(len(total), float(num))], axis=1), natural)


def test_sample_information_in_the_conjugate_normal_case(normal_case, standard):
    """The posterior mean of p2 is N(0, 2 sqrt(n / (n + 4))) before the data are seen."""
    benefit, _, second = normal_case
    informed = conditional_benefit(benefit, second)
    known, last = partial_information(benefit, second, key=KEY).value, 0.0
    for num in (1, 4, 16, 64):
        future = normal_data(second, standard[:, 2], num, sd=4.0)
        assert likelihood_summary(future).shape[1] == 1
        exact = expected_positive_part(1.0, 2.0 * np.sqrt(num / (num + 4.0))) - 1.0
        found = sample_information(benefit, future, key=KEY, informed=informed)
        direct, size = reweighted_information(benefit, future)
        # Errors at 1,024 to 4,096 Sobol points: .002 at most for each route.
        assert found.regression.value == pytest.approx(exact, abs=6e-3)
        assert found.moment_matching == pytest.approx(exact, abs=8e-3)
        assert direct == pytest.approx(exact, abs=6e-3)
        assert last < found.regression.value < known + 2e-3
        assert 0.5 < np.median(found.effective_sample_size) / size < 2.0
        last = found.regression.value


@pytest.mark.parametrize("num", [2, 8, 40])
def test_sample_information_in_the_beta_binomial_case(standard, num):
    """B = {0, p - .55}, p ~ Beta(3, 2): the predictive law is beta-binomial."""
    chance = beta_law.ppf(norm.cdf(standard[:, 0]), 3, 2)
    successes = binom.ppf(norm.cdf(standard[:, 1]), num, chance)
    benefit = np.stack([np.zeros_like(chance), chance - 0.55], axis=1)
    future = FutureData(
        np.stack([successes, num - successes], axis=1),
        np.log(np.stack([chance, 1.0 - chance], axis=1)),
    )
    count = np.arange(num + 1)
    gain = np.maximum(0.0, (3 + count) / (5 + num) - 0.55)
    exact = float(betabinom.pmf(count, num, 3, 2) @ gain) - (0.6 - 0.55)
    found = sample_information(benefit, future, key=KEY)
    # A smooth curve through few distinct counts, and a rescaled beta for discrete posterior
    # means: errors of .001 at 1,000 to 4,000 points.
    assert found.regression.value == pytest.approx(exact, abs=2e-3)
    assert found.moment_matching == pytest.approx(exact, abs=3e-3)
    assert reweighted_information(benefit, future)[0] == pytest.approx(exact, abs=2e-3)


def test_sample_information_with_three_options_and_an_interaction():
    """B = {0, u, u v + .1}, u and v standard normal, both observed five times."""
    points = qmc.MultivariateNormalQMC(np.zeros(4), seed=2).random(2**11)
    hidden, noise = points[:, :2], points[:, 2:]
    benefit = np.stack([np.zeros(2**11), hidden[:, 0], hidden.prod(1) + 0.1], axis=1)
    seen = 5 * hidden + np.sqrt(5.0) * noise
    future = FutureData(np.c_[seen, np.full(2**11, 5.0)], np.c_[hidden, -(hidden**2).sum(1) / 2.0])
    grid = np.linspace(-6.0, 6.0, 801)
    weight = norm.pdf(grid) / norm.pdf(grid).sum()
    u, v = np.meshgrid(np.sqrt(5.0 / 6.0) * grid, np.sqrt(5.0 / 6.0) * grid, indexing="ij")
    exact = weight @ np.maximum(0.0, np.maximum(u, u * v + 0.1)) @ weight - 0.1
    found = sample_information(benefit, future, key=KEY)
    assert found.regression.value == pytest.approx(exact, abs=0.012)
    # The posterior mean of u v is not a multiple of u v: matching moments is approximate.
    assert found.moment_matching == pytest.approx(exact, abs=0.03)
    assert reweighted_information(benefit, future)[0] == pytest.approx(exact, abs=0.02)


def drifting() -> Problem:
    """One action that leads on with a probability to be learned."""

    def mdp_fn(incentive, context, parameters):
        on = parameters["chance"]
        return MDP(
            reward=jnp.zeros((2, 1)),
            transition=DenseTransition(jnp.zeros((2, 1, 2)).at[0, 0].set(on).at[1, 0, 1].set(1.0)),
            initial=jnp.array([1.0, 0.0]),
            discount=0.5,
            temperature=1.0,
            terminal=jnp.array([False, True]),
        )

    return Problem(
        name="drifting",
        incentive=IncentiveSpace({"x": jnp.zeros(())}, lambda u: u, {"x": Labels()}),
        contexts=DiscreteContexts(("only",), jnp.zeros(1), (1.0,)),
        mdp_fn=mdp_fn,
        parameters={"chance": (0.5, 0.5)},
        laws=("chance",),
        leader_reward_fn=lambda incentive, context, p: jnp.zeros((2, 1)),
        uncertain=("chance",),
    )


def test_moves_are_evidence_where_their_law_is_uncertain():
    stay = np.linspace(0.2, 0.8, 40)
    law = np.stack([stay, 1.0 - stay], axis=1)
    (data,) = simulate_experiments(
        drifting(), {"chance": law}, [Experiment("moves", 50, 1)], key=KEY
    )
    # Columns: 50 choices of the one action, 50 contexts, moves to either state.
    np.testing.assert_array_equal(data.statistic[:, :2], 50.0)
    np.testing.assert_allclose(data.log_probability[:, 2:], np.log(law), atol=1e-12)
    # 2,000 moves in all: sd of the share .011.
    assert data.statistic[:, 2].sum() / 2000 == pytest.approx(stay.mean(), abs=0.05)
    assert np.corrcoef(data.statistic[:, 2], stay)[0, 1] > 0.8


def test_simulated_choices_follow_the_logit_of_each_draw():
    problem = cb.problems.two_state(costs=(0.5, 1.5))
    draws = {
        "temperature": np.array([0.2, 0.5, 1.0]),
        "context_probability": np.array([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]]),
    }
    experiments = [
        Experiment("drawn", 4000, 1, incentive={"bonus": 1.2}),
        Experiment("fixed", 4000, 3, context="cost 1.5", incentive={"bonus": 1.2}),
    ]
    drawn, fixed = simulate_experiments(problem, draws, experiments, key=KEY)
    work = 1.0 / (1.0 + np.exp(-(1.2 - np.array([0.5, 1.5])) / draws["temperature"][:, None]))
    chances = np.stack([1.0 - work, work], axis=-1)  # draw, context, action
    np.testing.assert_allclose(
        np.exp(drawn.log_probability[:, :4]), chances.reshape(3, 4), atol=1e-12
    )
    np.testing.assert_allclose(np.exp(drawn.log_probability[:, 4:]), draws["context_probability"])
    np.testing.assert_array_equal(drawn.statistic[:, 4:].sum(1), 4000.0)
    # Standard deviations of a share of 4,000 are below .008; twelve shares, five of them.
    joint = (draws["context_probability"][:, :, None] * chances).reshape(3, 4)
    np.testing.assert_allclose(drawn.statistic[:, :4] / 4000.0, joint, atol=0.04)
    # An episode ends in its second state; there both actions are alike and tell nothing apart.
    np.testing.assert_allclose(np.exp(fixed.log_probability[:, :2]), chances[:, 1], atol=1e-12)
    np.testing.assert_allclose(fixed.statistic[:, :2] / 4000.0, chances[:, 1], atol=0.04)
    assert np.ptp(fixed.log_probability[:, 2:], axis=0).max() < 1e-12


def test_only_the_named_follower_is_observed():
    problem = cb.problems.two_state().with_followers(("a", "b"), (0.5, 0.5))
    draws = {"temperature": np.array([[0.2, 5.0], [0.3, 5.0]])}
    one, all_of_them = simulate_experiments(
        problem, draws, [Experiment("b", 7, 1, follower="b"), Experiment("all", 7, 1)], key=KEY
    )
    assert one.statistic.sum(1).tolist() == all_of_them.statistic.sum(1).tolist() == [14.0, 14.0]
    first = one.log_probability[:, : one.statistic.shape[1] - 2]
    assert np.ptp(first, axis=0).max() == 0.0  # the temperature of b is the same in both draws


@pytest.fixture(scope="module")
def small_study():
    """Two-State under made-up draws: log-normal temperature, Dirichlet contexts."""
    generator = np.random.default_rng(0)
    num = 300
    draws = {
        "temperature": 0.3 * np.exp(0.6 * generator.normal(size=num)),
        "context_probability": generator.dirichlet((6.0, 6.0), size=num),
    }
    quick = cb.Search(ascent=cb.Ascent(num_steps=80, learning_rate=0.1))
    problem = cb.problems.two_state()
    study = cb.design(
        problem,
        draws,
        key=jax.random.key(1),
        num_draws=12,
        settings=cb.DesignSettings(search=quick, per_draw=quick),
    )
    return problem, draws, study


@pytest.fixture(scope="module")
def valued(small_study):
    problem, _, study = small_study
    offers = [
        Experiment(
            f"{n} offers",
            n,
            1,
            context="cost 1.5",
            incentive={"bonus": 1.3},
            fixed_cost=0.01,
            cost_per_episode=0.001,
        )
        for n in (3, 30)
    ]
    return cb.value_of_information(
        problem,
        study,
        key=jax.random.key(2),
        settings=cb.InformationSettings(population=10.0, num_options=8),
        parameters={"rationality": "rationality", "both": ("temperature", "context_probability")},
        experiments=[*offers, Experiment("thirty", 30, 1, incentive="common")],
    )


def test_the_facade_agrees_with_enumeration(small_study, valued):
    """Net benefits in closed form, and every possible count of the experiment enumerated."""
    _, draws, _ = small_study
    data = valued["information"].to_dataset()
    bonus = data["unconstrained"].values[:, 0]
    scale = draws["temperature"][:, None, None]
    work = 1.0 / (1.0 + np.exp(-(bonus[:, None] - np.array([0.5, 1.5])) / scale))
    benefit = (draws["context_probability"][:, None] * work).sum(-1) * (2.0 - bonus)
    np.testing.assert_allclose(data["net_benefit"].values[:, 0].T, benefit, atol=1e-9)
    assert float(data["evpi"]) == pytest.approx(expected_regret(benefit), abs=1e-9)
    chance = 1.0 / (1.0 + np.exp(-(1.3 - 1.5) / draws["temperature"]))
    for name, num in (("3 offers", 3), ("30 offers", 30)):
        likelihood = binom.pmf(np.arange(num + 1)[:, None], num, chance)  # count, draw
        exact = (likelihood @ benefit).max(1).sum() / 300 - benefit.mean(0).max()
        one = data.sel(experiment=name)
        # One data set per draw instead of all: standard errors hold that and more (they also
        # count the draws themselves, which are shared here). False alarm of 3: .3 %.
        assert abs(float(one["evsi"]) - exact) < 3 * float(one["evsi_standard_error"])
        moment_error = float(one["evsi_moment_matching_standard_error"])
        assert abs(float(one["evsi_moment_matching"]) - exact) < 3 * moment_error


def test_values_are_ordered_and_priced(valued):
    data = valued["information"].to_dataset()
    evpi = float(data["evpi"])
    evsi = dict(zip(data["experiment"].values, data["evsi"].values, strict=True))
    assert 0 < evsi["3 offers"] < evsi["30 offers"]
    # Knowing more is worth more, up to the errors of two regressions.
    slack = 2 * data["evsi_standard_error"].values
    assert (data["evsi"].values < data["evsi_ceiling"].values + slack).all()
    evppi = data["evppi"]
    assert float(evppi.sel(parameter="both")) == pytest.approx(evpi, rel=0.02)  # all there is
    assert 0 < float(evppi.sel(parameter="rationality")) < evpi
    one = data.sel(experiment="30 offers")
    assert float(one["cost"]) == pytest.approx(0.04)
    assert float(one["net_benefit_of_sampling"]) == pytest.approx(10 * evsi["30 offers"] - 0.04)
    ordered = data["net_benefit_of_sampling"].values[np.argsort(data["rank"].values)]
    assert (np.diff(ordered) <= 0).all()
    assert data["evsi"].attrs["units"] == "money"
    for name in ("cost", "net_benefit_of_sampling", "net_benefit_of_sampling_standard_error"):
        assert data[name].attrs["units"] == "money (population of 10)"
    # Same key, same numbers: resampling and simulation are seeded.
    assert sorted(data["rank"].values.tolist()) == [1, 2, 3]


def test_tables_files_and_figures_hold_the_group(valued, tmp_path):
    table = cb.information_table(valued, prob=0.8)
    assert list(table.frames["parameters"].index) == ["both", "rationality"]
    assert list(table.frames["experiments"]["rank"]) == [1, 2, 3]
    row = table.frames["parameters"].iloc[0]
    half = norm.ppf(0.9) * row["standard_error"]
    assert row["upper"] == pytest.approx(row["value"] + half)
    assert "80 % normal intervals" in str(table)
    assert "<table" in table._repr_html_()
    again = cb.load(cb.save(valued, tmp_path / "study.nc"))
    assert again["information"].to_dataset().identical(valued["information"].to_dataset())
    figure = cb.plots.plot_information(again)
    titles = [panel.get_title() for panel in figure.axes]
    assert [title.partition(":")[0] for title in titles] == ["parameters", "experiments"]
    drawn = figure.axes[1].containers[0].lines[0].get_ydata()
    np.testing.assert_allclose(sorted(drawn), sorted(valued["information"]["evsi"].values[:2]))


def test_few_draws_and_thin_weights_are_reported(small_study):
    problem, _, study = small_study
    tree = cb.value_of_information(
        problem,
        study,
        key=jax.random.key(2),
        settings=cb.InformationSettings(num_options=4, num_draws=40),
        experiments=[Experiment("many", 3000, 1, incentive={"bonus": 1.0})],
    )
    group = tree["information"]
    assert any("independent draws" in text for text in json.loads(group.attrs["failures"]))
    assert any("effective draws" in text for text in json.loads(group.attrs["reviews"]))
    assert cb.summary(tree).health.verdict == "FAIL"
    # By default every uncertain parameter has a row, a law once.
    assert list(group["parameter"].values) == ["temperature", "context_probability"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"parameters": ("colour",)}, "'colour'"),
        ({"experiments": [Experiment("a", 1, 1, context="cost 9")]}, "no context"),
        ({"experiments": [Experiment("a", 1, 1, follower="me")]}, "no follower"),
        ({"experiments": [Experiment("a", 1, 1, incentive="best")]}, "does not have"),
        ({"experiments": [Experiment("a", 1, 1, incentive={"bribe": 1.0})]}, "does not fit"),
        ({"experiments": [Experiment("a", 1, 1), Experiment("a", 2, 1)]}, "different names"),
        ({"settings": {"num_draws": 40}}, "settings"),
        ({"key": 3}, "key"),
    ],
)
def test_what_cannot_be_valued_is_refused_at_once(small_study, arguments, words):
    problem, _, study = small_study
    with pytest.raises(InvalidInputError, match=words):
        cb.value_of_information(problem, study, **{"key": KEY} | arguments)


@pytest.mark.parametrize("arguments", [{"num_draws": 5}, {"num_options": 1}, {"population": 0.0}])
def test_settings_out_of_range_are_refused(arguments):
    (name, value), *_ = arguments.items()
    with pytest.raises(InvalidInputError, match=f"{name} = {value}"):
        cb.InformationSettings(**arguments)


def test_arrays_that_do_not_fit_are_refused(normal_case):
    benefit, first, _ = normal_case
    for broken in (benefit[:10], benefit[:, 0], np.where(benefit > 3, np.nan, benefit)):
        with pytest.raises(InvalidInputError, match="net benefits cannot be used"):
            perfect_information(broken, key=KEY)
    with pytest.raises(InvalidInputError, match="does not fit"):
        partial_information(benefit, first[:-1], key=KEY)
    with pytest.raises(InvalidInputError, match="one input"):
        partial_information(benefit, benefit, key=KEY, regression=SplineRegression())
    with pytest.raises(InvalidInputError, match="cannot be run"):
        Experiment("none", 0, 1)
    with pytest.raises(InvalidInputError, match="not of the same draws"):
        sample_information(benefit, normal_data(first[:50], first[:50], 1, 1.0), key=KEY)
