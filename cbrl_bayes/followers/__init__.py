"""Followers as trajectory oracles."""

from cbrl_bayes.followers.exact_follower import ExactFollower
from cbrl_bayes.followers.misspecified import MisspecifiedFollower
from cbrl_bayes.followers.oracle import TrajectoryOracle, TrajectorySampler
from cbrl_bayes.followers.synchronous_q import soft_q_iterations

__all__ = ["ExactFollower", "MisspecifiedFollower", "TrajectoryOracle", "TrajectorySampler", "soft_q_iterations"]
