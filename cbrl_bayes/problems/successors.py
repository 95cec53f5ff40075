"""What a transition law lists as possible, where a state may stand among the successors twice."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cbrl_bayes.mdp import DenseTransition, Transition


def merged_probability(transition: Transition) -> Float[Array, "state action successor"]:
    """Return the probability of each listed state, equal ones added up.

    Examples
    --------
    >>> from cbrl_bayes.mdp import SuccessorTransition
    >>> law = SuccessorTransition(jnp.array([[[0, 0]]]), jnp.array([[[0.3, 0.7]]]))
    >>> merged_probability(law).tolist()
    [[[1.0, 1.0]]]
    """
    if not isinstance(transition, DenseTransition):
        listed = transition.successor
        equal = (listed[..., :, None] == listed[..., None, :]).astype(float)
        return jnp.einsum("sakj,saj->sak", equal, transition.probability)
    return transition.probability


def possible_successors(transition: Transition) -> Float[Array, "state action successor"]:
    """Return a uniform law over the states that can follow each pair.

    Those are the listed successors, each in the first place where it stands, or in a full table
    the states of positive probability. A pair of which the table says nothing (in a state that
    ends the episode) is given its first place.

    Examples
    --------
    >>> from cbrl_bayes.mdp import SuccessorTransition
    >>> law = SuccessorTransition(jnp.array([[[2, 2, 1]]]), jnp.array([[[0.3, 0.3, 0.4]]]))
    >>> possible_successors(law).tolist()
    [[[0.5, 0.0, 0.5]]]
    """
    probability = jax.lax.stop_gradient(transition.probability)
    if not isinstance(transition, DenseTransition):
        listed = transition.successor
        alone = (first_equal(listed) == jnp.arange(listed.shape[-1])).astype(float)
    else:
        alone = (probability > 0.0).astype(float)
    first = jnp.zeros(alone.shape).at[..., 0].set(1.0)
    alone = jnp.where(alone.sum(-1, keepdims=True) > 0.0, alone, first)
    return alone / alone.sum(-1, keepdims=True)


def first_equal(listed: Any) -> Any:
    """Return for each place of a list of successors the first that holds the same state."""
    return (listed[..., :, None] == listed[..., None, :]).argmax(-1)
