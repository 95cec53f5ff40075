"""Columns of a table: which there are, what they are called, and what each episode has of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cbrl_bayes.behaviour.regimes import Place
from cbrl_bayes.behaviour.values import listed, text_of, texts
from cbrl_bayes.errors import DataError
from cbrl_bayes.files import FileLimits, check_size

COLUMNS = {
    "follower",
    "episode",
    "step",
    "state",
    "action",
    "context",
    "regime",
    "group",
    "successor_slot",
    "choice_observed",
    "context_value",
}
PERIOD = "period"
"""Read where the problem's states carry one."""
EPISODE_COLUMNS = ("follower", "group", "context", "regime")


def rename(frame: pd.DataFrame, columns: Mapping[str, str], notes: list[str]) -> None:
    """Give columns the names that the user says, and refuse two of one name."""
    blank = [place for place, name in enumerate(frame.columns) if not name]
    if len(blank) > 1:  # separators at the ends of lines
        frame.columns = [name or f"(no name) {i}" for i, name in enumerate(frame.columns)]
    wanted = {text_of(old) or "": text_of(new) or "" for old, new in columns.items()}
    absent = sorted(set(wanted) - set(frame.columns))
    if absent:
        raise DataError(
            f"columns= names columns that the table does not have: {listed(absent)}",
            received=list(frame.columns),
            accepted="{name in the table: name wanted}",
        )
    frame.columns = [wanted.get(name, name) for name in frame.columns]
    capitals = {name: name.lower() for name in frame.columns if name.lower() in {*COLUMNS, PERIOD}}
    capitals = {name: low for name, low in capitals.items() if low not in set(frame.columns)}
    frame.columns = [capitals.get(name, name) for name in frame.columns]
    notes += [f"column {name!r} is read as {low!r}" for name, low in capitals.items()]
    if not frame.columns.is_unique:
        raise DataError(
            "columns share a name", received=list(frame.columns), accepted="each name once"
        )


def without_foreign(
    frame: pd.DataFrame, places: Mapping[str, Place], notes: list[str]
) -> pd.DataFrame:
    """Leave out columns that mean nothing here, with a note unless they are blank."""
    foreign = [name for name in frame.columns if name not in COLUMNS and name not in places]
    told = [name for name in foreign if any(texts(frame, name))]
    if told:
        notes.append(f"columns are left out: {listed(told, 8)} (columns= gives them a meaning)")
    return frame.drop(columns=foreign)


def columns_are_missing(headers: list[str], names: list[str]) -> DataError:
    """Return the error that names what is missing and what there is."""
    return DataError(
        "columns are missing from the table",
        received=headers,
        accepted=f"columns {', '.join(names)} as well",
        remedy="columns={'name in the table': 'name wanted'}",
    )


def check_padded_size(
    by_step: Mapping[str, np.ndarray],
    by_episode: Mapping[str, Any],
    lengths: np.ndarray,
    limits: FileLimits | None,
) -> None:
    """Episodes are padded to the longest, names to the longest name: refuse before it is done."""
    longest = int(lengths.max()) if len(lengths) else 0
    letters = sum(
        max((len(name) for name in set(by_episode.get(column) or [])), default=0)
        for column in EPISODE_COLUMNS
    )
    check_size(
        "the table, with every episode at the length of the longest,",
        len(lengths) * (longest * 4 * len(by_step) + 4 * letters),
        DataError,
        limits,
    )


def constant_of(name: str, values: list[Any], starts: np.ndarray, names: list[str]) -> list[Any]:
    """Return the value of each episode; raise where it changes within one."""
    codes = pd.factorize(pd.Series(values, dtype=object), use_na_sentinel=False)[0]
    inside = np.ones(len(values), bool)
    inside[starts] = False
    changes = np.flatnonzero((np.diff(codes, prepend=-1) != 0) & inside)
    if len(changes):
        who = dict.fromkeys(names[row] for row in changes)
        raise DataError(
            f"this table cannot be used: {name} of followers changes within an episode "
            "(make each part an episode of its own)",
            received=listed(list(who)),
        )
    return [values[row] for row in starts]
