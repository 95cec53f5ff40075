"""How much of what followers do under a design is where little was seen."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from cbrl_bayes.mdp import occupancy
from cbrl_bayes.problems import Problem, respond, settled
from cbrl_bayes.problems.response import each_pair


def seldom_share(
    problem: Problem,
    designs: Float[np.ndarray, "design coordinate"],
    parameters: Mapping[str, Any],
    seldom: Bool[np.ndarray, "... state action"],
    *,
    key: Key[Array, ""],
) -> Float[np.ndarray, " design"]:
    """Return the share of followers' discounted visits in pairs that were seldom seen.

    Parameters
    ----------
    problem : Problem
    designs : array, shape (D, P)
        Before their transform.
    parameters : mapping
        All of them.
    seldom : bool array, shape (S, A), or (C, S, A) where contexts differ
    key : typed key
        For contexts that are sampled.

    Returns
    -------
    array, shape (D,)
        In [0, 1], averaged over contexts and followers by their weights.

    Examples
    --------
    >>> from cbrl_bayes.problems import two_state
    >>> all_of_it = np.array([[True, True], [True, True]])
    >>> problem = two_state()
    >>> seldom_share(problem, np.zeros((1, 1)), problem.default_parameters, all_of_it,
    ...              key=jax.random.key(0)).tolist()
    [1.0]
    """
    marked = jnp.asarray(seldom, float)
    parameters = {name: jnp.asarray(value) for name, value in parameters.items()}

    def of_design(point: Array) -> Array:
        incentive = problem.incentive.transform(problem.incentive.unflatten(point))
        given = settled(problem, incentive, parameters, key=key)
        values, weights = problem.contexts.support(given, key)
        num, F = weights.shape[0], problem.followers.num_followers

        def of_pair(entry: tuple) -> Array:
            (context, follower), number = entry
            one = problem.follower_parameters(given, follower)
            mdp, response = respond(problem, incentive, context, one)
            visits = occupancy(mdp, response.policy)
            own = marked[number // F] if marked.ndim == 3 else marked
            return (visits * own).sum() / visits.sum()

        pairs = each_pair(values, num, problem)
        share = jax.lax.map(of_pair, (pairs, jnp.arange(num * F))).reshape(num, F)
        mass = jnp.asarray(problem.followers.weights)
        return weights @ share @ mass / mass.sum()

    program = jax.jit(lambda points: jax.lax.map(of_design, points))
    return np.clip(np.asarray(program(jnp.asarray(designs))), 0.0, 1.0)
