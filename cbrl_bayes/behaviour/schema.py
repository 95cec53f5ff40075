"""The format of observed behaviour: one labelled dataset, and a checker that names every fault."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from cbrl_bayes.errors import DataError, require_kind
from cbrl_bayes.problems import DiscreteContexts, Problem

SCHEMA = "cbrl_bayes trajectories 1"
MISSING = -1
"""Padding of integer variables after an episode's end."""

MOST_SHOWN = 5
Rows = Sequence[Any]  # of sequences or arrays of numbers, one per episode
EPISODE_TEXT = ("follower", "group", "context", "regime")


def make_trajectories(
    state: Rows,
    action: Rows,
    *,
    follower: Sequence[str] | None = None,
    group: Sequence[str] | None = None,
    context: Sequence[str] | None = None,
    regime: Sequence[str] | None = None,
    incentives: Mapping[str, Mapping[str, Any]] | None = None,
    successor_slot: Rows | None = None,
    choice_observed: Rows | None = None,
) -> xr.Dataset:
    """Build a trajectory dataset from plain lists; episodes may differ in length.

    Dimensions are ``episode`` and ``step`` (and ``regime``). Integer variables are padded with
    -1 after an episode's end.

    Parameters
    ----------
    state, action : sequences of sequences of int
        One sequence per episode.
    follower : sequence of str, optional
        Who acted in each episode. Default: one follower per episode.
    group : sequence of str, optional
        Followers of one group share their parameters. Default: all in group "all".
    context : sequence of str, optional
        The context's name; "" where it was not observed (the default).
    regime : sequence of str, optional
        Name of the incentive regime of each episode. Default: "baseline".
    incentives : mapping, optional
        regime -> {incentive name: array in readable units}; what is not given counts as 0.
    successor_slot : sequences of int, optional
        Which listed successor followed each step (for `SuccessorTransition` laws), -1 where not
        recorded; from it the transition law is learned.
    choice_observed : sequences of bool, optional
        False where the action is known but is not to enter the likelihood. Default: True.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    DataError
        If lengths disagree.

    Examples
    --------
    >>> data = make_trajectories([[0, 1], [0]], [[1, 0], [1]], context=["a", "b"])
    >>> data.state.values.tolist()
    [[0, 1], [0, -1]]
    """
    num = len(state)
    texts = {
        "follower": follower or [f"follower {i}" for i in range(num)],
        "group": group or ["all"] * num,
        "context": context if context is not None else [""] * num,
        "regime": regime or ["baseline"] * num,
    }
    wrong = [f"{name} has {len(v)} entries" for name, v in texts.items() if len(v) != num]
    if len(action) != num or wrong:
        raise DataError(
            f"the data hold {num} state sequences and {len(action)} action sequences; "
            + "; ".join(wrong)
        )
    steps = max((len(row) for row in state), default=0)
    variables: dict[str, Any] = {
        "state": (("episode", "step"), _padded(state, steps, MISSING)),
        "action": (("episode", "step"), _padded(action, steps, MISSING)),
    }
    if successor_slot is not None:
        slots = _padded(successor_slot, steps, MISSING)
        variables["successor_slot"] = (("episode", "step"), slots)
    if choice_observed is not None:
        seen = _padded(choice_observed, steps, 0).astype(bool)
        variables["choice_observed"] = (("episode", "step"), seen)
    variables |= {name: ("episode", np.array(v, dtype=str)) for name, v in texts.items()}
    dataset = xr.Dataset(variables, attrs={"schema": SCHEMA})
    return _with_incentives(dataset, incentives or {})


def check_trajectories(data: xr.Dataset, problem: Problem | None = None) -> None:
    """Raise `DataError` naming every violation of the format, all at once.

    Parameters
    ----------
    data : xarray.Dataset
        As `make_trajectories` builds it.
    problem : Problem, optional
        Also check states, actions, contexts and incentives against this problem.
    """
    require_kind(data, xr.Dataset, "data", "data = cb.load_trajectories(path)")
    found = list(violations_of(data, problem))
    if found:
        raise DataError("these trajectories cannot be used: " + "; ".join(found))


def violations_of(data: xr.Dataset, problem: Problem | None = None) -> Iterator[str]:
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
    if data.sizes["episode"] == 0:
        yield "the data have no episodes"
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
        yield from _against_problem(data, problem, state, action, present)


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
    named = {str(v).removeprefix("incentive_") for v in data if str(v).startswith("incentive_")}
    foreign = sorted(named - set(problem.incentive.labels))
    if foreign:
        known_names = ", ".join(problem.incentive.labels)
        yield f"unknown incentives {foreign}, accepted: {known_names}"
    if "successor_slot" in data:
        slot = data["successor_slot"].values
        bad = (slot < MISSING) | (slot >= problem.num_successors)
        yield from _listed("successor_slot", slot, bad, f"-1 to {problem.num_successors - 1}")
    for name in problem.incentive.labels:
        variable = f"incentive_{name}"
        shape = np.shape(problem.incentive.transform(problem.incentive.initial)[name])
        if variable in data and data[variable].shape[1:] != shape:
            yield f"{variable} has shape {data[variable].shape[1:]} per regime, accepted: {shape}"
    if "regime_name" in data.coords:
        known_regimes = [str(name) for name in data["regime_name"].values]
        absent = sorted(set(map(str, data["regime"].values)) - set(known_regimes))
        if absent:
            yield f"regimes {absent} have no incentive, accepted: {known_regimes}"


def _listed(name: str, values: np.ndarray, bad: np.ndarray, accepted: str) -> Iterator[str]:
    where = np.argwhere(bad)
    for episode, step in where[:MOST_SHOWN]:
        yield (
            f"{name}[episode {episode}, step {step}] is {values[episode, step]}, "
            f"accepted: {accepted}"
        )
    if len(where) > MOST_SHOWN:
        yield f"and {len(where) - MOST_SHOWN} more entries of {name}"


def _padded(rows: Rows, steps: int, fill: int) -> np.ndarray:
    table = np.full((len(rows), steps), fill, dtype=np.int32)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return table


def _with_incentives(
    dataset: xr.Dataset, incentives: Mapping[str, Mapping[str, Any]]
) -> xr.Dataset:
    if not incentives:
        return dataset
    regimes = list(incentives)
    names = sorted({name for given in incentives.values() for name in given})
    dataset = dataset.assign_coords(regime_name=("regime_index", np.array(regimes, dtype=str)))
    for name in names:
        given = [incentives[regime].get(name) for regime in regimes]
        shape = np.shape(next(array for array in given if array is not None))
        rows = [np.zeros(shape) if array is None else np.asarray(array, float) for array in given]
        dims = ("regime_index", *(f"{name}_dim_{axis}" for axis in range(len(shape))))
        dataset[f"incentive_{name}"] = (dims, np.stack(rows))
    return dataset
