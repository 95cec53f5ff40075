"""Save and load results trees as netCDF or zarr: checked, whole or not at all, never executed."""

import json
import os
import shutil
from pathlib import Path

import xarray as xr

from cbrl_bayes.errors import ResultsError
from cbrl_bayes.files import DEFAULT_LIMITS, FileLimits, check_file
from cbrl_bayes.results.schema import check_tree

JSON_ATTRIBUTES = {
    "versions": dict,
    "settings": dict,
    "design_settings": dict,
    "contraction": dict,
    "one_sided": list,
    "parameter_units": dict,
    "groups": list,
}


def save(tree: xr.DataTree, path: str | Path) -> Path:
    """Check a results tree and write it: ``.nc`` as netCDF-4, ``.zarr`` as a zarr store.

    The file is written under a temporary name and then renamed, so that what was there before
    survives any failure.

    Parameters
    ----------
    tree : xarray.DataTree
    path : str or Path

    Returns
    -------
    Path

    Raises
    ------
    ResultsError
        If the tree violates the schema, the type is unknown or nothing can be written there.
    """
    check_tree(tree)
    path = Path(path)
    kind = _kind(path)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    old = path.with_name(f".{path.name}.old-{os.getpid()}")
    try:
        if kind == "zarr":
            # Format 2: consolidated metadata, which plain xarray looks for, is part of it.
            tree.to_zarr(partial, mode="w", zarr_format=2, consolidated=True)
        else:
            tree.to_netcdf(partial, engine="h5netcdf", encoding=_compression(tree))
        if path.is_dir():  # a folder cannot be replaced in one step: put the old one aside
            path.rename(old)
        partial.rename(path)
        if old.is_dir():
            shutil.rmtree(old)
    except OSError as error:
        raise ResultsError(
            f"results cannot be written to {path} ({error})",
            remedy="check that the folder exists, is writable and has room",
        ) from error
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        partial.unlink(missing_ok=True)
    return path


def load(path: str | Path, *, limits: FileLimits | None = DEFAULT_LIMITS) -> xr.DataTree:
    """Read a results tree into memory and check it.

    Nothing in the file is executed. What it declares is checked before anything is allocated,
    and a process of its own reads it first: a damaged file that would crash or block the reading
    library gives an error instead (a second of time; `FileLimits`).

    Parameters
    ----------
    path : str or Path
        A file or store written by `save`.
    limits : FileLimits or None
        How much it may ask for. None: the file is trusted and opened at once.

    Returns
    -------
    xarray.DataTree

    Raises
    ------
    ResultsError
        If it is absent, damaged, asks for more than the limits or violates the schema (all
        violations are named).
    """
    path = Path(path)
    if not path.exists():
        raise ResultsError("there is no such results file", received=path)
    engine = "zarr" if _kind(path) == "zarr" else "h5netcdf"
    check_file(path, ResultsError, limits)
    try:
        # No variable is a date: a unit like "days" is a unit, not a reason to decode.
        with xr.open_datatree(path, engine=engine, decode_times=False) as opened:
            tree = opened.load()
        check_tree(tree)
        _check_attributes(tree)
    except ResultsError:
        raise
    except Exception as error:  # readers raise many kinds for a damaged file
        raise ResultsError(
            f"{path.name} cannot be read ({type(error).__name__}: {error})",
            remedy="the file may be cut short: copy it again or rerun the study",
        ) from error
    return tree


def _check_attributes(tree: xr.DataTree) -> None:
    """Refuse attributes that hold no JSON where the schema says so, all at once."""
    wrong = []
    for name, kind in JSON_ATTRIBUTES.items():
        try:
            if not isinstance(json.loads(tree.attrs.get(name, json.dumps(kind()))), kind):
                wrong.append(name)
        except (TypeError, ValueError):
            wrong.append(name)
    if wrong:
        raise ResultsError(
            f"attributes cannot be read: {', '.join(wrong)}",
            accepted="JSON text",
            remedy="the file is damaged or was changed: rerun the study",
        )


def _kind(path: Path) -> str:
    kinds = {".nc": "netcdf", ".zarr": "zarr"}
    if path.suffix not in kinds:
        raise ResultsError(
            "the results file's type is not known",
            received=path.name,
            accepted=".nc (netCDF) or .zarr",
        )
    return kinds[path.suffix]


def _compression(tree: xr.DataTree) -> dict[str, dict]:
    return {
        node.path: {
            str(name): {"zlib": True, "complevel": 4}
            for name, array in node.data_vars.items()
            if array.dtype.kind in "if" and array.size > 1000
        }
        for node in tree.subtree
        if node.data_vars
    }
