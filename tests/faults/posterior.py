"""Draws that cannot be used, and priors and keys that no fit can take."""

from typing import Any

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd

import cbrl_bayes as cb
from cbrl_bayes.inference import default_priors, prior_text
from tests.faults.registry import KEY, Bench, Fault, held, named_problem, refused

KIND = "posterior"
LAM = np.array([0.2, 0.25, 0.3])
LAW = np.tile([0.9, 0.1], (3, 1))
NAN = float("nan")


def mean(problem: cb.Problem, draws: Any, **given: Any) -> list[float]:
    """Return the mean of each parameter that was read, in the order of their names."""
    posterior = cb.from_draws(problem, draws, **given)["posterior"]
    return [
        float(entry)
        for name in sorted(posterior.data_vars)
        for entry in np.ravel(posterior[name].mean(("chain", "draw")).round(9))
    ]


def _read(draws: Any, **given: Any) -> Any:
    return lambda bench: mean(bench.problem, draws() if callable(draws) else draws, **given)


WRONG: dict[str, tuple[Any, dict[str, Any], list[str]]] = {
    "a misspelt name": ({"temprature": LAM}, {}, ["temprature", "temperature"]),
    "another tool's name": ({"lambda_": LAM}, {}, ["lambda_"]),
    "capitals": ({"Temperature": LAM}, {}, ["Temperature", "temperature"]),
    "no draws at all": ({}, {}, ["draws", "none"]),
    "an empty array": ({"temperature": []}, {}, ["temperature"]),
    "one number": ({"temperature": 0.25}, {}, ["temperature"]),
    "a draw NaN": ({"temperature": [0.2, NAN, 0.3]}, {}, ["temperature", "1 of 3"]),
    "a draw None": ({"temperature": [0.2, None, 0.3]}, {}, ["temperature"]),
    "an infinite draw": ({"temperature": [0.2, np.inf, 0.3]}, {}, ["temperature", "1 of 3"]),
    "text for draws": ({"temperature": ["0.2", "0.3"]}, {}, ["temperature"]),
    "complex draws": ({"temperature": LAM + 0j}, {}, ["temperature", "complex"]),
    "truth values for draws": ({"temperature": [True, False]}, {}, ["temperature", "bool"]),
    "ragged draws": ({"temperature": [[0.2], [0.2, 0.3]]}, {}, ["temperature"]),
    "dates for draws": (
        {"temperature": np.array(["2026-01-01"], "datetime64[D]")},
        {},
        ["temperature"],
    ),
    "other numbers of draws": (
        {"temperature": LAM, "context_probability": LAW[:2]},
        {},
        ["differ in number", "context_probability"],
    ),
    "a law of three contexts of two": (
        {"temperature": LAM, "context_probability": np.ones((3, 3)) / 3},
        {},
        ["context_probability", "(3,)", "(2,)"],
    ),
    "draws along the last axis": (
        {"temperature": LAM, "context_probability": LAW.T},
        {},
        ["context_probability", "first axis"],
    ),
    "a column of Stan missing": (
        pd.DataFrame({"temperature": LAM, "context_probability[1]": LAW[:, 0]}),
        {},
        ["context_probability"],
    ),
    "columns of Stan from 2": (
        pd.DataFrame(
            {
                "temperature": LAM,
                "context_probability[2]": LAW[:, 0],
                "context_probability[3]": LAW[:, 1],
            }
        ),
        {},
        ["context_probability"],
    ),
    "a table without rows": (pd.DataFrame({"temperature": []}), {}, ["empty"]),
    "a column twice": (
        pd.DataFrame(np.tile(LAM[:, None], 2), columns=["temperature"] * 2),
        {},
        ["temperature"],
    ),
    "names that map to nothing": ({"lam": LAM}, {"names": {"lam": "temprature"}}, ["temprature"]),
    "names of draws that are not there": (
        {"temperature": LAM},
        {"names": {"lam": "temperature"}},
        ["lam"],
    ),
    "two names for one parameter": (
        {"lam": LAM, "temperature": LAM},
        {"names": {"lam": "temperature"}},
        ["temperature"],
    ),
    "a list of draws": ([0.2, 0.3], {}, ["fit", "list"]),
    "a rationality of zero": ({"rationality": [0.0, 4.0]}, {}, ["temperature"]),
    "a tree without posterior": (
        lambda: az.from_dict({"prior": {"temperature": LAM[None]}}),
        {},
        ["posterior"],
    ),
    "a tree of another problem": (
        lambda: az.from_dict({"posterior": {"mu": LAM[None]}}),
        {},
        ["mu"],
    ),
    "a dataset of data": (
        lambda: (
            az.from_dict({"posterior": {"temperature": LAM[None]}})["posterior"]
            .to_dataset()
            .rename(chain="row", draw="column")
        ),
        {},
        ["axes row, column"],
    ),
}

# Draws that are refused when designs are made of them.
DESIGNED: dict[str, tuple[Any, list[str]]] = {
    "a temperature of zero": ({"temperature": [0.2, 0.0]}, ["temperature", "positive"]),
    "a temperature below zero": ({"temperature": [0.2, -0.1]}, ["temperature", "positive"]),
    "a law that sums to .8": (
        {"temperature": LAM, "context_probability": LAW - 0.1},
        ["context_probability", "distribution"],
    ),
    "a law below zero": (
        {"temperature": LAM, "context_probability": np.tile([1.1, -0.1], (3, 1))},
        ["context_probability", "distribution"],
    ),
    "logarithms for temperatures": ({"temperature": np.log(LAM)}, ["temperature", "positive"]),
}

RIGHT = [0.9, 0.1, 0.25]
HELD: dict[str, tuple[Any, dict[str, Any], list[float], str]] = {
    "a list": ({"temperature": [0.2, 0.3]}, {}, [0.25], ""),
    "whole numbers": ({"temperature": [1, 2, 3]}, {}, [2.0], ""),
    "single precision": ({"temperature": np.float32([0.25, 0.75])}, {}, [0.5], ""),
    "JAX arrays": ({"temperature": jnp.asarray(LAM)}, {}, [0.25], ""),
    "rationality for temperature": ({"rationality": 1 / LAM}, {}, [0.25], ""),
    "columns of Stan": (
        pd.DataFrame(
            {
                "lp__": LAM,
                "temperature": LAM,
                "context_probability[1]": LAW[:, 0],
                "context_probability[2]": LAW[:, 1],
            }
        ),
        {},
        RIGHT,
        "",
    ),
    "columns of CmdStan in another order": (
        pd.DataFrame(
            {
                "context_probability.2": LAW[:, 1],
                "temperature": LAM,
                "context_probability.1": LAW[:, 0],
            }
        ),
        {},
        RIGHT,
        "",
    ),
    "columns by the contexts' names": (
        pd.DataFrame(
            {
                "context_probability[cost 1.5]": LAW[:, 1],
                "context_probability[cost 0.5]": LAW[:, 0],
                "temperature": LAM,
            }
        ),
        {},
        RIGHT,
        "",
    ),
    "another name, mapped": ({"lam": LAM}, {"names": {"lam": "temperature"}}, [0.25], ""),
    "a law rounded to six digits": (
        {"temperature": LAM, "context_probability": LAW + np.array([0.000001, 0.0])},
        {},
        [round(0.900001 / 1.000001, 9), round(0.1 / 1.000001, 9), 0.25],
        "",
    ),
    "draws of nothing known beside": (
        {"temperature": LAM, "log_lik": np.zeros((3, 50))},
        {},
        [0.25],
        "log_lik",
    ),
    "one chain, chosen": (
        lambda: az.from_dict({"posterior": {"temperature": LAM[None]}}).isel(chain=0),
        {},
        [0.25],
        "",
    ),
    "the group posterior alone": (
        lambda: az.from_dict({"posterior": {"temperature": LAM[None]}})["posterior"],
        {},
        [0.25],
        "",
    ),
}


def _infer(**given: Any) -> Any:
    return lambda bench: cb.infer(bench.problem, bench.data, **{"key": KEY} | given)


def _prior(**priors: Any) -> Any:
    return _infer(priors=priors)


FITS: dict[str, tuple[Any, list[str]]] = {
    "a known value below zero": (_prior(temperature=-0.3), ["temperature", "positive"]),
    "a known value NaN": (_prior(temperature=NAN), ["temperature", "finite"]),
    "a known value in text": (_prior(temperature="0.3"), ["temperature", "0.3"]),
    "a known value in a list of texts": (_prior(temperature=["a"]), ["temperature", "no number"]),
    "a truth value for a known one": (_prior(temperature=True), ["temperature", "bool"]),
    "known values of two groups where there is one": (
        _prior(temperature=[0.2, 0.4]),
        ["temperature", "(2,)", "all"],
    ),
    "a known matrix for a number": (
        _prior(temperature=np.ones((2, 2))),
        ["temperature", "shape ()"],
    ),
    "a known law that sums to .9": (
        _prior(context_probability=[0.5, 0.4]),
        ["context_probability", "0.4"],
    ),
    "a known law of three contexts of two": (
        _prior(context_probability=[0.2, 0.3, 0.5]),
        ["context_probability", "(2,)"],
    ),
    "a Delta below zero": (_prior(temperature=dist.Delta(-0.3)), ["temperature", "positive"]),
    "a prior that fixes one group of two": (
        _prior(temperature=cb.PerGroup(dist.Uniform(np.array([0.2, 0.1]), np.array([0.2, 0.5])))),
        ["temperature", "fixes some entries", "[0]"],
    ),
    "a prior of hardly any width": (
        _prior(temperature=dist.Normal(1e10, 1e-9)),
        ["temperature", "some width"],
    ),
    "a hierarchy that is known to have no spread": (
        _prior(temperature=cb.Hierarchical(0.3, 0.0)),
        ["temperature", "Hierarchical.scale", "Pooled"],
    ),
    "a hierarchy of two known populations": (
        _prior(temperature=cb.Hierarchical([0.2, 0.3])),
        ["temperature", "Hierarchical.location", "(2,)"],
    ),
    "everything known": (
        _prior(temperature=0.3, context_probability=[0.5, 0.5]),
        ["nothing to infer", "cb.design", "np.full(50, 0.3)"],
    ),
    "a prior that goes below zero": (
        _prior(temperature=dist.Normal(0.3, 1.0)),
        ["temperature", "out of range"],
    ),
    "a prior on whole numbers": (_prior(temperature=dist.Poisson(3.0)), ["temperature"]),
    "a prior of two numbers for one": (
        _prior(temperature=dist.LogNormal(jnp.zeros(2), 1.0)),
        ["temperature", "(2,)"],
    ),
    "a Dirichlet for four contexts of two": (
        _prior(context_probability=dist.Dirichlet(jnp.ones(4))),
        ["context_probability", "(4,)"],
    ),
    "a Beta for a law": (_prior(context_probability=dist.Beta(1.0, 1.0)), ["context_probability"]),
    "a class for a prior": (_prior(temperature=dist.LogNormal), ["temperature"]),
    "a prior of scipy": (
        _prior(temperature=__import__("scipy.stats").stats.lognorm(1.0)),
        ["temperature"],
    ),
    "a prior of nothing": (_prior(temprature=dist.LogNormal(0.0, 1.0)), ["temprature"]),
    "a hierarchy of what all share": (
        _prior(context_probability=cb.Hierarchical(dist.LogNormal(0.0, 1.0))),
        ["context_probability"],
    ),
    "a hierarchy whose population is below zero": (
        _prior(temperature=cb.Hierarchical(dist.Normal(0.0, 1.0))),
        ["temperature"],
    ),
    "a hierarchy whose spread is below zero": (
        _prior(temperature=cb.Hierarchical(dist.LogNormal(0.0, 1.0), dist.Normal(0.0, 1.0))),
        ["temperature"],
    ),
    "a seed for a key": (_infer(key=5), ["key", "jax.random.key(5)"]),
    "an old key": (_infer(key=jax.random.PRNGKey(0)), ["key", "wrap_key_data"]),
    "three keys": (_infer(key=jax.random.split(KEY, 3)), ["key", "several"]),
    "a key of another kind": (_infer(key=jax.random.key(0, impl="rbg")), ["key", "rbg"]),
    "a path for data": (
        lambda b: cb.infer(b.problem, "data.nc", key=KEY),
        ["data", "load_trajectories"],
    ),
    "a context family where contexts are listed": (
        _infer(context_family=cb.ContextFamily(lambda p: dist.Normal(0.0, 1.0), {})),
        ["context"],
    ),
}


def _known(prior: Any) -> Any:
    """Return what the record of a fit says of the prior."""
    return lambda bench: prior_text(
        default_priors(bench.problem, {"temperature": prior})["temperature"]
    )


KNOWN: dict[str, Any] = {
    "a number for a prior": 0.25,
    "a NumPy number for a prior": np.float64(0.25),
    "a prior of one value": dist.Delta(0.25),
    "a prior without width": dist.Uniform(0.25, 0.25),
    "a number in Pooled": cb.Pooled(0.25),
}


def _sampled(bench: Bench) -> Any:
    from dataclasses import replace

    contexts = cb.SampledContexts(lambda p, k: p["cost"] + 0.1, 2, {"cost": 1.0})
    problem = replace(bench.problem, contexts=contexts)
    seen = bench.data.assign(context_value=("episode", [0.9, 1.2]))
    return cb.infer(problem, seen.assign(context=("episode", ["", ""])), key=KEY)


def _posterior(dims: tuple, coords: dict, values: Any) -> Any:
    given = {"context_probability": np.asarray(values)[None]}
    axes = {"context_probability": list(dims)}
    return lambda: az.from_dict({"posterior": given}, dims=axes, coords=coords)


TOWNS = ("London", "Paris", "Rome")
SHARES = np.tile([0.7, 0.2, 0.1], (3, 1))


def _towns(make: Any) -> Any:
    return lambda bench: mean(named_problem(contexts=TOWNS), make())


LABELS_HELD: dict[str, tuple[Any, list[float]]] = {
    "contexts in the order of the alphabet backwards": (
        _posterior(("town",), {"town": ["Rome", "Paris", "London"]}, SHARES[:, ::-1]),
        [0.7, 0.2, 0.1],
    ),
    "contexts numbered 2, 0, 1": (
        _posterior(("town",), {"town": [2, 0, 1]}, SHARES[:, [2, 0, 1]]),
        [0.7, 0.2, 0.1],
    ),
    "contexts numbered from 1": (
        _posterior(("town",), {"town": [1, 2, 3]}, SHARES),
        [0.7, 0.2, 0.1],
    ),
    "an axis without labels": (_posterior((), {}, SHARES), [0.7, 0.2, 0.1]),
    "labels in bytes": (
        _posterior(
            ("town",), {"town": np.array([b"Paris", b"London", b"Rome"])}, SHARES[:, [1, 0, 2]]
        ),
        [0.7, 0.2, 0.1],
    ),
    "draws before chains": (
        lambda: _turned(_posterior(("town",), {"town": list(TOWNS)}, SHARES)()),
        [0.7, 0.2, 0.1],
    ),
    "contexts before draws": (
        lambda: (
            _posterior(("town",), {"town": list(TOWNS)}, SHARES)()["posterior"]
            .to_dataset()
            .transpose("town", "draw", "chain")
        ),
        [0.7, 0.2, 0.1],
    ),
}


def _turned(tree: Any) -> Any:
    import xarray as xr

    tree["posterior"] = xr.DataTree(tree["posterior"].to_dataset().transpose("draw", "chain", ...))
    return tree


LABELS_WRONG: dict[str, tuple[Any, list[str]]] = {
    "contexts of another country": (
        _posterior(("town",), {"town": ["Bonn", "Ulm", "Jena"]}, SHARES),
        ["Bonn", "London"],
    ),
    "a context with other capitals": (
        _posterior(("town",), {"town": ["london", "Paris", "Rome"]}, SHARES),
        ["london", "London"],
    ),
    "a context twice": (
        _posterior(("town",), {"town": ["London", "London", "Rome"]}, SHARES),
        ["London", "twice"],
    ),
    "a context too few": (
        _posterior(("town",), {"town": ["London", "Paris"]}, SHARES[:, :2]),
        ["(2,)", "(3,)"],
    ),
    "contexts numbered 10, 20, 30": (
        _posterior(("town",), {"town": [10, 20, 30]}, SHARES),
        ["10", "told apart"],
    ),
    "draws numbered twice": (
        lambda: az.from_dict({"posterior": {"temperature": LAM[None]}}).isel(draw=[0, 0, 1]),
        ["draw", "twice"],
    ),
    "an axis called sample without labels of draws": (
        lambda: __import__("xarray").Dataset({"temperature": ("samples", LAM)}),
        ["samples"],
    ),
}

GROUPS = ("old", "young")


def _groups(labels: Any) -> Any:
    import xarray as xr

    array = xr.DataArray(
        np.tile([[0.2, 0.4]], (3, 1))[None],
        dims=("chain", "draw", "follower"),
        coords={"follower": labels},
    )
    return lambda bench: mean(
        named_problem(followers=GROUPS),
        {"temperature": array, "scale": xr.DataArray(np.ones((1, 3)), dims=("chain", "draw"))},
    )


FAULTS: list[Fault] = [
    *(refused(KIND, f"draws: {n}", _read(d, **g), *w) for n, (d, g, w) in WRONG.items()),
    *(
        refused(KIND, f"draws: {n}", lambda b, d=d: cb.design(b.problem, d, key=KEY), *w)
        for n, (d, w) in DESIGNED.items()
    ),
    *(held(KIND, f"draws: {n}", _read(d, **g), r, note=t) for n, (d, g, r, t) in HELD.items()),
    *(refused(KIND, n, run, *w) for n, (run, w) in FITS.items()),
    *(held(KIND, name, _known(prior), "known: 0.25") for name, prior in KNOWN.items()),
    refused(
        KIND,
        "continuous contexts without their family",
        _sampled,
        "pass context_family=cb.ContextFamily",
        "'cost'",
    ),
    *(held("labels", n, _towns(make), r, tolerance=1e-12) for n, (make, r) in LABELS_HELD.items()),
    *(refused("labels", n, _towns(make), *w) for n, (make, w) in LABELS_WRONG.items()),
    held("labels", "groups in their order", _groups(["old", "young"]), [1.0, 0.2, 0.4]),
    held("labels", "groups the other way round", _groups(["young", "old"]), [1.0, 0.4, 0.2]),
    refused("labels", "groups of another study", _groups(["men", "women"]), "men", "old"),
    refused("labels", "a group twice", _groups(["old", "old"]), "old", "twice"),
]
