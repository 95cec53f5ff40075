"""Labelled results: schema, assembly, intervals, health, storage."""

from cbrl_bayes.results.assembly import add_design, add_response, fit_tree, incentive_names
from cbrl_bayes.results.designed import Designed, designed, posterior_draws, with_groups
from cbrl_bayes.results.health import Health, assess
from cbrl_bayes.results.provenance import certificate, fingerprint
from cbrl_bayes.results.schema import check_tree, tree_violations
from cbrl_bayes.results.storage import load, save
from cbrl_bayes.results.summary import Summary, summary

__all__ = [
    "Designed",
    "Health",
    "Summary",
    "add_design",
    "add_response",
    "assess",
    "certificate",
    "check_tree",
    "designed",
    "fingerprint",
    "fit_tree",
    "incentive_names",
    "load",
    "posterior_draws",
    "save",
    "summary",
    "tree_violations",
    "with_groups",
]
