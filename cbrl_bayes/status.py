"""How an ascent ends: a module of its own, so that results are read without the numerics."""

import enum


class AscentStatus(enum.IntEnum):
    """How an ascent ended."""

    CONVERGED = 0
    STEP_LIMIT = 1
    NOT_FINITE = 2
    SOLVER_FAILED = 3
    INTERRUPTED = 4


FAILED_ASCENTS = (AscentStatus.NOT_FINITE, AscentStatus.SOLVER_FAILED)
"""How an ascent ends whose objective cannot be relied on."""
