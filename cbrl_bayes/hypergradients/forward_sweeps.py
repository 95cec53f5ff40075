"""Derivatives in every parameter of the choice, carried forward by Bellman sweeps."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float

from cbrl_bayes.mdp import MDP
from cbrl_bayes.problems import IncentiveSpace


def slope_of(
    fn: Callable[[Any], Array], space: IncentiveSpace, unconstrained: Any
) -> Float[Array, "... parameter"]:
    """Return the derivative of ``fn`` in every scalar of the choice, last axis d."""
    return jax.jacfwd(lambda x: fn(space.unflatten(x)))(space.flatten(unconstrained))


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
