"""Followers who differ from the leader's model: temperature, lapses, myopia, beliefs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from cbrl_bayes.errors import require_ranges
from cbrl_bayes.followers.oracle import TrajectorySampler
from cbrl_bayes.followers.tabular import sampler_of, zero_values
from cbrl_bayes.mdp import best_response, replace_fields
from cbrl_bayes.problems import Problem


@dataclass(frozen=True)
class MisspecifiedFollower:
    """Responds at best to a problem that differs from the leader's model, and may lapse.

    For robustness studies: the leader's estimator keeps its own model while the trajectories
    come from this follower. One that is still learning is `SweepFollower` or
    `QLearningFollower` with little training.

    Parameters
    ----------
    temperature_scale : float
        The follower's lambda is this times the model's (rationality: divided by it); > 0.
    discount_scale : float
        Its discount is this times the model's, in [0, 1]: below 1 it is myopic, 0 sees one step.
    lapse : float
        Chance in [0, 1] that an action is drawn uniformly instead of chosen.
    believes : Problem, optional
        The problem it plans in, where that differs from the one it acts in: e.g. other
        transition probabilities. Same states, actions, contexts and incentive.

    Examples
    --------
    >>> import jax
    >>> from cbrl_bayes.problems import two_state
    >>> problem, oracle = two_state(), MisspecifiedFollower(lapse=1.0)
    >>> sample, _, _ = oracle.train(
    ...     problem, {"bonus": 9.0}, 0.5, problem.default_parameters,
    ...     oracle.initial_memory(problem), key=jax.random.key(0))
    >>> acts = sample(key=jax.random.key(1), num_steps=1, num_rollouts=1000).action
    >>> bool(abs(acts.mean() - 0.5) < 0.1)
    True
    """

    runs_on_host: ClassVar[bool] = False
    temperature_scale: float = 1.0
    discount_scale: float = 1.0
    lapse: float = 0.0
    believes: Problem | None = None

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "settings of the misspecified follower",
            temperature_scale="> 0",
            discount_scale="[0, 1]",
            lapse="[0, 1]",
        )

    def initial_memory(self, problem: Problem) -> Array:
        """Return soft values of zero, shape (S,)."""
        return zero_values(problem)

    def train(
        self,
        problem: Problem,
        incentive: Mapping[str, Array],
        context: Any,
        parameters: Mapping[str, Any],
        memory: Array,
        *,
        key: Array,
    ) -> tuple[TrajectorySampler, Array, Array]:
        """Solve the problem it believes in; see `TrajectoryOracle.train`."""
        mdp = problem.mdp_fn(incentive, context, parameters)
        planned = problem if self.believes is None else self.believes.heated(problem.heat)
        believed = planned.mdp_fn(incentive, context, parameters)
        believed = replace_fields(
            believed,
            temperature=believed.temperature * self.temperature_scale,
            discount=jnp.asarray(believed.discount) * self.discount_scale,
        )
        response = best_response(believed, initial_values=memory)
        policy = (1.0 - self.lapse) * response.policy
        policy += self.lapse * jnp.exp(mdp.uniform_log_policy)
        return sampler_of(mdp, policy), response.values, response.status
