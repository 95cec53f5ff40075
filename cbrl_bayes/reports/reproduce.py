"""Code and commands that make a study again, written from the settings it keeps.

The file may come from a stranger, and what is printed here is meant to be copied. So a program
holds plain values, their text only as Python literals or in comments, and names from `SETTINGS`; a
command holds whole numbers and words of this package, nothing else.
"""

import json
import math
from collections.abc import Hashable, Mapping
from dataclasses import fields, replace
from typing import Any

import xarray as xr

from cbrl_bayes import designs, followers, hypergradients, inference, problems
from cbrl_bayes.cli.input import SearchName, chosen_search
from cbrl_bayes.errors import CbrlBayesError
from cbrl_bayes.results.provenance import describe, fingerprint
from cbrl_bayes.workflow import default_design_settings

__all__ = ["commands", "program"]

SETTINGS: dict[str, type] = {
    **{
        f"cb.{kind.__name__}": kind
        for kind in (
            hypergradients.Ascent,
            hypergradients.Search,
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
READY_MADE = (*problems.READY_MADE, "rlhf", "shared_default_policy")
WIDTH = 88
CHAINS = ("num_chains", "num_warmup", "num_samples")
NONE = "# No command makes {}: use the program above."


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
    lines = ["import jax", "import numpy as np", "import cbrl_bayes as cb", "", _problem(attrs)]
    if attrs.get("stage") == "design only":
        names = ", ".join(f"{name!r}: ..." for name in map(str, tree["posterior"].data_vars))
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
            f"                  settings={expression(designed.get('design'), 27)})",
            *_later(tree),
            'cb.save(study, "study.nc")',
            'cb.report(study, "report.html")',
        ]
    else:
        lines += ['cb.save(fit, "fit.nc")', 'cb.report(fit, "report.html")']
    return "\n".join(lines)


def commands(tree: xr.DataTree) -> str:
    """Return commands for the command line, or say in comments why there are none.

    A command is printed only where its options can say all that the file keeps: the problem as it
    is made without arguments (by its fingerprint), and settings that are the default ones but for
    what has an option.

    Parameters
    ----------
    tree : xarray.DataTree

    Returns
    -------
    str
    """
    attrs = tree.attrs
    designed = _json(attrs, "design_settings")
    file = "study.nc" if designed else "fit.nc"
    if attrs.get("stage") == "design only":
        lines = [NONE.format("designs for draws from another tool")]
    elif not _is_default_problem(attrs):
        lines = [
            NONE.format("this problem from its name alone"),
            "# Options for some arguments: --temperature, --penalty-weight, --slip.",
        ]
    else:
        name = attrs["problem"]
        lines = [
            "# With default priors and families of contexts, as commands have no other:",
            _infer_command(name, _json(attrs, "settings")),
        ]
        if designed:
            lines.append(_design_command(name, designed))
            lines += _later(tree)
    return "\n".join([*lines, f"cbrl-bayes report {file} -o report.html"])


def _is_default_problem(attrs: Mapping[Hashable, Any]) -> bool:
    """Tell whether the command line makes this problem from its name alone."""
    name = attrs.get("problem")
    if name not in problems.READY_MADE:
        return False
    try:
        return fingerprint(problems.READY_MADE[str(name)]()) == attrs.get("fingerprint")
    except CbrlBayesError:  # data that it needs are not here
        return False


def _infer_command(name: str, settings: dict[str, Any]) -> str:
    used, seed = settings.get("inference"), _seed(settings.get("seed"))
    kept = used if isinstance(used, dict) else {}
    if seed is not None and _is_default(kept, inference.NUTSSettings(), CHAINS):
        chains, warmup, samples = (kept[each] for each in CHAINS)
        how = f"--chains {chains} --warmup {warmup} --samples {samples}"
    elif seed is not None and _is_default(kept, inference.SVISettings(), ("num_samples",)):
        how = f"--method svi --chains 1 --samples {kept['num_samples']}"
    else:
        return NONE.format("a fit with these settings and this seed")
    return f"cbrl-bayes infer {name} --data DATA {how} --seed {seed} --output fit.nc"


def _design_command(name: str, designed: dict[str, Any]) -> str:
    estimator, num, seed = (
        designed.get("estimator"),
        designed.get("num_draws"),
        _seed(designed.get("seed")),
    )
    none = NONE.format("designs with this estimator, these settings and this seed")
    made = {word: make() for word, make in hypergradients.ESTIMATORS.items()}
    by = next((word for word, how in made.items() if _is_default(estimator, how)), None)
    if by is None or seed is None or not _is_count(num):
        return none
    usual = default_design_settings(made[by])
    searches = {"": usual} | {
        f" --search {each.value}": replace(usual, search=chosen_search(each)) for each in SearchName
    }
    free = ("num_workers",)  # it changes no number
    search = next(
        (
            text
            for text, settings in searches.items()
            if _is_default(designed.get("design"), settings, free)
        ),
        None,
    )
    if search is None:
        return none
    return (
        f"cbrl-bayes design {name} --fit fit.nc --estimator {by}{search} --draws {num} "
        f"--seed {seed} --output study.nc"
    )


def _is_default(kept: object, settings: object, but: tuple[str, ...] = ()) -> bool:
    """Tell whether the tree keeps just these settings, except for counts named in ``but``."""
    wanted = json.loads(json.dumps(describe(settings)))
    if not isinstance(kept, dict) or set(kept) != set(wanted):
        return False
    return all(
        _is_count(kept[name]) if name in but else kept[name] == wanted[name] for name in wanted
    )


def _is_count(value: object) -> bool:
    return type(value) is int and 0 < value < 2**31


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


def _later(tree: xr.DataTree) -> list[str]:
    more = tree["decision"].sizes.get("design", 0) > PLAIN_DESIGNS
    if not more and not set(LATER) & set(tree.children):
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
