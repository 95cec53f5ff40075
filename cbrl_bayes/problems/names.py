"""Names that a problem may not use: results and data use them, or no file can hold them."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from cbrl_bayes.errors import InvalidInputError

if TYPE_CHECKING:
    from cbrl_bayes.problems.record import Problem

DRAW_AXES = ("chain", "draw")
AXES = (
    *DRAW_AXES,
    "context",
    "follower",
    "state",
    "action",
    "episode",
    "step",
    "choice",
    "decision_point",
    "design",
    "iteration",
)
"""Axes of results and data."""

SITES = (
    "context_probability",
    "context_count",
    "context_value",
    "action_count",
    "decision_state",
    "decision_context",
    "decision_follower",
    "solve_status",
    "latent_contexts",
    "transitions",
    "behaviour",
)
"""Variables that a fit has beside the parameters."""

OF_HIERARCHY = (
    "_population",
    "_spread",
    "_offset",
    "_entry",
    "_first",
    "_trend",
    "_next",
    "_by_period",
)
"""What a fit or a study appends to the name of a parameter."""

BESIDE_DESIGNS = (
    *DRAW_AXES,
    "design",
    "coordinate",
    "iteration",
    "restart",
    "objective",
    "objective_standard_error",
    "objective_context_error",
    "leader_objective",
    "incentive_cost",
    "follower_value",
    "final_gradient_norm",
    "gain_at_stop",
    "lowest_incentive",
    "highest_incentive",
    "regret",
    "solve_status",
    "status",
    "source",
    "unconstrained",
    "restart_objective",
    "incentive",
)
"""Axes and variables that results have beside the incentive."""


def check_names(problem: "Problem") -> None:
    """Raise for every name that results would lose or a file could not hold, all at once."""
    found = [*_of_parameters(problem), *_of_incentives(problem), *_of_nothing(problem)]
    if not isinstance(problem.name, str) or not problem.name.strip():
        found.append(f"the name {problem.name!r} itself is no text or empty")
    if found:
        raise InvalidInputError(
            f"problem {problem.name!r} has names that cannot be used: " + "; ".join(found),
            remedy="other names; words for readers and units belong into description= and unit=",
        )


def _of_parameters(problem: "Problem") -> Iterator[str]:
    own = set(problem.parameters)
    of_contexts = set(problem.contexts.default_parameters)
    for name in sorted(own | of_contexts, key=str):
        yield from _unfit("parameter", name)
    for name in sorted(map(str, own & of_contexts)):
        yield f"parameter {name!r} is also a parameter of the contexts"
    reserved = {*AXES, *SITES} - (of_contexts & {"context_probability"})
    for name in sorted(map(str, (own | of_contexts) & reserved)):
        yield f"parameter {name!r}: results use this name for something else"
    for name in sorted(map(str, own | of_contexts)):
        for end in OF_HIERARCHY:
            if name.endswith(end) and name.removesuffix(end) in own | of_contexts:
                yield f"parameter {name!r}: a fit makes this name of {name.removesuffix(end)!r}"
    derived = set(problem.derived(problem.default_parameters))
    for name in sorted(map(str, derived & (own | of_contexts))):
        yield f"parameter {name!r} is also derived from the others (derived_fn)"
    for name in sorted(derived, key=str):
        yield from _unfit("derived quantity", name)
    for name in sorted(map(str, derived & {*AXES, *SITES})):
        yield f"derived quantity {name!r}: results use this name for something else"


def _of_incentives(problem: "Problem") -> Iterator[str]:
    shapes = {
        name: np.shape(array)
        for name, array in problem.incentive.transform(problem.incentive.initial).items()
    }
    sizes: dict[str, int] = {}
    values: dict[str, Any] = {}
    for name, label in problem.incentive.labels.items():
        yield from _unfit("incentive", name)
        for axis, size in zip(label.dims, shapes[name], strict=True):
            yield from _unfit(f"axis of incentive {name!r}", axis)
            if axis in problem.incentive.labels:
                yield f"axis {axis!r} of incentive {name!r} has the name of an incentive"
            if axis in BESIDE_DESIGNS:
                yield f"axis {axis!r} of incentive {name!r}: results use this name"
            if sizes.setdefault(axis, size) != size:
                yield f"axis {axis!r} of incentive {name!r} has another length elsewhere"
        for coordinate, labels in label.coords.items():
            yield from _unfit(f"coordinate of incentive {name!r}", coordinate)
            if coordinate in BESIDE_DESIGNS:
                yield f"coordinate {coordinate!r} of incentive {name!r}: results use this name"
            given = (tuple(labels[0]), np.asarray(labels[1], object).tolist())
            if values.setdefault(coordinate, given) != given:
                yield f"coordinate {coordinate!r} of incentive {name!r} differs elsewhere"
            if given[0] == (coordinate,) and _twice(given[1]):
                yield f"axis {coordinate!r} of incentive {name!r} has labels twice: " + ", ".join(
                    map(repr, _twice(given[1]))
                )


def _of_nothing(problem: "Problem") -> Iterator[str]:
    """Say where a field of the problem names what it does not have."""
    known = set(problem.default_parameters)
    named = {
        "uncertain": (problem.uncertain, known),
        "per_follower": (problem.per_follower, known | {"temperature"}),  # the default
        "laws": (problem.laws, known),
        "ranges": (problem.ranges, known),
    }
    for field, (names, accepted) in named.items():
        if isinstance(names, str):
            yield f"{field} is the text {names!r}, accepted: names in a tuple, ({names!r},)"
            continue
        absent = sorted(set(names) - accepted, key=str)
        if absent:
            yield f"{field} names no parameters of the problem: {', '.join(map(repr, absent))}"
    if _twice(problem.action_names):
        yield f"action_names has names twice: {', '.join(map(repr, _twice(problem.action_names)))}"


def _twice(labels: Iterable[Any]) -> list[Any]:
    return [label for label, count in Counter(map(str, labels)).items() if count > 1]


def _unfit(what: str, name: Any) -> Iterator[str]:
    """Say why a name fits no file."""
    if not isinstance(name, str):
        yield f"{what} {name!r} is no text"
    elif not name or name != name.strip() or not name.isprintable():
        yield f"{what} {name!r} is empty, or has blanks around it or signs that cannot be printed"
    elif "/" in name:
        yield f"{what} {name!r} has a '/', which stands for a folder in files of results"
