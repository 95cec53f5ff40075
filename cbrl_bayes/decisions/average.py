"""The leader's objective averaged over posterior draws, as an estimator like any other."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cbrl_bayes.hypergradients import EstimateInfo, Estimator, FollowerAccess
from cbrl_bayes.hypergradients.pairs import map_in_order
from cbrl_bayes.problems import Problem

__all__ = ["PosteriorAverage"]


@dataclass(frozen=True)
class PosteriorAverage:
    """Average an estimator over draws; its ``parameters`` carry a leading axis of draws.

    Parameters
    ----------
    estimator : Estimator
        Applied to each draw.
    num_draws : int
        Length of that axis.
    """

    estimator: Estimator
    num_draws: int

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
        temperature_factor: Array | float = 1.0,
    ) -> tuple[Any, Any, EstimateInfo]:
        """Return the mean gradient over the draws; see `Estimator.estimate`."""

        def one_draw(entry: tuple) -> tuple:
            draw, own_state, own_key = entry
            return self.estimator.estimate(
                problem, unconstrained, draw, own_state,
                key=own_key, temperature_factor=temperature_factor,
            )  # fmt: skip

        keys = jax.random.split(key, self.num_draws)
        gradient, state, info = map_in_order(
            one_draw, (dict(parameters), state, keys), on_host=self.runs_on_host
        )
        return jax.tree.map(lambda leaf: leaf.mean(0), gradient), state, info.combined()
