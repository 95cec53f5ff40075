"""A follower that responds at best: trajectories of the exact soft-optimal policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Array

from cbrl_bayes.followers.oracle import TrajectorySampler
from cbrl_bayes.followers.tabular import sampler_of, zero_values
from cbrl_bayes.problems import Problem, respond


@dataclass(frozen=True)
class ExactFollower:
    """Solves its MDP by Newton's method, warm-started, and walks by the answer.

    Examples
    --------
    >>> import jax
    >>> from cbrl_bayes.problems import two_state
    >>> problem, oracle = two_state(), ExactFollower()
    >>> sample, memory, status = oracle.train(
    ...     problem, {"bonus": 1.0}, 0.5, problem.default_parameters,
    ...     oracle.initial_memory(problem), key=jax.random.key(0))
    >>> sample(key=jax.random.key(1), num_steps=2, num_rollouts=3).state.shape
    (3, 2)
    """

    runs_on_host: ClassVar[bool] = False

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
        """Solve exactly; see `TrajectoryOracle.train`."""
        mdp, response = respond(problem, incentive, context, parameters, initial_values=memory)
        return sampler_of(mdp, response.policy), response.values, response.status
