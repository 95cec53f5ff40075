"""Followers as trajectory oracles: exact, learning, misspecified, or outside this package."""

from collections.abc import Callable

from cbrl_bayes.followers.deep_q import DeepQFollower
from cbrl_bayes.followers.episodes import Episode
from cbrl_bayes.followers.exact_follower import ExactFollower
from cbrl_bayes.followers.gymnasium_follower import environment_of, gymnasium_follower
from cbrl_bayes.followers.logged import Log, follower_from_logs
from cbrl_bayes.followers.misspecified import MisspecifiedFollower
from cbrl_bayes.followers.oracle import TrajectoryOracle, TrajectorySampler
from cbrl_bayes.followers.outside import OutsideFollower, Player, Trainer
from cbrl_bayes.followers.policy_gradient import PolicyGradientFollower
from cbrl_bayes.followers.q_learning import QLearningFollower
from cbrl_bayes.followers.sweeps import SweepFollower
from cbrl_bayes.followers.synchronous_q import soft_q_iterations

FOLLOWERS: dict[str, Callable[..., TrajectoryOracle]] = {
    "exact": ExactFollower,
    "sweeps": SweepFollower,
    "policy_gradient": PolicyGradientFollower,
    "q_learning": QLearningFollower,
    "deep_q": DeepQFollower,
    "misspecified": MisspecifiedFollower,
}
"""Followers that need no outside trainer, by name; the conformance tests walk them."""

__all__ = [
    "FOLLOWERS",
    "DeepQFollower",
    "Episode",
    "ExactFollower",
    "Log",
    "MisspecifiedFollower",
    "OutsideFollower",
    "Player",
    "PolicyGradientFollower",
    "QLearningFollower",
    "SweepFollower",
    "Trainer",
    "TrajectoryOracle",
    "TrajectorySampler",
    "environment_of",
    "follower_from_logs",
    "gymnasium_follower",
    "soft_q_iterations",
]
