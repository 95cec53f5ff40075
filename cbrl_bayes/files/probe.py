"""Read a netCDF-4 file or a zarr store from end to end; a script for a process of its own.

It imports nothing of this package, bounds its own memory and time, and prints one JSON object:
``{"fault": text, "kind": "limit", "refused" or "damaged"}``; an empty text says that all could
be read.
"""

import json
import math
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LIBRARIES_NEED = 2 * 1024**3
"""Address space that Python and the reading libraries take themselves."""

POINTER = 16
MOST_METADATA = 64 * 1024**2
HDF5_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32"}
ZARR_2_CODECS = {"blosc", "gzip", "lz4", "shuffle", "vlen-utf8", "zlib", "zstd"}
ZARR_3_CODECS = {"blosc", "bytes", "crc32c", "gzip", "vlen-utf8", "zstd"}
ZARR_2_TYPE = re.compile(r"[<>|][biufcSU](\d{1,12})")
ZARR_3_TYPES = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
    "string": POINTER,
}


class RefusedError(Exception):
    """The file declares what is not accepted."""


class OverLimitError(RefusedError):
    """The file asks for more than it may."""


class Budget:
    """What is left of the limits."""

    def __init__(self, most_bytes: int, most_pieces: int) -> None:
        self.most_bytes, self.most_pieces = most_bytes, most_pieces
        self.bytes_left, self.pieces_left = most_bytes, most_pieces

    def spend(self, where: str, num_bytes: int = 0, pieces: int = 1) -> None:
        """Take from what is left, or say what is too much."""
        self.bytes_left -= num_bytes
        self.pieces_left -= pieces
        if self.bytes_left < 0:
            raise OverLimitError(
                f"{where} brings the declared size above {self.most_bytes:,} bytes"
            )
        if self.pieces_left < 0:
            raise OverLimitError(
                f"it has more than {self.most_pieces:,} groups, variables, attributes and chunks"
            )


def main(order: str) -> None:
    """Read the file that ``order`` names and print what is wrong with it."""
    asked = json.loads(order)
    _bound_this_process(asked["most_bytes"], asked["most_seconds"])
    budget = Budget(asked["most_bytes"], asked["most_pieces"])
    path, fault, kind = Path(asked["path"]), "", ""
    try:
        (read_zarr if path.suffix == ".zarr" else read_hdf5)(path, budget)
    except RefusedError as refused:
        fault = str(refused)
        kind = "limit" if isinstance(refused, OverLimitError) else "refused"
    except MemoryError:
        fault, kind = f"it needs more than {budget.most_bytes:,} bytes", "limit"
    except Exception as error:  # the libraries raise many kinds for a damaged file
        fault, kind = f"{type(error).__name__}: {error}", "damaged"
    print(json.dumps({"fault": fault[:400], "kind": kind}))


def read_hdf5(path: Path, budget: Budget) -> None:
    """Check and read every group, attribute and dataset."""
    import h5py

    seen: set[int] = set()
    with h5py.File(path, "r") as file:
        waiting = [file["/"]]
        while waiting:
            group = waiting.pop()
            address = h5py.h5o.get_info(group.id).addr
            if address in seen:
                raise RefusedError(f"group {_short(group.name)} contains itself")
            seen.add(address)
            _read_attributes(group, budget)
            for name in group:
                budget.spend(name)
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise RefusedError(f"{_short(name)} is a link to elsewhere")
                member = group[name]
                if isinstance(member, h5py.Group):
                    waiting.append(member)
                elif isinstance(member, h5py.Dataset):
                    _read_attributes(member, budget)
                    _read_dataset(member, budget)


def read_zarr(path: Path, budget: Budget) -> None:
    """Check every metadata document of the store, then read every array."""
    documents = dict(_zarr_documents(path, budget))
    for where, document in documents.items():
        if where.endswith(".zmetadata"):
            _compare_consolidated(where, document, documents)
        else:
            _check_document(where, document, documents, budget)
    arrays = [
        where.rpartition("/")[0]
        for where, document in documents.items()
        if where.endswith(".zarray") or document.get("node_type") == "array"
    ]
    import zarr

    for folder in arrays:
        zarr.open_array(path / folder, mode="r")[...]  # a Path: a text may be an address


def _bound_this_process(most_bytes: int, most_seconds: float) -> None:
    try:
        import resource
    except ImportError:  # not on Windows: there only the caller's limit by the clock holds
        return
    for which, bound in (
        (resource.RLIMIT_AS, most_bytes + LIBRARIES_NEED),
        (resource.RLIMIT_CPU, math.ceil(most_seconds)),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(which)
        if hard == resource.RLIM_INFINITY or bound < hard:
            resource.setrlimit(which, (bound, hard))


def _read_attributes(owner: Any, budget: Budget) -> None:
    from h5py import h5a

    for index in range(h5a.get_num_attrs(owner.id)):
        attribute = h5a.open(owner.id, index=index)
        where = f"attribute {_short(attribute.name)} of {_short(owner.name)}"
        budget.spend(where, math.prod(attribute.shape) * max(attribute.dtype.itemsize, 1))
        owner.attrs[attribute.name]


def _read_dataset(dataset: Any, budget: Budget) -> None:
    import h5py

    where = _short(dataset.name)
    if dataset.shape is None:  # an empty dataspace
        return
    text = h5py.check_string_dtype(dataset.dtype)
    if text is None and dataset.dtype.kind not in "biufc":
        raise RefusedError(
            f"{where} has type {_short(str(dataset.dtype))}, accepted: numbers and text"
        )
    layout = dataset.id.get_create_plist()
    filters = {layout.get_filter(i)[0] for i in range(layout.get_nfilters())}
    if filters - set(HDF5_FILTERS):
        raise RefusedError(f"{where} has filters {sorted(filters)}, accepted: {HDF5_FILTERS}")
    if layout.get_external_count() or dataset.is_virtual:
        raise RefusedError(f"{where} takes its values from other files")
    width = max(dataset.dtype.itemsize, 1)
    budget.spend(where, dataset.size * width)
    if dataset.chunks:
        _check_chunks(dataset, math.prod(dataset.chunks) * width)
    if dataset.chunks and math.prod(dataset.chunks) * width > budget.most_bytes:
        raise OverLimitError(f"a chunk of {where} is larger than {budget.most_bytes:,} bytes")
    if text is not None and text.length is None:
        _read_text(dataset, budget)
    else:
        dataset[()]


def _check_chunks(dataset: Any, whole: int) -> None:
    """Refuse chunks that are stored at more than their size: they hold something else."""
    most = whole + whole // 100 + 1024  # what does not shrink grows a little

    def check(chunk: Any) -> None:
        if chunk.size > most:
            raise RefusedError(
                f"a chunk of {_short(dataset.name)} is stored in {chunk.size:,} "
                f"bytes but holds {whole:,}"
            )

    dataset.id.chunk_iter(check)


def _read_text(dataset: Any, budget: Budget) -> None:
    """Read text of any length in blocks: many entries may point to one long text."""
    where = _short(dataset.name)
    if dataset.ndim == 0:
        budget.spend(where, len(dataset[()]))
        return
    file_size = os.path.getsize(dataset.file.filename)
    row = max(1, math.prod(dataset.shape[1:]))
    block = max(1, budget.most_bytes // (4 * file_size * row))
    for start in range(0, dataset.shape[0], block):
        budget.spend(where, sum(map(len, dataset[start : start + block].ravel())))


def _zarr_documents(root: Path, budget: Budget) -> Iterator[tuple[str, dict]]:
    """Yield each metadata document by its place; refuse what is neither file nor folder."""
    on_disk = 0
    for folder, folders, files in os.walk(root):
        budget.spend(folder, pieces=len(folders) + len(files))
        for name in folders + files:
            place = Path(folder, name)
            status = place.lstat()
            is_file = stat.S_ISREG(status.st_mode)
            if not is_file and not stat.S_ISDIR(status.st_mode):
                raise RefusedError(f"{_short(name)} is neither a file nor a folder")
            on_disk += status.st_size if is_file else 0
            if on_disk > budget.most_bytes:
                raise OverLimitError(f"its files hold more than {budget.most_bytes:,} bytes")
            if is_file and name in (".zarray", ".zgroup", ".zattrs", ".zmetadata", "zarr.json"):
                if status.st_size > MOST_METADATA:
                    raise RefusedError(f"{name} is larger than {MOST_METADATA:,} bytes")
                document = json.loads(place.read_text(encoding="utf-8"))
                if not isinstance(document, dict):
                    raise RefusedError(f"{name} is not a JSON object")
                yield place.relative_to(root).as_posix(), document


def _check_document(where: str, document: dict, documents: dict, budget: Budget) -> None:
    budget.spend(where)
    if where.endswith(".zarray"):
        filters = document.get("filters") or []
        codecs = [*filters, *([document["compressor"]] if document["compressor"] else [])]
        _check_names(where, [codec["id"] for codec in codecs], ZARR_2_CODECS)
        kind = document["dtype"]
        if kind == "|O" and [codec["id"] for codec in filters] == ["vlen-utf8"]:
            width = POINTER
        elif isinstance(kind, str) and (found := ZARR_2_TYPE.fullmatch(kind)):
            width = int(found[1]) * (4 if "U" in kind else 1)
        else:
            raise RefusedError(f"{where} has type {_short(str(kind))}, accepted: numbers and text")
        _check_shape(where, document["shape"], document["chunks"], width, budget)
    elif document.get("node_type") == "array":
        _check_names(where, [codec["name"] for codec in document["codecs"]], ZARR_3_CODECS)
        if document["chunk_grid"]["name"] != "regular" or document.get("storage_transformers"):
            raise RefusedError(f"{where} has a layout other than regular chunks")
        _check_shape(
            where,
            document["shape"],
            document["chunk_grid"]["configuration"]["chunk_shape"],
            _width_3(where, document["data_type"]),
            budget,
        )
    elif document.get("consolidated_metadata"):
        _compare_consolidated(where, document["consolidated_metadata"], documents)


def _check_names(where: str, found: list, accepted: set[str]) -> None:
    foreign = sorted(set(map(str, found)) - accepted)
    if foreign:
        raise RefusedError(
            f"{where} has codecs {_short(str(foreign))}, accepted: {', '.join(sorted(accepted))}"
        )


def _width_3(where: str, kind: Any) -> int:
    if isinstance(kind, str) and kind in ZARR_3_TYPES:
        return ZARR_3_TYPES[kind]
    if isinstance(kind, dict) and kind.get("name") == "fixed_length_utf32":
        return int(kind["configuration"]["length_bytes"])
    raise RefusedError(f"{where} has type {_short(str(kind))}, accepted: numbers and text")


def _check_shape(where: str, shape: list, chunks: list, width: int, budget: Budget) -> None:
    whole = [*shape, *chunks]
    if len(shape) != len(chunks) or not all(type(size) is int and size >= 0 for size in whole):
        raise RefusedError(
            f"{where} has shape {_short(str(shape))} in chunks {_short(str(chunks))}"
        )
    if 0 in chunks and 0 not in shape:
        raise RefusedError(f"{where} has chunks of no size")
    pieces = math.prod(-(-size // max(chunk, 1)) for size, chunk in zip(shape, chunks, strict=True))
    budget.spend(where, math.prod(shape) * width, pieces)
    if math.prod(chunks) * width > budget.most_bytes:
        raise OverLimitError(f"a chunk of {where} is larger than {budget.most_bytes:,} bytes")


def _compare_consolidated(where: str, held: dict, documents: dict) -> None:
    """Metadata that is kept twice must agree: only one of the two is checked."""
    folder = where.rpartition("/")[0]
    for name, document in held["metadata"].items():
        place = f"{folder}/{name}".strip("/")
        place = place if where.endswith(".zmetadata") else f"{place}/zarr.json"
        other = documents.get(place)
        if other is None or _without_copies(other) != _without_copies(document):
            raise RefusedError(f"what {where} says of {_short(name)} is not what the store holds")


def _without_copies(document: dict) -> dict:
    return {name: value for name, value in document.items() if name != "consolidated_metadata"}


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")


if __name__ == "__main__":
    main(sys.argv[1])
