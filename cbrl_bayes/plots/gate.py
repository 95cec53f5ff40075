"""The gate of figures, the same as for tables: a study that FAILED shows why, not its numbers."""

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.figure import Figure

from cbrl_bayes.plots.style import wrapped
from cbrl_bayes.results import Health, check_interval, need_group, study_table

P = ParamSpec("P")
CALM, ALARMING = "#555555", "#B03A00"
DO_NOT_RELY = "This study FAILED its checks: do not rely on its designs."


def gated(group: str, remedy: str) -> Callable[[Callable[P, Figure]], Callable[P, Figure]]:
    """Put the verdict above a figure of a study's designs.

    The figure of a FAILED study holds the verdict, the reasons and how to see the numbers; it
    holds the numbers only if the function was called with ``accept_failed=True``.

    Parameters
    ----------
    group : str
        Group of the study that the figure needs.
    remedy : str
        The call that adds it.
    """

    def decorate(draw: Callable[P, Figure]) -> Callable[P, Figure]:
        signature = inspect.signature(draw)

        @functools.wraps(draw)
        def guarded(*args: P.args, **options: P.kwargs) -> Figure:
            given = signature.bind(*args, **options).arguments
            study: xr.DataTree = next(iter(given.values()))
            check_interval(given.get("prob", 0.9))
            need_group(study, group, remedy)
            accepted = bool(given.get("accept_failed", False))
            # A table without rows says what a table of numbers would say: verdict, reasons, remedy.
            table = study_table(study, "", dict, accept_failed=accepted)
            if table.withheld:
                return _words(str(table).strip())
            figure, verdict = draw(*args, **options), (table.health or Health()).verdict
            said, colour = f"health: {verdict}", CALM
            if verdict == "FAIL":
                said, colour = f"{said}. {DO_NOT_RELY}", ALARMING
            figure.suptitle(said, fontsize="small", x=0.99, ha="right", color=colour)
            return figure

        return guarded

    return decorate


def _words(text: str) -> Figure:
    """Return a figure that holds a text and nothing else."""
    lines = "\n".join(wrapped(line, 90, indent="    ") for line in text.splitlines())
    figure = plt.figure(figsize=(8.0, 0.4 + 0.15 * len(lines.splitlines())))
    figure.text(0.03, 0.92, lines, va="top", family="monospace", fontsize="small", color=ALARMING)
    return figure
