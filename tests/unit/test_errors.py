"""Ranges of numbers as words, and what is said of those outside."""

import numpy as np
import pytest

from cbrl_bayes.errors import InvalidInputError, require_ranges


@pytest.mark.parametrize(
    ("accepted", "inside", "outside"),
    [
        (">= 1", (1, 2.5, np.inf, np.int64(3)), (0, np.nan, None, "2", (1, 2))),
        ("> 0", (1e-300, True), (0.0, -1)),
        ("[0, 1)", (0, 0.5), (1, -1e-9, np.nan)),
        ("(0, 1]", (1.0, 0.5), (0, 1.1)),
        ("(0, inf)", (1e9,), (np.inf, 0)),
        (">= 1 or None", (None, 1), (0,)),
    ],
)
def test_ranges_are_read_as_written(accepted, inside, outside):
    for value in inside:
        require_ranges({"x": value}, "settings", x=accepted)
    for value in outside:
        with pytest.raises(InvalidInputError, match="settings are out of range; received: x = "):
            require_ranges({"x": value}, "settings", x=accepted)


def test_only_what_is_wrong_is_named():
    with pytest.raises(InvalidInputError) as error:
        require_ranges({"a": 0, "b": 1, "c": 2.0}, "numbers", a=">= 1", b=">= 1", c="[0, 1]")
    assert str(error.value) == (
        "numbers are out of range; received: a = 0, c = 2.0; accepted: a >= 1, c in [0, 1]"
    )
