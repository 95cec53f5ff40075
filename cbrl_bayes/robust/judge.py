"""A criterion at work: it judges designs on all draws to choose on, and climbs from the best."""

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from cbrl_bayes.designs.average import PosteriorCriterion
from cbrl_bayes.designs.criteria import Criterion, MinimaxRegret, WorstCase
from cbrl_bayes.designs.evaluation import Score
from cbrl_bayes.designs.running import Record
from cbrl_bayes.designs.scoring import usable_objective
from cbrl_bayes.designs.thinning import distinct, evenly_spaced
from cbrl_bayes.hypergradients import AscentProgram, AscentStatus, Estimator
from cbrl_bayes.problems import Problem
from cbrl_bayes.robust.constraints import (
    ChanceConstraint,
    ConstrainedCriterion,
    satisfied_probability,
)
from cbrl_bayes.robust.record import RobustSettings

PENALTY_FACTORS = (1.0, 10.0, 100.0)
SETTLED = 0.01
EXTREMES = WorstCase | MinimaxRegret
"""Criteria that look at one draw alone, the worst."""
NUM_DECISIVE = 10
"""Draws, the worst of a design, that its ascent sees beside those evenly spaced."""


@dataclass(frozen=True)
class Pool:
    """Designs seen so far and their scores on all draws."""

    designs: np.ndarray
    scores: Score

    def joined(self, designs: np.ndarray, scores: Score) -> "Pool":
        """Return the pool with these designs too."""
        both = jax.tree.map(lambda *parts: np.concatenate(parts), self.scores, scores)
        return Pool(np.concatenate([self.designs, designs]), both)

    def chosen(self, index: np.ndarray) -> Score:
        """Return the scores of some designs."""
        return jax.tree.map(lambda leaf: leaf[index], self.scores)


@dataclass(frozen=True)
class Judge:
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
        """Return the share of draws in which each constraint holds, (constraint, design)."""
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

    def ascend(self, criterion: Criterion, pool: Pool, key: Array) -> Record:
        """Return where ascents from the most promising designs end, and the status of the best."""
        num = len(self.best)
        kept = evenly_spaced(num, num if self.constraints else self.settings.num_search_draws)
        # Credible sets are never empty with the central draw among those kept.
        kept = np.union1d(kept, [int(np.argmin(self.depth))])
        first = self._starts(criterion, pool)
        kept = np.union1d(kept, self._decisive(criterion, pool)).astype(int)
        subset = {name: jnp.asarray(value[kept]) for name, value in self.draws.items()}
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
        return {
            "ends": np.stack(ends),
            "status": np.array(int(best.status)),
            "worth": np.array([float(result.worth) for result in results]),
        }

    def _decisive(self, criterion: Criterion, pool: Pool) -> np.ndarray:
        """Return the worst draws of the most promising designs, where only the worst count."""
        if not isinstance(criterion, EXTREMES):
            return np.zeros(0, int)
        rows = self.order(criterion, pool.scores)[: self.settings.num_starts]
        lost = -pool.scores.objective[rows]
        if isinstance(criterion, MinimaxRegret):
            lost = lost + self.best
        lost = np.where((self.depth < criterion.prob) & np.isfinite(lost), lost, -np.inf)
        return np.argsort(-lost, axis=1, kind="stable")[:, :NUM_DECISIVE].ravel()

    def _starts(self, criterion: Criterion, pool: Pool) -> list[np.ndarray]:
        """Return the most promising designs that differ from each other."""
        ordered = pool.designs[self.order(criterion, pool.scores)]
        scaled = ordered / self.problem.scale.incentive
        return [*ordered[distinct(scaled)][: self.settings.num_starts]]

    def _estimators(self, criterion: Criterion, kept: np.ndarray, pool: Pool) -> list[Any]:
        best, depth = self.best[kept], self.depth[kept]
        if not self.constraints:
            return [PosteriorCriterion(self.estimator, len(kept), criterion, best, depth)]
        worth = spread_of(usable_objective(pool.scores))
        scale = [
            worth / max(spread_of(np.asarray(c.margin(pool.scores))), 1e-12 * worth, 1e-300)
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


def settled(status: AscentStatus, reached: np.ndarray, pool: Pool) -> AscentStatus:
    """Return CONVERGED also for ascents with a kink at their end that agree."""
    if status is not AscentStatus.STEP_LIMIT:
        return status
    best_two = np.sort(reached[np.isfinite(reached)])[-2:]
    spread = spread_of(usable_objective(pool.scores)[:1])
    agree = len(best_two) == 2 and np.ptp(best_two) <= SETTLED * spread
    return AscentStatus.CONVERGED if agree else status


def spread_of(values: np.ndarray) -> float:
    """Return the standard deviation of what is finite."""
    found = values[np.isfinite(values)]
    return float(np.std(found)) if found.size else 0.0
