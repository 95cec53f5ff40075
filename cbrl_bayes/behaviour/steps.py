"""Steps of a table: whole numbers, dates or periods; and what a gap between them means."""

import re
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd

from cbrl_bayes.behaviour.values import MOST_NUMBER, MOST_SHOWN, each, text_of, whole_of
from cbrl_bayes.errors import DataError, InvalidInputError

Gaps = Literal["refuse", "split", "join"]
GAPS = ("refuse", "split", "join")
UNITS = {"s": "second", "min": "minute", "h": "hour", "D": "day", "W": "week", "M": "month"} | {
    "Q": "quarter",
    "Y": "year",
}
SECONDS = {
    "s": (1, 1),
    "min": (60, 60),
    "h": (3600, 3600),
    "D": (86_400, 86_400),
    "W": (604_800, 604_800),
    "M": (28 * 86_400, 31 * 86_400),
    "Q": (89 * 86_400, 92 * 86_400),
    "Y": (365 * 86_400, 366 * 86_400),
}
"""Seconds from one date to the next, by unit."""
DATE = re.compile(r"\d{4}-\d{2}(-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?)?")
QUARTER = re.compile(r"\d{4}-?[Qq][1-4]")


def step_numbers(
    frame: pd.DataFrame, episode: np.ndarray, unit: str | None, notes: list[str]
) -> np.ndarray:
    """Read the column of steps as numbers that count up by one.

    Parameters
    ----------
    frame : pandas.DataFrame
        With a column ``step``: whole numbers, dates (ISO text too) or periods.
    episode : int array
        Which episode each row belongs to.
    unit : str, optional
        One of `UNITS`, for dates. Default: the commonest distance within episodes.
    notes : list of str
        Receives the unit.
    """
    if unit is not None and unit not in UNITS:
        raise InvalidInputError(
            "step_unit is unknown",
            received=repr(unit),
            accepted=", ".join(f"{u!r} ({w})" for u, w in UNITS.items()),
        )
    cells = each(frame, "step", _number_or_moment)
    bad = [row for row, cell in enumerate(cells) if cell is None]
    dated = [row for row, cell in enumerate(cells) if isinstance(cell, pd.Timestamp)]
    if not bad and dated and len(dated) < len(cells):
        bad = dated
    too_large = [r for r, c in enumerate(cells) if isinstance(c, int) and abs(c) > MOST_NUMBER]
    if bad or too_large:
        row = (bad or too_large)[0]
        if cells[row] is None and text_of(frame["step"].iloc[row]) is None:
            raise DataError(f"column 'step' is empty in row {frame.index[row]}")
        raise DataError(
            f"column 'step', row {frame.index[row]} is not a whole number",
            received=frame["step"].iloc[row],
            accepted=f"whole numbers, at most {MOST_NUMBER:,} in absolute value; or dates "
            "throughout, as 2020-01-31, 2020-01 or 2020Q1",
        )
    if not dated:
        return np.array(cells, dtype=int)
    moments = pd.DatetimeIndex(cells)
    unit = unit or _unit_of(moments, episode)
    notes.append(f"column 'step': dates are read as {UNITS[unit]}s")
    return np.array([period.ordinal for period in moments.to_period(unit)], dtype=int)


def episode_parts(
    step: np.ndarray, episode: np.ndarray, place: Callable[[int], str], gaps: str, notes: list[str]
) -> np.ndarray:
    """Check that steps count up by one within episodes, rows in order; return the episodes.

    Parameters
    ----------
    step, episode : int arrays
        Sorted by episode, then step.
    place : callable
        What to call a row.
    gaps : {"refuse", "split", "join"}
        What a gap means: a fault; the end of an episode and the start of another; or nothing.
    notes : list of str
        Receives what was done about gaps.

    Returns
    -------
    int array
        The episode of each row, a part of an episode counted as one.
    """
    if gaps not in GAPS:
        raise InvalidInputError(
            "gaps cannot be used", received=repr(gaps), accepted=", ".join(map(repr, GAPS))
        )
    inside = episode[1:] == episode[:-1]
    distance = np.diff(step)
    repeats, holes = inside & (distance == 0), inside & (distance > 1)
    found = []
    for what, where in (("repeats", repeats), ("gaps", holes)):
        if where.any() and (what == "repeats" or gaps == "refuse"):
            rows = np.flatnonzero(where)
            first = ", ".join(place(int(row)) for row in rows[:MOST_SHOWN])
            more = f" and {len(rows) - MOST_SHOWN} more" if len(rows) > MOST_SHOWN else ""
            found.append(f"steps of followers have {what} ({len(rows)}): {first}{more}")
    if found:
        remedy = ["keep one row for each step"] if repeats.any() else []
        if holes.any() and gaps == "refuse":
            remedy.append(
                "gaps='split' if a gap ends an episode and another begins, gaps='join' if "
                "nothing happened in it"
            )
        raise DataError("this table cannot be used: " + "; ".join(found), remedy=remedy)
    if not holes.any():
        return episode
    number = int(holes.sum())
    done = "the next row begins another episode" if gaps == "split" else "the parts are joined"
    notes.append(f"steps have gaps ({number}): {done}")
    return np.concatenate([[0], np.cumsum(~inside | holes)]) if gaps == "split" else episode


def _number_or_moment(value: Any) -> int | pd.Timestamp | None:
    number = whole_of(value)
    if number is not None:
        return number
    if isinstance(value, pd.Period):
        return value.to_timestamp()
    text = text_of(value)
    if text is None:
        return None
    if QUARTER.fullmatch(text):
        return pd.Period(text.replace("-", "")).to_timestamp()
    if not DATE.fullmatch(text):
        return None
    try:
        moment = pd.Timestamp(text)
    except ValueError:
        return None
    return moment if moment.tz is None else moment.tz_convert(None)


def _unit_of(moments: pd.DatetimeIndex, episode: np.ndarray) -> str:
    """Return the unit of the commonest distance between neighbours within episodes."""
    seconds = moments.as_unit("s").asi8
    order = np.lexsort((seconds, episode))
    same = episode[order][1:] == episode[order][:-1]
    distances = np.diff(seconds[order])[same]
    distances = distances[distances > 0]
    if not len(distances):
        return "D"
    shares = {
        unit: float(((distances >= low) & (distances <= high)).mean())
        for unit, (low, high) in SECONDS.items()
    }
    unit = max(shares, key=lambda one: shares[one])
    if shares[unit] < 0.5:
        commonest = pd.Timedelta(int(np.median(distances)), unit="s")
        raise DataError(
            "the dates in column 'step' have no common distance",
            received=f"half of them are at most {commonest} apart",
            remedy="step_unit='D' (or s, min, h, W, M, Q, Y) says what a step is",
        )
    return unit
