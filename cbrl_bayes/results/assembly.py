"""Assemble labelled trees from plain arrays: what a fit and a design study found."""

import json
from collections.abc import Mapping
from typing import Any

import arviz_base
import numpy as np
import xarray as xr

from cbrl_bayes.behaviour import BehaviourCounts
from cbrl_bayes.designs import DesignStudy
from cbrl_bayes.files import stored_name
from cbrl_bayes.inference import BehaviourModel, FitDraws, contraction
from cbrl_bayes.problems import DiscreteContexts, Labels, Problem, reach_of
from cbrl_bayes.results.provenance import certificate, fingerprint
from cbrl_bayes.results.schema import OF_DESIGNS
from cbrl_bayes.status import AscentStatus

OF_DECISION_POINTS = ("decision_state", "decision_context", "decision_follower")
"""Where in the problem each decision point lies."""


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
        "log_likelihood": draws.log_likelihood,
        "sample_stats": draws.sample_stats,
        "observed_data": _observed(model, draws),
    }
    # A group may be empty (a model without observed choices predicts none); ArviZ drops it.
    tree = arviz_base.from_dict(groups, dims=dims, coords=coords)
    for name in groups:
        if name not in tree.children:
            tree[name] = xr.DataTree()
    # Coordinates, since ArviZ takes each variable that was observed to be predicted too.
    observed = tree["observed_data"].to_dataset()
    places = [name for name in OF_DECISION_POINTS if name in observed]
    tree["observed_data"] = xr.DataTree(observed.set_coords(places))
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
    tree.attrs = certificate(problem, "fit", settings) | {
        "data_fingerprint": fingerprint(problem, data),
        "fit_seconds": float(draws.seconds),
        "num_choices": counts.num_choices,
        "groups": json.dumps(list(counts.groups)),
        "identification": advice,
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


def add_design(
    fit: xr.DataTree,
    problem: Problem,
    study: DesignStudy,
    chosen: xr.Dataset,
    settings: dict[str, Any],
    *,
    is_exact: bool,
    stage: str = "design",
) -> xr.DataTree:
    """Return a copy of ``fit`` with the groups ``design``, ``design_trace`` and ``decision``.

    Parameters
    ----------
    fit : xarray.DataTree
    problem : Problem
    study : DesignStudy
        For the draws in ``chosen``, chain by chain.
    chosen : xarray.Dataset
        The posterior draws used; its ``chain`` and ``draw`` label the results.
    settings : dict
        What to record of how it was made.
    is_exact : bool
        Whether the estimator carries no simulation error.
    stage : str
        "design", or "design only" for draws from another tool.

    Returns
    -------
    xarray.DataTree
    """
    shape = (chosen.sizes["chain"], chosen.sizes["draw"])
    coords = {"chain": chosen["chain"], "draw": chosen["draw"]}
    design, trace = _per_draw(problem, study, shape, coords)
    tree = fit.copy(deep=True)
    for name in set(tree.children) & set(OF_DESIGNS):  # of an earlier design
        del tree[name]
    tree["design"] = xr.DataTree(_described(design, problem))
    tree["design_trace"] = xr.DataTree(trace)
    tree["decision"] = xr.DataTree(_decision(problem, study, shape, coords))
    design_certificate = certificate(problem, stage, settings)
    for name in (
        "schema",
        "stage",
        "created",
        "versions",
        "fingerprint",
        "objective_unit",
        "problem",
    ):
        tree.attrs[name] = design_certificate[name]
    tree.attrs.setdefault("settings", "{}")
    tree.attrs["design_settings"] = design_certificate["settings"]
    tree.attrs["estimator_is_exact"] = int(is_exact)
    tree.attrs["alternatives"] = json.dumps(list(study.designs[2:]))
    return tree


def _per_draw(
    problem: Problem, study: DesignStudy, shape: tuple[int, int], coords: dict[str, Any]
) -> tuple[xr.Dataset, xr.Dataset]:
    """Return each draw's own design and score, and the trace of its search."""

    def per_draw(array: np.ndarray, *more: str) -> tuple:
        return ("chain", "draw", *more), array.reshape(*shape, *array.shape[1:])

    design = xr.Dataset(
        {
            "leader_objective": per_draw(study.objective),
            "objective_standard_error": per_draw(study.standard_error),
            "incentive_cost": per_draw(study.incentive_cost),
            "follower_value": per_draw(study.follower_value, "follower"),
            "status": per_draw(study.status),
            "source": per_draw(study.source),
            "gain_at_stop": per_draw(study.gain),
            "unconstrained": per_draw(study.unconstrained, "coordinate"),
            "final_gradient_norm": per_draw(np.asarray(study.trace.gradient_norm)[:, -1]),
        },
        coords=coords | {"follower": list(problem.followers.names)},
    )
    names = incentive_names(problem)
    for name, label in problem.incentive.labels.items():
        design[names[name]] = per_draw(study.incentive[name], *label.dims)
    design = design.assign_coords(_label_coords(problem))
    sources = (*study.designs[:2], "own search", *study.designs[2:])
    design["source"].attrs["meaning"] = json.dumps(dict(enumerate(sources)))
    design["status"].attrs["meaning"] = json.dumps({s.value: s.name for s in AscentStatus})
    for name in ("leader_objective", "objective_standard_error", "incentive_cost", "gain_at_stop"):
        design[name].attrs["units"] = problem.objective_unit
    # Values are in the unit of the follower's reward, which is the temperature's.
    design["follower_value"].attrs["units"] = problem.parameter_units.get("temperature", "")
    trace = xr.Dataset(
        {name: per_draw(getattr(study.trace, name), "iteration") for name in vars(study.trace)},
        coords=coords,
    )
    return design, trace


def add_response(
    tree: xr.DataTree, problem: Problem, policies: Mapping[str, np.ndarray]
) -> xr.DataTree:
    """Return a copy with the group ``response``: how followers act, draw by draw.

    Parameters
    ----------
    tree : xarray.DataTree
        With a group ``design``.
    problem : Problem
    policies : mapping
        Name of a design -> array (N, contexts, followers, S, A).
    """
    design = tree["design"]
    shape = (design.sizes["chain"], design.sizes["draw"])
    dims = ("chain", "draw", "context", "follower", "state", "action")
    coords: dict[str, Any] = {
        "chain": design["chain"].values,
        "draw": design["draw"].values,
        "context": list(problem.contexts.names),
        "follower": list(problem.followers.names),
    }
    if problem.action_names:
        coords["action"] = list(problem.action_names)
    coords |= {name: (list(d), list(v)) for name, (d, v) in problem.state_labels.coords.items()}
    tree = tree.copy()
    tree["response"] = xr.DataTree(
        xr.Dataset(
            {
                f"policy_{name}": (
                    dims,
                    array.reshape(*shape, *array.shape[1:]),
                    _marks(problem.state_labels),
                )
                for name, array in policies.items()
            },
            coords=coords,
        )
    )
    return tree


def incentive_names(problem: Problem) -> dict[str, str]:
    """Return the variable's name of each incentive array.

    ``incentive`` where there is one, ``incentive_<name>`` where there are several; a slash in the
    name is written ``%2F``, since groups of a tree are told apart by slashes.
    """
    labels = list(problem.incentive.labels)
    if len(labels) == 1:
        return {labels[0]: "incentive"}
    return {name: stored_name(f"incentive_{name}") for name in labels}


def _fit_labels(model: BehaviourModel) -> tuple[dict[str, list[str]], dict[str, Any]]:
    problem, counts = model.problem, model.counts
    dims = {
        "context_probability": ["context"],
        "action_count": ["decision_point", "action"],
        "context_count": ["context"],
        "context_value": ["episode"],
        "behaviour": ["episode"],
        "decision_state": ["decision_point"],
        "decision_context": ["decision_point"],
        "decision_follower": ["decision_point"],
    }
    for name in model.varies_by_group:
        dims |= {name: ["follower"], f"{name}_offset": ["follower"]}
    plain = problem.default_parameters
    grouped = {
        name: np.broadcast_to(plain[name], (len(counts.groups),)) for name in model.varies_by_group
    }
    before, after = problem.derived(plain), problem.derived(plain | grouped)
    dims |= {n: ["follower"] for n in after if np.ndim(after[n]) > np.ndim(before[n])}
    for name, value in plain.items():
        if name not in dims and np.ndim(value) == 1:
            dims[name] = [f"{name}_entry"]
    coords: dict[str, Any] = {
        "follower": list(counts.groups),
        "episode": list(counts.episode_names),
        "action": list(problem.action_names) or list(range(problem.num_actions)),
        "decision_point": list(range(len(counts.row_cell))),
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
    left_out = {*problem.derived(problem.default_parameters), *known}
    return {name: value for name, value in draws.items() if name not in left_out}


def _observed(model: BehaviourModel, draws: FitDraws) -> dict[str, np.ndarray]:
    counts: BehaviourCounts = model.counts
    observed = {}
    if "action_count" in draws.posterior_predictive:
        observed["action_count"] = counts.action_count
        observed["decision_state"] = counts.row_state
        observed["decision_context"] = counts.cell_context[counts.row_cell]
        observed["decision_follower"] = counts.cell_group[counts.row_cell]
    if "context_count" in draws.posterior_predictive:
        observed["context_count"] = counts.context_count
    if "context_value" in draws.posterior_predictive:
        observed["context_value"] = np.asarray(counts.context_values)[counts.episode_context]
    return observed


def _counted(predictive: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return predicted counts as whole numbers, which some plots of ArviZ ask for."""
    counts = {name: np.rint(v) for name, v in predictive.items() if name.endswith("_count")}
    whole = {name: v.astype(int) for name, v in counts.items() if (v == predictive[name]).all()}
    return dict(predictive) | whole


def _mark_units(tree: xr.DataTree, problem: Problem) -> None:
    for group in ("posterior", "prior"):
        for name, unit in problem.parameter_units.items():
            if name in tree[group]:
                tree[group][name].attrs["units"] = unit


def _label_coords(problem: Problem) -> dict[str, Any]:
    coords: dict[str, Any] = {}
    for label in problem.incentive.labels.values():
        coords |= {
            name: (list(dims), list(values)) for name, (dims, values) in label.coords.items()
        }
    return coords


def _described(dataset: xr.Dataset, problem: Problem) -> xr.Dataset:
    for name, variable in incentive_names(problem).items():
        label: Labels = problem.incentive.labels[name]
        dataset[variable].attrs |= {
            "long_name": name,
            "units": label.unit,
            "description": label.description,
        } | _marks(label)
    return dataset


def _marks(label: Labels) -> dict[str, str]:
    """Return what single places of an array are, as an attribute; nothing where nothing is said."""
    marks = {name: list(map(int, places)) for name, places in label.marks.items()}
    return {"marks": json.dumps(marks)} if marks else {}


def _decision(
    problem: Problem, study: DesignStudy, shape: tuple[int, int], coords: dict[str, Any]
) -> xr.Dataset:
    def by_design(array: np.ndarray) -> tuple:
        return ("design", "chain", "draw"), array.reshape(len(study.designs), *shape)

    decision = xr.Dataset(
        {
            "objective": by_design(study.design_objective),
            "objective_standard_error": by_design(study.design_standard_error),
            "objective_context_error": by_design(study.design_context_error),
            "regret": by_design(study.regret),
            "solve_status": by_design(study.design_solve_status),
            "status": ("design", study.design_status),
            "gain_at_stop": ("design", study.design_gain),
            "unconstrained": (("design", "coordinate"), study.design_unconstrained),
            "restart_objective": ("restart", study.restart_objectives),
        },
        coords=coords | {"design": list(study.designs)} | _label_coords(problem),
    )
    reach = reach_of(problem.incentive)
    for name, variable in incentive_names(problem).items():
        dims = ("design", *problem.incentive.labels[name].dims)
        decision[variable] = (dims, study.design_incentive[name])
        for end, array in zip(("lowest", "highest"), reach[name], strict=True):
            decision[f"{end}_{variable}"] = (dims[1:], array)
    for name in (
        "objective",
        "objective_standard_error",
        "objective_context_error",
        "regret",
        "gain_at_stop",
        "restart_objective",
    ):
        decision[name].attrs["units"] = problem.objective_unit
    return _described(decision, problem)
