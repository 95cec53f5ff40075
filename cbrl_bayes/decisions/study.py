"""Solve the leader's problem under posterior draws, and once for all of them."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Key

from cbrl_bayes.decisions.average import PosteriorAverage
from cbrl_bayes.decisions.evaluation import Evaluation, ExactEvaluation, Score
from cbrl_bayes.decisions.options import complete_draws
from cbrl_bayes.errors import InvalidInputError, explain
from cbrl_bayes.hypergradients import (
    AscentStatus,
    AscentTrace,
    Estimator,
    Search,
    SearchProgram,
    SearchResult,
)
from cbrl_bayes.mdp import SolveStatus
from cbrl_bayes.problems import Problem, SampledContexts

__all__ = ["DesignSettings", "DesignStudy", "study_designs"]

COMMON, PLUG_IN = "common", "plug_in"


@dataclass(frozen=True)
class DesignSettings:
    """How a study is run.

    Parameters
    ----------
    search : Search
        For the plug-in design, where the whole landscape is explored once.
    per_draw : Search
        For each draw; its first ascent starts from the common design.
    num_common_draws : int
        Evenly spaced draws over which the common design is optimised (it is evaluated on all).
    evaluation : Evaluation
        How finished designs are scored; exact where possible.
    num_workers : int
        Threads over draws, >= 1 (one where the follower lives outside compiled programs). The
        numbers do not depend on it.
    """

    search: Search = field(default_factory=Search)
    per_draw: Search = field(default_factory=Search)
    num_common_draws: int = 20
    evaluation: Evaluation = field(default_factory=ExactEvaluation)
    num_workers: int = 2

    def __post_init__(self) -> None:
        if min(self.num_common_draws, self.num_workers) < 1:
            raise InvalidInputError(explain("design settings are out of range", received=self))


@dataclass(frozen=True)
class DesignStudy:
    """Designs under N posterior draws, as plain arrays.

    Attributes
    ----------
    objective, standard_error, incentive_cost : arrays, shape (N,)
        Of each draw's own design; the error is that of simulation.
    incentive : dict of arrays, each (N, ...)
        Each draw's own design in readable units.
    unconstrained : array, shape (N, P)
        Each draw's own design before its transform, as a flat vector
        (`jax.flatten_util.ravel_pytree` of ``problem.incentive.initial``).
    follower_value : array, shape (N, F)
    status : int array, shape (N,)
        `AscentStatus` of the draw's own search (SOLVER_FAILED if a best response under its
        design did not converge).
    source : int array, shape (N,)
        Where the draw's design comes from: 0 the common design, 1 the plug-in design (both may
        beat a search that was unlucky), 2 the draw's own search.
    trace : AscentTrace
        Leaves of shape (N, T).
    designs : tuple of str
        Names of the designs that serve all draws: "common", "plug_in".
    design_incentive : dict of arrays, each (designs, ...)
    design_unconstrained : array, shape (designs, P)
    design_objective, design_standard_error, regret : arrays, shape (designs, N)
        Regret is what is lost against each draw's own design. It carries simulation noise, and
        may then be negative, where scores do.
    design_solve_status : int array, shape (designs, N)
        Worst `SolveStatus` under each draw.
    design_status : int array, shape (designs,)
    restart_objectives : array
        What each ascent of the plug-in search reached.
    """

    objective: np.ndarray
    standard_error: np.ndarray
    incentive_cost: np.ndarray
    incentive: dict[str, np.ndarray]
    unconstrained: np.ndarray
    follower_value: np.ndarray
    status: np.ndarray
    source: np.ndarray
    trace: AscentTrace
    designs: tuple[str, ...]
    design_incentive: dict[str, np.ndarray]
    design_unconstrained: np.ndarray
    design_objective: np.ndarray
    design_standard_error: np.ndarray
    regret: np.ndarray
    design_solve_status: np.ndarray
    design_status: np.ndarray
    restart_objectives: np.ndarray


def study_designs(
    problem: Problem,
    draws: Mapping[str, np.ndarray],
    *,
    estimator: Estimator,
    key: Key[Array, ""],
    settings: DesignSettings | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> DesignStudy:
    """Find the plug-in, the common and every draw's own design, and score all of them.

    1. *Plug-in*: the best incentive at the mean of the draws. 2. *Common*: from there, the
    incentive that maximises the mean objective over (a subset of) the draws. 3. *Per draw*:
    the best incentive of each draw; its search starts from the common design, and the common
    and plug-in designs are candidates too, so that regrets are not negative by a failed search.

    Parameters
    ----------
    problem : Problem
    draws : mapping
        Parameter name -> array (N, ...), from any posterior; missing ones take their default.
    estimator : Estimator
    key : typed key
        A key of its own is derived for each draw; designs compared within a draw share it.
    settings : DesignSettings, optional
    on_progress : callable, optional
        Called with (stage, done, total).

    Returns
    -------
    DesignStudy

    Examples
    --------
    >>> import jax, numpy as np
    >>> from cbrl_bayes.hypergradients import Exact
    >>> from cbrl_bayes.problems import two_state
    >>> draws = {"temperature": np.array([0.2, 0.3, 0.4])}
    >>> study = study_designs(two_state(), draws, estimator=Exact(), key=jax.random.key(0))
    >>> study.objective.shape, bool((study.regret >= 0).all())
    ((3,), True)
    """
    settings = settings or DesignSettings()
    report = on_progress or (lambda stage, done, total: None)
    draws, num = complete_draws(problem, draws)
    plug_key, common_key, draw_key = jax.random.split(key, 3)

    report("plug-in design", 0, 1)
    mean = {name: jnp.asarray(value.mean(0)) for name, value in draws.items()}
    plug_in = SearchProgram(problem, estimator, settings.search).run(mean, key=plug_key)
    report("common design", 0, 1)
    common = _common_design(problem, draws, num, estimator, settings, plug_in, common_key)

    def score(x: Any, parameters: Mapping[str, Any], k: Array) -> Score:
        return settings.evaluation.score(problem, x, parameters, key=k)

    on_host = estimator.runs_on_host or settings.evaluation.runs_on_host
    score = score if settings.evaluation.runs_on_host else jax.jit(score)
    plug_in = _second_chance(
        problem, estimator, settings, mean, plug_in, common, partial(score, k=plug_key), plug_key
    )
    program = SearchProgram(problem, estimator, settings.per_draw)
    shared = [common.best.unconstrained, plug_in.best.unconstrained]

    sampled = isinstance(problem.contexts, SampledContexts)
    noisy = sampled or not settings.evaluation.is_exact

    def solve(index: int) -> _Solved:
        one = {name: jnp.asarray(value[index]) for name, value in draws.items()}
        keys = jax.random.split(jax.random.fold_in(draw_key, index), 3)
        found = program.run(one, key=keys[0], start=common.best.unconstrained)
        candidates = [*shared, found.best.unconstrained]
        scores = [jax.tree.map(np.asarray, score(x, one, keys[1])) for x in candidates]
        chosen = _best(scores)
        if noisy:
            # The best of several noisy scores is too good: report it from fresh noise.
            scores = [jax.tree.map(np.asarray, score(x, one, keys[2])) for x in candidates]
        return _Solved(found, scores, chosen)

    solved: list[_Solved] = []
    for result in _in_order(solve, num, 1 if on_host else settings.num_workers):
        solved.append(result)
        report("designs per draw", len(solved), num)
    return _collect(problem, solved, common, plug_in)


@dataclass(frozen=True)
class _Solved:
    """One draw: its search, the scores of (common, plug-in, own), and which of them is best."""

    found: SearchResult
    scores: list[Score]
    chosen: int


def _best(scores: list[Score]) -> int:
    worth = [
        s.objective if np.isfinite(s.objective) and s.status == SolveStatus.CONVERGED else -np.inf
        for s in scores
    ]
    # The last (the draw's own search) wins ties, so that status and trace go with its design.
    return len(worth) - 1 - int(np.argmax(worth[::-1]))


def _second_chance(
    problem: Problem, estimator: Estimator, settings: DesignSettings, mean: Mapping[str, Any],
    plug_in: SearchResult, common: SearchResult, score: Callable[..., Score], key: Array,
) -> SearchResult:  # fmt: skip
    """Search the plug-in design from the common one too.

    Otherwise its regret could tell of an unlucky search instead of neglected uncertainty.
    """
    program = SearchProgram(problem, estimator, Search(ascent=settings.search.ascent))
    again = program.run(mean, key=key, start=common.best.unconstrained)
    candidates = [again, plug_in]
    best = _best([score(found.best.unconstrained, mean) for found in candidates])
    reached = np.append(plug_in.restart_objectives, again.restart_objectives)
    return SearchResult(candidates[best].best, reached)


def _common_design(
    problem: Problem, draws: Mapping[str, np.ndarray], num: int, estimator: Estimator,
    settings: DesignSettings, plug_in: SearchResult, key: Array,
) -> SearchResult:  # fmt: skip
    kept = np.unique(np.linspace(0, num - 1, min(num, settings.num_common_draws)).astype(int))
    subset = {name: jnp.asarray(value[kept]) for name, value in draws.items()}
    average = PosteriorAverage(estimator, len(kept))
    program = SearchProgram(problem, average, Search(ascent=settings.search.ascent))
    return program.run(subset, key=key, start=plug_in.best.unconstrained)


def _in_order(work: Callable[[int], Any], num: int, num_workers: int) -> Iterator[Any]:
    """Yield ``work(0)``, ``work(1)``, ...; the first alone, so that programs compile once."""
    yield work(0)
    with ThreadPoolExecutor(num_workers) as pool:
        try:
            yield from pool.map(work, range(1, num))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _collect(
    problem: Problem, solved: list[_Solved], common: SearchResult, plug_in: SearchResult
) -> DesignStudy:
    shared_points = [common.best.unconstrained, plug_in.best.unconstrained]
    status, points = [], []
    for one in solved:
        solver_failed = one.scores[one.chosen].status != SolveStatus.CONVERGED
        status.append(AscentStatus.SOLVER_FAILED if solver_failed else one.found.best.status)
        points.append([*shared_points, one.found.best.unconstrained][one.chosen])
    chosen = [one.scores[one.chosen] for one in solved]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *chosen)
    shared = [
        jax.tree.map(lambda *leaves: np.stack(leaves), *(one.scores[i] for one in solved))
        for i in range(2)
    ]
    design_objective = np.stack([score.objective for score in shared])
    return DesignStudy(
        objective=stacked.objective,
        standard_error=stacked.standard_error,
        incentive_cost=stacked.incentive_cost,
        incentive=_readable(problem, points),
        unconstrained=_flat(points),
        follower_value=stacked.follower_value,
        status=np.array([int(s) for s in status]),
        source=np.array([one.chosen for one in solved]),
        trace=jax.tree.map(
            lambda *leaves: np.stack(leaves), *(one.found.best.trace for one in solved)
        ),
        designs=(COMMON, PLUG_IN),
        design_incentive=_readable(problem, shared_points),
        design_unconstrained=_flat(shared_points),
        design_objective=design_objective,
        design_standard_error=np.stack([score.standard_error for score in shared]),
        regret=stacked.objective - design_objective,
        design_solve_status=np.stack([score.status for score in shared]),
        design_status=np.array([int(common.best.status), int(plug_in.best.status)]),
        restart_objectives=plug_in.restart_objectives,
    )


def _readable(problem: Problem, points: list) -> dict[str, np.ndarray]:
    incentives = [problem.incentive.transform(point) for point in points]
    return {name: np.stack([np.asarray(one[name]) for one in incentives]) for name in incentives[0]}


def _flat(points: list) -> np.ndarray:
    return np.stack([np.asarray(ravel_pytree(point)[0]) for point in points])
