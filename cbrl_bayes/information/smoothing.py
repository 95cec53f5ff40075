"""Conditional expectations from draws: regress what options are worth on what may be learned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float
from scipy.interpolate import BSpline
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize
from scipy.spatial import cKDTree
from scipy.stats import norm, rankdata

from cbrl_bayes.designs.thinning import evenly_spaced
from cbrl_bayes.errors import InvalidInputError

DEGREE = 3
NOISE_RATIOS = np.logspace(-8.0, 6.0, 57)
SHORTEST, LONGEST = 0.2, 30.0
MOST_WIDTHS = 8


@dataclass(frozen=True)
class Basis:
    r"""Linear features at N draws with a quadratic penalty on their coefficients.

    Attributes
    ----------
    features : array, shape (N, M)
    penalty : array, shape (M,)
        Coefficients minimise squared error plus :math:`\sum_j p_j \beta_j^2`; >= 0.
    """

    features: Float[np.ndarray, "draw feature"]
    penalty: Float[np.ndarray, " feature"]

    def fit(
        self, target: Float[np.ndarray, " draw"], weights: Float[np.ndarray, " draw"] | None = None
    ) -> Float[np.ndarray, " draw"]:
        """Return fitted values at all draws; a draw of weight 0 takes no part in the fit."""
        weighted = self.features if weights is None else self.features * weights[:, None]
        gram = weighted.T @ self.features + np.diag(self.penalty)
        # Splines between tied draws can be collinear: the addition moves fits by 1e-10 or so.
        gram[np.diag_indices_from(gram)] += 1e-11 * np.trace(gram) / len(gram)
        return self.features @ cho_solve(cho_factor(gram), weighted.T @ target)


class Regression(Protocol):
    """Chooses features for each target; the choice is kept when the draws are resampled."""

    def bases(
        self, inputs: Float[np.ndarray, "draw column"], targets: Float[np.ndarray, "draw target"]
    ) -> list[Basis]:
        """Return one basis per target."""


@dataclass(frozen=True)
class SplineRegression:
    """Cubic B-splines of one input, without penalty.

    Parameters
    ----------
    num_knots : int
        Inner knots, >= 0, at equally spaced quantiles; num_knots + 4 features.

    Examples
    --------
    >>> x = np.linspace(0.0, 1.0, 50)
    >>> basis, = SplineRegression().bases(x[:, None], x[:, None])
    >>> basis.features.shape, bool(np.abs(basis.fit(x**3) - x**3).max() < 1e-8)
    ((50, 8), True)
    """

    num_knots: int = 4

    def __post_init__(self) -> None:
        if self.num_knots < 0:
            raise InvalidInputError(
                "num_knots is negative", received=self.num_knots, accepted=">= 0"
            )

    def bases(
        self, inputs: Float[np.ndarray, "draw column"], targets: Float[np.ndarray, "draw target"]
    ) -> list[Basis]:
        """Return the same splines for every target."""
        if inputs.shape[1] != 1:
            raise InvalidInputError(
                "splines take one input",
                received=f"{inputs.shape[1]} columns",
                remedy="KernelRegression",
            )
        # Tied draws give equal quantiles: a knot repeated too often would cut the spline.
        levels = np.unique(np.quantile(inputs[:, 0], np.linspace(0.0, 1.0, self.num_knots + 2)))
        if len(levels) == 1:
            features = np.ones((len(inputs), 1))
            return [Basis(features, np.zeros(1))] * targets.shape[1]
        knots = np.concatenate([[levels[0]] * DEGREE, levels, [levels[-1]] * DEGREE])
        features = BSpline.design_matrix(inputs[:, 0], knots, DEGREE).toarray()
        return [Basis(features, np.zeros(features.shape[1]))] * targets.shape[1]


@dataclass(frozen=True)
class KernelRegression:
    r"""A Gaussian process on several inputs, widths by restricted marginal likelihood.

    Inputs are replaced by their normal scores, so that the answer does not depend on the scale
    in which a parameter is written (temperature or rationality). The model of each target is an
    intercept and a linear trend without penalty, plus a process with covariance
    :math:`\exp(-\tfrac12 \sum_j (u_j - v_j)^2 / \ell_j^2)`, plus noise. The process is carried by
    its values at some of the draws (centres), so that N draws cost :math:`O(N M^2)`. Widths
    :math:`\ell_j`, one per input up to eight inputs and one for all beyond, and the ratio of noise
    to signal maximise the likelihood of the residuals from the trend (REML) on a thinned set of
    draws.

    Parameters
    ----------
    num_centres : int
        M, centres of the final fit, >= 1.
    num_tuning_draws, num_tuning_centres : int
        Draws and centres by which widths are chosen.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(300, 2))
    >>> basis, = KernelRegression().bases(x, x[:, :1] * x[:, 1:])
    >>> bool(np.std(basis.fit(x[:, 0] * x[:, 1]) - x[:, 0] * x[:, 1]) < 0.1)
    True
    """

    num_centres: int = 100
    num_tuning_draws: int = 400
    num_tuning_centres: int = 60

    def __post_init__(self) -> None:
        if min(self.num_centres, self.num_tuning_draws, self.num_tuning_centres) < 1:
            raise InvalidInputError(
                "kernel regression is set too small", received=self, accepted="numbers >= 1"
            )

    def bases(
        self, inputs: Float[np.ndarray, "draw column"], targets: Float[np.ndarray, "draw target"]
    ) -> list[Basis]:
        """Return one basis per target, each with widths of its own."""
        scores = _normal_scores(inputs)
        few = evenly_spaced(len(scores), self.num_tuning_draws)
        tuning_centres = scores[few][evenly_spaced(len(few), self.num_tuning_centres)]
        centres = scores[evenly_spaced(len(scores), self.num_centres)]
        trend = _trend(scores)
        bases = []
        for target in targets.T:
            widths, ratio = _tune(scores[few], tuning_centres, target[few])
            bumps = _bumps(scores, centres, widths)
            values, vectors = np.linalg.eigh(bumps.T @ bumps)
            # Directions that the penalty shrinks to under a thousandth only cost time.
            bumps = bumps @ vectors[:, values > 1e-3 * ratio]
            penalty = np.r_[np.zeros(trend.shape[1]), np.full(bumps.shape[1], ratio)]
            bases.append(Basis(np.concatenate([trend, bumps], axis=1), penalty))
        return bases


def default_regression(num_columns: int) -> Regression:
    """Return splines for one input and a Gaussian process for several."""
    return SplineRegression() if num_columns == 1 else KernelRegression()


def fitted_values(
    bases: Sequence[Basis],
    targets: Float[np.ndarray, "draw target"],
    weights: Float[np.ndarray, " draw"] | None = None,
) -> Float[np.ndarray, "draw target"]:
    """Return each target's fit by its own basis, draws weighted."""
    fits = [basis.fit(target, weights) for basis, target in zip(bases, targets.T, strict=True)]
    return np.stack(fits, axis=1)


def residual_correlation(
    inputs: Float[np.ndarray, "draw column"], residuals: Float[np.ndarray, "draw target"]
) -> tuple[float, float]:
    """Return the correlation of residuals at neighbouring draws, and its standard error.

    Each draw is compared with its nearest neighbour in the inputs (normal scores). A fit that
    misses nothing leaves neighbours unrelated, so the correlation is about 0 in any dimension;
    structure that the fit missed, an interaction say, makes it positive.

    Parameters
    ----------
    inputs : array, shape (N, p)
    residuals : array, shape (N, r)

    Returns
    -------
    tuple of float
        Both 0 where the residuals vanish.
    """
    _, near = cKDTree(_normal_scores(inputs)).query(_normal_scores(inputs), k=2)
    # With ties a draw may come second to itself.
    other = np.where(near[:, 0] == np.arange(len(near)), near[:, 1], near[:, 0])
    centred = residuals - residuals.mean(0)
    size = (centred**2).sum(1).mean()
    if size <= 1e-24 or len(inputs) < 3:
        return 0.0, 0.0
    products = (centred * centred[other]).sum(1) / size
    # Two draws that are each other's neighbour give the same product twice.
    return float(products.mean()), float(np.sqrt(2.0 / len(products)) * products.std(ddof=1))


def _normal_scores(inputs: np.ndarray) -> np.ndarray:
    """Replace every column by the normal quantiles of its ranks."""
    ranks = np.apply_along_axis(rankdata, 0, inputs)
    return norm.ppf((ranks - 0.5) / len(inputs))


def _trend(scores: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ones((len(scores), 1)), scores], axis=1)


def _bumps(scores: np.ndarray, centres: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Return features whose coefficients are independent standard normal a priori."""
    inner = _kernel(centres, centres, widths)
    inner[np.diag_indices_from(inner)] += 1e-8
    root = np.linalg.cholesky(inner)
    return solve_triangular(root, _kernel(centres, scores, widths), lower=True).T


def _kernel(first: np.ndarray, second: np.ndarray, widths: np.ndarray) -> np.ndarray:
    first, second = first / widths, second / widths
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1) - 2.0 * first @ second.T
    return np.exp(-0.5 * np.maximum(squares, 0.0))


def _tune(scores: np.ndarray, centres: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the widths and the ratio of noise to signal of highest restricted likelihood."""
    columns = scores.shape[1]
    own = columns if columns <= MOST_WIDTHS else 1
    trend, _ = np.linalg.qr(_trend(scores))
    left = target - trend @ (trend.T @ target)
    freedom = len(target) - trend.shape[1]
    if freedom < 2 or left @ left <= 1e-20 * max(target @ target, 1e-300):
        return np.full(columns, LONGEST), float(NOISE_RATIOS[-1])

    def badness(log_widths: np.ndarray) -> tuple[float, float]:
        widths = np.broadcast_to(np.exp(log_widths), columns)
        bumps = _bumps(scores, centres, widths)
        bumps -= trend @ (trend.T @ bumps)
        values, vectors = np.linalg.eigh(bumps.T @ bumps)
        values = np.maximum(values, 0.0)
        shares = (vectors.T @ (bumps.T @ left)) ** 2
        total = values + NOISE_RATIOS[:, None]
        explained = (shares / total).sum(1)
        noise = np.maximum(left @ left - explained, 1e-14 * (left @ left)) / NOISE_RATIOS
        scale = freedom * np.log(noise / freedom)
        size = (freedom - len(values)) * np.log(NOISE_RATIOS) + np.log(total).sum(1)
        best = int(np.argmin(scale + size))
        return 0.5 * float((scale + size)[best]), float(NOISE_RATIOS[best])

    start = np.full(own, np.log(1.5 * np.sqrt(columns)))
    found = minimize(
        lambda point: badness(point)[0],
        start,
        method="L-BFGS-B",
        bounds=[(np.log(SHORTEST), np.log(LONGEST))] * own,
        options={"maxiter": 40, "ftol": 1e-6, "eps": 1e-3},
    )
    return np.broadcast_to(np.exp(found.x), columns).copy(), badness(found.x)[1]
