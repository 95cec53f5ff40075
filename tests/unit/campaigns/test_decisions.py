"""What a campaign tells those who decide: named groups, rivals after a surprise, the page."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.special import expit
from scipy.stats import betabinom, binom, norm as normal

import cbrl_bayes as cb
from cbrl_bayes.campaigns import Engine, Rivals, State, usual_rivals
from cbrl_bayes.campaigns.answers import Answer
from cbrl_bayes.campaigns.assignment import arms_of_regimes, watch_of_regime
from cbrl_bayes.campaigns.particles import ParticlePrograms, ParticleSettings
from cbrl_bayes.campaigns.rivals import FREQUENCIES, OWN, own_frequencies
from cbrl_bayes.campaigns.surprise import Evidence
from cbrl_bayes.campaigns.tables import readable
from cbrl_bayes.errors import DataError, InvalidInputError
from cbrl_bayes.inference import default_priors
from tests.unit.campaigns.test_real import SETTINGS, opened

KEY = jax.random.key(0)
GROUPS = ("north", "east", "south", "west")


def behaviour(problem, plan, *, seed=0):
    """What followers do under every regime of a plan."""
    parts = [
        cb.simulate_trajectories(
            problem,
            key=jax.random.key(10 * seed + number),
            num_episodes=plan.num_episodes,
            num_steps=2,
            incentive=incentive,
            regime=regime,
        )
        for number, (regime, incentive) in enumerate(plan.incentives.items())
    ]
    return cb.concatenate(parts)


@pytest.fixture(scope="module")
def surprised(tmp_path_factory):
    """Two arms in four regions, and followers whose cost is the other context's."""
    problem = cb.problems.two_state()

    def swapped(incentive, cost, parameters):
        return problem.mdp_fn(incentive, 2.0 - cost, parameters)

    settings = replace(
        SETTINGS,
        policy=cb.Thompson(2),
        groups=GROUPS,
        num_rounds=6,
        episodes_per_round=80,
        num_replicates=199,
    )
    campaign = opened(tmp_path_factory.mktemp("campaign") / "regions", settings=settings)
    others = replace(problem, mdp_fn=swapped)
    for number in range(4):
        plan = campaign.next_round()
        found = campaign.record_round(behaviour(others, plan, seed=number))
        if int(found["fired"]):
            break
    campaign.next_round()
    return campaign


def test_groups_share_the_arms_evenly_and_at_random():
    seen = [arms_of_regimes(1, 2, GROUPS, jax.random.key(seed)) for seed in range(40)]
    assert all(list(found) == [f"round 1, {name}" for name in GROUPS] for found in seen)
    assert all(sorted(found.values()) == [0, 0, 1, 1] for found in seen)
    share = np.mean([found["round 1, north"] for found in seen])
    assert 0.25 < share < 0.75
    half = watch_of_regime(cb.campaigns.Watch(20, 40, 2), seen[0])
    assert (half.num_episodes, half.num_steps, half.max_steps) == (10, 20, 2)


def test_a_round_of_named_groups_is_counted_arm_by_arm(surprised):
    first = surprised._planned(1)
    told = surprised._told(1, first)
    assert list(told.incentives) == [f"round 1, {name}" for name in GROUPS]
    bonuses = {float(arrays["bonus"]) for arrays in told.incentives.values()}
    assert len(bonuses) == 2
    assert told.num_episodes == 20
    found = surprised.record()
    assert found["realised"].sizes["arm"] == 2
    assert found["episodes"].values.tolist() == [80.0] * found.sizes["round"]
    plan = surprised.next_round()
    whole = behaviour(surprised.engine.problem, plan)
    without = whole.isel(
        episode=np.flatnonzero(whole["regime"].values != next(iter(plan.incentives)))
    )
    with pytest.raises(DataError, match="not those that were deployed"):
        surprised.record_round(without)


@pytest.mark.parametrize("column", [None, "as printed"])
def test_a_round_may_come_as_a_table(tmp_path, column):
    """Without the incentive, or with it as the plan prints it: four digits."""
    from cbrl_bayes.cli.campaign import _round_data

    campaign = opened(tmp_path / "bonus")
    plan = campaign.next_round()
    ((regime, incentive),) = plan.incentives.items()
    seen = behaviour(campaign.engine.problem, plan)
    rows = ["follower;step;state;action;context;regime" + (";bonus" if column else "")]
    for who in range(seen.sizes["episode"]):
        state, action = int(seen["state"][who, 0]), int(seen["action"][who, 0])
        row = f"f{who};0;{state};{action};{seen['context'].values[who]};{regime}"
        rows.append(row + (f";{float(incentive['bonus']):.4g}" if column else ""))
    path = tmp_path / "march.csv"
    path.write_text("\n".join(rows) + "\n")
    found = campaign.record_round(_round_data(campaign, path))
    assert int(found["rounds"]) == 1


def test_groups_that_cannot_be_used():
    with pytest.raises(InvalidInputError, match="shared evenly among the arms"):
        cb.CampaignSettings(policy=cb.Thompson(2), groups=("a", "b", "c"))
    for wrong in (("a", "a"), ["a"], ("",)):
        with pytest.raises(InvalidInputError, match="groups cannot be used"):
            cb.CampaignSettings(groups=wrong)


def test_frequencies_have_the_evidence_of_beta_binomials():
    chosen = np.array([[[[3.0, 5.0], [2.0, 9.0]]]])
    answer = Answer(np.zeros(1), chosen, 0.0, np.array([8.0]), 8, 0.0, 0.0, 19)
    log_policy = np.log(np.array([[[[0.5, 0.5], [0.25, 0.75]]]]))
    ends = np.array([[[False, True]]])
    ways = 56.0  # 8 over 3
    exact = betabinom(8, 0.5, 0.5).logpmf(3) - np.log(ways)
    exact += 2.0 * np.log(0.25) + 9.0 * np.log(0.75)  # the terminal state, as in the model
    assert own_frequencies(answer, log_policy, ends) == pytest.approx(exact)


def test_rivals_are_told_apart_as_by_quadrature():
    """Followers who lapse in a third of all choices; the evidence of both models on a grid."""
    problem = cb.problems.two_state(context_probability=(0.5, 0.5))
    known = {"context_probability": np.array([0.5, 0.5])}
    priors = known | {"temperature": dist.LogNormal(np.log(0.1), 0.5)}
    engine = Engine(problem, replace(SETTINGS, particles=ParticleSettings(1000)), priors)
    answers = []
    for bonus, works in ((0.0, (4.0, 4.0)), (1.0, (22.0, 6.0)), (2.5, (26.0, 24.0))):
        choices = np.zeros((2, 1, 2, 2))
        choices[:, 0, 0] = [(30.0 - n, n) for n in works]
        answer = Answer(np.array([bonus]), choices, 0.0, np.array([30.0, 30.0]), 60, 0.0, 0.0, 120)
        answers.append(answer)
    belief = engine.programs.first(KEY).updated(answers, KEY)
    points = np.array([[0.5], [1.0]])
    state = State(belief, 3, points, 0.0, 60.0, Evidence(), {})
    found = Rivals(engine).compare(state, KEY)
    assert found.names == (OWN, "lapsing", FREQUENCIES)

    log = np.linspace(np.log(0.1) - 2.5, np.log(0.1) + 2.5, 801)
    chance = normal.pdf(log, np.log(0.1), 0.5) * (log[1] - log[0])
    lapses = (np.arange(400) + 0.5) / 400
    beta = 9.0 * (1.0 - lapses) ** 8 / 400  # Beta(1, (1 - .1) / .1)
    soft, lapsed = np.zeros(len(log)), np.zeros((len(log), len(lapses)))
    for answer in answers:
        for context, cost in enumerate((0.5, 1.5)):
            refused, worked = answer.choices[context, 0, 0]
            work = expit((answer.point[0] - cost) / np.exp(log))
            work = np.clip(work, 1e-300, 1.0 - 1e-16)
            soft += worked * np.log(work) + refused * np.log1p(-work)
            mixed = work[:, None] * (1.0 - lapses) + 0.5 * lapses
            lapsed += worked * np.log(mixed) + refused * np.log1p(-mixed)
    exact = [
        np.log(chance @ np.exp(soft - soft.max())) + soft.max(),
        np.log(chance @ np.exp(lapsed - lapsed.max()) @ beta) + lapsed.max(),
    ]
    gap = found.log_evidence[1] - found.log_evidence[0]
    assert gap == pytest.approx(exact[1] - exact[0], abs=0.5)  # error of the evidence by particles
    assert found.probability[1] > 0.95
    assert found.objective[1, 1] >= found.objective[0, 1] - 1e-3
    assert found.objective.shape == (2, 2)


def test_a_single_choice_is_paid_for_although_its_state_is_terminal():
    """Followers as the model says; frequencies of their own for five incentives cost more."""

    def mdp_fn(incentive, context, parameters):
        reward = jnp.array([[0.0, incentive["bonus"] - 1.0]])
        law = cb.DenseTransition(jnp.ones((1, 2, 1)))
        return cb.MDP(
            reward, law, jnp.ones(1), 0.0, parameters["temperature"], terminal=np.array([True])
        )

    problem = cb.Problem(
        name="offer",
        incentive=cb.IncentiveSpace({"bonus": jnp.zeros(())}, lambda x: x, {"bonus": cb.Labels()}),
        contexts=cb.DiscreteContexts(("one",), jnp.zeros(1), (1.0,)),
        mdp_fn=mdp_fn,
        parameters={"temperature": 0.5},
        leader_reward_fn=lambda incentive, context, parameters: jnp.zeros((1, 2)),
        leader_discount=0.9,
    )
    settings = replace(SETTINGS, particles=ParticleSettings(500))
    engine = Engine(problem, settings, {"temperature": dist.LogNormal(np.log(0.5), 1.0)})
    key, points, answers = jax.random.key(0), np.array([0.0, 0.5, 0.9, 1.5, 2.0]), []
    for bonus in points:
        taken = round(200 * expit((bonus - 1.0) / 0.5))
        counts = np.array([200.0 - taken, float(taken)]).reshape(1, 1, 1, 2)
        answers.append(
            Answer(np.array([bonus]), counts, 0.0, np.array([200.0]), 200, 0.0, 0.0, 200)
        )
    belief = engine.programs.first(key).updated(answers, key)
    state = State(belief, 5, points[:2, None], 0.0, 60.0, Evidence(), {})
    found = Rivals(engine, {}).compare(state, key)
    assert found.names == (OWN, FREQUENCIES)
    by_hand = sum(
        betabinom.logpmf(a.choices[0, 0, 0, 1], 200, 0.5, 0.5)
        - binom.logpmf(a.choices[0, 0, 0, 1], 200, 0.5)
        - 200.0 * np.log(2.0)
        for a in answers
    )
    assert found.log_evidence[1] == pytest.approx(by_hand, rel=1e-9)
    assert found.probability[0] > 0.95


def test_rivals_are_models_of_the_same_problem(tmp_path):
    with pytest.raises(InvalidInputError, match="is another problem, not another model"):
        cb.open_campaign(
            tmp_path / "new",
            cb.problems.two_state(),
            key=jax.random.key(0),
            others={"rooms": cb.problems.contract_design()},
        )
    assert not (tmp_path / "new").exists()


def test_rivals_of_followers_who_plan_are_myopic_too():
    assert list(usual_rivals(cb.problems.four_rooms())) == ["lapsing", "myopic"]
    with pytest.raises(InvalidInputError, match="is taken"):
        Rivals(Engine(cb.problems.two_state(), SETTINGS), {OWN: cb.problems.two_state()})


def test_models_are_compared_when_the_check_fires(surprised):
    found, models = surprised.record(), surprised.models()
    assert int(found["fired"]) == found.sizes["round"]
    assert models["model"].values.tolist() == [OWN, "lapsing", FREQUENCIES]
    # No model with these costs explains them: each choice's own frequency does better.
    assert float(models["probability"].sel(model=FREQUENCIES)) > 0.95
    assert float(models["probability"].sum()) == pytest.approx(1.0)
    assert models["incentive"].dims == ("designed_for",)
    page = cb.campaign_report(surprised)
    assert page.health.verdict == "FAIL"
    assert "Look at the followers before you deploy anything new" in page.html
    assert "None of them describes the followers" in page.html


def test_the_page_says_what_to_do(tmp_path, surprised):
    problem = surprised.engine.problem
    settings = replace(SETTINGS, num_rounds=2)
    campaign = opened(tmp_path / "calm", settings=settings)
    campaign.engine.desk, campaign.engine.programs = (
        surprised.engine.desk,
        surprised.engine.programs,
    )
    campaign.record_round(behaviour(problem, campaign.next_round()))
    told = cb.campaign_report(campaign).html
    assert "Plan the next round" in told
    plan = campaign.next_round()
    path = tmp_path / "campaign.html"
    page = cb.campaign_report(campaign, path)
    assert path.read_text() == page.html
    bonus = f"{float(plan.incentives['round 2']['bonus']):.4g}"
    assert f"Go on: in round 2 deploy bonus {bonus}." in page.html
    assert "No surprise so far" in page.html
    assert campaign.models() is None
    assert page.sections[0].anchor == "recommendation"
    first = page.html.index('id="recommendation"')
    assert first < page.html.index("<img") < page.html.index('id="health"')
    assert "http" not in page.html.replace("http-equiv", "")
    campaign.record_round(behaviour(problem, plan, seed=5))
    assert "Keep the last design" in cb.campaign_report(campaign).html
    with pytest.raises(InvalidInputError, match="campaign has the wrong type"):
        cb.campaign_report({})


def test_solves_that_fail_and_copies_are_counted():
    problem = cb.problems.two_state()

    def never(mdp, parameters, initial_values):
        from cbrl_bayes.mdp import best_response

        found = best_response(mdp, initial_values=initial_values)
        return replace(found, status=np.int32(1))

    settings = ParticleSettings(num_particles=40, least_share=0.01)
    programs = ParticlePrograms(
        replace(problem, response_fn=never), default_priors(problem), settings
    )
    choices = np.ones((2, 1, 2, 2))
    answer = Answer(np.array([1.0]), choices, 0.0, np.array([2.0, 2.0]), 4, 0.0, 0.0, 8)
    belief = programs.first(KEY)
    assert (belief.num_unsolved, belief.num_distinct) == (0, 40)
    after = belief.updated([answer, answer._replace(point=np.array([0.5]))], KEY)
    assert after.num_unsolved == 80  # every particle under both incentives
    copies = replace(belief, points=np.repeat(belief.points[:10], 4, axis=0))
    assert copies.num_distinct == 10
    again = programs.restored(after.arrays())
    assert again.num_unsolved == 80


def test_worth_that_rests_on_what_is_learned():
    assert Engine(cb.problems.two_state(), SETTINGS).worth_rests_on == ()
    sale = Engine(cb.problems.reserve_price(), SETTINGS)
    assert sale.worth_rests_on == ("context_probability",)
    # An incentive by round keeps its axis apart from the campaign's.
    found = readable(sale.problem, np.zeros((3, 1, 1)))
    assert found["incentive"][0] == ("round", "arm", "incentive_round")
