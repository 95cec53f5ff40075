"""What followers share: first tables, a learner's step, and a sampler that hides the policy."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cbrl_bayes.followers.oracle import TrajectorySampler
from cbrl_bayes.mdp import MDP, Trajectories, rollout
from cbrl_bayes.problems import Problem


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
    mdp: MDP, q_values: Float[Array, "state action"]
) -> Float[Array, "state action"]:
    """Return ``softmax(Q / lambda)`` over the open actions."""
    return jnp.exp(mdp.log_policy(q_values / mdp.temperature))


def explore(
    mdp: MDP,
    state: Array,
    begins: Array,
    q_fn: Callable[[Array], Array],
    exploration: float,
    key: Array,
) -> tuple[Array, Array, Array, Array]:
    """Let learning walkers take one step each.

    Parameters
    ----------
    mdp : MDP
    state, begins : arrays, shape (N,)
        Where the walkers are, and whether they begin anew from the initial law instead.
    q_fn : callable
        States -> their action values, shape (N, A).
    exploration : float
        Chance of a uniform action instead of ``softmax(Q / lambda)``.
    key : typed key

    Returns
    -------
    tuple
        State, action, state reached, and whether the episode ended; shape (N,) each.
    """
    begin_key, act_key, explore_key, move_key = jax.random.split(key, 4)
    fresh = jax.random.categorical(begin_key, jnp.log(mdp.initial), shape=state.shape)
    state = jnp.where(begins, fresh.astype(jnp.int32), state)
    explores = jax.random.bernoulli(explore_key, exploration, state.shape)
    preferences = jnp.where(explores[:, None], 0.0, q_fn(state) / mdp.temperature)
    action = jax.random.categorical(act_key, mdp.log_policy(preferences, at=state))
    slot = jax.random.categorical(move_key, jnp.log(mdp.transition.row(state, action)))
    reached = mdp.transition.next_state(state, action, slot).astype(jnp.int32)
    return state, action, reached, jnp.asarray(mdp.terminal)[state]
