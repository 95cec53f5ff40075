"""The exact hypergradient: implicit differentiation through the followers' best responses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cbrl_bayes.hypergradients.contract import EstimateInfo, FollowerAccess
from cbrl_bayes.problems import Problem, leader_outcome

__all__ = ["Exact"]


@dataclass(frozen=True)
class Exact:
    r"""Differentiate the leader's objective through the soft Bellman equation.

    :math:`dF/dx = \partial_x f + \sum_{s,a} (\partial f/\partial\pi(a|s))\, d_x\pi^*(a|s)` with
    :math:`d_x V^* = (I - \gamma P_\pi)^{-1} \partial_x (T V^*)` (docs, *Method*).

    Needs: the model. Cost per step: a few linear solves per context and follower. Bias: none
    where contexts are enumerated; where they are sampled, that of the sample if
    ``resample_contexts`` is False, none otherwise.

    Parameters
    ----------
    resample_contexts : bool
        For problems with sampled contexts: draw new ones at each step (a stochastic gradient)
        or keep those of the first step (a deterministic surrogate; the default).

    Examples
    --------
    >>> import jax
    >>> from cbrl_bayes.problems import two_state
    >>> problem, estimator = two_state(), Exact()
    >>> x = problem.incentive.initial
    >>> state = estimator.init(problem, x, key=jax.random.key(0))
    >>> gradient, state, info = estimator.estimate(
    ...     problem, x, problem.default_parameters, state, key=jax.random.key(1))
    >>> round(float(gradient["bonus"]), 6)
    0.369003
    """

    resample_contexts: bool = False

    @property
    def is_exact(self) -> bool:
        """Exact unless contexts are drawn anew."""
        return not self.resample_contexts

    @property
    def access(self) -> FollowerAccess:
        """Solves the follower's MDP."""
        return FollowerAccess.MODEL

    @property
    def runs_on_host(self) -> bool:
        """Compiled."""
        return False

    def init(self, problem: Problem, unconstrained: Any, *, key: Array) -> tuple[Array, Array]:
        """Return zero soft values and the key of the contexts."""
        shapes = jax.eval_shape(
            lambda: leader_outcome(problem, unconstrained, problem.default_parameters, key=key)
        )
        return jnp.zeros(shapes.values.shape), key

    def estimate(
        self,
        problem: Problem,
        unconstrained: Any,
        parameters: Mapping[str, Any],
        state: tuple[Array, Array],
        *,
        key: Array,
        temperature_factor: Array | float = 1.0,
    ) -> tuple[Any, tuple[Array, Array], EstimateInfo]:
        """Return the exact gradient; see `Estimator.estimate`."""
        warm, context_key = state

        def objective(x: Any) -> tuple[Array, Any]:
            outcome = leader_outcome(
                problem, x, parameters, initial_values=warm,
                key=key if self.resample_contexts else context_key,
                temperature_factor=temperature_factor,
            )  # fmt: skip
            return outcome.objective, outcome

        (value, outcome), gradient = jax.value_and_grad(objective, has_aux=True)(unconstrained)
        info = EstimateInfo.unsimulated(value, outcome.status)
        return gradient, (outcome.values, context_key), info
