"""Layouts of a transition law behind one interface: dense, by successor, and by period."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def _entries(table: Array, *index: Array) -> Array:
    """Return entries of a table, which may be NumPy's even where the index is traced."""
    traced = any(isinstance(one, jax.core.Tracer) for one in index)
    return (jnp.asarray(table) if traced else table)[index]


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
        return _entries(self.probability, state, action, next_state)

    def row(self, state: Int[Array, "..."], action: Int[Array, "..."]) -> Float[Array, "... slot"]:
        """Return the law of the next state, by position, for many pairs."""
        return _entries(self.probability, state, action)

    def with_probability(
        self, probability: Float[Array, "state action next_state"]
    ) -> "DenseTransition":
        """Return the same layout with other probabilities."""
        return DenseTransition(probability)

    def restricted_to(self, available: Bool[Array, "state action"]) -> "DenseTransition":
        """Return the law with nothing in the rows of closed actions."""
        return self.with_probability(jnp.where(available[..., None], self.probability, 0.0))

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
        return _entries(self.successor, state, action, slot)

    def step_probability(
        self, state: Int[Array, "..."], action: Int[Array, "..."], next_state: Int[Array, "..."]
    ) -> Float[Array, "..."]:
        """Return ``P(next_state | state, action)`` of many transitions."""
        reached = _entries(self.successor, state, action) == next_state[..., None]
        return jnp.where(reached, self.row(state, action), 0.0).sum(-1)

    def row(self, state: Int[Array, "..."], action: Int[Array, "..."]) -> Float[Array, "... slot"]:
        """Return the law of the next state, by position, for many pairs."""
        return _entries(self.probability, state, action)

    def with_probability(
        self, probability: Float[Array, "state action successor"]
    ) -> "SuccessorTransition":
        """Return the same layout with other probabilities."""
        return SuccessorTransition(self.successor, probability)

    def restricted_to(self, available: Bool[Array, "state action"]) -> "SuccessorTransition":
        """Return the law with nothing in the rows of closed actions."""
        kept = jnp.where(available[..., None], self.probability, 0.0)
        return SuccessorTransition(jnp.where(available[..., None], self.successor, 0), kept)

    def to_dense(self) -> DenseTransition:
        """Return the law in the dense layout."""
        S, A, _ = self.successor.shape
        rows = jnp.broadcast_to(jnp.arange(S)[:, None, None], self.successor.shape)
        columns = jnp.broadcast_to(jnp.arange(A)[None, :, None], self.successor.shape)
        empty = jnp.zeros((S, A, S), self.probability.dtype)
        return DenseTransition(empty.at[rows, columns, self.successor].add(self.probability))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StagedTransition:
    """Transition law of a process with T periods: each move leads into the next period.

    State ``t * S + s`` is the place s in period t (counted from 0). The last period leads
    nowhere: its states are terminal. No array of T x S x A x T x S entries is ever made.

    Parameters
    ----------
    stages : DenseTransition or SuccessorTransition
        Law of the next place, with arrays of shape (T, S, A, ...): the move out of each period
        (the last is not used), or (1, S, A, ...) for one law in all periods.
    num_periods : int
        T >= 1.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> stay = StagedTransition(DenseTransition(jnp.eye(2)[None, :, None, :]), num_periods=3)
    >>> stay.num_states, stay.expectation(jnp.arange(6.0))[:, 0].tolist()
    (6, [2.0, 3.0, 4.0, 5.0, 0.0, 0.0])
    """

    stages: DenseTransition | SuccessorTransition
    num_periods: int = field(metadata={"static": True})

    @property
    def num_places(self) -> int:
        """Number of states within one period."""
        return self.stages.probability.shape[1]

    @property
    def num_states(self) -> int:
        """Number of states S: periods times places."""
        return self.num_periods * self.num_places

    @property
    def num_actions(self) -> int:
        """Number of actions A."""
        return self.stages.probability.shape[2]

    @property
    def probability(self) -> Float[Array, "state action slot"]:
        """Probabilities written out for all periods, shape (S, A, K); solves do without."""
        each = self.stages.probability
        return jnp.broadcast_to(each, (self.num_periods, *each.shape[1:])).reshape(
            self.num_states, *each.shape[2:]
        )

    @property
    def successor(self) -> Int[Array, "state action slot"]:
        """Successors written out for all periods, shape (S, A, K)."""
        state, action, slot = jnp.indices((self.num_states, *self.stages.probability.shape[2:]))
        return self.next_state(state, action, slot)

    @property
    def listed(self) -> SuccessorTransition:
        """The same law by successor, written out."""
        return SuccessorTransition(self.successor, self.probability)

    def stage(self, period: Int[Array, ""] | int) -> DenseTransition | SuccessorTransition:
        """Return the law of the move out of one period, over places."""
        return jax.tree.map(lambda leaf: leaf[self._row(jnp.asarray(period))], self.stages)

    def by_period(self, table: Float[Array, "state ..."]) -> Float[Array, "period place ..."]:
        """Return a table over states with period and place as axes of their own."""
        return table.reshape(self.num_periods, self.num_places, *table.shape[1:])

    def expectation(self, values: Float[Array, " state"]) -> Float[Array, "state action"]:
        """Return ``E[values(s') | s, a]``, shape (S, A); 0 in the last period."""

        def ahead(entry: tuple[Array, Array]) -> Array:
            return self.stage(entry[0]).expectation(entry[1])

        after = self.by_period(values)[1:]
        found = jax.vmap(ahead)((jnp.arange(self.num_periods - 1), after))
        last = jnp.zeros((self.num_places, self.num_actions), found.dtype)
        return jnp.concatenate([found.reshape(-1, self.num_actions), last])

    def push(self, weights: Float[Array, "state action"]) -> Float[Array, " state"]:
        """Return the mass that ``weights`` on (state, action) sends to each next state."""

        def ahead(entry: tuple[Array, Array]) -> Array:
            return self.stage(entry[0]).push(entry[1])

        moving = self.by_period(weights)[:-1]
        found = jax.vmap(ahead)((jnp.arange(self.num_periods - 1), moving))
        return jnp.concatenate([jnp.zeros(self.num_places, weights.dtype), found.ravel()])

    def matrix(self, policy: Float[Array, "state action"]) -> Float[Array, "state next_state"]:
        """Return the state-to-state transition matrix under ``policy``, shape (S, S)."""
        return self.listed.matrix(policy)

    def row(self, state: Int[Array, "..."], action: Int[Array, "..."]) -> Float[Array, "... slot"]:
        """Return the law of the next state, by position, for many pairs."""
        period, place = self._split(state)
        return self.stages.probability[self._row(period), place, action]

    def next_state(
        self, state: Int[Array, "..."], action: Int[Array, "..."], slot: Int[Array, "..."]
    ) -> Int[Array, "..."]:
        """Translate a position in the last axis of ``probability`` into a state."""
        period, place = self._split(state)
        follows = slot
        if isinstance(self.stages, SuccessorTransition):
            follows = self.stages.successor[self._row(period), place, action, slot]
        return jnp.minimum(period + 1, self.num_periods - 1) * self.num_places + follows

    def step_probability(
        self, state: Int[Array, "..."], action: Int[Array, "..."], next_state: Int[Array, "..."]
    ) -> Float[Array, "..."]:
        """Return ``P(next_state | state, action)`` of many transitions."""
        period, place = self._split(state)
        later, follows = self._split(next_state)
        chance = self.row(state, action)
        if isinstance(self.stages, SuccessorTransition):
            listed = self.stages.successor[self._row(period), place, action]
            found = jnp.where(listed == follows[..., None], chance, 0.0).sum(-1)
        else:
            found = jnp.take_along_axis(chance, follows[..., None], axis=-1)[..., 0]
        return jnp.where(later == period + 1, found, 0.0)

    def with_probability(
        self, probability: Float[Array, "state action slot"]
    ) -> "StagedTransition":
        """Return the same layout with other probabilities, a law for each period."""
        each = self.by_period(probability)
        if isinstance(self.stages, SuccessorTransition):
            listed = jnp.broadcast_to(self.stages.successor, each.shape)
            return StagedTransition(SuccessorTransition(listed, each), self.num_periods)
        return StagedTransition(DenseTransition(each), self.num_periods)

    def restricted_to(self, available: Bool[Array, "state action"]) -> "StagedTransition":
        """Return the law unchanged where an action is open in any period, nothing elsewhere."""
        by_period = self.by_period(jnp.asarray(available))
        if self.stages.probability.shape[0] == 1:
            by_period = by_period.any(0, keepdims=True)
        kept = jax.vmap(lambda law, is_open: law.restricted_to(is_open))(self.stages, by_period)
        return StagedTransition(kept, self.num_periods)

    def to_dense(self) -> DenseTransition:
        """Return the law in the dense layout: (T S)^2 A numbers."""
        return self.listed.to_dense()

    def _split(self, state: Int[Array, "..."]) -> tuple[Int[Array, "..."], Int[Array, "..."]]:
        state = jnp.asarray(state)
        return state // self.num_places, state % self.num_places

    def _row(self, period: Int[Array, "..."]) -> Int[Array, "..."]:
        return period if self.stages.probability.shape[0] > 1 else jnp.zeros_like(period)


Transition = DenseTransition | SuccessorTransition | StagedTransition
