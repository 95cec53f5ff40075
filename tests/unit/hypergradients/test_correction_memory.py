"""Corrections averaged over steps keep the mean of the estimator, and lose its noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.hypergradients import DoublyRobust, LearnedModel
from cbrl_bayes.mdp import DenseTransition, replace_fields
from tests.conftest import make_moving_problem


def test_corrections_of_many_steps_keep_the_mean_and_lose_the_noise():
    """With a critic that is wrong, so that there is something to correct."""
    problem = make_moving_problem()
    x = problem.incentive.random_start(jax.random.key(3), 0.5)
    parameters = problem.default_parameters

    def critic(incentive, context, parameters):
        mdp = problem.mdp_fn(incentive, context, parameters)
        law = mdp.transition.to_dense().probability
        even = jnp.full(law.shape, 1.0 / law.shape[-1])
        blurred = DenseTransition(0.7 * law + 0.3 * even)
        wrong = replace_fields(mdp, transition=blurred)
        return wrong, jnp.full(wrong.reward.shape, 1.0 / wrong.num_actions)

    def walk(estimator, num):
        state = estimator.init(problem, x, key=jax.random.key(0))

        def step(state, key):
            gradient, state, _ = estimator.estimate(problem, x, parameters, state, key=key)
            return state, ravel_pytree(gradient)[0]

        _, found = jax.lax.scan(step, state, jax.random.split(jax.random.key(1), num))
        return np.asarray(found)

    model = LearnedModel(num_rollouts=40, max_steps=20)
    plain = walk(DoublyRobust(model, critic), 800)
    kept = walk(DoublyRobust(model, critic, correction_memory=0.95), 800)[200:]
    # Noise by (1 + .95) / (1 - .95) = 39 in variance; half of it at least.
    assert kept.var(0).sum() < plain.var(0).sum() / 20.0
    error = plain.std(0) / np.sqrt(len(plain))
    assert np.abs(kept.mean(0) - plain.mean(0)).max() < 6.0 * error.max()


def test_memory_is_below_one():
    with pytest.raises(InvalidInputError, match="correction_memory"):
        DoublyRobust(correction_memory=1.0)
