"""What an ascent leaves behind: its record step by step, and where it led."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from cbrl_bayes.mdp import is_traced
from cbrl_bayes.status import FAILED_ASCENTS, AscentStatus


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AscentTrace:
    """Record of an ascent, one entry per step.

    Attributes
    ----------
    objective : array, shape (T,)
        Objective before the step, exact or estimated, at the stage's temperature.
    gradient_norm, step_norm : arrays, shape (T,)
        Euclidean norms in the unconstrained space, before clipping and after the optimiser.
    temperature_factor, price_factor : arrays, shape (T,)
        Factors of the stage.
    solve_status : int array, shape (T,)
        Worst `SolveStatus` of the followers.
    follower_steps : int array, shape (T,)
        Environment steps the followers took for the estimate; 0 where nothing is simulated.
    truncated_share : array, shape (T,)
        Share of rollouts that the estimator's step limit cut short; they bias the estimate.
    prior_share : array, shape (T,)
        Share of visits in pairs that a learned model had seldom seen (`EstimateInfo`).
    """

    objective: Float[Array, " step"]
    gradient_norm: Float[Array, " step"]
    step_norm: Float[Array, " step"]
    temperature_factor: Float[Array, " step"]
    price_factor: Float[Array, " step"]
    solve_status: Int[Array, " step"]
    follower_steps: Int[Array, " step"]
    truncated_share: Float[Array, " step"]
    prior_share: Float[Array, " step"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AscentResult:
    """Where an ascent led.

    Attributes
    ----------
    unconstrained : pytree
        The best iterate at the target temperature for an exact estimator; the mean of the last
        fifth of the iterates for a stochastic one, whose single objectives are noisy.
    objective : float
        The estimator's objective there (exact) or its mean over that fifth (stochastic).
    trace : AscentTrace
    status : AscentStatus
    gain : float
        What the last probes around the answer still gained, in the unit of the objective; NaN
        for a stochastic estimator. Above the ascent's tolerance: more steps would gain more.
    """

    unconstrained: Any
    objective: float
    trace: AscentTrace
    status: AscentStatus
    gain: float

    def settled(self) -> "AscentResult":
        """Return the result as plain numbers; a traced one stays as it is."""
        if is_traced(self):
            return self
        plain = jax.tree.map(np.asarray, self)
        status = AscentStatus(int(plain.status))
        objective, gain = float(plain.objective), float(plain.gain)
        return AscentResult(plain.unconstrained, objective, plain.trace, status, gain)

    @property
    def worth(self) -> float:
        """The objective; -inf if it cannot be trusted."""
        return -np.inf if self.status in FAILED_ASCENTS else self.objective
