"""Reduce trajectories to counts, so that the cost of a likelihood does not grow with steps."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from cbrl_bayes.behaviour.cells import UNSEEN, contexts_of, groups_of, incentives_of
from cbrl_bayes.behaviour.check import check_trajectories
from cbrl_bayes.behaviour.paths import paths_of_cells
from cbrl_bayes.behaviour.schema import MISSING
from cbrl_bayes.behaviour.transitions import count_transitions
from cbrl_bayes.problems import Problem


@dataclass(frozen=True)
class BehaviourCounts:
    """Sufficient statistics of observed behaviour, plain NumPy arrays.

    A *cell* is one policy that has to be known: a (regime, context, group) that occurs, where
    an unobserved context occurs as every context. Where followers remember (`History`), every
    episode makes cells of its own: its policy in a state depends on its own past. A *row* is a
    (cell, state) in which choices were observed with a known context.

    Attributes
    ----------
    regimes : tuple of str
        Incentive regimes, R of them.
    incentives : dict of arrays, each (R, ...)
        Their incentives in readable units.
    context_values : pytree of arrays, each (C, ...)
        The contexts: the problem's own, or the distinct observed values of a continuous one.
    groups : tuple of str
        Follower groups, G of them.
    cell_regime, cell_context, cell_group : int arrays, shape (cells,)
    cell_states, cell_actions : int arrays, shape (cells, steps)
        What the episode of the cell met and did in order, -1 after its end. No steps where
        followers do not remember.
    row_cell, row_state : int arrays, shape (rows,)
    action_count : int array, shape (rows, A)
    context_count : int array, shape (C,)
        Episodes of each observed context.
    episode_names : tuple of str
        The follower of each episode.
    episode_context : int array, shape (episodes,)
        -1 where not observed.
    episode_cells : int array, shape (episodes, C)
        Cell of the episode under each context; -1 where it needs no policy.
    entry_episode, entry_state, entry_action, entry_count : int arrays, shape (entries,)
        Choices of every episode.
    first_state : int array, shape (episodes,)
    move_episode, move_state, move_action, move_next, move_count : int arrays, shape (moves,)
        Moves from state to state of the episodes without observed context, where they tell
        contexts apart.
    transition_cell, transition_state, transition_action, transition_slot, transition_count : \
int arrays
        Transitions of episodes with an observed context: the recorded ones, and, where the law is
        an unknown parameter, those that follow from the next state (`count_transitions`).
    """

    regimes: tuple[str, ...]
    incentives: dict[str, np.ndarray]
    context_values: Any
    groups: tuple[str, ...]
    cell_regime: np.ndarray
    cell_context: np.ndarray
    cell_group: np.ndarray
    cell_states: np.ndarray
    cell_actions: np.ndarray
    row_cell: np.ndarray
    row_state: np.ndarray
    action_count: np.ndarray
    context_count: np.ndarray
    episode_names: tuple[str, ...]
    episode_context: np.ndarray
    episode_cells: np.ndarray
    entry_episode: np.ndarray
    entry_state: np.ndarray
    entry_action: np.ndarray
    entry_count: np.ndarray
    first_state: np.ndarray
    move_episode: np.ndarray
    move_state: np.ndarray
    move_action: np.ndarray
    move_next: np.ndarray
    move_count: np.ndarray
    transition_cell: np.ndarray
    transition_state: np.ndarray
    transition_action: np.ndarray
    transition_slot: np.ndarray
    transition_count: np.ndarray

    @property
    def cells(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Regime, context and group of each cell."""
        return self.cell_regime, self.cell_context, self.cell_group

    @property
    def num_cells(self) -> int:
        """Number of policies that one likelihood evaluation solves for."""
        return len(self.cell_regime)

    @property
    def num_choices(self) -> int:
        """Number of observed choices."""
        return int(self.entry_count.sum())

    @property
    def num_observed_contexts(self) -> int:
        """Number of episodes whose context was observed."""
        return int(self.context_count.sum())

    @property
    def has_latent_contexts(self) -> bool:
        """Whether some episode's context was not observed."""
        return bool((self.episode_context == UNSEEN).any())


def count_behaviour(
    problem: Problem, data: xr.Dataset, *, estimated: Collection[str] | None = None
) -> BehaviourCounts:
    """Check ``data`` against ``problem`` and reduce it to counts.

    Parameters
    ----------
    problem : Problem
    data : xarray.Dataset
        Trajectories (`make_trajectories`). Where the problem's contexts are sampled from a
        continuous family, a variable ``context_value`` (episode) holds the observed numbers.
    estimated : collection of str, optional
        As in `check_trajectories`.

    Returns
    -------
    BehaviourCounts

    Raises
    ------
    DataError
        Names every violation.
    """
    check_trajectories(data, problem, estimated=estimated)
    state, action = data["state"].values, data["action"].values
    scored = state != MISSING
    if "choice_observed" in data:
        scored &= data["choice_observed"].values.astype(bool)
    regimes, regime = np.unique(data["regime"].values.astype(str), return_inverse=True)
    groups, group = groups_of(problem, data["group"].values.astype(str))
    context, context_values, C = contexts_of(problem, data)

    cells, episode_cells = _cells(problem, regime, context, group, C)
    cell_states, cell_actions = paths_of_cells(problem, data, cells[:, 3])

    where = np.argwhere(scored)
    found = np.stack([where[:, 0], state[scored], action[scored]], axis=-1)
    entries, entry_count = np.unique(found, axis=0, return_counts=True)
    known = context[entries[:, 0]] != UNSEEN
    rows, row_of = _rows(entries[known], context, episode_cells)
    action_count = np.zeros((len(rows), problem.num_actions), int)
    np.add.at(action_count, (row_of, entries[known][:, 2]), entry_count[known])
    hidden = context == UNSEEN
    own = np.where(hidden, UNSEEN, episode_cells[np.arange(len(context)), context])
    moves, move_count = count_transitions(problem, data, own, context)
    seen, seen_count = _moves(state, action, hidden)
    return BehaviourCounts(
        regimes=tuple(map(str, regimes)),
        incentives=incentives_of(problem, data, regimes),
        context_values=context_values,
        groups=groups,
        cell_regime=cells[:, 0],
        cell_context=cells[:, 1],
        cell_group=cells[:, 2],
        cell_states=cell_states,
        cell_actions=cell_actions,
        row_cell=rows[:, 0],
        row_state=rows[:, 1],
        action_count=action_count,
        context_count=np.bincount(context[context >= 0], minlength=C),
        episode_names=tuple(map(str, data["follower"].values)),
        episode_context=context,
        episode_cells=episode_cells,
        entry_episode=entries[:, 0],
        entry_state=entries[:, 1],
        entry_action=entries[:, 2],
        entry_count=entry_count,
        first_state=state[:, 0],
        move_episode=seen[:, 0],
        move_state=seen[:, 1],
        move_action=seen[:, 2],
        move_next=seen[:, 3],
        move_count=seen_count,
        transition_cell=moves[:, 0],
        transition_state=moves[:, 1],
        transition_action=moves[:, 2],
        transition_slot=moves[:, 3],
        transition_count=move_count,
    )


def _cells(
    problem: Problem, regime: np.ndarray, context: np.ndarray, group: np.ndarray, num_contexts: int
) -> tuple[np.ndarray, np.ndarray]:
    """List every (regime, context, group, episode) whose policy the likelihood needs.

    The episode is 0 unless followers remember. Also return each episode's cell by context.
    """
    possible = (context[:, None] == np.arange(num_contexts)) | (context[:, None] == UNSEEN)
    needed = np.argwhere(possible)
    episode = needed[:, 0]
    own_past = episode * (problem.history is not None)
    wanted = np.stack([regime[episode], needed[:, 1], group[episode], own_past], axis=-1)
    cells, cell_of = np.unique(wanted, axis=0, return_inverse=True)
    episode_cells = np.full(possible.shape, -1)
    episode_cells[possible] = cell_of.ravel()
    return cells, episode_cells


def _rows(
    entries: np.ndarray, context: np.ndarray, episode_cells: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """List the (cell, state) pairs that occur, and the position of each entry's."""
    cell = episode_cells[entries[:, 0], context[entries[:, 0]]]
    pairs = np.stack([cell, entries[:, 1]], axis=-1)
    rows, row_of = np.unique(pairs, axis=0, return_inverse=True)
    return rows, row_of.ravel()


def _moves(
    state: np.ndarray, action: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Count (episode, state, action, next state) in the wanted episodes."""
    going = (state[:, 1:] != MISSING) & wanted[:, None]
    where = np.argwhere(going)
    found = np.stack(
        [where[:, 0], state[:, :-1][going], action[:, :-1][going], state[:, 1:][going]], axis=-1
    )
    return np.unique(found, axis=0, return_counts=True)
