"""Decisions under the posterior: designs per draw, one design for all, regrets."""

from cbrl_bayes.decisions.average import PosteriorAverage
from cbrl_bayes.decisions.evaluation import (
    Evaluation,
    ExactEvaluation,
    Score,
    SimulatedEvaluation,
)
from cbrl_bayes.decisions.study import DesignSettings, DesignStudy, study_designs

__all__ = [
    "DesignSettings",
    "DesignStudy",
    "Evaluation",
    "ExactEvaluation",
    "PosteriorAverage",
    "Score",
    "SimulatedEvaluation",
    "study_designs",
]
