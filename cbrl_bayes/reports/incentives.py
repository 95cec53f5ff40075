"""The incentive section: what is recommended, and every design's incentive in map, bars, table."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from cbrl_bayes.plots import colour_scale, design_colours, lies_on_map
from cbrl_bayes.reports.charts import Line, grid_map, interval_bars
from cbrl_bayes.reports.parts import Choice, Part, Table, Text
from cbrl_bayes.reports.tables import (
    Spread,
    clipped,
    entry_names,
    inner_probability,
    interval_words,
    number,
    spread,
)
from cbrl_bayes.results.names import BEST_PER_DRAW, incentive_arrays
from cbrl_bayes.results.table import without_dust

OWN = BEST_PER_DRAW
MOST_ARRAYS = 6
MOST_ENTRIES, MOST_SIDE, MOST_BARS = 12, 200, 40
MOST_CELLS = 12_000
"""Cells of all maps of all designs together: a page of some ten megabytes."""

MEANING = {
    "common": "one incentive for all posterior draws: it maximises the mean objective over them",
    "plug-in": "the best incentive if the posterior mean of the parameters were the truth",
    "cvar": "maximises the mean objective over the worst share of draws that its name states",
    "var": "maximises the objective that all but the share of draws in its name exceed",
    "mean_variance": "maximises mean objective less a charge for its variance",
    "worst_case": "maximises the smallest objective over the credible set of draws",
    "minimax_regret": "minimises the largest regret over the draws",
    OWN: "the best incentive if one draw were the truth; shown is the mean over draws",
}


def kept_constraints(decision: xr.Dataset) -> np.ndarray:
    """Tell which designs keep the chance constraints; all do where there are none."""
    if "feasible" not in decision:
        return np.ones(decision.sizes["design"], bool)
    return np.asarray(decision["feasible"].values == 1)


def incentive_parts(
    design: xr.Dataset, decision: xr.Dataset, names: tuple[str, ...], prob: float
) -> list[Part]:
    """Return which incentive is recommended, and every design's incentive beside the best per draw.

    Parameters
    ----------
    design, decision : xarray.Dataset
        The groups of the tree.
    names : tuple of str
        Of the designs in ``decision``, then `OWN`.
    prob : float
        Probability of the intervals.
    """
    arrays = incentive_arrays(decision)
    shown = arrays[:MOST_ARRAYS]
    most = MOST_CELLS // (max(len(shown), 1) * len(names))
    found = [_entries(design[name], decision[name], most, prob) for name in shown]
    kept = kept_constraints(decision)
    options: list[list[Part]] = []
    for index, name in enumerate(names):
        breaks = index < len(kept) and not kept[index]
        words = " It does not keep the chance constraints." if breaks else ""
        drawn = [
            _drawn(entries, array, index, name, prob)
            for entries, array in zip(found, shown, strict=True)
        ]
        options.append([Text(f"{name}: {_meaning(name)}.{words}", "note"), *drawn])
    tables = [part for entries in found for part in _table(entries, names, prob).condensed()]
    if len(shown) < len(arrays):
        tables.append(Text(f"{len(arrays) - len(shown)} more arrays are in the file.", "note"))
    return [*_recommended(names, kept), Choice(options), *tables]


@dataclass(frozen=True)
class _Entries:
    """The entries of an incentive array that are shown, each computed once for all designs.

    Attributes
    ----------
    title, unit : str
        The title has the unit too.
    labels, spreads : lists
        Name of each entry, and the spread of the best per draw.
    values : array, shape (designs + 1, entries)
        Of each design; last the mean of the best per draw.
    order : list of int
        Places of the entries, largest first (in the design where an entry is largest).
    total : int
        Entries of the array.
    cells : DataArray or None
        For a map, its entries with their rows and columns.
    """

    title: str
    unit: str
    labels: list[str]
    spreads: list[Spread]
    values: np.ndarray
    order: list[int]
    total: int
    cells: xr.DataArray | None


def _entries(own: xr.DataArray, fixed: xr.DataArray, most_cells: int, prob: float) -> _Entries:
    rest = [str(dim) for dim in fixed.dims if dim != "design"]
    own, fixed = own.transpose("chain", "draw", *rest), fixed.transpose("design", *rest)
    one = fixed.isel(design=0, drop=True)
    draws = own.values.reshape(-1, one.size)
    values = without_dust(fixed.values.reshape(-1, one.size))
    scale = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    drawn = _is_map(one, most_cells)
    largest = np.argsort(-np.nan_to_num(np.abs(values)).max(0), kind="stable")
    at = np.arange(one.size) if drawn else np.sort(largest[:MOST_BARS])
    spreads = [spread(draws[:, i], prob, scale) for i in at]
    means = np.array([found.mean for found in spreads])
    title = clipped(fixed.attrs.get("long_name") or fixed.name)
    unit = clipped(fixed.attrs.get("units") or "")
    return _Entries(
        title + (f" [{unit}]" if unit else ""),
        unit,
        [name or title for name in entry_names(one, at)],
        spreads,
        np.vstack([values[:, at], means]),
        np.searchsorted(at, largest[:MOST_BARS]).tolist(),
        one.size,
        one if drawn else None,
    )


def _recommended(names: tuple[str, ...], kept: np.ndarray) -> list[Part]:
    """Say which design is recommended: the common one, unless it breaks a constraint."""
    about = Text(
        "The intervals say how far the best incentive of a single posterior draw may lie "
        "from it. They show what is not known about the followers, not what to pay."
    )
    if kept[0]:
        return [Text(f"The recommended incentive is the {names[0]} design. {about.text}")]
    others = ", ".join(name for name, keeps in zip(names[:-1], kept, strict=True) if keeps)
    words = (
        f"Designs that keep all of them: {others}."
        if others
        else "No design shown here keeps all of them."
    )
    return [
        Text(
            f"The {names[0]} design does not keep the chance constraints. It is not recommended. "
            f"{words}",
            "warning",
        ),
        Text(about.text.replace("from it", "from a design")),
    ]


def _table(entries: _Entries, names: tuple[str, ...], prob: float) -> Table:
    """Return the largest entries under every design."""
    rows = [
        (
            entries.labels[i],
            *map(number, entries.values[:, i].tolist()),
            entries.spreads[i].bounds,
            entries.spreads[i].loss,
        )
        for i in sorted(entries.order[:MOST_ENTRIES])
    ]
    cut = len(rows) < entries.total
    head = ("entry", *names[:-1], f"{OWN}, mean", f"{OWN}, {interval_words(prob)}", "left out")
    more = f"; the {len(rows)} largest of {entries.total} entries" if cut else ""
    return Table(entries.title + more, head, rows).without_empty_columns()


def _drawn(entries: _Entries, array: str, index: int, name: str, prob: float) -> Part:
    chosen, unit = entries.values[index], entries.unit
    tips = [
        f"{label}: {number(float(value))} {unit} in this design; {OWN}: mean "
        f"{number(found.mean)}, {interval_words(prob)} {found.bounds} {unit}"
        + (f"; {found.loss}" if found.lost else "")
        for label, value, found in zip(entries.labels, chosen, entries.spreads, strict=True)
    ]
    caption = f"{entries.title}, design: {name}"
    if entries.cells is not None:
        cells = entries.cells.copy(data=chosen).rename(array)
        return grid_map(cells, tips, colour_scale(entries.values), entries.title, caption)
    colour = design_colours([OWN])[OWN]
    lines = [
        Line(label, tip, found, colour, diamond=float(value))
        for label, tip, found, value in zip(
            entries.labels, tips, entries.spreads, chosen, strict=True
        )
    ]
    inside = 100 * inner_probability(prob)
    caption += (
        f". Diamond: the design; dot and lines: mean, {inside:g} % and {100 * prob:g} % "
        f"equal-tailed intervals of the {OWN}"
    )
    if len(lines) < entries.total:
        caption += f". The {len(lines)} largest of {entries.total} entries"
    return interval_bars(lines, entries.title, caption)


def _is_map(array: xr.DataArray, most_cells: int) -> bool:
    """Tell whether an array lies on rows and columns, few enough to draw."""
    if array.ndim != 1 or not 0 < array.size <= most_cells:
        return False
    return lies_on_map(array, str(array.dims[0]), MOST_SIDE)


def _meaning(name: str) -> str:
    stem = name.rstrip("0123456789.").rstrip("_")
    return MEANING.get(name) or MEANING.get(stem) or "a further design; see the file"
