"""Learning from rewards by the delta rule, and habit, between two options."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cbrl_bayes.errors import InvalidInputError, require_ranges
from cbrl_bayes.mdp import MDP
from cbrl_bayes.problems.history import History

if TYPE_CHECKING:
    from cbrl_bayes.problems.record import Parameters

LEAST = 1e-12
"""Least probability of an option in the mean over all learners: interpolation may end below 0."""


@dataclass(frozen=True)
class DeltaRule(History):
    r"""Learners who know of an option only what it gave them.

    A learner holds a value :math:`v_a` of each option, all equal to ``initial_value`` at first.
    In every trial it takes option a with probability

    .. math:: \pi(a) \propto \exp\bigl((v_a + h\,[a = a_{last}]) / \lambda\bigr)

    and, with the reward r that it got, moves the value of the option it took:
    :math:`v_a \leftarrow v_a + \alpha (r - v_a)`. Parameters of the problem: ``learning_rate``
    (:math:`\alpha` in (0, 1), per trial), ``temperature`` (:math:`\lambda > 0`; rationality is
    1/lambda), ``habit`` (h, a bonus for what was done last, negative for those who alternate) and
    ``initial_value``; the last three in units of reward.

    The MDP has two actions, and its states are the trials in order: state t leads to t + 1, and
    the last one ends the episode. ``reward[t, a]`` is what option a gives in trial t.

    Parameters
    ----------
    num_values : int
        Nodes M of the grid on which the law of the two values over all learners is carried from
        trial to trial (3 M^2 numbers), by cubic convolution: the values between the least and the
        largest reward. Used by `marginal` alone; the likelihood and simulations are exact. The
        error falls as the third power of the distance of the nodes, once that distance is below
        lambda. At least 5.

    References
    ----------
    Rescorla and Wagner (1972); Keys (1981), *Cubic convolution interpolation for digital image
    processing*, for the weights.

    Examples
    --------
    >>> from cbrl_bayes.problems import two_option_learning
    >>> problem = two_option_learning(num_trials=3, budgets=(1.0, 1.0))
    >>> one = problem.follower_parameters(problem.default_parameters, 0)
    >>> mdp = problem.mdp_fn({"reward": jnp.array([[1.0, 0], [0, 1], [0, 0]])}, 0, one)
    >>> met = problem.history.along(mdp, one, jnp.arange(3), jnp.array([0, 0, 0]))
    >>> [f"{float(p):.3f}" for p in jnp.exp(met[:, 0])]  # 1 at rate .2, then 0: values .2, .16
    ['0.500', '0.731', '0.690']
    """

    num_values: int = 33

    def __post_init__(self) -> None:
        require_ranges(self, "settings of DeltaRule", num_values=">= 5")

    def start(self, mdp: MDP, parameters: "Parameters") -> tuple[Array, Array]:
        """Return the values of the options, shape (2,), and that no option was taken yet."""
        first = jnp.asarray(parameters["initial_value"], float)
        return jnp.broadcast_to(first, (2,)), jnp.asarray(-1)

    def log_policy(
        self, memory: Any, mdp: MDP, parameters: "Parameters", state: Int[Array, ""]
    ) -> Float[Array, " action"]:
        """Return the log-probability of each option."""
        values, last = memory
        liked = values + parameters["habit"] * (jnp.arange(2) == last)
        return jax.nn.log_softmax(liked / mdp.temperature)

    def update(
        self,
        memory: Any,
        mdp: MDP,
        parameters: "Parameters",
        state: Int[Array, ""],
        action: Int[Array, ""],
    ) -> tuple[Array, Array]:
        """Move the value of the option that was taken towards what it gave."""
        values, last = memory
        # By a mask, not by an index: a scan over many learners has no quick way to write by index.
        taken = jnp.arange(2) == action
        error = jnp.where(taken, mdp.reward[state] - values, 0.0)
        return values + parameters["learning_rate"] * error, jnp.asarray(action, last.dtype)

    def marginal(self, mdp: MDP, parameters: "Parameters") -> Float[Array, "state action"]:
        """Carry the law of (last option, both values) through the trials."""
        num, first = self.num_values, jnp.asarray(parameters["initial_value"], float)
        seen = jnp.append(jnp.ravel(mdp.reward), first)
        low, span = seen.min(), jnp.ptp(seen)
        span = jnp.where(span > 0.0, span, 1.0)
        nodes = low + span * jnp.linspace(0.0, 1.0, num)

        def weights(values: Array) -> Array:
            return _weights((values - low) / span * (num - 1), num)

        # Of the first option, by what was taken last: the first, the second, nothing yet.
        habit = parameters["habit"] * jnp.array([1.0, -1.0, 0.0])[:, None, None]
        chance = jax.nn.sigmoid((nodes[:, None] - nodes + habit) / mdp.temperature)
        reward = mdp.reward[..., None]
        moves = weights(nodes + parameters["learning_rate"] * (reward - nodes))

        def trial(law: Array, move: Array) -> tuple[Array, Array]:
            taken = (law * chance).sum(0), (law * (1.0 - chance)).sum(0)
            after = move[0].T @ taken[0], taken[1] @ move[1]
            return jnp.stack([*after, jnp.zeros((num, num))]), taken[0].sum()

        at = weights(first)
        begin = jnp.zeros((3, num, num)).at[2].set(at[:, None] * at)
        _, share = jax.lax.scan(trial, begin, moves)
        share = jnp.clip(share, LEAST, 1.0 - LEAST)
        return jnp.stack([jnp.log(share), jnp.log1p(-share)], axis=1)

    def check(self, mdp: MDP) -> None:
        """Raise unless there are two options, both open, and the states are trials in order.

        Raises
        ------
        InvalidInputError
            For any other MDP.
        """
        trial = np.arange(mdp.num_states)
        ends = np.asarray(mdp.terminal, bool)
        fits = mdp.num_actions == 2 and bool(np.asarray(mdp.is_open).all())
        fits = fits and float(mdp.initial[0]) == 1.0 and bool((ends == (trial == trial[-1])).all())
        if fits and len(trial) > 1:
            here, option = jnp.meshgrid(jnp.arange(len(trial) - 1), jnp.arange(2))
            onward = mdp.transition.step_probability(here, option, here + 1)
            fits = bool((np.asarray(onward) > 1.0 - 1e-9).all())
        if not fits:
            raise InvalidInputError(
                "this is no process for learners between two options",
                received=f"{mdp.num_states} states, {mdp.num_actions} actions",
                accepted="two open actions; state t leads to t + 1, the last one ends the episode",
                remedy="cb.finite_horizon with one place, as in problems.two_option_learning",
            )


def _weights(place: Float[Array, "..."], num: int) -> Float[Array, "... node"]:
    """Return the share of each node in what lies at a place in [0, num - 1]: cubic convolution.

    What belongs to the nodes -1 and ``num`` goes to the three nearest inside, so that parabolas
    stay what they are up to the ends.
    """
    gap = jnp.abs(place[..., None] - jnp.arange(-1, num + 1))
    near = (1.5 * gap - 2.5) * gap**2 + 1.0
    far = ((-0.5 * gap + 2.5) * gap - 4.0) * gap + 2.0
    share = jnp.where(gap < 1.0, near, jnp.where(gap < 2.0, far, 0.0))
    outside = jnp.array([3.0, -3.0, 1.0])
    inside = share[..., 1:-1].at[..., :3].add(share[..., :1] * outside)
    return inside.at[..., -3:].add(share[..., -1:] * outside[::-1])
