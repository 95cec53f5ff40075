"""Estimators of the hypergradient, one file each, the ascent loop and the search around it."""

from collections.abc import Callable

from cbrl_bayes.hypergradients.amd import AMD
from cbrl_bayes.hypergradients.ascent import Ascent, AscentProgram
from cbrl_bayes.hypergradients.boltzmann_covariance import BoltzmannCovariance
from cbrl_bayes.hypergradients.contract import EstimateInfo, Estimator, FollowerAccess
from cbrl_bayes.hypergradients.doubly_robust import DoublyRobust
from cbrl_bayes.hypergradients.exact import Exact
from cbrl_bayes.hypergradients.hpgd import HPGD
from cbrl_bayes.hypergradients.learned_law import LawPrior
from cbrl_bayes.hypergradients.learned_model import LearnedModel
from cbrl_bayes.hypergradients.penalty import Penalty
from cbrl_bayes.hypergradients.rounds import Round, Rounds, RoundsResult, rounds_that_watch
from cbrl_bayes.hypergradients.rounds_program import RoundsProgram
from cbrl_bayes.hypergradients.rt_q import RTQ
from cbrl_bayes.hypergradients.search import (
    LOW_PRICES,
    Search,
    SearchProgram,
    SearchResult,
    global_search,
)
from cbrl_bayes.hypergradients.sobirl import SoBiRL
from cbrl_bayes.hypergradients.trace import AscentResult, AscentTrace
from cbrl_bayes.hypergradients.zeroth_order import ZerothOrder
from cbrl_bayes.status import FAILED_ASCENTS, AscentStatus

ESTIMATORS: dict[str, Callable[..., Estimator]] = {
    "exact": Exact,
    "learned_model": LearnedModel,
    "doubly_robust": DoublyRobust,
    "hpgd": HPGD,
    "boltzmann_covariance": BoltzmannCovariance,
    "rt_q": RTQ,
    "amd": AMD,
    "sobirl": SoBiRL,
    "penalty": Penalty,
    "zeroth_order": ZerothOrder,
}
"""Estimators by name: what the command line offers and the conformance tests walk."""

__all__ = [
    "AMD",
    "ESTIMATORS",
    "FAILED_ASCENTS",
    "HPGD",
    "LOW_PRICES",
    "RTQ",
    "Ascent",
    "AscentProgram",
    "AscentResult",
    "AscentStatus",
    "AscentTrace",
    "BoltzmannCovariance",
    "DoublyRobust",
    "EstimateInfo",
    "Estimator",
    "Exact",
    "FollowerAccess",
    "LawPrior",
    "LearnedModel",
    "Penalty",
    "Round",
    "Rounds",
    "RoundsProgram",
    "RoundsResult",
    "Search",
    "SearchProgram",
    "SearchResult",
    "SoBiRL",
    "ZerothOrder",
    "global_search",
    "rounds_that_watch",
]
