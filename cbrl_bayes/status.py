"""How solves and ascents end: a module of its own, so that results are read without JAX."""

import enum


class SolveStatus(enum.IntEnum):
    """How a solve, or a simulation in its place, ended."""

    CONVERGED = 0
    ITERATION_LIMIT = 1
    """Also: values so large beside the temperature that rounding hides the policy."""
    NOT_FINITE = 2
    CUT_SHORT = 3
    """Rollouts met their step limit while much of the worth was still ahead."""
    INVALID_MDP = 4
    """The MDP cannot be: a probability of 1.12, a temperature below zero (`is_valid`)."""
    UNSETTLED = 5
    """Followers who meet: no population statistic was found that their responses make again."""


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
