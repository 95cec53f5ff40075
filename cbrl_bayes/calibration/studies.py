r"""Are the intervals of a study as good as their word? Studies of simulated data with known truth.

Given the data, the truth and the posterior draws have the same law if inference is right. A study
maps each draw to its best design and objective. If that map were the same for all, the truth's
number would have a uniform rank among those of the draws, whatever local optima the searches end
in. It is nearly so here: truth and draws are searched alike and from the same starts, but these
starts are the common and the plug-in design, which are made from the draws and not from the truth.
Where several local optima compete, draws can be better served by them than the truth is; ranks of
optimal objective, incentive and regret are then only about uniform. They are exactly so where every
search ends in the same place from any start. Two more things break it, and both are recorded here:
the common design is optimised over some of the draws on which it is then scored, and the true
optimum may be better than what such a search finds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from cbrl_bayes.designs.programs import StudyPrograms
from cbrl_bayes.designs.running import Record, Running
from cbrl_bayes.designs.scoring import complete_draws, readable_designs
from cbrl_bayes.designs.solve import DesignSettings
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.hypergradients import FAILED_ASCENTS, AscentStatus, Estimator
from cbrl_bayes.mdp import SolveStatus
from cbrl_bayes.problems import Problem


@dataclass(frozen=True)
class DecisionRecord:
    """What R studies predicted, from N draws each, and what was true. NaN where one failed.

    Attributes
    ----------
    true_optimum : array, shape (R,)
        The truth's own optimal objective, searched as the draws' are.
    better_optimum : array, shape (R,)
        The best found when the truth is also searched as the plug-in design is.
    optimum : array, shape (R, N)
        Each draw's own optimal objective.
    true_incentive : dict of arrays, each (R, ...)
        The truth's own optimal incentive, readable.
    incentive : dict of arrays, each (R, N, ...)
        Each draw's own.
    realised : array, shape (R,)
        What the common design achieves under the truth.
    predicted : array, shape (R, N)
        What it achieves under each draw.
    broken : int array, shape (R,)
        Of the N + 1 draws and truth, those whose search failed, or where the best response to their
        own or to the common design did not converge; the number in question is then NaN.
    unsettled : int array, shape (R,)
        Those that met their step limit.
    in_common : bool array, shape (N,)
        Draws over which the common design was optimised.
    """

    true_optimum: Float[np.ndarray, " data_set"]
    better_optimum: Float[np.ndarray, " data_set"]
    optimum: Float[np.ndarray, "data_set draw"]
    true_incentive: dict[str, np.ndarray]
    incentive: dict[str, np.ndarray]
    realised: Float[np.ndarray, " data_set"]
    predicted: Float[np.ndarray, "data_set draw"]
    broken: Int[np.ndarray, " data_set"]
    unsettled: Int[np.ndarray, " data_set"]
    in_common: Bool[np.ndarray, " draw"]


def study_simulated(
    problem: Problem,
    truths: Mapping[str, np.ndarray],
    posteriors: Mapping[str, np.ndarray],
    *,
    estimator: Estimator,
    key: Key[Array, ""],
    settings: DesignSettings | None = None,
    run: Running | None = None,
) -> DecisionRecord:
    """Run the searches of `study_designs` for every simulated data set, and for its truth.

    Programs are compiled once for all data sets.

    Parameters
    ----------
    problem : Problem
    truths : mapping
        Parameter name -> array (R, ...).
    posteriors : mapping
        Parameter name -> array (R, N, ...), near-independent draws; names as in ``truths``.
    estimator : Estimator
        A compiled and exact one: noise would blur truth and draws alike.
    key : typed key
    settings : DesignSettings, optional
    run : Running, optional
        How it runs. Default: two threads. ``run.records`` receives ("simulated_studies", number).

    Returns
    -------
    DecisionRecord

    Raises
    ------
    InvalidInputError
        For truths and draws that do not fit, or an estimator that is not exact.

    Examples
    --------
    >>> from cbrl_bayes.hypergradients import Ascent, Exact, Search
    >>> from cbrl_bayes.problems import two_state
    >>> quick = Search(ascent=Ascent(num_steps=20))
    >>> record = study_simulated(
    ...     two_state(), {"temperature": np.array([0.2])}, {"temperature": np.array([[0.2, 0.3]])},
    ...     estimator=Exact(), key=jax.random.key(0),
    ...     settings=DesignSettings(search=quick, per_draw=quick))
    >>> record.optimum.shape, bool(np.isclose(record.true_optimum[0], record.optimum[0, 0]))
    ((1, 2), True)
    """
    settings, run = settings or DesignSettings(), run or Running()
    num, num_draws = _sizes(truths, posteriors)
    if not estimator.is_exact or not settings.evaluation.is_exact:
        raise InvalidInputError(
            "decision calibration needs exact designs and scores",
            received=f"{type(estimator).__name__}, {type(settings.evaluation).__name__}",
            accepted="an exact estimator and an exact evaluation",
            remedy="estimator=Exact(), evaluation=ExactEvaluation()",
        )
    work = _Study(problem, estimator, settings, num_draws, key)

    def item(index: int) -> tuple[int, dict[str, np.ndarray]]:
        """Return the draws of a data set, and the truth after them."""
        return index, {
            name: np.concatenate([values[index], np.asarray(truths[name])[index][None]])
            for name, values in posteriors.items()
        }

    run.each("simulated_studies", work, item, num)
    columns: dict[str, Any] = run.stacked("simulated_studies", num)
    for group in ("true_incentive", "incentive"):
        names = [name for name in columns if name.startswith(f"{group}.")]
        columns[group] = {name.removeprefix(f"{group}."): columns.pop(name) for name in names}
    return DecisionRecord(**columns, in_common=np.isin(np.arange(num_draws), work.programs.kept))


@dataclass
class _Study:
    """Runs the study of one data set; an item is its number, and draws with the truth behind."""

    problem: Problem
    estimator: Estimator
    settings: DesignSettings
    num_draws: int
    key: Key[Array, ""]

    def __post_init__(self) -> None:
        self.programs = StudyPrograms(self.problem, self.estimator, self.settings, self.num_draws)

    def __reduce__(self) -> tuple:
        """Travel without what was compiled."""
        return type(self), tuple(getattr(self, entry.name) for entry in fields(self))

    def __call__(self, item: tuple[int, Mapping[str, np.ndarray]]) -> Record:
        number, draws = item
        if not all(np.isfinite(value).all() for value in draws.values()):
            return self._nothing()
        draws, _ = complete_draws(self.problem, draws)
        key = jax.random.fold_in(self.key, number)
        solved = self.programs.solve(draws, key=key, run=Running(num_workers=1))
        optimum = _usable(solved.own("objective"), solved.own("status"))
        achieved = _usable(solved.for_all("objective")[0], solved.for_all("status")[0])
        status = solved.searched["status"]
        broken = np.isin(status, FAILED_ASCENTS) | np.isnan(optimum) | np.isnan(achieved)
        truth = {name: jnp.asarray(value[-1]) for name, value in draws.items()}
        plug_key = jax.random.split(key, 3)[0]
        harder = self.programs.plug_in.run(truth, key=jax.random.fold_in(plug_key, 1))
        incentive = readable_designs(self.problem, solved.own_points)
        return {
            "true_optimum": optimum[-1],
            "optimum": optimum[:-1],
            "better_optimum": np.fmax.reduce([optimum[-1], *harder.restart_objectives]),
            **{f"true_incentive.{name}": value[-1] for name, value in incentive.items()},
            **{f"incentive.{name}": value[:-1] for name, value in incentive.items()},
            "realised": achieved[-1],
            "predicted": achieved[:-1],
            "broken": broken.sum(),
            "unsettled": (status == AscentStatus.STEP_LIMIT).sum(),
        }

    def _nothing(self) -> Record:
        """Return the record of a data set whose fit gave no finite draws."""
        space, num = self.problem.incentive, self.num_draws
        readable = {n: np.shape(v) for n, v in space.transform(space.initial).items()}
        one, many = np.array(np.nan), np.full(num, np.nan)
        return {
            **dict.fromkeys(("true_optimum", "better_optimum", "realised"), one),
            **dict.fromkeys(("optimum", "predicted"), many),
            **{f"true_incentive.{n}": np.full(shape, np.nan) for n, shape in readable.items()},
            **{f"incentive.{n}": np.full((num, *shape), np.nan) for n, shape in readable.items()},
            "broken": np.array(num + 1),
            "unsettled": np.array(0),
        }


def _usable(
    objective: Float[np.ndarray, " draw"], status: Int[np.ndarray, " draw"]
) -> Float[np.ndarray, " draw"]:
    """Return objectives; NaN where one is not finite or a best response did not converge."""
    solved = np.isfinite(objective) & (status == SolveStatus.CONVERGED)
    return np.where(solved, objective, np.nan)


def _sizes(
    truths: Mapping[str, np.ndarray], posteriors: Mapping[str, np.ndarray]
) -> tuple[int, int]:
    """Return R and N, after checking that truths and draws fit together."""
    shapes = {np.shape(value)[:2] for value in posteriors.values()}
    fits = set(truths) == set(posteriors) and len(shapes) == 1
    if fits:
        num, draws = next(iter(shapes))
        fits = (
            num >= 1
            and draws >= 1
            and all(
                np.shape(posteriors[n]) == (num, draws, *np.shape(v)[1:]) and len(v) == num
                for n, v in truths.items()
            )
        )
    if not fits:
        raise InvalidInputError(
            "truths and posterior draws do not fit together",
            received=f"{ {n: np.shape(v) for n, v in truths.items()} }, "
            f"{ {n: np.shape(v) for n, v in posteriors.items()} }",
            accepted="the same names, (R, ...) and (R, N, ...)",
        )
    return num, draws
