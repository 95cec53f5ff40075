"""A problem whose transition law is a parameter: learned, drawn from a posterior, or stressed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import MDP, replace_fields
from cbrl_bayes.problems.contexts import DiscreteContexts
from cbrl_bayes.problems.dependence import depends_on_input
from cbrl_bayes.problems.record import Problem

LAW = "transition_probability"


def with_unknown_law(problem: Problem) -> Problem:
    """Return the problem with its transition law as one more parameter.

    The parameter ``transition_probability`` has the shape (S, A, K) of the law that ``mdp_fn``
    states, or (C, S, A, K) if that differs between contexts, and its values by default. It is the
    law at the incentive where searches begin: where the incentive moves the law, the probabilities
    at another incentive are those times ``P_x / P_initial`` of the stated law, made to sum to one.

    Parameters
    ----------
    problem : Problem
        Its followers share one law.

    Returns
    -------
    Problem

    Raises
    ------
    InvalidInputError
        If the law depends on the context and contexts are sampled, if it differs between
        followers, or if there already is such a parameter.

    Examples
    --------
    >>> from cbrl_bayes.problems import four_rooms
    >>> with_unknown_law(four_rooms()).default_parameters["transition_probability"].shape
    (104, 4, 4)
    """
    if LAW in problem.parameters:
        raise InvalidInputError(f"problem {problem.name!r} already has a parameter {LAW!r}")
    parameters = problem.default_parameters
    initial = problem.incentive.transform(problem.incentive.initial)
    values, _ = problem.contexts.support(parameters, jax.random.key(0))

    depends = law_dependence(problem, parameters)
    if depends.follower:
        raise InvalidInputError(
            f"followers of problem {problem.name!r} have transition laws of their own",
            accepted="one law for all followers",
        )
    by_context = depends.context
    if by_context and not isinstance(problem.contexts, DiscreteContexts):
        raise InvalidInputError(
            f"the transition law of problem {problem.name!r} depends on contexts that are sampled",
            accepted="discrete contexts, or one law for all",
        )
    one = problem.follower_parameters(parameters, 0)

    def law(context: Any) -> Array:
        return problem.mdp_fn(initial, context, one).transition.probability

    first = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], values)
    stated = jax.vmap(law)(values) if by_context else law(first)
    known = values if by_context else None
    mdp_fn = WithLaw(problem.mdp_fn, known, initial if depends.incentive else None)
    return replace(
        problem,
        mdp_fn=mdp_fn,
        parameters={**problem.parameters, LAW: stated},
        parameter_units={**problem.parameter_units, LAW: "probability"},
    )


class LawDependence(NamedTuple):
    """What a problem's transition law, successors included, can depend on."""

    context: bool
    follower: bool
    incentive: bool


def law_dependence(problem: Problem, parameters: Mapping[str, Any]) -> LawDependence:
    """Read off the problem's functions what its transition law depends on."""
    values, _ = problem.contexts.support(parameters, jax.random.key(0))
    context = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], values)
    initial, follower = problem.incentive.initial, jnp.zeros((), int)

    def law(x: Any, where: Any, who: Any) -> list[Array]:
        one = problem.follower_parameters(parameters, who)
        mdp = problem.mdp_fn(problem.incentive.transform(x), where, one)
        return jax.tree.leaves(mdp.transition)

    return LawDependence(
        context=depends_on_input(lambda c: law(initial, c, follower), context),
        follower=depends_on_input(lambda f: law(initial, context, f), follower),
        incentive=depends_on_input(lambda x: law(x, context, follower), initial),
    )


@dataclass(frozen=True)
class WithLaw:
    """A problem's ``mdp_fn`` that takes its transition law from the parameters.

    Parameters
    ----------
    function : callable
        The ``mdp_fn`` that states the successors, and how the incentive moves the law.
    contexts : pytree or None
        Values of all contexts, where each has its own law.
    initial : mapping or None
        The incentive that the law belongs to, where the incentive moves it.
    """

    function: Callable[..., MDP]
    contexts: Any
    initial: Mapping[str, Any] | None

    def __call__(self, incentive: Any, context: Any, parameters: Mapping[str, Any]) -> MDP:
        """Return the MDP with the law in ``parameters``."""
        given = dict(parameters)
        law = given.pop(LAW)
        mdp = self.function(incentive, context, given)
        if self.contexts is not None:
            law = law[_place(context, self.contexts)]
        if self.initial is not None:
            before = self.function(self.initial, context, given).transition.probability
            ratio = mdp.transition.probability / jnp.where(before > 0.0, before, 1.0)
            law = law * jnp.where(before > 0.0, ratio, 0.0)
            law = law / jnp.maximum(law.sum(-1, keepdims=True), jnp.finfo(float).tiny)
        return replace_fields(mdp, transition=mdp.transition.with_probability(law))

    def __repr__(self) -> str:
        return repr(self.function)


def _place(context: Any, contexts: Any) -> Array:
    """Return which of the contexts a value is."""
    same = [
        (jnp.asarray(every) == one).reshape(jnp.shape(every)[0], -1).all(1)
        for one, every in zip(jax.tree.leaves(context), jax.tree.leaves(contexts), strict=True)
    ]
    return jnp.stack(same).all(0).argmax()
