"""The long-run rate of replacements in other ways than by the stationary law.

Used by the analysis at the posterior mean and by the tests at parameters of their own.
"""

import jax
import jax.numpy as jnp
import numpy as np
from demand import FLEET, MONTHS_PER_YEAR

from cbrl_bayes.mdp import occupancy
from cbrl_bayes.problems import MILES_PER_BIN, bus_replacement, respond

__all__ = ["high_price_limit", "occupancy_rate", "simulated_rate"]

NUM_BINS = 90


def occupancy_rate(draw: dict[str, np.ndarray], discount: float) -> tuple[float, np.ndarray]:
    """Return replacements per bus-year by the package's discounted occupancy, and its chain.

    Parameters
    ----------
    draw : mapping
        RC, theta11 and increment_probability; the price is 1.
    discount : float
        Near one: what the start (a new engine) leaves behind is 1 - discount times some hundred
        months.
    """
    problem = bus_replacement(target_mileage=NUM_BINS * MILES_PER_BIN - 1)

    @jax.jit
    def visits(parameters: dict) -> tuple[jax.Array, jax.Array]:
        mdp, response = respond(problem, {"subsidy": 0.0}, FLEET, parameters)
        matrix = mdp.transition.matrix(response.policy)
        return occupancy(mdp, response.policy, discount=discount), matrix

    found, matrix = visits({name: jnp.asarray(value) for name, value in draw.items()})
    share = (1 - discount) * float(found[:, 1].sum())
    return MONTHS_PER_YEAR * share, np.asarray(matrix)


def simulated_rate(
    replace: np.ndarray,
    increments: np.ndarray,
    *,
    num_buses: int,
    num_months: int,
    num_dropped: int = 400,
    seed: int = 0,
) -> tuple[float, float]:
    """Return replacements per bus-year and their standard error by simulation.

    Parameters
    ----------
    replace : array, shape (S,)
        Chance of replacing in each bin.
    increments : array, shape (J,)
    num_buses, num_months, num_dropped, seed : int
        Buses; months that count; months before them that do not.
    """
    generator = np.random.default_rng(seed)
    bins, count = np.zeros(num_buses, int), np.zeros(num_buses)
    for month in range(num_dropped + num_months):
        replaced = generator.random(num_buses) < replace[bins]
        step = generator.choice(len(increments), size=num_buses, p=increments)
        bins = np.minimum(np.where(replaced, 0, bins) + step, len(replace) - 1)
        count += replaced * (month >= num_dropped)
    per_year = MONTHS_PER_YEAR * count / num_months
    return float(per_year.mean()), float(per_year.std(ddof=1) / np.sqrt(num_buses))


def high_price_limit(
    prices: np.ndarray, RC: float, theta11: float, increments: np.ndarray, discount: float = 0.9999
) -> np.ndarray:
    """Return what demand per bus-year approaches at high prices: 12 exp(-price RC + D).

    D is what a new engine instead of the last bin is worth to a manager who never replaces.
    """
    bins = np.arange(NUM_BINS)
    keep = np.zeros((NUM_BINS, NUM_BINS))
    for step, chance in enumerate(increments):
        np.add.at(keep, (bins, np.minimum(bins + step, NUM_BINS - 1)), chance)
    never = np.linalg.solve(np.eye(NUM_BINS) - discount * keep, -1e-3 * theta11 * bins)
    gain = discount * increments @ never[: len(increments)] - never[-1]
    return MONTHS_PER_YEAR * np.exp(-np.asarray(prices) * RC + gain)
