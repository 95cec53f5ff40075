"""The format of observed behaviour: one labelled dataset."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from cbrl_bayes.behaviour.incentives import with_incentives
from cbrl_bayes.errors import DataError

SCHEMA = "cbrl_bayes trajectories 1"
MISSING = -1
"""Padding of integer variables after an episode's end."""

MOST_SHOWN = 5
MOST_NUMBER = 2**31 - 1
"""Numbers are stored in 32 bits."""
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
        The context's name; "" or None where it was not observed (the default).
    regime : sequence of str, optional
        Name of the incentive regime of each episode. Default: "baseline".
    incentives : mapping, optional
        regime -> {incentive name: array in readable units}; a name that a regime leaves out
        counts as 0. State the incentive of every regime, ``{}`` for none, once there is more
        than one or the one is not called "baseline".
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
        If lengths disagree, or numbers do not fit: a fraction is refused, not cut.

    Examples
    --------
    >>> data = make_trajectories([[0, 1], [0]], [[1, 0], [1]], context=["a", "b"])
    >>> data.state.values.tolist()
    [[0, 1], [0, -1]]
    """
    for name, rows in (("state", state), ("action", action)):
        flat = [index for index, row in enumerate(rows) if np.ndim(row) == 0]
        if flat:
            raise DataError(
                f"{name} of episode {flat[0]} is no list",
                received=rows[flat[0]],
                accepted="a list of numbers for each episode, as in [[0, 1], [0]]",
            )
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
    given = {
        "state": state,
        "action": action,
        "successor_slot": successor_slot,
        "choice_observed": choice_observed,
    }
    variables: dict[str, Any] = {
        name: (("episode", "step"), _padded(name, rows, state, 0 if name[0] == "c" else MISSING))
        for name, rows in given.items()
        if rows is not None
    }
    if choice_observed is not None:
        dims, seen = variables["choice_observed"]
        variables["choice_observed"] = (dims, seen.astype(bool))
    variables |= {name: ("episode", _named(name, values)) for name, values in texts.items()}
    dataset = xr.Dataset(variables, attrs={"schema": SCHEMA})
    return with_incentives(dataset, incentives) if incentives else dataset


def _named(name: str, values: Sequence[Any]) -> np.ndarray:
    """Return names as text; no name is a context that was not observed, and else a fault."""
    absent = {index for index, value in enumerate(values) if value is None or value != value}
    if absent and name != "context":
        raise DataError(f"{name} of episode {min(absent)} has no name")
    return np.array(["" if i in absent else str(v) for i, v in enumerate(values)], dtype=str)


def _padded(name: str, rows: Rows, like: Rows, fill: int) -> np.ndarray:
    """Return rows of whole numbers, padded to the longest; what would be cut is refused."""
    steps = max((len(row) for row in like), default=0)
    table = np.full((len(rows), steps), fill, dtype=np.int32)
    for index, row in enumerate(rows):
        numbers = np.asarray(row)
        if numbers.ndim != 1 or len(numbers) != len(like[index]):
            raise DataError(
                f"{name} of episode {index} does not have one entry per step",
                received=f"shape {numbers.shape}",
                accepted=f"{len(like[index])} entries, as in state",
            )
        if numbers.size and not _fits(numbers):
            raise DataError(
                f"{name} of episode {index} cannot be used",
                received=numbers.tolist()[:MOST_SHOWN],
                accepted=f"whole numbers, at most {MOST_NUMBER:,} in absolute value",
            )
        table[index, : len(numbers)] = numbers
    return table


def _fits(numbers: np.ndarray) -> bool:
    """Return whether 32 bits hold the numbers as they are."""
    if numbers.dtype.kind not in "biuf":
        return False
    return bool(((numbers % 1 == 0) & (numbers >= -MOST_NUMBER) & (numbers <= MOST_NUMBER)).all())
