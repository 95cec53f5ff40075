"""From an incentive one can read to the leader's choice before its transform, checked."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from cbrl_bayes.errors import InvalidInputError

if TYPE_CHECKING:
    from cbrl_bayes.problems.incentive import IncentiveSpace, Labels

NO_INCENTIVE = "no incentive"
CLOSE = 1e-6
"""How near the transform must come, as a share of the incentive's size."""
NEARLY, EXACT = 1e-7, 1e-12
"""A descent that ends so near ends the search; one that comes so near ends at once."""
SPREADS = (0.0, 0.3, 1.0, 3.0, 3.0, 10.0)
"""Standard deviations of the starts that follow the space's own initial choice."""


def readable_arrays(
    space: "IncentiveSpace", incentive: Mapping[str, Any] | str
) -> dict[str, np.ndarray]:
    """Return an incentive in readable values as the arrays that the transform returns.

    Parameters
    ----------
    space : IncentiveSpace
    incentive : mapping or "no incentive"
        Name -> array; or one number for all its entries; or label -> number for an array whose
        single axis has labels; or a labelled array (with ``dims`` and ``coords``, as of xarray).

    Raises
    ------
    InvalidInputError
        For names, labels or shapes that are not the space's, and what is no finite number.
    """
    shapes = {n: a.shape for n, a in jax.eval_shape(space.transform, space.initial).items()}
    if isinstance(incentive, str) and incentive == NO_INCENTIVE:
        return {name: np.zeros(shape) for name, shape in shapes.items()}
    if not isinstance(incentive, Mapping):
        raise InvalidInputError(
            "an incentive cannot be read",
            received=repr(incentive)[:80],
            accepted=f"{{{', '.join(f'{n!r}: value' for n in shapes)}}} or {NO_INCENTIVE!r}",
        )
    if set(incentive) != set(shapes):
        foreign = [str(name) for name in incentive if name not in shapes]
        near = difflib.get_close_matches((foreign or [""])[0], shapes, n=1)
        raise InvalidInputError(
            "the names of an incentive are not the problem's",
            received=", ".join(map(str, incentive)) or "none",
            accepted=f"all of {', '.join(shapes)}, in readable values",
            remedy=f"{near[0]!r}" if near else "",
        )
    return {
        name: _entries(name, space.labels[name], shape, incentive[name])
        for name, shape in shapes.items()
    }


def unconstrained_for(space: "IncentiveSpace", wanted: Mapping[str, np.ndarray]) -> Any:
    """Return the choice whose transform is ``wanted``; see `IncentiveSpace.unconstrained_for`."""
    from scipy.optimize import least_squares  # a moment of imports, when first asked for

    target = np.concatenate([np.ravel(wanted[name]) for name in sorted(wanted)])

    def forward(point: Any) -> Any:
        named = space.transform(space.unflatten(point))
        return jnp.concatenate([jnp.ravel(named[name]) for name in sorted(named)])

    run: Callable[[Any], Any] = jax.jit(forward)
    slope: Callable[[Any], Any] = jax.jit(jax.jacrev(forward))
    first = np.asarray(space.flatten(space.initial))
    sizes = _sizes(wanted, np.asarray(run(first)))

    def misfit(point: np.ndarray) -> np.ndarray:
        apart = (np.asarray(run(point)) - target) / sizes
        if np.abs(apart).max(initial=0.0) <= EXACT:
            raise _FoundError(point)
        return np.nan_to_num(apart, nan=1e6, posinf=1e6, neginf=-1e6)

    def scaled_slope(point: np.ndarray) -> np.ndarray:
        return np.nan_to_num(np.asarray(slope(point)) / sizes[:, None])

    best, least = first, np.inf
    for start in _starts(first):
        try:
            found = least_squares(
                misfit, start, scaled_slope, xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=100
            )
        except _FoundError as exact:
            return space.unflatten(exact.point)
        distance = float(np.abs(found.fun).max(initial=0.0))
        if distance < least:
            best, least = found.x, distance
        if least <= NEARLY:
            break
    if least > CLOSE:
        reached = space.transform(space.unflatten(jnp.asarray(best)))
        raise InvalidInputError(
            "no choice of the leader gives this incentive",
            received={name: _short(value) for name, value in wanted.items()},
            accepted=f"what the transform reaches; the nearest found is "
            f"{ {name: _short(np.asarray(value)) for name, value in reached.items()} }",
        )
    return space.unflatten(best)


def has_zero(space: "IncentiveSpace") -> bool:
    """Whether the leader can leave followers alone: all of the incentive at 0, or next to it.

    Examples
    --------
    >>> from cbrl_bayes.problems import two_state
    >>> has_zero(two_state().incentive)
    True
    """
    try:
        unconstrained_for(space, readable_arrays(space, NO_INCENTIVE))
    except InvalidInputError:
        return False
    return True


class _FoundError(Exception):
    """A point whose transform is what is wanted."""

    def __init__(self, point: np.ndarray) -> None:
        super().__init__()
        self.point = np.array(point)


def _starts(first: np.ndarray) -> list[np.ndarray]:
    """Return starts near the initial choice, near 0 and further out: transforms saturate."""
    random = np.random.default_rng(0)
    spread = [scale * random.normal(size=first.shape) for scale in SPREADS]
    return [first, *spread]


def _sizes(wanted: Mapping[str, np.ndarray], at_start: np.ndarray) -> np.ndarray:
    """Return the size of each entry's array: of what is wanted, or of the start where that is 0."""
    ends = np.cumsum([np.size(wanted[name]) for name in sorted(wanted)])
    sizes = []
    for name, end in zip(sorted(wanted), ends, strict=True):
        count = np.size(wanted[name])
        start = at_start[end - count : end]
        size = max(np.abs(wanted[name]).max(initial=0.0), np.abs(start).max(initial=0.0))
        sizes.append(np.full(count, size if size > 0.0 and np.isfinite(size) else 1.0))
    return np.concatenate(sizes)


def _entries(name: str, labels: "Labels", shape: tuple[int, ...], value: Any) -> np.ndarray:
    if hasattr(value, "dims") and hasattr(value, "coords"):
        value = _by_axes(name, labels, value)
    elif isinstance(value, Mapping):
        value = _by_label(name, labels, value)
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "iuf":
            raise ValueError
        array = array.astype(float)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"incentive {name!r} is not made of numbers", received=repr(value)[:80]
        ) from error
    if array.shape not in (shape, ()) or not np.isfinite(array).all():
        raise InvalidInputError(
            f"incentive {name!r} does not fit",
            received=f"shape {array.shape}"
            + ("" if np.isfinite(array).all() else ", not all finite"),
            accepted=f"finite numbers of shape {shape}, or one for all",
        )
    return np.broadcast_to(array, shape).copy()


def _by_label(name: str, labels: "Labels", value: Mapping[Any, Any]) -> list[Any]:
    """Return the numbers of a mapping label -> number in the order of the labels."""
    given = {str(label): number for label, number in value.items()}
    for dims, entries in labels.coords.values():
        known = list(map(str, entries))
        if len(labels.dims) == 1 and tuple(dims) == labels.dims and set(known) == set(given):
            return [given[label] for label in known]
    accepted = [f"{coord}: {', '.join(map(str, v))}" for coord, (_, v) in labels.coords.items()]
    raise InvalidInputError(
        f"labels of incentive {name!r} are not the problem's",
        received=", ".join(given),
        accepted="; ".join(accepted) or "an array",
    )


def _by_axes(name: str, labels: "Labels", value: Any) -> Any:
    """Return a labelled array's numbers, with axes and entries in the order of the labels."""
    if set(value.dims) != set(labels.dims):
        raise InvalidInputError(
            f"axes of incentive {name!r} are not the problem's",
            received=", ".join(map(str, value.dims)) or "none",
            accepted=", ".join(labels.dims) or "none",
        )
    value = value.transpose(*labels.dims)
    for coord, (dims, entries) in labels.coords.items():
        if coord in value.coords and len(dims) == 1:
            known, given = list(map(str, entries)), list(map(str, value.coords[coord].values))
            if len(set(given)) != len(given) or set(given) != set(known):
                raise InvalidInputError(
                    f"labels {coord!r} of incentive {name!r} are not the problem's",
                    received=", ".join(given[:10]),
                    accepted=", ".join(known[:10]),
                )
            if len(set(known)) == len(known):
                value = value.isel({dims[0]: [given.index(label) for label in known]})
    return value.values


def _short(value: Sequence[float] | np.ndarray) -> Any:
    return np.asarray(value, float).round(6).ravel()[:8].tolist()
