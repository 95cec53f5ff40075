"""How often intervals hold the truth: simulated data, inference and whole studies."""

from cbrl_bayes.calibration.coverage import (
    binomial_band,
    calibrate_decisions,
    decision_coverage,
    detectable_coverage,
)
from cbrl_bayes.calibration.fits import CalibrationSettings, SimulatedFits, fit_simulated, ranks_of
from cbrl_bayes.calibration.ranks import calibrate_inference, rank_uniformity
from cbrl_bayes.calibration.studies import DecisionRecord, study_simulated

__all__ = [
    "CalibrationSettings",
    "DecisionRecord",
    "SimulatedFits",
    "binomial_band",
    "calibrate_decisions",
    "calibrate_inference",
    "decision_coverage",
    "detectable_coverage",
    "fit_simulated",
    "rank_uniformity",
    "ranks_of",
    "study_simulated",
]
