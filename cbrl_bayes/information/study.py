"""What it is worth to know more before deciding, and which experiment to run next."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import jax
import numpy as np
import xarray as xr
from jaxtyping import Array, Key

from cbrl_bayes.designs import (
    Evaluation,
    ExactEvaluation,
    evaluate_designs,
    evenly_spaced,
    scores_are_noisy,
)
from cbrl_bayes.errors import InvalidInputError, explain
from cbrl_bayes.information.experiments import Experiment, FutureData, simulate_experiments
from cbrl_bayes.information.sampling import sample_information
from cbrl_bayes.information.tables import (
    ExperimentValue,
    InformationStudy,
    add_information,
    draws_per_effective_draw,
)
from cbrl_bayes.information.values import (
    InformationValue,
    conditional_benefit,
    expected_regret,
    partial_information,
    perfect_information,
)
from cbrl_bayes.problems import Problem
from cbrl_bayes.results import Designed, designed, incentive_names, posterior_draws, thinned

__all__ = ["value_of_information"]

SAME_DESIGN = 1e-6


def value_of_information(
    problem: Problem,
    study: xr.DataTree,
    *,
    key: Key[Array, ""],
    parameters: Mapping[str, str | Sequence[str]] | Sequence[str] | None = None,
    experiments: Sequence[Experiment] = (),
    population: float = 1.0,
    num_options: int = 20,
    num_draws: int = 1000,
    evaluation: Evaluation | None = None,
    num_workers: int = 2,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> xr.DataTree:
    """Add to a study what perfect, partial and sample information are worth.

    The leader chooses among options: the designs of the study's group ``decision`` and evenly
    spaced ones among the draws' own. All are scored under ``num_draws`` posterior draws, which may
    be more than were designed for. EVPI, EVPPI and EVSI follow from these scores
    (`cbrl_bayes.information.values`, `cbrl_bayes.information.sampling`).

    Parameters
    ----------
    problem : Problem
        The problem the study is of.
    study : xarray.DataTree
        From `design`.
    key : typed key
    parameters : mapping or sequence, optional
        What might be learned: names of parameters or of what derives from them (rationality), or
        label -> names known together. A vector is one group; the entry of a law that follows from
        the others is left out. Default: each uncertain parameter by itself.
    experiments : sequence of Experiment
        Candidates; their incentives may be named after designs of the study.
    population : float
        How many times the unit of the objective is at stake: net benefit of an experiment is
        ``population * EVSI - cost``.
    num_options : int
        Options in all, >= 2; the study's common designs come first.
    num_draws : int
        Posterior draws, evenly spaced, rounded to the same number in every chain; >= 20.
    evaluation : Evaluation, optional
        Default: exact. Noisy scores are made twice, see `perfect_information`.
    num_workers : int
        Threads over draws; the numbers do not depend on it.
    on_progress : callable, optional
        Called with (stage, done, total).

    Returns
    -------
    xarray.DataTree
        The study with the group ``information``; `information_table` prints it.

    Raises
    ------
    InvalidInputError
        For a study without designs, names that are unknown, or settings out of range.

    Examples
    --------
    >>> import jax, numpy as np, cbrl_bayes as cb
    >>> problem = cb.problems.two_state(costs=(1.0,), context_probability=(1.0,))
    >>> quick = cb.Search(ascent=cb.Ascent(num_steps=40, learning_rate=0.3))
    >>> study = cb.design(problem, {"temperature": np.linspace(0.1, 1.0, 40)},
    ...                   key=jax.random.key(0), num_draws=4,
    ...                   settings=cb.DesignSettings(search=quick, per_draw=quick))
    >>> known = value_of_information(problem, study, key=jax.random.key(1))["information"]
    >>> bool(known["evpi"] > 0), known["evppi"].dims
    (True, ('parameter',))
    """
    made = designed(problem, study)
    problem, posterior = made.problem, study["posterior"].to_dataset()
    _check_settings(population, num_options, num_draws, experiments)
    chosen = thinned(posterior, num_draws)
    draws = posterior_draws(problem, chosen)
    groups = _groups(problem, draws, parameters)
    candidates = [_in_force(problem, study, experiment) for experiment in experiments]
    names, options = _options(made, num_options)
    score_key, again_key, sim_key, value_key = jax.random.split(key, 4)
    futures = simulate_experiments(problem, draws, candidates, key=sim_key, on_progress=on_progress)

    def score(own_key: Array) -> np.ndarray:
        scores = evaluate_designs(
            problem,
            options,
            draws,
            key=own_key,
            evaluation=evaluation,
            num_workers=num_workers,
            on_progress=on_progress,
        )
        return np.where(scores.status == 0, scores.objective, np.nan).T

    benefit = score(score_key)
    noisy = scores_are_noisy(problem, evaluation or ExactEvaluation())
    again = score(again_key) if noisy else benefit
    kept = np.isfinite(benefit + again).all(1)
    block = draws_per_effective_draw(chosen[list(draws)])
    keys = iter(jax.random.split(value_key, 1 + len(groups) + len(candidates)))
    perfect = perfect_information(
        benefit[kept], key=next(keys), again=again[kept], block_length=block
    )
    both = (benefit + again) / 2.0
    partial: dict[str, InformationValue] = {}
    for label, columns in groups.items():
        partial[label] = partial_information(
            both[kept], columns[kept], key=next(keys), block_length=block
        )
    values = []
    for index, (experiment, future) in enumerate(zip(experiments, futures, strict=True)):
        values.append(_value(problem, draws, experiment, future, both, kept, next(keys), block))
        if on_progress is not None:
            on_progress("value of the experiments", index + 1, len(candidates))
    found = InformationStudy(
        names, options, both, perfect, partial, values, population, int((~kept).sum()), block
    )
    settings = {
        "num_options": num_options,
        "num_draws": num_draws,
        "population": population,
        "evaluation": evaluation,
        "experiments": list(experiments),
        "seed": np.asarray(jax.random.key_data(key)).tolist(),
    }
    return add_information(study, chosen, found, settings)


def _value(
    problem: Problem,
    draws: Mapping[str, np.ndarray],
    experiment: Experiment,
    future: FutureData,
    benefit: np.ndarray,
    kept: np.ndarray,
    key: Array,
    block: int,
) -> ExperimentValue:
    """Value one experiment on the draws whose scores are whole."""
    informed = conditional_benefit(benefit[kept], _informed(problem, draws, experiment)[kept])
    whole = FutureData(future.statistic[kept], future.log_probability[kept], future.num_failed)
    sample = sample_information(
        benefit[kept], whole, key=key, informed=informed, block_length=block
    )
    return ExperimentValue(experiment, sample, expected_regret(informed), future.num_failed)


def _informed(
    problem: Problem, draws: Mapping[str, np.ndarray], experiment: Experiment
) -> np.ndarray:
    """Return what an experiment speaks of: all but the law of contexts where one is chosen."""
    columns = []
    for name, values in draws.items():
        if experiment.context is not None and name == "context_probability":
            continue
        one = experiment.follower is not None and name in problem.per_follower and values.ndim == 2
        if one:
            values = values[:, problem.followers.names.index(str(experiment.follower))]
        columns += _varying(problem, name, values)
    if not columns:
        raise InvalidInputError(
            explain(
                f"experiment {experiment.name!r} speaks of nothing that is uncertain",
                remedy="another context or follower, or draws in which something varies",
            )
        )
    return np.concatenate(columns, axis=1)


def _groups(
    problem: Problem,
    draws: Mapping[str, np.ndarray],
    parameters: Mapping[str, str | Sequence[str]] | Sequence[str] | None,
) -> dict[str, np.ndarray]:
    """Return label -> columns (N, p) of what would be known."""
    if parameters is None:
        own = {name: _varying(problem, name, values) for name, values in draws.items()}
        return {name: columns[0] for name, columns in own.items() if columns}
    defaults = problem.default_parameters
    derived = jax.vmap(lambda one: problem.derived(defaults | one))(dict(draws))
    known = dict(draws) | {name: np.asarray(values) for name, values in derived.items()}
    if isinstance(parameters, str):
        parameters = (parameters,)
    wanted = dict(parameters) if isinstance(parameters, Mapping) else {n: n for n in parameters}
    groups = {}
    for label, given in wanted.items():
        names = (given,) if isinstance(given, str) else tuple(given)
        unknown = sorted(set(names) - set(known))
        columns = [] if unknown else [c for n in names for c in _varying(problem, n, known[n])]
        if not columns:
            raise InvalidInputError(
                explain(
                    f"the value of knowing {label!r} cannot be computed",
                    received=f"unknown names {unknown}" if unknown else "nothing uncertain",
                    accepted=", ".join(known),
                )
            )
        groups[label] = np.concatenate(columns, axis=1)
    return groups


def _varying(problem: Problem, name: str, values: np.ndarray) -> list[np.ndarray]:
    """Return the entries that vary over draws, (N, p), without what follows from the others."""
    if name in {"context_probability", *problem.laws}:
        values = values[..., :-1]
    columns = values.reshape(len(values), -1)
    columns = columns[:, np.ptp(columns, axis=0) > 0]
    return [columns] if columns.shape[1] else []


def _options(made: Designed, num_options: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the study's designs and evenly spaced ones among the draws' own, each once."""
    usable = np.flatnonzero(np.isfinite(made.own).all(1) & np.isfinite(made.own_objective))
    names, points = list(made.names), list(made.designs)
    scale = SAME_DESIGN * (1.0 + np.abs(made.designs).max())
    fresh: list[int] = []
    for index in usable:
        known = np.array([*points, *(made.own[i] for i in fresh)])
        if np.abs(known - made.own[index]).max(1).min() > scale:
            fresh.append(int(index))
    room = min(len(fresh), max(0, num_options - len(names)))
    for at in evenly_spaced(len(fresh), room) if room else []:
        names.append(f"draw {fresh[at]}")
        points.append(made.own[fresh[at]])
    return tuple(names), np.stack(points)


def _in_force(problem: Problem, study: xr.DataTree, experiment: Experiment) -> Experiment:
    """Put a named design's incentive into an experiment."""
    if not isinstance(experiment.incentive, str):
        return experiment
    decision = study["decision"].to_dataset()
    names = list(map(str, decision["design"].values))
    if experiment.incentive not in names:
        raise InvalidInputError(
            explain(
                f"experiment {experiment.name!r} names no design of the study",
                received=experiment.incentive,
                accepted=", ".join(names),
            )
        )
    one = decision.sel(design=experiment.incentive)
    arrays = {name: one[variable].values for name, variable in incentive_names(problem).items()}
    return replace(experiment, incentive=arrays)


def _check_settings(
    population: float, num_options: int, num_draws: int, experiments: Sequence[Experiment]
) -> None:
    names = [experiment.name for experiment in experiments]
    fits = np.isfinite(population) and population > 0 and num_options >= 2 and num_draws >= 20
    if not fits or len(set(names)) != len(names):
        raise InvalidInputError(
            explain(
                "settings of the value of information are out of range",
                received=f"population={population}, num_options={num_options}, "
                f"num_draws={num_draws}, experiments {names}",
                accepted="population > 0, num_options >= 2, num_draws >= 20, experiments with "
                "different names",
            )
        )
