"""Logged trajectories as a follower: answers for the incentives and contexts on record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from cbrl_bayes.errors import DataError
from cbrl_bayes.followers.episodes import Episode
from cbrl_bayes.followers.outside import OutsideFollower, Player


@dataclass(frozen=True)
class Log:
    """Episodes observed under one incentive in one context.

    Parameters
    ----------
    incentive : mapping
        Name -> array in readable units.
    context : pytree
        The context's value.
    episodes : sequence of Episode
    """

    incentive: Mapping[str, Any]
    context: Any
    episodes: Sequence[Episode]


def follower_from_logs(logs: Sequence[Log], *, tolerance: float = 1e-6) -> OutsideFollower:
    """Return a follower that draws episodes, without replacement, from what was logged.

    Use it to estimate the hypergradient and the objective *at* a logged incentive. For any other
    incentive it raises an error. No episode is handed out twice in one answer: some estimators
    judge one half of the episodes by the other.

    Parameters
    ----------
    logs : sequence of Log
    tolerance : float
        Largest difference, per entry, at which an incentive counts as the logged one.

    Returns
    -------
    OutsideFollower

    Raises
    ------
    DataError
        If there are no episodes.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from cbrl_bayes.hypergradients import BoltzmannCovariance
    >>> from cbrl_bayes.problems import two_state
    >>> problem = two_state()
    >>> seen = [Episode([0, 1], [1]), Episode([0, 1], [0])] * 20
    >>> follower = follower_from_logs([Log({"bonus": 0.0}, c, seen) for c in (0.5, 1.5)])
    >>> estimator = BoltzmannCovariance(num_rollouts=80, max_steps=1, oracle=follower)
    >>> state = estimator.init(problem, {"bonus": jnp.zeros(())}, key=jax.random.key(0))
    >>> gradient, _, info = estimator.estimate(
    ...     problem, {"bonus": jnp.zeros(())}, problem.default_parameters, state,
    ...     key=jax.random.key(1))
    >>> gradient["bonus"].shape
    ()
    """
    if not logs or any(not log.episodes for log in logs):
        raise DataError("there are no episodes on record", received=f"{len(logs)} logs")

    def train(
        incentive: Mapping[str, np.ndarray], context: Any, parameters: Mapping, seed: int
    ) -> Player:
        here = [log for log in logs if _near(log.context, context, 1e-9)]
        found = [log for log in here if _near(dict(log.incentive), dict(incentive), tolerance)]
        if not found:
            known = "this context" if here else "no such context"
            raise LookupError(
                f"nothing was logged under this incentive ({known} is on record, with "
                f"{len(here)} incentives); a log answers only for the incentives in it"
            )
        pool = [episode for log in found for episode in log.episodes]

        def play(*, num_rollouts: int, num_steps: int, seed: int) -> list[Episode]:
            if num_rollouts > len(pool):
                raise ValueError(
                    f"{num_rollouts} episodes were asked for and {len(pool)} are on record for "
                    "this incentive and context: ask for fewer (num_rollouts)"
                )
            drawn = np.random.default_rng(seed).permutation(len(pool))[:num_rollouts]
            return [pool[index] for index in drawn]

        return play

    return OutsideFollower(train, name="logged follower")


def _near(first: Any, second: Any, tolerance: float) -> bool:
    if str(jax.tree.structure(first)) != str(jax.tree.structure(second)):
        return False
    return all(
        np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=0.0, atol=tolerance)
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    )
