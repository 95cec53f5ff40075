"""The first thing a reader needs: what to do, what to expect, and what it gains over today."""

import json

import numpy as np
import pytest
import xarray as xr

import cbrl_bayes as cb
from cbrl_bayes.results.recommendation import recommendation


def study(objective, incentive, *, stated=(), names=("common", "plug_in"), **more):
    """Return what a recommendation is read from; objectives by design and draw."""
    objective = np.asarray(objective, float)[:, None, :]
    num = objective.shape[-1]
    names = [*names, *stated]
    decision = xr.Dataset(
        {
            "objective": (("design", "chain", "draw"), objective),
            "incentive": (
                ("design", "road"),
                np.asarray(incentive, float),
                {"long_name": "toll", "units": "euro"},
            ),
            "lowest_incentive": ("road", [0.0, 0.0]),
            "highest_incentive": ("road", [6.0, np.inf]),
            **more,
        },
        coords={"design": names, "draw": np.arange(num), "chain": [0], "road": ["ring", "pass"]},
    )
    tree = xr.DataTree.from_dict({"decision": decision})
    tree.attrs = {"objective_unit": "euro per trip", "alternatives": json.dumps(list(stated))}
    return tree


DRAWS = np.linspace(0.0, 1.0, 101)


def test_what_to_do_what_to_expect_and_what_is_gained():
    tree = study(
        [DRAWS, DRAWS - 0.001, DRAWS * 0.5 - 0.1],
        [[5.99, 2.0], [5.0, 2.0], [0.0, 0.0]],
        stated=("today",),
    )
    found = recommendation(tree, prob=0.9)
    assert found.design == "common"
    assert found.incentive["value"].tolist() == [5.99, 2.0]
    assert found.incentive["bound"].tolist() == ["the highest possible", ""]
    assert found.objective == pytest.approx((0.5, 0.05, 0.95))
    gain = found.gains.loc["today"]
    # Draw by draw: .5 d + .1, not the difference of two intervals.
    assert tuple(gain[["mean", "lower", "upper"]]) == pytest.approx((0.35, 0.125, 0.575))
    assert gain["probability"] == 1.0
    first, second, third, fourth = found.lines()
    assert first == (
        "Do this: toll: ring = 5.99 euro (the highest possible); pass = 2 euro (the common design)"
    )
    assert second.startswith("Expect that: leader objective 0.5 euro per trip (90 % interval 0.05")
    assert third.startswith("Against today: +0.35 euro per trip")
    assert fourth.startswith("Against plug-in")


def test_a_gain_that_is_not_sure_is_called_so_and_ties_are_halves():
    tree = study([DRAWS, DRAWS[::-1]], [[1.0, 1.0], [2.0, 2.0]])
    gain = recommendation(tree).gains.loc["plug_in"]
    assert gain["probability"] == pytest.approx(0.5)  # the middle draw ties
    assert "smaller than its uncertainty" in recommendation(tree).lines()[2]


def test_without_alternatives_the_way_to_state_today_is_told():
    tree = study([DRAWS, DRAWS], [[1.0, 1.0], [1.0, 1.0]])
    assert recommendation(tree).lines()[-1].startswith("Against today: not known. State")


def test_a_design_that_breaks_a_constraint_is_not_recommended():
    kept = {"feasible": ("design", [0, 1, 1])}
    values = [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]
    names = ("common", "plug_in", "cvar")
    rows = [DRAWS + 1.0, DRAWS, DRAWS + 0.5]
    assert recommendation(study(rows, values, names=names, **kept)).design == "cvar"
    none = {"feasible": ("design", [0, 0, 0])}
    assert recommendation(study(rows, values, names=names, **none)) is None


def test_many_numbers_are_cut_to_the_largest():
    tree = study([DRAWS, DRAWS], [[1.0, 1.0], [1.0, 1.0]])
    decision = xr.Dataset(
        {
            "objective": tree["decision"]["objective"],
            "incentive": (("design", "cell"), np.tile(np.arange(20.0), (2, 1))),
        }
    )
    action = recommendation(xr.DataTree.from_dict({"decision": decision})).action
    assert "19 = 19" in action
    assert "and 12 more of at most 11" in action


def test_a_fit_recommends_nothing():
    assert cb.recommendation(xr.DataTree()) is None
