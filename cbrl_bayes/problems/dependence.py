"""Whether a function's result can depend on its argument, read off its traced program."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend import core

CALLS = ("jit", "pjit")
"""Operations that call a program of their own: each of its results is followed by itself."""
SUMS = frozenset(
    (
        *("add", "add_any", "sub", "neg", "reduce_sum", "cumsum", "reshape", "squeeze", "copy"),
        *("expand_dims", "broadcast_in_dim", "transpose", "rev", "concatenate", "pad"),
    )
)
"""Operations that are linear in all of their arguments together."""
PRODUCTS = frozenset(("mul", "dot_general"))
"""Operations that are linear in one argument where the other is fixed."""
FIRST_ARGUMENT = frozenset(("div", "slice", "dynamic_slice", "gather"))
"""Operations that are linear in the first argument where the others are fixed."""


def depends_on_input(fn: Callable[[Any], Any], argument: Any) -> bool:
    """Return False only if no path of operations leads from ``argument`` to ``fn``'s result.

    Estimators use it to leave out the score terms of laws that the incentive does not change.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> depends_on_input(lambda x: jnp.ones(3), 1.0), depends_on_input(lambda x: x * 0.0, 1.0)
    (False, True)
    """
    return any(_reached(fn, argument, lambda name, given: True) or ())


def is_weighted_sum(fn: Callable[[Any], Any], argument: Any) -> bool:
    """Return True only if ``fn`` is a weighted sum of its argument, plus a constant.

    Every operation on a path from the argument must be one of those known to be linear.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x = jnp.ones(3)
    >>> is_weighted_sum(lambda x: 2.0 * x[::-1] + 1.0, x), is_weighted_sum(jnp.floor, x)
    (True, False)
    """
    return _reached(fn, argument, _is_linear_in) is not None


def _reached(
    fn: Callable[[Any], Any], argument: Any, allowed: Callable[[str, list[bool]], bool]
) -> list[bool] | None:
    """Return which results of ``fn`` can depend on its argument.

    None if an operation on the way is not allowed; ``allowed`` is told its name, and which of its
    arguments depend.
    """
    program = jax.make_jaxpr(fn)(argument).jaxpr
    return _followed(program, [True] * len(program.invars), allowed)


def _followed(
    program: core.Jaxpr, from_input: Sequence[bool], allowed: Callable[[str, list[bool]], bool]
) -> list[bool] | None:
    """Follow the inputs that are marked through one program; see `_reached`."""
    touched = {v for v, mark in zip(program.invars, from_input, strict=True) if mark}

    def marks(variables: Sequence[Any]) -> list[bool]:
        return [not isinstance(v, core.Literal) and v in touched for v in variables]

    for equation in program.eqns:
        given, name = marks(equation.invars), equation.primitive.name
        if not any(given):
            continue
        found: list[bool] | None = [True] * len(equation.outvars)
        if name in CALLS:
            found = _followed(equation.params["jaxpr"].jaxpr, given, allowed)
        elif not allowed(name, given):
            found = None
        if found is None:
            return None
        touched.update(v for v, mark in zip(equation.outvars, found, strict=True) if mark)
    return marks(program.outvars)


def _is_linear_in(name: str, given: list[bool]) -> bool:
    """Return whether an operation is linear in the arguments that are marked, the others fixed."""
    if name in PRODUCTS:
        return sum(given) == 1
    if name in FIRST_ARGUMENT:
        return not any(given[1:])
    if name == "select_n":
        return not given[0]
    if name in ("scatter-add", "scatter_add"):
        return not given[1]  # the places
    return name in SUMS
