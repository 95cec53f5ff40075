"""What counts as a step does not depend on the unit of money, and is found where not declared."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cbrl_bayes as cb
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.hypergradients import AscentProgram
from cbrl_bayes.mdp import replace_fields
from cbrl_bayes.problems import two_state
from tests.conftest import make_moving_problem


def undeclared(problem, initial, transform):
    space = problem.incentive
    return replace(problem, incentive=cb.IncentiveSpace(initial, transform, space.labels))


def test_an_amount_of_money_has_a_scale_in_money():
    for k in (1e-6, 1.0, 1e6):
        problem = two_state(benefit=2 * k, costs=(0.5 * k, 1.5 * k), temperature=0.25 * k)
        found = undeclared(problem, {"bonus": jnp.zeros(())}, lambda x: x).scale
        # Typical cost plus temperature: .5 + .25; half of it moves by a bonus of .375 in a
        # direction of length 1, more in the longest of the random directions.
        assert 0.375 / 3 < found.incentive[0] / k <= 0.375
        assert found.objective == pytest.approx(2 * k)


def test_found_scales_do_not_depend_on_the_unit():
    scales = [
        undeclared(
            two_state(benefit=2 * k, costs=(0.5 * k, 1.5 * k), temperature=0.25 * k),
            {"bonus": jnp.zeros(())},
            lambda x: x,
        ).scale.incentive[0]
        / k
        for k in (1e-6, 1.0, 1e6)
    ]
    # Bisection ends within a factor of 8 ** (2 ** -12).
    np.testing.assert_allclose(scales, scales[1], rtol=1e-3)


def test_a_saturated_start_has_a_scale_that_leads_out_of_it():
    problem = two_state()

    def from_logit(start):
        return undeclared(
            problem,
            {"logit": jnp.asarray(start)},
            lambda x: {"bonus": cb.problems.scaled_sigmoid(x["logit"], 0.0, 2.0)},
        )

    ordinary, saturated = (from_logit(start).scale.incentive[0] for start in (0.0, 40.0))
    assert 0.3 < ordinary < 3.0
    assert 10.0 < saturated < 80.0


def test_each_leaf_has_its_own_scale_and_huge_losses_do_not_set_it():
    problem = two_state()
    mdp_fn = problem.mdp_fn

    def with_pit(incentive, cost, parameters):
        mdp = mdp_fn({"bonus": incentive["bonus"] / 100.0}, cost, parameters)
        return replace(mdp, reward=mdp.reward.at[1].set(-1e9))

    space = cb.IncentiveSpace(
        {"cents": jnp.zeros(()), "idle": jnp.zeros(2)},
        lambda x: {"bonus": x["cents"]},
        {"bonus": cb.Labels()},
    )
    scale = replace(problem, incentive=space, mdp_fn=with_pit, incentive_price_fn=None).scale
    assert 10.0 < scale.incentive[0] < 100.0
    assert scale.incentive[1:].tolist() == [1.0, 1.0]  # nothing reacts to it


def test_a_declared_scale_is_taken_and_checked():
    space = make_moving_problem().incentive
    assert two_state(benefit=4.0).scale.incentive == 2.0
    for wrong in (0.0, -1.0, {"a": 1.0, "b": 2.0, "c": 3.0}):
        with pytest.raises(InvalidInputError, match="scale"):
            replace(space, scale=wrong)


@pytest.mark.parametrize("k", [1e-6, 1e6])
@pytest.mark.parametrize("declared", [True, False])
def test_an_ascent_makes_the_same_steps_in_any_unit(k, declared):
    """All money times k: the same walk, times k. Two routes: a declared scale, and a found one."""

    def walk(k):
        problem = two_state(benefit=2 * k, costs=(0.5 * k, 1.5 * k), temperature=0.25 * k)
        if not declared:
            problem = undeclared(problem, {"bonus": jnp.zeros(())}, lambda x: x)
        program = AscentProgram(problem, cb.Exact(), cb.Ascent(num_steps=40))
        return program.run(problem.default_parameters, key=jax.random.key(0))

    one, other = walk(1.0), walk(k)
    # The scale that is found differs by a thousandth at most, and so do steps.
    close = 1e-9 if declared else 2e-3
    np.testing.assert_allclose(other.trace.objective / k, one.trace.objective, rtol=close)
    assert float(other.unconstrained["bonus"]) / k == pytest.approx(
        float(one.unconstrained["bonus"]), rel=max(close, 1e-6)
    )
    assert one.status == other.status


@pytest.mark.parametrize("k", [1e-6, 1e6])
def test_finite_differences_are_as_wide_in_any_unit(k):
    def slope(k):
        problem = two_state(benefit=2 * k, costs=(0.5 * k, 1.5 * k), temperature=0.25 * k)
        estimator, start = cb.ZerothOrder(num_rollouts=None), problem.incentive.initial
        given = problem, start, problem.default_parameters
        state = estimator.init(problem, start, key=jax.random.key(0))
        # The scale may first be asked for inside a program.
        found = jax.jit(lambda s: estimator.estimate(*given, s, key=jax.random.key(1)))(state)
        return float(found[0]["bonus"])  # money per money

    assert slope(k) == pytest.approx(slope(1.0), rel=1e-6)


def test_a_leader_who_earns_nothing_but_rounding_at_the_start_does_not_set_the_scale():
    """A price at cost: .3 - 3 * .1 is 6e-17."""
    problem = two_state(benefit=0.3)

    def priced(start):
        found = undeclared(problem, {"bonus": jnp.asarray(start)}, lambda x: x)
        return replace(
            found, incentive_price_fn=lambda i, c, p: 3.0 * problem.incentive_price_fn(i, c, p)
        ).scale

    nothing, earning = priced(0.1), priced(0.0)
    # Within a factor: what the leader's money is measured by, .65 (the follower's) beside .3.
    assert 1.0 < nothing.incentive[0] / earning.incentive[0] < 4.0
    assert nothing.objective == pytest.approx(0.4 + 0.25)


def test_an_incentive_that_sets_the_temperature_has_a_scale_in_its_unit():
    def heated(k):
        problem = two_state(benefit=2 * k, costs=(0.5 * k, 1.5 * k), temperature=0.25 * k)
        found = undeclared(problem, {"bonus": jnp.asarray(0.25 * k)}, lambda x: x)

        def mdp_fn(incentive, cost, parameters):
            mdp = problem.mdp_fn({"bonus": 0.0}, cost, parameters)
            return replace_fields(mdp, temperature=incentive["bonus"])

        return replace(found, mdp_fn=mdp_fn, incentive_price_fn=None).scale.incentive[0] / k

    scales = [heated(k) for k in (1e-6, 1.0, 1e6)]
    # Bisection ends within a factor of 8 ** (2 ** -12).
    np.testing.assert_allclose(scales, scales[1], rtol=1e-3)
    assert 0.1 < scales[1] < 1.0  # half of .5 + .25 in a direction of length 1
