"""A parameter that changes from period to period, and what it will be in the next one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array

from cbrl_bayes.errors import DataError, InvalidInputError
from cbrl_bayes.inference.known import as_law, drawn

NEXT = "_next"
"""Ending of the name under which a fit holds the value of the next period."""
LAST = "_last"
"""The same of the last period, in the order of time."""
NUMBER = re.compile(r"-?\d+")
MONTH = re.compile(r"(\d{4})-(\d{2})")
QUARTER = re.compile(r"(\d{4})-?[Qq]([1-4])")


@dataclass(frozen=True)
class Drift:
    r"""One positive value per period; its logarithm walks at random, with or without a trend.

    :math:`\log\theta_1 = \log` ``first``, :math:`\log\theta_{t+1} = \log\theta_t + \beta + \tau
    z_t`, :math:`z_t \sim N(0, 1)` (non-centred). The groups of the data are the periods. The
    step after the last period is drawn as well: a design is made for the **next** period.

    Parameters
    ----------
    first : numpyro distribution or number
        Prior of the value in the first period, in the unit of the parameter; positive.
    spread : numpyro distribution or number
        Prior of :math:`\tau` > 0, the size of a period's change on the log scale. Default:
        half-normal with scale 0.2 (a fifth per period).
    trend : numpyro distribution or number
        Prior of :math:`\beta`, the mean change per period on the log scale. Default: 0, no trend.
    periods : sequence of str, optional
        Names of all periods in order; those without data too. Default: the groups of the data, if
        they are consecutive whole numbers, months (2026-03) or quarters (2026-Q1).

    Examples
    --------
    >>> import numpyro.distributions as dist
    >>> Drift(dist.LogNormal(-1.0, 1.0)).placed(("2026-Q1", "2026-Q2")).num_periods
    2
    """

    first: dist.Distribution
    spread: dist.Distribution = field(default_factory=lambda: dist.HalfNormal(0.2))
    trend: dist.Distribution | float = 0.0
    periods: tuple[str, ...] = ()
    place: tuple[int, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for name in ("first", "spread", "trend"):
            object.__setattr__(self, name, as_law(getattr(self, name), f"Drift.{name}"))
        object.__setattr__(self, "periods", tuple(map(str, self.periods)))
        if len(set(self.periods)) != len(self.periods):
            raise InvalidInputError(
                "periods of Drift are not all different", received=list(self.periods)
            )

    @property
    def num_periods(self) -> int:
        """Number of periods, those without data included; 0 before the groups are known."""
        return len(self.periods)

    def placed(self, groups: Sequence[str]) -> "Drift":
        """Return the same, told which periods the groups of the data are.

        Raises
        ------
        DataError
            For a group that is no period, or a period that is missing.
        """
        periods = self.periods or _in_order(groups)
        unknown = [name for name in groups if name not in periods]
        if unknown:
            raise DataError(
                f"group {unknown[0]!r} of the data is no period of Drift",
                received=", ".join(groups),
                accepted=", ".join(periods),
            )
        return replace(self, periods=periods, place=tuple(map(periods.index, groups)))

    def sample(self, name: str, num_groups: int) -> Array:
        """Draw the walk inside a NumPyro model; returns the values of the groups, shape (G,)."""
        place = np.asarray(self.place or range(num_groups))
        total = max(self.num_periods, num_groups)
        first = drawn(f"{name}_first", self.first)
        spread = drawn(f"{name}_spread", self.spread)
        trend = drawn(f"{name}_trend", self.trend)
        # The last change leads into the next period: no data bear on it.
        with numpyro.plate(f"{name}_change", total):
            offset = numpyro.sample(f"{name}_offset", dist.Normal(0.0, 1.0))
        changes = jnp.cumsum(trend + spread * offset)
        path = first * jnp.exp(jnp.concatenate([jnp.zeros(1), changes]))
        numpyro.deterministic(f"{name}{LAST}", path[-2])
        numpyro.deterministic(f"{name}{NEXT}", path[-1])
        return numpyro.deterministic(name, path[place])


def _in_order(groups: Sequence[str]) -> tuple[str, ...]:
    """Return the groups in the order of time; refuse a gap."""
    numbers = [_number(name) for name in groups]
    known = [n for n in numbers if n is not None]
    if len(known) < len(groups) or len(set(known)) < len(known):
        raise DataError(
            "the groups of the data do not say in which order they come",
            received=", ".join(groups),
            accepted="whole numbers, months (2026-03) or quarters (2026-Q1)",
            remedy="Drift(periods=('spring', 'summer', ...))",
        )
    order = np.argsort(known)
    gaps = np.flatnonzero(np.diff(np.asarray(known)[order]) != 1)
    if len(gaps):
        before, after = groups[order[gaps[0]]], groups[order[gaps[0] + 1]]
        raise DataError(
            f"a period is missing between {before} and {after}",
            received=", ".join(groups[i] for i in order),
            accepted="consecutive periods",
            remedy="Drift(periods=(...)) with all periods in order, those without data too",
        )
    return tuple(groups[i] for i in order)


def _number(name: str) -> int | None:
    """Return the period's number on a scale of its own kind."""
    if found := MONTH.fullmatch(name):
        return 12 * int(found[1]) + int(found[2]) - 1
    if found := QUARTER.fullmatch(name):
        return 4 * int(found[1]) + int(found[2]) - 1
    return int(name) if NUMBER.fullmatch(name) else None
