"""Tables with a column of periods, for problems whose states carry one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cbrl_bayes.behaviour.labels import positions
from cbrl_bayes.behaviour.values import listed, texts
from cbrl_bayes.errors import DataError
from cbrl_bayes.problems import Problem
from cbrl_bayes.problems.periods import PERIOD, periods_of


def has_periods(frame: pd.DataFrame, problem: Problem) -> bool:
    """Return whether states of the problem carry periods, and the table has a column of them."""
    return bool(periods_of(problem.state_labels)) and {PERIOD, "state"} <= set(frame.columns)


def merge_periods(
    frame: pd.DataFrame, problem: Problem, mapping: Mapping[Any, Any] | None, notes: list[str]
) -> pd.DataFrame:
    """Make one number of the columns ``period`` and ``state``.

    Parameters
    ----------
    frame : pandas.DataFrame
        With columns ``period``, as the problem's labels call it, and ``state``: the place within
        the period, by name or by number.
    problem : Problem
        With periods in its labels.
    mapping : mapping, optional
        Text of a cell of ``state`` -> number or name of a place.
    notes : list of str
        Receives what the reader should know.

    Returns
    -------
    pandas.DataFrame
        With numbers in ``state``, with ``step`` counting the periods where it was not given, and
        without ``period``.
    """
    periods = periods_of(problem.state_labels)
    num_places = problem.num_states // len(periods)
    known = {str(name): number for number, name in enumerate(periods)}
    cells = texts(frame, PERIOD)
    unknown = [row for row, cell in enumerate(cells) if cell not in known]
    if unknown:
        raise DataError(
            f"column 'period', row {frame.index[unknown[0]]} is no period of the problem",
            received=listed([str(cells[row]) for row in unknown]),
            accepted=f"{periods[0]} to {periods[-1]}, {len(periods)} periods",
        )
    named = [
        tuple(values[:num_places])
        for name, (dims, values) in problem.state_labels.coords.items()
        if name != PERIOD and len(dims) == 1 and isinstance(values[0], str)
    ]
    place = positions(frame, "state", problem, mapping, notes, named=named)
    outside = (place < 0) | (place >= num_places)
    if outside.any():
        row = int(outside.argmax())
        raise DataError(
            f"column 'state', row {frame.index[row]} is no place within a period",
            received=int(place[row]),
            accepted=f"0 to {num_places - 1}, beside the column 'period'",
        )
    number = np.array([known[str(cell)] for cell in cells])
    merged = frame.drop(columns=PERIOD)
    merged["state"] = number * num_places + place
    if "step" not in merged:
        merged["step"] = number
        notes.append("no column 'step': it is the number of the period")
    return merged
