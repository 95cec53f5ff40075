"""Figures of calibration: ranks against uniformity, coverage against its binomial band."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from arviz_stats.ecdf_utils import ecdf_pit
from matplotlib.figure import Figure

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.plots.style import COLOURS
from cbrl_bayes.results import Table

PER_ROW = 3
KINDS = {
    "optimal objective": ("optimal objective", "own", "o"),
    "incentive": ("optimal incentive, each coordinate", "baseline", "s"),
    "objective of the common design, draws held out": (
        "objective of the common design",
        "common",
        "D",
    ),
    "regret of the common design, draws held out": ("regret of the common design", "plug_in", "^"),
}
"""Rows of `decision_coverage` that are drawn: label, colour, marker."""


def plot_ranks(
    calibrations: Mapping[str, xr.Dataset], *, prob: float = 0.99, num_simulations: int = 2000
) -> Figure:
    """Draw how far the ranks of each quantity are from uniform, one panel per model.

    Lines: the empirical distribution of the fractional ranks less that of a uniform number. Band:
    where the whole line of one quantity stays with probability ``prob`` if inference is right
    (Säilynoja, Bürkner, Vehtari, *Statistics and Computing* 32, 2022; computed by arviz-stats from
    ``num_simulations`` samples). A line that rises on the left and falls on the right is of a
    posterior that is too narrow; one that stays on one side, of one that is biased.

    Parameters
    ----------
    calibrations : mapping
        Title -> dataset from `calibrate_inference`.
    prob : float
        Of the band, for one quantity.
    num_simulations : int
        Random samples for the band.
    """
    if not calibrations:
        raise InvalidInputError("there are no calibrations to draw", accepted="at least one")
    columns = min(PER_ROW, len(calibrations))
    rows = -(-len(calibrations) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.7 * columns, 3.0 * rows), squeeze=False, layout="constrained"
    )
    for panel in axes.ravel()[len(calibrations) :]:
        panel.axis("off")
    for panel, (title, one) in zip(axes.ravel(), calibrations.items(), strict=False):
        table = one["fractional_rank"].transpose("quantity", "data_set").values
        ranks = [row[np.isfinite(row)] for row in table]
        longest = max(ranks, key=len)
        x, _, low, high = ecdf_pit(longest, prob, num_simulations)
        panel.fill_between(
            x,
            low - x,
            high - x,
            step="post",
            color=COLOURS["prior"],
            alpha=0.3,
            linewidth=0,
            label=f"{100 * prob:g} % of uniform ranks",
        )
        for name, row in zip(one["quantity"].values, ranks, strict=True):
            inner = str(name) == "log_likelihood"
            grid = np.concatenate([[0.0], np.sort(row), [1.0]])
            height = np.concatenate([[0.0], np.arange(1, len(row) + 1) / len(row), [1.0]]) - grid
            panel.plot(
                grid,
                height,
                color=COLOURS["common" if inner else "own"],
                linewidth=1.0,
                alpha=1.0 if inner else 0.6,
                label="log-likelihood" if inner else "parameters",
            )
        panel.axhline(0.0, color=COLOURS["data"], linewidth=0.6)
        panel.set_title(f"{title} ({one.sizes['data_set']} data sets)", fontsize="medium")
    for panel in axes.ravel()[max(0, len(calibrations) - columns) : len(calibrations)]:
        panel.set_xlabel("rank of the truth, as a share of the draws")
    for panel in axes[:, 0]:
        panel.set_ylabel("distribution of ranks\nless uniform")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=3)
    return figure


def plot_coverage(tables: Mapping[str, Table]) -> Figure:
    """Draw for every problem which share of intervals held the truth, with binomial bands.

    Parameters
    ----------
    tables : mapping
        Problem -> table from `decision_coverage`. The nominal coverage of the first is drawn as a
        line.
    """
    if not tables:
        raise InvalidInputError("there are no tables to draw", accepted="at least one")
    figure, panel = plt.subplots(figsize=(8.0, 0.75 * len(tables) + 1.6), layout="constrained")
    names, frames = list(tables), {name: table.frame for name, table in tables.items()}
    prob = tables[names[0]].prob or np.nan
    step = 0.8 / len(KINDS)
    for place, name in enumerate(names):
        for number, (start, (label, colour, marker)) in enumerate(KINDS.items()):
            rows = _rows(frames[name], start)
            if rows.empty:
                continue
            height = place + step * (number - (len(KINDS) - 1) / 2)
            panel.fill_betweenx(
                [height - 0.42 * step, height + 0.42 * step],
                (rows["low"] / rows["data_sets"]).min(),
                (rows["high"] / rows["data_sets"]).max(),
                color=COLOURS["prior"],
                alpha=0.35,
                linewidth=0,
                label="binomial band" if place + number == 0 else None,
            )
            panel.scatter(
                rows["share"],
                np.full(len(rows), height),
                color=COLOURS[colour],
                marker=marker,
                s=26,
                alpha=0.8,
                zorder=3,
                label=label if place == 0 else None,
            )
    panel.axvline(prob, color=COLOURS["data"], linewidth=0.8, linestyle="--")
    panel.set_yticks(
        range(len(names)),
        [f"{name}\n({int(frames[name]['data_sets'].max())} data sets)" for name in names],
    )
    panel.invert_yaxis()
    panel.set_xlim(right=1.02)
    panel.set_xlabel(f"share of {100 * prob:g} % intervals that hold the truth")
    figure.legend(
        *panel.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small"
    )
    return figure


def _rows(table: pd.DataFrame, start: str) -> pd.DataFrame:
    """Pick the row of a name, or all rows of the incentive's coordinates."""
    if start == "incentive":
        return table[table.index.str.startswith("incentive ")]
    return table[table.index == start]
