"""The follower's best response: Newton on the soft Bellman equation, implicit derivative."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cbrl_bayes.errors import require_kind
from cbrl_bayes.mdp.ending import first_values, require_end
from cbrl_bayes.mdp.linear import LinearSolver, default_linear_solver
from cbrl_bayes.mdp.linear_values import has_linear_values, linear_values
from cbrl_bayes.mdp.record import MDP
from cbrl_bayes.mdp.transition import SuccessorTransition
from cbrl_bayes.mdp.validity import is_valid
from cbrl_bayes.status import SolveStatus

POLICY_TOLERANCE = 1e-8
"""The iteration ends when a step moves no state's policy by more (total variation): the error
of Newton's method is squared at every step."""

POLICY_RESOLUTION = 1e-3
"""A policy that rounding, or what a linear solver left over, moves by more is not an answer."""


def finite_status(mdp: MDP, *found: Array) -> Int[Array, ""]:
    """Return NOT_FINITE where anything has blown up, INVALID_MDP for such an MDP, else CONVERGED.

    For what learns or sweeps a fixed number of times: its distance from the best response is no
    failure of a solver.
    """
    finite = jnp.stack([jnp.isfinite(array).all() for array in found]).all()
    return _status(mdp, finite, jnp.array(True))


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
        Largest over the states of ``|T V - V|``, relative to what the state's value is made of:
        ``lambda + sum_a pi (|r| + gamma E|V|)``. Units of reward cancel.
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
    not from the iterations. With many states, deterministic moves and discount 1, one sparse
    linear system takes its place (`linear_values`).

    Every state is judged by itself, by its own size and by its policy: a state made forbidding
    by a loss of 1e12 leaves the answer elsewhere as it is. Rewards and temperature times a
    constant give the same policy.

    Parameters
    ----------
    mdp : MDP
        The problem; temperature = lambda, rationality = 1/lambda.
    initial_values : array, shape (S,), optional
        Where to start (a nearby solution saves steps). Default: zeros. Not used where a start
        of its own is safer: at discount 1 what the uniform policy is worth, and with periods the
        answer by backward induction.
    linear_solver : DenseLU or Krylov, optional
        Default: by size (`default_linear_solver`).
    tolerance : float
        Stop when a Newton step moves no state's value by more than ``tolerance * (lambda +
        |V|)`` of that state, and no state's policy by more than 1e-8; by then quadratic
        convergence has left an error near rounding. Stop also where rounding allows no more.
    max_iterations : int
        Limit of Newton steps.

    Returns
    -------
    BestResponse
        Nothing raises under a JAX transformation: look at ``status``.

    Raises
    ------
    InvalidInputError
        At discount 1, where values are known: if from some state no end can be reached, or if
        wandering for ever is worth more than arriving (`check_ends`).

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
    require_kind(mdp, MDP, "mdp", "cb.MDP(reward=..., ...)")
    require_end(mdp)
    if linear_solver is None and has_linear_values(mdp):
        return _of_network(mdp)
    solver = linear_solver or default_linear_solver(mdp)
    start = first_values(mdp, solver, initial_values)
    return _solve(mdp, start, solver, tolerance, max_iterations)


@partial(jax.jit, static_argnames=("solver", "tolerance", "max_iterations"))
def _solve(
    mdp: MDP, start: Array, solver: LinearSolver, tolerance: float, max_iterations: int
) -> BestResponse:
    """Solve; traced once for all MDPs of one shape, in whatever program they stand."""
    frozen = jax.lax.stop_gradient(mdp)
    end = _newton(frozen, jax.lax.stop_gradient(start), solver, tolerance, max_iterations)
    values = _with_implicit_derivative(mdp, end.values, solver)
    log_policy, _ = _relative_sweep(mdp, values)
    residual = (jnp.abs(end.swept - end.values) / _made_of(frozen, end)).max()
    unsure = jnp.maximum(end.policy_step, _moved_by_rounding(frozen, end))
    # Rounding of T V and what a Krylov solve may leave; not a tolerance on the answer.
    settled = end.settled & (residual <= 1e-9) & (unsure <= POLICY_RESOLUTION)
    status = _status(mdp, jnp.isfinite(residual), settled)
    return BestResponse(values, mdp.q_values(values), log_policy, end.iterations, residual, status)


def _of_network(mdp: MDP) -> BestResponse:
    """Solve deterministic moves without a discount by one sparse linear system."""
    law = mdp.transition
    assert isinstance(law, SuccessorTransition)  # `has_linear_values` looked
    is_open = jnp.asarray(mdp.is_open, bool)
    terminal = jnp.asarray(mdp.terminal, bool)
    found = linear_values(
        mdp.reward, law.successor[..., 0], is_open[None], terminal, mdp.temperature
    )
    values = found.values[0]
    q_values = mdp.q_values(values)
    off = jax.lax.stop_gradient(mdp.soft_maximum(q_values) - values)
    residual = (jnp.abs(off) / (mdp.temperature + jnp.abs(values))).max()
    settled = (found.status[0] == int(SolveStatus.CONVERGED)) & (residual <= 1e-9)
    status = _status(mdp, jnp.isfinite(residual), settled)
    log_policy = mdp.log_policy(q_values / mdp.temperature)
    return BestResponse(values, q_values, log_policy, jnp.ones((), int), residual, status)


def _status(mdp: MDP, finite: Array, settled: Array) -> Int[Array, ""]:
    return jnp.select(
        [~finite, ~is_valid(mdp), settled],
        [int(SolveStatus.NOT_FINITE), int(SolveStatus.INVALID_MDP), int(SolveStatus.CONVERGED)],
        int(SolveStatus.ITERATION_LIMIT),
    )


def soft_bellman(
    mdp: MDP, values: Float[Array, " state"]
) -> tuple[Float[Array, "state action"], Float[Array, " state"]]:
    """Return the action values of ``values`` and one sweep of the soft Bellman operator."""
    return mdp.q_values(values), _relative_sweep(mdp, values)[1]


def _relative_sweep(mdp: MDP, values: Array) -> tuple[Array, Array]:
    """Return the log policy and one sweep, by differences to each state's best action.

    A large loss that all actions of a state share cancels before anything is rounded. No
    derivative runs through the action compared with: nothing depends on which it is.
    """
    ahead = mdp.transition.expectation(values) * mdp.continues[:, None]
    q_values = mdp.reward + mdp.discount * ahead
    ranked = jax.lax.stop_gradient(q_values)
    if mdp.available is not None:
        ranked = jnp.where(mdp.available, ranked, -jnp.inf)
    best = ranked.argmax(-1, keepdims=True)

    def of_best(table: Array) -> Array:
        return jnp.take_along_axis(jax.lax.stop_gradient(table), best, axis=-1)

    gap = (mdp.reward - of_best(mdp.reward)) + mdp.discount * (ahead - of_best(ahead))
    gap += (mdp.discount - jax.lax.stop_gradient(mdp.discount)) * of_best(ahead)  # a slope only
    logits = mdp.over_open(gap / mdp.temperature)
    total = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    return logits - total, (of_best(q_values) + mdp.temperature * total)[:, 0]


def value_iteration(
    mdp: MDP, *, num_sweeps: int, initial_values: Float[Array, " state"] | None = None
) -> Float[Array, " state"]:
    """Apply the soft Bellman operator ``num_sweeps`` times; error falls as gamma^n only.

    Kept for comparison and for followers that stop early; reverse mode through it unrolls
    every sweep.
    """
    start = jnp.zeros(mdp.num_states) if initial_values is None else initial_values
    return jax.lax.scan(lambda v, _: (soft_bellman(mdp, v)[1], None), start, length=num_sweeps)[0]


class _Iterate(NamedTuple):
    """Where Newton's method is."""

    values: Array
    swept: Array
    policy: Array
    iterations: Array
    step: Array  # largest over the states, relative to lambda + |V|
    policy_step: Array  # largest over the states, total variation
    settled: Array


def _newton(
    mdp: MDP, start: Array, solver: LinearSolver, tolerance: float, max_iterations: int
) -> _Iterate:
    def unfinished(now: _Iterate) -> Array:
        return ~now.settled & ~jnp.isnan(now.step) & (now.iterations < max_iterations)

    def advance(now: _Iterate) -> _Iterate:
        # Each step refines the one before.
        off = now.swept - now.values
        change = solver.solve(mdp, now.policy, mdp.discount, off, refine=False)
        values = now.values + change
        log_policy, swept = _relative_sweep(mdp, values)
        policy = jnp.exp(log_policy)
        step = (jnp.abs(change) / (mdp.temperature + jnp.abs(values))).max()
        policy_step = jnp.abs(policy - now.policy).sum(-1).max() / 2.0
        exhausted = (step <= 1e-9) & (step > now.step / 2.0)  # what is left is rounding
        settled = exhausted | ((step <= tolerance) & (policy_step <= POLICY_TOLERANCE))
        return _Iterate(values, swept, policy, now.iterations + 1, step, policy_step, settled)

    log_policy, swept = _relative_sweep(mdp, start)
    far, none = jnp.array(jnp.inf), jnp.zeros((), int)
    first = _Iterate(start, swept, jnp.exp(log_policy), none, far, far, jnp.array(False))
    return jax.lax.while_loop(unfinished, advance, first)


def _made_of(mdp: MDP, end: _Iterate) -> Array:
    """Return the size of the terms that each state's value is the sum of, shape (S,)."""
    ahead = mdp.transition.expectation(jnp.abs(end.values)) * mdp.continues[:, None]
    return mdp.temperature + (end.policy * (jnp.abs(mdp.reward) + mdp.discount * ahead)).sum(-1)


def _moved_by_rounding(mdp: MDP, end: _Iterate) -> Array:
    """Return how far the policy moves when every value moves by a rounding of its own."""
    signs = 1.0 - 2.0 * (jnp.arange(mdp.num_states) % 2)
    ulp = jnp.finfo(float).eps * signs * jnp.abs(end.values)
    log_policy, _ = _relative_sweep(mdp, end.values + ulp)
    return jnp.abs(jnp.exp(log_policy) - end.policy).sum(-1).max() / 2.0


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _with_implicit_derivative(mdp: MDP, values: Array, solver: LinearSolver) -> Array:
    return values


@_with_implicit_derivative.defjvp
def _implicit_jvp(solver: LinearSolver, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    mdp, found = primals
    # The solution appears here through the same function, so that differentiating this rule
    # again is right too: derivatives of every order follow.
    values = _with_implicit_derivative(mdp, found, solver)
    (log_policy, _), (_, swept_tangent) = jax.jvp(
        lambda m: _relative_sweep(m, values), (mdp,), (tangents[0],)
    )
    return values, solver.solve(mdp, jnp.exp(log_policy), mdp.discount, swept_tangent)
