"""Preference learning: closed forms for two answers, loops for the likelihood, known truths."""

import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import handlers

from cbrl_bayes.behaviour.comparisons import OUTCOMES, load_comparisons
from cbrl_bayes.errors import DataError, InvalidInputError
from cbrl_bayes.hypergradients import Ascent, AscentProgram, Exact
from cbrl_bayes.inference import NUTSSettings
from cbrl_bayes.inference.preferences import (
    PreferenceModel,
    count_comparisons,
    fit_preferences,
    ties_as_half_wins,
)
from cbrl_bayes.problems import leader_outcome, respond_everywhere
from cbrl_bayes.problems.rlhf import comparison_log_probability, rlhf

sys.path.insert(0, str(Path(__file__).parents[3] / "analyses" / "rlhf"))
from preference_scores import clustered, left_score, losses, pair_rate, simulated_scores

KL, TAU = 0.7, 1.6


def _logistic(d):
    return 1.0 / (1.0 + math.exp(-d))


def _by_hand(d, share, truth):
    """F and dF/dd for two answers, uniform reference, no ties; d = x_0 - x_1."""
    play = _logistic(d / KL)
    q = (1 - share) * play + share / 2
    human = _logistic(truth / TAU)
    fit = human * math.log(_logistic(d)) + (1 - human) * math.log(_logistic(-d))
    both = 2 * q * (1 - q)
    worth = (1 - both) * -math.log(2) + both * fit
    slope_q = (1 - share) * play * (1 - play) / KL
    slope = slope_q * 2 * (1 - 2 * q) * (math.log(2) + fit) + both * (human - _logistic(d))
    return play, worth, slope


def _gradient(problem, x):
    estimator = Exact()
    gradient, _, _ = estimator.estimate(
        problem,
        x,
        problem.default_parameters,
        estimator.init(problem, x, key=jax.random.key(0)),
        key=jax.random.key(1),
    )
    return gradient


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_two_answers_by_hand(share):
    """Policy, objective and hypergradient; rtol 1e-9: a dozen operations in float64."""
    truth = 1.1
    problem = rlhf(
        human_reward=(truth / 2, -truth / 2),
        annotator_temperature=(TAU,),
        kl_temperature=KL,
        logged_share=share,
    )
    parameters = problem.default_parameters
    policy = jax.jit(
        lambda x: respond_everywhere(problem, problem.incentive.transform(x), parameters)
    )
    value = jax.jit(lambda x: leader_outcome(problem, x, parameters).objective)
    slopes = jax.jit(lambda x: _gradient(problem, x))
    for d in (-1.3, 0.0, 0.9):
        # Only the difference counts: the second coordinate is moved to show it.
        x = {"reward": jnp.array([d + 5.0, 5.0])}
        play, worth, slope = _by_hand(d, share, truth)
        log_policy, status = policy(x)
        assert int(status.max()) == 0
        assert float(jnp.exp(log_policy)[0, 0, 0, 0]) == pytest.approx(play, rel=1e-9)
        assert float(value(x)) == pytest.approx(worth, rel=1e-9)
        np.testing.assert_allclose(slopes(x)["reward"], [slope, -slope], rtol=1e-9, atol=1e-12)


def _small(**changes):
    """Four answers, two prompts (one answer missing in the second), two annotators, ties."""
    settings = {
        "human_reward": [[1.5, 0.2, -0.4, -1.3], [0.3, 1.0, -1.2, -0.1]],
        "annotator_temperature": (0.6, 2.0),
        "annotator_tie_strength": (0.5, 1.7),
        "annotator_probability": (0.7, 0.3),
        "available": [[True] * 4, [True, True, False, True]],
        "reference_policy": (0.4, 0.3, 0.2, 0.1),
        "initial_reward": (0.5, -0.2, 0.3, -0.6),
        "kl_temperature": KL,
        "logged_share": 0.25,
    }
    return rlhf(**settings | changes)


def test_policy_and_objective_by_enumeration():
    """Every prompt, annotator, pair and outcome by loops; rtol 1e-10: 200 terms in float64."""
    problem = _small()
    reward, log_tie = np.array([0.5, -0.2, 0.3, -0.6]), 0.3
    x = {"reward": jnp.asarray(reward), "log_tie": jnp.asarray(log_tie)}
    truth = np.array([[1.5, 0.2, -0.4, -1.3], [0.3, 1.0, -1.2, -0.1]])
    exists = np.array([[1, 1, 1, 1], [1, 1, 0, 1]])
    log_policy, _ = respond_everywhere(
        problem, problem.incentive.transform(x), problem.default_parameters
    )
    total = 0.0
    for i in range(2):
        reference = np.array([0.4, 0.3, 0.2, 0.1]) * exists[i]
        reference /= reference.sum()
        policy = reference * np.exp(reward / KL)
        policy /= policy.sum()
        np.testing.assert_allclose(jnp.exp(log_policy)[2 * i, 0, 0], policy, rtol=1e-10, atol=0)
        shown = 0.75 * policy + 0.25 * reference
        for tau, tie, chance in ((0.6, 0.5, 0.7), (2.0, 1.7, 0.3)):
            for a in range(4):
                for b in range(4):
                    human = _odds(truth[i, a] / tau, truth[i, b] / tau, tie)
                    model = _odds(reward[a], reward[b], math.exp(log_tie))
                    fit = sum(p * math.log(m) for p, m in zip(human, model, strict=True))
                    total += 0.5 * chance * shown[a] * shown[b] * fit
    outcome = leader_outcome(problem, x, problem.default_parameters)
    assert float(outcome.objective) == pytest.approx(total, rel=1e-10)


def _odds(left, right, tie):
    """Davidson: worths e^left and e^right, a tie at nu times their geometric mean."""
    worth = [math.exp(left), math.exp(right), tie * math.sqrt(math.exp(left) * math.exp(right))]
    return [one / sum(worth) for one in worth]


@pytest.mark.parametrize("given", ["reference_policy", "available"])
def test_one_row_of_rewards_serves_every_prompt(given):
    """Two prompts told by one table alone are those of rewards that are written twice."""
    table = {"reference_policy": [[0.9, 0.1], [0.2, 0.8]], "available": [[True, True]] * 2}[given]
    short = rlhf(human_reward=(1.0, 0.0), **{given: table})
    full = rlhf(human_reward=[[1.0, 0.0]] * 2, **{given: table})
    np.testing.assert_array_equal(short.default_parameters["human_reward"], [[1.0, 0.0]] * 2)
    x = {"reward": jnp.array([0.4, -0.4])}
    short_worth, full_worth = (
        float(leader_outcome(one, x, one.default_parameters).objective) for one in (short, full)
    )
    assert short_worth == full_worth  # the same operations on the same numbers


def test_gradient_against_central_differences():
    """Exact hypergradient, ties and a missing answer included.

    Differences of 1e-5 in an objective of size 1 leave an error of about 1e-10 / 1e-5 * 1e-1.
    """
    problem = _small()
    x = problem.incentive.initial
    found = _gradient(problem, x)
    worth = jax.jit(lambda y: leader_outcome(problem, y, problem.default_parameters).objective)
    h = 1e-5
    for name, size in (("reward", 4), ("log_tie", 1)):
        for index in range(size):
            step = h * np.eye(size)[index].reshape(np.shape(x[name]))
            up, down = (worth({**x, name: x[name] + sign * step}) for sign in (1, -1))
            central = (float(up) - float(down)) / (2 * h)
            assert np.ravel(found[name])[index] == pytest.approx(central, abs=1e-9)
    assert np.abs(np.asarray(found["reward"])).max() > 1e-3  # so the above is not 0 = 0


def test_logged_comparisons_give_the_humans_rewards():
    """At logged share 1 and one annotator the optimum is r / tau and the annotator's ties.

    Adam ends within 1e-4 of it: the last steps are of 1e-3 of the learning rate .1.
    """
    problem = rlhf(
        human_reward=(1.0, 0.5, -1.5),
        annotator_temperature=(2.0,),
        annotator_tie_strength=(0.6,),
        logged_share=1.0,
    )
    found = AscentProgram(problem, Exact(), Ascent(num_steps=600)).run(
        problem.default_parameters, key=jax.random.key(0)
    )
    x = problem.incentive.transform(found.unconstrained)
    np.testing.assert_allclose(x["reward"], [0.5, 0.25, -0.75], atol=1e-4)
    assert float(x["log_tie"]) == pytest.approx(math.log(0.6), abs=1e-4)


def test_own_comparisons_mislead():
    """At logged share 0 the truth is not the optimum: the gradient there is that of steering.

    For two answers it pulls the rewards together, so that the policy mixes and fewer
    comparisons are coin tosses of an answer with itself.
    """
    problem = rlhf(human_reward=(0.6, -0.6), kl_temperature=KL)
    slope = float(_gradient(problem, {"reward": jnp.array([0.6, -0.6])})["reward"][0])
    _, _, by_hand = _by_hand(1.2, 0.0, 1.2 * TAU)
    assert slope == pytest.approx(by_hand, rel=1e-9)
    assert slope < -0.03  # the formula gives -.039


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"human_reward": (1.0,)}, "two answers"),
        ({"human_reward": (1.0, math.nan)}, "must be finite"),
        ({"available": [[True, False, False]]}, "two answers .* prompts \\[0\\]"),
        ({"available": [[True, True]]}, "do not fit one another"),
        ({"human_reward": np.zeros((3, 2)), "available": np.ones((2, 2))}, "do not fit"),
        ({"reference_policy": np.ones((2, 2, 3))}, "do not fit one another"),
        ({"human_reward": 1.0}, "two answers"),
        ({"reference_policy": (0.0, 0.0, 1.0)}, "two answers"),
        ({"reference_policy": (-0.1, 0.6, 0.5)}, ">= 0"),
        ({"annotator_temperature": (0.0,)}, "annotator_temperature cannot be used"),
        ({"annotator_temperature": ()}, "annotator_temperature cannot be used"),
        ({"annotator_tie_strength": (-1.0,)}, "annotator_tie_strength cannot be used"),
        ({"annotator_tie_strength": (1.0, 1.0)}, "tie_strength needs one value for each annotator"),
        ({"annotator_probability": (0.5, 0.5)}, "one probability each"),
        ({"annotator_probability": (0.5,)}, "not a distribution"),
        ({"prompt_names": ("a", "b")}, "2 names"),
        ({"kl_temperature": 0.0}, "kl_temperature is not positive"),
        ({"logged_share": 1.5}, "logged_share is out of range"),
        ({"initial_reward": (1.0,)}, "initial_reward does not fit"),
        ({"answer_names": ("a",)}, "answer_names do not fit"),
    ],
)
def test_impossible_settings_are_refused(arguments, words):
    with pytest.raises(InvalidInputError, match=words):
        rlhf(**arguments)


ROWS = np.array([[0, 0, 1, 0], [0, 1, 2, 1], [1, 2, 0, 0], [1, 0, 1, 1]])
COUNTS = np.array([[2.0, 1.0, 1.0], [0.0, 3.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])


@pytest.mark.parametrize("ties", [True, False])
def test_likelihood_against_a_loop(ties):
    """Davidson's and Bradley and Terry's formulas; rtol 1e-12: a handful of operations."""
    counts = COUNTS if ties else ties_as_half_wins(COUNTS)
    model = PreferenceModel(ROWS, counts, 2, 3, 2)
    reward = np.array([[0.3, -0.5, 0.2], [1.0, 0.4, -1.4]])
    logs, nu, pull = np.array([0.4, -0.4]), np.array([0.7, 1.9]), 0.15
    parameters = {
        "human_reward": reward,
        "annotator_log_temperature": logs,
        "left_pull": pull,
        "annotator_log_tie": np.log(nu),
    }
    table = model.log_probability({k: jnp.asarray(v) for k, v in parameters.items()}, ROWS)
    for row, found in zip(ROWS, np.exp(np.asarray(table)), strict=True):
        i, a, b, n = row
        left, right = (reward[i, k] / math.exp(logs[n]) for k in (a, b))
        expected = _odds(left + pull / 2, right - pull / 2, nu[n] if ties else 0.0)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0)
    assert ties == model.has_ties


@pytest.mark.parametrize("simple", [True, False])
def test_model_keeps_its_conventions_and_its_likelihood(simple):
    """One draw from the prior: what is fixed is fixed, and the density is that of the counts."""
    model = PreferenceModel(
        ROWS, COUNTS, 2, 3, 2, one_temperature=simple, one_tie_strength=simple, one_reward=simple
    )
    trace = handlers.trace(handlers.seed(model, jax.random.key(4))).get_trace()
    found = {name: site["value"] for name, site in trace.items() if site["value"] is not None}
    logs, ties = found["annotator_log_temperature"], found["annotator_log_tie"]
    # Means of a few numbers of size one, up to rounding.
    np.testing.assert_allclose(found["human_reward"].mean(1), 0.0, atol=1e-12)
    assert float(logs.mean()) == pytest.approx(0.0, abs=1e-12)
    assert simple == (float(jnp.ptp(logs)) == 0.0) == (float(jnp.ptp(ties)) == 0.0)
    assert simple == bool((found["human_reward"][0] == found["human_reward"][1]).all())
    total = 0.0
    for (i, a, b, n), count in zip(ROWS, COUNTS, strict=True):
        left, right = (float(found["human_reward"][i, k]) / math.exp(logs[n]) for k in (a, b))
        pull = float(found["left_pull"])
        chance = _odds(left + pull / 2, right - pull / 2, math.exp(ties[n]))
        total += sum(c * math.log(p) for c, p in zip(count, chance, strict=True))
    factor = trace["comparisons"]["fn"].log_prob(trace["comparisons"]["value"])
    assert float(factor) == pytest.approx(total, rel=1e-10)


def test_counting_keeps_every_judgement():
    rng = np.random.default_rng(0)
    rows, outcome = ROWS[rng.integers(4, size=200)], rng.integers(3, size=200)
    distinct, counts = count_comparisons(rows, outcome)
    for row, count in zip(distinct, counts, strict=True):
        mine = (rows == row).all(1)
        assert count.tolist() == [float((outcome[mine] == o).sum()) for o in range(3)]
    assert counts.sum() == 200 == ties_as_half_wins(counts).sum()
    assert ties_as_half_wins(counts)[:, 2].sum() == 0


@pytest.mark.parametrize(
    ("rows", "counts", "words"),
    [
        (ROWS[:, :3], COUNTS, "wrong shape"),
        (ROWS, COUNTS[:2], "wrong shape"),
        (ROWS + np.array([0, 0, 0, 5]), COUNTS, "out of range"),
        (ROWS - np.array([1, 0, 0, 0]), COUNTS, "out of range"),
        (ROWS[:, [0, 1, 1, 3]], COUNTS, "compared with itself"),
        (ROWS, -COUNTS, "counts are out of range"),
    ],
)
def test_impossible_comparisons_are_refused(rows, counts, words):
    with pytest.raises(InvalidInputError, match=words):
        PreferenceModel(rows, counts, 2, 3, 2)


def _simulated(num, rng):
    """Six answers, two prompts, 12 annotators with temperatures of geometric mean one."""
    base = np.array([1.5, 0.8, 0.2, -0.3, -0.9, -1.3])
    logs = np.linspace(-0.9, 0.9, 12)
    log_tie = rng.permutation(np.linspace(-1.5, 0.9, 12))
    rows = np.column_stack(
        [rng.integers(2, size=num), np.zeros((num, 2), int), rng.integers(12, size=num)]
    )
    rows[:, 1] = rng.integers(6, size=num)
    rows[:, 2] = (rows[:, 1] + rng.integers(1, 6, size=num)) % 6
    outcome = np.empty(num, int)
    for m, (_, a, b, n) in enumerate(rows):
        chance = _odds(*(base[[a, b]] / math.exp(logs[n]) + [0.1, -0.1]), math.exp(log_tie[n]))
        outcome[m] = rng.choice(3, p=chance)
    return base, logs, log_tie, rows, outcome


@pytest.mark.slow
def test_truth_is_recovered_from_simulated_comparisons():
    """Posterior means lie where the posterior says: within 4 of its standard deviations.

    32 coordinates; one beyond 4 has a probability of 2e-3 if the posterior is right. Means must
    also follow the truth (correlation .9), so that wide posteriors do not pass.
    """
    base, logs, log_tie, rows, outcome = _simulated(6000, np.random.default_rng(3))
    model = PreferenceModel(*count_comparisons(rows, outcome), 2, 6, 12)
    fit = fit_preferences(
        model, key=jax.random.key(0), settings=NUTSSettings(2, num_warmup=400, num_samples=400)
    )
    assert not fit.sample_stats["diverging"].any()
    truths = {
        "reward": base,
        "annotator_log_temperature": logs,
        "annotator_log_tie": log_tie,
        "left_pull": np.array([0.2]),
    }
    for name, truth in truths.items():
        draws = fit.posterior[name].reshape(800, -1)
        off = (draws.mean(0) - truth) / draws.std(0)
        assert np.abs(off).max() < 4.0, (name, off)
        assert len(truth) == 1 or np.corrcoef(draws.mean(0), truth)[0, 1] > 0.9
    # What is fixed by convention is fixed exactly, up to rounding.
    assert np.abs(fit.posterior["reward"].mean(-1)).max() < 1e-10
    assert np.abs(fit.posterior["annotator_log_temperature"].mean(-1)).max() < 1e-10


HEAD = "id,prompt,model_x,model_y,worker,winner,left,right\n"
GOOD = HEAD + "7,8,1,2,3,tie,One,Two\n7,8,1,2,9,right,One,Two\n9,5,3,1,3,left,Three,One\n"


def test_comparisons_are_read(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text(GOOD)
    data = load_comparisons(file)
    assert data["answer"].values.tolist() == ["One", "Three", "Two"]
    assert data["left"].values.tolist() == [0, 0, 1]
    assert data["right"].values.tolist() == [2, 2, 0]
    assert [OUTCOMES[o] for o in data["outcome"].values] == ["tie", "right", "left"]
    assert data["prompt"].values.tolist() == [1, 1, 0]
    assert data["prompt_id"].values.tolist() == [5, 8]
    assert data["annotator"].values.tolist() == [0, 1, 0]
    assert data["pair"].values.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            GOOD + "9,5,3,1,3,draw,Three,One\n",
            "line 5: winner 'draw' is not one of left, right, tie",
        ),
        (GOOD + "9,x,3,1,3,left,Three,One\n", "line 5: prompt 'x' is not a number"),
        (GOOD + "9,5,3,1,,left,Three,One\n", "worker '' is not a number"),
        (GOOD + "9,5,3,1,3,left,One,One\n", "'One' is compared with itself"),
        (GOOD + "9,5,3,1,3,left,,One\n", "an answer has no name"),
        (HEAD + "9,x,3,1,3,draw,Three,One\n" * 9, "and 13 more"),
        (GOOD.replace("worker", "who"), "lacks columns \\['worker'\\]"),
        (HEAD, "is empty"),
        (GOOD + "1,2,3,4,5,tie,One,Two,more\n", "not a table of comma-separated values"),
        ("", "not a table of comma-separated values"),
    ],
)
def test_damaged_comparisons_are_refused(content, words, tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text(content)
    with pytest.raises(DataError, match=words):
        load_comparisons(file)


def test_comparisons_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="does not exist"):
        load_comparisons(tmp_path / "absent.csv")
    monkeypatch.setenv("CBRL_DATA_DIR", str(tmp_path))
    (tmp_path / "llmfao_crowd_comparisons.csv").write_text(GOOD)
    with pytest.raises(DataError, match="checksum differs"):
        load_comparisons()


def test_published_comparisons():
    """Against counts made with cut, sort and uniq."""
    try:
        data = load_comparisons(download=False)
    except DataError:
        pytest.skip("the published comparisons are not at hand")
    assert data.sizes == {"judgement": 8931, "answer": 59, "prompt_id": 13, "annotator_id": 124}
    assert np.bincount(data["outcome"]).tolist() == [2911, 2549, 3471]
    assert np.unique(data["pair"]).size == 2139
    assert (data["left"] != data["right"]).all()


def test_clustered_error_is_that_of_cluster_means():
    """Equal clusters: the mean's standard error is that of independent cluster means."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(30, 7)) + generator.normal(size=(30, 1))
    cluster = np.repeat(generator.permutation(30), 7)  # names carry no order
    mean, error = clustered(values.ravel(), cluster)
    assert mean == pytest.approx(values.mean(), rel=1e-12)
    # Rounding of sums of 210 numbers.
    assert error == pytest.approx(values.mean(1).std(ddof=1) / math.sqrt(30), rel=1e-10)


def test_two_way_error_sees_both_kinds_of_dependence():
    """Rows and columns with effects of their own: variance by two-way analysis of variance."""
    generator = np.random.default_rng(1)
    rows, columns = 40, 25
    variances = []
    errors = []
    for _ in range(400):
        values = (
            generator.normal(size=(rows, 1))
            + generator.normal(size=(1, columns))
            + generator.normal(size=(rows, columns))
        )
        places = np.indices(values.shape).reshape(2, -1)
        mean, error = clustered(values.ravel(), *places)
        variances.append(mean**2)
        errors.append(error**2)
    truth = 1 / rows + 1 / columns + 1 / (rows * columns)
    # The mean of 400 errors: each has a relative spread of about sqrt(2 / 24) = .3.
    assert np.mean(errors) == pytest.approx(truth, rel=0.06)
    # Four standard errors of a mean of 400 squares of normals.
    assert np.mean(variances) == pytest.approx(truth, rel=4 * math.sqrt(2 / 400))


def test_two_way_error_is_never_below_a_one_way_error():
    """Residuals that cancel in rows and columns would give a variance of zero or less."""
    values = np.array([1.0, -1.0, -1.0, 1.0, 0.5, 0.5])
    rows, columns = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 0, 1])
    _, both = clustered(values, rows, columns)
    assert both == max(clustered(values, rows)[1], clustered(values, columns)[1])


def test_losses_by_hand():
    chance = np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]])
    found = losses(chance, np.array([0, 1, 2]), has_ties=True)
    np.testing.assert_allclose(found["all"], -np.log([0.5, 0.6, 0.5]), rtol=1e-14)
    np.testing.assert_allclose(found["decided"], -np.log([5 / 8, 6 / 7]), rtol=1e-14)
    assert "all" not in losses(chance, np.array([0, 1, 2]), has_ties=False)


def test_pair_rate_by_enumeration():
    """Policy's and reference's answers, each left or right; the same one twice scores 1/2."""
    for play in (0.0, 0.3, 1.0):
        for score in (0.0, 0.5, 1.0):
            total = 0.0
            for policy_left, chance in ((True, play), (False, 1 - play)):
                for reference_left in (True, False):
                    won = score if policy_left else 1 - score
                    total += chance / 2 * (0.5 if policy_left == reference_left else won)
            assert pair_rate(play, score) == pytest.approx(total, abs=1e-15)


def test_left_score_is_that_of_the_comparison():
    """P(left) + P(tie)/2 of Davidson's model; differences that overflow an exponential too."""
    difference = np.array([-2000.0, -3.0, -0.1, 0.0, 0.7, 2000.0])[:, None]
    log_tie = np.array([-1e6, -1.0, 2.0])
    chance = np.exp(comparison_log_probability(difference + 0 * log_tie, log_tie + 0 * difference))
    found = left_score(difference, log_tie)
    np.testing.assert_allclose(found, chance[..., 0] + chance[..., 2] / 2, rtol=0, atol=1e-14)


def test_simulated_scores_have_the_given_probabilities():
    """40,000 draws per row: standard errors below .0025, five of them here."""
    chance = np.array([[0.2, 0.5, 0.3], [0.7, 0.0, 0.3], [0.0, 0.0, 1.0]])
    drawn = simulated_scores(np.broadcast_to(chance, (40_000, 3, 3)), np.random.default_rng(0))
    shares = np.stack([(drawn == score).mean(0) for score in (1.0, 0.0, 0.5)], 1)
    np.testing.assert_allclose(shares, chance, atol=0.0125)
    assert (shares[chance == 0] == 0).all()


@pytest.mark.parametrize("outcome", [[-1, 0], [0, 3], [1]])
def test_impossible_outcomes_are_refused(outcome):
    rows = np.array([[0, 1, 2, 0], [0, 1, 2, 0]])
    with pytest.raises(InvalidInputError, match=r"outcomes do not fit.*2 \(tie\)"):
        count_comparisons(rows, np.array(outcome))
