"""Behaviour that the model rules out is named: who, when, where, what and why."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cbrl_bayes as cb
from cbrl_bayes.behaviour import violations_of
from cbrl_bayes.errors import DataError
from cbrl_bayes.mdp import MDP, DenseTransition
from cbrl_bayes.problems import bus_replacement, two_state

SEEN = ["cost 0.5", "cost 1.5"]


def refusal(data, problem):
    """The error's text."""
    with pytest.raises(DataError) as caught:
        cb.check_trajectories(data, problem)
    return str(caught.value)


@pytest.mark.parametrize("context", [None, SEEN])
def test_episodes_that_go_on_after_the_end(context):
    data = cb.make_trajectories(
        [[0, 1], [0, 1, 0]], [[1, 0], [1, 0, 1]], follower=["fine", "runs on"], context=context
    )
    text = refusal(data, two_state())
    assert "one step: follower 'runs on' (episode 1), step 1, state 1 (settled), action 0" in text
    assert "the episode goes on after this state, which ends it" in text
    for settings in (cb.NUTSSettings(1, 20, 20), cb.SVISettings(20, 20)):
        with pytest.raises(DataError, match="goes on after this state"):
            cb.infer(two_state(), data, key=jax.random.key(0), settings=settings)


def test_moves_that_are_ruled_out_are_counted_and_three_are_shown():
    data = cb.make_trajectories([[0, 0]] * 5, [[1, 0]] * 5, context=["cost 0.5"] * 5)
    text = refusal(data, two_state())
    assert "rules out 5 steps, of which the first 3" in text
    assert text.count("the move to state 0 (offered) has probability 0") == 3
    recorded = data.assign(successor_slot=data.state * 0 - 1)  # moves that are not known
    cb.check_trajectories(recorded, two_state())


def test_starts_count_where_the_context_was_not_observed():
    hidden = cb.make_trajectories([[1]], [[0]])
    assert "step 0, state 1 (settled)" in refusal(hidden, two_state())
    assert "starts there with probability 0 in every context" in refusal(hidden, two_state())
    # Where it was observed, the likelihood does not use the start: records begin anywhere.
    cb.check_trajectories(cb.make_trajectories([[1]], [[0]], context=["cost 0.5"]), two_state())


FREE = np.zeros((2, 2))


def two_doors(reward, slip=0.0):
    """Two contexts; in each, one of two actions leads on from state 0."""

    def mdp_fn(incentive, context, parameters):
        there = jnp.array([0.0, 1.0])
        stay = there[::-1]
        leads = jnp.where(context > 0, there, stay)
        law = jnp.stack([leads, leads[::-1]])
        law = (1 - parameters["slip"]) * law + parameters["slip"] / 2
        return MDP(
            reward=jnp.asarray(reward, float).at[1, 1].add(incentive["bonus"]),
            transition=DenseTransition(jnp.broadcast_to(law, (2, 2, 2))),
            initial=jnp.array([1.0, 0.0]),
            discount=0.5,
            temperature=parameters["temperature"],
        )

    return replace(
        two_state(),
        mdp_fn=mdp_fn,
        parameters={"temperature": 0.25, "slip": slip},
        leader_reward_fn=lambda incentive, context, parameters: jnp.zeros((2, 2)),
        contexts=cb.DiscreteContexts(("left", "right"), jnp.array([0.0, 1.0]), (0.5, 0.5)),
    )


def test_an_episode_without_context_needs_one_that_allows_all_of_it():
    problem = two_doors(FREE)
    fine = cb.make_trajectories([[0, 1], [0, 0]], [[0, 0], [0, 0]])  # right, left
    cb.check_trajectories(fine, problem)
    neither = cb.make_trajectories([[0, 1, 0]], [[0, 0, 0]])
    with pytest.raises(DataError) as caught:
        cb.check_trajectories(neither, problem, estimated=("temperature",))
    text = str(caught.value)
    assert "to state 1 (settled) has probability 0 in context 'left', and step 1" in text
    # The default slip of 0 closes the way; if slip is estimated, it may not.
    assert not list(violations_of(neither, two_doors(FREE, 0.1), ("temperature",)))
    assert not list(violations_of(neither, problem))
    cb.behaviour.count_behaviour(problem, neither, estimated=("slip",))


def test_actions_that_the_model_makes_impossible():
    forbidding = two_doors(jnp.array([[0.0, -1e9], [0.0, 0.0]]))
    data = cb.make_trajectories([[0], [0]], [[1], [0]], context=["left", "left"])
    text = refusal(data, forbidding)
    assert "follower 'follower 0' (episode 0), step 0, state 0 (offered), action 1 (work)" in text
    assert "makes this action impossible" in text
    unscored = data.assign(choice_observed=(("episode", "step"), np.array([[False], [True]])))
    cb.check_trajectories(unscored, forbidding)
    cb.check_trajectories(data, two_doors(jnp.array([[0.0, -100.0], [0.0, 0.0]])))


def test_recorded_transitions_are_compared_with_the_law():
    problem = bus_replacement(increment_probability=(0.3, 0.7, 0.0))
    data = cb.make_trajectories(
        [[0, 1, 3]], [[0, 0, 0]], context=["fleet"], successor_slot=[[1, 2, -1]]
    )
    # The law is a parameter: what has probability 0 at its default may have more.
    cb.check_trajectories(data, problem)
    with pytest.raises(DataError, match="successor slot 2 has probability 0"):
        cb.check_trajectories(data, problem, estimated=("RC",))


def test_fractions_and_large_numbers_are_refused_not_cut():
    for bad in ([[0.7]], [[2**40]], [["x"]], [[None]], [[0, 1]], [[[0]]]):
        with pytest.raises(DataError, match="action of episode 0"):
            cb.make_trajectories([[0]], bad)
    whole = cb.make_trajectories([[0.0]], [np.array([True])])
    assert whole.state.dtype == whole.action.dtype == np.int32


def test_names_that_are_none():
    data = cb.make_trajectories([[0], [0]], [[1], [1]], context=[None, "cost 0.5"])
    assert data.context.values.tolist() == ["", "cost 0.5"]
    with pytest.raises(DataError, match="follower of episode 1 has no name"):
        cb.make_trajectories([[0], [0]], [[1], [1]], follower=["a", float("nan")])
