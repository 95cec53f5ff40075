"""Decisions under the posterior: designs per draw, one design for all, regrets."""

from cbrl_bayes.decisions.average import PosteriorAverage
from cbrl_bayes.decisions.evaluation import (
    Evaluation,
    ExactEvaluation,
    Score,
    SimulatedEvaluation,
)
from cbrl_bayes.decisions.options import DesignScores, evaluate_designs
from cbrl_bayes.decisions.study import DesignSettings, DesignStudy, study_designs

__all__ = [
    "DesignScores",
    "DesignSettings",
    "DesignStudy",
    "Evaluation",
    "ExactEvaluation",
    "PosteriorAverage",
    "Score",
    "SimulatedEvaluation",
    "evaluate_designs",
    "study_designs",
]
