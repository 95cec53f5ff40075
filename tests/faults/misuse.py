"""Functions that are given something of another kind, in the middle of the work."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

import cbrl_bayes as cb
from tests.faults.registry import KEY, Bench, Fault, refused

KIND = "arguments"
NAN = float("nan")


def _worth(incentive: Any, **parameters: Any) -> Callable[[Bench], Any]:
    def run(bench: Bench) -> Any:
        known = bench.problem.default_parameters | parameters
        return cb.leader_outcome(bench.problem, incentive, known)

    return run


def _simulate(**given: Any) -> Callable[[Bench], Any]:
    sizes = {"key": KEY, "num_episodes": 2, "num_steps": 1}
    return lambda bench: cb.simulate_trajectories(bench.problem, **sizes | given)


def _space(**given: Any) -> Callable[[Bench], Any]:
    usual = {
        "initial": {"z": jnp.zeros(2)},
        "transform": lambda x: {"toll": x["z"]},
        "labels": {"toll": cb.Labels(("road",))},
    }
    return lambda bench: cb.IncentiveSpace(**usual | given)


WRONG: dict[str, tuple[Callable[[Bench], Any], list[str]]] = {
    "an outcome of a misspelt incentive": (_worth({"bonsu": 1.0}), ["bonsu", "bonus"]),
    "an outcome of an incentive in text": (_worth({"bonus": "1"}), ["incentive", "'1'"]),
    "an outcome of three numbers for one": (_worth({"bonus": jnp.ones(3)}), ["(3,)", "()"]),
    "an outcome of a number without its name": (_worth(1.0), ["bonus"]),
    "an outcome under a temperature below zero": (
        _worth({"bonus": 1.0}, temperature=-0.25),
        ["temperature", "-0.25"],
    ),
    "an outcome under a temperature NaN": (
        _worth({"bonus": 1.0}, temperature=NAN),
        ["temperature", "nan"],
    ),
    "an outcome without the law of contexts": (
        lambda b: cb.leader_outcome(b.problem, {"bonus": 1.0}, {"temperature": 0.25}),
        ["context_probability", "complete_parameters"],
    ),
    "parameters in a list": (lambda b: b.problem.complete_parameters([0.25]), ["parameters"]),
    "a temperature in a square": (
        lambda b: b.problem.complete_parameters({"temperature": [[0.25]]}),
        ["temperature", "[[0.25]]"],
    ),
    "a parameter nobody has": (
        lambda b: b.problem.complete_parameters({"taste": 1.0}),
        ["taste", "temperature"],
    ),
    "simulation under a misspelt incentive": (_simulate(incentive={"bonsu": 1.0}), ["bonsu"]),
    "simulation under an incentive NaN": (_simulate(incentive={"bonus": NAN}), ["bonus", "nan"]),
    "simulation under two numbers for one": (
        _simulate(incentive={"bonus": [1.0, 2.0]}),
        ["bonus", "()"],
    ),
    "simulation under a number without its name": (_simulate(incentive=1.0), ["incentive"]),
    "simulation under a law that sums to 1.1": (
        _simulate(parameters={"context_probability": (0.5, 0.6)}),
        ["context_probability"],
    ),
    "a transform that returns an array": (_space(transform=lambda x: x["z"]), ["transform"]),
    "a transform that fails": (_space(transform=lambda x: {"toll": x["y"]}), ["transform", "y"]),
    "no labels": (_space(labels=None), ["labels"]),
    "a unit for labels": (_space(labels={"toll": "euro"}), ["labels['toll']", "euro"]),
    "dims in one text": (_space(labels={"toll": cb.Labels("ab")}), ["dims", "'ab'"]),
    "coordinates in a list": (
        _space(labels={"toll": cb.Labels(("road",), ["a", "b"])}),
        ["coords", "list"],
    ),
    "names of contexts in one text": (
        lambda b: cb.DiscreteContexts("ab", jnp.zeros(2), (0.5, 0.5)),
        ["contexts", "'ab'"],
    ),
    "context probabilities in text": (
        lambda b: cb.DiscreteContexts(("a", "b"), jnp.zeros(2), ("half", "half")),
        ["context probabilities", "half"],
    ),
    "names of followers in one text": (
        lambda b: cb.Followers("ab", (0.5, 0.5)),
        ["followers", "'ab'"],
    ),
    "weights in text": (lambda b: cb.Followers(("a",), ("all",)), ["weights", "all"]),
    "bounds in text": (lambda b: cb.problems.Bounds("bonus", "0", 1.0), ["bound", "'0'"]),
    "a constraint that is none": (
        lambda b: cb.problems.constrained(b.problem, "bonus < 1"),
        ["constraint", "bonus < 1"],
    ),
    "constraints on a name": (lambda b: cb.problems.constrained("two_state"), ["problem"]),
    "incentives of a file's name": (lambda b: cb.with_incentives("d.nc", {}), ["data"]),
    "incentives in words": (
        lambda b: cb.with_incentives(b.data, {"baseline": {"bonus": "much"}}),
        ["bonus", "much"],
    ),
    "a path that is None": (lambda b: cb.load(None), ["path", "None"]),
    "a path that is a number": (lambda b: cb.save(b.tree, 5), ["path", "5"]),
    "behaviour from None": (lambda b: cb.load_trajectories(None), ["path", "None"]),
    "behaviour to None": (lambda b: cb.save_trajectories(b.data, None), ["path", "None"]),
    "limits that are a number": (lambda b: cb.load("x.nc", limits=5), ["limits", "5"]),
    "limits in text": (lambda b: cb.FileLimits(most_bytes="1GB"), ["most_bytes", "1GB"]),
    "a problem's name for a problem": (
        lambda b: cb.load_trajectories("x.csv", "two_state"),
        ["problem", "two_state"],
    ),
    "a summary of behaviour": (lambda b: cb.summary(b.data), ["posterior"]),
    "a comparison of draws": (lambda b: cb.compare_designs(b.tree), ["decision"]),
    "what information is worth, of draws": (
        lambda b: cb.information_table(b.tree),
        ["information"],
    ),
    "a table of stress of draws": (lambda b: cb.stress_table(b.tree), ["stress"]),
    "a table of sensitivity of draws": (lambda b: cb.sensitivity_table(b.tree), ["sensitivity"]),
    "an error budget of draws": (lambda b: cb.error_budget(b.tree), ["decision"]),
    "ranks of draws": (lambda b: cb.rank_uniformity(b.tree), ["calibrat"]),
    "a best response to a text": (lambda b: cb.best_response("walk"), ["mdp", "MDP"]),
    "bus groups nobody has": (lambda b: cb.load_zurcher((99,)), ["99"]),
    "figures to a file, from Python": (
        lambda b: (b.file("f.txt", ""), cb.plots.save_figures(b.tree, "f.txt")),
        ["f.txt"],
    ),
    "figures where nobody may write, from Python": (
        lambda b: cb.plots.save_figures(b.tree, "/proc/figures"),
        ["/proc/figures"],
    ),
    "a report to a number": (lambda b: cb.report(b.tree, 5), ["path"]),
}

FAULTS: list[Fault] = [*(refused(KIND, name, run, *words) for name, (run, words) in WRONG.items())]
