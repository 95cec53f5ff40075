"""Episodes as an outside follower reports them, and what can be wrong with them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from cbrl_bayes.errors import counted
from cbrl_bayes.mdp import Trajectories

MOST_SHOWN = 5


@dataclass(frozen=True)
class Episode:
    """One episode of n steps.

    Parameters
    ----------
    state : sequence of int, length n + 1 or n
        States in which the actions were taken, and where the last one led (may be left out
        after a terminal state).
    action : sequence of int, length n
    log_probability : sequence of float, length n, optional
        The follower's own log-probability of each action. Needed only where the incentive
        moves the transitions.
    reward : sequence of float, length n, optional
        What the follower earned. Only checked to be finite: the leader computes rewards from
        its own model.

    Examples
    --------
    >>> Episode(state=[0, 1], action=[1]).action
    [1]
    """

    state: Sequence[int]
    action: Sequence[int]
    log_probability: Sequence[float] | None = None
    reward: Sequence[float] | None = None


def as_trajectories(
    episodes: Any,
    limit: np.ndarray,
    num_steps: int,
    num_states: int,
    num_actions: int,
    terminal: np.ndarray,
) -> tuple[Trajectories | None, list[str]]:
    """Pack episodes into arrays, cut at ``limit`` steps each; or list what is wrong with them.

    Parameters
    ----------
    episodes : sequence of Episode
    limit : int array, shape (N,)
        Steps wanted of each; an episode may stop earlier only in a terminal state.
    num_steps : int
        Second axis T of the result.
    num_states, num_actions : int
    terminal : bool array, shape (S,)

    Returns
    -------
    tuple
        Trajectories of shape (N, T), or None and the faults.
    """
    faults = list(_faults(episodes, limit, num_states, num_actions, terminal))
    if faults:
        more = [f"and {len(faults) - MOST_SHOWN} more"] if len(faults) > MOST_SHOWN else []
        return None, faults[:MOST_SHOWN] + more
    shape = (len(limit), num_steps)
    state, action, following = (np.zeros(shape, np.int32) for _ in range(3))
    log_probability = np.full(shape, np.nan)
    active = np.zeros(shape, bool)
    for row, (episode, most) in enumerate(zip(episodes, limit, strict=True)):
        length = min(len(episode.action), int(most))
        walk = np.asarray(episode.state)
        state[row, :length] = walk[:length]
        action[row, :length] = np.asarray(episode.action)[:length]
        ahead = np.append(walk[1:], walk[-1])
        following[row, :length] = ahead[:length]
        active[row, :length] = True
        if episode.log_probability is not None:
            log_probability[row, :length] = np.asarray(episode.log_probability)[:length]
    packed = (state, action, following, log_probability, active)
    return Trajectories(*(jnp.asarray(array) for array in packed)), []


def _faults(
    episodes: Any, limit: np.ndarray, num_states: int, num_actions: int, terminal: np.ndarray
) -> Iterator[str]:
    if not isinstance(episodes, Sequence):
        yield f"a {type(episodes).__name__}, accepted: a list of Episode"
        return
    if len(episodes) != len(limit):
        yield f"{len(episodes)} episodes, accepted: {len(limit)}"
        return
    for number, (episode, most) in enumerate(zip(episodes, limit, strict=True)):
        if not isinstance(episode, Episode):
            yield f"episode {number} is a {type(episode).__name__}, accepted: Episode"
            continue
        own = list(_own_faults(episode, num_states, num_actions))
        if not own:
            walk = np.asarray(episode.state[: len(episode.action) - 1], int)
            over = np.flatnonzero(terminal[walk])
            own = [
                f"goes on after state {int(episode.state[place])} at step {int(place)}, which is "
                "terminal, accepted: the action taken there is the last"
                for place in over[:1]
            ]
        if not own and len(episode.state) == len(episode.action) and not terminal[_last(episode)]:
            own = [
                f"does not say where its last action led: {len(episode.state)} states, accepted: "
                f"{len(episode.action) + 1}, unless the last state is terminal"
            ]
        if not own and len(episode.action) < most and not terminal[_last(episode)]:
            own = [
                f"stops after {counted(len(episode.action), 'step')} in state {_last(episode)}, "
                f"which is not terminal, accepted: {counted(most, 'step')} or an end in a terminal "
                "state"
            ]
        yield from (f"episode {number} {fault}" for fault in own)


def _last(episode: Episode) -> int:
    """Return the state in which the last action was taken."""
    return int(episode.state[len(episode.action) - 1])


def _own_faults(episode: Episode, num_states: int, num_actions: int) -> Iterator[str]:
    columns: dict[str, np.ndarray] = {}
    for name, top in (("state", num_states), ("action", num_actions)):
        values = np.asarray(getattr(episode, name))
        if values.ndim != 1 or not values.size:
            yield f"has no {name}s (shape {values.shape})"
            return
        whole = np.issubdtype(values.dtype, np.number) and bool(np.all(values == np.floor(values)))
        if not whole or values.min() < 0 or values.max() >= top:
            yield f"has {name}s {_shown(values, top)}, accepted: whole numbers 0 to {top - 1}"
            return
        columns[name] = values
    steps = len(columns["action"])
    if len(columns["state"]) not in (steps, steps + 1):
        yield (
            f"has {len(columns['state'])} states for {steps} actions, "
            f"accepted: {steps + 1} (or {steps})"
        )
    for name in ("log_probability", "reward"):
        given = getattr(episode, name)
        if given is None:
            continue
        values = np.asarray(given, float)
        if values.shape != (steps,):
            yield f"has {name} of shape {values.shape}, accepted: ({steps},)"
        elif not np.isfinite(values).all():
            first = int(np.flatnonzero(~np.isfinite(values))[0])
            yield f"has {name} {values[first]} at step {first}, accepted: a finite number"
        elif name == "log_probability" and (values > 1e-9).any():
            yield f"has log_probability {values.max():.4g}, accepted: <= 0"


def _shown(values: np.ndarray, top: int) -> str:
    if not np.issubdtype(values.dtype, np.number):
        return f"of type {values.dtype}"
    odd = values[(values < 0) | (values >= top) | (values != np.floor(values))]
    return ", ".join(f"{value:g}" for value in odd[:3])
