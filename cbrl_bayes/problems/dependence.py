"""Whether a function's result can depend on its argument, read off its traced program."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend import core

CALLS = ("jit", "pjit")
"""Operations that call a program of their own: each of its results is followed by itself."""


def depends_on_input(fn: Callable[[Any], Any], argument: Any) -> bool:
    """Return False only if no path of operations leads from ``argument`` to ``fn``'s result.

    Estimators use it to leave out the score terms of laws that the incentive does not change.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> depends_on_input(lambda x: jnp.ones(3), 1.0), depends_on_input(lambda x: x * 0.0, 1.0)
    (False, True)
    """
    program = jax.make_jaxpr(fn)(argument).jaxpr
    return any(_reached(program, [True] * len(program.invars)))


def _reached(program: core.Jaxpr, from_input: Sequence[bool]) -> list[bool]:
    """Return which results of a program can depend on the inputs that are marked."""
    touched = {v for v, mark in zip(program.invars, from_input, strict=True) if mark}

    def marks(variables: Sequence[Any]) -> list[bool]:
        return [not isinstance(v, core.Literal) and v in touched for v in variables]

    for equation in program.eqns:
        given = marks(equation.invars)
        if not any(given):
            continue
        if equation.primitive.name in CALLS:
            found = _reached(equation.params["jaxpr"].jaxpr, given)
        else:
            found = [True] * len(equation.outvars)
        touched.update(v for v, mark in zip(equation.outvars, found, strict=True) if mark)
    return marks(program.outvars)
