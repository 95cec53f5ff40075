"""Converged means that nothing nearby is better, not that a slope vanishes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cbrl_bayes as cb
from cbrl_bayes.hypergradients import AscentProgram, AscentStatus
from cbrl_bayes.hypergradients.probes import Place, Probes
from cbrl_bayes.problems import two_state


def settled(objective, at, scale=1.0):
    both = jax.value_and_grad(objective)
    point = jnp.atleast_1d(jnp.asarray(at, float))
    value, slope = both(point)
    scale = np.full(point.shape, scale)

    def look(probes):
        probe = probes.next_point(scale)
        return probes.seen(Place(probe, *both(probe)), 1e-3)

    start = Probes.around(Place(point, value, slope))
    return jax.lax.while_loop(lambda probes: ~probes.over, look, start)


def test_a_smooth_optimum_a_kink_and_a_plateau_top():
    smooth = settled(lambda x: -((x[0] - 1.0) ** 2), 0.9)
    assert bool(smooth.converged)
    assert float(smooth.centre.point[0]) == pytest.approx(
        1.0, abs=0.03
    )  # a gain of 1e-3 remains at most
    kink = settled(lambda x: -jnp.abs(x[0] - 1.0), 1.0 + 1e-5)
    assert bool(kink.converged)
    assert abs(float(kink.centre.gradient[0])) == 1.0
    top = settled(lambda x: jax.nn.sigmoid(x[0]), 60.0)
    assert bool(top.converged)
    assert not bool(top.flat)


def test_no_slope_is_no_optimum():
    """Flat to the last bit at the start; the way up begins 5 scales off."""
    found = settled(lambda x: jax.nn.relu(15.0 - jnp.abs(x[0] - 20.0)), 0.0)
    assert float(found.centre.objective) > 0.0


def test_an_objective_that_never_reacts_is_called_flat():
    found = settled(lambda x: 3.0 + 0.0 * x[0], 0.0)
    assert bool(found.flat)
    problem = replace(two_state(), leader_reward_fn=lambda *_: jnp.ones((2, 2)))
    problem = replace(problem, incentive_price_fn=None)
    program = AscentProgram(problem, cb.Exact(), cb.Ascent(num_steps=3))
    result = program.run(problem.default_parameters, key=jax.random.key(0))
    assert result.status is AscentStatus.FLAT


def test_points_where_the_problem_is_not_defined_are_left():
    def objective(x):
        return jnp.where(x[0] > 1.0, jnp.nan, x[0])

    found = settled(objective, 0.5)
    assert 0.97 < float(found.centre.point[0]) <= 1.0  # six rounds come as near as that


@pytest.mark.parametrize("start", [-40.0, 38.0])
def test_a_saturated_start_is_left(start):
    base = two_state()
    space = cb.IncentiveSpace(
        {"logit": jnp.asarray(start)},
        lambda x: {"bonus": cb.problems.scaled_sigmoid(x["logit"], 0.0, 2.0)},
        base.incentive.labels,
    )
    problem = replace(base, incentive=space)
    program = AscentProgram(problem, cb.Exact(), cb.Ascent(num_steps=100))
    found = program.run(problem.default_parameters, key=jax.random.key(0))
    bonus = float(problem.incentive.transform(found.unconstrained)["bonus"])
    grid = np.linspace(0.0, 2.0, 2001)
    worth = jax.vmap(
        lambda b: cb.leader_outcome(base, {"bonus": b}, base.default_parameters).objective
    )(grid)
    assert found.objective == pytest.approx(float(worth.max()), rel=1e-3)
    assert bonus == pytest.approx(grid[int(worth.argmax())], abs=0.05)


def test_an_incentive_that_makes_no_mdp_is_no_answer():
    """The chance of success is .5 + push: .5 is the most there can be."""

    def mdp_fn(incentive, context, parameters):
        chance = 0.5 + incentive["push"]
        law = jnp.stack([1.0 - chance, chance]) * jnp.ones((2, 2, 2))
        return cb.MDP(
            jnp.zeros((2, 2)),
            cb.DenseTransition(law),
            jnp.array([1.0, 0.0]),
            0.5,
            parameters["temperature"],
        )

    problem = cb.Problem(
        name="push",
        incentive=cb.IncentiveSpace(
            {"push": jnp.zeros(())}, lambda x: x, {"push": cb.Labels()}, scale=0.2
        ),
        contexts=cb.DiscreteContexts(("only",), jnp.zeros(1), (1.0,)),
        mdp_fn=mdp_fn,
        parameters={"temperature": 1.0},
        leader_reward_fn=lambda *_: jnp.array([[0.0, 0.0], [10.0, 10.0]]),
        leader_discount=0.5,
    )
    program = AscentProgram(problem, cb.Exact(), cb.Ascent(num_steps=60))
    found = program.run(problem.default_parameters, key=jax.random.key(0))
    assert 0.49 < float(found.unconstrained["push"]) <= 0.5 + 1e-8
    assert found.objective == pytest.approx(10.0, rel=0.02)
