"""Contextual bilevel problems: the record, what an incentive leads to, ready-made ones."""

from collections.abc import Callable

from cbrl_bayes.problems.bus_replacement import MILES_PER_BIN, bus_replacement
from cbrl_bayes.problems.contexts import ContextDistribution, DiscreteContexts, SampledContexts
from cbrl_bayes.problems.dependence import depends_on_input
from cbrl_bayes.problems.four_rooms import (
    FOUR_ROOMS_MAP,
    SLIP_AS_PUBLISHED,
    SLIP_OF_PUBLISHED_SIMULATOR,
    four_rooms,
)
from cbrl_bayes.problems.household_economy import HouseholdEconomy
from cbrl_bayes.problems.incentive import IncentiveSpace, Labels, scaled_sigmoid
from cbrl_bayes.problems.outcome import (
    LeaderOutcome,
    follower_mdp,
    leader_gain,
    leader_outcome,
    leader_total,
    respond,
    respond_everywhere,
)
from cbrl_bayes.problems.random_mdp import random_mdp
from cbrl_bayes.problems.record import Followers, Problem
from cbrl_bayes.problems.tax_design import (
    PUBLISHED_PREFERENCES,
    HouseholdAccounts,
    household_accounts,
    tax_design,
)
from cbrl_bayes.problems.two_state import two_state
from cbrl_bayes.problems.welfare import (
    Aggregate,
    GiniWelfare,
    KolmPollak,
    Minimum,
    SocialWelfare,
    WelfareIndex,
)

READY_MADE: dict[str, Callable[..., Problem]] = {
    "bus_replacement": bus_replacement,
    "four_rooms": four_rooms,
    "tax_design": tax_design,
    "two_state": two_state,
}
"""Ready-made problems by name: what the command line offers and the conformance tests walk."""

__all__ = [
    "FOUR_ROOMS_MAP",
    "MILES_PER_BIN",
    "PUBLISHED_PREFERENCES",
    "READY_MADE",
    "SLIP_AS_PUBLISHED",
    "SLIP_OF_PUBLISHED_SIMULATOR",
    "Aggregate",
    "ContextDistribution",
    "DiscreteContexts",
    "Followers",
    "GiniWelfare",
    "HouseholdAccounts",
    "HouseholdEconomy",
    "IncentiveSpace",
    "KolmPollak",
    "Labels",
    "LeaderOutcome",
    "Minimum",
    "Problem",
    "SampledContexts",
    "SocialWelfare",
    "WelfareIndex",
    "bus_replacement",
    "depends_on_input",
    "follower_mdp",
    "four_rooms",
    "household_accounts",
    "leader_gain",
    "leader_outcome",
    "leader_total",
    "random_mdp",
    "respond",
    "respond_everywhere",
    "scaled_sigmoid",
    "tax_design",
    "two_state",
]
