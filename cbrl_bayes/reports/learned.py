"""The sections on what was asked and what behaviour says: question, data, posterior."""

import inspect
import json

import xarray as xr

from cbrl_bayes.plots import plot_posterior, plot_response
from cbrl_bayes.problems import READY_MADE
from cbrl_bayes.reports.charts import picture
from cbrl_bayes.reports.parts import Folded, Part, Section, Table, Text
from cbrl_bayes.reports.tables import Spread, clipped, entry_names, interval_words, number, spread
from cbrl_bayes.results.names import incentive_arrays, known_among

MOST_PARAMETERS, MOST_GROUPS = 40, 10
WHAT = (
    "A leader sets an incentive. Nature draws a context. A follower who is only boundedly "
    "rational responds, as the problem says; how noisy its choices are is its temperature (lambda; "
    "rationality is 1/lambda). The leader wants the incentive with the largest expected objective, "
    "without knowing the parameters below."
)


def learned_sections(
    tree: xr.DataTree, prob: float, *, question: str, withheld: bool
) -> list[Section]:
    """Return the sections on the question, the data and the posterior.

    Parameters
    ----------
    tree : xarray.DataTree
    prob : float
        Probability of the intervals.
    question : str
        What the study is about, in the user's words; may be empty.
    withheld : bool
        Whether what rests on designs is left out.
    """
    return [
        Section("question", "The question", _question(tree, question)),
        Section("data", "Data", _data(tree), folded=True),
        Section(
            "posterior",
            "Rationality, preferences and contexts",
            [
                *_densities(tree),
                Folded("The numbers", [_posterior(tree, prob)]),
                *([] if withheld else _response(tree, prob)),
            ],
            judged=True,
        ),
    ]


def _question(tree: xr.DataTree, question: str) -> list[Part]:
    name = str(tree.attrs.get("problem", ""))
    parts: list[Part] = [Text(question)] if question else []
    made = READY_MADE.get(name)
    if made is not None and not question:
        first = (inspect.getdoc(made) or "").partition("\n")[0]
        parts.append(Text(f"Ready-made problem {name}: {first}"))
    unit = str(tree.attrs.get("objective_unit", "")) or "not stated"
    rows = [("problem", name), ("leader's objective, unit", unit)]
    posterior = tree["posterior"].to_dataset()
    if "context" in posterior.coords:
        rows.append(("contexts", ", ".join(map(str, posterior["context"].values))))
    if "decision" in tree.children:
        followers = tree["design"].to_dataset()["follower"].values
        rows.append(("followers", ", ".join(map(str, followers))))
        rows += _incentives(tree["decision"].to_dataset())
    return [*parts, Text(WHAT), Table("What is decided", ("", ""), rows), _uncertain(tree)]


def _incentives(decision: xr.Dataset) -> list[tuple[str, str]]:
    """Say of each incentive array what it is, its unit and its shape."""
    rows = []
    for array in (decision[name] for name in incentive_arrays(decision)):
        sizes = [f"{size} by {dim}" for dim, size in array.sizes.items() if dim != "design"]
        said = [str(array.attrs.get(name, "")) for name in ("description", "units")]
        words = "; ".join(filter(None, [*said, ", ".join(sizes) or "one number"]))
        rows.append((f"incentive: {array.attrs.get('long_name', array.name)}", words))
    return rows


def _uncertain(tree: xr.DataTree) -> Table:
    posterior = tree["posterior"].to_dataset()
    priors = json.loads(tree.attrs.get("settings", "{}")).get("priors", {})
    learned = json.loads(tree.attrs.get("contraction", "{}"))
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
    head = ("parameter", "unit", "prior", "removed by the data")
    told = any(row[-1] for row in rows)
    more = "; last, the share of the prior's variance that the data removed" if told else ""
    return Table(f"What is uncertain{more}", head, rows).without_empty_columns()


def _data(tree: xr.DataTree) -> list[Part]:
    attrs = tree.attrs
    labels = {"num_choices": "choices observed", "data_fingerprint": "fingerprint of the data"}
    rows = [(label, number(attrs[name])) for name, label in labels.items() if name in attrs]
    if "groups" in attrs:
        groups = json.loads(attrs["groups"])
        more = f" and {len(groups) - MOST_GROUPS} more" if len(groups) > MOST_GROUPS else ""
        rows.append(("groups of followers", ", ".join(map(str, groups[:MOST_GROUPS])) + more))
    parts: list[Part] = [Table("Observed behaviour", ("", ""), rows)] if rows else []
    parts += [Text(f"{text}.", "note") for text in json.loads(attrs.get("data_notes", "[]"))]
    observed = tree["observed_data"].to_dataset() if "observed_data" in tree.children else {}
    if "context_count" in observed:
        parts.append(_counted("Episodes by context", "episodes", observed["context_count"]))
    if "action_count" in observed:
        names = list(dict.fromkeys(observed["action"].values))
        counts = observed["action_count"].groupby("action").sum().sel(action=names)
        parts.append(_counted("Choices by action", "choices", counts))
    none = "The file holds no observed behaviour: the draws came from another tool."
    return parts or [Text(none)]


def _counted(caption: str, what: str, counts: xr.DataArray) -> Table:
    values = counts.values.ravel()[:MOST_PARAMETERS]
    names = entry_names(counts, range(len(values)))
    more = f"; {counts.size - len(values)} more in the file" if counts.size > len(values) else ""
    rows = [(name, number(value)) for name, value in zip(names, values, strict=True)]
    return Table(caption + more, (caption.rpartition(" ")[-1], what), rows)


def _densities(tree: xr.DataTree) -> list[Part]:
    if "prior" not in tree.children or not tree["prior"].data_vars:
        return []
    return picture(
        lambda: plot_posterior(tree),
        "Posterior and prior density of each parameter; the numbers are in the table",
        "Posterior (filled) and prior (outline) over the range of the posterior",
    )


def _posterior(tree: xr.DataTree, prob: float) -> Table:
    posterior = tree["posterior"].to_dataset()
    prior = tree["prior"].to_dataset() if "prior" in tree.children else xr.Dataset()
    units = json.loads(tree.attrs.get("parameter_units", "{}"))
    known = set(known_among(tree))
    order = sorted(
        map(str, posterior.data_vars), key=lambda name: (name in known, name != "rationality", name)
    )
    rows: list[tuple[str, ...]] = []
    num = 0
    for name in (n for n in order if not n.endswith("_offset")):
        after = posterior[name].transpose("chain", "draw", ...)
        one = after.isel(chain=0, draw=0, drop=True)
        num += one.size
        unit = clipped(units.get(name, after.attrs.get("units", "")))
        for at, label in enumerate(
            entry_names(one, range(min(one.size, MOST_PARAMETERS - len(rows))))
        ):
            told = _entry(prior[name], at, prob) if name in prior else None
            full = name + (f" [{label}]" if label else "")
            cells = _cells(_entry(after, at, prob), told)
            rows.append((full, unit, *((cells[0], "known", "", "") if name in known else cells)))
    chains, draws = posterior.sizes["chain"], posterior.sizes["draw"]
    caption = f"Posterior from {chains * draws} draws in {chains} chain{'s' * (chains > 1)}"
    more = f"; {num - len(rows)} more in the file" if num > len(rows) else ""
    interval = interval_words(prob)
    head = ("parameter", "unit", "mean", f"posterior, {interval}", f"prior, {interval}", "left out")
    return Table(caption + more, head, rows).without_empty_columns()


def _entry(array: xr.DataArray, at: int, prob: float) -> Spread:
    values = array.transpose("chain", "draw", ...).values
    return spread(values.reshape(values.shape[0] * values.shape[1], -1)[:, at], prob)


def _cells(found: Spread, told: Spread | None) -> tuple[str, ...]:
    """Return mean, interval, the prior's interval, and what was left out of them."""
    both = {"posterior": found} | ({"prior": told} if told else {})
    lost = ", ".join(f"{which}: {each.loss}" for which, each in both.items() if each.lost)
    return number(found.mean), found.bounds, told.bounds if told else "", lost


def _response(tree: xr.DataTree, prob: float) -> list[Part]:
    if "response" not in tree.children:
        return []
    seen = "observed_data" in tree.children and "action_count" in tree["observed_data"]
    return picture(
        lambda: plot_response(tree, prob=prob, accept_failed=True),
        "Probability of the followers' choices without an incentive and under the common design",
        "How followers respond: without an incentive, under the common design"
        + (", and as observed" if seen else ""),
    )
