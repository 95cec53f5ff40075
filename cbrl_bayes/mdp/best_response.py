"""The follower's best response: Newton on the soft Bellman equation, implicit derivative."""

import enum
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cbrl_bayes.mdp.linear import LinearSolver, default_linear_solver
from cbrl_bayes.mdp.record import MDP


class SolveStatus(enum.IntEnum):
    """How a solve ended; INVALID: there was no MDP to solve (`is_valid`)."""

    CONVERGED = 0
    ITERATION_LIMIT = 1
    NOT_FINITE = 2
    INVALID = 3


def finite_status(*found: Array) -> Int[Array, ""]:
    """Return `SolveStatus.NOT_FINITE` where anything has blown up, else CONVERGED.

    For what learns or sweeps a fixed number of times: its distance from the best response is no
    failure of a solver.
    """
    finite = jnp.stack([jnp.isfinite(array).all() for array in found]).all()
    return jnp.where(finite, SolveStatus.CONVERGED, SolveStatus.NOT_FINITE)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class BestResponse:
    """The soft-optimal policy of one MDP and how it was reached.

    Attributes
    ----------
    values : array, shape (S,)
        Soft values V*, units of reward.
    q_values : array, shape (S, A)
        Soft action values Q*, units of reward.
    log_policy : array, shape (S, A)
        ``(Q* - V*) / lambda``, normalised.
    iterations : int
        Newton steps taken.
    residual : float
        Largest ``|T V - V|`` relative to ``max(1, max |V|)``.
    status : int
        A `SolveStatus`.
    """

    values: Float[Array, " state"]
    q_values: Float[Array, "state action"]
    log_policy: Float[Array, "state action"]
    iterations: Int[Array, ""]
    residual: Float[Array, ""]
    status: Int[Array, ""]

    @property
    def policy(self) -> Float[Array, "state action"]:
        """Probability of each action in each state, shape (S, A)."""
        return jnp.exp(self.log_policy)


def best_response(
    mdp: MDP,
    *,
    initial_values: Float[Array, " state"] | None = None,
    linear_solver: LinearSolver | None = None,
    tolerance: float = 1e-11,
    max_iterations: int = 100,
) -> BestResponse:
    r"""Solve for the unique optimal policy of an entropy-regularised MDP.

    Newton's method on :math:`V = T V`, :math:`(TV)(s) = \lambda \log \sum_a \exp(Q_V(s,a) /
    \lambda)`: with :math:`\pi = \mathrm{softmax}(Q_V/\lambda)` each step solves
    :math:`(I - \gamma P_\pi)\,\Delta = T V - V`. This is soft policy iteration; it converges
    from any start, in the end quadratically, also where value iteration (rate gamma) is too
    slow. Derivatives of any order, forward and reverse, with respect to reward,
    transition probabilities, discount and temperature come from the implicit function theorem,
    not from the iterations.

    Parameters
    ----------
    mdp : MDP
        The problem; temperature = lambda, rationality = 1/lambda.
    initial_values : array, shape (S,), optional
        Where to start (a nearby solution saves steps). Default: zeros.
    linear_solver : DenseLU or Krylov, optional
        Default: by size (`default_linear_solver`).
    tolerance : float
        Stop when a Newton step is below ``tolerance * max(1, max|V|)``; by then quadratic
        convergence has left an error near rounding.
    max_iterations : int
        Limit of Newton steps.

    Returns
    -------
    BestResponse
        Nothing raises under a JAX transformation: look at ``status``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from cbrl_bayes.mdp import MDP, DenseTransition, best_response
    >>> mdp = MDP(jnp.array([[0.0, 1.0]]), DenseTransition(jnp.ones((1, 2, 1))),
    ...           jnp.ones(1), discount=0.5, temperature=1.0)
    >>> answer = best_response(mdp)
    >>> round(float(answer.policy[0, 1]), 6)  # logistic(1)
    0.731059
    >>> int(answer.status)
    0
    """
    solver = linear_solver or default_linear_solver(mdp)
    start = jnp.zeros(mdp.num_states) if initial_values is None else initial_values
    return _solve(mdp, start, solver, tolerance, max_iterations)


@partial(jax.jit, static_argnames=("solver", "tolerance", "max_iterations"))
def _solve(
    mdp: MDP, start: Array, solver: LinearSolver, tolerance: float, max_iterations: int
) -> BestResponse:
    """Solve; traced once for all MDPs of one shape, in whatever program they stand."""
    frozen = jax.lax.stop_gradient(mdp)
    found, iterations, converged = _newton(
        frozen, jax.lax.stop_gradient(start), solver, tolerance, max_iterations
    )
    values = _with_implicit_derivative(mdp, found, solver)
    q_values, _ = soft_bellman(mdp, values)
    residual = jnp.abs(soft_bellman(frozen, found)[1] - found).max() / _scale(found)
    # Rounding of T V and what a Krylov solve may leave; not a tolerance on the answer.
    settled = converged & (residual <= 1e-9)
    status = jnp.where(
        ~jnp.isfinite(residual),
        SolveStatus.NOT_FINITE,
        jnp.where(settled, SolveStatus.CONVERGED, SolveStatus.ITERATION_LIMIT),
    )
    log_policy = jax.nn.log_softmax(q_values / mdp.temperature, axis=-1)
    return BestResponse(values, q_values, log_policy, iterations, residual, status)


def soft_bellman(
    mdp: MDP, values: Float[Array, " state"]
) -> tuple[Float[Array, "state action"], Float[Array, " state"]]:
    """Return the action values of ``values`` and one sweep of the soft Bellman operator."""
    q_values = mdp.q_values(values)
    swept = mdp.temperature * jax.nn.logsumexp(q_values / mdp.temperature, axis=-1)
    return q_values, swept


def value_iteration(
    mdp: MDP, *, num_sweeps: int, initial_values: Float[Array, " state"] | None = None
) -> Float[Array, " state"]:
    """Apply the soft Bellman operator ``num_sweeps`` times; error falls as gamma^n only.

    Kept for comparison and for followers that stop early; reverse mode through it unrolls
    every sweep.
    """
    start = jnp.zeros(mdp.num_states) if initial_values is None else initial_values
    return jax.lax.scan(lambda v, _: (soft_bellman(mdp, v)[1], None), start, length=num_sweeps)[0]


def _scale(values: Array) -> Array:
    return jnp.maximum(1.0, jnp.abs(values).max())


def _newton(
    mdp: MDP, start: Array, solver: LinearSolver, tolerance: float, max_iterations: int
) -> tuple[Array, Array, Array]:
    def unfinished(carry: tuple) -> Array:
        _, iteration, step = carry
        # A step that is not a number compares false and ends the loop.
        return (step > tolerance) & (iteration < max_iterations)

    def advance(carry: tuple) -> tuple:
        values, iteration, _ = carry
        q_values, swept = soft_bellman(mdp, values)
        policy = jax.nn.softmax(q_values / mdp.temperature, axis=-1)
        change = solver.solve(mdp, policy, mdp.discount, swept - values)
        moved = values + change
        return moved, iteration + 1, jnp.abs(change).max() / _scale(moved)

    values, iteration, step = jax.lax.while_loop(
        unfinished, advance, (start, jnp.zeros((), int), jnp.array(jnp.inf))
    )
    return values, iteration, step <= tolerance


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _with_implicit_derivative(mdp: MDP, values: Array, solver: LinearSolver) -> Array:
    return values


@_with_implicit_derivative.defjvp
def _implicit_jvp(solver: LinearSolver, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    mdp, found = primals
    # The solution appears here through the same function, so that differentiating this rule
    # again is right too: derivatives of every order follow.
    values = _with_implicit_derivative(mdp, found, solver)
    _, swept_tangent = jax.jvp(lambda m: soft_bellman(m, values)[1], (mdp,), (tangents[0],))
    policy = jax.nn.softmax(mdp.q_values(values) / mdp.temperature, axis=-1)
    return values, solver.solve(mdp, policy, mdp.discount, swept_tangent)
