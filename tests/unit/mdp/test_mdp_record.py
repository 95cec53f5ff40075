import jax.numpy as jnp
import numpy as np
import pytest

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import MDP, DenseTransition, SuccessorTransition, replace_fields
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
        ({"discount": 1.0}, r"discount is 1, accepted: \[0, 1\)"),
        ({"initial": jnp.zeros(12)}, r"the sum of initial\[0\] is 0"),
        ({"initial": jnp.zeros(11)}, r"initial has shape \(11,\), accepted: \(12,\)"),
        ({"reward": jnp.zeros(12)}, r"reward has shape \(12,\)"),
        ({"terminal": jnp.zeros(3, bool)}, r"terminal has shape \(3,\)"),
        ({"transition": DenseTransition(jnp.ones((12, 3, 5)))}, r"transition has shape"),
        ({"transition": "north"}, "accepted: DenseTransition or SuccessorTransition"),
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
