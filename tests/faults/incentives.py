"""Incentives in readable values, stated as alternatives: names, labels, bounds, units."""

from dataclasses import replace
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr

import cbrl_bayes as cb
from tests.faults.registry import KEY, Fault, held, named_problem, refused

KIND = "incentives"
ROADS = ("north", "south")


@cache
def tolls() -> cb.Problem:
    """Return a problem of two tolls between 0 and 5, with names."""
    base = named_problem(incentive="toll", dims=("road",))
    space = cb.IncentiveSpace(
        {"z": jnp.zeros(2)},
        lambda x: {"toll": cb.problems.scaled_sigmoid(x["z"], 0.0, 5.0)},
        {"toll": cb.Labels(("road",), {"road": (("road",), ROADS)}, "euro")},
    )
    return replace(base, incentive=space)


def _toll(value: Any) -> Any:
    def run(bench: Any) -> list[float]:
        space = tolls().incentive
        given = value if isinstance(value, str) else {"toll": value}
        found = space.transform(space.unconstrained_for(given))["toll"]
        return np.asarray(found).round(6).tolist()

    return run


HELD = {
    "one number for two roads": (2.0, [2.0, 2.0]),
    "roads by name, the other way round": ({"south": 1.0, "north": 2.0}, [2.0, 1.0]),
    "a labelled array, the other way round": (
        xr.DataArray([1.0, 2.0], dims="road", coords={"road": ["south", "north"]}),
        [2.0, 1.0],
    ),
    "whole numbers": ([1, 2], [1.0, 2.0]),
    "a bound that is only approached": ([0.0, 5.0], [0.0, 5.0]),
    "no incentive": ("no incentive", [0.0, 0.0]),
}

WRONG: dict[str, tuple[Any, list[str]]] = {
    "a toll beyond its bound": ([2.0, 6.0], ["toll", "6"]),
    "a toll below its bound": (-1.0, ["toll", "-1"]),
    "three tolls for two roads": ([1.0, 2.0, 3.0], ["toll", "(3,)"]),
    "a road nobody knows": ({"north": 1.0, "west": 2.0}, ["toll", "west", "south"]),
    "one road of two": ({"north": 1.0}, ["toll", "south"]),
    "a toll NaN": ([1.0, float("nan")], ["toll", "finite"]),
    "a toll in text": ("2 euro", ["2 euro", "no incentive"]),
    "a list of texts": (["1", "2"], ["toll"]),
    "a truth value": (True, ["toll", "True"]),
    "a labelled array of other roads": (
        xr.DataArray([1.0, 2.0], dims="road", coords={"road": ["a", "b"]}),
        ["toll", "a"],
    ),
    "a labelled array along another axis": (
        xr.DataArray([1.0, 2.0], dims="lane", coords={"lane": ["south", "north"]}),
        ["toll", "lane"],
    ),
}

STATED: dict[str, tuple[Any, list[str]]] = {
    "a misspelt incentive": ({"today": {"bonsu": 1.0}}, ["today", "bonsu", "bonus"]),
    "an incentive too many": ({"today": {"bonus": 1.0, "fine": 1.0}}, ["today", "fine"]),
    "an alternative called common": ({"common": {"bonus": 1.0}}, ["common"]),
    "an alternative without a name": ({"": {"bonus": 1.0}}, ["alternatives"]),
    "an alternative 1": ({1: {"bonus": 1.0}}, ["alternatives", "1"]),
    "alternatives in a list": ([{"bonus": 1.0}], ["alternatives"]),
    "an alternative that is a number": ({"today": 1.0}, ["today", "1.0"]),
    "no incentive, misspelt": ({"none": "nothing"}, ["none", "nothing", "no incentive"]),
}


def _stated(given: Any) -> Any:
    draws = {"temperature": np.array([0.2, 0.3])}
    return lambda bench: cb.design(bench.problem, draws, key=KEY, alternatives=given)


FAULTS: list[Fault] = [
    *(held(KIND, n, _toll(v), r) for n, (v, r) in HELD.items()),
    *(refused(KIND, n, _toll(v), *w) for n, (v, w) in WRONG.items()),
    *(refused(KIND, n, _stated(v), *w) for n, (v, w) in STATED.items()),
]
