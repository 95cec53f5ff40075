"""Estimators of the hypergradient, one file each, and the ascent loop."""

from cbrl_bayes.hypergradients.contract import EstimateInfo, Estimator
from cbrl_bayes.hypergradients.exact import Exact
from cbrl_bayes.hypergradients.hpgd import HPGD

ESTIMATORS = {"exact": Exact, "hpgd": HPGD}
"""Estimators by name: what the command line offers and the conformance tests walk."""

__all__ = ["ESTIMATORS", "HPGD", "EstimateInfo", "Estimator", "Exact"]
