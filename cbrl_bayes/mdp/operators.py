"""The linear maps that solvers invert without forming a matrix."""

from collections.abc import Callable

from jaxtyping import Array, Float

from cbrl_bayes.mdp.record import MDP

Operator = Callable[[Array], Array]


def operator(
    mdp: MDP, policy: Float[Array, "state action"], discount: Float[Array, ""] | float
) -> Operator:
    """Return ``v -> (I - discount P_policy) v``."""
    going = discount * mdp.continues
    return lambda v: v - going * (policy * mdp.transition.expectation(v)).sum(1)
