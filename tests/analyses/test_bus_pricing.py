"""Demand for replacements and value of information, against closed forms and simulation."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm, qmc

from cbrl_bayes.behaviour import make_trajectories
from cbrl_bayes.problems import bus_replacement, leader_outcome

sys.path.insert(0, str(Path(__file__).parents[2] / "analyses" / "bus_pricing"))
from demand import (
    expected_replacements,
    leader_accounts,
    mileage_chain,
    replacement_probability,
    replacements_per_year,
    stationary_distribution,
)
from demand_checks import high_price_limit, occupancy_rate, simulated_rate
from grid_posterior import NODES, Plane, axes, choice_counts, grid_interval, nested_sampling
from information import expected_regret, partial_information

LAW = np.array([0.39, 0.6, 0.01])
DRAW = {"RC": np.array([10.0]), "theta11": np.array([2.3]), "increment_probability": LAW[None]}
PRICES = np.array([-0.2, 0.0, 0.3, 1.0, 2.5, 3.5])


@pytest.fixture(scope="module")
def demand():
    """Chance of replacing, (prices, wear 2.3 or none, bins), in one compiled program."""
    both = {
        "RC": np.full(2, 10.0),
        "theta11": np.array([2.3, 0.0]),
        "increment_probability": np.stack([LAW, LAW]),
    }
    return replacement_probability(PRICES, both)


@pytest.fixture
def present(demand):
    """Chance of replacing per bin at the full price."""
    return demand[3, 0]


def test_without_wear_demand_is_a_logit_of_the_price(demand):
    """At theta11 = 0 every bin is alike: the rate is 12 / (1 + exp(price * RC))."""
    # Relative: differences of values of size 1e4 (discount .9999) are good to 1e-11 or so.
    np.testing.assert_allclose(
        replacements_per_year(demand[:, 1], LAW), 12 / (1 + np.exp(10.0 * PRICES)), rtol=1e-8
    )


def test_high_prices_end_in_the_manager_who_never_replaces(demand):
    """Log demand approaches -price * RC + D, D from a manager without the choice."""
    prices = PRICES[-2:]
    rate = replacements_per_year(demand[-2:, 0], LAW)
    limit = high_price_limit(prices, 10.0, 2.3, LAW)
    # The option to replace later and the time spent below the last bin, both of the order of
    # the rate times 100 months: under 1e-3 and 1e-7 here.
    assert limit[0] < 1e-3
    np.testing.assert_allclose(rate[0], limit[0], rtol=0.05)
    np.testing.assert_allclose(rate[1], limit[1], rtol=1e-4)


def test_long_run_rate_is_one_over_the_mean_life(present):
    """Renewal: an engine's expected life in months, by a backward recursion over the bins."""
    life = np.zeros(90)
    for s in range(89, -1, -1):
        p = present[s]
        if s == 89:
            life[s] = 1 / p
            continue
        ahead = LAW[1] * life[s + 1] + LAW[2] * life[min(s + 2, 89)]
        life[s] = (1 + (1 - p) * ahead) / (1 - (1 - p) * LAW[0])
    # Rounding of a 90 x 90 solve.
    assert replacements_per_year(present, LAW) == pytest.approx(12 / (LAW @ life[:3]), rel=1e-10)


def test_long_run_rate_is_the_packages_occupancy_at_a_discount_near_one(present):
    rate, matrix = occupancy_rate({name: value[0] for name, value in DRAW.items()}, 1 - 1e-7)
    # What the start (a new engine) leaves behind is (1 - gamma) times some hundred months.
    assert replacements_per_year(present, LAW) == pytest.approx(rate, rel=1e-4)
    # Entries are products of the same two numbers.
    np.testing.assert_allclose(mileage_chain(present, LAW), matrix, atol=1e-12)


def test_long_run_rate_is_that_of_a_long_simulation(present):
    """4,000 buses for 400 months after 400 that do not count."""
    found, error = simulated_rate(present, LAW, num_buses=4000, num_months=400, seed=1)
    assert error < 0.002  # some 1 % of the rate
    # Four standard errors: wrong by chance in 1 of 16,000 seeds, and the seed is fixed.
    assert abs(found - replacements_per_year(present, LAW)) < 4 * error


def test_two_states_have_the_textbook_stationary_law():
    chain = np.array([[0.9, 0.1], [0.3, 0.7]])
    np.testing.assert_allclose(stationary_distribution(chain), [0.75, 0.25], rtol=1e-14)


def test_expected_count_of_a_constant_chance_is_months_times_chance():
    replace = np.full(90, 0.2)
    found = expected_replacements(replace, LAW, np.array([0, 3, 3]), 7)
    assert found == pytest.approx(3 * 7 * 0.2, rel=1e-12)


def test_expected_count_of_a_clockwork_fleet():
    """One bin a month, replaced from bin 3 on, kept in the month before the first that counts.

    From bin 3: 4, replaced, 1, 2, 3, replaced. From bin 0: 1, 2, 3, replaced, 1.
    """
    replace = (np.arange(90) >= 3).astype(float)
    clockwork = np.array([0.0, 1.0, 0.0])
    found = [expected_replacements(replace, clockwork, np.array([s]), 4) for s in (3, 0)]
    assert found == [2.0, 1.0]


def test_accounts_add_up_to_the_leaders_outcome():
    """Minus late and subsidy costs is the library's objective; late costs are proportional."""
    problem = bus_replacement(late_cost=0.05)
    x = {"subsidy_logit": jnp.asarray(-0.7)}
    subsidy = np.asarray(problem.incentive.transform(x)["subsidy"])[None]
    late, paid = leader_accounts(problem, subsidy, DRAW)
    one = {name: jnp.asarray(value[0]) for name, value in DRAW.items()}
    outcome = jax.jit(lambda p: leader_outcome(problem, x, problem.default_parameters | p))(one)
    # Both from linear solves at discount .9999, objective of size 1e-2.
    assert -(late + paid)[0, 0] == pytest.approx(float(outcome.objective), rel=1e-9)
    assert paid[0, 0] == pytest.approx(float(outcome.incentive_cost), rel=1e-9)
    harm, double = (
        bus_replacement(late_cost=cost).leader_reward_fn({}, jnp.zeros(()), one)
        for cost in (0.05, 0.1)
    )
    np.testing.assert_allclose(double, 2 * harm, rtol=1e-14)


def test_value_of_information_in_the_normal_case():
    """Net benefits {0, p1 - p2}, p1 ~ N(1, 1), p2 ~ N(0, 2): E max(0, N(m, s)) in closed form."""
    standard = qmc.MultivariateNormalQMC(np.zeros(2), seed=1).random(2**14)
    first, second = 1.0 + standard[:, 0], 2.0 * standard[:, 1]
    benefit = np.stack([np.zeros_like(first), first - second], axis=1)
    # Scrambled Sobol points: errors of about 1e-4 for the mean; the regression adds
    # (8 / 16,384) times the residual variance, below 2e-3 of which little reaches the maximum.
    assert expected_regret(benefit) == pytest.approx(0.479811, abs=1e-3)
    assert partial_information(benefit, first) == pytest.approx(0.083315, abs=2e-3)
    assert partial_information(benefit, second) == pytest.approx(0.395593, abs=2e-3)
    # An irrelevant parameter is worth nothing, up to the same error.
    noise = np.random.default_rng(0).normal(size=len(first))
    assert abs(partial_information(benefit, noise)) < 2e-3


@pytest.fixture(scope="module")
def plane():
    """Independent normal logarithms, no data; options worth 0 and u - v in standard units."""
    RC, theta11 = np.meshgrid(*axes(), indexing="ij")
    first, second = (RC - np.log(15.0)) / 0.2, (theta11 - np.log(4.2)) / 0.25
    benefit = np.stack([np.zeros_like(first), 0.3 + first - 2.0 * second], axis=-1)
    flat = np.zeros((*NODES, 2, 90))
    return Plane(flat, np.zeros((2, *NODES)), -(first**2 + second**2) / 2, benefit)


def _expected_gain(mean, scale):
    """E max(0, N(mean, scale)) - max(0, mean)."""
    z = mean / scale
    return mean * norm.cdf(z) + scale * norm.pdf(z) - max(0.0, mean)


def test_quadrature_has_the_normal_intervals_and_values_of_information(plane):
    weights = plane.weights(np.zeros((2, 90)))
    ends = np.exp(np.log([15.0, 4.2])[:, None] + np.outer([0.2, 0.25], [-1, 1]) * norm.ppf(0.95))
    # The ends are interpolated linearly on steps of .02, where densities curve; the strip along
    # the ridge cuts off tails beyond 4 standard deviations.
    np.testing.assert_allclose([grid_interval(weights, axis=i) for i in (0, 1)], ends, rtol=1e-3)
    # A kink integrated on a grid: error of the order of the squared step, .1 standard deviations.
    assert plane.perfect(weights) == pytest.approx(_expected_gain(0.3, np.sqrt(5)), abs=2e-3)
    assert plane.partial(weights, axis=0) == pytest.approx(_expected_gain(0.3, 1.0), abs=2e-3)
    assert plane.partial(weights, axis=1) == pytest.approx(_expected_gain(0.3, 2.0), abs=2e-3)


def test_nested_sampling_agrees_with_quadrature(plane):
    weights = plane.weights(np.zeros((2, 90)))
    found, error = nested_sampling(plane, weights, num_outer=2000, num_inner=2000)
    # Four standard errors, and the bias of the inner maximum: below variance / inner = 2e-3.
    assert error < 0.02
    assert abs(found - plane.partial(weights, axis=0)) < 4 * error + 2e-3


def test_data_enter_the_grid_by_their_likelihood(plane):
    """Three replacements in bin 0, each with chance proportional to RC^2, move log RC."""
    along = np.linspace(*axes()[0][[0, -1]], NODES[0])
    chance = np.zeros((*NODES, 2, 90))
    chance[:, :, 1, 0] = 2.0 * along[:, None]
    observed = Plane(chance, plane.worth, plane.log_prior, plane.net_benefit)
    counts = np.zeros((2, 90))
    counts[1, 0] = 3
    # A normal prior times exp(6 log RC): the mean moves by 6 * .2^2. Strip as above.
    mean = (observed.weights(counts).sum(1) * axes()[0]).sum()
    assert mean == pytest.approx(np.log(15.0) + 6 * 0.2**2, abs=2e-3)


def test_only_observed_choices_are_counted():
    data = make_trajectories(
        [np.array([0, 1, 2]), np.array([5, 5])],
        [np.array([0, 0, 1]), np.array([0, 1])],
        follower=["a", "b"],
        context=["fleet", "fleet"],
        choice_observed=[np.array([False, True, True]), np.array([True, True])],
    )
    counts = choice_counts(data)
    expected = np.zeros((2, 2, 90))
    expected[0, 0, 1] = expected[0, 1, 2] = expected[1, 0, 5] = expected[1, 1, 5] = 1
    np.testing.assert_array_equal(counts, expected)
