"""A follower that improves its policy by natural policy gradient."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cbrl_bayes.errors import require_ranges
from cbrl_bayes.followers.oracle import TrajectorySampler
from cbrl_bayes.followers.tabular import sampler_of, zero_table
from cbrl_bayes.mdp import MDP, finite_status, soft_policy_values
from cbrl_bayes.problems import Problem


@dataclass(frozen=True)
class PolicyGradientFollower:
    r"""Takes entropy-regularised natural policy gradient steps on a softmax policy.

    A step of relative size :math:`\alpha` is :math:`\pi \propto \pi^{1-\alpha}
    \exp(\alpha\, Q^\pi/\lambda)`, with the soft action values of the policy itself;
    :math:`\alpha = \eta\lambda/(1-\gamma)` in the usual step size :math:`\eta`. The error falls
    by :math:`1 - \alpha(1 - \gamma)` or faster per step; :math:`\alpha = 1` is soft policy
    iteration. Source: Cen, Cheng, Chen, Wei, Chi, Operations Research 2022, equation (17).

    Parameters
    ----------
    num_steps : int
        Steps per training, >= 0.
    step_size : float
        alpha, in (0, 1].
    warm_start : bool
        Keep the policy between trainings in the same context.

    Examples
    --------
    >>> import jax
    >>> from cbrl_bayes.problems import two_state
    >>> problem, oracle = two_state(), PolicyGradientFollower(num_steps=3)
    >>> sample, memory, status = oracle.train(
    ...     problem, {"bonus": 1.0}, 0.5, problem.default_parameters,
    ...     oracle.initial_memory(problem), key=jax.random.key(0))
    >>> memory.shape, int(status)
    ((2, 2), 0)
    """

    runs_on_host: ClassVar[bool] = False
    num_steps: int = 20
    step_size: float = 0.5
    warm_start: bool = True

    def __post_init__(self) -> None:
        require_ranges(self, "policy gradient settings", num_steps=">= 0", step_size="(0, 1]")

    def initial_memory(self, problem: Problem) -> Array:
        """Return the logits of the uniform policy, shape (S, A)."""
        return zero_table(problem)

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
        """Improve the policy; see `TrajectoryOracle.train`."""
        mdp = problem.mdp_fn(incentive, context, parameters)
        logits = memory if self.warm_start else jnp.zeros_like(memory)
        log_policy = jax.lax.fori_loop(
            0, self.num_steps, lambda _, p: self._improve(mdp, p), mdp.log_policy(logits)
        )
        return sampler_of(mdp, jnp.exp(log_policy)), log_policy, finite_status(mdp, log_policy)

    def _improve(self, mdp: MDP, log_policy: Array) -> Array:
        logits = mdp.q_values(soft_policy_values(mdp, log_policy)) / mdp.temperature
        mixed = (1.0 - self.step_size) * log_policy + self.step_size * logits
        return mdp.log_policy(mixed)
