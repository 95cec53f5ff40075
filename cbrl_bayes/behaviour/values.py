"""Cells of a table: text that stays text, whole numbers that fit, and nothing else."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from cbrl_bayes.behaviour.schema import MOST_NUMBER
from cbrl_bayes.errors import DataError, require_kind

MOST_SHOWN = 3
EXACT = 2**53
"""Whole numbers from here on are no longer exact as floating-point numbers."""
YES = {"yes": 1, "y": 1, "true": 1, "t": 1, "no": 0, "n": 0, "false": 0, "f": 0}
BOTH = {"true", "false", "1", "0", "yes", "no", "y", "n", "t", "f"}


def as_frame(table: Any, name: str = "table") -> pd.DataFrame:
    """Return a pandas table of a pandas, polars or Arrow one; headers without blanks.

    An index with names becomes columns.

    Columns of polars and Arrow come as Python values, so that whole numbers beside an empty
    cell stay whole.
    """
    if hasattr(table, "collect") and not hasattr(table, "to_dict"):  # polars, lazy
        table = table.collect()
    if hasattr(table, "to_native"):  # narwhals
        table = table.to_native()
    if isinstance(table, pd.DataFrame):
        named = [level for level in table.index.names if level is not None]
        whole = len(named) == table.index.nlevels and not set(named) & set(table.columns)
        frame = table.reset_index() if whole else table.copy(deep=False)
    elif hasattr(table, "to_pydict"):  # Arrow
        frame = pd.DataFrame(table.to_pydict(), dtype=object)
    elif type(table).__module__.startswith("polars") and hasattr(table, "get_columns"):
        frame = pd.DataFrame({one.name: one.to_list() for one in table.get_columns()}, dtype=object)
    else:
        remedy = "cb.load_trajectories(path) for a file; pd.DataFrame(...) of other tables"
        require_kind(table, pd.DataFrame, name, remedy)
    frame.columns = [
        text_of(name.removeprefix("\ufeff") if isinstance(name, str) else name) or ""
        for name in frame.columns
    ]
    return frame


def text_of(value: Any) -> str | None:
    """Return a cell as text, blanks around it stripped; None where it is empty.

    Examples
    --------
    >>> text_of(" 007 "), text_of(b"NA"), text_of(1.0), text_of(float("nan"))
    ('007', 'NA', '1', None)
    """
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, str):
        if "\0" in value:  # arrays of text would lose it
            raise DataError("a cell has the sign 0 in its text", received=repr(str(value)[:40]))
        return str(value).strip() or None
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, bool | np.bool_ | int | np.integer | pd.Period):
        return str(value)
    if isinstance(value, float | np.floating):
        return None if np.isnan(value) else _float_text(float(value))
    if isinstance(value, pd.Timestamp | datetime.datetime | np.datetime64):
        moment = pd.Timestamp(value)
        return str(moment.date() if moment == moment.normalize() else moment)
    if isinstance(value, datetime.date | datetime.time | pd.Timedelta | Decimal):
        return str(value)
    raise DataError(
        "a cell holds neither text nor a number",
        received=f"{type(value).__name__} {value!s:.40}",
        accepted="text, numbers, truth values, dates",
    )


def whole_of(value: Any) -> int | None:
    """Return a cell as a whole number; None where it is none, or where digits may be lost.

    Examples
    --------
    >>> whole_of("12"), whole_of(3.0), whole_of("1e3"), whole_of(0.7), whole_of("x")
    (12, 3, 1000, None, None)
    """
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        value = value.strip()
        if value.lstrip("+-").isdecimal():
            return int(value) if len(value) < 30 else None
        if "_" in value:  # Python reads 1_0 as 10
            return None
    if not isinstance(
        value, str | bool | np.bool_ | int | np.integer | float | np.floating | Decimal
    ):
        return None
    if isinstance(value, int | np.integer | bool | np.bool_):
        return int(value)
    try:
        number = float(value)
    except ValueError:
        return None
    return int(number) if number % 1 == 0 and abs(number) < EXACT else None


def texts(
    frame: pd.DataFrame, name: str, missing: frozenset[str] = frozenset()
) -> list[str | None]:
    """Return a column as text; None where a cell is empty or stands for missing."""
    return each(frame, name, lambda value: None if (t := text_of(value)) in missing else t)


def each(frame: pd.DataFrame, name: str, convert: Callable[[Any], Any]) -> list[Any]:
    """Convert every cell of a column, each distinct one once."""
    known: dict[tuple, Any] = {}

    def once(value: Any) -> Any:
        key = (type(value), value)
        try:
            if key not in known:
                known[key] = convert(value)
        except TypeError:  # no key of a dictionary
            return convert(value)
        return known[key]

    column = []
    for row, value in enumerate(frame[name].astype(object)):
        try:
            column.append(once(value))
        except (DataError, ValueError) as error:
            raise DataError(f"column {name!r}, row {frame.index[row]}: {error}") from error
    return column


def whole_numbers(
    frame: pd.DataFrame, name: str, empty: int | None = None, missing: frozenset[str] = frozenset()
) -> np.ndarray:
    """Return a column as whole numbers of 32 bits; ``empty`` stands for empty cells."""

    def convert(value: Any) -> int | None:
        text = text_of(value)
        number = empty if text is None or text in missing else whole_of(value)
        return None if number is None or abs(number) > MOST_NUMBER else number

    accepted = f"whole numbers, at most {MOST_NUMBER:,} in absolute value"
    return np.array(_all(frame, name, convert, "not a whole number", accepted), dtype=int)


def real_numbers(frame: pd.DataFrame, name: str, missing: frozenset[str]) -> np.ndarray:
    """Return a column as finite numbers; none may be empty."""

    def convert(value: Any) -> float | None:
        text = text_of(value)
        try:
            number = float("nan" if text is None or text in missing or "_" in text else text)
        except ValueError:
            return None
        return number if np.isfinite(number) else None

    return np.array(_all(frame, name, convert, "not a finite number"), dtype=float)


def truths(frame: pd.DataFrame, name: str) -> np.ndarray:
    """Return a column of true and false, in any of the usual words."""

    def convert(value: Any) -> bool | None:
        word = (text_of(value) or "").lower()
        return bool(YES.get(word, word == "1")) if word in BOTH else None

    return np.array(_all(frame, name, convert, "neither true nor false"), dtype=bool)


def _all(
    frame: pd.DataFrame, name: str, convert: Callable[[Any], Any], fault: str, accepted: str = ""
) -> list[Any]:
    """Convert every cell of a column; refuse the column where one becomes None."""
    values = each(frame, name, convert)
    bad = [row for row, value in enumerate(values) if value is None]
    if bad:
        raise DataError(
            f"column {name!r}, row {frame.index[bad[0]]} is {fault}",
            received=listed([frame[name].iloc[row] for row in bad]),
            accepted=accepted,
        )
    return values


def listed(items: Sequence[Any], most: int = MOST_SHOWN) -> str:
    """Word the first few items and say how many there are."""
    shown = ", ".join(repr(item) if isinstance(item, str) else str(item) for item in items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"


def keyed_by_text(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a mapping from what a user wrote, its keys as the text of a cell."""
    return {text_of(key) or "": value for key, value in mapping.items()}


def _float_text(value: float) -> str:
    """Write a number; without a fraction as a whole one, as pandas has it beside empty cells."""
    if value % 1 == 0:
        if abs(value) >= EXACT:
            raise DataError(
                "a number of this size has lost its last digits",
                received=value,
                remedy="read the column as text (dtype=str)",
            )
        return str(int(value))
    return repr(value)
