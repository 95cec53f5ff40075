"""Tax design: value-added and income taxes on households that work, consume and save."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import occupancy
from cbrl_bayes.problems.contexts import DiscreteContexts
from cbrl_bayes.problems.household_economy import HouseholdEconomy
from cbrl_bayes.problems.incentive import IncentiveSpace, Labels, scaled_sigmoid
from cbrl_bayes.problems.record import Incentive, Parameters, Problem
from cbrl_bayes.problems.response import respond

PUBLISHED_PREFERENCES = {"first group": (0.6, 0.3, 0.1), "second group": (0.1, 0.7, 0.2)}
"""Preference weights over three goods of the two groups of households."""

CONSUMPTION_WEIGHT, REVENUE_WEIGHT = 15.0, 5.0
UNITS = {
    "temperature": "household reward",
    "rationality": "1 / household reward",
    "effort_weight": "household reward per hour^exponent",
    "effort_exponent": "",
    "preference": "share",
    "context_probability": "probability",
}


def tax_design(
    *,
    preferences: Mapping[str, Sequence[float]] | None = None,
    group_probability: Sequence[float] | None = None,
    goods: Sequence[str] | None = None,
    temperature: float = 0.1,
    effort_weight: float = 0.1,
    effort_exponent: float = 2.0,
    highest_rate: float = 2.0,
    initial_rate: float = 0.3,
    economy: HouseholdEconomy | None = None,
) -> Problem:
    r"""Set one VAT rate per good and an income-tax rate for households of several groups.

    A household with assets b works h hours (10 levels, step .89) and spends c_g on each good
    (5 levels, step 1.25, tax included). It earns

    .. math:: u(b) - \kappa\,h^\eta + \prod_g \Big(\frac{c_g}{p(1 + v_g)}\Big)^{w_g}, \qquad
        u(b) = \log(1 + b/20)\ (b > 0),\ b\ (b \le 0),

    and its next assets are :math:`b + (1 - \tau)\,\text{wage}\,h - \sum_g c_g`, clipped to
    [-100, 100], plus normal noise of standard deviation 5 truncated to the same range. The
    leader earns per step

    .. math:: \min(b, 0) + 15\,\frac15 \operatorname{mean}_g \frac{c_g}{1+v_g}
        + 5\log\Big(1 + \sum_g \frac{v_g c_g}{1+v_g} + \tau\,\text{wage}\,h\Big).

    **Solved exactly on a grid**, with hours and total spending as actions (`HouseholdEconomy`);
    the leader's reward is averaged over the split that the household makes. Values, and the
    behaviour of hours, total and split, are those of the MDP with all 1,250 actions. Source:
    Thoma et al., NeurIPS 2024 (arXiv 2406.01575), section 5 and its code, with welfare as
    published (min(b, 0) included). There kappa = .1 and eta = 2.

    Parameters
    ----------
    preferences : mapping, optional
        Group -> weights w over the goods, >= 0, sum 1. Default: `PUBLISHED_PREFERENCES`.
    group_probability : sequence of float, optional
        Their law. Default: uniform.
    goods : sequence of str, optional
        Names of the goods. Default: 1, 2, ...
    temperature : float
        lambda > 0, in units of the household's reward; rationality is 1/lambda. Published: .1,
        .2, .3.
    effort_weight, effort_exponent : float
        kappa > 0 and eta > 1 of the disutility of work. Without savings and at lambda -> 0 the
        elasticity of hours to the net wage at constant marginal utility is 1/(eta - 1).
    highest_rate, initial_rate : float
        Rates lie in (0, highest_rate) and start at ``initial_rate``.
    economy : HouseholdEconomy, optional
        Grid, hours, spending, wage and prices. Default: the published one.

    Returns
    -------
    Problem
        Parameters ``temperature``, ``effort_weight``, ``effort_exponent``, ``preference`` (group,
        good) and ``context_probability``; incentives ``vat`` (one per good) and ``income_tax``,
        shares of the price before tax and of the wage.

    Raises
    ------
    InvalidInputError
        For weights, rates or an economy that cannot be used.

    Examples
    --------
    >>> problem = tax_design(economy=HouseholdEconomy(num_goods=3, num_assets=21))
    >>> problem.num_states, problem.num_actions
    (21, 130)
    """
    groups = dict(PUBLISHED_PREFERENCES if preferences is None else preferences)
    weights = _checked_weights(groups)
    economy = economy or HouseholdEconomy(num_goods=weights.shape[1])
    names = tuple(goods or range(1, weights.shape[1] + 1))
    _check_settings(weights, names, economy, highest_rate, initial_rate, effort_exponent)
    if min(temperature, effort_weight) <= 0.0:
        raise InvalidInputError(
            "temperature and effort_weight must be positive",
            received=f"temperature={temperature}, effort_weight={effort_weight}",
        )

    def welfare(incentive: Incentive, group: Array, parameters: Parameters) -> Array:
        preference = parameters["preference"][group]
        _, chance = economy.split(incentive["vat"], preference, parameters["temperature"])
        consumed, revenue = _flows(economy, incentive)
        each = REVENUE_WEIGHT * jnp.log1p(revenue) + CONSUMPTION_WEIGHT * consumed.mean(1) / 5.0
        expected = economy.mean_over_splits(chance, each)
        return np.minimum(economy.assets, 0.0)[:, None] + expected

    number = len(groups)
    law = group_probability if group_probability is not None else (1.0 / number,) * number
    return Problem(
        name="tax_design",
        incentive=_rates(names, highest_rate, initial_rate),
        contexts=DiscreteContexts(tuple(groups), jnp.arange(number), tuple(law)),
        mdp_fn=economy.mdp,
        parameters={
            "temperature": temperature,
            "effort_weight": effort_weight,
            "effort_exponent": effort_exponent,
            "preference": weights,
        },
        leader_reward_fn=welfare,
        leader_discount=economy.discount,
        laws=("preference",),
        state_labels=economy.model.state_labels,
        action_names=economy.model.action_names,
        objective_unit="discounted social welfare",
        parameter_units=UNITS,
        ranges={"effort_weight": (0.0, np.inf), "effort_exponent": (1.0, np.inf)},
    )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HouseholdAccounts:
    """What the households of each group do and pay, averages per period with discount weights.

    Attributes
    ----------
    hours, earnings, assets, value : arrays, shape (group,)
        Hours worked, money earned before tax, assets held, and the household's own soft value V*
        at the start (not an average; entropy included).
    spending : array, shape (group, good)
        Money spent, tax included.
    vat_paid : array, shape (group, good)
    income_tax_paid : array, shape (group,)
    """

    hours: Float[Array, " group"]
    earnings: Float[Array, " group"]
    assets: Float[Array, " group"]
    value: Float[Array, " group"]
    spending: Float[Array, "group good"]
    vat_paid: Float[Array, "group good"]
    income_tax_paid: Float[Array, " group"]


def household_accounts(
    problem: Problem, incentive: Incentive, parameters: Parameters
) -> HouseholdAccounts:
    r"""Return the accounts of every group under one incentive; differentiable.

    Averages are :math:`(1-\gamma)\sum_t\gamma^t E[\cdot]`.

    Parameters
    ----------
    problem : Problem
        From `tax_design`, with one follower.
    incentive : mapping
        ``vat`` and ``income_tax``.
    parameters : mapping
        All parameters of the problem.

    Raises
    ------
    InvalidInputError
        For another problem, or several followers.

    Examples
    --------
    >>> problem = tax_design(economy=HouseholdEconomy(num_goods=3, num_assets=21))
    >>> rates = problem.incentive.transform(problem.incentive.initial)
    >>> accounts = household_accounts(problem, rates, problem.default_parameters)
    >>> accounts.spending.shape
    (2, 3)
    """
    economy = getattr(problem.mdp_fn, "__self__", None)
    if not isinstance(economy, HouseholdEconomy) or problem.followers.num_followers > 1:
        raise InvalidInputError(
            "household_accounts needs a tax problem with one follower",
            received=f"problem {problem.name!r}, followers {problem.followers.names}",
        )

    def one_group(group: Array) -> HouseholdAccounts:
        mdp, response = respond(problem, incentive, group, parameters)
        share = (1.0 - economy.discount) * occupancy(mdp, response.policy)
        of_pair = share.sum(0).reshape(economy.num_hours, -1)
        hours = of_pair.sum(1) @ economy.hours
        preference = parameters["preference"][group]
        _, chance = economy.split(incentive["vat"], preference, parameters["temperature"])
        spending = (of_pair.sum(0)[economy.total_of_split] * chance) @ economy.spending
        vat = incentive["vat"]
        return HouseholdAccounts(
            hours=hours,
            earnings=economy.wage * hours,
            assets=share.sum(1) @ economy.assets,
            value=mdp.initial @ response.values,
            spending=spending,
            vat_paid=spending * vat / (1.0 + vat),
            income_tax_paid=incentive["income_tax"] * economy.wage * hours,
        )

    return jax.lax.map(one_group, jnp.arange(problem.contexts.num_contexts))


def _flows(economy: HouseholdEconomy, incentive: Incentive) -> tuple[Array, Array]:
    """Return money that reaches the sellers (split, good), and revenue (hours, split)."""
    vat = incentive["vat"]
    sold = economy.spending / (1.0 + vat)
    earned = economy.wage * economy.hours[:, None]
    return sold, (vat * sold).sum(1) + incentive["income_tax"] * earned


def _rates(goods: tuple, highest: float, initial: float) -> IncentiveSpace:
    start = float(np.log(initial / (highest - initial)))
    return IncentiveSpace(
        initial={"vat": jnp.full(len(goods), start), "income_tax": jnp.asarray(start)},
        transform=lambda x: {name: scaled_sigmoid(x[name], 0.0, highest) for name in x},
        labels={
            "vat": Labels(
                ("good",),
                {"good": (("good",), goods)},
                unit="share of the price",
                description="value-added tax",
            ),
            "income_tax": Labels(unit="share of the wage", description="income tax"),
        },
        start_scale=0.1,
        scale=1.0,
    )


def _checked_weights(groups: dict[str, Sequence[float]]) -> Float[Array, "group good"]:
    lengths = {len(weight) for weight in groups.values()}
    if not groups or len(lengths) != 1 or 0 in lengths:
        raise InvalidInputError(
            "preferences need at least one group and one weight per good in each", received=groups
        )
    for name, weight in groups.items():
        values = np.asarray(weight, float)
        if not (np.isfinite(values).all() and (values >= 0).all()) or abs(values.sum() - 1) > 1e-8:
            raise InvalidInputError(
                f"preference weights of {name!r} are not shares",
                received=tuple(weight),
                accepted="numbers >= 0 that sum to one",
            )
    return jnp.asarray(list(groups.values()), float)


def _check_settings(
    weights: Array,
    goods: tuple,
    economy: HouseholdEconomy,
    highest: float,
    initial: float,
    exponent: float,
) -> None:
    numbers = {weights.shape[1], len(goods), economy.num_goods}
    if len(set(goods)) < len(goods):
        raise InvalidInputError("goods need different names", received=goods)
    if len(numbers) > 1:
        raise InvalidInputError(
            "the numbers of goods differ",
            received=f"{weights.shape[1]} weights per group, {len(goods)} names, "
            f"an economy of {economy.num_goods}",
            accepted="one number",
        )
    if not 0.0 < initial < highest < np.inf:
        raise InvalidInputError(
            "the initial tax rate is outside its range",
            received=initial,
            accepted=f"between 0 and {highest:g}",
        )
    if not 1.0 < exponent < np.inf:
        raise InvalidInputError(
            "effort_exponent is out of range", received=exponent, accepted="> 1"
        )
