"""Chance constraints: outcomes that must hold with a given posterior probability.

Each keeps ``P(margin >= 0) >= prob`` over posterior draws, where the margin is positive if the
outcome is as wanted. Contexts are averaged within a draw: the constraint is on expected cost,
expected value, expected objective.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cbrl_bayes.designs.criteria import Criterion
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.hypergradients import EstimateInfo, FollowerAccess
from cbrl_bayes.problems import Problem, leader_outcome


@runtime_checkable
class ChanceConstraint(Protocol):
    """An outcome that must be as wanted with probability ``prob`` over posterior draws."""

    @property
    def prob(self) -> float:
        """The probability demanded, in (0, 1]."""

    @property
    def name(self) -> str:
        """What is demanded, in words."""

    def margin(self, outcomes: Any) -> Array:
        """Return a number per draw, >= 0 where the outcome is as wanted.

        ``outcomes`` has objective, incentive_cost (..., N) and follower_value (..., N, F), as
        `Score` has.
        """


@dataclass(frozen=True)
class CostAtMost:
    """The incentive's expected cost stays at or below ``limit`` with probability ``prob``.

    Parameters
    ----------
    limit : float
        In the unit of the leader's objective.
    prob : float
        In (0, 1].
    """

    limit: float
    prob: float = 0.95

    def __post_init__(self) -> None:
        _check(self)

    @property
    def name(self) -> str:
        """What is demanded, in words."""
        return f"cost at most {self.limit:g}"

    def margin(self, outcomes: Any) -> Array:
        """Return limit - cost."""
        return self.limit - outcomes.incentive_cost


@dataclass(frozen=True)
class ObjectiveAtLeast:
    """The leader's objective reaches ``limit`` with probability ``prob``.

    Parameters
    ----------
    limit : float
        In the unit of the leader's objective.
    prob : float
        In (0, 1].
    """

    limit: float
    prob: float = 0.95

    def __post_init__(self) -> None:
        _check(self)

    @property
    def name(self) -> str:
        """What is demanded, in words."""
        return f"objective at least {self.limit:g}"

    def margin(self, outcomes: Any) -> Array:
        """Return objective - limit."""
        return outcomes.objective - self.limit


@dataclass(frozen=True)
class FollowerValueAtLeast:
    """A follower's expected soft value reaches ``limit`` with probability ``prob``.

    With the value of an outside option as limit this is participation.

    Parameters
    ----------
    limit : float
        In the unit of the follower's reward; V* at the start, entropy included.
    prob : float
        In (0, 1].
    follower : int
        Position of the follower.
    """

    limit: float
    prob: float = 0.95
    follower: int = 0

    def __post_init__(self) -> None:
        _check(self)
        if self.follower < 0:
            raise InvalidInputError(
                "there is no such follower", received=self.follower, accepted=">= 0"
            )

    @property
    def name(self) -> str:
        """What is demanded, in words."""
        return f"value of follower {self.follower} at least {self.limit:g}"

    def margin(self, outcomes: Any) -> Array:
        """Return value - limit."""
        return outcomes.follower_value[..., self.follower] - self.limit


def satisfied_probability(constraint: ChanceConstraint, outcomes: Any) -> Array:
    """Return the share of draws (last axis) in which the outcome is as wanted."""
    return (constraint.margin(outcomes) >= 0.0).mean(-1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Worth:
    """The differentiable part of an outcome."""

    objective: Array
    incentive_cost: Array
    follower_value: Array


@dataclass(frozen=True)
class ConstrainedCriterion:
    """Differentiate a criterion over draws less a penalty for missed chance constraints.

    The penalty is a weight times the shortfall of the least margin that must not be negative (with
    N draws, all but floor((1 - prob) N) must hold). It is exact: from some weight on its
    optimum keeps the constraints. Exact alone: the model
    of the follower is needed. The memory does not grow with the draws.

    Parameters
    ----------
    num_draws : int
        Length of the axis of draws that ``parameters`` carry.
    criterion : Criterion
    constraints : tuple of ChanceConstraint
    weights : tuple of float
        One per constraint, > 0, criterion's unit per unit of the margin.
    best, depth : arrays, shape (num_draws,)
        As in `Criterion.value`.
    """

    num_draws: int
    criterion: Criterion
    constraints: tuple[ChanceConstraint, ...]
    weights: tuple[float, ...]
    best: Float[Array, " draw"]
    depth: Float[Array, " draw"]

    is_exact = True
    access = FollowerAccess.MODEL
    runs_on_host = False

    def init(self, problem: Problem, unconstrained: Any, *, key: Array) -> Any:
        """Return the key that fixes the contexts, where they are sampled."""
        return key

    def estimate(
        self,
        problem: Problem,
        unconstrained: Any,
        parameters: Mapping[str, Any],
        state: Any,
        *,
        key: Array,
    ) -> tuple[Any, Any, EstimateInfo]:
        """Return the gradient of the penalised criterion; see `Estimator.estimate`."""

        def one_draw(point: Any, draw: Mapping[str, Array]) -> tuple[_Worth, Array]:
            found = leader_outcome(problem, point, draw, key=state)
            worth = _Worth(found.objective, found.incentive_cost, found.follower_value)
            return worth, found.status

        draws = dict(parameters)
        worth, status = jax.lax.map(lambda draw: one_draw(unconstrained, draw), draws)
        total, pull = jax.value_and_grad(self._total)(worth)

        def share(entry: tuple) -> Any:
            draw, cotangent = entry
            _, back, _ = jax.vjp(lambda x: one_draw(x, draw), unconstrained, has_aux=True)
            return back(cotangent)[0]

        pieces = jax.lax.map(share, (draws, pull))
        gradient = jax.tree.map(lambda leaf: leaf.sum(0), pieces)
        return gradient, state, EstimateInfo.unsimulated(total, status.max())

    def _total(self, worth: _Worth) -> Array:
        total = self.criterion.value(worth.objective, self.best, self.depth)
        for constraint, weight in zip(self.constraints, self.weights, strict=True):
            margin = jnp.sort(constraint.margin(worth))
            allowed = int((1.0 - constraint.prob) * margin.size + 1e-9)
            least = margin[min(allowed, margin.size - 1)]
            total -= weight * jax.nn.relu(-least)
        return total


def _check(constraint: ChanceConstraint) -> None:
    limit = getattr(constraint, "limit", 0.0)
    if not 0.0 < constraint.prob <= 1.0 or not abs(limit) < float("inf"):
        raise InvalidInputError(
            "a chance constraint is out of range",
            received=constraint,
            accepted="a finite limit, a probability above 0 and at most 1",
        )
