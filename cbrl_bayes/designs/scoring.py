"""Score several given designs under every posterior draw, with common random numbers."""

from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from cbrl_bayes.designs.alternatives import read_alternatives
from cbrl_bayes.designs.evaluation import (
    Evaluation,
    ExactEvaluation,
    Score,
    require_no_tracing,
    score_designs,
    score_program,
)
from cbrl_bayes.designs.executors import ThreadExecutor, Work
from cbrl_bayes.designs.running import Record, Running
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import SolveStatus
from cbrl_bayes.problems import Problem


def evaluate_designs(
    problem: Problem,
    designs: Float[np.ndarray, "design *draw coordinate"] | Mapping[str, Any],
    draws: Mapping[str, np.ndarray],
    *,
    key: Key[Array, ""],
    evaluation: Evaluation | None = None,
    score: Callable[..., Score] | None = None,
    run: Running | None = None,
    table: str = "scores_of_the_designs",
) -> Score:
    """Score every design under every draw.

    Designs are compared within a draw by the same contexts and noise (a key per draw), so that
    differences between them carry less noise than each alone.

    Parameters
    ----------
    problem : Problem
    designs : mapping, or array of shape (D, P) or (D, N, P)
        Name -> incentive in readable values (`IncentiveSpace.unconstrained_for`). Or designs
        before their transform, as flat vectors (`DesignStudy.design_unconstrained`); with an axis
        of draws where each draw has its own (`DesignStudy.unconstrained`).
    draws : mapping
        Parameter name -> array (N, ...); missing ones take their default.
    key : typed key
    evaluation : Evaluation, optional
        Default: `ExactEvaluation`.
    score : callable, optional
        From ``score_program(problem, evaluation)``, to compile once for several calls. Threads
        only: it does not travel to other processes or into other programs.
    run : Running, optional
        How it runs. Default: two threads.
    table : str
        The name of this work, in ``run.records`` and where its progress is reported.

    Returns
    -------
    Score
        Its arrays have the shape (D, N), or (D, N, F).

    Raises
    ------
    InvalidInputError
        For designs of a wrong length, draws that do not fit the problem, or a ``score`` with an
        executor other than threads.

    Examples
    --------
    >>> from cbrl_bayes.problems import two_state
    >>> scores = evaluate_designs(two_state(), np.zeros((2, 1)), {"temperature": np.ones(3)},
    ...                           key=jax.random.key(0))
    >>> scores.objective.shape, bool(np.ptp(scores.objective) < 1e-12)
    ((2, 3), True)
    """
    evaluation, run = evaluation or ExactEvaluation(), run or Running()
    size = problem.incentive.size
    draws, num = complete_draws(problem, draws)
    if isinstance(designs, Mapping):
        designs = read_alternatives(problem, designs).points
    designs = np.asarray(designs, float)
    fits = designs.shape[1:] in ((size,), (num, size))
    if not fits or not len(designs) or not np.isfinite(designs).all():
        raise InvalidInputError(
            "designs do not fit the problem's incentive",
            received=designs.shape,
            accepted=f"finite, shape (designs, {size}) or (designs, {num}, {size})",
        )

    if score is not None and not isinstance(run.executor, ThreadExecutor | None):
        raise InvalidInputError(
            "score cannot be used outside threads of this process",
            received=run.executor,
            accepted="ThreadExecutor, or no score",
        )

    def item(index: int) -> tuple:
        points = designs if designs.ndim == 2 else designs[:, index]
        return index, {name: value[index] for name, value in draws.items()}, points

    scorer = _Scorer(problem, evaluation, key, score)
    run.each(table, scorer, item, num, on_host=evaluation.runs_on_host)
    found = run.stacked(table, num)
    return Score(**{name: np.moveaxis(value, 0, 1) for name, value in found.items()})


def readable_designs(
    problem: Problem, designs: Float[np.ndarray, "design coordinate"]
) -> dict[str, np.ndarray]:
    """Return flat designs as the incentive's arrays in readable units, each (D, ...).

    Examples
    --------
    >>> from cbrl_bayes.problems import two_state
    >>> readable_designs(two_state(), np.zeros((3, 1)))["bonus"].shape
    (3,)
    """
    space = problem.incentive
    incentives = [space.transform(space.unflatten(jnp.asarray(point))) for point in designs]
    return {name: np.stack([np.asarray(one[name]) for one in incentives]) for name in incentives[0]}


def usable_objective(scores: Score) -> np.ndarray:
    """Return objectives, -inf where one is not finite or a best response did not converge."""
    usable = np.isfinite(scores.objective) & (scores.status == SolveStatus.CONVERGED)
    return np.where(usable, scores.objective, -np.inf)


@dataclass
class _Scorer(Work):
    """Scores designs under one draw; an item is its number, its parameters and the designs."""

    problem: Problem
    evaluation: Evaluation
    key: Key[Array, ""]
    score: InitVar[Callable[..., Score] | None] = None

    def __post_init__(self, score: Callable[..., Score] | None) -> None:
        self._score = score or score_program(self.problem, self.evaluation)

    def __call__(self, item: tuple[Any, Mapping[str, Any], Array]) -> Record:
        require_no_tracing(self.evaluation, item)
        number, draw, designs = item
        parameters = {name: jnp.asarray(value) for name, value in draw.items()}
        key = jax.random.fold_in(self.key, number)
        return vars(score_designs(self.problem, self._score, designs, parameters, key))


def complete_draws(
    problem: Problem, draws: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], int]:
    """Return draws of all parameters, defaults filled in, and their number.

    Raises
    ------
    InvalidInputError
        For draws without one common leading axis, or values the problem does not accept.
    """
    sizes = {np.shape(value)[0] if np.ndim(value) else 0 for value in draws.values()}
    if len(sizes) != 1 or 0 in sizes:
        raise InvalidInputError(
            "draws need one common leading axis",
            received=sorted(sizes),
            accepted="{name: array of shape (draws, ...)}",
        )
    num = sizes.pop()
    for index in range(num):
        problem.complete_parameters({name: value[index] for name, value in draws.items()})
    defaults = {
        name: np.broadcast_to(np.asarray(value), (num, *np.shape(value)))
        for name, value in problem.default_parameters.items()
    }
    return defaults | {name: np.asarray(value, float) for name, value in draws.items()}, num
