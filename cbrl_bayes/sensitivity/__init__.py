"""What would change the decision: prior, parameters, follower model, another world."""

from cbrl_bayes.sensitivity.followers import FollowerComparisonSettings, compare_followers
from cbrl_bayes.sensitivity.labels import study_outputs
from cbrl_bayes.sensitivity.prior import (
    PriorSensitivitySettings,
    WeightedDecision,
    weighted_decision,
)
from cbrl_bayes.sensitivity.sobol import SobolIndices, SobolSettings, first_order_indices
from cbrl_bayes.sensitivity.stress import StressScores, StressSettings, stress_designs
from cbrl_bayes.sensitivity.study import prior_sensitivity, sobol_indices, stress_test
from cbrl_bayes.sensitivity.tables import loss_table, sensitivity_table, sobol_table, stress_table
from cbrl_bayes.sensitivity.worlds import (
    AlteredProblem,
    ContextShift,
    Stress,
    TemperatureShift,
    TransitionBlur,
)

__all__ = [
    "AlteredProblem",
    "ContextShift",
    "FollowerComparisonSettings",
    "PriorSensitivitySettings",
    "SobolIndices",
    "SobolSettings",
    "Stress",
    "StressScores",
    "StressSettings",
    "TemperatureShift",
    "TransitionBlur",
    "WeightedDecision",
    "compare_followers",
    "first_order_indices",
    "loss_table",
    "prior_sensitivity",
    "sensitivity_table",
    "sobol_indices",
    "sobol_table",
    "stress_designs",
    "stress_table",
    "stress_test",
    "study_outputs",
    "weighted_decision",
]
