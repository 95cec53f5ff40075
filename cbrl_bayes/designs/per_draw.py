"""One posterior draw's share of a study: its own best design, and the scores of all candidates."""

from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key

from cbrl_bayes.designs.devices import require_traceable
from cbrl_bayes.designs.evaluation import Evaluation, Score, score_program, scores_are_noisy
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
from cbrl_bayes.mdp import SolveStatus
from cbrl_bayes.problems import Problem

__all__ = [
    "DrawSolver",
    "best_score",
    "search_of",
    "search_record",
    "trace_of",
]


@dataclass
class DrawSolver:
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
        _, self._unravel = ravel_pytree(self.problem.incentive.initial)

    def __reduce__(self) -> tuple:
        """Travel without what was compiled."""
        return type(self), tuple(getattr(self, entry.name) for entry in fields(self))

    def __call__(self, item: tuple[int, Mapping[str, np.ndarray]]) -> Record:
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
        number, draw = item
        parameters = {name: jnp.asarray(value) for name, value in draw.items()}
        keys = jax.random.split(jax.random.fold_in(self.key, number), 3)
        shared = [self._unravel(jnp.asarray(point)) for point in self.shared]
        found = self._program.run(parameters, key=keys[0], start=shared[0])
        candidates = [*shared, found.best.unconstrained]

        def scored(key: Array) -> list[Score]:
            return [jax.tree.map(np.asarray, self._score(x, parameters, key)) for x in candidates]

        scores = scored(keys[1])
        chosen = best_score(scores)
        if scores_are_noisy(self.problem, self.evaluation):
            # The best of several noisy scores is too good: report it from fresh noise.
            scores = scored(keys[2])
        table = jax.tree.map(lambda *leaves: np.stack(leaves), *scores)
        return {**_named("score", table), "chosen": np.array(chosen), **search_record(found)}

    def traced(self, item: tuple[Array, Mapping[str, Array]]) -> dict[str, Array]:
        """Return the same record by one traceable function, for programs that hold many draws."""
        require_traceable(self.evaluation)
        number, parameters = item
        keys = jax.random.split(jax.random.fold_in(self.key, number), 3)
        shared = jnp.asarray(self.shared)
        found = self._program.traced(parameters, keys[0], self._unravel(shared[0]))
        own, _ = ravel_pytree(found.best.unconstrained)
        candidates = jnp.concatenate([shared, own[None]])

        def scored(key: Array) -> Score:
            return jax.lax.map(
                lambda x: self.evaluation.score(
                    self.problem, self._unravel(x), parameters, key=key
                ),
                candidates,
            )

        scores = scored(keys[1])
        chosen = _best(scores.objective, scores.status)
        if scores_are_noisy(self.problem, self.evaluation):
            scores = scored(keys[2])
        return {
            **_named("score", scores),
            "chosen": chosen,
            "unconstrained": own,
            "objective": found.best.objective,
            "status": found.best.status,
            "restart_objectives": found.restart_objectives,
            **_named("trace", found.best.trace),
        }


def best_score(scores: list[Score]) -> int:
    """Return the position of the best score that can be relied on; the last one wins ties.

    The last is the draw's own search, so that status and trace go with its design.
    """
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *scores)
    return int(_best(stacked.objective, stacked.status))


def _best(objective: Array | np.ndarray, status: Array | np.ndarray) -> Array:
    usable = jnp.isfinite(objective) & (status == int(SolveStatus.CONVERGED))
    worth = jnp.where(usable, objective, -jnp.inf)
    return len(objective) - 1 - jnp.argmax(worth[::-1])


def _named(prefix: str, record: Any) -> dict[str, Any]:
    return {f"{prefix}.{entry.name}": getattr(record, entry.name) for entry in fields(record)}


def search_record(found: SearchResult) -> dict[str, np.ndarray]:
    """Return a search as named arrays."""
    best = found.best
    return {
        "unconstrained": np.asarray(ravel_pytree(best.unconstrained)[0]),
        "objective": np.array(best.objective),
        "status": np.array(int(best.status)),
        "restart_objectives": found.restart_objectives,
        **{name: np.asarray(value) for name, value in _named("trace", best.trace).items()},
    }


def search_of(problem: Problem, record: Record) -> SearchResult:
    """Return the search that a record tells of."""
    _, unravel = ravel_pytree(problem.incentive.initial)
    best = AscentResult(
        unravel(jnp.asarray(record["unconstrained"])),
        float(record["objective"]),
        trace_of(record),
        AscentStatus(int(record["status"])),
    )
    return SearchResult(best, np.asarray(record["restart_objectives"]))


def trace_of(record: Record) -> AscentTrace:
    """Return the trace that a record, or a stack of records, holds."""
    leaves: dict[str, Any] = {e.name: record[f"trace.{e.name}"] for e in fields(AscentTrace)}
    return AscentTrace(**leaves)
