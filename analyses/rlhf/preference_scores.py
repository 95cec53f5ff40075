"""Held-out scores of preference models, and standard errors for judgements that go together."""

import numpy as np

__all__ = ["clustered", "left_score", "losses", "pair_rate", "simulated_scores"]

TIE = 2
SCORES = np.array([1.0, 0.0, 0.5])
"""What the left answer gets for left, right and tie."""


def clustered(values: np.ndarray, *clusters: np.ndarray) -> tuple[float, float]:
    """Return the mean and its standard error when judgements of one cluster go together.

    Parameters
    ----------
    values : array, shape (n,)
    clusters : one or two int arrays, shape (n,)
        With two, judgements are dependent if they share either. The variance is the sum of the
        one-way ones less that of their intersection (Cameron, Gelbach and Miller 2011); it can
        come out too small by chance, so it is never taken below the larger one-way variance.
    """
    found = [_variance(values, cluster) for cluster in clusters]
    if len(clusters) == 1:
        variance = found[0]
    else:
        first, second = clusters
        both = _variance(values, np.asarray(first) * (np.max(second) + 1) + np.asarray(second))
        variance = max(*found, sum(found) - both)
    return float(np.mean(values)), float(np.sqrt(variance))


def _variance(values: np.ndarray, cluster: np.ndarray) -> float:
    place = np.unique(cluster, return_inverse=True)[1]
    sums = np.bincount(place, values - np.mean(values))
    count = len(sums)
    return float((sums**2).sum() * count / (count - 1)) / len(values) ** 2


def losses(probability: np.ndarray, outcome: np.ndarray, has_ties: bool) -> dict[str, np.ndarray]:
    """Return minus the log probability of each judgement.

    Parameters
    ----------
    probability : array, shape (n, 3)
        Of left, right and tie.
    outcome : int array, shape (n,)
        0, 1 or 2 in the same order.
    has_ties : bool
        Whether the model gives ties a probability.

    Returns
    -------
    dict
        ``decided``: of the judgements that are no ties, given that they are none; ``all``, with
        ties only: of every judgement.
    """
    rows = np.arange(len(outcome))
    decided = outcome != TIE
    two = probability[:, :2] / probability[:, :2].sum(1, keepdims=True)
    found = {"decided": -np.log(two[decided, outcome[decided]])}
    return found | ({"all": -np.log(probability[rows, outcome])} if has_ties else {})


def pair_rate(play: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return the policy's win rate on pairs of answers against the uniform reference on them.

    The reference gives the policy's own answer with probability one half (score 1/2) and else
    the other one, and then the judgement is the score.

    Parameters
    ----------
    play : array
        The policy's probability of the left answer.
    score : array
        1, 0 or 1/2 where left, right or a tie was said, or an expectation of it.
    """
    return 0.25 + (play * score + (1 - play) * (1 - score)) / 2


def simulated_scores(probability: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Draw one judgement from each row (..., 3) of probabilities; return the left one's score."""
    ends = np.cumsum(probability, -1)
    uniform = generator.random(probability.shape[:-1]) * ends[..., -1]
    return SCORES[(uniform[..., None] > ends[..., :-1]).sum(-1)]


def left_score(difference, log_tie, xp=np):
    """Return the expected score of the left answer in Davidson's model.

    That is P(left) + P(tie)/2, from odds exp(d/2) : exp(-d/2) : nu, with a single exponential.

    Parameters
    ----------
    difference, log_tie : arrays
        d and log nu.
    xp : module
        numpy or jax.numpy.
    """
    small = xp.exp(-xp.abs(difference) / 2)
    lead = (1 - small**2) / (1 + small**2 + xp.exp(log_tie) * small)
    return 0.5 + xp.sign(difference) * lead / 2
