"""A critic's values as control variates of rollouts: lower variance, and the same mean.

What has mean zero along a walk, whatever the critic: an action's value less its mean over the
actions that other walkers chose in the same state; what a move leads to less its mean over the
moves of others; and what is worth continuing less what the random end of the rollout leaves of it.
Each walker's first visit to a state, and to a state and an action, is used, so that frequencies
are unbiased however the walks came there.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cbrl_bayes.hypergradients.critics import LeaderCritic
from cbrl_bayes.hypergradients.learned_law import count_transitions
from cbrl_bayes.hypergradients.learned_policy import soft_values_of
from cbrl_bayes.hypergradients.rollout_terms import (
    Branches,
    Scores,
    gap_of,
    gather,
    leader_surrogate,
    paired_surrogate,
)
from cbrl_bayes.mdp import MDP, DenseTransition, Trajectories, Transition
from cbrl_bayes.problems.successors import merged_probability

GROUPS = 3
"""Walkers come in groups. One is judged by the others: the leader's factor by the next group, the
follower's by the one after, since the two factors must be independent."""


class FirstVisits(NamedTuple):
    """How often other walkers, on their first visit, chose an action and moved on, by group."""

    actions: Float[Array, "group state action"]
    moves: Float[Array, "group state action successor"]

    @classmethod
    def of(cls, mdp: MDP, walked: Trajectories, group: Int[Array, " walker"]) -> "FirstVisits":
        """Read walks in which the follower chose every action."""
        S, A = mdp.reward.shape
        to_state = _first(walked.state, walked.active, S)
        to_pair = _first(walked.state * A + walked.action, walked.active, S * A)

        def of_group(number: Array) -> tuple[Array, Array]:
            mine = (group == number)[:, None]
            actions = jnp.zeros((S, A)).at[walked.state, walked.action].add(mine & to_state)
            first = replace(walked, active=mine & to_pair)
            return actions, count_transitions(mdp, first, incentive_moves=False)

        return cls(*jax.vmap(of_group)(jnp.arange(GROUPS)))


def _trusted(counts: Array, table: Array) -> tuple[Array, Array]:
    """Return means of a table over counts (last axis), and how far n of them are to be trusted.

    With n / (n + 1) of a mean over n others the least noise is left.
    """
    number = counts.sum(-1)
    mean = (counts * table).sum(-1) / jnp.maximum(number, 1.0)
    return mean, number / (number + 1.0)


class Stream(NamedTuple):
    """A critic's values of one discounted sum: with the first action given, and without."""

    actions: Float[Array, "state action"]
    values: Float[Array, " state"]
    discount: Array | float


@dataclass(frozen=True)
class Judge:
    """Control variates from a critic, for one follower in one context.

    Parameters
    ----------
    model : callable
        Unconstrained choice -> the critic's MDP.
    policy : array, shape (S, A)
        The critic's.
    seen : FirstVisits
    group : int array, shape (N,)
        Of each base walker.
    follow : int array, shape (2 B,)
        Of each branch walker: that of the base walker from whose step it starts.
    scores : Scores
    """

    model: Callable[[Any], MDP]
    policy: Float[Array, "state action"]
    seen: FirstVisits
    group: Int[Array, " walker"]
    follow: Int[Array, " branch"]
    scores: Scores

    @classmethod
    def of(
        cls,
        stated: Callable[[Any], tuple[MDP, Array]],
        x: Any,
        mdp: MDP,
        base: Trajectories,
        branches: Branches,
        scores: Scores,
    ) -> "Judge":
        """Ask the critic at ``x``, and read the walks."""
        policy = jax.lax.stop_gradient(stated(x)[1])
        group = jnp.arange(base.state.shape[0]) % GROUPS
        follow = jnp.tile(group[branches.place // base.state.shape[1]], 2)
        # Not the branches: how many a group has depends on what its walkers did, and so their
        # means would lean towards the actions that make branches.
        seen = FirstVisits.of(mdp, base, group)
        return cls(lambda at: stated(at)[0], policy, seen, group, follow, scores)

    def leader(self, x: Any, reward: Array, discount: float) -> Stream:
        """Return the leader's values at a policy held fixed; they move with ``x``."""
        found = LeaderCritic.of(self.model(x), self.policy, reward, discount)
        return Stream(found.actions, found.values, discount)

    def follower(self, x: Any, own: MDP) -> Stream:
        """Return the follower's soft values, what it pays for choosing an action included."""
        values, actions = soft_values_of(self.model(x), self.policy)
        surprise = jnp.log(jnp.where(self.policy > 0.0, self.policy, 1.0))
        return Stream(actions - own.temperature * surprise, values, own.discount)

    def surrogate(
        self,
        build: Callable[[Any], tuple[MDP, Array]],
        x: Any,
        base: Trajectories,
        weights: Array,
        branches: Branches,
        discount: float,
    ) -> Callable[[Any], Array]:
        """Return the scalar whose derivative at ``x`` is HPGD's estimate; ``build`` as in pairs."""
        _, reward = build(x)
        fixed = jax.lax.stop_gradient(self.leader(x, reward, discount))

        def total(at: Any) -> Array:
            own, own_reward = build(at)
            direct = self.direct(at, own, own_reward, base, weights, discount)
            return direct + self.response(at, own, fixed, reward, base, weights, branches)

        return total

    def direct(
        self, x: Any, own: MDP, reward: Array, base: Trajectories, weights: Array, discount: float
    ) -> Float[Array, ""]:
        """Return a scalar whose derivative is the leader's, at a policy held fixed."""
        stream = self.leader(x, reward, discount)
        noise = self._noise(stream, own, base, weights, self.group + 1, given=False)
        total = leader_surrogate(
            base, weights, own, reward, self.scores, baseline=False, noise=noise
        )
        start = base.state[:, 0]
        seen = stream.values[start]
        if self.scores.initial:
            seen += jnp.log(own.initial[start]) * jax.lax.stop_gradient(seen)
        return total + own.initial @ stream.values - seen.mean()

    def response(
        self,
        x: Any,
        own: MDP,
        fixed: Stream,
        reward: Array,
        base: Trajectories,
        weights: Array,
        branches: Branches,
    ) -> Float[Array, ""]:
        """Return a scalar whose derivative is the part through the policy.

        ``fixed`` and ``reward`` are the leader's at the present choice. What the critic says of
        every pair of actions, and at the branches what it missed.
        """
        group = self.follow
        stream = self.follower(x, own)
        gaps, noise = [], []
        for walked, at_leader, at_follower in zip(
            branches.rollouts, branches.leader_weights, branches.follower_weights, strict=True
        ):
            less = self._noise(fixed, own, walked, at_leader, group + 1, given=True)
            earned = gather(reward, walked) * at_leader - jax.lax.stop_gradient(less)
            gaps.append(gap_of(earned.sum(1)))
            noise.append(self._noise(stream, own, walked, at_follower, group + 2, given=True))
        temperature = jax.lax.stop_gradient(own.temperature)
        found = paired_surrogate(branches, gaps[::-1], own, temperature, self.scores, noise)
        # Every base step has a pair of actions; it is zero where they are the same.
        spread = jnp.broadcast_to(weights, base.state.shape) / base.state.shape[0]
        everywhere = _pairs(fixed, stream, base.state, base.action, branches.probe)
        known = (jnp.where(base.active, spread, 0.0) * everywhere).sum()
        state = base.state.ravel()[branches.place]
        at_branches = _pairs(fixed, stream, state, branches.first_action, branches.second_action)
        known -= (branches.importance * at_branches).sum()
        return found + known / (2.0 * temperature)

    def _noise(
        self,
        stream: Stream,
        own: MDP,
        walked: Trajectories,
        weights: Array,
        group: Int[Array, " walker"],
        *,
        given: bool,
    ) -> Float[Array, "walker step"]:
        """Return amounts of mean zero along the walks; ``given``: the first action was set."""
        table = (group % GROUPS)[:, None]
        state, action = walked.state, walked.action
        mean, trust = _trusted(self.seen.actions, stream.actions)
        choice = trust[table, state] * (gather(stream.actions, walked) - mean[table, state])
        if given:
            choice = choice.at[:, 0].set(0.0)
        led = own.continues[state] * stream.values[walked.next_state]
        each = _of_successors(own.transition, stream.values) * own.continues[:, None, None]
        if self.scores.transition:
            chance = own.transition.step_probability(state, action, walked.next_state)
            led += _score(chance) * jax.lax.stop_gradient(led)
            each += _score(merged_probability(own.transition)) * jax.lax.stop_gradient(each)
        mean, trust = _trusted(self.seen.moves, each)
        move = trust[table, state, action] * (led - mean[table, state, action])
        present = jnp.where(walked.active, weights, 0.0)
        later = jnp.pad(present[:, 1:], ((0, 0), (0, 1)))
        ahead = stream.discount * present
        return present * choice + ahead * move + (later - ahead) * led


def _pairs(
    leader: Stream, follower: Stream, state: Array, first: Array, second: Array
) -> Float[Array, "..."]:
    """Return the critic's product of both gaps between two actions."""
    by_leader = leader.actions[state, first] - leader.actions[state, second]
    by_follower = follower.actions[state, first] - follower.actions[state, second]
    return by_leader * by_follower


def _score(chance: Array) -> Array:
    """Return a zero whose derivative is that of the logarithm."""
    logs = jnp.log(jnp.where(chance > 0.0, chance, 1.0))
    return logs - jax.lax.stop_gradient(logs)


def _first(place: Array, active: Array, size: int) -> Array:
    """Return which steps are a walker's first at a place."""
    rows = jnp.arange(place.shape[0])[:, None]
    times = jnp.where(active, jnp.arange(place.shape[1]), place.shape[1])
    earliest = jnp.full((place.shape[0], size), place.shape[1]).at[rows, place].min(times)
    return active & (earliest[rows, place] == times)


def _of_successors(
    transition: Transition, values: Float[Array, " state"]
) -> Float[Array, "state action successor"]:
    if not isinstance(transition, DenseTransition):
        return values[transition.successor]
    return jnp.broadcast_to(values, transition.probability.shape)
