"""What tabular followers share: first tables, and a sampler that hides the policy behind a call."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cbrl_bayes.followers.oracle import TrajectorySampler
from cbrl_bayes.mdp import MDP, SolveStatus, Trajectories, rollout
from cbrl_bayes.problems import Problem

__all__ = [
    "draw_state",
    "finite_status",
    "sampler_of",
    "softmax_policy",
    "zero_table",
    "zero_values",
]


def sampler_of(mdp: MDP, policy: Float[Array, "state action"]) -> TrajectorySampler:
    """Return a function that hands over trajectories and has no attribute that holds the policy."""

    def sample(**arguments: Any) -> Trajectories:
        return rollout(mdp, policy, **arguments)

    return sample


def zero_values(problem: Problem) -> Float[Array, " state"]:
    """Return soft values of zero, where a follower that knows nothing begins."""
    return jnp.zeros(problem.num_states)


def zero_table(problem: Problem) -> Float[Array, "state action"]:
    """Return action values of zero."""
    return jnp.zeros((problem.num_states, problem.num_actions))


def softmax_policy(
    q_values: Float[Array, "state action"], temperature: Array | float
) -> Float[Array, "state action"]:
    """Return ``softmax(Q / lambda)``."""
    return jax.nn.softmax(q_values / temperature, axis=-1)


def draw_state(mdp: MDP, key: Array, num: int) -> Int[Array, " walker"]:
    """Draw first states from the initial law."""
    drawn = jax.random.categorical(key, jnp.log(mdp.initial), shape=(num,))
    return drawn.astype(jnp.int32)


def finite_status(learned: Array) -> Int[Array, ""]:
    """Return `SolveStatus.NOT_FINITE` where learning has blown up, else CONVERGED.

    A follower that learns for a fixed time is what it is: its distance from the best response
    is no failure of a solver.
    """
    finite = jnp.isfinite(learned).all()
    return jnp.where(finite, SolveStatus.CONVERGED, SolveStatus.NOT_FINITE)
