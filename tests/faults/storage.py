"""Paths, names and attributes of files, and files that are damaged or something else."""

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

import cbrl_bayes as cb
from tests.faults.registry import Bench, Fault, held, refused

KIND = "storage"
NAMES = ("a#b", "a%20b", "a?b", "a::b", "~a", "file:", "a b", "ä", "a\\b", "-o", "a;b")
LONG = "x" * 300


def _kept(name: str, suffix: str) -> Any:
    """Save into a folder of that name, beside one that could be taken for it."""

    def run(bench: Bench) -> Any:
        for near in {"a", name.split("#")[0] or "a"}:
            (bench.folder / near).mkdir(exist_ok=True)
            bench.file(f"{near}/work.txt", "months of it")
        (bench.folder / name).mkdir(exist_ok=True)
        path = cb.save(bench.tree, f"{name}/study{suffix}")
        same = cb.load(path, limits=None).identical(bench.tree)
        return same, (bench.folder / "a" / "work.txt").read_text(), path.exists()

    return run


def _noted(value: Any) -> Any:
    def run(bench: Bench) -> Any:
        tree = bench.tree.copy()
        tree.attrs = tree.attrs | {"note": value}
        path = cb.save(tree, "noted.nc")
        return cb.load(path, limits=None).attrs["note"]

    return run


ATTRIBUTES: dict[str, tuple[Any, Any]] = {
    "None": (None, None),
    "a truth value": (False, False),
    "a dictionary in a dictionary": ({"a": {"b": [1, None]}}, {"a": {"b": [1, None]}}),
    "an empty text": ("", ""),
    "text that looks like JSON": ('{"a": 1}', '{"a": 1}'),
    "text of other letters": ("日本 €", "日本 €"),
    "a path": (pathlib.PurePosixPath("a/b"), "a/b"),
    "a whole number of 70 bits": (2**70, 2**70),
}


def _over(name: str, make: Callable[[pathlib.Path], Any], save: Any = None) -> Any:
    """Save over something that this package did not write; it must be left as it is."""

    def run(bench: Bench) -> Any:
        path = bench.folder / name
        make(path)
        before = _everything(bench.folder)
        try:
            return (save or cb.save)(bench.data if save else bench.tree, path)
        finally:
            assert _everything(bench.folder) == before

    return run


def _everything(folder: pathlib.Path) -> dict:
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def _folder(path: pathlib.Path) -> None:
    path.mkdir()
    (path / "work.txt").write_text("months of it")


OVER: dict[str, tuple[str, Any, Any]] = {
    "a folder where the file should go": ("x.nc", _folder, None),
    "a folder of somebody where the store should go": ("x.zarr", _folder, None),
    "a file of somebody": ("x.nc", lambda p: p.write_text("months of it"), None),
    "an empty folder where the file should go": ("x.nc", lambda p: p.mkdir(), None),
    "netCDF of another package": (
        "x.nc",
        lambda p: xr.Dataset({"x": ("i", [1.0])}).to_netcdf(p, engine="h5netcdf"),
        None,
    ),
    "trajectories over a file of somebody": (
        "x.nc",
        lambda p: p.write_text("months of it"),
        cb.save_trajectories,
    ),
}

PLACES: dict[str, tuple[str, list[str]]] = {
    "a folder that is not there": ("none/x.nc", ["none"]),
    "a name without an end": ("study", ["study", ".nc"]),
    "an end that nobody knows": ("study.csv", ["study.csv", ".zarr"]),
    "a name of 300 letters": (f"{LONG}.nc", ["name"]),
    "a place below a file": ("file.txt/x.nc", ["file.txt"]),
    "the sign 0 in a path": ("a\0b.nc", ["zero byte"]),
    "no path": ("", ["."]),
}


def _damaged(name: str, damage: Callable[[bytes], bytes], load: Any = None) -> Any:
    def run(bench: Bench) -> Any:
        path = cb.save(bench.tree, "whole.nc")
        return (load or cb.load)(bench.file(name, damage(path.read_bytes())))

    return run


def _store(damage: Callable[[pathlib.Path], Any]) -> Any:
    def run(bench: Bench) -> Any:
        path = cb.save(bench.tree, "whole.zarr")
        damage(path)
        return cb.load(path, limits=None)

    return run


def _json(path: pathlib.Path, **changed: Any) -> None:
    for file in (path / ".zattrs", path / ".zmetadata"):
        known = json.loads(file.read_text())
        place = known["metadata"][".zattrs"] if "metadata" in known else known
        place.update(changed)
        file.write_text(json.dumps(known))


STORES: dict[str, tuple[Callable[[pathlib.Path], Any], list[str]]] = {
    "a store without its metadata": (
        lambda p: [f.unlink() for f in (p / ".zmetadata", p / ".zattrs", p / ".zgroup")],
        ["whole.zarr"],
    ),
    "a store whose metadata are no JSON": (
        lambda p: (p / ".zmetadata").write_text("{"),
        ["whole.zarr"],
    ),
    "a chunk that was cut": (
        lambda p: (p / "posterior/temperature/0.0").write_bytes(b"\0"),
        ["whole.zarr"],
    ),
    "a store of another schema": (
        lambda p: _json(p, schema="somebody's results 7"),
        ["schema", "somebody"],
    ),
    "settings that are no JSON": (lambda p: _json(p, settings="{"), ["settings", "JSON"]),
    "settings that are a list": (lambda p: _json(p, settings="[]"), ["settings", "JSON"]),
}


def _tree(change: Callable[[Any], Any]) -> Any:
    def run(bench: Bench) -> Any:
        tree = bench.tree.copy(deep=True)
        return cb.save(change(tree) or tree, "changed.nc")

    return run


def _without(tree: Any, name: str) -> None:
    del tree[name]


def _without_attribute(tree: Any, name: str) -> None:
    tree.attrs = {key: value for key, value in tree.attrs.items() if key != name}


def _assigned(tree: Any, name: str, value: Any) -> None:
    tree[name] = value


TREES: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "a tree without posterior": (lambda t: _without(t, "posterior"), ["posterior"]),
    "a tree without its schema": (lambda t: _without_attribute(t, "schema"), ["schema"]),
    "a tree without its settings": (lambda t: _without_attribute(t, "settings"), ["settings"]),
    "draws turned round": (
        lambda t: _assigned(t, "posterior", xr.DataTree(t["posterior"].to_dataset().transpose())),
        ["posterior"],
    ),
    "draws numbered twice": (
        lambda t: _assigned(
            t,
            "posterior",
            xr.DataTree(t["posterior"].to_dataset().assign_coords(draw=[0, 0, 1, 2])),
        ),
        ["draw"],
    ),
    "an object added": (
        lambda t: _assigned(t, "posterior/extra", ("draw", np.array([{}, {}, {}, {}]))),
        ["extra"],
    ),
    "a group emptied": (lambda t: _assigned(t, "posterior", xr.DataTree()), ["posterior"]),
}


def _data(change: Callable[[Any], Any]) -> Any:
    return lambda bench: cb.save_trajectories(change(bench.data.copy(deep=True)), "data.nc")


DATA: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "behaviour without actions": (lambda d: d.drop_vars("action"), ["action"]),
    "behaviour turned round": (lambda d: d.transpose(), ["state", "dims"]),
    "actions as floats": (lambda d: d.assign(action=d.action * 1.0), ["action", "float"]),
    "an object among behaviour": (
        lambda d: d.assign(extra=("episode", np.array([{}, {}]))),
        ["extra"],
    ),
    "an attribute with a meaning of its own": (
        lambda d: d.assign(state=d.state.assign_attrs(_FillValue=0)),
        ["_FillValue"],
    ),
}


def _read_only(bench: Bench) -> Any:
    """A place that nobody may write to, root neither."""
    return cb.save(bench.tree, "/proc/study.nc")


def _by_link(bench: Bench) -> Any:
    (bench.folder / "far").mkdir()
    first = cb.save(bench.tree, "far/study.nc")
    os.symlink("far/study.nc", "near.nc")
    cb.save(bench.tree, "near.nc")
    return pathlib.Path("near.nc").is_symlink(), cb.load(first, limits=None).identical(bench.tree)


def _pickled(bench: Bench) -> Any:
    import pickle

    return cb.load(bench.file("study.nc", pickle.dumps(bench.tree.attrs)))


FAULTS: list[Fault] = [
    *(
        held(KIND, f"a folder called {n}, {suffix}", _kept(n, suffix), (True, "months of it", True))
        for n in NAMES
        for suffix in (".nc", ".zarr")
        if suffix == ".nc" or n in ("a#b", "a::b", "~a")
    ),
    *(held(KIND, f"an attribute: {n}", _noted(v), r) for n, (v, r) in ATTRIBUTES.items()),
    *(refused(KIND, n, _over(p, make, save), p) for n, (p, make, save) in OVER.items()),
    *(
        refused(
            KIND, f"saving to {n}", lambda b, p=p: (b.file("file.txt", ""), cb.save(b.tree, p)), *w
        )
        for n, (p, w) in PLACES.items()
    ),
    *(refused(KIND, f"saving {n}", _tree(change), *w) for n, (change, w) in TREES.items()),
    *(refused(KIND, f"saving {n}", _data(change), *w) for n, (change, w) in DATA.items()),
    *(refused(KIND, f"loading {n}", _store(damage), *w) for n, (damage, w) in STORES.items()),
    refused(
        KIND, "loading a file cut in half", _damaged("h.nc", lambda b: b[: len(b) // 2]), "h.nc"
    ),
    refused(KIND, "loading an empty file", _damaged("e.nc", lambda b: b""), "e.nc"),
    refused(KIND, "loading text", _damaged("t.nc", lambda b: b"months of it"), "t.nc"),
    refused(KIND, "loading a pickle", _pickled, "study.nc"),
    refused(
        KIND,
        "loading results as behaviour",
        _damaged("r.nc", lambda b: b, cb.load_trajectories),
        "state",
    ),
    refused(
        KIND,
        "loading a folder as a file",
        lambda b: ((b.folder / "f.nc").mkdir(), cb.load("f.nc")),
        "f.nc",
    ),
    refused(
        KIND,
        "loading a folder as a store",
        lambda b: ((b.folder / "f.zarr").mkdir(), cb.load("f.zarr")),
        "f.zarr",
    ),
    refused(KIND, "loading what is not there", lambda b: cb.load("none.nc"), "none.nc"),
    refused(KIND, "saving where nobody may write", _read_only, "/proc"),
    refused(KIND, "a report to a name of a table", lambda b: cb.report(b.tree, "r.csv"), ".html"),
    refused(KIND, "a report to no folder", lambda b: cb.report(b.tree, "none/r.html"), "none"),
    held(KIND, "a link to a study", _by_link, (True, True)),
]
