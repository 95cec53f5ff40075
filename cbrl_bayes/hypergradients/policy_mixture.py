"""Rollouts from a mixture of two policies, weighted for either: what couples RT-Q's levels."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cbrl_bayes.hypergradients.rollout_terms import Branches
from cbrl_bayes.mdp import MDP, DenseTransition, SuccessorTransition, Trajectories, rollout


@dataclass(frozen=True)
class MixtureSampler:
    """Samples trajectories of which each follows one of two policies, with equal chance.

    Parameters
    ----------
    mdp : MDP
    policies : array, shape (2, S, A)
    """

    mdp: MDP
    policies: Float[Array, "level state action"]

    def __call__(
        self,
        *,
        key: Array,
        num_steps: int,
        num_rollouts: int | None = None,
        initial_state: Array | None = None,
        noise_copies: int = 1,
        **arguments: Any,
    ) -> Trajectories:
        """Sample; arguments as in `cbrl_bayes.mdp.rollout`."""
        S = self.mdp.num_states
        choice_key, walk_key = jax.random.split(key)
        if initial_state is not None:
            # Walkers that share noise also share the policy, or the coupling would be lost.
            distinct = initial_state.shape[0] // noise_copies
            policy = jax.random.bernoulli(choice_key, 0.5, (distinct,)).astype(int)
            initial_state = initial_state + S * jnp.tile(policy, noise_copies)
        walked = rollout(
            self._two_copies(),
            self.policies.reshape(2 * S, -1),
            key=walk_key,
            num_steps=num_steps,
            num_rollouts=num_rollouts,
            initial_state=initial_state,
            noise_copies=noise_copies,
            **arguments,
        )
        return replace(walked, state=walked.state % S, next_state=walked.next_state % S)

    def _two_copies(self) -> MDP:
        """Return the MDP twice, side by side: the copy says which policy a walker follows."""
        mdp, S = self.mdp, self.mdp.num_states
        law = mdp.transition
        both = jnp.concatenate([law.probability, law.probability])
        transition: DenseTransition | SuccessorTransition
        if not isinstance(law, DenseTransition):
            transition = SuccessorTransition(
                jnp.concatenate([law.successor, law.successor + S]), both
            )
        else:
            empty = jnp.zeros_like(law.probability)
            transition = DenseTransition(
                jnp.concatenate(
                    [
                        jnp.concatenate([law.probability, empty], axis=-1),
                        jnp.concatenate([empty, law.probability], axis=-1),
                    ]
                )
            )
        return MDP(
            reward=jnp.concatenate([mdp.reward, mdp.reward]),
            transition=transition,
            initial=jnp.concatenate([mdp.initial, mdp.initial]) / 2.0,
            discount=mdp.discount,
            temperature=mdp.temperature,
            terminal=jnp.concatenate([jnp.asarray(mdp.terminal)] * 2),
        )


@dataclass(frozen=True)
class LevelTerms:
    """Mixture rollouts as seen by one of the two policies."""

    base_weights: Float[Array, "walker step"]
    branches: Branches


def level_terms(
    log_policies: Float[Array, "level state action"],
    level: int,
    base: Trajectories,
    weights: Array,
    branches: Branches,
) -> LevelTerms:
    """Weight mixture rollouts so that means are those under policy ``level``.

    Base walks, second actions and branch walks chose their policies independently, so their
    weights multiply; each is 2 p_level / (p_0 + p_1) of the actions it depends on.
    """
    log_ratio = log_policies[level] - log_policies[1 - level]

    def along(walked: Trajectories, *, first_given: bool) -> Array:
        steps = jnp.where(walked.active, log_ratio[walked.state, walked.action], 0.0)
        if first_given:
            steps = steps.at[:, 0].set(0.0)
        return 2.0 * jax.nn.sigmoid(jnp.cumsum(steps, axis=1))

    base_weights = weights * along(base, first_given=False)
    state = base.state.ravel()[branches.place]
    second = 2.0 * jax.nn.sigmoid(log_ratio[state, branches.second_action])
    first = along(base, first_given=False).ravel()[branches.place]
    ratios = [along(walked, first_given=True) for walked in branches.rollouts]
    rollouts = [
        replace(walked, log_probability=log_policies[level][walked.state, walked.action])
        for walked in branches.rollouts
    ]
    return LevelTerms(
        base_weights,
        replace(
            branches,
            rollouts=rollouts,
            importance=branches.importance * first * second,
            follower_weights=[
                w * r for w, r in zip(branches.follower_weights, ratios, strict=True)
            ],
            leader_weights=[w * r for w, r in zip(branches.leader_weights, ratios, strict=True)],
        ),
    )
