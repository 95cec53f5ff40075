"""Calibration of inference with labels: ranks of known truths among their posterior draws.

`calibrate_inference` returns an `xarray.Dataset` with

- ``rank (data_set, quantity)``: posterior draws below the truth, 0 to ``num_kept``, ties broken
  at random; -1 where the fit is not finite;
- ``fractional_rank``: the rank plus a uniform number, over ``num_kept + 1``; uniform on (0, 1)
  if inference is right;
- ``truth``, ``effective_size`` (of the whole chain), same axes;
- ``num_divergent``, ``num_unsolved``, ``failed`` ``(data_set)``: of each fit.

"""

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Array, Key
from numpy.polynomial.legendre import legvander
from scipy.stats import chi2

from cbrl_bayes.calibration.fits import CalibrationSettings, SimulatedFits, fit_simulated, ranks_of
from cbrl_bayes.errors import InvalidInputError, explain
from cbrl_bayes.inference import BehaviourSimulation, GenerativeModel
from cbrl_bayes.problems import Problem
from cbrl_bayes.results.provenance import describe

__all__ = ["calibrate_inference", "entry", "fit_variables", "flattened", "rank_uniformity"]

SMOOTH_DEGREE = 4
Progress = Callable[[str, int, int], None]


def calibrate_inference(
    subject: Problem | GenerativeModel,
    *,
    key: Key[Array, ""],
    num_data_sets: int = 500,
    settings: CalibrationSettings | None = None,
    on_progress: Progress | None = None,
) -> xr.Dataset:
    """Simulate data from the prior, fit them, and rank each truth among its posterior draws.

    Parameters
    ----------
    subject : Problem or GenerativeModel
        A problem stands for `BehaviourSimulation` with its defaults.
    key : typed key
    num_data_sets : int
        At least 1. With 500, beta-binomial data that count twice are seen practically always,
        1.5 times in four cases of five (false alarm .001).
    settings : CalibrationSettings, optional
    on_progress : callable, optional
        Called with (stage, done, total).

    Returns
    -------
    xarray.Dataset
        See the module. `rank_uniformity` judges it, `plots.plot_ranks` draws it.

    Examples
    --------
    >>> import jax
    >>> from cbrl_bayes.problems import two_state
    >>> quick = CalibrationSettings(num_warmup=20, num_kept=9, thinning=1, batch=2)
    >>> found = calibrate_inference(BehaviourSimulation(two_state(), num_episodes=4, num_steps=1),
    ...                             key=jax.random.key(0), num_data_sets=2, settings=quick)
    >>> found["rank"].dims, str(found["quantity"].values[0])
    (('data_set', 'quantity'), 'context_probability[0]')
    """
    settings = settings or CalibrationSettings()
    simulation = BehaviourSimulation(subject) if isinstance(subject, Problem) else subject
    fit_key, rank_key = jax.random.split(key)
    fits = fit_simulated(
        simulation,
        key=fit_key,
        num_data_sets=num_data_sets,
        settings=settings,
        on_progress=on_progress,
    )
    rng = np.random.default_rng(np.asarray(jax.random.key_data(rank_key)))
    columns: dict[str, list] = {"truth": [], "rank": [], "effective_size": []}
    names: list[str] = []
    for name, truth in fits.truth.items():
        flat, draws = flattened(truth, 1), flattened(fits.draws[name], 2)
        size = np.broadcast_to(flattened(fits.effective_size[name], 1), flat.shape)
        # What is the same in all truths and all draws is no quantity (a reference fixed at 0).
        varies = (flat != flat[0]).any(0) | (draws != flat[0]).any((0, 1))
        for place in map(int, np.flatnonzero(varies)):
            names.append(name if truth.ndim == 1 else f"{name}{entry(place, truth.shape[1:])}")
            columns["truth"].append(flat[:, place])
            columns["rank"].append(ranks_of(flat[:, place], draws[..., place], rng))
            columns["effective_size"].append(size[:, place])
    table = {n: (("data_set", "quantity"), np.stack(v, axis=1)) for n, v in columns.items()}
    found = xr.Dataset(table | fit_variables(fits)).assign_coords(quantity=names)
    fraction = (found["rank"] + rng.random(found["rank"].shape)) / (fits.num_kept + 1)
    found["fractional_rank"] = fraction.where(found["rank"] >= 0)
    found.attrs = {
        "num_kept": fits.num_kept,
        "simulation": json.dumps(describe(simulation)),
        "settings": json.dumps(describe(settings)),
        "seed": np.asarray(jax.random.key_data(key)).tolist(),
    }
    return found


def rank_uniformity(calibration: xr.Dataset, *, false_alarm: float = 0.001) -> pd.DataFrame:
    r"""Test that the ranks of each quantity are uniform.

    Neyman's smooth test: with u the fractional ranks, which are independent between data sets,
    and :math:`\phi_j` the orthonormal Legendre polynomials on (0, 1),
    :math:`\sum_{j=1}^{4} (\sum_r \phi_j(u_r))^2 / R` is chi-square with 4 degrees of freedom if u
    is uniform. The four terms answer to a shift, to a spread that is too small or too large, to
    skewness and to tails; fine structure is not looked for, and in exchange smooth faults are seen
    with far fewer data sets than by bins. The level is shared among the quantities (Bonferroni):
    if inference is right, the chance that any of them is flagged is at most ``false_alarm``, up to
    the chi-square approximation.

    Parameters
    ----------
    calibration : xarray.Dataset
        From `calibrate_inference`.
    false_alarm : float
        In (0, 1), for all quantities together.

    Returns
    -------
    pandas.DataFrame
        A row per quantity: ``p_value``, ``level`` it is held against, ``uniform``, ``covered_90``
        (share of truths in the central 90 % of their posterior), ``data_sets`` counted, and
        ``slow``: fits whose chain had fewer effective draws than ranks need. Of the fits, the same
        in all rows: ``failed`` (some number is not finite), ``divergent`` (at least one divergent
        transition) and ``unsolved`` (some best response did not converge). A fit that failed has no
        rank, and which fits fail may depend on the truth: ``uniform`` is false where any did,
        whatever the p-value of the rest.
    """
    if not 0.0 < false_alarm < 1.0:
        raise InvalidInputError(
            explain("false_alarm is out of range", received=false_alarm, accepted="(0, 1)")
        )
    rows = []
    level = false_alarm / calibration.sizes["quantity"]
    fits = {
        "failed": int(calibration["failed"].sum()),
        "divergent": int((calibration["num_divergent"] > 0).sum()),
        "unsolved": int((calibration["num_unsolved"] > 0).sum()),
    }
    for name in calibration["quantity"].values:
        one = calibration.sel(quantity=name)
        place = one["fractional_rank"].values
        place = place[np.isfinite(place)]
        p_value = _smooth_test(place) if len(place) else 0.0
        rows.append(
            {
                "quantity": str(name),
                "p_value": p_value,
                "level": level,
                "uniform": p_value >= level and not fits["failed"],
                "covered_90": float((abs(place - 0.5) <= 0.45).mean()) if len(place) else np.nan,
                "data_sets": len(place),
                "slow": int((one["effective_size"] < calibration.attrs["num_kept"]).sum()),
                **fits,
            }
        )
    return pd.DataFrame(rows).set_index("quantity")


def _smooth_test(place: np.ndarray) -> float:
    degrees = np.arange(1, SMOOTH_DEGREE + 1)
    terms = legvander(2.0 * place - 1.0, SMOOTH_DEGREE)[:, 1:] * np.sqrt(2.0 * degrees + 1.0)
    return float(chi2.sf((terms.sum(0) ** 2).sum() / len(place), SMOOTH_DEGREE))


def fit_variables(fits: SimulatedFits) -> dict[str, Any]:
    """Return what became of each fit, by data set."""
    counted = ("num_divergent", "num_unsolved", "failed")
    return {name: ("data_set", getattr(fits, name)) for name in counted}


def flattened(values: np.ndarray, leading: int) -> np.ndarray:
    """Flatten all axes but the leading ones into one."""
    return np.asarray(values).reshape(*values.shape[:leading], -1)


def entry(place: int, shape: tuple[int, ...]) -> str:
    """Return the index of an entry of a flattened array as text, "" for a scalar."""
    if not shape:
        return ""
    return "[" + ", ".join(map(str, np.unravel_index(place, shape))) + "]"
