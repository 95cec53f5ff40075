"""Critics as control variates of HPGD: the same mean, less variance."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import cbrl_bayes as cb
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.hypergradients import HPGD, Exact
from cbrl_bayes.hypergradients.control_variates import FirstVisits
from cbrl_bayes.mdp import DenseTransition, best_response, rollout
from cbrl_bayes.problems import random_mdp, two_state
from cbrl_bayes.problems.successors import merged_probability, possible_successors
from tests.conftest import make_moving_problem


def critic_with(problem, wrong):
    """The true law and policy, or with ``wrong`` = 1 a uniform law and a uniform policy."""

    def critic(incentive, context, parameters):
        mdp = problem.mdp_fn(incentive, context, parameters)
        policy = best_response(jax.lax.stop_gradient(mdp)).policy
        law = mdp.transition.to_dense().probability
        mixed = DenseTransition((1.0 - wrong) * law + wrong / law.shape[-1])
        return replace(mdp, transition=mixed), (1.0 - wrong) * policy + wrong / policy.shape[-1]

    return critic


def estimates(estimator, problem, x, number):
    state = estimator.init(problem, x, key=jax.random.key(0))

    @jax.jit
    def one(key):
        gradient, _, _ = estimator.estimate(problem, x, problem.default_parameters, state, key=key)
        return ravel_pytree(gradient)[0]

    return np.stack([one(key) for key in jax.random.split(jax.random.key(5), number)])


def exact_gradient(problem, x):
    estimator, key = Exact(), jax.random.key(0)
    state = estimator.init(problem, x, key=key)
    gradient, _, _ = estimator.estimate(problem, x, problem.default_parameters, state, key=key)
    return np.asarray(ravel_pytree(gradient)[0])


@pytest.mark.parametrize("wrong", [0.0, 1.0])
def test_no_critic_moves_the_mean(wrong):
    """The incentive moves reward, transitions and initial law; few walkers, few visits."""
    problem = make_moving_problem()
    x = problem.incentive.random_start(jax.random.key(8), 0.3)
    settings = HPGD(
        num_rollouts=24, num_branches=10, max_steps=80, critic=critic_with(problem, wrong)
    )
    found, exact = estimates(settings, problem, x, 500), exact_gradient(problem, x)
    error = found.std(0, ddof=1) / np.sqrt(len(found))
    assert np.abs((found.mean(0) - exact) / error).max() < 4.5
    assert np.linalg.norm(error) < 0.3 * np.linalg.norm(exact)


@pytest.mark.slow
def test_no_critic_moves_the_mean_where_walks_decide_how_many_branches_there_are():
    """One place, left in one of ten steps; six walkers. 10,000 estimates: four standard errors.

    Means over walkers and branches together were 3.7 % low here, 8 standard errors.
    """

    def mdp_fn(incentive, context, parameters):
        stay = jnp.array([[0.9, 0.1], [0.9, 0.1]])
        return cb.MDP(
            jnp.array([[1.5, incentive["bonus"]], [0.0, 0.0]]),
            cb.DenseTransition(jnp.stack([stay, jnp.array([[0.0, 1.0]] * 2)])),
            jnp.array([1.0, 0.0]),
            0.9,
            parameters["temperature"],
            terminal=np.array([False, True]),
        )

    def critic(incentive, context, parameters):
        mdp = mdp_fn(incentive, context, parameters)
        return mdp, best_response(jax.lax.stop_gradient(mdp)).policy

    problem = cb.Problem(
        name="loop",
        incentive=cb.IncentiveSpace({"bonus": jnp.zeros(())}, lambda x: x, {"bonus": cb.Labels()}),
        contexts=cb.DiscreteContexts(("one",), jnp.zeros(1), (1.0,)),
        mdp_fn=mdp_fn,
        parameters={"temperature": 1.0},
        leader_reward_fn=lambda incentive, context, parameters: (
            jnp.zeros((2, 2)).at[0, 1].set(1.0 + incentive["bonus"])
        ),
        leader_discount=0.9,
    )
    x = problem.incentive.initial
    settings = HPGD(num_rollouts=6, num_branches=8, max_steps=40, critic=critic)
    found, exact = estimates(settings, problem, x, 10_000), exact_gradient(problem, x)
    error = found.std(0, ddof=1) / 100.0
    assert error < 0.01
    assert abs(found.mean(0) - exact) < 4.0 * error


def test_a_good_critic_lowers_the_variance():
    problem = make_moving_problem()
    x = problem.incentive.random_start(jax.random.key(8), 0.3)
    settings = HPGD(num_rollouts=60, num_branches=20, max_steps=80)
    judged = replace(settings, critic=critic_with(problem, 0.0))
    plain, less = (
        estimates(one, problem, x, 120).var(0, ddof=1).sum() for one in (settings, judged)
    )
    assert less < plain / 2.0


def test_first_visits_are_those_of_the_follower_and_the_law():
    """Frequencies of first visits, over very many walkers, are the policy and the law."""
    problem = make_moving_problem()
    context = problem.contexts.values[0]
    mdp = problem.mdp_fn(problem.incentive.initial, context, problem.default_parameters)
    policy = best_response(mdp).policy
    walked = rollout(mdp, policy, key=jax.random.key(0), num_steps=30, num_rollouts=9000)
    group = jnp.arange(9000) % 3
    seen = FirstVisits.of(mdp, walked, group)
    assert float(seen.actions.sum(-1).max()) <= 3000  # once for each walker
    actions = np.asarray(seen.actions).sum(0)
    known = actions.sum(-1) > 1000
    assert known.sum() >= 3
    shares = actions / np.maximum(actions.sum(-1, keepdims=True), 1.0)
    np.testing.assert_allclose(shares[known], policy[known], atol=0.06)
    moves = np.asarray(seen.moves).sum(0)
    law = np.asarray(merged_probability(mdp.transition))
    tried = (moves.sum(-1) > 1000) & ~np.asarray(mdp.terminal)[:, None]
    shares = moves / np.maximum(moves.sum(-1, keepdims=True), 1.0)
    # A state that is listed twice counts in its first place.
    listed = np.asarray(possible_successors(mdp.transition)) > 0.0
    np.testing.assert_allclose(shares[tried], (law * listed)[tried], atol=0.06)


def test_critics_that_do_not_fit_are_refused():
    problem = two_state()

    def with_critic(critic, problem=problem):
        x = problem.incentive.initial
        settings = HPGD(num_rollouts=8, num_branches=4, max_steps=2, critic=critic)
        state = settings.init(problem, x, key=jax.random.key(0))
        settings.estimate(problem, x, problem.default_parameters, state, key=jax.random.key(1))

    with pytest.raises(InvalidInputError, match="critic is not a function"):
        HPGD(critic=3)
    with pytest.raises(InvalidInputError, match=r"critic does not fit.*a policy of shape \(7, 2\)"):
        with_critic(lambda x, c, p: (problem.mdp_fn(x, c, p), jnp.ones((7, 2)) / 2))
    with pytest.raises(InvalidInputError, match=r"critic does not fit.*a MDP"):
        with_critic(problem.mdp_fn)
    general = random_mdp(num_states=3, num_actions=2, num_parameters=2)
    with pytest.raises(InvalidInputError, match="general objective, which no critic judges"):
        with_critic(critic_with(general, 0.0), general)
