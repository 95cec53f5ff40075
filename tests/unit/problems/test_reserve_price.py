"""The sale against simulated auctions, closed forms and the textbook optimum; what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.optimize import brentq
from scipy.special import expit

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.hypergradients import Ascent, Exact, Search, SearchProgram
from cbrl_bayes.problems import leader_outcome
from cbrl_bayes.problems.reserve_price import reserve_price


def _worth(problem):
    """Return revenue as a compiled function of reserve prices and temperature."""

    @jax.jit
    def of(reserve, temperature):
        x = {"reserve": jnp.log(reserve) - jnp.log1p(-reserve)}
        given = problem.default_parameters | {"temperature": temperature}
        return leader_outcome(problem, x, given).objective

    return of


def _tables(problem, reserve, cell):
    incentive = {"reserve": jnp.asarray(reserve, float)}
    value = problem.contexts.values[cell]
    given = problem.default_parameters
    mdp = problem.mdp_fn(incentive, value, given)
    return mdp, problem.leader_net_reward(incentive, value, given)


@pytest.mark.slow
def test_payoffs_are_those_of_simulated_auctions():
    """Second-price auctions played out: 3 rivals, a law of values that is not uniform."""
    law, reserve, num = np.array([0.1, 0.2, 0.4, 0.3]), 0.35, 400_000
    problem = reserve_price(
        num_rivals=3,
        value_probability=tuple(law),
        num_bids=4,
        num_rounds=2,
        participation_cost=0.01,
    )
    rng = np.random.default_rng(0)
    rivals = (rng.choice(4, (num, 3), p=law) + rng.random((num, 3))) / 4
    ordered = np.sort(rivals, axis=1)
    top, next_to_top = ordered[:, -1], ordered[:, -2]
    mdp, revenue = _tables(problem, [reserve, 0.2], 2)
    for step in range(4):
        bid = reserve + step / 4 * (1 - reserve)
        wins = bid >= top
        mine = np.where(wins, 0.625 - np.maximum(reserve, top), 0.0) - 0.01
        paid = np.where(wins, np.maximum(reserve, top), np.maximum(bid, next_to_top))
        # Four standard errors of a mean of 400,000 numbers with a spread below .5.
        assert float(mdp.reward[0, 1 + step]) == pytest.approx(mine.mean(), abs=3e-3)
        assert float(revenue[0, 1 + step]) == pytest.approx(paid.mean(), abs=3e-3)
    paid = np.where(top >= reserve, np.maximum(reserve, next_to_top), 0.0)
    assert float(revenue[0, 0]) == pytest.approx(paid.mean(), abs=3e-3)
    unsold = float(mdp.transition.probability[0, 0, 1])
    assert unsold == pytest.approx((top < reserve).mean(), abs=3e-3)
    assert float(mdp.transition.probability[0, 0, 2]) == pytest.approx(1 - unsold, rel=1e-12)
    np.testing.assert_allclose(mdp.transition.probability[0, 1:, 2], 1.0)


def test_posted_price_in_closed_form():
    """One buyer: it buys with the logistic of value less price less cost."""
    problem = reserve_price(num_rivals=0, temperature=0.07, participation_cost=0.03)
    values = (np.arange(20) + 0.5) / 20
    worth = _worth(problem)
    for price in (0.2, 0.5, 0.8):
        expected = price * expit((values - price - 0.03) / 0.07).mean()
        # Two closed forms; rounding.
        assert float(worth(jnp.array([price]), 0.07)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    "num_rivals", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 4))]
)
def test_uniform_values_lead_to_one_half(num_rivals):
    """Whatever the number of rivals, as rationality grows; revenue too goes to the textbook's."""
    n = num_rivals + 1
    # Revenue of n bidders with reserve 1/2: the integral of the virtual value over d F^n.
    textbook = 2 * n / (n + 1) * (1 - 0.5 ** (n + 1)) - (1 - 0.5**n)
    grid = np.linspace(0.4, 0.64, 13)
    problem = reserve_price(
        num_rivals=num_rivals,
        participation_cost=0.0,
        value_probability=(0.01,) * 100,
        num_bids=None if num_rivals == 0 else 20,
    )
    worth = _worth(problem)
    blunt, sharp = (
        np.array([float(worth(jnp.array([r]), t)) for r in grid]) for t in (0.05, 0.005)
    )
    # One step of the grid of reserve prices, two cells of values.
    assert abs(grid[sharp.argmax()] - 0.5) < 0.021
    # Half a cell of values times the density of the highest of n, and the ladder's step 1/40.
    assert abs(sharp.max() - textbook) < 0.01
    if num_rivals == 0:
        # The logistic is symmetric, so that a lone buyer's errors cancel at one half.
        assert abs(grid[blunt.argmax()] - 0.5) < 0.021
    else:
        # Errors with rivals are bids above the value: they raise price and best reserve, by more
        # than the .01 within which the sharp optimum meets the textbook's.
        assert grid[blunt.argmax()] > grid[sharp.argmax()]
        assert blunt.max() > sharp.max() + 0.01


@pytest.mark.slow
def test_exponential_values_lead_to_the_root_of_the_virtual_value():
    """F truncated exponential, rate 3 on [0, 1]: not 1/2. Gradient signs on either side."""
    rate, cells = 3.0, 60
    edges = np.linspace(0, 1, cells + 1)
    mass = 1 - np.exp(-rate)

    def virtual(v):
        return v - (np.exp(-rate * v) - np.exp(-rate)) / (rate * np.exp(-rate * v))

    root = brentq(virtual, 0.01, 0.99)
    law = tuple(np.diff((1 - np.exp(-rate * edges)) / mass))
    problem = reserve_price(
        num_rivals=0, participation_cost=0.0, value_probability=law, initial_share=0.5
    )
    assert abs(root - 0.5) > 0.15
    program = SearchProgram(
        problem, Exact(), Search(ascent=Ascent(num_steps=120, learning_rate=0.1))
    )
    given = problem.complete_parameters({"temperature": 0.01})
    found = program.run(given, key=jax.random.key(0), start=problem.incentive.initial)
    reserve = float(problem.incentive.transform(found.best.unconstrained)["reserve"][0])
    # A cell of values (1/60) and the temperature (.01) both blur the optimum.
    assert reserve == pytest.approx(root, abs=0.02)
    price = root * (1 - (1 - np.exp(-rate * root)) / mass)
    assert found.best.objective == pytest.approx(price, abs=2e-3)


@pytest.mark.slow
def test_price_path_of_a_durable_good():
    """Two prices, no rivals: buyers at the threshold wait; Stokey's and the myopic case."""
    values = (np.arange(50) + 0.5) / 50
    for patience in (0.0, 0.8):
        problem = reserve_price(
            num_rivals=0,
            num_rounds=2,
            buyer_discount=patience,
            participation_cost=0.0,
            value_probability=(0.02,) * 50,
        )
        worth = _worth(problem)
        for first, later in ((0.605, 0.405), (0.505, 0.445), (0.635, 0.315)):
            at_once = values - first >= patience * np.maximum(values - later, 0.0)
            at_once &= values >= first
            waits = ~at_once & (values >= later)
            enumerated = first * at_once.mean() + 0.95 * later * waits.mean()
            # One value of 50 (2 % of the buyers) may be within reach of the threshold.
            found = float(worth(jnp.array([first, later]), 5e-4))
            assert found == pytest.approx(enumerated, abs=2e-3)


@pytest.mark.slow
def test_a_myopic_buyer_is_offered_the_textbook_path():
    """p_1 (1 - p_1) + d p_2 (p_1 - p_2) is largest at p_1 = 1 / (2 - d/2), p_2 = p_1 / 2."""
    problem = reserve_price(
        num_rivals=0,
        num_rounds=2,
        buyer_discount=0.0,
        participation_cost=0.0,
        value_probability=(0.02,) * 50,
        temperature=0.01,
    )
    program = SearchProgram(
        problem, Exact(), Search(ascent=Ascent(num_steps=120, learning_rate=0.1))
    )
    found = program.run(
        problem.default_parameters, key=jax.random.key(0), start=problem.incentive.initial
    )
    reserve = problem.incentive.transform(found.best.unconstrained)["reserve"]
    first = 1 / (2 - 0.95 / 2)
    # Temperature .01 and cells of .02 blur the optimum.
    np.testing.assert_allclose(reserve, [first, first / 2], atol=0.02)


@pytest.mark.slow
def test_gradient_through_payoffs_and_transitions():
    """Two rounds and two rivals: the chance that the item comes back moves with the reserve."""
    problem = reserve_price(num_rivals=2, num_rounds=2, value_probability=(0.2, 0.3, 0.3, 0.2))
    x = problem.incentive.random_start(jax.random.key(4), 0.4)
    parameters, estimator = problem.default_parameters, Exact()
    gradient, _, info = estimator.estimate(
        problem,
        x,
        parameters,
        estimator.init(problem, x, key=jax.random.key(0)),
        key=jax.random.key(1),
    )
    assert int(info.status) == 0
    flat, unravel = ravel_pytree(x)
    worth = jax.jit(lambda v: leader_outcome(problem, unravel(v), parameters).objective)
    steps = 1e-5 * np.eye(flat.size)
    central = [(float(worth(flat + h)) - float(worth(flat - h))) / 2e-5 for h in steps]
    # F has kinks at the edges of cells: steps as small as digits allow.
    np.testing.assert_allclose(ravel_pytree(gradient)[0], central, rtol=1e-5, atol=1e-8)
    assert min(abs(slope) for slope in central) > 1e-4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_rivals": -1}, "num_rivals >= 0"),
        ({"num_rounds": 0}, "num_rounds >= 1"),
        ({"num_bids": 0}, "num_bids >= 1"),
        ({"highest_value": 0.0}, r"highest_value in \(0, inf\)"),
        ({"participation_cost": -0.1}, r"participation_cost in \[0, inf\)"),
        ({"participation_cost": np.nan}, r"participation_cost in \[0, inf\)"),
        ({"value_probability": (1.0,)}, "at least 2 probabilities"),
        ({"value_probability": (0.5, 0.6)}, "not a distribution"),
        ({"initial_share": 1.0}, r"initial_share in \(0, 1\)"),
        ({"temperature": 0.0}, "temperature"),
        ({"buyer_discount": 1.1}, "discount"),
        ({"seller_discount": 1.1}, "out of range"),
    ],
)
def test_impossible_sales_are_refused(arguments, words):
    with pytest.raises(InvalidInputError, match=words):
        reserve_price(**arguments)


def test_a_cost_of_zero_is_known():
    assert reserve_price(participation_cost=0.0).uncertain == ("temperature",)
    assert reserve_price().uncertain == ("temperature", "participation_cost")
