"""Value of information from draws, by the package's regressions; errors with the knots refitted.

``net_benefit`` has shape (draws, options): what each option is worth under each draw.
"""

import numpy as np

from cbrl_bayes.information import SplineRegression, conditional_benefit, expected_regret

__all__ = ["bootstrap_error", "expected_regret", "partial_information"]


def partial_information(
    net_benefit: np.ndarray, parameter: np.ndarray, num_knots: int = 4
) -> float:
    """Return the expected value of partial perfect information (EVPPI) on one parameter.

    The net benefits are regressed on a cubic spline of the parameter with ``num_knots`` inner
    knots; the fitted values carry noise, and the maximum over options turns it into an upward bias.
    """
    regression = SplineRegression(num_knots)
    return expected_regret(conditional_benefit(net_benefit, parameter, regression))


def bootstrap_error(statistic, *arrays: np.ndarray, num_resamples: int = 200) -> float:
    """Return the standard error of ``statistic(*arrays)``, draws resampled independently."""
    generator = np.random.default_rng(0)
    num = len(arrays[0])
    found = []
    for _ in range(num_resamples):
        chosen = generator.integers(num, size=num)
        found.append(statistic(*(array[chosen] for array in arrays)))
    return float(np.std(found, ddof=1))
