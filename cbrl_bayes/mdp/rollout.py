"""Batched rollouts of a policy, with a key."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from cbrl_bayes.mdp.record import CLOSED, MDP


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Trajectories:
    """Behaviour of many walkers, one row each.

    Attributes
    ----------
    state, action : int arrays, shape (N, T)
        What was visited and done; meaningless where ``active`` is False.
    next_state : int array, shape (N, T)
        Where the step led (the state itself after a terminal state).
    log_probability : array, shape (N, T)
        The follower's own log-probability of the action it took.
    active : bool array, shape (N, T)
        True for the steps taken before the episode or its limit ended.
    """

    state: Int[Array, "walker step"]
    action: Int[Array, "walker step"]
    next_state: Int[Array, "walker step"]
    log_probability: Float[Array, "walker step"]
    active: Bool[Array, "walker step"]


def rollout(
    mdp: MDP,
    policy: Float[Array, "state action"],
    *,
    key: Key[Array, ""],
    num_steps: int,
    num_rollouts: int | None = None,
    initial_state: Int[Array, " walker"] | None = None,
    initial_action: Int[Array, " walker"] | None = None,
    step_limit: Int[Array, " walker"] | None = None,
    noise_copies: int = 1,
) -> Trajectories:
    """Let walkers follow ``policy``; stop early when all have finished.

    Parameters
    ----------
    mdp : MDP
        Transition law, initial law and terminal states.
    policy : array, shape (S, A)
        Probability of each action.
    key : typed key
        From `jax.random.key`; the same key gives the same walks.
    num_steps : int
        Longest walk, and the second axis of the result.
    num_rollouts : int, optional
        Number of walkers; taken from ``initial_state`` where that is given, else 1.
    initial_state, initial_action : int arrays, shape (N,), optional
        Where and with which action to begin. Default: drawn from the initial law and policy.
    step_limit : int array, shape (N,), optional
        Walker n takes at most ``step_limit[n]`` steps.
    noise_copies : int
        Number of equal blocks of walkers that share their random numbers; walkers in the same
        place of two blocks then move together once they meet (common random numbers). Each
        walk by itself keeps its law.

    Returns
    -------
    Trajectories

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from cbrl_bayes.mdp import MDP, DenseTransition
    >>> mdp = MDP(jnp.zeros((2, 1)), DenseTransition(jnp.array([[[0., 1.]], [[1., 0.]]])),
    ...           jnp.array([1., 0.]), 0.9, 1.0)
    >>> rollout(mdp, jnp.ones((2, 1)), key=jax.random.key(0), num_steps=4, num_rollouts=1
    ...         ).state.tolist()
    [[0, 1, 0, 1]]
    """
    start_key, walk_key = jax.random.split(key)
    if initial_state is None:
        ladder = jnp.cumsum(mdp.initial)
        height = jax.random.uniform(start_key, (num_rollouts or 1,)) * ladder[-1]
        state = jnp.searchsorted(ladder, height, side="right").astype(jnp.int32)
    else:
        state = jnp.asarray(initial_state, jnp.int32)
    walkers = state.shape[0]
    distinct = walkers // noise_copies
    limit = jnp.full(walkers, num_steps) if step_limit is None else step_limit
    action_ladder = jnp.cumsum(policy, axis=-1)
    log_policy = jnp.where(policy > 0.0, jnp.log(policy), CLOSED)
    terminal = jnp.asarray(mdp.terminal)

    def unfinished(carry: tuple) -> Array:
        step, _, going, _ = carry
        return (step < num_steps) & going.any()

    def advance(carry: tuple) -> tuple:
        step, state, going, record = carry
        heights = jax.random.uniform(jax.random.fold_in(walk_key, step), (2, distinct))
        heights = jnp.tile(heights, noise_copies)
        action = _climb(action_ladder[state], heights[0])
        if initial_action is not None:
            action = jnp.where(step == 0, initial_action, action).astype(jnp.int32)
        slot = _climb(jnp.cumsum(mdp.transition.row(state, action), axis=-1), heights[1])
        ends = terminal[state]
        reached = mdp.transition.next_state(state, action, slot).astype(jnp.int32)
        follows = jnp.where(ends, state, reached)
        seen = Trajectories(state, action, follows, log_policy[state, action], going)
        record = jax.tree.map(lambda book, page: book.at[step].set(page), record, seen)
        return step + 1, follows, going & ~ends & (step + 1 < limit), record

    blank = jnp.zeros((num_steps, walkers), jnp.int32)
    record = Trajectories(blank, blank, blank, jnp.zeros(blank.shape), jnp.zeros(blank.shape, bool))
    *_, record = jax.lax.while_loop(unfinished, advance, (0, state, limit > 0, record))
    return jax.tree.map(jnp.transpose, record)


def _climb(ladder: Array, height: Array) -> Array:
    """Invert a cumulative distribution row by row; rounding never leads past the last rung."""
    return (height[:, None] * ladder[:, -1:] >= ladder).sum(-1).astype(jnp.int32)
