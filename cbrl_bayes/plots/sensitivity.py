"""Figures of what would change a decision: prior, parameters, stresses, follower models."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from scipy.stats import norm

from cbrl_bayes.plots.gate import gated
from cbrl_bayes.plots.inline import design_colours
from cbrl_bayes.plots.style import COLOURS, few_ticks, named_rows, wrapped
from cbrl_bayes.results import check_interval, design_title, need_group
from cbrl_bayes.sensitivity.prior import COMPONENTS, THRESHOLD

MOST_OUTPUTS = 10
SHADES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
PRIOR = ("sensitivity", "prior_sensitivity(problem, study, key=...) first")
SOBOL = ("sensitivity", "sobol_indices(problem, study, key=...) first")
STRESS = ("stress", "stress_test(problem, study, key=..., stresses=...) first")
FOLLOWERS = ("model_comparison", "compare_followers(problem, study, key=..., others=...) first")


@gated(*PRIOR)
def plot_power_scaling(
    study: xr.DataTree, *, prob: float = 0.9, accept_failed: bool = False
) -> Figure:
    """Draw how prior and likelihood move each output, and what that costs the common design.

    Left: ``psense``, of the outputs it is largest for. Right: the expected loss of keeping the
    common design against the best option by one half of the draws, scored on the other half; it
    may come out below 0.

    Parameters
    ----------
    study : xarray.DataTree
        From `prior_sensitivity`.
    prob : float
        Probability of the normal intervals, in (0, 1).
    accept_failed : bool
        Draw the numbers although the study FAILED its checks.
    """
    group = need_group(study, *PRIOR, "power_scaling")
    half, bars = _normal(prob)
    names = _largest(group["power_scaling"].max("component"))
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 1.4 + 0.36 * max(len(names), 6)), layout="constrained"
    )
    for number, component in enumerate(COMPONENTS):
        chosen = group.sel(component=component)
        shown = chosen.sel(output=names)
        place = np.arange(len(names)) + 0.2 * (number - 0.5)
        look = {"color": SHADES[number], "marker": MARKERS[number], "label": component}
        left.errorbar(
            shown["power_scaling"],
            place,
            linestyle="none",
            capsize=2,
            xerr=half * shown["power_scaling_standard_error"],
            **look,
        )
        beside = chosen["alpha"] + 0.006 * (2 * number - 1)
        right.errorbar(
            beside,
            chosen["loss_of_common"],
            capsize=2,
            yerr=half * chosen["loss_of_common_standard_error"],
            **look,
        )
    left.axvline(THRESHOLD, color=COLOURS["prior"], linestyle="--", label="threshold .05")
    named_rows(left, names)
    left.set_xlim(left=min(0.0, left.get_xlim()[0]))
    left.set_xlabel(f"power-scaling sensitivity, {bars}")
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside upper left", ncols=3, fontsize="small"
    )
    unit = study.attrs.get("objective_unit", "")
    right.axhline(0.0, color=COLOURS["prior"], linewidth=0.8)
    right.set_xlabel(f"exponent of prior or likelihood, {bars}")
    right.set_ylabel(wrapped(f"expected loss of keeping the common design [{unit}]", 34))
    return figure


@gated(*SOBOL)
def plot_sobol(study: xr.DataTree, *, prob: float = 0.9, accept_failed: bool = False) -> Figure:
    """Draw first-order indices with their intervals, beside the correlation of the draws.

    Parameters
    ----------
    study : xarray.DataTree
        From `sobol_indices`.
    prob : float
        Probability of the normal intervals, in (0, 1).
    accept_failed : bool
        Draw the numbers although the study FAILED its checks.
    """
    group = need_group(study, *SOBOL, "sobol_first_order")
    half, bars = _normal(prob)
    names = _largest(group["sobol_first_order"].max("parameter"))
    parameters = list(map(str, group["parameter"].dropna("parameter").values))
    figure, (left, right) = plt.subplots(
        1,
        2,
        figsize=(11, 1.4 + 0.4 * max(len(names), len(parameters), 6)),
        layout="constrained",
        width_ratios=(3, 2),
    )
    shift = 0.7 / len(parameters)
    for number, parameter in enumerate(parameters):
        shown = group.sel(output=names, parameter=parameter)
        place = np.arange(len(names)) + shift * (number - (len(parameters) - 1) / 2)
        left.errorbar(
            shown["sobol_first_order"],
            place,
            xerr=half * shown["sobol_standard_error"],
            linestyle="none",
            capsize=2,
            color=SHADES[number % len(SHADES)],
            marker=MARKERS[number % len(MARKERS)],
            label=parameter,
        )
    named_rows(left, names)
    left.axvline(0.0, color=COLOURS["prior"], linewidth=0.8)
    left.set_xlabel(f"share of variance, first-order index\n{bars}")
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside upper left", ncols=3, fontsize="small"
    )
    table = group["draw_correlation"].values
    image = right.imshow(table, vmin=-1, vmax=1, cmap="PuOr")
    for row, column in np.ndindex(table.shape):
        right.text(
            column,
            row,
            f"{table[row, column]:.2f}",
            ha="center",
            va="center",
            color="white" if abs(table[row, column]) > 0.6 else "black",
        )
    right.set_xticks([])  # the same as those of the rows
    named_rows(right, parameters, 20)
    right.set_ylim(len(parameters) - 0.5, -0.5)
    figure.colorbar(image, ax=right, label="rank correlation of the draws", shrink=0.8)
    return figure


@gated(*STRESS)
def plot_stress(study: xr.DataTree, *, prob: float = 0.9, accept_failed: bool = False) -> Figure:
    """Draw what each design achieves in each stressed world, and its regret there.

    Parameters
    ----------
    study : xarray.DataTree
        From `stress_test`.
    prob : float
        Probability of the equal-tailed intervals over draws, in (0, 1).
    accept_failed : bool
        Draw the numbers although the study FAILED its checks.
    """
    check_interval(prob)
    group = need_group(study, *STRESS).stack(one=("chain", "draw"))
    worlds, designs = list(group["stress"].values), list(map(str, group["design"].values))
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(12, 1.4 + 0.5 * len(worlds)), sharey=True, layout="constrained"
    )
    tail = (1.0 - prob) / 2.0
    shift = 0.7 / len(designs)
    colours = design_colours(designs)
    for number, design in enumerate(designs):
        place = np.arange(len(worlds)) + shift * (number - (len(designs) - 1) / 2)
        for panel, name in ((left, "objective"), (right, "regret")):
            draws = group[name].sel(design=design).transpose("stress", "one").values
            middle = draws.mean(1)
            bounds = np.quantile(draws, [tail, 1.0 - tail], axis=1)
            panel.hlines(place, *bounds, color=colours[design], alpha=0.6)
            panel.plot(
                middle,
                place,
                linestyle="none",
                marker=MARKERS[number % len(MARKERS)],
                color=colours[design],
                label=design_title(design),
            )
    named_rows(left, [str(world) for world in worlds])
    few_ticks(left)
    few_ticks(right)
    right.axvline(0.0, color=COLOURS["prior"], linewidth=0.8)
    unit = study.attrs.get("objective_unit", "")
    shown = f"mean and {100 * prob:g} % of draws"
    left.set_xlabel(wrapped(f"leader's objective [{unit}], {shown}"))
    right.set_xlabel(wrapped(f"regret against that world's best design [{unit}], {shown}"))
    left.legend(fontsize="small")
    return figure


@gated(*FOLLOWERS)
def plot_follower_models(
    study: xr.DataTree, *, prob: float = 0.9, accept_failed: bool = False
) -> Figure:
    """Draw how well each follower model predicts, and what deciding by the wrong one loses.

    Parameters
    ----------
    study : xarray.DataTree
        From `compare_followers`.
    prob : float
        Probability of the normal intervals of the prediction, in (0, 1).
    accept_failed : bool
        Draw the numbers although the study FAILED its checks.
    """
    group = need_group(study, *FOLLOWERS)
    half, bars = _normal(prob)
    names = list(map(str, group["model"].values))
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(12, 2.0 + 0.6 * len(names)), layout="constrained"
    )
    place = np.arange(len(names))
    left.errorbar(
        group["elpd_difference"],
        place,
        linestyle="none",
        marker="o",
        capsize=3,
        xerr=half * group["elpd_difference_standard_error"],
        color=COLOURS["own"],
    )
    left.axvline(0.0, color=COLOURS["prior"], linewidth=0.8)
    named_rows(left, names)
    left.set_xlabel(f"difference in expected log predictive density\nto the best, {bars}")
    table = group["loss"].mean("sample").transpose("designed_for", "model").values
    right.imshow(table, cmap="cividis_r", aspect="auto", vmin=0)
    high = max(float(table.max()), 1e-300)
    for row, column in np.ndindex(table.shape):
        right.text(
            column,
            row,
            f"{table[row, column]:.2g}",
            ha="center",
            va="center",
            color="white" if table[row, column] > 0.6 * high else "black",
        )
    right.set_xticks(place, [wrapped(name, 12) for name in names], fontsize="small")
    right.set_yticks(place, [wrapped(name, 20) for name in names])
    unit = study.attrs.get("objective_unit", "")
    right.set_xlabel("world: followers are ...")
    right.set_ylabel("design made for ...")
    right.set_title(wrapped(f"mean loss [{unit}]", 40), fontsize="medium")
    return figure


def _normal(prob: float) -> tuple[float, str]:
    """Return half the width of a normal interval in standard errors, and its name."""
    check_interval(prob)
    return float(norm.ppf(0.5 + prob / 2.0)), f"{100 * prob:g} % normal intervals"


def _largest(values: xr.DataArray) -> list[str]:
    """Return the results that are one number, and the entries of arrays with the largest values.

    In the order of the study.
    """
    known = values.where(np.isfinite(values), drop=True)
    names = [str(name) for name in known["output"].values]
    scalar = np.array(["[" not in name for name in names])
    order = np.lexsort((-known.values, ~scalar))[:MOST_OUTPUTS]
    return [names[index] for index in sorted(order)]
