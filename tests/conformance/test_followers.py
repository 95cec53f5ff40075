"""One suite for every follower: the protocol, repeatability, and more training, better response."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cbrl_bayes.followers import (
    FOLLOWERS,
    DeepQFollower,
    ExactFollower,
    MisspecifiedFollower,
    PolicyGradientFollower,
    QLearningFollower,
    SweepFollower,
)
from cbrl_bayes.hypergradients import HPGD
from cbrl_bayes.mdp import best_response, replace_fields
from tests.conftest import make_moving_problem

SMALL = {
    "exact": ExactFollower(),
    "sweeps": SweepFollower(num_sweeps=3),
    "policy_gradient": PolicyGradientFollower(num_steps=2),
    "q_learning": QLearningFollower(num_steps=20),
    "deep_q": DeepQFollower(num_steps=5, width=8, depth=1, buffer_size=64),
    "misspecified": MisspecifiedFollower(temperature_scale=2.0, discount_scale=0.5, lapse=0.1),
}


def _situation():
    problem = make_moving_problem()
    x = problem.incentive.random_start(jax.random.key(8), 0.3)
    contexts, _ = problem.contexts.support(problem.default_parameters)
    first = jax.tree.map(lambda leaf: leaf[0], contexts)
    return problem, problem.incentive.transform(x), first, problem.default_parameters, x


def _frequencies(oracle, key=0, repeats=4000, trainings=1):
    """Play each state many times and count: all that a leader can know of the policy."""
    problem, incentive, context, parameters, _ = _situation()
    memory = oracle.initial_memory(problem)
    S, A = problem.num_states, problem.num_actions

    @jax.jit
    def train_and_play(memory, key):
        train_key, play_key = jax.random.split(key)
        sample, memory, status = oracle.train(
            problem, incentive, context, parameters, memory, key=train_key
        )
        start = jnp.repeat(jnp.arange(S), repeats)
        played = sample(key=play_key, num_steps=1, initial_state=start)
        counts = jnp.zeros((S, A)).at[start, played.action[:, 0]].add(1.0 / repeats)
        return counts, memory, status

    for round_key in jax.random.split(jax.random.key(key), trainings):
        counts, memory, status = train_and_play(memory, round_key)
        assert int(status) == 0
    return np.asarray(counts)


def _truth(**changes):
    problem, incentive, context, parameters, _ = _situation()
    mdp = replace_fields(problem.mdp_fn(incentive, context, parameters), **changes)
    return np.asarray(best_response(mdp).policy), mdp


def test_every_follower_is_covered():
    assert set(SMALL) == set(FOLLOWERS)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[] if n in ("exact", "q_learning") else [pytest.mark.slow])
        for n in FOLLOWERS
    ],
)
def test_protocol(name):
    """Serves an estimator, compiled once; memory keeps its form; same key, same answer."""
    problem, _, _, parameters, x = _situation()
    estimator = HPGD(num_rollouts=4, num_branches=2, max_steps=10, oracle=SMALL[name])
    state = estimator.init(problem, x, key=jax.random.key(0))
    traces = []

    @jax.jit
    def step(state, key):
        traces.append(1)
        return estimator.estimate(problem, x, parameters, state, key=key)

    gradient, after, info = step(state, jax.random.key(1))
    again, _, _ = step(state, jax.random.key(1))
    step(after, jax.random.key(2))
    assert len(traces) == 1
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert int(info.status) == 0
    for first, second in zip(jax.tree.leaves(gradient), jax.tree.leaves(again), strict=True):
        assert bool(jnp.isfinite(first).all())
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("little", "much", "near"),
    [
        (SweepFollower(num_sweeps=0), SweepFollower(num_sweeps=200), 0.02),
        (PolicyGradientFollower(num_steps=0), PolicyGradientFollower(num_steps=60), 0.02),
        (QLearningFollower(num_steps=10), QLearningFollower(num_steps=20_000), 0.06),
        pytest.param(
            DeepQFollower(num_steps=10, width=32),
            DeepQFollower(num_steps=6000, width=32, learning_rate=3e-3, value_scale=3.0),
            0.08,
            marks=pytest.mark.slow,
        ),
    ],
    ids=["sweeps", "policy_gradient", "q_learning", "deep_q"],
)
def test_more_training_better_response(little, much, near):
    """Mean absolute distance of action frequencies from the exact policy; counting adds .008."""
    truth, _ = _truth()
    far = np.abs(_frequencies(little) - truth).mean()
    close = np.abs(_frequencies(much) - truth).mean()
    assert close < near
    assert close < far / 2


def test_warm_start_goes_on_where_training_ended():
    """Ten trainings of 5 sweeps are as good as one of 50."""
    many = _frequencies(SweepFollower(num_sweeps=5), trainings=10, key=3)
    truth, _ = _truth()
    assert np.abs(many - truth).mean() < 0.02
    forgetful = _frequencies(SweepFollower(num_sweeps=1, warm_start=False), trainings=10, key=3)
    assert np.abs(forgetful - truth).mean() > 2 * np.abs(many - truth).mean()


def test_misspecified_followers_play_what_they_say():
    truth, mdp = _truth()
    hot, _ = _truth(temperature=mdp.temperature * 3.0)
    reward = np.asarray(mdp.reward) / float(mdp.temperature)
    myopic = np.exp(reward) / np.exp(reward).sum(1, keepdims=True)
    for oracle, policy in (
        (MisspecifiedFollower(temperature_scale=3.0), hot),
        (MisspecifiedFollower(discount_scale=0.0), myopic),
        (MisspecifiedFollower(lapse=0.4), 0.6 * truth + 0.4 / truth.shape[1]),
    ):
        # 5 x 3 frequencies from 4,000 draws each: standard errors up to .008.
        assert np.abs(_frequencies(oracle) - policy).max() < 0.032


def test_synchronous_q_learning_in_two_pieces_is_one_run():
    from cbrl_bayes.followers import soft_q_iterations

    _, mdp = _truth()
    zero = jnp.zeros(mdp.reward.shape)
    key = jax.random.key(4)
    whole = soft_q_iterations(mdp, zero, key=key, start=0, stop=200)
    half = soft_q_iterations(mdp, zero, key=key, start=0, stop=70)
    half = soft_q_iterations(mdp, half, key=key, start=70, stop=200)
    np.testing.assert_allclose(half, whole, rtol=1e-12)
