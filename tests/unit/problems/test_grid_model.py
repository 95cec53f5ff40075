"""Models from plain functions against closed forms and records made by loops; what they refuse."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cbrl_bayes as cb
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import best_response, is_valid
from cbrl_bayes.problems.dependence import depends_on_input
from cbrl_bayes.status import SolveStatus

ASSETS, WAGES, HOURS, GIFTS = np.array([0.0, 1.0, 2.5, 4.0]), (1.0, 2.0, 3.0), (0, 1), (0.0, 0.3)
CHAIN = np.array([[0.8, 0.2, 0.0], [0.1, 0.6, 0.3], [0.0, 0.5, 0.5]])
GIFT_LAW = np.array([0.7, 0.3])


def spends(state, action):
    return action["spending"] <= state["assets"]


def saved(state, action, shock, incentive):
    earned = state["wage"] * action["hours"] * (1.0 - incentive["tax"])
    return {"assets": 0.8 * (state["assets"] - action["spending"] + shock["gift"]) + 0.2 * earned}


def pleasure(state, action, shock, parameters):
    left = state["assets"] - action["spending"]
    return (
        jnp.sqrt(left) + action["spending"] * shock["gift"] - parameters["toil"] * action["hours"]
    )


def household(**changes):
    return cb.GridModel(
        **{
            "states": {
                "assets": cb.Grid(ASSETS, unit="kEUR"),
                "wage": cb.Chain(WAGES, CHAIN),
                "home": cb.Grid(("flat", "house")),
            },
            "actions": {"spending": cb.Grid([0.0, 0.7, 2.0]), "hours": cb.Grid(HOURS)},
            "shocks": {"gift": cb.Shock(GIFTS, GIFT_LAW)},
            "reward": pleasure,
            "next_state": lambda state, action, shock, incentive: {
                **saved(state, action, shock, incentive),
                "home": jnp.where(state["assets"] > 2.0, 1, state["home"]),
            },
            "available": spends,
            "initial": {"assets": 0.25, "home": "house"},
            "discount": 0.9,
        }
        | changes
    )


GIVEN = {"tax": 0.1}, None, {"temperature": 0.4, "toil": 0.3}


def by_loops(tax=0.1, toil=0.3):
    """Reward, dense law and open actions of `household`, one entry at a time."""
    places = list(product(range(4), range(3), range(2)))
    pairs = list(product((0.0, 0.7, 2.0), HOURS))
    reward = np.zeros((24, 6))
    law = np.zeros((24, 6, 24))
    is_open = np.zeros((24, 6), bool)
    for (s, (a, w, home)), (k, (spent, hours)) in product(enumerate(places), enumerate(pairs)):
        is_open[s, k] = spent <= ASSETS[a]
        if not is_open[s, k]:
            continue
        reward[s, k] = np.sqrt(ASSETS[a] - spent) + spent * 0.09 - toil * hours
        later = 1 if ASSETS[a] > 2.0 else home
        for gift, chance in zip(GIFTS, GIFT_LAW, strict=True):
            then = 0.8 * (ASSETS[a] - spent + gift) + 0.2 * WAGES[w] * hours * (1 - tax)
            weights = [np.interp(then, ASSETS, np.eye(4)[node]) for node in range(4)]
            for node, v in product(range(4), range(3)):
                law[s, k, places.index((node, v, later))] += chance * weights[node] * CHAIN[w, v]
    return reward, law, is_open


def test_tables_are_those_made_one_entry_at_a_time():
    model = household()
    mdp = model.mdp(*GIVEN)
    reward, law, is_open = by_loops()
    np.testing.assert_array_equal(mdp.available, is_open)
    # Rounding only.
    np.testing.assert_allclose(mdp.reward, reward, atol=1e-14)
    np.testing.assert_allclose(mdp.transition.to_dense().probability, law, atol=1e-14)
    stationary = np.linalg.matrix_power(CHAIN, 4096)[0]
    first = np.einsum("i,j,k->ijk", [0.75, 0.25, 0, 0], stationary, [0, 1]).ravel()
    np.testing.assert_allclose(mdp.initial, first, atol=1e-12)
    # Two nodes, two gifts, three moves at most of the chain.
    assert mdp.transition.probability.shape == (24, 6, 2 * 2 * 3)
    assert (model.num_states, model.num_actions) == mdp.reward.shape
    compiled = jax.jit(model.mdp)(*GIVEN)
    np.testing.assert_allclose(compiled.transition.probability, mdp.transition.probability)


def test_a_chain_lists_only_moves_that_can_happen():
    ring = np.roll(np.eye(5), 1, axis=1) * 0.9 + np.eye(5) * 0.1
    ring[2] = np.eye(5)[2]  # one that stays: its second slot repeats it with probability 0
    chain = cb.Chain(range(5), ring)
    assert chain.moves.shape == (5, 2)
    model, other = (
        cb.GridModel(
            states={"season": cb.Chain(range(5), matrix)},
            actions={"work": cb.Grid((0, 1))},
            reward=lambda state, action: state["season"] * action["work"],
            initial={"season": 3},
            discount=0.9,
            temperature=0.5,
        )
        for matrix in (ring, lambda parameters: parameters["chance"] * ring)
    )
    few, all_of_them = model.mdp({}, None, {}), other.mdp({}, None, {"chance": 1.0})
    assert all_of_them.transition.probability.shape == (5, 2, 5)
    for mdp in (few, all_of_them):
        np.testing.assert_allclose(mdp.transition.to_dense().probability[:, 0], ring, atol=1e-15)
        assert np.argmax(mdp.initial) == 3


def _quadratic(num_nodes):
    """Largest error of the value of x^2, where x moves to .6 x + .4 e with e = -1 or 1."""
    rate, g = 0.6, 0.9
    grid = cb.Grid(np.linspace(-1.0, 1.0, num_nodes))
    model = cb.GridModel(
        states={"x": grid},
        actions={"none": cb.Grid((0,))},
        shocks={"e": cb.Shock([-1.0, 1.0], [0.5, 0.5])},
        reward=lambda state: state["x"] ** 2,
        next_state=lambda state, shock: {"x": rate * state["x"] + (1 - rate) * shock["e"]},
        initial={"x": 0.0},
        discount=g,
        temperature=1.0,
    )
    a = 1.0 / (1.0 - g * rate**2)
    b = g * a * (1 - rate) ** 2 / (1.0 - g)
    values = best_response(model.mdp({}, None, {})).values
    return float(abs(values - (a * grid.numbers**2 + b)).max())


def test_interpolation_converges_as_the_square_of_the_distance_of_nodes():
    errors = np.array([_quadratic(number) for number in (11, 21, 41)])
    assert errors[-1] < 0.01
    # The error is between two nodes h^2 / 8 times a slope's change of 2 a, added up: a ratio of 4
    # but for where next states fall between nodes.
    assert (errors[:-1] / errors[1:] > 3.0).all()
    assert (errors[:-1] / errors[1:] < 5.0).all()


def test_periods_and_all_that_depends_on_them():
    T = 3
    model = household(
        num_periods=T,
        discount=1.0,
        reward=lambda state, action, shock, parameters, period: (
            (1 + period) * pleasure(state, action, shock, parameters)
        ),
        terminal=lambda state, period: (period == 1) & (state["home"] == 0),
        terminal_value=lambda state: 2.0 * state["assets"],
    )
    mdp = model.mdp(*GIVEN)
    found = best_response(mdp)
    reward, law, is_open = by_loops()
    assets, home = (np.indices((4, 3, 2)).reshape(3, -1)[i] for i in (0, 2))
    later, values = 2.0 * ASSETS[assets], []
    for t in reversed(range(T)):
        goes_on = np.where((t == 1) & (home == 0), 0.0, 1.0)
        q = (1 + t) * reward + goes_on[:, None] * (law @ later)
        later = 0.4 * np.log(np.where(is_open, np.exp(q / 0.4), 0.0).sum(1))
        values.insert(0, later)
    np.testing.assert_allclose(found.values, np.concatenate(values), rtol=1e-11)
    assert model.by_variable(found.values).shape == (T, 4, 3, 2)
    # One law serves all periods: only the reward asks for the period.
    assert mdp.transition.stages.probability.shape[0] == 1
    moving = household(
        num_periods=T,
        next_state=lambda state, period: {"assets": 0.1 * period, "home": state["home"]},
    )
    assert moving.mdp(*GIVEN).transition.stages.probability.shape == (T, 24, 6, 2 * 3)


def test_derivatives_pass_the_weights_and_stop_at_closed_actions():
    """The root of what is left has no derivative where it would be negative: closed there."""
    model = household()

    def worth(tax):
        mdp = model.mdp({"tax": tax}, *GIVEN[1:])
        return mdp.initial @ best_response(mdp).values

    # At a tax of .1 one next state is a node, where a value has a kink.
    slope = jax.jit(jax.grad(worth))(0.12)
    central = (float(worth(0.12 + 1e-4)) - float(worth(0.12 - 1e-4))) / 2e-4
    # Central differences err by 1e-8 times third derivatives; values are solved to 1e-11 of 20.
    assert float(slope) == pytest.approx(central, rel=1e-6)
    assert abs(central) > 1e-2


def test_a_law_without_the_incentive_is_seen_to_be_without_it():
    model = household(next_state=lambda state: {"assets": state["assets"], "home": 0})

    def part(name, tax):
        return getattr(model.mdp({"tax": tax}, *GIVEN[1:]), name)

    assert not depends_on_input(lambda tax: part("transition", tax), 0.1)
    assert depends_on_input(lambda tax: household().mdp({"tax": tax}, *GIVEN[1:]).transition, 0.1)


def test_tables_of_the_leader():
    model = household(num_periods=2)
    taxed = model.table(lambda action, incentive: incentive["tax"] * action["hours"])
    found = model.by_variable(taxed(*GIVEN))
    assert found.shape == (2, 4, 3, 2, 6)
    np.testing.assert_allclose(found[0, -1, 0, 0], np.tile([0.0, 0.1], 3))
    np.testing.assert_allclose(found[0, 0, 0, 0], [0.0, 0.1, 0, 0, 0, 0])  # 0 where closed


def test_labels():
    labels = household(num_periods=2).state_labels
    assert labels.misfit((48,)) == ""
    assert list(labels.coords) == ["period", "assets", "wage", "home"]
    assert [labels.coords[name][1][25] for name in labels.coords] == [1, 0.0, 1, "house"]
    assert labels.description == "assets in kEUR"
    assert household().action_names[3] == "spending 0.7, hours 1"
    alone = cb.GridModel(
        states={"mileage": cb.Grid(range(0, 30_000, 5_000), unit="miles")},
        actions={"engine": cb.Grid(("keep", "replace"))},
        reward=lambda action: action["engine"],
        next_state=lambda state: state,
        initial={"mileage": 0},
        discount=0.5,
    )
    assert alone.action_names == ("keep", "replace")
    assert alone.state_labels.unit == "miles"
    assert alone.state_labels.coords["mileage"][1][-1] == 25_000


def test_a_next_state_off_the_grid_is_named_and_when_compiled_makes_the_mdp_invalid():
    model = household(
        next_state=lambda state, action, shock, incentive: {
            "assets": state["assets"] * (1.0 + incentive["tax"]) + shock["gift"],
            "home": 0,
        }
    )
    with pytest.raises(InvalidInputError) as caught:
        model.mdp(*GIVEN)
    text = str(caught.value)
    for part in ("grid of 'assets'", "4.4 from state assets 4, wage 1, home flat", "shock gift 0"):
        assert part in text
    assert "accepted: from 0 to 4" in text
    assert "clip=True" in text
    compiled = jax.jit(model.mdp)({"tax": 0.1}, *GIVEN[1:])
    assert not bool(is_valid(compiled))
    assert int(best_response(compiled).status) == SolveStatus.INVALID_MDP
    unlikely = cb.Shock([0.0, 99.0], [1.0, 1e-12])
    far = household(shocks={"gift": unlikely}, reward=lambda: 0.0)
    with pytest.raises(InvalidInputError, match="shock gift 99"):
        far.mdp(*GIVEN)
    kept = household(
        states={
            "assets": cb.Grid(ASSETS, clip=True),
            "wage": cb.Chain(WAGES, CHAIN),
            "home": cb.Grid(("flat", "house")),
        },
        next_state=model.next_state,
    )
    law = kept.mdp(*GIVEN).transition.to_dense().probability.reshape(4, 3, 2, 6, 4, 3, 2)
    np.testing.assert_allclose(law[-1, 0, 0, 0].sum((1, 2)), [0, 0, 0, 1.0], atol=1e-15)


def test_what_is_left_unused_may_lead_anywhere():
    """Closed actions, terminal states, and the move after the last period for nothing."""
    grow = {"states": {"x": cb.Grid([0.0, 1.0, 2.0])}, "initial": {"x": 0.0}, "temperature": 1.0}
    grow |= {"actions": {"step": cb.Grid((0, 1))}, "discount": 0.9, "reward": lambda action: 0.0}

    def ahead(state, action, period=0):
        return {"x": state["x"] + action["step"] + 0.0 * period}

    cases = {
        "available": lambda state, action: state["x"] + action["step"] <= 2.0,
        "terminal": lambda state: state["x"] == 2.0,
    }
    for name, function in cases.items():
        cb.GridModel(**grow, next_state=ahead, **{name: function}).mdp({}, None, {})
    with pytest.raises(InvalidInputError, match=r"3 from state x 2; action step 1;"):
        cb.GridModel(**grow, next_state=ahead).mdp({}, None, {})
    short = cb.GridModel(
        **grow,
        next_state=ahead,
        available=lambda state, action, period: (
            action["step"] <= jnp.maximum(period + 1 - state["x"], 0)
        ),
        num_periods=2,
    )
    assert bool(is_valid(short.mdp({}, None, {})))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reward": 3.0}, "reward is no function"),
        ({"reward": lambda state, stat: 0.0}, "asks for what nobody gives it; received: stat"),
        ({"reward": lambda period: 0.0}, "received: period"),
        ({"reward": lambda state: state["asset"]}, "state: assets, wage, home"),
        ({"reward": lambda state: 1.0 if state["assets"] > 1 else 0.0}, "jnp.where"),
        ({"reward": lambda: jnp.zeros(3)}, "reward is not one number; received: shape"),
        ({"reward": lambda: "much"}, "reward is no number"),
        ({"reward": lambda: jnp.nan}, r"reward\[0, 0\] is nan"),
        ({"next_state": None}, "no law for assets, home"),
        ({"next_state": lambda: {"assets": 0.0}}, "accepted: a dictionary with assets, home"),
        ({"next_state": lambda: {"assets": jnp.nan, "home": 0}}, "received: nan from state"),
        ({"next_state": lambda: {"assets": 0.0, "home": 0.5}}, "accepted: a position from 0 to 1"),
        ({"initial": {"assets": 0.0}}, "accepted: assets, wage .optional., home"),
        ({"initial": {"assets": 9.0, "home": 0}}, "initial of 'assets' is off its grid"),
        ({"initial": {"assets": 0.0, "home": "tent"}}, "none of its names; received: 'tent'"),
        ({"initial": {"assets": np.ones(3), "home": 0}}, "one number, or 4 probabilities"),
        ({"states": {"step": cb.Grid((0, 1))}}, "received: step"),
        ({"states": {"assets": [0, 1]}}, r"states\['assets'\] has the wrong type"),
        ({"actions": {}}, "a model needs actions"),
        ({"terminal_value": lambda: 0.0}, "terminal_value needs num_periods"),
        ({"num_periods": 0}, "num_periods = 0"),
        (
            {"shocks": {"gift": cb.Shock([0.0, 1.0], lambda: jnp.ones(3) / 3)}},
            "shock 'gift' do not",
        ),
        ({"available": lambda: False}, "number of available actions"),
    ],
)
def test_models_that_are_refused(changes, words):
    with pytest.raises(InvalidInputError, match=words):
        household(**changes).mdp(*GIVEN)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: cb.Grid([0.0, 2.0, 1.0]), "do not rise"),
        (lambda: cb.Grid([]), "finite numbers, at least one"),
        (lambda: cb.Grid(("a", "a")), "different texts"),
        (lambda: cb.Grid(("a", "b"), clip=True), "between or beyond names"),
        (lambda: cb.Chain((0, 1), [[0.5, 0.6], [0.5, 0.5]]), "rows that sum to one"),
        (lambda: cb.Chain((0, 1), np.eye(3)), "no law of the next node"),
        (lambda: cb.Shock([0.0, 1.0], [1.0]), "do not fit together"),
    ],
)
def test_variables_that_are_refused(make, words):
    with pytest.raises(InvalidInputError, match=words):
        make()
