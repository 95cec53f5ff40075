"""How often intervals hold the truth: simulated data, inference and whole studies."""

from cbrl_bayes.calibration.coverage import binomial_band, detectable_coverage, mean_rank_p_value
from cbrl_bayes.calibration.fits import CalibrationSettings, SimulatedFits, fit_simulated
from cbrl_bayes.calibration.ranks import ranks_of
from cbrl_bayes.calibration.studies import DecisionRecord, study_simulated
from cbrl_bayes.calibration.study import (
    DecisionCalibrationSettings,
    calibrate_decisions,
    calibrate_inference,
)
from cbrl_bayes.calibration.tables import decision_coverage, rank_uniformity

__all__ = [
    "CalibrationSettings",
    "DecisionCalibrationSettings",
    "DecisionRecord",
    "SimulatedFits",
    "binomial_band",
    "calibrate_decisions",
    "calibrate_inference",
    "decision_coverage",
    "detectable_coverage",
    "fit_simulated",
    "mean_rank_p_value",
    "rank_uniformity",
    "ranks_of",
    "study_simulated",
]
