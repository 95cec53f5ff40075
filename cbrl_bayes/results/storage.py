"""Save and load results trees as netCDF or zarr: checked, whole or not at all, never executed."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from cbrl_bayes.errors import ResultsError, require_kind
from cbrl_bayes.files import (
    DEFAULT_LIMITS,
    FileLimits,
    check_file,
    given_attributes,
    netcdf_bytes,
    plain_attributes,
    replacing,
    reserved_attributes,
    stands_there,
)
from cbrl_bayes.results.schema import check_tree

JSON_ATTRIBUTES = {
    "versions": dict,
    "settings": dict,
    "design_settings": dict,
    "contraction": dict,
    "one_sided": list,
    "parameter_units": dict,
    "groups": list,
    "alternatives": list,
}


def save(tree: xr.DataTree, path: str | Path) -> Path:
    """Check a results tree and write it: ``.nc`` as netCDF-4, ``.zarr`` as a zarr store.

    The file is written under a temporary name and then renamed, so that what was there before
    survives any failure. Only results that this function wrote are replaced. The path is opaque:
    no sign in it has a meaning. A symbolic link stays, and its target is written.

    Parameters
    ----------
    tree : xarray.DataTree
        Its attributes may be of any type. Texts, numbers and lists of them are kept as they are,
        truth values, None, dictionaries and mixed lists come back as they were, other objects
        as their text.
    path : str or Path

    Returns
    -------
    Path

    Raises
    ------
    ResultsError
        If the tree violates the schema, the type is unknown, something else stands at the path or
        nothing can be written there.
    """
    check_tree(tree)
    require_kind(path, str | Path, "path", "the name of a file, as in 'study.nc'")
    path = Path(path)
    is_store = _kind(path) == "zarr"
    tree = _storable(tree)
    with replacing(path, ResultsError, _is_results) as place:
        try:
            _write_store(tree, place) if is_store else _write_file(tree, place)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise ResultsError(
                f"the results cannot be kept in a file ({type(error).__name__}: {error})",
                remedy="take out what was added to the tree",
            ) from error
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
    require_kind(path, str | Path, "path", "the name of a file, as in 'study.nc'")
    require_kind(limits, FileLimits | None, "limits", "cb.FileLimits(...)")
    path = Path(path)
    if not stands_there(path):
        raise ResultsError("there is no such results file", received=path)
    is_store = _kind(path) == "zarr"
    check_file(path, ResultsError, limits)
    try:
        # Not by their names, which xarray and zarr may take for addresses.
        source: Any = _store(path, read_only=True) if is_store else path.absolute()
        engine = "zarr" if is_store else "h5netcdf"
        # No variable is a date: a unit like "days" is a unit, not a reason to decode.
        with xr.open_datatree(source, engine=engine, decode_times=False) as opened:
            tree = _with_attributes(opened.load(), given_attributes)
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


def _store(path: Path, *, read_only: bool = False) -> Any:
    from zarr.storage import LocalStore  # half a second of imports, only for a store

    return LocalStore(path.absolute(), read_only=read_only)


def _write_store(tree: xr.DataTree, place: Path) -> None:
    # Format 2: consolidated metadata, which plain xarray looks for, is part of it.
    tree.to_zarr(_store(place), mode="w", zarr_format=2, consolidated=True)


def _write_file(tree: xr.DataTree, place: Path) -> None:
    place.write_bytes(netcdf_bytes(tree, _compression(tree)))


def _is_results(path: Path) -> bool:
    """Whether this package wrote the results that stand there."""
    try:
        if path.is_dir():
            schema = json.loads((path / ".zattrs").read_text(encoding="utf-8"))["schema"]
        else:
            import h5py

            with h5py.File(path, "r") as file:
                schema = file.attrs["schema"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return str(schema).startswith("cbrl_bayes results")


def _storable(tree: xr.DataTree) -> xr.DataTree:
    """Return the tree with attributes that a file can hold."""
    reserved = [
        f"{node.path.rstrip('/')}/{name}: {', '.join(found)}"
        for node in tree.subtree
        for name, attrs in [("", node.attrs), *((n, v.attrs) for n, v in _variables(node))]
        if (found := reserved_attributes(attrs))
    ]
    if reserved:
        raise ResultsError(
            "attributes have names with a meaning of their own in files",
            received="; ".join(reserved),
            remedy="other names for them",
        )
    return _with_attributes(tree, plain_attributes)


def _with_attributes(
    tree: xr.DataTree, change: Callable[[Mapping[Any, Any]], dict[str, Any]]
) -> xr.DataTree:
    """Return a copy with all attributes changed, and nothing said of how a file holds it."""
    tree = tree.copy()
    for node in tree.subtree:
        dataset = node.to_dataset(inherit=False).drop_encoding()
        dataset.attrs = change(node.attrs)
        for name, _ in _variables(node):
            dataset[name].attrs = change(node[name].attrs)
        node.dataset = dataset
    return tree


def _variables(node: xr.DataTree) -> list[tuple[str, xr.Variable]]:
    dataset = node.to_dataset(inherit=False)
    return [(str(name), variable) for name, variable in dataset.variables.items()]


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
