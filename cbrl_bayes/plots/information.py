"""The figure of a study's group ``information``: what to learn, and how much of it."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm

from cbrl_bayes.plots.gate import gated
from cbrl_bayes.plots.style import COLOURS, few_ticks, named_rows, wrapped

HEADINGS = {
    "parameter": "parameters",
    "experiment": "experiments",
    "everything": "all parameters together",
}
PERFECT = {
    "evpi": "among the options",
    "evpi_held_out": "the same, held out",
    "evpi_own_design": "among all designs",
}
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")


@gated("information", "value_of_information(problem, study, key=...) first")
def plot_information(
    study: xr.DataTree, *, prob: float = 0.9, accept_failed: bool = False
) -> Figure:
    """Draw EVPPI per parameter and EVSI against the number of episodes, with EVPI as a line.

    Without parameters and experiments the value of knowing everything stands alone. EVSI stands
    twice: filled circles by regression, open squares by moment matching; experiments
    that differ in nothing but the number of episodes are joined. Bars are normal intervals.

    Parameters
    ----------
    study : xarray.DataTree
        With the group ``information``.
    prob : float
        Probability of the intervals, in (0, 1).
    accept_failed : bool
        Draw the numbers although the study FAILED its checks.
    """
    data = study["information"].to_dataset()
    shown = [dim for dim in ("parameter", "experiment") if dim in data.dims] or ["everything"]
    half = float(norm.ppf(0.5 + prob / 2.0))
    figure, axes = plt.subplots(
        1, len(shown), figsize=(5.4 * len(shown), 3.8), squeeze=False, layout="constrained"
    )
    unit, bars = data["evpi"].attrs.get("units", ""), f"{100 * prob:g} % normal intervals"
    for panel, dim in zip(axes.ravel(), shown, strict=True):
        if dim == "experiment":
            _experiments(panel, data, half)
            panel.set_ylabel(wrapped(f"value of the sample [{unit}]", 36))
        else:
            (_parameters if dim == "parameter" else _everything)(panel, data, half)
            panel.set_xlabel(wrapped(f"value of knowing it [{unit}]"))
        panel.set_title(f"{HEADINGS[dim]}: {bars}", fontsize="medium")
    return figure


def _everything(panel: Axes, data: xr.Dataset, half: float) -> None:
    names = [name for name in PERFECT if name in data]
    panel.errorbar(
        [float(data[name]) for name in names],
        np.arange(len(names)),
        xerr=[half * float(data[f"{name}_standard_error"]) for name in names],
        fmt="o",
        color=COLOURS["own"],
        capsize=3,
    )
    panel.axvline(0.0, color=COLOURS["prior"], linewidth=0.8)
    named_rows(panel, [PERFECT[name] for name in names], 20)
    few_ticks(panel)


def _parameters(panel: Axes, data: xr.Dataset, half: float) -> None:
    ordered = data.isel(parameter=np.argsort(data["evppi"].values))
    at = np.arange(ordered.sizes["parameter"])
    panel.errorbar(
        ordered["evppi"],
        at,
        xerr=half * ordered["evppi_standard_error"],
        fmt="o",
        color=COLOURS["own"],
        capsize=3,
        label="fitted (EVPPI)",
    )
    panel.plot(ordered["evppi_held_out"], at, "x", color=COLOURS["common"], label="held out")
    evpi, error = float(data["evpi"]), half * float(data["evpi_standard_error"])
    panel.axvspan(evpi - error, evpi + error, color=COLOURS["prior"], alpha=0.2, linewidth=0)
    panel.axvline(evpi, color=COLOURS["data"], linestyle="--", label="everything known (EVPI)")
    named_rows(panel, list(map(str, ordered["parameter"].values)), 20)
    panel.set_ylim(-0.6, len(at) - 0.4)
    panel.set_xlim(left=min(0.0, 1.1 * float(ordered["evppi_held_out"].min())))
    panel.locator_params(axis="x", nbins=5)
    panel.legend(fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3)


def _experiments(panel: Axes, data: xr.Dataset, half: float) -> None:
    settings = list(dict.fromkeys(map(str, data["setting"].values)))
    for index, setting in enumerate(settings):
        one = data.isel(experiment=data["setting"].values == setting).sortby("num_episodes")
        colour = SERIES[index % len(SERIES)]
        # Series of the same size would hide each other: set them apart by a few per cent.
        n = one["num_episodes"].values * 1.06 ** (2 * index)
        panel.errorbar(
            n,
            one["evsi"],
            yerr=half * one["evsi_standard_error"],
            fmt="o-",
            color=colour,
            capsize=3,
            label=wrapped(setting, 40),
        )
        panel.errorbar(
            n * 1.06,
            one["evsi_moment_matching"],
            yerr=half * one["evsi_moment_matching_standard_error"],
            fmt="s:",
            mfc="white",
            color=colour,
            capsize=3,
            alpha=0.8,
        )
    panel.plot([], [], "o-", color="#555555", label="regression")
    panel.plot([], [], "s:", color="#555555", mfc="white", label="moment matching")
    evpi, error = float(data["evpi"]), half * float(data["evpi_standard_error"])
    panel.axhspan(evpi - error, evpi + error, color=COLOURS["prior"], alpha=0.2, linewidth=0)
    panel.axhline(evpi, color=COLOURS["data"], linestyle="--", label="everything known (EVPI)")
    panel.set_xscale("log")
    sizes = np.unique(data["num_episodes"].values)
    panel.set_xticks(sizes, [str(size) for size in sizes])
    panel.set_xticks([], minor=True)
    panel.set_ylim(bottom=0.0)
    panel.set_xlabel("episodes observed")
    panel.locator_params(axis="y", nbins=5)
    panel.legend(fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
