"""The likelihood of counted behaviour, through the implicit derivative of the best response."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cbrl_bayes.behaviour import BehaviourCounts
from cbrl_bayes.mdp import MDP
from cbrl_bayes.problems import Problem, respond

__all__ = [
    "choice_rows",
    "episode_log_likelihood",
    "latent_log_likelihood",
    "policies",
    "transition_log_likelihood",
]


def policies(
    problem: Problem, counts: BehaviourCounts, parameters: Mapping[str, Any]
) -> tuple[Float[Array, "cell state action"], Int[Array, ""]]:
    """Solve for the log policy of every cell; also return the worst solve status."""

    def solve(cell: tuple) -> tuple[Array, Array]:
        regime, context, group = cell
        incentive = {name: jnp.asarray(v)[regime] for name, v in counts.incentives.items()}
        value = jax.tree.map(lambda leaf: jnp.asarray(leaf)[context], counts.context_values)
        one = problem.follower_parameters(parameters, group)
        _, response = respond(problem, incentive, value, one)
        return response.log_policy, response.status

    cells = (counts.cell_regime, counts.cell_context, counts.cell_group)
    log_policy, status = jax.lax.map(solve, jax.tree.map(jnp.asarray, cells))
    return log_policy, status.max()


def choice_rows(
    counts: BehaviourCounts, log_policy: Float[Array, "cell state action"]
) -> Float[Array, "row action"]:
    """Return the log policy in every (cell, state) with observed choices."""
    return log_policy[counts.row_cell, counts.row_state]


def episode_log_likelihood(
    counts: BehaviourCounts,
    log_policy: Float[Array, "cell state action"],
    context_log_probability: Float[Array, " context"],
) -> Float[Array, " episode"]:
    """Return the log-likelihood of each episode's choices and context.

    An episode whose context was not observed is marginalised over contexts.
    """
    by_context = _by_context(counts, log_policy)
    joint = context_log_probability + by_context
    seen = jnp.asarray(counts.episode_context)
    chosen = jnp.take_along_axis(joint, jnp.maximum(seen, 0)[:, None], axis=1)[:, 0]
    return jnp.where(seen >= 0, chosen, jax.nn.logsumexp(joint, axis=1))


def latent_log_likelihood(
    counts: BehaviourCounts,
    log_policy: Float[Array, "cell state action"],
    context_log_probability: Float[Array, " context"],
) -> Float[Array, ""]:
    """Return the total over the episodes whose context was not observed."""
    per_episode = episode_log_likelihood(counts, log_policy, context_log_probability)
    return jnp.where(counts.episode_context < 0, per_episode, 0.0).sum()


def transition_log_likelihood(
    problem: Problem, counts: BehaviourCounts, parameters: Mapping[str, Any]
) -> Float[Array, ""]:
    """Return the log-likelihood of the recorded transitions.

    The law is that of the first cell: recorded transitions must not depend on regime, context
    or group.
    """
    incentive = {
        name: jnp.asarray(v)[counts.cell_regime[0]] for name, v in counts.incentives.items()
    }
    value = jax.tree.map(
        lambda leaf: jnp.asarray(leaf)[counts.cell_context[0]], counts.context_values
    )
    one = problem.follower_parameters(parameters, int(counts.cell_group[0]))
    mdp: MDP = problem.mdp_fn(incentive, value, one)
    chance = mdp.transition.probability[
        counts.transition_state, counts.transition_action, counts.transition_slot
    ]
    return (counts.transition_count * jnp.log(chance)).sum()


def _by_context(counts: BehaviourCounts, log_policy: Array) -> Float[Array, "episode context"]:
    cells = jnp.asarray(counts.episode_cells)[counts.entry_episode]
    per_entry = log_policy[
        jnp.maximum(cells, 0), counts.entry_state[:, None], counts.entry_action[:, None]
    ]
    weighed = jnp.where(cells >= 0, per_entry, 0.0) * counts.entry_count[:, None]
    return jax.ops.segment_sum(weighed, counts.entry_episode, len(counts.episode_names))
