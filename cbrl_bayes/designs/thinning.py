"""Which draws or designs to take where not all are needed."""

import numpy as np
from jaxtyping import Float

CLOSE = 1e-3


def evenly_spaced(size: int, num: int) -> np.ndarray:
    """Return up to ``num`` positions in ``range(size)``, the first and the last among them.

    Examples
    --------
    >>> evenly_spaced(10, 3).tolist(), evenly_spaced(2, 5).tolist()
    ([0, 4, 9], [0, 1])
    """
    return np.unique(np.linspace(0, size - 1, min(size, num)).astype(int))


def distinct(points: Float[np.ndarray, "point coordinate"]) -> np.ndarray:
    """Return positions of the points that are not close to an earlier one, in order.

    ``points`` are in units of the problem's scale; close is less than a thousandth. A point that is
    not finite is close to none.

    Examples
    --------
    >>> distinct(np.array([[0.0], [1.0], [1e-6]])).tolist()
    [0, 1]
    """
    kept: list[int] = []
    for index, point in enumerate(points):
        if not any(np.linalg.norm(point - points[other]) <= CLOSE for other in kept):
            kept.append(index)
    return np.array(kept, int)
