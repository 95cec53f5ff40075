"""A follower that learns a table of soft action values from its own steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cbrl_bayes.errors import require_ranges
from cbrl_bayes.followers.oracle import TrajectorySampler
from cbrl_bayes.followers.tabular import explore, sampler_of, softmax_policy, zero_table
from cbrl_bayes.mdp import MDP, finite_status
from cbrl_bayes.problems import Problem


@dataclass(frozen=True)
class QLearningFollower:
    r"""Walks, and after every step moves Q towards what it just saw.

    Tabular online soft Q-learning: walkers act by :math:`\mathrm{softmax}(Q/\lambda)` mixed
    with a share of uniform exploration; Q of the pair taken moves towards
    :math:`r + \gamma\lambda\log\sum_b e^{Q(s',b)/\lambda}` with step
    :math:`n(s,a)^{-\omega}`, n counting the pair's visits. Walkers that end an episode begin
    another. It answers with trajectories of :math:`\mathrm{softmax}(Q/\lambda)`.

    Parameters
    ----------
    num_steps : int
        Steps of each walker per training, >= 1.
    num_walkers : int
        Walkers that learn one table together, >= 1.
    step_exponent : float
        omega in (0.5, 1], for convergence.
    exploration : float
        Chance of a uniform action while learning, in [0, 1].
    warm_start : bool
        Keep table, counts and walkers between trainings in the same context; its steps then
        go on getting smaller while the leader moves.

    Examples
    --------
    >>> import jax
    >>> from cbrl_bayes.problems import two_state
    >>> problem, oracle = two_state(), QLearningFollower(num_steps=20)
    >>> sample, memory, status = oracle.train(
    ...     problem, {"bonus": 1.0}, 0.5, problem.default_parameters,
    ...     oracle.initial_memory(problem), key=jax.random.key(0))
    >>> memory["q_values"].shape, int(status)
    ((2, 2), 0)
    """

    runs_on_host: ClassVar[bool] = False
    num_steps: int = 500
    num_walkers: int = 8
    step_exponent: float = 0.7
    exploration: float = 0.1
    warm_start: bool = True

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "Q-learning settings",
            num_steps=">= 1",
            num_walkers=">= 1",
            step_exponent="(0.5, 1]",
            exploration="[0, 1]",
        )

    def initial_memory(self, problem: Problem) -> dict[str, Array]:
        """Return an empty table and walkers that have not begun."""
        return {
            "q_values": zero_table(problem),
            "visits": zero_table(problem),
            "state": jnp.zeros(self.num_walkers, jnp.int32),
            "begins": jnp.ones(self.num_walkers, bool),
        }

    def train(
        self,
        problem: Problem,
        incentive: Mapping[str, Array],
        context: Any,
        parameters: Mapping[str, Any],
        memory: dict[str, Array],
        *,
        key: Array,
    ) -> tuple[TrajectorySampler, dict[str, Array], Array]:
        """Learn; see `TrajectoryOracle.train`."""
        mdp = problem.mdp_fn(incentive, context, parameters)
        start = memory if self.warm_start else self.initial_memory(problem)
        learned, _ = jax.lax.scan(
            lambda kept, step_key: (self._step(mdp, kept, step_key), None),
            start,
            jax.random.split(key, self.num_steps),
        )
        policy = softmax_policy(mdp, learned["q_values"])
        return sampler_of(mdp, policy), learned, finite_status(mdp, learned["q_values"])

    def _step(self, mdp: MDP, kept: dict[str, Array], key: Array) -> dict[str, Array]:
        q = kept["q_values"]
        state, action, reached, ends = explore(
            mdp, kept["state"], kept["begins"], lambda at: q[at], self.exploration, key
        )
        values = mdp.soft_maximum(q[reached], at=reached)
        target = mdp.reward[state, action] + mdp.discount * jnp.where(ends, 0.0, values)
        # Several walkers in one pair count as one visit with the mean of their targets.
        count = jnp.zeros_like(q).at[state, action].add(1.0)
        gap = jnp.zeros_like(q).at[state, action].add(target - q[state, action])
        visits = kept["visits"] + (count > 0)
        step = jnp.where(count > 0, jnp.maximum(visits, 1.0) ** -self.step_exponent, 0.0)
        return {
            "q_values": q + step * gap / jnp.maximum(count, 1.0),
            "visits": visits,
            "state": reached,
            "begins": ends,
        }
