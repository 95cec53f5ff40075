"""What is calibrated, and with how many simulated data sets: models of behaviour, and problems."""

import dataclasses

import jax
import numpy as np
import numpyro.distributions as dist

import cbrl_bayes as cb
from cbrl_bayes.calibration import CalibrationSettings, DecisionCalibrationSettings
from cbrl_bayes.inference import (
    BehaviourSimulation,
    PreferenceModel,
    PreferenceSimulation,
    ShareSimulation,
)
from cbrl_bayes.inference.shares import DirichletShares, Participation
from cbrl_bayes.problems import HouseholdEconomy, SampledContexts
from tests.conftest import PLACES, make_workshop

SAMPLING = CalibrationSettings(num_draws=49, num_warmup=200, thinning=8)
CAREFUL = dataclasses.replace(SAMPLING, target_accept=0.97, thinning=12)


def started(problem, **settings):
    """Behaviour under the incentive at which searches begin."""
    incentive = problem.incentive.transform(problem.incentive.initial)
    return BehaviourSimulation(problem, incentive=incentive, **settings)


def _grouped(prior, groups):
    names = tuple(f"group {i}" for i in range(groups))
    problem = cb.problems.two_state().with_followers(names, (1.0 / groups,) * groups)
    return BehaviourSimulation(
        problem, {"temperature": prior}, num_episodes=10 * groups, num_steps=1
    )


def _continuous():
    contexts = SampledContexts(
        lambda p, key: p["cost_mean"] + 0.5 * jax.random.normal(key), 8, {"cost_mean": 1.0}
    )
    problem = dataclasses.replace(cb.problems.two_state(), contexts=contexts)
    family = cb.ContextFamily(
        lambda p: dist.Normal(p["cost_mean"], 0.5), {"cost_mean": dist.Normal(1.0, 1.0)}
    )
    return BehaviourSimulation(problem, context_family=family, num_episodes=15, num_steps=1)


def _preferences():
    pairs = [(0, i, j, n) for n in range(3) for i in range(4) for j in range(4) if i < j]
    model = PreferenceModel(np.array(pairs), np.ones((len(pairs), 3)), 1, 4, 3)
    return PreferenceSimulation(model, num_judgements=3)


def _shares(model):
    design = np.linspace(-1.5, 1.5, 12)[:, None]
    return ShareSimulation(model, design, num_goods=3)


def _learners():
    problem = cb.problems.two_option_learning(num_trials=20, budgets=(6.0, 6.0))
    reward = np.random.default_rng(0).binomial(1, 0.3, (20, 2)).astype(float)
    return BehaviourSimulation(
        problem.with_followers(("young", "old"), (0.5, 0.5)),
        {
            "temperature": cb.Hierarchical(dist.LogNormal(-1.6, 0.7)),
            "learning_rate": cb.Hierarchical(dist.Beta(1.5, 3.0)),
        },
        num_episodes=10,
        num_steps=20,
        incentive={"reward": reward},
    )


def _law_not_known():
    return cb.problems.with_unknown_law(make_workshop())


MODELS = {
    "one temperature": (
        lambda: BehaviourSimulation(cb.problems.two_state(), num_episodes=20, num_steps=1),
        500,
        SAMPLING,
    ),
    "temperature per group": (
        lambda: _grouped(cb.PerGroup(dist.LogNormal(-1.4, 1.0)), 2),
        500,
        SAMPLING,
    ),
    "hierarchy over groups": (
        lambda: _grouped(cb.Hierarchical(dist.LogNormal(-1.4, 1.0)), 3),
        300,
        CAREFUL,
    ),
    "hidden contexts": (
        lambda: started(cb.problems.contract_design(), num_episodes=15, num_steps=3, num_hidden=8),
        300,
        SAMPLING,
    ),
    "continuous contexts": (_continuous, 300, SAMPLING),
    "recorded transitions": (
        lambda: started(
            cb.problems.bus_replacement(num_bins=12, target_mileage=30_000),
            num_episodes=3,
            num_steps=30,
            record_transitions=True,
        ),
        300,
        SAMPLING,
    ),
    "unknown law": (
        lambda: started(_law_not_known(), num_episodes=6, num_steps=10, record_transitions=True),
        300,
        SAMPLING,
    ),
    "shares, Dirichlet": (lambda: _shares(DirichletShares()), 500, SAMPLING),
    "shares, which are bought": (lambda: _shares(Participation()), 500, SAMPLING),
    "preferences": (_preferences, 300, CAREFUL),
    "learners, a hierarchy": (_learners, 100, CAREFUL),
}
"""Model -> (simulation, data sets, settings of the fits)."""

FEW = DecisionCalibrationSettings(num_draws=39, num_warmup=200, thinning=6)


def _small_taxes():
    economy = HouseholdEconomy(
        num_goods=2,
        num_assets=11,
        num_hours=4,
        hours_step=2.5,
        spending_step=2.5,
        spending_levels=(0, 1, 2),
    )
    preferences = {"food": (0.7, 0.3), "travel": (0.3, 0.7)}
    problem = cb.problems.tax_design(preferences=preferences, economy=economy)
    return started(problem, num_episodes=6, num_steps=10)


SMALL_DOORS = {"north": (2, 3), "west": (3, 2), "east": (3, 4), "south": (5, 3)}


PROBLEMS = {
    "bus_replacement": lambda: started(
        cb.problems.bus_replacement(num_bins=30, target_mileage=60_000),
        num_episodes=12,
        num_steps=40,
        record_transitions=True,
    ),
    "contract_design": lambda: started(cb.problems.contract_design(), num_episodes=12, num_steps=2),
    "four_rooms": lambda: started(cb.problems.four_rooms(**PLACES), num_episodes=12, num_steps=20),
    "four_rooms_doors": lambda: started(
        cb.problems.four_rooms_doors(doors=SMALL_DOORS, **PLACES), num_episodes=12, num_steps=20
    ),
    "life_cycle": lambda: started(
        cb.problems.life_cycle(num_periods=8, retirement=5, num_assets=6),
        num_episodes=12,
        num_steps=8,
    ),
    "reserve_price": lambda: started(
        cb.problems.reserve_price(value_probability=(0.2,) * 5), num_episodes=12, num_steps=1
    ),
    "tax_design": _small_taxes,
    "two_state": lambda: started(cb.problems.two_state(), num_episodes=12, num_steps=1),
}
"""Problem -> simulation; each with `DecisionCalibrationSettings.num_data_sets` data sets."""

OTHERS = {
    "workshop, law not known": lambda: started(
        _law_not_known(), num_episodes=6, num_steps=10, record_transitions=True
    )
}
"""Likewise, of problems made for this, with as many data sets as `FEWER` says."""

FEWER = dataclasses.replace(FEW, num_data_sets=200)
