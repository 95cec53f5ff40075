"""What prior and likelihood move: power-scaled posteriors, and the decision under them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from arviz_stats.base import array_stats
from jaxtyping import Float

from cbrl_bayes.designs.evaluation import Evaluation, ExactEvaluation
from cbrl_bayes.errors import InvalidInputError, require_kind, require_ranges

COMPONENTS = ("prior", "likelihood")
THRESHOLD = 0.05
"""Of power-scaling, from Kallioinen et al. (2024): above, an output is sensitive."""
LOWER, UPPER = 0.99, 1.01
"""The exponents of ArviZ's ``psense``."""


@dataclass(frozen=True)
class PriorSensitivitySettings:
    r"""How the sensitivity to prior and likelihood is computed.

    Parameters
    ----------
    alphas : sequence of float
        Exponents :math:`\alpha` of prior or likelihood for the decision, each > 0.
    num_options : int
        Options in all; the study's own designs come first.
    num_resamples : int
        Resamples of the draws for the standard errors of ``psense``, >= 2.
    evaluation : Evaluation
        How options are scored; exact where possible.
    """

    alphas: Sequence[float] = (0.8, 0.9, 1.0, 1.1, 1.25)
    num_options: int = 20
    num_resamples: int = 50
    evaluation: Evaluation = field(default_factory=ExactEvaluation)

    def __post_init__(self) -> None:
        require_kind(self.alphas, list | tuple, "alphas", "alphas=(0.8, 1.0, 1.25)")
        require_kind(self.evaluation, Evaluation, "evaluation", "cb.ExactEvaluation()")
        numbers = {f"alphas[{place}]": alpha for place, alpha in enumerate(self.alphas)}
        sizes = {"num_options": self.num_options, "num_resamples": self.num_resamples}
        require_ranges(
            {"len(alphas)": len(self.alphas), **numbers, **sizes},
            "settings of the sensitivity to the prior",
            **{"len(alphas)": ">= 1", "num_options": ">= 1", "num_resamples": ">= 2"},
            **dict.fromkeys(numbers, "(0, inf)"),
        )


def power_scale_weights(
    log_density: Float[np.ndarray, "chain draw"], alpha: float
) -> tuple[Float[np.ndarray, " draw"], float]:
    r"""Return weights that turn posterior draws into draws of a power-scaled posterior.

    :math:`w \propto p^{\alpha - 1}`, Pareto-smoothed; above a Pareto k of .7 they cannot be
    relied on.

    Parameters
    ----------
    log_density : array, shape (chain, draw)
        Of the component that is raised to ``alpha``.
    alpha : float
        > 0; 1 leaves the posterior as it is.

    Returns
    -------
    tuple
        Weights that sum to one, shape (N,), and the Pareto k (NaN for equal weights).

    Examples
    --------
    >>> weights, _ = power_scale_weights(np.zeros((2, 50)), 0.8)
    >>> float(weights[0])
    0.01
    """
    flat = np.asarray(log_density, float).ravel()
    if alpha == 1.0 or np.ptp(flat) == 0.0:
        return np.full(flat.size, 1.0 / flat.size), np.nan
    log_weights, pareto_k = array_stats.psislw(-(alpha - 1.0) * flat)
    weights = np.exp(log_weights - log_weights.max())
    return weights / weights.sum(), float(pareto_k)


def power_scaling_sensitivity(
    outputs: Float[np.ndarray, "chain draw output"],
    densities: Mapping[str, Float[np.ndarray, "chain draw"]],
    generator: np.random.Generator,
    num_resamples: int,
) -> dict[str, Float[np.ndarray, "component output"]]:
    """Return ArviZ's ``psense`` of each output, and its standard error by resampling draws.

    ``sensitivity`` and ``standard_error``; an output that does not vary has NaN.
    """
    flat = outputs.reshape(-1, outputs.shape[-1]).T
    varies = np.isfinite(flat).all(1) & (np.ptp(flat, axis=1) > 0)
    shape = (len(COMPONENTS), len(flat))
    found, error = np.full(shape, np.nan), np.full(shape, np.nan)
    record = {"sensitivity": found, "standard_error": error}
    if not varies.any():
        return record
    flat = flat[varies]
    picks = generator.integers(0, flat.shape[1], (num_resamples, flat.shape[1]))
    for row, name in enumerate(COMPONENTS):
        density = densities[name].ravel()
        if np.ptp(density) == 0.0:
            found[row, varies], error[row, varies] = 0.0, 0.0
            continue
        found[row, varies] = _sense(flat, density)
        again = [_sense(flat[:, pick], density[pick]) for pick in picks]
        error[row, varies] = np.std(again, axis=0, ddof=1)
    return record


@dataclass(frozen=True)
class WeightedDecision:
    """What D designs are worth under K sets of weights on the draws.

    Attributes
    ----------
    expected : array, shape (K, D)
        Weighted mean objective.
    best : int array, shape (K,)
        The design with the largest; a tie goes to the reference.
    loss, loss_standard_error : arrays, shape (K,)
        What the reference design loses against the best one, chosen on one half of the draws and
        scored on the other, both ways; and its Monte Carlo error given the two choices, from the
        paired differences. Negative where the chosen designs do worse than the reference.
    effective_draws : array, shape (K,)
        1 / sum of squared weights.
    """

    expected: Float[np.ndarray, "weighting design"]
    best: np.ndarray
    loss: Float[np.ndarray, " weighting"]
    loss_standard_error: Float[np.ndarray, " weighting"]
    effective_draws: Float[np.ndarray, " weighting"]


def weighted_decision(
    objective: Float[np.ndarray, "design draw"],
    weights: Float[np.ndarray, "weighting draw"],
    *,
    reference: int = 0,
) -> WeightedDecision:
    r"""Choose among designs under reweighted draws.

    With weights :math:`w` that sum to one, design d is worth :math:`\sum_n w_n J_{dn}`; the error
    of a weighted mean is :math:`\sqrt{\sum_n w_n^2 (J_n - \bar J)^2}`.

    The largest of D noisy means is too large on average, so the loss is not read off the draws
    that chose: the best design of the even draws is scored on the odd ones and the other way
    round, and the two are averaged. On average that is at most what the best of the D designs
    gains, for draws that are independent.

    Parameters
    ----------
    objective : array, shape (D, N)
        Finite, N >= 2.
    weights : array, shape (K, N)
        >= 0, some above 0 among the even and among the odd draws; each row is normalised.
    reference : int
        The design one would keep.

    Returns
    -------
    WeightedDecision

    Examples
    --------
    >>> found = weighted_decision(np.array([[1.0, 1.0], [0.0, 3.0]]), np.array([[0.9, 0.1]]))
    >>> int(found.best[0]), float(found.loss[0])  # each draw chooses for the other, one wrongly
    (0, -0.5)
    """
    objective, weights = np.asarray(objective, float), np.asarray(weights, float)
    fits = objective.ndim == weights.ndim == 2 and objective.shape[1] == weights.shape[1]
    sound = fits and np.isfinite(objective).all() and (weights >= 0).all()
    if not sound or not (
        np.isfinite(weights).all()
        and all((weights[:, half::2].sum(1) > 0).all() for half in (0, 1))
    ):
        raise InvalidInputError(
            "objectives and weights do not fit",
            received=f"shapes {objective.shape} and {weights.shape}",
            accepted="(designs, draws) and (weightings, draws), finite, weights >= 0 and "
            "not all 0 among the even or the odd draws",
        )
    shares = weights / weights.sum(1, keepdims=True)
    expected, best = _best(objective, shares, reference)
    loss, variance = np.zeros(len(shares)), np.zeros(len(shares))
    for half in (0, 1):
        _, chosen = _best(objective[:, half::2], shares[:, half::2], reference)
        gain = (objective[chosen] - objective[reference])[:, 1 - half :: 2]
        held_out = shares[:, 1 - half :: 2]
        held_out = held_out / held_out.sum(1, keepdims=True)
        mean = (held_out * gain).sum(1)
        loss += mean / 2
        variance += ((held_out * (gain - mean[:, None])) ** 2).sum(1) / 4
    return WeightedDecision(
        expected=expected,
        best=best,
        loss=loss,
        loss_standard_error=np.sqrt(variance),
        effective_draws=1.0 / (shares**2).sum(1),
    )


def power_scaled_decision(
    objective: Float[np.ndarray, "design draw"],
    log_density: Float[np.ndarray, "chain draw"],
    alphas: Sequence[float],
    *,
    reference: int = 0,
) -> tuple[WeightedDecision, Float[np.ndarray, " alpha"]]:
    """Return the decision with one component of the posterior raised to each power.

    Parameters
    ----------
    objective : array, shape (D, N)
    log_density : array, shape (chain, draw)
        Of the component; N draws in all.
    alphas : sequence of float
    reference : int
        The design one would keep.

    Returns
    -------
    tuple
        `WeightedDecision` over the alphas, and the Pareto k of each.
    """
    weights, pareto_k = zip(
        *(power_scale_weights(log_density, alpha) for alpha in alphas), strict=True
    )
    return weighted_decision(objective, np.stack(weights), reference=reference), np.array(pareto_k)


def _sense(outputs: np.ndarray, log_density: np.ndarray) -> np.ndarray:
    """As ``psense``, on plain arrays: outputs (O, N)."""

    def shares(alpha: float) -> np.ndarray:
        weights = np.exp(array_stats.power_scale_lw(log_density, alpha=alpha))
        return (weights / weights.sum())[None]

    at = {"lower_w": shares(LOWER), "upper_w": shares(UPPER)}
    sense = array_stats.power_scale_sense
    return np.array(
        [sense(row[None], **at, lower_alpha=LOWER, upper_alpha=UPPER) for row in outputs]
    )


def _best(
    objective: Float[np.ndarray, "design draw"],
    weights: Float[np.ndarray, "weighting draw"],
    reference: int,
) -> tuple[Float[np.ndarray, "weighting design"], np.ndarray]:
    """Return weighted sums, and which design has the largest; a tie goes to the reference."""
    expected = weights @ objective.T
    tied = expected[:, reference] >= expected.max(1)
    return expected, np.where(tied, reference, expected.argmax(1))
