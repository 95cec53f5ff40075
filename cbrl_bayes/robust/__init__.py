"""Designs for leaders who fear the bad draws: criteria, chance constraints, comparisons."""

from cbrl_bayes.robust.constraints import (
    ChanceConstraint,
    ConstrainedCriterion,
    CostAtMost,
    FollowerValueAtLeast,
    ObjectiveAtLeast,
)
from cbrl_bayes.robust.depth import posterior_depth
from cbrl_bayes.robust.record import RobustSettings, RobustStudy
from cbrl_bayes.robust.study import robust_designs
from cbrl_bayes.robust.tables import compare_designs

__all__ = [
    "ChanceConstraint",
    "ConstrainedCriterion",
    "CostAtMost",
    "FollowerValueAtLeast",
    "ObjectiveAtLeast",
    "RobustSettings",
    "RobustStudy",
    "compare_designs",
    "posterior_depth",
    "robust_designs",
]
