"""The figure of incentives: what each design pays, and how sure that is."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cbrl_bayes.plots.gate import gated
from cbrl_bayes.plots.inline import design_colours
from cbrl_bayes.plots.style import COLOURS, density, wrapped
from cbrl_bayes.results.names import BEST_PER_DRAW, design_title


@gated("design", "design(problem, fit, key=...) first")
def plot_incentive(study: xr.DataTree, *, prob: float = 0.9, accept_failed: bool = False) -> Figure:
    """Draw the incentive with its uncertainty beside it.

    On a grid (coordinates ``row`` and ``column``): the common design, the mean of the best per
    draw, and the width of their equal-tailed interval. Single numbers: the distribution of the
    best per draw, and each design as a line. Otherwise every entry: the best per draw with its
    interval, and each design as a dash.

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
    names = [
        n for n in map(str, design.data_vars) if n.startswith("incentive") and n != "incentive_cost"
    ]
    first = design[names[0]]
    if {"row", "column"} <= set(first.coords):
        return _maps(first, decision[names[0]].sel(design="common"), prob)
    numbers = [name for name in names if design[name].ndim == 2]
    if not numbers:
        return _entries(first, decision[names[0]], prob)
    figure, axes = plt.subplots(
        1, len(numbers), figsize=(5.4 * len(numbers), 3.6), squeeze=False, layout="constrained"
    )
    for panel, name in zip(axes.ravel(), numbers, strict=True):
        density(panel, design[name], COLOURS["own"], BEST_PER_DRAW)
        _designs_as_lines(panel, decision[name])
        panel.set_xlabel(wrapped(_title(design[name])))
        panel.set_ylabel("density over posterior draws")
    handles, texts = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=3, fontsize="small")
    return figure


def _designs_as_lines(panel: Axes, values: xr.DataArray) -> None:
    """Draw each design as a line of its own kind, so that designs that agree can be told apart."""
    names = list(map(str, values["design"].values))
    colours, kinds = design_colours(names), ("-", "--", ":", "-.")
    for number, name in enumerate(names):
        panel.axvline(
            float(values.sel(design=name)),
            color=colours[name],
            label=design_title(name),
            linestyle=kinds[number % len(kinds)],
        )


def _maps(draws: xr.DataArray, common: xr.DataArray, prob: float) -> Figure:
    tail = (1.0 - prob) / 2.0
    flat = draws.stack(one=("chain", "draw"))
    mean, width = flat.mean("one"), flat.quantile(1 - tail, "one") - flat.quantile(tail, "one")
    shared = float(max(common.max(), mean.max()))
    panels = (
        ("common", common, shared),
        (f"{BEST_PER_DRAW}, mean", mean, shared),
        (f"{BEST_PER_DRAW}, width of the {100 * prob:g} % interval", width, float(width.max())),
    )
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    for panel, (title, values, top) in zip(axes, panels, strict=True):
        rows, columns = values["row"].values, values["column"].values
        grid = np.full((rows.max() + 2, columns.max() + 2), np.nan)
        grid[rows, columns] = values.values
        image = panel.imshow(grid, cmap="viridis", vmin=0.0, vmax=max(top, 1e-12))
        panel.set_facecolor("#d9d9d9")
        panel.set(xlabel="column", ylabel="row")
        panel.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        panel.set_title(title, fontsize="medium")
        figure.colorbar(image, ax=panel, shrink=0.85, label=_title(draws))
    return figure


def _entries(draws: xr.DataArray, designs: xr.DataArray, prob: float) -> Figure:
    """Draw every entry of an array: median and interval of the best per draw, and each design."""
    tail = (1.0 - prob) / 2.0
    flat = draws.stack(one=("chain", "draw")).transpose("one", ...).values
    low, middle, high = np.quantile(flat.reshape(len(flat), -1), [tail, 0.5, 1.0 - tail], axis=0)
    place = np.arange(middle.size)
    figure, panel = plt.subplots(figsize=(max(5.0, 0.25 * middle.size), 3.6), layout="constrained")
    panel.errorbar(
        place,
        middle,
        [middle - low, high - middle],
        fmt="o",
        color=COLOURS["own"],
        label=f"{BEST_PER_DRAW}, median and {100 * prob:g} % interval",
    )
    names = list(map(str, designs["design"].values))
    colours = design_colours(names)
    for name in names:
        values = designs.sel(design=name).values.ravel()
        panel.scatter(
            place, values, marker="_", s=120, color=colours[name], label=design_title(name)
        )
    panel.set_xlabel(f"entry of {draws.attrs.get('long_name', draws.name)}")
    panel.set_ylabel(draws.attrs.get("units", ""))
    panel.legend(fontsize="small")
    return figure


def _title(array: xr.DataArray) -> str:
    unit = array.attrs.get("units", "")
    return f"{array.attrs.get('long_name', array.name)}" + (f" [{unit}]" if unit else "")
