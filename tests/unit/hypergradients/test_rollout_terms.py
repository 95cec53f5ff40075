import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cbrl_bayes.designs import SimulatedEvaluation
from cbrl_bayes.hypergradients.rollout_terms import Truncation, worth_of
from cbrl_bayes.mdp import (
    MDP,
    DenseTransition,
    SolveStatus,
    best_response,
    expected_return,
    rollout,
)
from cbrl_bayes.problems import DiscreteContexts, IncentiveSpace, Labels, Problem, leader_outcome
from tests.conftest import make_random_mdp

DISCOUNT = 0.95


@pytest.mark.parametrize("exponent", [0.0, 0.5])  # without and with random truncation
@pytest.mark.parametrize("num_steps", [20, 40])
def test_worth_beyond_the_step_limit_is_continued(num_steps, exponent):
    mdp = make_random_mdp(terminal=False)
    reward = 1.0 + mdp.reward**2
    policy = best_response(mdp).policy
    limit_key, walk_key = jax.random.split(jax.random.key(1))
    walk = Truncation.of(DISCOUNT, exponent)
    weights = walk.weights(DISCOUNT, jnp.arange(num_steps + 1))
    limit = walk.limits(limit_key, 4000)
    walked = rollout(
        mdp, policy, key=walk_key, num_steps=num_steps, num_rollouts=4000, step_limit=limit
    )
    worth = worth_of(walked, weights[:-1], weights[-1], mdp, reward, DISCOUNT, limit)
    exact = expected_return(mdp, policy, reward=reward, discount=DISCOUNT)
    error = worth.returns.std() / np.sqrt(4000)
    # 5 standard errors (they leave out that of the rate ahead, which is smaller).
    assert abs(worth.returns.mean() - exact) < 5 * error
    faded = DISCOUNT**num_steps
    # Survivors of the truncation differ from their chance by a percent or two.
    np.testing.assert_allclose(worth.share_ahead, faded, rtol=0.1)
    seen = worth.returns.mean() * (1 - faded)
    assert exact - seen > 10 * error  # the part that was seen is far from the whole
    assert int(worth.status(jnp.array(0))) == SolveStatus.CUT_SHORT


def _errand(stays_for_ever):
    """One state that pays, left with chance .2 a step for one that pays nothing or ends."""
    law = jnp.array([[[0.8, 0.2]], [[0.0, 1.0]]])
    ends = None if stays_for_ever else jnp.array([False, True])
    return MDP(jnp.zeros((2, 1)), DenseTransition(law), jnp.array([1.0, 0.0]), 0.9, 1.0, ends)


@pytest.mark.parametrize("stays_for_ever", [True, False])
def test_nothing_is_ahead_where_nothing_can_be_earned(stays_for_ever):
    mdp, reward = _errand(stays_for_ever), jnp.array([[1.0], [0.0]])
    for num_steps, share in ((30, 0.0), (3, (0.8 * 0.95) ** 3)):
        walked = rollout(
            mdp, jnp.ones((2, 1)), key=jax.random.key(2), num_steps=num_steps, num_rollouts=20_000
        )
        weights = DISCOUNT ** jnp.arange(num_steps + 1)
        worth = worth_of(walked, weights[:-1], weights[-1], mdp, reward, DISCOUNT)
        # 29,000 late steps tell the chance to end, .2, to .0023: a percent in the share.
        np.testing.assert_allclose(worth.share_ahead, share, atol=0.03)
        np.testing.assert_allclose(worth.returns.mean(), 1 / (1 - 0.8 * DISCOUNT), rtol=0.03)
        expected = SolveStatus.CUT_SHORT if share else SolveStatus.CONVERGED
        assert int(worth.status(jnp.array(0))) == expected


@pytest.mark.parametrize(("max_steps", "status"), [(3, "CUT_SHORT"), (60, "CONVERGED")])
def test_a_simulated_score_says_when_it_did_not_see_the_worth(max_steps, status):
    mdp = make_random_mdp(terminal=False, discount=0.9)
    problem = Problem(
        name="going on",
        incentive=IncentiveSpace({"x": jnp.zeros(())}, lambda x: x, {"x": Labels()}),
        contexts=DiscreteContexts(("one",), jnp.zeros(1), (1.0,)),
        mdp_fn=lambda incentive, context, parameters: mdp,
        parameters={},
        leader_reward_fn=lambda incentive, context, parameters: 1.0 + mdp.reward**2,
        leader_discount=0.9,
    )
    evaluation = SimulatedEvaluation(max_steps=max_steps, num_rollouts=200)
    x = problem.incentive.initial
    score = evaluation.score(problem, x, problem.default_parameters, key=jax.random.key(0))
    assert SolveStatus(int(score.status)).name == status
    exact = float(leader_outcome(problem, x, problem.default_parameters).objective)
    # Three of some 40 steps that count would be a quarter of it; the rate at the start is rough.
    np.testing.assert_allclose(score.objective, exact, rtol=0.1 if max_steps == 3 else 0.02)
