"""The one kind of table: every number with its interval stated, beside the study's verdict."""

import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import lazy_loader
import numpy as np
import pandas as pd
import xarray as xr

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.results.health import Health, assess

az = lazy_loader.load("arviz_stats")  # a second of imports, when first asked for

INTERVALS = {"eti": "equal-tailed", "hdi": "highest-density", "normal": "normal"}
WITHHELD = (
    "Numbers of its designs are withheld, as the study FAILED its checks. To see them pass "
    "accept_failed=True (--accept-failed)."
)
FORMATS: Mapping[str, str] = {"r_hat": ".3f", "ess_bulk": ".0f", "probability": ".3f"}
DUST = 1e-8
"""A number that is smaller, as a share of the largest of its kind, is zero up to rounding."""


@dataclass(frozen=True, repr=False)
class Table:
    """A table to print, with a verdict. ``print(table)`` fits it to the terminal's width.

    Attributes
    ----------
    title : str
        What it shows, with its unit.
    frames : dict of pandas.DataFrame
        Heading -> rows. Most tables have one. ``attrs["units"]`` of each maps a column to its
        unit; ``attrs["prob"]`` and ``attrs["kind"]`` state the interval.
    prob : float or None
        Probability of the intervals; None for a table without any.
    kind : str or None
        "eti" (equal-tailed), "hdi" (highest-density) or "normal".
    health : Health or None
        The verdict on the study; None where there is no study to judge.
    withheld : bool
        Whether numbers are left out because the study FAILED its checks.
    notes : tuple of str
        Sentences below the table.
    details : dict
        Single numbers and words that stand beside the rows, by name.
    lead : tuple of str
        Sentences above the table: what a reader needs first.
    """

    title: str
    frames: dict[str, pd.DataFrame]
    prob: float | None = None
    kind: str | None = None
    health: Health | None = None
    withheld: bool = False
    notes: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    lead: tuple[str, ...] = ()

    @property
    def frame(self) -> pd.DataFrame:
        """The rows: the first of ``frames``."""
        return next(iter(self.frames.values()))

    def __str__(self) -> str:
        width = shutil.get_terminal_size(fallback=(10_000, 24)).columns
        lines = [*_wrapped([*self._above(), *self.lead], width), ""]
        for heading, frame in self.frames.items():
            if len(frame):
                lines += [*([heading] if heading else []), _text(frame, width), ""]
        return "\n".join([*lines, *_wrapped(self._below(), width)]).rstrip()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the same for a notebook's cell; text is escaped."""
        parts = [f"<p>{escape(line)}</p>" for line in [*self._above(), *self.lead]]
        for heading, frame in self.frames.items():
            if len(frame):
                parts += [f"<p>{escape(heading)}</p>"] if heading else []
                parts.append(_shown(frame).to_html())
        below = "\n".join(self._below()).splitlines()
        return "".join([*parts, "<p>", "<br>".join(map(escape, below)), "</p>"])

    def _above(self) -> list[str]:
        lines = [self.title]
        if self.prob is not None and self.kind is not None:
            normal = self.kind == "normal"
            which = "" if normal else f", {INTERVALS[self.kind]} ({self.kind})"
            of = "normal" if normal else "credible"
            lines.append(f"{100 * self.prob:g} % {of} intervals{which}")
        return lines

    def _below(self) -> list[str]:
        lines = list(self.notes)
        if self.health is not None:
            lines.append(str(self.health))
        if self.withheld:
            lines.append(WITHHELD)
        return lines


def study_table(
    study: xr.DataTree,
    title: str,
    make: Callable[[], Mapping[str, pd.DataFrame]],
    *,
    accept_failed: bool = False,
    prob: float | None = None,
    kind: str | None = None,
    units: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> Table:
    """Build a table of a study through the one gate: a FAILED study's numbers are withheld.

    Parameters
    ----------
    study : xarray.DataTree
    title : str
    make : callable
        Returns heading -> frame; not called where the numbers are withheld.
    accept_failed : bool
        Show the numbers all the same.
    prob, kind : optional
        Of the intervals; checked here.
    units : mapping, optional
        Column -> unit, for the columns that have one.
    notes : sequence of str
        Sentences below the table.

    Raises
    ------
    InvalidInputError
        For a probability or kind that cannot be used.
    """
    if prob is not None:
        check_interval(prob, None if kind == "normal" else kind)
    health = assess(study, prob=0.9 if prob is None else prob)
    withheld = health.verdict == "FAIL" and not accept_failed
    frames = {"": pd.DataFrame()} if withheld else dict(make())
    for frame in frames.values():
        known = {name: unit for name, unit in (units or {}).items() if name in frame}
        frame.attrs |= {"units": known, "prob": prob, "kind": kind}
    return Table(title, frames, prob, kind, health, withheld, tuple(notes))


def check_interval(prob: float, kind: str | None = None) -> None:
    """Raise `InvalidInputError` unless an interval of this probability and kind exists."""
    number = isinstance(prob, int | float) and not isinstance(prob, bool)
    if not number or not 0.0 < prob < 1.0 or kind not in (None, "eti", "hdi"):
        raise InvalidInputError(
            "the interval cannot be computed",
            received=f"prob={prob!r}, kind={kind!r}",
            accepted="0 < prob < 1, kind 'eti' (equal-tailed) or 'hdi' (highest-density)",
        )


def need_group(study: xr.DataTree, name: str, remedy: str, variable: str = "") -> xr.Dataset:
    """Return a group of a study.

    Raises
    ------
    InvalidInputError
        If the study lacks it, or ``variable`` in it; ``remedy`` is the call that adds it.
    """
    if not isinstance(study, xr.DataTree) or name not in study.children:
        kind = type(study).__name__
        groups = ", ".join(study.children) if isinstance(study, xr.DataTree) else f"none ({kind})"
        raise InvalidInputError(
            f"the study has no group {name!r}", received=f"groups: {groups}", remedy=remedy
        )
    group = study[name].to_dataset()
    if variable and variable not in group:
        raise InvalidInputError(
            f"the study has no {variable!r} in its group {name!r}", remedy=remedy
        )
    return group


def bounds(array: Any, prob: float, kind: str) -> Any:
    """Return credible intervals over chain and draw, the ends along ``ci_bound``."""
    return (az.hdi if kind == "hdi" else az.eti)(array, prob=prob)


def win_shares(worth: np.ndarray) -> np.ndarray:
    """Return P(row's option is worth more than column's), from ``worth`` (options, draws).

    Options that are the same up to rounding tie, and ties count half. Draws in which any option
    is not finite are left out; NaN if none is left.

    Examples
    --------
    >>> win_shares(np.array([[1.0, 2.0, 3.0, np.nan], [1.0, 1.0, 9.0, 0.0]])).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    worth = worth[:, np.isfinite(worth).all(0)]
    if not worth.size:
        return np.full((len(worth), len(worth)), np.nan)
    close = 1e-9 * float(np.abs(worth).max())
    gains = (one - worth for one in worth)
    return np.array([np.where(np.abs(gain) <= close, 0.5, gain > 0.0).mean(1) for gain in gains])


def without_dust(values: Any, scale: float | None = None) -> np.ndarray:
    """Return values with 0 for those that rounding alone has kept from it.

    Examples
    --------
    >>> without_dust([7.8e-14, 2.0, np.nan]).tolist()
    [0.0, 2.0, nan]
    """
    values = np.array(values, float)
    finite = np.abs(values[np.isfinite(values)])
    largest = float(finite.max(initial=0.0)) if scale is None else scale
    values[np.abs(values) <= DUST * largest] = 0.0
    return values


def _text(frame: pd.DataFrame, width: int) -> str:
    """Return rows as text; groups stand below each other, and so does what is too wide."""
    shown = _shown(frame)
    whole = shown.to_string()
    if frame.index.nlevels == 1 or len(whole.splitlines()[0]) <= width:
        return shown.to_string(line_width=width)
    groups = shown.index.get_level_values(0).unique()
    return "\n\n".join(
        f"{group}\n{shown.xs(group).rename_axis(None).to_string(line_width=width)}"
        for group in groups
    )


def _wrapped(lines: Sequence[str], width: int) -> list[str]:
    """Cut long sentences into lines that fit; what follows is indented."""
    return [
        piece
        for line in "\n".join(lines).splitlines()
        for piece in textwrap.wrap(line, max(width, 40), subsequent_indent="    ") or [""]
    ]


def _shown(frame: pd.DataFrame) -> pd.DataFrame:
    shown = frame.copy()
    for name in shown.columns:
        form = FORMATS.get(str(name), ".4g")
        if shown[name].dtype.kind in "fO":
            shown[name] = [_cell(value, form) for value in shown[name]]
    return shown.loc[:, (shown != "").any()]  # a column without any number says nothing


def _cell(value: Any, form: str) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:{form}}" if np.isfinite(value) else ""
    return "" if value is None else str(value)
