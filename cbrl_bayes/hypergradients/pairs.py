"""Every (context, follower) pair in turn, and the weighted sum of what they say."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.hypergradients.contract import EstimateInfo
from cbrl_bayes.hypergradients.rollout_terms import Scores
from cbrl_bayes.mdp import MDP
from cbrl_bayes.problems import (
    POPULATION,
    Problem,
    SampledContexts,
    depends_on_input,
    refuse_population,
)

OnePair = Callable[[Any, Mapping[str, Any], Any, Array], tuple[Any, Any, EstimateInfo]]


def choose_contexts(
    problem: Problem, parameters: Mapping[str, Any], num: int | None, key: Array
) -> tuple[Any, Float[Array, " context"]]:
    """Return all contexts with their probabilities, or ``num`` drawn ones with equal weights."""
    if num is None:
        return problem.contexts.support(parameters, key)
    values, _ = problem.contexts.draw(parameters, key, num)
    return values, jnp.full(num, 1.0 / num)


def memory_per_pair(problem: Problem, num_contexts: int | None, memory: Any) -> Any:
    """Repeat one memory for every context and follower: leaves (C, F, ...)."""
    pairs = (num_contexts or problem.contexts.num_contexts, problem.followers.num_followers)
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(jnp.asarray(leaf), (*pairs, *jnp.shape(leaf))), memory
    )


def contexts_change(problem: Problem, num: int | None) -> bool:
    """Return whether `choose_contexts` draws new contexts at every step; memory is then useless."""
    return num is not None or isinstance(problem.contexts, SampledContexts)


def walkers_per_pair(problem: Problem, num_rollouts: int, num_contexts: int | None) -> int:
    """Return the share of ``num_rollouts`` of each context and follower, at least 1."""
    contexts = num_contexts or problem.contexts.num_contexts
    return max(1, num_rollouts // (contexts * problem.followers.num_followers))


def over_pairs(
    problem: Problem,
    parameters: Mapping[str, Any],
    contexts: tuple[Any, Float[Array, " context"]],
    memory: Any,
    one_pair: OnePair,
    *,
    key: Array,
    on_host: bool = False,
) -> tuple[Any, Any, EstimateInfo]:
    """Call ``one_pair`` for every context and follower and add up.

    Parameters
    ----------
    problem, parameters
        The problem and all parameters.
    contexts : tuple
        Context values (leading axis C) and their weights.
    memory : pytree, leaves (C, F, ...)
        What each pair kept from its last time.
    one_pair : callable
        ``(context, one follower's parameters, memory, key) -> (gradient, memory, Info)``.
    key : typed key
        Each pair derives its own.
    on_host : bool
        Walk in Python instead of in one compiled program: for followers that live outside it.

    Returns
    -------
    tuple
        Gradient summed with the weights of contexts and followers, memory, Info.
    """
    found, memory = map_pairs(
        problem, parameters, contexts, memory, one_pair, key=key, on_host=on_host
    )
    gradient, info = found
    share = pair_weights(problem, contexts[1])
    return summed(gradient, share), memory, info.combined(share.ravel())


def map_pairs(
    problem: Problem,
    parameters: Mapping[str, Any],
    contexts: tuple[Any, Float[Array, " context"]],
    memory: Any,
    one_pair: Callable[[Any, Mapping[str, Any], Any, Array], tuple[Any, Any, Any]],
    *,
    key: Array,
    on_host: bool = False,
) -> tuple[tuple[Any, Any], Any]:
    """Call ``one_pair`` for every context and follower; arguments as in `over_pairs`.

    Returns
    -------
    tuple
        The first and third of its results, leaves (C F, ...) with contexts slowest, and the
        memory, leaves (C, F, ...).
    """
    problem.refuse_aggregate()
    if POPULATION not in parameters:
        remedy = "Exact(), ZerothOrder() or LearnedModel()"
        refuse_population(problem, "this estimator", remedy)
    _refuse_other_response(problem)
    values, weights = contexts
    shape = (weights.shape[0], problem.followers.num_followers)
    index, follower = (grid.ravel() for grid in jnp.indices(shape))
    per_pair = jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], values)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), memory)

    def call(entry: tuple) -> tuple[Any, Any, Any]:
        context, number, who, kept = entry
        one = problem.follower_parameters(parameters, who)
        pair_key = jax.random.fold_in(jax.random.fold_in(key, number), who)
        return one_pair(context, one, kept, pair_key)

    first, flat, third = map_in_order(call, (per_pair, index, follower, flat), on_host=on_host)
    memory = jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), flat)
    return (first, third), memory


def pair_weights(
    problem: Problem, context_weights: Float[Array, " context"]
) -> Float[Array, "context follower"]:
    """Return how much each pair counts in the leader's objective."""
    return context_weights[:, None] * jnp.asarray(problem.followers.weights)


def summed(stacked: Any, share: Float[Array, "context follower"]) -> Any:
    """Return the weighted sum over the pairs of leaves (C F, ...)."""
    return jax.tree.map(lambda leaf: jnp.tensordot(share.ravel(), leaf, 1), stacked)


def _refuse_other_response(problem: Problem) -> None:
    """Raise unless followers play the soft optimum, which the estimators' formulas assume."""
    if problem.response_fn is not None:
        raise InvalidInputError(
            "this estimator needs followers who respond at best; those of problem "
            f"{problem.name!r} do not",
            received=problem.response_fn,
            remedy="Exact() or ZerothOrder(num_rollouts=None)",
        )


def follower_view(
    problem: Problem, context: Any, parameters: Mapping[str, Any]
) -> Callable[[Any], MDP]:
    """Return what the follower solves: unconstrained choice -> MDP."""

    def build(unconstrained: Any) -> MDP:
        return problem.mdp_fn(problem.incentive.transform(unconstrained), context, parameters)

    return build


def leader_view(
    problem: Problem, context: Any, parameters: Mapping[str, Any]
) -> Callable[[Any], tuple[MDP, Float[Array, "state action"]]]:
    """Return what the leader knows: unconstrained choice -> (MDP, its own net reward)."""

    def build(unconstrained: Any) -> tuple[MDP, Array]:
        incentive = problem.incentive.transform(unconstrained)
        mdp = problem.mdp_fn(incentive, context, parameters)
        return mdp, problem.leader_net_reward(incentive, context, parameters)

    return build


def map_in_order(fn: Callable, entries: Any, *, on_host: bool) -> Any:
    """Map over leading axes one by one: compiled, or in Python if JAX cannot trace ``fn``."""
    if not on_host:
        return jax.lax.map(fn, entries)
    count = jax.tree.leaves(entries)[0].shape[0]
    results = [fn(jax.tree.map(lambda leaf, i=i: leaf[i], entries)) for i in range(count)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)


def moved_laws(build: Callable[[Any], tuple], unconstrained: Any) -> Scores:
    """Return which laws of the MDP that ``build`` makes depend on the incentive."""
    return Scores(
        transition=depends_on_input(lambda x: build(x)[0].transition.probability, unconstrained),
        initial=depends_on_input(lambda x: build(x)[0].initial, unconstrained),
    )
