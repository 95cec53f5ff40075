"""Social welfare over followers and contexts: objectives that do not just add up."""

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cbrl_bayes.errors import InvalidInputError

Table = Float[Array, "context follower"]


class Aggregate(Protocol):
    """Turns what each follower brings and gets in each context into the leader's objective."""

    def __call__(self, gain: Table, value: Table, mass: Table) -> Float[Array, ""]:
        """Return the objective, to be maximised.

        Parameters
        ----------
        gain : array, shape (C, F)
            The leader's own objective with each follower in each context.
        value : array, shape (C, F)
            Soft value V* of each follower at the start (entropy included), in units of its reward.
        mass : array, shape (C, F)
            Probability of the context times weight of the follower.
        """


class WelfareIndex(Protocol):
    """One number for a distribution of values; in their unit, equal to v if all are v."""

    def __call__(self, value: Float[Array, " n"], share: Float[Array, " n"]) -> Float[Array, ""]:
        """Return the index of ``value`` with shares that sum to one."""


@dataclass(frozen=True)
class Minimum:
    """Value of the worst off (Rawls), among those with a share > 0.

    Its derivative is that of the worst off alone; at a tie it is shared equally.
    """

    def __call__(self, value: Float[Array, " n"], share: Float[Array, " n"]) -> Float[Array, ""]:
        """Return the least value."""
        return jnp.where(share > 0.0, value, jnp.inf).min()


@dataclass(frozen=True)
class GiniWelfare:
    r"""Expected lower of two values drawn at random, :math:`\sum_{ij} s_i s_j \min(v_i, v_j)`.

    For positive values this is the mean times one minus the Gini coefficient (Sen 1976); it needs
    no positive values.
    """

    def __call__(self, value: Float[Array, " n"], share: Float[Array, " n"]) -> Float[Array, ""]:
        """Return the index, in n log n operations."""
        order = jnp.argsort(value)
        value, share = value[order], share[order]
        above = share.sum() - jnp.cumsum(share)
        return (value * share * (share + 2.0 * above)).sum()


@dataclass(frozen=True)
class KolmPollak:
    r"""Equally distributed equivalent :math:`-\frac1a \log \sum_i s_i e^{-a v_i}`.

    Smooth, from the mean (small a) to the minimum (large a); an equal gain for all raises it by
    that gain. Source: Kolm (1976).

    Parameters
    ----------
    aversion : float
        a > 0, inequality aversion, per unit of the followers' reward.

    Examples
    --------
    >>> index = KolmPollak(aversion=2.0)
    >>> round(float(index(jnp.array([1.0, 1.0]), jnp.array([0.5, 0.5]))), 12)
    1.0
    """

    aversion: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.aversion) and self.aversion > 0.0):
            raise InvalidInputError(
                "inequality aversion is out of range",
                received=self.aversion,
                accepted="finite and > 0",
                remedy="aggregate=None for the plain mean",
            )

    def __call__(self, value: Float[Array, " n"], share: Float[Array, " n"]) -> Float[Array, ""]:
        """Return the equivalent."""
        return -jax.nn.logsumexp(-self.aversion * value, b=share) / self.aversion


@dataclass(frozen=True)
class SocialWelfare:
    """Weigh an index of the followers' own values against the leader's summed objective.

    Parameters
    ----------
    index : WelfareIndex
        `Minimum`, `GiniWelfare`, `KolmPollak` or any function of values and shares.
    weight : float
        Of the index; finite, >= 0; leader's unit per unit of the followers' reward.
    leader_weight : float
        Of the sum that is the objective otherwise; finite, >= 0.

    Raises
    ------
    InvalidInputError
        For weights that are negative or both zero.

    Notes
    -----
    Values are compared between followers as they are: give them a common unit. Everyone in every
    context counts, so risk over contexts and inequality between followers are one distribution.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from cbrl_bayes.problems import leader_outcome, two_state
    >>> problem = replace(two_state(), aggregate=SocialWelfare(Minimum(), leader_weight=0.0))
    >>> x = {"bonus": jnp.array(1.0)}
    >>> outcome = leader_outcome(problem, x, problem.default_parameters)
    >>> round(float(outcome.objective), 4)  # the worse off has cost 1.5: .25 log(1 + exp(-2))
    0.0317
    """

    index: WelfareIndex
    weight: float = 1.0
    leader_weight: float = 1.0

    def __post_init__(self) -> None:
        weights = np.array([self.weight, self.leader_weight], float)
        if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
            raise InvalidInputError(
                "weights of social welfare cannot be used",
                received=f"weight={self.weight}, leader_weight={self.leader_weight}",
                accepted="finite, >= 0, not both 0",
            )

    def __call__(self, gain: Table, value: Table, mass: Table) -> Float[Array, ""]:
        """Return the weighted sum; see `Aggregate`."""
        index = self.index(value.ravel(), (mass / mass.sum()).ravel())
        return self.leader_weight * (mass * gain).sum() + self.weight * index
