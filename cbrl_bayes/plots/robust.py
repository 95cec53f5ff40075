"""All designs of a study side by side: what they are worth and what they may cost in regret."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cbrl_bayes.errors import InvalidInputError, explain
from cbrl_bayes.plots.style import COLOURS
from cbrl_bayes.results.health import assess
from cbrl_bayes.robust.tables import own_and_best, tail_mean

__all__ = ["plot_designs"]


def plot_designs(study: xr.DataTree, *, prob: float = 0.9) -> Figure:
    """Draw objective and regret of every design: mean, worst tenth, and interval over draws.

    Each draw's own design comes first: nobody can use it without knowing the draw. It is the best
    that its search found. The verdict on the study's health stands above.

    Parameters
    ----------
    study : xarray.DataTree
        From `design` or `robust_designs`.
    prob : float
        Probability of the equal-tailed intervals.
    """
    if "decision" not in study.children:
        raise InvalidInputError(
            explain(
                "the tree has no designs",
                received=", ".join(study.children),
                remedy="design(problem, fit, ...) first",
            )
        )
    decision = study["decision"].to_dataset()
    names = list(map(str, decision["design"].values))
    worth = decision["objective"].values.reshape(len(names), -1)
    regret = decision["regret"].values.reshape(len(names), -1)
    own_objective, best = own_and_best(study)
    own = own_objective.values.reshape(1, -1)
    lost = (best - own_objective).values.reshape(1, -1)
    height = 1.4 + 0.38 * (len(names) + 1)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, height), sharey=True, layout="constrained"
    )
    labels = ["own (each draw's)", *names]
    unit = study.attrs.get("objective_unit", "")
    _forest(left, np.concatenate([own, worth]), prob, lower_tail=True)
    _forest(right, np.concatenate([lost, regret]), prob, lower_tail=False)
    left.set_xlabel(f"leader's objective\n[{unit}]")
    right.set_xlabel(f"regret against the best known for each draw\n[{unit}]")
    left.set_yticks(range(len(labels)), labels)
    left.invert_yaxis()
    figure.suptitle(f"health: {assess(study).verdict}", fontsize="small", x=0.99, ha="right")
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
