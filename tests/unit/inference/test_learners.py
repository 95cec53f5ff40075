"""Inference on followers who remember: the scan against a plain loop, and what it recovers."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.infer.util import log_density

import cbrl_bayes as cb
from cbrl_bayes.errors import DataError, InvalidInputError
from cbrl_bayes.inference import (
    BehaviourSimulation,
    Hierarchical,
    default_priors,
    maximum_likelihood,
    policies,
)
from cbrl_bayes.problems import two_option_learning
from cbrl_bayes.workflow import behaviour_model

NUM_TRIALS = 12
GROUPS = ("calm", "rash")
SCHEDULES = {
    name: {"reward": np.random.default_rng(seed).uniform(size=(NUM_TRIALS, 2))}
    for seed, name in enumerate(("one", "two"))
}
DRAW = {
    "temperature_population": 0.2,
    "temperature_spread": 0.4,
    "temperature_offset": np.array([-0.5, 1.2]),
    "learning_rate_population": 0.3,
    "learning_rate_spread": 0.7,
    "learning_rate_offset": np.array([0.9, -1.1]),
    "habit": -0.05,
}
LAWS = {
    "temperature_population": dist.LogNormal(-1.5, 1.0),
    "temperature_spread": dist.HalfNormal(0.5),
    "temperature_offset": dist.Normal(0.0, 1.0),
    "learning_rate_population": dist.Beta(1.0, 3.0),
    "learning_rate_spread": dist.HalfNormal(0.5),
    "learning_rate_offset": dist.Normal(0.0, 1.0),
    "habit": dist.Normal(0.0, 0.3),
}


def made_data(num_episodes=6):
    """Episodes of several lengths, groups and schedules; some choices and contexts not seen."""
    rng = np.random.default_rng(4)
    lengths = [NUM_TRIALS, *rng.integers(3, NUM_TRIALS + 1, num_episodes - 1)]
    return cb.make_trajectories(
        [np.arange(n) for n in lengths],
        [rng.integers(0, 2, n) for n in lengths],
        group=[GROUPS[e % 2] for e in range(num_episodes)],
        context=[("session", "")[e % 2] for e in range(num_episodes)],
        regime=[("one", "two")[e % 3 % 2] for e in range(num_episodes)],
        incentives=SCHEDULES,
        choice_observed=[rng.uniform(size=n) < 0.8 for n in lengths],
    )


def by_loop(data, draw):
    """Return each episode's log-likelihood, step by step in plain Python."""
    odds = draw["learning_rate_population"] / (1.0 - draw["learning_rate_population"])
    odds = odds * np.exp(draw["learning_rate_spread"] * draw["learning_rate_offset"])
    spread = np.exp(draw["temperature_spread"] * draw["temperature_offset"])
    found = []
    for e in range(data.sizes["episode"]):
        group = GROUPS.index(str(data["group"].values[e]))
        rate = odds[group] / (1.0 + odds[group])
        temperature = draw["temperature_population"] * spread[group]
        reward = SCHEDULES[str(data["regime"].values[e])]["reward"]
        value, last, total = [0.0, 0.0], None, 0.0
        for t in range(int((data["state"].values[e] >= 0).sum())):
            taken = int(data["action"].values[e, t])
            liked = [value[k] + (draw["habit"] if k == last else 0.0) for k in (0, 1)]
            if data["choice_observed"].values[e, t]:
                total -= np.log1p(np.exp((liked[1 - taken] - liked[taken]) / temperature))
            value[taken] += rate * (reward[t, taken] - value[taken])
            last = taken
        found.append(total)
    return np.array(found)


def learners(**settings):
    return two_option_learning(num_trials=NUM_TRIALS, budgets=(4.0, 4.0), **settings)


@pytest.fixture(scope="module")
def model():
    priors = {
        "temperature": Hierarchical(LAWS["temperature_population"]),
        "learning_rate": Hierarchical(LAWS["learning_rate_population"]),
        "habit": LAWS["habit"],
    }
    return behaviour_model(learners(), made_data(), priors=priors)


def test_the_likelihood_is_that_of_a_plain_loop(model):
    with handlers.substitute(data=DRAW):
        parameters = handlers.seed(model.parameters, 0)()
    log_policy, status = policies(model.problem, model.counts, parameters)
    assert status == 0
    found = model.pointwise(parameters, log_policy)
    np.testing.assert_allclose(found, by_loop(made_data(), DRAW), rtol=1e-10)


def test_the_density_and_its_slope_are_those_of_the_loop(model):
    data = made_data()

    def by_hand(draw):
        prior = sum(float(law.log_prob(draw[name]).sum()) for name, law in LAWS.items())
        return prior + by_loop(data, draw).sum()

    def density(draw):
        return log_density(model, (), {}, draw)[0]

    draw = jax.tree.map(lambda value: jnp.asarray(value, float), DRAW)
    np.testing.assert_allclose(density(draw), by_hand(DRAW), rtol=1e-9)
    slope = jax.grad(density)(draw)
    for name, value in DRAW.items():
        up, down = by_hand({**DRAW, name: value + 1e-6}), by_hand({**DRAW, name: value - 1e-6})
        # What rounding leaves of a difference over 2e-6.
        np.testing.assert_allclose(slope[name].sum(), (up - down) / 2e-6, rtol=1e-5, atol=1e-5)


def test_a_hierarchy_of_shares_stays_within_them():
    prior = default_priors(
        learners(), {"learning_rate": Hierarchical(dist.Beta(2.0, 2.0), dist.HalfNormal(5.0))}
    )["learning_rate"]
    assert prior.share
    draws = jax.vmap(lambda key: handlers.seed(lambda: prior.sample("learning_rate", 3), key)())(
        jax.random.split(jax.random.key(0), 500)
    )
    assert float(draws.min()) > 0.0
    assert float(draws.max()) < 1.0
    # Symmetric around one half; 1,500 draws of standard deviation below .5, in clusters of 3.
    assert abs(float(draws.mean()) - 0.5) < 0.08
    with pytest.raises(InvalidInputError, match="between 0 and 1, both excluded"):
        default_priors(learners(), {"learning_rate": Hierarchical(dist.LogNormal(0.0, 1.0))})


def test_priors_of_shares_per_group_stay_within_the_range():
    two = learners().with_followers(("young", "old"), (0.5, 0.5))
    problem = replace(two, parameters=two.parameters | {"learning_rate": (0.4, 0.6)})
    law = default_priors(problem)["learning_rate"].prior
    assert isinstance(law, dist.Beta)
    assert float(law.mean) == pytest.approx(0.5)
    half = replace(learners(), ranges=learners().ranges | {"learning_rate": (0.0, 0.5)})
    with pytest.raises(InvalidInputError, match="a hierarchy of 'learning_rate' would leave"):
        default_priors(half, {"learning_rate": Hierarchical(dist.Uniform(0.01, 0.49))})


def test_maximum_likelihood_finds_the_truth():
    truth = {"temperature": 0.15, "learning_rate": 0.4, "habit": 0.08}
    problem = two_option_learning(num_trials=50, budgets=(15.0, 15.0))
    even = np.random.default_rng(1).binomial(1, 0.3, (50, 2)).astype(float)
    data = cb.simulate_trajectories(
        problem,
        key=jax.random.key(5),
        num_episodes=80,
        num_steps=50,
        parameters=truth,
        incentive={"reward": even},
    )
    found = maximum_likelihood(behaviour_model(problem, data, priors={"habit": dist.Normal(0, 1)}))
    assert found.converged
    for name, value in truth.items():
        error = found.standard_errors[name]
        assert error < 0.2 * value
        assert abs(found.estimates[name] - value) < 3.5 * error  # by chance once in 2,000


def test_data_that_do_not_begin_at_the_beginning_are_refused():
    def data(*states):
        actions = [np.zeros(len(s), int) for s in states]
        return cb.make_trajectories(list(states), actions, context=["session"] * len(states))

    with pytest.raises(
        DataError,
        match=r"1 of 2 episodes; follower 'follower 1' \(episode 1\) begins at state 3 \(trial 4\)",
    ):
        behaviour_model(learners(), data([0, 1], [3, 4]))
    with pytest.raises(DataError, match="remember, and what they met before the record is not"):
        cb.check_trajectories(data([0, 1], [3, 4]), learners())
    behaviour_model(learners(learns=False), data([0, 1], [3, 4]))  # where nobody remembers


@pytest.mark.slow
def test_calibration_sees_learners_whose_habit_is_left_out():
    watched = {"num_episodes": 12, "num_steps": NUM_TRIALS, "incentive": SCHEDULES["one"]}
    with_habit = BehaviourSimulation(learners(habit=0.3), **watched)

    class LeftOut(BehaviourSimulation):
        def simulate(self, truth, key):
            return with_habit.simulate(truth, key)

    settings = cb.CalibrationSettings(num_data_sets=40, num_draws=19, num_warmup=150, thinning=8)
    wrong = LeftOut(learners(), **watched)
    found = cb.calibrate_inference(wrong, key=jax.random.key(0), settings=settings)
    assert not cb.rank_uniformity(found, false_alarm=0.001).frame["uniform"].all()
