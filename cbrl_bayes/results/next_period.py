"""Draws of a parameter that drifts, as draws of what it will be in the next period."""

import json
from typing import Any

import numpy as np
import xarray as xr

from cbrl_bayes.inference.drift import NEXT
from cbrl_bayes.problems import Problem

BY_PERIOD = "_by_period"
"""Ending of the name under which a study keeps the values of the periods that were seen."""
DRAW = ("chain", "draw")


def for_next_period(problem: Problem, tree: xr.DataTree) -> xr.DataTree:
    """Put the values of the next period in the place of those of the past.

    Parameters
    ----------
    problem : Problem
    tree : xarray.DataTree
        From `infer`. Without a `Drift` it comes back as it is.

    Returns
    -------
    xarray.DataTree
        With each drifting parameter as one number a draw, that of the next period; the values of
        the past periods under ``<name>_by_period``; and the attribute ``next_period``: name ->
        the share of the variance of its logarithm that is the step into the next period.
    """
    posterior = tree["posterior"].to_dataset()
    drifting = [
        name
        for name in problem.default_parameters
        if f"{name}{NEXT}" in posterior and "follower" in posterior[name].dims
    ]
    if not drifting:
        return tree
    values = {n: posterior[n] for n in problem.default_parameters if n in posterior}
    shares = {}
    for name in drifting:
        coming = posterior[f"{name}{NEXT}"]
        last, ahead = (np.log(one).var() for one in (posterior[name].isel(follower=-1), coming))
        shares[name] = float(1.0 - min(1.0, last / ahead)) if float(ahead) > 0.0 else 0.0
        values[name] = coming.assign_attrs(posterior[name].attrs)
    now: dict[str, Any] = {name: values[name] for name in drifting}
    known = problem.default_parameters | {name: one.values for name, one in values.items()}
    for name, value in problem.derived(known).items():
        if name in posterior and "follower" in posterior[name].dims:
            now[name] = (DRAW, np.asarray(value))
    past = {f"{name}{BY_PERIOD}": posterior[name].rename(follower="period") for name in now}
    gone = [*now, *(f"{name}{NEXT}" for name in drifting)]
    changed = posterior.drop_vars(gone).drop_vars("follower").assign(now).assign(past)
    copy = tree.copy()
    copy["posterior"] = xr.DataTree(changed)
    copy.attrs = {**tree.attrs, "next_period": json.dumps(shares)}
    return copy


def drift_notes(tree: xr.DataTree) -> list[str]:
    """Say that a design is for the next period, and how much of what is unknown is the step."""
    shares = json.loads(tree.attrs.get("next_period", "{}"))
    return [
        f"{name} drifts: designs are for the next period; {100 * share:.0f} % of the variance of "
        f"its logarithm is the change from the last period to the next"
        for name, share in shares.items()
    ]
