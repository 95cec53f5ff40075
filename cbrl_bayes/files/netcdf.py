"""NetCDF-4 in memory: where a disk is full, the library that writes ends the process."""

import io
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

CLUSTERS = "distributed"


def netcdf_bytes(data: Any, encoding: Mapping[Any, Any]) -> bytes:
    """Return an xarray dataset or tree as the content of a netCDF-4 file.

    Parameters
    ----------
    data : xarray.Dataset or xarray.DataTree
    encoding : mapping
        As ``to_netcdf`` takes it.
    """
    content = io.BytesIO()
    with _without_clusters():
        data.to_netcdf(content, engine="h5netcdf", encoding=encoding)
    return content.getvalue()


@contextmanager
def _without_clusters() -> Iterator[None]:
    """Spare xarray the import of ``distributed``, by which it asks whose cluster this is.

    It costs a quarter of a second of processor time. Where nobody has imported it, there is no
    cluster to ask for.
    """
    if CLUSTERS in sys.modules:
        yield
        return
    sys.modules[CLUSTERS] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        yield
    finally:
        if sys.modules.get(CLUSTERS) is None:
            sys.modules.pop(CLUSTERS, None)
