"""Observed behaviour in files: written whole or not at all, read with what it was given."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from cbrl_bayes.behaviour.check import check_trajectories
from cbrl_bayes.behaviour.schema import SCHEMA
from cbrl_bayes.errors import DataError, require_kind
from cbrl_bayes.files import (
    given_attributes,
    given_name,
    netcdf_bytes,
    plain_attributes,
    replacing,
    reserved_attributes,
    stored_name,
)

ENGINES = {".nc": "h5netcdf", ".h5": "h5netcdf", ".zarr": "zarr"}


def save_trajectories(data: xr.Dataset, path: str | Path) -> Path:
    """Check trajectories and write them as netCDF, whole or not at all.

    Parameters
    ----------
    data : xarray.Dataset
        From `make_trajectories` or one of the loaders. Attributes may be of any type, as with
        `cbrl_bayes.save`; names of incentives may hold slashes.
    path : str or Path
        Ends in .nc. Only trajectories that this function wrote are replaced. No sign in the path
        has a meaning. A symbolic link stays, and its target is written.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        If the data violate the format, something else stands at the path or nothing can be
        written there.
    """
    check_trajectories(data)
    require_kind(path, str | Path, "path", "the name of a file, as in 'walks.nc'")
    path = Path(path)
    if path.suffix != ".nc":
        raise DataError("trajectories are written as netCDF", received=path.name, accepted="*.nc")
    attributes = [data.attrs, *(variable.attrs for variable in data.variables.values())]
    reserved = sorted({name for attrs in attributes for name in reserved_attributes(attrs)})
    if reserved:
        raise DataError(
            "attributes have names with a meaning of their own in files",
            received=", ".join(reserved),
            remedy="other names for them",
        )
    plain = _with_attributes(data.assign_attrs(schema=SCHEMA), plain_attributes)
    plain = _renamed(plain, stored_name)
    packing = {name: {"zlib": True} for name in plain if plain[name].dtype.kind in "if"}
    with replacing(path, DataError, _is_trajectories) as place:
        try:
            place.write_bytes(netcdf_bytes(plain, packing))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise DataError(
                f"the data cannot be kept in a file ({type(error).__name__}: {error})",
                remedy="take out what was added to the dataset",
            ) from error
    return path


def opened_trajectories(path: Path) -> xr.Dataset:
    """Return what a netCDF file or a zarr store holds, with names and attributes as given."""
    source: Any = path.absolute()  # a name may look like an address or a home folder
    if path.suffix == ".zarr":
        from zarr.storage import LocalStore  # half a second of imports, only for a store

        source = LocalStore(source, read_only=True)
    with xr.open_dataset(source, engine=ENGINES[path.suffix], decode_times=False) as opened:
        return _renamed(_with_attributes(opened.load(), given_attributes), given_name)


def _with_attributes(
    data: xr.Dataset, change: Callable[[Mapping[Any, Any]], dict[str, Any]]
) -> xr.Dataset:
    """Return a copy with all attributes changed, and nothing said of how a file holds it."""
    data = data.drop_encoding()
    data.attrs = change(data.attrs)
    for name in data.variables:
        data[name].attrs = change(data[name].attrs)
    return data


def _renamed(data: xr.Dataset, change: Callable[[str], str]) -> xr.Dataset:
    """Return the data with the names of variables and axes changed."""
    names = {*data.variables, *data.dims}
    return data.rename({n: change(str(n)) for n in names if change(str(n)) != n})


def _is_trajectories(path: Path) -> bool:
    """Whether this package wrote the trajectories that stand there."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            schema = file.attrs["schema"]
    except (OSError, KeyError):
        return False
    return str(schema).startswith("cbrl_bayes trajectories")
