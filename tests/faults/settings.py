"""Settings out of range, and arguments of the wrong kind."""

from typing import Any

import numpy as np

import cbrl_bayes as cb
from tests.faults.registry import KEY, Fault, held, refused

KIND = "settings"
NAN = float("nan")

MADE: dict[str, tuple[Any, dict[str, Any], list[str]]] = {
    "no steps": (cb.Ascent, {"num_steps": 0}, ["num_steps", "0"]),
    "half a step": (cb.Ascent, {"num_steps": 10.5}, ["num_steps", "whole"]),
    "a learning rate of zero": (cb.Ascent, {"learning_rate": 0.0}, ["learning_rate"]),
    "a learning rate NaN": (cb.Ascent, {"learning_rate": NAN}, ["learning_rate", "nan"]),
    "a learning rate in text": (cb.Ascent, {"learning_rate": "0.1"}, ["learning_rate"]),
    "an infinite learning rate": (cb.Ascent, {"learning_rate": float("inf")}, ["learning_rate"]),
    "gradients cut to zero": (cb.Ascent, {"clip_norm": 0.0}, ["clip_norm"]),
    "a continuation that does not end at 1": (
        cb.Ascent,
        {"continuation": (10.0, 3.0)},
        ["continuation"],
    ),
    "a continuation of one number": (cb.Ascent, {"continuation": 1.0}, ["continuation"]),
    "a continuation of text": (cb.Ascent, {"continuation": ("hot", 1.0)}, ["continuation"]),
    "an optimiser by name": (cb.Ascent, {"optimizer": "adam"}, ["optimizer", "adam"]),
    "no ascents": (cb.Search, {"num_starts": 0}, ["num_starts"]),
    "a number for an ascent": (cb.Search, {"ascent": 300}, ["ascent", "300"]),
    "candidates for one start": (cb.Search, {"num_candidates": 9}, ["num_candidates"]),
    "start scales below zero": (cb.Search, {"start_scales": (-1.0,)}, ["start_scales"]),
    "one number for start scales": (cb.Search, {"start_scales": 1.0}, ["start_scales"]),
    "an ascent for a search": (cb.DesignSettings, {"search": cb.Ascent()}, ["search"]),
    "no draws to search on": (cb.DesignSettings, {"num_search_draws": 0}, ["num_search_draws"]),
    "an evaluation by name": (cb.DesignSettings, {"evaluation": "exact"}, ["evaluation"]),
    "no chains": (cb.NUTSSettings, {"num_chains": 0}, ["num_chains"]),
    "three samples": (cb.NUTSSettings, {"num_samples": 3}, ["num_samples", ">= 4"]),
    "an acceptance of 80": (cb.NUTSSettings, {"target_accept": 80}, ["target_accept", "80"]),
    "chains in a truth value": (cb.NUTSSettings, {"num_chains": True}, ["num_chains", "True"]),
    "no steps of SVI": (cb.SVISettings, {"num_steps": 0}, ["num_steps"]),
    "no rollouts": (cb.HPGD, {"num_rollouts": 0}, ["num_rollouts"]),
    "no rollouts to score": (cb.SimulatedEvaluation, {"num_rollouts": 0}, ["num_rollouts"]),
    "a tail of nothing": (cb.CVaR, {"level": 0.0}, ["level", "0.0"]),
    "a tail in percent": (cb.CVaR, {"level": 10}, ["level", "10"]),
    "a quantile above one": (cb.VaR, {"level": 1.5}, ["level", "1.5"]),
    "an aversion below zero": (cb.MeanVariance, {"aversion": -1.0}, ["aversion"]),
    "a credible set beyond all": (cb.WorstCase, {"prob": 1.5}, ["prob", "1.5"]),
    "a regret of nothing": (cb.MinimaxRegret, {"prob": 0.0}, ["prob", "0.0"]),
    "a cost NaN": (cb.CostAtMost, {"limit": NAN}, ["limit", "nan"]),
    "a chance in percent": (cb.CostAtMost, {"limit": 1.0, "prob": 95}, ["prob", "95"]),
    "a stress of zero": (cb.TemperatureShift, {"factor": 0.0}, ["factor", "0.0"]),
    "a blur beyond all": (cb.TransitionBlur, {"share": 1.5}, ["share", "1.5"]),
    "a limit of memory of zero": (cb.FileLimits, {"most_bytes": 0}, ["most_bytes"]),
    "a shift of contexts in percent": (
        cb.ContextShift,
        {"towards": "rain", "share": 25},
        ["share", "25"],
    ),
}

DESIGN: dict[str, tuple[dict[str, Any], list[str]]] = {
    "an estimator by name": ({"estimator": "exact"}, ["estimator", "exact"]),
    "an estimator without parentheses": ({"estimator": cb.HPGD}, ["estimator", "HPGD(...)"]),
    "settings of a fit": ({"settings": cb.NUTSSettings()}, ["settings", "NUTSSettings"]),
    "settings in a dictionary": ({"settings": {"num_starts": 2}}, ["settings", "dict"]),
    "no draws to design for": ({"num_draws": 0}, ["num_draws", "0"]),
    "draws for ever": ({"num_draws": float("inf")}, ["num_draws", "inf"]),
    "draws in text": ({"num_draws": "all"}, ["num_draws", "all"]),
    "draws in a truth value": ({"num_draws": True}, ["num_draws", "True"]),
    "a key that is a seed": ({"key": 0}, ["key", "jax.random.key(0)"]),
    "a key that is None": ({"key": None}, ["key", "None"]),
    "no workers": ({"num_workers": 0}, ["num_workers"]),
    "half a worker": ({"num_workers": 0.5}, ["num_workers"]),
    "an executor by name": ({"executor": "threads"}, ["executor", "threads"]),
    "progress in words": ({"progress": "yes"}, ["progress", "yes"]),
    "a checkpoint that is a number": ({"checkpoint": 1}, ["checkpoint", "1"]),
}

SUMMARY: dict[str, tuple[dict[str, Any], list[str]]] = {
    "intervals of probability 90": ({"prob": 90}, ["prob", "90"]),
    "intervals of probability 1": ({"prob": 1.0}, ["prob", "1.0"]),
    "intervals of probability NaN": ({"prob": NAN}, ["prob", "nan"]),
    "intervals in text": ({"prob": "90%"}, ["prob", "90%"]),
    "intervals of a kind nobody knows": ({"kind": "hpd"}, ["kind", "hpd", "hdi"]),
}


def _made(of: Any, given: dict[str, Any]) -> Any:
    return lambda bench: of(**given)


def _design(given: dict[str, Any]) -> Any:
    draws = {"temperature": np.array([0.2, 0.3])}
    return lambda bench: cb.design(bench.problem, draws, **{"key": KEY} | given)


FAULTS: list[Fault] = [
    *(refused(KIND, f"{of.__name__}: {n}", _made(of, g), *w) for n, (of, g, w) in MADE.items()),
    *(refused(KIND, f"design: {n}", _design(g), *w) for n, (g, w) in DESIGN.items()),
    *(
        refused(KIND, f"summary: {n}", lambda b, g=g: cb.summary(b.tree, **g), *w)
        for n, (g, w) in SUMMARY.items()
    ),
    refused(
        KIND,
        "simulation of no episodes",
        lambda b: cb.simulate_trajectories(b.problem, key=KEY, num_episodes=0, num_steps=1),
        "num_episodes",
    ),
    refused(
        KIND,
        "simulation of half a step",
        lambda b: cb.simulate_trajectories(b.problem, key=KEY, num_episodes=1, num_steps=0.5),
        "num_steps",
    ),
    refused(
        KIND,
        "simulation with a parameter nobody has",
        lambda b: cb.simulate_trajectories(
            b.problem, key=KEY, num_episodes=1, num_steps=1, parameters={"taste": 1.0}
        ),
        "taste",
        "temperature",
    ),
    refused(
        KIND,
        "an outcome under a temperature in text",
        lambda b: cb.leader_outcome(
            b.problem, {"bonus": 1.0}, b.problem.complete_parameters({"temperature": "warm"})
        ),
        "temperature",
        "warm",
    ),
    held(
        KIND,
        "a count of draws from NumPy",
        lambda b: cb.NUTSSettings(num_samples=np.int64(8)).num_samples,
        8,
    ),
]
