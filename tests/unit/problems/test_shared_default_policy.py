"""A default policy for many tasks: bandits by hand, a world of rooms by NumPy, gradients."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.hypergradients import Ascent, AscentProgram, Exact
from cbrl_bayes.mdp import DenseTransition
from cbrl_bayes.problems import Labels, leader_outcome, respond
from cbrl_bayes.problems.shared_default_policy import (
    Tasks,
    bandit_tasks,
    goal_tasks,
    shared_default_policy,
)

TWO_ROOMS = "xxxxxxx\nx  x  x\nx     x\nxxxxxxx"
REWARDS = {"a": (1.0, 0.2, 0.0, -0.5), "b": (0.0, 0.9, 0.3, 0.1), "c": (0.4, 0.4, 0.4, 2.0)}
LAW = (0.5, 0.3, 0.2)


def _two_rooms(temperature=0.05, goals=((1, 5), (2, 5)), **settings):
    tasks = goal_tasks(goals, start=(1, 1), slip=0.3, map_text=TWO_ROOMS)
    return shared_default_policy(tasks=tasks, temperature=temperature, discount=0.95, **settings)


def _three_arms(**changes):
    return replace(bandit_tasks({"a": (1.0, 0.0, 0.5), "b": (0.0, 1.0, 0.5)}), **changes)


def test_a_law_of_tasks_may_be_an_array():
    problem = shared_default_policy(tasks=_three_arms(), task_probability=np.array([0.25, 0.75]))
    np.testing.assert_array_equal(
        problem.default_parameters["context_probability"], [0.25, 0.75]
    )  # set, not computed


def _dense(problem, task):
    """Reward, law (goal's rows zero) and start of a task as NumPy arrays."""
    context = jax.tree.map(lambda leaf: leaf[task], problem.contexts.values)
    uniform = {"log_preference": jnp.zeros((problem.num_states, 4))}
    mdp = problem.mdp_fn(uniform, context, problem.default_parameters)
    law = (
        np.asarray(mdp.transition.to_dense().probability) * ~np.asarray(mdp.terminal)[:, None, None]
    )
    return context, np.asarray(context["reward"]), law, np.asarray(mdp.initial)


def test_bandits_by_hand():
    """Adapted policy, objective and gradient of a one-state problem in closed form."""
    price = 0.15
    problem = shared_default_policy(
        tasks=bandit_tasks(REWARDS), task_probability=LAW, guidance_price=price
    )
    logit = np.array([0.3, -0.8, 1.1, 0.2])
    default = np.exp(logit) / np.exp(logit).sum()
    guidance = (default * np.log(4 * default)).sum()
    reward = np.array(list(REWARDS.values()))
    parameters = problem.default_parameters
    hypergradient = jax.jit(
        jax.value_and_grad(
            lambda x, temperature: (
                leader_outcome(problem, x, parameters | {"temperature": temperature}).objective
            )
        )
    )
    for temperature in (0.3, 2.0):
        adapted = default * np.exp(reward / temperature)
        adapted /= adapted.sum(1, keepdims=True)
        returns = (adapted * reward).sum(1)
        gradient = np.array(LAW) @ (adapted * (reward - returns[:, None])) - price * default * (
            np.log(4 * default) - guidance
        )
        value, slope = hypergradient({"logit": jnp.asarray(logit)[None]}, temperature)
        # A handful of float64 operations on numbers of order 1.
        assert float(value) == pytest.approx(np.array(LAW) @ returns - price * guidance, rel=1e-12)
        np.testing.assert_allclose(slope["logit"][0], gradient, rtol=1e-10, atol=1e-13)


def test_price_against_a_grid():
    """One task, two arms: the ascent finds the default that a grid of defaults finds."""
    price, temperature = 0.3, 0.7
    problem = shared_default_policy(
        tasks=bandit_tasks({"only": (1.0, 0.0)}), temperature=temperature, guidance_price=price
    )
    first = np.linspace(1e-4, 1 - 1e-4, 20_001)
    default = np.stack([first, 1 - first])
    adapted = default * np.exp(np.array([[1.0], [0.0]]) / temperature)
    worth = adapted[0] / adapted.sum(0) - price * (default * np.log(2 * default)).sum(0)
    assert 0.55 < first[worth.argmax()] < 0.95  # the price binds: neither uniform nor all
    program = AscentProgram(problem, Exact(), Ascent(num_steps=300))
    found = program.run(problem.default_parameters, key=jax.random.key(0))
    # Grid step 5e-5; the objective is flat to second order.
    assert found.objective == pytest.approx(worth.max(), abs=1e-6)
    preference = problem.incentive.transform(found.unconstrained)["log_preference"][0]
    assert np.exp(float(preference[0])) / 2 == pytest.approx(first[worth.argmax()], abs=1e-3)


def test_equal_tasks_are_solved_by_the_default():
    """Where all tasks are one, the best default makes an unhurried follower optimal in it."""
    tasks = goal_tasks(((2, 5),), start=(1, 1), slip=0.3, map_text=TWO_ROOMS)
    twice = Tasks(
        ("once", "again"),
        jnp.repeat(tasks.reward, 2, 0),
        jnp.repeat(tasks.terminal, 2, 0),
        tasks.transition,
        tasks.initial,
        tasks.state_labels,
        tasks.action_names,
    )
    problem = shared_default_policy(tasks=twice, temperature=0.5, discount=0.95)
    _, reward, law, initial = _dense(problem, 0)
    value = np.zeros(len(reward))
    for _ in range(2000):  # 0.95 ** 2000 = 3e-45
        value = (reward + 0.95 * law @ value).max(1)
    program = AscentProgram(
        problem, Exact(), Ascent(num_steps=250, learning_rate=0.4, clip_norm=None)
    )
    uniform = problem.incentive.initial
    found = program.run(problem.default_parameters, key=jax.random.key(0), start=uniform)
    best = float(initial @ value)
    assert found.trace.objective[0] < 0.7 * best
    # The supremum lies at infinite logits; 250 steps leave rarely visited cells unsettled.
    assert 0.995 * best < found.objective <= best * (1 + 1e-12)


def test_follower_pays_for_departing_from_the_default():
    """Values of V = lambda log sum pi_0 exp(Q / lambda), iterated in NumPy."""
    problem = _two_rooms(temperature=0.05)
    x = problem.incentive.random_start(jax.random.key(2), 1.0)
    incentive = problem.incentive.transform(x)
    default = np.exp(np.asarray(incentive["log_preference"])) / 4
    np.testing.assert_allclose(default.sum(1), 1.0, rtol=1e-12)
    context, reward, law, _ = _dense(problem, 1)
    value = np.zeros(len(reward))
    for _ in range(700):  # 0.95 ** 700 = 3e-16
        ahead = (reward + 0.95 * law @ value) / 0.05
        value = 0.05 * np.log((default * np.exp(ahead)).sum(1))
    _, response = respond(problem, incentive, context, problem.default_parameters)
    # An iteration stopped at 3e-16 and a linear solve of condition 20.
    np.testing.assert_allclose(response.values, value, rtol=1e-10, atol=1e-12)


def test_gradient_over_rooms():
    """Exact hypergradient against central differences, price of guidance included."""
    problem = _two_rooms(guidance_price=0.01, task_probability=(0.3, 0.7))
    x = problem.incentive.random_start(jax.random.key(4), 1.0)
    parameters = problem.default_parameters
    estimator = Exact()
    gradient, _, info = estimator.estimate(
        problem,
        x,
        parameters,
        estimator.init(problem, x, key=jax.random.key(0)),
        key=jax.random.key(1),
    )
    assert int(info.status) == 0
    worth = jax.jit(lambda logit: leader_outcome(problem, {"logit": logit}, parameters).objective)
    h = 1e-3
    for state, action in [(0, 0), (1, 1), (4, 1), (6, 1), (8, 2)]:
        e = h * jnp.zeros_like(x["logit"]).at[state, action].set(1.0)
        near = float(worth(x["logit"] + e)) - float(worth(x["logit"] - e))
        far = float(worth(x["logit"] + 2 * e)) - float(worth(x["logit"] - 2 * e))
        # Fourth order: an error of h^4 = 1e-12 against rounding of 1e-16 / h = 1e-13.
        central = (8 * near - far) / (12 * h)
        slope = float(gradient["logit"][state, action])
        assert slope == pytest.approx(central, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: _three_arms(action_names=("x", "y")), "3 different names"),
        (lambda: _three_arms(action_names=("x", "y", "y")), "3 different names"),
        (lambda: _three_arms(initial=jnp.array([0.5, 0.5])), "not a law of the first state"),
        (lambda: _three_arms(initial=jnp.array([0.5])), "not a law of the first state"),
        (lambda: _three_arms(initial=jnp.array([float("nan")])), "not a law of the first state"),
        (lambda: _three_arms(state_labels=Labels(("row", "column"))), "state_labels do not fit"),
        (
            lambda: _three_arms(
                state_labels=Labels(("state",), {"place": (("state",), ("a", "b"))})
            ),
            "1 values in each coordinate",
        ),
        (lambda: shared_default_policy(task_probability=()), "not a distribution"),
        (lambda: shared_default_policy(guidance_price=-1.0), "guidance_price cannot be used"),
        (
            lambda: shared_default_policy(guidance_price=float("inf")),
            "guidance_price cannot be used",
        ),
        (lambda: shared_default_policy(task_probability=(1.0,)), "not a distribution"),
        (lambda: shared_default_policy(temperature=0.0), "temperature"),
        (lambda: goal_tasks(()), "at least one goal"),
        (lambda: goal_tasks(slip=1.0), "slip 1.0"),
        (lambda: goal_tasks(((0, 0),)), "not a free cell"),
        (lambda: goal_tasks(((1, 1), (1, 1))), "goals are not all different"),
        (lambda: bandit_tasks({}), "one reward per arm"),
        (lambda: bandit_tasks({"a": (1.0,), "b": (1.0, 2.0)}), "for as many arms"),
        (lambda: bandit_tasks({"a": (float("nan"), 0.0)}), "finite rewards"),
        (
            lambda: Tasks(
                ("a",),
                jnp.zeros((2, 1, 1)),
                jnp.ones((2, 1), bool),
                DenseTransition(jnp.ones((1, 1, 1))),
                jnp.ones(1),
                Labels(("state",)),
                ("go",),
            ),
            "do not fit their world",
        ),
    ],
)
def test_impossible_tasks_are_refused(make, words):
    with pytest.raises(InvalidInputError, match=words):
        make()
