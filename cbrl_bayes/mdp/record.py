"""The record of one finite entropy-regularised Markov decision process, checked when made."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp.transition import DenseTransition, SuccessorTransition, Transition

ROW_SUM_TOLERANCE = 1e-8  # rounding of a few hundred float64 additions, with room to spare
MOST_SHOWN = 5


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
        cannot be inspected and pass unchecked.

    Examples
    --------
    >>> import jax.numpy as jnp
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
            violations = [*_shape_violations(self)] or [*_value_violations(self)]
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


def _shape_violations(mdp: MDP) -> Iterator[str]:
    shape = np.shape(mdp.reward)
    if len(shape) != 2 or 0 in shape:
        yield f"reward has shape {shape}, accepted: (states, actions), both at least 1"
        return
    S, A = shape
    law = mdp.transition
    if isinstance(law, DenseTransition):
        if np.shape(law.probability) != (S, A, S):
            yield f"transition has shape {np.shape(law.probability)}, accepted: {(S, A, S)}"
    elif isinstance(law, SuccessorTransition):
        for name in ("successor", "probability"):
            found = np.shape(getattr(law, name))
            if len(found) != 3 or found[:2] != (S, A):
                yield f"transition.{name} has shape {found}, accepted: ({S}, {A}, K)"
        if np.shape(law.successor) != np.shape(law.probability):
            yield "transition.successor and transition.probability differ in shape"
    else:
        yield (
            f"transition is a {type(law).__name__}, "
            "accepted: DenseTransition or SuccessorTransition"
        )
    for name, wanted in (
        ("initial", (S,)),
        ("terminal", (S,)),
        ("discount", ()),
        ("temperature", ()),
    ):
        found = np.shape(getattr(mdp, name))
        if found != wanted:
            yield f"{name} has shape {found}, accepted: {wanted}"


def _value_violations(mdp: MDP) -> Iterator[str]:
    discount, temperature = float(mdp.discount), float(mdp.temperature)
    if not 0.0 <= discount < 1.0:
        yield f"discount is {discount:.6g}, accepted: [0, 1)"
    if not 0.0 < temperature < np.inf:
        yield (
            f"temperature is {temperature:.6g}, accepted: finite and > 0 "
            "(temperature is lambda; rationality is 1/lambda)"
        )
    reward = np.asarray(mdp.reward)
    yield from _listed("reward", reward, ~np.isfinite(reward), "a finite number")
    initial = np.asarray(mdp.initial)
    yield from _probability_violations("initial", initial[None, :], np.array([True]))
    law = mdp.transition
    probability = np.asarray(law.probability)
    if isinstance(law, SuccessorTransition):
        successor = np.asarray(law.successor)
        if not np.issubdtype(successor.dtype, np.integer):
            yield f"transition.successor has type {successor.dtype}, accepted: integers"
            return
        outside = (successor < 0) | (successor >= mdp.num_states)
        yield from _listed(
            "transition.successor", successor, outside, f"a state in [0, {mdp.num_states})"
        )
    yield from _probability_violations("transition", probability, ~np.asarray(mdp.terminal, bool))


def _probability_violations(
    name: str, probability: np.ndarray, must_sum: np.ndarray
) -> Iterator[str]:
    bad = ~(np.isfinite(probability) & (probability >= 0.0))
    yield from _listed(name, probability, bad, "a probability")
    if bad.any():
        return
    totals = probability.sum(-1)
    must = must_sum.reshape(must_sum.shape + (1,) * (totals.ndim - 1))
    off = must & (np.abs(totals - 1.0) > ROW_SUM_TOLERANCE)
    yield from _listed(f"the sum of {name}", totals, off, "1")


def _listed(name: str, values: np.ndarray, bad: np.ndarray, accepted: str) -> Iterator[str]:
    where = np.argwhere(bad)
    for index in where[:MOST_SHOWN]:
        place = ", ".join(str(int(i)) for i in index)
        yield f"{name}[{place}] is {values[tuple(index)]:.6g}, accepted: {accepted}"
    if len(where) > MOST_SHOWN:
        yield f"and {len(where) - MOST_SHOWN} more entries of {name}"
