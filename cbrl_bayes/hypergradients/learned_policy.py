"""What episodes say of the follower's policy, and how a policy responds to the incentive."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cbrl_bayes.hypergradients.learned_law import count_transitions
from cbrl_bayes.mdp import MDP, Trajectories, soft_policy_values
from cbrl_bayes.problems import Problem, leader_gain


class Seen(NamedTuple):
    """What the episodes of one pair say: counts, visits, and reported probabilities of actions."""

    counts: Float[Array, "state action successor"]
    visits: Float[Array, "state action"]
    reported: Float[Array, "state action"]  # 0 where nothing was reported

    @classmethod
    def of(cls, mdp: MDP, walked: Trajectories, *, incentive_moves: bool) -> "Seen":
        """Read the episodes of one follower."""
        counts = count_transitions(mdp, walked, incentive_moves=incentive_moves)
        blank = jnp.zeros(counts.shape[:2])
        visits = blank.at[walked.state, walked.action].add(walked.active.astype(float))
        said = walked.active & jnp.isfinite(walked.log_probability)
        chance = jnp.where(said, jnp.exp(jnp.where(said, walked.log_probability, 0.0)), 0.0)
        return cls(counts, visits, blank.at[walked.state, walked.action].max(chance))

    def policy(
        self, model: Float[Array, "state action"], weight: float
    ) -> Float[Array, "state action"]:
        """Return the follower's present policy.

        Reported probabilities are taken as they are; what is left over in a state goes to its
        other actions. Without reports: frequencies, with ``weight`` visits by the model's policy.
        """
        total = self.visits.sum(-1, keepdims=True) + weight
        frequency = jnp.where(
            total > 0.0, (self.visits + weight * model) / jnp.maximum(total, 1e-300), model
        )
        known = self.reported > 0.0
        rest = jnp.where(known, 0.0, jnp.where(known.any(-1, keepdims=True), model, frequency))
        left = jnp.maximum(1.0 - self.reported.sum(-1, keepdims=True), 0.0)
        rest = left * rest / jnp.maximum(rest.sum(-1, keepdims=True), jnp.finfo(float).tiny)
        policy = jnp.where(known, self.reported, rest)
        return policy / policy.sum(-1, keepdims=True)


def responding(mdp: MDP, policy: Float[Array, "state action"]) -> Float[Array, "state action"]:
    """Return the policy with the derivative of a soft-optimal one: ``pi d(Q / lambda)``, centred.

    Values are those of the policy itself in the MDP, entropy included, at a policy held fixed:
    by the envelope theorem their derivative is that of the optimal values.
    """
    logits = soft_values_of(mdp, policy)[1] / mdp.temperature
    change = logits - jax.lax.stop_gradient(logits)
    return policy * (1.0 + change - (policy * change).sum(-1, keepdims=True))


def soft_values_of(
    mdp: MDP, policy: Float[Array, "state action"]
) -> tuple[Float[Array, " state"], Float[Array, "state action"]]:
    """Return the follower's own values and action values of a policy, entropy included."""
    logs = jnp.log(jnp.where(policy > 0.0, policy, 1.0))
    log_policy = jnp.where(policy > 0.0, logs, -jnp.inf)
    values = soft_policy_values(mdp, log_policy)
    return values, mdp.q_values(values)


def gain_in_model(
    problem: Problem, x: Any, context: Any, parameters: Mapping[str, Any], model: MDP, policy: Array
) -> Array:
    """Return what the leader gets in a model of the follower whose policy answers to ``x``."""
    incentive, moved = problem.incentive.transform(x), responding(model, policy)
    return leader_gain(problem, incentive, context, parameters, model, moved)
