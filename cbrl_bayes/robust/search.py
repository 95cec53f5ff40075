"""Robust and risk-aware designs: one design per criterion, judged on all posterior draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from cbrl_bayes.designs.average import PosteriorCriterion
from cbrl_bayes.designs.criteria import Criterion
from cbrl_bayes.designs.evaluation import Score, score_program, scores_are_noisy
from cbrl_bayes.designs.executors import ThreadExecutor
from cbrl_bayes.designs.running import Record, Running
from cbrl_bayes.designs.scoring import complete_draws, evaluate_designs, usable_objective
from cbrl_bayes.designs.thinning import evenly_spaced
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.hypergradients import AscentProgram, AscentStatus, Estimator
from cbrl_bayes.problems import Problem
from cbrl_bayes.robust.constraints import (
    ChanceConstraint,
    ConstrainedCriterion,
    CostAtMost,
    satisfied_probability,
)
from cbrl_bayes.robust.depth import posterior_depth
from cbrl_bayes.robust.record import RobustSettings, RobustStudy

PENALTY_FACTORS = (1.0, 10.0, 100.0)
SETTLED = 0.01
DISTINCT = 1e-3


def search_designs(
    problem: Problem,
    draws: Mapping[str, np.ndarray],
    *,
    names: Sequence[str],
    designs: Float[np.ndarray, "design coordinate"],
    own: Float[np.ndarray, "draw coordinate"],
    criteria: Sequence[Criterion],
    constraints: Sequence[ChanceConstraint] = (),
    estimator: Estimator,
    key: Key[Array, ""],
    settings: RobustSettings | None = None,
    run: Running | None = None,
) -> RobustStudy:
    """Find the design that maximises each criterion, and score it beside known designs.

    Known designs and some draws' own designs are judged by the criterion on all draws; from the
    most promising ones ascents climb the criterion. The best of everything seen is the answer,
    so that no design in the table is better by its own criterion.

    Parameters
    ----------
    problem : Problem
    draws : mapping
        Parameter name -> array (N, ...).
    names, designs : sequence of str and array, shape (D, P)
        Designs known before, e.g. the common one.
    own : array, shape (N, P)
        Each draw's own design.
    criteria : sequence of Criterion
        Of different names.
    constraints : sequence of ChanceConstraint
        Kept by the answers where any candidate keeps them; need an exact estimator.
    estimator : Estimator
    key : typed key
    settings : RobustSettings, optional
    run : Running, optional
        How it runs. Default: two threads.

    Returns
    -------
    RobustStudy
    """
    settings, run = settings or RobustSettings(), run or Running()
    _check(problem, criteria, constraints, estimator, settings, names)
    draws, num = complete_draws(problem, draws)
    score_key, fresh_key, ascent_key = jax.random.split(key, 3)
    noisy = scores_are_noisy(problem, settings.evaluation)

    score = score_program(problem, settings.evaluation)

    def scored(table: str, points: np.ndarray, own_key: Array = score_key) -> Score:
        return evaluate_designs(
            problem,
            points,
            draws,
            key=own_key,
            evaluation=settings.evaluation,
            score=score if isinstance(run.executor, ThreadExecutor | None) else None,
            run=run,
            table=table,
        )

    usable = np.isfinite(own).all(1)
    own = np.where(usable[:, None], own, designs[0])
    some = own[evenly_spaced(num, settings.num_candidates)]
    first = np.concatenate([designs, some])
    pool = _Pool(first, scored("known_designs", first))
    own_score = usable_objective(scored("best_per_draw", own[None]))[0]
    best = own_score if noisy else np.maximum(own_score, usable_objective(pool.scores).max(0))
    judge = _Judge(
        problem, draws, estimator, settings, best, posterior_depth(draws), tuple(constraints)
    )
    starts, statuses = [], []
    for number, criterion in enumerate(criteria):
        run.report(f"design by {criterion.name}", number, len(criteria))
        own_key = jax.random.fold_in(ascent_key, number)
        ended = run.once(f"ascent_{number}", partial(judge.ascend, criterion, pool, own_key))
        fresh = scored(f"ends_of_ascent_{number}", ended["ends"])
        starts.append(judge.values(criterion, fresh))
        statuses.append(_settled(AscentStatus(int(ended["status"])), starts[-1], pool))
        pool = pool.joined(ended["ends"], fresh)
    if not noisy:
        judge = replace(judge, best=np.maximum(best, usable_objective(pool.scores).max(0)))
    chosen = [judge.order(criterion, pool.scores)[0] for criterion in criteria]
    index = np.append(np.arange(len(designs)), chosen).astype(int)
    scores = pool.chosen(index)
    if noisy:
        # The best of many noisy scores is too good: report from fresh noise.
        scores = scored("fresh_noise", pool.designs[index], fresh_key)
        own_score = usable_objective(scored("fresh_noise_per_draw", own[None], fresh_key))[0]
        judge = replace(judge, best=own_score)
    return _collect(
        judge, names, pool.designs[index], criteria, scores, own_score, starts, statuses
    )


@dataclass(frozen=True)
class _Pool:
    """Designs seen so far and their scores on all draws."""

    designs: np.ndarray
    scores: Score

    def joined(self, designs: np.ndarray, scores: Score) -> "_Pool":
        both = jax.tree.map(lambda *parts: np.concatenate(parts), self.scores, scores)
        return _Pool(np.concatenate([self.designs, designs]), both)

    def chosen(self, index: np.ndarray) -> Score:
        return jax.tree.map(lambda leaf: leaf[index], self.scores)


@dataclass(frozen=True)
class _Judge:
    """What stays the same for all criteria."""

    problem: Problem
    draws: dict[str, np.ndarray]
    estimator: Estimator
    settings: RobustSettings
    best: np.ndarray
    depth: np.ndarray
    constraints: tuple[ChanceConstraint, ...]

    def values(self, criterion: Criterion, scores: Score) -> np.ndarray:
        """Return the criterion of each design on all draws, -inf where it failed."""
        best, depth = jnp.asarray(self.best), jnp.asarray(self.depth)
        found = [float(criterion.value(jnp.asarray(row), best, depth)) for row in scores.objective]
        fine = np.isfinite(usable_objective(scores)).all(1) & np.isfinite(found)
        return np.where(fine, found, -np.inf)

    def satisfied(self, scores: Score) -> np.ndarray:
        shares = [np.asarray(satisfied_probability(c, scores)) for c in self.constraints]
        return np.stack(shares) if shares else np.ones((0, len(scores.objective)))

    def shortfall(self, scores: Score) -> np.ndarray:
        """Return by how much probability each design misses its worst constraint; 0 for none."""
        demanded = np.array([c.prob for c in self.constraints])[:, None]
        missing = np.maximum(demanded - self.satisfied(scores) - 1e-12, 0.0)
        return missing.max(0, initial=0.0)

    def order(self, criterion: Criterion, scores: Score) -> np.ndarray:
        """Return designs from best to worst: those that keep the constraints come first."""
        values = self.values(criterion, scores)
        missed = np.where(np.isfinite(values), self.shortfall(scores), np.inf)
        return np.lexsort((-values, missed))

    def ascend(self, criterion: Criterion, pool: _Pool, key: Array) -> Record:
        """Return where ascents from the most promising designs end, and the status of the best."""
        num = len(self.best)
        kept = evenly_spaced(num, num if self.constraints else self.settings.num_search_draws)
        # Credible sets are never empty with the central draw among those kept.
        kept = np.union1d(kept, [int(np.argmin(self.depth))])
        subset = {name: jnp.asarray(value[kept]) for name, value in self.draws.items()}
        first = self._starts(criterion, pool)
        space = self.problem.incentive
        programs = [
            AscentProgram(self.problem, estimator, self.settings.ascent)
            for estimator in self._estimators(criterion, kept, pool)
        ]
        ends, results = [], []
        for start in first:
            point = space.unflatten(start)
            for program in programs:
                result = program.run(subset, key=key, start=point)
                point = result.unconstrained
            ends.append(space.flatten(point))
            results.append(result)
        best = max(results, key=attrgetter("worth"))
        return {"ends": np.stack(ends), "status": np.array(int(best.status))}

    def _starts(self, criterion: Criterion, pool: _Pool) -> list[np.ndarray]:
        """Return the most promising designs that differ from each other."""
        found: list[np.ndarray] = []
        for point in pool.designs[self.order(criterion, pool.scores)]:
            near = DISTINCT * max(1.0, float(np.linalg.norm(point)))
            if all(np.linalg.norm(point - other) > near for other in found):
                found.append(point)
            if len(found) == self.settings.num_starts:
                break
        return found

    def _estimators(self, criterion: Criterion, kept: np.ndarray, pool: _Pool) -> list[Any]:
        best, depth = self.best[kept], self.depth[kept]
        if not self.constraints:
            return [PosteriorCriterion(self.estimator, len(kept), criterion, best, depth)]
        worth = _spread(usable_objective(pool.scores))
        scale = [
            worth / max(_spread(np.asarray(c.margin(pool.scores))), 1e-12 * worth, 1e-300)
            for c in self.constraints
        ]
        return [
            ConstrainedCriterion(
                len(kept),
                criterion,
                self.constraints,
                tuple(factor * one for one in scale),
                jnp.asarray(best),
                jnp.asarray(depth),
            )
            for factor in PENALTY_FACTORS
        ]


def _check(
    problem: Problem,
    criteria: Sequence[Criterion],
    constraints: Sequence[ChanceConstraint],
    estimator: Estimator,
    settings: RobustSettings,
    names: Sequence[str],
) -> None:
    asked = [criterion.name for criterion in criteria]
    taken = {*names, "plug-in", "best per draw", "own"}
    if not asked or len(set(asked)) < len(asked) or taken & set(asked):
        raise InvalidInputError(
            "criteria need different names",
            received=asked,
            accepted=f"at least one, none twice, none of {', '.join(sorted(taken))}",
        )
    if constraints and not estimator.is_exact:
        raise InvalidInputError(
            "chance constraints need the exact hypergradient",
            received=type(estimator).__name__,
            remedy="estimator=cb.Exact()",
        )
    if constraints and not settings.evaluation.is_exact:
        raise InvalidInputError(
            "chance constraints on costs and follower values need exact scores",
            received=type(settings.evaluation).__name__,
            remedy="ExactEvaluation()",
        )
    for constraint in constraints:
        if isinstance(constraint, CostAtMost) and problem.incentive_price_fn is None:
            raise InvalidInputError(
                f"problem {problem.name!r} has no price of its incentive: its cost has no limit",
                received=constraint,
                remedy="an incentive_price_fn, or hard constraints",
            )
        if getattr(constraint, "follower", 0) >= problem.followers.num_followers:
            raise InvalidInputError(
                "there is no such follower",
                received=constraint,
                accepted=f"0 to {problem.followers.num_followers - 1}",
            )


def _settled(status: AscentStatus, reached: np.ndarray, pool: _Pool) -> AscentStatus:
    """Return CONVERGED also for ascents with a kink at their end that agree."""
    if status is not AscentStatus.STEP_LIMIT:
        return status
    best_two = np.sort(reached[np.isfinite(reached)])[-2:]
    spread = _spread(usable_objective(pool.scores)[:1])
    agree = len(best_two) == 2 and np.ptp(best_two) <= SETTLED * max(spread, 1e-12)
    return AscentStatus.CONVERGED if agree else status


def _spread(values: np.ndarray) -> float:
    found = values[np.isfinite(values)]
    return float(np.std(found)) if found.size else 0.0


def _collect(
    judge: _Judge,
    names: Sequence[str],
    designs: np.ndarray,
    criteria: Sequence[Criterion],
    scores: Score,
    own_score: np.ndarray,
    starts: list[np.ndarray],
    statuses: list[AscentStatus],
) -> RobustStudy:
    longest = max(len(value) for value in starts)
    padded = [np.pad(v, (0, longest - len(v)), constant_values=np.nan) for v in starts]
    return RobustStudy(
        names=(*names, *(criterion.name for criterion in criteria)),
        designs=designs,
        scores=scores,
        own_objective=np.where(np.isfinite(own_score), own_score, np.nan),
        best=np.where(np.isfinite(judge.best), judge.best, np.nan),
        depth=judge.depth,
        criterion_value=np.stack([judge.values(criterion, scores) for criterion in criteria]),
        start_value=np.stack(padded),
        status=np.array([int(status) for status in statuses]),
        constraints=tuple(f"P({c.name}) >= {c.prob:g}" for c in judge.constraints),
        satisfied=judge.satisfied(scores),
        feasible=judge.shortfall(scores) == 0.0,
    )
