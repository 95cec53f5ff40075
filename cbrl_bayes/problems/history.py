"""Followers who remember: what they do next depends on what they met so far."""

import abc
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import (
    MDP,
    BestResponse,
    Trajectories,
    finite_status,
    is_traced,
    rollout,
    soft_policy_values,
)
from cbrl_bayes.problems.response import respond

if TYPE_CHECKING:
    from cbrl_bayes.problems.record import Incentive, Parameters, Problem


class History(abc.ABC):
    r"""The response of followers with a memory; a problem's ``response_fn``.

    A memory :math:`m` (any pytree of arrays) begins at `start`, says by `log_policy` what is done
    next, and takes up by `update` what was met. Inference scans it along every observed episode;
    simulation carries it. The leader need not know it: with :math:`d_s(m)` the law of the memory
    of those who come to state s, the policy

    .. math:: \bar\pi(a|s) = \sum_m d_s(m)\, \pi(a|s, m)

    of `marginal` visits every state and action as often as the followers do, and depends on the
    state alone. So objectives, designs and figures rest on it, as on any response. It is not what
    one follower does after a known past.

    No state may be met twice in one episode: states carry the time, as those of
    `cbrl_bayes.mdp.finite_horizon` do. A temperature (lambda; rationality is 1/lambda) is read
    from the MDP, so that `Problem.heated` reaches it.

    Notes
    -----
    `LeaderOutcome.follower_value` is the expected reward plus lambda times the entropy of
    :math:`\bar\pi`; a follower with a memory does not maximise it.

    See Also
    --------
    cbrl_bayes.problems.DeltaRule : learning from rewards, and habit.
    """

    @abc.abstractmethod
    def start(self, mdp: MDP, parameters: "Parameters") -> Any:
        """Return the memory of a follower before its first step."""

    @abc.abstractmethod
    def log_policy(
        self, memory: Any, mdp: MDP, parameters: "Parameters", state: Int[Array, ""]
    ) -> Float[Array, " action"]:
        """Return the log-probability of each action in one state, given the memory."""

    @abc.abstractmethod
    def update(
        self,
        memory: Any,
        mdp: MDP,
        parameters: "Parameters",
        state: Int[Array, ""],
        action: Int[Array, ""],
    ) -> Any:
        """Return the memory after one step: of the same shapes."""

    @abc.abstractmethod
    def marginal(self, mdp: MDP, parameters: "Parameters") -> Float[Array, "state action"]:
        """Return the log policy over states alone that visits what these followers visit."""

    def check(self, mdp: MDP) -> None:
        """Raise if states of an MDP with known values may be met twice in one episode.

        Raises
        ------
        InvalidInputError
            If some move leads to a state of the same or a lower number.
        """
        state, action, slot = np.indices(mdp.transition.probability.shape)
        reached = np.asarray(mdp.transition.next_state(state, action, slot))
        moves = (np.asarray(mdp.transition.probability) > 0.0) & (np.asarray(mdp.continues) > 0.0)[
            :, None, None
        ]
        back = np.argwhere(moves & (reached <= state))
        if len(back):
            s, a, k = back[0]
            raise InvalidInputError(
                "followers who remember need states that are met once: a move leads back",
                received=f"from state {s} by action {a} to state {reached[s, a, k]}",
                accepted="moves to states of a higher number, as cb.finite_horizon lays them out",
            )

    def __call__(
        self, mdp: MDP, parameters: "Parameters", initial_values: Array | None
    ) -> BestResponse:
        """Return the policy over states alone, and what it earns; no solver can fail here."""
        log_policy = self.marginal(mdp, parameters)
        values = soft_policy_values(mdp, log_policy)
        return BestResponse(
            values,
            mdp.q_values(values),
            log_policy,
            jnp.asarray(0),
            jnp.zeros(()),
            finite_status(mdp, values, log_policy),
        )

    def along(
        self,
        mdp: MDP,
        parameters: "Parameters",
        states: Int[Array, " step"],
        actions: Int[Array, " step"],
    ) -> Float[Array, "state action"]:
        """Return what one follower would do in each state of its episode, given its own past.

        Parameters
        ----------
        mdp : MDP
        parameters : mapping
            One follower's.
        states, actions : int arrays, shape (T,)
            What it met and did, in order; -1 after the end.

        Returns
        -------
        array, shape (S, A)
            Log-probabilities; uniform in states that it did not meet.
        """

        def step(memory: Any, met: tuple[Array, Array]) -> tuple[Any, Array]:
            state, action = jnp.maximum(met[0], 0), jnp.maximum(met[1], 0)
            row = self.log_policy(memory, mdp, parameters, state)
            after = self.update(memory, mdp, parameters, state, action)
            return after, row

        _, rows = jax.lax.scan(step, self.start(mdp, parameters), (states, actions))
        # Past its end an episode goes on with numbers that are used nowhere.
        place = jnp.where(states >= 0, states, mdp.num_states)
        return mdp.uniform_log_policy.at[place].set(rows, mode="drop")

    def walk(
        self, mdp: MDP, parameters: "Parameters", *, key: Key[Array, ""], num_steps: int
    ) -> Trajectories:
        """Let one follower act for ``num_steps`` at most; arrays of shape (1, T)."""
        start_key, walk_key = jax.random.split(key)
        first = jax.random.categorical(start_key, _log(mdp.initial))
        terminal = jnp.asarray(mdp.terminal)

        def step(carry: tuple, number: Array) -> tuple[tuple, Trajectories]:
            memory, state, going = carry
            act_key, move_key = jax.random.split(jax.random.fold_in(walk_key, number))
            log_policy = self.log_policy(memory, mdp, parameters, state)
            action = jax.random.categorical(act_key, log_policy)
            slot = jax.random.categorical(move_key, _log(mdp.transition.row(state, action)))
            reached = mdp.transition.next_state(state, action, slot)
            follows = jnp.where(terminal[state], state, reached).astype(state.dtype)
            after = self.update(memory, mdp, parameters, state, action)
            seen = Trajectories(state, action, follows, log_policy[action], going)
            return (after, follows, going & ~terminal[state]), seen

        begin = self.start(mdp, parameters), first, jnp.asarray(True)
        _, record = jax.lax.scan(step, begin, jnp.arange(num_steps))
        return jax.tree.map(lambda leaf: leaf[None], record)


def walk(
    problem: "Problem",
    incentive: "Incentive",
    context: Any,
    parameters: "Parameters",
    *,
    key: Key[Array, ""],
    num_steps: int,
) -> tuple[MDP, Trajectories]:
    """Build one follower's MDP and let it act once, with a memory where it has one.

    Parameters
    ----------
    problem : Problem
    incentive : mapping
        In readable values.
    context : pytree
        One context value.
    parameters : mapping
        One follower's (`Problem.follower_parameters`).
    key : typed key
    num_steps : int
        Longest walk T.

    Returns
    -------
    tuple of MDP and Trajectories
        Arrays of shape (1, T).
    """
    if problem.history is None:
        mdp, response = respond(problem, incentive, context, parameters)
        walked = rollout(mdp, response.policy, key=key, num_steps=num_steps, num_rollouts=1)
        return mdp, walked
    mdp = problem.mdp_fn(incentive, context, parameters)
    return mdp, problem.history.walk(mdp, parameters, key=key, num_steps=num_steps)


def refuse_history(problem: "Problem", what: str, remedy: str) -> None:
    """Raise where followers remember and what is asked for counts choices by state alone."""
    if problem.history is not None:
        raise InvalidInputError(
            f"followers of problem {problem.name!r} remember what they met; {what} takes their "
            "choices as independent given the state",
            received=problem.history,
            remedy=remedy,
        )


def check_history(problem: "Problem", mdp: MDP) -> None:
    """Check the MDP of followers who remember, where its values are known."""
    if problem.history is not None and not is_traced(mdp):
        problem.history.check(mdp)


def _log(chance: Array) -> Array:
    return jnp.where(chance > 0.0, jnp.log(jnp.where(chance > 0.0, chance, 1.0)), -jnp.inf)
