"""Figures and colours for pages that must stand alone."""

import base64
import io
from collections.abc import Callable, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

from cbrl_bayes.plots.style import COLOURS
from cbrl_bayes.results.names import design_title

MORE_COLOURS = ("#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
"""The rest of Okabe and Ito's palette that shows on white, then grey."""


def design_colours(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each design by name or title; others take the rest of the palette.

    Examples
    --------
    >>> design_colours(["common", "worst_case"])
    {'common': '#D55E00', 'worst_case': '#CC79A7'}
    """
    known = COLOURS | {design_title(name): colour for name, colour in COLOURS.items()}
    further = [name for name in names if name not in known]
    given = {name: MORE_COLOURS[i % len(MORE_COLOURS)] for i, name in enumerate(further)}
    return {name: known.get(name) or given[name] for name in names}


def inline_figure(draw: Callable[[], Figure]) -> str:
    """Return a figure as a ``data:`` address (SVG) and close it.

    Text is drawn as it stands: a ``$`` in a name of the user's does not start a formula.

    Parameters
    ----------
    draw : callable
        Draws and returns the figure.

    Examples
    --------
    >>> inline_figure(lambda: plt.figure(figsize=(1, 1)))[:30]
    'data:image/svg+xml;base64,PD94'
    """
    written = io.BytesIO()
    # A fixed salt and no date: the same study gives the same page.
    with mpl.rc_context({"svg.hashsalt": "cbrl_bayes"}):
        figure = draw()
        _as_it_stands(figure)
        try:
            figure.savefig(written, format="svg", metadata={"Date": None})
        finally:
            plt.close(figure)
    return "data:image/svg+xml;base64," + base64.b64encode(written.getvalue()).decode()


def _as_it_stands(figure: Figure) -> None:
    """Keep text from being read as formulas; numbers beside an axis may be powers of ten."""
    numbers = {
        id(text)
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for text in axis.get_ticklabels(which="both")
    }
    for text in figure.findobj(Text):
        if isinstance(text, Text) and id(text) not in numbers:
            text.set_parse_math(False)


def sequential_colours(
    values: np.ndarray, low: float, high: float, *, is_log: bool = False
) -> list[str]:
    """Return a colour (``#rrggbb``) for each value, dark at ``low`` and bright at ``high``.

    With ``is_log`` equal ratios are equal steps of colour, and ``low`` is above 0.

    The scale (viridis) keeps its order for colour-blind readers and in black and white. Values
    that are not finite are grey.

    Examples
    --------
    >>> sequential_colours([0.0, 1.0, float("nan")], 0.0, 1.0)
    ['#440154', '#fde725', '#d9d9d9']
    """
    values = np.asarray(values, float)
    if is_log:
        values, low, high = np.log(np.maximum(values, low)), np.log(low), np.log(high)
    scaled = (values - low) / max(high - low, 1e-300)
    colours = mpl.colormaps["viridis"](np.clip(np.nan_to_num(scaled), 0.0, 1.0))
    return [
        mpl.colors.to_hex(colour) if np.isfinite(value) else "#d9d9d9"
        for colour, value in zip(colours, scaled, strict=True)
    ]
