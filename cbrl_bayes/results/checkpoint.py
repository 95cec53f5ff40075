"""Finished work kept in a zarr store, so that a run that dies goes on where it was."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lazy_loader
import numpy as np

from cbrl_bayes.designs.running import Record
from cbrl_bayes.errors import InvalidInputError, ResultsError

if TYPE_CHECKING:
    import zarr
    import zarr.codecs
    import zarr.errors
else:
    zarr = lazy_loader.load("zarr")  # half a second of imports, only for a checkpoint


SCHEMA = "cbrl_bayes checkpoint 2"
MARK = 2
"""Numbers at the head of a row that say what it is."""

Key = tuple[str, int]


class Records(dict[Key, Record]):
    """Finished units of work, held in memory.

    Parameters
    ----------
    identify : callable
        Returns what the work depends on, name -> digest; called only if the records are used
        again.
    """

    def __init__(self, identify: Callable[[], Mapping[str, str]]) -> None:
        super().__init__()
        self._identify = identify

    @cached_property
    def identity(self) -> dict[str, str]:
        """What the work depends on: name -> digest (`identify`)."""
        return dict(self._identify())


class Checkpoint(MutableMapping[Key, Record]):
    r"""Finished units of work, held in a zarr store on disk.

    A record is a set of named arrays under a key (table, number), e.g. ("draws", 17). Records
    of a table have the same names, shapes and types; each is one row of one array of float64:
    the columns, in the order of their names, are listed in the attribute ``layout``, rows that
    are absent read as NaN. A row is a file of its own with a checksum, written under a temporary
    name and then renamed: it is there whole or not at all, whenever the process dies. (After a
    loss of power the newest rows may be missing or damaged, as files are not forced to the disk
    one by one.) It is meant for one process at a time. A second one is not kept out: both then
    do the same work, and each row holds what was written last.

    Parameters
    ----------
    path : Path
        A folder: absent, empty (but for ``*.partial``, files whose writer died), or a checkpoint
        of the same work.
    identity : mapping
        What the work depends on: name -> digest (`identify`).

    Raises
    ------
    ResultsError
        If the folder holds something else, or the records of other work (the parts that differ
        are named), or cannot be written. What is there is left as it is.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "run.zarr"
    >>> kept = Checkpoint(folder, {"key": "a"})
    >>> kept["draws", 2] = {"objective": np.array(1.5), "status": np.array(0)}
    >>> again = Checkpoint(folder, {"key": "a"})
    >>> list(again), float(again["draws", 2]["objective"])
    ([('draws', 2)], 1.5)
    """

    def __init__(self, path: Path, identity: Mapping[str, str]) -> None:
        self.path = path
        self.identity = dict(identity)
        self._tables: dict[str, tuple[zarr.Array, list]] = {}
        if path.exists() and not _is_empty(path):
            self._group = self._existing()
        else:
            with _writing(path):
                self._group = zarr.create_group(
                    path, zarr_format=3, attributes={"schema": SCHEMA, "identity": self.identity}
                )

    def __setitem__(self, key: Key, record: Record) -> None:
        """Append a record; what was there under the key is replaced."""
        table, number = key
        record = dict(sorted(record.items()))  # executors differ in order
        layout = [
            [name, list(np.shape(value)), np.asarray(value).dtype.str]
            for name, value in record.items()
        ]
        row = np.concatenate([_as_floats(name, value) for name, value in record.items()])
        with _writing(self.path):
            array, known = self._table(table, layout)
            if layout != known:
                raise ResultsError(
                    f"a record does not fit table {table!r} of the checkpoint",
                    received=layout,
                    accepted=str(known),
                )
            if number >= array.shape[0]:
                array = self._longer(table, number + 1)
            array[number] = np.concatenate([self._mark(key, layout, row), row])

    def __getitem__(self, key: Key) -> Record:
        """Read a record."""
        if key not in self:
            raise KeyError(key)
        table, number = key
        array, layout = self._table(table, None)
        if number >= array.shape[0]:  # written by another since
            with _writing(self.path):
                array = self._longer(table, number + 1)
        try:
            row = np.asarray(array[number])
        except Exception as error:  # codecs raise many kinds for a damaged file
            raise ResultsError(
                f"record {number} of {table!r} in {self.path} cannot be read "
                f"({type(error).__name__}: {error})",
                remedy=f"delete {self._file(key)}: its work is then done again",
            ) from error
        mark, row = row[:MARK], row[MARK:]
        if not np.array_equal(mark, self._mark(key, layout, row)):
            raise ResultsError(
                f"record {number} of {table!r} in {self.path} is not the one that this run wrote: "
                "its file was exchanged, changed or copied from another run",
                remedy=f"put the file back, or delete {self._file(key)}: its work is then done "
                "again",
            )
        record, begin = {}, 0
        for name, shape, kind in layout:
            end = begin + int(np.prod(shape, dtype=int))
            record[name] = row[begin:end].astype(kind).reshape(shape)
            begin = end
        return record

    def __delitem__(self, key: Key) -> None:
        """Forget a record."""
        if key not in self:
            raise KeyError(key)
        with _writing(self.path):
            self._file(key).unlink()

    def __contains__(self, key: object) -> bool:
        """Whether the record is there, whole."""
        return isinstance(key, tuple) and self._file(key).is_file()

    def __iter__(self) -> Iterator[Key]:
        """Keys, table by table."""
        for table in sorted(path.parent.name for path in self.path.glob("*/zarr.json")):
            yield from ((table, number) for number in sorted(self._rows(table)))

    def __len__(self) -> int:
        """Return the number of records."""
        return sum(1 for _ in self)

    def _mark(self, key: Key, layout: list, row: np.ndarray) -> np.ndarray:
        """Return what tells a row from every other: two whole numbers below 2^53."""
        text = json.dumps([self.identity, *key, layout], sort_keys=True, default=int)
        digest = hashlib.sha256(text.encode() + np.ascontiguousarray(row).tobytes()).digest()
        parts = np.frombuffer(digest[: 8 * MARK], "<u8") >> np.uint64(11)
        return parts.astype(np.float64)

    def _file(self, key: Key) -> Path:
        table, number = key
        return self.path / table / f"{number}.0"

    def _rows(self, table: str) -> list[int]:
        """Return the numbers of a table's row files."""
        with os.scandir(self.path / table) as entries:
            names = [e.name.removesuffix(".0") for e in entries if e.name.endswith(".0")]
        return [int(name) for name in names if name.isdecimal()]

    def _longer(self, table: str, least: int) -> "zarr.Array":
        """Lengthen a table, and never shorten it, whatever another process made of it since.

        To a power of two, so that many records lengthen it a few times only.
        """
        array, layout = self._opened(table)
        rows = max([least, *(number + 1 for number in self._rows(table))])
        if rows > array.shape[0]:
            array.resize((1 << (rows - 1).bit_length(), array.shape[1]))
        self._tables[table] = array, layout
        return array

    def _existing(self) -> "zarr.Group":
        try:
            group = zarr.open_group(self.path, mode="r+", zarr_format=3)
            schema, identity = group.attrs["schema"], group.attrs["identity"]
        except (OSError, ValueError, KeyError, TypeError, zarr.errors.BaseZarrError) as error:
            raise ResultsError(
                f"{self.path} is not a checkpoint of this package",
                received=type(error).__name__,
                accepted="a folder that does not exist yet, or one begun by the same call",
            ) from error
        if schema != SCHEMA or not isinstance(identity, dict):
            raise ResultsError(
                f"the checkpoint {self.path} was written by another version of this package",
                received=schema,
                accepted=SCHEMA,
            )
        _same_work(identity, self.identity, str(self.path))
        return group

    def _table(self, name: str, layout: list | None) -> "tuple[zarr.Array, list]":
        if name not in self._tables:
            if layout is not None and not (self.path / name / "zarr.json").is_file():
                width = MARK + sum(int(np.prod(shape, dtype=int)) for _, shape, _ in layout)
                self._group.create_array(
                    name,
                    shape=(0, width),
                    chunks=(1, width),
                    dtype="f8",
                    fill_value=np.nan,
                    attributes={"layout": json.dumps(layout)},
                    compressors=[zarr.codecs.ZstdCodec(level=1), zarr.codecs.Crc32cCodec()],
                    chunk_key_encoding={"name": "v2", "separator": "."},
                    config={"write_empty_chunks": True},
                )
            self._tables[name] = self._opened(name)
        return self._tables[name]

    def _opened(self, name: str) -> "tuple[zarr.Array, list]":
        """Open a table; its declared layout is checked before anything is read."""
        try:
            array: Any = self._group[name]
            known = json.loads(array.attrs["layout"])
            width = MARK + sum(math.prod(shape) for _, shape, _ in known)
            plain = all(np.dtype(kind).kind in "fiub" for _, _, kind in known)
            fits = array.dtype == np.float64 and array.chunks == (1, width) == (1, *array.shape[1:])
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            zarr.errors.BaseZarrError,
        ) as error:
            raise self._foreign_table(name) from error
        if not (plain and fits):
            raise self._foreign_table(name)
        return array.with_config({"write_empty_chunks": True}), known

    def _foreign_table(self, name: str) -> ResultsError:
        return ResultsError(
            f"table {name!r} in {self.path} was not written by this package",
            remedy="use another folder, or delete this one and begin anew",
        )


def open_records(
    place: str | Path | Records | Checkpoint | None, identify: Callable[[], Mapping[str, str]]
) -> Records | Checkpoint:
    """Return the records of a run: those begun at ``place``, or new ones in memory.

    Parameters
    ----------
    place : str, Path, Records or Checkpoint, optional
        A folder; records that an interrupted run left behind; None for new ones.
    identify : callable
        Returns what the work depends on: name -> digest.

    Raises
    ------
    ResultsError
        If the records belong to other work, or cannot be written there.
    """
    if place is None:
        return Records(identify)
    if isinstance(place, Records | Checkpoint):
        _same_work(place.identity, identify(), "the records given")
        return place
    if not isinstance(place, str | Path):
        raise InvalidInputError(
            "checkpoint cannot be used", received=place, accepted="the path of a folder"
        )
    return Checkpoint(Path(place), identify())


def _same_work(found: Mapping, wanted: Mapping, place: str) -> None:
    differ = [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]
    if differ:
        raise ResultsError(
            f"the finished work in {place} belongs to a different run",
            received=f"different {', '.join(differ)}",
            remedy="the same call as before, or a new folder",
        )


def _is_empty(path: Path) -> bool:
    """Whether a folder holds nothing but what a write left that was cut off."""
    return path.is_dir() and all(entry.name.endswith(".partial") for entry in path.iterdir())


def _as_floats(name: str, value: np.ndarray) -> np.ndarray:
    array = np.asarray(value)
    floats = array.astype(np.float64)
    if not np.array_equal(floats.astype(array.dtype), array, equal_nan=array.dtype.kind == "f"):
        raise ResultsError(f"{name!r} cannot be kept as float64", received=array.dtype)
    return floats.ravel()


class _writing:  # noqa: N801 - used as a statement
    """Turn a failure to write into one clear error."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise ResultsError(
                f"the checkpoint cannot be written to {self.path} ({error})",
                remedy="check that the folder is writable and has room, then run the "
                "same call again: what is finished is kept",
            ) from error
