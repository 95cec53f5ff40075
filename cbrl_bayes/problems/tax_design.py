"""Tax design: value-added and income taxes on households that work, consume and save."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from cbrl_bayes.errors import InvalidInputError, explain
from cbrl_bayes.mdp import MDP, SuccessorTransition
from cbrl_bayes.problems.contexts import DiscreteContexts
from cbrl_bayes.problems.incentive import IncentiveSpace, Labels, scaled_sigmoid
from cbrl_bayes.problems.record import Incentive, Parameters, Problem

__all__ = ["PUBLISHED_PREFERENCES", "tax_design"]

PUBLISHED_PREFERENCES = {"first group": (0.6, 0.3, 0.1), "second group": (0.1, 0.7, 0.2)}
"""Preference weights over three goods of the two groups of households."""

HOURS_STEP, NUM_HOURS = 0.89, 10
SPENDING_STEP, NUM_SPENDING = 1.25, 5
LOWEST_ASSETS, HIGHEST_ASSETS = -100.0, 100.0
NOISE, INITIAL_SPREAD = 5.0, 2.0**0.5
EFFORT_WEIGHT, ASSET_SCALE = 0.1, 20.0
CONSUMPTION_WEIGHT, REVENUE_WEIGHT = 15.0, 5.0
WINDOW = 6.0  # standard deviations of noise on either side; beyond lies a mass of 2e-9


def tax_design(
    *,
    preferences: dict[str, tuple[float, ...]] | None = None,
    group_probability: tuple[float, ...] | None = None,
    temperature: float = 0.1,
    num_assets: int = 101,
    highest_rate: float = 2.0,
    initial_rate: float = 0.3,
    wage: float = 1.0,
    price: float = 1.0,
    discount: float = 0.9,
) -> Problem:
    r"""Set one VAT rate per good and an income-tax rate for households of several groups.

    A household with assets b works h hours (10 levels, step .89) and spends c_g on each good
    (5 levels, step 1.25, tax included). It earns

    .. math:: u(b) - 0.1\,h^2 + \prod_g \Big(\frac{c_g}{p(1 + v_g)}\Big)^{w_g}, \qquad
        u(b) = \log(1 + b/20)\ (b > 0),\ b\ (b \le 0),

    and its next assets are :math:`b + (1 - \tau)\,\text{wage}\,h - \sum_g c_g`, clipped to
    [-100, 100], plus normal noise of standard deviation 5 truncated to the same range. The
    leader earns per step

    .. math:: \min(b, 0) + 15\,\frac15 \operatorname{mean}_g \frac{c_g}{1+v_g}
        + 5\log\Big(1 + \sum_g \frac{v_g c_g}{1+v_g} + \tau\,\text{wage}\,h\Big).

    **Solved exactly on a grid.** Next assets depend on the action only through hours and total
    spending, 10 x 13 pairs for three goods. Given the pair, how the total is split among the
    goods is a soft choice with closed form, so the MDP here has these pairs as actions, with

    - reward :math:`u(b) - 0.1 h^2 + \lambda\log\sum_{c:\,\sum c = k} e^{U(c)/\lambda}`, which
      holds the entropy of the split, and
    - leader's reward averaged over the split that the household makes.

    Its values, and the behaviour of hours, total and split, are those of the MDP with all 1,250
    actions. Source: Thoma et al., NeurIPS 2024 (arXiv 2406.01575), section 5 and its code.

    Parameters
    ----------
    preferences : dict, optional
        Group -> weights w over the goods, >= 0, sum 1. Default: `PUBLISHED_PREFERENCES`.
    group_probability : tuple of float, optional
        Their law. Default: uniform.
    temperature : float
        lambda > 0, in units of the household's reward; rationality is 1/lambda. Published: .1,
        .2, .3.
    num_assets : int
        Grid points of assets, >= 11.
    highest_rate, initial_rate : float
        Rates lie in (0, highest_rate) and start at ``initial_rate``.
    wage, price : float
        Per hour and per unit of every good before tax; > 0.
    discount : float
        gamma of household and leader, in [0, 1).

    Returns
    -------
    Problem
        Parameters ``temperature`` and ``context_probability``; incentives ``vat`` (one per
        good) and ``income_tax``, shares of the price before tax and of the wage.

    Raises
    ------
    InvalidInputError
        For weights, rates or a grid that cannot be used.

    Notes
    -----
    Temperature continuation heats the choice of hours and total, not the split.

    Examples
    --------
    >>> problem = tax_design(num_assets=21)
    >>> problem.num_states, problem.num_actions
    (21, 130)
    """
    groups = dict(preferences or PUBLISHED_PREFERENCES)
    weights = _checked_weights(groups)
    _check_settings(num_assets, highest_rate, initial_rate, wage, price)
    goods = weights.shape[1]
    splits, totals = _splits(goods)
    assets = jnp.linspace(LOWEST_ASSETS, HIGHEST_ASSETS, num_assets)
    hours = HOURS_STEP * jnp.arange(NUM_HOURS)
    num_totals = int(totals.max()) + 1
    pair_hours = jnp.repeat(hours, num_totals)
    pair_spending = jnp.tile(SPENDING_STEP * jnp.arange(num_totals), NUM_HOURS)

    def split(
        incentive: Incentive, weight: Array, temperature: Array | float
    ) -> tuple[Array, Array]:
        """Return the soft value of every total, and the chance of every split given its total."""
        utility = _goods_utility(splits / (price * (1.0 + incentive["vat"])), weight)
        scaled = utility / temperature
        by_total = jnp.where(totals == jnp.arange(num_totals)[:, None], scaled, -jnp.inf)
        value = jax.nn.logsumexp(by_total, axis=1)
        return temperature * value, jnp.exp(scaled - value[totals])

    def mdp_fn(incentive: Incentive, weight: Array, parameters: Parameters) -> MDP:
        value, _ = split(incentive, weight, parameters["temperature"])
        of_action = -EFFORT_WEIGHT * pair_hours**2 + jnp.tile(value, NUM_HOURS)
        of_assets = jnp.where(assets > 0, jnp.log1p(jnp.maximum(assets, 0.0) / ASSET_SCALE), assets)
        saving = (1.0 - incentive["income_tax"]) * wage * pair_hours - pair_spending
        return MDP(
            reward=of_assets[:, None] + of_action,
            transition=_asset_law(assets, saving),
            initial=_cell_masses(assets, 0.0, INITIAL_SPREAD),
            discount=discount,
            temperature=parameters["temperature"],
        )

    def welfare(incentive: Incentive, weight: Array, parameters: Parameters) -> Array:
        _, chance = split(incentive, weight, parameters["temperature"])
        vat, income_tax = incentive["vat"], incentive["income_tax"]
        consumed = splits / (1.0 + vat)
        revenue = (vat * consumed).sum(1) + income_tax * wage * hours[:, None]
        each = REVENUE_WEIGHT * jnp.log1p(revenue) + CONSUMPTION_WEIGHT * consumed.mean(1) / 5.0
        expected = jnp.zeros((NUM_HOURS, num_totals)).at[:, totals].add(chance * each)
        return jnp.minimum(assets, 0.0)[:, None] + expected.ravel()

    return Problem(
        name="tax_design",
        incentive=_rates(goods, highest_rate, initial_rate),
        contexts=DiscreteContexts(
            tuple(groups), weights, group_probability or (1.0 / len(groups),) * len(groups)
        ),
        mdp_fn=mdp_fn,
        parameters={"temperature": temperature},
        leader_reward_fn=welfare,
        leader_discount=discount,
        **_labels(assets, pair_hours, pair_spending),
    )


def _labels(assets: Array, hours: Array, spending: Array) -> dict[str, Any]:
    """Names and units of the problem."""
    return {
        "state_labels": Labels(("state",), {"assets": (("state",), tuple(np.asarray(assets)))}),
        "action_names": tuple(
            f"work {h:g}, spend {c:g}"
            for h, c in zip(np.asarray(hours), np.asarray(spending), strict=True)
        ),
        "objective_unit": "discounted social welfare",
        "parameter_units": {
            "temperature": "household reward",
            "rationality": "1 / household reward",
            "context_probability": "probability",
        },
    }


def _rates(goods: int, highest: float, initial: float) -> IncentiveSpace:
    start = float(np.log(initial / (highest - initial)))
    return IncentiveSpace(
        initial={"vat": jnp.full(goods, start), "income_tax": jnp.asarray(start)},
        transform=lambda x: {name: scaled_sigmoid(x[name], 0.0, highest) for name in x},
        labels={
            "vat": Labels(("good",), {"good": (("good",), tuple(range(1, goods + 1)))},
                          unit="share of the price", description="value-added tax"),
            "income_tax": Labels(unit="share of the wage", description="income tax"),
        },
        start_scale=0.1,
    )  # fmt: skip


def _splits(goods: int) -> tuple[Float[Array, "split good"], Array]:
    """Return spending on each good in every split, and the split's total in steps."""
    levels = np.stack(np.meshgrid(*[np.arange(NUM_SPENDING)] * goods, indexing="ij"), axis=-1)
    levels = levels.reshape(-1, goods)
    return jnp.asarray(SPENDING_STEP * levels), jnp.asarray(levels.sum(1))


def _goods_utility(amount: Float[Array, "split good"], weight: Array) -> Float[Array, " split"]:
    """Return the Cobb-Douglas product; a good of weight 0 does not matter, also at amount 0."""
    # Logarithms of positive amounts only, so that the derivative at none consumed is 0, not NaN.
    matters = weight > 0.0
    nothing = (matters & (amount <= 0.0)).any(1)
    logs = jnp.log(jnp.where(amount > 0.0, amount, 1.0))
    return jnp.where(nothing, 0.0, jnp.exp((weight * logs).sum(1)))


def _asset_law(assets: Array, saving: Array) -> SuccessorTransition:
    """Return the law of next assets for every grid point and saving, on cells around the mean."""
    step = assets[1] - assets[0]
    half = int(np.ceil(WINDOW * NOISE / ((HIGHEST_ASSETS - LOWEST_ASSETS) / (len(assets) - 1)))) + 1
    width = min(2 * half + 1, len(assets))
    mean = jnp.clip(assets[:, None] + saving, LOWEST_ASSETS, HIGHEST_ASSETS)
    nearest = jax.lax.stop_gradient(jnp.round((mean - LOWEST_ASSETS) / step)).astype(int)
    first = jnp.clip(nearest - width // 2, 0, len(assets) - width)
    successor = first[..., None] + jnp.arange(width)
    place = assets[successor]
    high = jnp.where(successor == len(assets) - 1, HIGHEST_ASSETS, place + step / 2)
    low = jnp.where(successor == 0, LOWEST_ASSETS, place - step / 2)
    mass = norm.cdf(high, mean[..., None], NOISE) - norm.cdf(low, mean[..., None], NOISE)
    return SuccessorTransition(successor.astype(jnp.int32), mass / mass.sum(-1, keepdims=True))


def _cell_masses(assets: Array, mean: float, spread: float) -> Float[Array, " state"]:
    step = assets[1] - assets[0]
    mass = norm.cdf(assets + step / 2, mean, spread) - norm.cdf(assets - step / 2, mean, spread)
    return mass / mass.sum()


def _checked_weights(groups: dict[str, tuple[float, ...]]) -> Float[Array, "group good"]:
    lengths = {len(weight) for weight in groups.values()}
    if not groups or len(lengths) != 1 or 0 in lengths:
        raise InvalidInputError(
            explain("preferences need at least one group and one weight per good in each",
                    received=groups)
        )  # fmt: skip
    for name, weight in groups.items():
        values = np.asarray(weight, float)
        if not (np.isfinite(values).all() and (values >= 0).all()) or abs(values.sum() - 1) > 1e-8:
            raise InvalidInputError(
                explain(f"preference weights of {name!r} are not shares", received=tuple(weight),
                        accepted="numbers >= 0 that sum to one")
            )  # fmt: skip
    return jnp.asarray(list(groups.values()), float)


def _check_settings(
    num_assets: int, highest: float, initial: float, wage: float, price: float
) -> None:
    if not 0.0 < initial < highest:
        raise InvalidInputError(
            explain("the initial tax rate is outside its range", received=initial,
                    accepted=f"between 0 and {highest:g}")
        )  # fmt: skip
    if num_assets < 11 or min(wage, price) <= 0.0:
        raise InvalidInputError(
            explain("the economy cannot be set up",
                    received=f"num_assets={num_assets}, wage={wage}, price={price}",
                    accepted="num_assets >= 11, wage and price > 0")
        )  # fmt: skip
