"""Four-Rooms environment design: how far to open each door, so that walkers move as is wished."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import MDP, SuccessorTransition
from cbrl_bayes.problems.contexts import DiscreteContexts
from cbrl_bayes.problems.four_rooms import SLIP_AS_PUBLISHED
from cbrl_bayes.problems.grid_world import FOUR_ROOMS_MAP, Cell, free_cells, marked, places, walk
from cbrl_bayes.problems.incentive import IncentiveSpace, Labels, scaled_sigmoid
from cbrl_bayes.problems.record import Incentive, Parameters, Problem

FOUR_ROOMS_DOORS: dict[str, Cell] = {
    "top": (3, 6),
    "left": (6, 2),
    "right": (7, 9),
    "bottom": (10, 6),
}
"""The four openings between the rooms of the published map."""


def four_rooms_doors(
    *,
    temperature: float = 0.005,
    goal_weight: float = 1.0,
    target_weight: float = 0.0,
    door_cost: float | tuple[float, ...] = 0.0005,
    slip: float = SLIP_AS_PUBLISHED,
    map_text: str = FOUR_ROOMS_MAP,
    doors: dict[str, Cell] | None = None,
    start: Cell = (4, 1),
    goals: tuple[Cell, ...] = ((1, 9), (11, 11)),
    goal_probability: tuple[float, ...] | None = None,
    target: Cell = (8, 4),
    discount: float = 0.99,
) -> Problem:
    r"""Open the doors between rooms so that a walker reaches its goal, or passes by a target.

    The leader changes the **transitions**. A step into the cell of door d succeeds with
    probability :math:`o_d`, its *openness*; otherwise the walker stays where it is. Steps out
    of the door's cell are free, so each passage is paid once. The follower earns
    ``goal_reward`` in the goal cell, which ends the episode. With T the time of arrival and
    :math:`c_d` the cost of keeping door d open, the leader's objective is

    .. math:: E\Big[w_g\gamma^T + w_t \sum_{t \le T}\gamma^t 1[s_t = \text{target}]
        - \sum_{t < T}\gamma^t \sum_d c_d\,o_d\Big].

    The openness is the relaxation of "open or closed": :math:`o_d = 1/(1 + e^{-x_d})` lies in
    (0, 1), and the :math:`2^D` configurations of open and closed doors are its corners. Nothing
    says that the optimum is a corner; compare the two. With no openness (incentive zero) all
    doors are walls. Map and slip are those of `four_rooms`.

    Parameters
    ----------
    temperature : float
        lambda > 0, in units of the goal's reward; rationality is 1/lambda. Above
        (1 - gamma) / log 4 = .007 the walker's entropy is worth more to it than the goal.
    goal_weight, target_weight : float
        w_g, w_t >= 0, not both 0: what an arrival and a step in ``target`` are worth.
    door_cost : float or tuple of float
        c_d >= 0 per step of an open door while the walker is on its way, unit of the leader's
        objective; one for all doors or one per door.
    slip : float
        Probability in [0, 1) that the move goes in one of the other three directions.
    map_text : str
        Rows of 'x' (wall) and blank (free), walled in.
    doors : dict of (row, column), optional
        Name -> free cell, all different. Default: `FOUR_ROOMS_DOORS`.
    start, target : (row, column)
        Free cells.
    goals : tuple of (row, column)
        One context each, all different: the conditions under which the building is used.
    goal_probability : tuple of float, optional
        Their law. Default: uniform.
    discount : float
        gamma of follower and leader, in [0, 1).

    Returns
    -------
    Problem
        Parameters ``temperature``, ``goal_reward`` and ``context_probability``; incentive
        ``openness``, one per door.

    Raises
    ------
    InvalidInputError
        For a map, a cell, doors, goals or costs that cannot be used.

    Notes
    -----
    An application of contextual bilevel reinforcement learning (Thoma et al., NeurIPS 2024,
    arXiv 2406.01575, which names environment design); map and walk are its Four-Rooms.

    Examples
    --------
    >>> from cbrl_bayes.problems import leader_outcome
    >>> corridor = chr(10).join(["xxxxx", "x   x", "xxxxx"])
    >>> problem = four_rooms_doors(
    ...     map_text=corridor, doors={"only": (1, 2)}, start=(1, 1), goals=((1, 3),),
    ...     target=(1, 1), slip=0.0, temperature=1e-3, door_cost=0.0, discount=0.9)
    >>> half_open = {"openness_logit": jnp.zeros(1)}
    >>> outcome = leader_outcome(problem, half_open, problem.default_parameters)
    >>> round(float(outcome.objective), 6)  # .9 * (.5 * .9) / (1 - .5 * .9)
    0.736364
    """
    named = dict(FOUR_ROOMS_DOORS if doors is None else doors)
    if not goals or len(set(goals)) != len(goals):
        raise InvalidInputError(
            "goals cannot be used", received=goals, accepted="at least one free cell, all different"
        )
    cells = free_cells(map_text, (start, target, *goals, *named.values()))
    costs = _checked_settings(named, door_cost, slip, goal_weight, target_weight)
    number = {cell: index for index, cell in enumerate(cells)}
    S = len(cells)
    steps = walk(cells, number, slip)
    entered = _entered_door(steps.successor, [number[cell] for cell in named.values()])
    initial = jnp.zeros(S).at[number[start]].set(1.0)
    on_target = jnp.zeros((S, 4)).at[number[target]].set(target_weight)

    def mdp_fn(incentive: Incentive, goal: Array, parameters: Parameters) -> MDP:
        at_goal = jnp.arange(S) == goal
        reward = jnp.where(at_goal, parameters["goal_reward"], 0.0)
        return MDP(
            reward=jnp.broadcast_to(reward[:, None], (S, 4)),
            transition=_with_doors(steps, entered, incentive["openness"]),
            initial=initial,
            discount=discount,
            temperature=parameters["temperature"],
            terminal=at_goal,
        )

    def price(incentive: Incentive, goal: Array, parameters: Parameters) -> Array:
        return jnp.full((S, 4), costs @ incentive["openness"]).at[goal].set(0.0)

    return Problem(
        name="four_rooms_doors",
        incentive=_openness(named),
        contexts=DiscreteContexts(
            tuple(f"goal ({row},{column})" for row, column in goals),
            jnp.array([number[goal] for goal in goals]),
            goal_probability
            if goal_probability is not None
            else tuple(1.0 / len(goals) for _ in goals),
        ),
        mdp_fn=mdp_fn,
        parameters={"temperature": temperature, "goal_reward": 1.0},
        leader_reward_fn=lambda incentive, goal, parameters: on_target.at[goal].add(goal_weight),
        incentive_price_fn=price,
        leader_discount=discount,
        state_labels=Labels(
            ("state",), places(cells, "state"), marks=marked(number, start, goals, target)
        ),
        action_names=("up", "right", "down", "left"),
        objective_unit="discounted arrivals",
        parameter_units={
            "temperature": "goal reward",
            "rationality": "1 / goal reward",
            "goal_reward": "goal reward",
            "context_probability": "probability",
        },
    )


def _openness(doors: dict[str, Cell]) -> IncentiveSpace:
    rows, columns = zip(*doors.values(), strict=True)
    return IncentiveSpace(
        initial={"openness_logit": jnp.zeros(len(doors))},
        transform=lambda x: {"openness": scaled_sigmoid(x["openness_logit"], 0.0, 1.0)},
        labels={
            "openness": Labels(
                ("door",),
                {
                    "door": (("door",), tuple(doors)),
                    "door_row": (("door",), rows),
                    "door_column": (("door",), columns),
                },
                unit="probability",
                description="chance that a step into the door succeeds",
            )
        },
        start_scale=1.0,
        scale=1.0,
    )


def _entered_door(
    successor: Int[Array, "state action slot"], door_states: list[int]
) -> Int[Array, "state action slot"]:
    """Return which door each move enters; the number of doors where it enters none."""
    door_of = np.full(successor.shape[0], len(door_states))
    door_of[door_states] = np.arange(len(door_states))
    # A walker that bumps into a wall inside a door's cell stays there, let through or not.
    return jnp.asarray(door_of[np.asarray(successor)])


def _with_doors(
    steps: SuccessorTransition,
    entered: Int[Array, "state action slot"],
    openness: Float[Array, " door"],
) -> SuccessorTransition:
    """Let steps into a door succeed with its openness; the rest of their mass stays."""
    chance = jnp.append(openness, 1.0)[entered]
    refused = (steps.probability * (1.0 - chance)).sum(-1, keepdims=True)
    here = jnp.arange(steps.num_states, dtype=steps.successor.dtype)[:, None, None]
    return SuccessorTransition(
        jnp.concatenate([steps.successor, jnp.broadcast_to(here, refused.shape)], axis=-1),
        jnp.concatenate([steps.probability * chance, refused], axis=-1),
    )


def _checked_settings(
    doors: dict[str, Cell],
    door_cost: float | tuple[float, ...],
    slip: float,
    goal_weight: float,
    target_weight: float,
) -> Float[Array, " door"]:
    """Return one cost per door."""
    if not doors or len(set(doors.values())) != len(doors):
        raise InvalidInputError("doors need at least one name and different cells", received=doors)
    costs = np.asarray(door_cost, float)
    fits = costs.shape in ((), (len(doors),))
    if not (fits and np.isfinite(costs).all() and (costs >= 0).all()):
        raise InvalidInputError(
            "door_cost cannot be used",
            received=door_cost,
            accepted=f"one number >= 0, or {len(doors)} of them (one per door)",
        )
    if not 0.0 <= slip < 1.0:
        raise InvalidInputError("slip is out of range", received=slip, accepted="[0, 1)")
    weights = np.array([goal_weight, target_weight], float)
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise InvalidInputError(
            "the leader's weights cannot be used",
            received=f"goal_weight={goal_weight}, target_weight={target_weight}",
            accepted="finite numbers >= 0, not both 0",
        )
    return jnp.broadcast_to(jnp.asarray(costs), (len(doors),))
