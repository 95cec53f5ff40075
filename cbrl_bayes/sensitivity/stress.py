"""Stress tests: designs in worlds that are shifted away from the posterior."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from cbrl_bayes.designs.average import PosteriorCriterion
from cbrl_bayes.designs.evaluation import Evaluation
from cbrl_bayes.designs.running import Record, Running
from cbrl_bayes.designs.scoring import complete_draws, evaluate_designs
from cbrl_bayes.designs.thinning import evenly_spaced
from cbrl_bayes.errors import InvalidInputError, explain
from cbrl_bayes.hypergradients import Estimator, Exact, Search, SearchProgram
from cbrl_bayes.mdp import MDP, SuccessorTransition, Transition, replace_fields
from cbrl_bayes.problems import DiscreteContexts, Problem

__all__ = [
    "AlteredProblem",
    "ContextShift",
    "Stress",
    "StressScores",
    "TemperatureShift",
    "TransitionBlur",
    "stress_designs",
]

Draws = Mapping[str, np.ndarray]
REOPTIMISED = "reoptimised"


class Stress(Protocol):
    """A shift of the world. Followers know the world they live in; the leader did not."""

    @property
    def name(self) -> str:
        """A short name, unlike that of other stresses in the same test."""

    def shift(self, problem: Problem, draws: Draws) -> tuple[Problem, dict[str, np.ndarray]]:
        """Return the shifted problem and draws; draws hold every parameter, (N, ...)."""


@dataclass(frozen=True)
class TemperatureShift:
    r"""Every follower's temperature is ``factor`` times what the posterior says.

    Rationality is divided by it. A problem without a parameter ``temperature`` has the one of its
    MDPs multiplied.

    Parameters
    ----------
    factor : float
        > 0; above 1 followers are less rational than inferred.

    Examples
    --------
    >>> TemperatureShift(2.0).name
    'temperature x 2'
    """

    factor: float

    def __post_init__(self) -> None:
        if not 0.0 < self.factor < np.inf:
            raise InvalidInputError(
                explain("factor is out of range", received=self.factor, accepted="> 0")
            )

    @property
    def name(self) -> str:
        """Factor and all."""
        return f"temperature x {self.factor:g}"

    def shift(self, problem: Problem, draws: Draws) -> tuple[Problem, dict[str, np.ndarray]]:
        """See `Stress.shift`."""
        if "temperature" in draws:
            return problem, {**draws, "temperature": draws["temperature"] * self.factor}
        return problem.heated(self.factor), dict(draws)


@dataclass(frozen=True)
class ContextShift:
    r"""Contexts follow :math:`(1 - s)\,p + s\,q` instead of the posterior's law p.

    Parameters
    ----------
    towards : str or tuple of float
        q: all mass on the named context, or a law over the contexts.
    share : float
        s in (0, 1].

    Examples
    --------
    >>> ContextShift("rough", 0.25).name
    'contexts 25 % towards rough'
    """

    towards: str | tuple[float, ...]
    share: float

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise InvalidInputError(
                explain("share is out of range", received=self.share, accepted="(0, 1]")
            )

    @property
    def name(self) -> str:
        """Share and aim."""
        aim = self.towards
        text = aim if isinstance(aim, str) else ", ".join(f"{chance:g}" for chance in aim)
        return f"contexts {100 * self.share:g} % towards {text}"

    def shift(self, problem: Problem, draws: Draws) -> tuple[Problem, dict[str, np.ndarray]]:
        """See `Stress.shift`."""
        contexts = problem.contexts
        if not isinstance(contexts, DiscreteContexts):
            raise InvalidInputError(
                explain(
                    f"contexts of problem {problem.name!r} are sampled, not listed",
                    remedy="AlteredProblem, with a function of your own",
                )
            )
        if isinstance(self.towards, str):
            aim = np.array([float(name == self.towards) for name in contexts.names])
        else:
            aim = np.asarray(self.towards, float)
        is_law = aim.shape == (contexts.num_contexts,) and (aim >= 0).all()
        if not is_law or not abs(aim.sum() - 1) <= 1e-8:
            raise InvalidInputError(
                explain(
                    "this is no law over the problem's contexts",
                    received=self.towards,
                    accepted=f"one of {', '.join(contexts.names)}, or "
                    f"{contexts.num_contexts} numbers >= 0 that sum to one",
                )
            )
        law = (1.0 - self.share) * draws["context_probability"] + self.share * aim
        return problem, {**draws, "context_probability": law}


@dataclass(frozen=True)
class TransitionBlur:
    r"""Transitions follow :math:`(1 - s)\,P + s\,U` instead of P.

    U is uniform over the states that P gives any chance, in each state and action; a state that is
    listed several times counts once.

    Parameters
    ----------
    share : float
        s in (0, 1].

    Examples
    --------
    >>> TransitionBlur(0.2).name
    'transitions 20 % uniform'
    """

    share: float

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise InvalidInputError(
                explain("share is out of range", received=self.share, accepted="(0, 1]")
            )

    @property
    def name(self) -> str:
        """Share."""
        return f"transitions {100 * self.share:g} % uniform"

    def shift(self, problem: Problem, draws: Draws) -> tuple[Problem, dict[str, np.ndarray]]:
        """See `Stress.shift`."""

        def blurred(mdp: MDP) -> MDP:
            mixed = (1.0 - self.share) * mdp.transition.probability
            mixed += self.share * _uniform(mdp.transition)
            return replace_fields(mdp, transition=replace(mdp.transition, probability=mixed))

        return _with_mdp(problem, blurred), dict(draws)


@dataclass(frozen=True)
class AlteredProblem:
    """Any other world.

    Parameters
    ----------
    name : str
    alter : callable
        Problem -> Problem with the same incentive space and parameters.
    """

    name: str
    alter: Callable[[Problem], Problem]

    def shift(self, problem: Problem, draws: Draws) -> tuple[Problem, dict[str, np.ndarray]]:
        """See `Stress.shift`."""
        altered = self.alter(problem)
        before, after = (sorted(p.default_parameters) for p in (problem, altered))
        sizes = [p.incentive.size for p in (problem, altered)]
        if before != after or sizes[0] != sizes[1]:
            raise InvalidInputError(
                explain(
                    f"stress {self.name!r} changes the parameters or the incentive",
                    received=f"{', '.join(after)}; {sizes[1]} numbers",
                    accepted=f"{', '.join(before)}; {sizes[0]} numbers",
                )
            )
        return altered, dict(draws)


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
    evaluation: Evaluation | None = None,
    search: Search | None = None,
    estimator: Estimator | None = None,
    num_search_draws: int = 20,
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
    evaluation : Evaluation, optional
        Default: `ExactEvaluation`.
    search : Search, optional
        Where given, a design "reoptimised" joins in every world: the common design searched anew
        there, from the design that is best there. Without it regret is only against the given
        designs, and a lower bound of what better knowledge of that world would gain.
    estimator : Estimator, optional
        For that search. Default: `Exact`.
    num_search_draws : int
        Evenly spaced draws the search averages over.
    run : Running, optional
        How it runs. Default: two threads.

    Returns
    -------
    StressScores

    Raises
    ------
    InvalidInputError
        For no designs, stresses with equal names or that do not fit the problem.

    Examples
    --------
    >>> from cbrl_bayes.problems import two_state
    >>> found = stress_designs(two_state(), {"none paid": np.zeros(1), "one paid": np.ones(1)},
    ...                        {"temperature": np.array([0.2, 0.3])}, [TemperatureShift(2.0)],
    ...                        key=jax.random.key(0))
    >>> found.stresses, found.objective.shape, [found.designs[i] for i in found.best]
    (('none', 'temperature x 2'), (2, 2, 2), ['one paid', 'one paid'])
    """
    names = ("none", *(stress.name for stress in stresses))
    if not designs or not stresses or len(set(names)) < len(names) or REOPTIMISED in designs:
        raise InvalidInputError(
            explain(
                "a stress test needs designs, and stresses with different names",
                received=f"designs {tuple(designs)}, stresses {names[1:]}",
                accepted=f"at least one of each; 'none' and {REOPTIMISED!r} are taken",
            )
        )
    run = run or Running()
    complete, _ = complete_draws(problem, draws)
    worlds = [(problem, complete), *(stress.shift(problem, complete) for stress in stresses)]
    score_key, search_key = jax.random.split(key)
    given = np.stack([np.asarray(point, float) for point in designs.values()])

    def scored(world: Problem, shifted: Draws, points: np.ndarray, table: str) -> Any:
        return evaluate_designs(
            world, points, shifted, key=score_key, evaluation=evaluation, run=run, table=table
        )

    found, moved, ended = [], [], []
    for number, (world, shifted) in enumerate(worlds):
        scores = scored(world, shifted, given, f"world_{number}")
        if search is not None:
            begin = given[int(_best(scores.objective))]
            again = run.once(
                f"search_in_world_{number}",
                partial(
                    _search_again,
                    world,
                    shifted,
                    begin,
                    search,
                    estimator or Exact(),
                    num_search_draws,
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


def _best(objective: Float[np.ndarray, "*stress design draw"]) -> Int[np.ndarray, "*stress"]:
    """Return which design has the largest mean over draws; one that is not finite has none."""
    mean = objective.mean(-1)
    return np.where(np.isfinite(mean), mean, -np.inf).argmax(-1)


def _search_again(
    problem: Problem,
    draws: Draws,
    begin: np.ndarray,
    search: Search,
    estimator: Estimator,
    num_draws: int,
    key: Key[Array, ""],
) -> Record:
    """Return the design that maximises the mean objective over some draws, and how it ended."""
    num = len(next(iter(draws.values())))
    kept = evenly_spaced(num, num_draws)
    subset = {name: jnp.asarray(value[kept]) for name, value in draws.items()}
    program = SearchProgram(problem, PosteriorCriterion(estimator, len(kept)), search)
    found = program.run(subset, key=key, start=problem.incentive.unflatten(jnp.asarray(begin)))
    point = np.asarray(problem.incentive.flatten(found.best.unconstrained))
    return {"point": point, "status": np.array(int(found.best.status))}


def _uniform(transition: Transition) -> Array:
    """Return the uniform law over the states that can follow, in the layout of ``transition``."""
    listed = (transition.probability > 0.0).astype(transition.probability.dtype)
    times = jnp.ones_like(listed)
    if isinstance(transition, SuccessorTransition):
        same = transition.successor[..., :, None] == transition.successor[..., None, :]
        times = (same * listed[..., None, :]).sum(-1)  # how often the state of a slot is listed
    once = listed / jnp.maximum(times, 1.0)
    return once / jnp.maximum(once.sum(-1, keepdims=True), 1.0)


def _with_mdp(problem: Problem, change: Callable[[MDP], MDP]) -> Problem:
    """Return the problem with every follower's MDP changed."""
    build = problem.mdp_fn
    return replace(problem, mdp_fn=lambda x, context, p: change(build(x, context, p)))
