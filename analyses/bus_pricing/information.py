"""Value of information from draws: what it is worth to know parameters before deciding.

``net_benefit`` has shape (draws, options): what each option is worth under each draw.
"""

import numpy as np
from scipy.interpolate import BSpline

__all__ = ["bootstrap_error", "expected_regret", "partial_information", "spline_basis"]

DEGREE = 3


def expected_regret(net_benefit: np.ndarray) -> float:
    """Return the expected value of perfect information (EVPI).

    The mean over draws of the best option's worth, less the worth of the option that is best
    on average: the expected regret of the common choice.
    """
    return float(net_benefit.max(1).mean() - net_benefit.mean(0).max())


def partial_information(
    net_benefit: np.ndarray, parameter: np.ndarray, num_knots: int = 4
) -> float:
    """Return the expected value of partial perfect information (EVPPI) on one parameter.

    The net benefits are regressed on a cubic spline of the parameter; the fitted values stand
    for the expectation given the parameter. The fitted values carry noise of variance (basis
    functions / draws) times the residual variance, and the maximum over options turns it into an
    upward bias.

    Parameters
    ----------
    net_benefit : array, shape (draws, options)
    parameter : array, shape (draws,)
    num_knots : int
        Inner knots, at equally spaced quantiles; num_knots + 4 basis functions.
    """
    basis = spline_basis(parameter, num_knots)
    fitted = basis @ np.linalg.lstsq(basis, net_benefit, rcond=None)[0]
    return expected_regret(fitted)


def spline_basis(parameter: np.ndarray, num_knots: int) -> np.ndarray:
    """Return cubic B-splines at the draws, shape (draws, num_knots + 4)."""
    levels = np.quantile(parameter, np.linspace(0.0, 1.0, num_knots + 2))
    knots = np.concatenate([[levels[0]] * DEGREE, levels, [levels[-1]] * DEGREE])
    return BSpline.design_matrix(parameter, knots, DEGREE).toarray()


def bootstrap_error(statistic, *arrays: np.ndarray, num_resamples: int = 200) -> float:
    """Return the standard error of ``statistic(*arrays)``, draws resampled independently."""
    generator = np.random.default_rng(0)
    num = len(arrays[0])
    found = []
    for _ in range(num_resamples):
        chosen = generator.integers(num, size=num)
        found.append(statistic(*(array[chosen] for array in arrays)))
    return float(np.std(found, ddof=1))
