"""One HPGD iteration as published code writes it: dense one-hot look-ups, 500 sweeps, tables.

A re-implementation to compare speed with, from the description of the algorithm: values and
derivative values are averages over all visits, by state and by state and action.
"""

import jax
import jax.numpy as jnp

from cbrl_bayes.mdp import value_iteration
from cbrl_bayes.mdp.record import replace_fields

WALKERS, STEPS, SWEEPS = 25, 200, 500


def published_iteration(problem, x, parameters, key):
    """Return the estimate, shape (d,): 2 x 25 walkers, 200 steps; who arrives starts anew."""
    values, weights = problem.contexts.support(parameters)
    total = 0.0
    for index, goal_key in enumerate(jax.random.split(key, weights.shape[0])):
        goal = values[index]
        total = total + weights[index] * _one_context(problem, x, goal, parameters, goal_key)
    return total


def _one_context(problem, x, goal, parameters, key):
    name = next(iter(x))
    mdp = problem.mdp_fn(problem.incentive.transform(x), goal, parameters)
    mdp = replace_fields(mdp, transition=mdp.transition.to_dense())
    S, A, gamma = mdp.num_states, mdp.num_actions, problem.leader_discount
    policy = jax.nn.softmax(
        mdp.q_values(value_iteration(mdp, num_sweeps=SWEEPS)) / mdp.temperature, axis=-1
    )

    def rewards(flat):
        incentive = problem.incentive.transform({name: flat})
        leader = problem.leader_net_reward(incentive, goal, parameters)
        return problem.mdp_fn(incentive, goal, parameters).reward, leader

    follower_slope, leader_slope = jax.jacrev(rewards)(x[name])
    _, leader_reward = rewards(x[name])
    state, action, age, ends = _walk(mdp, policy, key)
    by_state = jax.nn.one_hot(state, S).reshape(-1, S)
    by_pair = jax.nn.one_hot(state * A + action, S * A).reshape(-1, S * A)

    def to_go(rows):
        def back(later, entry):
            now, last = entry
            later = now + gamma * jnp.where(last[:, None], 0.0, later)
            return later, later

        rows = jnp.moveaxis(rows.reshape(WALKERS, STEPS, -1), 1, 0)
        _, sums = jax.lax.scan(back, jnp.zeros_like(rows[0]), (rows, ends.T), reverse=True)
        return jnp.moveaxis(sums, 0, 1).reshape(WALKERS * STEPS, -1)

    def mean_by(table, sums):
        return (table.T @ sums) / jnp.maximum(table.sum(0), 1.0)[:, None]

    earned = to_go(by_pair @ leader_reward.reshape(-1, 1))
    slopes = to_go(by_pair @ follower_slope.reshape(S * A, -1))
    advantage = by_pair @ mean_by(by_pair, earned) - by_state @ mean_by(by_state, earned)
    slope_gap = by_pair @ mean_by(by_pair, slopes) - by_state @ mean_by(by_state, slopes)
    discount = gamma ** age.reshape(-1, 1)
    direct = by_pair @ leader_slope.reshape(S * A, -1)
    terms = discount * (direct + advantage * slope_gap / mdp.temperature)
    return terms.sum(0) / (age == 0).sum()


def _walk(mdp, policy, key):
    """Return state, action, steps since the episode began, and whether it ends, (N, T) each."""
    S = mdp.num_states

    def step(carry, step_key):
        state, age = carry
        act_key, move_key, begin_key = jax.random.split(step_key, 3)
        here = jax.nn.one_hot(state, S)
        action = jax.random.categorical(act_key, jnp.log(here @ policy))
        law = jnp.einsum(
            "ns,na,sat->nt",
            here,
            jax.nn.one_hot(action, mdp.num_actions),
            mdp.transition.probability,
        )
        reached = jax.random.categorical(move_key, jnp.log(law))
        ends = (here @ jnp.asarray(mdp.terminal, float)) > 0
        fresh = jax.random.categorical(begin_key, jnp.log(mdp.initial), shape=state.shape)
        following = jnp.where(ends, fresh, reached), jnp.where(ends, 0, age + 1)
        return following, (state, action, age, ends)

    start = jax.random.categorical(key, jnp.log(mdp.initial), shape=(WALKERS,))
    first = (start, jnp.zeros(WALKERS, int))
    _, walked = jax.lax.scan(step, first, jax.random.split(key, STEPS))
    return jax.tree.map(lambda leaf: leaf.T, walked)
