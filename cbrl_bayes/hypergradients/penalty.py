"""Penalty method: leader and follower optimised jointly, the follower's loss at a price."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cbrl_bayes.errors import require_ranges
from cbrl_bayes.hypergradients.contract import EstimateInfo, FollowerAccess
from cbrl_bayes.hypergradients.pairs import (
    choose_contexts,
    follower_view,
    memory_per_pair,
    over_pairs,
)
from cbrl_bayes.mdp import MDP, best_response, occupancy, soft_policy_values
from cbrl_bayes.problems import Problem, leader_gain


@dataclass(frozen=True)
class Penalty:
    r"""Maximise :math:`f(x, \pi) - c\,p(x, \pi)` in x and the policy together.

    The value penalty :math:`p = V^*_x(\mu) - V^\pi_x(\mu) \ge 0` is what the follower would lose
    by playing :math:`\pi`. Between steps of x the policy makes ``num_inner_steps`` natural
    gradient steps of size :math:`1/(c\lambda)` on the joint objective,

    .. math:: \pi \propto \exp\Big(\tfrac1\lambda\Big(Q^\pi_{soft}(s,a)
        + \frac{\partial f/\partial\pi(a|s)}{c\,d_\pi(s)}\Big)\Big),

    with the follower's discounted state visits :math:`d_\pi`. The derivative in x is then
    :math:`\partial_x f - c\,(\partial_x V^*_x(\mu) - \partial_x V^\pi_x(\mu))`: no derivative of
    a policy (Danskin). The price c grows geometrically from ``price`` to ``max_price``. Source:
    Shen, Yang, Chen, "Principled Penalty-based Methods for Bilevel Reinforcement Learning and
    RLHF" (2024), value penalty; the inner steps are natural rather than projected.

    Needs: the model. Cost per step: one best response (warm-started) and a few policy
    evaluations. Bias: of order 1/c, and the inner steps not yet made; with a general objective
    that depends on the policy in states the follower never visits, also in the limit. Too large
    a c for the number of digits in V*, or too small a temperature, makes the difference of the
    two values noisy. The objective it reports is that of its own policy, which gives way to the
    leader by what c allows. Takes any differentiable objective. Choose it to compare with the
    literature.

    Parameters
    ----------
    price : float
        c at the first step, > 0, in units of the leader's objective per unit of the follower's
        reward.
    growth : float
        Factor on c per step, >= 1.
    max_price : float
        Where c stops, >= ``price``.
    num_inner_steps : int
        Policy steps per step of x, >= 1.

    Examples
    --------
    >>> import jax
    >>> from cbrl_bayes.problems import two_state
    >>> problem, estimator = two_state(), Penalty(price=1e5, max_price=1e5, num_inner_steps=20)
    >>> x = problem.incentive.initial
    >>> state = estimator.init(problem, x, key=jax.random.key(0))
    >>> gradient, state, info = estimator.estimate(
    ...     problem, x, problem.default_parameters, state, key=jax.random.key(1))
    >>> round(float(gradient["bonus"]), 4)
    0.369
    """

    is_exact: ClassVar[bool] = False
    access: ClassVar[FollowerAccess] = FollowerAccess.MODEL
    runs_on_host: ClassVar[bool] = False
    price: float = 100.0
    growth: float = 1.01
    max_price: float = 1e4
    num_inner_steps: int = 3

    def __post_init__(self) -> None:
        require_ranges(self, "penalty settings", price="> 0", growth=">= 1", num_inner_steps=">= 1")
        require_ranges(self, "penalty settings", max_price=f">= {self.price}")

    def init(self, problem: Problem, unconstrained: Any, *, key: Array) -> Any:
        """Return uniform policies and zero values for each pair, the contexts' key, step 0."""
        S, A = problem.num_states, problem.num_actions
        tables = (jnp.zeros((S, A)) - jnp.log(A), jnp.zeros(S))
        return memory_per_pair(problem, None, tables), key, jnp.zeros(())

    def estimate(
        self,
        problem: Problem,
        unconstrained: Any,
        parameters: Mapping[str, Any],
        state: Any,
        *,
        key: Array,
    ) -> tuple[Any, Any, EstimateInfo]:
        """Return the gradient of the penalised objective; see `Estimator.estimate`."""
        tables, context_key, step = state
        price = jnp.minimum(self.price * self.growth**step, self.max_price)

        def one_pair(context: Any, one: Mapping, kept: tuple, _: Array) -> tuple:
            build = follower_view(problem, context, one)

            def gain(x: Any, policy: Array) -> Array:
                incentive = problem.incentive.transform(x)
                return leader_gain(problem, incentive, context, one, build(x), policy)

            log_policy, warm = kept
            mdp = build(unconstrained)
            log_policy = mdp.log_policy(log_policy)  # the first is over all actions
            slope = jax.grad(gain, argnums=1)
            log_policy = jax.lax.fori_loop(
                0,
                self.num_inner_steps,
                lambda _, p: _joint_step(mdp, p, slope(unconstrained, jnp.exp(p)), price),
                log_policy,
            )
            best = best_response(mdp, initial_values=warm)

            def penalised(x: Any) -> tuple[Array, Array]:
                own = build(x)
                follower = best_response(own, initial_values=best.values)
                loss = own.initial @ (follower.values - soft_policy_values(own, log_policy))
                worth = gain(x, jnp.exp(log_policy))
                return worth - price * loss, worth

            (_, worth), gradient = jax.value_and_grad(penalised, has_aux=True)(unconstrained)
            info = EstimateInfo.unsimulated(worth, best.status)
            return gradient, (log_policy, best.values), info

        contexts = choose_contexts(problem, parameters, None, context_key)
        gradient, tables, info = over_pairs(
            problem, parameters, contexts, tables, one_pair, key=key
        )
        return gradient, (tables, context_key, step + 1.0), info


def _joint_step(mdp: MDP, log_policy: Array, leader_slope: Array, price: Array) -> Array:
    q_values = mdp.q_values(soft_policy_values(mdp, log_policy))
    visits = occupancy(mdp, jnp.exp(log_policy)).sum(-1)
    # The penalty does not see states that are never visited: their policy just follows Q.
    seen = visits > 1e-12
    pull = jnp.where(seen[:, None], leader_slope / jnp.where(seen, visits, 1.0)[:, None], 0.0)
    return mdp.log_policy((q_values + pull / price) / mdp.temperature)
