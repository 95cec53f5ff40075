"""The groups ``stress`` and ``model_comparison``: designs in worlds other than the posterior's.

``stress``, dims (stress, design, chain, draw): ``objective``, ``objective_standard_error``,
``change`` (against the stress "none"; of the design "reoptimised" each world has its own),
``regret`` (against the design with the largest mean in that world), ``status``; ``best``
(stress); ``reoptimised_unconstrained`` (stress, coordinate) where it was searched.

``model_comparison``: per ``model`` ``elpd``, ``elpd_standard_error``, ``elpd_difference`` (to the
best model, <= 0) and its standard error, ``weight`` (stacking), ``effective_parameters``,
``largest_pareto_k``, ``share_pareto_k_bad`` (above .7); ``objective`` (designed_for, model,
sample): the common design for one model's posterior under another's draws; ``loss``, the same
dims: what it loses there against that model's own common design (negative draws are possible).
"""

import json
import warnings
from collections.abc import Mapping

import arviz as az
import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from cbrl_bayes.decisions.stress import StressScores
from cbrl_bayes.errors import InvalidInputError, explain

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
        coords={"stress": list(found.stresses), "design": list(found.designs),
                "chain": design["chain"].values, "draw": design["draw"].values},
    )  # fmt: skip
    if found.reoptimised is not None:
        dataset["reoptimised_unconstrained"] = (("stress", "coordinate"), found.reoptimised)
    for name in ("objective", "objective_standard_error", "change", "regret"):
        dataset[name].attrs["units"] = study.attrs.get("objective_unit", "")
    tree = study.copy(deep=True)
    tree["stress"] = xr.DataTree(dataset)
    return tree


def stress_table(study: xr.DataTree, *, prob: float = 0.9) -> pd.DataFrame:
    """Return one row per stress and design: means with equal-tailed intervals over draws.

    Columns: ``objective``, ``change`` and ``regret`` with ``_lower`` and ``_upper``, and
    ``failed``, the number of draws where a best response did not converge.
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
    return pd.DataFrame(columns, index=rows)


def check_same_data(studies: Mapping[str, xr.DataTree]) -> None:
    """Raise unless all fits are of the same observations and designed for as many draws.

    Raises
    ------
    InvalidInputError
    """
    first, *others = studies.values()
    for tree in (first, *others):
        if "log_likelihood" not in tree.children or "design" not in tree.children:
            raise InvalidInputError(
                explain("models are compared by fits with designs",
                        received=f"a tree with {', '.join(tree.children)}",
                        remedy="design(model, infer(model, data, ...), ...) for each")
            )  # fmt: skip
    shapes = {(t["design"].sizes["chain"], t["design"].sizes["draw"]) for t in studies.values()}
    if len(shapes) > 1:
        raise InvalidInputError(
            explain("the studies are designed for different numbers of draws",
                    received=sorted(shapes), accepted="the same chains and draws in all")
        )  # fmt: skip
    seen = first["observed_data"].to_dataset()
    if not all(seen.equals(tree["observed_data"].to_dataset()) for tree in others):
        raise InvalidInputError("the fits are of different data, so their models do not compare")


def add_model_comparison(
    study: xr.DataTree, studies: Mapping[str, xr.DataTree],
    objective: Float[np.ndarray, "designed_for model sample"],
) -> xr.DataTree:  # fmt: skip
    """Return a copy of ``study`` with the group ``model_comparison``.

    Parameters
    ----------
    study : xarray.DataTree
    studies : mapping
        Model name -> fit, all of the same data.
    objective : array, shape (M, M, N)
        Common design of the first axis' model under the draws of the second's.
    """
    names = list(studies)
    with warnings.catch_warnings():  # a large Pareto k is reported in the result instead
        warnings.simplefilter("ignore", UserWarning)
        loos = {name: az.loo(tree, pointwise=True) for name, tree in studies.items()}
        table = az.compare(loos, round_to="none").loc[names]
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
            "objective": (square, objective),
            "loss": (square, own[None] - objective),
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


def loss_table(study: xr.DataTree) -> pd.DataFrame:
    """Return the square table of mean losses: designed for (rows) against the world (columns)."""
    group = _need(study, "model_comparison", "compare_followers(models, studies, key=...)")
    return group["loss"].mean("sample").to_pandas()


def _need(study: xr.DataTree, name: str, remedy: str) -> xr.Dataset:
    if name not in study.children:
        raise InvalidInputError(explain(f"the study has no group {name!r}", remedy=remedy))
    return study[name].to_dataset()
