"""One posterior draw's share of a study: its own best design, and the scores of all candidates."""

from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from cbrl_bayes.designs.evaluation import (
    Evaluation,
    Score,
    require_no_tracing,
    score_designs,
    score_program,
    scores_are_noisy,
)
from cbrl_bayes.designs.executors import Work
from cbrl_bayes.designs.running import Record
from cbrl_bayes.hypergradients import (
    AscentResult,
    AscentStatus,
    AscentTrace,
    Estimator,
    Search,
    SearchProgram,
    SearchResult,
)
from cbrl_bayes.mdp import SolveStatus, is_traced
from cbrl_bayes.problems import Problem


@dataclass
class DrawSolver(Work):
    """Solves the leader's problem under one draw; compiled once for all draws it is given.

    Parameters
    ----------
    problem : Problem
    estimator : Estimator
    search : Search
        Its first ascent starts from the first of the shared designs.
    evaluation : Evaluation
    shared : array, shape (D, P)
        Designs that serve all draws, before their transform; candidates beside the draw's own.
    key : typed key
        A key of its own is derived for each draw from its number.
    program, score : optional
        Compiled before, of the same problem, estimator, search and evaluation.
    """

    problem: Problem
    estimator: Estimator
    search: Search
    evaluation: Evaluation
    shared: Float[np.ndarray, "design coordinate"]
    key: Key[Array, ""]
    program: InitVar[SearchProgram | None] = None
    score: InitVar[Callable[..., Score] | None] = None

    def __post_init__(
        self, program: SearchProgram | None, score: Callable[..., Score] | None
    ) -> None:
        self._program = program or SearchProgram(self.problem, self.estimator, self.search)
        self._score = score or score_program(self.problem, self.evaluation)

    def __call__(self, item: tuple[Any, Mapping[str, Any]]) -> Record:
        """Solve one draw.

        Parameters
        ----------
        item : tuple
            The draw's number and all its parameters.

        Returns
        -------
        Record
            ``score.*``: fields of `Score` for the shared designs and the draw's own, in this
            order; ``chosen``: which of them is best; and the draw's own search.
        """
        require_no_tracing(self.evaluation, item)
        number, draw = item
        parameters = {name: jnp.asarray(value) for name, value in draw.items()}
        keys = _draw_keys(self.key, number)
        start = self.problem.incentive.unflatten(self.shared[0])
        found = search_record(self.problem, self._program.run(parameters, key=keys[0], start=start))
        numeric: Any = jnp if is_traced(found) else np
        designs = numeric.concatenate([self.shared, found["unconstrained"][None]])

        def scored(key: Array) -> Score:
            return score_designs(self.problem, self._score, designs, parameters, key)

        scores = scored(keys[1])
        chosen = best_score(scores)
        if scores_are_noisy(self.problem, self.evaluation):
            # The best of several noisy scores is too good: report it from fresh noise.
            scores = scored(keys[2])
        return {**_named("score", scores), "chosen": numeric.asarray(chosen), **found}


@jax.jit
def _draw_keys(key: Array, number: Array) -> tuple[Array, ...]:
    return tuple(jax.random.split(jax.random.fold_in(key, number), 3))


def best_score(scores: Score) -> Int[Array, ""]:
    """Return the position of the best score that can be relied on; the last one wins ties.

    The last is the draw's own search, so that status and trace go with its design.
    """
    numeric: Any = jnp if is_traced(scores) else np
    usable = numeric.isfinite(scores.objective) & (scores.status == int(SolveStatus.CONVERGED))
    worth = numeric.where(usable, scores.objective, -numeric.inf)
    return len(worth) - 1 - numeric.argmax(worth[::-1])


def _named(prefix: str, record: Any) -> dict[str, Any]:
    return {f"{prefix}.{entry.name}": getattr(record, entry.name) for entry in fields(record)}


def search_record(problem: Problem, found: SearchResult) -> dict[str, Any]:
    """Return a search as named arrays."""
    best = found.best
    record = {
        "unconstrained": problem.incentive.flatten(best.unconstrained),
        "objective": best.objective,
        "status": best.status,
        "restart_objectives": found.restart_objectives,
        **_named("trace", best.trace),
    }
    return record if is_traced(found) else jax.tree.map(np.asarray, record)


def search_of(problem: Problem, record: Record) -> SearchResult:
    """Return the search that a record tells of."""
    best = AscentResult(
        problem.incentive.unflatten(record["unconstrained"]),
        float(record["objective"]),
        trace_of(record),
        AscentStatus(int(record["status"])),
    )
    return SearchResult(best, np.asarray(record["restart_objectives"]))


def trace_of(record: Record) -> AscentTrace:
    """Return the trace that a record, or a stack of records, holds."""
    leaves: dict[str, Any] = {e.name: record[f"trace.{e.name}"] for e in fields(AscentTrace)}
    return AscentTrace(**leaves)
