"""Hard constraints on an incentive: maps onto the feasible set, so that every design keeps them.

Each map leaves feasible incentives as they are, reaches every feasible one, and is nowhere flat,
so that an ascent that starts outside or steps out cannot get stuck: bounds fold back what lies
beyond them, a budget shrinks the whole, a schedule is sorted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from cbrl_bayes.errors import InvalidInputError, as_numbers, require_kind
from cbrl_bayes.problems.record import Problem


class IncentiveConstraint(Protocol):
    """A set of feasible values for one named array of the incentive."""

    @property
    def incentive(self) -> str:
        """Name of the array."""

    def onto(self, value: Array) -> Array:
        """Map any value to a feasible one; the identity on feasible values."""


@dataclass(frozen=True)
class Bounds:
    """Every entry between ``low`` and ``high``; what lies beyond is folded back.

    Parameters
    ----------
    incentive : str
        Name of the array.
    low, high : float
        In its unit, low < high; both finite.

    Examples
    --------
    >>> Bounds("rate", 0.0, 1.0).onto(jnp.array([0.4, 1.25, -0.5])).tolist()
    [0.4, 0.75, 0.5]
    """

    incentive: str
    low: float
    high: float

    def __post_init__(self) -> None:
        low, high = as_numbers("a bound", self.low), as_numbers("a bound", self.high)
        if not -np.inf < low < high < np.inf:
            raise InvalidInputError(
                "bounds are out of order",
                received=(self.low, self.high),
                accepted="finite, low < high",
            )

    def onto(self, value: Array) -> Array:
        """Return the folded value."""
        return self.low + _fold(value - self.low, self.high - self.low)


@dataclass(frozen=True)
class Budget:
    """The absolute entries sum to ``total`` at most; a larger sum is folded back, shares kept.

    Parameters
    ----------
    incentive : str
        Name of the array.
    total : float
        > 0, in its unit.

    Examples
    --------
    >>> Budget("payment", 2.0).onto(jnp.array([1.0, 2.0])).tolist()  # 3 is folded to 1
    [0.3333333333333333, 0.6666666666666666]
    """

    incentive: str
    total: float

    def __post_init__(self) -> None:
        if not 0.0 < self.total < np.inf:
            raise InvalidInputError(
                "a budget is out of range", received=self.total, accepted="> 0, finite"
            )

    def onto(self, value: Array) -> Array:
        """Return the value, scaled where its sum is too large."""
        spent = jnp.abs(value).sum()
        over = spent > self.total
        scale = _fold(spent, self.total) / jnp.where(over, spent, 1.0)
        return value * jnp.where(over, scale, 1.0)


@dataclass(frozen=True)
class Monotone:
    """A schedule that does not fall (or does not rise) along its one axis; entries are sorted.

    Parameters
    ----------
    incentive : str
        Name of the array, of one axis.
    rising : bool
        Otherwise falling.

    Examples
    --------
    >>> Monotone("payment").onto(jnp.array([1.0, 3.0, 2.0])).tolist()
    [1.0, 2.0, 3.0]
    """

    incentive: str
    rising: bool = True

    def onto(self, value: Array) -> Array:
        """Return the sorted entries."""
        return jnp.sort(value) if self.rising else -jnp.sort(-value)


def constrained(problem: Problem, *constraints: IncentiveConstraint) -> Problem:
    """Return the same problem with a leader bound by hard constraints.

    Parameters
    ----------
    problem : Problem
    *constraints : IncentiveConstraint
        `Bounds`, `Budget`, `Monotone`, or any object with ``incentive`` and ``onto``. Several on
        one array are applied in turn; the last must not break the first, which is checked at
        random points.

    Returns
    -------
    Problem
        Its designs, in readable units, keep all constraints exactly.

    Raises
    ------
    InvalidInputError
        For an array the incentive does not have, a schedule that is not one-dimensional, or
        constraints that undo each other.

    Notes
    -----
    At a binding constraint the folded objective has a kink instead of a vanishing slope. An
    exact ascent looks around itself, and converges there too.

    Examples
    --------
    >>> from cbrl_bayes.problems import two_state
    >>> problem = constrained(two_state(), Bounds("bonus", 0.0, 0.5))
    >>> float(problem.incentive.transform({"bonus": jnp.array(0.75)})["bonus"])
    0.25
    """
    require_kind(problem, Problem, "problem", "cb.problems.two_state(), or a cb.Problem")
    space = problem.incentive
    for constraint in constraints:
        _check(problem, constraint)

    def transform(unconstrained: Any) -> Mapping[str, Array]:
        readable = dict(space.transform(unconstrained))
        for constraint in constraints:
            readable[constraint.incentive] = constraint.onto(readable[constraint.incentive])
        return readable

    bound = replace(problem, incentive=replace(space, transform=transform))
    rng = np.random.default_rng(0)
    stated = [
        abs(number)
        for constraint in constraints
        for number in vars(constraint).values()
        if isinstance(number, float | int) and not isinstance(number, bool)
    ]
    sizes = [number for number in stated if 0.0 < number < np.inf] or [1.0]
    for constraint in constraints:
        shape = np.shape(bound.incentive.transform(space.initial)[constraint.incentive])
        for scale in np.geomspace(0.01 * min(sizes), 10.0 * max(sizes), 60):
            value = jnp.asarray(rng.normal(scale=scale, size=shape))
            for other in constraints:
                if other.incentive == constraint.incentive:
                    value = other.onto(value)
            if not np.allclose(constraint.onto(value), value, rtol=1e-9, atol=1e-9 * min(sizes)):
                raise InvalidInputError(
                    "constraints on one array undo each other",
                    received=constraints,
                    remedy="another order",
                )
    return bound


def _check(problem: Problem, constraint: IncentiveConstraint) -> None:
    if not (hasattr(constraint, "incentive") and callable(getattr(constraint, "onto", None))):
        raise InvalidInputError(
            "a constraint is of another kind",
            received=repr(constraint)[:80],
            accepted="Bounds, Budget, Monotone, or an object with incentive and onto",
        )
    labels = problem.incentive.labels
    if constraint.incentive not in labels:
        raise InvalidInputError(
            "the incentive has no such array",
            received=constraint.incentive,
            accepted=", ".join(sorted(labels)),
        )
    dims = labels[constraint.incentive].dims
    if isinstance(constraint, Monotone) and len(dims) != 1:
        raise InvalidInputError(
            "a schedule has one axis", received=f"{constraint.incentive!r}: {dims}"
        )


def _fold(value: Array, width: float) -> Array:
    """Return the triangle wave through 0 at 0 and ``width`` at ``width``."""
    return width - jnp.abs(jnp.mod(value, 2.0 * width) - width)
