"""Code and commands that make a study again, written from the settings it keeps.

The file may come from a stranger, and what is printed here is meant to be copied. So a program
holds plain values, their text only as Python literals or in comments, and names from `SETTINGS`; a
command holds names and values from `results.commands.OPTIONS`, nothing else.
"""

import json
import math
import shlex
from collections.abc import Hashable, Mapping
from dataclasses import fields
from typing import Any

import xarray as xr

from cbrl_bayes import designs, followers, hypergradients, inference, problems
from cbrl_bayes.results.commands import READY_MADE, kept_commands

SETTINGS: dict[str, type] = {
    **{
        f"cb.{kind.__name__}": kind
        for kind in (
            hypergradients.Ascent,
            hypergradients.Search,
            hypergradients.Rounds,
            hypergradients.LawPrior,
            designs.DesignSettings,
            designs.ExactEvaluation,
            designs.SimulatedEvaluation,
            inference.NUTSSettings,
            inference.SVISettings,
        )
    },
    **{
        f"cb.hypergradients.{type(made).__name__}": type(made)
        for made in (make() for make in hypergradients.ESTIMATORS.values())
    },
    "cb.followers.ExactFollower": followers.ExactFollower,
}
"""The types of settings that a program may name, by where they are found."""

LATER = ("information", "sensitivity", "model_comparison", "stress")
PLAIN_DESIGNS = 2
WIDTH = 88

FILES = {"infer": ("", "fit.nc"), "design": ("fit.nc", "study.nc"), "robust": ("study.nc",) * 2}
"""Command -> the file it takes and the file it makes, as a page calls them."""


def program(tree: xr.DataTree) -> str:
    """Return a program that makes the study from its problem and its data.

    Settings and seeds are those the tree keeps. What it does not keep (the arguments of the
    problem, the place of the data, priors that were passed, text in place of what is no plain
    value) is marked by a comment.

    Parameters
    ----------
    tree : xarray.DataTree

    Returns
    -------
    str
    """
    attrs = tree.attrs
    settings = _json(attrs, "settings")
    designed = _json(attrs, "design_settings")
    stated = designed.get("alternatives")
    lines = ["import jax", "import numpy as np", "import cbrl_bayes as cb", "", _problem(attrs)]
    watched = "dynamics" in tree.children and tree["dynamics"].attrs["learned"] == "watched"
    if problems.LAW in tree["posterior"].data_vars and not watched:
        lines.append("problem = cb.problems.with_unknown_law(problem)")
    given = [
        n for n in map(str, tree["posterior"].data_vars) if not (watched and n == problems.LAW)
    ]
    if attrs.get("stage") == "design only":
        names = ", ".join(f"{name!r}: ..." for name in given)
        lines.append(f"fit = {{{names}}}  # the draws, from the tool that made them")
    else:
        lines += [
            'data = cb.load_trajectories("DATA")  # '
            f"data with this problem: fingerprint {_word(attrs.get('data_fingerprint'))}",
            f"# priors: {json.dumps(settings.get('priors', {}))}",
            "# (pass priors={...} if they are not the default ones)",
            f"fit = cb.infer(problem, data, key={_key(settings.get('seed'))},",
            f"               settings={expression(settings.get('inference'), 24)})",
        ]
    if designed:
        lines += [
            f"study = cb.design(problem, fit, key={_key(designed.get('seed'))},",
            f"                  num_draws={expression(designed.get('num_draws'))},",
            f"                  estimator={expression(designed.get('estimator'), 28)},",
            f"                  settings={expression(designed.get('design'), 27)}"
            + (f",\n                  alternatives={stated!r})" if stated else ")"),
            *_later(tree),
            'cb.save(study, "study.nc")',
            'cb.report(study, "report.html")',
        ]
    else:
        lines += ['cb.save(fit, "fit.nc")', 'cb.report(fit, "report.html")']
    return "\n".join(lines)


def commands(tree: xr.DataTree) -> str:
    """Return the commands that made the study, or say in a comment that there are none.

    Parameters
    ----------
    tree : xarray.DataTree

    Returns
    -------
    str
    """
    calls = kept_commands(tree)
    lines = [] if calls else ["# Made from Python, or by an older version: use the program above."]
    for call in calls:
        takes, makes = FILES[call["command"]]
        if takes and not lines:
            lines.append(f"# {takes} was made from Python: use the program above.")
        given = [call["problem"], *([takes] if call["command"] == "robust" else [])]
        for name, value in call["options"].items():
            values = value if isinstance(value, list) else [value]
            given += [f"--{name} {_quoted(each)}" for each in values]
        lines.append(f"cbrl-bayes {call['command']} {' '.join(given)} --output {makes}")
    file = "study.nc" if "design" in tree.children else "fit.nc"
    more = _later(tree, told=any(call["command"] == "robust" for call in calls))
    return "\n".join([*lines, *more, f"cbrl-bayes report {file} -o report.html"])


def _quoted(value: object) -> str:
    """Quote what a shell would take apart."""
    return shlex.quote(str(value)) if str(value).startswith("{") else str(value)


def expression(value: Any, indent: int = 0) -> str:
    """Write a setting as Python, from the plain values the tree keeps.

    Examples
    --------
    >>> expression({"type": "NUTSSettings", "num_chains": 2, "num_warmup": 10})
    'cb.NUTSSettings(num_chains=2, num_warmup=10)'
    >>> expression([1.0, "x"])
    "(1.0, 'x')"
    """
    if isinstance(value, list):
        inner = ", ".join(expression(entry, indent + 1) for entry in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if not isinstance(value, dict):
        return repr(value)
    place, names = _place(value.get("type"))
    if not place:
        return repr(value)
    given = {name: entry for name, entry in value.items() if name in names}
    inside = indent + len(place) + 1
    parts = [f"{name}={expression(entry, inside + len(name) + 1)}" for name, entry in given.items()]
    line = f"{place}({', '.join(parts)})"
    if "\n" not in line and indent + len(line) <= WIDTH:
        return line
    return f"{place}(" + (",\n" + " " * inside).join(parts) + ")"


def _place(kind: object) -> tuple[str, set[str]]:
    """Say where a type of settings is found and what it takes; "" for any other text."""
    for place, known in SETTINGS.items():
        if kind == known.__name__:
            return place, {entry.name for entry in fields(known) if entry.init}
    return "", set()


def _later(tree: xr.DataTree, *, told: bool = False) -> list[str]:
    """Say what is left out; ``told``: the designs by other criteria are not."""
    designs = tree["decision"].sizes.get("design", 0) if "decision" in tree.children else 0
    if not (designs > PLAIN_DESIGNS and not told) and not set(LATER) & set(tree.children):
        return []
    return [
        "# Left out is what was added to the study later: designs by other criteria, value of",
        "# information, sensitivity or stress tests.",
    ]


def _problem(attrs: Mapping[Hashable, Any]) -> str:
    name = attrs.get("problem")
    made = f"cb.problems.{name}()  # with the arguments it had" if name in READY_MADE else "..."
    words = "" if name in READY_MADE else "  # your own problem"
    return f"problem = {made}{words}: fingerprint {_word(attrs.get('fingerprint'))}"


def _key(seed: object) -> str:
    number = _seed(seed)
    if number is not None:
        return f"jax.random.key({number})"
    if isinstance(seed, list) and all(type(entry) is int for entry in seed):
        return f"jax.random.wrap_key_data(np.array({seed}, np.uint32))"
    return "..."


def _seed(seed: object) -> int | None:
    """Return the number that `jax.random.key` made this key from, if it is such a key."""
    if not isinstance(seed, list) or len(seed) != 2:
        return None
    high, low = seed
    plain = type(high) is int and type(low) is int and high == 0 and 0 <= low < 2**32
    return low if plain else None


def _json(attrs: Mapping[Hashable, Any], name: str) -> dict[str, Any]:
    try:
        found = json.loads(attrs.get(name, "{}"))
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _word(text: object) -> str:
    """Keep a word that cannot leave its comment."""
    return "".join(letter for letter in str(text)[:64] if letter.isalnum() and letter.isascii())
