"""One parameter's draws put into the problem's order: axes by name, entries by label."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.problems import LAW, DiscreteContexts, Problem
from cbrl_bayes.results.dynamics import law_dims
from cbrl_bayes.results.schema import DRAWS, repeated

ROUNDING = 1e-5
"""Distributions may miss one by so much: tables hold six digits, other tools single precision."""


def as_numbers(name: str, value: Any) -> np.ndarray:
    """Return draws as float64; refuse what is no number or does not fit.

    Examples
    --------
    >>> as_numbers("temperature", [1, 2]).tolist()
    [1.0, 2.0]
    """
    if isinstance(value, pd.Series) and pd.api.types.is_numeric_dtype(value):
        value = value.to_numpy(float, na_value=np.nan) if value.isna().any() else value.to_numpy()
    try:
        array = np.asarray(value)
        whole = array.dtype.kind in "iu"
        fits = array.dtype.kind in "iuf"
        floats = array.astype(float) if fits else np.zeros(0)
    except (TypeError, ValueError) as error:  # ragged lists, odd objects
        raise _no_numbers(name, type(value).__name__) from error
    if not fits or (whole and (floats.astype(array.dtype) != array).any()):
        raise _no_numbers(name, f"an array of type {array.dtype}")
    if not np.isfinite(floats).all():
        raise InvalidInputError(
            f"draws of {name!r} are not finite",
            received=f"{int((~np.isfinite(floats)).sum())} of {floats.size} numbers",
            remedy="look at what made them; leave out the draws that failed",
        )
    return floats


def leading(name: str, array: xr.DataArray) -> xr.DataArray:
    """Return the array with the axes ``chain`` and ``draw`` first; an absent one is put in.

    Raises
    ------
    InvalidInputError
        If it has neither, or labels of either occur twice.
    """
    if "sample" in array.dims and isinstance(array.indexes.get("sample"), pd.MultiIndex):
        array = array.drop_vars(["sample", *DRAWS], errors="ignore").rename(sample="draw")
    if not set(DRAWS) & {*array.dims, *array.coords}:
        raise InvalidInputError(
            f"draws of {name!r} have neither an axis 'chain' nor an axis 'draw'",
            received=f"axes {', '.join(map(str, array.dims)) or 'none'}",
            remedy="array.rename({'your axis': 'draw'})",
        )
    for dim in DRAWS:
        if dim not in array.dims:
            array = array.expand_dims({dim: np.atleast_1d(array.coords.get(dim, 0))})
        elif dim not in array.coords:
            array = array.assign_coords({dim: np.arange(array.sizes[dim])})
        if repeated(array[dim].values):
            raise InvalidInputError(
                f"labels of the axis {dim!r} of {name!r} occur twice",
                received=repeated(array[dim].values)[:5],
                remedy=f"assign_coords({dim}=range({array.sizes[dim]})) if these are different "
                "draws",
            )
    return array.transpose(*DRAWS, ...)


def fitted(
    problem: Problem, name: str, array: xr.DataArray, *, keep_axes: bool = False
) -> xr.DataArray:
    """Return draws of one of the problem's parameters, with its axes in the problem's order.

    Parameters
    ----------
    problem : Problem
    name : str
    array : DataArray
        In the order of `leading`.
    keep_axes : bool
        Whether axes other than those of contexts and followers keep their names and labels.

    Raises
    ------
    InvalidInputError
        For a shape or labels that are not the problem's.
    """
    array = array.copy(data=as_numbers(name, array.values))
    axes = [str(dim) for dim in array.dims[2:]]
    names = dict(zip(axes, _axis_names(problem, name, array), strict=True))
    labels = {"context": _contexts(problem), "follower": _followers(problem, array)}
    for dim, new in names.items():
        array = _in_order(name, array, dim, labels.get(new), is_free=new == "follower")
    kept = {dim: new for dim, new in names.items() if not keep_axes or new in labels}
    spare = [c for c in array.coords if c not in DRAWS and set(array[c].dims) & {*kept}]
    texts = {
        new: labels[new] or tuple(map(str, array[dim].values))
        for dim, new in kept.items()
        if new in labels and (labels[new] or dim in array.coords)
    }
    spare += [c for c in array.coords if c not in DRAWS and not array[c].dims]
    array = (
        array.drop_vars(spare)
        .rename(kept)
        .assign_coords({new: list(entries) for new, entries in texts.items()})
    )
    return _summing_to_one(problem, name, array).rename(name)


def _axis_names(problem: Problem, name: str, array: xr.DataArray) -> list[str]:
    """Return what the problem calls the axes beyond chain and draw; refuse another shape."""
    wanted, found = np.shape(problem.default_parameters[name]), array.shape[2:]
    num = problem.followers.num_followers
    if name in problem.per_follower and found == ():
        return []  # one value for all
    if name in problem.per_follower and len(found) == 1 and len(wanted) <= 1:
        if found == (num,) or (num == 1 and array.dims[2] == "follower"):
            return ["follower"]
    elif name == "context_probability" and found == wanted and _contexts(problem):
        return ["context"]
    if found != wanted:
        raise InvalidInputError(
            f"draws of {name!r} do not fit the problem",
            received=f"shape {found} for each draw",
            accepted=f"shape {wanted}"
            + (f" or ({num},)" if name in problem.per_follower and num > 1 else ""),
            remedy=_remedy(problem, name, array),
        )
    if name == LAW and len(found) > 2:
        return law_dims(len(found))
    return [f"{name}_dim_{axis}" for axis in range(len(found))]


def _remedy(problem: Problem, name: str, array: xr.DataArray) -> str:
    if name in problem.per_follower and array.ndim == 3:
        return (
            "with one value per group, name the axis 'follower' and give it the groups' names; "
            "with axes (chain, draw): az.from_dict({'posterior': draws})"
        )
    return "draws go along the first axis; with axes (chain, draw): az.from_dict(...)"


def _contexts(problem: Problem) -> tuple[str, ...]:
    found = problem.contexts
    return tuple(map(str, found.names)) if isinstance(found, DiscreteContexts) else ()


def _followers(problem: Problem, array: xr.DataArray) -> tuple[str, ...]:
    """Return the followers' names; none where groups of the draws become the followers."""
    names = tuple(map(str, problem.followers.names))
    return names if len(names) > 1 or array.sizes.get("follower", 1) == 1 else ()


def _no_numbers(name: str, received: str) -> InvalidInputError:
    return InvalidInputError(
        f"draws of {name!r} cannot be used",
        received=received,
        accepted="finite numbers that 64-bit floats hold",
    )


def _in_order(
    name: str, array: xr.DataArray, dim: str, wanted: Sequence[str] | None, *, is_free: bool
) -> xr.DataArray:
    """Put the entries along one axis into the order of ``wanted``, or of their numbers."""
    named = [c for c in array.coords.values() if c.dims == (dim,) and c.dtype.kind in "OSUT"]
    for coord in named:
        texts = [v.decode() if isinstance(v, bytes) else str(v) for v in coord.values]
        if repeated(texts):
            raise InvalidInputError(
                f"labels of the axis {dim!r} of {name!r} occur twice", received=repeated(texts)
            )
        if wanted and set(texts) == set(wanted):
            return array.isel({dim: [texts.index(label) for label in wanted]})
    if is_free and not wanted:
        if dim in array.coords and repeated(map(str, array[dim].values)):
            raise InvalidInputError(
                f"groups of {name!r} have one name", received=repeated(map(str, array[dim].values))
            )
        return array
    if named and not (wanted and len(wanted) == 1 and is_free):
        raise InvalidInputError(
            f"labels of the axis {dim!r} of {name!r} are not the problem's",
            received=", ".join(map(str, named[0].values[:10])),
            accepted=", ".join(wanted[:10]) if wanted else "no labels, or the numbers 0, 1, ...",
            remedy=f"draws.drop_vars({str(named[0].name)!r}) if they are in the problem's order",
        )
    if dim not in array.coords:
        return array
    numbers = array[dim].values
    order = np.argsort(numbers, kind="stable")
    first = [numbers[order] - begin for begin in (0, 1)]
    if not any(np.array_equal(found, np.arange(len(numbers))) for found in first):
        raise InvalidInputError(
            f"labels of the axis {dim!r} of {name!r} cannot be told apart",
            received=numbers[:10].tolist(),
            accepted="0, 1, ... or 1, 2, ..."
            + (f", or the names {', '.join(wanted[:10])}" if wanted else ""),
        )
    return array.isel({dim: order})


def _summing_to_one(problem: Problem, name: str, array: xr.DataArray) -> xr.DataArray:
    """Divide distributions by their sums where only digits are missing."""
    if name not in {"context_probability", *problem.laws} or array.ndim < 3:
        return array
    total = array.values.sum(-1, keepdims=True)
    near = bool((abs(total - 1.0) < ROUNDING).all())
    exact = bool((abs(total - 1.0) < 1e-12).all())
    return array.copy(data=array.values / total) if near and not exact else array
