"""Followers as trajectory oracles."""

from cbrl_bayes.followers.exact_follower import ExactFollower
from cbrl_bayes.followers.oracle import TrajectoryOracle, TrajectorySampler

__all__ = ["ExactFollower", "TrajectoryOracle", "TrajectorySampler"]
