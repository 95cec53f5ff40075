"""Models of follower and transitions that judge walks: what a user hands in, and its values."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jax import numpy as jnp
from jaxtyping import Array, Float

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import MDP, policy_values
from cbrl_bayes.problems import Problem

CriticModel = Callable[[Any, Any, Mapping[str, Any]], tuple[MDP, Float[Array, "state action"]]]
"""``(incentive, context, parameters) -> (MDP, policy)``."""


def require_critic(critic: Any) -> None:
    """Raise unless ``critic`` is a function or None."""
    if critic is not None and not callable(critic):
        raise InvalidInputError(
            "critic is not a function",
            received=critic,
            accepted="(incentive, context, parameters) -> (MDP, policy)",
        )


def critic_view(
    critic: CriticModel, problem: Problem, context: Any, parameters: Mapping[str, Any], mdp: MDP
) -> Callable[[Any], tuple[MDP, Array]]:
    """Return unconstrained choice -> (the critic's MDP, its policy), held against the problem's."""

    def stated(x: Any) -> tuple[MDP, Array]:
        return _checked(critic(problem.incentive.transform(x), context, parameters), mdp)

    return stated


class LeaderCritic(NamedTuple):
    """The leader's values of a policy in a model."""

    values: Float[Array, " state"]
    actions: Float[Array, "state action"]
    discount: float

    @classmethod
    def of(cls, mdp: MDP, policy: Array, reward: Array, discount: float) -> "LeaderCritic":
        """Evaluate the policy, exactly."""
        values = policy_values(mdp, policy, reward=reward, discount=discount)
        ahead = mdp.continues[:, None] * mdp.transition.expectation(values)
        return cls(values, reward + discount * ahead, discount)

    @property
    def advantage(self) -> Float[Array, "state action"]:
        """How much better than the policy each action is."""
        return self.actions - self.values[:, None]


def _checked(found: Any, mdp: MDP) -> tuple[MDP, Array]:
    """Return what a critic says, if it fits the problem."""
    shape = mdp.reward.shape
    proper = isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], MDP)
    if proper and found[0].reward.shape == shape and jnp.shape(found[1]) == shape:
        return found
    said = (
        f"an MDP of shape {found[0].reward.shape} and a policy of shape {jnp.shape(found[1])}"
        if proper
        else f"a {type(found).__name__}"
    )
    raise InvalidInputError(
        "the critic does not fit the problem",
        received=said,
        accepted=f"(MDP, policy), both of shape {shape}",
    )
