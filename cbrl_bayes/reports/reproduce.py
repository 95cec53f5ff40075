"""Code and commands that make a study again, written from the settings it keeps."""

import json
from collections.abc import Hashable, Mapping
from importlib import import_module
from typing import Any

import xarray as xr

__all__ = ["commands", "program"]

ROOMS = {"cb": "cbrl_bayes", "cb.hypergradients": "cbrl_bayes.hypergradients",
         "cb.decisions": "cbrl_bayes.decisions", "cb.inference": "cbrl_bayes.inference",
         "cb.problems": "cbrl_bayes.problems"}  # fmt: skip
READY_MADE = ("bus_replacement", "contract_design", "four_rooms", "four_rooms_doors",
              "reserve_price", "rlhf", "shared_default_policy", "tax_design",
              "two_state")  # fmt: skip
BY_COMMAND = ("bus_replacement", "contract_design", "four_rooms", "four_rooms_doors",
              "reserve_price", "tax_design", "two_state")  # fmt: skip
WIDTH = 88


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
            'cb.save(study, "study.nc")',
            'cb.report(study, "report.html")',
        ]
    else:
        lines += ['cb.save(fit, "fit.nc")', 'cb.report(fit, "report.html")']
    return "\n".join(lines)


def commands(tree: xr.DataTree) -> str:
    """Return the commands for the command line, where the problem can be named there."""
    attrs = tree.attrs
    name = attrs.get("problem")
    page = "cbrl-bayes report study.nc -o report.html"
    settings, designed = _json(attrs, "settings"), _json(attrs, "design_settings")
    inference, seed = settings.get("inference"), _seed(settings.get("seed"))
    if name not in BY_COMMAND or not isinstance(inference, dict) or seed is None:
        return page
    if inference.get("type") != "NUTSSettings":
        return page
    lines = [
        f"cbrl-bayes infer {name} --data DATA --chains {expression(inference.get('num_chains'))} "
        f"--warmup {expression(inference.get('num_warmup'))} "
        f"--samples {expression(inference.get('num_samples'))} --seed {seed} --output fit.nc"
    ]
    if designed and _seed(designed.get("seed")) is not None:
        lines.append(
            f"cbrl-bayes design {name} --fit fit.nc --draws {expression(designed['num_draws'])} "
            f"--seed {_seed(designed['seed'])} --output study.nc"
        )
    return "\n".join([*lines, page])


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
    if not isinstance(value, dict):
        return repr(value)
    place = _place(value.get("type"))
    if place is None:
        return repr(value)
    given = {name: entry for name, entry in value.items()
             if name != "type" and name.isidentifier()}  # fmt: skip
    inside = indent + len(place) + 1
    parts = [f"{name}={expression(entry, inside + len(name) + 1)}"
             for name, entry in given.items()]  # fmt: skip
    line = f"{place}({', '.join(parts)})"
    if "\n" not in line and indent + len(line) <= WIDTH:
        return line
    return f"{place}(" + (",\n" + " " * inside).join(parts) + ")"


def _place(kind: object) -> str | None:
    """Say where a type of this package is found; None for any other text."""
    if not isinstance(kind, str) or not kind.isidentifier():
        return None
    for short, module in ROOMS.items():
        if kind in getattr(import_module(module), "__all__", ()):
            return f"{short}.{kind}"
    return None


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
    plain = isinstance(seed, list) and len(seed) == 2 and all(type(entry) is int for entry in seed)
    return seed[1] if isinstance(seed, list) and plain and seed[0] == 0 else None


def _json(attrs: Mapping[Hashable, Any], name: str) -> dict[str, Any]:
    try:
        found = json.loads(attrs.get(name, "{}"))
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _word(text: object) -> str:
    """Keep a word that cannot leave its comment."""
    return "".join(filter(str.isalnum, str(text)))[:64]
