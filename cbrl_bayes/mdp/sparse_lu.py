"""Linear solves with (I - gamma P_pi) by sparse factors on the host: many states, few moves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp.factors import factored
from cbrl_bayes.mdp.operators import operator
from cbrl_bayes.mdp.record import MDP
from cbrl_bayes.mdp.transition import SuccessorTransition


@dataclass(frozen=True)
class SparseLU:
    """Factorise the sparse matrix by SuperLU: exact to rounding, for a `SuccessorTransition`.

    It runs on the host (`jax.pure_callback`). Where I - gamma P has no inverse, as without a
    discount where some path never ends, the answer is NaN.
    """

    def solve(
        self,
        mdp: MDP,
        policy: Float[Array, "state action"],
        discount: Float[Array, ""] | float,
        right_side: Float[Array, " state"],
        *,
        refine: bool = True,
    ) -> Float[Array, " state"]:
        """Return ``v`` with ``(I - discount P_policy) v = right_side``, shape (S,)."""
        play = (discount * mdp.continues)[:, None] * policy
        matvec = operator(mdp, policy, discount)
        return _solved(_listed(mdp), play, matvec, right_side)


def _listed(mdp: MDP) -> SuccessorTransition:
    if not isinstance(mdp.transition, SuccessorTransition):
        raise InvalidInputError(
            "sparse factors need successors that are listed",
            received=type(mdp.transition).__name__,
            accepted="SuccessorTransition",
            remedy="DenseLU() or Krylov()",
        )
    return mdp.transition


def _solved(
    law: SuccessorTransition, play: Array, matvec: Callable[[Array], Array], right_side: Array
) -> Array:
    fixed = jax.lax.stop_gradient((law.successor, law.probability, play))

    def on_host(function: Callable) -> Callable:
        def solve(_: Any, b: Array) -> Array:
            shape = jax.ShapeDtypeStruct(b.shape, float)
            return jax.pure_callback(function, shape, *fixed, b, vmap_method="sequential")

        return solve

    return jax.lax.custom_linear_solve(matvec, right_side, on_host(_plain), on_host(_turned))


def _plain(*given: Any) -> np.ndarray:
    return _by_factors(*map(np.asarray, given), transposed=False)


def _turned(*given: Any) -> np.ndarray:
    return _by_factors(*map(np.asarray, given), transposed=True)


def _by_factors(
    successor: np.ndarray,
    probability: np.ndarray,
    play: np.ndarray,
    right_side: np.ndarray,
    *,
    transposed: bool,
) -> np.ndarray:
    weight = play[..., None] * probability
    used = np.nonzero(weight)
    factors = factored(used[0], successor[used], weight[used], len(play))
    if factors is None:
        return np.full_like(right_side, np.nan)
    solve = factors.solve_transposed if transposed else factors.solve
    return solve(right_side[None])[0]
