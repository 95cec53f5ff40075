"""Write a file or a store whole or not at all; remove nothing that this package did not write."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cbrl_bayes.errors import CbrlBayesError

METADATA = {".zgroup", ".zarray", ".zattrs", ".zmetadata", "zarr.json"}
CHUNK = re.compile(r"\d+(\.\d+)*")


@contextmanager
def replacing(
    path: Path, error: type[CbrlBayesError], is_own: Callable[[Path], bool]
) -> Iterator[Path]:
    """Yield a free place beside ``path``; what is written there takes its name at the end.

    Until then, and after any failure, what stands at ``path`` stays as it is. The path is
    opaque: no sign in it has a meaning. A symbolic link stays, and its target is written.

    Parameters
    ----------
    path : Path
        Where the file or folder will stand.
    error : class
        What to raise.
    is_own : callable
        Says of what stands there now whether this package wrote it. Only then is it replaced.
        (What is empty may always be replaced.)

    Yields
    ------
    Path
        Of the same name, in a new folder beside ``path``.

    Raises
    ------
    CbrlBayesError
        Of the given class: if something else stands there, or nothing can be written.

    Examples
    --------
    >>> import tempfile
    >>> from cbrl_bayes.errors import ResultsError
    >>> path = Path(tempfile.mkdtemp()) / "one.txt"
    >>> with replacing(path, ResultsError, lambda old: True) as place:
    ...     _ = place.write_text("whole")
    >>> path.read_text(), [entry.name for entry in path.parent.iterdir()]
    ('whole', ['one.txt'])
    """
    try:
        if "\0" in str(path):
            raise ValueError("its name holds a zero byte")
        target = path.resolve() if path.is_symlink() else path.absolute()
        refuse_foreign(target, error, is_own)
        apart = Path(tempfile.mkdtemp(prefix=".partial-", dir=target.parent))
    except CbrlBayesError:
        raise
    except (OSError, ValueError) as failure:  # such as a name with a zero byte
        raise _unwritable(path, error, failure) from failure
    try:
        yield apart / target.name
        refuse_foreign(target, error, is_own)  # it may have come since
        _put_in_place(apart / target.name, target, apart / "old")
    except OSError as failure:
        raise _unwritable(path, error, failure) from failure
    finally:
        shutil.rmtree(apart, ignore_errors=True)


def refuse_foreign(
    target: Path, error: type[CbrlBayesError], is_own: Callable[[Path], bool]
) -> None:
    """Raise unless ``target`` is free, empty, or something this package wrote.

    A file stands where a file is to stand, and a folder where a zarr store is.
    """
    if not target.exists():
        return
    is_store, is_folder = target.suffix == ".zarr", target.is_dir()
    what, fits = "folder" if is_folder else "file", is_folder == is_store
    empty = not any(target.iterdir()) if is_folder else target.stat().st_size == 0
    foreign = _foreign_files(target) if fits and is_store and not empty else ()
    if fits and (empty or (not foreign and is_own(target))):
        return
    raise error(
        f"{target} cannot be written: a {what} of that name is there, which this function did "
        "not write, or which is damaged",
        received=f"it holds {foreign[0]}" if foreign else None,
        remedy=f"another name, or remove the {what} yourself",
    )


def _foreign_files(store: Path) -> tuple[str, ...]:
    """Return the first thing in a folder that belongs to no zarr store, if there is one."""
    for folder, folders, files in os.walk(store):
        is_array = not {".zarray", "zarr.json"}.isdisjoint(files)
        is_group = ".zgroup" in files or is_array
        is_chunks = CHUNK.fullmatch(Path(folder).name) or Path(folder).name == "c"
        for name in files:
            known = name in METADATA or (CHUNK.fullmatch(name) and (is_array or is_chunks))
            if not known or Path(folder, name).is_symlink():
                return (os.path.join(folder, name),)
        links = [name for name in folders if Path(folder, name).is_symlink()]
        if links or not (is_group or is_chunks):
            return (os.path.join(folder, *links[:1]),)
    return ()


def stands_there(path: Path) -> bool:
    """Whether something has this path; not where a path is too long or has a zero byte."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _put_in_place(new: Path, target: Path, aside: Path) -> None:
    """Rename; a folder cannot be replaced in one step, so the old one is put aside first."""
    if not target.is_dir():
        os.replace(new, target)
        return
    os.rename(target, aside)
    try:
        os.rename(new, target)
    except OSError:
        os.rename(aside, target)
        raise


def _unwritable(path: Path, error: type[CbrlBayesError], failure: Exception) -> CbrlBayesError:
    return error(
        f"{path} cannot be written ({failure})",
        remedy="check that the folder exists, is writable and has room",
    )
