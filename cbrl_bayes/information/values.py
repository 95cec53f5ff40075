r"""What it is worth to know more before deciding: perfect and partial perfect information.

``net_benefit`` holds what each of D options is worth under each of N draws. Deciding now yields
:math:`\max_d E[B_d]`. Knowing everything first yields :math:`E[\max_d B_d]`, knowing
:math:`\phi` first :math:`E[\max_d E(B_d\mid\phi)]`; the gains are EVPI and EVPPI. Conditional
expectations come from regressions on the draws (Strong, Oakley and Brennan, Medical Decision
Making 34, 2014).

Two errors pull in opposite directions. A maximum over noisy numbers is too large on average: so
are EVPI from simulated scores and EVPPI from fitted values. Every value is therefore accompanied by
a *held-out* one, which chooses by one part of the evidence and counts by another; it estimates what
an actual, imperfect rule earns and lies below the truth on average, but for what is lost by not
knowing the best option on average.
"""

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.information.smoothing import (
    Basis,
    Regression,
    default_regression,
    fitted_values,
    residual_correlation,
)

NUM_FOLDS = 5
NUM_RESAMPLES = 200
SMALLEST_SHARE = 1e-8
FEWEST_DRAWS = 20


@dataclass(frozen=True)
class InformationValue:
    """A value of information with its errors, in the unit of the net benefits.

    Attributes
    ----------
    value : float
        The estimate; >= 0, and too high on average where it maximises over noisy numbers.
    standard_error : float
        By resampling draws in blocks; widths of a kernel regression are kept.
    held_out : float
        Chosen by one part of the evidence, counted by another; may be negative.
    held_out_standard_error : float
    explained : float
        Share of the variance of net benefit differences that the regression explains; NaN where
        there is no regression.
    residual_correlation, residual_correlation_error : float
        Of residuals at neighbouring draws; clearly positive where the regression missed
        structure (`smoothing.residual_correlation`).
    """

    value: float
    standard_error: float
    held_out: float
    held_out_standard_error: float
    explained: float = np.nan
    residual_correlation: float = np.nan
    residual_correlation_error: float = np.nan


@dataclass(frozen=True)
class Components:
    """Principal components of the differences between options.

    What all options share in a draw does not bear on the choice and is taken away first.

    Attributes
    ----------
    reference : int
        The option that is best on average; differences are taken to it.
    mean : array, shape (D,)
    loadings : array, shape (r, D)
    """

    reference: int
    mean: Float[np.ndarray, " option"]
    loadings: Float[np.ndarray, "component option"]

    @classmethod
    def of(cls, net_benefit: Float[np.ndarray, "draw option"]) -> "Components":
        """Find the components that hold all but 1e-8 of the variance."""
        reference = int(net_benefit.mean(0).argmax())
        differences = net_benefit - net_benefit[:, [reference]]
        mean = differences.mean(0)
        _, size, right = np.linalg.svd(differences - mean, full_matrices=False)
        kept = size**2 > SMALLEST_SHARE * (size**2).sum()
        kept[0] = True  # one component even where options do not differ
        return cls(reference, mean, right[kept])

    def scores(
        self, net_benefit: Float[np.ndarray, "draw option"]
    ) -> Float[np.ndarray, "draw component"]:
        """Project net benefits, or their conditional expectations."""
        differences = net_benefit - net_benefit[:, [self.reference]]
        return (differences - self.mean) @ self.loadings.T

    def differences(
        self, scores: Float[np.ndarray, "draw component"]
    ) -> Float[np.ndarray, "draw option"]:
        """Return the differences of every option to the reference."""
        return self.mean + scores @ self.loadings


def expected_regret(
    net_benefit: Float[np.ndarray, "draw option"], weights: Float[np.ndarray, " draw"] | None = None
) -> float:
    r"""Return :math:`E[\max_d B_d] - \max_d E[B_d]`, the regret of the best common option.

    Parameters
    ----------
    net_benefit : array, shape (N, D)
    weights : array, shape (N,), optional
        Of the draws. Default: equal.

    Examples
    --------
    >>> expected_regret(np.array([[0.0, 1.0], [0.0, -1.0]]))
    0.5
    """
    best = np.average(net_benefit.max(1), weights=weights)
    return float(best - np.average(net_benefit, axis=0, weights=weights).max())


def perfect_information(
    net_benefit: Float[np.ndarray, "draw option"],
    *,
    key: Key[Array, ""],
    again: Float[np.ndarray, "draw option"] | None = None,
    block_length: int = 1,
) -> InformationValue:
    """Return the expected value of perfect information (EVPI).

    Parameters
    ----------
    net_benefit : array, shape (N, D)
    key : typed key
        For the resampling.
    again : array, shape (N, D), optional
        The same scores from independent noise, where scores are simulated. ``value`` is then
        that of both scores' average, too high on average; ``held_out`` chooses by one and
        counts by the other, both ways, and is too low on average. Without it they are equal.
    block_length : int
        Consecutive draws that are resampled together, for draws that are correlated in order.

    Returns
    -------
    InformationValue

    Examples
    --------
    >>> draws = np.linspace(-1.0, 1.0, 201)
    >>> benefit = np.stack([np.zeros(201), draws], axis=1)
    >>> round(perfect_information(benefit, key=jax.random.key(0)).value, 3)
    0.251
    """
    first = _checked(net_benefit)
    second = first if again is None else _checked(again, first.shape)
    both = (first + second) / 2.0
    rows = np.arange(len(both))
    crossed = (second[rows, first.argmax(1)] + first[rows, second.argmax(1)]) / 2.0

    def held_out(weights: np.ndarray | None = None) -> float:
        now = np.average(both, axis=0, weights=weights).max()
        return float(np.average(crossed, weights=weights) - now)

    samples = np.array(
        [
            (expected_regret(both, weights), held_out(weights))
            for weights in resampled_weights(len(both), block_length, key)
        ]
    )
    error, held_out_error = samples.std(0, ddof=1)
    return InformationValue(expected_regret(both), float(error), held_out(), float(held_out_error))


def partial_information(
    net_benefit: Float[np.ndarray, "draw option"],
    inputs: Float[np.ndarray, "draw ..."],
    *,
    key: Key[Array, ""],
    regression: Regression | None = None,
    block_length: int = 1,
) -> InformationValue:
    """Return the expected value of partial perfect information (EVPPI) on some quantities.

    Differences of net benefit to the option that is best on average are regressed on the
    inputs, one principal component at a time. The fit is noisy and the maximum over options
    turns noise into an upward bias, of the order of features / draws times the residual
    variance; ``value - held_out`` bounds it on average.

    Parameters
    ----------
    net_benefit : array, shape (N, D)
    inputs : array, shape (N,) or (N, p)
        What would be known: a parameter, or a group of them. Leave out entries that follow from
        the others (the last of a vector of probabilities).
    key : typed key
        For the resampling.
    regression : Regression, optional
        Default: splines for one input, `KernelRegression` for several.
    block_length : int
        As in `perfect_information`.

    Returns
    -------
    InformationValue

    Raises
    ------
    InvalidInputError
        For arrays that do not fit, are not finite, or hold fewer than 20 draws.

    Examples
    --------
    >>> known, unknown = np.random.default_rng(0).normal(size=(2, 500))
    >>> benefit = np.stack([np.zeros(500), known + unknown], axis=1)
    >>> found = partial_information(benefit, known, key=jax.random.key(0))
    >>> bool(abs(found.value - 0.399) < 4 * found.standard_error)  # 1 / sqrt(2 pi)
    True
    """
    net_benefit, inputs = _checked(net_benefit), _columns(inputs, len(net_benefit))
    parts = Components.of(net_benefit)
    scores = parts.scores(net_benefit)
    bases = (regression or default_regression(inputs.shape[1])).bases(inputs, scores)
    fitted = fitted_values(bases, scores)
    samples = [
        expected_regret(parts.differences(fitted_values(bases, scores, weights)), weights)
        for weights in resampled_weights(len(scores), block_length, key)
    ]
    held_out = _held_out(net_benefit, scores, parts, bases)
    variance = ((scores - scores.mean(0)) ** 2).sum()
    residual = ((scores - fitted) ** 2).sum()
    return InformationValue(
        expected_regret(parts.differences(fitted)),
        float(np.std(samples, ddof=1)),
        float(held_out.mean()),
        float(held_out.std(ddof=1) * np.sqrt(block_length / len(held_out))),
        float(1.0 - residual / variance) if variance > 0 else 1.0,
        *residual_correlation(inputs, scores - fitted),
    )


def conditional_benefit(
    net_benefit: Float[np.ndarray, "draw option"],
    inputs: Float[np.ndarray, "draw ..."],
    regression: Regression | None = None,
) -> Float[np.ndarray, "draw option"]:
    """Return net benefits expected given the inputs, less that of the best option on average.

    Parameters
    ----------
    net_benefit : array, shape (N, D)
    inputs : array, shape (N,) or (N, p)
    regression : Regression, optional
        As in `partial_information`.

    Returns
    -------
    array, shape (N, D)
    """
    net_benefit, inputs = _checked(net_benefit), _columns(inputs, len(net_benefit))
    parts = Components.of(net_benefit)
    scores = parts.scores(net_benefit)
    bases = (regression or default_regression(inputs.shape[1])).bases(inputs, scores)
    return parts.differences(fitted_values(bases, scores))


def resampled_weights(
    num: int, block_length: int, key: Key[Array, ""], num_resamples: int = NUM_RESAMPLES
) -> list[np.ndarray]:
    """Return bootstrap weights of N draws, blocks of consecutive draws drawn together."""
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    blocks = -(-num // block_length)
    starts = generator.integers(num, size=(num_resamples, blocks, 1))
    chosen = (starts + np.arange(block_length)) % num
    return [np.bincount(row.ravel()[:num], minlength=num).astype(float) for row in chosen]


def _held_out(
    net_benefit: np.ndarray, scores: np.ndarray, parts: Components, bases: list[Basis]
) -> np.ndarray:
    """Return each draw's gain by the choice that the other folds' draws suggest."""
    fold = np.arange(len(scores)) * NUM_FOLDS // len(scores)
    gains = np.zeros(len(scores))
    for number in range(NUM_FOLDS):
        training = (fold != number).astype(float)
        fitted = parts.differences(fitted_values(bases, scores, training))
        now = int(np.average(net_benefit, axis=0, weights=training).argmax())
        rows = np.flatnonzero(fold == number)
        gains[rows] = net_benefit[rows, fitted[rows].argmax(1)] - net_benefit[rows, now]
    return gains


def _checked(net_benefit: np.ndarray, shape: tuple[int, ...] | None = None) -> np.ndarray:
    array = np.asarray(net_benefit, float)
    fits = array.ndim == 2 and array.shape[1] > 0 and shape in (None, array.shape)
    if not fits or len(array) < FEWEST_DRAWS or not np.isfinite(array).all():
        raise InvalidInputError(
            "net benefits cannot be used",
            received=f"shape {array.shape}",
            accepted=f"finite, shape (draws, options) with {FEWEST_DRAWS} draws or more"
            if shape is None
            else f"finite, shape {shape}",
        )
    return array


def _columns(inputs: np.ndarray, num: int) -> np.ndarray:
    array = np.asarray(inputs, float)
    array = array[:, None] if array.ndim == 1 else array.reshape(len(array), -1)
    if len(array) != num or array.shape[1] == 0 or not np.isfinite(array).all():
        raise InvalidInputError(
            "what would be known does not fit the net benefits",
            received=array.shape,
            accepted=f"finite, shape ({num},) or ({num}, columns)",
        )
    return array
