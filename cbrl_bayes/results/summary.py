"""One table of what a study found, every number with its interval, beside its health."""

from dataclasses import dataclass
from html import escape

import arviz as az
import numpy as np
import pandas as pd
import xarray as xr

from cbrl_bayes.errors import InvalidInputError, explain
from cbrl_bayes.hypergradients import FAILED_ASCENTS
from cbrl_bayes.results.health import Health, assess

__all__ = ["Summary", "entry_name", "summary"]

INTERVALS = {"eti": "equal-tailed", "hdi": "highest-density"}
COLUMNS = ["mean", "sd", "lower", "upper", "r_hat", "ess_bulk", "unit"]
MOST_ENTRIES = 8


@dataclass(frozen=True)
class Summary:
    """A table with its interval stated, and a verdict.

    Attributes
    ----------
    table : pandas.DataFrame
        Rows by (group, quantity); columns mean, sd, lower, upper, r_hat, ess_bulk, unit.
    prob : float
        Probability of the intervals.
    kind : str
        "eti" or "hdi".
    failed_share : float
        Share of draws whose design failed; NaN for a fit without designs.
    health : Health
    restart_objectives : array
        What each ascent of the plug-in search reached; NaN for failed ones, empty for a fit
        without designs. A wide spread says that the optimum is one of many.
    withheld : bool
        Whether designs are left out because the study failed its checks.
    """

    table: pd.DataFrame
    prob: float
    kind: str
    failed_share: float
    health: Health
    problem: str
    estimator: str
    restart_objectives: np.ndarray
    withheld: bool = False

    def __str__(self) -> str:
        shown = self.table.copy()
        for name in ("mean", "sd", "lower", "upper"):
            shown[name] = [f"{value:.4g}" for value in shown[name]]
        shown["r_hat"] = [_blank(value, "{:.3f}") for value in shown["r_hat"]]
        shown["ess_bulk"] = [_blank(value, "{:.0f}") for value in shown["ess_bulk"]]
        return "\n".join([*self._above(), "", shown.to_string(), "", *self._below()])

    def _repr_html_(self) -> str:
        """Return the same for a notebook's cell."""
        table = self.table.to_html(float_format="{:.4g}".format, na_rep="")  # escapes text
        above, below = (
            "<br>".join(map(escape, "\n".join(lines).splitlines()))
            for lines in (self._above(), self._below())
        )
        return f"<p>{above}</p>{table}<p>{below}</p>"

    def _above(self) -> list[str]:
        return [
            f"{self.problem}" + (f", estimator {self.estimator}" if self.estimator else ""),
            f"{100 * self.prob:g} % credible intervals, {INTERVALS[self.kind]} ({self.kind})",
        ]

    def _below(self) -> list[str]:
        lines = []
        if np.isfinite(self.failed_share):
            lines.append(f"failed designs: {100 * self.failed_share:.1f} % of draws")
        if np.isfinite(self.restart_objectives).sum() > 1:
            lines.append(_restart_text(self.restart_objectives))
        lines.append(str(self.health))
        if self.withheld:
            lines.append(
                "designs are withheld, as the study failed its checks; to see them all "
                "the same: accept_failed=True (--accept-failed)"
            )
        return lines


def summary(
    tree: xr.DataTree, *, prob: float = 0.9, kind: str = "eti", accept_failed: bool = False
) -> Summary:
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
    Summary
        ``print`` it, or take ``table`` and ``health``.

    Raises
    ------
    InvalidInputError
        For a probability or kind out of range.
    """
    if not 0.0 < prob < 1.0 or kind not in INTERVALS:
        raise InvalidInputError(
            explain(
                "the interval cannot be computed",
                received=f"prob={prob}, kind={kind!r}",
                accepted="0 < prob < 1, kind 'eti' or 'hdi'",
            )
        )
    rows = _rows("parameter", tree["posterior"].to_dataset(), prob, kind, diagnose=True)
    failed = np.nan
    if "design" in tree.children:
        design = tree["design"].to_dataset()
        status = design["status"].values
        failed = np.isin(status, FAILED_ASCENTS).mean()
    health = assess(tree)
    withheld = "design" in tree.children and health.verdict == "FAIL" and not accept_failed
    if "design" in tree.children and not withheld:
        rows += _design_rows(tree, design, prob, kind)
    table = pd.DataFrame(rows, columns=["group", "quantity", *COLUMNS])
    return Summary(
        table=table.set_index(["group", "quantity"]),
        prob=prob,
        kind=kind,
        failed_share=float(failed),
        health=health,
        problem=str(tree.attrs.get("problem", "")),
        estimator=str(tree.attrs.get("estimator", "")),
        restart_objectives=_restarts(tree),
        withheld=withheld,
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
    names = [n for n in map(str, design.data_vars) if n.startswith("incentive")]
    wanted = ["leader_objective", "incentive_cost", "follower_value"]
    known = [n for n in wanted if np.isfinite(design[n].values).any()]
    incentives = [n for n in names if n != "incentive_cost"]
    rows = _rows("design per draw", design[known + incentives], prob, kind, diagnose=True)
    decision = tree["decision"].to_dataset()
    for which in decision["design"].values:
        chosen = decision.sel(design=which, drop=True)
        renamed = chosen[["objective", "regret"]].rename(objective="leader_objective")
        rows += _rows(f"{which} design", renamed, prob, kind, diagnose=False)
    return rows


def _rows(group: str, dataset: xr.Dataset, prob: float, kind: str, *, diagnose: bool) -> list[list]:
    """One row per scalar; of a long array, the entries that are largest in the mean."""
    rows = []
    interval = (az.hdi if kind == "hdi" else az.eti)(dataset, prob=prob)
    diagnosed = diagnose and dataset.sizes["chain"] > 1 and dataset.sizes["draw"] > 3
    rhat = az.rhat(dataset) if diagnosed else None
    ess = az.ess(dataset) if dataset.sizes["draw"] > 3 else None
    for name, array in dataset.data_vars.items():
        if str(name).endswith("_offset"):
            continue
        over = ("chain", "draw")
        mean, sd = array.mean(over, skipna=False), array.std(over, skipna=False)
        order = np.argsort(-np.abs(mean.values.ravel()))
        for flat in sorted(order[:MOST_ENTRIES]):
            index = np.unravel_index(flat, mean.shape)
            rows.append(
                [
                    group,
                    entry_name(str(name), mean, index),
                    float(mean.values[index]),
                    float(sd.values[index]),
                    *map(float, _bounds(interval[name], index)),
                    float(rhat[name].values[index]) if rhat is not None else np.nan,
                    float(ess[name].values[index]) if ess is not None else np.nan,
                    str(array.attrs.get("units", "")),
                ]
            )
    return rows


def _bounds(interval: xr.DataArray, index: tuple) -> np.ndarray:
    return interval.transpose(..., "ci_bound").values[index]


def entry_name(name: str, array: xr.DataArray, index: tuple) -> str:
    """Return what one entry of ``array`` is called in tables, by its coordinates."""
    if not index:
        return name
    parts = []
    for dim, position in zip(array.dims, index, strict=True):
        labels = [c for c in array.coords.values() if c.dims == (dim,)]
        if dim in array.coords:
            parts.append(str(array.coords[dim].values[position]))
        elif labels:
            parts += [f"{c.name} {c.values[position]}" for c in labels]
        else:
            parts.append(str(position))
    return f"{name}[{', '.join(parts)}]"


def _blank(value: float, form: str) -> str:
    return form.format(value) if np.isfinite(value) else ""
