"""Drawings: cells and intervals as SVG that can be pointed at, and figures as they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.plots import ColourScale, inline_figure, marks_in_words, sequential_colours
from cbrl_bayes.reports.parts import Bars, GridMap, Mark, Part, Picture, Row, Text
from cbrl_bayes.reports.tables import Spread, number
from cbrl_bayes.results.names import marks_of

CELL = 34.0
LEFT, RIGHT, ROW_HEIGHT, TOP = 230.0, 690.0, 26.0, 8.0
NUM_SCALE = 24


@dataclass(frozen=True)
class Line:
    """What one line of an interval chart shows.

    Attributes
    ----------
    name, tip : str
        Beside the line, and when it is pointed at.
    spread : Spread
        Of its draws.
    colour : str
    option : int or None
        The design it is about.
    diamond : float or None
        A single value shown as a diamond.
    """

    name: str
    tip: str
    spread: Spread
    colour: str
    option: int | None = None
    diamond: float | None = None


def picture(draw: Callable[[], Any], words: str, caption: str) -> list[Part]:
    """Return a figure of the package, or say why there is none.

    Parameters
    ----------
    draw : callable
        Draws and returns the figure.
    words : str
        For those who do not see it.
    caption : str
    """
    try:
        return [Picture(inline_figure(draw), words, caption)]
    except InvalidInputError as error:  # there is nothing such a figure could show
        return [Text(f"{caption}: no figure ({error})", "note")]


def grid_map(
    values: xr.DataArray, tips: Sequence[str], shades: ColourScale, title: str, caption: str
) -> GridMap:
    """Lay out one value per cell on rows and columns.

    Parameters
    ----------
    values : DataArray, one axis
        With coordinates ``row`` and ``column``.
    tips : sequence of str
        What each cell says.
    shades : ColourScale
        Where all cells are equal there is no scale, and the caption says so.
    title : str
        Quantity and unit, beside the scale.
    caption : str
    """
    rows, columns = values["row"].values, values["column"].values
    ys = {row: CELL * i for i, row in enumerate(np.arange(rows.min(), rows.max() + 1))}
    xs = {col: CELL * i for i, col in enumerate(np.arange(columns.min(), columns.max() + 1))}
    bounds = shades.low, shades.high
    fills = sequential_colours(values.values, *bounds, is_log=shades.is_log)
    marks = [
        Mark(xs[column], ys[row], CELL - 1, CELL - 1, fill, tip)
        for row, column, fill, tip in zip(rows, columns, fills, tips, strict=True)
    ]
    height = CELL * len(ys)
    steps = sequential_colours(shades.values(NUM_SCALE)[::-1], *bounds, is_log=shades.is_log)
    scale = [(height * i / NUM_SCALE, fill) for i, fill in enumerate(steps)]
    if shades.all_equal:
        scale, caption = [], f"{caption}. All cells: {number(bounds[1])}"
    marks_at = marks_of(values)
    words = filter(None, [caption, shades.words.capitalize(), marks_in_words(marks_at)])
    caption = ". ".join(words)
    return GridMap(
        caption,
        str(values.name or ""),
        CELL * len(xs),
        height,
        marks,
        [(y + 0.65 * CELL, str(row)) for row, y in ys.items()],
        [(x + 0.5 * CELL, str(column)) for column, x in xs.items()],
        scale,
        ("", "") if shades.all_equal else (number(bounds[1]), number(bounds[0])),
        "" if shades.all_equal else title,
        [
            (xs[columns[at]] + 0.5 * CELL, ys[rows[at]] + 0.65 * CELL, name[:1].upper())
            for name, at in marks_at
        ],
    )


def interval_bars(lines: Sequence[Line], axis: str, caption: str) -> Bars:
    """Lay out mean, inner and outer interval of each line's draws.

    Parameters
    ----------
    lines : sequence of Line
    axis : str
        Quantity and unit.
    caption : str
    """
    found = [
        (*line.spread.outer, *line.spread.inner, line.spread.mean)
        if np.isfinite(line.spread.mean)
        else None
        for line in lines
    ]
    known = [value for summary in found if summary for value in summary]
    known += [line.diamond for line in lines if line.diamond is not None]
    finite = [value for value in known if np.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    room = 0.04 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - room, high + room

    def place(value: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * (value - low) / (high - low), 2)

    rows = []
    for index, (line, summary) in enumerate(zip(lines, found, strict=True)):
        at = [place(value) for value in summary] if summary else None
        diamond = line.diamond
        rows.append(
            Row(
                line.name,
                TOP + ROW_HEIGHT * (index + 0.5),
                (at[0], at[1]) if at else None,
                (at[2], at[3]) if at else None,
                at[4] if at else None,
                line.colour,
                line.tip,
                place(diamond) if diamond is not None and np.isfinite(diamond) else None,
                line.option,
            )
        )
    height = TOP + ROW_HEIGHT * len(lines)
    ticks = [(place(float(value)), text) for value, text in _ticks(low, high)]
    return Bars(caption, height, axis, ticks, rows)


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return about five round numbers between the bounds, with digits that tell them apart."""
    rough = (high - low) / 4.0
    unit = 10.0 ** np.floor(np.log10(rough))
    step = unit * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * unit >= rough)
    first = np.ceil(low / step)
    values = (first + np.arange(int(np.floor(high / step) - first) + 1)) * step
    digits = int(np.log10(max(abs(low), abs(high)) / unit)) + 2 + (step / unit == 2.5)
    return [(value, f"{value:.{max(digits, 1)}g}") for value in values.tolist()]
