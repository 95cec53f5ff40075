"""Assemble what a design study found, from plain arrays, into labelled groups."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from cbrl_bayes.designs import DesignStudy, Score
from cbrl_bayes.designs.alternatives import WATCHED
from cbrl_bayes.files import stored_name
from cbrl_bayes.problems import Labels, Problem, reach_of
from cbrl_bayes.results.provenance import certificate
from cbrl_bayes.results.schema import OF_DESIGNS
from cbrl_bayes.status import AscentStatus


def add_design(
    fit: xr.DataTree,
    problem: Problem,
    study: DesignStudy,
    chosen: xr.Dataset,
    settings: dict[str, Any],
    *,
    is_exact: bool,
    other_laws: Score | None = None,
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
    other_laws : Score, optional
        Of the designs that serve all draws, from `score_under_other_laws`.
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
    decision = _decision(problem, study, shape, coords)
    for name, array in _under_other_laws(other_laws).items():
        decision[name] = decision["objective"].copy(data=array.reshape(-1, *shape))
    tree["decision"] = xr.DataTree(decision)
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
    stated = [name for name in study.designs[2:] if name != WATCHED]
    tree.attrs["alternatives"] = json.dumps(stated)
    return tree


def _under_other_laws(scores: Score | None) -> dict[str, np.ndarray]:
    if scores is None:
        return {}
    return {
        "objective_other_law": scores.objective,
        "other_law_standard_error": scores.standard_error,
    }


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
    design = design.assign_coords(label_coords(problem))
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


def label_coords(problem: Problem) -> dict[str, Any]:
    """Return the coordinates of all incentive arrays: name -> (axes, values)."""
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
        coords=coords | {"design": list(study.designs)} | label_coords(problem),
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
