"""How often intervals hold the truth: of inference, and of the decisions that rest on it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import xarray as xr
from jaxtyping import Array, Key

from cbrl_bayes.calibration.fits import CalibrationSettings, fit_simulated
from cbrl_bayes.calibration.studies import study_simulated
from cbrl_bayes.calibration.tables import decisions_dataset, ranks_dataset
from cbrl_bayes.designs import DesignSettings, DeviceExecutor, Executor
from cbrl_bayes.errors import InvalidInputError, require_key, require_kind
from cbrl_bayes.hypergradients import Ascent, Estimator, Exact, Search
from cbrl_bayes.inference import BehaviourSimulation, GenerativeModel
from cbrl_bayes.problems import Problem
from cbrl_bayes.progress import Progress
from cbrl_bayes.results import running


@dataclass(frozen=True)
class DecisionCalibrationSettings(CalibrationSettings):
    """How many studies are run on simulated data, and how: `CalibrationSettings` and designs.

    Parameters
    ----------
    num_data_sets, num_warmup, thinning, target_accept, batch
        As in `CalibrationSettings`, with other defaults. With 500 data sets a true coverage of .85
        of intervals called 90 % is found with probability .8 (`detectable_coverage`); fewer than
        100 find gross faults alone.
    num_draws : int
        N, posterior draws that are kept and designed for. If (N + 1) times a tail is a whole
        number, intervals between order statistics have exactly the stated probability: 19, 39, 59
        for 90 %.
    design : DesignSettings, optional
        Of the studies. Default: a lighter search than `cb.design`'s; the common design from every
        other draw.
    """

    num_data_sets: int = 500
    num_draws: int = 39
    thinning: int = 6
    design: DesignSettings | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_kind(self.design, DesignSettings | None, "design", "cb.DesignSettings(...)")


def calibrate_inference(
    subject: Problem | GenerativeModel,
    *,
    key: Key[Array, ""],
    settings: CalibrationSettings | None = None,
    executor: Executor | None = None,
    num_workers: int = 2,
    checkpoint: str | Path | None = None,
    progress: Progress = None,
) -> xr.Dataset:
    """Simulate data from the prior, fit them, and rank each truth among its posterior draws.

    Parameters
    ----------
    subject : Problem or GenerativeModel
        A problem stands for `BehaviourSimulation` with its defaults.
    key : typed key
    settings : CalibrationSettings, optional
    executor, num_workers, checkpoint, progress
        How it runs, as in `design`. A piece of work is a batch of data sets.

    Returns
    -------
    xarray.Dataset
        See `cbrl_bayes.calibration.tables`. `rank_uniformity` judges it, `plots.plot_ranks` draws
        it.

    Examples
    --------
    >>> import jax, cbrl_bayes as cb
    >>> quick = cb.CalibrationSettings(
    ...     num_data_sets=2, num_draws=9, num_warmup=20, thinning=1, batch=2)
    >>> watched = cb.BehaviourSimulation(cb.problems.two_state(), num_episodes=4, num_steps=1)
    >>> found = cb.calibrate_inference(watched, key=jax.random.key(0), settings=quick)
    >>> found["rank"].dims, str(found["quantity"].values[0])
    (('data_set', 'quantity'), 'context_probability[0]')
    """
    settings = CalibrationSettings() if settings is None else settings
    simulation = _opened(subject, key, settings, CalibrationSettings)
    fit_key, rank_key = jax.random.split(key)
    with running(
        getattr(simulation, "problem", None),
        executor=executor,
        num_workers=num_workers,
        checkpoint=checkpoint,
        progress=progress,
        question="calibration of inference",
        simulation=simulation,
        settings=settings,
        key=key,
    ) as run:
        fits = fit_simulated(simulation, key=fit_key, settings=settings, run=run)
    return ranks_dataset(simulation, fits, settings, key=key, rank_key=rank_key)


def calibrate_decisions(
    subject: Problem | BehaviourSimulation,
    *,
    key: Key[Array, ""],
    estimator: Estimator | None = None,
    settings: DecisionCalibrationSettings | None = None,
    executor: Executor | None = None,
    num_workers: int = 2,
    checkpoint: str | Path | None = None,
    progress: Progress = None,
) -> xr.Dataset:
    """Run whole studies on simulated data and record what they predicted and what was true.

    Parameters
    ----------
    subject : Problem or BehaviourSimulation
        A problem stands for the simulation with its defaults.
    key : typed key
    estimator : Estimator, optional
        Default: `Exact()`.
    settings : DecisionCalibrationSettings, optional
    executor, num_workers, checkpoint, progress
        How it runs, as in `design`; threads or a Dask cluster. A piece of work is a batch of fits,
        then the study of one data set.

    Returns
    -------
    xarray.Dataset
        See `cbrl_bayes.calibration.tables`. `decision_coverage` counts it.

    Examples
    --------
    >>> import jax, cbrl_bayes as cb
    >>> quick = cb.Search(ascent=cb.Ascent(num_steps=10))
    >>> found = cb.calibrate_decisions(
    ...     cb.BehaviourSimulation(cb.problems.two_state(), num_episodes=4, num_steps=1),
    ...     key=jax.random.key(0),
    ...     settings=cb.DecisionCalibrationSettings(
    ...         num_data_sets=1, num_draws=9, num_warmup=20, thinning=1, batch=1,
    ...         design=cb.DesignSettings(search=quick, per_draw=quick)))
    >>> found["optimum"].sizes["draw"], found["coordinate"].values.tolist()
    (9, ['bonus'])
    """
    settings = DecisionCalibrationSettings() if settings is None else settings
    estimator = Exact() if estimator is None else estimator
    simulation = _opened(subject, key, settings, DecisionCalibrationSettings)
    require_kind(estimator, Estimator, "estimator", "cb.Exact()")
    require_kind(simulation, BehaviourSimulation, "subject", "cb.BehaviourSimulation(problem)")
    if isinstance(executor, DeviceExecutor):
        raise InvalidInputError(
            "whole studies cannot be part of one compiled program",
            received=executor,
            accepted="ThreadExecutor or DaskExecutor",
        )
    problem = simulation.problem
    fit_key, study_key, tie_key = jax.random.split(key, 3)
    design = settings.design or _light_settings(settings.num_draws)
    with running(
        problem,
        executor=executor,
        num_workers=num_workers,
        checkpoint=checkpoint,
        progress=progress,
        question="calibration of decisions",
        simulation=simulation,
        estimator=estimator,
        settings=settings,
        key=key,
    ) as run:
        fits = fit_simulated(simulation, key=fit_key, settings=settings, run=run)
        known = [name for name in fits.truth if name in problem.default_parameters]
        record = study_simulated(
            problem,
            {name: fits.truth[name] for name in known},
            {name: fits.draws[name] for name in known},
            estimator=estimator,
            key=study_key,
            settings=design,
            run=run,
        )
    used = {"simulation": simulation, "sampling": settings, "design": design}
    return decisions_dataset(problem, record, fits, used, key=key, tie_key=tie_key)


def _opened(subject: Any, key: Any, settings: Any, kind: type) -> Any:
    """Check what every calibration is given, and return the simulation."""
    require_key(key)
    require_kind(settings, kind, "settings", f"cb.{kind.__name__}(...)")
    if isinstance(subject, Problem):
        return BehaviourSimulation(subject)
    needed = ("prior", "simulate", "program")
    if isinstance(subject, type) or not all(hasattr(subject, name) for name in needed):
        raise InvalidInputError(
            "subject cannot be calibrated",
            received=type(subject).__name__,
            accepted=f"a Problem, or an object with the methods {', '.join(needed)}",
            remedy="cb.BehaviourSimulation(problem)",
        )
    return subject


def _light_settings(num_draws: int) -> DesignSettings:
    ascent = Ascent(num_steps=150, learning_rate=0.3)
    wide = Search(ascent=ascent, num_starts=3, num_candidates=50, start_scales=(1.0, 2.0))
    return DesignSettings(
        search=wide, per_draw=Search(ascent=ascent), num_search_draws=(num_draws + 1) // 2
    )
