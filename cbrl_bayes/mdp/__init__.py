"""One finite entropy-regularised MDP: record, best response, evaluation, rollouts.

Importing this module switches JAX to float64, for the whole process: at temperature .001
float32 leaves errors of 2e-4 in the log policy. It is the one place where that happens.
"""

import jax

jax.config.update("jax_enable_x64", True)

from cbrl_bayes.mdp.best_response import (  # noqa: E402
    BestResponse,
    SolveStatus,
    best_response,
    finite_status,
    soft_bellman,
    value_iteration,
)
from cbrl_bayes.mdp.ending import check_ends, critical_temperature  # noqa: E402
from cbrl_bayes.mdp.evaluation import (  # noqa: E402
    entropy,
    expected_return,
    occupancy,
    policy_values,
    soft_policy_values,
)
from cbrl_bayes.mdp.horizon import finite_horizon  # noqa: E402
from cbrl_bayes.mdp.linear import (  # noqa: E402
    BackwardInduction,
    DenseLU,
    Krylov,
    LinearSolver,
    default_linear_solver,
)
from cbrl_bayes.mdp.linear_values import LinearValues, has_linear_values, linear_values  # noqa: E402
from cbrl_bayes.mdp.record import CLOSED, MDP, is_traced, replace_fields  # noqa: E402
from cbrl_bayes.mdp.rollout import Trajectories, rollout  # noqa: E402
from cbrl_bayes.mdp.sparse_lu import SparseLU  # noqa: E402
from cbrl_bayes.mdp.transition import (  # noqa: E402
    DenseTransition,
    StagedTransition,
    SuccessorTransition,
    Transition,
)
from cbrl_bayes.mdp.validity import ROW_SUM_TOLERANCE, is_valid, value_violations  # noqa: E402

__all__ = [
    "CLOSED",
    "MDP",
    "ROW_SUM_TOLERANCE",
    "BackwardInduction",
    "BestResponse",
    "DenseLU",
    "DenseTransition",
    "Krylov",
    "LinearSolver",
    "LinearValues",
    "SolveStatus",
    "SparseLU",
    "StagedTransition",
    "SuccessorTransition",
    "Trajectories",
    "Transition",
    "best_response",
    "check_ends",
    "critical_temperature",
    "default_linear_solver",
    "entropy",
    "expected_return",
    "finite_horizon",
    "finite_status",
    "has_linear_values",
    "is_traced",
    "is_valid",
    "linear_values",
    "occupancy",
    "policy_values",
    "replace_fields",
    "rollout",
    "soft_bellman",
    "soft_policy_values",
    "value_iteration",
    "value_violations",
]
