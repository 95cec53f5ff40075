"""SoBiRL: first-order bilevel gradient from the soft fixed point, by warm-started sweeps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cbrl_bayes.errors import require_ranges
from cbrl_bayes.hypergradients.contract import EstimateInfo, FollowerAccess
from cbrl_bayes.hypergradients.forward_sweeps import expect_columns, slope_of
from cbrl_bayes.hypergradients.pairs import (
    choose_contexts,
    follower_view,
    memory_per_pair,
    over_pairs,
)
from cbrl_bayes.mdp import finite_status, value_iteration
from cbrl_bayes.problems import Problem, leader_gain


@dataclass(frozen=True)
class SoBiRL:
    r"""Differentiate the policy through its own fixed-point equation, kept up by sweeps.

    From :math:`\log\pi^* = (Q^* - V^*)/\lambda`,

    .. math:: \frac{dF}{dx} = \partial_x f + \sum_{s,a} \frac{\partial f}{\partial\pi(a|s)}\,
        \pi(a|s)\,\frac{dQ(s,a) - dV(s)}{\lambda}, \quad
        dQ = \partial_x r + \gamma\,\partial_x P\,V + \gamma P\,dV, \quad dV = \pi\, dQ,

    where V is kept by ``num_sweeps`` soft Bellman sweeps and dV by as many sweeps of its linear
    equation, both warm-started across steps. No convexity below is used and no second
    derivative is formed. Source: Yang, Gao, Yuan, arXiv 2405.19697, the model-based form (its
    model-free form replaces the sums by scores along trajectories and is close to `HPGD`).

    Needs: the model. Cost per step: tables of S x A x d numbers, products of S x S with S x d
    matrices, and one exact evaluation of the leader's objective for the current policy. Bias:
    the sweeps not yet made. Takes any differentiable objective. `AMD` sweeps the leader's side
    too, and only for decomposable objectives. Choose it where linear solves are too dear and
    x moves slowly.

    Parameters
    ----------
    num_sweeps : int
        Sweeps per step, >= 1.

    Examples
    --------
    >>> import jax
    >>> from cbrl_bayes.problems import two_state
    >>> problem, estimator = two_state(), SoBiRL(num_sweeps=2)
    >>> x = problem.incentive.initial
    >>> state = estimator.init(problem, x, key=jax.random.key(0))
    >>> gradient, state, info = estimator.estimate(
    ...     problem, x, problem.default_parameters, state, key=jax.random.key(1))
    >>> round(float(gradient["bonus"]), 6)
    0.369003
    """

    is_exact: ClassVar[bool] = False
    access: ClassVar[FollowerAccess] = FollowerAccess.MODEL
    runs_on_host: ClassVar[bool] = False
    num_sweeps: int = 20

    def __post_init__(self) -> None:
        require_ranges(self, "SoBiRL settings", num_sweeps=">= 1")

    def init(self, problem: Problem, unconstrained: Any, *, key: Array) -> Any:
        """Return zero tables: V and dV for each context and follower."""
        S, d = problem.num_states, problem.incentive.size
        return memory_per_pair(problem, None, (jnp.zeros(S), jnp.zeros((S, d)))), key

    def estimate(
        self,
        problem: Problem,
        unconstrained: Any,
        parameters: Mapping[str, Any],
        state: Any,
        *,
        key: Array,
    ) -> tuple[Any, Any, EstimateInfo]:
        """Return the gradient after this step's sweeps; see `Estimator.estimate`."""
        tables, context_key = state

        def one_pair(context: Any, one: Mapping, kept: tuple, _: Array) -> tuple:
            build = follower_view(problem, context, one)

            def gain(x: Any, policy: Array) -> Array:
                incentive = problem.incentive.transform(x)
                return leader_gain(problem, incentive, context, one, build(x), policy)

            mdp = build(unconstrained)
            values, value_slope = kept
            values = value_iteration(mdp, num_sweeps=self.num_sweeps, initial_values=values)
            policy = jnp.exp(mdp.log_policy(mdp.q_values(values) / mdp.temperature))
            own = slope_of(lambda x: build(x).q_values(values), problem.incentive, unconstrained)
            mean_own = jnp.einsum("sa,sad->sd", policy, own)
            value_slope = jax.lax.fori_loop(
                0,
                self.num_sweeps,
                lambda _, dv: mean_own + expect_columns(mdp, policy, dv, mdp.discount),
                value_slope,
            )
            objective, (direct, by_policy) = jax.value_and_grad(gain, argnums=(0, 1))(
                unconstrained, policy
            )
            # sum_a weights (dQ - dV), with dQ = own + gamma P dV and dV = sum_a policy dQ
            weights = by_policy * policy
            weights -= policy * weights.sum(1, keepdims=True)
            slopes = jnp.einsum("sa,sad->sd", weights, own) + expect_columns(
                mdp, weights, value_slope, mdp.discount
            )
            response = slopes.sum(0) / mdp.temperature
            gradient = jax.tree.map(jnp.add, direct, problem.incentive.unflatten(response))
            info = EstimateInfo.unsimulated(objective, finite_status(mdp, objective, response))
            return gradient, (values, value_slope), info

        contexts = choose_contexts(problem, parameters, None, context_key)
        gradient, tables, info = over_pairs(
            problem, parameters, contexts, tables, one_pair, key=key
        )
        return gradient, (tables, context_key), info
