"""Estimators of the hypergradient, one file each, the ascent loop and the search around it."""

from collections.abc import Callable

from cbrl_bayes.hypergradients.ascent import (
    Ascent,
    AscentProgram,
    AscentResult,
    AscentStatus,
    AscentTrace,
)
from cbrl_bayes.hypergradients.contract import EstimateInfo, Estimator
from cbrl_bayes.hypergradients.exact import Exact
from cbrl_bayes.hypergradients.hpgd import HPGD
from cbrl_bayes.hypergradients.search import Search, SearchProgram, SearchResult, global_search

ESTIMATORS: dict[str, Callable[..., Estimator]] = {"exact": Exact, "hpgd": HPGD}
"""Estimators by name: what the command line offers and the conformance tests walk."""

__all__ = [
    "ESTIMATORS",
    "HPGD",
    "Ascent",
    "AscentProgram",
    "AscentResult",
    "AscentStatus",
    "AscentTrace",
    "EstimateInfo",
    "Estimator",
    "Exact",
    "Search",
    "SearchProgram",
    "SearchResult",
    "global_search",
]
