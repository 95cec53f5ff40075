"""The sections on further questions (information, sensitivity, stress, ...) and on the search."""

import functools
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import xarray as xr

from cbrl_bayes.errors import counted
from cbrl_bayes.plots import (
    plot_convergence,
    plot_follower_models,
    plot_information,
    plot_power_scaling,
    plot_sobol,
    plot_stress,
)
from cbrl_bayes.reports.charts import picture
from cbrl_bayes.reports.parts import Folded, Part, Text
from cbrl_bayes.reports.tables import group_parts, number, spread


class Question(NamedTuple):
    """A group that a study may hold: its title, what it tells, and the call that adds it."""

    title: str
    words: str
    how: str


QUESTIONS = {
    "information": Question(
        "Value of information",
        "What it is worth to know more, in the unit of the objective. evpi: to know every "
        "parameter. evppi: to know one. evsi: to have the data of one experiment. Held out: options"
        " are chosen on one part of the draws and scored on the other. A value within two standard "
        "errors of zero is not shown to be positive.",
        "value_of_information(problem, study, ...)",
    ),
    "sensitivity": Question(
        "Sensitivity",
        "How far priors and single parameters move the result. Power scaling: how far an output's "
        "distribution moves when the prior or the likelihood is raised to a power alpha. Above .05 "
        "it counts as sensitive. Sobol first order: the share of an output's variance that one "
        "parameter explains.",
        "prior_sensitivity(problem, study, ...) and cb.sobol_indices(...)",
    ),
    "model_comparison": Question(
        "Comparison of follower models",
        "Whether another kind of follower predicts the behaviour better (elpd: larger is better), "
        "and what the design for one model loses if another is the truth.",
        "compare_followers(...)",
    ),
    "stress": Question(
        "Stress tests",
        "What the designs achieve when the model is wrong in a stated way. Change: against no "
        "stress. Regret: against the design that is best in that world.",
        "stress_test(problem, study, key=key, stresses=[...])",
    ),
    "error_budget": Question(
        "Error budget",
        "Where the variance of each design's reported objective comes from. Posterior: what is not "
        "known about the followers. Contexts and simulation: what is sampled. Optimiser: the luck "
        "of the search, estimated from its ascents, which show about half of it. Mean error: the "
        "Monte Carlo standard error of the mean.",
        "design(problem, fit, ...) of this version",
    ),
}


FIGURES: dict[str, tuple[tuple[str, Callable[..., Any], str], ...]] = {
    "information": (("evpi", plot_information, "Value of information"),),
    "sensitivity": (
        ("power_scaling", plot_power_scaling, "How far prior and data move each output"),
        ("sobol_first_order", plot_sobol, "Share of each output's variance by parameter"),
    ),
    "model_comparison": (("loss", plot_follower_models, "Follower models compared"),),
    "stress": (("objective", plot_stress, "What the designs achieve in each world"),),
}
"""Group -> the variable that each of its figures needs, what draws it, and its caption."""


def further_parts(tree: xr.DataTree, name: str, prob: float) -> list[Part]:
    """Return what a group says of itself, its figure, and tables of all its variables.

    Parameters
    ----------
    tree : xarray.DataTree
    name : str
        The group's; one of `QUESTIONS`, or any other.
    prob : float
        Probability of the intervals.
    """
    words = QUESTIONS[name].words if name in QUESTIONS else ""
    parts: list[Part] = [Text(words)] if words else []
    parts += [
        Text(f"{word}: {line}", "warning")
        for word, kind in (("FAIL", "failures"), ("REVIEW", "reviews"))
        for line in _lines(tree[name].attrs.get(kind))
    ]
    drawn = [
        part
        for variable, draw, caption in FIGURES.get(name, ())
        if variable in tree[name]
        for part in picture(
            functools.partial(draw, tree, prob=prob, accept_failed=True),
            f"{caption}; the numbers are in the tables",
            caption,
        )
    ]
    parts += drawn
    tables: list[Part] = []
    for node in tree[name].subtree:
        below = node.path.removeprefix(f"/{name}").strip("/")
        tables += [Text(below, "note")] if below else []
        tables += group_parts(node.to_dataset(inherit=False), prob)
    return [*parts, Folded("All numbers", tables)] if drawn else [*parts, *tables]


def _lines(text: object) -> list[str]:
    """Return the sentences of a verdict that a group keeps as JSON."""
    try:
        found = json.loads(str(text)) if text is not None else []
    except ValueError:
        return [str(text)]
    return list(map(str, found)) if isinstance(found, list) else [str(found)]


def ascent_parts(tree: xr.DataTree, prob: float) -> list[Part]:
    """Return where the ascents of the plug-in search ended, and how those of the draws went."""
    restarts = tree["decision"].to_dataset()["restart_objective"]
    found = spread(restarts.values, 1.0)
    low, high = map(number, found.outer)
    unit = tree.attrs.get("objective_unit", "")
    failed = f"; {found.lost} failed" if found.lost else ""
    words = (
        f"{counted(restarts.size, 'ascent')} of the plug-in search ended between {low} and {high} "
        f"(mean {number(found.mean)}{failed}) [{unit}]. A wide spread means many local optima: a "
        "better one may exist."
    )
    drawn = picture(
        lambda: plot_convergence(tree, prob=prob),
        "Objective and gradient norm along the ascents",
        f"Ascents of the best per draw: median and {100 * prob:g} % band over draws",
    )
    return [Text(words), *drawn]
