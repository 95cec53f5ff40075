"""The one kind of table: what it prints, what it states, and when it withholds numbers."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.results import Health, Table, check_interval, design_title, need_group, study_table


def _study(failures=()):
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset(), "decision": xr.Dataset()})
    tree["decision"].attrs["failures"] = json.dumps(list(failures))
    return tree


def _make():
    return {"": pd.DataFrame({"mean": [1.23456, np.nan], "name": ["a", None]}, index=["x", "y"])}


def test_a_table_states_its_interval_and_its_units():
    table = study_table(
        _study(), "worth [euro]", _make, prob=0.8, kind="hdi", units={"mean": "euro", "absent": "m"}
    )
    assert table.frame.attrs == {"units": {"mean": "euro"}, "prob": 0.8, "kind": "hdi"}
    first, second, *_ = str(table).splitlines()
    assert first == "worth [euro]"
    assert second == "80 % credible intervals, highest-density (hdi)"
    assert "1.235" in str(table)
    assert "nan" not in str(table).lower()
    assert str(table).splitlines()[-1] == "health: PASS"


def test_a_table_fits_the_terminal(monkeypatch):
    wide = pd.DataFrame(np.ones((2, 30)), columns=[f"column {i}" for i in range(30)])
    table = Table("wide", {"": wide})
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, str(table).splitlines())) <= 60
    monkeypatch.setenv("COLUMNS", "2000")
    assert max(map(len, str(table).splitlines())) > 60
    for name in wide:
        assert name in str(table)


def test_a_failed_study_withholds_the_numbers():
    def never():
        raise AssertionError("numbers were computed although they are withheld")

    failed = _study(["the ascents failed"])
    table = study_table(failed, "worth", never)
    assert table.withheld
    assert table.frame.empty
    for words in ("health: FAIL", "decision: the ascents failed", "accept_failed=True"):
        assert words in str(table)
        assert words in table._repr_html_()
    shown = study_table(failed, "worth", _make, accept_failed=True)
    assert not shown.withheld
    assert "withheld" not in str(shown)
    assert "1.235" in str(shown)
    assert "FAIL" not in str(study_table(_study(), "worth", _make, accept_failed=True))


def test_html_escapes_text_from_files():
    table = Table("<b>", {"<i>": pd.DataFrame({"<u>": ["<script>"]})}, health=Health(["<p>"]))
    for word in ("<b>", "<i>", "<u>", "<script>", "REVIEW <p>"):
        assert word not in table._repr_html_()


@pytest.mark.parametrize(("prob", "kind"), [(0.0, "eti"), (1.0, "hdi"), (True, "eti"), (0.9, "x")])
def test_intervals_that_do_not_exist_are_refused(prob, kind):
    with pytest.raises(InvalidInputError, match="the interval cannot be computed"):
        check_interval(prob, kind)


def test_a_group_that_is_missing_is_named_with_what_makes_it():
    with pytest.raises(InvalidInputError, match=r"no group .stress..*try: stress_test"):
        need_group(_study(), "stress", "stress_test(...)")


def test_designs_have_one_name_each():
    titles = [design_title(name) for name in ("common", "plug_in", "own", "mine")]
    assert titles == ["common", "plug-in", "best per draw", "mine"]
