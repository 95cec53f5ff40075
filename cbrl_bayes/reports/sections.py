"""The sections of a page, in the order in which a reader asks."""

import json
from typing import Any

import xarray as xr

from cbrl_bayes.reports.designs import DESIGN_SECTIONS, design_sections, recommended_section
from cbrl_bayes.reports.further import QUESTIONS, ascent_parts, further_parts
from cbrl_bayes.reports.learned import learned_sections
from cbrl_bayes.reports.parts import Bullets, Code, Folded, Part, Section, Table, Text
from cbrl_bayes.reports.reproduce import commands, program
from cbrl_bayes.reports.tables import number
from cbrl_bayes.results.table import WITHHELD

KNOWN = {
    "posterior",
    "prior",
    "prior_predictive",
    "posterior_predictive",
    "log_likelihood",
    "sample_stats",
    "observed_data",
    "variational",
    "design",
    "design_trace",
    "decision",
    "response",
    "log_prior",
}
DIAGNOSTIC = {"error_budget"}
"""Groups that help to mend a study that failed: never withheld."""
FILE = (
    "created",
    "schema",
    "stage",
    "sampler",
    "estimator",
    "fit_seconds",
    "fingerprint",
    "data_fingerprint",
)


def sections(tree: xr.DataTree, *, prob: float, question: str, withheld: bool) -> list[Section]:
    """Return every section that the tree can fill.

    Parameters
    ----------
    tree : xarray.DataTree
    prob : float
        Probability of the intervals.
    question : str
        What the study is about, in the user's words; may be empty.
    withheld : bool
        Whether designs and what they are worth are left out, as the study failed.
    """
    found = [] if withheld else recommended_section(tree, prob)
    found += learned_sections(tree, prob, question=question, withheld=withheld)
    if "design" in tree.children:
        found += (
            [_withheld(*section) for section in DESIGN_SECTIONS.items()]
            if withheld
            else design_sections(tree, prob)
        )
    others = [name for name in tree.children if name not in KNOWN | set(QUESTIONS)]
    for name in [*(name for name in QUESTIONS if name in tree.children), *others]:
        anchor, title = f"group-{name}", QUESTIONS[name].title if name in QUESTIONS else name
        found.append(
            _withheld(anchor, title)
            if withheld and name not in DIAGNOSTIC
            else Section(anchor, title, further_parts(tree, name, prob), judged=True, folded=True)
        )
    if "design_trace" in tree.children:
        parts = ascent_parts(tree, prob)
        found.append(Section("ascents", "How the search went", parts, judged=True, folded=True))
    return [
        *found,
        Section("missing", "What this study does not hold", _missing(tree), folded=True),
        Section("provenance", "Provenance", _provenance(tree), folded=True),
        Section("reproduce", "How to reproduce", _again(tree), folded=True),
    ]


def judged(tree: xr.DataTree) -> list[str]:
    """Return what `assess` had to look at in this file, in words."""
    sampled, designed = tree.attrs.get("sampler") == "NUTS", "design" in tree.children
    stats = tree["sample_stats"].data_vars if "sample_stats" in tree.children else ()
    predicted = "posterior_predictive" in tree.children and tree["posterior_predictive"].attrs
    found = {
        "chains (R-hat, effective sample size, divergences)": sampled,
        "what the data say about each parameter": bool(_json(tree, "contraction")),
        "observed choices beside those of the fitted model": "tail" in (predicted or {}),
        "best responses of the fit": "solve_status" in stats,
        "ascents": designed,
        "best responses to the designs for all draws": designed,
        "number of draws, finite objectives and simulation error": designed,
    }
    return [words for words, was in found.items() if was]


def _withheld(anchor: str, title: str) -> Section:
    return Section(anchor, title, [Text(WITHHELD, "warning")], judged=True)


def _missing(tree: xr.DataTree) -> list[Part]:
    absent = [
        f"{question.title}: {question.words.partition('. ')[0].rstrip('.')}. "
        f"Add it with cb.{question.how}."
        for name, question in QUESTIONS.items()
        if name not in tree.children
    ]
    if "design" not in tree.children:
        absent.insert(
            0,
            "Incentives and what they are worth: this file is a fit. "
            "Add them with cb.design(problem, fit, ...).",
        )
    return [Bullets(absent)] if absent else []


def _provenance(tree: xr.DataTree) -> list[Part]:
    rows = [(name, number(tree.attrs[name])) for name in FILE if name in tree.attrs]
    versions = [(str(name), str(value)) for name, value in _json(tree, "versions").items()]
    parts: list[Part] = [Table("The file", ("", ""), rows)]
    parts.append(Table("Versions", ("package", "version"), versions))
    for name in ("settings", "design_settings"):
        if _json(tree, name):
            title = name.replace("_", " ").capitalize()
            parts.append(Folded(title, [Code(json.dumps(_json(tree, name), indent=1))]))
    return parts


def _again(tree: xr.DataTree) -> list[Part]:
    return [
        Text("The same versions, problem, data, settings and seeds give the same numbers."),
        Code(program(tree)),
        Text("On the command line:"),
        Code(commands(tree)),
    ]


def _json(tree: xr.DataTree, name: str) -> dict[str, Any]:
    return json.loads(tree.attrs.get(name, "{}"))
