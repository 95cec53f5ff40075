"""Four-Rooms reward shaping: penalties on cells steer a walker whose goal nature draws."""

import jax
import jax.numpy as jnp

from cbrl_bayes.errors import require_ranges
from cbrl_bayes.mdp import MDP
from cbrl_bayes.problems.contexts import DiscreteContexts
from cbrl_bayes.problems.grid_world import FOUR_ROOMS_MAP, Cell, free_cells, marked, places, walk
from cbrl_bayes.problems.incentive import IncentiveSpace, Labels
from cbrl_bayes.problems.record import Incentive, Parameters, Problem

SLIP_AS_PUBLISHED = 0.44
"""Probability of an unintended move in the published value computation (intended: .56)."""

SLIP_OF_PUBLISHED_SIMULATOR = 0.33
"""Probability of an unintended move in the published simulator (intended: .67)."""


def four_rooms(
    *,
    temperature: float = 0.005,
    penalty_weight: float = 1.0,
    slip: float = SLIP_AS_PUBLISHED,
    map_text: str = FOUR_ROOMS_MAP,
    start: Cell = (4, 1),
    goals: tuple[Cell, ...] = ((1, 9), (11, 11)),
    goal_probability: tuple[float, ...] | None = None,
    target: Cell = (8, 4),
    penalty_budget: float = 0.2,
    discount: float = 0.99,
) -> Problem:
    """Lay penalties so that a walker on the way to its goal lingers in a target cell.

    The follower earns 1 in the goal cell, which ends the episode, less the penalty of every
    cell it stands in (none in the goal). The leader earns 1 for each step the walker spends in
    ``target`` and, when the goal is reached, pays ``penalty_weight`` times the sum of all
    penalties laid. Penalties are ``penalty_budget * softmax`` over the free cells and one slot
    for what stays unused. Source: Thoma et al., NeurIPS 2024 (arXiv 2406.01575), section 5.

    Parameters
    ----------
    temperature : float
        lambda > 0, in units of the goal's reward; rationality is 1/lambda. Published: .001,
        .003, .005.
    penalty_weight : float
        beta >= 0, price of one unit of penalty. Published: 1, 3, 5.
    slip : float
        Probability in [0, 1) that the move goes in one of the other three directions. The
        published evaluation uses .44 (`SLIP_AS_PUBLISHED`), the published simulator .33.
    map_text : str
        Rows of 'x' (wall) and blank (free), walled in.
    start, target : (row, column)
        Free cells.
    goals : tuple of (row, column)
        One context each.
    goal_probability : tuple of float, optional
        Their law. Default: uniform.
    penalty_budget : float
        Largest sum of penalties, > 0, units of the goal's reward.
    discount : float
        gamma of follower and leader, in [0, 1).

    Returns
    -------
    Problem
        Parameters ``temperature``, ``goal_reward`` and ``context_probability``.

    Raises
    ------
    InvalidInputError
        For a map or a cell that cannot be used.

    Examples
    --------
    >>> problem = four_rooms(temperature=0.003)
    >>> problem.incentive.initial["penalty_logit"].shape  # 104 cells and the unused slot
    (105,)
    """
    cells = free_cells(map_text, (start, target, *goals))
    require_ranges(
        {"slip": slip, "penalty_budget": penalty_budget, "penalty_weight": penalty_weight},
        "Four-Rooms settings",
        slip="[0, 1)",
        penalty_budget="> 0",
        penalty_weight=">= 0",
    )
    number = {cell: index for index, cell in enumerate(cells)}
    S = len(cells)
    goal_states = jnp.array([number[goal] for goal in goals])
    transition = walk(cells, number, slip)
    initial = jnp.zeros(S).at[number[start]].set(1.0)
    marks = marked(number, start, goals, target)
    on_target = jnp.zeros((S, 4)).at[number[target]].set(1.0)

    def mdp_fn(incentive: Incentive, goal: jnp.ndarray, parameters: Parameters) -> MDP:
        at_goal = jnp.arange(S) == goal
        reward = jnp.where(at_goal, parameters["goal_reward"], -incentive["penalty"])
        return MDP(
            reward=jnp.broadcast_to(reward[:, None], (S, 4)),
            transition=transition,
            initial=initial,
            discount=discount,
            temperature=parameters["temperature"],
            terminal=at_goal,
        )

    def price(incentive: Incentive, goal: jnp.ndarray, parameters: Parameters) -> jnp.ndarray:
        return jnp.zeros((S, 4)).at[goal].set(penalty_weight * incentive["penalty"].sum())

    return Problem(
        name="four_rooms",
        incentive=_penalties(cells, penalty_budget, marks),
        contexts=DiscreteContexts(
            tuple(f"goal ({row},{column})" for row, column in goals),
            goal_states,
            goal_probability
            if goal_probability is not None
            else tuple(1.0 / len(goals) for _ in goals),
        ),
        mdp_fn=mdp_fn,
        parameters={"temperature": temperature, "goal_reward": 1.0},
        leader_reward_fn=lambda incentive, goal, parameters: on_target,
        incentive_price_fn=price,
        leader_discount=discount,
        state_labels=Labels(("state",), places(cells, "state"), marks=marks),
        action_names=("up", "right", "down", "left"),
        objective_unit="discounted steps in the target cell",
        parameter_units={
            "temperature": "goal reward",
            "rationality": "1 / goal reward",
            "goal_reward": "goal reward",
            "context_probability": "probability",
        },
    )


def _penalties(
    cells: list[Cell], budget: float, marks: dict[str, tuple[int, ...]]
) -> IncentiveSpace:
    """Share a budget among the cells and one slot for what stays unused."""
    return IncentiveSpace(
        initial={"penalty_logit": jnp.zeros(len(cells) + 1)},
        transform=lambda x: {"penalty": budget * jax.nn.softmax(x["penalty_logit"])[:-1]},
        labels={
            "penalty": Labels(
                ("cell",),
                places(cells, "cell"),
                unit="goal reward",
                description="penalty per step in a cell",
                marks=marks,
            )
        },
        scale=1.0,
    )
