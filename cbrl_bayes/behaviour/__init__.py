"""Observed behaviour: its format, checker, loaders, real data, simulation, reduction to counts."""

from cbrl_bayes.behaviour.borlange import load_borlange, route_trajectories
from cbrl_bayes.behaviour.check import check_trajectories, violations_of
from cbrl_bayes.behaviour.comparisons import OUTCOMES, load_comparisons
from cbrl_bayes.behaviour.counts import BehaviourCounts, count_behaviour
from cbrl_bayes.behaviour.households import load_household_shares, make_household_shares
from cbrl_bayes.behaviour.incentives import none_is_stated, regimes_stated, with_incentives
from cbrl_bayes.behaviour.joining import concatenate
from cbrl_bayes.behaviour.loaders import load_trajectories
from cbrl_bayes.behaviour.overview import DataReport, data_report
from cbrl_bayes.behaviour.saving import save_trajectories
from cbrl_bayes.behaviour.schema import MISSING, make_trajectories
from cbrl_bayes.behaviour.simulate import simulate_trajectories
from cbrl_bayes.behaviour.table import from_table
from cbrl_bayes.behaviour.transitions import slots_of
from cbrl_bayes.behaviour.zurcher import load_zurcher

__all__ = [
    "MISSING",
    "OUTCOMES",
    "BehaviourCounts",
    "DataReport",
    "check_trajectories",
    "concatenate",
    "count_behaviour",
    "data_report",
    "from_table",
    "load_borlange",
    "load_comparisons",
    "load_household_shares",
    "load_trajectories",
    "load_zurcher",
    "make_household_shares",
    "make_trajectories",
    "none_is_stated",
    "regimes_stated",
    "route_trajectories",
    "save_trajectories",
    "simulate_trajectories",
    "slots_of",
    "violations_of",
    "with_incentives",
]
