"""The exact hypergradient: implicit differentiation through the followers' best responses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cbrl_bayes.hypergradients.contract import EstimateInfo, FollowerAccess
from cbrl_bayes.hypergradients.pairs import memory_per_pair
from cbrl_bayes.mdp import BestResponse
from cbrl_bayes.problems import (
    LeaderOutcome,
    Problem,
    leader_gain,
    leader_outcome,
    leader_total,
    respond,
)


@dataclass(frozen=True)
class Exact:
    r"""Differentiate the leader's objective through the soft Bellman equation.

    :math:`dF/dx = \partial_x f + \sum_{s,a} (\partial f/\partial\pi(a|s))\, d_x\pi^*(a|s)` with
    :math:`d_x V^* = (I - \gamma P_\pi)^{-1} \partial_x (T V^*)` (docs, *Method*).

    With an ``aggregate`` of the followers' values, their slopes enter by the chain rule.

    Needs: the model. Cost per step: a few linear solves per context and follower; memory of one
    such pair, and a gradient for each. Bias: none
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

    access: ClassVar[FollowerAccess] = FollowerAccess.MODEL
    runs_on_host: ClassVar[bool] = False
    resample_contexts: bool = False

    @property
    def is_exact(self) -> bool:
        """Exact unless contexts are drawn anew."""
        return not self.resample_contexts

    def init(self, problem: Problem, unconstrained: Any, *, key: Array) -> tuple[Array, Array]:
        """Return zero soft values and the key of the contexts."""
        return memory_per_pair(problem, None, jnp.zeros(problem.num_states)), key

    def estimate(
        self,
        problem: Problem,
        unconstrained: Any,
        parameters: Mapping[str, Any],
        state: tuple[Array, Array],
        *,
        key: Array,
    ) -> tuple[Any, tuple[Array, Array], EstimateInfo]:
        """Return the exact gradient; see `Estimator.estimate`."""
        warm, context_key = state
        drawn = key if self.resample_contexts else context_key
        if problem.population is not None:
            gradient, outcome = _together(problem, unconstrained, parameters, warm, drawn)
            info = EstimateInfo.unsimulated(outcome.objective, outcome.status)
            return gradient, (outcome.values, context_key), info
        values, weights = problem.contexts.support(parameters, drawn)
        shape = warm.shape[:2]
        context_index, follower_index = (grid.ravel() for grid in jnp.indices(shape))

        def one_pair(entry: tuple) -> tuple:
            """Differentiate within the loop, so that nothing is kept for each pair but slopes."""
            context, follower, start = entry
            one = problem.follower_parameters(parameters, follower)

            def worth(x: Any) -> tuple[tuple[Array, Array], BestResponse]:
                incentive = problem.incentive.transform(x)
                mdp, response = respond(problem, incentive, context, one, initial_values=start)
                gain = leader_gain(problem, incentive, context, one, mdp, response.policy)
                return (gain, mdp.initial @ response.values), response

            (gain, value), pull_back, response = jax.vjp(worth, unconstrained, has_aux=True)
            (slope,) = pull_back((jnp.ones(()), jnp.zeros(())))
            value_slope = None
            if problem.aggregate is not None:
                (value_slope,) = pull_back((jnp.zeros(()), jnp.ones(())))
            return gain, value, slope, value_slope, response.status, response.values

        per_pair = jax.tree.map(lambda leaf: jnp.asarray(leaf)[context_index], values)
        gain, value, slope, value_slope, status, solved = jax.lax.map(
            one_pair, (per_pair, follower_index, warm.reshape(context_index.size, -1))
        )
        objective, (by_gain, by_value) = jax.value_and_grad(leader_total, argnums=(1, 2))(
            problem, gain.reshape(shape), value.reshape(shape), weights
        )
        gradient = _weighted(by_gain, slope)
        if problem.aggregate is not None:
            gradient = jax.tree.map(jnp.add, gradient, _weighted(by_value, value_slope))
        info = EstimateInfo.unsimulated(objective, status.max())
        return gradient, (solved.reshape(warm.shape), context_key), info


def _together(
    problem: Problem, unconstrained: Any, parameters: Mapping[str, Any], warm: Array, key: Array
) -> tuple[Any, LeaderOutcome]:
    """Differentiate the whole outcome: the incentive moves what all followers face."""

    def worth(x: Any) -> tuple[Array, LeaderOutcome]:
        outcome = leader_outcome(problem, x, parameters, key=key, initial_values=warm)
        return outcome.objective, outcome

    return jax.grad(worth, has_aux=True)(unconstrained)


def _weighted(weight: Array, slopes: Any) -> Any:
    """Return the sum of the pairs' gradients with these weights."""
    return jax.tree.map(lambda leaf: jnp.tensordot(weight.ravel(), leaf, 1), slopes)
