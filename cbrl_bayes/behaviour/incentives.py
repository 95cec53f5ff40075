"""The incentive of every regime: attach it to behaviour, and compare it with what is possible."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import xarray as xr

from cbrl_bayes.errors import DataError, require_kind
from cbrl_bayes.problems import Problem, reach_of

BASELINE = "baseline"
"""The regime that behaviour is in where none is named: no incentive."""

SLACK = 1e-6
"""Share of the larger bound by which a stated incentive may miss one."""


def with_incentives(data: xr.Dataset, incentives: Mapping[Any, Mapping[str, Any]]) -> xr.Dataset:
    """Return behaviour with the incentive of every regime stated.

    Parameters
    ----------
    data : xarray.Dataset
        Trajectories. Incentives stated before are replaced.
    incentives : mapping
        regime -> {incentive name: numbers in readable units}. ``{}``: a regime without
        incentive. A name that one regime leaves out counts as 0 there.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    DataError
        If the numbers are no finite numbers, or one incentive has several shapes.

    Examples
    --------
    >>> from cbrl_bayes.behaviour import make_trajectories
    >>> data = make_trajectories([[0], [0]], [[0], [1]], regime=["today", "pilot"])
    >>> data = with_incentives(data, {"today": {}, "pilot": {"bonus": 0.4}})
    >>> data.incentive_bonus.values.tolist()
    [0.0, 0.4]
    """
    require_kind(data, xr.Dataset, "data", "data = cb.load_trajectories(path)")
    require_kind(incentives, Mapping, "incentives", "{'pilot': {'bonus': 0.4}, 'today': {}}")
    regimes = [str(regime) for regime in incentives]
    if len(set(regimes)) < len(regimes):
        raise DataError("a regime is stated twice", received=regimes)
    for regime, stated in zip(regimes, incentives.values(), strict=True):
        require_kind(stated, Mapping, f"the incentive of regime {regime!r}", "{'bonus': 0.4}")
    data = data.drop_vars([str(name) for name in data.variables if _is_stated(str(name))])
    data = data.assign_coords(regime_name=("regime_index", np.array(regimes, dtype=str)))
    for name in sorted({str(name) for stated in incentives.values() for name in stated}):
        given = {
            regime: _numbers(name, regime, stated[name])
            for regime, stated in zip(regimes, incentives.values(), strict=True)
            if name in stated
        }
        shapes = {array.shape for array in given.values()}
        if len(shapes) > 1:
            raise DataError(
                f"incentive {name!r} has several shapes",
                received=", ".join(f"{r!r}: {array.shape}" for r, array in given.items()),
                accepted="one shape for all regimes",
            )
        none = np.zeros(shapes.pop())
        dims = ("regime_index", *(f"{name}_dim_{axis}" for axis in range(none.ndim)))
        rows = [given.get(regime, none) for regime in regimes]
        data[f"incentive_{name}"] = (dims, np.stack(rows))
    return data


def regimes_stated(data: xr.Dataset) -> list[str] | None:
    """Return the regimes whose incentive is stated; None if nothing is said about any."""
    if "regime_name" not in data.variables:
        return None
    return [str(name) for name in data["regime_name"].values]


def none_is_stated(problem: Problem) -> str:
    """Say what behaviour without any stated incentive is taken for."""
    nothing = ", ".join(f"{name} = 0" for name in problem.incentive.labels)
    return f"no incentive is stated: the behaviour counts as without any ({nothing})"


def incentive_violations(data: xr.Dataset, problem: Problem) -> Iterator[str]:
    """Yield one sentence per fault of the regimes and their incentives."""
    regimes = sorted(set(map(str, data["regime"].values)))
    stated = regimes_stated(data)
    variables = {
        str(name).removeprefix("incentive_"): data[name]
        for name in data.data_vars
        if str(name).startswith("incentive_")
    }
    if stated is None and variables:
        yield "incentives are given without the names of their regimes (coordinate regime_name)"
        return
    known = dict(problem.incentive.labels)
    if stated is None and (len(regimes) > 1 or regimes != [BASELINE]):
        example = ", ".join(f"{regime!r}: {{{next(iter(known))!r}: ...}}" for regime in regimes[:3])
        yield (
            f"regimes {regimes} are named and their incentives are not stated: state each, "
            "{} where there was none, with incentives= or "
            f"cb.with_incentives(data, {{{example}}})"
        )
    if stated is not None and len(set(stated)) < len(stated):
        yield f"regime_name has names twice: {stated}"
    absent = sorted(set(regimes) - set(regimes if stated is None else stated))
    if absent:
        yield f"regimes {absent} have no incentive, accepted: {stated}"
    foreign = sorted(set(variables) - set(known))
    if foreign:
        yield f"unknown incentives {foreign}, accepted: {', '.join(known)}"
    shapes = jax.eval_shape(problem.incentive.transform, problem.incentive.initial)
    for name in sorted(set(variables) & set(known)):
        array = variables[name]
        if array.dims[:1] != ("regime_index",) or array.shape[1:] != shapes[name].shape:
            yield (
                f"incentive_{name} has shape {array.shape[1:]} per regime, "
                f"accepted: {shapes[name].shape}"
            )
        elif array.dtype.kind not in "iuf" or not np.isfinite(array.values).all():
            yield f"incentive_{name} is not made of finite numbers"


def incentive_notes(data: xr.Dataset, problem: Problem) -> Iterator[str]:
    """Yield one sentence per stated incentive that the leader could not choose."""
    names = [
        name
        for name in problem.incentive.labels
        if f"incentive_{name}" in data and data[f"incentive_{name}"].values.any()
    ]
    if not names:
        return
    reach = reach_of(problem.incentive)
    for name in names:
        low, high = reach[name]
        values = data[f"incentive_{name}"].values
        slack = SLACK * np.maximum(
            *(np.where(np.isfinite(end), abs(end), 0.0) for end in (low, high))
        )
        out = (values != 0.0) & ((values < low - slack) | (values > high + slack))
        for regime in np.flatnonzero(out.reshape(len(out), -1).any(1)):
            place = np.unravel_index(np.argmax(out[regime]), low.shape)
            value, unit = values[regime][place], problem.incentive.labels[name].unit
            where = f"{name}{list(map(int, place))}" if low.ndim else name
            yield (
                f"regime {str(data['regime_name'].values[regime])!r} has the incentive {where} = "
                f"{value:g}, but the problem can choose {low[place]:g} to {high[place]:g} only: "
                f"is it in the problem's unit{f' ({unit})' if unit else ''}?"
            )


def _is_stated(name: str) -> bool:
    return name == "regime_name" or name.startswith("incentive_")


def _numbers(name: str, regime: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise DataError(
            f"incentive {name!r} of regime {regime!r} is not made of finite numbers",
            received=value,
            accepted="numbers in the unit of the incentive; {} or 0 where there is none",
        )
    return array.astype(float)
