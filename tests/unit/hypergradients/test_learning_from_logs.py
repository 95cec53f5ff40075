"""Logs where the incentive moves the law, and counts that were made elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from cbrl_bayes.errors import DataError, FollowerError, InvalidInputError
from cbrl_bayes.followers import Episode, ExactFollower, Log, follower_from_logs
from cbrl_bayes.hypergradients import (
    BoltzmannCovariance,
    DoublyRobust,
    Exact,
    LearnedModel,
    Rounds,
    RoundsProgram,
)
from cbrl_bayes.problems import four_rooms, two_state
from tests.conftest import make_moving_problem, make_workshop

LONGEST = 40


def logs_of(problem, x, *, number=600, reported=True):
    """What an exact follower did under one incentive, in every context."""
    incentive, parameters, logs = problem.incentive.transform(x), problem.default_parameters, []
    for place, context in enumerate(np.asarray(problem.contexts.values)):
        oracle = ExactFollower()
        sample, _, _ = oracle.train(
            problem,
            incentive,
            context,
            parameters,
            oracle.initial_memory(problem),
            key=jax.random.key(0),
        )
        walked = sample(key=jax.random.key(place), num_steps=LONGEST, num_rollouts=number)
        rows = zip(*(np.asarray(leaf) for leaf in jax.tree.leaves(walked)), strict=True)
        episodes = []
        for state, action, following, logs_of_actions, active in rows:
            n = int(active.sum())
            said = logs_of_actions[:n] if reported else None
            walk = [*state[:n].tolist(), int(following[n - 1])]
            episodes.append(Episode(walk, action[:n].tolist(), said))
        logs.append(Log(incentive, context, episodes))
    return logs


def estimate(problem, estimator, x):
    state = estimator.init(problem, x, key=jax.random.key(0))
    found = estimator.estimate(problem, x, problem.default_parameters, state, key=jax.random.key(1))
    return np.asarray(ravel_pytree(found[0])[0])


def model_of(logs, number=600):
    oracle = follower_from_logs(logs)
    return LearnedModel(num_rollouts=2 * number, max_steps=LONGEST, oracle=oracle)


@pytest.mark.parametrize("reported", [True, False])
def test_logs_under_an_incentive_that_moves_the_law(reported):
    """The learned model does with frequencies of actions; scores need the follower's own words."""
    problem = make_moving_problem()
    x = problem.incentive.random_start(jax.random.key(8), 0.3)
    model = model_of(logs_of(problem, x, reported=reported))
    exact = estimate(problem, Exact(), x)
    found = estimate(problem, model, x)
    assert np.linalg.norm(found - exact) < 0.3 * np.linalg.norm(exact)
    corrected = DoublyRobust(model)
    if reported:
        assert np.linalg.norm(estimate(problem, corrected, x) - exact) < 0.5 * np.linalg.norm(exact)
        return
    covariance = BoltzmannCovariance(num_rollouts=600, max_steps=LONGEST, oracle=model.oracle)
    for needs_scores in (corrected, covariance):
        with pytest.raises(InvalidInputError, match="must then report the log-probability"):
            estimate(problem, needs_scores, x)


def test_logs_answer_for_their_incentive_alone():
    problem = make_moving_problem()
    x = problem.incentive.random_start(jax.random.key(8), 0.3)
    model = model_of(logs_of(problem, x, number=20), number=20)
    other = jax.tree.map(lambda leaf: leaf + 0.1, x)
    with pytest.raises(FollowerError, match="nothing was logged under this incentive"):
        estimate(problem, model, other)


def test_logs_that_the_law_rules_out():
    problem = two_state()
    wrong = [Log({"bonus": 0.0}, c, [Episode([0, 0], [1])] * 20) for c in (0.5, 1.5)]
    lost = LearnedModel(num_rollouts=40, max_steps=1, oracle=follower_from_logs(wrong))
    with pytest.raises(DataError, match="moved where the problem's law never leads"):
        estimate(problem, lost, {"bonus": jnp.zeros(())})


@pytest.mark.parametrize("estimator", [LearnedModel(num_rollouts=8), DoublyRobust()])
def test_counts_of_another_problem_are_refused(estimator):
    problem, other = two_state(), four_rooms()
    x = problem.incentive.initial
    state = estimator.init(other, other.incentive.initial, key=jax.random.key(0))
    with pytest.raises(InvalidInputError, match=r"does not fit problem 'two_state'.*counts of sha"):
        estimator.estimate(problem, x, problem.default_parameters, state, key=jax.random.key(1))


def test_rounds_refuse_counts_that_are_none():
    problem = make_workshop()
    model = LearnedModel(num_rollouts=8, max_steps=5)
    program = RoundsProgram(problem, model, Rounds(num_rounds=1, follower_steps=100))
    state = model.init(problem, problem.incentive.initial, key=jax.random.key(0))
    wrong = {
        "does not fit problem 'workshop'": state.counts[..., :1],
        "are no counts.*the first -1": state.counts - 1.0,
        "are no counts.*the first nan": state.counts + jnp.nan,
    }
    for said, counts in wrong.items():
        with pytest.raises(InvalidInputError, match=said):
            program.run(
                problem.default_parameters,
                key=jax.random.key(0),
                state=state._replace(counts=counts),
            )
