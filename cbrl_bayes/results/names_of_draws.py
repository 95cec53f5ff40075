"""Which draws are of which parameter: names, columns of single entries, names misspelt."""

import difflib
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.problems import Problem
from cbrl_bayes.results.alignment import as_numbers, leading
from cbrl_bayes.results.schema import DRAWS, repeated

ENTRY = re.compile(r"(.+?)(?:\[([^\[\]]+)\]|\.(\d+(?:\.\d+)*))")
"""One entry of an array: ``law[1]``, ``law[1,2]``, ``law[easy]``, ``law.1.2``."""
OF_SAMPLERS = {"chain", "draw", "iter", "iteration", "sample", "lp", "index"}
NEAR = 0.75
"""Names that agree by so much are one name misspelt (`difflib`)."""

Entries = dict[tuple[str, ...], Any]


def parameters_among(
    problem: Problem, given: Mapping[str, Any], names: Mapping[str, str]
) -> dict[str, xr.DataArray]:
    """Return the arrays of the problem's parameters, with chain and draw first.

    Parameters
    ----------
    problem : Problem
    given : mapping
        Name -> array (draws, ...) or DataArray.
    names : mapping
        Name in ``given`` -> the problem's name.

    Raises
    ------
    InvalidInputError
        As `from_draws`.
    """
    known = set(problem.default_parameters)
    if not given:
        raise InvalidInputError(
            "draws cannot be used",
            received="none",
            accepted="{parameter name: array of shape (draws, ...)}",
        )
    given = _renamed(given, names, known)
    whole, parts = _sorted_out(given, known)
    strangers = [n for n in given if n not in whole and not _entry_of(n, known)]
    derived = set(problem.derived(problem.default_parameters)) - known
    without = "temperature" in known - {*whole, *parts} and problem.derived_fn is None
    if without and "rationality" in strangers:  # which is 1 / temperature then
        rationality = leading("rationality", _labelled("rationality", given["rationality"]))
        numbers = as_numbers("rationality", rationality.values)
        whole["temperature"] = rationality.copy(data=1.0 / np.where(numbers == 0, np.nan, numbers))
        strangers.remove("rationality")
    _judge_strangers(problem, {*whole, *parts}, strangers, derived)
    arrays = {n: leading(n, _labelled(n, value)) for n, value in whole.items()}
    return arrays | {n: leading(n, _put_together(n, entries)) for n, entries in parts.items()}


def of_table(table: pd.DataFrame) -> dict[str, Any]:
    """Return the columns of a table, one row per draw, by chain where the table says which."""
    columns = [str(name) for name in table.columns]
    if repeated(columns) or not len(table):
        raise InvalidInputError(
            "columns of the table of draws share a name" if len(table) else "the table is empty",
            received=repeated(columns)[:5] or None,
        )
    rows = table.reset_index() if set(DRAWS) & set(table.index.names) else table
    plain = {str(name).strip("._").lower(): name for name in rows.columns}
    chains = rows[plain["chain"]].to_numpy() if "chain" in plain else np.zeros(len(rows))
    if "draw" in plain and repeated(zip(chains, rows[plain["draw"]], strict=True)):
        raise InvalidInputError(
            "the table has several rows for one draw",
            accepted="a row per draw and a column per number",
            remedy="the xarray.Dataset that the table was made of",
        )
    each = [np.flatnonzero(chains == chain) for chain in pd.unique(chains)]
    even = len({len(chain) for chain in each}) == 1
    order = np.stack(each) if even else np.concatenate(each)[None]
    return {
        str(name): xr.DataArray(_bare(table[name])[order], dims=DRAWS) for name in table.columns
    }


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that ``name`` is a misspelling of; "" if there is none.

    Examples
    --------
    >>> nearest("temprature", ["temperature", "context_probability"]), nearest("mu", ["nu_0"])
    ('temperature', '')
    """
    plain = {re.sub(r"[\W_]", "", one).lower(): one for one in known}
    asked = re.sub(r"[\W_]", "", name).lower()
    found = difflib.get_close_matches(asked, plain, n=1, cutoff=NEAR)
    return plain[found[0]] if found else ""


def _bare(column: pd.Series) -> np.ndarray:
    if pd.api.types.is_numeric_dtype(column) and column.isna().any():
        return column.to_numpy(float, na_value=np.nan)
    return column.to_numpy()


def _renamed(given: Mapping[str, Any], names: Mapping[str, str], known: set[str]) -> dict[str, Any]:
    """Return the draws under the problem's names."""
    wrong = [n for n in names if n not in given and not _entry_of_any(n, given)]
    if wrong or not set(names.values()) <= known:
        foreign = sorted(set(names.values()) - known)
        raise InvalidInputError(
            "names cannot be used: "
            + (f"there are no draws of {wrong}" if wrong else f"no parameters {foreign}"),
            received=dict(names),
            accepted=f"from {', '.join(sorted(given)[:20])} to {', '.join(sorted(known))}",
        )
    pairs = []
    for name in given:
        found = ENTRY.fullmatch(name)
        base = found[1] if found and name not in names else name
        pairs.append(names.get(base, base) + name[len(base) :])
    if repeated(pairs):
        raise InvalidInputError(
            "several draws have one name", received=repeated(pairs), remedy="map each to its own"
        )
    return dict(zip(pairs, given.values(), strict=True))


def _entry_of_any(name: str, given: Iterable[str]) -> bool:
    return any(_entry_of(one, {name}) for one in given)


def _entry_of(name: str, known: set[str]) -> tuple[str, tuple[str, ...]] | None:
    """Return parameter and index where a name is that of one entry of a parameter."""
    found = ENTRY.fullmatch(name)
    if not found or found[1] not in known:
        return None
    index = found[2].split(",") if found[2] else found[3].split(".")
    return found[1], tuple(part.strip().strip("'\"") for part in index)


def _sorted_out(
    given: Mapping[str, Any], known: set[str]
) -> tuple[dict[str, Any], dict[str, Entries]]:
    """Return whole arrays, and arrays in single entries, of the parameters."""
    whole = {name: value for name, value in given.items() if name in known}
    parts: dict[str, Entries] = {}
    for name, value in given.items():
        entry = None if name in known else _entry_of(name, known)
        if entry and (entry[0] in whole or entry[1] in parts.get(entry[0], {})):
            raise InvalidInputError(f"draws of {entry[0]!r} are there twice", received=name)
        if entry:
            parts.setdefault(entry[0], {})[entry[1]] = value
    return whole, parts


def _judge_strangers(
    problem: Problem, found: set[str], strangers: list[str], derived: set[str]
) -> None:
    """Refuse what is misspelt, and say what is left out."""
    known = set(problem.default_parameters)
    missing = sorted(known - found)
    strangers = [
        n
        for n in strangers
        if not n.endswith("__") and not n.startswith(".") and n.lower() not in OF_SAMPLERS
    ]
    for name in strangers:
        entry = ENTRY.fullmatch(name)
        name = entry[1] if entry else name
        meant = nearest(name, missing)
        if meant and name not in derived:
            raise InvalidInputError(
                f"the problem has no parameter {name!r}",
                accepted=", ".join(sorted(known)),
                remedy=f"{meant!r}, or cb.from_draws(problem, draws, "
                f"names={{{name!r}: {meant!r}}})",
            )
    needed = [n for n in missing if n in problem.uncertain]
    if not found or (needed and strangers):
        meant = (needed or missing or ["temperature"])[0]
        raise InvalidInputError(
            f"there are no draws of {', '.join(needed or missing)}"
            if found
            else "the posterior has none of the problem's parameters",
            received=", ".join(sorted({*found, *strangers})[:20]) or "none",
            accepted=", ".join(sorted(known)),
            remedy="cb.from_draws(problem, draws, names={"
            + f"{(strangers or ['your name'])[0]!r}: {meant!r}"
            + "}), or leave out what is not the problem's",
        )
    foreign = [n for n in strangers if n not in derived]
    if foreign:
        default = f"; these keep their default: {', '.join(missing)}" if missing else ""
        warnings.warn(
            f"draws of {', '.join(foreign[:10])} are left out: the problem has no such "
            f"parameters{default}",
            UserWarning,
            stacklevel=5,
        )


def _labelled(name: str, value: Any) -> xr.DataArray:
    """Return an array with named axes; the first axis of a bare one is ``draw``."""
    if isinstance(value, xr.DataArray):
        return value
    try:
        if np.ma.isMaskedArray(value):
            value = np.ma.filled(value.astype(float), np.nan)
        array = np.asarray(value)
    except (TypeError, ValueError):
        array = np.zeros(())
    if array.ndim == 0 or not array.size:
        raise InvalidInputError(
            f"draws of {name!r} cannot be used",
            received=f"shape {array.shape}",
            accepted="{parameter name: array of shape (draws, ...)}",
        )
    axes = (f"{name}_dim_{axis}" for axis in range(array.ndim - 1))
    return xr.DataArray(array, dims=("draw", *axes))


def _put_together(name: str, entries: Entries) -> xr.DataArray:
    """Return one array of its single entries, which must be there all."""
    depth = {len(index) for index in entries}
    axes: list[list[str]] = [list(dict.fromkeys(one)) for one in zip(*entries, strict=False)]
    if len(depth) != 1 or len(entries) != int(np.prod([len(labels) for labels in axes])):
        raise InvalidInputError(
            f"entries of {name!r} are missing",
            received=", ".join(",".join(index) for index in entries),
            accepted="one for each combination of indices",
        )
    arrays = {index: leading(name, _labelled(name, value)) for index, value in entries.items()}
    first = next(iter(arrays.values()))
    if any(array.shape != first.shape for array in arrays.values()):
        raise InvalidInputError(f"entries of {name!r} differ in their numbers of draws")
    shape = tuple(len(labels) for labels in axes)
    stacked = np.empty((*first.shape, *shape), np.result_type(*arrays.values()))
    for index, array in arrays.items():
        place: Any = [labels.index(label) for labels, label in zip(axes, index, strict=True)]
        stacked[(Ellipsis, *place)] = array.values
    coords: dict[str, Any] = {dim: first[dim].values for dim in DRAWS}
    for axis, labels in enumerate(axes):
        numbers = all(label.isdecimal() for label in labels)
        coords[f"{name}_dim_{axis}"] = list(map(int, labels)) if numbers else labels
    return xr.DataArray(stacked, coords, (*DRAWS, *(f"{name}_dim_{i}" for i in range(len(axes)))))
