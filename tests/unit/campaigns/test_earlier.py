"""Behaviour from before a campaign: what it teaches, who refuses it, and where steps led."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

import cbrl_bayes as cb
from cbrl_bayes.campaigns import Engine
from cbrl_bayes.campaigns.likelihood import AnswerLikelihood
from cbrl_bayes.campaigns.recorded import read_earlier
from cbrl_bayes.campaigns.rivals import Rivals
from cbrl_bayes.cli.campaign import campaign
from cbrl_bayes.errors import DataError, InvalidInputError, ResultsError
from cbrl_bayes.hypergradients.learned_law import count_transitions
from cbrl_bayes.inference import default_priors
from cbrl_bayes.inference.prior_law import PriorLaw
from cbrl_bayes.mdp import Trajectories

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
    taught.answers_before = read_earlier(problem, pilot, taught.watch)
    assert [float(answer.contexts.sum()) for answer in taught.answers_before] == [100.0, 100.0]
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


def test_real_campaigns_keep_the_data_that_came_before(problem, pilot, tmp_path):
    folder = tmp_path / "bonus"
    given = {"key": KEY, "settings": QUICK}
    begun = cb.open_campaign(folder, problem, **given, earlier=pilot)
    assert len(begun.engine.answers_before) == 2
    plan = begun.next_round()
    again = cb.open_campaign(folder, problem, **given)
    assert [a.choices.sum() for a in again.engine.answers_before] == [100.0, 100.0]
    assert again.next_round().predicted == plan.predicted
    cb.open_campaign(folder, problem, **given, earlier=pilot)
    with pytest.raises(ResultsError, match="different earlier"):
        cb.open_campaign(folder, problem, **given, earlier=pilot.isel(episode=slice(0, 150)))
    ((regime, incentive),) = plan.incentives.items()
    data = cb.simulate_trajectories(
        problem, key=KEY, num_episodes=100, num_steps=1, incentive=incentive, regime=regime
    )
    again.record_round(data)
    # Earlier data count once, before a round is recorded and after it was read from the disk.
    read = cb.open_campaign(folder, problem, **given)._state(1).belief
    assert sum(answer.contexts.sum() for answer in read.answers) == 300.0


def test_on_the_command_line(pilot, tmp_path):
    cb.save_trajectories(pilot, tmp_path / "pilot.nc")
    folder = tmp_path / "bonus"
    arguments = ["start", str(folder), "two_state", "--rounds", "2", "--known-dynamics"]
    run = CliRunner()
    for more in ([*arguments, "--data", str(tmp_path / "pilot.nc")], ["status", str(folder)]):
        found = run.invoke(campaign, more)
        assert found.exit_code == 0, found.output
        assert "episodes_before" in found.output or more[0] == "start"
        (tmp_path / "pilot.nc").unlink(missing_ok=True)  # the folder keeps it
    assert (folder / "earlier.zarr").is_dir()


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
    """Against the logarithm of each step's probability; successors at the end are listed twice."""
    buses = cb.problems.bus_replacement(num_bins=6, target_mileage=15_000)
    data = cb.simulate_trajectories(
        buses, key=KEY, num_episodes=20, num_steps=15, incentive={"subsidy": 0.2}
    )
    (answer,) = read_earlier(buses, data, Engine(buses, QUICK).watch)
    priors = {"increment_probability": default_priors(buses)["increment_probability"]}
    law = PriorLaw(priors, 1)
    points = np.asarray(law.draw(KEY, 3))
    whole = AnswerLikelihood(buses, law, with_contexts=False)
    assert whole.with_moves
    choices = AnswerLikelihood(buses, law, with_contexts=False, with_moves=False)
    found = whole(points, [answer])[0] - choices(points, [answer])[0]
    state, action = data["state"].values, data["action"].values
    at = state[:, :-1].ravel(), action[:, :-1].ravel(), state[:, 1:].ravel()
    assert (at[0] == 5).any()
    for point, total in zip(points, found, strict=True):
        drawn = law.parameters(point)
        one = buses.follower_parameters({**buses.default_parameters, **drawn}, 0)
        transition = buses.mdp_fn({"subsidy": 0.2}, np.zeros(()), one).transition
        by_hand = np.log(np.asarray(transition.step_probability(*at))).sum()
        assert float(total) == pytest.approx(by_hand, rel=1e-9)
    known = {"increment_probability": np.array([0.3, 0.6, 0.1])}
    assert not Engine(buses, QUICK, known).moves_tell


def test_recorded_slots_say_where_steps_led():
    """States of data may be rounded: the 33 moves after a replacement are what the slot says."""
    buses = cb.problems.bus_replacement()
    data = cb.simulate_trajectories(
        buses, key=KEY, num_episodes=10, num_steps=12, incentive={"subsidy": 0.2}
    )
    (plain,) = read_earlier(buses, data, Engine(buses, QUICK).watch)
    slot = np.full(data["state"].shape, -1)
    slot[:, :-1] = 2
    (told,) = read_earlier(
        buses, data.assign(successor_slot=(("episode", "step"), slot)), Engine(buses, QUICK).watch
    )
    assert told.moves[..., 2].sum() == plain.moves.sum() == 110.0


def test_evidence_is_compared_on_the_same_data():
    """A rival whose law is known counts moves where the model does."""
    buses = cb.problems.bus_replacement(num_bins=6, target_mileage=15_000)
    rival = replace(buses, uncertain=("RC", "theta11"))
    engine = Engine(buses, QUICK)
    found = Rivals(engine, {"law known": rival})._engine("law known", rival)
    assert engine.moves_tell
    assert found.moves_tell
    assert not Engine(rival, QUICK).moves_tell


def test_moves_that_defaults_rule_out_count():
    """What is impossible by default may be likely under another law."""

    def mdp_fn(incentive, context, parameters):
        breaks = parameters["breaks"]
        law = jnp.stack([jnp.stack([1.0 - breaks, breaks]), jnp.array([0.0, 1.0])])
        return cb.MDP(
            jnp.zeros((2, 1)), cb.DenseTransition(law[:, None]), jnp.array([1.0, 0.0]), 0.5, 1.0
        )

    problem = cb.Problem(
        name="machine",
        incentive=cb.IncentiveSpace({"fee": jnp.zeros(())}, lambda x: x, {"fee": cb.Labels()}),
        contexts=cb.DiscreteContexts(("all",), jnp.zeros(1), (1.0,)),
        mdp_fn=mdp_fn,
        parameters={"breaks": 0.0},
        leader_reward_fn=lambda incentive, context, parameters: jnp.zeros((2, 1)),
        leader_discount=0.5,
    )
    data = cb.make_trajectories([[0, 1, 1], [0, 0, 1]], [[0, 0, 0]] * 2, context=["all"] * 2)
    walked = Trajectories(*(jnp.asarray(data[n].values) for n in ("state", "action")), *[None] * 3)
    walked = replace(
        walked,
        next_state=jnp.array([[1, 1, 0], [0, 1, 0]]),
        log_probability=jnp.zeros((2, 3)),
        active=jnp.array([[True, True, False]] * 2),
    )
    mdp = problem.mdp_fn({"fee": 0.0}, 0.0, problem.default_parameters)
    plain = count_transitions(mdp, walked, incentive_moves=False)
    every = count_transitions(mdp, walked, incentive_moves=False, ruled_out=True)
    assert plain[0, 0].tolist() == [1.0, 0.0]
    assert every[0, 0].tolist() == [1.0, 2.0]


def test_with_unknown_dynamics_few_incentives_teach(problem, pilot):
    settings = replace(QUICK, dynamics=cb.DynamicsSettings(num_recent=1))
    with pytest.raises(InvalidInputError, match=r"more incentives than.*received: 2; accepted: 1"):
        cb.simulate_campaigns(problem, key=KEY, settings=settings, earlier=pilot)
    with pytest.raises(InvalidInputError, match="campaigns would share their truths"):
        cb.simulate_campaigns(
            problem,
            key=KEY,
            settings=replace(QUICK, dynamics=cb.DynamicsSettings()),
            earlier=pilot,
            truth="prior",
        )


def test_beliefs_of_dynamics_settle_on_earlier_data(problem):
    """Far from the prior's median: four scorings would stop on the way."""
    data = cb.simulate_trajectories(
        problem,
        key=KEY,
        num_episodes=2000,
        num_steps=1,
        incentive={"bonus": 0.9},
        parameters={"temperature": 0.03},
    )
    engine = Engine(problem, replace(QUICK, dynamics=cb.DynamicsSettings()))
    engine.answers_before = read_earlier(problem, data, engine.watch)
    belief = engine.begin(KEY).belief
    again = belief.updated((), KEY)
    np.testing.assert_allclose(np.median(again.modes), np.median(belief.modes), atol=0.02)
