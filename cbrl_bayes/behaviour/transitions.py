"""Which of its possible successors followed each observed step."""

import numpy as np
import xarray as xr
from jaxtyping import Bool, Int

from cbrl_bayes.behaviour.schema import MISSING
from cbrl_bayes.errors import note
from cbrl_bayes.problems import LawSupport, Problem, has_unknown_law, law_support


def count_transitions(
    problem: Problem, data: xr.Dataset, cell: Int[np.ndarray, " episode"], context: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Count (cell, state, action, slot) in the episodes whose context was observed.

    Where the transition law is known, or follows from parameters, those that the data record
    (``successor_slot``). Where it is a parameter (`with_unknown_law`) also those that follow from
    the next state; a state that is listed twice counts in its first slot.

    Parameters
    ----------
    problem : Problem
    data : xarray.Dataset
        Checked trajectories.
    cell, context : int arrays, shape (episodes,)
        Of each episode; -1 where the context was not observed.

    Returns
    -------
    tuple
        Rows, shape (n, 4), and how often each occurs.
    """
    state, action = data["state"].values, data["action"].values
    slot = np.full(state.shape, MISSING)
    if "successor_slot" in data:
        slot = data["successor_slot"].values
    if has_unknown_law(problem):
        slot = _of_unknown_law(problem, state, action, slot, context)
    known = (slot != MISSING) & (state != MISSING) & (context >= 0)[:, None]
    of_step = np.broadcast_to(cell[:, None], state.shape)
    found = np.stack([of_step[known], state[known], action[known], slot[known]], axis=-1)
    return np.unique(found, axis=0, return_counts=True)


def slots_of(
    support: LawSupport,
    context: Int[np.ndarray, " step"],
    state: Int[np.ndarray, " step"],
    action: Int[np.ndarray, " step"],
    after: Int[np.ndarray, " step"],
) -> Int[np.ndarray, " step"]:
    """Return the first slot that stands for the next state of each step; -1 where none does."""
    at = (context, state, action) if support.successor.ndim == 4 else (state, action)
    reached = support.successor[at] == after[:, None]
    return np.where(reached.any(-1), reached.argmax(-1), MISSING)


def _of_unknown_law(
    problem: Problem, state: np.ndarray, action: np.ndarray, slot: np.ndarray, context: np.ndarray
) -> np.ndarray:
    """Return the first slot of each step's successor; MISSING where it was not seen."""
    support = law_support(problem)
    whose = np.broadcast_to(np.maximum(context, 0)[:, None], state.shape)
    by_context = support.successor.ndim == 4
    after = np.full_like(state, MISSING)
    after[:, :-1] = state[:, 1:]
    found = np.full(state.shape, MISSING)
    goes_on = state != MISSING
    ends = support.terminal[(whose, state) if by_context else (state,)]
    moved = goes_on & ~ends & (after != MISSING) & (slot == MISSING)
    found[moved] = slots_of(support, *(a[moved] for a in (whose, state, action, after)))
    said = goes_on & ~ends & (slot != MISSING)
    at = (whose, state, action)[0 if by_context else 1 :]
    found[said] = support.first[(*(a[said] for a in at), slot[said])]
    _note_ends(problem, support, state, found)
    return found


def _note_ends(
    problem: Problem, support: LawSupport, state: np.ndarray, slot: Bool[np.ndarray, "..."]
) -> None:
    """Say where moves that end episodes seem not to be on record."""
    ends = support.terminal.reshape(-1, problem.num_states).any(0)
    seen = ends[state[state != MISSING]].any()
    lengths = (state != MISSING).sum(1)
    last = slot[np.arange(len(state)), lengths - 1] != MISSING
    if ends.any() and not seen and not last.any() and np.ptp(lengths) > 0:
        note(
            "episodes of different lengths, and none shows a state that ends it: if the last move "
            "of an episode led to one, the learned law holds that this never happens (add a row "
            "for the last state, or successor_slot)"
        )
