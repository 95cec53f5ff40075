"""Whether a function's result can depend on its argument, read off its traced program."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core


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
    touched = set(program.invars)
    for equation in program.eqns:
        if any(not isinstance(v, core.Literal) and v in touched for v in equation.invars):
            touched.update(equation.outvars)
    return any(not isinstance(v, core.Literal) and v in touched for v in program.outvars)
