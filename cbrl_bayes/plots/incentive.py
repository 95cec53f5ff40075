"""The figure of incentives: what each design pays, and how sure that is."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from cbrl_bayes.plots.gate import gated
from cbrl_bayes.plots.inline import design_colours
from cbrl_bayes.plots.maps import draw_map, lies_on_map, marks_in_words
from cbrl_bayes.plots.scale import colour_scale
from cbrl_bayes.plots.style import COLOURS, density, few_ticks, named_rows, wrapped
from cbrl_bayes.results.names import (
    BEST_PER_DRAW,
    design_title,
    incentive_arrays,
    marks_of,
    place_name,
)

MOST_ROWS, MOST_ARRAYS, PER_LINE = 30, 6, 3


@gated("design", "design(problem, fit, key=...) first")
def plot_incentive(study: xr.DataTree, *, prob: float = 0.9, accept_failed: bool = False) -> Figure:
    """Draw the incentive with its uncertainty beside it.

    Single numbers: the distribution of the best per draw, and each design as a line. On a grid
    (coordinates ``row`` and ``column``): the common design, the mean of the best per draw, and the
    width of their equal-tailed interval; letters mark the places that the problem names. Other
    arrays: for every entry, by its label, the best per draw with its interval and each design as a
    dash; of more than 30 entries the largest.

    Parameters
    ----------
    study : xarray.DataTree
        From `design`.
    prob : float
        Probability of the interval, in (0, 1).
    accept_failed : bool
        Draw the numbers although the study FAILED its checks.
    """
    design, decision = study["design"].to_dataset(), study["decision"].to_dataset()
    names = incentive_arrays(design)[:MOST_ARRAYS]
    numbers = [name for name in names if design[name].ndim == 2]
    arrays = [name for name in names if name not in numbers]
    numbered = [numbers[at : at + PER_LINE] for at in range(0, len(numbers), PER_LINE)]
    heights = [3.6] * len(numbered) + [_height(decision[name]) for name in arrays]
    wide = any(_is_map(decision[name]) for name in arrays)
    width = 13.0 if wide else max([8.0] * bool(arrays) + [5.4 * len(line) for line in numbered])
    figure = plt.figure(figsize=(width, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, line in zip(parts, numbered, strict=False):
        axes = part.subplots(1, len(line), squeeze=False)[0]
        for panel, name in zip(axes, line, strict=True):
            _number(panel, design[name], decision[name])
        part.legend(
            *axes[0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=3,
            fontsize="small",
        )
    for part, name in zip(parts[len(numbered) :], arrays, strict=True):
        draw = _maps if _is_map(decision[name]) else _entries
        draw(part, design[name], decision[name], prob)
    return figure


def _is_map(array: xr.DataArray) -> bool:
    rest = [str(dim) for dim in array.dims if dim != "design"]
    return len(rest) == 1 and lies_on_map(array, rest[0])


def _height(array: xr.DataArray) -> float:
    entries = array.isel(design=0).size
    return 4.4 if _is_map(array) else 1.7 + 0.3 * min(entries, MOST_ROWS)


def _number(panel: Axes, draws: xr.DataArray, values: xr.DataArray) -> None:
    """Draw the best per draw, and each design as a line of its own kind."""
    density(panel, draws, COLOURS["own"], BEST_PER_DRAW)
    names = list(map(str, values["design"].values))
    colours, kinds = design_colours(names), ("-", "--", ":", "-.")
    for number, name in enumerate(names):
        panel.axvline(
            float(values.sel(design=name)),
            color=colours[name],
            label=wrapped(design_title(name), 40),
            linestyle=kinds[number % len(kinds)],
        )
    panel.set_xlabel(wrapped(_title(draws)))
    panel.set_ylabel("density over posterior draws")
    few_ticks(panel)


def _maps(part: FigureBase, draws: xr.DataArray, designs: xr.DataArray, prob: float) -> None:
    tail = (1.0 - prob) / 2.0
    common = designs.isel(design=0, drop=True)
    over = ("chain", "draw")
    mean = draws.mean(over)
    width = draws.quantile(1 - tail, over) - draws.quantile(tail, over)
    shared = colour_scale(common.values, mean.values)
    panels = (
        (design_title(str(designs["design"].values[0])), common, shared),
        (f"{BEST_PER_DRAW}, mean", mean, shared),
        (
            f"{BEST_PER_DRAW}, width of the {100 * prob:g} % interval",
            width,
            colour_scale(width.values),
        ),
    )
    for panel, (title, values, scale) in zip(part.subplots(1, 3), panels, strict=True):
        image = draw_map(panel, common, values.values, scale.norm)
        title = wrapped(title, 30)
        panel.set_title(title, fontsize="medium")
        unit = str(draws.attrs.get("units", ""))
        if np.ptp(values.values) <= 1e-9 * np.abs(values.values).max():
            panel.set_title(f"{title}\nall cells: {float(values[0]):.3g} {unit}", fontsize="medium")
        if scale.all_equal:
            continue
        words = f"{_title(draws)}\n{scale.words}" if scale.is_log else _title(draws)
        part.colorbar(image, ax=panel, shrink=0.85, label=words)
    if marks_of(common):
        part.supxlabel(marks_in_words(marks_of(common)), fontsize="small")


def _entries(part: FigureBase, draws: xr.DataArray, designs: xr.DataArray, prob: float) -> None:
    """Draw every entry of an array: median and interval of the best per draw, and each design."""
    tail = (1.0 - prob) / 2.0
    rest = [dim for dim in designs.dims if dim != "design"]
    one = designs.isel(design=0, drop=True).transpose(*rest)
    flat = draws.transpose("chain", "draw", *rest).values.reshape(-1, one.size)
    values = designs.transpose("design", *rest).values.reshape(-1, one.size)
    size = np.nan_to_num(np.abs(values)).max(0)
    shown = np.sort(np.argsort(-size, kind="stable")[:MOST_ROWS])
    low, middle, high = np.nanquantile(flat[:, shown], [tail, 0.5, 1.0 - tail], axis=0)
    panel, place = part.subplots(), np.arange(shown.size)
    panel.errorbar(
        middle,
        place,
        xerr=[middle - low, high - middle],
        fmt="o",
        color=COLOURS["own"],
        label=f"{BEST_PER_DRAW}, median and {100 * prob:g} % interval",
    )
    names = list(map(str, designs["design"].values))
    colours = design_colours(names)
    for name, row in zip(names, values[:, shown], strict=True):
        panel.scatter(
            row,
            place,
            marker="|",
            s=120,
            color=colours[name],
            label=wrapped(design_title(name), 40),
            zorder=3,
        )
    labels = [place_name(one, np.unravel_index(at, one.shape)) for at in shown]
    named_rows(panel, labels)
    left = one.size - shown.size
    panel.set_xlabel(
        wrapped(_title(draws) + (f"; {left} smaller entries not shown" if left else ""), 70)
    )
    few_ticks(panel)
    part.legend(
        *panel.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small"
    )


def _title(array: xr.DataArray) -> str:
    unit = array.attrs.get("units", "")
    return f"{array.attrs.get('long_name', array.name)}" + (f" [{unit}]" if unit else "")
