"""What trajectories say about the hypergradient: truncation, weights, and scalar surrogates.

A surrogate is a scalar whose derivative in the incentive is the wanted estimate. Estimators
gather rollouts, weight them, and differentiate a surrogate once, whatever the incentive's size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.followers import TrajectorySampler
from cbrl_bayes.mdp import MDP, SolveStatus, Trajectories

MOST_AHEAD = 0.1
"""A simulated worth of which more lies beyond the step limit is not reported as converged."""


@dataclass(frozen=True)
class Scores:
    """Which laws the incentive moves, so that their scores enter."""

    transition: bool
    initial: bool


@dataclass(frozen=True)
class Truncation:
    """Random truncation: a rollout survives each step with one probability."""

    survival: Float[Array, ""]

    @classmethod
    def of(cls, discount: Array | float, exponent: float) -> "Truncation":
        """Return the truncation with survival ``discount ** exponent``."""
        return cls(jnp.asarray(discount, float) ** exponent)

    def weights(self, discount: Array | float, times: Array) -> Array:
        """Weights with which a truncated sum has the discounted sum as its mean."""
        alive = jnp.where(self.survival > 0.0, self.survival, 1.0)
        return (jnp.asarray(discount, float) / alive) ** times

    def limits(self, key: Array, num: int) -> Int[Array, " walker"]:
        """Numbers of steps T + 1 with P(T >= t) = survival^t; survival 0 leaves one step."""
        height = 1.0 - jax.random.uniform(key, (num,))  # in (0, 1]
        last = jnp.floor(jnp.log(height) / jnp.log(self.survival))
        last = jnp.where(self.survival >= 1.0, jnp.inf, jnp.where(self.survival > 0, last, 0.0))
        return jnp.minimum(last + 1.0, 2.0**30).astype(int)


@dataclass(frozen=True)
class BranchSettings:
    """How branch rollouts are made: how many, how long, truncated how, with what noise."""

    num_branches: int
    max_steps: int
    truncation_exponent: float
    common_noise: bool


@dataclass(frozen=True)
class Branches:
    """Rollouts from pairs of actions in the same state, each pair walked twice.

    Attributes
    ----------
    rollouts : list of Trajectories, each (2 B, T)
        Rows b and B + b begin in one state with two different actions.
    follower_weights, leader_weights : lists of arrays, shape (T,) or (2 B, T)
        For each of the rollouts, weights under which truncated sums have the discounted sums as
        their mean.
    importance : array, shape (B,)
        Weight of each pair in the estimate.
    first_action, second_action : int arrays, shape (B,)
        The pair's actions.
    place : int array, shape (B,)
        Which step of the base rollouts, flattened, the pair starts from.
    probe : int array, shape (N, T)
        The second action asked for at every step of the base rollouts.
    cut : list of arrays
        1 for rollouts that the step limit ended, NaN for those not used.
    """

    rollouts: list[Trajectories]
    follower_weights: list[Array]
    leader_weights: list[Array]
    importance: Float[Array, " branch"]
    first_action: Int[Array, " branch"]
    second_action: Int[Array, " branch"]
    place: Int[Array, " branch"]
    probe: Int[Array, "walker step"]
    cut: list[Float[Array, " walker"]]


def draw_branches(
    sample: TrajectorySampler,
    base: Trajectories,
    base_weights: Array,
    discounts: tuple[Array | float, float],
    settings: BranchSettings,
    key: Array,
) -> Branches:
    """Probe a second action everywhere; branch at a random choice of the disagreements."""
    probe_key, choice_key, limit_key, *walk_keys = jax.random.split(key, 5)
    state, action = base.state.ravel(), base.action.ravel()
    active = base.active.ravel()
    probe = sample(key=probe_key, num_steps=1, initial_state=state, step_limit=active.astype(int))
    differs = active & (probe.action[:, 0] != action)
    score = jnp.where(differs, jax.random.uniform(choice_key, state.shape), -1.0)
    chosen_score, chosen = jax.lax.top_k(score, min(settings.num_branches, state.shape[0]))
    used = chosen_score >= 0.0
    importance = jnp.broadcast_to(base_weights, base.state.shape).ravel()[chosen]
    importance *= used * differs.sum() / jnp.maximum(used.sum(), 1) / base.state.shape[0]
    first, second = action[chosen], probe.action[chosen, 0]
    # One rollout serves both discounts, so it must live as long as the larger one asks.
    walk = Truncation.of(jnp.maximum(*discounts), settings.truncation_exponent)
    rollouts, cut = [], []
    for walk_key, one_limit_key in zip(walk_keys, jax.random.split(limit_key), strict=True):
        limit = jnp.tile(walk.limits(one_limit_key, chosen.shape[0]) * used, 2)
        rollouts.append(
            sample(
                key=walk_key,
                num_steps=settings.max_steps,
                initial_state=jnp.tile(state[chosen], 2),
                initial_action=jnp.concatenate([first, second]),
                step_limit=limit,
                noise_copies=2 if settings.common_noise else 1,
            )
        )
        cut.append(was_cut(rollouts[-1], limit))
    times = jnp.arange(settings.max_steps)
    follower_weights, leader_weights = (walk.weights(gamma, times) for gamma in discounts)
    return Branches(
        rollouts,
        [follower_weights] * 2,
        [leader_weights] * 2,
        importance,
        first,
        second,
        chosen,
        probe.action.reshape(base.state.shape),
        cut,
    )


def leader_surrogate(
    base: Trajectories,
    weights: Array,
    mdp: MDP,
    leader_reward: Array,
    scores: Scores,
    *,
    baseline: bool = True,
    noise: Array | float = 0.0,
) -> Float[Array, ""]:
    """Return a scalar whose derivative is the leader's, at a policy held fixed.

    ``noise``: amounts along the walks that have mean zero and are taken off.
    """
    earned = gather(leader_reward, base) * weights - noise
    total = earned.sum()
    sums = jax.lax.stop_gradient(to_go(earned))
    if scores.transition:
        later = jnp.pad(sums[:, 1:], ((0, 0), (0, 1)))
        going = jnp.pad(base.active[:, 1:], ((0, 0), (0, 1)))
        level = _others_mean(later, going) if baseline else 0.0
        total += (log_transitions(base, mdp) * (later - level)).sum()
    if scores.initial:
        first = jnp.log(mdp.initial[base.state[:, 0]])
        everyone = jnp.ones((first.shape[0], 1), bool)
        level = _others_mean(sums[:, :1], everyone)[:, 0] if baseline else 0.0
        total += (first * (sums[:, 0] - level)).sum()
    return total / base.state.shape[0]


def response_surrogate(
    branches: Branches, mdp: MDP, leader_reward: Array, temperature: Array | float, scores: Scores
) -> Float[Array, ""]:
    """Return a scalar whose derivative is the hypergradient's part through the policy."""
    leader_gap = [
        gap_of((gather(leader_reward, walked) * weights).sum(1))
        for walked, weights in zip(branches.rollouts, branches.leader_weights, strict=True)
    ]
    # The leader's factor of one walk meets the follower's factor of the other: independent.
    return paired_surrogate(branches, leader_gap[::-1], mdp, temperature, scores)


def paired_surrogate(
    branches: Branches,
    leader_gap: list[Array],
    mdp: MDP,
    temperature: Array | float,
    scores: Scores,
    noise: Sequence[Array | float] = (0.0, 0.0),
) -> Float[Array, ""]:
    """As `response_surrogate`, with the leader's gap between the two actions given.

    ``noise``: for each of the rollouts, amounts of mean zero that are taken off.
    """
    total = jnp.zeros(())
    for walked, gap, weights, less in zip(
        branches.rollouts, leader_gap, branches.follower_weights, noise, strict=True
    ):
        earned = gather(mdp.reward, walked) * weights - less
        sums = earned.sum(1)
        if scores.transition:
            surprise = jnp.where(walked.active, walked.log_probability, 0.0)
            soft = jax.lax.stop_gradient(earned - temperature * surprise * weights)
            later = jnp.pad(to_go(soft)[:, 1:], ((0, 0), (0, 1)))
            sums += (log_transitions(walked, mdp) * later).sum(1)
        total += (branches.importance * gap * gap_of(sums)).sum()
    return total / (4.0 * temperature)


@dataclass(frozen=True)
class Worth:
    """What walkers are worth to the leader, what lies beyond their step limit included.

    Attributes
    ----------
    returns : array, shape (N,)
        Weighted sums along the walks, continued where the step limit cut them.
    share_ahead : float
        Share of the discounting weight that lies beyond the limit, in [0, 1]: how much of the
        worth is continued, not seen. States from which nothing can be earned do not count.
    """

    returns: Float[Array, " walker"]
    share_ahead: Float[Array, ""]

    def status(self, status: Array) -> Int[Array, ""]:
        """Return the worse of ``status`` and CUT_SHORT, if too much was not seen."""
        cut = self.share_ahead > MOST_AHEAD
        return jnp.where(cut, jnp.maximum(status, int(SolveStatus.CUT_SHORT)), status)


def worth_of(
    walked: Trajectories,
    weights: Float[Array, " step"],
    next_weight: Array | float,
    mdp: MDP,
    leader_reward: Float[Array, "state action"],
    discount: Array | float,
    limit: Int[Array, " walker"] | None = None,
) -> Worth:
    """Sum what walkers earn, and continue those that the step limit cut.

    Beyond the limit a walker earns, and ends, at the rates seen in the second half of the walks.

    Parameters
    ----------
    walked : Trajectories, (N, T)
    weights : array, shape (T,)
        Of the steps; ``next_weight`` is that of step T.
    mdp : MDP
        Its law says from where anything can still be earned.
    leader_reward : array, shape (S, A)
    discount : float
        The leader's, in [0, 1].
    limit : int array, shape (N,), optional
        Random truncation: a walker whose limit is T or less was not cut. Default: none.
    """
    num_steps = walked.state.shape[1]
    live = _can_earn(mdp, leader_reward)
    goes_on = live[walked.next_state] & ~jnp.asarray(mdp.terminal, bool)[walked.state]
    earning = walked.active & live[walked.state]
    late = earning & (jnp.arange(num_steps) >= num_steps // 2)
    seen = jnp.maximum(late.sum(), 1)
    earned = gather(leader_reward, walked)
    rate = jnp.where(late, earned, 0.0).sum() / seen
    ending = (late & ~goes_on).sum() / seen
    cut = walked.active[:, -1] & goes_on[:, -1]
    if limit is not None:
        cut &= limit > num_steps
    # Without a discount nothing seen to end means that nothing is known of what lies ahead.
    fading = jnp.maximum(1.0 - discount * (1.0 - ending), jnp.finfo(float).eps)
    steps_ahead = cut * next_weight / fading
    ahead, done = steps_ahead.mean(), (earning * weights).sum(1).mean()
    share = ahead / jnp.maximum(ahead + done, jnp.finfo(float).tiny)
    return Worth((earned * weights).sum(1) + rate * steps_ahead, share)


def _can_earn(mdp: MDP, leader_reward: Array) -> Bool[Array, " state"]:
    """Return the states from which some policy reaches a reward that is not zero."""

    def spread(now: tuple[Array, Array]) -> tuple[Array, Array]:
        live, _ = now
        ahead = (mdp.transition.expectation(live.astype(float)) > 0.0).any(1)
        more = live | (ahead & ~jnp.asarray(mdp.terminal, bool))
        return more, (more != live).any()

    first = (leader_reward != 0.0).any(1), jnp.array(True)
    return jax.lax.while_loop(lambda now: now[1], spread, first)[0]


def was_cut(walked: Trajectories, limit: Array) -> Float[Array, " walker"]:
    """Return 1 for rollouts that ran out of steps before their limit, NaN for unused ones."""
    cut = walked.active[:, -1] & (limit > walked.state.shape[1])
    return jnp.where(limit > 0, cut.astype(float), jnp.nan)


def cut_share(cut: list[Array]) -> Float[Array, ""]:
    """Return the share of the rollouts in use that were cut; 0 where none was in use."""
    return jnp.nan_to_num(jnp.nanmean(jnp.concatenate(cut)))


def gather(table: Array, walked: Trajectories) -> Float[Array, "walker step"]:
    """Look up a (state, action) table along the walks; 0 after their end."""
    return jnp.where(walked.active, table[walked.state, walked.action], 0.0)


def to_go(amounts: Array) -> Array:
    """Sum from each step to the end."""
    return jnp.cumsum(amounts[:, ::-1], axis=1)[:, ::-1]


def log_transitions(walked: Trajectories, mdp: MDP) -> Float[Array, "walker step"]:
    """Return log P of every step that a later active step follows, 0 elsewhere."""
    followed = jnp.pad(walked.active[:, 1:], ((0, 0), (0, 1)))
    chance = mdp.transition.step_probability(walked.state, walked.action, walked.next_state)
    return jnp.log(jnp.where(followed, chance, 1.0))


def check_log_probabilities(base: Trajectories) -> None:
    """Raise where a score is needed of which the follower does not report the parts."""
    if bool((jnp.isnan(base.log_probability) & base.active).any()):
        raise InvalidInputError(
            "the incentive changes the transitions; the follower must then report the "
            "log-probability of its actions",
            remedy="Episode(..., log_probability=...), or ZerothOrder",
        )


def _others_mean(values: Array, active: Array) -> Array:
    """Mean over the other active walkers at the same time: a baseline that adds no bias."""
    kept = jnp.where(active, values, 0.0)
    others = jnp.maximum(active.sum(0) - active, 1)
    return jnp.where(active, (kept.sum(0) - kept) / others, 0.0)


def gap_of(sums: Array) -> Array:
    """Return what the first actions' walks add up to less what the second actions' do."""
    first, second = jnp.split(sums, 2)
    return first - second
