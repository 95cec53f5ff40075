"""Tables of what would change the decision: prior, parameters, other worlds, other followers."""

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import norm

from cbrl_bayes.hypergradients import AscentStatus
from cbrl_bayes.results.names import design_title, known_among
from cbrl_bayes.results.table import Table, bounds, need_group, study_table
from cbrl_bayes.sensitivity.prior import COMPONENTS, THRESHOLD

ENDS = ("lower", "upper")


def sensitivity_table(
    study: xr.DataTree, *, prob: float = 0.9, accept_failed: bool = False
) -> Table:
    """Return how prior and likelihood move each output, and the decision.

    Parameters
    ----------
    study : xarray.DataTree
        From `prior_sensitivity`.
    prob : float
        Probability of the normal intervals, in (0, 1).
    accept_failed : bool
        Show the numbers although the study failed its checks.

    Returns
    -------
    Table
        ``frame``: a row per output. Columns: power-scaling by prior and by likelihood, each with
        its standard error and interval (cut at 0), and ArviZ's words at its threshold of .05:
        *potential prior-data conflict* if prior and likelihood both move the output (also if both
        simply inform it), *potential strong prior or weak likelihood* if only the prior does.
        ``unsolved``: draws whose number rests on a search that failed or a best response that did
        not converge; it is used as it stands. ``frames`` also holds "decision": for each component
        and power, the best option and what keeping the common design loses.

    Raises
    ------
    InvalidInputError
        If the study holds no power-scaling, or for a probability out of range.
    """
    remedy = "prior_sensitivity(problem, study, key=...) first"
    group = need_group(study, "sensitivity", remedy, "power_scaling")
    unit = str(study.attrs.get("objective_unit", ""))
    return study_table(
        study,
        f"sensitivity to prior and likelihood (power-scaling); losses [{unit}]",
        lambda: {"": _scaling_rows(group, prob), "decision": _decision_rows(group, prob)},
        accept_failed=accept_failed,
        prob=prob,
        kind="normal",
        units=dict.fromkeys(("loss_of_common", "standard_error", *ENDS), unit),
    )


def sobol_table(study: xr.DataTree, *, prob: float = 0.9, accept_failed: bool = False) -> Table:
    """Return which uncertain parameter each output depends on most.

    Parameters
    ----------
    study : xarray.DataTree
        From `sobol_indices`.
    prob : float
        Probability of the normal intervals, in (0, 1). They cover the scatter of sampling, not the
        bias (`first_order_indices`).
    accept_failed : bool
        Show the numbers although the study failed its checks.

    Returns
    -------
    Table
        ``frame``: a row per output and parameter with its first-order index. ``frames`` also holds
        the rank correlation of the posterior draws.

    Raises
    ------
    InvalidInputError
        If the study holds no Sobol indices, or for a probability out of range.
    """
    remedy = "sobol_indices(problem, study, key=...) first"
    group = need_group(study, "sensitivity", remedy, "sobol_first_order")
    known = ", ".join(known_among(study))
    return study_table(
        study,
        "first-order Sobol indices: share of an output's variance",
        lambda: {
            "": _sobol_rows(group, prob),
            "rank correlation of the draws": group["draw_correlation"].to_pandas(),
        },
        accept_failed=accept_failed,
        prob=prob,
        kind="normal",
        notes=[f"known, and so left out: {known}"] if known else [],
    )


def stress_table(
    study: xr.DataTree, *, prob: float = 0.9, kind: str = "eti", accept_failed: bool = False
) -> Table:
    """Return what each design achieves in each world.

    Parameters
    ----------
    study : xarray.DataTree
        From `stress_test`.
    prob : float
        Probability of the intervals over draws, in (0, 1).
    kind : {"eti", "hdi"}
        Equal-tailed or highest-density.
    accept_failed : bool
        Show the numbers although the study failed its checks.

    Returns
    -------
    Table
        ``frame``: a row per stress and design. Columns: means of ``objective``, ``change`` and
        ``regret`` with ``_lower`` and ``_upper``; ``failed``, the number of draws where a best
        response did not converge; ``search``, how the search for the design "reoptimised" ended
        ("" for designs that were given).

    Raises
    ------
    InvalidInputError
        If the study holds no stress test, or for an interval that cannot be computed.
    """
    group = need_group(study, "stress", "stress_test(problem, study, key=..., stresses=...) first")
    names = ("objective", "change", "regret")
    unit = str(study.attrs.get("objective_unit", ""))
    columns = [f"{name}{end}" for name in names for end in ("", "_lower", "_upper")]
    return study_table(
        study,
        f"designs in other worlds [{unit}]",
        lambda: {"": _stress_rows(group, names, prob, kind)},
        accept_failed=accept_failed,
        prob=prob,
        kind=kind,
        units=dict.fromkeys(columns, unit),
    )


def loss_table(
    study: xr.DataTree, *, prob: float = 0.9, kind: str = "eti", accept_failed: bool = False
) -> Table:
    """Return what deciding by the wrong model of the follower loses.

    Parameters
    ----------
    study : xarray.DataTree
        From `compare_followers`.
    prob : float
        Probability of the intervals over draws, in (0, 1).
    kind : {"eti", "hdi"}
        Equal-tailed or highest-density.
    accept_failed : bool
        Show the numbers although the study failed its checks.

    Returns
    -------
    Table
        ``frame``: mean losses, a row per model that a design is made for, a column per model that
        is true. The last column, ``unsolved``, counts the draws, over all worlds of a row, where a
        best response did not converge. ``frames`` also holds the ends of the intervals of these
        losses and "prediction": how well each model predicts (PSIS-LOO).

    Raises
    ------
    InvalidInputError
        If the study holds no comparison, or for an interval that cannot be computed.
    """
    remedy = "compare_followers(problem, study, key=..., others=...) first"
    group = need_group(study, "model_comparison", remedy)
    unit = str(study.attrs.get("objective_unit", ""))
    return study_table(
        study,
        f"mean loss [{unit}]: design made for (rows) in the world of (columns)",
        lambda: _loss_frames(group, prob, kind),
        accept_failed=accept_failed,
        prob=prob,
        kind=kind,
        units=dict.fromkeys(map(str, group["model"].values), unit),
    )


def _scaling_rows(group: xr.Dataset, prob: float) -> pd.DataFrame:
    table = pd.DataFrame(index=pd.Index(group["output"].values, name="output"))
    for name in COMPONENTS:
        one = group.sel(component=name)
        error = one["power_scaling_standard_error"].values
        columns = _with_interval(one["power_scaling"].values, error, prob, least=0.0)
        for part, values in zip(("", "_standard_error", "_lower", "_upper"), columns, strict=True):
            table[f"{name}{part}"] = values
    prior, likelihood = table["prior"] >= THRESHOLD, table["likelihood"] >= THRESHOLD
    weak = "potential strong prior or weak likelihood"
    says = np.where(prior & likelihood, "potential prior-data conflict", "")
    table["diagnosis"] = np.where(prior & ~likelihood, weak, says)
    table["unsolved"] = group["unsolved_draws"].values
    return table


def _decision_rows(group: xr.Dataset, prob: float) -> pd.DataFrame:
    flat = group[
        [
            "best_option",
            "loss_of_common",
            "loss_of_common_standard_error",
            "effective_draws",
            "pareto_k",
        ]
    ].stack(row=("component", "alpha"))
    loss, error = flat["loss_of_common"].values, flat["loss_of_common_standard_error"].values
    columns = ("loss_of_common", "standard_error", *ENDS)
    table = pd.DataFrame(
        {"best_option": [design_title(name) for name in flat["best_option"].values]}
        | dict(zip(columns, _with_interval(loss, error, prob), strict=True)),
        index=flat.indexes["row"],
    )
    for name in ("effective_draws", "pareto_k"):
        table[name] = flat[name].values
    table["unsolved"] = group["unsolved"].sel(option=flat["best_option"].values).values
    return table


def _sobol_rows(group: xr.Dataset, prob: float) -> pd.DataFrame:
    index, error = (
        group[f"sobol_{name}"].transpose("output", "parameter").values.ravel()
        for name in ("first_order", "standard_error")
    )
    columns = ("first_order", "standard_error", *ENDS)
    rows = pd.MultiIndex.from_product(
        [group["output"].values, group["parameter"].values], names=["output", "parameter"]
    )
    return pd.DataFrame(
        dict(zip(columns, _with_interval(index, error, prob), strict=True)), index=rows
    )


def _stress_rows(group: xr.Dataset, names: tuple[str, ...], prob: float, kind: str) -> pd.DataFrame:
    over_draws = ("chain", "draw")
    columns = {}
    for name in names:
        columns[name] = group[name].mean(over_draws).values.ravel()
        ends = bounds(group[name], prob, kind)
        for end in ENDS:
            columns[f"{name}_{end}"] = ends.sel(ci_bound=end).values.ravel()
    columns["failed"] = (group["status"] != 0).sum(over_draws).values.ravel()
    designs = [design_title(name) for name in group["design"].values]
    rows = pd.MultiIndex.from_product([group["stress"].values, designs], names=["stress", "design"])
    table = pd.DataFrame(columns, index=rows)
    table["search"] = ""
    if "reoptimised_status" in group:
        ended = [AscentStatus(int(value)).name for value in group["reoptimised_status"]]
        table.loc[(slice(None), "reoptimised"), "search"] = ended
    return table


def _loss_frames(group: xr.Dataset, prob: float, kind: str) -> dict[str, pd.DataFrame]:
    loss = group["loss"].transpose("designed_for", "model", "sample")
    ends = bounds(loss.rename(sample="draw").expand_dims("chain"), prob, kind)
    mean = loss.mean("sample").to_pandas()
    mean["unsolved"] = group["unsolved"].sum("model").values
    prediction = {
        "elpd": "elpd",
        "standard_error": "elpd_standard_error",
        "difference": "elpd_difference",
        "difference_error": "elpd_difference_standard_error",
        "weight": "weight",
        "largest_pareto_k": "largest_pareto_k",
        "caution": "elpd_caution",
        "difference_caution": "elpd_difference_caution",
    }
    columns = {short: group[name].values for short, name in prediction.items()}
    return {
        "": mean,
        **{f"{end} ends": ends.sel(ci_bound=end).to_pandas() for end in ENDS},
        "prediction": pd.DataFrame(columns, index=group.indexes["model"]),
    }


def _with_interval(
    value: np.ndarray, error: np.ndarray, prob: float, least: float = -np.inf
) -> tuple[np.ndarray, ...]:
    """Return values, standard errors and the ends of normal intervals, cut at ``least``."""
    half = norm.ppf(0.5 + prob / 2.0) * error
    return value, error, np.maximum(value - half, least), value + half
