"""Incentives of regimes as columns of a table, or as a table of their own."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cbrl_bayes.behaviour.values import as_frame, listed, real_numbers, text_of, texts
from cbrl_bayes.errors import DataError
from cbrl_bayes.problems import Problem

COLUMN = re.compile(r"(?P<name>.+?)\s*(\[(?P<place>[^\]]+)\])?")
Place = tuple[str, tuple[int, ...]]


def incentive_columns(
    names: list[str], taken: set[str], problem: Problem | None, *, prefixed: bool = True
) -> dict[str, Place]:
    """Return which columns hold incentives: column -> (incentive, position in its array).

    ``incentive_bonus`` is one; so is ``bonus`` where the problem has such an incentive. Of an
    array there is a column for each entry: ``toll[0]``, ``rate[1, 2]`` or, where the problem
    labels the entries, ``toll[north]``. Without a problem the prefix is needed, unless
    ``prefixed`` is False.
    """
    known = () if problem is None else tuple(problem.incentive.labels)
    found = {}
    for column in names:
        match = COLUMN.fullmatch(column)
        if column in taken or match is None:
            continue
        name = match["name"]
        if name not in known:
            if not name.startswith("incentive_") and (prefixed or problem is not None):
                continue
            name = name.removeprefix("incentive_")
        if not name:
            continue
        found[column] = (name, _position(name, match["place"], problem))
    return found


def incentives_of_rows(
    frame: pd.DataFrame,
    columns: Mapping[str, Place],
    regime: Sequence[str | None] | None,
    problem: Problem | None,
    missing: frozenset[str],
) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Return each row's regime, and the incentives of every regime.

    Parameters
    ----------
    frame : pandas.DataFrame
    columns : mapping
        From `incentive_columns`.
    regime : list of str, optional
        Regime of each row. Default: rows of one incentive make a regime, named by it.
    problem : Problem, optional
        For the shapes.
    missing : frozenset of str
        Texts that stand for an empty cell.
    """
    values = np.stack([real_numbers(frame, column, missing) for column in columns], axis=-1)
    kinds, kind_of = np.unique(values, axis=0, return_inverse=True)
    if regime is None:
        named = _named(kinds, columns)
        regime = [named[kind] for kind in kind_of.ravel()]
    of_regime: dict[str, set[int]] = {}
    for name, kind in zip(regime, kind_of.ravel().tolist(), strict=True):
        of_regime.setdefault(name or "", set()).add(kind)
    mixed = [name for name, found in of_regime.items() if len(found) > 1]
    if mixed:
        rows = [dict(zip(columns, kinds[k].tolist(), strict=True)) for k in of_regime[mixed[0]]]
        raise DataError(
            f"regimes have more than one incentive: {listed(mixed)}",
            received=f"in {mixed[0]!r}: {listed(rows)}",
            remedy="a regime for each incentive; without the column regime they are made",
        )
    shapes = {} if problem is None else problem.incentive.shapes
    stated = {
        name: _arrays(kinds[found.pop()], columns, shapes) for name, found in of_regime.items()
    }
    return [name or "" for name in regime], stated


def incentives_of_table(
    table: Any, problem: Problem | None, missing: frozenset[str]
) -> dict[str, dict[str, Any]]:
    """Return the incentives of a table with a column ``regime`` and columns of incentives."""
    frame = as_frame(table, "incentives")
    columns = incentive_columns(list(frame.columns), {"regime"}, problem, prefixed=False)
    if "regime" not in frame or not columns or not frame.columns.is_unique:
        raise DataError(
            "the table of incentives cannot be used",
            received=list(frame.columns),
            accepted="a column regime and a column for each incentive"
            + ("" if problem is None else f": {', '.join(problem.incentive.labels)}"),
        )
    unread = [name for name in frame.columns if name != "regime" and name not in columns]
    if unread:
        raise DataError(
            "the table of incentives has unknown columns",
            received=unread,
            accepted=", ".join(() if problem is None else problem.incentive.labels),
        )
    regime = texts(frame, "regime", missing)
    if None in regime:
        raise DataError("the table of incentives has an empty cell in column 'regime'")
    return incentives_of_rows(frame, columns, regime, problem, missing)[1]


def keyed_by_regime(incentives: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a mapping whose keys are regimes as text, as cells of a table are."""
    return {text_of(regime) or "": stated for regime, stated in incentives.items()}


def _position(name: str, place: str | None, problem: Problem | None) -> tuple[int, ...]:
    if place is None:
        return ()
    labels = None if problem is None else problem.incentive.labels.get(name)
    found = []
    for axis, part in enumerate(part.strip() for part in place.split(",")):
        if part.isdecimal():
            found.append(int(part))
            continue
        coords = [] if labels is None else list(labels.coords.values())
        axes = () if labels is None else labels.dims[axis : axis + 1]
        values = [list(map(str, v)) for dims, v in coords if dims == axes and part in map(str, v)]
        if not values:
            raise DataError(
                f"column '{name}[{place}]' names no entry of incentive {name!r}",
                received=part,
                accepted="positions from 0, or labels of the entries",
            )
        found.append(values[0].index(part))
    return tuple(found)


def _arrays(
    row: np.ndarray, columns: Mapping[str, Place], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Put the numbers of one regime into the arrays of its incentives."""
    entries: dict[str, dict[tuple[int, ...], float]] = {}
    for (name, place), value in zip(columns.values(), row.tolist(), strict=True):
        entries.setdefault(name, {})[place] = value
    arrays = {}
    for name, given in entries.items():
        if len({len(place) for place in given}) > 1:
            raise DataError(f"columns of incentive {name!r} do not fit each other")
        largest = tuple(max(place[axis] for place in given) + 1 for axis in range(len(min(given))))
        shape = shapes.get(name, largest)
        outside = [
            place
            for place in given
            if len(place) != len(shape) or any(i >= n for i, n in zip(place, shape, strict=True))
        ]
        if outside or len(given) != np.prod(shape, dtype=float):
            raise DataError(
                f"the columns of incentive {name!r} are not its entries",
                received=listed([f"{name}{list(place) or ''}" for place in outside or given]),
                accepted=f"one column for each entry of an array of shape {shape}",
            )
        array = np.zeros(shape)
        for place, value in given.items():
            array[place] = value
        arrays[name] = array
    return arrays


def _named(kinds: np.ndarray, columns: Mapping[str, Place]) -> list[str]:
    """Name regimes by their incentives, in as few digits as tell them apart."""
    labels = [column.removeprefix("incentive_") for column in columns]
    for digits in (6, 12, 17):
        names = [
            ", ".join(
                f"{label}={value:.{digits}g}" for label, value in zip(labels, row, strict=True)
            )
            for row in kinds.tolist()
        ]
        if len(set(names)) == len(names):
            break
    return names
