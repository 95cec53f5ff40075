"""Contextual bilevel problems: the record, what an incentive leads to, ready-made ones."""

from collections.abc import Callable

from cbrl_bayes.problems import follower_models
from cbrl_bayes.problems.borlange import borlange
from cbrl_bayes.problems.bus_replacement import MILES_PER_BIN, bus_replacement
from cbrl_bayes.problems.chains import Chain
from cbrl_bayes.problems.congestion import Congestion
from cbrl_bayes.problems.constraints import Bounds, Budget, Monotone, constrained
from cbrl_bayes.problems.contexts import ContextDistribution, DiscreteContexts, SampledContexts
from cbrl_bayes.problems.contract_design import COST_TYPES, contract_design
from cbrl_bayes.problems.delta_rule import DeltaRule
from cbrl_bayes.problems.dependence import depends_on_input
from cbrl_bayes.problems.equilibrium import (
    POPULATION,
    Equilibrium,
    Population,
    equilibria,
    equilibrium,
    refuse_population,
    settled,
    start_of_crowd,
)
from cbrl_bayes.problems.feasibility import Feasibility, check_mdps, mdps_are_valid
from cbrl_bayes.problems.four_rooms import (
    SLIP_AS_PUBLISHED,
    SLIP_OF_PUBLISHED_SIMULATOR,
    four_rooms,
)
from cbrl_bayes.problems.four_rooms_doors import FOUR_ROOMS_DOORS, four_rooms_doors
from cbrl_bayes.problems.grid_model import GridModel
from cbrl_bayes.problems.grid_world import FOUR_ROOMS_MAP
from cbrl_bayes.problems.grids import Grid
from cbrl_bayes.problems.history import History, refuse_history, walk
from cbrl_bayes.problems.household_economy import HouseholdEconomy
from cbrl_bayes.problems.incentive import IncentiveSpace, Labels, scaled_sigmoid
from cbrl_bayes.problems.life_cycle import life_cycle
from cbrl_bayes.problems.outcome import (
    LeaderOutcome,
    leader_gain,
    leader_outcome,
    leader_total,
    respond_everywhere,
)
from cbrl_bayes.problems.periods import period_labels
from cbrl_bayes.problems.population import Followers
from cbrl_bayes.problems.random_mdp import random_mdp
from cbrl_bayes.problems.reach import reach_of
from cbrl_bayes.problems.record import Problem
from cbrl_bayes.problems.reserve_price import reserve_price
from cbrl_bayes.problems.response import respond
from cbrl_bayes.problems.rlhf import comparison_log_probability, rlhf
from cbrl_bayes.problems.road_network import RoadNetwork, Trips
from cbrl_bayes.problems.route_choice import route_choice
from cbrl_bayes.problems.shared_default_policy import (
    Tasks,
    bandit_tasks,
    goal_tasks,
    shared_default_policy,
)
from cbrl_bayes.problems.shared_network import SharedNetwork, shared_network
from cbrl_bayes.problems.shocks import Shock
from cbrl_bayes.problems.tax_design import (
    PUBLISHED_PREFERENCES,
    HouseholdAccounts,
    household_accounts,
    tax_design,
)
from cbrl_bayes.problems.two_option_learning import two_option_learning
from cbrl_bayes.problems.two_state import two_state
from cbrl_bayes.problems.unknown_law import (
    LAW,
    LawSupport,
    has_unknown_law,
    law_dependence,
    law_moves_with,
    law_support,
    with_unknown_law,
)
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
    "contract_design": contract_design,
    "four_rooms": four_rooms,
    "four_rooms_doors": four_rooms_doors,
    "life_cycle": life_cycle,
    "reserve_price": reserve_price,
    "tax_design": tax_design,
    "two_state": two_state,
}
"""Ready-made problems by name, which the conformance tests walk; the command line offers more."""

__all__ = [
    "COST_TYPES",
    "FOUR_ROOMS_DOORS",
    "FOUR_ROOMS_MAP",
    "LAW",
    "MILES_PER_BIN",
    "POPULATION",
    "PUBLISHED_PREFERENCES",
    "READY_MADE",
    "SLIP_AS_PUBLISHED",
    "SLIP_OF_PUBLISHED_SIMULATOR",
    "Aggregate",
    "Bounds",
    "Budget",
    "Chain",
    "Congestion",
    "ContextDistribution",
    "DeltaRule",
    "DiscreteContexts",
    "Equilibrium",
    "Feasibility",
    "Followers",
    "GiniWelfare",
    "Grid",
    "GridModel",
    "History",
    "HouseholdAccounts",
    "HouseholdEconomy",
    "IncentiveSpace",
    "KolmPollak",
    "Labels",
    "LawSupport",
    "LeaderOutcome",
    "Minimum",
    "Monotone",
    "Population",
    "Problem",
    "RoadNetwork",
    "SampledContexts",
    "SharedNetwork",
    "Shock",
    "SocialWelfare",
    "Tasks",
    "Trips",
    "WelfareIndex",
    "bandit_tasks",
    "borlange",
    "bus_replacement",
    "check_mdps",
    "comparison_log_probability",
    "constrained",
    "contract_design",
    "depends_on_input",
    "equilibria",
    "equilibrium",
    "follower_models",
    "four_rooms",
    "four_rooms_doors",
    "goal_tasks",
    "has_unknown_law",
    "household_accounts",
    "law_dependence",
    "law_moves_with",
    "law_support",
    "leader_gain",
    "leader_outcome",
    "leader_total",
    "life_cycle",
    "mdps_are_valid",
    "period_labels",
    "random_mdp",
    "reach_of",
    "refuse_history",
    "refuse_population",
    "reserve_price",
    "respond",
    "respond_everywhere",
    "rlhf",
    "route_choice",
    "scaled_sigmoid",
    "settled",
    "shared_default_policy",
    "shared_network",
    "start_of_crowd",
    "tax_design",
    "two_option_learning",
    "two_state",
    "walk",
    "with_unknown_law",
]
