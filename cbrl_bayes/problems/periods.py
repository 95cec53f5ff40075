"""Labels of states that carry a period."""

from collections.abc import Sequence
from typing import Any

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.problems.incentive import Labels

PERIOD = "period"
"""Coordinate of the states that says their period."""


def period_labels(
    num_periods: int, places: Labels | Sequence[str] | int, *, periods: Sequence[Any] | None = None
) -> Labels:
    """Return labels of the states of a `finite_horizon` process.

    Parameters
    ----------
    num_periods : int
        T >= 1.
    places : Labels, sequence of str, or int
        Labels of the S places of one period (their coordinates are repeated), their names, or
        only their number.
    periods : sequence, optional
        What the periods are called: ages, years. Default: 0 to T - 1.

    Returns
    -------
    Labels
        Of the T S states, with the coordinate ``period`` and those of the places.

    Examples
    --------
    >>> labels = period_labels(2, ("idle", "at work"), periods=(2025, 2026))
    >>> labels.coords["period"][1], labels.coords["place"][1]
    ((2025, 2025, 2026, 2026), ('idle', 'at work', 'idle', 'at work'))
    """
    names = tuple(range(num_periods) if periods is None else periods)
    if len(names) != num_periods or len({str(name) for name in names}) != num_periods:
        raise InvalidInputError(
            "periods need a name each",
            received=names,
            accepted=f"{num_periods} names, no two alike",
        )
    if isinstance(places, int):
        places = Labels(("state",), {"place": (("state",), tuple(range(places)))})
    elif not isinstance(places, Labels):
        places = Labels(("state",), {"place": (("state",), tuple(places))})
    dim = places.dims[0]
    sizes = {len(values) for _, values in places.coords.values()}
    if len(sizes) != 1:
        raise InvalidInputError(
            "labels of the places do not say how many places there are",
            received=f"coordinates of {sorted(sizes)} entries",
            accepted="coordinates of one length",
        )
    each = tuple(name for name in names for _ in range(max(sizes)))
    repeated = {
        name: (dims, tuple(values) * num_periods) for name, (dims, values) in places.coords.items()
    }
    return Labels((dim,), {PERIOD: ((dim,), each), **repeated}, description=places.description)


def periods_of(labels: Labels) -> tuple[Any, ...]:
    """Return the names of the periods in order, () where states carry none."""
    if PERIOD not in labels.coords:
        return ()
    return tuple(dict.fromkeys(labels.coords[PERIOD][1]))
