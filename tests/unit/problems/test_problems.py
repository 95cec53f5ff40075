from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize_scalar

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import MDP, DenseTransition
from cbrl_bayes.problems import (
    READY_MADE,
    DiscreteContexts,
    Followers,
    IncentiveSpace,
    Labels,
    Problem,
    SampledContexts,
    bus_replacement,
    follower_models,
    four_rooms,
    leader_outcome,
    respond,
    two_state,
)


def test_two_state_has_its_closed_form():
    problem = two_state(benefit=2.0, costs=(0.5, 1.5), temperature=0.25)

    def closed_form(x):
        return sum(0.5 * (2.0 - x) / (1 + np.exp(-(x - c) / 0.25)) for c in (0.5, 1.5))

    outcome = jax.jit(
        lambda x: leader_outcome(problem, {"bonus": x}, problem.default_parameters).objective
    )
    for x in (-1.0, 0.3, 1.1, 3.0):
        np.testing.assert_allclose(outcome(x), closed_form(x), rtol=1e-12)
    best = minimize_scalar(lambda x: -closed_form(x), bounds=(0, 2), method="bounded").x
    slope = jax.grad(outcome)(best)
    assert abs(float(slope)) < 1e-4  # the bounded search stops at 1e-5 in x


@pytest.mark.parametrize(
    ("temperature", "empty", "uniform"),
    [(0.001, (0.0008, 0.8189), (-0.1475, 0.724)), (0.003, (0.0015, 0.6405), (-0.1443, 0.544))],
)
def test_four_rooms_reference_values(temperature, empty, uniform):
    """Objective per goal without incentive and under the uniform softmax, method section 5."""
    problem = four_rooms(temperature=temperature, penalty_weight=1.0)
    nothing = {"penalty_logit": jnp.zeros(105).at[-1].set(60.0)}
    for start, expected in ((nothing, empty), (problem.incentive.initial, uniform)):
        found = leader_outcome(problem, start, problem.default_parameters).by_context
        np.testing.assert_allclose(found, expected, atol=5.1e-4)  # printed to three or four digits


def test_four_rooms_takes_other_maps_and_slips():
    tiny = "xxxxx\nx   x\nxxxxx"
    problem = four_rooms(map_text=tiny, start=(1, 1), goals=((1, 3),), target=(1, 2), slip=0.0)
    parameters = problem.default_parameters | {"temperature": jnp.array(1e-4)}
    nothing = {"penalty_logit": jnp.zeros(4).at[-1].set(60.0)}
    outcome = leader_outcome(problem, nothing, parameters)
    np.testing.assert_allclose(outcome.objective, 0.99, rtol=1e-6)  # one step, one move away
    with pytest.raises(InvalidInputError, match="not a free cell"):
        four_rooms(start=(0, 0))
    with pytest.raises(InvalidInputError, match="cannot be read"):
        four_rooms(map_text="xxx\nxqx\nxxx")
    with pytest.raises(InvalidInputError, match="not walled in"):
        four_rooms(map_text="xxx\nx  \nxxx", start=(1, 1), goals=((1, 1),), target=(1, 1))
    with pytest.raises(InvalidInputError, match=r"slip = 1\.5"):
        four_rooms(slip=1.5)


def test_bus_units_do_not_change_behaviour():
    """Rust's units (noise scale 1) and units of RC (temperature 1/RC) give one policy."""
    problem = bus_replacement(RC=9.0, theta11=2.0)
    mdp, response = respond(problem, {"subsidy": 0.0}, 0, problem.default_parameters)
    from cbrl_bayes.mdp import best_response, replace_fields

    rust = best_response(replace_fields(mdp, reward=mdp.reward * 9.0, temperature=1.0))
    np.testing.assert_allclose(response.log_policy, rust.log_policy, atol=1e-9)
    bins = np.arange(90)
    np.testing.assert_allclose(mdp.reward[:, 0] * 9.0, -1e-3 * 2.0 * bins, atol=1e-14)


def test_bus_objective_in_dollars_is_that_in_rc_times_the_price():
    in_rc, in_dollars = bus_replacement(), bus_replacement(replacement_cost_dollars=8000.0)
    x = {"subsidy_logit": jnp.array(-0.7)}
    one, other = (leader_outcome(p, x, p.default_parameters) for p in (in_rc, in_dollars))
    np.testing.assert_allclose(other.objective, 8000.0 * one.objective, rtol=1e-10)
    assert in_dollars.incentive.labels["subsidy"].unit == "dollars"


def test_followers_are_weighted_and_have_their_own_temperature():
    problem = two_state()
    both = problem.with_followers(("calm", "rash"), (0.25, 0.75))
    x, temperatures = {"bonus": jnp.array(1.0)}, jnp.array([0.1, 0.6])
    outcome = leader_outcome(both, x, both.complete_parameters({"temperature": temperatures}))
    alone = [
        leader_outcome(problem, x, problem.complete_parameters({"temperature": t}))
        for t in temperatures
    ]
    expected = 0.25 * alone[0].objective + 0.75 * alone[1].objective
    np.testing.assert_allclose(outcome.objective, expected, rtol=1e-12)
    np.testing.assert_allclose(
        outcome.follower_value, [float(a.follower_value[0]) for a in alone], rtol=1e-12
    )


def test_general_objective_and_sampled_contexts():
    def mdp_fn(incentive, cost, parameters):
        reward = jnp.stack([jnp.zeros(1), incentive["bonus"] - jnp.reshape(cost, 1)], axis=-1)
        return MDP(
            reward,
            DenseTransition(jnp.ones((1, 2, 1))),
            jnp.ones(1),
            0.0,
            parameters["temperature"],
        )

    problem = Problem(
        name="sampled",
        incentive=IncentiveSpace({"bonus": jnp.array(1.0)}, lambda u: u, {"bonus": Labels()}),
        contexts=SampledContexts(
            lambda p, key: p["cost_mean"] + 0.3 * jax.random.normal(key), 400, {"cost_mean": 1.0}
        ),
        mdp_fn=mdp_fn,
        parameters={"temperature": 0.5},
        objective_fn=lambda incentive, policy, *_: (2.0 - incentive["bonus"]) * policy[0, 1],
    )
    evaluate = partial(
        leader_outcome, problem, parameters=problem.default_parameters, key=jax.random.key(0)
    )

    def worth(x):
        return evaluate({"bonus": x}).objective

    # By symmetry of the cost the mean probability of work at bonus = mean cost is one half.
    assert abs(float(worth(1.0)) - 0.5) < 4 * 0.15 / np.sqrt(400)
    central = (worth(1.3 + 1e-5) - worth(1.3 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(worth)(1.3), central, rtol=1e-6)
    with pytest.raises(InvalidInputError, match="no key was given"):
        leader_outcome(problem, problem.incentive.initial, problem.default_parameters)


@pytest.mark.parametrize("name", READY_MADE)
def test_parameters_are_checked(name):
    problem = READY_MADE[name]()
    with pytest.raises(InvalidInputError, match="no parameter 'luck'"):
        problem.complete_parameters({"luck": 1.0})
    with pytest.raises(InvalidInputError, match="cannot be used"):
        problem.complete_parameters({"context_probability": np.ones(7) / 7})
    first = next(iter(problem.parameters))
    with pytest.raises(InvalidInputError, match="cannot be used"):
        problem.complete_parameters({first: np.nan})


def test_only_what_is_named_a_law_must_sum_to_one():
    """Increments are a law; a parameter that happens to sum to one is not."""
    with pytest.raises(InvalidInputError, match="'increment_probability' is not a distribution"):
        bus_replacement().complete_parameters({"increment_probability": (0.5, 0.6, 0.1)})
    problem = two_state()
    names = ("name", "incentive", "contexts", "mdp_fn", "leader_reward_fn", "leader_discount")
    record = {name: getattr(problem, name) for name in names}
    free = Problem(**record, parameters={"temperature": 0.5, "taste": (0.3, 0.7)})
    assert free.complete_parameters({"taste": (-2.0, 5.0)})["taste"].tolist() == [-2.0, 5.0]


def test_heat_reaches_whatever_depends_on_temperature():
    """Every function of the problem, and each follower's own temperature; nothing else."""
    problem = two_state()

    def harm(incentive, context, parameters):
        return jnp.full((2, 2), parameters["temperature"])

    contexts = SampledContexts(lambda parameters, key: parameters["temperature"], 2)
    hot = replace(
        problem, leader_reward_fn=harm, incentive_price_fn=harm, contexts=contexts
    ).heated(3.0)
    parameters = problem.default_parameters
    assert float(hot.mdp_fn({"bonus": 1.0}, 0.5, parameters).temperature) == 0.75
    assert float(hot.leader_reward_fn({}, 0.5, parameters)[0, 0]) == 0.75
    assert float(hot.incentive_price_fn({}, 0.5, parameters)[0, 0]) == 0.75
    assert hot.contexts.support(parameters, jax.random.key(0))[0].tolist() == [0.75, 0.75]
    assert float(hot.heated(2.0).mdp_fn({"bonus": 1.0}, 0.5, parameters).temperature) == 1.5
    own = follower_models.myopic(problem).heated(3.0)
    mdp = own.mdp_fn({"bonus": 1.0}, 0.5, parameters)
    assert own.response_fn(mdp, parameters, None).log_policy.shape == (2, 2)
    assert repr(own.response_fn) == "Myopic(share=0.0)"
    bus = bus_replacement().heated(3.0)
    mdp = bus.mdp_fn({"subsidy": jnp.array(0.1)}, 0.0, bus.default_parameters)
    assert float(mdp.temperature) == pytest.approx(0.3)
    assert float(mdp.reward[0, 1]) == pytest.approx(-0.9)


def _decides(incentive, context, parameters):
    if incentive["bonus"] > 1.0:
        return None
    return two_state().mdp_fn(incentive, context, parameters)


TOO_LONG = Labels(("state",), {"place": (("state",), ("a", "b", "c"))})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"leader_reward_fn": lambda *_: jnp.ones(2)},
            r"leader_reward_fn returns an array of the wrong shape; received: \(2,\); accepted: "
            r"\(2, 2\), one number for each state and action; try: jnp.broadcast_to\(reward\[:, "
            r"None\], \(2, 2\)\)",
        ),
        (
            {"incentive_price_fn": lambda *_: jnp.ones((2, 3))},
            r"incentive_price_fn returns an array of the wrong shape; received: \(2, 3\)",
        ),
        (
            {"mdp_fn": _decides},
            r"mdp_fn needs the value of a number that JAX has not computed yet.*received: if "
            r"incentive\[\"bonus\"\] > 1.0: \(.*test_problems.py, line \d+\); try: "
            r"jnp.where\(condition, a, b\) in place of if",
        ),
        (
            {"mdp_fn": lambda *_: jnp.ones(2)},
            r"mdp_fn does not return an MDP; received: ArrayImpl; try: return MDP\(reward=",
        ),
        (
            {"leader_reward_fn": None, "objective_fn": lambda *_: jnp.ones(2)},
            r"objective_fn does not return one number; received: shape \(2,\)",
        ),
        (
            {"state_labels": TOO_LONG},
            r"state_labels do not fit the 2 states; received: coordinate 'place' along "
            r"\('state',\) has shape \(3,\), not \(2,\)",
        ),
        (
            {"action_names": ("work", "rest", "play")},
            r"action_names do not fit the MDP; received: 3 names; accepted: 2, one per action",
        ),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_functions_and_labels_that_do_not_fit_are_refused_when_the_problem_is_made(changes, words):
    with pytest.raises(InvalidInputError, match=words):
        replace(two_state(), **changes)


def test_choices_are_vectors_and_back():
    space = IncentiveSpace(
        {"b": jnp.zeros((2, 3)), "a": 0.0}, lambda x: {"x": x["b"]}, {"x": Labels(("i", "j"))}
    )
    vector = np.arange(7.0)
    choice = space.unflatten(vector)
    assert space.size == 7
    assert choice["a"] == 0.0
    np.testing.assert_array_equal(choice["b"], [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    np.testing.assert_array_equal(space.flatten(choice), vector)
    np.testing.assert_array_equal(ravel_pytree(choice)[0], vector)
    turned = jax.jit(lambda v: space.flatten(space.unflatten(v)))(vector)
    np.testing.assert_array_equal(turned, vector)


def test_wrong_records_are_refused():
    with pytest.raises(InvalidInputError, match="temperature is not positive"):
        two_state().complete_parameters({"temperature": -1.0})
    with pytest.raises(InvalidInputError, match="not a distribution"):
        two_state().complete_parameters({"context_probability": (0.9, 0.9)})
    with pytest.raises(InvalidInputError, match="distinct names"):
        DiscreteContexts(("a", "a"), jnp.zeros(2), (0.5, 0.5))
    with pytest.raises(InvalidInputError, match="one weight"):
        Followers(("a",), (0.5, 0.5))
    with pytest.raises(InvalidInputError, match="do not name the same arrays"):
        IncentiveSpace({"x": jnp.zeros(2)}, lambda u: u, {"y": Labels(("i",))})
    short = Labels(("i",), {"room": (("i",), ("kitchen",))})
    with pytest.raises(InvalidInputError, match=r"'room' along \('i',\) has shape \(1,\), not"):
        IncentiveSpace({"x": jnp.zeros(2)}, lambda u: u, {"x": short})
    with pytest.raises(InvalidInputError, match="one dim per axis"):
        IncentiveSpace({"x": jnp.zeros(2)}, lambda u: u, {"x": Labels()})
    with pytest.raises(InvalidInputError, match="out of range"):
        bus_replacement(target_mileage=10**7)
