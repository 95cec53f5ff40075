"""A criterion over posterior draws as an estimator like any other, so that any ascent takes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cbrl_bayes.designs.criteria import Criterion, Expectation
from cbrl_bayes.hypergradients import EstimateInfo, Estimator, FollowerAccess
from cbrl_bayes.hypergradients.pairs import map_in_order
from cbrl_bayes.problems import Problem


@dataclass(frozen=True)
class PosteriorCriterion:
    r"""Differentiate a criterion over draws; ``parameters`` carry a leading axis of draws.

    By the chain rule the gradient is :math:`\sum_d (\partial \rho / \partial J_d) \nabla J_d`.
    With an estimator that is not exact, the weights come from its noisy objectives.

    Parameters
    ----------
    estimator : Estimator
        Applied to each draw.
    num_draws : int
        Length of that axis.
    criterion : Criterion
        Default: the mean.
    best, depth : arrays, shape (num_draws,), optional
        As in `Criterion.value`; needed by the criteria that look at them.
    """

    estimator: Estimator
    num_draws: int
    criterion: Criterion = field(default_factory=Expectation)
    best: Float[np.ndarray, " draw"] | None = None
    depth: Float[np.ndarray, " draw"] | None = None

    @property
    def is_exact(self) -> bool:
        """Exact if the estimator is."""
        return self.estimator.is_exact

    @property
    def access(self) -> FollowerAccess:
        """As the estimator."""
        return self.estimator.access

    @property
    def runs_on_host(self) -> bool:
        """As the estimator."""
        return self.estimator.runs_on_host

    def init(self, problem: Problem, unconstrained: Any, *, key: Array) -> Any:
        """Return one state per draw."""
        state = self.estimator.init(problem, unconstrained, key=key)
        return jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (self.num_draws, *leaf.shape)), state
        )

    def estimate(
        self,
        problem: Problem,
        unconstrained: Any,
        parameters: Mapping[str, Any],
        state: Any,
        *,
        key: Array,
    ) -> tuple[Any, Any, EstimateInfo]:
        """Return the gradient of the criterion; see `Estimator.estimate`."""

        def one_draw(entry: tuple) -> tuple:
            draw, own_state, own_key = entry
            return self.estimator.estimate(problem, unconstrained, draw, own_state, key=own_key)

        keys = jax.random.split(key, self.num_draws)
        gradient, state, info = map_in_order(
            one_draw, (dict(parameters), state, keys), on_host=self.runs_on_host
        )
        unused = jnp.zeros(self.num_draws)
        best = unused if self.best is None else jnp.asarray(self.best)
        depth = unused if self.depth is None else jnp.asarray(self.depth)
        value, weights = jax.value_and_grad(self.criterion.value)(info.objective, best, depth)
        info = replace(info.combined(), objective=value)
        total = jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, 1), gradient)
        return total, state, info
