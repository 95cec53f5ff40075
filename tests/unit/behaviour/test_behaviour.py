import os
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from cbrl_bayes.behaviour import (
    check_trajectories,
    count_behaviour,
    from_table,
    load_trajectories,
    load_zurcher,
    make_trajectories,
    save_trajectories,
    simulate_trajectories,
)
from cbrl_bayes.errors import DataError
from cbrl_bayes.problems import bus_replacement, four_rooms, two_state

RAW = Path(os.environ.get("CBRL_DATA_DIR", "../shared/data")) / "zurcher"
needs_raw_files = pytest.mark.skipif(
    not RAW.is_dir(), reason="the raw Zurcher files are not at hand (set CBRL_DATA_DIR)"
)


def test_counts_are_those_of_a_plain_loop(walkers):
    problem, data = walkers
    counts = count_behaviour(problem, data)
    names = list(problem.contexts.names)
    expected: dict = {}
    for episode in range(data.sizes["episode"]):
        context = names.index(str(data.context.values[episode]))
        for step in range(data.sizes["step"]):
            state, action = data.state.values[episode, step], data.action.values[episode, step]
            if state >= 0:
                expected[context, state, action] = expected.get((context, state, action), 0) + 1
    found = {}
    for row in range(len(counts.row_cell)):
        for action in range(4):
            if counts.action_count[row, action]:
                context = counts.cell_context[counts.row_cell[row]]
                found[context, counts.row_state[row], action] = counts.action_count[row, action]
    assert found == expected
    assert counts.num_choices == int((data.state.values >= 0).sum())
    assert counts.context_count.sum() == 16


def test_missing_contexts_need_every_context(walkers):
    problem, data = walkers
    hidden = data.assign(context=xr.full_like(data.context, ""))
    counts = count_behaviour(problem, hidden)
    assert counts.has_latent_contexts
    assert counts.num_cells == 2
    assert len(counts.row_cell) == 0
    assert counts.move_count.sum() == int((data.state.values[:, 1:] >= 0).sum())


def test_round_trip_through_files_and_tables(walkers, tmp_path):
    _, data = walkers
    again = load_trajectories(save_trajectories(data, tmp_path / "walks.nc"))
    xr.testing.assert_equal(again.drop_attrs(), data.drop_attrs())
    rows = [
        {
            "follower": str(data.follower.values[e]),
            "step": s,
            "state": int(state),
            "action": int(a),
            "context": str(data.context.values[e]),
        }
        for e in range(data.sizes["episode"])
        for s, (state, a) in enumerate(
            zip(data.state.values[e], data.action.values[e], strict=True)
        )
        if state >= 0
    ]
    table = pd.DataFrame(rows).sample(frac=1.0, random_state=1)
    table.to_csv(tmp_path / "walks.csv", index=False)
    from_csv = load_trajectories(tmp_path / "walks.csv").sortby("follower")
    ordered = data.sortby("follower")
    np.testing.assert_array_equal(from_csv.state.values, ordered.state.values)
    np.testing.assert_array_equal(from_csv.context.values, ordered.context.values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.state.values.__setitem__((2, 3), 104), r"state\[episode 2, step 3\] is 104"),
        (lambda d: d.action.values.__setitem__((1, 0), 7), r"action\[episode 1, step 0\] is 7"),
        (lambda d: d.context.values.__setitem__(0, "moon"), r"unknown contexts \['moon'\]"),
        (lambda d: d.state.values.__setitem__((4, slice(None)), -1), "episode 4 is empty"),
        (lambda d: d.state.values.__setitem__((5, 2), -1), "has a gap"),
    ],
)
def test_the_checker_names_violations(walkers, change, message):
    problem, data = walkers
    bad = data.copy(deep=True)
    bad["context"] = bad.context.astype(object)
    change(bad)
    with pytest.raises(DataError, match=message):
        check_trajectories(bad.assign(context=bad.context.astype(str)), problem)


def test_wrong_shapes_types_and_files(walkers, tmp_path):
    problem, data = walkers
    with pytest.raises(DataError, match="variables are missing: action"):
        check_trajectories(data.drop_vars("action"))
    with pytest.raises(DataError, match="type float64"):
        check_trajectories(data.assign(state=data.state.astype(float)))
    with pytest.raises(DataError, match="data file does not exist"):
        load_trajectories(tmp_path / "none.nc")
    (tmp_path / "odd.nc").write_bytes(b"not a file of data")
    with pytest.raises(DataError, match="cannot be read"):
        load_trajectories(tmp_path / "odd.nc")
    (tmp_path / "odd.txt").write_text("x")
    with pytest.raises(DataError, match="file type is unknown"):
        load_trajectories(tmp_path / "odd.txt")
    with pytest.raises(DataError, match="3 state sequences and 1 action"):
        make_trajectories([[0], [0], [0]], [[0]])
    regimes = make_trajectories([[0]], [[0]], regime=["new"], incentives={"old": {"bonus": 1.0}})
    with pytest.raises(DataError, match=r"regimes \['new'\] have no incentive"):
        check_trajectories(regimes, two_state())
    astray = make_trajectories([[0]], [[0]], incentives={"baseline": {"bonuss": 1.0}})
    with pytest.raises(DataError, match=r"unknown incentives \['bonuss'\]"):
        check_trajectories(astray, two_state())
    slots = make_trajectories([[0, 1]], [[0, 0]], context=["fleet"], successor_slot=[[7, -1]])
    with pytest.raises(DataError, match=r"successor_slot\[episode 0, step 0\] is 7"):
        check_trajectories(slots, bus_replacement())
    with pytest.raises(DataError, match="written as netCDF"):
        save_trajectories(data, tmp_path / "walks.zarr")
    long = make_trajectories([[0]], [[0]], incentives={"baseline": {"penalty": np.zeros(3)}})
    with pytest.raises(DataError, match="incentive_penalty has shape"):
        check_trajectories(long, problem)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"follower": ["a"], "step": [0], "state": [0]}, "columns are missing"),
        ({"follower": ["a"], "step": [0], "state": ["x"], "action": [0]}, "not a whole number"),
        ({"follower": ["a"] * 2, "step": [0, 2], "state": [0, 0], "action": [0, 0]}, "gaps"),
        (
            {
                "follower": ["a"] * 2,
                "step": [0, 1],
                "state": [0, 0],
                "action": [0, 0],
                "context": ["u", "v"],
            },
            "changes within an episode",
        ),
        (
            {"follower": ["a", None], "step": [0, 0], "state": [0, 0], "action": [0, 0]},
            "'follower' is empty in row 1",
        ),
        (
            {
                "follower": ["a"],
                "step": [0],
                "state": [0],
                "action": [0],
                "choice_observed": ["perhaps"],
            },
            "neither true nor false",
        ),
    ],
)
def test_tables_are_checked(table, message):
    with pytest.raises(DataError, match=message):
        from_table(pd.DataFrame(table))


def test_simulated_behaviour_repeats_and_keeps_its_regime():
    problem = four_rooms()
    arguments = {"num_episodes": 3, "num_steps": 10, "incentive": {"penalty": np.full(104, 0.01)}}
    one, other = (
        simulate_trajectories(problem, key=jax.random.key(5), regime="tax", **arguments)
        for _ in range(2)
    )
    xr.testing.assert_identical(one, other)
    counts = count_behaviour(problem, one)
    assert counts.regimes == ("tax",)
    np.testing.assert_allclose(counts.incentives["penalty"], 0.01)


@needs_raw_files
def test_zurcher_counts():
    """Numbers of months and replacements of group 4, and the capped first bin."""
    counts = count_behaviour(bus_replacement(), load_zurcher((4,), directory=RAW.parent))
    assert counts.num_choices == 4292
    assert counts.transition_count.sum() == 4292
    assert counts.action_count[:, 1].sum() == 33
    slots = np.bincount(counts.transition_slot, weights=counts.transition_count)
    np.testing.assert_allclose(slots / 4292, [0.3919, 0.5953, 0.0128], atol=5e-5)


def test_blank_cells_of_a_table_that_may_be_blank():
    table = pd.DataFrame(
        {
            "follower": ["a", "a"],
            "step": [0, 1],
            "state": [0, 1],
            "action": [0, 0],
            "successor_slot": [1, None],
            "choice_observed": ["False", "true"],
            "context": [None, None],
        }
    )
    data = from_table(table)
    assert data.successor_slot.values.tolist() == [[1, -1]]
    assert data.choice_observed.values.tolist() == [[False, True]]
    assert data.context.values.tolist() == [""]


def test_zurcher_files_are_compared_with_their_checksum(tmp_path):
    (tmp_path / "a530875.asc").write_text("1 2 3")
    with pytest.raises(DataError, match="checksum differs"):
        load_zurcher((4,), directory=tmp_path)


def test_zurcher_without_files(tmp_path, monkeypatch):
    monkeypatch.delenv("CBRL_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"was not found.*CBRL_DATA_DIR"):
        load_zurcher((4,), download=False)
    with pytest.raises(DataError, match="unknown bus group"):
        load_zurcher((9,))
