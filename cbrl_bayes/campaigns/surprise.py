r"""The surprise check: is what came back compatible with what was predicted.

Each round's answer is ranked among answers simulated from what was believed before it. If the
model is right, a rank's p-value is uniform whatever was seen and chosen before: designs that look
at earlier data change nothing. Three statistics are ranked: the misfit of choices (likelihood
ratio of frequencies to the mean prediction), the mean worth of an episode (both tails), and the
misfit of contexts. Each p-value becomes a bet :math:`e = \int_0^1 \kappa p^{\kappa-1} d\kappa`
of expectation 1. The evidence after round t is the mean over the statistics of

.. math:: E_t = \sum_{s \le t} \frac{1}{s (s + 1)} \prod_{u = s}^{t} e_u + \frac{1}{t + 1},

which never reaches :math:`1 / \alpha` with probability above :math:`\alpha`, over all rounds and
all statistics together (Ville's inequality; a mixture over the round in which the model began to
fail). Source of the calibrator: Vovk and Wang, Annals of Statistics 49, 2021.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from cbrl_bayes.campaigns.answers import Answer

STATISTICS = ("choices", "worth", "contexts")


class Evidence(NamedTuple):
    """Evidence against the model so far.

    Attributes
    ----------
    started : tuple of float
        Bets that began in some round, one for each of `STATISTICS`.
    rounds : int
    largest : float
        Evidence, at its highest.
    """

    started: tuple[float, ...] = (0.0,) * len(STATISTICS)
    rounds: int = 0
    largest: float = 1.0

    @property
    def value(self) -> float:
        """The evidence now; its expectation is at most 1 if the model is right."""
        return float(np.mean(self.started)) + 1.0 / (self.rounds + 1.0)

    @property
    def p_value(self) -> float:
        """A p-value that holds at any time: one over the largest evidence."""
        return min(1.0, 1.0 / self.largest)

    def after(self, bets: Float[np.ndarray, " statistic"]) -> "Evidence":
        """Return the evidence after one more round's bets.

        Examples
        --------
        >>> Evidence().after(np.ones(3)).value
        1.0
        """
        number = self.rounds + 1
        fresh = 1.0 / (number * (number + 1.0))
        started = tuple((np.asarray(self.started) + fresh) * np.asarray(bets))
        after = Evidence(started, number)
        return after._replace(largest=max(self.largest, after.value))


def bets_of(p_values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return the bet of each p-value; those not finite bet nothing.

    Examples
    --------
    >>> bets_of(np.array([0.5, 0.005, np.nan])).round(3).tolist()
    [0.639, 6.9, 1.0]
    """
    given = np.clip(p_values, 1e-12, 1.0)
    log = np.log(np.where(given < 1.0 - 1e-6, given, 0.5))
    bets = (1.0 - given + given * log) / (given * log**2)
    # At p = 1 the integral is one half.
    bets = np.where(given < 1.0 - 1e-6, bets, 0.5)
    return np.where(np.isfinite(p_values), bets, 1.0)


def p_values(
    observed: Answer,
    replicates: Answer,
    mean_policy: Float[np.ndarray, "context follower state action"],
    mean_contexts: Float[np.ndarray, " context"],
    rng: np.random.Generator,
) -> Float[np.ndarray, " statistic"]:
    """Rank an answer among simulated ones; ties are broken at random.

    Parameters
    ----------
    observed : Answer
    replicates : Answer
        Leaves (B, ...), each under a draw of its own.
    mean_policy, mean_contexts : arrays
        The mean prediction, known before the answer.
    rng : numpy.random.Generator

    Returns
    -------
    array, shape (3,)
        Of `STATISTICS`; NaN where the answer says nothing.
    """
    everyone = [
        np.concatenate([np.asarray(one)[None], np.asarray(many)])
        for one, many in (
            (observed.choices, replicates.choices),
            (observed.contexts, replicates.contexts),
            (_mean(observed), _mean(replicates)),
        )
    ]
    choices = _misfit(everyone[0], mean_policy)
    contexts = _misfit(everyone[1], mean_contexts)
    upper = _upper(everyone[2], rng)
    return np.array(
        [
            _upper(choices.reshape(len(choices), -1).sum(1), rng),
            2.0 * min(upper, 1.0 - upper),
            _upper(contexts, rng) if observed.contexts.size > 1 else np.nan,
        ]
    )


def _mean(answer: Answer) -> np.ndarray:
    ended = np.asarray(answer.ended, float)
    return np.where(ended > 0, np.asarray(answer.worth) / np.maximum(ended, 1.0), np.nan)


def _misfit(counts: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the log-likelihood ratio of frequencies to what was expected, last axis summed."""
    total = counts.sum(-1, keepdims=True)
    share = counts / np.maximum(total, 1.0)
    ratio = np.log(np.where(counts > 0, share, 1.0)) - np.log(np.maximum(expected, 1e-300))
    return np.where(counts > 0, counts * ratio, 0.0).sum(-1)


def _upper(statistic: np.ndarray, rng: np.random.Generator) -> float:
    """Return the p-value of the first among all, large values being odd."""
    if not np.isfinite(statistic[0]):
        return np.nan
    # Those in which the statistic is defined, as it is in what was seen.
    others = statistic[1:][np.isfinite(statistic[1:])]
    tiny = 1e-9 * max(abs(float(statistic[0])), 1e-300)
    above = (others > statistic[0] + tiny).sum()
    tied = (np.abs(others - statistic[0]) <= tiny).sum()
    return float((above + rng.uniform() * (tied + 1)) / (len(others) + 1))
