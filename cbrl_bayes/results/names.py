"""What designs, the arrays of an incentive, and single entries of any array are called."""

import xarray as xr

BEST_PER_DRAW = "best per draw"


def design_title(name: str) -> str:
    """Return what a design is called in tables, figures and reports.

    *common* (one for all draws), *plug-in* (for the mean parameters), *best per draw*, or the name
    that the user gave it.
    """
    return {"plug_in": "plug-in", "own": BEST_PER_DRAW}.get(str(name), str(name))


def incentive_arrays(group: xr.Dataset) -> list[str]:
    """Return the names of the arrays that make up an incentive."""
    return [
        name
        for name in map(str, group.data_vars)
        if name.startswith("incentive") and name != "incentive_cost"
    ]


def entry_name(name: str, array: xr.DataArray, index: tuple) -> str:
    """Return what one entry of ``array`` is called in tables, by its coordinates."""
    if not index:
        return name
    parts = []
    for dim, position in zip(array.dims, index, strict=True):
        labels = [c for c in array.coords.values() if c.dims == (dim,)]
        if dim in array.coords:
            parts.append(str(array.coords[dim].values[position]))
        elif labels:
            parts += [f"{c.name} {c.values[position]}" for c in labels]
        else:
            parts.append(str(position))
    return f"{name}[{', '.join(parts)}]"
