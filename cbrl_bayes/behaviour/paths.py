"""What each episode met in order: what followers who remember act on."""

import jax
import numpy as np
import xarray as xr
from jaxtyping import Int

from cbrl_bayes.behaviour.cells import state_in_words
from cbrl_bayes.behaviour.schema import MISSING
from cbrl_bayes.errors import DataError
from cbrl_bayes.problems import Problem


def check_paths(problem: Problem, data: xr.Dataset) -> None:
    """Refuse episodes whose past is not on record, where followers remember.

    Parameters
    ----------
    problem : Problem
    data : xarray.Dataset
        Checked trajectories (`check_trajectories`).

    Raises
    ------
    DataError
        For an episode that begins where the problem never starts, or meets a state twice.
    """
    state = data["state"].values
    starts = _starts(problem)
    late = np.flatnonzero(~starts[state[:, 0]])
    if len(late):
        first = int(late[0])
        raise DataError(
            "followers of this problem remember, and what they met before the record is not known",
            received=f"{len(late)} of {len(state)} episodes; follower "
            f"{str(data['follower'].values[first])!r} (episode {first}) begins at "
            f"{state_in_words(problem, int(state[first, 0]))}",
            accepted="episodes from their first step on, or "
            + ", ".join(state_in_words(problem, int(s)) for s in np.flatnonzero(starts)[:3]),
            remedy="leave such sessions out",
        )
    order = np.sort(state, axis=1)
    again = (order[:, 1:] == order[:, :-1]) & (order[:, 1:] != MISSING)
    if again.any():
        episode, place = np.argwhere(again)[0]
        raise DataError(
            "followers of this problem remember, so that a state can be met once in an episode",
            received=f"follower {str(data['follower'].values[episode])!r} (episode {episode}) "
            f"meets {state_in_words(problem, int(order[episode, place]))} twice",
            accepted="one episode for each session",
        )


def paths_of_cells(
    problem: Problem, data: xr.Dataset, episode: Int[np.ndarray, " cell"]
) -> tuple[Int[np.ndarray, "cell step"], Int[np.ndarray, "cell step"]]:
    """Return states and actions of the episode of each cell; no steps where nobody remembers."""
    if problem.history is None:
        return np.zeros((len(episode), 0), int), np.zeros((len(episode), 0), int)
    return data["state"].values[episode], data["action"].values[episode]


def _starts(problem: Problem) -> np.ndarray:
    """Return in which states some context may begin."""
    parameters = problem.first_parameters
    values, _ = problem.contexts.support(parameters, jax.random.key(0))
    incentive = problem.incentive.transform(problem.incentive.initial)
    one = problem.follower_parameters(parameters, 0)
    initial = [
        np.asarray(
            problem.mdp_fn(
                incentive, jax.tree.map(lambda leaf, c=c: np.asarray(leaf)[c], values), one
            ).initial
        )
        for c in range(problem.contexts.num_contexts)
    ]
    return np.any(np.stack(initial) > 0.0, axis=0)
