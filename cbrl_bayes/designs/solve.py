"""Solve the leader's problem under posterior draws, and once for all of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from cbrl_bayes.designs.alternatives import Alternatives, read_alternatives
from cbrl_bayes.designs.average import PosteriorCriterion
from cbrl_bayes.designs.evaluation import (
    Evaluation,
    ExactEvaluation,
    Score,
    score_designs,
    score_program,
)
from cbrl_bayes.designs.per_draw import DrawSolver, best_score, search_of, search_record, trace_of
from cbrl_bayes.designs.running import Running
from cbrl_bayes.designs.scoring import complete_draws, readable_designs
from cbrl_bayes.designs.thinning import evenly_spaced
from cbrl_bayes.errors import require_kind, require_ranges
from cbrl_bayes.hypergradients import (
    AscentStatus,
    AscentTrace,
    Estimator,
    Search,
    SearchProgram,
    SearchResult,
)
from cbrl_bayes.mdp import SolveStatus
from cbrl_bayes.problems import Problem

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
    num_search_draws : int
        Evenly spaced draws over which the common design is optimised (it is evaluated on all).
    evaluation : Evaluation
        How finished designs are scored; exact where possible.
    """

    search: Search = field(default_factory=Search)
    per_draw: Search = field(default_factory=Search)
    num_search_draws: int = 20
    evaluation: Evaluation = field(default_factory=ExactEvaluation)

    def __post_init__(self) -> None:
        require_kind(self.search, Search, "search", "Search(...)")
        require_kind(self.per_draw, Search, "per_draw", "Search(...)")
        require_kind(self.evaluation, Evaluation, "evaluation", "ExactEvaluation()")
        require_ranges(self, "design settings", num_search_draws=">= 1")


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
        (`IncentiveSpace.flatten`).
    follower_value : array, shape (N, F)
    status : int array, shape (N,)
        `AscentStatus` of the draw's own search (SOLVER_FAILED if a best response under its
        design did not converge).
    source : int array, shape (N,)
        Where the draw's design comes from: 0 the common design, 1 the plug-in design (both may
        beat a search that was unlucky), 2 the draw's own search, 3 the first alternative, ...
    trace : AscentTrace
        Leaves of shape (N, T).
    designs : tuple of str
        Names of the designs that serve all draws: "common", "plug_in", alternatives.
    design_incentive : dict of arrays, each (designs, ...)
    design_unconstrained : array, shape (designs, P)
    design_objective, design_standard_error, design_context_error : arrays, shape (designs, N)
        The last is the part of the error that comes from sampling contexts.
    regret : array, shape (designs, N)
        Regret is what is lost against each draw's own design. It carries simulation noise, and
        may then be negative, where scores do.
    design_solve_status : int array, shape (designs, N)
        Worst `SolveStatus` under each draw.
    design_status : int array, shape (designs,)
        Of alternatives, which are not searched: CONVERGED.
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
    design_context_error: np.ndarray
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
    alternatives: Alternatives | None = None,
    run: Running | None = None,
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
    alternatives : Alternatives, optional
        Designs to score beside those that are searched (`read_alternatives`).
    run : Running, optional
        How it runs. Default: two threads. ``run.records`` receives ("plug_in_search", 0),
        ("common", 0), ("plug_in", 0), and ("draws", number).

    Returns
    -------
    DesignStudy

    Raises
    ------
    FollowerError
        If an outside follower fails. Its ``records`` hold all that was finished: hand them in
        again to go on from there.

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
    draws, num = complete_draws(problem, draws)
    programs = StudyPrograms(problem, estimator, settings or DesignSettings(), num)
    alternatives = alternatives or read_alternatives(problem, None)
    solved = programs.solve(draws, key=key, run=run or Running(), others=alternatives.points)
    return _collect(problem, solved, alternatives)


@dataclass(frozen=True)
class SolvedStudy:
    """All searches and scores of a study.

    Attributes
    ----------
    common, plug_in : SearchResult
    points : array, shape (2 + A, P)
        These two designs and the alternatives before their transform, in this order.
    columns : dict of arrays, each (N, ...)
        The records of `DrawSolver`, stacked.
    """

    common: SearchResult
    plug_in: SearchResult
    points: Float[np.ndarray, "design coordinate"]
    columns: Mapping[str, np.ndarray]

    def own(self, name: str) -> np.ndarray:
        """Return a field of `Score` of each draw's own design, (N, ...)."""
        chosen = self.columns["chosen"]
        return self.columns[f"score.{name}"][np.arange(len(chosen)), chosen]

    def for_all(self, name: str) -> np.ndarray:
        """Return a field of `Score` of the designs that serve all draws, (2 + A, N, ...)."""
        return np.moveaxis(self.columns[f"score.{name}"][:, : len(self.points)], 1, 0)

    @property
    def own_points(self) -> Float[np.ndarray, "draw coordinate"]:
        """Each draw's own design before its transform."""
        searched = self.columns["unconstrained"]
        shared = np.broadcast_to(self.points, (len(searched), *self.points.shape))
        candidates = np.concatenate([shared, searched[:, None]], axis=1)
        return candidates[np.arange(len(searched)), self.columns["chosen"]]


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
    settings: DesignSettings
    num: int

    def solve(
        self,
        draws: Mapping[str, np.ndarray],
        *,
        key: Key[Array, ""],
        run: Running,
        others: Float[np.ndarray, "design coordinate"] | None = None,
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
        others : array, shape (A, P), optional
            Further designs to score, before their transform.
        """
        plug_key, common_key, draw_key = jax.random.split(key, 3)
        mean = {name: jnp.asarray(value[: self.num].mean(0)) for name, value in draws.items()}
        subset = {name: jnp.asarray(value[self.kept]) for name, value in draws.items()}

        def once(name: str, search: Callable[[], SearchResult]) -> SearchResult:
            """Search unless it was done before; either way the answer is the one on record."""
            stage = f"{name.split('_s')[0].replace('_', '-')} design"
            record = run.once(name, lambda: search_record(self.problem, search()), stage=stage)
            return search_of(self.problem, record)

        first = once("plug_in_search", lambda: self.plug_in.run(mean, key=plug_key))
        common = once(
            "common",
            lambda: self.common.run(subset, key=common_key, start=first.best.unconstrained),
        )
        plug_in = once("plug_in", partial(self._second_chance, first, common, mean, plug_key))
        flatten = self.problem.incentive.flatten
        points = np.stack([flatten(found.best.unconstrained) for found in (common, plug_in)])
        points = points if others is None else np.concatenate([points, others])
        evaluation = self.settings.evaluation
        solver = DrawSolver(
            self.problem,
            self.estimator,
            self.settings.per_draw,
            evaluation,
            points,
            draw_key,
            self.own,
            self.score,
        )

        def item(index: int) -> tuple[int, dict[str, np.ndarray]]:
            return index, {name: value[index] for name, value in draws.items()}

        num = len(next(iter(draws.values())))
        on_host = self.estimator.runs_on_host or evaluation.runs_on_host
        run.each("draws", solver, item, num, stage="designs per draw", on_host=on_host)
        return SolvedStudy(common, plug_in, points, run.stacked("draws", num))

    @cached_property
    def kept(self) -> np.ndarray:
        """Draws over which the common design is optimised."""
        return evenly_spaced(self.num, self.settings.num_search_draws)

    @cached_property
    def plug_in(self) -> SearchProgram:
        """The search under one set of parameters."""
        return SearchProgram(self.problem, self.estimator, self.settings.search)

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
        candidates = [again, plug_in]
        flatten = self.problem.incentive.flatten
        points = np.stack([flatten(found.best.unconstrained) for found in candidates])
        scores = score_designs(self.problem, self.score, points, mean, key)
        reached = np.append(plug_in.restart_objectives, again.restart_objectives)
        return SearchResult(candidates[best_score(scores)].best, reached)


def _collect(problem: Problem, solved: SolvedStudy, others: Alternatives) -> DesignStudy:
    """Put all searches and scores into the arrays of the study."""
    chosen, num_shared = solved.columns["chosen"], len(solved.points)
    # The draw's own search, the last of the candidates, is 2; alternatives come after it.
    source = np.where(chosen == num_shared, 2, np.where(chosen < 2, chosen, chosen + 1))
    incentive = readable_designs(problem, solved.points)
    for name, stated in others.incentive.items():  # as they were stated, not to seven digits
        incentive[name][num_shared - len(others.names) :] = stated
    searched = [int(solved.common.best.status), int(solved.plug_in.best.status)]
    own, for_all, columns = solved.own, solved.for_all, solved.columns
    failed = own("status") != SolveStatus.CONVERGED
    return DesignStudy(
        objective=own("objective"),
        standard_error=own("standard_error"),
        incentive_cost=own("incentive_cost"),
        incentive=readable_designs(problem, solved.own_points),
        unconstrained=solved.own_points,
        follower_value=own("follower_value"),
        status=np.where(failed, int(AscentStatus.SOLVER_FAILED), columns["status"]),
        source=source,
        trace=trace_of(columns),
        designs=(COMMON, PLUG_IN, *others.names),
        design_incentive=incentive,
        design_unconstrained=solved.points,
        design_objective=for_all("objective"),
        design_standard_error=for_all("standard_error"),
        design_context_error=for_all("context_error"),
        regret=own("objective") - for_all("objective"),
        design_solve_status=for_all("status"),
        design_status=np.array([*searched, *([int(AscentStatus.CONVERGED)] * len(others.names))]),
        restart_objectives=solved.plug_in.restart_objectives,
    )
