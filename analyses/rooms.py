"""Pictures of the Four-Rooms map, shared by the analyses that draw one."""

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from cbrl_bayes.problems import FOUR_ROOMS_MAP, Problem

__all__ = ["draw_walls", "on_map"]

WALL = np.array([[mark == "x" for mark in line] for line in FOUR_ROOMS_MAP.split("\n")])


def draw_walls(axes: Axes) -> None:
    """Draw the walls in white, which the colour scale of the cells does not contain."""
    axes.imshow(np.where(WALL, 1.0, np.nan), cmap="gray", vmin=0, vmax=1)
    axes.set(xlabel="column", ylabel="row")


def on_map(problem: Problem, values: ArrayLike) -> np.ndarray:
    """Put one value per state in its place on the map; walls are NaN."""
    coords = problem.state_labels.coords
    row, column = (np.array(coords[name][1]) for name in ("row", "column"))
    image = np.full(WALL.shape, np.nan)
    image[row, column] = np.asarray(values)
    return image
