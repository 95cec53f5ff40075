import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import (
    MDP,
    DenseTransition,
    SuccessorTransition,
    is_valid,
    replace_fields,
    value_violations,
)
from tests.conftest import make_random_mdp


def test_layouts_agree():
    mdp = make_random_mdp()
    sparse, dense = mdp.transition, mdp.transition.to_dense()
    rng = np.random.default_rng(1)
    values = jnp.asarray(rng.normal(size=12))
    weights = jnp.asarray(rng.random((12, 3)))
    policy = weights / weights.sum(1, keepdims=True)
    for method, argument in (("expectation", values), ("push", weights), ("matrix", policy)):
        one, other = getattr(sparse, method)(argument), getattr(dense, method)(argument)
        np.testing.assert_allclose(one, other, atol=1e-14, err_msg=method)  # rounding
    state, action, following = jnp.array([0, 3]), jnp.array([2, 1]), jnp.array([4, 7])
    np.testing.assert_allclose(
        sparse.step_probability(state, action, following),
        dense.step_probability(state, action, following),
        atol=1e-15,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward": jnp.zeros((12, 3)).at[4, 1].set(jnp.nan)}, r"reward\[4, 1\] is nan"),
        ({"temperature": -0.5}, r"temperature is -0.5, accepted: finite and > 0"),
        ({"temperature": 0.0}, "rationality is 1/lambda"),
        ({"discount": 1.1}, r"discount is 1.1, accepted: \[0, 1\]"),
        ({"initial": jnp.zeros(12)}, "the sum of initial is 0"),
        ({"initial": jnp.zeros(11)}, r"initial has shape \(11,\), accepted: \(12,\)"),
        ({"reward": jnp.zeros(12)}, r"reward has shape \(12,\)"),
        ({"terminal": jnp.zeros(3, bool)}, r"terminal has shape \(3,\)"),
        ({"transition": DenseTransition(jnp.ones((12, 3, 5)))}, r"transition has shape"),
        (
            {"transition": "north"},
            "accepted: DenseTransition, SuccessorTransition or StagedTransition",
        ),
    ],
)
def test_violations_are_named(changes, message):
    with pytest.raises(InvalidInputError, match=message):
        replace_fields(make_random_mdp(), **changes)


def test_bad_transition_rows_are_named_with_index_and_value():
    mdp = make_random_mdp()
    law = mdp.transition
    off = law.probability.at[2, 1, 0].add(0.25)
    with pytest.raises(InvalidInputError, match=r"sum of transition\[2, 1\] is 1.25"):
        replace_fields(mdp, transition=SuccessorTransition(law.successor, off))
    negative = law.probability.at[3, 0, 0].set(-0.1)
    with pytest.raises(InvalidInputError, match=r"transition\[3, 0, 0\] is -0.1"):
        replace_fields(mdp, transition=SuccessorTransition(law.successor, negative))
    astray = law.successor.at[0, 0, 0].set(99)
    with pytest.raises(InvalidInputError, match=r"successor\[0, 0, 0\] is 99"):
        replace_fields(mdp, transition=SuccessorTransition(astray, law.probability))


def test_all_violations_come_at_once():
    with pytest.raises(InvalidInputError) as caught:
        replace_fields(make_random_mdp(), temperature=-1.0, discount=2.0)
    assert "temperature" in str(caught.value)
    assert "discount" in str(caught.value)


def test_rows_of_terminal_states_need_not_sum_to_one():
    mdp = MDP(
        reward=jnp.zeros((2, 1)),
        transition=DenseTransition(jnp.array([[[0.0, 1.0]], [[0.0, 0.0]]])),
        initial=jnp.array([1.0, 0.0]),
        discount=0.9,
        temperature=1.0,
        terminal=jnp.array([False, True]),
    )
    assert mdp.num_states == 2


@jax.jit
def _made_in_a_program(reward, probability, initial, discount, temperature):
    mdp = MDP(reward, DenseTransition(probability), initial, discount, temperature)
    return is_valid(mdp), mdp


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("probability", (0, 1), (-0.12, 1.12)),
        ("probability", (1, 0), (0.5, 0.4)),
        ("probability", (1, 0, 1), np.nan),
        ("initial", 0, 0.9),
        ("initial", 0, -0.5),
        ("discount", (), 1.1),
        ("discount", (), np.nan),
        ("temperature", (), 0.0),
        ("temperature", (), np.inf),
        ("reward", (1, 1), -np.inf),
        ("reward", (1, 1), np.nan),
        ("reward", (1, 1), -1e12),  # large, and allowed
    ],
)
def test_the_flag_inside_programs_follows_the_rules_of_known_values(name, place, value):
    fields = {
        "reward": jnp.zeros((2, 2)),
        "probability": jnp.full((2, 2, 2), 0.5),
        "initial": jnp.array([0.5, 0.5]),
        "discount": jnp.array(0.9),
        "temperature": jnp.array(0.3),
    }
    assert _made_in_a_program(**fields)[0]
    flag, mdp = _made_in_a_program(**fields | {name: fields[name].at[place].set(value)})
    assert bool(flag) == (value == -1e12)
    assert bool(value_violations(mdp)) != bool(flag)
    if not flag:
        with pytest.raises(InvalidInputError, match="not a valid MDP"):
            replace_fields(mdp)


def test_rounding_of_a_remainder_is_no_violation():
    law = jnp.array([[[1.0, 1.0 - (0.7 + 0.2 + 0.1)]], [[0.0, 1.0]]])
    assert 0 < abs(law[0, 0, 1]) < 1e-15
    for sign in (1.0, -1.0):
        tilted = DenseTransition(law.at[0, 0, 1].multiply(sign))
        MDP(jnp.zeros((2, 1)), tilted, jnp.array([1.0, 0.0]), 0.9, 1.0)


def test_places_carry_names():
    law = jnp.full((2, 2, 2), 0.5).at[1, 0].set(jnp.array([1.12, -0.12]))
    _, mdp = _made_in_a_program(
        jnp.zeros((2, 2)).at[0, 1].set(jnp.nan), law, jnp.array([0.5, 0.5]), 0.9, 0.3
    )
    names = {"state": ("town", "village"), "action": ("stay", "go")}
    text = "; ".join(value_violations(mdp, names))
    assert "reward[state town, action go] is nan" in text
    assert "transition[state village, action stay, next state town] is 1.12" in text
