"""A leader in rounds: decide, watch, learn, decide again; and when to stop."""

from cbrl_bayes.campaigns.answers import Answer, Episodes, Watch
from cbrl_bayes.campaigns.desk import Desk, Outcomes, PlanningSettings
from cbrl_bayes.campaigns.dynamics import DynamicsSettings, LearnedDynamics
from cbrl_bayes.campaigns.engine import Check, Engine, Plan, State
from cbrl_bayes.campaigns.folder import CampaignFolder
from cbrl_bayes.campaigns.particles import Particles, ParticleSettings
from cbrl_bayes.campaigns.policies import (
    POLICIES,
    EpsilonGreedy,
    FixedArms,
    Greedy,
    KnowledgeGradient,
    Policy,
    Situation,
    Thompson,
    UpperConfidence,
)
from cbrl_bayes.campaigns.real import Campaign, open_campaign
from cbrl_bayes.campaigns.rivals import Comparison, Rivals, usual_rivals
from cbrl_bayes.campaigns.round_plan import RoundPlan
from cbrl_bayes.campaigns.rules import CampaignConstraints, NetValue, StopRule
from cbrl_bayes.campaigns.settings import CampaignSettings, suitable_settings
from cbrl_bayes.campaigns.simulation import Simulation
from cbrl_bayes.campaigns.study import simulate_campaigns
from cbrl_bayes.campaigns.surprise import STATISTICS, Evidence, bets_of, p_values
from cbrl_bayes.campaigns.tables import campaign_table
from cbrl_bayes.campaigns.watching import World

__all__ = [
    "POLICIES",
    "STATISTICS",
    "Answer",
    "Campaign",
    "CampaignConstraints",
    "CampaignFolder",
    "CampaignSettings",
    "Check",
    "Comparison",
    "Desk",
    "DynamicsSettings",
    "Engine",
    "Episodes",
    "EpsilonGreedy",
    "Evidence",
    "FixedArms",
    "Greedy",
    "KnowledgeGradient",
    "LearnedDynamics",
    "NetValue",
    "Outcomes",
    "ParticleSettings",
    "Particles",
    "Plan",
    "PlanningSettings",
    "Policy",
    "Rivals",
    "RoundPlan",
    "Simulation",
    "Situation",
    "State",
    "StopRule",
    "Thompson",
    "UpperConfidence",
    "Watch",
    "World",
    "bets_of",
    "campaign_table",
    "open_campaign",
    "p_values",
    "simulate_campaigns",
    "suitable_settings",
    "usual_rivals",
]
