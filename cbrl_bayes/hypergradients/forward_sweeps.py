"""Derivatives in every parameter of the choice, carried forward by Bellman sweeps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from cbrl_bayes.mdp import MDP

__all__ = ["expect_columns", "number_of_parameters", "slope_of"]


def number_of_parameters(unconstrained: Any) -> int:
    """Return d, the number of scalars in the leader's choice."""
    return sum(jnp.size(leaf) for leaf in jax.tree.leaves(unconstrained))


def slope_of(fn: Callable[[Any], Array], unconstrained: Any) -> Float[Array, "... parameter"]:
    """Return the derivative of ``fn`` in every scalar of the choice, last axis d."""
    flat, unravel = ravel_pytree(unconstrained)
    return jax.jacfwd(lambda x: fn(unravel(x)))(flat)


def expect_columns(
    mdp: MDP,
    weights: Float[Array, "state action"],
    columns: Float[Array, "state parameter"],
    discount: Array | float,
) -> Float[Array, "state parameter"]:
    """Return ``discount * sum_a weights(s, a) E[columns(s') | s, a]``; 0 after the end.

    One product with a matrix of S x S numbers.
    """
    return discount * mdp.continues[:, None] * (mdp.transition.matrix(weights) @ columns)
