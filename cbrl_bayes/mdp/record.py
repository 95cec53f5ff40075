"""The record of one finite entropy-regularised Markov decision process, checked when made."""

from dataclasses import dataclass, fields

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp.transition import Transition
from cbrl_bayes.mdp.validity import shape_violations, value_violations


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True)
class MDP:
    r"""A finite MDP whose follower maximises discounted reward plus scaled entropy.

    The follower's value is :math:`E \sum_t \gamma^t (r(s_t, a_t) + \lambda H(\pi(\cdot|s_t)))`.

    Parameters
    ----------
    reward : array, shape (S, A)
        Reward of each state and action, any unit; finite.
    transition : DenseTransition or SuccessorTransition
        Law of the next state; every row of a state that is not terminal sums to one.
    initial : array, shape (S,)
        Law of the first state.
    discount : float
        gamma, in [0, 1).
    temperature : float
        lambda > 0, in units of reward; rationality is 1 / lambda.
    terminal : bool array, shape (S,), optional
        States after which the episode ends: their reward counts (and the entropy of the
        action taken in them), their transition does not. Default: none.

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

    def __post_init__(self) -> None:
        if self.terminal is None:
            states = np.shape(self.reward)[0] if np.ndim(self.reward) else 0
            object.__setattr__(self, "terminal", np.zeros(states, bool))
        if not is_traced(self):
            violations = [*shape_violations(self)] or value_violations(self)
            if violations:
                raise InvalidInputError("this is not a valid MDP: " + "; ".join(violations))

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
