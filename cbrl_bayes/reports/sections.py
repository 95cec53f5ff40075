"""The sections of a page, in the order in which a reader asks."""

import inspect
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.plots import (
    inline_figure,
    plot_convergence,
    plot_information,
    plot_posterior,
    plot_response,
)
from cbrl_bayes.problems import READY_MADE
from cbrl_bayes.reports.designs import design_sections
from cbrl_bayes.reports.incentives import incentive_arrays
from cbrl_bayes.reports.parts import Bullets, Code, Part, Picture, Section, Table, Text
from cbrl_bayes.reports.reproduce import commands, program
from cbrl_bayes.reports.tables import (
    clipped,
    entry_names,
    group_parts,
    interval_words,
    number,
    spread,
)
from cbrl_bayes.results import Health

__all__ = ["judged", "sections"]

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
FURTHER = {
    "information": (
        "Value of information",
        "What knowing more would be worth, in the unit of the objective. "
        "evpi: knowing every parameter; evppi: knowing one; evsi: the data of one experiment. "
        "Held out: options chosen on one part of the draws and counted on the other. A value "
        "within two standard errors of zero is not shown to be positive.",
        "value_of_information(problem, study, ...)",
    ),
    "sensitivity": (
        "Sensitivity",
        "How far priors and single parameters move the result. Power scaling: how "
        "far an output's distribution moves when prior or likelihood is raised to a power alpha; "
        "above .05 it counts as sensitive. Sobol first order: share of an output's variance that "
        "one parameter explains.",
        "prior_sensitivity(problem, study, ...) and cb.sobol_indices(...)",
    ),
    "model_comparison": (
        "Comparison of follower models",
        "Whether another kind of follower predicts the behaviour "
        "better (elpd: larger is better), and what the design for one model loses if another is "
        "the truth.",
        "compare_followers(...)",
    ),
    "stress": (
        "Stress tests",
        "What the designs achieve when the model is wrong in a stated way. "
        "Change: against no stress. Regret: against the design that is best in that world.",
        "stress_test(problem, study, stresses, ...)",
    ),
    "error_budget": (
        "Error budget",
        "How the variance of each design's reported objective splits into its "
        "sources: what is not known of the followers (posterior), sampled contexts, simulated "
        "followers, and the luck of the search (optimiser; estimated from the "
        "ascents of the search, which show about half of it). Mean error: Monte-Carlo standard "
        "error of the mean.",
        "design(problem, fit, ...) of this version",
    ),
}
"""Group -> title, what it tells, and what adds it."""

DIAGNOSTIC = ("error_budget",)
WITHHELD = (
    "Withheld: this study failed its checks (see Health). Mend it as told there, or ask "
    "for the page with accept_failed=True (--accept-failed)."
)
MOST_PARAMETERS, MOST_GROUPS = 40, 10


def sections(
    tree: xr.DataTree, health: Health, *, prob: float, question: str, accept_failed: bool
) -> list[Section]:
    """Return every section that the tree can fill.

    Parameters
    ----------
    tree : xarray.DataTree
    health : Health
        Its verdict.
    prob : float
        Probability of the intervals.
    question : str
        What the study is about, in the user's words; may be empty.
    accept_failed : bool
        Show designs and what they are worth although the study failed.
    """
    found = [_question(tree, question), _data(tree), _posterior(tree, prob)]
    if "design" in tree.children:
        found += design_sections(tree, prob)
    for name in [*FURTHER, *(n for n in tree.children if n not in KNOWN | set(FURTHER))]:
        found += _further(tree, name, prob)
    if "design_trace" in tree.children:
        found.append(_ascents(tree, prob))
    if health.verdict == "FAIL" and not accept_failed:
        found = [_withhold(section) for section in found]
    return [*found, _missing(tree), _provenance(tree), _again(tree)]


def judged(tree: xr.DataTree) -> list[str]:
    """Return what `assess` had to look at in this file, in words."""
    sampled, designed = tree.attrs.get("sampler") == "NUTS", "design" in tree.children
    stats = tree["sample_stats"].data_vars if "sample_stats" in tree.children else ()
    found = {
        "chains (R-hat, effective sample size, divergences)": sampled,
        "what the data say about each parameter": bool(_json(tree, "contraction")),
        "best responses of the fit": "solve_status" in stats,
        "ascents": designed,
        "best responses to the designs for all draws": designed,
        "number of draws, finite objectives and simulation error": designed,
    }
    return [words for words, was in found.items() if was]


def _question(tree: xr.DataTree, question: str) -> Section:
    attrs = tree.attrs
    name = str(attrs.get("problem", ""))
    parts: list[Part] = [Text(question)] if question else []
    made = READY_MADE.get(name)
    if made is not None and not question:
        first = (inspect.getdoc(made) or "").partition("\n")[0]
        parts.append(Text(f"Ready-made problem {name}: {first}"))
    parts.append(
        Text(
            "A leader sets an incentive. Nature draws a context. A follower who is only boundedly "
            "rational responds by solving an entropy-regularised decision problem of its own "
            "(temperature lambda; rationality 1/lambda). The leader wants the incentive with the "
            "largest expected objective, without knowing the parameters below."
        )
    )
    rows: list[tuple[str, ...]] = [
        ("problem", name),
        ("leader's objective, unit", str(attrs.get("objective_unit", "")) or "not stated"),
    ]
    posterior = tree["posterior"].to_dataset()
    if "context" in posterior.coords:
        rows.append(("contexts", ", ".join(map(str, posterior["context"].values))))
    if "decision" in tree.children:
        decision = tree["decision"].to_dataset()
        rows.append(
            ("followers", ", ".join(map(str, tree["design"].to_dataset()["follower"].values)))
        )
        for array in (decision[each] for each in incentive_arrays(decision)):
            sizes = {str(dim): size for dim, size in array.sizes.items() if dim != "design"}
            words = [str(array.attrs.get(k, "")) for k in ("description", "units")]
            shape = ", ".join(f"{size} by {dim}" for dim, size in sizes.items())
            rows.append(
                (
                    f"incentive: {array.attrs.get('long_name', array.name)}",
                    "; ".join(w for w in (*words, shape or "one number") if w),
                )
            )
    parts.append(Table("What is decided", ("", ""), rows))
    parts.append(_uncertain(tree, posterior))
    return Section("question", "The question", parts)


def _uncertain(tree: xr.DataTree, posterior: xr.Dataset) -> Table:
    priors = _json(tree, "settings").get("priors", {})
    learned = _json(tree, "contraction")
    names = [name for name in map(str, posterior.data_vars) if name in priors or not priors]
    rows = [
        (
            name,
            str(posterior[name].attrs.get("units", "")),
            str(priors.get(name, "")),
            f"{100 * learned[name]:.1f} %" if isinstance(learned.get(name), float) else "",
        )
        for name in names
    ]
    head = ("parameter", "unit", "prior", "share of the prior's variance the data took away")
    return Table("What is uncertain", head, rows).without_empty_columns()


def _data(tree: xr.DataTree) -> Section:
    attrs = tree.attrs
    rows = [
        (label, number(attrs[name]))
        for label, name in (
            ("choices observed", "num_choices"),
            ("fingerprint of the data", "data_fingerprint"),
        )
        if name in attrs
    ]
    if "groups" in attrs:
        groups = json.loads(attrs["groups"])
        shown = ", ".join(map(str, groups[:MOST_GROUPS]))
        more = f" and {len(groups) - MOST_GROUPS} more" if len(groups) > MOST_GROUPS else ""
        rows.append(("groups of followers", shown + more))
    parts: list[Part] = [Table("Observed behaviour", ("", ""), rows)] if rows else []
    if "observed_data" in tree.children:
        observed = tree["observed_data"].to_dataset()
        if "context_count" in observed:
            parts.append(
                _counted("Episodes by context", ("context", "episodes"), observed["context_count"])
            )
        if "action_count" in observed:
            parts.append(
                _counted(
                    "Choices by action",
                    ("action", "choices"),
                    observed["action_count"].sum("decision_point"),
                )
            )
    if not parts:
        parts = [Text("The file holds no observed behaviour: the draws came from another tool.")]
    return Section("data", "Data", parts)


def _counted(caption: str, head: tuple[str, str], counts: xr.DataArray) -> Table:
    values = counts.values.ravel()[:MOST_PARAMETERS]
    names = entry_names(counts, range(len(values)))
    more = counts.size - len(values)
    rows = [(name, number(value)) for name, value in zip(names, values, strict=True)]
    return Table(caption + (f"; {more} more in the file" if more else ""), head, rows)


def _posterior(tree: xr.DataTree, prob: float) -> Section:
    posterior = tree["posterior"].to_dataset()
    prior = tree["prior"].to_dataset() if "prior" in tree.children else xr.Dataset()
    units = _json(tree, "parameter_units")
    order = sorted(map(str, posterior.data_vars), key=lambda name: (name != "rationality", name))
    rows: list[tuple[str, ...]] = []
    num = 0
    for name in (n for n in order if not n.endswith("_offset")):
        after = posterior[name].transpose("chain", "draw", ...)
        one = after.isel(chain=0, draw=0, drop=True)
        labels = entry_names(one, range(min(one.size, MOST_PARAMETERS - len(rows))))
        num += one.size
        before = prior[name].transpose("chain", "draw", ...).values if name in prior else None
        for at, label in enumerate(labels):
            found = spread(_column(after.values, at), prob)
            told = spread(_column(before, at), prob) if before is not None else None
            rows.append(
                (
                    name + (f" [{label}]" if label else ""),
                    clipped(units.get(name, after.attrs.get("units", ""))),
                    number(found.mean),
                    found.bounds,
                    told.bounds if told else "",
                    ", ".join(
                        f"{which}: {each.loss}"
                        for which, each in (("posterior", found), ("prior", told))
                        if each and each.lost
                    ),
                )
            )
    more = f"; {num - len(rows)} more in the file" if num > len(rows) else ""
    chains = posterior.sizes["chain"]
    caption = f"Posterior from {chains * posterior.sizes['draw']} draws in {chains} chain"
    head = (
        "parameter",
        "unit",
        "mean",
        f"posterior, {interval_words(prob)}",
        f"prior, {interval_words(prob)}",
        "left out",
    )
    table = Table(caption + ("s" if chains > 1 else "") + more, head, rows)
    parts: list[Part] = [table.without_empty_columns()]
    if prior.data_vars:
        words = "Posterior and prior density of each parameter; the numbers are in the table"
        shown = "Posterior (filled) and prior (outline) over the range of the posterior"
        parts = [*_picture(lambda: plot_posterior(tree), words, shown), *parts]
    if "response" in tree.children and {"mileage"} <= set(tree["response"].coords):
        parts += _picture(
            lambda: plot_response(tree, action="replace", coordinate="mileage", prob=prob),
            "Probability of replacing by mileage, with data",
            "Replacement by mileage: no incentive and common design",
        )
    return Section("posterior", "Rationality, preferences and contexts", parts, judged=True)


def _further(tree: xr.DataTree, name: str, prob: float) -> list[Section]:
    if name not in tree.children:
        return []
    title, words, _ = FURTHER.get(name, (name, "", ""))
    parts: list[Part] = [Text(words)] if words else []
    judged = [
        (word, line)
        for word, kind in (("FAIL", "failures"), ("REVIEW", "reviews"))
        for line in _lines(tree[name].attrs.get(kind))
    ]
    parts += [Text(f"{word}: {line}", "warning") for word, line in judged]
    if name == "information":
        parts += _picture(
            lambda: plot_information(tree, prob=prob),
            "Value of information with standard errors; the numbers are in the tables",
            "Value of information",
        )
    for node in tree[name].subtree:
        below = node.path.removeprefix(f"/{name}").strip("/")
        parts += [Text(below, "note")] if below else []
        parts += group_parts(node.to_dataset(inherit=False), prob)
    return [Section(f"group-{name}", title, parts, judged=True)]


def _lines(text: object) -> list[str]:
    """Return the sentences of a verdict that a group keeps as JSON."""
    try:
        found = json.loads(str(text)) if text is not None else []
    except ValueError:
        return [str(text)]
    return list(map(str, found)) if isinstance(found, list) else [str(found)]


def _ascents(tree: xr.DataTree, prob: float) -> Section:
    restarts = tree["decision"].to_dataset()["restart_objective"]
    found = spread(restarts.values, 1.0)
    low, high = map(number, found.outer)
    unit = tree.attrs.get("objective_unit", "")
    failed = f"; {found.lost} failed" if found.lost else ""
    words = (
        f"{restarts.size} ascents of the plug-in search ended between {low} and {high} "
        f"(mean {number(found.mean)}{failed}) [{unit}]. A wide spread says that there are "
        "many local optima, and that a better one may exist."
    )
    picture = _picture(
        lambda: plot_convergence(tree, prob=prob),
        "Objective and gradient norm along the ascents",
        f"Ascents of the draws' designs: median and {100 * prob:g} % band over draws",
    )
    return Section("ascents", "How the search went", [Text(words), *picture], judged=True)


def _withhold(section: Section) -> Section:
    group = section.anchor.removeprefix("group-")
    shown = ("question", "data", "posterior", "ascents", *DIAGNOSTIC)
    if section.anchor in shown or group in shown:
        return section
    return Section(section.anchor, section.title, [Text(WITHHELD, "warning")], judged=True)


def _missing(tree: xr.DataTree) -> Section:
    absent = [
        f"{title}: {words.partition('. ')[0]}. Add it with cb.{how}."
        for name, (title, words, how) in FURTHER.items()
        if name not in tree.children
    ]
    if "design" not in tree.children:
        absent.insert(
            0,
            "Incentives and what they are worth: this file is a fit; "
            "add them with cb.design(problem, fit, ...)",
        )
    parts: list[Part] = [Bullets(absent)] if absent else []
    return Section("missing", "What this study does not hold", parts)


def _provenance(tree: xr.DataTree) -> Section:
    attrs = tree.attrs
    wanted = (
        "created",
        "schema",
        "stage",
        "sampler",
        "estimator",
        "fit_seconds",
        "fingerprint",
        "data_fingerprint",
    )
    rows = [(name, number(attrs[name])) for name in wanted if name in attrs]
    versions = [(str(name), str(value)) for name, value in _json(tree, "versions").items()]
    parts: list[Part] = [Table("The file", ("", ""), rows)]
    parts.append(Table("Versions", ("package", "version"), versions))
    for name in ("settings", "design_settings"):
        if _json(tree, name):
            parts += [Text(f"{name}:", "note"), Code(json.dumps(_json(tree, name), indent=1))]
    return Section("provenance", "Provenance", parts)


def _again(tree: xr.DataTree) -> Section:
    return Section(
        "reproduce",
        "How to reproduce",
        [
            Text("The same versions, problem, data, settings and seeds give the same numbers."),
            Code(program(tree)),
            Text("On the command line, where the settings are its default ones otherwise:"),
            Code(commands(tree)),
        ],
    )


def _picture(draw: Callable[[], Any], words: str, caption: str) -> list[Part]:
    try:
        return [Picture(inline_figure(draw), words, caption)]
    except InvalidInputError as error:  # there is nothing such a figure could show
        return [Text(f"{caption}: no figure ({error})", "note")]


def _column(values: np.ndarray, at: int) -> np.ndarray:
    return values.reshape(values.shape[0] * values.shape[1], -1)[:, at]


def _json(tree: xr.DataTree, name: str) -> dict[str, Any]:
    return json.loads(tree.attrs.get(name, "{}"))
