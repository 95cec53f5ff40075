"""Adaptive model design (AMD): values and their derivatives kept up by warm-started sweeps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cbrl_bayes.errors import require_ranges
from cbrl_bayes.hypergradients.contract import EstimateInfo, FollowerAccess
from cbrl_bayes.hypergradients.forward_sweeps import expect_columns, slope_of
from cbrl_bayes.hypergradients.pairs import (
    choose_contexts,
    leader_view,
    memory_per_pair,
    moved_laws,
    over_pairs,
)
from cbrl_bayes.mdp import MDP, finite_status, soft_bellman
from cbrl_bayes.problems import Problem


@dataclass(frozen=True)
class AMD:
    r"""Carry four tables from step to step and apply Bellman sweeps to all of them.

    With :math:`\pi = \mathrm{softmax}(Q/\lambda)`, each sweep updates the follower's soft
    values, their derivative, the leader's values and the values of the gradient itself,

    .. math:: V &\leftarrow \lambda\log\sum_a e^{(r+\gamma PV)/\lambda}, \quad
        dQ \leftarrow \partial_x r + \gamma\,\partial_x P\,V + \gamma P\,\pi dQ, \quad
        Q_U \leftarrow r_U + \gamma_U P\,\pi Q_U, \\
        G &\leftarrow \pi\big(\partial_x r_U + \gamma_U\partial_x P\,V_U
        + \tfrac1\lambda Q_U\,(dQ - \pi dQ)\big) + \gamma_U P_\pi G,

    and the estimate is :math:`\mu G` (plus the score of an initial law that moves). Source:
    Chen et al., "Adaptive Model Design for Markov Decision Process", ICML 2022, as used for
    comparison by Thoma et al. 2024.

    Needs: the model. Cost per step: tables of S x A x d numbers and ``num_sweeps`` products
    of dense S x S with S x d matrices, so it grows with the number d of incentive parameters. Bias:
    the sweeps not yet made; it vanishes where the ascent slows down. Choose it to compare with
    the literature; `Exact` gives the limit of its sweeps at once. `SoBiRL` also sweeps the
    follower's side, but takes the leader's side exactly and any objective.

    Parameters
    ----------
    num_sweeps : int
        Sweeps per step, >= 1.

    Examples
    --------
    >>> import jax
    >>> from cbrl_bayes.problems import two_state
    >>> problem, estimator = two_state(), AMD(num_sweeps=3)
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
        require_ranges(self, "AMD settings", num_sweeps=">= 1")

    def init(self, problem: Problem, unconstrained: Any, *, key: Array) -> Any:
        """Return zero tables: V, dV, V_U and G for each context and follower."""
        S, d = problem.num_states, problem.incentive.size
        tables = _Tables(jnp.zeros(S), jnp.zeros((S, d)), jnp.zeros(S), jnp.zeros((S, d)))
        return memory_per_pair(problem, None, tables), key

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

        def one_pair(context: Any, one: Mapping, kept: _Tables, _: Array) -> tuple:
            view = leader_view(problem, context, one)
            viewed = view(unconstrained)

            def slope(fn: Callable[[MDP, Array], Array]) -> Array:
                return slope_of(lambda x: fn(*view(x)), problem.incentive, unconstrained)

            fixed = None
            if not moved_laws(view, unconstrained).transition:
                # Then the slopes of rewards are all there is, and the same in every sweep.
                fixed = slope(lambda own, _: own.reward), slope(lambda _, reward: reward)

            def sweep(_: Array, kept: _Tables) -> _Tables:
                return _sweep(problem, viewed, slope, fixed, kept)

            kept = jax.lax.fori_loop(0, self.num_sweeps, sweep, kept)
            mdp, _ = viewed
            moved_start = slope(lambda own, _: own.initial @ kept.leader_values)
            gradient = mdp.initial @ kept.gradient_values + moved_start
            objective = mdp.initial @ kept.leader_values
            info = EstimateInfo.unsimulated(objective, finite_status(mdp, objective, gradient))
            return problem.incentive.unflatten(gradient), kept, info

        contexts = choose_contexts(problem, parameters, None, context_key)
        gradient, tables, info = over_pairs(
            problem, parameters, contexts, tables, one_pair, key=key
        )
        return gradient, (tables, context_key), info


class _Tables(NamedTuple):
    """What is carried from step to step; the last axis of slopes is the choice's coordinate."""

    values: Float[Array, " state"]
    value_slope: Float[Array, "state coordinate"]
    leader_values: Float[Array, " state"]
    gradient_values: Float[Array, "state coordinate"]


def _sweep(
    problem: Problem,
    viewed: tuple[MDP, Array],
    slope: Callable[[Callable[[MDP, Array], Array]], Array],
    fixed: tuple[Array, Array] | None,
    tables: _Tables,
) -> _Tables:
    mdp, leader_reward = viewed
    q_values, swept = soft_bellman(mdp, tables.values)
    policy = jnp.exp(mdp.log_policy(q_values / mdp.temperature))

    def leader_q(own: MDP, reward: Array) -> Array:
        ahead = own.transition.expectation(tables.leader_values) * own.continues[:, None]
        return reward + problem.leader_discount * ahead

    if fixed is None:
        own_slope = slope(lambda own, _: own.q_values(tables.values))
        leader_slope = slope(leader_q)
    else:
        own_slope, leader_slope = fixed
    # Slopes of Q are own_slope + gamma P dV; what is needed of them are sums over actions.
    weights = policy * leader_q(mdp, leader_reward)

    def summed(by: Array) -> Array:
        own = jnp.einsum("sa,sad->sd", by, own_slope)
        return own + expect_columns(mdp, by, tables.value_slope, mdp.discount)

    mean_slope = summed(policy)
    leader_values = weights.sum(1)
    response = (summed(weights) - leader_values[:, None] * mean_slope) / mdp.temperature
    earned = jnp.einsum("sa,sad->sd", policy, leader_slope)
    ahead = expect_columns(mdp, policy, tables.gradient_values, problem.leader_discount)
    return _Tables(swept, mean_slope, leader_values, earned + response + ahead)
