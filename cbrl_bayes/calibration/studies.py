r"""Are the intervals of a study as good as their word? Studies of simulated data with known truth.

Given the data, the truth and the posterior draws have the same law if inference is right. A study
maps each draw to its best design and objective. If that map were the same for all, the truth's
number would have a uniform rank among those of the draws, whatever local optima the searches end
in. It is nearly so here: truth and draws are searched alike and from the same starts, but these
starts are the common and the plug-in design, which are made from the draws and not from the truth.
Where several local optima compete, draws can be better served by them than the truth is; ranks of
optimal objective, incentive and regret are then only about uniform. They are exactly so where every
search ends in the same place from any start. Two more things break it, and both are recorded here:
the common design is optimised over some of the draws on which it is then scored, and the true
optimum may be better than what such a search finds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from cbrl_bayes.designs.average import PosteriorCriterion
from cbrl_bayes.designs.evaluation import Score, score_program
from cbrl_bayes.designs.executors import ThreadExecutor
from cbrl_bayes.designs.per_draw import best_score
from cbrl_bayes.designs.scoring import complete_draws
from cbrl_bayes.designs.solve import DesignSettings
from cbrl_bayes.designs.thinning import evenly_spaced
from cbrl_bayes.errors import InvalidInputError, explain
from cbrl_bayes.hypergradients import (
    FAILED_ASCENTS,
    AscentStatus,
    Estimator,
    Search,
    SearchProgram,
    SearchResult,
)
from cbrl_bayes.mdp import SolveStatus
from cbrl_bayes.problems import Problem

__all__ = ["DecisionRecord", "study_simulated"]


@dataclass(frozen=True)
class DecisionRecord:
    """What R studies predicted, from N draws each, and what was true. NaN where one failed.

    Attributes
    ----------
    true_optimum : array, shape (R,)
        The truth's own optimal objective, searched as the draws' are.
    better_optimum : array, shape (R,)
        The best found when the truth is also searched as the plug-in design is.
    optimum : array, shape (R, N)
        Each draw's own optimal objective.
    true_incentive : dict of arrays, each (R, ...)
        The truth's own optimal incentive, readable.
    incentive : dict of arrays, each (R, N, ...)
        Each draw's own.
    realised : array, shape (R,)
        What the common design achieves under the truth.
    predicted : array, shape (R, N)
        What it achieves under each draw.
    broken : int array, shape (R,)
        Of the N + 1 draws and truth, those whose search failed, or where the best response to their
        own or to the common design did not converge; the number in question is then NaN.
    unsettled : int array, shape (R,)
        Those that met their step limit.
    in_common : bool array, shape (N,)
        Draws over which the common design was optimised.
    """

    true_optimum: Float[np.ndarray, " data_set"]
    better_optimum: Float[np.ndarray, " data_set"]
    optimum: Float[np.ndarray, "data_set draw"]
    true_incentive: dict[str, np.ndarray]
    incentive: dict[str, np.ndarray]
    realised: Float[np.ndarray, " data_set"]
    predicted: Float[np.ndarray, "data_set draw"]
    broken: Int[np.ndarray, " data_set"]
    unsettled: Int[np.ndarray, " data_set"]
    in_common: Bool[np.ndarray, " draw"]


def study_simulated(
    problem: Problem,
    truths: Mapping[str, np.ndarray],
    posteriors: Mapping[str, np.ndarray],
    *,
    estimator: Estimator,
    key: Key[Array, ""],
    settings: DesignSettings | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> DecisionRecord:
    """Run the searches of `study_designs` for every simulated data set, and for its truth.

    Programs are compiled once for all data sets.

    Parameters
    ----------
    problem : Problem
    truths : mapping
        Parameter name -> array (R, ...).
    posteriors : mapping
        Parameter name -> array (R, N, ...), near-independent draws; names as in ``truths``.
    estimator : Estimator
        One that is compiled and exact: noise would blur truth and draws alike.
    key : typed key
    settings : DesignSettings, optional
    on_progress : callable, optional
        Called with (stage, done, total).

    Returns
    -------
    DecisionRecord

    Raises
    ------
    InvalidInputError
        For truths and draws that do not fit, or an estimator that is not exact.

    Examples
    --------
    >>> from cbrl_bayes.hypergradients import Ascent, Exact
    >>> from cbrl_bayes.problems import two_state
    >>> quick = Search(ascent=Ascent(num_steps=20))
    >>> record = study_simulated(
    ...     two_state(), {"temperature": np.array([0.2])}, {"temperature": np.array([[0.2, 0.3]])},
    ...     estimator=Exact(), key=jax.random.key(0),
    ...     settings=DesignSettings(search=quick, per_draw=quick))
    >>> record.optimum.shape, bool(np.isclose(record.true_optimum[0], record.optimum[0, 0]))
    ((1, 2), True)
    """
    settings = settings or DesignSettings()
    num, draws = _sizes(truths, posteriors)
    if not estimator.is_exact or not settings.evaluation.is_exact:
        raise InvalidInputError("decision calibration takes exact estimators and evaluations")
    kept = evenly_spaced(draws, settings.num_search_draws)
    programs = _Programs.build(problem, estimator, settings, len(kept))
    rows = []
    for index in range(num):
        truth = {name: value[index] for name, value in truths.items()}
        some = {name: value[index] for name, value in posteriors.items()}
        rows.append(_one_study(programs, truth, some, kept, jax.random.fold_in(key, index)))
        if on_progress is not None:
            on_progress("simulated studies", index + 1, num)
    stacked = jax.tree.map(lambda *parts: np.stack(parts), *rows)
    return DecisionRecord(**stacked, in_common=np.isin(np.arange(draws), kept))


@dataclass(frozen=True)
class _Programs:
    """What a study compiles."""

    problem: Problem
    plug_in: SearchProgram
    again: SearchProgram
    common: SearchProgram
    own: SearchProgram
    score: Callable[[Any, Mapping[str, Any], Array], Score]
    num_workers: int

    @classmethod
    def build(
        cls, problem: Problem, estimator: Estimator, settings: DesignSettings, num_common: int
    ) -> "_Programs":
        local = Search(ascent=settings.search.ascent)
        plug_in = SearchProgram(problem, estimator, settings.search)
        return cls(
            problem=problem,
            plug_in=plug_in,
            again=plug_in.with_search(local),
            common=SearchProgram(problem, PosteriorCriterion(estimator, num_common), local),
            own=plug_in.with_search(settings.per_draw),
            score=score_program(problem, settings.evaluation),
            num_workers=2,
        )

    def best(self, points: list, parameters: Mapping[str, Any], key: Array) -> tuple[int, list]:
        """Return which point is best (the last wins ties) and all scores."""
        scores = [jax.tree.map(np.asarray, self.score(x, parameters, key)) for x in points]
        return int(best_score(jax.tree.map(lambda *leaves: np.stack(leaves), *scores))), scores


def _one_study(
    programs: _Programs,
    truth: Mapping[str, np.ndarray],
    draws: Mapping[str, np.ndarray],
    kept: np.ndarray,
    key: Array,
) -> dict[str, Any]:
    """Repeat the steps of `study_designs` with the same keys; the truth comes after the draws."""
    whole = {name: np.concatenate([draws[name], truth[name][None]]) for name in draws}
    if not all(np.isfinite(value).all() for value in whole.values()):
        return _nothing(programs.problem, len(next(iter(draws.values()))))
    whole, count = complete_draws(programs.problem, whole)
    plug_key, common_key, draw_key = jax.random.split(key, 3)
    mean = {name: jnp.asarray(value[:-1].mean(0)) for name, value in whole.items()}
    subset = {name: jnp.asarray(value[kept]) for name, value in whole.items()}
    plug_in = programs.plug_in.run(mean, key=plug_key).best.unconstrained
    common = programs.common.run(subset, key=common_key, start=plug_in).best.unconstrained
    again = programs.again.run(mean, key=plug_key, start=common).best.unconstrained
    plug_in = [again, plug_in][programs.best([again, plug_in], mean, plug_key)[0]]

    def solve(index: int) -> tuple[SearchResult, list, int, Any]:
        one = {name: jnp.asarray(value[index]) for name, value in whole.items()}
        keys = jax.random.split(jax.random.fold_in(draw_key, index), 3)
        found = programs.own.run(one, key=keys[0], start=common)
        points = [common, plug_in, found.best.unconstrained]
        chosen, scores = programs.best(points, one, keys[1])
        return found, scores, chosen, points[chosen]

    by_number = dict(ThreadExecutor(programs.num_workers).run(solve, range(count)))
    solved = [by_number[index] for index in range(count)]
    optimum = np.array([_usable(scores[chosen]) for _, scores, chosen, _ in solved])
    achieved = np.array([_usable(scores[0]) for _, scores, _, _ in solved])
    status = np.array([int(found.best.status) for found, *_ in solved])
    broken = np.isin(status, FAILED_ASCENTS) | np.isnan(optimum) | np.isnan(achieved)
    designs = [programs.problem.incentive.transform(point) for *_, point in solved]
    incentive = {name: np.stack([np.asarray(d[name]) for d in designs]) for name in designs[0]}
    harder = programs.plug_in.run(
        {name: jnp.asarray(value[-1]) for name, value in whole.items()},
        key=jax.random.fold_in(plug_key, 1),
    )
    return {
        "true_optimum": optimum[-1],
        "optimum": optimum[:-1],
        "better_optimum": np.fmax.reduce([optimum[-1], *harder.restart_objectives]),
        "true_incentive": {name: value[-1] for name, value in incentive.items()},
        "incentive": {name: value[:-1] for name, value in incentive.items()},
        "realised": achieved[-1],
        "predicted": achieved[:-1],
        "broken": broken.sum(),
        "unsettled": (status == AscentStatus.STEP_LIMIT).sum(),
    }


def _usable(score: Score) -> float:
    """Return the objective; NaN where it is not finite or a best response did not converge."""
    solved = np.isfinite(score.objective) and score.status == SolveStatus.CONVERGED
    return float(score.objective) if solved else np.nan


def _nothing(problem: Problem, num: int) -> dict[str, Any]:
    """Return the record of a data set whose fit gave no finite draws."""
    readable = problem.incentive.transform(problem.incentive.initial)
    blank = {name: np.full(np.shape(value), np.nan) for name, value in readable.items()}
    record: dict[str, Any] = {
        field.name: np.array(np.nan)
        for field in fields(DecisionRecord)
        if field.name != "in_common"
    }
    many = {name: np.full((num, *value.shape), np.nan) for name, value in blank.items()}
    return record | {
        "optimum": np.full(num, np.nan),
        "predicted": np.full(num, np.nan),
        "true_incentive": blank,
        "incentive": many,
        "broken": np.array(num + 1),
        "unsettled": np.array(0),
    }


def _sizes(
    truths: Mapping[str, np.ndarray], posteriors: Mapping[str, np.ndarray]
) -> tuple[int, int]:
    """Return R and N, after checking that truths and draws fit together."""
    shapes = {np.shape(value)[:2] for value in posteriors.values()}
    fits = set(truths) == set(posteriors) and len(shapes) == 1
    if fits:
        num, draws = next(iter(shapes))
        fits = (
            num >= 1
            and draws >= 1
            and all(
                np.shape(posteriors[n]) == (num, draws, *np.shape(v)[1:]) and len(v) == num
                for n, v in truths.items()
            )
        )
    if not fits:
        raise InvalidInputError(
            explain(
                "truths and posterior draws do not fit",
                received=f"{ {n: np.shape(v) for n, v in truths.items()} }, "
                f"{ {n: np.shape(v) for n, v in posteriors.items()} }",
                accepted="the same names, (R, ...) and (R, N, ...)",
            )
        )
    return num, draws
