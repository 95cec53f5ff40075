r"""What a sample is worth before it is drawn: expected value of sample information (EVSI).

A future data set y would lead to the option of highest :math:`E(B_d\mid y)`; EVSI is
:math:`E_y[\max_d E(B_d\mid y)] - \max_d E[B_d]`. Three routes, all from one simulated data set per
draw: regression of the net benefits on a summary of the data; moment matching, which rescales net
benefits to the variance that their posterior means will have (Heath, Manolopoulou and Baio, Medical
Decision Making 38, 2018); and direct re-weighting of the draws by the likelihood.
"""

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array, Float, Key
from scipy.special import softmax

from cbrl_bayes.designs.thinning import evenly_spaced
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.information.experiments import FutureData
from cbrl_bayes.information.smoothing import KernelRegression, Regression
from cbrl_bayes.information.values import (
    Components,
    InformationValue,
    expected_regret,
    partial_information,
    resampled_weights,
)

NUM_REFERENCES = 60
MOST_COLUMNS = 5
SMALLEST_NATS = 0.05


@dataclass(frozen=True)
class SampleInformation:
    """EVSI of one experiment by two routes, in the unit of the net benefits.

    Attributes
    ----------
    regression : InformationValue
        With its held-out value, which bounds the bias from overfitting.
    moment_matching, moment_matching_error : float
        The other route, and its standard error by resampling draws and data sets.
    effective_sample_size : array, shape (Q,)
        Of the re-weighted draws, for each data set whose posterior moment matching used.
    num_columns : int
        Numbers to which the data were summarised.
    ceiling : float
        Value of knowing exactly what the data speak of.
    num_failed : int
        Best responses that did not converge in the simulation.
    """

    regression: InformationValue
    moment_matching: float
    moment_matching_error: float
    effective_sample_size: Float[np.ndarray, " data_set"]
    num_columns: int
    ceiling: float
    num_failed: int


def sample_information(
    net_benefit: Float[np.ndarray, "draw option"],
    future: FutureData,
    *,
    key: Key[Array, ""],
    informed: Float[np.ndarray, "draw option"] | None = None,
    regression: Regression | None = None,
    num_posteriors: int = 50,
    block_length: int = 1,
) -> SampleInformation:
    r"""Return the EVSI by regression and by moment matching.

    *Regression*: net benefits on `likelihood_summary`. *Moment matching*: with net benefits z
    (their principal components), posterior covariances at ``num_posteriors`` data sets are found
    by weighting the draws with the likelihood; :math:`C_y = \mathrm{Cov}(z) - \overline{
    \mathrm{Cov}(z\mid y)}` is then the covariance of the posterior means. The linear map that
    carries :math:`\mathrm{Cov}(E[z\mid\phi])` to :math:`C_y` with least displacement,
    :math:`C_\phi^{-1/2}(C_\phi^{1/2} C_y C_\phi^{1/2})^{1/2} C_\phi^{-1/2}`, is applied to the
    draws of :math:`E[z\mid\phi]`, whose shape the posterior means are taken to share.

    Parameters
    ----------
    net_benefit : array, shape (N, D)
    future : FutureData
        One data set per draw, in the order of ``net_benefit``.
    key : typed key
        For the resampling.
    informed : array, shape (N, D), optional
        Net benefits expected given all the parameters that the data speak of
        (`conditional_benefit`). Default: ``net_benefit``.
    regression : Regression, optional
        Default: `KernelRegression`, whose trend and widths are chosen by likelihood.
    num_posteriors : int
        Q, data sets whose posterior is found, evenly spaced among the draws; >= 10.
    block_length : int
        As in `perfect_information`.

    Returns
    -------
    SampleInformation

    Notes
    -----
    Re-weighting is reliable while the effective sample size stays well above the number of
    components: far beyond that, posterior variances come out too small and moment matching too
    large.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> mean = generator.normal(size=400)
    >>> seen = mean + generator.normal(size=400)  # one observation of standard deviation 1
    >>> future = FutureData(np.stack([seen, np.ones(400)], axis=1),
    ...                     np.stack([mean, -(mean**2) / 2], axis=1))
    >>> benefit = np.stack([np.zeros(400), mean], axis=1)
    >>> found = sample_information(benefit, future, key=jax.random.key(0))
    >>> bool(abs(found.moment_matching - 0.282) < 0.05)  # sqrt(1 / 2) / sqrt(2 pi)
    True
    """
    _check_pairs(net_benefit, future)
    if num_posteriors < 10:
        raise InvalidInputError(
            "num_posteriors is too small", received=num_posteriors, accepted=">= 10"
        )
    summary = likelihood_summary(future)
    fit_key, match_key = jax.random.split(key)
    by_regression = partial_information(
        net_benefit,
        summary,
        key=fit_key,
        regression=regression or KernelRegression(),
        block_length=block_length,
    )
    parts = Components.of(net_benefit)
    scores = parts.scores(net_benefit)
    informed_scores = scores if informed is None else parts.scores(informed)
    chosen = evenly_spaced(len(scores), num_posteriors)
    weights, sizes = _posterior_weights(future, chosen)
    spread = _posterior_covariances(scores, weights)

    def matched(draw_weights: np.ndarray | None = None, rows: np.ndarray | None = None) -> float:
        before = _covariance(scores, draw_weights)
        after = spread.mean(0) if rows is None else spread[rows].mean(0)
        centre = np.average(informed_scores, axis=0, weights=draw_weights)
        carry = _transport(_covariance(informed_scores, draw_weights), before - after)
        moved = centre + (informed_scores - centre) @ carry
        return expected_regret(parts.differences(moved), draw_weights)

    generator = np.random.default_rng(np.asarray(jax.random.key_data(match_key)))
    samples = [
        matched(draw_weights, generator.integers(len(chosen), size=len(chosen)))
        for draw_weights in resampled_weights(len(scores), block_length, match_key)
    ]
    return SampleInformation(
        regression=by_regression,
        moment_matching=matched(),
        moment_matching_error=float(np.std(samples, ddof=1)),
        effective_sample_size=sizes,
        num_columns=summary.shape[1],
        ceiling=expected_regret(net_benefit if informed is None else informed),
        num_failed=future.num_failed,
    )


def likelihood_summary(future: FutureData) -> Float[np.ndarray, "draw column"]:
    """Reduce each data set to a few numbers that carry its likelihood function.

    The log-likelihoods at some reference draws, less their mean over the references (a factor that
    does not depend on the parameters says nothing), reduced to principal components over the data
    sets. Components of less than .05 nats per reference, root mean square, can hardly move a
    posterior and are left out; at most five are kept, at least one.

    Parameters
    ----------
    future : FutureData

    Returns
    -------
    array, shape (N, q)

    Examples
    --------
    >>> successes = np.arange(11.0)
    >>> chance = np.linspace(0.1, 0.9, 11)
    >>> counts = np.stack([successes, 10 - successes], axis=1)
    >>> future = FutureData(counts, np.log(np.stack([chance, 1 - chance], axis=1)))
    >>> likelihood_summary(future).shape  # the number of successes is sufficient
    (11, 1)
    """
    references = evenly_spaced(len(future.statistic), NUM_REFERENCES)
    table = future.statistic @ future.log_probability[references].T
    table = table - table.mean(1, keepdims=True)
    left, size, _ = np.linalg.svd(table - table.mean(0), full_matrices=False)
    kept = (size / np.sqrt(table.size) > SMALLEST_NATS)[:MOST_COLUMNS]
    kept[0] = True
    return (left[:, :MOST_COLUMNS] * size[:MOST_COLUMNS])[:, kept]


def reweighted_information(
    net_benefit: Float[np.ndarray, "draw option"], future: FutureData
) -> tuple[float, float]:
    """Return the EVSI by re-weighting the draws for every data set, and the median ESS.

    The posterior mean of every option's net benefit under data set n is a weighted mean over the
    other draws. No regression and no matching, but an upward bias of the order of the posterior
    variance over the effective sample size (ESS): a check for small experiments.

    Parameters
    ----------
    net_benefit : array, shape (N, D)
    future : FutureData

    Returns
    -------
    tuple of float
    """
    gain, sizes = reweighted_gains(net_benefit, future)
    return float(gain.mean()), float(np.median(sizes))


def reweighted_gains(
    net_benefit: Float[np.ndarray, "draw option"], future: FutureData
) -> tuple[Float[np.ndarray, " draw"], Float[np.ndarray, " draw"]]:
    """Return what each simulated data set gains over choosing now, and its ESS.

    Parameters
    ----------
    net_benefit : array, shape (N, D)
    future : FutureData

    Returns
    -------
    tuple of arrays, each (N,)
        The mean of the first is what `reweighted_information` returns.
    """
    _check_pairs(net_benefit, future)
    everyone = np.arange(len(net_benefit))
    weights, sizes = _posterior_weights(future, everyone)
    expected = weights @ net_benefit
    now = int(net_benefit.mean(0).argmax())
    return expected.max(1) - expected[:, now], sizes


def _posterior_weights(future: FutureData, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights of all draws for some data sets, (Q, N), and their effective sample sizes.

    The draw a data set was simulated from takes no part: it was not drawn independently of it.
    """
    logits = future.log_likelihood(chosen)
    logits[np.arange(len(chosen)), chosen] = -np.inf
    weights = softmax(logits, axis=1)
    return weights, 1.0 / (weights**2).sum(1)


def _posterior_covariances(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted covariance of each data set, (Q, r, r), corrected for its few draws."""
    means = weights @ scores
    squares = np.einsum("qn,ni,nj->qij", weights, scores, scores, optimize=True)
    raw = squares - means[:, :, None] * means[:, None, :]
    # Weights on one draw leave no freedom: bounded, and reported through the effective size.
    freedom = np.maximum(1.0 - (weights**2).sum(1), 0.05)
    return raw / freedom[:, None, None]


def _covariance(scores: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    return np.atleast_2d(np.cov(scores, rowvar=False, aweights=weights))


def _transport(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the symmetric map from covariance ``source`` to ``target``, negative parts cut."""
    root, inverse = _roots(source)
    middle, _ = _roots(root @ target @ root)
    return inverse @ middle @ inverse


def _roots(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the square root of the positive part, and its pseudo-inverse."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2.0)
    positive = values > 1e-12 * max(values.max(), 1e-300)
    root = np.sqrt(np.where(positive, values, 0.0))
    inverse = np.where(positive, 1.0 / np.where(positive, root, 1.0), 0.0)
    return (vectors * root) @ vectors.T, (vectors * inverse) @ vectors.T


def _check_pairs(net_benefit: np.ndarray, future: FutureData) -> None:
    if len(net_benefit) != len(future.statistic):
        raise InvalidInputError(
            "net benefits and simulated data are not of the same draws",
            received=f"{len(net_benefit)} and {len(future.statistic)}",
        )
