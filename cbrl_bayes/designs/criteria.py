r"""What a leader may ask of a design whose worth is uncertain: expectation, risk, regret.

A criterion turns what a design is worth under every posterior draw, J_1 .. J_N, into one
number to be **maximised**. Draws say what the leader does not know (epistemic); contexts say
what nature decides (aleatory). Each J_d is already an expectation over contexts, unless the
problem's ``aggregate`` is `AcrossContexts`, which applies a criterion to the contexts instead.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from cbrl_bayes.errors import InvalidInputError


@runtime_checkable
class Criterion(Protocol):
    """Judges a design by what it is worth under N draws."""

    @property
    def name(self) -> str:
        """Short name, used for the design that maximises it."""

    def value(
        self,
        objective: Float[Array, " draw"],
        best: Float[Array, " draw"],
        depth: Float[Array, " draw"],
    ) -> Float[Array, ""]:
        """Return the criterion, to be maximised; differentiable in ``objective``.

        ``best`` is what each draw's own best design is worth; ``depth`` in [0, 1] is the share
        of draws closer to the centre of the posterior (`posterior_depth`).
        """


class RiskCriterion(Criterion, Protocol):
    """A criterion that needs the distribution of worth alone, so that contexts may carry it."""

    def of_distribution(
        self, worth: Float[Array, " n"], weights: Float[Array, " n"]
    ) -> Float[Array, ""]:
        """Return the criterion of a distribution with weights >= 0 that sum to one."""


class _OfDistribution:
    """Criteria of the distribution alone: draws weigh alike."""

    def value(self, objective: Array, best: Array, depth: Array) -> Array:
        """Return the criterion of equally likely draws."""
        return self.of_distribution(objective, jnp.full(objective.shape, 1.0 / objective.size))

    def of_distribution(self, worth: Array, weights: Array) -> Array:
        raise NotImplementedError


@dataclass(frozen=True)
class Expectation(_OfDistribution):
    """The mean over draws: the Bayes design, for a leader indifferent to risk.

    Examples
    --------
    >>> w = jnp.array([1.0, 3.0])
    >>> float(Expectation().value(w, w, w))
    2.0
    """

    name: ClassVar[str] = "expectation"

    def of_distribution(self, worth: Array, weights: Array) -> Array:
        """Return the weighted mean."""
        return weights @ worth


@dataclass(frozen=True)
class MeanVariance(_OfDistribution):
    """Mean less half of ``aversion`` times the variance (Markowitz 1952).

    Parameters
    ----------
    aversion : float
        > 0, in 1 / unit of the objective. For normal worth this is the certainty equivalent of
        exponential utility with that absolute risk aversion.

    Examples
    --------
    >>> w = jnp.array([1.0, 3.0])
    >>> float(MeanVariance(0.5).value(w, w, w))
    1.75
    """

    aversion: float

    def __post_init__(self) -> None:
        _positive("aversion", self.aversion)

    @property
    def name(self) -> str:
        """``mean_variance_`` and the aversion."""
        return f"mean_variance_{self.aversion:g}"

    def of_distribution(self, worth: Array, weights: Array) -> Array:
        """Return mean - aversion / 2 * variance."""
        mean = weights @ worth
        return mean - self.aversion / 2.0 * (weights @ (worth - mean) ** 2)


@dataclass(frozen=True)
class CVaR(_OfDistribution):
    """Conditional value at risk: the mean of the worst ``level`` of the distribution.

    Parameters
    ----------
    level : float
        Share of worst cases, in (0, 1]; 1 is the expectation.

    Notes
    -----
    Rockafellar and Uryasev (2000), for gains in place of losses. With N draws it averages about
    ``level * N`` of them: 10 % of 50 draws are 5.

    Examples
    --------
    >>> w = jnp.array([4.0, 1.0, 3.0, 2.0])
    >>> float(CVaR(0.5).value(w, w, w)), float(CVaR(0.375).value(w, w, w))
    (1.5, 1.3333333333333333)
    """

    level: float

    def __post_init__(self) -> None:
        _share("level", self.level)

    @property
    def name(self) -> str:
        """``cvar_`` and the level."""
        return f"cvar_{self.level:g}"

    def of_distribution(self, worth: Array, weights: Array) -> Array:
        """Return the mean of the lower tail."""
        order = jnp.argsort(worth)
        upto = jnp.cumsum(weights[order])
        taken = jnp.clip(self.level - (upto - weights[order]), 0.0, weights[order])
        return taken @ worth[order] / self.level


@dataclass(frozen=True)
class VaR(_OfDistribution):
    """Value at risk: the ``level`` quantile, what is reached with probability 1 - level.

    Parameters
    ----------
    level : float
        In (0, 1].

    Notes
    -----
    The lowest worth at which the distribution function reaches ``level``. It looks at one draw
    only and says nothing of how bad the tail below it is; `CVaR` does.

    Examples
    --------
    >>> w = jnp.array([4.0, 1.0, 3.0, 2.0])
    >>> float(VaR(0.5).value(w, w, w))
    2.0
    """

    level: float

    def __post_init__(self) -> None:
        _share("level", self.level)

    @property
    def name(self) -> str:
        """``var_`` and the level."""
        return f"var_{self.level:g}"

    def of_distribution(self, worth: Array, weights: Array) -> Array:
        """Return the quantile."""
        order = jnp.argsort(worth)
        # Sums of weights may miss the level by rounding.
        index = jnp.searchsorted(jnp.cumsum(weights[order]), self.level - 1e-12)
        found = worth[order][jnp.minimum(index, worth.size - 1)]
        return jnp.where(jnp.isnan(worth).any(), jnp.nan, found)


@dataclass(frozen=True)
class WorstCase:
    """The least worth over a credible set of the parameters.

    Parameters
    ----------
    prob : float
        Probability of the credible set, in (0, 1]: the draws closest to the posterior's centre
        (`posterior_depth`), the same for every design. 1 takes all draws, and then depends on
        how many there are.

    Examples
    --------
    >>> w, depth = jnp.array([4.0, 1.0, 3.0]), jnp.array([0.0, 0.9, 0.5])
    >>> float(WorstCase(0.6).value(w, w, depth))
    3.0
    """

    prob: float = 0.9

    def __post_init__(self) -> None:
        _share("prob", self.prob)

    @property
    def name(self) -> str:
        """``worst_case_`` and the probability."""
        return f"worst_case_{self.prob:g}"

    def value(self, objective: Array, best: Array, depth: Array) -> Array:
        """Return the minimum over the credible set."""
        return jnp.where(depth < self.prob, objective, jnp.inf).min()


@dataclass(frozen=True)
class MinimaxRegret:
    """Minus the largest regret over a credible set of the parameters (Savage 1951).

    Parameters
    ----------
    prob : float
        Probability of the credible set, as in `WorstCase`.

    Examples
    --------
    >>> w, best, depth = jnp.array([4.0, 1.0]), jnp.array([4.5, 3.0]), jnp.array([0.0, 0.5])
    >>> float(MinimaxRegret().value(w, best, depth))
    -2.0
    """

    prob: float = 0.9

    def __post_init__(self) -> None:
        _share("prob", self.prob)

    @property
    def name(self) -> str:
        """``minimax_regret_`` and the probability."""
        return f"minimax_regret_{self.prob:g}"

    def value(self, objective: Array, best: Array, depth: Array) -> Array:
        """Return minus the maximum over the credible set of best - objective."""
        return -jnp.where(depth < self.prob, best - objective, -jnp.inf).max()


@dataclass(frozen=True)
class AcrossContexts:
    """A criterion over contexts (what nature decides), for a problem's ``aggregate``.

    Within each context the followers' gains are summed with their weights; the criterion is
    applied to that distribution. Posterior draws are untouched: a study of such a problem takes
    its expectation, or any other criterion, over draws of this number.

    Parameters
    ----------
    criterion : RiskCriterion
        `Expectation`, `MeanVariance`, `CVaR` or `VaR`.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from cbrl_bayes.problems import four_rooms, leader_outcome
    >>> problem = replace(four_rooms(), aggregate=AcrossContexts(CVaR(0.5)))
    >>> plain = leader_outcome(four_rooms(), problem.incentive.initial, problem.default_parameters)
    >>> worst = leader_outcome(problem, problem.incentive.initial, problem.default_parameters)
    >>> bool(abs(worst.objective - plain.by_context.min()) < 1e-12)  # two contexts, equally likely
    True
    """

    criterion: RiskCriterion = field(default_factory=Expectation)

    def __post_init__(self) -> None:
        if not hasattr(self.criterion, "of_distribution"):
            raise InvalidInputError(
                "this criterion does not apply to contexts",
                received=self.criterion,
                accepted="Expectation, MeanVariance, CVaR, VaR",
            )

    def __call__(
        self,
        gain: Float[Array, "context follower"],
        value: Float[Array, "context follower"],
        mass: Float[Array, "context follower"],
    ) -> Float[Array, ""]:
        """Return the criterion of the contexts' weighted gains."""
        followers = mass.sum(0)  # context probabilities sum to one
        chances = mass.sum(1) / followers.sum()
        return self.criterion.of_distribution(gain @ followers, chances)


def _positive(name: str, value: float) -> None:
    if not 0.0 < value < float("inf"):
        raise InvalidInputError(f"{name} is out of range", received=value, accepted="> 0")


def _share(name: str, value: float) -> None:
    if not 0.0 < value <= 1.0:
        raise InvalidInputError(
            f"{name} is out of range", received=value, accepted="above 0, at most 1"
        )
