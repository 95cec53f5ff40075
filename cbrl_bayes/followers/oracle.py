"""The trajectory oracle: all that a leader who only watches behaviour may ask of a follower."""

from collections.abc import Mapping
from typing import Any, Protocol

from jaxtyping import Array, Bool, Int, Key

from cbrl_bayes.mdp import Trajectories
from cbrl_bayes.problems import Problem


class TrajectorySampler(Protocol):
    """Trajectories of one trained follower, and nothing else of it."""

    def __call__(
        self,
        *,
        key: Key[Array, ""],
        num_steps: int,
        num_rollouts: int | None = None,
        initial_state: Int[Array, " walker"] | None = None,
        initial_action: Int[Array, " walker"] | None = None,
        step_limit: Int[Array, " walker"] | None = None,
        noise_copies: int = 1,
    ) -> Trajectories:
        """Let the follower act; arguments as in `cbrl_bayes.mdp.rollout`."""


class TrajectoryOracle(Protocol):
    """A follower that answers an incentive with behaviour, however it was trained."""

    @property
    def runs_on_host(self) -> bool:
        """Whether it lives outside compiled programs, so that estimators call it from Python."""

    def initial_memory(self, problem: Problem) -> Any:
        """Return what the follower knows before its first training in one context."""

    def train(
        self,
        problem: Problem,
        incentive: Mapping[str, Array],
        context: Any,
        parameters: Mapping[str, Any],
        memory: Any,
        *,
        key: Key[Array, ""],
    ) -> tuple[TrajectorySampler, Any, Int[Array, ""] | Bool[Array, ""]]:
        """Train under one incentive, context and set of one follower's parameters.

        Returns
        -------
        tuple
            A sampler of trajectories, the memory for the next training in the same context,
            and a `SolveStatus`.
        """
