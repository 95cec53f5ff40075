"""What designs, the arrays of an incentive, and single entries of any array are called."""

import json

import xarray as xr

BEST_PER_DRAW = "best per draw"
MOST_MARKS = 50


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


def known_among(tree: xr.DataTree) -> list[str]:
    """Return the names in the posterior of what was known before, and so is a constant.

    A fit writes them down in the attribute ``known``; what does not fit is left out.
    """
    try:
        names = list(json.loads(str(tree.attrs.get("known", "[]"))))
    except (ValueError, TypeError):
        return []
    posterior = tree["posterior"].data_vars if "posterior" in tree.children else {}
    return [name for name in names if name in posterior]


def entry_name(name: str, array: xr.DataArray, index: tuple) -> str:
    """Return what one entry of ``array`` is called in tables, by its coordinates."""
    return f"{name}[{place_name(array, index)}]" if index else name


def place_name(array: xr.DataArray, index: tuple) -> str:
    """Return what a place in ``array`` is called, by its coordinates."""
    parts = []
    for dim, position in zip(array.dims, index, strict=True):
        labels = [c for c in array.coords.values() if c.dims == (dim,)]
        if dim in array.coords:
            parts.append(str(array.coords[dim].values[position]))
        elif labels:
            parts += [f"{c.name} {c.values[position]}" for c in labels]
        else:
            parts.append(str(position))
    return ", ".join(parts)


def marks_of(array: xr.DataArray) -> list[tuple[str, int]]:
    """Return what single places along the array's own axis are: (start, 3), (goal, 17), ...

    From the attribute ``marks``, which a file may hold in any form: what does not fit is left out.
    """
    try:
        found = json.loads(str(array.attrs.get("marks", "{}")))
        pairs = [(str(name), place) for name, places in found.items() for place in places]
    except (ValueError, AttributeError, TypeError):
        return []
    size = max(array.shape, default=0)
    return [
        (name[:20], place) for name, place in pairs if type(place) is int and 0 <= place < size
    ][:MOST_MARKS]
