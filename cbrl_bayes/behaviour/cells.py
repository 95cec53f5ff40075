"""What each episode was played under: its context, its group and the incentive of its regime."""

from typing import Any

import numpy as np
import xarray as xr

from cbrl_bayes.errors import DataError
from cbrl_bayes.problems import DiscreteContexts, Problem

UNSEEN = -1
"""Index of a context that was not observed."""


def contexts_of(problem: Problem, data: xr.Dataset) -> tuple[np.ndarray, Any, int]:
    """Return each episode's context as an index, the values of the contexts, and their number."""
    if isinstance(problem.contexts, DiscreteContexts):
        position = {name: index for index, name in enumerate(problem.contexts.names)}
        position[""] = UNSEEN
        context = np.array([position[str(name)] for name in data["context"].values])
        return context, problem.contexts.values, problem.contexts.num_contexts
    if "context_value" not in data or not np.isfinite(data["context_value"].values).all():
        raise DataError(
            "contexts of this problem are numbers: the data need a variable context_value "
            "(episode) with the observed contexts, all finite"
        )
    values, context = np.unique(data["context_value"].values, return_inverse=True)
    return context, values, len(values)


def groups_of(problem: Problem, names: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """List the groups; where they are the problem's followers, in the followers' own order."""
    order = problem.followers.names
    if set(names) <= set(order):
        return order, np.array([order.index(str(name)) for name in names])
    groups, group = np.unique(names, return_inverse=True)
    return tuple(map(str, groups)), group


def incentives_of(problem: Problem, data: xr.Dataset, regimes: np.ndarray) -> dict[str, np.ndarray]:
    """Return the incentives of the regimes, shape (R, ...) each; 0 where none is stated."""
    stacked = {}
    for name, shape in problem.incentive.shapes.items():
        table = np.zeros((len(regimes), *shape))
        if f"incentive_{name}" in data:
            known = [str(value) for value in data["regime_name"].values]
            table = data[f"incentive_{name}"].values[[known.index(str(r)) for r in regimes]]
        stacked[name] = table
    return stacked


def state_in_words(problem: Problem, state: int) -> str:
    """Return a state's number and what its labels call it."""
    labels = [
        f"{values[state]}" if name == "state" else f"{name} {values[state]}"
        for name, (dims, values) in problem.state_labels.coords.items()
        if len(dims) == 1
    ]
    return f"state {state}" + (f" ({', '.join(labels)})" if labels else "")
