"""Assemble the labelled tree of a fit from plain arrays, with ArviZ's groups."""

import json
from collections.abc import Mapping
from typing import Any

import arviz_base
import numpy as np
import xarray as xr

from cbrl_bayes.behaviour import BehaviourCounts, none_is_stated, regimes_stated
from cbrl_bayes.inference import BehaviourModel, Drift, FitDraws, contraction
from cbrl_bayes.problems import LAW, DiscreteContexts, Problem
from cbrl_bayes.results.dynamics import law_dims, learned_law
from cbrl_bayes.results.provenance import certificate, fingerprint

OF_CHOICES = ("decision_point", "decision_state", "decision_context", "decision_follower")
"""Where in the problem each counted choice lies; its action is a coordinate, too."""


def fit_tree(
    model: BehaviourModel, draws: FitDraws, data: xr.Dataset, settings: dict[str, Any], advice: str
) -> xr.DataTree:
    """Build the tree of a fit, with ArviZ's groups.

    Parameters
    ----------
    model : BehaviourModel
    draws : FitDraws
    data : xarray.Dataset
        The trajectories, for the fingerprint.
    settings : dict
        What to record of how it was made.
    advice : str
        What the identification check said; "" if all is identified.

    Returns
    -------
    xarray.DataTree
    """
    problem, counts = model.problem, model.counts
    dims, coords = _fit_labels(model)
    known = _known(draws)
    groups = {
        "posterior": draws.posterior,
        "prior": draws.prior,
        "prior_predictive": _counted(draws.prior_predictive),
        "posterior_predictive": _counted(draws.posterior_predictive),
        "log_likelihood": _flat(draws.log_likelihood),
        "sample_stats": draws.sample_stats,
        "observed_data": _observed(model, draws),
    }
    # A group may be empty (a model without observed choices predicts none); ArviZ drops it.
    tree = arviz_base.from_dict(groups, dims=dims, coords=coords)
    for name in groups:
        if name not in tree.children:
            tree[name] = xr.DataTree()
    _suit_arviz(tree, model, draws.predicted)
    # Not through ArviZ's names of axes: the density of a vector is one number.
    tree["log_prior"] = xr.DataTree(
        xr.Dataset(
            {name: (("chain", "draw"), value) for name, value in draws.log_prior.items()},
            coords={name: tree["posterior"][name] for name in ("chain", "draw")},
            attrs={"scale": "unbounded: priors of logarithms, logits and the like"},
        )
    )
    if len(draws.losses):
        tree["variational"] = xr.DataTree(xr.Dataset({"loss": ("svi_step", draws.losses)}))
    if model.unknown_law is not None:
        tree["dynamics"] = xr.DataTree(learned_law(model, exact=not len(draws.losses)))
    tree.attrs = certificate(problem, "fit", settings) | {
        "data_fingerprint": fingerprint(problem, data),
        "fit_seconds": float(draws.seconds),
        "num_choices": counts.num_choices,
        "groups": json.dumps(list(counts.groups)),
        "identification": advice,
        "data_notes": json.dumps([] if regimes_stated(data) else [none_is_stated(problem)]),
        "contraction": json.dumps(
            contraction(
                _given(problem, draws.prior, known),
                draws.posterior,
                [name for name, ends in problem.ranges.items() if ends == (0.0, 1.0)],
            )
        ),
        "one_sided": json.dumps(draws.one_sided),
        "known": json.dumps(known),
        "parameter_units": json.dumps(dict(problem.parameter_units)),
        "sampler": "variational" if len(draws.losses) else "NUTS",
    }
    _mark_units(tree, problem)
    tree["posterior_predictive"].attrs |= {
        name: json.dumps(value) for name, value in draws.check.items()
    }
    return tree


def _observed(model: BehaviourModel, draws: FitDraws) -> dict[str, np.ndarray]:
    counts: BehaviourCounts = model.counts
    observed = {}
    if "action_count" in draws.posterior_predictive:
        observed["action_count"] = counts.action_count.ravel()
    if "context_count" in draws.posterior_predictive:
        observed["context_count"] = counts.context_count
    if "context_value" in draws.posterior_predictive:
        observed["context_value"] = np.asarray(counts.context_values)[counts.episode_context]
    return observed


def _counted(predictive: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return predicted counts as whole numbers, which some plots of ArviZ ask for."""
    predictive = _flat(predictive)
    counts = {name: np.rint(v) for name, v in predictive.items() if name.endswith("_count")}
    whole = {name: v.astype(int) for name, v in counts.items() if (v == predictive[name]).all()}
    return predictive | whole


def _flat(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays with decision point and action as one axis, as plots of ArviZ want it."""
    flat = dict(arrays)
    if "action_count" in flat:
        flat["action_count"] = flat["action_count"].reshape(*flat["action_count"].shape[:2], -1)
    return flat


def _suit_arviz(tree: xr.DataTree, model: BehaviourModel, predicted: np.ndarray) -> None:
    """Say where each choice lies, which draws were predicted from, and what one likelihood is.

    ArviZ takes each *variable* that was observed to be predicted too, and the one variable of
    ``log_likelihood`` for the likelihood. So places, and the densities of single numbers that
    its plots of leave-one-out prediction look up by name, are coordinates.
    """
    problem, counts = model.problem, model.counts
    num = problem.num_actions
    values = (
        np.arange(len(counts.row_cell)),
        counts.row_state,
        counts.cell_context[counts.row_cell],
        counts.cell_group[counts.row_cell],
    )
    places: dict[str, Any] = {
        name: ("choice", np.repeat(array, num))
        for name, array in zip(OF_CHOICES, values, strict=True)
    }
    names = np.asarray(problem.action_names or range(num))
    places["action"] = "choice", np.tile(names, len(counts.row_cell))
    for group in ("observed_data", "prior_predictive", "posterior_predictive", "log_likelihood"):
        found = tree[group].to_dataset()
        if "choice" in found.dims:
            found = found.assign_coords(places)
        if group == "posterior_predictive" and "draw" in found.dims:
            found = found.assign_coords(draw=predicted)
        if group == "log_likelihood":
            beside = [name for name in found.data_vars if name != "behaviour"]
            apart = {name: _apart(found[name]) for name in beside}
            found = found.assign(apart).set_coords(beside)
        tree[group] = xr.DataTree(found)


def _apart(density: xr.DataArray) -> xr.DataArray:
    """Return densities that differ between draws, by less than matters.

    They are all alike where a law does not depend on the parameters; ArviZ's smoothing of weights
    ends in an error then.
    """
    step = xr.DataArray(np.arange(density.sizes["draw"]) / density.sizes["draw"], dims="draw")
    return density + 1e-12 * np.maximum(1.0, abs(density)) * step


def _fit_labels(model: BehaviourModel) -> tuple[dict[str, list[str]], dict[str, Any]]:
    problem, counts = model.problem, model.counts
    dims = {
        "context_probability": ["context"],
        "action_count": ["choice"],
        "context_count": ["context"],
        "context_value": ["episode"],
        "behaviour": ["episode"],
    }
    for name in model.varies_by_group:
        drifts = isinstance(model.priors[name], Drift)
        change = f"{name}_change" if drifts else "follower"
        dims |= {name: ["follower"], f"{name}_offset": [change]}
    plain = problem.default_parameters
    grouped = {
        name: np.broadcast_to(plain[name], (len(counts.groups),)) for name in model.varies_by_group
    }
    before, after = problem.derived(plain), problem.derived(plain | grouped)
    dims |= {n: ["follower"] for n in after if np.ndim(after[n]) > np.ndim(before[n])}
    for name, value in plain.items():
        if name == LAW and np.ndim(value) > 2:
            dims[name] = law_dims(np.ndim(value))
        if name not in dims and np.ndim(value) == 1:
            dims[name] = [f"{name}_entry"]
    coords: dict[str, Any] = {
        "follower": list(counts.groups),
        "episode": list(counts.episode_names),
        "choice": list(range(counts.action_count.size)),
    }
    if isinstance(problem.contexts, DiscreteContexts):
        coords["context"] = list(problem.contexts.names)
    return dims, coords


def _known(draws: FitDraws) -> list[str]:
    """Return the names of what was known before: the prior gives it one value."""
    return sorted(n for n, v in draws.prior.items() if (np.ptp(v, axis=(0, 1)) == 0).all())


def _given(
    problem: Problem, draws: Mapping[str, np.ndarray], known: list[str]
) -> dict[str, np.ndarray]:
    """Leave out what was known and what merely follows from the parameters."""
    # Of a law, what was seen of each pair says more: the group dynamics.
    left_out = {*problem.derived(problem.default_parameters), *known, LAW}
    return {name: value for name, value in draws.items() if name not in left_out}


def _mark_units(tree: xr.DataTree, problem: Problem) -> None:
    for group in ("posterior", "prior"):
        for name, unit in problem.parameter_units.items():
            if name in tree[group]:
                tree[group][name].attrs["units"] = unit
