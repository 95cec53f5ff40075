"""A process that lasts a given number of periods, as one MDP whose states carry the period."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cbrl_bayes.errors import InvalidInputError, require_ranges
from cbrl_bayes.mdp.record import MDP
from cbrl_bayes.mdp.transition import DenseTransition, StagedTransition, SuccessorTransition


def finite_horizon(
    *,
    reward: Float[Array, "*period place action"],
    transition: DenseTransition | SuccessorTransition,
    initial: Float[Array, " place"],
    discount: Array | float,
    temperature: Array | float,
    num_periods: int,
    terminal_values: Float[Array, " place"] | None = None,
    terminal: Bool[Array, "*period place"] | None = None,
    available: Bool[Array, "*period place action"] | None = None,
) -> MDP:
    r"""Return the MDP of a process with T periods: its policy depends on the period.

    With :math:`V_T` given (0 by default), for t = T - 1 down to 0

    .. math:: V_t(s) = \lambda \log \sum_a \exp\left(\bigl(r_t(s,a) + \gamma \sum_{s'}
              P_t(s'|s,a) V_{t+1}(s')\bigr) / \lambda\right).

    State ``t * S + s`` of the result is the place s in period t. So everything that works on an
    MDP works on it, and a solve is one sweep backward: time and memory grow as T S A.

    Parameters
    ----------
    reward : array, shape (S, A) or (T, S, A)
        The same in all periods, or one table each; any unit.
    transition : DenseTransition or SuccessorTransition
        Over places, with arrays of shape (S, A, K) or (T, S, A, K): the move out of each period.
        The last is used for ``terminal_values`` alone.
    initial : array, shape (S,)
        Law of the place in period 0.
    discount : float
        gamma per period, in [0, 1].
    temperature : float
        lambda > 0, in units of reward; rationality is 1 / lambda.
    num_periods : int
        T >= 1, counted from period 0.
    terminal_values : array, shape (S,), optional
        What each place is worth after the last period, units of reward. Default: nothing.
    terminal : bool array, shape (S,) or (T, S), optional
        Places after which the process ends early. Their moves lead nowhere, into terminal values
        neither. Default: none.
    available : bool array, shape (S, A) or (T, S, A), optional
        Open actions. Default: all.

    Returns
    -------
    MDP
        With T S states. Tables over its states (policies, rewards of the leader) have period and
        place as axes of their own after ``table.reshape(T, S, ...)``.

    Raises
    ------
    InvalidInputError
        For a number of periods below 1, shapes that do not fit, and what `MDP` refuses.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from cbrl_bayes.mdp import best_response
    >>> mdp = finite_horizon(  # work (1 a day, tired after) or rest
    ...     reward=jnp.array([[0.0, 1.0], [0.0, 0.3]]),
    ...     transition=DenseTransition(jnp.eye(2)[None].repeat(2, 0)),
    ...     initial=jnp.array([1.0, 0.0]), discount=1.0, temperature=0.1, num_periods=3)
    >>> works = best_response(mdp).policy.reshape(3, 2, 2)[:, 0, 1]
    >>> [f"{float(chance):.3f}" for chance in works]
    ['0.999', '0.955', '1.000']
    """
    require_ranges({"num_periods": num_periods}, "the horizon", num_periods=">= 1")
    T, S, A = num_periods, *jnp.shape(reward)[-2:]
    tables = {
        "reward": (reward, (S, A)),
        "terminal": (jnp.zeros(S, bool) if terminal is None else terminal, (S,)),
        "available": (available, (S, A)),
    }
    own = {name: _each_period(name, *given, T) for name, given in tables.items()}
    ends = own["terminal"].at[-1].set(True)
    stages = _staged(transition, T, S, A)
    earned = own["reward"].astype(float)
    if terminal_values is not None:
        _require_shape("terminal_values", terminal_values, [(S,)])
        last = jax.tree.map(lambda leaf: leaf[-1], stages)
        worth = discount * last.expectation(jnp.asarray(terminal_values, float))
        goes_on = ~own["terminal"][-1].astype(bool)
        earned = earned.at[-1].add(jnp.where(goes_on[:, None], worth, 0.0))
    _require_shape("initial", initial, [(S,)])
    return MDP(
        reward=earned.reshape(T * S, A),
        transition=StagedTransition(stages, T),
        initial=jnp.zeros(T * S).at[:S].set(initial),
        discount=discount,
        temperature=temperature,
        terminal=ends.ravel(),
        available=None if available is None else own["available"].reshape(T * S, A),
    )


def _each_period(name: str, table: Any, shape: tuple[int, ...], num_periods: int) -> Any:
    if table is None:
        return None
    wanted = (num_periods, *shape)
    _require_shape(name, table, [shape, wanted])
    return jnp.broadcast_to(jnp.asarray(table), wanted)


def _staged(transition: Any, T: int, S: int, A: int) -> DenseTransition | SuccessorTransition:
    if not isinstance(transition, DenseTransition | SuccessorTransition):
        raise InvalidInputError(
            "transition is no law over places",
            received=type(transition).__name__,
            accepted="DenseTransition or SuccessorTransition",
        )
    shape = jnp.shape(transition.probability)
    K = shape[-1] if shape else 0
    _require_shape("transition", transition.probability, [(S, A, K), (T, S, A, K)])
    if len(shape) == 4:
        return transition
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], transition)


def _require_shape(name: str, array: Any, accepted: list[tuple[int, ...]]) -> None:
    if jnp.shape(array) not in accepted:
        raise InvalidInputError(
            f"{name} of the process with periods has the wrong shape",
            received=jnp.shape(array),
            accepted=" or ".join(map(str, accepted)),
        )
