"""The tax economy: the small exact form against the full one, and what it refuses."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import stats

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.hypergradients import Exact
from cbrl_bayes.mdp import MDP, SuccessorTransition, best_response, expected_return, occupancy
from cbrl_bayes.problems import (
    PUBLISHED_PREFERENCES,
    HouseholdEconomy,
    household_accounts,
    leader_outcome,
    tax_design,
    two_state,
)

TEMPERATURE = 0.2
COARSE = HouseholdEconomy(num_goods=3, num_assets=21)


def _full_economy(problem, incentive, group):
    """All 1,250 actions, straight from the description, by loops where that is plainer."""
    small = problem.mdp_fn(incentive, group, problem.default_parameters)
    weight = list(PUBLISHED_PREFERENCES.values())[group]
    assets = np.asarray(problem.state_labels.coords["assets"][1])
    vat, tax = np.asarray(incentive["vat"]), float(incentive["income_tax"])
    actions = list(itertools.product(range(10), range(5), range(5), range(5)))
    reward = np.zeros((len(assets), len(actions)))
    welfare = np.zeros_like(reward)
    pair = np.zeros(len(actions), int)
    for number, (h, *c) in enumerate(actions):
        hours, spent = 0.89 * h, 1.25 * np.array(c)
        utility = np.prod((spent / (1 + vat)) ** np.asarray(weight))
        of_assets = np.where(assets > 0, np.log(1 + np.maximum(assets, 0) / 20), assets)
        reward[:, number] = of_assets - 0.1 * hours**2 + utility
        revenue = (vat * spent / (1 + vat)).sum() + tax * hours
        welfare[:, number] = (
            np.minimum(assets, 0) + 15 * np.mean(spent / (1 + vat)) / 5 + 5 * np.log(1 + revenue)
        )
        pair[number] = h * 13 + sum(c)
    law = small.transition
    mdp = MDP(
        jnp.asarray(reward),
        SuccessorTransition(law.successor[:, pair], law.probability[:, pair]),
        small.initial,
        small.discount,
        small.temperature,
    )
    return small, mdp, jnp.asarray(welfare), pair


@pytest.mark.parametrize("group", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_pairs_of_hours_and_total_are_the_whole_economy(group):
    """Values, behaviour and welfare equal those of the MDP with all 1,250 actions."""
    problem = tax_design(economy=COARSE, temperature=TEMPERATURE)
    x = problem.incentive.random_start(jax.random.key(3), 0.7)
    incentive = problem.incentive.transform(x)
    small, full, welfare, pair = _full_economy(problem, incentive, group)
    ours, theirs = best_response(small), best_response(full)
    np.testing.assert_allclose(ours.values, theirs.values, rtol=1e-9)
    summed = jnp.zeros(ours.policy.shape).at[:, pair].add(theirs.policy)
    np.testing.assert_allclose(ours.policy, summed, atol=1e-9)
    reward = problem.leader_net_reward(incentive, group, problem.default_parameters)
    mine = expected_return(small, ours.policy, reward=reward, discount=0.9)
    other = expected_return(full, theirs.policy, reward=welfare, discount=0.9)
    assert float(mine) == pytest.approx(float(other), rel=1e-9)


def test_law_of_assets():
    """Every row against the truncated normal of scipy, edges and other money included."""
    economy = HouseholdEconomy(num_goods=3, num_assets=41, wage=2.0, price=1.5)
    problem = tax_design(economy=economy)
    rates = {"vat": jnp.full(3, 0.3), "income_tax": jnp.array(0.4)}
    mdp = problem.mdp_fn(rates, 0, problem.default_parameters)
    assets = np.linspace(-100, 100, 41)
    edges = np.concatenate([[-100.0], (assets[1:] + assets[:-1]) / 2, [100.0]])
    found = np.zeros((41, 130, 41))
    at = np.indices((41, 130))
    for slot in range(mdp.transition.successor.shape[-1]):
        np.add.at(
            found, (*at, mdp.transition.successor[..., slot]), mdp.transition.probability[..., slot]
        )
    for pair, (hour, spent) in enumerate(itertools.product(range(10), range(13))):
        mean = np.clip(assets + 0.6 * 2.0 * 0.89 * hour - 1.25 * spent, -100, 100)
        low, high = (-100 - mean) / 5, (100 - mean) / 5
        below = stats.truncnorm.cdf(edges[:, None], low, high, mean, 5.0)
        # The window leaves out a mass of 2e-9.
        np.testing.assert_allclose(found[:, pair], np.diff(below, axis=0).T, atol=1e-8)
    start = np.diff(stats.norm.cdf(edges, 0.0, 2**0.5))
    np.testing.assert_allclose(mdp.initial, start / start.sum(), atol=1e-10)


def test_price_and_wage_reach_utility_and_revenue():
    """Twice the price is half the goods; income tax is of the wage."""
    economy = HouseholdEconomy(num_goods=1, num_assets=11, wage=2.0, price=2.0)
    problem = tax_design(
        preferences={"all": (1.0,)}, economy=economy, temperature=1e-3, effort_exponent=3.0
    )
    rates = {"vat": jnp.array([0.25]), "income_tax": jnp.array(0.5)}
    mdp = problem.mdp_fn(rates, 0, problem.default_parameters)
    # One good: the total is the split. Assets 0: utility of assets 0. Three steps of hours.
    pair = 3 * 5 + 4
    assert float(mdp.reward[5, pair]) == pytest.approx(-0.1 * 2.67**3 + 5.0 / (2.0 * 1.25))
    reward = problem.leader_net_reward(rates, 0, problem.default_parameters)
    revenue = 5.0 * 0.25 / 1.25 + 0.5 * 2.0 * 2.67
    expected = 15 * 4.0 / 5 + 5 * np.log1p(revenue)
    assert float(reward[5, pair]) == pytest.approx(expected)


@pytest.mark.slow
def test_gradient_through_reward_and_transitions():
    """Exact hypergradient against central differences; VAT and income tax, at zero spending too."""
    problem = tax_design(economy=COARSE, temperature=TEMPERATURE)
    x = problem.incentive.random_start(jax.random.key(5), 0.5)
    estimator = Exact()
    parameters = problem.default_parameters
    gradient, _, info = estimator.estimate(
        problem,
        x,
        parameters,
        estimator.init(problem, x, key=jax.random.key(0)),
        key=jax.random.key(1),
    )
    assert int(info.status) == 0
    slope = np.asarray(ravel_pytree(gradient)[0])
    flat, unravel = ravel_pytree(x)
    worth = jax.jit(lambda v: leader_outcome(problem, unravel(v), parameters).objective)
    for index in range(flat.size):
        # Away from where the window of successors moves by one: steps as small as digits allow.
        h = 1e-5 * jnp.zeros(flat.size).at[index].set(1.0)
        central = (float(worth(flat + h)) - float(worth(flat - h))) / 2e-5
        assert slope[index] == pytest.approx(central, rel=1e-5, abs=1e-6)


def test_number_of_goods_is_free():
    economy = HouseholdEconomy(num_goods=6, num_assets=11, spending_levels=(0, 1, 2, 4, 8))
    problem = tax_design(preferences={"all": (0.2, 0.2, 0.2, 0.2, 0.1, 0.1)}, economy=economy)
    reachable = {sum(split) for split in itertools.product((0, 1, 2, 4, 8), repeat=6)}
    assert problem.num_actions == 10 * len(reachable)
    assert problem.incentive.transform(problem.incentive.initial)["vat"].shape == (6,)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"preferences": {"all": (0.5, 0.6)}}, "weights of 'all' are not shares"),
        ({"preferences": {"all": (1.5, -0.5)}}, "weights of 'all' are not shares"),
        ({"preferences": {"a": (1.0,), "b": (0.5, 0.5)}}, "one weight per good in each"),
        ({"preferences": {"a": ()}}, "one weight per good in each"),
        ({"initial_rate": 2.5}, "between 0 and 2"),
        ({"initial_rate": 0.0}, "between 0 and 2"),
        ({"initial_rate": 0.3, "highest_rate": np.nan}, "between 0 and nan"),
        ({"group_probability": (0.5, 0.6)}, "not a distribution"),
        ({"preferences": {}}, "at least one group"),
        ({"goods": ("food",)}, "numbers of goods differ.*3 weights per group, 1 names"),
        ({"goods": ("food", "food", "fuel")}, "different names"),
        ({"economy": HouseholdEconomy(num_goods=2)}, "an economy of 2"),
        ({"temperature": 0.0}, "must be positive.*temperature=0"),
        ({"effort_exponent": 1.0}, "effort_exponent is out of range"),
    ],
)
def test_impossible_taxes_are_refused(arguments, words):
    with pytest.raises(InvalidInputError, match=words):
        tax_design(**arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_assets": 3}, "num_assets >= 11"),
        ({"wage": 0.0}, r"in \(0, inf\)"),
        ({"spending_levels": (1,)}, "two different spending levels"),
        ({"spending_levels": (0, 1, 1)}, "two different spending levels"),
        ({"num_goods": 0}, "num_goods=0"),
        ({"discount": 1.0}, r"\[0, 1\)"),
        ({"spending_levels": (0, 0.5, 1)}, "whole numbers.*smaller spending_step"),
    ],
)
def test_impossible_economies_are_refused(arguments, words):
    with pytest.raises(InvalidInputError, match=words):
        HouseholdEconomy(**{"num_goods": 3} | arguments)


def test_draws_of_preferences_must_be_shares():
    problem = tax_design(economy=COARSE)
    with pytest.raises(InvalidInputError, match=r"'preference' is not a distribution.*each row"):
        problem.complete_parameters({"preference": [[0.5, 0.6, 0.1], [0.1, 0.7, 0.2]]})


def test_draws_of_effort_must_lie_in_their_ranges():
    problem = tax_design(economy=COARSE)
    for given in ({"effort_exponent": 1.0}, {"effort_weight": -5.0}):
        with pytest.raises(InvalidInputError, match="out of its range"):
            problem.complete_parameters(given)


def test_accounts_are_of_a_tax_problem():
    with pytest.raises(InvalidInputError, match="needs a tax problem with one follower"):
        household_accounts(two_state(), {"bonus": 1.0}, {})


def test_accounts_are_those_of_the_whole_economy():
    """Hours, spending and taxes from the MDP with all 1,250 actions."""
    problem = tax_design(economy=COARSE, temperature=TEMPERATURE)
    rates = {"vat": jnp.array([0.1, 0.5, 0.9]), "income_tax": jnp.array(0.25)}
    found = household_accounts(problem, rates, problem.default_parameters)
    for group in range(2):
        incentive = {name: np.asarray(rate) for name, rate in rates.items()}
        _, full, _, _ = _full_economy(problem, incentive, group)
        policy = best_response(full).policy
        share = np.asarray(0.1 * occupancy(full, policy))
        actions = np.array(list(itertools.product(range(10), range(5), range(5), range(5))))
        spent = 1.25 * share.sum(0) @ actions[:, 1:]
        np.testing.assert_allclose(found.spending[group], spent, rtol=1e-8)
        hours = 0.89 * share.sum(0) @ actions[:, 0]
        assert float(found.hours[group]) == pytest.approx(hours, rel=1e-8)
        paid = spent * incentive["vat"] / (1 + incentive["vat"])
        np.testing.assert_allclose(found.vat_paid[group], paid, rtol=1e-8)
        assert float(found.income_tax_paid[group]) == pytest.approx(0.25 * hours, rel=1e-8)
        assert float(found.earnings[group]) == pytest.approx(hours, rel=1e-8)


def test_published_groups():
    assert list(PUBLISHED_PREFERENCES.values()) == [(0.6, 0.3, 0.1), (0.1, 0.7, 0.2)]
