"""How one follower responds in one context, and the list of all contexts and followers."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cbrl_bayes.mdp import MDP, BestResponse, best_response

if TYPE_CHECKING:
    from cbrl_bayes.problems.record import Incentive, Parameters, Problem


def respond(
    problem: "Problem",
    incentive: "Incentive",
    context: Any,
    parameters: "Parameters",
    *,
    initial_values: Float[Array, " state"] | None = None,
) -> tuple[MDP, BestResponse]:
    """Build one follower's MDP and solve it, or respond as ``problem.response_fn`` says.

    Parameters
    ----------
    problem : Problem
    incentive : mapping
        Readable incentive, as ``problem.incentive.transform`` returns it.
    context : pytree
        One context value.
    parameters : mapping
        One follower's parameters (`Problem.follower_parameters`).
    initial_values : array, shape (S,), optional
        Warm start.

    Returns
    -------
    tuple of MDP and BestResponse
    """
    mdp = problem.mdp_fn(incentive, context, parameters)
    if problem.response_fn is not None:
        return mdp, problem.response_fn(mdp, parameters, initial_values)
    return mdp, best_response(mdp, initial_values=initial_values)


def each_pair(values: Any, num_contexts: int, problem: "Problem") -> tuple[Any, Array]:
    """List every (context, follower), contexts slowest."""
    num_followers = problem.followers.num_followers
    contexts = jax.tree.map(
        lambda leaf: jnp.repeat(jnp.asarray(leaf), num_followers, axis=0), values
    )
    return contexts, jnp.tile(jnp.arange(num_followers), num_contexts)
