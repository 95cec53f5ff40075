"""Ranks of known truths among their posterior draws, and a test that they are uniform."""

import numpy as np
from jaxtyping import Float
from numpy.polynomial.legendre import legvander
from scipy.stats import chi2

from cbrl_bayes.calibration.fits import SimulatedFits

SMOOTH_DEGREE = 4


def rank_columns(
    fits: SimulatedFits, rng: np.random.Generator
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Rank every entry of every truth.

    Parameters
    ----------
    fits : SimulatedFits
    rng : numpy.random.Generator
        Breaks ties, and makes fractions of ranks.

    Returns
    -------
    tuple
        Names of Q quantities; ``truth``, ``rank``, ``effective_size`` and ``fractional_rank`` of
        each, arrays of shape (R, Q). The last is (rank + uniform number) / (L + 1), NaN where
        there is no rank.
    """
    columns: dict[str, list] = {"truth": [], "rank": [], "effective_size": []}
    names: list[str] = []
    for name, truth in fits.truth.items():
        flat, draws = flattened(truth, 1), flattened(fits.draws[name], 2)
        size = np.broadcast_to(flattened(fits.effective_size[name], 1), flat.shape)
        # What is the same in all truths and all draws is no quantity (a reference fixed at 0).
        varies = (flat != flat[0]).any(0) | (draws != flat[0]).any((0, 1))
        for place in map(int, np.flatnonzero(varies)):
            names.append(f"{name}{entry(place, truth.shape[1:])}")
            columns["truth"].append(flat[:, place])
            columns["rank"].append(ranks_of(flat[:, place], draws[..., place], rng))
            columns["effective_size"].append(size[:, place])
    table = {name: np.stack(values, axis=1) for name, values in columns.items()}
    rank = table["rank"]
    fraction = (rank + rng.random(rank.shape)) / (fits.num_draws + 1)
    return names, table | {"fractional_rank": np.where(rank >= 0, fraction, np.nan)}


def ranks_of(truth: np.ndarray, draws: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return how many draws lie below the truth; ties are broken at random.

    Parameters
    ----------
    truth : array, shape (R, ...)
    draws : array, shape (R, L, ...)
    rng : numpy.random.Generator

    Returns
    -------
    int array, shape (R, ...)
        From 0 to L; uniform if truth and draws are exchangeable, ties or not. -1 where a
        number is not finite.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> ranks_of(np.array([2.5]), np.array([[1.0, 2.0, 3.0]]), rng).tolist()
    [2]
    """
    truth, draws = np.asarray(truth, float), np.asarray(draws, float)
    below = (draws < truth[:, None]).sum(1)
    ties = (draws == truth[:, None]).sum(1)
    ranks = below + rng.integers(0, ties + 1)
    return np.where(np.isfinite(truth) & np.isfinite(draws).all(1), ranks, -1)


def uniformity_p_value(place: Float[np.ndarray, " data_set"]) -> float:
    r"""Test that fractional ranks are uniform on (0, 1), by Neyman's smooth test.

    With u the fractional ranks, which are independent between data sets, and :math:`\phi_j` the
    orthonormal Legendre polynomials on (0, 1), :math:`\sum_{j=1}^{4} (\sum_r \phi_j(u_r))^2 / R`
    is chi-square with 4 degrees of freedom if u is uniform. The four terms answer to a shift, to a
    spread that is too small or too large, to skewness and to tails; fine structure is not looked
    for, and in exchange smooth faults are seen with far fewer data sets than by bins.

    Parameters
    ----------
    place : array, shape (R,)

    Returns
    -------
    float
        0 where R is 0.
    """
    if not len(place):
        return 0.0
    degrees = np.arange(1, SMOOTH_DEGREE + 1)
    terms = legvander(2.0 * place - 1.0, SMOOTH_DEGREE)[:, 1:] * np.sqrt(2.0 * degrees + 1.0)
    return float(chi2.sf((terms.sum(0) ** 2).sum() / len(place), SMOOTH_DEGREE))


def flattened(values: np.ndarray, leading: int) -> np.ndarray:
    """Flatten all axes but the leading ones into one."""
    return np.asarray(values).reshape(*values.shape[:leading], -1)


def entry(place: int, shape: tuple[int, ...]) -> str:
    """Return the index of an entry of a flattened array as text, "" for a scalar."""
    if not shape:
        return ""
    return "[" + ", ".join(map(str, np.unravel_index(place, shape))) + "]"
