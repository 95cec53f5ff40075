"""Bounds that are no estimates, misfit, and how much of a prior is left."""

import jax
import numpy as np
import numpyro.distributions as dist
import pytest

import cbrl_bayes as cb
from cbrl_bayes.inference import contraction, predictive
from cbrl_bayes.inference.one_sided import one_sided, open_side
from cbrl_bayes.inference.predictive import count_tails, distance_tail, predictive_check
from cbrl_bayes.inference.replay import Replay
from cbrl_bayes.results import assess
from cbrl_bayes.workflow import behaviour_model


def _watched(temperature, num=40, bonus=0.8, key=0, prior=0.1, groups=()):
    problem = cb.problems.two_state(temperature=prior)
    if groups:
        problem = problem.with_followers(groups, (1.0 / len(groups),) * len(groups))
    data = cb.simulate_trajectories(
        problem,
        key=jax.random.key(key),
        num_episodes=num,
        num_steps=1,
        parameters={"temperature": temperature},
        incentive={"bonus": bonus},
    )
    return problem, data


def _sides(problem, data, priors=None):
    """What the data bound, around draws from the prior moved to where the data are."""
    model = behaviour_model(problem, data, priors=priors)
    replay = Replay(model, 100)
    draws, _ = replay.prior_draws(jax.random.key(1), 100)
    derived = replay.examine(draws, np.zeros(0, int))[0]["derived"]

    def examine(points):
        parts, _ = replay.examine(points, np.zeros(0, int))
        return parts["log_likelihood"], parts["stats"]["solve_status"] == 0

    found = one_sided(model, draws | derived, draws | derived, examine)
    return {one["parameter"]: (one["side"], one["bound"]) for one in found}


def test_bounds_are_told_from_estimates():
    """Random followers say 'above', nearly deterministic ones 'below', others neither word."""
    random = _sides(*_watched(10.0))
    assert random["temperature"][0] == "above"
    # 20 choices in each context: the bound is where their chances leave one half by about two
    # standard errors, |.8 - cost| / temperature = 4 * .11 * 2 or so.
    assert 0.3 < random["temperature"][1] < 3.0
    strict = _sides(*_watched(1e-5))
    side, bound = strict["temperature"]
    assert side == "below"
    # Of n choices none goes against the reward .3 with chance exp(-1.35) where n log(1 + e^(-.3 /
    # bound)) is about 1.35; the other context, with a loss of .7, adds little.
    n = int((_watched(1e-5)[1]["context"] == "cost 0.5").sum())
    assert n * np.log1p(np.exp(-0.3 / bound)) == pytest.approx(1.35, abs=0.1)
    assert _sides(*_watched(0.25, num=200)) == {}


def test_recorded_transitions_speak_too():
    """Choices alone are flat, and leave both sides open; transitions bound both."""
    problem, data = _watched(0.25, num=3)
    model = behaviour_model(problem, data)
    draws = {"temperature": np.array([0.25, 0.26]), "context_probability": np.full((2, 2), 0.5)}

    def examine(points):
        num = len(points["temperature"])
        transitions = -100.0 * np.log(points["temperature"] / 0.25) ** 2
        choices = np.tile(0.01 * np.cos(np.log(points["temperature"]))[:, None], (1, 3))
        return np.column_stack([choices, *[transitions] * recorded]), np.full(num, True)

    recorded = False
    assert one_sided(model, draws, draws, examine)[0]["side"] == "neither"
    recorded = True
    assert one_sided(model, draws, draws, examine) == []


def test_groups_are_looked_at_one_by_one():
    """Of three groups one acts at random; the hierarchy's other parameters are left alone."""
    problem, data = _watched(
        np.array([0.25, 10.0, 0.25]), num=360, prior=0.25, groups=("calm", "wild", "mild")
    )
    for prior in (
        cb.PerGroup(dist.LogNormal(-1.4, 1.0)),
        cb.Hierarchical(dist.LogNormal(-1.4, 1.0)),
    ):
        found = _sides(problem, data, {"temperature": prior})
        assert list(found) == ["temperature[wild]"]
        assert found["temperature[wild]"][0] == "above"


def test_sides_of_a_curve():
    steps = np.linspace(-9.0, 9.0, 37)
    rising = -np.log1p(np.exp(-3.0 * (steps - 1.0)))
    side, bound = open_side(steps, rising, 1.0)
    # log(1 + e^(-3 x)) = 1.353 at x = log(e^1.353 - 1) / -3 beyond 1; the grid's steps are .5.
    assert (side, bound) == ("above", pytest.approx(1.0 - np.log(np.expm1(1.353)) / 3.0, abs=0.03))
    assert open_side(steps, rising[::-1], 1.0)[0] == "below"
    assert open_side(steps, 0.01 * np.cos(steps), 1.0)[0] == "neither"
    assert open_side(steps, -(steps**2), 1.0)[0] == ""
    # What was not reached says nothing: the side is unknown from 2 on.
    unknown = np.where(steps < 2.0, rising, np.nan)
    assert open_side(steps, unknown, 4.0)[0] == ""
    assert open_side(steps, unknown, 1.0)[0] == "above"


def test_contraction_of_shares_does_not_depend_on_where_they_lie():
    rng = np.random.default_rng(0)
    before = {"law": rng.dirichlet([1.0, 1.0], (4, 1000)), "chance": rng.beta(1, 1, (4, 1000))}
    for seen in ((0, 30), (15, 15), (29, 1)):
        after = {
            "law": rng.dirichlet(1.0 + np.array(seen), (4, 1000)),
            "chance": rng.beta(1 + seen[0], 1 + seen[1], (4, 1000)),
        }
        found = contraction(before, after, shares=["chance"])
        # 1 - 3 / 33 = .91; variances of 4,000 draws are known to some 3 %.
        assert found == pytest.approx({"law": 30 / 33, "chance": 30 / 33}, abs=0.02)
    # Not a share but a positive number: on the log scale.
    wide = {"temperature": np.exp(rng.normal(size=(4, 1000)))}
    narrow = {"temperature": np.exp(0.5 * rng.normal(size=(4, 1000)))}
    assert contraction(wide, narrow)["temperature"] == pytest.approx(0.75, abs=0.05)
    known = {"temperature": np.full((4, 10), 0.3), "law": np.full((4, 10, 2), 0.5)}
    assert contraction(known, known) == {"temperature": 1.0, "law": 1.0}


def test_tails_of_counts_are_those_of_their_law():
    rng = np.random.default_rng(1)
    # A known chance: binomial, .46^30 twice.
    plain = rng.multinomial(30, [0.46, 0.54], (2000, 1))
    found = count_tails(np.array([[30, 0]]), plain)[0, 0]
    assert np.log(found) == pytest.approx(np.log(2 * 0.46**30), abs=0.7)  # 30 * .01 / .46
    # An uncertain chance: uniform, so that every count is as likely.
    loose = rng.binomial(30, rng.random(2000))
    loose = np.stack([loose, 30 - loose], -1)[:, None]
    # A beta-binomial with the moments of a uniform one is uniform: twice 1 / 31.
    assert count_tails(np.array([[30, 0]]), loose)[0, 0] == pytest.approx(2 / 31, rel=0.25)
    assert np.isnan(count_tails(np.array([[0, 0]]), 0 * plain)).all()


def test_false_alarms_are_as_rare_as_stated():
    """Data from the model itself, without a fit between: the worst case for the alarm's rate.

    300 data sets at a level of .05 for single counts and .05 for their distance: 15 alarms of each
    kind are expected at most, and more than 33 have a chance below 1e-5.
    """
    rng = np.random.default_rng(2)
    chances = rng.dirichlet([0.5, 0.5, 0.5], 12)
    total = rng.integers(1, 60, 12)
    predicted = np.stack([rng.multinomial(total, chances) for _ in range(500)])
    single = together = 0
    for _ in range(300):
        observed = rng.multinomial(total, chances)
        single += np.nanmin(count_tails(observed, predicted)) * 24 < 0.05
        together += distance_tail(observed, predicted) < 0.05
    assert single <= 33
    assert together <= 33


def _all_decline():
    """30 of 30 decline a job that pays: no temperature makes that likely."""
    problem = cb.problems.two_state(costs=(0.5,), context_probability=(1.0,))
    data = cb.simulate_trajectories(
        problem, key=jax.random.key(0), num_episodes=30, num_steps=1, incentive={"bonus": 0.8}
    )
    data["action"][:] = 0
    return problem, data


def test_misfit_is_told_in_words():
    problem, data = _all_decline()
    counts = behaviour_model(problem, data).counts
    rng = np.random.default_rng(3)
    predicted = rng.multinomial(30, [0.46, 0.54], (500, 1))
    found = predictive_check(problem, counts, predicted)
    assert found["tail"] < 1e-8
    assert "in state offered, 30 of 30 choices were 'decline'" in found["reviews"][0]
    assert "where it expects 13" in found["reviews"][0] or "14" in found["reviews"][0]
    fine = predictive_check(problem, counts, rng.multinomial(30, [0.97, 0.03], (500, 1)))
    assert fine["reviews"] == []
    few = predictive.FEWEST_DRAWS - 1
    assert predictive_check(problem, counts, predicted[:few]) == {}


@pytest.fixture(scope="module")
def contrary():
    """A fit to followers who all decline."""
    problem, data = _all_decline()
    settings = cb.NUTSSettings(num_chains=2, num_warmup=100, num_samples=100)
    return cb.infer(problem, data, key=jax.random.key(1), settings=settings)


def test_the_verdict_tells_bounds_and_misfit(contrary, tmp_path):
    for tree in (contrary, cb.load(cb.save(contrary, tmp_path / "fit.nc"))):
        text = str(assess(tree))
        assert "the data say only that temperature is above about" in text
        assert "the rest of its posterior is the prior" in text
        assert "does not describe what was seen" in text
        assert "choices were 'decline'" in text
        assert assess(tree).verdict in ("REVIEW", "FAIL")
