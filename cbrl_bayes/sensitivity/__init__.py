"""What would change the decision: prior, parameters, follower model, another world."""

from cbrl_bayes.sensitivity.prior import sensitivity_table, study_outputs
from cbrl_bayes.sensitivity.sobol import (
    SobolIndices,
    WeightedDecision,
    first_order_indices,
    weighted_decision,
)
from cbrl_bayes.sensitivity.stress import (
    AlteredProblem,
    ContextShift,
    Stress,
    StressScores,
    TemperatureShift,
    TransitionBlur,
    stress_designs,
)
from cbrl_bayes.sensitivity.study import (
    compare_followers,
    prior_sensitivity,
    sobol_indices,
    stress_test,
)
from cbrl_bayes.sensitivity.tables import loss_table, stress_table

__all__ = [
    "AlteredProblem",
    "ContextShift",
    "SobolIndices",
    "Stress",
    "StressScores",
    "TemperatureShift",
    "TransitionBlur",
    "WeightedDecision",
    "compare_followers",
    "first_order_indices",
    "loss_table",
    "prior_sensitivity",
    "sensitivity_table",
    "sobol_indices",
    "stress_designs",
    "stress_table",
    "stress_test",
    "study_outputs",
    "weighted_decision",
]
