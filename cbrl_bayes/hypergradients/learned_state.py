"""What an estimator that learns a model keeps from step to step."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import is_traced
from cbrl_bayes.problems import Problem


class ModelState(NamedTuple):
    """What is kept from step to step.

    Attributes
    ----------
    followers : pytree, leaves (C, F, ...)
        Each follower's memory.
    counts : array, shape (C or 1, F or 1, S, A, K)
        Transitions seen; one table where pairs share a law.
    visits : array, shape (C, F, S, A)
        How often each action was taken.
    values : array, shape (C, F, S)
        Soft values in the learned model, to begin the next solve from.
    correction : pytree like the incentive, or ()
        What fresh episodes added to the learned model's gradient, averaged over steps.
    """

    followers: Any
    counts: Float[Array, "context follower state action successor"]
    visits: Float[Array, "context follower state action"]
    values: Float[Array, "context follower state"]
    correction: Any = ()


def of_pair(table: Array, number: Int[Array, "2"]) -> Array:
    """Return a pair's entry of a table whose shared axes have the length 1."""
    context, follower = (
        jnp.where(size > 1, index, 0) for size, index in zip(table.shape, number, strict=False)
    )
    return table[context, follower]


def require_fitting(problem: Problem, state: ModelState, num_contexts: int | None) -> None:
    """Raise for what was learned in another problem, or for counts that are none."""
    S, A, K = problem.num_states, problem.num_actions, problem.num_successors
    pairs = (num_contexts or problem.contexts.num_contexts, problem.followers.num_followers)
    found = {name: jnp.shape(getattr(state, name)) for name in ("counts", "visits", "values")}
    shared = tuple(
        1 if given == 1 else full for given, full in zip(found["counts"], pairs, strict=False)
    )
    wanted = {"counts": (*shared, S, A, K), "visits": (*pairs, S, A), "values": (*pairs, S)}
    wrong = [name for name in wanted if found[name] != wanted[name]]
    if wrong:
        raise InvalidInputError(
            f"what was learned does not fit problem {problem.name!r}",
            received=", ".join(f"{name} of shape {found[name]}" for name in wrong),
            accepted=", ".join(f"{name} of shape {wanted[name]}" for name in wrong),
            remedy="what this estimator learned in this problem, or its init(...)",
        )
    if is_traced(state.counts):
        return
    counts = np.asarray(state.counts)
    wrong_counts = counts[~(np.isfinite(counts) & (counts >= 0.0))]
    if wrong_counts.size:
        raise InvalidInputError(
            "counts of transitions are no counts",
            received=f"{wrong_counts.size} such entries, the first {wrong_counts[0]:g}",
            accepted="finite numbers >= 0",
        )
