from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

import cbrl_bayes as cb
from cbrl_bayes.mdp import MDP, DenseTransition
from cbrl_bayes.problems import (
    DiscreteContexts,
    Followers,
    IncentiveSpace,
    Labels,
    Problem,
    SampledContexts,
    check_mdps,
    mdps_are_valid,
)
from cbrl_bayes.results import assess


def _pushed(contexts):
    """An incentive that adds to a probability and takes from lambda, without any bound."""

    def mdp_fn(incentive, context, parameters):
        go = 0.5 + incentive["push"] * context
        law = jnp.stack([jnp.stack([1.0 - go, go]), jnp.array([0.0, 1.0])])[:, None, :]
        law = jnp.concatenate([law, law], axis=1)
        return MDP(
            jnp.zeros((2, 2)),
            DenseTransition(law),
            jnp.array([1.0, 0.0]),
            0.9,
            parameters["temperature"] - incentive["push"] ** 2,
        )

    return Problem(
        name="pushed",
        incentive=IncentiveSpace(
            {"push": jnp.zeros(())}, lambda x: {"push": x["push"]}, {"push": Labels()}
        ),
        contexts=contexts,
        mdp_fn=mdp_fn,
        parameters={"temperature": (0.5, 0.8)},
        followers=Followers(("ann", "bob"), (0.5, 0.5)),
        leader_reward_fn=lambda incentive, context, parameters: jnp.zeros((2, 2)),
        state_labels=Labels(("state",), {"place": (("state",), ("home", "work"))}),
        action_names=("walk", "ride"),
    )


TOWNS = DiscreteContexts(("small", "large"), jnp.array([0.5, 1.0]), (0.5, 0.5))


def test_finding_names_draw_context_follower_state_action_and_value():
    problem = _pushed(TOWNS)
    parameters = problem.default_parameters
    draws = {name: np.stack([value] * 3) for name, value in parameters.items()}
    designs = np.array([[[0.1], [0.1], [0.62]], [[0.1]] * 3, [[0.75]] * 3])
    found = check_mdps(problem, designs, draws)
    assert found.valid.shape == (3, 3, 2, 2)
    assert found.valid[0, :2].all()
    assert found.valid[0, 2].tolist() == [[True, True], [False, False]]
    assert "2 of 12" in found.findings[0]
    assert "draw 2, context large, follower ann" in found.findings[0]
    assert (
        "transition[state home, action walk, next state work] is 1.12, accepted: a probability"
        in found.findings[0]
    )
    assert found.findings[1] == ""
    # .5 - .75^2 is the first follower's lambda, .8 - .75^2 the second's.
    assert "follower ann: temperature is -0.0625" in found.findings[2]
    assert found.valid[2, 0].tolist() == [[False, True], [False, False]]


def test_flag_agrees_inside_a_program_and_with_sampled_contexts():
    key = jax.random.key(4)
    family = SampledContexts(lambda p, k: jax.random.uniform(k), 6)
    problem = _pushed(family)
    parameters = problem.default_parameters
    flags = jax.jit(lambda x: mdps_are_valid(problem, x, parameters, key=key))
    heights, _ = family.support(parameters, key)
    expected = np.repeat((0.5 + 0.65 * heights <= 1.0)[:, None], 2, axis=1)
    assert 0 < expected.sum() < expected.size  # .65^2 leaves both temperatures positive
    np.testing.assert_array_equal(flags({"push": jnp.array(0.65)}), expected)
    draws = {name: np.asarray(value)[None] for name, value in parameters.items()}
    found = check_mdps(problem, np.array([[0.65]]), draws, key=key)
    assert "context sample" in found.findings[0]


def test_a_study_names_the_first_mdp_that_cannot_be():
    """The plug-in design suits the mean temperature; under a low one lambda would be negative."""
    problem = replace(
        _pushed(TOWNS),
        parameters={"temperature": 0.6},
        followers=Followers(("ann",), (1.0,)),
        leader_reward_fn=None,
        objective_fn=lambda incentive, policy, context, parameters: (
            -((incentive["push"] - 0.4) ** 2)
        ),
    )
    draws = {"temperature": np.array([0.6, 0.6, 0.1, 0.6])}
    quick = cb.Search(ascent=cb.Ascent(num_steps=60))
    study = cb.design(
        problem,
        draws,
        key=jax.random.key(0),
        num_draws=4,
        settings=cb.DesignSettings(search=quick, per_draw=quick),
    )
    found = [text for text in assess(study).failures if "cannot be" in text]
    assert len(found) == 1
    assert "the plug-in design leads to MDPs that cannot be under 1 of 4 draws" in found[0]
    assert "draw 2, context small, follower ann: temperature is -0.0" in found[0]
    good = cb.design(
        problem,
        {"temperature": draws["temperature"][:2]},
        key=jax.random.key(0),
        num_draws=2,
        settings=cb.DesignSettings(search=quick, per_draw=quick),
    )
    assert not any("cannot be" in text for text in assess(good).failures)
