"""What the designs of a study are worth, and what they lose in regret."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cbrl_bayes.plots.gate import gated
from cbrl_bayes.plots.style import COLOURS, density, few_ticks, named_rows, wrapped
from cbrl_bayes.results.names import BEST_PER_DRAW, design_title
from cbrl_bayes.robust.tables import own_and_best, tail_mean

MOST_DENSITIES = 2
"""Densities of more designs hide each other: `plot_designs` shows all."""
NEEDS = ("design", "design(problem, fit, key=...) first")


@gated(*NEEDS)
def plot_objectives(
    study: xr.DataTree, *, prob: float = 0.9, accept_failed: bool = False
) -> Figure:
    """Draw how the leader's objective and the regret are distributed over the draws.

    Shown are the best per draw and the first two designs, common and plug-in.

    Parameters
    ----------
    study : xarray.DataTree
        From `design`.
    prob : float
        Of the quantile of the regret in the legend, in (0, 1).
    accept_failed : bool
        Draw the numbers although the study FAILED its checks.
    """
    design, decision = study["design"].to_dataset(), study["decision"].to_dataset()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    density(left, design["leader_objective"], COLOURS["own"], BEST_PER_DRAW)
    for name in map(str, decision["design"].values[:MOST_DENSITIES]):
        one, title = decision.sel(design=name), design_title(name)
        density(left, one["objective"], COLOURS[name], title, filled=False)
        mean, high = float(one["regret"].mean()), float(one["regret"].quantile(prob))
        label = f"{title}: mean {mean:.2g}, {100 * prob:g} % below {high:.2g}"
        density(right, one["regret"], COLOURS[name], label, filled=False)
    unit = study.attrs.get("objective_unit", "")
    left.set_xlabel(wrapped(f"leader's objective [{unit}]"))
    right.set_xlabel(wrapped(f"regret against the {BEST_PER_DRAW} [{unit}]"))
    for panel in (left, right):
        panel.set_ylabel("density over posterior draws")
        few_ticks(panel)
        panel.set_ylim(top=1.35 * panel.get_ylim()[1])  # room for the legend
        panel.legend(fontsize="small")
    return figure


@gated(*NEEDS)
def plot_designs(study: xr.DataTree, *, prob: float = 0.9, accept_failed: bool = False) -> Figure:
    """Draw objective and regret of every design: mean, worst tenth, and interval over draws.

    The best per draw comes first. Nobody can use it without knowing the draw. It is the best that
    its search found.

    Parameters
    ----------
    study : xarray.DataTree
        From `design` or `robust_designs`.
    prob : float
        Probability of the equal-tailed intervals, in (0, 1).
    accept_failed : bool
        Draw the numbers although the study FAILED its checks.
    """
    decision = study["decision"].to_dataset()
    names = list(map(design_title, decision["design"].values))
    worth = decision["objective"].values.reshape(len(names), -1)
    regret = decision["regret"].values.reshape(len(names), -1)
    own_objective, best = own_and_best(study)
    own = own_objective.values.reshape(1, -1)
    lost = (best - own_objective).values.reshape(1, -1)
    height = 1.8 + 0.38 * (len(names) + 1)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, height), sharey=True, layout="constrained"
    )
    unit = study.attrs.get("objective_unit", "")
    _forest(left, np.concatenate([own, worth]), prob, lower_tail=True)
    _forest(right, np.concatenate([lost, regret]), prob, lower_tail=False)
    left.set_xlabel(wrapped(f"leader's objective [{unit}]"))
    right.set_xlabel(wrapped(f"regret against the best known for each draw [{unit}]"))
    named_rows(left, [BEST_PER_DRAW, *names])
    handles, texts = left.get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=3, fontsize="small")
    return figure


def _forest(panel: Axes, draws: np.ndarray, prob: float, *, lower_tail: bool) -> None:
    tail = (1.0 - prob) / 2.0
    low, high = np.nanquantile(draws, [tail, 1.0 - tail], axis=1)
    rows = np.arange(len(draws))
    sign = 1.0 if lower_tail else -1.0
    worst = [sign * tail_mean(sign * row[np.isfinite(row)]) for row in draws]
    panel.hlines(
        rows,
        low,
        high,
        color=COLOURS["own"],
        linewidth=3,
        alpha=0.5,
        label=f"{100 * prob:g} % interval over draws (equal-tailed)",
    )
    panel.plot(np.nanmean(draws, 1), rows, "o", color=COLOURS["own"], label="mean")
    panel.plot(
        worst,
        rows,
        "|",
        color=COLOURS["common"],
        markersize=12,
        markeredgewidth=2,
        label="mean of the worst tenth",
    )
    panel.grid(axis="x", alpha=0.3)
    few_ticks(panel)
