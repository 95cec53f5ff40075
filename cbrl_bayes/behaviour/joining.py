"""Put data sets together: several files, waves or regimes make one."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from cbrl_bayes.behaviour.check import check_trajectories
from cbrl_bayes.behaviour.incentives import regimes_stated, with_incentives
from cbrl_bayes.behaviour.schema import EPISODE_TEXT, MISSING, SCHEMA
from cbrl_bayes.errors import DataError, require_kind

FILLS = {"state": MISSING, "action": MISSING, "successor_slot": MISSING, "choice_observed": True}


def concatenate(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Return one data set with the episodes of several.

    Followers, groups, contexts and regimes of one name are the same in all. Regimes may differ;
    a regime that occurs in several must have the same incentive. An incentive that a data set does
    not know counts as 0 there. Where transitions or observed choices are not recorded in one
    of them, its successor slots are -1 and its choices count. Notes of all are kept.

    Parameters
    ----------
    parts : sequence of xarray.Dataset
        Trajectories.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    DataError
        If one regime has two incentives, or only some parts have numbers as contexts.

    Examples
    --------
    >>> from cbrl_bayes.behaviour import make_trajectories
    >>> parts = [make_trajectories([[0]], [[1]], regime=[name], incentives={name: {"bonus": bonus}})
    ...          for name, bonus in (("low", 0.4), ("high", 1.2))]
    >>> concatenate(parts).incentive_bonus.values.tolist()
    [0.4, 1.2]
    """
    require_kind(parts, list | tuple, "parts", "[first, second]")
    if not parts:
        raise DataError("there are no data sets to put together")
    for part in parts:
        check_trajectories(part)
    longest = max(part.sizes["step"] for part in parts)
    variables: dict[str, Any] = {
        name: (("episode", "step"), np.concatenate([_padded(p, name, longest) for p in parts]))
        for name in FILLS
        if any(name in part for part in parts)
    }
    variables |= {
        name: ("episode", np.concatenate([part[name].values.astype(str) for part in parts]))
        for name in EPISODE_TEXT
    }
    with_values = [part for part in parts if "context_value" in part]
    if with_values and len(with_values) < len(parts):
        raise DataError(
            "only some data sets have numbers as contexts (context_value)",
            received=f"{len(with_values)} of {len(parts)}",
        )
    if with_values:
        values = np.concatenate([part["context_value"].values for part in parts])
        variables["context_value"] = ("episode", values)
    notes = dict.fromkeys(n for part in parts for n in json.loads(part.attrs.get("notes", "[]")))
    attrs = {"schema": SCHEMA} | ({"notes": json.dumps([*notes])} if notes else {})
    data = xr.Dataset(variables, attrs=attrs)
    stated = _stated(parts)
    return with_incentives(data, stated) if stated else data


def _padded(part: xr.Dataset, name: str, steps: int) -> np.ndarray:
    """Return a variable at the common length; its filling where a part lacks it."""
    fill = FILLS[name]
    shape = (part.sizes["episode"], steps)
    table = np.full(shape, fill, dtype=bool if name == "choice_observed" else np.int32)
    if name in part:
        table[:, : part.sizes["step"]] = part[name].values
    return table


def _stated(parts: Sequence[xr.Dataset]) -> dict[str, dict[str, np.ndarray]]:
    """Return the incentives of all regimes; raise where one has two."""
    found: dict[str, dict[str, np.ndarray]] = {}
    unstated: set[str] = set()
    for part in parts:
        stated = regimes_stated(part)
        unstated |= set(map(str, part["regime"].values)) - set(stated or [])
        for row, regime in enumerate(stated or []):
            incentive = {
                str(name).removeprefix("incentive_"): part[name].values[row]
                for name in part.data_vars
                if str(name).startswith("incentive_")
            }
            if not _equal(incentive, found.setdefault(regime, incentive)):
                raise DataError(
                    f"regime {regime!r} has two incentives",
                    received=f"{_listed(found[regime])} and {_listed(incentive)}",
                    remedy="give the regimes of one data set other names",
                )
    both = sorted(unstated & set(found))
    if both:
        raise DataError(
            f"the incentive of regimes {both} is stated in one data set and not in another",
            remedy="cb.with_incentives states it, or give the regimes other names",
        )
    return found


def _equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    """Compare two incentives; what one of them leaves out is 0."""
    shared = one.keys() & other.keys()
    only = [{**one, **other}[name] for name in one.keys() ^ other.keys()]
    return all(np.array_equal(one[n], other[n]) for n in shared) and not any(map(np.any, only))


def _listed(incentive: dict[str, np.ndarray]) -> str:
    return ", ".join(f"{n} = {v.tolist()}" for n, v in incentive.items()) or "none"
