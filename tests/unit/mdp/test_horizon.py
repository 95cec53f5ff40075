"""Processes with periods against backward induction, closed forms and stationary problems."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cbrl_bayes as cb
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import (
    BackwardInduction,
    DenseLU,
    DenseTransition,
    SuccessorTransition,
    best_response,
    expected_return,
    finite_horizon,
    occupancy,
    policy_values,
    rollout,
)
from cbrl_bayes.status import SolveStatus

T, S, A = 4, 3, 2
RNG = np.random.default_rng(1)
LAW, REWARD = RNG.dirichlet(np.ones(S), (T, S, A)), RNG.normal(size=(T, S, A))
AFTER = np.arange(float(S))


def made(reward=REWARD, law=LAW, temperature=0.3, discount=1.0, **more):
    given = {"initial": jnp.ones(S) / S, "num_periods": T, "terminal_values": AFTER} | more
    return finite_horizon(
        reward=jnp.asarray(reward),
        transition=DenseTransition(jnp.asarray(law)),
        discount=discount,
        temperature=temperature,
        **given,
    )


def by_hand(reward, law, temperature, discount, after):
    for t in reversed(range(T)):
        q = reward[t] + discount * law[t] @ after
        after = temperature * np.log(np.exp(q / temperature).sum(-1))
    return after


@pytest.mark.parametrize("discount", [1.0, 0.8, 0.0])
def test_backward_induction(discount):
    found = best_response(made(discount=discount))
    wanted = by_hand(REWARD, LAW, 0.3, discount, AFTER)
    np.testing.assert_allclose(found.values[:S], wanted, rtol=1e-12)
    assert int(found.status) == SolveStatus.CONVERGED
    assert int(found.iterations) == 1


def test_one_law_for_all_periods_and_both_layouts():
    dense = made(law=LAW[0])
    listed = SuccessorTransition(jnp.tile(jnp.arange(S), (S, A, 1)), jnp.asarray(LAW[0]))
    other = finite_horizon(
        reward=jnp.asarray(REWARD),
        transition=listed,
        initial=jnp.ones(S) / S,
        discount=1.0,
        temperature=0.3,
        num_periods=T,
        terminal_values=jnp.asarray(AFTER),
    )
    wanted = by_hand(REWARD, np.broadcast_to(LAW[0], LAW.shape), 0.3, 1.0, AFTER)
    for mdp in (dense, other):
        np.testing.assert_allclose(best_response(mdp).values[:S], wanted, rtol=1e-12)
        assert mdp.transition.stages.probability.shape[0] == 1


def test_the_sweep_agrees_with_the_full_matrix():
    mdp = made()
    policy = best_response(mdp).policy
    for solve in (policy_values, occupancy):
        np.testing.assert_allclose(
            solve(mdp, policy, linear_solver=BackwardInduction()),
            solve(mdp, policy, linear_solver=DenseLU()),
            rtol=1e-12,
            atol=1e-14,
        )
    np.testing.assert_allclose(occupancy(mdp, policy).sum(), T, rtol=1e-12)


def test_derivatives_against_differences():
    def worth(temperature, first):
        mdp = made(jnp.asarray(REWARD).at[0, 0, 0].set(first), temperature=temperature)
        return expected_return(mdp, best_response(mdp).policy)

    step, at = 1e-5, (0.3, REWARD[0, 0, 0])
    for place, slope in enumerate(jax.grad(worth, (0, 1))(*at)):
        moved = [worth(*np.add(at, np.eye(2)[place] * d)) for d in (step, -step)]
        np.testing.assert_allclose(slope, (moved[0] - moved[1]) / (2 * step), rtol=1e-6)


def test_eating_a_cake_is_the_textbook_answer():
    """Log utility, no discount: eat 1/(periods left) of what is left."""
    num, periods = 121, 3
    left, rest = np.meshgrid(np.arange(num), np.arange(num), indexing="ij")
    eaten = left - rest
    mdp = finite_horizon(
        reward=jnp.asarray(np.log(np.maximum(eaten, 1e-9))),
        transition=SuccessorTransition(jnp.asarray(rest)[..., None], jnp.ones((num, num, 1))),
        initial=jnp.zeros(num).at[-1].set(1.0),
        discount=1.0,
        temperature=1e-4,
        num_periods=periods,
        available=(eaten > 0) | ((left == 0) & (rest == 0)),
    )
    found = best_response(mdp)
    plan = np.asarray(found.policy).reshape(periods, num, num).argmax(-1)
    assert [plan[0, 120], plan[1, 80], plan[2, 40]] == [80, 40, 0]
    np.testing.assert_allclose(found.values[120], 3 * np.log(40.0), atol=1e-3)


def test_a_long_horizon_forgets_its_end():
    stationary = best_response(
        cb.MDP(
            jnp.asarray(REWARD[0]), DenseTransition(jnp.asarray(LAW[0])), jnp.ones(S) / S, 0.8, 0.3
        )
    )
    long = finite_horizon(
        reward=jnp.asarray(REWARD[0]),
        transition=DenseTransition(jnp.asarray(LAW[0])),
        initial=jnp.ones(S) / S,
        discount=0.8,
        temperature=0.3,
        num_periods=150,
    )
    np.testing.assert_allclose(best_response(long).policy[:S], stationary.policy, rtol=1e-10)


def test_walkers_move_on_and_stop():
    mdp = made(terminal=np.array([False, False, True]))
    walked = rollout(
        mdp, best_response(mdp).policy, key=jax.random.key(0), num_steps=9, num_rollouts=64
    )
    active = np.asarray(walked.active)
    period, place = np.divmod(np.asarray(walked.state), S)
    assert (period == np.arange(9))[active].all()
    assert active.sum(1).max() == T
    stops = (place == 2) & active
    assert (active.sum(1)[stops.any(1)] == stops.argmax(1)[stops.any(1)] + 1).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_periods": 0}, "num_periods = 0; accepted: num_periods >= 1"),
        ({"reward": REWARD[:2]}, r"reward of the process with periods has the wrong shape"),
        ({"law": LAW[:, :2]}, r"received: \(4, 2, 2, 3\); accepted: \(3, 2, 3\) or \(4, 3, 2, 3\)"),
        ({"law": LAW * 0.5}, r"the sum of transition\[0, 0, 0\] is 0.5, accepted: 1"),
        ({"initial": jnp.ones(2)}, "initial of the process"),
    ],
)
def test_what_does_not_fit_is_refused(change, said):
    with pytest.raises(InvalidInputError, match=said):
        made(**change)


def test_the_law_is_never_written_out_over_all_periods():
    """150 periods of 200 places with a full law: 960 MB if it were."""
    places = 200
    law = DenseTransition(jnp.asarray(RNG.dirichlet(np.ones(places), (places, 2))))

    def worth(scale):
        mdp = finite_horizon(
            reward=scale * jnp.ones((places, 2)),
            transition=law,
            initial=jnp.ones(places) / places,
            discount=1.0,
            temperature=1.0,
            num_periods=150,
        )
        return best_response(mdp).values[0]

    compiled = jax.jit(jax.grad(worth)).lower(1.0).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 60e6
