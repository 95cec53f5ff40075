"""The contract every estimator of the hypergradient keeps: `init`, `estimate`, State and Info."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from cbrl_bayes.problems import Problem


class FollowerAccess(enum.Enum):
    """What an estimator needs from the follower, from least to most."""

    TRAJECTORIES = "trajectories"
    TRAINING = "control of its training"
    MODEL = "its model"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class EstimateInfo:
    """Diagnostics of one estimate.

    Attributes
    ----------
    objective : float
        The leader's objective at the point, exact or estimated (`Estimator.is_exact`).
    status : int
        Worst `SolveStatus` of the followers' solves.
    follower_steps : int
        Environment steps the followers took; 0 for estimators that do not simulate.
    truncated_share : float
        Share of rollouts that the step limit cut short, in [0, 1]; they bias the estimate.
    prior_share : float
        Share of discounted visits, in [0, 1], in pairs of state and action that a learned model
        has seldom seen: what it says of them is what it believed before. 0 for estimators that
        learn no model.
    """

    objective: Float[Array, ""]
    status: Int[Array, ""]
    follower_steps: Int[Array, ""]
    truncated_share: Float[Array, ""]
    prior_share: Float[Array, ""] = field(default_factory=lambda: jnp.zeros(()))

    @classmethod
    def unsimulated(cls, objective: Array, status: Array) -> "EstimateInfo":
        """Return the Info of an estimate for which no follower took a step."""
        return cls(objective, status, jnp.zeros((), int), jnp.zeros(()))

    def combined(self, weights: Array | None = None) -> "EstimateInfo":
        """Merge the Infos of many estimates, stacked in the leaves.

        The objective is their mean, or their sum with ``weights``.
        """
        objective = self.objective.mean() if weights is None else weights @ self.objective
        return EstimateInfo(
            objective,
            self.status.max(),
            self.follower_steps.sum(),
            self.truncated_share.mean(),
            self.prior_share.mean(),
        )


@runtime_checkable
class Estimator(Protocol):
    """Estimates the derivative of the leader's objective in its unconstrained choice.

    The three properties may be constants of the class.
    """

    @property
    def is_exact(self) -> bool:
        """Whether objective and gradient carry no simulation error and no bias."""

    @property
    def access(self) -> FollowerAccess:
        """What it needs from the follower."""

    @property
    def runs_on_host(self) -> bool:
        """Whether `estimate` must run in Python, step by step: JAX cannot trace its follower."""

    def init(self, problem: Problem, unconstrained: Any, *, key: Key[Array, ""]) -> Any:
        """Return the State before the first estimate."""

    def estimate(
        self,
        problem: Problem,
        unconstrained: Any,
        parameters: Mapping[str, Any],
        state: Any,
        *,
        key: Key[Array, ""],
    ) -> tuple[Any, Any, EstimateInfo]:
        """Return the gradient (a pytree like ``unconstrained``), the next State and Info."""
