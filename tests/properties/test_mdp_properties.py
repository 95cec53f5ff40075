"""Properties that hold for every MDP: Hypothesis looks for one that breaks them."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings, strategies as st

from cbrl_bayes.mdp import best_response, entropy, expected_return, occupancy, replace_fields
from tests.conftest import make_random_mdp

best_response = jax.jit(best_response)  # twenty MDPs, one program

MDPS = st.builds(
    make_random_mdp,
    seed=st.integers(0, 2**16),
    states=st.just(6),
    actions=st.just(3),
    successors=st.just(2),
    discount=st.floats(0.0, 0.999),
    temperature=st.floats(1e-3, 50.0),
    terminal=st.booleans(),
)


@settings(max_examples=20, deadline=None)
@given(mdp=MDPS, factor=st.floats(0.01, 100.0), shift=st.floats(-5, 5))
def test_scaling_reward_and_temperature_together_changes_no_choice(mdp, factor, shift):
    answer = best_response(mdp)
    scaled = replace_fields(mdp, reward=factor * mdp.reward, temperature=factor * mdp.temperature)
    other = best_response(scaled)
    assert int(answer.status) == int(other.status) == 0
    np.testing.assert_allclose(other.policy, answer.policy, atol=1e-8)
    np.testing.assert_allclose(other.values, factor * answer.values, rtol=1e-8, atol=1e-9 * factor)


@settings(max_examples=20, deadline=None)
@given(mdp=MDPS, seed=st.integers(0, 100))
def test_no_policy_beats_the_best_response(mdp, seed):
    rng = np.random.default_rng(seed)
    rival = jnp.asarray(rng.dirichlet(np.ones(3), 6))
    bonus = mdp.temperature * entropy(jnp.log(rival))[:, None]
    best = float(mdp.initial @ best_response(mdp).values)
    worth = float(expected_return(mdp, rival, reward=mdp.reward + bonus))
    assert worth <= best + 1e-9 * max(1.0, abs(best))


@settings(max_examples=20, deadline=None)
@given(mdp=MDPS)
def test_occupancy_is_a_discounted_flow(mdp):
    """Mass in a state: its initial mass plus what flows in, discounted."""
    visits = occupancy(mdp, best_response(mdp).policy)
    inflow = mdp.transition.push(visits * mdp.continues[:, None])
    np.testing.assert_allclose(
        visits.sum(1), mdp.initial + mdp.discount * inflow, rtol=1e-9, atol=1e-12
    )
    assert (visits >= -1e-12).all()
