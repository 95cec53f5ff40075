"""Followers who remember: the mean over all pasts against the list of all pasts."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.stats import chisquare

from cbrl_bayes.campaigns.settings import check_problem
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.hypergradients import HPGD, Exact
from cbrl_bayes.information import Experiment, simulate_experiments
from cbrl_bayes.mdp import MDP, DenseTransition, finite_horizon
from cbrl_bayes.problems import DeltaRule, leader_outcome, respond_everywhere, two_option_learning
from cbrl_bayes.problems.two_option_learning import spend
from tests.conftest import make_workshop

NUM_TRIALS = 8


def chance_of_paths(reward, rate, temperature, habit, first):
    """Return all 2^T sequences of options and the probability of each, in plain Python."""
    paths = list(itertools.product((0, 1), repeat=len(reward)))
    chances = []
    for path in paths:
        value, last, chance = [first, first], None, 1.0
        for given, taken in zip(reward, path, strict=True):
            liked = [value[k] + (habit if k == last else 0.0) for k in (0, 1)]
            chance /= 1.0 + np.exp((liked[1 - taken] - liked[taken]) / temperature)
            value[taken] += rate * (given[taken] - value[taken])
            last = taken
        chances.append(chance)
    return np.array(paths), np.array(chances)


def learners(num_values=33, **parameters):
    problem = two_option_learning(
        num_trials=NUM_TRIALS, budgets=(3.0, 2.0), num_values=num_values, **parameters
    )
    return problem, problem.follower_parameters(problem.default_parameters, 0)


SCHEDULE = np.random.default_rng(3).uniform(size=(NUM_TRIALS, 2))


@pytest.mark.parametrize("rate", [0.1, 0.6])
@pytest.mark.parametrize("temperature", [0.05, 0.2])
@pytest.mark.parametrize("habit", [0.0, 0.15])
def test_the_mean_policy_is_that_of_all_pasts(rate, temperature, habit):
    problem, one = learners(
        learning_rate=rate, temperature=temperature, habit=habit, initial_value=0.3
    )
    mdp = problem.mdp_fn({"reward": jnp.asarray(SCHEDULE)}, 0, one)
    paths, chances = chance_of_paths(SCHEDULE, rate, temperature, habit, 0.3)
    truth = chances @ (paths == 0)
    errors = [
        np.abs(np.exp(DeltaRule(num).marginal(mdp, one)[:, 0]) - truth).max() for num in (33, 129)
    ]
    # Nodes 1/32 apart against a temperature of .05: 1e-3; four times as many: a tenth at most.
    assert errors[0] < 1e-3
    assert errors[1] < 0.1 * errors[0]


def test_the_objective_and_its_slope_are_those_of_all_pasts():
    problem, _ = learners(learning_rate=0.4, temperature=0.15, habit=0.1)
    parameters = problem.default_parameters
    x = {"reward": jnp.asarray(np.random.default_rng(0).normal(size=(NUM_TRIALS, 2)))}
    direction = np.random.default_rng(1).normal(size=(NUM_TRIALS, 2))

    def enumerated(size):
        moved = {"reward": x["reward"] + size * direction}
        reward = np.asarray(problem.incentive.transform(moved)["reward"])
        paths, chances = chance_of_paths(reward, 0.4, 0.15, 0.1, 0.0)
        return chances @ (paths == 0).sum(1)

    outcome = leader_outcome(problem, x, parameters)
    assert outcome.status == 0
    np.testing.assert_allclose(outcome.objective, enumerated(0.0), atol=1e-4)
    state = Exact().init(problem, x, key=jax.random.key(0))
    gradient, _, _ = Exact().estimate(problem, x, parameters, state, key=jax.random.key(0))
    slope = (enumerated(1e-5) - enumerated(-1e-5)) / 2e-5
    # The slope of a cubic interpolation is one order less exact than its value.
    np.testing.assert_allclose((gradient["reward"] * direction).sum(), slope, rtol=1e-3)


def test_walks_have_the_law_of_all_pasts():
    problem, one = learners(learning_rate=0.5, temperature=0.1, habit=0.05)
    mdp = problem.mdp_fn({"reward": jnp.asarray(SCHEDULE)}, 0, one)
    num = 20_000

    def act(key):
        walked = problem.history.walk(mdp, one, key=key, num_steps=NUM_TRIALS + 2)
        return walked.action[0], walked.active[0]

    action, active = jax.vmap(act)(jax.random.split(jax.random.key(0), num))
    assert (np.asarray(active).sum(1) == NUM_TRIALS).all()  # the session ends
    _, chances = chance_of_paths(SCHEDULE, 0.5, 0.1, 0.05, 0.0)
    place = np.asarray(action)[:, :NUM_TRIALS] @ 2 ** np.arange(NUM_TRIALS)[::-1]
    seen = np.bincount(place, minlength=len(chances))
    often = num * chances >= 5.0
    seen = np.append(seen[often], seen[~often].sum())
    expected = num * np.append(chances[often], chances[~often].sum())
    assert chisquare(seen, expected).pvalue > 1e-3  # fails by chance once in 1,000 seeds


def test_rewards_in_cents_change_nothing():
    problem, one = learners(habit=0.1, initial_value=0.2)
    cents = {
        **one,
        **{name: 100.0 * one[name] for name in ("temperature", "habit", "initial_value")},
    }
    euros = problem.mdp_fn({"reward": jnp.asarray(SCHEDULE)}, 0, one)
    other = problem.mdp_fn({"reward": 100.0 * jnp.asarray(SCHEDULE)}, 0, cents)
    rule = problem.history
    np.testing.assert_allclose(rule.marginal(euros, one), rule.marginal(other, cents), rtol=1e-9)


def test_without_rewards_both_options_are_alike():
    problem, one = learners()
    mdp = problem.mdp_fn({"reward": jnp.zeros((NUM_TRIALS, 2))}, 0, one)
    np.testing.assert_allclose(np.exp(problem.history.marginal(mdp, one)), 0.5, rtol=1e-12)


def test_heat_reaches_learners():
    problem, _ = learners()
    hot, incentive = problem.heated(3.0), {"reward": jnp.asarray(SCHEDULE)}
    direct = problem.default_parameters | {"temperature": 0.6}
    assert hot.history is problem.history
    np.testing.assert_allclose(
        respond_everywhere(hot, incentive, problem.default_parameters)[0],
        respond_everywhere(problem, incentive, direct)[0],
    )


def test_the_static_follower_knows_the_schedule():
    problem = two_option_learning(num_trials=3, budgets=(1.0, 1.0), learns=False)
    reward = np.array([[0.6, 0.1], [0.3, 0.4], [0.1, 0.5]])
    log_policy, _ = respond_everywhere(
        problem, {"reward": jnp.asarray(reward)}, problem.default_parameters
    )
    expected = 1.0 / (1.0 + np.exp((reward[:, 1] - reward[:, 0]) / 0.2))
    np.testing.assert_allclose(np.exp(log_policy[0, 0, :, 0]), expected, rtol=1e-9)
    assert problem.history is None


def test_a_budget_is_spent_and_has_its_slopes():
    x = jnp.asarray(np.random.default_rng(0).normal(scale=4.0, size=9))
    spent = spend(x, 5.0, 2.0)
    assert abs(float(spent.sum()) - 5.0) < 1e-12
    assert float(spent.min()) >= 0.0
    assert float(spent.max()) <= 2.0
    check_grads(lambda v: spend(v, 5.0, 2.0), (x,), order=2, rtol=1e-4)
    extreme = spend(jnp.asarray([1e3, 900.0, -1e3, 0.0]), 2.0, 1.0)
    np.testing.assert_allclose(extreme, [1.0, 1.0, 0.0, 0.0], atol=1e-9)


def test_schedules_that_people_state_are_reached():
    problem, _ = learners()
    early = np.zeros((NUM_TRIALS, 2))
    early[:3, 0] = early[-2:, 1] = 1.0
    found = problem.incentive.transform(problem.incentive.unconstrained_for({"reward": early}))
    np.testing.assert_allclose(found["reward"], early, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"budgets": (0.0, 2.0)}, "budgets .* cannot be spent"),
        ({"budgets": (25.0, 100.0)}, "above 0 and below 100"),
        ({"learning_rate": 1.0}, r"learning_rate = 1.0; accepted: learning_rate in \(0, 1\)"),
        ({"num_values": 4}, "num_values >= 5"),
    ],
)
def test_settings_that_cannot_be(settings, words):
    with pytest.raises(InvalidInputError, match=words):
        two_option_learning(**settings)


def test_processes_that_are_not_for_learners():
    three = finite_horizon(
        reward=jnp.zeros((4, 1, 3)),
        transition=DenseTransition(jnp.ones((1, 3, 1))),
        initial=jnp.ones(1),
        discount=1.0,
        temperature=1.0,
        num_periods=4,
    )
    with pytest.raises(InvalidInputError, match=r"no process for learners .* 4 states, 3 actions"):
        DeltaRule().check(three)
    stay = MDP(
        reward=jnp.zeros((2, 2)),
        transition=DenseTransition(jnp.eye(2)[:, None].repeat(2, 1)),
        initial=jnp.array([1.0, 0.0]),
        discount=0.9,
        temperature=1.0,
        terminal=jnp.array([False, True]),
    )
    with pytest.raises(InvalidInputError, match="no process for learners"):
        DeltaRule().check(stay)
    with pytest.raises(InvalidInputError, match="from state 0 by action 0 to state 0"):
        super(DeltaRule, DeltaRule()).check(stay)
    with pytest.raises(InvalidInputError, match="no process for learners"):
        replace(make_workshop(), response_fn=DeltaRule())


def test_what_takes_choices_one_by_one_is_refused():
    problem, _ = learners()
    draws = {name: np.stack([value] * 2) for name, value in problem.default_parameters.items()}
    with pytest.raises(InvalidInputError, match="remember what they met; an experiment"):
        simulate_experiments(problem, draws, [Experiment("more", 5, 8)], key=jax.random.key(0))
    with pytest.raises(InvalidInputError, match="remember what they met; a campaign"):
        check_problem(problem)
    x, key = problem.incentive.initial, jax.random.key(0)
    with pytest.raises(InvalidInputError, match="needs followers who respond at best"):
        HPGD().estimate(problem, x, problem.default_parameters, None, key=key)
