"""Labelled results: schema, assembly, intervals, health, storage."""

from cbrl_bayes.results.assembly import add_design, add_response, fit_tree, incentive_names
from cbrl_bayes.results.checkpoint import Checkpoint, Records, open_records
from cbrl_bayes.results.designed import Designed, designed, posterior_draws, thinned, with_groups
from cbrl_bayes.results.error_budget import error_budget
from cbrl_bayes.results.health import Health, assess
from cbrl_bayes.results.identity import identify
from cbrl_bayes.results.provenance import certificate, fingerprint
from cbrl_bayes.results.running import running
from cbrl_bayes.results.schema import check_tree, tree_violations
from cbrl_bayes.results.storage import load, save
from cbrl_bayes.results.summary import summary
from cbrl_bayes.results.table import Table, check_interval, design_title, need_group, study_table

__all__ = [
    "Checkpoint",
    "Designed",
    "Health",
    "Records",
    "Table",
    "add_design",
    "add_response",
    "assess",
    "certificate",
    "check_interval",
    "check_tree",
    "design_title",
    "designed",
    "error_budget",
    "fingerprint",
    "fit_tree",
    "identify",
    "incentive_names",
    "load",
    "need_group",
    "open_records",
    "posterior_draws",
    "running",
    "save",
    "study_table",
    "summary",
    "thinned",
    "tree_violations",
    "with_groups",
]
