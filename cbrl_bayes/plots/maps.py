"""Values on rows and columns, with the places that a problem names."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from cbrl_bayes.results.names import marks_of

MOST_SIDE = 500


def lies_on_map(array: xr.DataArray, dim: str, most_side: int = MOST_SIDE) -> bool:
    """Tell whether an axis has whole-number coordinates ``row`` and ``column``."""
    places = [array.coords.get(name) for name in ("row", "column")]
    return all(
        place is not None
        and place.dims == (dim,)
        and place.dtype.kind in "iu"
        and place.size > 0
        and int(place.max()) - int(place.min()) < most_side
        for place in places
    )


def draw_map(
    panel: Axes, places: xr.DataArray, values: np.ndarray, norm: Normalize, colours: str = "viridis"
) -> AxesImage:
    """Draw one value per cell; walls are grey.

    Parameters
    ----------
    panel : Axes
    places : DataArray, one axis
        With coordinates ``row`` and ``column``, and marks.
    values : array
        One per cell.
    norm : Normalize
    colours : str
        Name of a colour map.
    """
    rows, columns = places["row"].values, places["column"].values
    top, left = rows.min() - 1, columns.min() - 1
    grid = np.full((rows.max() - top + 2, columns.max() - left + 2), np.nan)
    grid[rows - top, columns - left] = values
    edges = (left - 0.5, left + grid.shape[1] - 0.5, top + grid.shape[0] - 0.5, top - 0.5)
    shades = mpl.colormaps[colours].with_extremes(bad="#d9d9d9")
    image = panel.imshow(grid, cmap=shades, norm=norm, extent=edges)
    panel.set(xlabel="column", ylabel="row")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_locator(MaxNLocator(8, integer=True))
    for name, at in marks_of(places):
        panel.text(
            columns[at],
            rows[at],
            letter(name),
            ha="center",
            va="center",
            fontsize="small",
            weight="bold",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )
    return image


def letter(name: str) -> str:
    """Return what stands in a marked cell."""
    return name[:1].upper()


def marks_in_words(marks: Sequence[tuple[str, int]]) -> str:
    """Say what the letters on a map mean.

    Examples
    --------
    >>> marks_in_words([("start", 3), ("goal", 1), ("goal", 2)])
    'S: start, G: goal'
    """
    return ", ".join(f"{letter(name)}: {name}" for name in dict.fromkeys(n for n, _ in marks))
