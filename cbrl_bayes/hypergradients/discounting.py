"""Discounted sums along walks: of what comes later, and of what came before."""

import jax
import jax.numpy as jnp
from jaxtyping import Array


def step_factor(weights: Array) -> Array:
    """Return by how much a weight falls from one step to the next."""
    return weights[1] if weights.shape[0] > 1 else jnp.zeros(())


def sums_ahead(amounts: Array, factor: Array) -> Array:
    """Return at t the sum over u >= t of factor^(u - t) amounts[u]."""

    def back(later: Array, now: Array) -> tuple[Array, Array]:
        total = now + factor * later
        return total, total

    first = jnp.zeros(amounts.shape[0])
    return jax.lax.scan(back, first, amounts.T, reverse=True)[1].T


def forward_trace(advantage: Array, follower_weights: Array, leader_weights: Array) -> Array:
    """Return at u the sum over t <= u of leader_weights[t] A_t follower_weights[u - t]."""

    def advance(trace: Array, entry: tuple) -> tuple[Array, Array]:
        new, weight = entry
        trace = factor * trace + weight * new
        return trace, trace

    factor = step_factor(follower_weights)
    first = jnp.zeros(advantage.shape[0])
    return jax.lax.scan(advance, first, (advantage.T, leader_weights))[1].T
