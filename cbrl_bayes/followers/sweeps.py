"""A follower that plans by soft value iteration and stops early."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from cbrl_bayes.errors import require_ranges
from cbrl_bayes.followers.oracle import TrajectorySampler
from cbrl_bayes.followers.tabular import sampler_of, softmax_policy, zero_values
from cbrl_bayes.mdp import finite_status, value_iteration
from cbrl_bayes.problems import Problem


@dataclass(frozen=True)
class SweepFollower:
    r"""Makes a few soft Bellman sweeps, then acts by :math:`\mathrm{softmax}(Q/\lambda)`.

    The error of its values falls as gamma to the number of sweeps (Thoma et al. 2024 give the
    rate that HPGD inherits). With ``warm_start`` it goes on where its last training in the same
    context ended: a follower that is still learning while the leader moves.

    Parameters
    ----------
    num_sweeps : int
        Sweeps per training, >= 0; 0 plans one step ahead.
    warm_start : bool
        Keep the values between trainings.

    Examples
    --------
    >>> import jax
    >>> from cbrl_bayes.problems import two_state
    >>> problem, oracle = two_state(), SweepFollower(num_sweeps=3)
    >>> sample, memory, status = oracle.train(
    ...     problem, {"bonus": 1.0}, 0.5, problem.default_parameters,
    ...     oracle.initial_memory(problem), key=jax.random.key(0))
    >>> memory.shape, int(status)
    ((2,), 0)
    """

    runs_on_host: ClassVar[bool] = False
    num_sweeps: int = 50
    warm_start: bool = True

    def __post_init__(self) -> None:
        require_ranges(self, "sweep settings", num_sweeps=">= 0")

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
        """Sweep; see `TrajectoryOracle.train`."""
        mdp = problem.mdp_fn(incentive, context, parameters)
        start = memory if self.warm_start else jnp.zeros_like(memory)
        values = value_iteration(mdp, num_sweeps=self.num_sweeps, initial_values=start)
        policy = softmax_policy(mdp, mdp.q_values(values))
        return sampler_of(mdp, policy), values, finite_status(mdp, values)
