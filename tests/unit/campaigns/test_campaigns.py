"""Whole campaigns, policies, constraints, stopping and the surprise check."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import kstest
from typer.testing import CliRunner

import cbrl_bayes as cb
from cbrl_bayes.campaigns.answers import Answer, Watch, collect
from cbrl_bayes.campaigns.engine import Engine
from cbrl_bayes.campaigns.rules import Ground
from cbrl_bayes.campaigns.simulation import fired
from cbrl_bayes.campaigns.surprise import Evidence, bets_of, p_values
from cbrl_bayes.campaigns.watching import World
from cbrl_bayes.cli.app import app
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.information import FutureData
from cbrl_bayes.problems import SampledContexts, leader_outcome

KEY = jax.random.key(0)
ASCENT = cb.Ascent(num_steps=40, learning_rate=0.3, num_extensions=0)
PLANNING = cb.PlanningSettings(search=cb.Search(ascent=ASCENT), num_draws=40, num_common=8)
FEW = {"planning": PLANNING, "num_replicates": 19, "episodes_per_round": 40}


@pytest.fixture(scope="module")
def problem():
    return cb.problems.two_state()


@pytest.fixture(scope="module")
def engine(problem):
    return Engine(problem, cb.CampaignSettings(num_rounds=6, **FEW))


@pytest.fixture(scope="module")
def campaigns(problem):
    return cb.simulate_campaigns(
        problem, key=KEY, num_campaigns=3, settings=cb.CampaignSettings(num_rounds=6, **FEW),
        clairvoyant=cb.Search(ascent=cb.Ascent(num_steps=100), num_starts=3), num_workers=1,
    )  # fmt: skip


def test_a_campaign_comes_near_the_optimum(problem, campaigns):
    bonus = np.linspace(0.0, 2.0, 20_001)
    chance = 1.0 / (1.0 + np.exp(-(bonus[:, None] - np.array([0.5, 1.5])) / 0.25))
    best = float(((2.0 - bonus) * chance.mean(1)).max())  # the closed form of two_state
    np.testing.assert_allclose(campaigns["optimum"], best, atol=1e-4)
    assert campaigns["true_objective"].shape == (3, 6, 1)
    # 240 episodes: the last designs are worth within 2 % of it.
    assert (campaigns["true_objective"].isel(round=-1) > 0.98 * best).all()
    regret = campaigns["cumulative_regret"]
    np.testing.assert_allclose(regret.isel(round=0), campaigns["regret"].isel(round=0))
    assert (regret.diff("round") >= -1e-9).all()
    assert campaigns["follower_steps"].values.tolist() == [[80.0] * 6] * 3
    assert set(campaigns["stopped_because"].values) == {"all rounds were done"}
    # What is believed narrows.
    width = campaigns["learned"].sel(band="high") - campaigns["learned"].sel(band="low")
    assert (width.isel(round=-1) < width.isel(round=0)).all()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_campaign(problem, campaigns):
    again = cb.simulate_campaigns(
        problem, key=KEY, num_campaigns=3, settings=cb.CampaignSettings(num_rounds=6, **FEW),
        clairvoyant=cb.Search(ascent=cb.Ascent(num_steps=100), num_starts=3), num_workers=1,
    )  # fmt: skip
    assert again.drop_vars("seconds").equals(campaigns.drop_vars("seconds"))


def test_tables_of_one_and_of_several(campaigns):
    many = cb.campaign_table(campaigns)
    assert many.frame["campaigns"].tolist() == [3] * 6
    assert (many.frame["low"] <= many.frame["cumulative_regret"]).all()
    one = cb.campaign_table(campaigns.isel(campaign=[1]))
    np.testing.assert_allclose(
        one.frame["cumulative_regret"], campaigns["cumulative_regret"].isel(campaign=1)
    )
    assert one.frame.attrs["units"]["predicted"] == "money"
    with pytest.raises(InvalidInputError, match="these are no campaigns"):
        cb.campaign_table(campaigns[["optimum"]])


def test_a_campaign_is_drawn(campaigns):
    figure = cb.plots.plot_campaign(campaigns, number=1)
    assert [panel.get_title() for panel in figure.axes] == [
        "Incentives deployed",
        "Objective of an episode, against today's",
        "What is believed after each round",
        "Evidence against the model",
    ]
    with pytest.raises(InvalidInputError, match="this is no campaign"):
        cb.plots.plot_campaign(campaigns[["optimum"]])


@pytest.mark.parametrize(
    "policy",
    [
        cb.Greedy(),
        cb.Thompson(num_arms=2),
        cb.UpperConfidence(num_candidates=2),
        cb.KnowledgeGradient(num_candidates=2),
        cb.EpsilonGreedy(epsilon=1.0),
        cb.FixedArms(({"bonus": 0.5}, {"bonus": 1.0})),
    ],
    ids=lambda policy: type(policy).__name__,
)
def test_every_policy_proposes_its_arms(engine, policy):
    settings = cb.CampaignSettings(policy=policy, num_rounds=6, **FEW)
    own = Engine(engine.problem, settings)
    own.desk, own.programs = engine.desk, engine.programs  # compiled
    plan = own.plan(own.begin(KEY), KEY)
    assert plan.points.shape == (policy.num_arms, 1)
    assert np.isfinite(plan.points).all()
    assert plan.outcomes.objective.shape == (policy.num_arms + 1, 40)
    assert plan.regret >= 0.0
    if isinstance(policy, cb.FixedArms):
        np.testing.assert_allclose(plan.points[:, 0], [0.5, 1.0], atol=1e-6)


def test_greedy_is_the_best_on_average_by_enumeration(engine):
    few = {name: value[:8] for name, value in engine.begin(KEY).belief.draws(KEY, 40).items()}
    bonus = np.linspace(-0.5, 2.5, 3001)
    away = (bonus[:, None, None] - np.array([0.5, 1.5])) / few["temperature"][:, None]
    worth = (2.0 - bonus)[:, None] * (few["context_probability"] / (1.0 + np.exp(-away))).sum(-1)
    best = worth.mean(1).max()  # the closed form of two_state
    found = engine.desk.common(few, [np.zeros(1)], KEY)
    reached = engine.desk.outcomes(found[None], few).objective.mean()
    assert reached == pytest.approx(best, abs=1e-4)


def test_the_last_round_deploys_what_is_best_on_average(engine):
    state = engine.begin(KEY)._replace(number=5)
    greedy = Engine(engine.problem, cb.CampaignSettings(policy=cb.Greedy(), num_rounds=6, **FEW))
    greedy.desk, greedy.programs = engine.desk, engine.programs  # compiled
    points = [one.plan(state, KEY).points for one in (engine, greedy)]
    np.testing.assert_array_equal(*points)


def test_scores_are_those_of_the_exact_objective(engine):
    draws = engine.begin(KEY).belief.draws(KEY, 40)
    points = np.array([[0.3], [1.1], [1.7]])
    found = engine.desk.outcomes(points, draws)
    one = {name: value[7] for name, value in draws.items()}
    exact = leader_outcome(engine.problem, {"bonus": points[1, 0]}, one)
    assert found.objective[1, 7] == pytest.approx(float(exact.objective))
    assert found.cost[1, 7] == pytest.approx(float(exact.incentive_cost))
    assert found.value[1, 7] == pytest.approx(float(exact.follower_value[0]))


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("largest_move", 0.1),
        ("budget", 3.0),
        ("least_follower_value", 0.3),
        ("worse_than_today", 0.2),
    ],
)
def test_constraints_are_kept_and_named(engine, name, limit):
    draws = engine.begin(KEY).belief.draws(KEY, 40)
    last, far = np.array([0.8]), np.array([2.6])
    if name == "least_follower_value":
        far = np.array([-3.0])
    ground = Ground(draws, last, np.array([0.8]), 1.0, 10.0)
    kept, broken = cb.CampaignConstraints(**{name: limit}).drawn_back(engine.desk, far, ground)
    assert broken == (name,)
    assert abs(kept[0] - last[0]) < abs(far[0] - last[0])
    found = engine.desk.outcomes(np.stack([kept, ground.today]), draws)
    held = {
        "largest_move": abs(kept[0] - last[0]) <= 0.1 + 1e-9,
        "budget": 1.0 + 10.0 * found.cost[0].mean() <= 3.0,
        "least_follower_value": found.value[0].mean() >= 0.3,
        "worse_than_today": (found.objective[0] < found.objective[1] - 1e-9).mean() <= 0.2,
    }
    # Where even the last design breaks it, the last design stays.
    assert held[name] or np.array_equal(kept, last)
    near, none = cb.CampaignConstraints(**{name: limit}).drawn_back(
        engine.desk, last, ground._replace(spent=-100.0)
    )
    assert np.array_equal(near, last)
    assert name not in none or name == "least_follower_value"


def test_the_value_of_one_more_round_against_enumeration():
    """Two designs, worth theta and 1/2; one Bernoulli(theta) observation; theta uniform."""
    theta = (np.arange(400) + 0.5) / 400
    rng = np.random.default_rng(0)
    seen = rng.uniform(size=400) < theta
    counts = np.stack([seen, ~seen], axis=1).astype(float)
    future = FutureData(counts, np.log(np.stack([theta, 1.0 - theta], axis=1)))
    worth = np.stack([theta, np.full(400, 0.5)], axis=1)
    rule = cb.StopRule(cost_per_round=1.0, population=100.0)
    found = rule.net_value(worth, 0, 10.0, future)
    # Posterior mean 2/3 or 1/3, each with probability 1/2: EVSI = 1/2 (2/3 - 1/2) = 1/12.
    assert found.information == pytest.approx(1.0 / 12.0, abs=3.0 * found.information_error)
    assert found.given_up == pytest.approx(10.0 * (worth.mean(0).max() - theta.mean()), abs=1e-9)
    assert found.net == pytest.approx(100.0 * found.information - 1.0 - found.given_up)
    known = rule.net_value(worth, 0, 10.0, None)
    # Perfect information: E max(theta, 1/2) - 1/2 = 1/8.
    assert known.information == pytest.approx(0.125, abs=2e-3)


def test_a_plan_stops_when_a_round_costs_more_than_it_is_worth(engine):
    state = engine.begin(KEY)._replace(number=1)

    def planned(cost):
        rule = cb.StopRule(cost_per_round=cost, population=100.0)
        own = Engine(engine.problem, cb.CampaignSettings(num_rounds=6, stopping=rule, **FEW))
        own.desk, own.programs = engine.desk, engine.programs  # compiled
        return own.plan(state, KEY)

    cheap, dear = planned(0.0), planned(1e6)
    assert dear.stop
    assert not cheap.stop
    assert dear.net.net == pytest.approx(cheap.net.net - 1e6)
    assert dear.net.information == cheap.net.information > 0.0
    assert dear.outcomes.objective[0].mean() >= cheap.outcomes.objective[0].mean() - 1e-3


@pytest.mark.slow
def test_a_campaign_ends_where_its_rule_says(problem):
    rule = cb.StopRule(cost_per_round=1e6, population=100.0)
    found = cb.simulate_campaigns(
        problem,
        key=KEY,
        settings=cb.CampaignSettings(num_rounds=4, stopping=rule, **FEW),
        clairvoyant=cb.Search(ascent=ASCENT),
    ).isel(campaign=0)
    assert int(found["rounds"]) == 2  # one round at least, then the design that is kept
    assert "less than its cost" in str(found["stopped_because"].values)
    assert np.isnan(found["true_objective"][2:]).all()


def test_bets_have_expectation_one():
    assert quad(lambda p: bets_of(np.array([p]))[0], 1e-9, 1.0, limit=400)[0] == pytest.approx(
        1.0, abs=0.06
    )  # the integrand is 1 / (p log(p)^2) near 0: what is left out below 1e-9 is 1 / log(1e9)
    evidence = Evidence()
    for _ in range(5):
        evidence = evidence.after(np.ones(3))
    assert evidence.value == pytest.approx(1.0)
    assert Evidence().after(np.full(3, 100.0)).after(np.zeros(3)).p_value == pytest.approx(
        1.0 / 50.5
    )
    assert fired(np.array([[1.0, 0.04, 0.02], [1.0, 1.0, 0.5]]), 0.05).tolist() == [2, 0]


def test_p_values_are_uniform_where_the_model_is_right():
    rng = np.random.default_rng(2)
    policy = np.full((2, 1, 1, 2), 0.5)

    def some(num):
        contexts = rng.multinomial(30, (0.5, 0.5), size=num).astype(float)
        took = rng.binomial(contexts.astype(int), 0.5)
        choices = np.stack([contexts - took, took], axis=-1)[:, :, None, None]
        worth = rng.normal(size=num)
        ones = np.ones(num, int)
        return Answer(np.zeros((num, 1)), choices, ones, contexts, ones, worth, worth**2, ones)

    found = []
    for _ in range(400):
        several = some(20)
        first, rest = (jax.tree.map(lambda leaf, s=s: leaf[s], several) for s in (0, slice(1, 20)))
        found.append(p_values(first, rest, policy, np.array([0.5, 0.5]), rng))
    for column in np.array(found).T:
        assert kstest(column, "uniform")[1] > 1e-3
    odd = first._replace(choices=np.array([[[[30.0, 0.0]]], [[[0.0, 0.0]]]]))
    assert p_values(odd, rest, policy, np.array([0.5, 0.5]), rng)[0] <= 0.05


def test_simulated_answers_are_those_of_the_follower(problem):
    """Two routes to a round: one episode after the other, and many from a sampler."""
    truth, watch, point = problem.default_parameters, Watch(3000, 6000, 2), np.array([1.1])
    one = collect(problem, point, truth, watch.episodes(problem, truth, KEY), 6000, KEY)
    world = World(problem, truth)
    other, _ = world.answer(point, watch, world.initial_memory(), KEY)
    exact = float(leader_outcome(problem, {"bonus": point[0]}, truth).objective)
    for answer in (one, other):
        assert (int(answer.steps), int(answer.ended)) == (6000, 3000)
        assert answer.choices[:, 0, 0].sum() == 3000 == answer.contexts.sum()
        assert abs(answer.mean - exact) < 4.0 * answer.standard_error
        share = answer.choices[:, 0, 0, 1] / answer.contexts
        expected = 1.0 / (1.0 + np.exp(-(1.1 - np.array([0.5, 1.5])) / 0.25))
        np.testing.assert_allclose(share, expected, atol=4.0 * 0.5 / np.sqrt(1400))


def test_a_wrong_follower_is_noticed_early(problem, engine):
    """Followers whose cost is the other context's: no temperature explains that."""

    def swapped(incentive, cost, parameters):
        return problem.mdp_fn(incentive, 2.0 - cost, parameters)

    world = World(replace(problem, mdp_fn=swapped), problem.default_parameters)
    many = replace(engine.settings, num_replicates=199)
    own = Engine(problem, many)
    own.desk, own.programs = engine.desk, engine.programs  # compiled
    engine = own
    state, memory, fired_in = engine.begin(KEY), world.initial_memory(), 0
    for number in range(4):
        keys = jax.random.split(jax.random.fold_in(KEY, number), 3)
        plan = engine.plan(state, keys[0])
        answer, memory = world.answer(plan.points[0], engine.watch, memory, keys[1])
        state, check = engine.absorb(state, plan, [answer], keys[2])
        if not fired_in and state.evidence.p_value <= 0.05:
            fired_in = state.number
        assert check.p_values.shape == (1, 3)
    assert 1 <= fired_in <= 4


def test_contexts_that_are_sampled_are_refused():
    problem = cb.problems.two_state()

    def drawn(parameters, key):
        return 0.5 + parameters["more"] * jax.random.uniform(key)

    family = SampledContexts(drawn, 4, {"more": 1.0})
    with pytest.raises(InvalidInputError, match="sampled from a continuous family"):
        cb.simulate_campaigns(replace(problem, contexts=family), key=KEY)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"num_rounds": 0}, "num_rounds >= 1"),
        ({"num_replicates": 7}, "too few replicates"),
        ({"policy": "thompson"}, "policy cannot be used"),
        ({"policy": cb.Thompson}, "policy cannot be used"),
        ({"stopping": 3.0}, "stopping has the wrong type"),
    ],
)
def test_settings_that_cannot_be_used(given, said):
    with pytest.raises(InvalidInputError, match=said):
        cb.CampaignSettings(**given)


@pytest.mark.slow
def test_the_command_prints_one_object():
    done = CliRunner().invoke(
        app,
        [
            "campaign",
            "simulate",
            "two_state",
            "--rounds",
            "2",
            "--steps-per-round",
            "60",
            "--policy",
            "thompson",
            "--seed",
            "1",
            "--json",
        ],
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["rounds"] == 2
    assert found["follower_steps"] == 120
    assert found["stopped_because"] == "all rounds were done"
    assert 0.0 < found["leader_objective"] <= found["optimum"]
    assert {"cumulative_regret", "seconds"} <= set(found)
