"""Meta-learning: one default policy for many tasks, from which the follower adapts to each."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import MDP, DenseTransition, Transition
from cbrl_bayes.problems.contexts import DiscreteContexts
from cbrl_bayes.problems.four_rooms import SLIP_AS_PUBLISHED
from cbrl_bayes.problems.grid_world import FOUR_ROOMS_MAP, Cell, free_cells, marked, places, walk
from cbrl_bayes.problems.incentive import IncentiveSpace, Labels
from cbrl_bayes.problems.record import Incentive, Parameters, Problem


@dataclass(frozen=True)
class Tasks:
    """Tasks in one world: rewards and ends of the episode differ, moves and the start do not.

    Parameters
    ----------
    names : tuple of str
        K of them.
    reward : array, shape (K, S, A)
        Reward of each task; finite.
    terminal : bool array, shape (K, S)
        States in which the task's episode ends.
    transition : DenseTransition or SuccessorTransition
    initial : array, shape (S,)
        Law of the first state; sums to one.
    state_labels : Labels
        One-dimensional labels of the states: S values in every coordinate.
    action_names : tuple of str
        A of them, all different.

    Raises
    ------
    InvalidInputError
        For an entry that does not fit the others.
    """

    names: tuple[str, ...]
    reward: Array
    terminal: Array
    transition: Transition
    initial: Array
    state_labels: Labels
    action_names: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = np.shape(self.reward)
        wanted = (len(self.names), self.transition.num_states, self.transition.num_actions)
        fits = shape == wanted and np.shape(self.terminal) == wanted[:2]
        if not (fits and np.isfinite(np.asarray(self.reward)).all()):
            raise InvalidInputError(
                "the tasks do not fit their world",
                received=f"rewards {shape}, terminal {np.shape(self.terminal)}",
                accepted=f"finite rewards of shape {wanted}, terminal {wanted[:2]}",
            )
        S, A = wanted[1:]
        start = np.asarray(self.initial, float)
        if start.shape != (S,) or not (start >= 0).all() or abs(start.sum() - 1) > 1e-8:
            raise InvalidInputError(
                "initial is not a law of the first state",
                received=f"shape {start.shape}, sum {start.sum():g}",
                accepted=f"{S} numbers >= 0 that sum to one",
            )
        if len(self.action_names) != A or len(set(self.action_names)) != A:
            raise InvalidInputError(
                "action_names do not fit the tasks",
                received=self.action_names,
                accepted=f"{A} different names",
            )
        misfit = self.state_labels.misfit((S,))
        if misfit:
            raise InvalidInputError(
                "state_labels do not fit the tasks",
                received=misfit,
                accepted=f"one dimension, {S} values in each coordinate",
            )


def goal_tasks(
    goals: tuple[Cell, ...] = ((2, 9), (4, 11), (9, 8), (11, 10)),
    *,
    start: Cell = (4, 1),
    slip: float = SLIP_AS_PUBLISHED,
    map_text: str = FOUR_ROOMS_MAP,
) -> Tasks:
    """Return one task per goal in a world of rooms: 1 in the goal cell, where the episode ends.

    Parameters
    ----------
    goals : tuple of (row, column)
        Free cells, all different.
    start : (row, column)
        Where every task begins.
    slip : float
        Probability in [0, 1) that a move goes in one of the other three directions.
    map_text : str
        Rows of 'x' (wall) and blank (free), walled in. Default: the published Four-Rooms map.

    Returns
    -------
    Tasks

    Raises
    ------
    InvalidInputError
        For a map, a cell or a slip that cannot be used.

    Examples
    --------
    >>> goal_tasks(((1, 9), (11, 11))).names
    ('goal (1,9)', 'goal (11,11)')
    """
    cells = free_cells(map_text, (start, *goals))
    if not goals or not 0.0 <= slip < 1.0:
        raise InvalidInputError(
            "the tasks cannot be set up",
            received=f"{len(goals)} goals, slip {slip}",
            accepted="at least one goal, 0 <= slip < 1",
        )
    if len(set(goals)) != len(goals):
        raise InvalidInputError("the goals are not all different", received=goals)
    number = {cell: index for index, cell in enumerate(cells)}
    at_goal = jnp.arange(len(cells)) == jnp.array([number[goal] for goal in goals])[:, None]
    return Tasks(
        names=tuple(f"goal ({row},{column})" for row, column in goals),
        reward=jnp.broadcast_to(at_goal[..., None].astype(float), (len(goals), len(cells), 4)),
        terminal=at_goal,
        transition=walk(cells, number, slip),
        initial=jnp.zeros(len(cells)).at[number[start]].set(1.0),
        state_labels=Labels(("state",), places(cells, "state"), marks=marked(number, start, goals)),
        action_names=("up", "right", "down", "left"),
    )


def bandit_tasks(reward: Mapping[str, tuple[float, ...]]) -> Tasks:
    """Return tasks of one state and one choice among several arms.

    Parameters
    ----------
    reward : mapping
        Task -> reward of every arm.

    Returns
    -------
    Tasks

    Raises
    ------
    InvalidInputError
        For no task, or rewards of different numbers of arms.

    Examples
    --------
    >>> bandit_tasks({"morning": (1.0, 0.0), "evening": (0.0, 1.0)}).reward.shape
    (2, 1, 2)
    """
    arms = {len(one) for one in reward.values()}
    if len(arms) != 1 or 0 in arms:
        raise InvalidInputError(
            "bandit tasks need one reward per arm, for as many arms in each", received=dict(reward)
        )
    num_arms = arms.pop()
    return Tasks(
        names=tuple(reward),
        reward=jnp.asarray(list(reward.values()), float)[:, None, :],
        terminal=jnp.ones((len(reward), 1), bool),
        transition=DenseTransition(jnp.ones((1, num_arms, 1))),
        initial=jnp.ones(1),
        state_labels=Labels(("state",), {"place": (("state",), ("bandit",))}),
        action_names=tuple(f"arm {arm}" for arm in range(1, num_arms + 1)),
    )


def shared_default_policy(
    *,
    tasks: Tasks | None = None,
    task_probability: tuple[float, ...] | None = None,
    temperature: float = 0.01,
    guidance_price: float = 0.0,
    discount: float = 0.99,
) -> Problem:
    r"""Choose a default policy that followers adapt to every one of many tasks.

    The leader sets one default policy :math:`\pi_0(a|s)`. Nature draws the task k; the follower
    maximises its reward less the effort of departing from the default,

    .. math:: E\Big[\sum_t\gamma^t\Big(r_k(s_t, a_t)
        - \lambda\,\mathrm{KL}(\pi(\cdot|s_t)\,\|\,\pi_0(\cdot|s_t))\Big)\Big],

    which is an entropy-regularised follower with the shaped reward
    :math:`r_k + \lambda\log\pi_0`. In one state its answer is
    :math:`\pi_k \propto \pi_0\,e^{r_k/\lambda}`: at low temperature it finds its own way, at
    high temperature it does as the default says. The leader maximises the mean over tasks of
    the **task's own** discounted return, without the effort, less ``guidance_price`` times the
    guidance given, :math:`\mathrm{KL}(\pi_0(\cdot|s)\,\|\,\text{uniform})` in nats, in each
    state visited. A default is thus good if the policies *adapted* from it are good.

    The readable incentive is ``log_preference`` :math:`= \log(A\,\pi_0(a|s))`; zero is the
    uniform default.

    Parameters
    ----------
    tasks : Tasks, optional
        Default: `goal_tasks()`; `bandit_tasks` makes one-state tasks.
    task_probability : tuple of float, optional
        Their law. Default: uniform.
    temperature : float
        lambda > 0, in units of the tasks' reward: the price of one nat of adaptation.
    guidance_price : float
        >= 0, units of the tasks' reward per nat and visit.
    discount : float
        gamma of follower and leader, in [0, 1).

    Returns
    -------
    Problem
        Parameters ``temperature`` and ``context_probability`` (the law of the tasks).

    Raises
    ------
    InvalidInputError
        For tasks or a price that cannot be used.

    Notes
    -----
    The default policy is held at the follower's own temperature: do not use temperature
    continuation, which would heat the follower but not the effort in its shaped reward.
    Meta-learning is an application that Thoma et al. (NeurIPS 2024, arXiv 2406.01575) name.

    Examples
    --------
    >>> from cbrl_bayes.problems import leader_outcome
    >>> tasks = bandit_tasks({"a": (1.0, 0.0), "b": (0.0, 1.0)})
    >>> problem = shared_default_policy(tasks=tasks, temperature=1.0)
    >>> outcome = leader_outcome(problem, problem.incentive.initial, problem.default_parameters)
    >>> round(float(outcome.objective), 6)  # e / (e + 1) in both tasks
    0.731059
    """
    tasks = goal_tasks() if tasks is None else tasks
    if not (np.isfinite(guidance_price) and guidance_price >= 0.0):
        raise InvalidInputError(
            "guidance_price cannot be used", received=guidance_price, accepted=">= 0"
        )
    num_tasks, _, A = np.shape(tasks.reward)
    uniform_law = (1.0 / num_tasks,) * num_tasks

    def mdp_fn(incentive: Incentive, task: Mapping[str, Array], parameters: Parameters) -> MDP:
        log_default = incentive["log_preference"] - jnp.log(A)
        return MDP(
            reward=task["reward"] + parameters["temperature"] * log_default,
            transition=tasks.transition,
            initial=tasks.initial,
            discount=discount,
            temperature=parameters["temperature"],
            terminal=task["terminal"],
        )

    def price(incentive: Incentive, task: Mapping[str, Array], parameters: Parameters) -> Array:
        preference = incentive["log_preference"]
        guidance = (jnp.exp(preference) / A * preference).sum(-1, keepdims=True)
        return jnp.broadcast_to(guidance_price * guidance, preference.shape)

    return Problem(
        name="shared_default_policy",
        incentive=_default_policy(tasks),
        contexts=DiscreteContexts(
            tasks.names,
            {"reward": tasks.reward, "terminal": tasks.terminal},
            uniform_law if task_probability is None else task_probability,
        ),
        mdp_fn=mdp_fn,
        parameters={"temperature": temperature},
        leader_reward_fn=lambda incentive, task, parameters: task["reward"],
        incentive_price_fn=price,
        leader_discount=discount,
        state_labels=tasks.state_labels,
        action_names=tasks.action_names,
        objective_unit="task reward",
        parameter_units={
            "temperature": "task reward per nat",
            "rationality": "nats / task reward",
            "context_probability": "probability",
        },
    )


def _default_policy(tasks: Tasks) -> IncentiveSpace:
    """Describe a policy over all states by its logits."""
    places = {name: (("cell",), values) for name, (_, values) in tasks.state_labels.coords.items()}
    shape = np.shape(tasks.reward)[1:]
    A = shape[-1]
    return IncentiveSpace(
        initial={"logit": jnp.zeros(shape)},
        transform=lambda x: {"log_preference": jax.nn.log_softmax(x["logit"]) + jnp.log(A)},
        labels={
            "log_preference": Labels(
                ("cell", "move"),
                places | {"move": (("move",), tasks.action_names)},
                unit="nats",
                description="log of the default policy, relative to uniform",
            )
        },
        scale=1.0,
    )
