"""Decisions under the posterior: designs per draw, for all draws, by any criterion; regrets."""

from cbrl_bayes.decisions.average import PosteriorCriterion
from cbrl_bayes.decisions.calibration import DecisionRecord, study_simulated
from cbrl_bayes.decisions.chance import (
    ChanceConstraint,
    ConstrainedCriterion,
    CostAtMost,
    FollowerValueAtLeast,
    ObjectiveAtLeast,
)
from cbrl_bayes.decisions.criteria import (
    AcrossContexts,
    Criterion,
    CVaR,
    Expectation,
    MeanVariance,
    MinimaxRegret,
    VaR,
    WorstCase,
)
from cbrl_bayes.decisions.depth import posterior_depth
from cbrl_bayes.decisions.devices import DeviceExecutor
from cbrl_bayes.decisions.evaluation import (
    Evaluation,
    ExactEvaluation,
    Score,
    SimulatedEvaluation,
    scores_are_noisy,
)
from cbrl_bayes.decisions.executors import DaskExecutor, Executor, ThreadExecutor
from cbrl_bayes.decisions.experiments import Experiment, FutureData, simulate_experiments
from cbrl_bayes.decisions.information import (
    InformationValue,
    conditional_benefit,
    expected_regret,
    partial_information,
    perfect_information,
)
from cbrl_bayes.decisions.options import DesignScores, evaluate_designs, readable_designs
from cbrl_bayes.decisions.robust import (
    RobustSettings,
    RobustStudy,
    robust_designs,
)
from cbrl_bayes.decisions.sampling import (
    SampleInformation,
    reweighted_information,
    sample_information,
)
from cbrl_bayes.decisions.smoothing import KernelRegression, SplineRegression
from cbrl_bayes.decisions.stress import (
    AlteredProblem,
    ContextShift,
    Stress,
    StressScores,
    TemperatureShift,
    TransitionBlur,
    stress_designs,
)
from cbrl_bayes.decisions.study import DesignSettings, DesignStudy, study_designs
from cbrl_bayes.decisions.thinning import evenly_spaced

__all__ = [
    "AcrossContexts",
    "AlteredProblem",
    "CVaR",
    "ChanceConstraint",
    "ConstrainedCriterion",
    "ContextShift",
    "CostAtMost",
    "Criterion",
    "DaskExecutor",
    "DecisionRecord",
    "DesignScores",
    "DesignSettings",
    "DesignStudy",
    "DeviceExecutor",
    "Evaluation",
    "ExactEvaluation",
    "Executor",
    "Expectation",
    "Experiment",
    "FollowerValueAtLeast",
    "FutureData",
    "InformationValue",
    "KernelRegression",
    "MeanVariance",
    "MinimaxRegret",
    "ObjectiveAtLeast",
    "PosteriorCriterion",
    "RobustSettings",
    "RobustStudy",
    "SampleInformation",
    "Score",
    "SimulatedEvaluation",
    "SplineRegression",
    "Stress",
    "StressScores",
    "TemperatureShift",
    "ThreadExecutor",
    "TransitionBlur",
    "VaR",
    "WorstCase",
    "conditional_benefit",
    "evaluate_designs",
    "evenly_spaced",
    "expected_regret",
    "partial_information",
    "perfect_information",
    "posterior_depth",
    "readable_designs",
    "reweighted_information",
    "robust_designs",
    "sample_information",
    "scores_are_noisy",
    "simulate_experiments",
    "stress_designs",
    "study_designs",
    "study_simulated",
]
