"""Saving: whole or not at all, nothing lost that was there, whatever the path and the tree hold."""

import datetime
import io
import os
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr

import cbrl_bayes as cb
from cbrl_bayes.errors import CbrlBayesError, ResultsError

SUFFIXES = (".nc", ".zarr")


@pytest.fixture(scope="module")
def tree():
    """A posterior: the smallest tree that can be saved."""
    draws = {"temperature": np.linspace(0.2, 0.3, 4)}
    return cb.from_draws(cb.problems.two_state(), draws)


@pytest.fixture(scope="module")
def data():
    return cb.simulate_trajectories(
        cb.problems.two_state(), key=jax.random.key(0), num_episodes=3, num_steps=1
    )


def _everything(folder):
    """Every file below a folder, with what it holds."""
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


NAMES = ("a#b", "a%20b", "a?b", "a::b", "http:", "~a")


@pytest.mark.parametrize("name", NAMES)
def test_no_sign_in_a_path_has_a_meaning(tree, data, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for near in {name[0], name.split("#")[0], "data"}:  # what an address would stand for
        Path(near).mkdir(exist_ok=True)
        Path(near, "work.txt").write_text("months of it")
    before = _everything(tmp_path)
    Path(name).mkdir(exist_ok=True)
    for suffix in SUFFIXES:
        for place in (
            f"{name}/study{suffix}",
            f"{name}/{name}{suffix}",
            f"data/../{name}{suffix}/",
        ):
            for _ in range(2):  # anew, and in place of what is there
                path = cb.save(tree, place)
                assert path.exists()
            assert cb.load(place, limits=None).identical(tree)
    cb.load(f"{name}/{name}.zarr")  # the checks open it too
    cb.save_trajectories(data, f"{name}/{name}_data.nc")
    assert cb.load_trajectories(f"{name}/{name}_data.nc", limits=None).identical(data)
    assert {path: _everything(tmp_path)[path] for path in before} == before
    assert not list(tmp_path.rglob("*partial*"))


def _folder(path):
    path.mkdir()
    (path / "work.txt").write_text("months of it")


def _file(path):
    path.write_text("months of it")


def _foreign_store(path):
    xr.Dataset({"x": ("i", [1.0])}).to_zarr(path, zarr_format=2)


def _foreign_netcdf(path):
    xr.Dataset({"x": ("i", [1.0])}).to_netcdf(path, engine="h5netcdf")


FOREIGN = {
    "folder.nc": _folder,
    "file.nc": _file,
    "netcdf.nc": _foreign_netcdf,
    "folder.zarr": _folder,
    "file.zarr": _file,
    "store.zarr": _foreign_store,
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_others_wrote_is_never_removed(tree, data, tmp_path, name):
    path = tmp_path / name
    FOREIGN[name](path)
    before = _everything(tmp_path)
    with pytest.raises(ResultsError, match=f"{name} cannot be written: a .* of that name is there"):
        cb.save(tree, path)
    if path.suffix == ".nc":
        with pytest.raises(CbrlBayesError, match="cannot be written"):
            cb.save_trajectories(data, path)
    assert _everything(tmp_path) == before


def test_a_store_with_files_of_others_is_not_replaced(tree, data, tmp_path):
    path = cb.save(tree, tmp_path / "study.zarr")
    for place in (path / "notes.txt", path / "posterior" / "temperature" / "notes", path / "1.0"):
        place.write_text("mine")
        with pytest.raises(ResultsError, match=f"it holds .*{place.name}"):
            cb.save(tree, path)
        assert place.read_text() == "mine"
        place.unlink()
    (path / "posterior" / "link").symlink_to(tmp_path)
    with pytest.raises(ResultsError, match=r"it holds .*link"):
        cb.save(tree, path)
    # Results take the place of results only, data that of data.
    kept = cb.save_trajectories(data, tmp_path / "data.nc").read_bytes()
    with pytest.raises(ResultsError, match="cannot be written"):
        cb.save(tree, tmp_path / "data.nc")
    assert (tmp_path / "data.nc").read_bytes() == kept
    for empty in ("empty.nc", "empty.zarr"):
        place = tmp_path / empty
        place.touch() if place.suffix == ".nc" else place.mkdir()
        assert cb.load(cb.save(tree, place), limits=None).identical(tree)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_links_stay_and_their_targets_are_written(tree, tmp_path, suffix):
    (tmp_path / "big").mkdir()
    (tmp_path / "folder").symlink_to("big")
    (tmp_path / f"link{suffix}").symlink_to(f"big/real{suffix}")
    for _ in range(2):
        cb.save(tree, tmp_path / f"link{suffix}")
        cb.save(tree, tmp_path / "folder" / f"other{suffix}")
    assert (tmp_path / f"link{suffix}").is_symlink()
    for name in (f"link{suffix}", f"big/real{suffix}", f"big/other{suffix}"):
        assert cb.load(tmp_path / name).identical(tree)
    if suffix == ".nc":  # a link to what others wrote
        (tmp_path / "their.txt").write_text("mine")
        (tmp_path / "their.nc").symlink_to("their.txt")
        with pytest.raises(ResultsError, match="cannot be written"):
            cb.save(tree, tmp_path / "their.nc")
        assert (tmp_path / "their.txt").read_text() == "mine"


def test_names_too_long_and_folders_that_are_not_there(tree, data, tmp_path):
    assert cb.save(tree, tmp_path / ("n" * 252 + ".nc")).is_file()
    for name in ("n" * 300, "a\0b", "absent/x"):
        for write, read, kept in (
            (cb.save, cb.load, tree),
            (cb.save_trajectories, cb.load_trajectories, data),
        ):
            with pytest.raises(CbrlBayesError, match="cannot be written"):
                write(kept, tmp_path / f"{name}.nc")
            with pytest.raises(CbrlBayesError):
                read(tmp_path / f"{name}.nc")


def test_a_disk_that_fills_up_keeps_what_was_there(tree, data, tmp_path, monkeypatch):
    whole = cb.save(tree, tmp_path / "study.nc").read_bytes()
    rows = cb.save_trajectories(data, tmp_path / "data.nc").read_bytes()
    store = cb.save(tree, tmp_path / "study.zarr")
    before = _everything(store)

    def full(*_args, **_settings):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(ResultsError, match="No space left"):
            cb.save(tree, tmp_path / "study.nc")
        with pytest.raises(CbrlBayesError, match="No space left"):
            cb.save_trajectories(data, tmp_path / "data.nc")
    moves = []

    def second_fails(source, target):
        moves.append((source, target))
        if len(moves) == 2:
            full()
        return Path(source).replace(target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", second_fails)
        with pytest.raises(ResultsError, match="No space left"):
            cb.save(tree, store)
    assert len(moves) == 3  # aside, in place (fails), back
    assert _everything(store) == before
    assert (tmp_path / "study.nc").read_bytes() == whole
    assert (tmp_path / "data.nc").read_bytes() == rows
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.nc", "study.nc", "study.zarr"]


class Odd:
    def __str__(self):
        return "odd"


CIRCLE: list = []
CIRCLE.append(CIRCLE)
ATTRIBUTES = {  # value -> what comes back
    "none": (None, None),
    "true": (True, True),
    "numpy's true": (np.bool_(True), True),
    "path": (Path("a/b"), str(Path("a/b"))),
    "dictionary": ({"a": 1, "b": [None, {"c": 0.5}]}, {"a": 1, "b": [None, {"c": 0.5}]}),
    "short list": ([1], [1]),
    "empty list": ([], []),
    "mixed list": ([1, "a", None], [1, "a", None]),
    "set": ({3}, [3]),
    "bytes": (b"ab", "ab"),
    "complex": (1 + 2j, "(1+2j)"),
    "date": (datetime.date(2020, 1, 2), "2020-01-02"),
    "numpy's date": (np.datetime64("2020-01-02"), "2020-01-02"),
    "large number": (2**70, 2**70),
    "single precision": (np.float32(0.5), 0.5),
    "table": (np.eye(2), [[1.0, 0.0], [0.0, 1.0]]),
    "object": (Odd(), "odd"),
    "zero byte": ("a\0b", "a\0b"),
    "half a sign": ("\ud800", "\ud800"),
    "empty text": ("", ""),
    "circle": (CIRCLE, "[[...]]"),
    "text": ("null", "null"),
}


def test_attributes_of_any_type(tree, data, tmp_path):
    given = {name: value for name, (value, _) in ATTRIBUTES.items()}
    wanted = {name: value for name, (_, value) in ATTRIBUTES.items()}
    full = tree.copy(deep=True)
    full.attrs |= given
    full["posterior"].attrs |= given
    for name in ("temperature", "draw"):
        full["posterior"][name].attrs |= given
    for suffix in SUFFIXES:
        back = cb.load(cb.save(full, tmp_path / f"study{suffix}"))
        variables = [back["posterior"][name].attrs for name in ("temperature", "draw")]
        for attrs in (back.attrs, back["posterior"].attrs, *variables):
            assert {name: attrs[name] for name in wanted} == wanted
        # From one kind of file into the other: nothing of the first stands in the way.
        for other in SUFFIXES:
            cb.save(back, tmp_path / f"again{other}")
    rows = data.assign_attrs(given)
    rows["state"].attrs |= given
    back_rows = cb.load_trajectories(cb.save_trajectories(rows, tmp_path / "rows.nc"))
    for attrs in (back_rows.attrs, back_rows["state"].attrs):
        assert {name: attrs[name] for name in wanted} == wanted
    plain = xr.open_datatree(tmp_path / "study.nc", engine="h5netcdf")  # without this package
    assert plain.attrs["dictionary"] == '{"a": 1, "b": [null, {"c": 0.5}]}'
    plain.close()


@pytest.mark.parametrize("name", ["scale_factor", "_FillValue", "coordinates", "DIMENSION_LIST"])
def test_attributes_that_files_use_themselves_are_refused(tree, data, tmp_path, name):
    """`scale_factor` would change every number when the file is read."""
    full = tree.copy(deep=True)
    full["posterior"]["temperature"].attrs[name] = 2.0
    with pytest.raises(ResultsError, match=f"/posterior/temperature: {name}"):
        cb.save(full, tmp_path / "study.nc")
    rows = data.copy()
    rows["state"].attrs[name] = 2.0
    with pytest.raises(CbrlBayesError, match=name):
        cb.save_trajectories(rows, tmp_path / "rows.nc")
    assert not list(tmp_path.iterdir())


def test_what_no_file_can_hold_gives_one_error(tree, data, tmp_path):
    odd = tree.copy(deep=True)
    odd["posterior"]["chain"].attrs["note"] = "x"
    odd["mine"] = xr.DataTree(xr.Dataset({"x": ("i", np.array([Odd(), io.BytesIO()], object))}))
    for suffix in SUFFIXES:
        with pytest.raises(ResultsError, match="cannot be kept in a file"):
            cb.save(odd, tmp_path / f"odd{suffix}")
    with pytest.raises(CbrlBayesError, match="cannot be kept in a file"):
        cb.save_trajectories(data.assign(mine=odd["mine"]["x"]), tmp_path / "odd.nc")
    assert not list(tmp_path.iterdir())


def test_names_of_incentives_with_a_slash(data, tmp_path):
    rows = data.assign(
        {
            "incentive_euro/week": ("regime_index", [1.0]),
            "incentive_50%2F": (("regime_index", "a/b"), [[1.0, 2.0]]),
        }
    )
    rows = rows.assign_coords(regime_name=("regime_index", ["baseline"]))
    back = cb.load_trajectories(cb.save_trajectories(rows, tmp_path / "rows.nc"))
    assert back.identical(rows)
