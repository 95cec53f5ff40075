"""How central each posterior draw is: nested credible sets that no design can choose."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float


def posterior_depth(draws: Mapping[str, np.ndarray]) -> Float[np.ndarray, " draw"]:
    """Return, for each draw, the share of draws that are closer to the posterior's centre.

    Closeness is the Mahalanobis distance over all parameters, positive ones on the log scale,
    so that draws of depth below p form a credible set of probability p (an ellipsoid). The set
    does not depend on any design. With fewer than three draws per parameter a covariance cannot
    be told from noise: then parameters count as independent.

    Parameters
    ----------
    draws : mapping
        Parameter name -> array (N, ...).

    Examples
    --------
    >>> posterior_depth({"x": np.array([-1.0, 0.1, 0.9, 4.0])}).tolist()
    [0.5, 0.25, 0.0, 0.75]
    """
    columns = []
    for value in draws.values():
        flat = np.asarray(value, float).reshape(len(value), -1)
        columns.append(np.log(flat) if (flat > 0).all() else flat)
    table = np.concatenate(columns, axis=1)
    table = table[:, np.ptp(table, axis=0) > 0]
    if table.shape[1] == 0:
        return np.zeros(len(table))
    centred = table - table.mean(0)
    spread = np.atleast_2d(np.cov(centred, rowvar=False))
    if len(table) < 3 * table.shape[1]:
        spread = np.diag(np.diag(spread))
    distance = np.einsum("ij,jk,ik->i", centred, np.linalg.pinv(spread, rtol=1e-10), centred)
    return np.argsort(np.argsort(distance, kind="stable"), kind="stable") / len(table)
