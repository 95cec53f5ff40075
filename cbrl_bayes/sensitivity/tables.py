"""The groups ``stress`` and ``model_comparison``: designs in worlds other than the posterior's.

``stress``, dims (stress, design, chain, draw): ``objective``, ``objective_standard_error``,
``change`` (against the stress "none"; of the design "reoptimised" each world has its own),
``regret`` (against the design with the largest mean in that world), ``status``; ``best``
(stress); where it was searched, ``reoptimised_unconstrained`` (stress, coordinate) and
``reoptimised_status`` (stress), how that search ended.

``model_comparison``: per ``model`` ``elpd``, ``elpd_standard_error``, ``elpd_difference`` (to the
best model, <= 0) and its standard error, ``weight`` (stacking), ``effective_parameters``,
``largest_pareto_k``, ``share_pareto_k_bad`` (above .7), ``elpd_difference_caution`` and
``elpd_caution`` (what ArviZ says against difference and elpd, "" for nothing: few episodes,
models that predict alike, how many Pareto k are above its bound); ``objective`` (designed_for,
model, sample): the common design for one model's posterior under another's draws; ``loss``, the
same dims: what it loses there against that model's own common design (negative draws are
possible); ``unsolved`` (designed_for, model): draws where a best response did not converge.
"""

import json
import warnings
from collections.abc import Mapping
from dataclasses import replace

import arviz_stats as az
import numpy as np
import pandas as pd
import xarray as xr
from arviz_stats.utils import ELPDData
from jaxtyping import Float, Int

from cbrl_bayes.errors import InvalidInputError, explain
from cbrl_bayes.hypergradients import AscentStatus
from cbrl_bayes.sensitivity.stress import StressScores

__all__ = ["add_model_comparison", "add_stress", "check_same_data", "loss_table", "stress_table"]

BAD_PARETO_K = 0.7


def add_stress(study: xr.DataTree, found: StressScores) -> xr.DataTree:
    """Return a copy of ``study`` with the group ``stress``."""
    design = study["design"]
    shape = (design.sizes["chain"], design.sizes["draw"])
    dims = ("stress", "design", "chain", "draw")

    def shaped(array: np.ndarray) -> tuple:
        return dims, array.reshape(*array.shape[:2], *shape)

    dataset = xr.Dataset(
        {
            "objective": shaped(found.objective),
            "objective_standard_error": shaped(found.standard_error),
            "change": shaped(found.change),
            "regret": shaped(found.regret),
            "status": shaped(found.status),
            "best": ("stress", np.array(found.designs)[found.best]),
        },
        coords={
            "stress": list(found.stresses),
            "design": list(found.designs),
            "chain": design["chain"].values,
            "draw": design["draw"].values,
        },
    )
    if found.reoptimised is not None:
        dataset["reoptimised_unconstrained"] = (("stress", "coordinate"), found.reoptimised)
        dataset["reoptimised_status"] = ("stress", found.reoptimised_status)
        dataset["reoptimised_status"].attrs["meaning"] = json.dumps(
            {s.value: s.name for s in AscentStatus}
        )
    for name in ("objective", "objective_standard_error", "change", "regret"):
        dataset[name].attrs["units"] = study.attrs.get("objective_unit", "")
    tree = study.copy(deep=True)
    tree["stress"] = xr.DataTree(dataset)
    return tree


def stress_table(study: xr.DataTree, *, prob: float = 0.9) -> pd.DataFrame:
    """Return one row per stress and design: means with equal-tailed intervals over draws.

    Columns: ``objective``, ``change`` and ``regret`` with ``_lower`` and ``_upper``,
    ``failed``, the number of draws where a best response did not converge, and ``search``, how
    the search for the design "reoptimised" ended ("" for designs that were given).
    """
    group = _need(study, "stress", "stress_test(problem, study, stresses, key=...)")
    flat = group.stack(sample=("chain", "draw"))
    tail = (1.0 - prob) / 2.0
    columns = {}
    for name in ("objective", "change", "regret"):
        columns[name] = flat[name].mean("sample").values.ravel()
        for end, level in (("lower", tail), ("upper", 1.0 - tail)):
            columns[f"{name}_{end}"] = flat[name].quantile(level, "sample").values.ravel()
    columns["failed"] = (flat["status"] != 0).sum("sample").values.ravel()
    rows = pd.MultiIndex.from_product(
        [group["stress"].values, group["design"].values], names=["stress", "design"]
    )
    table = pd.DataFrame(columns, index=rows)
    table["search"] = ""
    if "reoptimised_status" in group:
        ended = [AscentStatus(int(value)).name for value in group["reoptimised_status"]]
        table.loc[(slice(None), "reoptimised"), "search"] = ended
    return table


def check_same_data(studies: Mapping[str, xr.DataTree]) -> None:
    """Raise unless all fits seem to be of the same data, and are designed for as many draws.

    Compared are the number of episodes and of choices, the groups, and what the fits keep as
    observed: how often each action was chosen and how often each context is known. Fits keep no
    record of the trajectories that does not also depend on the model, so data that agree in all
    this and differ otherwise (in hidden contexts, or in which episode a choice belongs to) pass.

    Raises
    ------
    InvalidInputError
    """
    first, *others = studies.values()
    for tree in (first, *others):
        if "log_likelihood" not in tree.children or "design" not in tree.children:
            raise InvalidInputError(
                explain(
                    "models are compared by fits with designs",
                    received=f"a tree with {', '.join(tree.children)}",
                    remedy="design(model, infer(model, data, ...), ...) for each",
                )
            )
    shapes = {(t["design"].sizes["chain"], t["design"].sizes["draw"]) for t in studies.values()}
    if len(shapes) > 1:
        raise InvalidInputError(
            explain(
                "the studies are designed for different numbers of draws",
                received=sorted(shapes),
                accepted="the same chains and draws in all",
            )
        )
    seen = first["observed_data"].to_dataset()
    same = all(seen.equals(tree["observed_data"].to_dataset()) for tree in others)
    if not same or len({_size_of_data(tree) for tree in studies.values()}) > 1:
        raise InvalidInputError("the fits are of different data, so their models do not compare")


def _size_of_data(tree: xr.DataTree) -> tuple:
    """Return episodes, choices and groups of the data that a tree was fitted to."""
    attrs = tree.attrs
    return (
        tree["log_likelihood"].sizes.get("episode"),
        attrs.get("num_choices"),
        attrs.get("groups"),
    )


def add_model_comparison(
    study: xr.DataTree,
    studies: Mapping[str, xr.DataTree],
    objective: Float[np.ndarray, "designed_for model sample"],
    *,
    unsolved: Int[np.ndarray, "designed_for model"],
) -> xr.DataTree:
    """Return a copy of ``study`` with the group ``model_comparison``.

    Parameters
    ----------
    study : xarray.DataTree
    studies : mapping
        Model name -> fit, all of the same data.
    objective : array, shape (M, M, N)
        Common design of the first axis' model under the draws of the second's.
    unsolved : int array, shape (M, M)
        Draws of these where a best response did not converge.
    """
    names = list(studies)
    with warnings.catch_warnings():  # a large Pareto k is reported in the result instead
        warnings.filterwarnings("ignore", ".*Pareto", UserWarning)
        loos = {name: az.loo(tree, pointwise=True) for name, tree in studies.items()}
    table = az.compare(_centred(loos), round_to="none").loc[names]
    pareto_k = [np.asarray(loos[name].pareto_k) for name in names]
    own = objective[np.arange(len(names)), np.arange(len(names))]
    square = ("designed_for", "model", "sample")
    dataset = xr.Dataset(
        {
            "elpd": ("model", table["elpd"].to_numpy(float)),
            "elpd_standard_error": ("model", table["se"].to_numpy(float)),
            "elpd_difference": ("model", 0.0 - np.abs(table["elpd_diff"].to_numpy(float))),
            "elpd_difference_standard_error": ("model", table["dse"].to_numpy(float)),
            "weight": ("model", table["weight"].to_numpy(float)),
            "effective_parameters": ("model", table["p"].to_numpy(float)),
            "largest_pareto_k": ("model", [float(k.max()) for k in pareto_k]),
            "share_pareto_k_bad": ("model", [float((k > BAD_PARETO_K).mean()) for k in pareto_k]),
            "elpd_difference_caution": ("model", table["diag_diff"].to_numpy(str)),
            "elpd_caution": ("model", table["diag_elpd"].to_numpy(str)),
            "objective": (square, objective),
            "loss": (square, own[None] - objective),
            "unsolved": (("designed_for", "model"), unsolved),
        },
        coords={"model": names, "designed_for": names},
    )
    for name in ("objective", "loss"):
        dataset[name].attrs["units"] = study.attrs.get("objective_unit", "")
    dataset.attrs["fingerprints"] = json.dumps(
        {name: tree.attrs["fingerprint"] for name, tree in studies.items()}
    )
    tree = study.copy(deep=True)
    tree["model_comparison"] = xr.DataTree(dataset)
    return tree


def _centred(loos: Mapping[str, ELPDData]) -> dict[str, ELPDData]:
    """Subtract from each episode's elpd its largest over the models.

    Stacking exponentiates them, and exp of less than -745 is 0: without this, long episodes would
    leave the weights at 1/M. The optimal weights and all differences stay as they are; so do the
    totals, which ArviZ takes from the field ``elpd``.
    """
    largest = np.max([one.elpd_i.values for one in loos.values()], axis=0)
    return {name: replace(one, elpd_i=one.elpd_i - largest) for name, one in loos.items()}


def loss_table(study: xr.DataTree) -> pd.DataFrame:
    """Return the table of mean losses: designed for (rows) against the world (columns).

    The last column, ``unsolved``, counts the draws, over all worlds of a row, where a best response
    did not converge.
    """
    group = _need(study, "model_comparison", "compare_followers(models, studies, key=...)")
    table = group["loss"].mean("sample").to_pandas()
    if "unsolved" in group:  # files of an earlier version lack it
        table["unsolved"] = group["unsolved"].sum("model").values
    return table


def _need(study: xr.DataTree, name: str, remedy: str) -> xr.Dataset:
    if name not in study.children:
        raise InvalidInputError(explain(f"the study has no group {name!r}", remedy=remedy))
    return study[name].to_dataset()
