"""A working life and what follows it: the leader matches savings for old age."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from cbrl_bayes.errors import InvalidInputError, require_ranges
from cbrl_bayes.problems.chains import Chain
from cbrl_bayes.problems.contexts import DiscreteContexts
from cbrl_bayes.problems.grid_model import GridModel
from cbrl_bayes.problems.grids import Grid
from cbrl_bayes.problems.incentive import IncentiveSpace, Labels, scaled_sigmoid
from cbrl_bayes.problems.record import Incentive, Parameters, Problem

Named = Mapping[str, Any]

PAY = {"low pay": 20.0, "high pay": 36.0}
"""What a year of full-time work earns on average, kEUR."""
UNITS = {
    "temperature": "log points",
    "rationality": "1 / log points",
    "toil": "log points per year of full-time work",
    "context_probability": "probability",
}
RANGES = {
    "luck_stays": "[0, 1]",
    "most_assets": "> 0",
    "num_assets": ">= 2",
    "num_periods": ">= 2",
    "pension": "> 0",
    "interest": "> -1",
    "toil": "> 0",
    "bequest": ">= 0",
    "decent": ">= 0",
    "shortfall_cost": "> 0",
    "largest_match": "> 0",
    "discount": "[0, 1]",
}


def life_cycle(
    *,
    pay: Mapping[str, float] | None = None,
    luck: tuple[float, ...] = (0.8, 1.2),
    luck_stays: float = 0.9,
    hours: tuple[float, ...] = (0.0, 0.5, 1.0),
    savings: tuple[float, ...] = (-12.0, -6.0, -2.0, 0.0, 2.0, 6.0),
    most_assets: float = 150.0,
    num_assets: int = 13,
    num_periods: int = 60,
    retirement: int = 42,
    pension: float = 8.0,
    interest: float = 0.02,
    toil: float = 0.6,
    bequest: float = 0.5,
    decent: float = 14.0,
    shortfall_cost: float = 8.0,
    largest_match: float = 1.0,
    discount: float = 0.98,
    leader_discount: float = 0.98,
    temperature: float = 0.2,
) -> Problem:
    r"""Match what people put aside for their old age, so that few of them are poor then.

    **The follower** lives T years. Each year it chooses hours h and what it saves, x (or draws,
    x < 0). In the first years it earns :math:`y = w z h`, with the pay w of its context and luck z,
    a Markov chain; after retirement it has the pension and no hours are open. It eats
    :math:`c = y - x > 0`, for a reward of :math:`\log c - \theta h`. Assets follow

    .. math:: k' = (1 + i)\,\bigl(k + x + m \max(x, 0)\,1_\text{working}\bigr) \ge 0,

    with the leader's match m. What is left after the last year is worth
    :math:`b \log(1 + k / \text{pension})`. The reward is in log points: a reward of .01 is what 1 %
    more to eat is worth. **Estimated from behaviour**: the temperature lambda (in log points;
    rationality is 1/lambda) and the toil theta.

    **The leader** pays the match, and loses ``shortfall_cost`` for each kEUR that a retired person
    eats less than ``decent``.

    Parameters
    ----------
    pay : mapping, optional
        Context -> pay for a year of full-time work, kEUR; > 0. Default: `PAY`, equally likely.
    luck : tuple of float
        Factors of the pay, > 0.
    luck_stays : float
        Chance that luck is the same next year, in [0, 1]; else all others are equally likely.
    hours : tuple of float
        Share of full time, rising from 0; 0 is what is left after retirement.
    savings : tuple of float
        Choices of what is saved in a year, kEUR, rising; 0 among them.
    most_assets : float
        Largest assets, kEUR; what goes beyond them is lost.
    num_assets : int
        Number of nodes from 0 to there, closer together near 0; >= 2.
    num_periods, retirement : int
        T, and the number of working years before; 1 <= retirement < T.
    pension : float
        kEUR a year, > 0.
    interest : float
        i per year, > -1.
    toil : float
        theta, log points for a year of full-time work; > 0.
    bequest : float
        b >= 0, log points.
    decent : float
        kEUR a year, >= 0.
    shortfall_cost : float
        kEUR per kEUR, > 0.
    largest_match : float
        Upper bound of m, > 0.
    discount, leader_discount : float
        Per year, in [0, 1].
    temperature : float
        lambda > 0, log points; rationality is 1/lambda.

    Returns
    -------
    Problem
        Parameters ``temperature``, ``toil`` and ``context_probability``; incentive ``match``.

    Raises
    ------
    InvalidInputError
        For settings out of range.

    Examples
    --------
    >>> problem = life_cycle(num_periods=6, retirement=4, num_assets=5)
    >>> problem.num_states, problem.num_actions, problem.action_names[-1]
    (60, 18, 'saving 6, hours 1')
    """
    given, jobs = locals(), dict(PAY if pay is None else pay)
    require_ranges(given, "settings of the life cycle", **RANGES, retirement=f"[1, {num_periods})")
    _check_choices(jobs, luck, hours, savings)

    def eaten(state: Named, action: Named, period: Array, context: Array) -> Array:
        earned = context * state["luck"] * action["hours"]
        return jnp.where(period < retirement, earned, pension) - action["saving"]

    def matched(action: Named, period: Array, incentive: Incentive) -> Array:
        paid = incentive["match"] * jnp.maximum(action["saving"], 0.0)
        return jnp.where(period < retirement, paid, 0.0)

    def can(state: Named, action: Named, period: Array, context: Array) -> Array:
        works = (period < retirement) | (action["hours"] == 0.0)
        covered = state["assets"] + action["saving"] >= 0.0
        return works & covered & (eaten(state, action, period, context) > 0.0)

    def reward(
        state: Named, action: Named, period: Array, context: Array, parameters: Parameters
    ) -> Array:
        return jnp.log(eaten(state, action, period, context)) - parameters["toil"] * action["hours"]

    def grow(state: Named, action: Named, period: Array, incentive: Incentive) -> Named:
        kept = state["assets"] + action["saving"] + matched(action, period, incentive)
        return {"assets": (1.0 + interest) * kept}

    def harm(state: Named, action: Named, period: Array, context: Array) -> Array:
        short = jnp.maximum(decent - eaten(state, action, period, context), 0.0)
        return jnp.where(period < retirement, 0.0, -shortfall_cost * short)

    model = GridModel(
        states={
            "assets": _assets(most_assets, num_assets),
            "luck": Chain(luck, _law_of_luck(len(luck), luck_stays)),
        },
        actions={"saving": Grid(savings, unit="kEUR"), "hours": Grid(hours)},
        reward=reward,
        next_state=grow,
        available=can,
        initial={"assets": 0.0},
        discount=discount,
        num_periods=num_periods,
        terminal_value=lambda state: bequest * jnp.log1p(state["assets"] / pension),
    )
    return Problem(
        name="life_cycle",
        incentive=_match(largest_match),
        contexts=_equally_likely(jobs),
        mdp_fn=model.mdp,
        parameters={"temperature": temperature, "toil": toil},
        leader_reward_fn=model.table(harm),
        incentive_price_fn=model.table(matched),
        leader_discount=leader_discount,
        state_labels=model.state_labels,
        action_names=model.action_names,
        objective_unit="kEUR per person",
        parameter_units=UNITS,
        uncertain=("temperature", "toil"),
        ranges={"toil": (0.0, np.inf)},
    )


def _assets(most: float, num: int) -> Grid:
    """Return nodes that are closer together near 0, where more happens."""
    return Grid(most * np.linspace(0.0, 1.0, num) ** 2, unit="kEUR", clip=True)


def _equally_likely(jobs: Mapping[str, float]) -> DiscreteContexts:
    values = jnp.asarray(list(jobs.values()), float)
    return DiscreteContexts(tuple(jobs), values, (1.0 / len(jobs),) * len(jobs))


def _match(largest: float) -> IncentiveSpace:
    """Describe a match between 0 and ``largest``."""
    return IncentiveSpace(
        initial={"match_logit": jnp.zeros(())},
        transform=lambda x: {"match": scaled_sigmoid(x["match_logit"], 0.0, largest)},
        labels={"match": Labels(unit="kEUR per kEUR", description="paid on top of savings")},
        start_scale=1.0,
        scale=1.0,
    )


def _law_of_luck(num: int, stays: float) -> np.ndarray:
    if num == 1:
        return np.ones((1, 1))
    return np.full((num, num), (1.0 - stays) / (num - 1)) * (1 - np.eye(num)) + stays * np.eye(num)


def _check_choices(
    jobs: dict[str, float],
    luck: tuple[float, ...],
    hours: tuple[float, ...],
    savings: tuple[float, ...],
) -> None:
    """Refuse choices that leave nobody anything to eat: in work, or after it."""
    earned = [one * factor for one in jobs.values() for factor in luck]
    if not earned or not min(earned) > 0.0:
        raise InvalidInputError(
            "pay and luck cannot be used",
            received=f"pay={jobs}, luck={luck}",
            accepted="at least one each, all > 0",
        )
    if 0.0 not in savings or hours[:1] != (0.0,) or not 0.0 < hours[-1] <= 1.0:
        raise InvalidInputError(
            "choices of the life cycle cannot be used",
            received=f"hours={hours}, savings={savings}",
            accepted="hours that rise from 0 to at most 1, 0 among the savings",
        )
