"""Many followers: groups solved once, welfare over their values, draws per follower."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cbrl_bayes as cb
from cbrl_bayes.designs import ExactEvaluation, SimulatedEvaluation
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.hypergradients import Ascent, AscentProgram, Exact, ZerothOrder
from cbrl_bayes.problems import (
    Followers,
    GiniWelfare,
    KolmPollak,
    Minimum,
    SampledContexts,
    SocialWelfare,
    leader_outcome,
    two_state,
)
from tests.conformance.checks import SMALL

COSTS = np.array([0.5, 1.5])
TEMPERATURES = np.array([0.1, 0.3, 0.9])
WEIGHTS = np.array([0.2, 0.5, 0.3])


def _crowd(aggregate=None):
    problem = two_state().with_followers(("sharp", "usual", "vague"), tuple(WEIGHTS))
    parameters = problem.complete_parameters({"temperature": TEMPERATURES})
    return replace(problem, aggregate=aggregate), parameters


def _by_hand(bonus):
    """Gain, value and mass of every cost and follower in closed form."""
    worth = (bonus - COSTS[:, None]) / TEMPERATURES
    gain = (2.0 - bonus) / (1.0 + np.exp(-worth))
    value = TEMPERATURES * np.log1p(np.exp(worth))
    return gain, value, 0.5 * np.broadcast_to(WEIGHTS, gain.shape)


def _gini_by_loops(value, share):
    pairs = [(a, b) for a in zip(value, share, strict=True) for b in zip(value, share, strict=True)]
    return sum(s * t * min(v, w) for (v, s), (w, t) in pairs)


INDICES = {
    "minimum": (Minimum(), lambda value, share: value.min()),
    "gini": (GiniWelfare(), _gini_by_loops),
    "kolm_pollak": (
        KolmPollak(3.0),
        lambda value, share: -np.log((share * np.exp(-3.0 * value)).sum()) / 3.0,
    ),
}


@pytest.mark.parametrize("name", INDICES)
def test_welfare_over_followers_and_contexts(name):
    """Objective in closed form, and the exact hypergradient against central differences of it."""
    index, by_hand = INDICES[name]
    problem, parameters = _crowd(SocialWelfare(index, weight=2.0, leader_weight=0.5))

    def objective(bonus):
        gain, value, mass = _by_hand(bonus)
        return 0.5 * (mass * gain).sum() + 2.0 * by_hand(value.ravel(), mass.ravel())

    x = {"bonus": jnp.array(0.8)}
    outcome = leader_outcome(problem, x, parameters)
    assert float(outcome.objective) == pytest.approx(objective(0.8), rel=1e-12)
    estimator = Exact()
    gradient, _, info = estimator.estimate(
        problem,
        x,
        parameters,
        estimator.init(problem, x, key=jax.random.key(0)),
        key=jax.random.key(1),
    )
    slope = (objective(0.8 + 1e-5) - objective(0.8 - 1e-5)) / 2e-5
    assert float(info.objective) == pytest.approx(objective(0.8), rel=1e-12)
    # Two values of order 1, each rounded at 1e-16, over 2e-5; the slope itself is of order .01.
    assert float(gradient["bonus"]) == pytest.approx(slope, abs=1e-9)


def test_indices_agree_where_they_must():
    value, share = jnp.array([-3.0, 1.0, 2.0, 2.0]), jnp.array([0.1, 0.4, 0.3, 0.2])
    assert float(GiniWelfare()(value, share)) == pytest.approx(_gini_by_loops(value, share))
    assert float(KolmPollak(1e-7)(value, share)) == pytest.approx(float(share @ value), abs=1e-6)
    # -log(.1) / 1000 above the least value.
    assert float(KolmPollak(1e3)(value, share)) == pytest.approx(-3.0 + np.log(10) / 1e3)
    none_there = jnp.array([0.0, 0.5, 0.3, 0.2])
    assert float(Minimum()(value, none_there)) == 1.0
    # Nobody is there at the least value: it must not matter, however far away.
    assert float(KolmPollak(1e3)(value, none_there)) == pytest.approx(1.0 + np.log(2) / 1e3)
    assert np.isfinite(jax.grad(KolmPollak(1e3))(value, none_there)).all()
    for index in (GiniWelfare(), KolmPollak(2.0), Minimum()):
        assert float(index(jnp.full(4, 0.7), share)) == pytest.approx(0.7)


@pytest.mark.parametrize("index", [GiniWelfare(), KolmPollak(2.0)])
def test_standard_error_over_sampled_contexts(index):
    """The delta method against the spread over 200 samples of 50 costs; the minimum has none."""
    plain = two_state()
    contexts = SampledContexts(lambda p, key: 1.0 + 0.4 * jax.random.normal(key), 50, {})
    problem = replace(plain, contexts=contexts, aggregate=SocialWelfare(index, leader_weight=0.5))
    x, parameters = {"bonus": jnp.array(1.0)}, problem.default_parameters

    @jax.jit
    def scores(keys):
        evaluation = ExactEvaluation()
        return jax.lax.map(lambda k: evaluation.score(problem, x, parameters, key=k), keys)

    found = scores(jax.random.split(jax.random.key(0), 200))
    spread = float(found.objective.std(ddof=1))
    stated = float(found.standard_error.mean())
    # A standard deviation from 200 is itself known to 5 %: four of these.
    assert stated == pytest.approx(spread, rel=0.2)
    worst = replace(problem, aggregate=SocialWelfare(Minimum(), leader_weight=0.0))
    found = ExactEvaluation().score(worst, x, parameters, key=jax.random.key(1))
    assert np.isnan(found.standard_error)


def test_studies_of_other_aims_are_told_apart():
    plain, _ = _crowd()
    worst, _ = _crowd(SocialWelfare(Minimum()))
    other = plain.with_followers(plain.followers.names, (0.5, 0.2, 0.3))
    marks = {
        tuple(np.concatenate([np.ravel(a) for a in p.signature()]).tolist())
        for p in (plain, worst, other, replace(plain, leader_discount=0.5))
    }
    assert len(marks) == 4


def test_groups_stand_for_their_members():
    """Nine people in three groups: one solve per group, the objective of nine followers."""
    people = ["sharp"] * 2 + ["vague"] * 3 + ["usual"] * 4
    groups = Followers.from_members(people)
    assert groups == Followers(("sharp", "vague", "usual"), (2 / 9, 3 / 9, 4 / 9))
    aggregate = SocialWelfare(GiniWelfare())
    grouped = replace(two_state(), followers=groups, aggregate=aggregate)
    each = replace(
        two_state(),
        aggregate=aggregate,
        followers=Followers(tuple(map(str, range(9))), (1 / 9,) * 9),
    )
    x = {"bonus": jnp.array(1.1)}
    temperature = np.array([0.1, 0.9, 0.3])
    of_person = temperature[[0, 0, 1, 1, 1, 2, 2, 2, 2]]
    one = leader_outcome(grouped, x, grouped.complete_parameters({"temperature": temperature}))
    other = leader_outcome(each, x, each.complete_parameters({"temperature": of_person}))
    assert one.values.shape[1] == 3
    assert float(one.objective) == pytest.approx(float(other.objective), rel=1e-12)
    np.testing.assert_allclose(one.by_context, other.by_context, rtol=1e-9)


@pytest.mark.slow
def test_design_under_draws_of_each_followers_rationality():
    """Hierarchical draws (draw, follower) reach an objective that does not add up."""
    problem, _ = _crowd(SocialWelfare(Minimum()))
    draws = np.exp(np.random.default_rng(0).normal(np.log(TEMPERATURES), 0.2, (6, 3)))
    quick = cb.Search(ascent=cb.Ascent(num_steps=60, learning_rate=0.1))
    study = cb.design(
        problem,
        {"temperature": draws},
        key=jax.random.key(0),
        num_draws=6,
        settings=cb.DesignSettings(search=quick, per_draw=quick),
    )
    bonus = np.linspace(-1.0, 2.0, 3001)[:, None, None]
    found = study["design"]["leader_objective"].values.ravel()
    for temperature, objective in zip(draws, found, strict=True):
        worth = (bonus - COSTS[:, None]) / temperature
        gain = ((2.0 - bonus) / (1.0 + np.exp(-worth))).mean(1) @ WEIGHTS
        least = (temperature * np.log1p(np.exp(worth))).min((1, 2))
        # The grid is .001 wide; the ascent takes 60 steps.
        assert objective == pytest.approx((gain + least).max(), abs=1e-4)


def test_what_sees_one_follower_at_a_time_refuses():
    problem, parameters = _crowd(SocialWelfare(Minimum()))
    for name, estimator in SMALL.items():
        if name == "exact":
            continue
        program = AscentProgram(problem, estimator, Ascent(num_steps=1))
        with pytest.raises(InvalidInputError, match="cannot be estimated one follower at a time"):
            program.run(parameters, key=jax.random.key(0))
    with pytest.raises(InvalidInputError, match="ExactEvaluation"):
        SimulatedEvaluation().score(
            problem, {"bonus": jnp.ones(())}, parameters, key=jax.random.key(0)
        )
    exact = ZerothOrder(num_rollouts=None, num_directions=2)
    found = AscentProgram(problem, exact, Ascent(num_steps=2)).run(
        parameters, key=jax.random.key(0)
    )
    assert np.isfinite(found.objective)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Followers.from_members([]), "at least one person"),
        (lambda: Followers.from_members(["a", "b"], [1.0]), "2 people, weights of shape"),
        (lambda: Followers.from_members(["a"], [-1.0]), "one weight >= 0 each"),
        (lambda: Followers(("a", "b"), (0.0, 0.0)), "not all 0"),
        (lambda: Followers(("a",), (np.inf,)), "finite"),
        (lambda: replace(two_state(), aggregate=lambda gain, *_: gain), "not one number"),
        (lambda: KolmPollak(0.0), "finite and > 0"),
        (lambda: SocialWelfare(Minimum(), weight=-1.0), "not both 0"),
        (lambda: SocialWelfare(Minimum(), weight=0.0, leader_weight=0.0), "not both 0"),
    ],
)
def test_impossible_crowds_are_refused(make, words):
    with pytest.raises(InvalidInputError, match=words):
        make()
