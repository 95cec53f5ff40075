"""Colours for the cells of a map: a scale that shows more than the few largest of them."""

from dataclasses import dataclass

import numpy as np
from matplotlib.colors import LogNorm, Normalize

ALL_EQUAL = 1e-9
"""Values that differ by less, beside the largest, are the same number up to rounding."""
FEW, LARGE = 0.1, 0.1
"""A scale is logarithmic where at most this share of cells exceeds this share of the largest."""
CUT = 1e-3
"""Lowest value of a logarithmic scale, as a share of the largest."""


@dataclass(frozen=True)
class ColourScale:
    """Which values are darkest and brightest, and what lies between.

    Attributes
    ----------
    low, high : float
    is_log : bool
        Whether equal steps of colour are equal ratios. Values below ``low`` have its colour.
    """

    low: float
    high: float
    is_log: bool = False

    @property
    def words(self) -> str:
        """What a reader must know of a scale that is not linear; else nothing."""
        return f"log scale; {self.low:.1g} and below darkest" if self.is_log else ""

    @property
    def all_equal(self) -> bool:
        """Whether there is nothing that colours could tell apart."""
        return self.high - self.low <= ALL_EQUAL * max(abs(self.high), abs(self.low))

    @property
    def norm(self) -> Normalize:
        """The same for matplotlib."""
        kind = LogNorm if self.is_log else Normalize
        return kind(self.low, self.high, clip=True)

    def values(self, num: int) -> np.ndarray:
        """Return ``num`` values from low to high at equal steps of colour."""
        space = np.geomspace if self.is_log else np.linspace
        return space(self.low, self.high, num)


def colour_scale(*values: np.ndarray) -> ColourScale:
    """Return the scale that maps share: from 0, or logarithmic where few cells are large.

    Examples
    --------
    >>> colour_scale([0.0, 1.0, 2.0])
    ColourScale(low=0.0, high=2.0, is_log=False)
    >>> colour_scale([1.0] + 50 * [0.01]).words
    'log scale; 0.01 and below darkest'
    >>> colour_scale([3.0, 3.0]).all_equal
    True
    """
    flat = np.concatenate([np.ravel(np.asarray(one, float)) for one in values])
    finite = flat[np.isfinite(flat)]
    if not finite.size:
        return ColourScale(0.0, 0.0)
    low, high = float(finite.min()), float(finite.max())
    if ColourScale(low, high).all_equal:
        return ColourScale(low, high)
    positive = finite[finite > 0.0]
    if low >= 0.0 and (finite > LARGE * high).mean() <= FEW and (positive < LARGE * high).any():
        return ColourScale(max(float(positive.min()), CUT * high), high, True)
    return ColourScale(min(low, 0.0), max(high, 0.0))
