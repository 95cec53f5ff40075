"""The record of one finite entropy-regularised Markov decision process, checked when made."""

from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp.transition import Transition
from cbrl_bayes.mdp.validity import shape_violations, value_violations

CLOSED = -1e30
"""Log-probability of a closed action. Its exponential is exactly 0; unlike that of -inf, its
product with 0 is 0, so that no formula and no derivative needs a case of its own."""


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True)
class MDP:
    r"""A finite MDP whose follower maximises discounted reward plus scaled entropy.

    The follower's value is :math:`E \sum_t \gamma^t (r(s_t, a_t) + \lambda H(\pi(\cdot|s_t)))`.

    Parameters
    ----------
    reward : array, shape (S, A)
        Reward of each state and action, any unit; finite where the action is available.
    transition : DenseTransition, SuccessorTransition or StagedTransition
        Law of the next state; every row of an available action in a state that is not terminal
        sums to one.
    initial : array, shape (S,)
        Law of the first state.
    discount : float
        gamma, in [0, 1]. With 1 an end must be in reach from every state (`check_ends`).
    temperature : float
        lambda > 0, in units of reward; rationality is 1 / lambda.
    terminal : bool array, shape (S,), optional
        States after which the episode ends: their reward counts (and the entropy of the
        action taken in them), their transition does not. Default: none.
    available : bool array, shape (S, A), optional
        Which actions are open in which states; at least one in each. A closed action has
        probability 0 and no part in the entropy. Its reward and its law are not used: they may
        hold any constant, and read as 0 afterwards (a formula that is not finite there, such as
        the root of a negative number, has no derivative all the same). Default: all.

    Raises
    ------
    InvalidInputError
        Names every violation with its index and value. Values under a JAX transformation
        cannot be inspected and pass unchecked: `is_valid` says there whether they will do.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from cbrl_bayes.mdp import DenseTransition
    >>> mdp = MDP(
    ...     reward=jnp.array([[0.0, 1.0]]),
    ...     transition=DenseTransition(jnp.ones((1, 2, 1))),
    ...     initial=jnp.ones(1), discount=0.5, temperature=1.0,
    ... )
    >>> mdp.num_states, mdp.num_actions
    (1, 2)
    """

    reward: Float[Array, "state action"]
    transition: Transition
    initial: Float[Array, " state"]
    discount: Float[Array, ""] | float
    temperature: Float[Array, ""] | float
    terminal: Bool[Array, " state"] | None = None
    available: Bool[Array, "state action"] | None = None

    def __post_init__(self) -> None:
        if self.terminal is None:
            states = np.shape(self.reward)[0] if np.ndim(self.reward) else 0
            object.__setattr__(self, "terminal", np.zeros(states, bool))
        violations = [] if is_traced(self) else [*shape_violations(self)]
        if self.available is not None and not violations:
            self._close(jnp.asarray(self.available) != 0)
        if not is_traced(self):
            violations = violations or value_violations(self)
            if violations:
                raise InvalidInputError("this is not a valid MDP: " + "; ".join(violations))

    def _close(self, available: Bool[Array, "state action"]) -> None:
        """Take out what closed actions would earn and lead to, whatever stands there."""
        object.__setattr__(self, "_stated", (self.reward, self.transition))
        object.__setattr__(self, "reward", jnp.where(available, self.reward, 0.0))
        object.__setattr__(self, "transition", self.transition.restricted_to(available))

    def tree_flatten_with_keys(self) -> tuple:
        """Split into leaves, for JAX."""
        names = [field.name for field in fields(self)]
        return [(jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in names], None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple) -> "MDP":
        """Rebuild from leaves, for JAX; these need not be arrays, so nothing is checked."""
        mdp = object.__new__(cls)
        for field, child in zip(fields(cls), children, strict=True):
            object.__setattr__(mdp, field.name, child)
        return mdp

    @property
    def num_states(self) -> int:
        """Number of states S."""
        return self.reward.shape[0]

    @property
    def num_actions(self) -> int:
        """Number of actions A."""
        return self.reward.shape[1]

    @property
    def continues(self) -> Float[Array, " state"]:
        """1.0 where the episode goes on after this state's action, 0.0 where it ends."""
        return 1.0 - jnp.asarray(self.terminal, jnp.result_type(float))

    @property
    def is_open(self) -> Bool[Array, "state action"] | np.ndarray:
        """Which actions are open: ``available``, or all of them."""
        return np.ones(self.reward.shape, bool) if self.available is None else self.available

    @property
    def as_stated(self) -> tuple[Float[Array, "state action"], Transition]:
        """Reward and law as given, before what belongs to closed actions was taken out.

        Contexts that differ in what is open may share them. A record that has been through a JAX
        transformation no longer knows what was taken out.
        """
        return self.__dict__.get("_stated", (self.reward, self.transition))

    def over_open(
        self, preferences: Float[Array, "... action"], at: Any = ...
    ) -> Float[Array, "... action"]:
        """Return the same with `CLOSED` in the place of closed actions; ``at`` as below."""
        if self.available is None:
            return preferences
        return jnp.where(jnp.asarray(self.available)[at] != 0, preferences, CLOSED)

    def log_policy(
        self, preferences: Float[Array, "... action"], at: Any = ...
    ) -> Float[Array, "... action"]:
        """Return the log of ``softmax(preferences)`` over the open actions.

        Parameters
        ----------
        preferences : array, shape (S, A), or (..., A) with ``at``
            For example ``Q / lambda``; without unit.
        at : int array, optional
            The states that the rows belong to. Default: all, in order.

        Returns
        -------
        array
            Of the same shape; `CLOSED` for closed actions.
        """
        return self.over_open(jax.nn.log_softmax(self.over_open(preferences, at), axis=-1), at)

    def soft_maximum(
        self, q_values: Float[Array, "... action"], at: Any = ...
    ) -> Float[Array, "..."]:
        """Return ``lambda log sum_a exp(Q / lambda)`` over the open actions; units of reward.

        ``at`` as in `log_policy`.
        """
        preferences = self.over_open(q_values / self.temperature, at)
        return self.temperature * jax.nn.logsumexp(preferences, axis=-1)

    @property
    def uniform_log_policy(self) -> Float[Array, "state action"]:
        """Log of the policy that takes all open actions alike, shape (S, A)."""
        return self.log_policy(jnp.zeros(self.reward.shape))

    def q_values(self, values: Float[Array, " state"]) -> Float[Array, "state action"]:
        """Return ``r + gamma E[values(s')]``, shape (S, A), units of reward."""
        ahead = self.transition.expectation(values) * self.continues[:, None]
        return self.reward + self.discount * ahead


def is_traced(tree: object) -> bool:
    """Return whether a leaf has no value yet, as under a JAX transformation."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def replace_fields(mdp: MDP, **changes: object) -> MDP:
    """Return a copy of ``mdp`` with some fields replaced (checked as at construction)."""
    return MDP(**{field.name: getattr(mdp, field.name) for field in fields(mdp)} | changes)
