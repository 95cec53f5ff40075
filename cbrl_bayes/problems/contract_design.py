"""Contract design: pay for outcomes of a project in stages when effort is hidden."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import MDP, DenseTransition
from cbrl_bayes.problems.contexts import DiscreteContexts
from cbrl_bayes.problems.incentive import IncentiveSpace, Labels
from cbrl_bayes.problems.record import Incentive, Parameters, Problem

COST_TYPES = {"able": 0.8, "less able": 1.4}
"""What one unit of effort costs an agent of each type, relative to ``effort_cost``."""

LEAVE = 0


def contract_design(
    *,
    outcome_probability: tuple[tuple[float, ...], ...] = ((0.7, 0.3), (0.2, 0.8)),
    benefits: tuple[float, ...] = (0.0, 6.0),
    effort_levels: tuple[float, ...] = (0.0, 1.0),
    effort_cost: float = 1.0,
    cost_types: dict[str, float] | None = None,
    type_probability: tuple[float, ...] | None = None,
    outside_option: float = 0.2,
    continuation: tuple[float, ...] | None = None,
    num_stages: int = 2,
    discount: float = 0.95,
    temperature: float = 0.2,
    initial_payment: float = 3.0,
) -> Problem:
    r"""Write a contract that pays for outcomes, for an agent whose effort cannot be seen.

    A principal owns a project of K stages. In stage k the agent either leaves for good or
    chooses an effort e. Effort leads to outcome o with probability :math:`p(o \mid e)`; the
    principal sees the outcome, not the effort, pays :math:`w_{k,o} \ge 0` and gains
    :math:`b_o`. After outcome o the next stage begins with probability :math:`q_o`; otherwise,
    and after the last stage, the project is over. The agent of cost type :math:`\theta` earns

    .. math:: \sum_o p(o \mid e)\, w_{k,o} - \theta\, c\, e
        \quad\text{or, if it leaves,}\quad u_0 \sum_{j=0}^{K-k} \gamma^j ,

    the outside option in this and every remaining stage (k = 1, ..., K). A project that is
    over is worth exactly 0 to the agent, whatever the temperature. The principal maximises
    the expected discounted sum of :math:`b_o - w_{k,o}`.

    - **Limited liability**: payments are the softplus of free numbers, so never negative.
    - **Participation**: the agent may leave in every stage.
    - **Hidden type**: the payments do not depend on the type.

    With one stage, two outcomes and two efforts, and a rational agent
    (:math:`\lambda \to 0`), the best contract with work is the textbook one: nothing for the
    bad outcome and :math:`c\theta\,\Delta e/(p(\text{good}\mid\text{high}) -
    p(\text{good}\mid\text{low}))` for the good one, where the outside option does not bind.

    Parameters
    ----------
    outcome_probability : tuple of tuples, shape (E, O)
        Law of the outcome under each effort level; rows sum to one.
    benefits : tuple of float, length O
        What the principal gains from each outcome, money; finite.
    effort_levels : tuple of float, length E
        Units of effort, >= 0.
    effort_cost : float
        c, what one unit of effort costs an agent of type 1, money; > 0.
    cost_types : dict, optional
        Type -> relative cost theta > 0. Default: `COST_TYPES`.
    type_probability : tuple of float, optional
        Their law. Default: uniform.
    outside_option : float
        u_0, money per stage; finite.
    continuation : tuple of float, length O, optional
        q, chance that the next stage begins after each outcome, in [0, 1]. Default: 1 after
        the outcome with the largest benefit, 0 after the others.
    num_stages : int
        K >= 1.
    discount : float
        gamma of agent and principal per stage, in [0, 1].
    temperature : float
        lambda > 0, money; rationality is 1/lambda.
    initial_payment : float
        Where the search starts: paid in every stage for the outcome with the largest benefit,
        a tenth of it for the others; money, > 0. Equal payments would be no incentive at all,
        and from there an ascent tends to end at the contract without work.

    Returns
    -------
    Problem
        Parameters ``temperature``, ``effort_cost`` and ``context_probability`` (of types);
        incentive ``payment``, shape (K, O).

    Raises
    ------
    InvalidInputError
        For laws, costs or a project that cannot be.

    Notes
    -----
    Source of the one-stage textbook case: J.-J. Laffont and D. Martimort, *The Theory of
    Incentives* (Princeton, 2002), chapter 4.

    Examples
    --------
    >>> problem = contract_design(num_stages=3)
    >>> problem.num_states, problem.action_names
    (4, ('leave', 'effort 0', 'effort 1'))
    """
    types = dict(COST_TYPES if cost_types is None else cost_types)
    law = jnp.asarray(_checked_law(outcome_probability, benefits, effort_levels))
    goes_on = _checked_continuation(continuation, benefits)
    _check_settings(types, effort_cost, outside_option, num_stages, initial_payment)
    gain, effort = jnp.asarray(benefits, float), jnp.asarray(effort_levels, float)
    transition = _transition(np.asarray(law), goes_on, num_stages)
    leaving = _value_of_leaving(outside_option, discount, num_stages)
    num_actions = len(effort_levels) + 1

    def on_efforts(of_stage_and_effort: Array) -> Float[Array, "state action"]:
        """Put amounts per stage and effort into a table; leaving and the end have 0."""
        table = jnp.zeros((num_stages + 1, num_actions))
        return table.at[:num_stages, LEAVE + 1 :].set(of_stage_and_effort)

    def mdp_fn(incentive: Incentive, cost_type: Array, parameters: Parameters) -> MDP:
        cost = cost_type * parameters["effort_cost"] * effort
        reward = on_efforts(incentive["payment"] @ law.T - cost)
        reward = reward.at[:num_stages, LEAVE].set(leaving)
        # Less the entropy of a choice that does not exist, so that the end is worth 0.
        over = -parameters["temperature"] * jnp.log(num_actions)
        return MDP(
            reward=reward.at[num_stages].set(over),
            transition=DenseTransition(transition),
            initial=jnp.zeros(num_stages + 1).at[0].set(1.0),
            discount=discount,
            temperature=parameters["temperature"],
            terminal=jnp.arange(num_stages + 1) == num_stages,
        )

    return Problem(
        name="contract_design",
        incentive=_payments(num_stages, benefits, initial_payment),
        contexts=DiscreteContexts(
            tuple(types),
            jnp.asarray(list(types.values()), float),
            (1.0 / len(types),) * len(types) if type_probability is None else type_probability,
        ),
        mdp_fn=mdp_fn,
        parameters={"temperature": temperature, "effort_cost": effort_cost},
        leader_reward_fn=lambda incentive, cost_type, parameters: on_efforts(law @ gain),
        incentive_price_fn=lambda incentive, cost_type, parameters: on_efforts(
            incentive["payment"] @ law.T
        ),
        leader_discount=discount,
        uncertain=("temperature", "effort_cost"),
        **_labels(num_stages, effort_levels),
    )


def _labels(num_stages: int, effort_levels: tuple[float, ...]) -> dict[str, Any]:
    """Names and units of the problem."""
    stages = (*(f"stage {k + 1}" for k in range(num_stages)), "over")
    return {
        "state_labels": Labels(("state",), {"stage": (("state",), stages)}),
        "action_names": ("leave", *(f"effort {level:g}" for level in effort_levels)),
        "objective_unit": "money per project",
        "parameter_units": {
            "temperature": "money",
            "rationality": "1 / money",
            "effort_cost": "money per unit of effort",
            "context_probability": "probability",
        },
    }


def _payments(num_stages: int, benefits: tuple[float, ...], initial: float) -> IncentiveSpace:
    paid = initial * np.where(np.arange(len(benefits)) == np.argmax(benefits), 1.0, 0.1)
    # Inverse of the softplus, in the form that does not overflow.
    free = paid + np.log(-np.expm1(-paid))
    start = jnp.broadcast_to(jnp.asarray(free), (num_stages, len(benefits)))
    coords = {
        "stage": (("stage",), tuple(range(1, num_stages + 1))),
        "outcome": (("outcome",), tuple(range(len(benefits)))),
    }
    return IncentiveSpace(
        initial={"payment": start},
        transform=lambda x: {"payment": jax.nn.softplus(x["payment"])},
        labels={
            "payment": Labels(
                ("stage", "outcome"), coords, unit="money", description="paid after the outcome"
            )
        },
        start_scale=1.0,
    )


def _transition(law: np.ndarray, goes_on: np.ndarray, num_stages: int) -> Array:
    """From stage k to k + 1 or to the end, the last state; leaving ends the project."""
    num_efforts = law.shape[0]
    table = np.zeros((num_stages + 1, num_efforts + 1, num_stages + 1))
    table[:, :, num_stages] = 1.0
    for stage in range(num_stages - 1):
        table[stage, LEAVE + 1 :, stage + 1] = law @ goes_on
        table[stage, LEAVE + 1 :, num_stages] = 1.0 - law @ goes_on
    return jnp.asarray(table)


def _value_of_leaving(outside: float, discount: float, num_stages: int) -> Float[Array, " stage"]:
    remaining = np.arange(num_stages, 0, -1)
    return jnp.asarray([outside * (discount ** np.arange(n)).sum() for n in remaining])


def _checked_law(
    outcome_probability: tuple[tuple[float, ...], ...],
    benefits: tuple[float, ...],
    effort_levels: tuple[float, ...],
) -> Float[np.ndarray, "effort outcome"]:
    shape = (len(effort_levels), len(benefits))
    lengths = tuple(len(row) for row in outcome_probability)
    if 0 in shape or lengths != (shape[1],) * shape[0]:
        raise InvalidInputError(
            "outcome_probability does not fit efforts and benefits",
            received=f"rows of lengths {lengths}",
            accepted=f"{shape[0]} rows (efforts) of {shape[1]} (outcomes), at least 1",
        )
    law = np.asarray(outcome_probability, float)
    if not (law >= 0).all() or (np.abs(law.sum(1) - 1) > 1e-8).any():
        raise InvalidInputError(
            "a row of outcome_probability is not a distribution",
            received=outcome_probability,
            accepted="numbers >= 0 that sum to one",
        )
    levels = np.asarray(effort_levels, float)
    if not np.isfinite(benefits).all() or not np.isfinite(levels).all() or (levels < 0).any():
        raise InvalidInputError(
            "benefits or effort levels are out of range",
            received=f"benefits={benefits}, effort_levels={effort_levels}",
            accepted="finite benefits, effort levels >= 0",
        )
    return law


def _checked_continuation(
    continuation: tuple[float, ...] | None, benefits: tuple[float, ...]
) -> Float[np.ndarray, " outcome"]:
    if continuation is None:
        return np.eye(len(benefits))[int(np.argmax(benefits))]
    chance = np.asarray(continuation, float)
    if chance.shape != (len(benefits),) or not ((chance >= 0) & (chance <= 1)).all():
        raise InvalidInputError(
            "continuation cannot be used",
            received=continuation,
            accepted=f"one probability for each of {len(benefits)} outcomes",
        )
    return chance


def _check_settings(
    types: dict[str, float], effort_cost: float, outside: float, num_stages: int, initial: float
) -> None:
    relative = np.asarray(list(types.values()), float)
    if not types or not (np.isfinite(relative) & (relative > 0)).all():
        raise InvalidInputError(
            "cost types cannot be used",
            received=types,
            accepted="at least one type, relative costs > 0",
        )
    money = (effort_cost, outside, initial)
    if not np.isfinite(money).all() or min(effort_cost, initial) <= 0 or num_stages < 1:
        raise InvalidInputError(
            "the project cannot be set up",
            received=f"effort_cost={effort_cost}, outside_option={outside}, "
            f"num_stages={num_stages}, initial_payment={initial}",
            accepted="effort_cost and initial_payment > 0, a finite outside option, "
            "num_stages >= 1",
        )
