"""Networks of deterministic moves: values, derivatives, lanes and what has no finite value."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cbrl_bayes.mdp import SolveStatus, linear_values
from cbrl_bayes.mdp.factors import factored

S, A = 9, 4  # seven places, two ends; actions 0 to 2 move, action 3 ends where it is open
ENDS = (7, 8)


@pytest.fixture(scope="module")
def network():
    """A random network on which every place reaches both ends; two lanes, one end open in each."""
    rng = np.random.default_rng(3)
    successor = np.concatenate([rng.integers(0, 7, (S, A - 1)), np.zeros((S, 1), int)], axis=1)
    successor[:7, 0] = (np.arange(7) + 1) % 7  # a ring
    available = np.ones((2, S, A), bool)
    available[:, 2, 1] = False
    available[:, :7, 3] = False
    successor[4, 3], successor[5, 3], successor[1, 3] = *ENDS, ENDS[0]
    available[0, (4, 1), 3] = available[1, 5, 3] = True
    available[:, ENDS, 2:] = False
    terminal = np.isin(np.arange(S), ENDS)
    reward = -1.5 - rng.random((S, A))
    return reward, successor, available, terminal


def _swept(reward, successor, available, terminal, temperature, values):
    ahead = np.where(terminal[:, None], 0.0, values[:, successor])
    logits = np.where(available, (reward + ahead) / temperature, -np.inf)
    return temperature * np.logaddexp.reduce(logits, axis=-1)


def _by_iteration(*network):
    values = np.zeros(network[2].shape[:2])
    for _ in range(2000):
        values = _swept(*network, values)
    return values


@pytest.mark.parametrize("temperature", [0.02, 0.7, 1.0])
def test_values_are_those_of_soft_value_iteration(network, temperature):
    found = linear_values(*network, temperature)
    assert (np.asarray(found.status) == SolveStatus.CONVERGED).all()
    np.testing.assert_allclose(found.values, _by_iteration(*network, temperature), rtol=1e-12)


def test_values_are_those_of_a_dense_solve(network):
    reward, successor, available, terminal = network
    found = linear_values(*network, 1.0).values
    for lane in range(2):
        matrix, ends = np.zeros((S, S)), np.zeros(S)
        for s, a in np.argwhere(available[lane]):
            if terminal[s]:
                ends[s] += np.exp(reward[s, a])
            else:
                matrix[s, successor[s, a]] += np.exp(reward[s, a])
        z = np.linalg.solve(np.eye(S) - matrix, ends)
        np.testing.assert_allclose(found[lane], np.log(z), rtol=1e-12)


def test_where_exponentials_underflow_values_are_still_right(network):
    """At this temperature z is about exp(-4000); the soft Bellman equation still holds."""
    found = linear_values(*network, 1e-3)
    assert (np.asarray(found.status) == SolveStatus.CONVERGED).all()
    swept = _swept(*network, 1e-3, np.asarray(found.values))
    np.testing.assert_allclose(found.values, swept, rtol=1e-13)
    # Costs times 1000 at 1000 times the temperature: the same values, times 1000.
    scaled = linear_values(1e3 * network[0], *network[1:], 1.0)
    np.testing.assert_allclose(scaled.values, 1e3 * found.values, rtol=1e-12)


@pytest.mark.parametrize("temperature", [1e-3, 0.8])
def test_slopes_are_those_of_finite_differences(network, temperature):
    """Also where the shifted system takes over; forward and reverse mode, and the Hessian."""
    reward, *rest = network
    rng = np.random.default_rng(0)
    direction, weight = rng.standard_normal((S, A)), rng.standard_normal((2, S))

    def along(x):
        moved = reward + x[0] * temperature * direction
        return (weight * linear_values(moved, *rest, temperature * (1.0 + x[1])).values).sum()

    at, step = jnp.zeros(2), 1e-5
    slope = jax.grad(along)
    differences = [(along(step * e) - along(-step * e)) / (2 * step) for e in np.eye(2)]
    np.testing.assert_allclose(slope(at), differences, rtol=1e-5, atol=1e-7)
    # The slope in the temperature is what is left of values of about 4: rounding at 1e-15.
    np.testing.assert_allclose(jax.jacfwd(along)(at), slope(at), rtol=1e-9, atol=1e-13)
    curvature = [(slope(step * e) - slope(-step * e)) / (2 * step) for e in np.eye(2)]
    np.testing.assert_allclose(jax.hessian(along)(at), curvature, rtol=1e-4, atol=1e-7)


def test_a_slope_in_a_reward_is_the_expected_number_of_moves(network):
    """Enumerated by following the policy for many steps."""
    reward, successor, available, terminal = network

    def first(rewards):
        return linear_values(rewards, successor, available, terminal, 1.0).values[0, 0]

    values = np.asarray(linear_values(*network, 1.0).values[0])
    ahead = np.where(terminal[:, None], 0.0, values[successor])
    policy = np.where(available[0], np.exp(reward + ahead - values[:, None]), 0.0)
    at, visits = np.eye(S)[0], np.zeros((S, A))
    for _ in range(2000):
        visits += at[:, None] * policy
        moved = np.where(terminal[:, None], 0.0, at[:, None] * policy)
        at = np.bincount(successor.ravel(), moved.ravel(), minlength=S)
    np.testing.assert_allclose(jax.grad(first)(reward), visits, rtol=1e-10, atol=1e-14)


def test_lanes_whose_inner_moves_differ_are_solved_apart(network):
    reward, successor, available, terminal = network
    shut = available.copy()
    shut[1, 3, 2] = False  # a move that lane 0 may make
    both = linear_values(reward, successor, shut, terminal, 1.0)
    for lane in range(2):
        alone = linear_values(reward, successor, shut[lane : lane + 1], terminal, 1.0)
        np.testing.assert_array_equal(both.values[lane], alone.values[0])

    def total(rewards, lanes):
        found = linear_values(rewards, successor, shut[lanes], terminal, 1.0).values
        return found[:, :7].sum()

    parts = [jax.grad(total)(reward, [lane]) for lane in range(2)]
    np.testing.assert_allclose(jax.grad(total)(reward, [0, 1]), sum(parts), rtol=1e-12)


def test_many_lanes_and_vmap_equal_one_at_a_time(network):
    """40 lanes are several blocks; a batch of temperatures is an axis of its own."""
    reward, successor, available, terminal = network
    wide = np.tile(available, (20, 1, 1))
    found = linear_values(reward, successor, wide, terminal, 1.0).values
    np.testing.assert_array_equal(found, np.tile(found[:2], (20, 1)))
    temperatures = jnp.array([0.5, 1.0])

    def total(temperature):
        return linear_values(reward, successor, available, terminal, temperature).values.sum()

    each = jnp.stack([jax.grad(total)(t) for t in temperatures])
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(total)))(temperatures), each, rtol=1e-13)


def test_wandering_that_pays_for_ever_has_no_value():
    """One place, a loop of cost 1 and an exit: two loops pay above the temperature 1 / log 2."""
    reward = np.array([[-1.0, -1.0, 0.0], [0.0, 0.0, 0.0]])
    successor = np.array([[0, 0, 1], [1, 1, 1]])
    available = np.array([[[True, True, True], [True, False, False]]])
    terminal = np.array([False, True])
    critical = 1.0 / np.log(2.0)
    below = linear_values(reward, successor, available, terminal, 0.999 * critical)
    above = linear_values(reward, successor, available, terminal, 1.001 * critical)
    assert int(below.status[0]) == SolveStatus.CONVERGED
    assert int(above.status[0]) == SolveStatus.NOT_FINITE
    t = 0.999 * critical
    np.testing.assert_allclose(
        below.values[0, 0], -t * np.log1p(-2.0 * np.exp(-1.0 / t)), rtol=1e-11
    )
    assert np.isnan(above.values[0, 0])
    gains = linear_values(-reward, successor, available, terminal, 0.01)
    assert int(gains.status[0]) == SolveStatus.NOT_FINITE


def test_a_place_without_a_way_out_is_reported(network):
    reward, successor, available, terminal = network
    stuck = available.copy()
    stuck[0, :, 3] = False
    found = linear_values(reward, successor, stuck, terminal, 1.0)
    assert found.status.tolist() == [SolveStatus.NOT_FINITE, SolveStatus.CONVERGED]


def test_factors_tell_whether_sums_over_paths_are_finite():
    """Against the spectral radius of random matrices on both sides of one."""
    rng = np.random.default_rng(1)
    for _ in range(30):
        state, ahead = rng.integers(0, 6, (2, 14))
        weight = rng.random(14)
        matrix = np.zeros((6, 6))
        np.add.at(matrix, (state, ahead), weight)
        radius = np.abs(np.linalg.eigvals(matrix)).max()
        assert (factored(state, ahead, weight, 6) is not None) == (radius < 1.0)


def _resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_factors_leave_no_memory_behind_on_threads_that_end():
    """Each set of factors takes some 7 MB; SciPy frees them on the thread that made them only."""
    rng, num = np.random.default_rng(0), 1200
    state, ahead = np.repeat(np.arange(num), 3), rng.integers(0, num, 3 * num)

    def make(number):
        weight = np.full(3 * num, 0.2 + 1e-6 * number)
        with ThreadPoolExecutor(1) as pool:  # a thread of its own, which ends
            found = pool.submit(factored, state, ahead, weight, num).result()
            pool.submit(found.solve_transposed, np.ones((1, num))).result()

    for number in range(10):
        make(number)
    before = _resident()
    for number in range(10, 30):
        make(number)
    assert _resident() - before < 50.0
