"""Colours and small helpers that all figures share."""

import textwrap
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

COLOURS = {
    "own": "#0072B2",
    "common": "#D55E00",
    "plug_in": "#009E73",
    "prior": "#999999",
    "data": "#000000",
    "baseline": "#56B4E9",
}
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""


def band(
    axes: Axes, x: np.ndarray, draws: np.ndarray, prob: float, colour: str, label: str
) -> None:
    """Draw the median over the first axis of ``draws`` with its equal-tailed band."""
    tail = (1.0 - prob) / 2.0
    low, middle, high = np.nanquantile(draws, [tail, 0.5, 1.0 - tail], axis=0)
    axes.fill_between(x, low, high, color=colour, alpha=0.25, linewidth=0)
    axes.plot(x, middle, color=colour, label=label)


def density(axes: Axes, draws: Any, colour: str, label: str, *, filled: bool = True) -> None:
    """Draw a histogram density of the finite draws."""
    values = np.asarray(draws.values if isinstance(draws, xr.DataArray) else draws).ravel()
    values = values[np.isfinite(values)]
    if values.size and np.ptp(values) <= 1e-9 * max(1.0, float(np.abs(values).max())):
        axes.axvline(float(values.mean()), color=colour, label=label)
        return
    style: Literal["stepfilled", "step"] = "stepfilled" if filled else "step"
    alpha = 0.45 if filled else 1.0
    bins = int(np.clip(np.sqrt(values.size), 8, 40))
    axes.hist(
        values, bins=bins, density=True, histtype=style, color=colour, alpha=alpha, label=label
    )


def wrapped(text: str, width: int = 48, *, indent: str = "") -> str:
    """Break a text into lines; those after the first begin with ``indent``. Words stay whole."""
    return "\n".join(textwrap.wrap(text, width, break_long_words=False, subsequent_indent=indent))


def named_rows(panel: Axes, names: Sequence[str], width: int = 30) -> None:
    """Write a name beside each row, first on top: at most two lines each, so that none overlap."""
    lines = [textwrap.wrap(str(name), width) or [""] for name in names]
    short = ["\n".join(line[:2]) + ("\N{HORIZONTAL ELLIPSIS}" * (len(line) > 2)) for line in lines]
    panel.set_yticks(range(len(short)), short)
    panel.set_ylim(len(short) - 0.4, -0.6)


def few_ticks(panel: Axes) -> None:
    """Leave room between the numbers below a panel; each stands in full, without an offset."""
    panel.xaxis.set_major_locator(MaxNLocator(5))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _in_full(value, panel)))


def _in_full(value: float, panel: Axes) -> str:
    """Write a number with as many digits as tell it from others in the panel."""
    low, high = panel.get_xlim()
    span, largest = abs(high - low), max(abs(low), abs(high))
    if not span or abs(value) < 1e-6 * span:
        return f"{value if not span else 0.0:g}"
    digits = max(int(np.log10(largest / span)), 0) + 3
    return f"{value:.{digits}g}".replace("-", "\N{MINUS SIGN}")
