"""Check a file before it is opened: what it declares, and that it can be read at all."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from cbrl_bayes.errors import CbrlBayesError
from cbrl_bayes.files.limits import FileLimits

PROBE = Path(__file__).with_name("probe.py")
TABLE_FACTOR = 8
OUT_OF_TIME = getattr(signal, "SIGXCPU", 24)
CLOCK_FACTOR = 20
"""A busy machine may take so many times the processor time."""
RAISE = "if you trust the file, raise the limit: limits=FileLimits(...)"
REMEDIES = {
    "limit": RAISE,
    "refused": "if you trust the file, open it unchecked: limits=None",
    "damaged": "the file may be cut short: copy it again or rerun what wrote it",
}


def check_file(path: Path, error: type[CbrlBayesError], limits: FileLimits | None) -> None:
    """Refuse a netCDF file, zarr store or table that asks for too much or cannot be read.

    A netCDF file or zarr store is first read from end to end by a process of its own, whose
    memory and time are bounded. A file that makes the reading library crash, loop or swell ends
    that process, not the caller's. Before that process reads an array it looks at its declared
    shape and at its codecs: only those that turn bytes into numbers and text are accepted, and
    links to other files are not followed.

    Parameters
    ----------
    path : Path
        Existing; the suffix decides: .nc and .h5 are netCDF-4, .zarr is a zarr store, .csv a
        table, of which only the size is checked.
    error : class
        What to raise.
    limits : FileLimits or None
        None: the file is trusted and nothing is checked.

    Raises
    ------
    CbrlBayesError
        Of the given class, with the limit that the file does not keep or the fault it has.

    Examples
    --------
    >>> import tempfile
    >>> from cbrl_bayes.errors import DataError
    >>> path = Path(tempfile.mkdtemp()) / "cut.nc"
    >>> _ = path.write_bytes(b"not netCDF")
    >>> try:
    ...     check_file(path, DataError, FileLimits())
    ... except DataError as caught:
    ...     print(str(caught).split(" (")[0])
    cut.nc cannot be read
    """
    if limits is None:
        return
    if path.suffix == ".zarr":
        if not path.is_dir():
            raise error(f"{path.name} is not a zarr store", accepted="a folder")
    elif not path.is_file():  # a folder, a pipe, a device
        raise error(f"{path.name} is not a regular file")
    else:
        factor = TABLE_FACTOR if path.suffix == ".csv" else 1
        check_size(path.name, factor * path.stat().st_size, error, limits)
    if path.suffix != ".csv":
        _read_apart(path, error, limits)


def check_size(
    what: str, num_bytes: int, error: type[CbrlBayesError], limits: FileLimits | None
) -> None:
    """Refuse what would need more memory than the limit.

    Parameters
    ----------
    what : str
        Subject of the sentence.
    num_bytes : int
        Bytes it would need.
    error : class
        What to raise.
    limits : FileLimits or None
        None: no limit.
    """
    if limits is not None and num_bytes > limits.most_bytes:
        raise error(
            f"{what} would need too much memory",
            received=f"{num_bytes:,} bytes",
            accepted=f"at most {limits.most_bytes:,} bytes",
            remedy=RAISE,
        )


def _read_apart(path: Path, error: type[CbrlBayesError], limits: FileLimits) -> None:
    order = json.dumps(
        {
            "path": str(path.absolute()),
            "most_bytes": limits.most_bytes,
            "most_seconds": limits.most_seconds,
            "most_pieces": limits.most_pieces,
        }
    )
    try:
        done = subprocess.run(
            # -P: modules of this folder must not stand in for others of the same name.
            [sys.executable, "-P", str(PROBE), order],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=CLOCK_FACTOR * limits.most_seconds,
            check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        status = done.returncode
    except subprocess.TimeoutExpired:
        status = -OUT_OF_TIME
    if status == -OUT_OF_TIME:
        raise error(
            f"reading {path.name} did not end within {limits.most_seconds:g} s",
            remedy=["the file may be damaged: copy it again", RAISE],
        )
    if status < 0:
        raise error(
            f"{path.name} makes the library that reads it crash (signal {-status})",
            remedy="the file is damaged: copy it again",
        )
    try:
        answer = json.loads(done.stdout)
        fault, remedy = str(answer["fault"]), REMEDIES.get(answer["kind"], "")
    except (ValueError, KeyError, TypeError) as unsaid:
        raise error(
            f"{path.name} cannot be checked (the process that reads it ended with status {status})",
            remedy="limits=None if you trust the file",
        ) from unsaid
    if fault:
        raise error(f"{path.name} cannot be read ({fault})", remedy=remedy)
