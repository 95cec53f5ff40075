"""Calibrations, labelled and counted.

`calibrate_inference` returns an `xarray.Dataset` with

- ``rank (data_set, quantity)``: posterior draws below the truth, 0 to ``num_draws``, ties broken
  at random; -1 where the fit is not finite;
- ``fractional_rank``: the rank plus a uniform number, over ``num_draws + 1``; uniform on (0, 1)
  if inference is right;
- ``truth``, ``effective_size`` (of the whole chain), same axes;
- ``num_divergent``, ``num_unsolved``, ``failed`` ``(data_set)``: of each fit.

`calibrate_decisions` returns one with the fields of `DecisionRecord` under the same names, axes
``data_set``, ``draw`` and ``coordinate`` (all incentives, flattened), and ``num_divergent``,
``num_unsolved`` and ``failed`` of each fit.
"""

import json
from typing import Any

import jax
import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Array, Key

from cbrl_bayes.calibration.coverage import count_covered, interval_order
from cbrl_bayes.calibration.fits import CalibrationSettings, SimulatedFits
from cbrl_bayes.calibration.ranks import entry, flattened, rank_columns, uniformity_p_value
from cbrl_bayes.calibration.studies import DecisionRecord
from cbrl_bayes.errors import InvalidInputError, require_ranges
from cbrl_bayes.inference import GenerativeModel
from cbrl_bayes.problems import Problem
from cbrl_bayes.results.provenance import certificate, describe
from cbrl_bayes.results.table import Table, check_interval


def ranks_dataset(
    simulation: GenerativeModel,
    fits: SimulatedFits,
    settings: CalibrationSettings,
    *,
    key: Key[Array, ""],
    rank_key: Key[Array, ""],
) -> xr.Dataset:
    """Return the ranks of all truths with labels; ``rank_key`` breaks ties."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(rank_key)))
    names, columns = rank_columns(fits, rng)
    table = {name: (("data_set", "quantity"), values) for name, values in columns.items()}
    found = xr.Dataset(table | _fit_variables(fits)).assign_coords(quantity=names)
    found.attrs = {
        "num_draws": fits.num_draws,
        "simulation": json.dumps(describe(simulation)),
        "settings": json.dumps(describe(settings)),
        "seed": np.asarray(jax.random.key_data(key)).tolist(),
    }
    return found


def decisions_dataset(
    problem: Problem,
    record: DecisionRecord,
    fits: SimulatedFits,
    used: dict[str, Any],
    *,
    key: Key[Array, ""],
    tie_key: Key[Array, ""],
) -> xr.Dataset:
    """Return what studies predicted and what was true with labels."""
    true = np.concatenate([flattened(v, 1) for v in record.true_incentive.values()], axis=1)
    drawn = np.concatenate([flattened(v, 2) for v in record.incentive.values()], axis=2)
    variables: dict[str, Any] = {
        "true_incentive": (("data_set", "coordinate"), true),
        "incentive": (("data_set", "draw", "coordinate"), drawn),
        "in_common": ("draw", record.in_common),
    }
    for name in ("true_optimum", "better_optimum", "realised", "broken", "unsettled"):
        variables[name] = ("data_set", getattr(record, name))
    for name in ("optimum", "predicted"):
        variables[name] = (("data_set", "draw"), getattr(record, name))
    coordinates = [
        f"{name}{entry(place, value.shape[1:])}"
        for name, value in record.true_incentive.items()
        for place in range(int(np.prod(value.shape[1:])))
    ]
    found = xr.Dataset(variables | _fit_variables(fits)).assign_coords(coordinate=coordinates)
    found.attrs = certificate(problem, "decision calibration", used) | {
        "seed": np.asarray(jax.random.key_data(key)).tolist(),
        "tie_seed": np.asarray(jax.random.key_data(tie_key)).tolist(),
    }
    return found


def rank_uniformity(calibration: xr.Dataset, *, false_alarm: float = 0.001) -> Table:
    """Test that the ranks of each quantity are uniform (`uniformity_p_value`).

    The level is shared among the quantities (Bonferroni): if inference is right, the chance that
    any of them is flagged is at most ``false_alarm``, up to the chi-square approximation.

    Parameters
    ----------
    calibration : xarray.Dataset
        From `calibrate_inference`.
    false_alarm : float
        In (0, 1), for all quantities together.

    Returns
    -------
    Table
        ``frame``: a row per quantity with ``p_value``, ``level`` it is held against, ``uniform``,
        ``covered_90`` (share of truths in the central 90 % of their posterior), ``data_sets``
        counted, and ``slow``: fits whose chain had fewer effective draws than ranks need. Of the
        fits, the same in all rows: ``failed`` (some number is not finite), ``divergent`` (at least
        one divergent transition) and ``unsolved`` (some best response did not converge). A fit that
        failed has no rank, and which fits fail may depend on the truth: ``uniform`` is false if any
        did, whatever the p-value of the rest.

    Raises
    ------
    InvalidInputError
        For a ``false_alarm`` out of range.
    """
    if not isinstance(calibration, xr.Dataset) or "quantity" not in calibration.dims:
        raise InvalidInputError(
            "this is no calibration",
            received=type(calibration).__name__,
            accepted="the dataset from cb.calibrate_inference or cb.calibrate_decisions",
        )
    require_ranges({"false_alarm": false_alarm}, "numbers of the test", false_alarm="(0, 1)")
    level = false_alarm / calibration.sizes["quantity"]
    fits = {
        "failed": int(calibration["failed"].sum()),
        "divergent": int((calibration["num_divergent"] > 0).sum()),
        "unsolved": int((calibration["num_unsolved"] > 0).sum()),
    }
    rows = {}
    for name in calibration["quantity"].values:
        one = calibration.sel(quantity=name)
        place = one["fractional_rank"].values
        place = place[np.isfinite(place)]
        p_value = uniformity_p_value(place)
        rows[str(name)] = {
            "p_value": p_value,
            "level": level,
            "uniform": p_value >= level and not fits["failed"],
            "covered_90": float((abs(place - 0.5) <= 0.45).mean()) if len(place) else np.nan,
            "data_sets": len(place),
            "slow": int((one["effective_size"] < calibration.attrs["num_draws"]).sum()),
            **fits,
        }
    return Table(
        f"are ranks of the truth uniform? (false alarm {false_alarm:g} for all quantities)",
        {"": _frame(rows)},
    )


def decision_coverage(
    calibration: xr.Dataset, *, prob: float = 0.9, band_prob: float = 0.99
) -> Table:
    """Count how often equal-tailed intervals over the draws contain what was true.

    Intervals run between order statistics of the draws (`count_covered`).

    Parameters
    ----------
    calibration : xarray.Dataset
        From `calibrate_decisions`.
    prob : float
        Of the intervals.
    band_prob : float
        A binomial count falls into the band with at least this probability.

    Returns
    -------
    Table
        ``frame``: a row per quantity with ``data_sets`` counted, ``covered``, ``share``, the band
        of counts ``low`` to ``high``, ``detectable`` (see `detectable_coverage`: a true coverage
        above that would often go unseen), ``untied`` (covered when ties are broken at random:
        exactly nominal), ``mean_rank`` (of the truth, 0 to 1; .5 is nominal), ``rank_p_value`` (of
        `mean_rank_p_value`, which sees a shift that coverage does not), ``mean_true``,
        ``mean_predicted``, their ``difference`` and ``difference_standard_error``. Data sets with a
        number that is not finite are not counted: compare ``data_sets`` with those simulated.

    Raises
    ------
    InvalidInputError
        If no order statistics give ``prob``, or for a probability out of range.
    """
    check_interval(prob)
    rng = np.random.default_rng(calibration.attrs.get("tie_seed", 0))
    apart = ~calibration["in_common"].values
    rows = {}
    for name, truth, draws in _compared(calibration):
        rows[name] = count_covered(truth, draws, prob=prob, band_prob=band_prob, rng=rng)
        if name.startswith(("objective", "regret")) and interval_order(apart.sum(), prob) > 0:
            rows[f"{name}, draws held out"] = count_covered(
                truth, draws[:, apart], prob=prob, band_prob=band_prob, rng=rng
            )
    unit = calibration.attrs.get("objective_unit", "")
    return Table(
        f"how often intervals held the truth; objective [{unit}]",
        {"": _frame(rows, prob=prob, kind="eti")},
        prob=prob,
        kind="eti",
    )


def _compared(calibration: xr.Dataset) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """List (name, truth (R,), draws (R, N)) of everything that a study predicts."""
    get = {str(name): array.values for name, array in calibration.data_vars.items()}
    rows = [
        ("optimal objective", get["true_optimum"], get["optimum"]),
        ("optimal objective, searched harder", get["better_optimum"], get["optimum"]),
        ("objective of the common design", get["realised"], get["predicted"]),
        (
            "regret of the common design",
            get["true_optimum"] - get["realised"],
            get["optimum"] - get["predicted"],
        ),
    ]
    draws = calibration["incentive"].transpose("data_set", "draw", "coordinate").values
    for place, name in enumerate(calibration["coordinate"].values):
        rows.append((f"incentive {name}", get["true_incentive"][:, place], draws[..., place]))
    return rows


def _fit_variables(fits: SimulatedFits) -> dict[str, Any]:
    """Return what became of each fit, by data set."""
    counted = ("num_divergent", "num_unsolved", "failed")
    return {name: ("data_set", getattr(fits, name)) for name in counted}


def _frame(
    rows: dict[str, dict[str, Any]], prob: float | None = None, kind: str | None = None
) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows.values()), index=pd.Index(list(rows), name="quantity"))
    frame.attrs = {"units": {}, "prob": prob, "kind": kind}
    return frame
