"""Demand for replacements: how often a manager replaces engines at a given price.

The price is what the manager pays for one replacement, in units of RC. The manager's choices
come from the package; the chain of mileages that they lead to is built here with NumPy alone.
"""

import jax
import jax.numpy as jnp
import numpy as np

from cbrl_bayes.mdp import expected_return
from cbrl_bayes.problems import MILES_PER_BIN, Problem, bus_replacement, leader_gain, respond

__all__ = [
    "expected_replacements",
    "leader_accounts",
    "log_choice",
    "mileage_chain",
    "replacement_probability",
    "replacements_per_year",
    "stationary_distribution",
]

MONTHS_PER_YEAR = 12
REPLACE = 1
FLEET = jnp.zeros(())
"""The one context of the bus problem."""


def log_choice(
    prices: np.ndarray, draws: dict[str, np.ndarray], discount: float = 0.9999, num_bins: int = 90
) -> np.ndarray:
    """Return the manager's log-probabilities of keeping and replacing, (prices, draws, S, 2).

    Parameters
    ----------
    prices : array, shape (prices,)
        Paid per replacement at any mileage, units of RC; 1 is no subsidy.
    draws : mapping
        RC, theta11 (draws,) and increment_probability (draws, increments).
    discount : float
        The manager's, per month.
    num_bins : int
        Mileage bins of 5,000 miles.
    """
    # A target beyond the last bin makes every replacement early: the subsidy is 1 - price.
    target = num_bins * MILES_PER_BIN - 1
    problem = bus_replacement(target_mileage=target, discount=discount, num_bins=num_bins)

    def one(entry: tuple) -> tuple:
        price, own = entry
        _, response = respond(problem, {"subsidy": 1.0 - price}, FLEET, own)
        return response.log_policy, response.status

    return _over_all(one, prices, draws)[0]


def replacement_probability(
    prices: np.ndarray, draws: dict[str, np.ndarray], discount: float = 0.9999, num_bins: int = 90
) -> np.ndarray:
    """Return the chance of replacing in each bin, (prices, draws, S); see `log_choice`."""
    return np.exp(log_choice(prices, draws, discount, num_bins)[..., REPLACE])


def leader_accounts(
    problem: Problem, subsidies: np.ndarray, draws: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return what late buses and what subsidies cost the leader, each (subsidies, draws).

    Both are >= 0, in the problem's money per bus-month, discounted from a new engine. The
    leader's objective is minus their sum; the first is proportional to ``late_cost``.
    """

    def one(entry: tuple) -> tuple:
        subsidy, own = entry
        mdp, response = respond(problem, {"subsidy": subsidy}, FLEET, own)
        harm = problem.leader_reward_fn({"subsidy": subsidy}, FLEET, own)
        late = -expected_return(mdp, response.policy, reward=harm, discount=problem.leader_discount)
        both = -leader_gain(problem, {"subsidy": subsidy}, FLEET, own, mdp, response.policy)
        return late, both - late, response.status

    return _over_all(one, subsidies, draws)[:2]


def _over_all(one, grid: np.ndarray, draws: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Apply ``one`` to every (grid point, draw); its last output is a solve status."""
    grid = np.asarray(grid, float)
    draws = {name: np.asarray(value, float) for name, value in draws.items()}
    num = len(draws["RC"])
    pairs = (
        np.repeat(grid, num),
        {name: np.tile(v, (len(grid), *(1,) * (v.ndim - 1))) for name, v in draws.items()},
    )
    *found, status = jax.jit(lambda entries: jax.lax.map(one, entries))(pairs)
    if int(np.max(status)) > 0:
        raise RuntimeError(f"{int((np.asarray(status) > 0).sum())} best responses did not converge")
    return [np.asarray(leaf).reshape(len(grid), num, *leaf.shape[1:]) for leaf in found]


def mileage_chain(replace: np.ndarray, increments: np.ndarray) -> np.ndarray:
    """Return the month-to-month law of the mileage bin, shape (..., S, S).

    Parameters
    ----------
    replace : array, shape (..., S)
        Chance of replacing in each bin.
    increments : array, shape (..., J)
        Law of the monthly increment; after a replacement it applies from bin 0.
    """
    num_bins = replace.shape[-1]
    chain = np.zeros((*replace.shape, num_bins))
    for step in range(increments.shape[-1]):
        chance = increments[..., step]
        for origin in range(num_bins):
            kept = chance * (1.0 - replace[..., origin])
            chain[..., origin, min(origin + step, num_bins - 1)] += kept
            chain[..., origin, min(step, num_bins - 1)] += chance * replace[..., origin]
    return chain


def stationary_distribution(chain: np.ndarray) -> np.ndarray:
    """Return the law that ``chain`` leaves as it is, shape (..., S).

    The chain must have one recurrent class. One balance equation is redundant; the sum takes
    its place.
    """
    num_states = chain.shape[-1]
    system = np.eye(num_states) - np.swapaxes(chain, -1, -2)
    system[..., -1, :] = 1.0
    total = np.zeros((*chain.shape[:-1], 1))
    total[..., -1, 0] = 1.0
    return np.linalg.solve(system, total)[..., 0]


def replacements_per_year(replace: np.ndarray, increments: np.ndarray) -> np.ndarray:
    """Return the long-run number of replacements per bus-year; arguments as `mileage_chain`."""
    law = stationary_distribution(mileage_chain(replace, increments))
    return MONTHS_PER_YEAR * (law * replace).sum(-1)


def expected_replacements(
    replace: np.ndarray, increments: np.ndarray, first_bins: np.ndarray, num_months: int
) -> np.ndarray:
    """Return the expected number of replacements of several buses, shape (...).

    Parameters
    ----------
    replace, increments : arrays
        As for `mileage_chain`.
    first_bins : int array, shape (buses,)
        Where each bus is one month before the first month that counts; it is kept then.
    num_months : int
        Months that count.
    """
    chain = mileage_chain(replace, increments)
    kept = mileage_chain(np.zeros_like(replace), increments)
    buses = np.bincount(first_bins, minlength=replace.shape[-1]).astype(float)
    law = np.einsum("s,...st->...t", buses, kept)
    total = np.zeros(replace.shape[:-1])
    for _ in range(num_months):
        total += (law * replace).sum(-1)
        law = np.einsum("...s,...st->...t", law, chain)
    return total
