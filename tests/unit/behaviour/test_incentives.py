"""The incentive of every regime: stated where it is needed, compared with what is possible."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import cbrl_bayes as cb
from cbrl_bayes.behaviour import count_behaviour, violations_of
from cbrl_bayes.errors import DataError, DataNote, InvalidInputError
from cbrl_bayes.problems import IncentiveSpace, Labels, scaled_sigmoid, two_state
from cbrl_bayes.problems.reach import reach_of

ROWS = {"follower": ["a", "b"], "step": 0, "state": 0, "action": [1, 0], "regime": ["low", "high"]}


def within(low, high):
    """The two-state problem with a bonus between two limits."""
    from dataclasses import replace

    return replace(
        two_state(),
        incentive=IncentiveSpace(
            {"bonus": jnp.zeros(())},
            lambda x: {"bonus": scaled_sigmoid(x["bonus"], low, high)},
            {"bonus": Labels(unit="euro")},
        ),
    )


@pytest.mark.parametrize("regime", [["low", "high"], ["pilot", "pilot"]])
def test_named_regimes_need_their_incentives(regime):
    data = cb.make_trajectories([[0], [0]], [[1], [0]], regime=regime)
    with pytest.raises(DataError, match="their incentives are not stated"):
        cb.check_trajectories(data, two_state())
    with pytest.raises(DataError, match="not stated"):
        count_behaviour(two_state(), data)
    stated = {name: {"bonus": 0.4} for name in regime}
    counts = count_behaviour(two_state(), cb.with_incentives(data, stated))
    assert counts.incentives["bonus"].tolist() == [0.4] * len(set(regime))
    nothing = cb.with_incentives(data, {name: {} for name in regime})
    assert count_behaviour(two_state(), nothing).incentives["bonus"].sum() == 0.0


def test_a_regime_left_out_is_named():
    data = cb.make_trajectories([[0], [0]], [[1], [0]], regime=["low", "high"])
    with pytest.raises(DataError, match=r"regimes \['high'\] have no incentive"):
        cb.check_trajectories(cb.with_incentives(data, {"low": {"bonus": 0.4}}), two_state())
    with pytest.raises(DataError, match=r"regimes \['high', 'low'\] have no incentive"):
        cb.check_trajectories(cb.with_incentives(data, {}), two_state())


WAYS = {
    "mapping": (ROWS, {"low": {"bonus": 0.4}, "high": {"bonus": 1.2}}),
    "table": (ROWS, pd.DataFrame({"regime": ["high", "low"], "bonus": [1.2, 0.4]})),
    "columns": (ROWS | {"incentive_bonus": [0.4, 1.2]}, None),
    "columns by name": (ROWS | {"bonus": ["0.4", " 1.2 "]}, None),
}


@pytest.mark.parametrize("way", WAYS)
def test_three_ways_to_state_incentives(way):
    rows, incentives = WAYS[way]
    data = cb.from_table(pd.DataFrame(rows), two_state(), incentives=incentives)
    counts = count_behaviour(two_state(), data)
    assert dict(zip(counts.regimes, counts.incentives["bonus"], strict=True)) == {
        "low": 0.4,
        "high": 1.2,
    }


def test_without_regimes_every_incentive_makes_one():
    rows = {name: ROWS[name] for name in ("follower", "step", "state", "action")}
    data = cb.from_table(pd.DataFrame(rows | {"bonus": [0.4, 1.2]}), two_state())
    assert data.regime.values.tolist() == ["bonus=0.4", "bonus=1.2"]
    assert count_behaviour(two_state(), data).incentives["bonus"].tolist() == [0.4, 1.2]


def test_arrays_have_a_column_for_each_entry():
    problem = cb.problems.contract_design()
    names = [f"payment[{stage}, {outcome}]" for stage in (0, 1) for outcome in (0, 1)]
    rows = {"follower": ["a"], "step": [0], "state": [0], "action": ["leave"]}
    columns = {name: [0.1 * place] for place, name in enumerate(names)}
    data = cb.from_table(pd.DataFrame(rows | columns), problem)
    np.testing.assert_allclose(data.incentive_payment[0], [[0.0, 0.1], [0.2, 0.3]])
    del columns[names[0]]
    with pytest.raises(DataError, match="not its entries"):
        cb.from_table(pd.DataFrame(rows | columns), problem)


@pytest.mark.parametrize("bad", ["0.4", float("nan"), float("inf"), None, True, {"x": 1.0}])
def test_incentives_are_finite_numbers(bad):
    with pytest.raises(DataError, match="regime 'low' is not made of finite numbers"):
        cb.make_trajectories([[0]], [[1]], regime=["low"], incentives={"low": {"bonus": bad}})


def test_faults_of_incentives_are_named():
    data = cb.make_trajectories([[0]], [[1]], regime=["low"])
    for stated, message in (
        ({"low": {"bonuss": 0.4}}, r"unknown incentives \['bonuss'\]"),
        ({"low": {"bonus": [0.4, 0.5]}}, r"incentive_bonus has shape \(2,\) per regime"),
    ):
        with pytest.raises(DataError, match=message):
            cb.check_trajectories(cb.with_incentives(data, stated), two_state())
    with pytest.raises(DataError, match="several shapes"):
        cb.with_incentives(data, {"low": {"bonus": 0.4}, "high": {"bonus": [0.4, 0.5]}})
    with pytest.raises(InvalidInputError, match="incentive of regime 'low' has the wrong type"):
        cb.with_incentives(data, {"low": 0.4})
    nameless = data.assign(incentive_bonus=("regime_index", [0.4]))
    assert "without the names of their regimes" in next(violations_of(nameless, two_state()))
    rows = pd.DataFrame(ROWS | {"regime": "low", "bonus": [0.4, 0.5]})
    with pytest.raises(DataError, match="more than one incentive: 'low'"):
        cb.from_table(rows, two_state())
    with pytest.raises(DataError, match="row 1 is not a finite number"):
        cb.from_table(pd.DataFrame(ROWS | {"bonus": [0.4, None]}), two_state())
    with pytest.raises(DataError, match="given twice"):
        cb.from_table(pd.DataFrame(ROWS | {"bonus": 0.4}), two_state(), incentives={"low": {}})


@pytest.mark.parametrize("bonus", [60.0, -5.0])
def test_cents_for_euros_are_noted(bonus):
    data = cb.make_trajectories([[0]], [[1]], regime=["low"], incentives={"low": {"bonus": bonus}})
    with pytest.warns(
        DataNote, match=rf"bonus = {bonus:g}, but the problem can choose 0 to 2 only"
    ):
        cb.check_trajectories(data, within(0.0, 2.0))


def test_possible_incentives_and_none_are_not_noted():
    data = cb.make_trajectories(
        [[0], [0]],
        [[1], [0]],
        regime=["today", "pilot"],
        incentives={"today": {"bonus": 0.0}, "pilot": {"bonus": 1.999}},
    )
    cb.check_trajectories(data, within(0.5, 2.0))  # a warning would be an error


def test_the_reach_of_transforms():
    space = IncentiveSpace(
        {"x": jnp.zeros(3)},
        lambda u: {
            "free": u["x"],
            "positive": jnp.exp(u["x"]),
            "share": jnp.exp(u["x"] - u["x"].max()) / jnp.exp(u["x"] - u["x"].max()).sum(),
        },
        {name: Labels((name,)) for name in ("free", "positive", "share")},
    )
    reach = reach_of(space)
    np.testing.assert_array_equal(reach["free"], [[-np.inf] * 3, [np.inf] * 3])
    assert (reach["positive"][1] == np.inf).all()
    np.testing.assert_allclose(reach["positive"][0], 0.0, atol=1e-9)  # e to the power of -30
    np.testing.assert_allclose(reach["share"], [[0.0] * 3, [1.0] * 3], atol=1e-9)


@pytest.mark.parametrize("k", [1e-12, 1.0, 1e12])
def test_the_reach_does_not_depend_on_the_unit_of_money(k):
    space = IncentiveSpace(
        {"wage": jnp.asarray(1e6 * k), "logit": jnp.zeros(())},
        lambda u: {"wage": u["wage"], "toll": scaled_sigmoid(u["logit"], 0.0, 5.0 * k)},
        {"wage": Labels(), "toll": Labels()},
    )
    reach = reach_of(space)
    assert reach["wage"] == (-np.inf, np.inf)
    assert reach["toll"][0] == 0.0
    assert reach["toll"][1] == pytest.approx(5.0 * k, rel=1e-6)


def test_an_incentive_that_makes_no_process_is_named():
    from dataclasses import replace

    plain = two_state()
    problem = replace(
        plain,
        mdp_fn=lambda i, c, p: plain.mdp_fn(i, c, {"temperature": p["temperature"] - i["bonus"]}),
    )
    data = cb.make_trajectories([[0]], [[1]], regime=["x"], incentives={"x": {"bonus": 9.0}})
    with pytest.raises(InvalidInputError, match=r"stated for regime 'x' .*bonus = 9.*temperature"):
        cb.check_trajectories(data, problem)
