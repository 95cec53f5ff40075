"""Worlds that are shifted away from the posterior: temperature, contexts, transitions, anything."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from cbrl_bayes.errors import InvalidInputError, require_ranges
from cbrl_bayes.mdp import MDP, DenseTransition, Transition, replace_fields
from cbrl_bayes.problems import DiscreteContexts, Problem

Draws = Mapping[str, np.ndarray]


@runtime_checkable
class Stress(Protocol):
    """A shift of the world. Followers know the shifted world; the leader did not foresee it."""

    @property
    def name(self) -> str:
        """A short name; stresses of one test have different names."""

    def shift(self, problem: Problem, draws: Draws) -> tuple[Problem, dict[str, np.ndarray]]:
        """Return the shifted problem and draws; draws hold every parameter, (N, ...)."""


@dataclass(frozen=True)
class TemperatureShift:
    r"""Every follower's temperature is ``factor`` times what the posterior says.

    Rationality is divided by ``factor``. If the problem has no parameter ``temperature``, the
    temperature of its MDPs is multiplied.

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
        require_ranges(self, "numbers of TemperatureShift", factor="(0, inf)")

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
        require_ranges(self, "numbers of ContextShift", share="(0, 1]")

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
                f"problem {problem.name!r} samples its contexts; they have no law to shift",
                remedy="AlteredProblem with a function of your own",
            )
        if isinstance(self.towards, str):
            aim = np.array([float(name == self.towards) for name in contexts.names])
        else:
            aim = np.asarray(self.towards, float)
        is_law = aim.shape == (contexts.num_contexts,) and (aim >= 0).all()
        if not is_law or not abs(aim.sum() - 1) <= 1e-8:
            raise InvalidInputError(
                "the stress names a context or a law that the problem does not have",
                received=self.towards,
                accepted=f"one of {', '.join(contexts.names)}, or "
                f"{contexts.num_contexts} numbers >= 0 that sum to one",
            )
        law = (1.0 - self.share) * draws["context_probability"] + self.share * aim
        return problem, {**draws, "context_probability": law}


@dataclass(frozen=True)
class TransitionBlur:
    r"""Transitions follow :math:`(1 - s)\,P + s\,U` instead of P.

    U is uniform over the states that can follow in each state and action. A state that is listed
    several times counts once.

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
        require_ranges(self, "numbers of TransitionBlur", share="(0, 1]")

    @property
    def name(self) -> str:
        """Share."""
        return f"transitions {100 * self.share:g} % uniform"

    def shift(self, problem: Problem, draws: Draws) -> tuple[Problem, dict[str, np.ndarray]]:
        """See `Stress.shift`."""

        def blurred(mdp: MDP) -> MDP:
            mixed = (1.0 - self.share) * mdp.transition.probability
            mixed += self.share * _uniform(mdp.transition)
            return replace_fields(mdp, transition=mdp.transition.with_probability(mixed))

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
        sizes = [one.incentive.size for one in (problem, altered)]
        if before != after or sizes[0] != sizes[1]:
            raise InvalidInputError(
                f"stress {self.name!r} changes the problem's parameters or incentive",
                received=f"{', '.join(after)}; {sizes[1]} numbers",
                accepted=f"{', '.join(before)}; {sizes[0]} numbers",
            )
        return altered, dict(draws)


def _uniform(transition: Transition) -> Array:
    """Return the uniform law over the states that can follow, in the layout of ``transition``."""
    listed = (transition.probability > 0.0).astype(transition.probability.dtype)
    times = jnp.ones_like(listed)
    if not isinstance(transition, DenseTransition):
        same = transition.successor[..., :, None] == transition.successor[..., None, :]
        times = (same * listed[..., None, :]).sum(-1)  # how often the state of a slot is listed
    once = listed / jnp.maximum(times, 1.0)
    return once / jnp.maximum(once.sum(-1, keepdims=True), 1.0)


def _with_mdp(problem: Problem, change: Callable[[MDP], MDP]) -> Problem:
    """Return the problem with every follower's MDP changed."""
    build = problem.mdp_fn
    return replace(problem, mdp_fn=lambda x, context, p: change(build(x, context, p)))
