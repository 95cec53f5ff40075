"""Calibration of decisions with labels: how often a study's intervals hold what was true.

`calibrate_decisions` returns an `xarray.Dataset` with the fields of `DecisionRecord` under the
same names, axes ``data_set``, ``draw`` and ``coordinate`` (all incentives, flattened), and
``num_divergent``, ``num_unsolved`` and ``failed`` of each fit.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Array, Key
from scipy.stats import beta, binom

from cbrl_bayes.calibration.fits import CalibrationSettings, fit_simulated, ranks_of
from cbrl_bayes.calibration.ranks import entry, fit_variables, flattened
from cbrl_bayes.calibration.studies import DecisionRecord, study_simulated
from cbrl_bayes.designs import DesignSettings
from cbrl_bayes.errors import InvalidInputError, explain
from cbrl_bayes.hypergradients import Ascent, Estimator, Exact, Search
from cbrl_bayes.inference import BehaviourSimulation
from cbrl_bayes.problems import Problem
from cbrl_bayes.results.provenance import certificate

__all__ = ["binomial_band", "calibrate_decisions", "decision_coverage", "detectable_coverage"]

Progress = Callable[[str, int, int], None]


def calibrate_decisions(
    subject: Problem | BehaviourSimulation,
    *,
    key: Key[Array, ""],
    num_data_sets: int = 50,
    num_draws: int = 39,
    estimator: Estimator | None = None,
    sampling: CalibrationSettings | None = None,
    settings: DesignSettings | None = None,
    on_progress: Progress | None = None,
) -> xr.Dataset:
    """Run whole studies on simulated data and record what they predicted and what was true.

    Parameters
    ----------
    subject : Problem or BehaviourSimulation
        A problem stands for the simulation with its defaults.
    key : typed key
    num_data_sets : int
        At least 1.
    num_draws : int
        N, posterior draws designed for. Where (N + 1) times a tail is a whole number, intervals
        between order statistics have exactly the stated probability: 19, 39, 59 for 90 %.
    estimator : Estimator, optional
        Default: `Exact()`.
    sampling : CalibrationSettings, optional
        Of the fits; its ``num_kept`` is replaced by ``num_draws``.
    settings : DesignSettings, optional
        Default: a lighter search than `cb.design`'s; the common design from every other draw.
    on_progress : callable, optional
        Called with (stage, done, total).

    Returns
    -------
    xarray.Dataset
        See the module. `decision_coverage` counts it.

    Examples
    --------
    >>> import jax
    >>> from cbrl_bayes.problems import two_state
    >>> quick = Search(ascent=Ascent(num_steps=10))
    >>> found = calibrate_decisions(
    ...     BehaviourSimulation(two_state(), num_episodes=4, num_steps=1), key=jax.random.key(0),
    ...     num_data_sets=1, num_draws=9, settings=DesignSettings(search=quick, per_draw=quick),
    ...     sampling=CalibrationSettings(num_warmup=20, thinning=1, batch=1))
    >>> found["optimum"].sizes["draw"], found["coordinate"].values.tolist()
    (9, ['bonus'])
    """
    simulation = BehaviourSimulation(subject) if isinstance(subject, Problem) else subject
    problem = simulation.problem
    settings = settings or _light_settings(num_draws)
    sampling = sampling or CalibrationSettings(thinning=6)
    given = {name: getattr(sampling, name) for name in sampling.__dataclass_fields__}
    sampling = CalibrationSettings(**given | {"num_kept": num_draws})
    fit_key, study_key, rank_key = jax.random.split(key, 3)
    fits = fit_simulated(
        simulation,
        key=fit_key,
        num_data_sets=num_data_sets,
        settings=sampling,
        on_progress=on_progress,
    )
    known = [name for name in fits.truth if name in problem.default_parameters]
    record = study_simulated(
        problem,
        {n: fits.truth[n] for n in known},
        {n: fits.draws[n] for n in known},
        estimator=estimator or Exact(),
        key=study_key,
        settings=settings,
        on_progress=on_progress,
    )
    found = xr.Dataset(_record_variables(record) | fit_variables(fits))
    found = found.assign_coords(coordinate=_coordinates(record))
    found.attrs = certificate(
        problem,
        "decision calibration",
        {"simulation": simulation, "sampling": sampling, "design": settings},
    ) | {
        "seed": np.asarray(jax.random.key_data(key)).tolist(),
        "tie_seed": np.asarray(jax.random.key_data(rank_key)).tolist(),
    }
    return found


def decision_coverage(
    calibration: xr.Dataset, *, prob: float = 0.9, band_prob: float = 0.99
) -> pd.DataFrame:
    """Count how often equal-tailed intervals over the draws contain what was true.

    With k = (N + 1)(1 - prob)/2 the interval runs from the k-th smallest to the k-th largest of
    N draws. Truth and N exchangeable draws: it holds the truth with probability ``prob`` exactly,
    more where they tie. (Quantiles by linear interpolation hold it with about
    ``prob (N - 1)/(N + 1)``.)

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
    pandas.DataFrame
        A row per quantity: ``data_sets`` counted, ``covered``, ``share``, the band of counts
        ``low`` to ``high``, ``detectable`` (see `detectable_coverage`: a true coverage above that
        would often go unseen), ``untied`` (covered when ties are broken at random: exactly
        nominal), ``mean_rank`` (of the truth, 0 to 1; .5 is nominal), ``mean_true``,
        ``mean_predicted``, their ``difference`` and ``difference_standard_error``. Data sets with a
        number that is not finite are not counted: compare ``data_sets`` with those simulated.

    Raises
    ------
    InvalidInputError
        Where no order statistics give ``prob``.
    """
    rng = np.random.default_rng(calibration.attrs.get("tie_seed", 0))
    apart = ~calibration["in_common"].values
    rows = []
    for name, truth, draws in _compared(calibration):
        rows.append({"quantity": name} | _counted(truth, draws, prob, band_prob, rng))
        if name.startswith(("objective", "regret")) and _order(apart.sum(), prob) > 0:
            held = _counted(truth, draws[:, apart], prob, band_prob, rng)
            rows.append({"quantity": f"{name}, draws held out"} | held)
    return pd.DataFrame(rows).set_index("quantity")


def binomial_band(num: int, prob: float, band_prob: float = 0.99) -> tuple[int, int]:
    """Return the counts between which a binomial falls with at least ``band_prob``.

    Each tail outside has at most half of the rest.

    Examples
    --------
    >>> binomial_band(60, 0.9, 0.998)
    (46, 60)
    """
    tail = (1.0 - band_prob) / 2.0
    return int(binom.ppf(tail, num, prob)), int(binom.isf(tail, num, prob))


def detectable_coverage(
    num: int, prob: float = 0.9, band_prob: float = 0.99, power: float = 0.8
) -> float:
    """Return the largest true coverage that a band finds too low with a probability of ``power``.

    Below it, the count of ``num`` intervals falls short of the `binomial_band` of ``prob`` with at
    least that probability; between it and ``prob`` the test has less power.

    Parameters
    ----------
    num : int
        Data sets.
    prob, band_prob : float
        As in `binomial_band`.
    power : float
        In (0, 1).

    Returns
    -------
    float
        NaN where the band starts at 0, so that no count falls short.

    Examples
    --------
    >>> round(detectable_coverage(40), 3), round(detectable_coverage(1000), 3)
    (0.675, 0.865)
    """
    low, _ = binomial_band(num, prob, band_prob)
    # P(count <= low - 1) = power, solved for the chance: a quantile of the beta law.
    return float(beta.isf(power, low, num - low + 1)) if low else float("nan")


def _light_settings(num_draws: int) -> DesignSettings:
    ascent = Ascent(num_steps=150, learning_rate=0.3)
    wide = Search(ascent=ascent, num_starts=3, num_candidates=50, start_scales=(1.0, 2.0))
    return DesignSettings(
        search=wide, per_draw=Search(ascent=ascent), num_search_draws=(num_draws + 1) // 2
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
    for place, name in enumerate(calibration["coordinate"].values):
        draws = calibration["incentive"].transpose("data_set", "draw", "coordinate").values
        rows.append((f"incentive {name}", get["true_incentive"][:, place], draws[..., place]))
    return rows


def _counted(
    truth: np.ndarray, draws: np.ndarray, prob: float, band_prob: float, rng: np.random.Generator
) -> dict[str, Any]:
    usable = np.isfinite(truth) & np.isfinite(draws).all(1)
    truth, draws = truth[usable], draws[usable]
    num, size = draws.shape
    order = _order(size, prob)
    if not order:
        raise InvalidInputError(
            explain(
                "no order statistics of the draws give this probability",
                received=f"{size} draws, {prob:g}",
                accepted="(draws + 1) * (1 - prob) / 2 a whole number",
                remedy="19, 39 or 59 draws for 0.9",
            )
        )
    ends = np.sort(draws, axis=1)[:, [order - 1, size - order]]
    ranks = ranks_of(truth, draws, rng)
    low, high = binomial_band(num, prob, band_prob)
    covered = int(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).sum())
    gap = truth - draws.mean(1)
    return {
        "data_sets": num,
        "covered": covered,
        "share": covered / max(num, 1),
        "low": low,
        "high": high,
        "detectable": detectable_coverage(num, prob, band_prob),
        "untied": int(((ranks >= order) & (ranks <= size - order)).sum()),
        "mean_rank": float(ranks.mean()) / size if num else np.nan,
        "mean_true": float(truth.mean()) if num else np.nan,
        "mean_predicted": float(draws.mean()) if num else np.nan,
        "difference": float(gap.mean()) if num else np.nan,
        "difference_standard_error": float(gap.std(ddof=1) / np.sqrt(num)) if num > 1 else np.nan,
    }


def _order(size: int, prob: float) -> int:
    """Return k, or 0 where there is none."""
    exact = (size + 1) * (1.0 - prob) / 2.0
    return round(exact) if exact > 0.5 and abs(exact - round(exact)) < 1e-9 else 0


def _record_variables(record: DecisionRecord) -> dict[str, Any]:
    flat = np.concatenate([flattened(v, 1) for v in record.true_incentive.values()], axis=1)
    many = np.concatenate([flattened(v, 2) for v in record.incentive.values()], axis=2)
    variables: dict[str, Any] = {
        "true_incentive": (("data_set", "coordinate"), flat),
        "incentive": (("data_set", "draw", "coordinate"), many),
        "in_common": ("draw", record.in_common),
    }
    for name in ("true_optimum", "better_optimum", "realised", "broken", "unsettled"):
        variables[name] = ("data_set", getattr(record, name))
    for name in ("optimum", "predicted"):
        variables[name] = (("data_set", "draw"), getattr(record, name))
    return variables


def _coordinates(record: DecisionRecord) -> list[str]:
    names = []
    for name, value in record.true_incentive.items():
        shape = value.shape[1:]
        names += [f"{name}{entry(i, shape)}" for i in range(int(np.prod(shape)))]
    return names
