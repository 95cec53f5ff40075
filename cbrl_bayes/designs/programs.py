"""The searches and scores of a study, in their order, each compiled once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from cbrl_bayes.designs.average import PosteriorCriterion
from cbrl_bayes.designs.evaluation import Score, score_designs, score_program, scores_are_noisy
from cbrl_bayes.designs.executors import ThreadExecutor
from cbrl_bayes.designs.per_draw import DrawSolver, best_score, search_of, search_record
from cbrl_bayes.designs.running import Running
from cbrl_bayes.designs.scoring import evaluate_designs, usable_objective
from cbrl_bayes.designs.thinning import distinct, evenly_spaced
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.hypergradients import Estimator, Rounds, Search, SearchProgram, SearchResult
from cbrl_bayes.problems import Problem

if TYPE_CHECKING:
    from cbrl_bayes.designs.solve import DesignSettings

SHARED = 2
"""Designs found for all draws: common and plug-in. They come first, then a draw's own."""
MOST_STARTS = 2


@dataclass(frozen=True)
class SolvedStudy:
    """All searches and scores of a study.

    Attributes
    ----------
    common, plug_in : SearchResult
    points : array, shape (D, P)
        Designs that serve all draws, before their transform: these two, and the alternatives.
    scores : Score
        Of shape (D + 1, N): common, plug-in, each draw's own search, alternatives.
    chosen : int array, shape (N,)
        Which of them is best for each draw.
    searched : dict of arrays, each (N, ...)
        The records of `DrawSolver`, stacked.
    """

    common: SearchResult
    plug_in: SearchResult
    points: Float[np.ndarray, "design coordinate"]
    scores: Score
    chosen: Int[np.ndarray, " draw"]
    searched: Mapping[str, np.ndarray]

    def own(self, name: str) -> np.ndarray:
        """Return a field of `Score` of each draw's best design, (N, ...)."""
        return getattr(self.scores, name)[self.chosen, np.arange(len(self.chosen))]

    def for_all(self, name: str) -> np.ndarray:
        """Return a field of `Score` of the designs that serve all draws, (D, N, ...)."""
        return np.delete(getattr(self.scores, name), SHARED, axis=0)

    @property
    def own_points(self) -> Float[np.ndarray, "draw coordinate"]:
        """Each draw's best design before its transform."""
        return _with_own(self.points, self.searched["unconstrained"])[
            self.chosen, np.arange(len(self.chosen))
        ]


@dataclass(frozen=True)
class StudyPrograms:
    """The searches of a study, compiled once for any number of sets of draws.

    Parameters
    ----------
    problem : Problem
    estimator : Estimator
    settings : DesignSettings
    num : int
        Draws that the plug-in and the common design are made from.
    """

    problem: Problem
    estimator: Estimator
    settings: "DesignSettings"
    num: int

    def solve(
        self,
        draws: Mapping[str, np.ndarray],
        *,
        key: Key[Array, ""],
        run: Running,
        alternatives: Float[np.ndarray, "design coordinate"] | None = None,
    ) -> SolvedStudy:
        """Find and score all designs.

        Parameters
        ----------
        draws : mapping
            All parameters, name -> array (N, ...), N >= ``num``. Draws beyond ``num`` are solved
            and scored like the others; the plug-in and the common design do not know them.
        key : typed key
        run : Running
            See `study_designs`.
        alternatives : array, shape (A, P), optional
            Further designs to be scored, before their transform.
        """
        plug_key, common_key, draw_key = jax.random.split(key, 3)
        mean = {name: jnp.asarray(value[: self.num].mean(0)) for name, value in draws.items()}
        others = (
            np.zeros((0, self.problem.incentive.size)) if alternatives is None else alternatives
        )
        first = self._once(run, "plug_in_search", lambda: self.plug_in.run(mean, key=plug_key))
        common = _Common(self, run, {n: v[: self.num] for n, v in draws.items()}, common_key)
        start = common.ascended("common", common.best_start(np.concatenate([first.ends, others])))
        searched = self._search_draws(draws, start, draw_key, run)
        known = [self._point(first)[None], searched["unconstrained"][: self.num], others]
        best = common.finished(start, np.concatenate(known))
        again = partial(self._second_chance, first, best, mean, plug_key)
        plug_in = self._once(run, "plug_in", again)
        listed = np.concatenate([self._point(plug_in)[None], others])
        best = common.best_with(best, listed)
        points = np.concatenate([self._point(best)[None], listed])
        scores, chosen = self._scored(points, searched["unconstrained"], draws, draw_key, run)
        return SolvedStudy(best, plug_in, points, scores, chosen, searched)

    def _once(self, run: Running, name: str, search: Callable[[], SearchResult]) -> SearchResult:
        """Search unless it was done before; either way the answer is the one on record."""
        stage = f"{name.removesuffix('_search').replace('_', '-')} design"
        record = run.once(name, lambda: search_record(self.problem, search()), stage=stage)
        return search_of(self.problem, record)

    def _point(self, found: SearchResult) -> Float[np.ndarray, " coordinate"]:
        return np.asarray(self.problem.incentive.flatten(found.best.unconstrained))

    def _search_draws(
        self, draws: Mapping[str, np.ndarray], start: SearchResult, key: Array, run: Running
    ) -> dict[str, np.ndarray]:
        """Search under every draw, from the common design."""
        solver = DrawSolver(
            self.problem, self.estimator, self.settings.per_draw, self._point(start), key, self.own
        )

        def item(index: int) -> tuple[int, dict[str, np.ndarray]]:
            return index, {name: value[index] for name, value in draws.items()}

        num, on_host = len(next(iter(draws.values()))), self.estimator.runs_on_host
        run.each("draws", solver, item, num, stage="designs per draw", on_host=on_host)
        return run.stacked("draws", num)

    def evaluated(
        self,
        designs: np.ndarray,
        draws: Mapping[str, np.ndarray],
        key: Array,
        run: Running,
        table: str,
    ) -> Score:
        """Score designs under draws; see `evaluate_designs`. One that is not finite scores NaN."""
        in_threads = isinstance(run.executor, ThreadExecutor | None)
        lost = ~np.isfinite(designs).all(-1)
        initial = np.asarray(self.problem.incentive.flatten(self.problem.incentive.initial))
        scores = evaluate_designs(
            self.problem,
            np.where(lost[..., None], initial, designs),
            draws,
            key=key,
            evaluation=self.settings.evaluation,
            score=self.score if in_threads else None,
            run=run,
            table=table,
        )
        lost = lost if lost.ndim == 2 else lost[:, None]
        return replace(scores, objective=np.where(lost, np.nan, scores.objective))

    def _scored(
        self,
        points: np.ndarray,
        own: np.ndarray,
        draws: Mapping[str, np.ndarray],
        key: Array,
        run: Running,
    ) -> tuple[Score, Int[np.ndarray, " draw"]]:
        """Score all designs under every draw, and choose the best one for each."""
        designs = _with_own(points, own)
        choice_key, fresh_key = jax.random.split(key)
        scores = self.evaluated(designs, draws, choice_key, run, "scores")
        chosen = best_score(scores, first=SHARED)
        if scores_are_noisy(self.problem, self.settings.evaluation):
            # The best of several noisy scores is too good: report it from fresh noise.
            scores = self.evaluated(designs, draws, fresh_key, run, "fresh_scores")
        return scores, chosen

    @cached_property
    def kept(self) -> np.ndarray:
        """Draws over which the common design is optimised."""
        return evenly_spaced(self.num, self.settings.num_search_draws)

    @cached_property
    def plug_in(self) -> SearchProgram:
        """The search under one set of parameters."""
        search = self.settings.search
        if isinstance(search, Rounds):
            raise InvalidInputError(
                "searches under draws are searches by ascent",
                received="Rounds",
                remedy="cbrl_bayes.design, which does the rounds first, or learn_law",
            )
        return SearchProgram(self.problem, self.estimator, search)

    @cached_property
    def again(self) -> SearchProgram:
        """One ascent from where another ended."""
        return self.plug_in.with_search(Search(ascent=self.settings.search.ascent))

    @cached_property
    def common(self) -> SearchProgram:
        """The ascent of the mean over draws."""
        average = PosteriorCriterion(self.estimator, len(self.kept))
        return SearchProgram(self.problem, average, Search(ascent=self.settings.search.ascent))

    @cached_property
    def own(self) -> SearchProgram:
        """The search under one draw."""
        return self.plug_in.with_search(self.settings.per_draw)

    @cached_property
    def score(self) -> Callable[..., Score]:
        """The evaluation of one design."""
        return score_program(self.problem, self.settings.evaluation)

    def _second_chance(
        self, plug_in: SearchResult, common: SearchResult, mean: Mapping[str, Array], key: Array
    ) -> SearchResult:
        """Search the plug-in design from the common one too.

        Otherwise its regret could tell of an unlucky search instead of neglected uncertainty.
        """
        again = self.again.run(mean, key=key, start=common.best.unconstrained)
        found = [again, plug_in]
        points = np.stack([self._point(one) for one in found])
        scores = score_designs(self.problem, self.score, points, mean, key)
        best = found[int(best_score(scores, first=1))]
        return best.joined(plug_in, again)


@dataclass(frozen=True)
class _Common:
    """The search for the design that is best on average over the draws it may know."""

    programs: StudyPrograms
    run: Running
    draws: Mapping[str, np.ndarray]
    key: Key[Array, ""]

    def best_start(self, points: np.ndarray) -> np.ndarray:
        """Return the most promising of some points, by the draws that ascents run on."""
        points = self._distinct(points)
        return points[np.argmax(self._means(points, "starts_of_the_common_design", self._subset()))]

    def ascended(self, table: str, start: np.ndarray) -> SearchResult:
        """Return the ascent of the mean objective from a point."""
        subset = {name: jnp.asarray(value) for name, value in self._subset().items()}
        point = self.programs.problem.incentive.unflatten(start)
        return self.programs._once(
            self.run, table, lambda: self.programs.common.run(subset, key=self.key, start=point)
        )

    def finished(self, found: SearchResult, known: np.ndarray) -> SearchResult:
        """Return the best on all draws of what was found, known designs, and ascents from them.

        Known are designs for single draws or for their mean. Some of them may be better for all
        draws than where one ascent ended, and others better places to start from.
        """
        point = self.programs._point
        # One more than draws: with few of them, the designs of all and the plug-in one.
        kept = known[np.union1d(evenly_spaced(len(known), self.programs.kept.size + 1), [0])]
        kept = self._distinct(np.concatenate([point(found)[None], kept]))
        means = self._means(kept, "candidates_of_the_common_design", self._subset())
        promising = [index for index in np.argsort(-means) if index > 0][:MOST_STARTS]
        ascents = [found]
        for number, index in enumerate(promising):
            ascents.append(self.ascended(f"common_again_{number}", kept[index]))
        ends = np.stack([point(ascent) for ascent in ascents])
        finalists = np.concatenate([ends, kept[promising]])
        means = self._means(finalists, "finalists_of_the_common_design", self.draws)
        best = int(np.argmax(means))
        # A start that beats the end of its ascent, which knew only some draws, gets its status.
        ascent = ascents[best if best < len(ends) else best - len(ends) + 1]
        return self._moved(ascent, finalists[best], means[best]).joined(*ascents)

    def best_with(self, found: SearchResult, listed: np.ndarray) -> SearchResult:
        """Return what was found, or with its status the listed design that is better on all draws.

        No design that the study lists is better then.
        """
        points = np.concatenate([self.programs._point(found)[None], listed])
        means = self._means(points, "last_look_at_the_common_design", self.draws)
        best = int(np.argmax(means))
        return self._moved(found, points[best], means[best]) if best else found

    def _moved(self, found: SearchResult, point: np.ndarray, worth: float) -> SearchResult:
        answer = self.programs.problem.incentive.unflatten(point)
        best = replace(found.best, unconstrained=answer, objective=float(worth))
        return replace(found, best=best)

    def _distinct(self, points: np.ndarray) -> np.ndarray:
        return points[distinct(points / self.programs.problem.scale.incentive)]

    def _subset(self) -> dict[str, np.ndarray]:
        return {name: value[self.programs.kept] for name, value in self.draws.items()}

    def _means(
        self, points: np.ndarray, table: str, draws: Mapping[str, np.ndarray]
    ) -> Float[np.ndarray, " design"]:
        """Return the mean objective of each point, -inf where one is not usable.

        Draws under which no point is usable do not count: they cannot tell points apart.
        """
        scores = self.programs.evaluated(points, draws, self.key, self.run, table)
        worth = usable_objective(scores)
        told = worth[:, np.isfinite(worth).any(0)]
        return told.mean(1) if told.size else np.full(len(points), -np.inf)


def _with_own(points: np.ndarray, own: np.ndarray) -> Float[np.ndarray, "design draw coordinate"]:
    """Return all designs under every draw: common, plug-in, the draw's own, alternatives."""
    shared = np.broadcast_to(points[:, None], (len(points), *own.shape))
    return np.concatenate([shared[:SHARED], own[None], shared[SHARED:]])
