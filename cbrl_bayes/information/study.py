"""What it is worth to know more before deciding, and which experiment to run next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from jaxtyping import Array, Key

from cbrl_bayes.designs import (
    Evaluation,
    ExactEvaluation,
    Executor,
    evaluate_designs,
    scores_are_noisy,
)
from cbrl_bayes.designs.running import Running
from cbrl_bayes.errors import InvalidInputError, require_key, require_kind, require_ranges
from cbrl_bayes.information.experiments import Experiment, FutureData, simulate_experiments
from cbrl_bayes.information.sampling import SampleInformation, sample_information
from cbrl_bayes.information.tables import add_information, draws_per_effective_draw
from cbrl_bayes.information.values import (
    InformationValue,
    conditional_benefit,
    partial_information,
    perfect_information,
)
from cbrl_bayes.problems import Problem
from cbrl_bayes.progress import Progress
from cbrl_bayes.results import designed, incentive_names, posterior_draws, running, thinned
from cbrl_bayes.results.names import known_among


@dataclass(frozen=True)
class InformationSettings:
    """How the value of information is computed.

    Parameters
    ----------
    population : float
        How many times the unit of the objective is at stake, > 0: net benefit of an experiment is
        ``population * EVSI - cost``.
    num_options : int
        Options in all, >= 2; the study's common designs come first.
    num_draws : int
        Posterior draws, >= 20: evenly spaced, as many of each chain, this number or just above.
        They may be more than were designed for.
    evaluation : Evaluation
        How options are scored. Noisy scores are made twice, see `perfect_information`.
    """

    population: float = 1.0
    num_options: int = 20
    num_draws: int = 1000
    evaluation: Evaluation = field(default_factory=ExactEvaluation)

    def __post_init__(self) -> None:
        require_kind(self.evaluation, Evaluation, "evaluation", "cb.ExactEvaluation()")
        require_ranges(
            self,
            "settings of the value of information",
            population="(0, inf)",
            num_options=">= 2",
            num_draws=">= 20",
        )


def value_of_information(
    problem: Problem,
    study: xr.DataTree,
    *,
    key: Key[Array, ""],
    parameters: Mapping[str, str | Sequence[str]] | Sequence[str] | None = None,
    experiments: Sequence[Experiment] = (),
    settings: InformationSettings | None = None,
    executor: Executor | None = None,
    num_workers: int = 2,
    checkpoint: str | Path | None = None,
    progress: Progress = None,
) -> xr.DataTree:
    """Add to a study what perfect, partial and sample information are worth.

    The leader chooses among options: the designs of the study's group ``decision`` and evenly
    spaced ones among the draws' own. All are scored under ``settings.num_draws`` posterior draws.
    EVPI, EVPPI and EVSI follow from these scores
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
        the others is left out. What is the same in all draws is worth 0. Default: each parameter
        of the fit by itself.
    experiments : sequence of Experiment
        Candidates; their incentives may be named after designs of the study.
    settings : InformationSettings, optional
    executor, num_workers, checkpoint, progress
        How it runs, as in `design`.

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
    settings = InformationSettings() if settings is None else settings
    require_key(key)
    require_kind(settings, InformationSettings, "settings", "cb.InformationSettings(...)")
    require_kind(experiments, list | tuple, "experiments", "experiments=[cb.Experiment(...)]")
    for experiment in experiments:
        require_kind(experiment, Experiment, "experiments", "experiments=[cb.Experiment(...)]")
    made = designed(problem, study)
    problem = made.problem
    _check_names(experiments)
    chosen = thinned(study["posterior"].to_dataset(), settings.num_draws)
    question = _Question(
        problem,
        posterior_draws(problem, chosen),
        made.options(settings.num_options),
        [_in_force(problem, study, experiment) for experiment in experiments],
        settings,
    )
    groups = _groups(problem, question.draws, parameters, known_among(study))
    block = draws_per_effective_draw(chosen[list(question.draws)])
    with running(
        problem,
        executor=executor,
        num_workers=num_workers,
        checkpoint=checkpoint,
        progress=progress,
        question=("value of information", question.options, question.experiments, settings),
        draws=question.draws,
        key=key,
    ) as run:
        found = question.answer(groups, block, key, run)
    used = {
        "settings": settings,
        "experiments": list(experiments),
        "seed": np.asarray(jax.random.key_data(key)).tolist(),
    }
    return add_information(
        study,
        chosen,
        options=question.options,
        population=settings.population,
        block_length=block,
        settings=used,
        **found,
    )


@dataclass(frozen=True)
class _Question:
    """The draws and options of a study, and the experiments that might be run."""

    problem: Problem
    draws: Mapping[str, np.ndarray]
    options: tuple[tuple[str, ...], np.ndarray]
    experiments: Sequence[Experiment]
    settings: InformationSettings

    def answer(
        self, groups: Mapping[str, np.ndarray], block: int, key: Array, run: Running
    ) -> dict[str, Any]:
        """Return what `add_information` takes: net benefits and the values that follow."""
        score_key, again_key, sim_key, value_key = jax.random.split(key, 4)
        futures = simulate_experiments(
            self.problem, self.draws, self.experiments, key=sim_key, run=run
        )
        benefit = again = self.net_benefit(score_key, run, "scores")
        if scores_are_noisy(self.problem, self.settings.evaluation):
            again = self.net_benefit(again_key, run, "scores_again")
        kept = np.isfinite(benefit + again).all(1)
        both = (benefit + again) / 2.0
        keys = iter(jax.random.split(value_key, 1 + len(groups) + len(futures)))
        perfect = perfect_information(
            benefit[kept], key=next(keys), again=again[kept], block_length=block
        )
        partial = {
            label: partial_information(
                both[kept], columns[kept], key=next(keys), block_length=block
            )
            if columns.shape[1]
            else InformationValue(0.0, 0.0, 0.0, 0.0)
            for label, columns in groups.items()
        }
        samples: list[tuple[Experiment, SampleInformation]] = []
        for experiment, future in zip(self.experiments, futures, strict=True):
            run.report("value of the experiments", len(samples), len(futures))
            informed = _informed(self.problem, self.draws, experiment)
            value = _value(informed, future, both, kept, next(keys), block)
            samples.append((experiment, value))
        return {"net_benefit": both, "perfect": perfect, "partial": partial, "samples": samples}

    def net_benefit(self, key: Array, run: Running, table: str) -> np.ndarray:
        """Return what each option is worth under each draw, (N, D); NaN where a score failed."""
        scores = evaluate_designs(
            self.problem,
            self.options[1],
            self.draws,
            key=key,
            evaluation=self.settings.evaluation,
            run=run,
            table=table,
        )
        return np.where(scores.status == 0, scores.objective, np.nan).T


def _value(
    informed: np.ndarray,
    future: FutureData,
    benefit: np.ndarray,
    kept: np.ndarray,
    key: Array,
    block: int,
) -> SampleInformation:
    """Value one experiment on the draws whose scores are whole."""
    whole = FutureData(future.statistic[kept], future.log_probability[kept], future.num_failed)
    known = conditional_benefit(benefit[kept], informed[kept])
    return sample_information(benefit[kept], whole, key=key, informed=known, block_length=block)


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
            f"experiment {experiment.name!r} tells nothing about what is uncertain",
            remedy="another context or follower, or draws in which something varies",
        )
    return np.concatenate(columns, axis=1)


def _groups(
    problem: Problem,
    draws: Mapping[str, np.ndarray],
    parameters: Mapping[str, str | Sequence[str]] | Sequence[str] | None,
    known_before: Sequence[str],
) -> dict[str, np.ndarray]:
    """Return label -> columns (N, p) of what would be known; p is 0 where nothing varies."""
    nothing = np.zeros((len(next(iter(draws.values()))), 0))
    if parameters is None:
        own = {name: _varying(problem, name, values) for name, values in draws.items()}
        return {
            name: np.concatenate([nothing, *columns], axis=1)
            for name, columns in own.items()
            if columns or name in known_before
        }
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
        if unknown or not names:
            raise InvalidInputError(
                f"the value of knowing {label!r} cannot be computed",
                received=f"unknown names {unknown}" if unknown else "no names",
                accepted=", ".join(known),
            )
        columns = [c for n in names for c in _varying(problem, n, known[n])]
        groups[label] = np.concatenate([nothing, *columns], axis=1)
    return groups


def _varying(problem: Problem, name: str, values: np.ndarray) -> list[np.ndarray]:
    """Return the entries that vary over draws, (N, p), without what follows from the others."""
    if name in {"context_probability", *problem.laws}:
        values = values[..., :-1]
    columns = values.reshape(len(values), -1)
    columns = columns[:, np.ptp(columns, axis=0) > 0]
    return [columns] if columns.shape[1] else []


def _in_force(problem: Problem, study: xr.DataTree, experiment: Experiment) -> Experiment:
    """Put a named design's incentive into an experiment."""
    if not isinstance(experiment.incentive, str):
        return experiment
    decision = study["decision"].to_dataset()
    names = list(map(str, decision["design"].values))
    if experiment.incentive not in names:
        raise InvalidInputError(
            f"experiment {experiment.name!r} names a design that the study does not have",
            received=experiment.incentive,
            accepted=", ".join(names),
        )
    one = decision.sel(design=experiment.incentive)
    arrays = {name: one[variable].values for name, variable in incentive_names(problem).items()}
    return replace(experiment, incentive=arrays)


def _check_names(experiments: Sequence[Experiment]) -> None:
    names = [experiment.name for experiment in experiments]
    if len(set(names)) != len(names):
        raise InvalidInputError(
            "two experiments have the same name", received=names, accepted="different names"
        )
