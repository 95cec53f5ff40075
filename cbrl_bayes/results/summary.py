"""One table of what a study found, every number with its interval, beside its health."""

import json

import numpy as np
import pandas as pd
import xarray as xr

from cbrl_bayes.results.chains import diagnostics, printed_entries
from cbrl_bayes.results.health import assess
from cbrl_bayes.results.law_words import law_notes
from cbrl_bayes.results.names import design_title, entry_name, incentive_arrays, known_among
from cbrl_bayes.results.next_period import drift_notes
from cbrl_bayes.results.recommendation import recommendation
from cbrl_bayes.results.table import Table, bounds, check_interval, need_group, without_dust
from cbrl_bayes.status import FAILED_ASCENTS

COLUMNS = ["mean", "sd", "lower", "upper", "r_hat", "ess_bulk", "unit"]


def summary(
    tree: xr.DataTree, *, prob: float = 0.9, kind: str = "eti", accept_failed: bool = False
) -> Table:
    """Summarise a results tree.

    Parameters
    ----------
    tree : xarray.DataTree
        From `infer` or `design`.
    prob : float
        Probability of the credible intervals, in (0, 1).
    kind : {"eti", "hdi"}
        Equal-tailed or highest-density.
    accept_failed : bool
        Show designs although the study failed its checks; without it they are withheld.

    Returns
    -------
    Table
        ``frame`` has rows by (group, quantity) and the columns mean, sd, lower, upper, r_hat,
        ess_bulk and unit; parameters whose value was known form the group "known". ``details``
        holds the names of problem and estimator, ``failed_share`` (of draws whose design failed;
        NaN for a fit without designs) and ``restart_objectives`` (what each ascent of the plug-in
        search reached; a wide spread says that the optimum is one of many) and ``recommendation``
        (`Recommendation`, or None). The recommendation is printed first: what to do, what to
        expect, what is gained over today.

    Raises
    ------
    InvalidInputError
        For a probability or kind out of range.
    """
    check_interval(prob, kind)
    need_group(tree, "posterior", "fit = cb.infer(problem, data, key=...)")
    posterior, known = tree["posterior"].to_dataset(), known_among(tree)
    rows = _rows("parameter", posterior.drop_vars(known), prob, kind, diagnose=True)
    rows += _rows("known", posterior[known], prob, kind, diagnose=True) if known else []
    failed = np.nan
    designed = "design" in tree.children
    if designed:
        design = tree["design"].to_dataset()
        failed = float(np.isin(design["status"].values, FAILED_ASCENTS).mean())
    health = assess(tree, prob=prob)
    withheld = designed and health.verdict == "FAIL" and not accept_failed
    if designed and not withheld:
        rows += _design_rows(tree, design, prob, kind)
    frame = pd.DataFrame(rows, columns=["group", "quantity", *COLUMNS])
    frame = frame.set_index(["group", "quantity"])
    units = {f"{group}: {name}": unit for (group, name), unit in frame["unit"].items() if unit}
    frame.attrs = {"prob": prob, "kind": kind, "units": units}
    reached = _restarts(tree)
    notes = list(json.loads(tree.attrs.get("data_notes", "[]")))
    notes += law_notes(tree) + drift_notes(tree)
    if designed:
        notes.append(f"failed designs: {100 * failed:.1f} % of draws")
    if np.isfinite(reached).sum() > 1 and not withheld:
        notes.append(_restart_text(reached))
    names = {name: str(tree.attrs.get(name, "")) for name in ("problem", "estimator")}
    advised = None if withheld else recommendation(tree, prob=prob, kind=kind)
    return Table(
        ", estimator ".join(filter(None, names.values())),
        {"": frame},
        prob,
        kind,
        health,
        withheld,
        tuple(notes),
        {
            **names,
            "failed_share": failed,
            "restart_objectives": reached[:0] if withheld else reached,
            "recommendation": advised,
        },
        () if advised is None else advised.lines(),
    )


def _restarts(tree: xr.DataTree) -> np.ndarray:
    if "decision" not in tree.children or "restart_objective" not in tree["decision"]:
        return np.zeros(0)
    return np.asarray(tree["decision"].to_dataset()["restart_objective"].values)


def _restart_text(objectives: np.ndarray) -> str:
    """Say how the ascents of a search spread: many different ends are many local optima."""
    found = objectives[np.isfinite(objectives)]
    best, width = found.max(), max(np.ptp(found), abs(found.max()))
    near = int((found >= best - 0.01 * width).sum())
    return (
        f"plug-in search: {len(objectives)} ascents ended between {found.min():.4g} and "
        f"{best:.4g} (median {np.median(found):.4g}), {near} of them within 1 % of the best"
    )


def _design_rows(tree: xr.DataTree, design: xr.Dataset, prob: float, kind: str) -> list[list]:
    wanted = ["leader_objective", "incentive_cost", "follower_value"]
    known = [n for n in wanted if np.isfinite(design[n].values).any()]
    rows = _rows(
        "best per draw", design[known + incentive_arrays(design)], prob, kind, diagnose=True
    )
    decision = tree["decision"].to_dataset()
    for which in decision["design"].values:
        chosen = decision.sel(design=which, drop=True)
        renamed = chosen[["objective", "regret"]].rename(objective="leader_objective")
        rows += _rows(f"{design_title(which)} design", renamed, prob, kind, diagnose=False)
    return rows


def _rows(group: str, dataset: xr.Dataset, prob: float, kind: str, *, diagnose: bool) -> list[list]:
    """One row per scalar; of a long array, the entries that are largest in the mean."""
    rows = []
    interval = bounds(dataset, prob, kind)
    rhat, ess = diagnostics(dataset)
    for name, array in dataset.data_vars.items():
        if str(name).endswith("_offset"):
            continue
        over = ("chain", "draw")
        still = array.max(over, skipna=False) == array.min(over, skipna=False)
        first = array.isel(chain=0, draw=0, drop=True)  # of a constant the mean, without rounding
        mean = array.mean(over, skipna=False).where(~still, first)
        sd = array.std(over, skipna=False).where(~still, 0.0)
        largest = float(np.abs(mean.values).max(initial=0.0))
        # Moves that cannot be, or must be.
        certain = np.isin(first, (0.0, 1.0)) & still.values & ("successor" in array.dims)
        for flat in printed_entries(np.where(certain, 0.0, mean.values)):
            if certain.flat[flat]:
                continue
            index = np.unravel_index(flat, mean.shape)
            found = (mean.values[index], sd.values[index], *_ends(interval[name], index))
            told = without_dust(found, largest).tolist()
            rows.append(
                [
                    group,
                    entry_name(str(name), mean, index),
                    *told,
                    float(rhat[name].values[index]) if diagnose else np.nan,
                    float(ess[name].values[index]),
                    str(array.attrs.get("units", "")),
                ]
            )
    return rows


def _ends(interval: xr.DataArray, index: tuple) -> np.ndarray:
    return interval.transpose(..., "ci_bound").values[index]
