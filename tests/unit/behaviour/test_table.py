"""Tables as people have them: text stays text, names count, and nothing is dropped in silence."""

import datetime
import json

import numpy as np
import pandas as pd
import pytest

import cbrl_bayes as cb
from cbrl_bayes.errors import DataError, DataNote, InvalidInputError
from cbrl_bayes.problems import contract_design, two_state

PLAIN = {"follower": ["a", "b"], "step": [0, 0], "state": [0, 0], "action": [1, 0]}
TOLD = "ignore::cbrl_bayes.errors.DataNote"


def table(**columns):
    return pd.DataFrame(PLAIN | columns)


@pytest.fixture
def csv(tmp_path):
    """Write a file and read it."""

    def read(text, *arguments, **keywords):
        (tmp_path / "table.csv").write_text(text, encoding="utf-8")
        return cb.load_trajectories(tmp_path / "table.csv", *arguments, **keywords)

    return read


@pytest.mark.parametrize("name", ["NA", "None", "null", "nan", "n/a", "NaN", "<NA>", "1", "1.0"])
def test_every_text_is_a_name(csv, name):
    text = f"follower,step,state,action,context\na,0,0,1,{name}\nb,0,0,0,\n"
    assert csv(text).context.values.tolist() == [name, ""]
    assert csv(text, missing=name).context.values.tolist() == ["", ""]


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ("follower", ("007", "7")),
        ("group", ("007", "7")),
        ("regime", ("1e3", "1000")),
        ("context", ("1", "1.0")),
        ("episode", ("01", "1")),
    ],
)
@pytest.mark.filterwarnings(TOLD)
def test_names_that_are_one_number_stay_two(csv, column, cells):
    rows = [f"x,0,0,1,{cell}" for cell in cells]
    head = "follower,step,state,action,"
    if column in ("follower", "episode"):
        rows = [f"{cell if column == 'follower' else 'x'},0,0,1,{cell}" for cell in cells]
        data = csv(head + "episode\n" + "\n".join(rows) + "\n")
        assert data.sizes["episode"] == 2
    else:
        rows = [f"{who},0,0,1,{cell}" for who, cell in zip("ab", cells, strict=True)]
        data = csv(head + column + "\n" + "\n".join(rows) + "\n")
        assert tuple(data[column].values) == cells
    if column == "follower":
        assert tuple(data.follower.values) == cells


def test_whole_numbers_beside_an_empty_cell_stay_whole():
    assert cb.from_table(table(context=[1, None])).context.values.tolist() == ["1", ""]
    large = 2**60 + 1
    names = cb.from_table(table(follower=[large, large + 1])).follower.values.tolist()
    assert names == [str(large), str(large + 1)]
    with pytest.raises(DataError, match=r"'follower', row 0.*lost its last digits"):
        cb.from_table(table(follower=[large, None]))  # pandas has made it a float


def test_a_messy_file(csv):
    text = (
        "\ufeff Person ; Week ;  status;took it?;context;mood\n"
        " b ;2020-01-13; offered ; no ; cost 1.5 ;4\n"
        "a;2020-01-06;offered;YES;cost 0.5;3\n"
        "\n"
        "a;2020-01-13;Settled;no;cost 0.5;3\n"
    )
    columns = {"Person": "follower", "Week": "step", "status": "state", "took it?": "action"}
    with pytest.warns(DataNote) as told:
        data = csv(text, two_state(), columns=columns)
    assert data.follower.values.tolist() == ["b", "a"]
    assert data.state.values.tolist() == [[0, -1], [0, 1]]
    assert data.action.values.tolist() == [[0, -1], [1, 0]]
    said = " ".join(str(one.message) for one in told)
    assert "left out: 'mood'" in said
    assert "Settled read as settled" in said
    assert "YES read as 1 (work), no read as 0 (decline)" in said
    assert "counts as without any (bonus = 0)" in said
    assert "read as weeks" in json.loads(data.attrs["notes"])[-1]


CELLS = {
    "names": ["work", "decline"],
    "bytes": [b"work", b"decline"],
    "categories": pd.Categorical(["work", "decline"]),
    "booleans": [True, False],
    "nullable booleans": pd.array([True, False], dtype="boolean"),
    "numbers as text": ["1", "0.0"],
    "nullable numbers": pd.array([1, 0], dtype="Int64"),
}


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.filterwarnings(TOLD)
def test_kinds_of_cells(kind):
    data = cb.from_table(table(action=CELLS[kind]), two_state())
    assert data.action.values.tolist() == [[1], [0]]


@pytest.mark.filterwarnings(TOLD)
def test_a_mapping_says_what_words_mean():
    words = table(action=["Ja", "Nein"], state=["x", "x"])
    labels = {"action": {"Ja": "decline", "Nein": 1}, "state": {"x": "offered"}}
    data = cb.from_table(words, two_state(), labels=labels)
    assert data.action.values.tolist() == [[0], [1]]
    with pytest.raises(DataError, match=r"labels\['action'\] leads to something unknown"):
        cb.from_table(words, two_state(), labels=labels | {"action": {"Ja": "maybe"}})
    with pytest.raises(DataError, match=r"received: 'Ja', 'Nein'; accepted: .*'decline', 'work'"):
        cb.from_table(table(action=["Ja", "Nein"]), two_state())
    with pytest.raises(DataError, match="no name of the problem"):
        cb.from_table(table(action=["yes", "no"]), contract_design())  # three actions
    with pytest.raises(InvalidInputError, match="labels of an unknown column"):
        cb.from_table(words, labels={"mood": {}})


def test_a_number_that_is_also_a_name_is_refused():
    from dataclasses import replace

    problem = replace(two_state(), action_names=("1", "2"))
    with pytest.raises(DataError, match="'1' may be number 1 or the name of 0"):
        cb.from_table(table(), problem)


def test_booleans_and_yes_without_a_problem():
    with pytest.warns(DataNote, match="No read as 0, Yes read as 1"):
        data = cb.from_table(table(action=["Yes", "No"]))
    assert data.action.values.tolist() == [[1], [0]]


@pytest.mark.parametrize("bad", [[0.7, 0.0], [2**40, 0], [1e30, 0], ["x", 0], [[1], 0], [1j, 0]])
def test_numbers_that_do_not_fit_are_refused(bad):
    with pytest.raises(DataError, match="column 'state', row 0 is not a whole number"):
        cb.from_table(table(state=bad))


def test_an_empty_cell_is_called_empty():
    with pytest.raises(DataError, match="column 'state' is empty in row 1"):
        cb.from_table(table(state=[0, None]))


MONTHS = ["2020-01-31", "2020-02-29", "2020-03-31"]
STEPS = {
    "text": MONTHS,
    "months": ["2020-01", "2020-02", "2020-03"],
    "quarters": ["2020Q3", "2020Q4", "2021Q1"],
    "dates": [datetime.date(2020, 2, day) for day in (27, 28, 29)],
    "moments": pd.to_datetime(MONTHS),
    "with zones": pd.to_datetime(["2020-01-01T23:00Z", "2020-01-02T00:00Z", "2020-01-02T01:00Z"]),
    "periods": pd.period_range("2020-01", periods=3, freq="M"),
    "years": ["2019-06-30", "2020-06-30", "2021-06-30"],
}


def walk(steps, **more):
    number = len(steps)
    columns = {"follower": ["a"] * number, "step": steps, "state": range(number)}
    return pd.DataFrame(columns | {"action": [0] * number} | more)


@pytest.mark.parametrize("kind", STEPS)
def test_dates_are_steps(kind):
    data = cb.from_table(walk(STEPS[kind]).sample(frac=1.0, random_state=0))
    assert data.state.values.tolist() == [[0, 1, 2]]


def test_what_gaps_mean():
    holes = walk(["2020-01", "2020-02", "2020-04", "2020-05"])
    with pytest.raises(DataError, match=r"gaps \(1\): 'a' after step 2020-02; try: gaps='split'"):
        cb.from_table(holes)
    assert cb.from_table(holes, gaps="split").state.values.tolist() == [[0, 1], [2, 3]]
    assert cb.from_table(holes, gaps="join").state.values.tolist() == [[0, 1, 2, 3]]
    with pytest.raises(InvalidInputError, match="gaps cannot be used"):
        cb.from_table(holes, gaps="ignore")
    many = walk([0, 0, 2, 4, 6, 8, 8])
    with pytest.raises(DataError, match=r"repeats \(2\): .*gaps \(4\): .* and 1 more; try: keep"):
        cb.from_table(many)
    with pytest.raises(DataError, match=r"repeats \(2\)"):
        cb.from_table(many, gaps="join")
    odd = walk(["2020-01-01", "2020-01-04", "2020-01-20"])
    with pytest.raises(DataError, match="no common distance"):
        cb.from_table(odd)
    assert cb.from_table(odd, step_unit="D", gaps="join").state.values.tolist() == [[0, 1, 2]]
    with pytest.raises(InvalidInputError, match="step_unit is unknown"):
        cb.from_table(odd, step_unit="fortnight")
    with pytest.raises(DataError, match="'step', row 0 is not a whole number"):
        cb.from_table(walk(["01/02/2020", "02/02/2020"]))  # of January or of February?


@pytest.mark.filterwarnings(TOLD)
def test_one_step_decisions_need_neither_step_nor_state():
    offers = pd.DataFrame({"got": [1, 0], "context": ["cost 0.5", "cost 1.5"], "bonus": [0.5, 1]})
    data = cb.from_table(offers, two_state(), columns={"got": "action"})
    assert data.state.values.tolist() == [[0], [0]]
    assert data.follower.values.tolist() == ["follower 0", "follower 1"]
    with pytest.raises(DataError, match=r"columns are missing.*step, state as well"):
        cb.from_table(offers.assign(follower="a"), two_state(), columns={"got": "action"})
    with pytest.raises(DataError, match="columns are missing"):
        cb.from_table(offers, columns={"got": "action"})


def test_columns_and_headers(csv):
    with pytest.raises(DataError, match="columns share a name"):
        csv("follower,step,state,action,state\na,0,0,1,1\n")
    with pytest.raises(DataError, match="does not have: 'foo'"):
        cb.from_table(table(), columns={"foo": "state"})
    with pytest.raises(DataError, match="line 2, saw 5"):
        csv("follower,step,state,action\na,0,0,1,9\n")
    blank = csv(",follower,step,state,action,,\n,a,0,0,1,,\n")
    assert blank.state.values.tolist() == [[0]]


def test_headers_in_capitals_and_an_index():
    frame = pd.DataFrame({"Follower": ["a", "b"], "STEP": [0, 0], "State": [0, 1], "action": 0})
    assert cb.from_table(frame).state.values.tolist() == [[0], [1]]
    panel = table().set_index(["follower", "step"])
    assert cb.from_table(panel).follower.values.tolist() == ["a", "b"]
    with pytest.raises(DataError, match=r"received: \['who', 'step', 'state', 'action'\]"):
        cb.from_table(table().rename(columns={"follower": "who"}))
    with pytest.raises(DataError, match="columns share a name"):
        cb.from_table(frame.assign(FOLLOWER="c"))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"missing": 5}, "missing has the wrong type"),
        ({"columns": ["a"]}, "columns has the wrong type"),
        ({"labels": {"action": 5}}, r"labels\['action'\] has the wrong type"),
        ({"incentives": [1]}, "incentives has the wrong type"),
        ({"problem": "two_state"}, "problem has the wrong type"),
    ],
)
def test_wrong_arguments(keywords, message):
    with pytest.raises(InvalidInputError, match=message):
        cb.from_table(table(), **keywords)


def test_text_that_arrays_would_cut_is_refused():
    with pytest.raises(DataError, match=r"'follower', row 0: a cell has the sign 0"):
        cb.from_table(table(follower=["a\0", "a"]))


def test_settings_of_tables_are_for_tables(tmp_path):
    path = cb.save_trajectories(cb.from_table(table()), tmp_path / "data.nc")
    assert "notes" not in cb.load_trajectories(path).attrs
    with pytest.raises(InvalidInputError, match="gaps: only for tables"):
        cb.load_trajectories(path, gaps="join")


class Arrow:
    """What an Arrow table offers of itself."""

    def to_pydict(self):
        return {"follower": [2**60 + 1, None], "step": [0, 0], "state": [0, 0], "action": [1, 0]}


def test_tables_of_other_packages():
    with pytest.raises(DataError, match="'follower' is empty in row 1"):
        cb.from_table(Arrow())
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(PLAIN | {"group": [2**60 + 1, 2**60 + 2]})
    for one in (frame, frame.lazy(), frame.to_arrow()):
        assert cb.from_table(one).group.values.tolist() == [str(2**60 + 1), str(2**60 + 2)]


def test_contexts_that_are_numbers_under_several_regimes():
    data = cb.from_table(
        table(context_value=[0.5, 1.25], regime=["low", "high"]),
        incentives={"low": {"bonus": 0.4}, "high": {"bonus": 1.2}},
    )
    assert data.context_value.values.tolist() == [0.5, 1.25]
    with pytest.raises(DataError, match="'context_value', row 0 is not a finite number"):
        cb.from_table(table(context_value=["x", 1.0]))


def test_a_name_that_pandas_took_away_is_noted():
    from dataclasses import replace

    contexts = cb.DiscreteContexts(("NA", "EU"), np.array([0.5, 1.5]), (0.5, 0.5))
    problem = replace(two_state(), contexts=contexts)
    data = cb.from_table(table(context=[None, "EU"]))
    with pytest.warns(DataNote, match="pandas reads this name as an empty cell"):
        cb.check_trajectories(data, problem)


def test_the_only_context_need_not_be_stated():
    """Then choices count as made in a known context, and are held against predicted ones."""
    problem = two_state(costs=(1.0,), context_probability=(1.0,))
    offers = pd.DataFrame({"taken": ["work", "decline", "work"], "paid": [0.5, 0.5, 1.25]})
    data = cb.from_table(offers, problem, columns={"taken": "action", "paid": "bonus"})
    assert set(data["context"].values) == {"cost 1"}
    assert "no column 'context': it is 'cost 1' in every row" in data.attrs["notes"]
    two = cb.from_table(offers, two_state(), columns={"taken": "action", "paid": "bonus"})
    assert set(two["context"].values) == {""}
