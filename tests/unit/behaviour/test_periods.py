"""Tables with a calendar, for problems whose states carry a period."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import cbrl_bayes as cb
from cbrl_bayes.errors import DataError, InvalidInputError
from tests.conftest import make_staged_problem

YEARS, PLACES = ("2023", "2024", "2025", "2026"), ("north", "south", "east")


@pytest.fixture(scope="module")
def problem():
    labels = cb.period_labels(4, PLACES, periods=YEARS)
    return replace(make_staged_problem(), state_labels=labels, action_names=("stay", "go", "rest"))


def rows(**changes):
    columns = {
        "follower": ["a", "a", "a", "b", "b"],
        "period": ["2023", "2024", "2025", "2023", "2024"],
        "state": ["north", "south", "south", "east", "north"],
        "action": ["stay", "go", "stay", "rest", "go"],
        "context": ["calm"] * 3 + ["rough"] * 2,
    }
    return pd.DataFrame(columns | changes)


def read(problem, **changes):
    return cb.from_table(rows(**changes), problem, incentives={"baseline": {"x": [0.0, 0.0, 0.0]}})


def test_period_and_place_make_the_state(problem):
    data = read(problem)
    assert data["state"].values.tolist() == [[0, 4, 7], [2, 3, -1]]
    assert read(problem, state=[0, 1, 1, 2, 0])["state"].equals(data["state"])
    assert problem.state_labels.coords["period"][1][7] == "2025"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"period": ["1999", "2024", "2025", "2023", "2024"]}, "row 0 is no period of the problem"),
        ({"state": [3, 1, 1, 2, 0]}, "row 0 is no place within a period; received: 3"),
        ({"state": ["west", "south", "south", "east", "north"]}, "west"),
        # A period left out is a gap; nobody can act in 2025 after 2023.
        ({"period": ["2023", "2025", "2026", "2023", "2024"]}, "gap|missing|step"),
        ({"action": ["stay", "rest", "stay", "rest", "go"]}, "not available there"),
    ],
)
def test_what_does_not_fit_is_refused(problem, changes, said):
    with pytest.raises(DataError, match=said):
        read(problem, **changes)


def test_labels_of_periods_are_checked():
    with pytest.raises(InvalidInputError, match="periods need a name each"):
        cb.period_labels(3, PLACES, periods=("a", "a", "b"))
    own = cb.Labels(("cell",), {"row": (("cell",), (0, 1)), "column": (("cell",), (5, 6))})
    assert cb.period_labels(2, own).coords["column"] == (("cell",), (5, 6, 5, 6))
    assert np.array_equal(cb.period_labels(2, 3).coords["place"][1], [0, 1, 2, 0, 1, 2])
