"""How often intervals hold what was true: counts, their binomial bands, and what these detect."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import beta, binom, norm

from cbrl_bayes.calibration.ranks import ranks_of
from cbrl_bayes.errors import InvalidInputError


def count_covered(
    truth: Float[np.ndarray, " data_set"],
    draws: Float[np.ndarray, "data_set draw"],
    *,
    prob: float,
    band_prob: float,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Count the data sets whose equal-tailed interval over draws holds the truth.

    With k = (N + 1)(1 - prob)/2 the interval runs from the k-th smallest to the k-th largest of
    N draws. If truth and N draws are exchangeable, it holds the truth with probability ``prob``
    exactly, and with more where they tie. (Quantiles by linear interpolation hold it with about
    ``prob (N - 1)/(N + 1)``.)

    Returns
    -------
    dict
        The columns of `decision_coverage`.

    Raises
    ------
    InvalidInputError
        If no order statistics give ``prob``.
    """
    usable = np.isfinite(truth) & np.isfinite(draws).all(1)
    truth, draws = truth[usable], draws[usable]
    num, size = draws.shape
    order = interval_order(size, prob)
    if not order:
        raise InvalidInputError(
            "no order statistics of the draws give this probability",
            received=f"{size} draws, {prob:g}",
            accepted="(draws + 1) * (1 - prob) / 2 a whole number",
            remedy="19, 39 or 59 draws for 0.9",
        )
    ends = np.sort(draws, axis=1)[:, [order - 1, size - order]]
    ranks = ranks_of(truth, draws, rng)
    low, high = binomial_band(num, prob, band_prob)
    covered = int(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).sum())
    gap = truth - draws.mean(1)
    return {
        "data_sets": num,
        "covered": covered,
        "share": covered / max(num, 1),
        "low": low,
        "high": high,
        "detectable": detectable_coverage(num, prob, band_prob),
        "untied": int(((ranks >= order) & (ranks <= size - order)).sum()),
        "mean_rank": float(ranks.mean()) / size if num else np.nan,
        "rank_p_value": mean_rank_p_value(ranks, size),
        "mean_true": float(truth.mean()) if num else np.nan,
        "mean_predicted": float(draws.mean()) if num else np.nan,
        "difference": float(gap.mean()) if num else np.nan,
        "difference_standard_error": float(gap.std(ddof=1) / np.sqrt(num)) if num > 1 else np.nan,
    }


def mean_rank_p_value(ranks: Int[np.ndarray, " data_set"], size: int) -> float:
    """Test that truths do not lie above, or below, their draws more often than not.

    Coverage cannot see a shift: intervals that are too wide and lie too high hold the truth often
    enough. If truth and ``size`` draws are exchangeable, a rank is uniform on 0, ..., size, with
    mean size / 2 and variance size (size + 2) / 12; the mean of R ranks is normal for R of 20 or
    more. A shift of d standard deviations of the draws (all normal) moves the mean of rank / size
    by d / sqrt(4 pi): 500 data sets find d = .18 with probability .8 at a level of .002.

    Returns
    -------
    float
        Two-sided; NaN without data sets.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> even = rng.integers(0, 40, 500)
    >>> bool(mean_rank_p_value(even, 39) > 0.01 > mean_rank_p_value(np.maximum(even, 6), 39))
    True
    """
    if not len(ranks):
        return float("nan")
    error = np.sqrt(size * (size + 2) / 12.0 / len(ranks))
    return float(2.0 * norm.sf(abs(ranks.mean() - size / 2.0) / error))


def interval_order(size: int, prob: float) -> int:
    """Return k of `count_covered` for so many draws, or 0 if there is none."""
    exact = (size + 1) * (1.0 - prob) / 2.0
    return round(exact) if exact > 0.5 and abs(exact - round(exact)) < 1e-9 else 0


def binomial_band(num: int, prob: float, band_prob: float = 0.99) -> tuple[int, int]:
    """Return the counts between which a binomial falls with at least ``band_prob``.

    Each tail outside has at most half of the rest.

    Examples
    --------
    >>> binomial_band(60, 0.9, 0.998)
    (46, 60)
    """
    tail = (1.0 - band_prob) / 2.0
    return int(binom.ppf(tail, num, prob)), int(binom.isf(tail, num, prob))


def detectable_coverage(
    num: int, prob: float = 0.9, band_prob: float = 0.99, power: float = 0.8
) -> float:
    """Return the largest true coverage that a band finds too low with a probability of ``power``.

    Below it, the count of ``num`` intervals falls short of the `binomial_band` of ``prob`` with at
    least that probability; between it and ``prob`` the test has less power.

    Parameters
    ----------
    num : int
        Data sets.
    prob, band_prob : float
        As in `binomial_band`.
    power : float
        In (0, 1).

    Returns
    -------
    float
        NaN where the band starts at 0, so that no count falls short.

    Examples
    --------
    >>> round(detectable_coverage(40), 3), round(detectable_coverage(1000), 3)
    (0.675, 0.865)
    """
    low, _ = binomial_band(num, prob, band_prob)
    # P(count <= low - 1) = power, solved for the chance: a quantile of the beta law.
    return float(beta.isf(power, low, num - low + 1)) if low else float("nan")
