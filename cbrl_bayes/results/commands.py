"""The commands that made a study, as its file keeps them."""

import json
import re
from typing import Any

import xarray as xr

from cbrl_bayes import hypergradients, problems

READY_MADE = (
    *problems.READY_MADE,
    "random_mdp",
    "rlhf",
    "route_choice",
    "shared_default_policy",
    "two_option_learning",
)
"""The problems that the command line offers by name."""

NUMBER = r"-?[0-9][0-9.e+-]*"
OPTIONS: dict[str, dict[str, str]] = {
    "infer": {
        "data": "DATA",
        "groups": "[0-9][0-9,-]*",
        "method": "nuts|svi",
        "dynamics": "known|unknown",
        "chains": NUMBER,
        "warmup": NUMBER,
        "samples": NUMBER,
    },
    "design": {
        "fit": "fit.nc",
        "estimator": "|".join(hypergradients.ESTIMATORS),
        "search": "plain|continuation|global|ascent",
        "draws": NUMBER,
        "alternatives": r"""\{[\w "'\[\]{}:,.+()%/-]*\}""",
    },
    "robust": dict.fromkeys(
        ("cvar", "worst-case", "minimax-regret", "most-cost", "most-cost-prob"), NUMBER
    ),
}
"""Command -> the options that numbers depend on, and what their values may be."""
for options in OPTIONS.values():
    slip = "as-published|simulator|[0-9.]+"
    options |= {"seed": NUMBER, "temperature": NUMBER, "penalty-weight": NUMBER, "slip": slip}


def kept_commands(tree: xr.DataTree) -> list[dict[str, Any]]:
    """Return the commands that a tree keeps, or none if they are not those that made it.

    The file may come from a stranger: the list is empty unless every command, problem, option and
    value is one that `OPTIONS` knows.

    Parameters
    ----------
    tree : xarray.DataTree

    Returns
    -------
    list of dict
        With ``command``, ``problem``, ``options`` and ``created`` (when its result was made).
    """
    try:
        found = json.loads(tree.attrs.get("commands", "[]"))
        good = all(_is_call(call) for call in found)
        # A study that Python designed anew still has the commands of what it was before.
        whole = good and found[-1]["created"] == tree.attrs["created"]
    except (TypeError, ValueError, LookupError, AttributeError):
        return []
    return found if whole else []


def _is_call(call: dict[str, Any]) -> bool:
    known = OPTIONS[call["command"]]
    return call["problem"] in READY_MADE and all(
        type(value) in (int, float, str) and re.fullmatch(known[name], str(value))
        for name, given in call["options"].items()
        for value in (given if isinstance(given, list) else [given])
    )
