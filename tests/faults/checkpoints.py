"""Folders of finished work that belong to other runs, are damaged, or are none."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import cbrl_bayes as cb
from cbrl_bayes.results import Checkpoint
from tests.faults.registry import KEY, Bench, Fault, held, refused

KIND = "checkpoint"
MINE = {"study": "0123456789abcdef"}
RECORD = {"objective": np.array([1.0, -2.5, np.nan]), "status": np.array(3), "done": np.array(True)}


def _kept(folder: Path, identity: dict = MINE) -> Checkpoint:
    """Return a checkpoint of two records."""
    found = Checkpoint(folder, identity)
    for number in (0, 5):
        found["draws", number] = RECORD | {"status": np.array(number)}
    return found


def _read_all(damage: Callable[[Path], Any], **identity: str) -> Any:
    """Keep two records, do something to the folder, and read both again."""

    def run(bench: Bench) -> Any:
        folder = bench.folder / "run.zarr"
        _kept(folder)
        damage(folder)
        again = Checkpoint(folder, MINE | identity)
        return [(*key, int(again[key]["status"])) for key in again]

    return run


def _exchange(folder: Path) -> None:
    one, other, spare = (folder / "draws" / name for name in ("0.0", "5.0", "spare"))
    os.rename(one, spare)
    os.rename(other, one)
    os.rename(spare, other)


def _from_another(folder: Path) -> None:
    _kept(folder.with_name("other.zarr"), {"study": "fedcba9876543210"})
    shutil.copy(folder.with_name("other.zarr") / "draws" / "0.0", folder / "draws" / "0.0")


def _change(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        file = folder / name
        file.write_bytes(change(file.read_bytes()))

    return damage


BOTH = [("draws", 0, 0), ("draws", 5, 5)]

WRONG: dict[str, tuple[Callable[[Path], Any], dict[str, str], list[str]]] = {
    "two records exchanged": (_exchange, {}, ["draws", "not the one"]),
    "a record of another study": (_from_another, {}, ["draws", "not the one"]),
    "a record copied to another number": (
        lambda f: shutil.copy(f / "draws" / "0.0", f / "draws" / "1.0"),
        {},
        ["record 1", "not the one"],
    ),
    "a record cut in half": (
        _change("draws/0.0", lambda b: b[: len(b) // 2]),
        {},
        ["record 0", "0.0"],
    ),
    "an empty record": (_change("draws/0.0", lambda b: b""), {}, ["record 0"]),
    "a bit turned in a record": (
        _change("draws/0.0", lambda b: b[:9] + bytes([b[9] ^ 1]) + b[10:]),
        {},
        ["record 0"],
    ),
    "other work": (lambda f: None, {"study": "fedcba9876543210"}, ["study"]),
    "work with a part more": (lambda f: None, {"data": "fedcba9876543210"}, ["data"]),
    "metadata that are no JSON": (_change("zarr.json", lambda b: b"{"), {}, ["run.zarr"]),
    "metadata of a table that are no JSON": (
        _change("draws/zarr.json", lambda b: b"{"),
        {},
        ["draws"],
    ),
    "an earlier schema": (
        _change("zarr.json", lambda b: b.replace(b"checkpoint 2", b"checkpoint 1")),
        {},
        ["run.zarr"],
    ),
}

HELD: dict[str, tuple[Callable[[Path], Any], list]] = {
    "nothing in between": (lambda f: None, BOTH),
    "a writer that died": (lambda f: (f / "draws" / "3.0.abc.partial").write_bytes(b"half"), BOTH),
    "a record that was lost": (lambda f: (f / "draws" / "0.0").unlink(), BOTH[1:]),
    "a file of somebody beside": (lambda f: (f / "draws" / "notes.txt").write_text("x"), BOTH),
}


def _design(make: Callable[[Path], Any]) -> Any:
    """Ask for designs with a checkpoint at a place that cannot be one; it is left as it is."""

    def run(bench: Bench) -> Any:
        place = bench.folder / "run"
        make(place)
        before = sorted(bench.folder.rglob("*"))
        try:
            draws = {"temperature": np.array([0.2, 0.3])}
            return cb.design(bench.problem, draws, key=KEY, checkpoint=place)
        finally:
            assert sorted(bench.folder.rglob("*")) == before

    return run


PLACES: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "a file": (lambda p: p.write_text("months of it"), ["run"]),
    "a folder of somebody": (
        lambda p: (p.mkdir(), (p / "work.txt").write_text("months of it")),
        ["run"],
    ),
    "the folder of another run": (_kept, ["run", "differ"]),
    "a place below a file": (
        lambda p: (p.parent / "run").symlink_to("/proc/version/none"),
        ["run"],
    ),
}


def _wide(bench: Bench) -> Any:
    """A record of another shape in a table that has one."""
    kept = _kept(bench.folder / "run.zarr")
    kept["draws", 1] = {"objective": np.zeros(7)}


FAULTS: list[Fault] = [
    *(refused(KIND, n, _read_all(damage, **i), *w) for n, (damage, i, w) in WRONG.items()),
    *(held(KIND, n, _read_all(damage), right) for n, (damage, right) in HELD.items()),
    *(refused(KIND, f"at {n}", _design(make), *w) for n, (make, w) in PLACES.items()),
    refused(KIND, "a record of another shape", _wide, "draws"),
]
