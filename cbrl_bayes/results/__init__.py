"""Labelled results: schema, assembly, intervals, health, storage."""

from cbrl_bayes.results.assembly import add_design, add_response, fit_tree, incentive_names
from cbrl_bayes.results.calibration import calibrate_inference, rank_uniformity
from cbrl_bayes.results.checkpoint import Checkpoint, Records, open_records
from cbrl_bayes.results.decision_calibration import (
    binomial_band,
    calibrate_decisions,
    decision_coverage,
    detectable_coverage,
)
from cbrl_bayes.results.designed import Designed, designed, posterior_draws, thinned, with_groups
from cbrl_bayes.results.error_budget import error_budget
from cbrl_bayes.results.health import Health, assess
from cbrl_bayes.results.identity import identify
from cbrl_bayes.results.information import InformationTable, information_table
from cbrl_bayes.results.provenance import certificate, fingerprint
from cbrl_bayes.results.robust import DesignComparison, add_robust, compare_designs
from cbrl_bayes.results.robustness import loss_table, stress_table
from cbrl_bayes.results.schema import check_tree, tree_violations
from cbrl_bayes.results.sensitivity import sensitivity_table
from cbrl_bayes.results.storage import load, save
from cbrl_bayes.results.summary import Summary, summary

__all__ = [
    "Checkpoint",
    "DesignComparison",
    "Designed",
    "Health",
    "InformationTable",
    "Records",
    "Summary",
    "add_design",
    "add_response",
    "add_robust",
    "assess",
    "binomial_band",
    "calibrate_decisions",
    "calibrate_inference",
    "certificate",
    "check_tree",
    "compare_designs",
    "decision_coverage",
    "designed",
    "detectable_coverage",
    "error_budget",
    "fingerprint",
    "fit_tree",
    "identify",
    "incentive_names",
    "information_table",
    "load",
    "loss_table",
    "open_records",
    "posterior_draws",
    "rank_uniformity",
    "save",
    "sensitivity_table",
    "stress_table",
    "summary",
    "thinned",
    "tree_violations",
    "with_groups",
]
