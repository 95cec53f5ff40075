"""The group ``information`` of a study: what knowing more is worth, labelled, judged and tabled.

Every value is in the unit of the leader's objective and stands beside its standard error; a
``held_out`` value chooses by one part of the draws and counts by another (see
`cbrl_bayes.information.values`). Variables:

| variable | dims | meaning |
|---|---|---|
| `net_benefit` | option, chain, draw | the leader's objective of each option under each draw |
| `unconstrained` | option, coordinate | the options, before their transform |
| `evpi`, `evpi_held_out` and their `_standard_error` | | perfect information, among the options |
| `evpi_own_design`, `_standard_error` | | mean regret of the common design: among all designs |
| `evppi`, `evppi_held_out` and their `_standard_error` | parameter | partial perfect information |
| `evppi_explained` | parameter | share of variance that the regression explains |
| `evppi_residual_correlation`, `_standard_error` | parameter | of residuals at neighbouring draws |
| `evsi`, `evsi_held_out` and their `_standard_error` | experiment | sample information, fitted |
| `evsi_moment_matching`, `_standard_error` | experiment | sample information, the other route |
| `evsi_ceiling` | experiment | knowing exactly what the experiment speaks of |
| `evsi_explained`, `evsi_residual_correlation`, `_standard_error` | experiment | as of `evppi` |
| `effective_sample_size` | experiment, data_set | of the draws, re-weighted by each data set |
| `num_columns` | experiment | numbers to which the data were summarised |
| `num_episodes`, `num_steps`, `setting`, `cost` | experiment | what it is and what it costs |
| `net_benefit_of_sampling`, `_standard_error` | experiment | population times EVSI, less cost |
| `rank` | experiment | 1 is the best next experiment |

Attributes: `population`, `num_draws` used, `num_dropped`, `block_length`, `settings` (JSON), and
`reviews` and `failures`, JSON lists of sentences for the health verdict.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import arviz_stats as az
import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float
from scipy.stats import norm

from cbrl_bayes.errors import counted
from cbrl_bayes.information.experiments import Experiment
from cbrl_bayes.information.sampling import SampleInformation
from cbrl_bayes.information.values import InformationValue
from cbrl_bayes.results.provenance import describe
from cbrl_bayes.results.table import Table, need_group, study_table

DRAWS_REVIEW, DRAWS_FAIL = 200, 50
DROPPED_FAIL = 0.05
ESS_REVIEW = 50
STRUCTURE_REVIEW = 0.02
ERRORS_APART = 3.0
IN_OBJECTIVE_UNIT = (
    "value",
    "standard_error",
    "lower",
    "upper",
    "held_out",
    "matched",
    "matched_error",
    "ceiling",
)
IN_TOTAL_UNIT = ("cost", "net_benefit", "net_error")


def add_information(
    tree: xr.DataTree,
    chosen: xr.Dataset,
    *,
    options: tuple[Sequence[str], np.ndarray],
    net_benefit: Float[np.ndarray, "draw option"],
    perfect: InformationValue,
    partial: Mapping[str, InformationValue],
    samples: Sequence[tuple[Experiment, SampleInformation]],
    population: float,
    block_length: int,
    settings: dict[str, Any],
) -> xr.DataTree:
    """Return a copy of a study with the group ``information``.

    Parameters
    ----------
    tree : xarray.DataTree
        A design study.
    chosen : xarray.Dataset
        The posterior draws used.
    options : tuple
        Names, and points before their transform (D, P).
    net_benefit : array, shape (N, D)
        NaN where a score failed.
    perfect, partial, samples
        What was found; by label of what would be known, and with each experiment.
    population : float
    block_length : int
        Draws that are worth one independent draw.
    settings : dict
        What to record of how it was made.

    Returns
    -------
    xarray.DataTree
    """
    unit = str(tree.attrs.get("objective_unit", ""))
    shape = (chosen.sizes["chain"], chosen.sizes["draw"])
    regret = tree["decision"]["regret"].sel(design="common")
    # Designed draws lie further apart in their chains than those that were valued.
    apart = draws_per_effective_draw(xr.Dataset({"regret": regret}))
    own_error = np.sqrt(apart * regret.var(ddof=1) / regret.size)
    data = xr.Dataset(
        {
            "net_benefit": (("option", "chain", "draw"), net_benefit.T.reshape(-1, *shape)),
            "unconstrained": (("option", "coordinate"), options[1]),
            "evpi_own_design": float(regret.mean()),
            "evpi_own_design_standard_error": float(own_error),
        },
        coords={"option": list(options[0]), "chain": chosen["chain"], "draw": chosen["draw"]},
    )
    data = data.merge(_values("evpi", perfect))
    if partial:
        parts = [_values("evppi", value) for value in partial.values()]
        labels = {"parameter": np.array(list(partial), str)}
        data = data.merge(xr.concat(parts, "parameter").assign_coords(labels))
    if samples:
        names = {"experiment": np.array([experiment.name for experiment, _ in samples], str)}
        parts = [_experiment(one, sample, population) for one, sample in samples]
        data = data.merge(xr.concat(parts, "experiment").assign_coords(names))
        worth = data["net_benefit_of_sampling"]
        data["rank"] = ("experiment", (-worth.values).argsort().argsort() + 1)
    for name in map(str, data.data_vars):
        if name.startswith(("net_benefit", "ev", "cost")) and not _has_no_unit(name):
            whole = name.startswith(("cost", "net_benefit_of_sampling"))
            data[name].attrs["units"] = total_unit(unit, population) if whole else unit
    dropped = int((~np.isfinite(net_benefit)).any(1).sum())
    reviews, failures = _judge_draws(len(net_benefit), dropped, block_length)
    for label, value in partial.items():
        reviews += _regression_notes(f"the value of knowing {label}", value)
    for experiment, sample in samples:
        more, worse = _judge_sample(experiment.name, sample)
        reviews, failures = reviews + more, failures + worse
    beyond = float(regret.mean()) - perfect.value
    if beyond > 2.0 * np.hypot(own_error, perfect.standard_error):
        reviews.append(
            "the options scored miss part of what perfect information is worth: raise num_options"
        )
    data.attrs = {
        "population": population,
        "num_dropped": dropped,
        "num_draws": len(net_benefit) - dropped,
        "block_length": block_length,
        "reviews": json.dumps(reviews),
        "failures": json.dumps(failures),
        "settings": json.dumps(describe(settings), sort_keys=True),
    }
    result = tree.copy(deep=True)
    result["information"] = xr.DataTree(data)
    return result


def total_unit(unit: str, population: float) -> str:
    """Return the unit of what a whole population gains: no longer "per customer".

    Examples
    --------
    >>> total_unit("euro per customer", 50.0)
    'euro (population of 50)'
    >>> total_unit("money", 1.0)
    'money'
    """
    if population == 1.0 or not unit:
        return unit
    per_head = unit.count(" per ") == 1
    whole = unit.partition(" per ")[0] if per_head else unit
    return f"{whole} (population of {population:g})"


def draws_per_effective_draw(posterior: xr.Dataset) -> int:
    """Return the draws that are worth one independent draw, rounded up.

    By the worst bulk effective sample size of all scalars; 1 where there are too few draws to
    tell. Resampling draws in blocks of this length keeps their correlation.
    """
    total = posterior.sizes["chain"] * posterior.sizes["draw"]
    if posterior.sizes["draw"] < 4:
        return 1
    sizes = [float(array.min()) for array in az.ess(posterior).data_vars.values()]
    known = [size for size in sizes if np.isfinite(size)]
    if not known:
        return 1
    return int(np.clip(np.ceil(total / min(known) - 0.5), 1, max(1, total // 20)))


def information_table(
    study: xr.DataTree, *, prob: float = 0.9, accept_failed: bool = False
) -> Table:
    """Return what knowing more is worth: perfect information, parameters, experiments.

    Parameters
    ----------
    study : xarray.DataTree
        From `value_of_information`.
    prob : float
        Probability of the normal intervals, in (0, 1): estimate plus and minus quantiles of its
        standard error, cut at 0 where the quantity cannot be negative.
    accept_failed : bool
        Show the numbers although the study failed its checks.

    Returns
    -------
    Table
        ``frames`` holds up to three: "perfect information", "parameters" (most valuable first)
        and "experiments" (best first).

    Raises
    ------
    InvalidInputError
        Without that group, or for a probability out of range.
    """
    data = need_group(study, "information", "value_of_information(problem, study, key=...) first")
    unit = str(data["evpi"].attrs.get("units", ""))
    total = str(data["net_benefit_of_sampling"].attrs.get("units", "")) if "cost" in data else unit
    makers = {
        "perfect information": lambda: _perfect_rows(study, data),
        "parameters": lambda: _parameter_rows(data),
        "experiments": lambda: _experiment_rows(data),
    }
    axes = {"perfect information": None, "parameters": "parameter", "experiments": "experiment"}
    return study_table(
        study,
        f"value of information [{unit}]",
        lambda: {
            heading: _with_interval(make(), "value", prob)
            for heading, make in makers.items()
            if axes[heading] in (None, *data.dims)
        },
        accept_failed=accept_failed,
        prob=prob,
        kind="normal",
        units=dict.fromkeys(IN_OBJECTIVE_UNIT, unit) | dict.fromkeys(IN_TOTAL_UNIT, total),
    )


def _perfect_rows(study: xr.DataTree, data: xr.Dataset) -> pd.DataFrame:
    scored, designed = data.attrs["num_draws"], study["design"]["leader_objective"].size
    rows = {
        "among the options": ("evpi", scored),
        "among the options, held out": ("evpi_held_out", scored),
        "among all designs": ("evpi_own_design", designed),
    }
    return pd.DataFrame.from_dict(
        {
            label: {
                "value": float(data[name]),
                "standard_error": float(data[f"{name}_standard_error"]),
                "draws": num,
            }
            for label, (name, num) in rows.items()
        },
        orient="index",
    )


def _parameter_rows(data: xr.Dataset) -> pd.DataFrame:
    columns = {
        "value": "evppi",
        "standard_error": "evppi_standard_error",
        "held_out": "evppi_held_out",
        "explained": "evppi_explained",
    }
    return _frame(data, columns, "parameter").sort_values("value", ascending=False)


def _experiment_rows(data: xr.Dataset) -> pd.DataFrame:
    columns = {
        "rank": "rank",
        "episodes": "num_episodes",
        "value": "evsi",
        "standard_error": "evsi_standard_error",
        "matched": "evsi_moment_matching",
        "matched_error": "evsi_moment_matching_standard_error",
        "ceiling": "evsi_ceiling",
        "ess": "median_ess",
        "cost": "cost",
        "net_benefit": "net_benefit_of_sampling",
        "net_error": "net_benefit_of_sampling_standard_error",
    }
    data = data.assign(median_ess=data["effective_sample_size"].median("data_set"))
    return _frame(data, columns, "experiment").sort_values("rank")


def _values(name: str, value: InformationValue) -> xr.Dataset:
    found = {
        name: value.value,
        f"{name}_standard_error": value.standard_error,
        f"{name}_held_out": value.held_out,
        f"{name}_held_out_standard_error": value.held_out_standard_error,
    }
    if np.isfinite(value.explained):
        found |= {
            f"{name}_explained": value.explained,
            f"{name}_residual_correlation": value.residual_correlation,
            f"{name}_residual_correlation_standard_error": value.residual_correlation_error,
        }
    return xr.Dataset(found)


def _experiment(experiment: Experiment, sample: SampleInformation, population: float) -> xr.Dataset:
    worth = population * sample.regression.value - experiment.cost
    return _values("evsi", sample.regression).assign(
        evsi_moment_matching=sample.moment_matching,
        evsi_moment_matching_standard_error=sample.moment_matching_error,
        evsi_ceiling=sample.ceiling,
        effective_sample_size=("data_set", sample.effective_sample_size),
        num_columns=sample.num_columns,
        num_episodes=experiment.num_episodes,
        num_steps=experiment.num_steps,
        setting=experiment.setting,
        cost=experiment.cost,
        net_benefit_of_sampling=worth,
        net_benefit_of_sampling_standard_error=population * sample.regression.standard_error,
    )


def _has_no_unit(name: str) -> bool:
    return "explained" in name or "correlation" in name


def _judge_draws(num: int, dropped: int, block_length: int) -> tuple[list[str], list[str]]:
    """Return what asks for a look and what speaks against relying on the values."""
    reviews: list[str] = []
    failures: list[str] = []
    effective = (num - dropped) // block_length
    if effective < DRAWS_REVIEW:
        target = failures if effective < DRAWS_FAIL else reviews
        target.append(
            f"value of information rests on some {effective} independent draws: use "
            f"{DRAWS_REVIEW} or more"
        )
    if dropped:
        target = failures if dropped > DROPPED_FAIL * num else reviews
        target.append(
            f"left out of the value of information: {counted(dropped, 'draw')}, in which an "
            "option's score failed"
        )
    return reviews, failures


def _judge_sample(name: str, sample: SampleInformation) -> tuple[list[str], list[str]]:
    reviews = _regression_notes(f"the value of experiment {name}", sample.regression)
    size = float(np.median(sample.effective_sample_size))
    if size < ESS_REVIEW:
        reviews.append(
            f"moment matching for experiment {name} rests on {size:.0f} effective draws per "
            "data set: use more draws or trust the regression"
        )
    error = max(sample.regression.standard_error, sample.moment_matching_error)
    gap = abs(sample.regression.value - sample.moment_matching)
    if gap > ERRORS_APART * error:
        reviews.append(
            f"regression and moment matching differ by {gap:.2g} on experiment "
            f"{name}, more than {ERRORS_APART:g} standard errors"
        )
    failures = (
        [
            f"{sample.num_failed} best responses in the simulation of experiment {name} did not "
            "converge"
        ]
        if sample.num_failed
        else []
    )
    return reviews, failures


def _regression_notes(what: str, value: InformationValue) -> list[str]:
    left = value.residual_correlation * (1.0 - value.explained)
    clear = value.residual_correlation > 4.0 * value.residual_correlation_error
    notes = []
    if clear and left > STRUCTURE_REVIEW:
        notes.append(
            f"{what} may be too low: its regression leaves {100 * left:.0f} % of the "
            "variance in residuals that neighbours share"
        )
    gap = value.value - value.held_out
    if gap > ERRORS_APART * value.standard_error and gap > 0.1 * value.value:
        notes.append(
            f"{what} may be too high: {value.value:.2g} fitted, {value.held_out:.2g} on "
            "draws held out; use more draws"
        )
    return notes


def _frame(data: xr.Dataset, columns: Mapping[str, str], dim: str) -> pd.DataFrame:
    values = {short: data[name].values for short, name in columns.items()}
    return pd.DataFrame(values, index=pd.Index(data[dim].values, name=dim))


def _with_interval(table: pd.DataFrame, column: str, prob: float) -> pd.DataFrame:
    """Add bounds right behind the standard error."""
    half = norm.ppf(0.5 + prob / 2.0) * table["standard_error"]
    at = list(table.columns).index("standard_error") + 1
    table = table.copy()
    # Held-out values may be negative, the others not.
    floor = np.where(table.index.astype(str).str.contains("held out"), -np.inf, 0.0)
    table.insert(at, "lower", np.maximum(table[column] - half, floor))
    table.insert(at + 1, "upper", table[column] + half)
    return table
