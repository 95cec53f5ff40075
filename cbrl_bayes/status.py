"""How an ascent ends: a module of its own, so that results are read without the numerics."""

import enum


class AscentStatus(enum.IntEnum):
    """How an ascent ended.

    CONVERGED: nothing nearby is better. STEP_LIMIT: something was, or nobody looked (a stochastic
    estimator). FLAT: the objective does not react to the incentive there, near or far.
    """

    CONVERGED = 0
    STEP_LIMIT = 1
    NOT_FINITE = 2
    SOLVER_FAILED = 3
    INTERRUPTED = 4
    FLAT = 5


FAILED_ASCENTS = (AscentStatus.NOT_FINITE, AscentStatus.SOLVER_FAILED)
"""How an ascent ends whose objective cannot be relied on."""
