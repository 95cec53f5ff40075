"""Two layouts of a transition law, dense and by successor, behind one interface."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DenseTransition:
    """Transition law as one full table.

    Parameters
    ----------
    probability : array, shape (S, A, S)
        ``probability[s, a, s2]`` is the probability of moving from ``s`` to ``s2`` under ``a``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> stay = DenseTransition(jnp.broadcast_to(jnp.eye(2)[:, None, :], (2, 3, 2)))
    >>> stay.expectation(jnp.array([1.0, 5.0])).shape
    (2, 3)
    """

    probability: Float[Array, "state action next_state"]

    @property
    def num_states(self) -> int:
        """Number of states S."""
        return self.probability.shape[0]

    @property
    def num_actions(self) -> int:
        """Number of actions A."""
        return self.probability.shape[1]

    def expectation(self, values: Float[Array, " state"]) -> Float[Array, "state action"]:
        """Return ``E[values(s') | s, a]``, shape (S, A)."""
        return self.probability @ values

    def push(self, weights: Float[Array, "state action"]) -> Float[Array, " state"]:
        """Return the mass that ``weights`` on (state, action) sends to each next state."""
        return jnp.einsum("sa,sat->t", weights, self.probability)

    def matrix(self, policy: Float[Array, "state action"]) -> Float[Array, "state next_state"]:
        """Return the state-to-state transition matrix under ``policy``, shape (S, S)."""
        return jnp.einsum("sa,sat->st", policy, self.probability)

    def next_state(
        self, state: Int[Array, "..."], action: Int[Array, "..."], slot: Int[Array, "..."]
    ) -> Int[Array, "..."]:
        """Translate a position in the last axis of ``probability`` into a state."""
        return slot

    def step_probability(
        self, state: Int[Array, "..."], action: Int[Array, "..."], next_state: Int[Array, "..."]
    ) -> Float[Array, "..."]:
        """Return ``P(next_state | state, action)`` of many transitions."""
        return self.probability[state, action, next_state]

    def to_dense(self) -> "DenseTransition":
        """Return the law in the dense layout."""
        return self


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SuccessorTransition:
    """Transition law that lists the K possible successors of each pair.

    Parameters
    ----------
    successor : int array, shape (S, A, K)
        States that can follow; a state may be listed twice (its probabilities add up), and a
        slot that is not needed has probability 0.
    probability : array, shape (S, A, K)
        Their probabilities.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> ring = SuccessorTransition(jnp.array([[[1]], [[0]]]), jnp.ones((2, 1, 1)))
    >>> ring.matrix(jnp.ones((2, 1))).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """

    successor: Int[Array, "state action successor"]
    probability: Float[Array, "state action successor"]

    @property
    def num_states(self) -> int:
        """Number of states S."""
        return self.probability.shape[0]

    @property
    def num_actions(self) -> int:
        """Number of actions A."""
        return self.probability.shape[1]

    def expectation(self, values: Float[Array, " state"]) -> Float[Array, "state action"]:
        """Return ``E[values(s') | s, a]``, shape (S, A)."""
        return (self.probability * values[self.successor]).sum(-1)

    def push(self, weights: Float[Array, "state action"]) -> Float[Array, " state"]:
        """Return the mass that ``weights`` on (state, action) sends to each next state."""
        mass = weights[..., None] * self.probability
        return jnp.zeros(self.num_states, mass.dtype).at[self.successor].add(mass)

    def matrix(self, policy: Float[Array, "state action"]) -> Float[Array, "state next_state"]:
        """Return the state-to-state transition matrix under ``policy``, shape (S, S)."""
        rows = jnp.broadcast_to(jnp.arange(self.num_states)[:, None, None], self.successor.shape)
        empty = jnp.zeros((self.num_states, self.num_states), self.probability.dtype)
        return empty.at[rows, self.successor].add(policy[..., None] * self.probability)

    def next_state(
        self, state: Int[Array, "..."], action: Int[Array, "..."], slot: Int[Array, "..."]
    ) -> Int[Array, "..."]:
        """Translate a position in the last axis of ``probability`` into a state."""
        return self.successor[state, action, slot]

    def step_probability(
        self, state: Int[Array, "..."], action: Int[Array, "..."], next_state: Int[Array, "..."]
    ) -> Float[Array, "..."]:
        """Return ``P(next_state | state, action)`` of many transitions."""
        reached = self.successor[state, action] == next_state[..., None]
        return jnp.where(reached, self.probability[state, action], 0.0).sum(-1)

    def to_dense(self) -> DenseTransition:
        """Return the law in the dense layout."""
        S, A, _ = self.successor.shape
        rows = jnp.broadcast_to(jnp.arange(S)[:, None, None], self.successor.shape)
        columns = jnp.broadcast_to(jnp.arange(A)[None, :, None], self.successor.shape)
        empty = jnp.zeros((S, A, S), self.probability.dtype)
        return DenseTransition(empty.at[rows, columns, self.successor].add(self.probability))


Transition = DenseTransition | SuccessorTransition
