"""Soft values where moves are deterministic and nothing is discounted: one sparse linear solve."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cbrl_bayes.mdp.linear import SUCCESSOR_STATES
from cbrl_bayes.mdp.network import Moves, inside
from cbrl_bayes.mdp.record import MDP, is_traced
from cbrl_bayes.mdp.transition import SuccessorTransition


def has_linear_values(mdp: MDP) -> bool:
    """Return whether `linear_values` is the way to solve an MDP.

    It has many states, each action has one successor, and the discount is known to be 1.
    """
    law = mdp.transition
    if not isinstance(law, SuccessorTransition) or is_traced(mdp.discount):
        return False
    one_way = law.probability.shape[-1] == 1
    return one_way and float(mdp.discount) == 1.0 and mdp.num_states > SUCCESSOR_STATES


class LinearValues(NamedTuple):
    """Soft values of a network in several lanes, such as contexts.

    Attributes
    ----------
    values : array, shape (C, S)
        V*, units of reward; NaN where they are not finite.
    status : int array, shape (C,)
        A `SolveStatus`: NOT_FINITE where some state has no path that ends, or where wandering for
        ever is worth more than arriving (the temperature, lambda, is above its critical value).
    """

    values: Float[Array, "lane state"]
    status: Int[Array, " lane"]


class _Network(NamedTuple):
    """What `linear_values` is given."""

    reward: Array
    successor: Array
    available: Array
    terminal: Array
    temperature: Array


CORE = (2, 2, 3, 1, 0)
"""Axes of each part of a network, without those that `vmap` adds."""


def linear_values(
    reward: Float[Array, "state action"],
    successor: Int[Array, "state action"],
    available: Bool[Array, "lane state action"],
    terminal: Bool[Array, " state"],
    temperature: Float[Array, ""] | float,
) -> LinearValues:
    r"""Solve the undiscounted soft Bellman equation of deterministic moves.

    With :math:`z = \exp(V/\lambda)` it is linear: :math:`z_s = \sum_a e^{r(s,a)/\lambda}
    z_{s'(s,a)}` over the open actions, :math:`z_s = \sum_a e^{r(s,a)/\lambda}` in a terminal
    state; the recursive logit of Fosgerau, Frejinger and Karlstrom (2013, eq. 5-7). SuperLU
    solves it on the host. Where z leaves the range of floating-point numbers it is solved for
    the excess over the best path, so that no weight is above one.

    Lanes are contexts that differ in ``available`` only. If they differ only in moves to terminal
    states (which destination is open), one factorisation serves them all. Derivatives of any
    order, forward and reverse, with respect to reward and temperature are implicit.

    Parameters
    ----------
    reward : array, shape (S, A)
        Finite; any sign.
    successor : int array, shape (S, A)
        Where each action leads; not looked at where the action is closed or the state terminal.
    available : bool array, shape (C, S, A)
        Open actions in each lane; at least one in each state.
    terminal : bool array, shape (S,)
        States that end the episode; their own reward counts, as in `MDP`.
    temperature : float
        lambda > 0, units of reward; rationality is 1/lambda.

    Returns
    -------
    LinearValues
        Nothing raises: look at ``status``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> # From state 0: one step of cost 1 to the end (state 1), or back to 0 at cost 2.
    >>> found = linear_values(
    ...     jnp.array([[-1.0, -2.0], [0.0, 0.0]]), jnp.array([[1, 0], [1, 1]]),
    ...     jnp.array([[[True, True], [True, False]]]), jnp.array([False, True]), 1.0)
    >>> round(float(jnp.exp(found.values[0, 0])), 6)  # e^-1 / (1 - e^-2)
    0.425459
    """
    network = _Network(
        jnp.asarray(reward, float),
        jnp.asarray(successor),
        jnp.asarray(available, bool),
        jnp.asarray(terminal, bool),
        jnp.asarray(temperature, float),
    )
    C, S, _ = network.available.shape
    shapes = jax.ShapeDtypeStruct((C, S), float), jax.ShapeDtypeStruct((C,), int)
    found, status = jax.pure_callback(
        _values_on_host, shapes, *jax.lax.stop_gradient(network), vmap_method="expand_dims"
    )
    return LinearValues(_with_implicit_derivative(network, found), status)


@jax.custom_jvp
def _with_implicit_derivative(network: _Network, values: Array) -> Array:
    return values


@_with_implicit_derivative.defjvp
def _implicit_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    network, found = primals
    # Through the same function, so that differentiating this rule again is right too.
    values = _with_implicit_derivative(network, found)
    # Values are of degree one in reward and temperature: V(k r, k lambda) = k V(r, lambda).
    rate = tangents[0].temperature / network.temperature
    moved = _response(network, values, tangents[0].reward - rate * network.reward)
    return values, moved + rate * values


def _response(network: _Network, values: Array, reward_tangent: Array) -> Array:
    """Return the tangent of the values, (C, S): ``(I - P)^-1 sum_a pi reward_tangent``.

    The reward's tangent is part of the linear system, so that its transpose, the sum over lanes
    of (state, action) visits, is made on the host as well and no array (C, S, A) is needed.
    """
    fixed = (*jax.lax.stop_gradient(network), jax.lax.stop_gradient(values))
    going = ~network.terminal[:, None]

    def matvec(x: tuple[Array, Array]) -> tuple[Array, Array]:
        v, rewards = x
        ahead = jnp.where(going, v[:, network.successor], 0.0)
        return v - (_policy(network, values) * (ahead + rewards)).sum(-1), rewards

    def solve(_: Callable, b: tuple[Array, Array]) -> tuple[Array, Array]:
        shape = jax.ShapeDtypeStruct(b[0].shape, float)
        found = jax.pure_callback(_response_on_host, shape, *fixed, *b, vmap_method="expand_dims")
        return found, b[1]

    def solve_transposed(_: Callable, b: tuple[Array, Array]) -> tuple[Array, Array]:
        shapes = tuple(jax.ShapeDtypeStruct(part.shape, float) for part in b)
        visits, used = jax.pure_callback(
            _sensitivity_on_host, shapes, *fixed, b[0], vmap_method="expand_dims"
        )
        return visits, used + b[1]

    # The transpose asks of every part of the right side that it be linear, also of zeros.
    given = jnp.broadcast_to(0.0 * reward_tangent[0, 0], values.shape), reward_tangent
    return jax.lax.custom_linear_solve(matvec, given, solve, solve_transposed)[0]


def _policy(network: _Network, values: Array) -> Array:
    """Return the policy of each lane, (C, S, A)."""
    ahead = jnp.where(network.terminal[:, None], 0.0, values[:, network.successor])
    gap = jnp.where(network.available, network.reward + ahead - values[..., None], 0.0)
    return jnp.where(network.available, jnp.exp(gap / network.temperature), 0.0)


def _values_on_host(*network: Any) -> tuple[np.ndarray, ...]:
    parts = list(map(np.asarray, network))
    return _batched(parts, CORE, _solved_values)


def _response_on_host(*given: Any) -> np.ndarray:
    parts = list(map(np.asarray, given))

    def solve(*one: np.ndarray) -> tuple[np.ndarray]:
        *network, values, lanes_side, reward_side = one
        found = np.empty_like(values)
        for lanes, moves in _families(*network):
            found[lanes] = moves.response(values[lanes], lanes_side[lanes], reward_side)
        return (found,)

    return _batched(parts, (*CORE, 2, 2, 2), solve)[0]


def _sensitivity_on_host(*given: Any) -> tuple[np.ndarray, ...]:
    parts = list(map(np.asarray, given))

    def solve(*one: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        *network, values, lanes_side = one
        visits, used = np.empty_like(values), np.zeros(network[0].shape)
        for lanes, moves in _families(*network):
            visits[lanes], more = moves.sensitivity(values[lanes], lanes_side[lanes])
            used += more
        return visits, used

    return _batched(parts, (*CORE, 2, 2), solve)


def _solved_values(*network: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    C, S, _ = network[2].shape
    values, status = np.empty((C, S)), np.empty(C, int)
    for lanes, moves in _families(*network):
        values[lanes], status[lanes] = moves.solve_values()
    return values, status


def _families(
    reward: np.ndarray,
    successor: np.ndarray,
    available: np.ndarray,
    terminal: np.ndarray,
    temperature: np.ndarray,
) -> list[tuple[Any, Moves]]:
    """Return the groups of lanes that share their moves between states that go on."""
    shared = reward, successor, terminal, float(temperature)
    between = inside(successor, terminal)
    first = available[0] & between
    alike = ((available & between) == first).all(axis=(1, 2))
    if alike.all():
        return [(slice(None), Moves(*shared, available))]
    lanes, families = np.arange(len(available)), []
    while len(lanes):
        open_ = available[lanes]
        alike = ((open_ & between) == (open_[0] & between)).all(axis=(1, 2))
        families.append((lanes[alike], Moves(*shared, open_[alike])))
        lanes = lanes[~alike]
    return families


def _batched(
    parts: list[np.ndarray], core: tuple[int, ...], work: Callable[..., tuple[np.ndarray, ...]]
) -> tuple[np.ndarray, ...]:
    """Apply work for every index of the axes that `vmap` added, of length one where shared."""
    own = [part.shape[: part.ndim - axes] for part, axes in zip(parts, core, strict=True)]
    leading = np.broadcast_shapes(*own)
    found = []
    for index in np.ndindex(*leading):
        one = []
        for part, shape in zip(parts, own, strict=True):
            mine = index[len(index) - len(shape) :]
            one.append(part[tuple(0 if n == 1 else i for i, n in zip(mine, shape, strict=True))])
        found.append(work(*one))
    return tuple(
        np.stack([each[number] for each in found]).reshape(*leading, *found[0][number].shape)
        if leading
        else found[0][number]
        for number in range(len(found[0]))
    )
