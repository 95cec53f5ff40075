"""Tables of any group of a tree: every variable with its unit, whatever it is called."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from cbrl_bayes.reports.parts import Part, Table, Text
from cbrl_bayes.results.names import design_title
from cbrl_bayes.results.table import without_dust

MOST_ROWS, MOST_COLUMNS, MOST_LISTS, MOST_TEXTS = 20, 8, 5, 3
MOST_LETTERS, MOST_TABLED = 120, 20_000
DRAWS = ("chain", "draw", "sample")
MOST_SLICES = 8
INTERNAL = "unconstrained"
"""Ends the name of designs before their transform: nothing to read."""


def group_parts(group: xr.Dataset, prob: float) -> list[Part]:
    """Return tables of all variables of a group.

    A variable ``<name>_standard_error`` stands beside ``<name>``. Single numbers share a table,
    and so do lists over the same axis; arrays over two axes have a table each. Over posterior
    draws the mean and the equal-tailed interval are shown. What has more axes is named with its
    shape.

    Parameters
    ----------
    group : xarray.Dataset
    prob : float
        Probability of the intervals.

    Returns
    -------
    list of Part
    """
    parts: list[Part] = [
        Text(str(group.attrs[name])) for name in ("description", "title") if name in group.attrs
    ]
    shown = {
        str(name): _without_draws(group[name], prob)
        for name in group.data_vars
        if not str(name).endswith(INTERNAL) and not _is_large(group[name])
    }
    for name in list(shown):
        error = shown.get(f"{name}_standard_error")
        if error is not None and error.dims == shown[name].dims and _numeric(error, shown[name]):
            shown[name] = _with_error(shown[name], shown.pop(f"{name}_standard_error"))
    scalars = {name: array for name, array in shown.items() if not array.dims}
    if scalars:
        rows = [(_label(name, group), _cell(array)) for name, array in scalars.items()]
        parts.append(
            Table(f"Single numbers{_draw_words(group, scalars, prob)}", ("quantity", "value"), rows)
        )
    axes = dict.fromkeys(array.dims for array in shown.values() if len(array.dims) == 1)
    for (axis,) in axes:
        columns = {name: array for name, array in shown.items() if array.dims == (axis,)}
        parts += _lists(group, str(axis), columns, prob)
    for name, array in shown.items():
        if len(array.dims) == 2:
            parts += _matrix(_label(name, group), array, _draw_words(group, {name: array}, prob))
        elif len(array.dims) == 3 and array.shape[0] <= MOST_SLICES:
            words = _draw_words(group, {name: array}, prob)
            for at, label in enumerate(_axis_names(array, str(array.dims[0]))):
                one = array.isel({array.dims[0]: at}, drop=True)
                parts += _matrix(f"{_label(name, group)}, {array.dims[0]} {label}", one, words)
        elif len(array.dims) > 2:
            sizes = ", ".join(f"{dim} {size}" for dim, size in array.sizes.items())
            parts.append(Text(f"{_label(name, group)}: {sizes}; see the file.", "note"))
    for large in (str(name) for name, array in group.data_vars.items() if _is_large(array)):
        sizes = ", ".join(f"{dim} {size}" for dim, size in group[large].sizes.items())
        parts.append(Text(f"{_label(large, group)}: {sizes}; see the file.", "note"))
    return parts


@dataclass(frozen=True)
class Spread:
    """What draws come to; the entries that are not finite are left out and counted.

    Attributes
    ----------
    mean, sd, largest : float
        NaN where no entry is finite.
    outer, inner : (float, float)
        Bounds of the equal-tailed intervals of probability ``prob`` and `inner_probability`.
    lost, num : int
        Entries that are not finite, and all entries.
    """

    mean: float
    sd: float
    largest: float
    outer: tuple[float, float]
    inner: tuple[float, float]
    lost: int
    num: int

    @property
    def bounds(self) -> str:
        """The outer interval in words."""
        return f"{number(self.outer[0])} to {number(self.outer[1])}"

    @property
    def loss(self) -> str:
        """How many draws the numbers leave out; nothing if none."""
        return f"{self.lost} of {self.num} draws not finite" if self.lost else ""


def spread(values: np.ndarray, prob: float, scale: float = 0.0) -> Spread:
    """Return mean, deviation, intervals and largest of the finite entries, and the others' number.

    What is zero beside the largest entry, or beside ``scale``, is 0.

    Examples
    --------
    >>> found = spread(np.array([0.0, 1.0, 2.0, np.nan]), 0.5)
    >>> found.mean, found.bounds, found.loss
    (1.0, '0.5 to 1.5', '1 of 4 draws not finite')
    """
    values = np.asarray(values, float).ravel()
    finite = values[np.isfinite(values)]
    lost = values.size - finite.size
    if not finite.size:
        nothing = (np.nan, np.nan)
        return Spread(np.nan, np.nan, np.nan, nothing, nothing, lost, values.size)
    inside = inner_probability(prob)
    tails = [(1 - prob) / 2, (1 - inside) / 2, (1 + inside) / 2, (1 + prob) / 2]
    scale = max(scale, float(np.abs(finite).max()))
    found = [*np.quantile(finite, tails), finite.mean(), finite.std(), finite.max()]
    low, inner_low, inner_high, high, mean, sd, largest = without_dust(found, scale).tolist()
    return Spread(mean, sd, largest, (low, high), (inner_low, inner_high), lost, values.size)


def inner_probability(prob: float) -> float:
    """Return the inner interval's probability: one half, or half of a small ``prob``."""
    return 0.5 if prob > 0.5 else prob / 2


def clipped(text: object) -> str:
    """Shorten a text of the file that a page says many times."""
    words = str(text)
    return (
        words
        if len(words) <= MOST_LETTERS
        else words[: MOST_LETTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"
    )


def number(value: object) -> str:
    """Write a number with four digits; text as it stands."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{int(value)}"
    if isinstance(value, float | np.floating):
        return f"{float(value):.4g}" if np.isfinite(value) else "not finite"
    return str(value)


def entry_names(array: xr.DataArray, at: Sequence[int] | np.ndarray | None = None) -> list[str]:
    """Name entries of an array by its coordinates: all of its flattened values, or those ``at``."""
    chosen = np.arange(array.size) if at is None else np.asarray(at, int)
    if not array.ndim:
        return [""] * len(chosen)
    places = np.unravel_index(chosen, array.shape)
    by_axis = [
        _axis_names(array, str(dim), place) for dim, place in zip(array.dims, places, strict=True)
    ]
    return [", ".join(names) for names in zip(*by_axis, strict=True)]


def interval_words(prob: float) -> str:
    """Say which interval it is."""
    return f"{100 * prob:g} % equal-tailed interval"


def _without_draws(array: xr.DataArray, prob: float) -> xr.DataArray:
    """Turn draws into text, mean and interval; and bounds into an interval."""
    if "ci_bound" in array.dims and array.sizes["ci_bound"] == 2:
        low, high = (array.isel(ci_bound=at, drop=True) for at in (0, 1))
        ends = without_dust([low.values.ravel(), high.values.ravel()])
        pairs = zip(*ends.tolist(), strict=True)
        texts = np.array([f"{number(a)} to {number(b)}" for a, b in pairs], object)
        return low.copy(data=texts.reshape(low.shape))
    over = [dim for dim in DRAWS if dim in array.dims]
    if not over or array.dtype.kind not in "biuf":
        return array

    scale = float(np.abs(array.where(np.isfinite(array))).max()) if array.size else 0.0

    def words(values: np.ndarray) -> str:
        found = spread(values, prob, np.nan_to_num(scale))
        text = f"{number(found.mean)} [{number(found.outer[0])}, {number(found.outer[1])}]"
        return text + (f", {found.loss}" if found.lost else "")

    rest = [dim for dim in array.dims if dim not in over]
    moved = array.transpose(*rest, *over).values.astype(float)
    flat = moved.reshape(-1, *moved.shape[len(rest) :])
    texts = np.array([words(values) for values in flat], dtype=object)
    coords = {
        name: coord for name, coord in array.coords.items() if not set(coord.dims) & set(over)
    }
    shape = [array.sizes[dim] for dim in rest]
    return xr.DataArray(texts.reshape(shape), coords, rest, attrs=array.attrs)


def _numeric(*arrays: xr.DataArray) -> bool:
    return all(array.dtype.kind in "biuf" for array in arrays)


def _with_error(array: xr.DataArray, error: xr.DataArray) -> xr.DataArray:
    """Write the standard error beside the value."""
    values = without_dust(array.values.ravel())
    errors = without_dust(error.values.ravel(), float(np.nanmax(np.abs(values), initial=0.0)))
    pairs = zip(values.tolist(), errors.tolist(), strict=True)
    texts = np.array([f"{number(value)} (s.e. {number(wide)})" for value, wide in pairs], object)
    return array.copy(data=texts.reshape(array.shape))


def _draw_words(group: xr.Dataset, columns: dict, prob: float) -> str:
    over = any(set(DRAWS) & set(group[name].dims) for name in columns)
    return f" (over posterior draws: mean [{interval_words(prob)}])" if over else ""


def _label(name: str, group: xr.Dataset) -> str:
    attrs = group[name].attrs
    unit = f" [{attrs['units']}]" if attrs.get("units") else ""
    said = attrs.get("long_name") or attrs.get("description") or ""
    return f"{name.replace('_', ' ')}{unit}" + (f": {said}" if said else "")


def _cell(array: xr.DataArray) -> str:
    return number(array.values.item() if array.ndim == 0 else array.values)


def _lists(group: xr.Dataset, axis: str, columns: dict, prob: float) -> list[Part]:
    names = _axis_names(next(iter(columns.values())), axis)
    heads = [_label(name, group) for name in columns]
    cells = [_cells(array) for array in columns.values()]
    words = f"By {axis}{_draw_words(group, columns, prob)}"
    if len(columns) > MOST_LISTS and len(names) <= MOST_LISTS:
        rows = [(head, *cell) for head, cell in zip(heads, cells, strict=True)]
        return Table(words, (axis, *names), rows).condensed()
    cut = slice(MOST_ROWS)
    more = f"; {len(names) - MOST_ROWS} more in the file" if len(names) > MOST_ROWS else ""
    tables = [
        Table(
            words + more,
            (axis, *heads[at : at + MOST_LISTS]),
            list(
                zip(names[cut], *(cell[cut] for cell in cells[at : at + MOST_LISTS]), strict=True)
            ),
        )
        for at in range(0, len(heads), MOST_LISTS)
    ]
    return [part for table in tables for part in table.condensed()]


def _matrix(label: str, array: xr.DataArray, words: str) -> list[Part]:
    first, second = map(str, array.dims)
    most = MOST_LISTS if _numeric(array) else MOST_TEXTS  # numbers with errors are wide
    if array.shape[1] > max(most, array.shape[0]):
        array, first, second = array.T, second, first
    down, across = _axis_names(array, first), _axis_names(array, second)
    cut = array[:MOST_ROWS, :MOST_COLUMNS]
    cells = np.reshape(np.array(_cells(cut), object), cut.shape)
    rows = [(down[i], *line) for i, line in enumerate(cells)]
    more = "" if cut.shape == array.shape else f"; {array.shape} in all, the rest in the file"
    head = (f"{first} \\ {second}", *across[:MOST_COLUMNS])
    return Table(f"{label}{words}{more}", head, rows).condensed()


def _cells(array: xr.DataArray) -> list[str]:
    """Write the entries of an array, flattened, zeros as such beside the largest."""
    if array.dtype.kind != "f":
        return [number(value) for value in array.values.ravel()]
    return [number(value) for value in without_dust(array.values.ravel()).tolist()]


def _axis_names(
    array: xr.DataArray, axis: str, at: Sequence[int] | np.ndarray | None = None
) -> list[str]:
    """Name the places of an axis: all of them, or those ``at``."""
    at = np.arange(array.sizes[axis]) if at is None else at
    if axis in array.coords:
        named = design_title if axis == "design" else number
        return [clipped(named(value)) for value in array.coords[axis].values[at]]
    labels = [coord for coord in array.coords.values() if coord.dims == (axis,)]
    if labels:
        return [
            clipped(", ".join(f"{coord.name} {number(coord.values[i])}" for coord in labels))
            for i in at
        ]
    return [str(i) for i in at]


def _is_large(array: xr.DataArray) -> bool:
    """Tell whether an array has too many entries beside its draws to write them all."""
    sizes = [size for dim, size in array.sizes.items() if dim not in DRAWS]
    return bool(np.prod(sizes, dtype=float) > MOST_TABLED)
