"""Which draws to take where not all are needed."""

import numpy as np


def evenly_spaced(size: int, num: int) -> np.ndarray:
    """Return up to ``num`` positions in ``range(size)``, the first and the last among them.

    Examples
    --------
    >>> evenly_spaced(10, 3).tolist(), evenly_spaced(2, 5).tolist()
    ([0, 4, 9], [0, 1])
    """
    return np.unique(np.linspace(0, size - 1, min(size, num)).astype(int))
