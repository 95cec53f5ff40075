"""Without a discount: shortest paths, processes that never end, and where wandering pays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cbrl_bayes as cb
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import (
    SuccessorTransition,
    best_response,
    check_ends,
    critical_temperature,
    expected_return,
)
from cbrl_bayes.status import SolveStatus

FOUR_STATES = np.array([[1, 2, 0], [0, 2, 3], [3, 1, 0], [3, 3, 3]])
COSTS = np.array([[1.0, 4.0, 1.0], [1.0, 1.0, 6.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])


def network(temperature, cost=COSTS, discount=1.0):
    """State 3 is the end; moves are certain."""
    return cb.MDP(
        -jnp.asarray(cost),
        SuccessorTransition(jnp.asarray(FOUR_STATES)[..., None], jnp.ones((4, 3, 1))),
        jnp.array([1.0, 0, 0, 0]),
        discount,
        temperature,
        terminal=np.arange(4) == 3,
        available=np.array(
            [[True, True, False], [True, True, True], [True] * 3, [True, False, False]]
        ),
    )


def test_a_cold_follower_takes_the_shortest_path():
    for temperature in (1e-3, 1e-6):
        found = best_response(network(temperature))
        assert int(found.status) == SolveStatus.CONVERGED
        np.testing.assert_allclose(found.values, [-3.0, -2.0, -1.0, 0.0], atol=3 * temperature)


def test_values_solve_the_linear_system_of_desirabilities():
    r"""With certain moves :math:`z = \exp(V/\lambda)` solves :math:`z = M z + b`."""
    temperature = 0.4
    mdp = network(temperature)
    weight = np.where(mdp.available, np.exp(-COSTS / temperature), 0.0)
    matrix = np.zeros((4, 4))
    np.add.at(matrix, (np.repeat(np.arange(4), 3), FOUR_STATES.ravel()), weight.ravel())
    matrix[3] = 0.0
    desirability = np.linalg.solve(np.eye(4) - matrix, np.eye(4)[3])
    found = best_response(mdp)
    np.testing.assert_allclose(found.values, temperature * np.log(desirability), rtol=1e-10)


def test_the_critical_temperature_is_where_the_spectral_radius_is_one():
    found = critical_temperature(network(0.4))

    def radius(temperature):
        weight = np.where(network(1.0).available, np.exp(-COSTS / temperature), 0.0)[:3]
        matrix = np.zeros((3, 4))
        np.add.at(matrix, (np.repeat(np.arange(3), 3), FOUR_STATES[:3].ravel()), weight.ravel())
        return abs(np.linalg.eigvals(matrix[:, :3])).max()

    assert radius(found * 0.999) < 1.0 < radius(found * 1.001)
    assert int(best_response(network(0.99 * found)).status) == SolveStatus.CONVERGED
    with pytest.raises(InvalidInputError, match="wandering for ever is worth more than arriving"):
        best_response(network(1.01 * found))
    # Where values are not known, nothing can raise: the status says it.
    compiled = jax.jit(best_response)(network(1.01 * found))
    assert int(compiled.status) != SolveStatus.CONVERGED
    # In another unit of money it is the same temperature.
    assert critical_temperature(network(4e5, 1e6 * COSTS)) == pytest.approx(1e6 * found, rel=3e-4)


def test_moves_that_may_end_allow_any_temperature():
    """Staying pays 1 a step and ends with chance 1/2: V = 1 + lambda log 2 + V/2."""
    mdp = cb.MDP(
        jnp.array([[1.0, 1.0], [0.0, 0.0]]),
        cb.DenseTransition(jnp.array([[[0.5, 0.5]] * 2, [[0.0, 1.0]] * 2])),
        jnp.array([1.0, 0.0]),
        1.0,
        3.0,
        terminal=np.array([False, True]),
    )
    assert critical_temperature(mdp) == np.inf
    found = best_response(mdp).values
    end = 3.0 * np.log(2.0)
    np.testing.assert_allclose(found, [2.0 * (1.0 + end) + end, end], rtol=1e-12)


def test_derivatives_without_a_discount():
    def worth(temperature, scale):
        mdp = network(temperature, COSTS * scale)
        found = best_response(mdp)
        return expected_return(mdp, found.policy, discount=1.0, reward=-jnp.asarray(COSTS))

    slopes = jax.grad(worth, (0, 1))(0.4, 1.0)
    step = 1e-5
    for place, slope in enumerate(slopes):
        moved = [worth(*np.add((0.4, 1.0), np.eye(2)[place] * d)) for d in (step, -step)]
        np.testing.assert_allclose(slope, (moved[0] - moved[1]) / (2 * step), rtol=1e-6)


def test_a_state_without_an_end_is_named():
    stuck = cb.MDP(
        jnp.zeros((3, 1)),
        SuccessorTransition(jnp.array([[[1]], [[1]], [[2]]]), jnp.ones((3, 1, 1))),
        jnp.array([1.0, 0.0, 0.0]),
        1.0,
        1.0,
        terminal=np.array([False, False, True]),
    )
    with pytest.raises(InvalidInputError, match=r"can be reached from state 0 \(and from 1"):
        best_response(stuck)
    with pytest.raises(InvalidInputError, match="from state home"):
        check_ends(stuck, ("home", "work", "end"))


def test_wandering_that_pays_at_any_temperature_is_said():
    with pytest.raises(InvalidInputError, match="at any temperature"):
        best_response(network(0.4, np.where(COSTS == 1.0, -1.0, COSTS)))
