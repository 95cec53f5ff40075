"""A readable incentive is found before its transform, or refused with the nearest there is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import cbrl_bayes as cb
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.problems import READY_MADE, Bounds, Budget, constrained, scaled_sigmoid
from cbrl_bayes.problems.inverse import has_zero

ROADS = ("motorway", "city")


def tolls(start=0.0, low=0.0):
    """Two tolls between ``low`` and 5, by a sigmoid that reaches neither."""
    return cb.IncentiveSpace(
        {"logit": jnp.full(2, start)},
        lambda x: {"toll": scaled_sigmoid(x["logit"], low, 5.0)},
        {"toll": cb.Labels(("road",), {"road": (("road",), ROADS)})},
    )


@pytest.mark.parametrize("name", sorted(set(READY_MADE) - {"four_rooms"}))
def test_ready_made_incentives_are_found_again(name):
    space = READY_MADE[name]().incentive
    point = space.random_start(jax.random.key(1), 1.0)
    wanted = space.transform(point)
    found = space.transform(space.unconstrained_for(wanted))
    for key, array in wanted.items():  # the search ends at 1e-12 of the incentive's size
        np.testing.assert_allclose(found[key], array, atol=1e-10 * (1.0 + np.abs(array).max()))
    assert has_zero(space)


@pytest.mark.parametrize("start", [0.0, 40.0, -300.0])
def test_tolls_are_found_from_anywhere(start):
    """By hand: the logit of the share of 5; a start where the sigmoid is flat is no obstacle."""
    found = tolls(start).unconstrained_for({"toll": [1.0, 4.0]})["logit"]
    np.testing.assert_allclose(found, [np.log(1 / 4), np.log(4)], rtol=1e-9)


READABLE = {
    "array": ([1.0, 2.0], [1.0, 2.0]),
    "whole numbers": ((1, 2), [1.0, 2.0]),
    "one for all": (2.5, [2.5, 2.5]),
    "by label": ({"city": 2.0, "motorway": 1.0}, [1.0, 2.0]),
    "labelled": (xr.DataArray([2.0, 1.0], {"road": ["city", "motorway"]}), [1.0, 2.0]),
    "lowest": (0.0, [0.0, 0.0]),
    "highest": ([5.0, 0.0], [5.0, 0.0]),
}


@pytest.mark.parametrize(("given", "wanted"), READABLE.values(), ids=READABLE)
def test_readable_forms(given, wanted):
    space = tolls()
    found = space.transform(space.unconstrained_for({"toll": given}))["toll"]
    np.testing.assert_allclose(found, wanted, atol=5e-6)  # CLOSE, of a toll of 5


REFUSED = {
    "too high": ({"toll": 6.0}, r"no choice of the leader.*\[6.0, 6.0\].*nearest.*\[5.0, 5.0\]"),
    "too low": ({"toll": [-0.1, 1.0]}, r"nearest found is .*\[0.0, 1.0\]"),
    "misspelt": ({"tol": 1.0}, "received: tol; accepted: all of toll.*try: 'toll'"),
    "one too many": ({"toll": 1.0, "fine": 1.0}, "names of an incentive"),
    "none": ({}, "received: none"),
    "before its transform": ({"logit": [0.0, 0.0]}, "received: logit; accepted: all of toll"),
    "a label missing": ({"toll": {"city": 1.0}}, "received: city; accepted: road: motorway, city"),
    "foreign labels": (
        {"toll": xr.DataArray([1.0, 2.0], {"road": ["city", "bridge"]})},
        "received: city, bridge; accepted: motorway, city",
    ),
    "foreign axis": ({"toll": xr.DataArray([1.0, 2.0], dims="r")}, "axes of incentive 'toll'"),
    "shape": ({"toll": [1.0, 2.0, 3.0]}, r"shape \(3,\)"),
    "text": ({"toll": ["1", "2"]}, "not made of numbers"),
    "not finite": ({"toll": [1.0, np.nan]}, "not all finite"),
    "a word": ("nothing", "accepted: .*'no incentive'"),
}


@pytest.mark.parametrize(("given", "words"), REFUSED.values(), ids=REFUSED)
def test_what_no_choice_gives_is_refused(given, words):
    with pytest.raises(InvalidInputError, match=words):
        tolls().unconstrained_for(given)


def test_no_incentive_where_there_is_one():
    assert has_zero(tolls())
    assert not has_zero(tolls(low=0.5))
    with pytest.raises(InvalidInputError, match=r"nearest found is .*\[0.5, 0.5\]"):
        tolls(low=0.5).unconstrained_for("no incentive")


def test_constraints_are_seen_through():
    """What keeps the constraints is reached, what does not is refused."""
    base = cb.problems.contract_design()
    name = next(iter(base.incentive.labels))
    bounded = constrained(base, Bounds(name, 0.0, 1.0)).incentive
    shape = np.shape(bounded.transform(bounded.initial)[name])
    wanted = np.linspace(0.1, 0.9, int(np.prod(shape))).reshape(shape)
    found = bounded.transform(bounded.unconstrained_for({name: wanted}))[name]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    with pytest.raises(InvalidInputError, match="nearest"):
        bounded.unconstrained_for({name: 2.0})
    budget = constrained(base, Budget(name, 1.0)).incentive
    with pytest.raises(InvalidInputError, match="nearest"):
        budget.unconstrained_for({name: 1.0})
