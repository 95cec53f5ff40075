"""From posterior draws to designs: per draw, for all draws, by any criterion, and their scores."""

from cbrl_bayes.designs.alternatives import Alternatives, read_alternatives
from cbrl_bayes.designs.average import PosteriorCriterion
from cbrl_bayes.designs.criteria import (
    AcrossContexts,
    Criterion,
    CVaR,
    Expectation,
    MeanVariance,
    MinimaxRegret,
    RiskCriterion,
    VaR,
    WorstCase,
)
from cbrl_bayes.designs.defaults import default_design_settings
from cbrl_bayes.designs.devices import DeviceExecutor
from cbrl_bayes.designs.evaluation import (
    Evaluation,
    ExactEvaluation,
    Score,
    SimulatedEvaluation,
    scores_are_noisy,
)
from cbrl_bayes.designs.executors import DaskExecutor, Executor, ThreadExecutor
from cbrl_bayes.designs.other_laws import score_under_other_laws
from cbrl_bayes.designs.scoring import evaluate_designs, readable_designs
from cbrl_bayes.designs.seldom import seldom_share
from cbrl_bayes.designs.solve import DesignSettings, DesignStudy, study_designs
from cbrl_bayes.designs.thinning import evenly_spaced
from cbrl_bayes.designs.watching import WatchedRounds, laws_of_rounds, watch_in_rounds, with_watched

__all__ = [
    "AcrossContexts",
    "Alternatives",
    "CVaR",
    "Criterion",
    "DaskExecutor",
    "DesignSettings",
    "DesignStudy",
    "DeviceExecutor",
    "Evaluation",
    "ExactEvaluation",
    "Executor",
    "Expectation",
    "MeanVariance",
    "MinimaxRegret",
    "PosteriorCriterion",
    "RiskCriterion",
    "Score",
    "SimulatedEvaluation",
    "ThreadExecutor",
    "VaR",
    "WatchedRounds",
    "WorstCase",
    "default_design_settings",
    "evaluate_designs",
    "evenly_spaced",
    "laws_of_rounds",
    "read_alternatives",
    "readable_designs",
    "score_under_other_laws",
    "scores_are_noisy",
    "seldom_share",
    "study_designs",
    "watch_in_rounds",
    "with_watched",
]
