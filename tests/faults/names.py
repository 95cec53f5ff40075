"""Names of a problem that collide, that no file can hold, or that are none."""

from typing import Any

import jax.numpy as jnp

import cbrl_bayes as cb
from tests.faults.registry import Fault, held, named_problem, refused

KIND = "names"

# What the problem is given, and words of the error.
WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    f"a parameter called {name}": ({"parameter": name}, ["parameter", repr(name)])
    for name in (
        "context",
        "follower",
        "draw",
        "decision_point",
        "context_probability",
        "rationality",
        "temperature_spread",
        "cost/km",
        " scale",
        "two\nlines",
        "",
    )
} | {
    "a parameter called 5": ({"parameter": 5}, ["parameter", "5"]),
    "an incentive called €/week": ({"incentive": "€/week"}, ["€/week"]),
    "an incentive without a name": ({"incentive": ""}, ["incentive"]),
    "an incentive called 3": ({"incentive": 3}, ["incentive", "3"]),
    "an axis called draw": ({"dims": ("draw",)}, ["draw", "bonus"]),
    "an axis called design": ({"dims": ("design",)}, ["design", "bonus"]),
    "an axis called incentive": ({"dims": ("incentive",)}, ["incentive", "bonus"]),
    "an axis with a slash": ({"dims": ("a/b",)}, ["a/b"]),
    "an axis that has the incentive's name": ({"dims": ("bonus",)}, ["bonus"]),
    "two axes for one": ({"dims": ("day", "hour")}, ["bonus", "day"]),
    "three labels for two entries": (
        {"coords": (("day", ("mon", "tue", "wed")),)},
        ["bonus", "day"],
    ),
    "two entries with one label": ({"coords": (("day", ("mon", "mon")),)}, ["mon"]),
    "a context twice": ({"contexts": ("a", "a")}, ["contexts", "distinct"]),
    "a context without a name": ({"contexts": ("a", "")}, ["context", "name"]),
    "a context that is a number": ({"contexts": ("a", 1)}, ["context", "letters"]),
    "a follower twice": ({"followers": ("a", "a")}, ["follower", "a"]),
    "a follower without a name": ({"followers": ("a", "")}, ["follower"]),
    "action names for another number of actions": (
        {"action_names": ("no", "yes", "perhaps")},
        ["action_names", "3 names"],
    ),
    "an action name twice": ({"action_names": ("yes", "yes")}, ["action_names", "yes"]),
    "uncertain names no parameter": ({"uncertain": ("taste",)}, ["uncertain", "taste"]),
    "uncertain is a text": ({"uncertain": "temperature"}, ["uncertain", "'temperature'"]),
    "per_follower names no parameter": ({"per_follower": ("tast",)}, ["per_follower", "tast"]),
    "laws names no parameter": ({"laws": ("mix",)}, ["laws", "mix"]),
    "ranges of no parameter": ({"ranges": {"mix": (0.0, 1.0)}}, ["ranges", "mix"]),
}


def _built(given: dict[str, Any]) -> Any:
    return lambda bench: named_problem.__wrapped__(**given)


def _one_more(name: str) -> Any:
    """An incentive of two arrays, one of them under a name that is taken."""

    def run(bench: Any) -> Any:
        both = {"bonus": cb.Labels(), name: cb.Labels()}
        return cb.IncentiveSpace({"z": jnp.zeros(())}, lambda x: dict.fromkeys(both, x["z"]), both)

    return run


def _kept(names: tuple[str, ...]) -> Any:
    """Contexts of a name, through behaviour in a file, must come back as they are."""

    def run(bench: Any) -> Any:
        problem = named_problem(contexts=names)
        data = cb.make_trajectories([[0], [0]], [[1], [0]], context=list(names))
        path = cb.save_trajectories(data, bench.folder / "data.nc")
        again = cb.load_trajectories(path, problem, limits=None)
        return tuple(again.context.values.tolist())

    return run


KEPT = {
    "contexts NA and None": ("NA", "None"),
    "contexts with a slash and a blank": ("a/b", "a b"),
    "contexts in other letters": ("Österreich", "日本"),
    "contexts 1 and 1.0": ("1", "1.0"),
    "contexts that differ in capitals": ("x", "X"),
}

FAULTS: list[Fault] = [
    *(refused(KIND, name, _built(given), *words) for name, (given, words) in WRONG.items()),
    refused(KIND, "an incentive called cost beside another", _one_more("cost"), "cost"),
    *(held(KIND, name, _kept(names), names) for name, names in KEPT.items()),
]
