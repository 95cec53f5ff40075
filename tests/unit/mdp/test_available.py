"""Actions that are not available: probability exactly 0, and nothing else notices them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cbrl_bayes as cb
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import (
    DenseTransition,
    best_response,
    entropy,
    is_valid,
    occupancy,
    policy_values,
    rollout,
    soft_policy_values,
)

S, A = 5, 3
RNG = np.random.default_rng(0)
LAW, REWARD = RNG.dirichlet(np.ones(S), (S, A)), RNG.normal(size=(S, A))
OPEN = np.ones((S, A), bool)
OPEN[2, 1] = OPEN[4, 0] = OPEN[4, 1] = False


def made(reward=REWARD, law=LAW, temperature=0.3, available=OPEN, **more):
    given = {"initial": jnp.ones(S) / S, "discount": 0.9, "temperature": temperature} | more
    return cb.MDP(
        jnp.asarray(reward), DenseTransition(jnp.asarray(law)), available=available, **given
    )


def test_the_answer_is_that_of_a_loss_nobody_would_take():
    forbidding = made(np.where(OPEN, REWARD, -1e6), available=None)
    ours, theirs = best_response(made()), best_response(forbidding)
    np.testing.assert_allclose(ours.values, theirs.values, rtol=1e-12)
    assert (np.asarray(ours.policy)[~OPEN] == 0.0).all()
    np.testing.assert_allclose(ours.policy.sum(1), 1.0, rtol=1e-12)
    # Entropy is over open actions alone: none where one is left.
    assert float(entropy(ours.log_policy)[4]) == 0.0
    np.testing.assert_allclose(soft_policy_values(made(), ours.log_policy), ours.values, rtol=1e-9)


@pytest.mark.parametrize("rubbish", [np.nan, np.inf, 1e300])
def test_what_stands_at_a_closed_action_does_not_matter(rubbish):
    reward, law = np.where(OPEN, REWARD, rubbish), np.where(OPEN[..., None], LAW, rubbish)
    np.testing.assert_array_equal(
        best_response(made(reward, law)).values, best_response(made()).values
    )


def test_derivatives_of_both_orders_are_right_and_finite():
    def worth(reward, temperature):
        return best_response(made(reward, temperature=temperature)).values.sum()

    slope, by_heat = jax.grad(worth, (0, 1))(jnp.asarray(REWARD), 0.3)
    assert (np.asarray(slope)[~OPEN] == 0.0).all()
    step = 1e-5
    ahead, behind = (worth(jnp.asarray(REWARD), 0.3 + d) for d in (step, -step))
    np.testing.assert_allclose(by_heat, (ahead - behind) / (2 * step), rtol=1e-7)
    change = jnp.asarray(RNG.normal(size=(S, A)))
    ahead, behind = (worth(jnp.asarray(REWARD) + d * change, 0.3) for d in (step, -step))
    np.testing.assert_allclose((slope * change).sum(), (ahead - behind) / (2 * step), rtol=1e-7)
    second = jax.hessian(worth, (0, 1))(jnp.asarray(REWARD), 0.3)
    assert all(bool(jnp.isfinite(block).all()) for row in second for block in row)
    ahead, behind = (jax.grad(worth, 1)(jnp.asarray(REWARD), 0.3 + d) for d in (step, -step))
    np.testing.assert_allclose(second[1][1], (ahead - behind) / (2 * step), rtol=1e-6)


def test_walkers_never_take_it_and_visits_have_none():
    policy = best_response(made()).policy
    walked = rollout(made(), policy, key=jax.random.key(0), num_steps=50, num_rollouts=40)
    assert OPEN[np.asarray(walked.state), np.asarray(walked.action)].all()
    assert bool(jnp.isfinite(walked.log_probability).all())
    assert (np.asarray(occupancy(made(), policy))[~OPEN] == 0.0).all()
    assert bool(jnp.isfinite(policy_values(made(), policy)).all())


@pytest.mark.parametrize(
    ("available", "said"),
    [
        (np.zeros((S, A), bool), r"number of available actions\[0\] is 0, accepted: >= 1"),
        (np.ones(S, bool), r"available has shape \(5,\), accepted: \(5, 3\)"),
        (np.full((S, A), 2), r"available\[0, 0\] is 2, accepted: true or false"),
    ],
)
def test_bad_masks_are_refused(available, said):
    with pytest.raises(InvalidInputError, match=said):
        made(available=available)


def test_a_shut_state_shows_while_compiled():
    assert bool(is_valid(made()))
    shut = jax.jit(lambda a: is_valid(made(available=a)))
    assert not bool(shut(jnp.asarray(OPEN).at[2].set(False)))
