"""A simulated world: a follower of any kind answers the incentives that a campaign deploys."""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from cbrl_bayes.campaigns.answers import Answer, Watch
from cbrl_bayes.followers import ExactFollower, TrajectoryOracle
from cbrl_bayes.hypergradients.learned_law import Sharing, count_transitions
from cbrl_bayes.hypergradients.pairs import map_in_order
from cbrl_bayes.mdp import Trajectories
from cbrl_bayes.problems import Problem
from cbrl_bayes.problems.response import each_pair

FEWEST_WALKS, MOST_WALKS = 8, 256
"""Episodes that are simulated at once for each context and follower."""


@dataclass
class World:
    """Followers as they are, which the leader only watches.

    Parameters
    ----------
    problem : Problem
        The truth; states, actions, contexts and incentives are the leader's.
    parameters : mapping
        All of them.
    oracle : TrajectoryOracle
        The follower.

    Notes
    -----
    The follower trains once for each batch of episodes, and keeps its memory from round to round.
    """

    problem: Problem
    parameters: Mapping[str, Any]
    oracle: TrajectoryOracle = field(default_factory=ExactFollower)

    def __post_init__(self) -> None:
        on_host = self.oracle.runs_on_host
        self._walk = self._walked if on_host else jax.jit(self._walked, static_argnums=(3, 4))
        self._tally = jax.jit(partial(tally, self.problem))

    def of(self, parameters: Mapping[str, Any]) -> "World":
        """Return the world of another truth; what is compiled serves both."""
        other = copy(self)
        other.parameters = dict(parameters)
        return other

    def initial_memory(self) -> Any:
        """Return what followers know before the first round, one for each context and follower."""
        blank = self.oracle.initial_memory(self.problem)
        num = self.problem.contexts.num_contexts * self.problem.followers.num_followers
        return jax.tree.map(
            lambda leaf: jnp.broadcast_to(jnp.asarray(leaf), (num, *jnp.shape(leaf))), blank
        )

    def answer(
        self,
        point: Float[np.ndarray, " coordinate"],
        watch: Watch,
        memory: Any,
        key: Key[Array, ""],
    ) -> tuple[Answer, Any]:
        """Deploy one incentive and watch.

        Parameters
        ----------
        point : array, shape (P,)
            The incentive before its transform.
        watch : Watch
            How much.
        memory : pytree
            From `initial_memory`, or the last answer.
        key : typed key

        Returns
        -------
        tuple of Answer and memory
        """
        context_key, key = jax.random.split(key)
        episodes = watch.episodes(self.problem, self.parameters, context_key)
        F = self.problem.followers.num_followers
        pair = np.asarray(episodes.context) * F + np.asarray(episodes.follower)
        rough = watch.num_steps / self.problem.contexts.num_contexts / 20
        num = int(np.clip(min(rough, watch.num_episodes), FEWEST_WALKS, MOST_WALKS))
        left, taken, total = watch.num_steps, 0, None
        while left > 0 and taken < watch.num_episodes:
            key, one = jax.random.split(key)
            truth = dict(self.parameters)
            memory, walked = self._walk(truth, point, memory, num, watch.max_steps, one)
            cut, taken, left = _used(np.asarray(walked.active.sum(-1)), pair, taken, left)
            part = self._tally(truth, point, walked, cut.length, cut.whole)
            total = part if total is None else jax.tree.map(jnp.add, total, part)
        begun = np.bincount(
            np.asarray(episodes.context)[:taken], minlength=self.problem.contexts.num_contexts
        )
        counted = jax.tree.map(np.asarray, total)
        return counted._replace(point=np.asarray(point), contexts=begun.astype(float)), memory

    def _walked(
        self, truth: dict[str, Any], point: Any, memory: Any, num: int, max_steps: int, key: Array
    ) -> tuple[Any, Trajectories]:
        """Let every follower act in every context, (C F, num, T)."""
        problem = self.problem
        incentive = problem.incentive.transform(problem.incentive.unflatten(point))
        values, weights = problem.contexts.support(truth)
        pairs = each_pair(values, weights.shape[0], problem)
        keys = jax.random.split(key, pairs[1].shape[0])

        def one(entry: tuple) -> tuple[Any, Trajectories]:
            (context, follower), kept, own_key = entry
            train_key, walk_key = jax.random.split(own_key)
            own = problem.follower_parameters(truth, follower)
            sample, after, _ = self.oracle.train(
                problem, incentive, context, own, kept, key=train_key
            )
            return after, sample(key=walk_key, num_steps=max_steps, num_rollouts=num)

        return map_in_order(one, (pairs, memory, keys), on_host=self.oracle.runs_on_host)


def tally(
    problem: Problem,
    parameters: Mapping[str, Any],
    point: Array,
    walked: Trajectories,
    length: Array,
    whole: Array,
) -> Answer:
    """Count the first ``length`` steps of every walk, and the worth of those that are whole.

    Parameters
    ----------
    problem : Problem
    parameters : mapping
        All of them; rewards may depend on them.
    point : array, shape (P,)
    walked : Trajectories, leaves (C F, N, T)
        A next state of -1 is not known: its step is no evidence on the law.
    length : int array, shape (C F, N)
    whole : bool array, shape (C F, N)
    """
    incentive = problem.incentive.transform(problem.incentive.unflatten(point))
    values, weights = problem.contexts.support(parameters)
    C, F = weights.shape[0], problem.followers.num_followers
    S, A = problem.num_states, problem.num_actions
    incentive_moves = Sharing.of(problem, problem.default_parameters).incentive_moves

    def one(entry: tuple) -> tuple:
        (context, follower), walk, long, ended = entry
        own = problem.follower_parameters(parameters, follower)
        mdp = problem.mdp_fn(incentive, context, own)
        times = jnp.arange(walk.state.shape[-1])
        active = walk.active & (times < long[:, None])
        moved = replace(
            walk, active=active & (walk.next_state >= 0), next_state=jnp.maximum(walk.next_state, 0)
        )
        moves = count_transitions(
            mdp, moved, incentive_moves=incentive_moves, ruled_out=not incentive_moves
        )
        choices = jnp.zeros((S, A)).at[walk.state, walk.action].add(active.astype(float))
        worth = jnp.full(long.shape, jnp.nan)
        if problem.leader_reward_fn is not None:
            net = problem.leader_net_reward(incentive, context, own)[walk.state, walk.action]
            worth = (net * active) @ problem.leader_discount**times
        worth = jnp.where(ended, worth, 0.0)
        return choices, moves, worth.sum(), (worth**2).sum()

    pairs = each_pair(values, C, problem)
    choices, moves, worth, square = jax.lax.map(one, (pairs, walked, length, whole))
    return Answer(
        jnp.zeros(0),
        choices.reshape(C, F, S, A),
        moves.reshape(C, F, *moves.shape[1:]),
        jnp.zeros(C),
        whole.sum(),
        worth.sum(),
        square.sum(),
        length.sum(),
    )


class _Cut(NamedTuple):
    """How much of each simulated walk is used."""

    length: Int[np.ndarray, "pair walker"]
    whole: Any


def _used(
    length: Int[np.ndarray, "pair walker"], pair: Int[np.ndarray, " episode"], taken: int, left: int
) -> tuple[_Cut, int, int]:
    """Take walks for the episodes from ``taken`` on, until walks or steps are used up."""
    cut = np.zeros(length.shape, int)
    whole = np.zeros(length.shape, bool)
    following = np.zeros(len(length), int)
    while taken < len(pair) and left > 0:
        which = pair[taken]
        place = following[which]
        if place == length.shape[1]:
            break
        steps = int(length[which, place])
        cut[which, place] = min(steps, left)
        whole[which, place] = steps <= left
        left -= min(steps, left)
        following[which] += 1
        taken += 1
    return _Cut(cut, whole), taken, left
