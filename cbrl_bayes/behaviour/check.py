"""Check observed behaviour: name every fault of its form, and all that the model rules out."""

from collections.abc import Collection, Iterator

import numpy as np
import xarray as xr

from cbrl_bayes.behaviour.incentives import incentive_notes, incentive_violations
from cbrl_bayes.behaviour.paths import check_paths
from cbrl_bayes.behaviour.possible import impossibilities
from cbrl_bayes.behaviour.schema import EPISODE_TEXT, MISSING, MOST_SHOWN
from cbrl_bayes.errors import DataError, note, require_kind
from cbrl_bayes.problems import DiscreteContexts, Problem

READ_AS_EMPTY = {"NA", "N/A", "n/a", "NaN", "nan", "None", "null", "NULL", "<NA>", "#N/A"}
"""Texts of which pandas makes an empty cell when it reads a file."""


def check_trajectories(
    data: xr.Dataset, problem: Problem | None = None, *, estimated: Collection[str] | None = None
) -> None:
    """Raise `DataError` naming every violation of the format, all at once.

    Parameters
    ----------
    data : xarray.Dataset
        As `make_trajectories` builds it.
    problem : Problem, optional
        Also check states, actions, contexts and incentives against this problem, and whether it
        can lead to what was observed: no step is impossible (`impossibilities`). Where followers
        remember, every episode must be on record from its first step (`check_paths`).
    estimated : collection of str, optional
        Names of the parameters that are not known (`infer`: those with a prior). What they could
        make possible counts as possible. Default: all of the problem.

    Warns
    -----
    DataNote
        Of a stated incentive that the problem could not choose, as when cents are taken for
        euros; and of a context such as "NA" that never occurs beside contexts that were not
        observed.
    """
    require_kind(data, xr.Dataset, "data", "data = cb.load_trajectories(path)")
    found = list(violations_of(data, problem, estimated))
    if found:
        raise DataError("these trajectories cannot be used: " + "; ".join(found))
    if problem is not None:
        if problem.history is not None:
            check_paths(problem, data)
        for text in [*incentive_notes(data, problem), *_context_notes(data, problem)]:
            note(text)


def violations_of(
    data: xr.Dataset, problem: Problem | None = None, estimated: Collection[str] | None = None
) -> Iterator[str]:
    """Yield one sentence per violation."""
    missing = [name for name in ("state", "action", *EPISODE_TEXT) if name not in data]
    if missing:
        yield f"variables are missing: {', '.join(missing)}"
        return
    for name in ("state", "action", "successor_slot", "choice_observed"):
        if name in data and data[name].dims != ("episode", "step"):
            yield f"{name} has dims {data[name].dims}, accepted: ('episode', 'step')"
            return
    for name in EPISODE_TEXT:
        if data[name].dims != ("episode",):
            yield f"{name} has dims {data[name].dims}, accepted: ('episode',)"
            return
    for name in ("state", "action", "successor_slot"):
        if name in data and not np.issubdtype(data[name].dtype, np.integer):
            yield f"{name} has type {data[name].dtype}, accepted: integers"
            return
    if data.sizes["episode"] == 0 or data.sizes["step"] == 0:
        yield f"the data have no {'steps' if data.sizes['episode'] else 'episodes'}"
        return
    state, action = data["state"].values, data["action"].values
    present = state != MISSING
    yield from _listed("action", action, present & (action < 0), "an action where state is given")
    yield from _listed("action", action, ~present & (action >= 0), "-1 where state is -1")
    gap = present[:, 1:] & ~present[:, :-1]
    if gap.any():
        yield f"episode {int(np.argwhere(gap)[0][0])} has a gap before its end"
    if not present[:, 0].all():
        yield f"episode {int(np.argwhere(~present[:, 0])[0][0])} is empty"
    if problem is not None:
        found = list(_against_problem(data, problem, state, action, present))
        yield from found or impossibilities(problem, data, estimated)


def _against_problem(
    data: xr.Dataset, problem: Problem, state: np.ndarray, action: np.ndarray, present: np.ndarray
) -> Iterator[str]:
    S, A = problem.num_states, problem.num_actions
    yield from _listed("state", state, present & ((state < 0) | (state >= S)), f"0 to {S - 1}")
    yield from _listed("action", action, present & (action >= A), f"0 to {A - 1}")
    names = [str(name) for name in data["context"].values]
    if isinstance(problem.contexts, DiscreteContexts):
        unknown = sorted(set(names) - {"", *problem.contexts.names})
        if unknown:
            known = ", ".join(problem.contexts.names)
            yield f"unknown contexts {unknown}, accepted: {known} (or '' where not observed)"
    yield from _unknown_groups(data, problem)
    if "successor_slot" in data:
        slot = data["successor_slot"].values
        bad = (slot < MISSING) | (slot >= problem.num_successors)
        yield from _listed("successor_slot", slot, bad, f"-1 to {problem.num_successors - 1}")
    yield from incentive_violations(data, problem)


def _unknown_groups(data: xr.Dataset, problem: Problem) -> Iterator[str]:
    """Say which groups are no followers of a problem that tells its followers apart."""
    groups, known = set(map(str, data["group"].values)), problem.followers.names
    several = len(groups) > 1 or len(known) > 1
    if several and not groups <= set(known) and problem.tells_followers_apart:
        yield (
            f"unknown groups {sorted(groups - set(known))}, accepted: {', '.join(known)}, since "
            "the problem's functions ask which follower responds (parameters['follower'])"
        )


def _context_notes(data: xr.Dataset, problem: Problem) -> Iterator[str]:
    """Say where a name may have been taken for an empty cell."""
    seen = set(map(str, data["context"].values))
    if len(seen) < 2 or "" not in seen or not isinstance(problem.contexts, DiscreteContexts):
        return
    lost = [n for n in problem.contexts.names if n in READ_AS_EMPTY and n not in seen]
    if lost:
        yield (
            f"context {lost[0]!r} never occurs, and some contexts were not observed: pandas "
            "reads this name as an empty cell unless told keep_default_na=False "
            "(cb.load_trajectories keeps it)"
        )


def _listed(name: str, values: np.ndarray, bad: np.ndarray, accepted: str) -> Iterator[str]:
    where = np.argwhere(bad)
    for episode, step in where[:MOST_SHOWN]:
        yield (
            f"{name}[episode {episode}, step {step}] is {values[episode, step]}, "
            f"accepted: {accepted}"
        )
    if len(where) > MOST_SHOWN:
        yield f"and {len(where) - MOST_SHOWN} more entries of {name}"
