"""Solve the leader's problem under posterior draws, and once for all of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Array, Key

from cbrl_bayes.designs.alternatives import Alternatives, read_alternatives
from cbrl_bayes.designs.evaluation import Evaluation, ExactEvaluation
from cbrl_bayes.designs.per_draw import trace_of
from cbrl_bayes.designs.programs import SolvedStudy, StudyPrograms
from cbrl_bayes.designs.running import Running
from cbrl_bayes.designs.scoring import complete_draws, readable_designs
from cbrl_bayes.errors import require_kind, require_ranges
from cbrl_bayes.hypergradients import AscentStatus, AscentTrace, Estimator, Rounds, Search
from cbrl_bayes.mdp import SolveStatus
from cbrl_bayes.problems import Problem

COMMON, PLUG_IN = "common", "plug_in"


@dataclass(frozen=True)
class DesignSettings:
    """How a study is run.

    Parameters
    ----------
    search : Search or Rounds
        For the plug-in design, where the whole landscape is explored once. `Rounds`, with
        `LearnedModel` or `DoublyRobust`: `cbrl_bayes.design` first learns the transition law from
        episodes that serve all draws (`learn_law`), and then searches exactly under draws of it.
    per_draw : Search
        For each draw; its first ascent starts from the common design.
    num_search_draws : int
        Evenly spaced draws over which the common design is optimised (it is chosen on all).
    evaluation : Evaluation
        How finished designs are scored; exact where possible.
    """

    search: Search | Rounds = field(default_factory=Search)
    per_draw: Search = field(default_factory=Search)
    num_search_draws: int = 20
    evaluation: Evaluation = field(default_factory=ExactEvaluation)

    def __post_init__(self) -> None:
        require_kind(self.search, Search | Rounds, "search", "Search(...)")
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
    gain : array, shape (N,)
        What the last probes of the draw's own search still gained; NaN where nobody probed.
    status : int array, shape (N,)
        `AscentStatus` of the draw's own search (SOLVER_FAILED if a best response under its
        design did not converge).
    source : int array, shape (N,)
        Where the draw's design comes from: 0 the common design, 1 the plug-in design (both may
        beat a search that was unlucky), 2 the draw's own search, 3 and more an alternative.
    trace : AscentTrace
        Leaves of shape (N, T).
    designs : tuple of str
        Names of the designs that serve all draws: "common", "plug_in", and the alternatives.
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
        `AscentStatus`; CONVERGED for an alternative, which is not searched.
    design_gain : array, shape (designs,)
        As ``gain``.
    restart_objectives : array
        What each ascent of the plug-in search reached.
    """

    objective: np.ndarray
    standard_error: np.ndarray
    incentive_cost: np.ndarray
    incentive: dict[str, np.ndarray]
    unconstrained: np.ndarray
    follower_value: np.ndarray
    gain: np.ndarray
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
    design_gain: np.ndarray
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

    1. *Plug-in*: the best incentive at the mean of the draws. 2. *Common*: the incentive that
    maximises the mean objective over the draws. Ascents on some of the draws start from the most
    promising designs found so far; the answer is the best, on all draws, of their ends, the
    plug-in design, the alternatives and draws' own designs. 3. *Per draw*: the best incentive of
    each draw; its search starts from the common design, and all designs of the study are candidates
    too, so that regrets are not negative by a failed search.

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
        How it runs. Default: two threads. ``run.records`` receives every search and every score.

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
    stated = alternatives or read_alternatives(problem, None)
    solved = programs.solve(draws, key=key, run=run or Running(), alternatives=stated.points)
    return _collect(problem, solved, stated)


def _collect(problem: Problem, solved: SolvedStudy, stated: Alternatives) -> DesignStudy:
    """Put all searches and scores into the arrays of the study."""
    own, for_all, searched = solved.own, solved.for_all, solved.searched
    failed = own("status") != SolveStatus.CONVERGED
    found = [solved.common.best, solved.plug_in.best]
    given = len(stated.names)
    statuses = [*(one.status for one in found), *[AscentStatus.CONVERGED] * given]
    incentive = readable_designs(problem, solved.points)
    for name, values in stated.incentive.items():  # as they were stated, not to seven digits
        incentive[name][len(solved.points) - given :] = values
    return DesignStudy(
        objective=own("objective"),
        standard_error=own("standard_error"),
        incentive_cost=own("incentive_cost"),
        incentive=readable_designs(problem, solved.own_points),
        unconstrained=solved.own_points,
        follower_value=own("follower_value"),
        gain=searched["gain"],
        status=np.where(failed, int(AscentStatus.SOLVER_FAILED), searched["status"]),
        source=solved.chosen,
        trace=trace_of(searched),
        designs=(COMMON, PLUG_IN, *stated.names),
        design_incentive=incentive,
        design_unconstrained=solved.points,
        design_objective=for_all("objective"),
        design_standard_error=for_all("standard_error"),
        design_context_error=for_all("context_error"),
        regret=own("objective") - for_all("objective"),
        design_solve_status=for_all("status"),
        design_status=np.array([int(status) for status in statuses]),
        design_gain=np.array([*(one.gain for one in found), *[np.nan] * given]),
        restart_objectives=solved.plug_in.restart_objectives,
    )
