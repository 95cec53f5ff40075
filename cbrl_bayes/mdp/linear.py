"""Linear solvers for (I - gamma P_pi): dense LU, matrix-free Krylov, and backward induction."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cbrl_bayes.errors import InvalidInputError, require_ranges
from cbrl_bayes.mdp.operators import operator
from cbrl_bayes.mdp.record import MDP
from cbrl_bayes.mdp.sparse_lu import SparseLU
from cbrl_bayes.mdp.transition import StagedTransition, SuccessorTransition

# Above these the cubic cost of LU exceeds that of iterating (a dense law makes a dear iteration).
DENSE_STATES, SUCCESSOR_STATES = 1000, 400


@dataclass(frozen=True)
class DenseLU:
    """Factorise the full matrix: exact to rounding, cost S^3, memory S^2.

    One step of refinement makes every entry of the answer exact by its own size, not by that of
    the largest: a huge loss in one state leaves the others as they are.
    """

    def solve(
        self,
        mdp: MDP,
        policy: Float[Array, "state action"],
        discount: Float[Array, ""] | float,
        right_side: Float[Array, " state"],
        *,
        refine: bool = True,
    ) -> Float[Array, " state"]:
        """Return ``v`` with ``(I - discount P_policy) v = right_side``, shape (S,)."""
        solve = _refined if refine else jnp.linalg.solve
        return solve(_matrix(mdp, policy, discount), right_side)


@dataclass(frozen=True)
class Krylov:
    """BiCGSTAB: never forms a matrix, memory a few vectors.

    Parameters
    ----------
    tolerance : float
        Norm of the residual relative to the right side; in (0, 1).
    max_iterations : int
        Limit of one linear solve. What is left over shows in the residual of the Bellman
        equation, which `best_response` reports as its status.
    """

    tolerance: float = 1e-13
    max_iterations: int = 10_000

    def __post_init__(self) -> None:
        require_ranges(self, "Krylov settings", tolerance="(0, 1)", max_iterations=">= 1")

    def solve(
        self,
        mdp: MDP,
        policy: Float[Array, "state action"],
        discount: Float[Array, ""] | float,
        right_side: Float[Array, " state"],
        *,
        refine: bool = True,
    ) -> Float[Array, " state"]:
        """Return ``v`` with ``(I - discount P_policy) v = right_side``, shape (S,)."""
        return self._iterate(operator(mdp, policy, discount), right_side)

    def _iterate(self, matvec: Callable[[Array], Array], right_side: Array) -> Array:
        def iterate(matvec: Callable[[Array], Array], b: Array) -> Array:
            solution, _ = jax.scipy.sparse.linalg.bicgstab(
                matvec, b, tol=self.tolerance, maxiter=self.max_iterations
            )
            return solution

        # bicgstab's own rule cannot be transposed where only the right side is linear (its
        # start vector is traced together with it); this wrapper says what reverse mode needs.
        return jax.lax.custom_linear_solve(
            matvec, right_side, solve=iterate, transpose_solve=iterate
        )


@dataclass(frozen=True)
class BackwardInduction:
    """Substitute period by period: exact, one sweep, for a `StagedTransition` alone."""

    def solve(
        self,
        mdp: MDP,
        policy: Float[Array, "state action"],
        discount: Float[Array, ""] | float,
        right_side: Float[Array, " state"],
        *,
        refine: bool = True,
    ) -> Float[Array, " state"]:
        """Return ``v`` with ``(I - discount P_policy) v = right_side``, shape (S,)."""
        law, entries, nothing = _periods(mdp, policy, right_side, discount)

        def back(later: Array, entry: tuple) -> tuple[Array, Array]:
            period, play, earned, going = entry
            values = earned + going * (play * law.stage(period).expectation(later)).sum(-1)
            return values, values

        return jax.lax.scan(back, nothing, entries, reverse=True)[1].ravel()


LinearSolver = DenseLU | Krylov | BackwardInduction | SparseLU


def solve_transposed(
    solver: LinearSolver,
    mdp: MDP,
    policy: Float[Array, "state action"],
    discount: Float[Array, ""] | float,
    right_side: Float[Array, " state"],
) -> Float[Array, " state"]:
    """Return ``u`` with ``(I - discount P_policy)^T u = right_side``, shape (S,).

    It is the solver's own `solve`, transposed as the linear map that it is.
    """

    def solve(b: Array) -> Array:
        return solver.solve(mdp, policy, discount, b)

    return jax.linear_transpose(solve, right_side)(right_side)[0]


def default_linear_solver(mdp: MDP) -> LinearSolver:
    """Choose by layout and size.

    Backward induction for periods; LU up to 1,000 states (400 where successors are listed);
    above, sparse LU where each action has one successor, else Krylov.
    """
    if isinstance(mdp.transition, StagedTransition):
        return BackwardInduction()
    listed = isinstance(mdp.transition, SuccessorTransition)
    limit = SUCCESSOR_STATES if listed else DENSE_STATES
    if mdp.num_states <= limit:
        return DenseLU()
    return SparseLU() if listed and mdp.transition.probability.shape[-1] == 1 else Krylov()


def _periods(
    mdp: MDP, policy: Array, right_side: Array, discount: Array | float
) -> tuple[StagedTransition, tuple[Array, ...], Array]:
    """Return the law, what a sweep goes through (period by period), and what lies beyond it."""
    law = mdp.transition
    if not isinstance(law, StagedTransition):
        raise InvalidInputError(
            "backward induction needs a process with periods",
            received=type(law).__name__,
            accepted="StagedTransition (finite_horizon)",
            remedy="DenseLU() or Krylov()",
        )
    tables = policy, right_side, discount * mdp.continues
    entries = jnp.arange(law.num_periods), *map(law.by_period, tables)
    return law, entries, jnp.zeros(law.num_places, jnp.result_type(right_side, policy, float))


def _matrix(mdp: MDP, policy: Array, discount: Array | float) -> Array:
    going = (discount * mdp.continues)[:, None]
    return jnp.eye(mdp.num_states) - going * mdp.transition.matrix(policy)


def _refined(matrix: Array, right_side: Array) -> Array:
    factors = jax.scipy.linalg.lu_factor(jax.lax.stop_gradient(matrix))

    def solve(matvec: Callable[[Array], Array], b: Array, *, trans: int) -> Array:
        found = jax.scipy.linalg.lu_solve(factors, b, trans=trans)
        return found + jax.scipy.linalg.lu_solve(factors, b - matvec(found), trans=trans)

    return jax.lax.custom_linear_solve(
        lambda v: matrix @ v, right_side, partial(solve, trans=0), partial(solve, trans=1)
    )
