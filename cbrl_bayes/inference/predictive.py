"""Predicted numbers: how probable each is, and whether they are like those observed.

Counts of choices under posterior draws are held against the observed ones: each count by itself,
with the tail of a beta-binomial law that has the mean and variance of the predicted counts, and
all together by the Freeman-Tukey distance, with the tail of a gamma law that has the mean and
variance of the predicted distances. The data made the fit, so that both look fitting somewhat too
often: an alarm is false at most as often as `FALSE_ALARM` says, not counting how well those two
laws do as approximations.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import gammaincc, gammaln, xlog1py, xlogy

from cbrl_bayes.behaviour import BehaviourCounts
from cbrl_bayes.problems import Problem

FALSE_ALARM = 0.001
"""Of all single counts together, and once more of the distance."""
FEWEST_DRAWS = 50


def predictive_check(
    problem: Problem, counts: BehaviourCounts, predicted: Int[np.ndarray, "draw row action"]
) -> dict[str, Any]:
    """Hold observed counts of choices against predicted ones.

    Parameters
    ----------
    problem : Problem
        For its labels.
    counts : BehaviourCounts
    predicted : array, shape (draws, rows, A)
        Counts in the same decision points, one set per posterior draw.

    Returns
    -------
    dict
        ``tail`` (of the count that is furthest off, times the number of counts), ``distance_tail``,
        and ``reviews``, a list of sentences; empty where there is nothing to check.
    """
    observed = counts.action_count
    if not observed.size or len(predicted) < FEWEST_DRAWS:
        return {}
    chances = count_tails(observed, predicted)
    # Of two actions one count says all.
    tests = (observed.sum(1) > 0).sum() * max(observed.shape[1] - 1, 1)
    row = int(np.unravel_index(int(np.nanargmin(chances)), chances.shape)[0])
    alike = chances[row] <= 1.001 * chances[row].min()  # of two actions either count says it
    action = int(np.where(alike, observed[row] - predicted[:, row].mean(0), -np.inf).argmax())
    tail = min(1.0, float(chances[row, action]) * int(tests))
    together = distance_tail(observed, predicted)
    reviews = []
    if tail < FALSE_ALARM:
        expected = predicted[:, row, action].mean()
        reviews.append(
            f"the fitted model does not describe what was seen: {_where(problem, counts, row)}"
            f"{observed[row, action]} of {observed[row].sum()} choices were "
            f"{_action(problem, action)}, where it expects {expected:.3g} (tail probability "
            f"{chances[row, action]:.1g}); compare other models of the follower (compare_followers)"
        )
    elif together < FALSE_ALARM:
        reviews.append(
            "the fitted model does not describe what was seen: choices in all decision points "
            f"together are further from what it expects than its own (tail probability "
            f"{together:.1g}); compare other models of the follower (compare_followers)"
        )
    return {"tail": tail, "distance_tail": together, "reviews": reviews}


def number_densities(
    counts: BehaviourCounts,
    predicted: Collection[str],
    draws: Mapping[str, np.ndarray],
    parts: Mapping[str, Any],
    rows: Float[np.ndarray, "draw row action"],
) -> dict[str, np.ndarray]:
    """Return how probable each observed number is, for what leaves out one number at a time.

    A count of n choices is binomial given n, whatever the others are: the multinomial law is that
    binomial, times the law of how the rest divides. So to leave out a count is to forget how many
    took this action, not how the others divide.

    Parameters
    ----------
    counts : BehaviourCounts
    predicted : collection of str
        Names of the numbers that are predicted; others have no density here.
    draws : mapping
        Sampled site -> array (draw, ...).
    parts : mapping
        From `Replay.examine`, of all draws.
    rows : array, shape (draw, rows, A)
        Log policy in each decision point.

    Returns
    -------
    dict
        Name -> log density, shape (draw, ...) with the axes of the number.

    Examples
    --------
    Three of four took the first of two actions, whose probability is one half:

    >>> binomial_density(np.array([3, 1]), np.array([0.5, 0.5])).round(4)
    array([-1.3863, -1.3863])
    """
    found = {}
    if "action_count" in predicted:
        found["action_count"] = binomial_density(counts.action_count, np.exp(rows))
    if "context_count" in predicted:
        found["context_count"] = binomial_density(
            counts.context_count, draws["context_probability"]
        )
    if "context_value" in predicted:
        found["context_value"] = parts["context_density"]
    return found


def binomial_density(
    count: Int[np.ndarray, "*row entry"], chance: Float[np.ndarray, "... entry"]
) -> Float[np.ndarray, "... entry"]:
    """Return the log probability of each count, given the sum over the last axis."""
    rest = count.sum(-1, keepdims=True) - count
    ways = gammaln(count + rest + 1) - gammaln(count + 1) - gammaln(rest + 1)
    return ways + xlogy(count, chance) + xlog1py(rest, -np.minimum(chance, 1.0))


def count_tails(
    observed: Int[np.ndarray, "row action"], predicted: Int[np.ndarray, "draw row action"]
) -> Float[np.ndarray, "row action"]:
    """Return the two-sided tail probability of each count; NaN where nothing was chosen.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> predicted = rng.multinomial(30, [0.46, 0.54], (500, 1))
    >>> bool(1e-11 < count_tails(np.array([[30, 0]]), predicted)[0, 0] < 1e-9)  # .46^30
    True
    """
    from scipy.stats import betabinom, binom  # half a second of imports, when first asked for

    total = observed.sum(1, keepdims=True)
    several = np.maximum(total, 1)
    # Half a count keeps what was never drawn possible.
    chance = (predicted.sum(0) + 0.5) / (several * len(predicted) + 1.0)
    binomial = several * chance * (1.0 - chance)
    excess = predicted.var(0, ddof=1) / binomial - 1.0
    # With one choice there is nothing between choices; below noise there is nothing either.
    noise = 3.0 * np.sqrt(2.0 / len(predicted))
    share = np.where(excess > noise, excess / np.maximum(several - 1, 1), 0.0)
    share = np.clip(share, 0.0, 0.999)
    spread = share > 0
    scale = np.where(spread, (1.0 - share) / np.where(spread, share, 1.0), 1.0)
    alike = betabinom(several, chance * scale, (1.0 - chance) * scale)
    plain = binom(several, chance)
    least = np.where(spread, alike.cdf(observed), plain.cdf(observed))
    most = np.where(spread, alike.sf(observed - 1), plain.sf(observed - 1))
    found = np.minimum(1.0, 2.0 * np.minimum(least, most))
    return np.where(total > 0, found, np.nan)


def distance_tail(
    observed: Int[np.ndarray, "row action"], predicted: Int[np.ndarray, "draw row action"]
) -> float:
    """Return the chance of predicted counts as far from their mean as the observed ones.

    By the Freeman-Tukey distance, the sum of squared differences of square roots.
    """
    root = np.sqrt(predicted.mean(0))
    own = ((np.sqrt(predicted) - root) ** 2).sum((1, 2))
    mean, variance = own.mean(), own.var(ddof=1)
    if variance <= 0.0:
        return 1.0
    distance = ((np.sqrt(observed) - root) ** 2).sum()
    return float(gammaincc(mean**2 / variance, distance * mean / variance))


def _where(problem: Problem, counts: BehaviourCounts, row: int) -> str:
    """Name a decision point."""
    state, cell = int(counts.row_state[row]), int(counts.row_cell[row])
    names = [
        str(values[state])
        for dims, values in problem.state_labels.coords.values()
        if len(dims) == 1
    ]
    parts = [f"in state {', '.join(names) or state}"]
    if len(problem.contexts.names) > 1 and len(problem.contexts.names) > counts.cell_context[cell]:
        parts.append(f"context {problem.contexts.names[counts.cell_context[cell]]}")
    if len(counts.groups) > 1:
        parts.append(f"group {counts.groups[counts.cell_group[cell]]}")
    if len(counts.regimes) > 1:
        parts.append(f"regime {counts.regimes[counts.cell_regime[cell]]}")
    return f"{', '.join(parts)}, "


def _action(problem: Problem, action: int) -> str:
    return repr(problem.action_names[action]) if problem.action_names else f"action {action}"
