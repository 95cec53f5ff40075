"""Contexts that share one network: what differs between them is only where a path may end."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cbrl_bayes.mdp import (
    CLOSED,
    MDP,
    LinearValues,
    SuccessorTransition,
    has_linear_values,
    linear_values,
)
from cbrl_bayes.problems.dependence import depends_on_input

if TYPE_CHECKING:
    from cbrl_bayes.problems.record import Incentive, Problem


class SharedNetwork(NamedTuple):
    """Deterministic, undiscounted moves with one reward in all contexts.

    Attributes
    ----------
    reward : array, shape (S, A)
    successor : int array, shape (S, A)
    available : bool array, shape (C, S, A)
        Open actions in each context.
    terminal : bool array, shape (S,)
    temperature : float
        lambda, units of reward; rationality is 1/lambda.
    """

    reward: Float[Array, "state action"]
    successor: Int[Array, "state action"]
    available: Bool[Array, "context state action"]
    terminal: Bool[Array, " state"]
    temperature: Float[Array, ""]

    def solve(self) -> LinearValues:
        """Return the soft values in every context, by one factorisation for all."""
        return linear_values(*self)

    def visits(
        self, start: Float[Array, "context state"]
    ) -> tuple[Float[Array, "state action"], Int[Array, ""]]:
        """Return expected visits to every state and action, and the worst status of the solves.

        Parameters
        ----------
        start : array, shape (C, S)
            How many begin where, in each context. Visits are summed over contexts: they are the
            slopes of ``(start * values).sum()`` in the rewards.
        """

        def worth(reward: Array) -> tuple[Array, Array]:
            found = self._replace(reward=reward).solve()
            return (start * found.values).sum(), found.status

        visits, status = jax.grad(worth, has_aux=True)(self.reward)
        return visits, status.max()

    def log_policy(
        self,
        values: Float[Array, "context state"],
        context: Int[Array, "..."],
        state: Int[Array, "..."],
    ) -> Float[Array, "... action"]:
        """Return the log policy at some (context, state), `CLOSED` where an action is closed."""
        successor = self.successor[state]
        ends = self.terminal[state][..., None]
        ahead = jnp.where(ends, 0.0, values[context[..., None], successor])
        gap = self.reward[state] + ahead - values[context, state][..., None]
        is_open = self.available[context, state]
        return jnp.where(is_open, jnp.where(is_open, gap, 0.0) / self.temperature, CLOSED)


def shared_network(
    problem: "Problem", incentive: "Incentive", contexts: Any, parameters: Mapping[str, Any]
) -> SharedNetwork | None:
    """Return the network that contexts share, None where they share none.

    They share one if `linear_values` is the way to solve them and only ``available`` (and the
    initial law) depends on the context; read off the program of ``mdp_fn``.

    Parameters
    ----------
    problem : Problem
    incentive : mapping
        In readable values.
    contexts : pytree of arrays, each (C, ...)
        Values of the contexts.
    parameters : mapping
        One follower's (`Problem.follower_parameters`).
    """
    if problem.response_fn is not None:
        return None

    def made(context: Any) -> MDP:
        return problem.mdp_fn(incentive, context, parameters)

    def shared(context: Any) -> tuple:
        mdp = made(context)
        return mdp.as_stated, mdp.terminal, mdp.temperature, mdp.discount

    first = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], contexts)
    mdp = made(first)
    if not has_linear_values(mdp) or depends_on_input(shared, first):
        return None
    reward, law = mdp.as_stated
    assert isinstance(law, SuccessorTransition)  # `has_linear_values` looked
    available = jax.vmap(lambda context: jnp.asarray(made(context).is_open, bool))(contexts)
    return SharedNetwork(
        reward,
        law.successor[..., 0],
        available,
        jnp.asarray(mdp.terminal, bool),
        jnp.asarray(mdp.temperature, float),
    )
