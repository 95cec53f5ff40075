"""One page on what was read, before anything is fitted."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from cbrl_bayes.behaviour.cells import state_in_words
from cbrl_bayes.behaviour.check import check_trajectories
from cbrl_bayes.behaviour.incentives import BASELINE, regimes_stated
from cbrl_bayes.behaviour.schema import MISSING
from cbrl_bayes.errors import counted
from cbrl_bayes.problems import Problem

MOST_SHOWN = 10


@dataclass(frozen=True)
class DataReport:
    """What a set of trajectories holds; printed, it is one page.

    Attributes
    ----------
    num_followers, num_episodes, num_steps : int
    steps_per_episode : tuple of int
        Fewest, median, most.
    episodes_by_group, episodes_by_context, episodes_by_regime : mapping
        Name -> episodes; the context '' was not observed.
    incentives : mapping
        Regime -> its incentive in words.
    actions : mapping
        Name of the action -> how often it was chosen; with a problem, those never chosen too.
    never_visited : tuple of str or None
        States that do not occur; None without a problem.
    num_unscored : int
        Steps whose action is not to enter the likelihood.
    notes : tuple of str
        What was noted when a table was read.
    """

    num_followers: int
    num_episodes: int
    num_steps: int
    steps_per_episode: tuple[int, int, int]
    episodes_by_group: Mapping[str, int]
    episodes_by_context: Mapping[str, int]
    episodes_by_regime: Mapping[str, int]
    incentives: Mapping[str, str]
    actions: Mapping[str, int]
    never_visited: tuple[str, ...] | None
    num_unscored: int
    notes: tuple[str, ...]

    @property
    def never_chosen(self) -> tuple[str, ...]:
        """Actions that nobody chose."""
        return tuple(name for name, count in self.actions.items() if count == 0)

    def __str__(self) -> str:
        fewest, median, most = self.steps_per_episode
        length = f"{fewest}" if fewest == most else f"{fewest} to {most}, median {median}"
        lines = [
            f"followers        {self.num_followers:,}",
            f"episodes         {self.num_episodes:,}",
            f"steps            {self.num_steps:,} ({length} per episode)",
            f"groups           {_counted(self.episodes_by_group, 'episode')}",
            f"contexts         {_counted(self.episodes_by_context, 'episode')}",
        ]
        if self.num_unscored:
            lines.append(f"not in the fit   choices of {counted(self.num_unscored, 'step')}")
        regimes = list(self.episodes_by_regime.items())
        for number, (name, episodes) in enumerate(regimes[:MOST_SHOWN]):
            head = "regimes" if number == 0 else ""
            lasting = counted(episodes, "episode")
            lines.append(f"{head:<16} {name}: {lasting}, {self.incentives[name]}")
        if len(regimes) > MOST_SHOWN:
            lines.append(f"{'':<16} and {len(regimes) - MOST_SHOWN} more")
        lines.append(f"actions          {_counted(self.actions, 'time')}")
        lines.append(f"never chosen     {_named(self.never_chosen)}")
        if self.never_visited is not None:
            lines.append(f"never visited    {_named(self.never_visited)}")
        lines += [f"note             {note}" for note in self.notes]
        return "\n".join(lines)


def data_report(data: xr.Dataset, problem: Problem | None = None) -> DataReport:
    """Say what a set of trajectories holds.

    Parameters
    ----------
    data : xarray.Dataset
        Trajectories (`from_table`, `load_trajectories`, `make_trajectories`).
    problem : Problem, optional
        Names states and actions, and tells which do not occur.

    Returns
    -------
    DataReport

    Raises
    ------
    DataError
        If the data cannot be used (`check_trajectories`).

    Examples
    --------
    >>> from cbrl_bayes.behaviour import make_trajectories
    >>> from cbrl_bayes.problems import two_state
    >>> data = make_trajectories([[0, 1], [0]], [[1, 0], [1]], context=["cost 0.5", "cost 1.5"])
    >>> print(data_report(data, two_state()))
    followers        2
    episodes         2
    steps            3 (1 to 2, median 2 per episode)
    groups           all: 2 episodes
    contexts         cost 0.5: 1 episode, cost 1.5: 1 episode
    regimes          baseline: 2 episodes, no incentive (none is stated)
    actions          decline: 1 time, work: 2 times
    never chosen     none
    never visited    none
    """
    check_trajectories(data, problem)
    state, action = data["state"].values, data["action"].values
    present = state != MISSING
    lengths = present.sum(1)
    scored = present
    if "choice_observed" in data:
        scored = present & data["choice_observed"].values.astype(bool)
    contexts = _count(data["context"].values)
    if "context_value" in data:
        values = data["context_value"].values
        contexts = {f"numbers from {values.min():.4g} to {values.max():.4g}": len(values)}
    return DataReport(
        num_followers=len(set(map(str, data["follower"].values))),
        num_episodes=len(lengths),
        num_steps=int(lengths.sum()),
        steps_per_episode=(
            int(lengths.min()),
            round(float(np.median(lengths))),
            int(lengths.max()),
        ),
        episodes_by_group=_count(data["group"].values),
        episodes_by_context=contexts,
        episodes_by_regime=_count(data["regime"].values),
        incentives={name: _incentive(data, name) for name in _count(data["regime"].values)},
        actions=_actions(action[present], problem),
        never_visited=None if problem is None else _unvisited(state[present], problem),
        num_unscored=int((present & ~scored).sum()),
        notes=tuple(json.loads(data.attrs.get("notes", "[]"))),
    )


def _count(names: np.ndarray) -> dict[str, int]:
    found, counts = np.unique(names.astype(str), return_counts=True)
    return dict(zip(map(str, found), counts.tolist(), strict=True))


def _incentive(data: xr.Dataset, regime: str) -> str:
    stated = regimes_stated(data)
    if stated is None or regime not in stated:
        return "no incentive (none is stated)" if regime == BASELINE else "incentive not stated"
    row = stated.index(regime)
    parts = []
    for name in sorted(str(n) for n in data.data_vars if str(n).startswith("incentive_")):
        values = data[name].values[row]
        label = name.removeprefix("incentive_")
        if values.size == 1:
            parts.append(f"{label} {values.item():.6g}")
        else:
            parts.append(
                f"{label} {values.min():.4g} to {values.max():.4g} ({values.size} numbers)"
            )
    return ", ".join(parts) or "no incentive"


def _actions(action: np.ndarray, problem: Problem | None) -> dict[str, int]:
    number = int(action.max()) + 1 if problem is None else problem.num_actions
    counts = np.bincount(action, minlength=number)
    names = problem.action_names if problem is not None else ()
    labels = [names[i] if names else f"action {i}" for i in range(number)]
    found: dict[str, int] = {}
    for label, count in zip(labels, counts.tolist(), strict=True):
        found[label] = found.get(label, 0) + count
    return found


def _unvisited(state: np.ndarray, problem: Problem) -> tuple[str, ...]:
    counts = np.bincount(state, minlength=problem.num_states)
    return tuple(state_in_words(problem, int(s)) for s in np.flatnonzero(counts == 0))


def _counted(counts: Mapping[str, int], of: str) -> str:
    items = list(counts.items())
    if len(items) > MOST_SHOWN:
        items.sort(key=lambda item: -item[1])
    shown = [
        f"{name or '(not observed)'}: {counted(count, of)}" for name, count in items[:MOST_SHOWN]
    ]
    more = [f"and {len(items) - MOST_SHOWN} more"] if len(items) > MOST_SHOWN else []
    return ", ".join([*shown, *more])


def _named(names: tuple[str, ...]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return f"{len(names)}: " + ", ".join(names[:MOST_SHOWN]) + more
