"""What is worth finding out before deciding, and which experiment pays."""

from cbrl_bayes.information.experiments import Experiment, FutureData, simulate_experiments
from cbrl_bayes.information.sampling import (
    SampleInformation,
    reweighted_information,
    sample_information,
)
from cbrl_bayes.information.smoothing import KernelRegression, SplineRegression
from cbrl_bayes.information.study import InformationSettings, value_of_information
from cbrl_bayes.information.tables import information_table
from cbrl_bayes.information.values import (
    InformationValue,
    conditional_benefit,
    expected_regret,
    partial_information,
    perfect_information,
)

__all__ = [
    "Experiment",
    "FutureData",
    "InformationSettings",
    "InformationValue",
    "KernelRegression",
    "SampleInformation",
    "SplineRegression",
    "conditional_benefit",
    "expected_regret",
    "information_table",
    "partial_information",
    "perfect_information",
    "reweighted_information",
    "sample_information",
    "simulate_experiments",
    "value_of_information",
]
