"""The contract against closed forms, the textbook limit and back-loading; what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize_scalar
from scipy.special import expit

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.hypergradients import Ascent, Exact, Search, SearchProgram
from cbrl_bayes.mdp import best_response
from cbrl_bayes.problems import leader_outcome
from cbrl_bayes.problems.contract_design import contract_design

LAW = np.array([[0.7, 0.3], [0.2, 0.8]])
GAIN = np.array([0.0, 6.0])
FAR_BELOW = -1e3  # an outside option nobody takes


def _softplus_inverse(payment):
    return jnp.log(jnp.expm1(jnp.asarray(payment, float)))


def _objective(problem, payment, **parameters):
    given = problem.complete_parameters(parameters)
    return float(leader_outcome(problem, {"payment": _softplus_inverse(payment)}, given).objective)


def _by_hand(payment, types, weights, temperature, outside):
    """One stage: (objective, policies), from the softmax of expected payment less cost."""
    policies = []
    worth = 0.0
    for cost_type, weight in zip(types, weights, strict=True):
        pay = LAW @ np.asarray(payment)
        scaled = np.array([outside, *(pay - cost_type * np.array([0.0, 1.0]))]) / temperature
        policy = np.exp(scaled - np.logaddexp.reduce(scaled))
        worth += weight * policy[1:] @ (LAW @ GAIN - pay)
        policies.append(policy)
    return worth, np.array(policies)


@pytest.mark.parametrize("temperature", [0.05, 0.7])
def test_one_stage_is_the_softmax_of_pay_less_cost(temperature):
    types, weights, payment = (0.8, 1.4), (0.3, 0.7), (0.3, 2.2)
    problem = contract_design(
        num_stages=1, type_probability=weights, temperature=temperature, outside_option=0.2
    )
    worth, expected = _by_hand(payment, types, weights, temperature, 0.2)
    # Rounding only: both sides are closed forms. rtol leaves room for 1 / temperature.
    assert _objective(problem, [payment]) == pytest.approx(worth, rel=1e-11)
    for index, cost_type in enumerate(types):
        mdp = problem.mdp_fn(
            {"payment": jnp.array([payment])}, cost_type, problem.default_parameters
        )
        policy = best_response(mdp).policy[0]
        np.testing.assert_allclose(policy, expected[index], rtol=1e-10)


def test_the_optimum_goes_to_the_limited_liability_solution():
    """Ascent beside a scalar search on the closed form, and both beside the textbook."""
    problem = contract_design(num_stages=1, cost_types={"all": 1.0}, outside_option=FAR_BELOW)
    program = SearchProgram(
        problem, Exact(), Search(ascent=Ascent(num_steps=800, learning_rate=0.05))
    )
    textbook = 1.0 / (0.8 - 0.3)
    gaps, losses, start = [], [], problem.incentive.initial
    for temperature in (0.2, 0.05, 0.01):
        given = problem.complete_parameters({"temperature": temperature})
        start = program.run(given, key=jax.random.key(0), start=start).best.unconstrained
        found = np.asarray(problem.incentive.transform(start)["payment"])[0]

        def loss(high, t=temperature):
            work = expit((0.5 * high - 1.0) / t)
            return -(work * 0.8 + (1 - work) * 0.3) * (6.0 - high)

        best = minimize_scalar(loss, bounds=(1.5, 4.0), method="bounded", options={"xatol": 1e-10})
        reached = _objective(problem, [np.maximum(found, 1e-12)], temperature=temperature)
        # The bad outcome's payment falls to zero only slowly on the softplus scale.
        assert reached == pytest.approx(-best.fun, rel=2e-3)
        assert found[1] == pytest.approx(best.x, abs=0.03)
        assert found[0] < 0.02
        gaps.append(best.x - textbook)
        losses.append(0.8 * (6.0 - textbook) + best.fun)
    # The slack over the textbook payment is of the order lambda log(1 / lambda): at lambda =
    # .01 about .01 * (log(1 / .01) + 1) / .5.
    assert 0.0 < gaps[2] < gaps[1] < gaps[0]
    assert gaps[2] < 0.12
    assert losses[2] < 0.12 * 0.8


def test_agent_keeps_the_textbook_rent():
    """At the textbook payment a rational agent is indifferent and keeps p_low w > 0."""
    problem = contract_design(
        num_stages=1, cost_types={"all": 1.0}, outside_option=FAR_BELOW, temperature=1e-3
    )
    mdp = problem.mdp_fn({"payment": jnp.array([[0.0, 2.0]])}, 1.0, problem.default_parameters)
    answer = best_response(mdp)
    np.testing.assert_allclose(answer.policy[0], [0.0, 0.5, 0.5], atol=1e-9)
    # Rent .3 * 2 plus the entropy of the tie.
    assert float(answer.values[0]) == pytest.approx(0.6 + 1e-3 * np.log(2), rel=1e-9)


def test_two_stages_by_enumeration():
    """Backward induction written out: leaving, effort and the end, for each stage."""
    u, g, t = 0.2, 0.9, 0.3
    payment = np.array([[0.1, 1.0], [0.3, 2.5]])
    problem = contract_design(
        cost_types={"all": 1.2},
        outside_option=u,
        discount=g,
        temperature=t,
        continuation=(0.25, 0.9),
    )
    ahead = LAW @ np.array([0.25, 0.9])
    cost = 1.2 * np.array([0.0, 1.0])
    second = np.array([u, *(LAW @ payment[1] - cost)])
    value = t * np.logaddexp.reduce(second / t)
    second_policy = np.exp((second - value) / t)
    first = np.array([u + g * u, *(LAW @ payment[0] - cost + g * ahead * value)])
    first_policy = np.exp((first - t * np.logaddexp.reduce(first / t)) / t)
    mdp = problem.mdp_fn({"payment": jnp.asarray(payment)}, 1.2, problem.default_parameters)
    answer = best_response(mdp)
    # Newton's tolerance is 1e-11; the end is worth nothing.
    np.testing.assert_allclose(answer.policy[:2], [first_policy, second_policy], rtol=1e-9)
    assert float(answer.values[2]) == pytest.approx(0.0, abs=1e-12)
    later = second_policy[1:] @ (LAW @ (GAIN - payment[1]))
    worth = first_policy[1:] @ (LAW @ (GAIN - payment[0]) + g * ahead * later)
    assert _objective(problem, payment) == pytest.approx(worth, rel=1e-9)


def test_deferred_pay_replaces_early_pay():
    """For a rational agent the rent of stage 2 counts toward the incentive in stage 1.

    The least payment that makes it work in stage 1 falls one for one with that rent, here
    to p_low w exactly where w_1 = 2 - gamma (.8 w_2 - 1).
    """
    later = 2.4
    edge = 2.0 - 0.95 * (0.8 * later - 1.0)
    problem = contract_design(cost_types={"all": 1.0}, outside_option=FAR_BELOW, temperature=2e-3)
    for early, works in ((edge - 0.05, 0.0), (edge, 0.5), (edge + 0.05, 1.0)):
        payment = jnp.array([[0.0, early], [0.0, later]])
        mdp = problem.mdp_fn({"payment": payment}, 1.0, problem.default_parameters)
        # exp(-.5 * .05 / .002) = 4e-6 of the other action is left.
        assert float(best_response(mdp).policy[0, 2]) == pytest.approx(works, abs=1e-5)


def test_gradient_against_central_differences():
    problem = contract_design(num_stages=2)
    x = problem.incentive.random_start(jax.random.key(3), 0.7)
    parameters = problem.default_parameters
    estimator = Exact()
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
    steps = 1e-4 * np.eye(flat.size)
    central = [(float(worth(flat + h)) - float(worth(flat - h))) / 2e-4 for h in steps]
    # Central differences err by h^2 times third derivatives of order 1 / temperature^2 = 25.
    np.testing.assert_allclose(ravel_pytree(gradient)[0], central, rtol=1e-5, atol=1e-7)
    assert min(abs(slope) for slope in central) > 1e-3


def test_the_payment_is_never_negative():
    problem = contract_design()
    payment = problem.incentive.transform({"payment": jnp.full((2, 2), -50.0)})["payment"]
    assert (np.asarray(payment) >= 0).all()


def test_a_large_payment_to_start_from():
    """Its softplus inverse must not overflow."""
    problem = contract_design(num_stages=1, initial_payment=1000.0)
    payment = problem.incentive.transform(problem.incentive.initial)["payment"]
    # Closed form, rounding only.
    np.testing.assert_allclose(payment, [[100.0, 1000.0]], rtol=1e-12)


def test_the_law_of_types_may_be_an_array():
    problem = contract_design(type_probability=np.array([0.3, 0.7]))
    given = problem.default_parameters["context_probability"]
    np.testing.assert_allclose(given, [0.3, 0.7])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"outcome_probability": ((0.7, 0.3),)}, "2 rows"),
        ({"outcome_probability": ((0.7, 0.3), (0.2, 0.9))}, "not a distribution"),
        ({"outcome_probability": ((1.2, -0.2), (0.2, 0.8))}, "not a distribution"),
        ({"effort_levels": (0.0, -1.0)}, "effort levels >= 0"),
        ({"benefits": (0.0, np.inf)}, "finite benefits"),
        ({"effort_cost": 0.0}, "effort_cost and initial_payment > 0"),
        ({"outside_option": np.nan}, "finite outside option"),
        ({"num_stages": 0}, "num_stages >= 1"),
        ({"initial_payment": 0.0}, "initial_payment > 0"),
        ({"cost_types": {}}, "at least one type"),
        ({"cost_types": {"all": -1.0}}, "relative costs > 0"),
        ({"continuation": (0.0, 1.5)}, "one probability for each of 2 outcomes"),
        ({"continuation": (1.0,)}, "one probability for each of 2 outcomes"),
        ({"type_probability": (0.5, 0.6)}, "not a distribution"),
        ({"type_probability": ()}, "2 numbers >= 0"),
        ({"temperature": -0.1}, "temperature"),
        ({"discount": 1.1}, "out of range"),
    ],
)
def test_impossible_contracts_are_refused(arguments, words):
    with pytest.raises(InvalidInputError, match=words):
        contract_design(**arguments)
