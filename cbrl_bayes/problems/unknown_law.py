"""A problem whose transition law is a parameter: learned, drawn from a posterior, or stressed."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import MDP, ROW_SUM_TOLERANCE, DenseTransition, replace_fields
from cbrl_bayes.problems.contexts import DiscreteContexts
from cbrl_bayes.problems.dependence import depends_on_input
from cbrl_bayes.problems.equilibrium import refuse_population, start_of_crowd
from cbrl_bayes.problems.record import Problem
from cbrl_bayes.problems.successors import first_equal, merged_probability

LAW = "transition_probability"


def with_unknown_law(problem: Problem) -> Problem:
    """Return the problem with its transition law as one more parameter.

    The parameter ``transition_probability`` has the shape (S, A, K) of the law that ``mdp_fn``
    states, or (C, S, A, K) if that differs between contexts, and its values by default. It is
    ``uncertain``: `cbrl_bayes.infer` learns it, and designs, objectives and regrets follow its
    draws. It is the law at the incentive where searches begin: where the incentive moves the law,
    the probabilities at another incentive are those times ``P_x / P_initial`` of the stated law,
    made to sum to one. Which states can follow is known: those to which ``mdp_fn`` gives some
    probability there.

    Parameters from which ``mdp_fn`` made the law have no more effect on it.

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
        raise InvalidInputError(
            f"problem {problem.name!r} already has a parameter {LAW!r}",
            remedy="the problem as it was before its law became a parameter; or design with Exact "
            "under the draws of its law",
        )
    refuse_population(problem, "an unknown law", "the law stated in mdp_fn")
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
    # In a state that ends the episode a law need not be a distribution; a parameter must.
    whole = jnp.abs(stated.sum(-1, keepdims=True) - 1.0) < ROW_SUM_TOLERANCE
    stated = jnp.where(whole, stated, jnp.zeros(stated.shape).at[..., 0].set(1.0))
    known = values if by_context else None
    mdp_fn = WithLaw(problem.mdp_fn, known, initial if depends.incentive else None)
    return replace(
        problem,
        mdp_fn=mdp_fn,
        parameters={**problem.parameters, LAW: stated},
        parameter_units={**problem.parameter_units, LAW: "probability"},
        uncertain=(*problem.uncertain, LAW),
        laws=(*problem.laws, LAW),
    )


def has_unknown_law(problem: Problem) -> bool:
    """Return whether the transition law is a parameter that is not known."""
    return LAW in problem.parameters and LAW in problem.uncertain


class LawSupport(NamedTuple):
    """What is known of the parameter `LAW` before anything is seen.

    Attributes
    ----------
    successor : int array, shape (..., S, A, K)
        The state that each place stands for.
    first : int array, same shape
        The first place of the row that stands for the same state.
    possible : bool array, same shape
        Places that can have some probability. Those are the states to which the problem's own law
        gives some; one that is listed twice counts in its first place. Pairs of states that end
        the episode have their first place.
    terminal : bool array, shape (..., S)
        States that end the episode.
    """

    successor: np.ndarray
    first: np.ndarray
    possible: np.ndarray
    terminal: np.ndarray


def law_support(problem: Problem) -> LawSupport:
    """Return which states can follow which pair, in the axes of the parameter `LAW`.

    Parameters
    ----------
    problem : Problem
        From `with_unknown_law`.

    Examples
    --------
    >>> from cbrl_bayes.problems import contract_design
    >>> law_support(with_unknown_law(contract_design())).possible[0, 1].tolist()
    [False, True, True]
    """
    refuse_population(problem, "an unknown law", "the law stated in mdp_fn")
    parameters = problem.default_parameters
    initial = problem.incentive.transform(problem.incentive.initial)
    values, _ = problem.contexts.support(parameters, jax.random.key(0))
    one = problem.follower_parameters(parameters, 0)

    def of_context(context: Any) -> Any:
        mdp = problem.mdp_fn(initial, context, one)
        law = mdp.transition
        shape = law.probability.shape
        place = jnp.broadcast_to(jnp.arange(shape[-1]), shape)
        listed = place if isinstance(law, DenseTransition) else law.successor
        first = first_equal(listed)
        possible = (merged_probability(law) > 0.0) & (first == place)
        possible &= (jnp.asarray(mdp.is_open) != 0)[..., None]
        parts: Any = (listed, first, possible, jnp.asarray(mdp.terminal, bool))
        return LawSupport(*parts)

    found: LawSupport = jax.tree.map(np.asarray, jax.vmap(of_context)(values))
    possible, terminal = found.possible, found.terminal
    if parameters[LAW].ndim == 3:  # one law: it matters wherever some context goes on
        possible, terminal = possible.any(0), terminal.all(0)
        found = LawSupport(found.successor[0], found.first[0], possible, terminal)
    nothing = terminal[..., None, None] | ~possible.any(-1, keepdims=True)
    alone = np.arange(possible.shape[-1]) == 0
    return found._replace(possible=np.where(nothing, alone, possible))


class LawDependence(NamedTuple):
    """What a problem's transition law, successors included, can depend on."""

    context: bool
    follower: bool
    incentive: bool


def law_dependence(problem: Problem, parameters: Mapping[str, Any]) -> LawDependence:
    """Read off the problem's functions what its transition law depends on."""
    parameters = start_of_crowd(problem, parameters)
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


def law_moves_with(problem: Problem, names: Collection[str]) -> bool:
    """Return whether the stated transition law depends on any of some parameters.

    Examples
    --------
    >>> from cbrl_bayes.problems import bus_replacement, four_rooms
    >>> law_moves_with(four_rooms(), ["temperature"])
    False
    >>> law_moves_with(bus_replacement(), ["increment_probability"])
    True
    """
    known = start_of_crowd(problem, problem.default_parameters)
    values, _ = problem.contexts.support(known, jax.random.key(0))
    context = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], values)
    incentive = problem.incentive.transform(problem.incentive.initial)

    def law(some: Mapping[str, Any]) -> list[Array]:
        one = problem.follower_parameters({**known, **some}, 0)
        return jax.tree.leaves(problem.mdp_fn(incentive, context, one).transition)

    some = {name: jnp.asarray(known[name]) for name in names if name in known}
    return bool(some) and depends_on_input(law, some)


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
            before = merged_probability(self.function(self.initial, context, given).transition)
            ratio = merged_probability(mdp.transition) / jnp.where(before > 0.0, before, 1.0)
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
