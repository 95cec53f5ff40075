"""Every figure of a study at once, as files."""

import inspect
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.figure import Figure

from cbrl_bayes.errors import ResultsError, require_kind
from cbrl_bayes.plots.designs import plot_designs, plot_objectives
from cbrl_bayes.plots.diagnostics import plot_convergence, plot_posterior
from cbrl_bayes.plots.incentive import plot_incentive
from cbrl_bayes.plots.information import plot_information
from cbrl_bayes.plots.response import plot_response
from cbrl_bayes.plots.sensitivity import (
    plot_follower_models,
    plot_power_scaling,
    plot_sobol,
    plot_stress,
)
from cbrl_bayes.results import check_interval

FIGURES: dict[str, tuple[Callable[..., Figure], set[str]]] = {
    "posterior": (plot_posterior, {"prior"}),
    "incentive": (plot_incentive, {"decision"}),
    "objectives": (plot_objectives, {"decision"}),
    "convergence": (plot_convergence, {"design_trace"}),
    "designs": (plot_designs, {"decision"}),
    "response": (plot_response, {"response"}),
    "information": (plot_information, {"information/evpi"}),
    "power_scaling": (plot_power_scaling, {"sensitivity/power_scaling"}),
    "sobol": (plot_sobol, {"sensitivity/sobol_first_order"}),
    "stress": (plot_stress, {"stress/objective"}),
    "follower_models": (plot_follower_models, {"model_comparison/loss"}),
}
"""Name of the file -> what draws it, and the groups or variables of which it needs one."""


def save_figures(
    study: xr.DataTree, folder: str | Path, *, prob: float = 0.9, accept_failed: bool = False
) -> list[Path]:
    """Draw every figure that the tree has the groups for, as PNG files.

    Parameters
    ----------
    study : xarray.DataTree
        A fit or a study.
    folder : str or Path
        Made if absent.
    prob : float
        Probability of bands and intervals, in (0, 1).
    accept_failed : bool
        Draw designs although the study FAILED its checks; without it their figures say why.

    Returns
    -------
    list of Path

    Raises
    ------
    InvalidInputError
        For a probability outside (0, 1).
    ResultsError
        If nothing can be written there.
    """
    check_interval(prob)
    require_kind(folder, str | Path, "folder", 'a folder, as in "figures"')
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultsError(
            f"figures cannot be written to {folder} ({error.strerror})",
            remedy="a folder that exists or can be made, and is writable",
        ) from error
    wanted = {"prob": prob, "accept_failed": accept_failed}
    written = []
    for name, (draw, needs) in FIGURES.items():
        if not any(need in study.children or _holds(study, need) for need in needs):
            continue
        takes = inspect.signature(draw).parameters
        figure = draw(study, **{key: value for key, value in wanted.items() if key in takes})
        written.append(folder / f"{name}.png")
        figure.savefig(written[-1], dpi=130)
        plt.close(figure)
    return written


def _holds(study: xr.DataTree, need: str) -> bool:
    group, _, name = need.partition("/")
    return group in study.children and (name in study[group] or name in study[group].coords)
