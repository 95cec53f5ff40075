"""One posterior draw's own search, and how searches are kept as records."""

from collections.abc import Mapping
from dataclasses import InitVar, dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from cbrl_bayes.designs.evaluation import Score
from cbrl_bayes.designs.executors import Work
from cbrl_bayes.designs.running import Record
from cbrl_bayes.designs.scoring import usable_objective
from cbrl_bayes.hypergradients import (
    FAILED_ASCENTS,
    AscentResult,
    AscentStatus,
    AscentTrace,
    Estimator,
    Search,
    SearchProgram,
    SearchResult,
)
from cbrl_bayes.mdp import is_traced
from cbrl_bayes.problems import Problem


@dataclass
class DrawSolver(Work):
    """Solves the leader's problem under one draw; compiled once for all draws it is given.

    Parameters
    ----------
    problem : Problem
    estimator : Estimator
    search : Search
    start : array, shape (P,)
        Where its first ascent starts, before the transform: the common design. If the search
        fails there, it begins once more at the problem's initial incentive.
    key : typed key
        A key of its own is derived for each draw from its number.
    program : SearchProgram, optional
        Compiled before, of the same problem, estimator and search.
    """

    problem: Problem
    estimator: Estimator
    search: Search
    start: Float[np.ndarray, " coordinate"]
    key: Key[Array, ""]
    program: InitVar[SearchProgram | None] = None

    def __post_init__(self, program: SearchProgram | None) -> None:
        self._program = program or SearchProgram(self.problem, self.estimator, self.search)

    def __call__(self, item: tuple[Any, Mapping[str, Any]]) -> Record:
        """Solve one draw.

        Parameters
        ----------
        item : tuple
            The draw's number and all its parameters.

        Returns
        -------
        Record
            See `search_record`.
        """
        number, draw = item
        parameters = {name: jnp.asarray(value) for name, value in draw.items()}
        space, key = self.problem.incentive, _draw_key(self.key, number)
        found = self._program.run(parameters, key=key, start=space.unflatten(self.start))
        if not is_traced(found) and int(found.best.status) in FAILED_ASCENTS:
            # What suits the other draws may be no incentive at all under this one.
            again = self._program.run(parameters, key=key, start=space.initial)
            found = again if int(again.best.status) not in FAILED_ASCENTS else found
        return search_record(self.problem, found)


@jax.jit
def _draw_key(key: Array, number: Array) -> Array:
    return jax.random.fold_in(key, number)


def best_score(scores: Score, *, first: int) -> Int[np.ndarray, " *draw"]:
    """Return the position of the best design that can be relied on, for each draw.

    ``first`` is preferred if it is among the best: a draw's own search, so that status and trace
    go with its design.
    """
    worth = usable_objective(scores)
    best = worth.argmax(0)
    return np.where(worth[first] >= worth.max(0), first, best)


def search_record(problem: Problem, found: SearchResult) -> dict[str, Any]:
    """Return a search as named arrays."""
    best = found.best
    record = {
        "unconstrained": problem.incentive.flatten(best.unconstrained),
        "objective": best.objective,
        "status": best.status,
        "gain": best.gain,
        "restart_objectives": found.restart_objectives,
        "ends": found.ends,
        **{f"trace.{entry.name}": getattr(best.trace, entry.name) for entry in fields(best.trace)},
    }
    return record if is_traced(found) else jax.tree.map(np.asarray, record)


def search_of(problem: Problem, record: Record) -> SearchResult:
    """Return the search that a record tells of."""
    best = AscentResult(
        problem.incentive.unflatten(record["unconstrained"]),
        float(record["objective"]),
        trace_of(record),
        AscentStatus(int(record["status"])),
        float(record["gain"]),
    )
    return SearchResult(best, record["restart_objectives"], record["ends"])


def trace_of(record: Record) -> AscentTrace:
    """Return the trace that a record, or a stack of records, holds."""
    leaves: dict[str, Any] = {e.name: record[f"trace.{e.name}"] for e in fields(AscentTrace)}
    return AscentTrace(**leaves)
