"""Stress tests: what designs achieve in worlds that are shifted away from the posterior."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from cbrl_bayes.designs.average import PosteriorCriterion
from cbrl_bayes.designs.evaluation import Evaluation, ExactEvaluation
from cbrl_bayes.designs.running import Record, Running
from cbrl_bayes.designs.scoring import complete_draws, evaluate_designs
from cbrl_bayes.designs.thinning import evenly_spaced
from cbrl_bayes.errors import InvalidInputError, require_kind, require_ranges
from cbrl_bayes.hypergradients import Estimator, Exact, Search, SearchProgram
from cbrl_bayes.problems import Problem
from cbrl_bayes.sensitivity.worlds import Draws, Stress

REOPTIMISED = "reoptimised"


@dataclass(frozen=True)
class StressSettings:
    """How a stress test is computed.

    Parameters
    ----------
    search : Search, optional
        If given, a design "reoptimised" joins in every world: the best given design of that world
        is improved by this search. Otherwise regret is against the given designs alone. It is then
        a lower bound of what better knowledge of that world would gain.
    num_search_draws : int
        Evenly spaced draws that the search averages over, >= 1.
    evaluation : Evaluation
        How designs are scored; exact where possible.
    """

    search: Search | None = None
    num_search_draws: int = 20
    evaluation: Evaluation = field(default_factory=ExactEvaluation)

    def __post_init__(self) -> None:
        require_kind(self.search, Search | None, "search", "cb.Search(...)")
        require_kind(self.evaluation, Evaluation, "evaluation", "cb.ExactEvaluation()")
        require_ranges(self, "settings of a stress test", num_search_draws=">= 1")


@dataclass(frozen=True)
class StressScores:
    """D designs in W worlds under N draws.

    Attributes
    ----------
    stresses, designs : tuple of str
    objective, standard_error, change, regret : arrays, shape (W, D, N)
        ``change`` is against the world without stress, draw by draw; ``regret`` against the
        design with the largest mean objective in that world, so that its mean is >= 0.
    status : int array, shape (W, D, N)
        Worst `SolveStatus`.
    best : int array, shape (W,)
        That design; one whose mean is not finite is never it.
    reoptimised : array, shape (W, P), or None
        The design "reoptimised" of each world, before its transform.
    reoptimised_status : int array, shape (W,), or None
        `AscentStatus` of the ascent that found it.
    """

    stresses: tuple[str, ...]
    designs: tuple[str, ...]
    objective: Float[np.ndarray, "stress design draw"]
    standard_error: Float[np.ndarray, "stress design draw"]
    change: Float[np.ndarray, "stress design draw"]
    regret: Float[np.ndarray, "stress design draw"]
    status: Int[np.ndarray, "stress design draw"]
    best: Int[np.ndarray, " stress"]
    reoptimised: Float[np.ndarray, "stress coordinate"] | None
    reoptimised_status: Int[np.ndarray, " stress"] | None


def stress_designs(
    problem: Problem,
    designs: Mapping[str, Float[np.ndarray, " coordinate"]],
    draws: Draws,
    stresses: Sequence[Stress],
    *,
    key: Key[Array, ""],
    estimator: Estimator | None = None,
    settings: StressSettings | None = None,
    run: Running | None = None,
) -> StressScores:
    """Score given designs in every shifted world, with the same noise in all.

    Parameters
    ----------
    problem : Problem
    designs : mapping
        Name -> design before its transform, as a flat vector.
    draws : mapping
        Parameter name -> array (N, ...).
    stresses : sequence of Stress
        The world as it is comes first, under the name "none".
    key : typed key
    estimator : Estimator, optional
        For the search. Default: `Exact`.
    settings : StressSettings, optional
    run : Running, optional
        How it runs. Default: two threads.

    Returns
    -------
    StressScores

    Raises
    ------
    InvalidInputError
        For no designs, no stresses, stresses with equal names or that do not fit the problem.

    Examples
    --------
    >>> from cbrl_bayes.problems import two_state
    >>> from cbrl_bayes.sensitivity import TemperatureShift
    >>> found = stress_designs(two_state(), {"none paid": np.zeros(1), "one paid": np.ones(1)},
    ...                        {"temperature": np.array([0.2, 0.3])}, [TemperatureShift(2.0)],
    ...                        key=jax.random.key(0))
    >>> found.stresses, found.objective.shape, [found.designs[i] for i in found.best]
    (('none', 'temperature x 2'), (2, 2, 2), ['one paid', 'one paid'])
    """
    settings, run = settings or StressSettings(), run or Running()
    names = _names(designs, stresses)
    complete, _ = complete_draws(problem, draws)
    worlds = [(problem, complete), *(stress.shift(problem, complete) for stress in stresses)]
    score_key, search_key = jax.random.split(key)
    given = np.stack([np.asarray(point, float) for point in designs.values()])

    def scored(world: Problem, shifted: Draws, points: np.ndarray, table: str) -> Any:
        return evaluate_designs(
            world,
            points,
            shifted,
            key=score_key,
            evaluation=settings.evaluation,
            run=run,
            table=table,
        )

    found, moved, ended = [], [], []
    for number, (world, shifted) in enumerate(worlds):
        scores = scored(world, shifted, given, f"world_{number}")
        if settings.search is not None:
            begin = given[int(_best(scores.objective))]
            again = run.once(
                f"search_in_world_{number}",
                partial(
                    _search_again,
                    world,
                    shifted,
                    begin,
                    estimator or Exact(),
                    settings.search,
                    settings.num_search_draws,
                    search_key,
                ),
            )
            moved.append(again["point"])
            ended.append(int(again["status"]))
            both = np.vstack([given, again["point"]])
            scores = scored(world, shifted, both, f"world_{number}_with_its_best")
        found.append(scores)
    objective = np.stack([scores.objective for scores in found])
    best = _best(objective)
    return StressScores(
        stresses=names,
        designs=(*designs, *([REOPTIMISED] if moved else [])),
        objective=objective,
        standard_error=np.stack([scores.standard_error for scores in found]),
        change=objective - objective[:1],
        regret=objective[np.arange(len(names)), best][:, None] - objective,
        status=np.stack([scores.status for scores in found]),
        best=best,
        reoptimised=np.stack(moved) if moved else None,
        reoptimised_status=np.array(ended) if moved else None,
    )


def _names(designs: Mapping[str, Any], stresses: Sequence[Stress]) -> tuple[str, ...]:
    """Return the names of all worlds after checking them."""
    names = ("none", *(stress.name for stress in stresses))
    if not designs or not stresses or len(set(names)) < len(names) or REOPTIMISED in designs:
        raise InvalidInputError(
            "a stress test needs designs, and stresses with different names",
            received=f"designs {tuple(designs)}, stresses {names[1:]}",
            accepted=f"at least one of each; the names 'none' and {REOPTIMISED!r} are taken",
        )
    return names


def _best(objective: Float[np.ndarray, "*stress design draw"]) -> Int[np.ndarray, "*stress"]:
    """Return which design has the largest mean over draws; one that is not finite has none."""
    mean = objective.mean(-1)
    return np.where(np.isfinite(mean), mean, -np.inf).argmax(-1)


def _search_again(
    problem: Problem,
    draws: Draws,
    begin: np.ndarray,
    estimator: Estimator,
    search: Search,
    num_draws: int,
    key: Key[Array, ""],
) -> Record:
    """Return the design that maximises the mean objective over some draws, and how it ended."""
    kept = evenly_spaced(len(next(iter(draws.values()))), num_draws)
    subset = {name: jnp.asarray(value[kept]) for name, value in draws.items()}
    program = SearchProgram(problem, PosteriorCriterion(estimator, len(kept)), search)
    space = problem.incentive
    found = program.run(subset, key=key, start=space.unflatten(begin)).best
    point = np.asarray(space.flatten(found.unconstrained))
    return {"point": point, "status": np.array(int(found.status))}
