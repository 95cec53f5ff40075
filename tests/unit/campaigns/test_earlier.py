"""Behaviour from before a campaign: what it teaches, who refuses it, and where steps led."""

import jax
import numpy as np
import pytest

import cbrl_bayes as cb
from cbrl_bayes.campaigns import Engine
from cbrl_bayes.campaigns.likelihood import AnswerLikelihood
from cbrl_bayes.campaigns.recorded import read_earlier
from cbrl_bayes.errors import DataError, InvalidInputError, ResultsError
from cbrl_bayes.inference import default_priors
from cbrl_bayes.inference.prior_law import PriorLaw

KEY = jax.random.key(5)
QUICK = cb.CampaignSettings(
    planning=cb.PlanningSettings(
        search=cb.Search(ascent=cb.Ascent(num_steps=20, learning_rate=0.3)), num_draws=60
    ),
    num_rounds=2,
    num_replicates=0,
)


@pytest.fixture(scope="module")
def problem():
    return cb.problems.two_state()


@pytest.fixture(scope="module")
def pilot(problem):
    """Two regimes of a hundred episodes, by followers of temperature .3."""
    parts = [
        cb.simulate_trajectories(
            problem,
            key=jax.random.key(number),
            num_episodes=100,
            num_steps=1,
            incentive={"bonus": bonus},
            parameters={"temperature": 0.3},
            regime=f"month {number}",
        )
        for number, bonus in enumerate((0.4, 1.2))
    ]
    return cb.concatenate(parts)


def spread(engine):
    draws = engine.begin(KEY).belief.draws(KEY, 400)["temperature"]
    return float(np.quantile(draws, 0.95) / np.quantile(draws, 0.05))


def test_a_campaign_begins_with_what_earlier_data_teach(problem, pilot):
    blank, taught = Engine(problem, QUICK), Engine(problem, QUICK)
    taught.earlier = read_earlier(problem, pilot, taught.watch)
    assert [float(answer.contexts.sum()) for answer in taught.earlier] == [100.0, 100.0]
    assert spread(taught) < 0.3 * spread(blank)
    fit = cb.infer(
        problem, pilot, key=KEY, settings=cb.NUTSSettings(num_warmup=200, num_samples=400)
    )
    drawn = taught.begin(KEY).belief.draws(KEY, 400)
    wanted = fit["posterior"]["temperature"].values.ravel()
    assert float(np.median(drawn["temperature"])) == pytest.approx(np.median(wanted), rel=0.05)
    assert float(drawn["temperature"].std()) == pytest.approx(wanted.std(), rel=0.3)


def test_simulated_campaigns_take_their_truths_from_what_is_believed(problem, pilot):
    given = {"key": KEY, "settings": QUICK, "num_campaigns": 4, "truth": "prior"}
    given |= {"clairvoyant": cb.Search(ascent=cb.Ascent(num_steps=40)), "progress": False}
    blank = cb.simulate_campaigns(problem, **given)
    taught = cb.simulate_campaigns(problem, **given, earlier=pilot)
    first = [found["predicted"].isel(round=0, arm=0) for found in (blank, taught)]
    wide = [float((one.sel(band="high") - one.sel(band="low")).mean()) for one in first]
    assert wide[1] < 0.5 * wide[0]
    assert float(taught["optimum"].std()) < 0.5 * float(blank["optimum"].std())


def test_real_campaigns_remember_which_data_came_before(problem, pilot, tmp_path):
    folder = tmp_path / "bonus"
    given = {"key": KEY, "settings": QUICK}
    plan = cb.open_campaign(folder, problem, **given, earlier=pilot).next_round()
    again = cb.open_campaign(folder, problem, **given, earlier=pilot).next_round()
    assert plan.predicted == again.predicted
    for other in ({}, {"earlier": pilot.isel(episode=slice(0, 150))}):
        with pytest.raises(ResultsError, match="different earlier"):
            cb.open_campaign(folder, problem, **given, **other)


def test_earlier_data_that_cannot_be_used_are_refused(problem, pilot):
    bare = pilot.drop_vars(["incentive_bonus", "regime_name"])
    with pytest.raises(DataError, match="are named and their incentives are not stated"):
        cb.simulate_campaigns(problem, key=KEY, settings=QUICK, earlier=bare)
    with pytest.raises(InvalidInputError, match=r"earlier has the wrong type; received"):
        cb.simulate_campaigns(problem, key=KEY, settings=QUICK, earlier="pilot.csv")


def test_choices_that_do_not_count_are_left_out(problem, pilot):
    seen = np.ones(pilot["state"].shape, bool)
    seen[:30] = False
    some = pilot.assign(choice_observed=(("episode", "step"), seen))
    first, second = read_earlier(problem, some, Engine(problem, QUICK).watch)
    assert (first.choices.sum(), second.choices.sum()) == (70.0, 100.0)
    assert (first.choices >= 0.0).all()


def test_moves_tell_of_parameters_that_enter_the_law():
    """Against logarithms of the stated law, term by term; nothing where no parameter enters it."""
    buses = cb.problems.bus_replacement(num_bins=20, target_mileage=50_000)
    data = cb.simulate_trajectories(
        buses, key=KEY, num_episodes=20, num_steps=15, incentive={"subsidy": 0.2}
    )
    (answer,) = read_earlier(buses, data, Engine(buses, QUICK).watch)
    names = ("increment_probability",)
    law = PriorLaw({n: default_priors(buses)[n] for n in names}, 1)
    points = np.asarray(law.draw(KEY, 3))
    whole = AnswerLikelihood(buses, law, with_contexts=False, names=names)
    choices = AnswerLikelihood(buses, law, with_contexts=False, names=())
    found = whole(points, [answer])[0] - choices(points, [answer])[0]
    for point, total in zip(points, found, strict=True):
        drawn = law.parameters(point)
        one = buses.follower_parameters({**buses.default_parameters, **drawn}, 0)
        transition = buses.mdp_fn({"subsidy": 0.2}, np.zeros(()), one).transition
        seen = answer.moves[0, 0] > 0
        chance = np.asarray(transition.probability)[seen]
        by_hand = (answer.moves[0, 0][seen] * np.log(chance)).sum()
        if np.isfinite(by_hand):  # successors that are listed twice add up: not in these rows
            assert float(total) == pytest.approx(by_hand, rel=1e-9)
