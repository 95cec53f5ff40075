"""What an MDP must be: one set of rules, in words where values are known, as a flag elsewhere."""

from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from cbrl_bayes.mdp.transition import DenseTransition, StagedTransition, SuccessorTransition

if TYPE_CHECKING:
    from cbrl_bayes.mdp.record import MDP

ROW_SUM_TOLERANCE = 1e-8  # rounding of a few hundred float64 additions, with room to spare
ROUNDING = 1e-12  # what is left of 1 - (a + b + c) where nothing should be
MOST_SHOWN = 5

PAIRS = ("state", "action")


def is_valid(mdp: "MDP") -> Bool[Array, ""]:
    """Return whether the values of an MDP can be used; runs inside compiled programs.

    The rules are those that `MDP` applies when it is made of known values: rows of the
    transition law and the initial law are distributions, temperature (lambda) > 0, discount in
    [0, 1], rewards finite, an open action in every state. Under a JAX transformation `MDP` cannot
    apply them; this flag can be carried along.

    Parameters
    ----------
    mdp : MDP

    Returns
    -------
    bool array, shape ()

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from cbrl_bayes.mdp import MDP, DenseTransition
    >>> @jax.jit
    ... def stays_valid(p):
    ...     law = DenseTransition(jnp.stack([1.0 - p, p]) * jnp.ones((2, 1, 2)))
    ...     return is_valid(MDP(jnp.zeros((2, 1)), law, jnp.array([1.0, 0.0]), 0.9, 1.0))
    >>> bool(stays_valid(0.7)), bool(stays_valid(1.12))
    (True, False)
    """
    chances, must_sum = _rows(mdp, jnp)
    right = [
        *(~rule.wrong.any() for rule in _simple_rules(mdp, jnp)),
        _are_distributions(mdp.initial, jnp.array(True)).all(),
        _are_distributions(chances, must_sum).all(),
    ]
    return jnp.stack(right).all()


def value_violations(mdp: "MDP", names: Mapping[str, Sequence[object]] | None = None) -> list[str]:
    """Return in words what is wrong with the values of an MDP, each with its place.

    Parameters
    ----------
    mdp : MDP
        Of known values.
    names : mapping, optional
        ``{"state": names, "action": names}`` for the places. Default: positions.

    Returns
    -------
    list of str
        Empty for a valid MDP.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from cbrl_bayes.mdp import MDP, DenseTransition
    >>> made = jax.jit(lambda t: MDP(
    ...     jnp.zeros((1, 2)), DenseTransition(jnp.ones((1, 2, 1))), jnp.ones(1), 0.9, t))(-1.0)
    >>> value_violations(made)  # doctest: +ELLIPSIS
    ['temperature is -1, accepted: finite and > 0 (temperature is lambda; ...)']
    """
    rules = [*_simple_rules(mdp, np), *_laws(mdp)]
    return [line for rule in rules for line in _listed(rule, names or {})]


def shape_violations(mdp: "MDP") -> Iterator[str]:
    """Yield in words what is wrong with the shapes and types of an MDP."""
    shape = np.shape(mdp.reward)
    if len(shape) != 2 or 0 in shape:
        yield f"reward has shape {shape}, accepted: (states, actions), both at least 1"
        return
    S, A = shape
    law = mdp.transition
    if isinstance(law, DenseTransition):
        if np.shape(law.probability) != (S, A, S):
            yield f"transition has shape {np.shape(law.probability)}, accepted: {(S, A, S)}"
    elif isinstance(law, SuccessorTransition):
        for name in ("successor", "probability"):
            found = np.shape(getattr(law, name))
            if len(found) != 3 or found[:2] != (S, A):
                yield f"transition.{name} has shape {found}, accepted: ({S}, {A}, K)"
        if np.shape(law.successor) != np.shape(law.probability):
            yield "transition.successor and transition.probability differ in shape"
        kind = np.asarray(law.successor).dtype
        if not np.issubdtype(kind, np.integer):
            yield f"transition.successor has type {kind}, accepted: integers"
    elif isinstance(law, StagedTransition):
        yield from _staged_violations(law, S, A)
    else:
        yield (
            f"transition is a {type(law).__name__}, "
            "accepted: DenseTransition, SuccessorTransition or StagedTransition"
        )
    numbers = {
        name: getattr(mdp, name) for name in ("reward", "initial", "discount", "temperature")
    }
    for name, value in (numbers | {"transition": getattr(law, "probability", 0.0)}).items():
        if np.asarray(value).dtype.kind not in "biuf":
            yield f"{name} has type {np.asarray(value).dtype}, accepted: numbers"
    for name, wanted in (
        ("initial", (S,)),
        ("terminal", (S,)),
        *([] if mdp.available is None else [("available", (S, A))]),
        ("discount", ()),
        ("temperature", ()),
    ):
        found = np.shape(getattr(mdp, name))
        if found != wanted:
            yield f"{name} has shape {found}, accepted: {wanted}"


def _staged_violations(law: StagedTransition, S: int, A: int) -> Iterator[str]:
    shape, T = np.shape(law.stages.probability), law.num_periods
    if not isinstance(T, int) or T < 1:
        yield f"num_periods of the transition is {T!r}, accepted: a whole number >= 1"
    elif len(shape) != 4 or shape[0] not in (1, T):
        yield f"stages of the transition have shape {shape}, accepted: (1 or {T}, places, {A}, K)"
    elif (T * shape[1], shape[2]) != (S, A):
        yield (
            f"stages of the transition have shape {shape}, which makes {T * shape[1]} states and "
            f"{shape[2]} actions, accepted: {S} and {A}, as in reward"
        )


class _Rule(NamedTuple):
    """Where an array breaks a rule."""

    name: str
    values: Any
    wrong: Any  # bool array like the values
    accepted: str
    axes: tuple[str, ...] = ()


def _simple_rules(mdp: "MDP", xp: ModuleType) -> Iterator[_Rule]:
    """Apply the rules of single numbers; ``xp`` is NumPy where they are known, else jax.numpy."""
    discount, temperature = xp.asarray(mdp.discount), xp.asarray(mdp.temperature)
    # Comparisons are put so that a number that is not one breaks the rule.
    yield _Rule("discount", discount, ~((discount >= 0.0) & (discount <= 1.0)), "[0, 1]")
    yield _Rule(
        "temperature",
        temperature,
        ~((temperature > 0.0) & (temperature < np.inf)),
        "finite and > 0 (temperature is lambda; rationality is 1/lambda)",
    )
    reward = xp.asarray(mdp.reward)
    yield _Rule("reward", reward, ~xp.isfinite(reward), "a finite number", PAIRS)
    ends = xp.asarray(mdp.terminal)
    yield _Rule("terminal", ends, (ends != 0) & (ends != 1), "true or false", ("state",))
    if mdp.available is not None:
        is_open = xp.asarray(mdp.available)
        yield _Rule("available", is_open, (is_open != 0) & (is_open != 1), "true or false", PAIRS)
        number = (is_open != 0).sum(-1)
        yield _Rule("the number of available actions", number, number == 0, ">= 1", ("state",))
    if isinstance(mdp.transition, SuccessorTransition):
        successor = xp.asarray(mdp.transition.successor)
        outside = (successor < 0) | (successor >= mdp.num_states)
        accepted = f"a state in [0, {mdp.num_states})"
        yield _Rule("transition.successor", successor, outside, accepted, (*PAIRS, "slot"))
    if isinstance(mdp.transition, StagedTransition):
        ends = xp.asarray(mdp.terminal)
        last = (xp.arange(mdp.num_states) >= mdp.num_states - mdp.transition.num_places) & (
            ends == 0
        )
        accepted = "true in the last period"
        yield _Rule("terminal", ends, last, accepted, ("state",))


def _laws(mdp: "MDP") -> Iterator[_Rule]:
    """Apply the rules of distributions to known numbers; a bad entry spoils its own row."""
    staged = isinstance(mdp.transition, StagedTransition)
    law = mdp.transition.stages if isinstance(mdp.transition, StagedTransition) else mdp.transition
    to = "slot" if isinstance(law, SuccessorTransition) else "next state"
    where = ("period", "place", "action") if staged else PAIRS
    for name, chances, must_sum, axes in (
        ("initial", np.asarray(mdp.initial), np.array(True), ("state",)),
        ("transition", *_rows(mdp, np), (*where, to)),
    ):
        most = np.where(must_sum, 1.0 + ROW_SUM_TOLERANCE, np.inf)[..., None]
        proper = (chances >= -ROUNDING) & (chances <= most)
        yield _Rule(name, chances, ~proper, "a probability", axes)
        off = must_sum & proper.all(-1) & ~_are_distributions(chances, must_sum)
        yield _Rule(f"the sum of {name}", chances.sum(-1), off, "1", axes)


def _rows(mdp: "MDP", xp: ModuleType) -> tuple[Any, Any]:
    """Return the rows of the transition law, and which of them must be distributions."""
    law = mdp.transition
    in_use = (xp.asarray(mdp.terminal) == 0)[:, None] & (xp.asarray(mdp.is_open) != 0)
    if not isinstance(law, StagedTransition):
        return xp.asarray(law.probability), in_use
    in_use = in_use.reshape(law.num_periods, law.num_places, -1)
    if law.stages.probability.shape[0] == 1:
        in_use = in_use.any(0, keepdims=True)
    return xp.asarray(law.stages.probability), in_use


def _are_distributions(chances: Any, must_sum: Any) -> Any:
    """Return row by row whether nothing is negative and, where it must, the sum is one."""
    # Products with a matrix: several times as fast here as sums and minima along an axis.
    ones = np.ones(chances.shape[-1])
    total, size = chances @ ones, abs(chances) @ ones
    return (size - total <= 2.0 * ROUNDING) & (~must_sum | (abs(total - 1.0) <= ROW_SUM_TOLERANCE))


def _listed(rule: _Rule, names: Mapping[str, Sequence[object]]) -> Iterator[str]:
    values, where = np.asarray(rule.values), np.argwhere(rule.wrong)
    for index in where[:MOST_SHOWN]:
        parts = [
            f"{axis} {names[kind][number]}" if kind in names else str(number)
            for axis, number in zip(rule.axes, index, strict=False)  # a sum has one axis less
            for kind in [axis.removeprefix("next ")]
        ]
        place = f"[{', '.join(parts)}]" if parts else ""
        yield f"{rule.name}{place} is {values[tuple(index)]:.6g}, accepted: {rule.accepted}"
    if len(where) > MOST_SHOWN:
        yield f"and {len(where) - MOST_SHOWN} more entries of {rule.name}"
