"""Households that work, consume and save: their decision problem on a grid of assets."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from cbrl_bayes.errors import InvalidInputError, require_ranges
from cbrl_bayes.mdp import MDP
from cbrl_bayes.problems.grid_model import GridModel
from cbrl_bayes.problems.grids import Grid
from cbrl_bayes.problems.shocks import Shock

Named = Mapping[str, Any]

LOWEST_ASSETS, HIGHEST_ASSETS = -100.0, 100.0
NOISE, INITIAL_SPREAD = 5.0, 2.0**0.5
ASSET_SCALE = 20.0
WINDOW = 6.0  # standard deviations of noise on either side; beyond lies a mass of 2e-9


@dataclass(frozen=True)
class HouseholdEconomy:
    r"""What households can do and what follows; who sets the taxes is `tax_design`.

    Next assets depend on the action only through hours and total spending. Given this pair, how
    the total is split among the goods is a soft choice with closed form, so the MDP has the pairs
    as actions and the entropy of the split in its reward:
    :math:`u(b) - \kappa h^\eta + \lambda\log\sum_{c:\,\sum c = k} e^{U(c)/\lambda}`.

    Parameters
    ----------
    num_goods : int
        >= 1.
    num_assets : int
        Grid points of assets from -100 to 100, >= 11.
    hours_step, num_hours
        Hours are 0, 1, ..., num_hours - 1 steps; step > 0, number >= 2.
    spending_step : float
        > 0, money.
    spending_levels : tuple of int
        What can be spent on one good, in steps; different, >= 0, at least two.
    wage, price : float
        Per hour and per unit of every good before tax; > 0, money.
    discount : float
        gamma per period, in [0, 1).

    Raises
    ------
    InvalidInputError
        For settings out of range.

    Examples
    --------
    >>> economy = HouseholdEconomy(num_goods=3)
    >>> economy.spending.shape, economy.totals.size, economy.model.num_actions
    ((125, 3), 13, 130)
    """

    num_goods: int
    num_assets: int = 101
    hours_step: float = 0.89
    num_hours: int = 10
    spending_step: float = 1.25
    spending_levels: tuple[int, ...] = (0, 1, 2, 3, 4)
    wage: float = 1.0
    price: float = 1.0
    discount: float = 0.9

    def __post_init__(self) -> None:
        positive = dict.fromkeys(("hours_step", "spending_step", "wage", "price"), "(0, inf)")
        ranges = {"num_assets": ">= 11", "discount": "[0, 1)", **positive}
        require_ranges(self, "settings of the economy", **ranges)
        levels = self.spending_levels
        counts = (self.num_goods, self.num_hours, self.num_assets, *levels)
        if not all(float(count).is_integer() for count in counts):
            raise InvalidInputError(
                "counts and spending levels must be whole numbers",
                received=f"num_goods={self.num_goods}, num_hours={self.num_hours}, "
                f"num_assets={self.num_assets}, spending_levels={levels}",
                remedy="a smaller spending_step for finer spending",
            )
        if min(self.num_goods, self.num_hours - 1, len(set(levels)) - 1) < 1 or (
            len(set(levels)) < len(levels) or min(levels) < 0
        ):
            raise InvalidInputError(
                "households have nothing to choose from",
                received=f"num_goods={self.num_goods}, num_hours={self.num_hours}, "
                f"spending_levels={levels}",
                accepted="a good, two hours, two different spending levels >= 0",
            )

    @cached_property
    def assets(self) -> np.ndarray:
        """Grid of assets, money, shape (S,)."""
        return np.linspace(LOWEST_ASSETS, HIGHEST_ASSETS, self.num_assets)

    @cached_property
    def spending(self) -> np.ndarray:
        """Money spent on each good in every split, tax included, shape (N, G)."""
        grids = np.meshgrid(*[np.array(self.spending_levels)] * self.num_goods, indexing="ij")
        return self.spending_step * np.stack(grids, axis=-1).reshape(-1, self.num_goods)

    @cached_property
    def totals(self) -> np.ndarray:
        """What can be spent in total, money, ascending, shape (K,)."""
        return self.spending_step * np.unique(self._steps)

    @cached_property
    def _steps(self) -> np.ndarray:
        return np.rint(self.spending.sum(1) / self.spending_step).astype(int)

    @cached_property
    def total_of_split(self) -> np.ndarray:
        """Index into ``totals`` of every split, shape (N,)."""
        return np.unique(self._steps, return_inverse=True)[1]

    @cached_property
    def hours(self) -> np.ndarray:
        """Hours that can be worked, shape (H,)."""
        return self.hours_step * np.arange(self.num_hours)

    def split(
        self, vat: Float[Array, " good"], preference: Float[Array, " good"], temperature: Any
    ) -> tuple[Float[Array, " total"], Float[Array, " split"]]:
        """Return the soft value of every total, and the chance of every split given its total."""
        utility = _goods_utility(
            jnp.asarray(self.spending) / (self.price * (1.0 + vat)), preference
        )
        scaled = utility / temperature
        number = len(self.totals)
        group = jnp.asarray(self.total_of_split)
        highest = jax.lax.stop_gradient(jax.ops.segment_max(scaled, group, number))
        summed = jax.ops.segment_sum(jnp.exp(scaled - highest[group]), group, number)
        value = highest + jnp.log(summed)
        return temperature * value, jnp.exp(scaled - value[group])

    def mean_over_splits(
        self, chance: Float[Array, " split"], each: Float[Array, "hours split"]
    ) -> Float[Array, " action"]:
        """Return a quantity of hours and split, averaged over the split the household makes."""
        summed = jnp.zeros((self.num_hours, len(self.totals)))
        return summed.at[:, self.total_of_split].add(chance * each).ravel()

    @cached_property
    def model(self) -> GridModel:
        """The decision over hours and total spending, for the taxes and a group of `tax_design`."""
        assets = self.assets
        step = assets[1] - assets[0]
        half = int(np.ceil(WINDOW * NOISE / step)) + 1
        width = min(2 * half + 1, len(assets))

        def aimed_at(state: Named, action: Named, incentive: Named) -> Array:
            earned = (1.0 - incentive["income_tax"]) * self.wage * action["hours"]
            aim = state["assets"] + earned - action["spending"]
            return jnp.clip(aim, LOWEST_ASSETS, HIGHEST_ASSETS)

        def near(state: Named, action: Named, incentive: Named) -> Array:
            aim = jax.lax.stop_gradient(aimed_at(state, action, incentive))
            nearest = jnp.round((aim - LOWEST_ASSETS) / step).astype(int)
            first = jnp.clip(nearest - width // 2, 0, len(assets) - width)
            return jnp.asarray(assets)[first + jnp.arange(width)]

        def chance(state: Named, action: Named, incentive: Named) -> Array:
            place, aim = near(state, action, incentive), aimed_at(state, action, incentive)
            return _cell_masses(place, step, aim, NOISE, ends=(LOWEST_ASSETS, HIGHEST_ASSETS))

        def reward(
            state: Named, action: Named, incentive: Named, context: Array, parameters: Named
        ) -> Array:
            preference = parameters["preference"][context]
            value, _ = self.split(incentive["vat"], preference, parameters["temperature"])
            # 0 hours cost 0; their logarithm must not reach the derivative by the exponent.
            worked = action["hours"] > 0.0
            hours = jnp.where(worked, action["hours"], 1.0)
            effort = jnp.where(worked, hours ** parameters["effort_exponent"], 0.0)
            rich = jnp.log1p(jnp.maximum(state["assets"], 0.0) / ASSET_SCALE)
            of_assets = jnp.where(state["assets"] > 0.0, rich, state["assets"])
            total = jnp.searchsorted(self.totals, action["spending"])
            return of_assets - parameters["effort_weight"] * effort + value[total]

        return GridModel(
            states={"assets": Grid(assets, between=False)},
            actions={"hours": Grid(self.hours), "spending": Grid(self.totals)},
            shocks={"assets": Shock(near, chance)},
            reward=reward,
            next_state=lambda shock: {"assets": shock["assets"]},
            initial={"assets": _cell_masses(assets, step, 0.0, INITIAL_SPREAD)},
            discount=self.discount,
        )

    def mdp(self, incentive: Named, group: Array, parameters: Named) -> MDP:
        """Return the household's decision problem; see `GridModel.mdp`."""
        return self.model.mdp(incentive, group, parameters)


def _goods_utility(amount: Float[Array, "split good"], weight: Array) -> Float[Array, " split"]:
    """Return the Cobb-Douglas product; a good of weight 0 does not matter, also at amount 0."""
    # Logarithms of positive amounts only, so that the derivative at none consumed is 0, not NaN.
    matters = weight > 0.0
    nothing = (matters & (amount <= 0.0)).any(1)
    logs = jnp.log(jnp.where(amount > 0.0, amount, 1.0))
    return jnp.where(nothing, 0.0, jnp.exp((weight * logs).sum(1)))


def _cell_masses(
    place: Array | np.ndarray,
    step: float,
    mean: Array | float,
    spread: float,
    ends: tuple[float, float] = (-np.inf, np.inf),
) -> Float[Array, " node"]:
    """Return the masses of a normal law on cells around nodes, normalised; cells stop at ends."""
    high = jnp.where(place == ends[1], ends[1], place + step / 2)
    low = jnp.where(place == ends[0], ends[0], place - step / 2)
    mass = norm.cdf(high, mean, spread) - norm.cdf(low, mean, spread)
    return mass / mass.sum()
