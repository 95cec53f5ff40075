"""Where a function of the population statistic vanishes, with an implicit derivative."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cbrl_bayes.errors import import_extra

FEW_ENTRIES = 20
"""Statistics of more numbers are solved for by Krylov methods, which form no matrix."""
FIRST_SWEEPS = 30
"""Responses to responses, before Newton steps, for statistics of many numbers."""


def root_with_derivative(
    gap: Callable[[Array], Array], first: Array, max_steps: int
) -> tuple[Array, Array]:
    """Return where ``gap`` vanishes, with an implicit derivative, and the number of steps."""
    optimistix = import_extra("optimistix", "equilibria")
    lineax = import_extra("lineax", "equilibria")
    few = first.size <= FEW_ENTRIES
    exact = lineax.AutoLinearSolver(well_posed=None)
    linear_solver = exact if few else lineax.GMRES(rtol=1e-6, atol=1e-9, stagnation_iters=100)

    def newton(function: Callable[[Array], Array], start: Array) -> tuple[Array, Array]:
        found: Any = optimistix.root_find(
            lambda share, _: function(share),
            optimistix.Dogleg(rtol=1e-10, atol=1e-12, linear_solver=linear_solver),
            start,
            max_steps=max_steps,
            throw=False,
        )
        return found.value, found.stats["num_steps"].astype(float)

    def solve(function: Callable[[Array], Array], start: Array) -> tuple[Array, Array]:
        if few:
            return newton(function, start)
        # Newton steps of many numbers are dear: where responses alone settle, none is made (but
        # under `vmap`, which makes both).
        found: Any = optimistix.fixed_point(
            lambda share, _: share + function(share),
            optimistix.FixedPointIteration(rtol=1e-11, atol=1e-13),
            start,
            max_steps=min(FIRST_SWEEPS, max_steps),
            throw=False,
        )
        swept = found.stats["num_steps"].astype(float)

        def from_start() -> tuple[Array, Array]:
            value, steps = newton(function, start)
            return value, swept + steps

        done = found.result == optimistix.RESULTS.successful
        return jax.lax.cond(done, lambda: (found.value, swept), from_start)

    def tangent_solve(linear: Callable[[Array], Array], side: Array) -> Array:
        # Not lineax: it raises where a chain tries parameters at which nothing is finite.
        if few:
            return jnp.linalg.solve(jax.jacobian(linear)(jnp.zeros_like(side)), side)

        def krylov(operator: Callable[[Array], Array], b: Array) -> Array:
            limits = {"tol": 1e-12, "restart": 50, "maxiter": 20, "solve_method": "incremental"}
            return jax.scipy.sparse.linalg.gmres(operator, b, **limits)[0]

        return jax.lax.custom_linear_solve(linear, side, krylov, krylov)

    value, steps = jax.lax.custom_root(gap, first, solve, tangent_solve, has_aux=True)
    return value, jax.lax.stop_gradient(steps).astype(int)
