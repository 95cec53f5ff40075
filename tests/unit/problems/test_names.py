"""Names that results would lose are refused when the problem is made."""

from dataclasses import replace

import jax.numpy as jnp
import pytest

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.problems import DiscreteContexts, IncentiveSpace, Labels, two_state
from cbrl_bayes.problems.names import AXES, BESIDE_DESIGNS, SITES


def with_parameter(name):
    return replace(two_state(), parameters={"temperature": 0.25, name: 1.0})


def with_incentive(name="bonus", axis="day", coords=()):
    label = Labels((axis,), dict(coords))
    space = IncentiveSpace({"x": jnp.zeros(2)}, lambda u: {name: u["x"]}, {name: label})
    plain = two_state()
    return replace(
        plain,
        incentive=space,
        mdp_fn=lambda i, c, p: plain.mdp_fn({"bonus": i[name].sum()}, c, p),
        incentive_price_fn=lambda i, c, p: plain.incentive_price_fn({"bonus": i[name].sum()}, c, p),
    )


@pytest.mark.parametrize(
    "name",
    [
        *("context", "decision_point", "chain", "draw", "follower", "episode", "action", "state"),
        *("context_probability", "action_count", "solve_status", "rationality"),
        *("temperature_spread", "cost/km", "", " cost", "a\nb", 7),
    ],
)
def test_parameters(name):
    with pytest.raises(InvalidInputError, match="names that cannot be used: parameter"):
        with_parameter(name)


def test_all_are_named_at_once():
    with pytest.raises(InvalidInputError, match=r"parameter 'chain'.*parameter 'draw'"):
        replace(two_state(), parameters={"temperature": 0.25, "draw": 1.0, "chain": 1.0})


@pytest.mark.parametrize(
    "change",
    [
        {"name": "€/week"},
        {"axis": "draw"},
        {"axis": "design"},
        {"axis": "a/b"},
        {"coords": {"chain": (("day",), ("mo", "tu"))}},
    ],
)
def test_incentives(change):
    with pytest.raises(InvalidInputError, match=r"of incentive|incentive '€/week' has a '/'"):
        with_incentive(**change)


def test_ordinary_names_pass():
    assert "effort" in with_parameter("effort").parameters
    assert "price per week" in with_incentive("price per week").incentive.labels


@pytest.mark.parametrize("names", [("", "b"), (1, 2)])
def test_contexts_have_names_in_letters(names):
    with pytest.raises(InvalidInputError, match="'' in data says that a context was not observed"):
        DiscreteContexts(names, jnp.array([0.5, 1.5]), (0.5, 0.5))


def test_the_lists_hold_what_a_study_uses(study, walkers):
    problem, _ = walkers
    parameters = set(problem.default_parameters) | set(problem.derived(problem.default_parameters))
    posterior = study["posterior"].to_dataset()
    assert set(map(str, posterior.variables)) <= parameters | {*AXES, *SITES}
    own = {axis for label in problem.incentive.labels.values() for axis in label.dims}
    own |= {name for label in problem.incentive.labels.values() for name in label.coords}
    for group in ("design", "decision"):
        used = {str(n) for n in (*study[group].variables, *study[group].dims)}
        assert used - own - {"follower"} <= set(BESIDE_DESIGNS)
