"""Hyper policy gradient descent (HPGD): the hypergradient from the follower's trajectories."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cbrl_bayes.errors import InvalidInputError, explain
from cbrl_bayes.followers import ExactFollower, TrajectoryOracle, TrajectorySampler
from cbrl_bayes.hypergradients.contract import EstimateInfo
from cbrl_bayes.mdp import MDP, Trajectories
from cbrl_bayes.problems import Problem, depends_on_input

__all__ = ["HPGD"]


@dataclass(frozen=True)
class HPGD:
    r"""Estimate the hypergradient without bias from rollouts of a trajectory oracle.

    Decomposable objectives (docs, *Method*; Thoma et al. 2024, Theorem 3):

    .. math:: \frac{dJ_U}{dx} = E \sum_t \gamma_U^t \Big( d_x r_U
        + \gamma_U\, d_x \log P\; V_U(s_{t+1})
        + \tfrac1\lambda A_U(s_t,a_t)\, d_x A^*(s_t,a_t) \Big).

    The last term is a covariance over actions in :math:`s_t`, written with an independent
    second action :math:`a'` as
    :math:`\frac{1}{2\lambda} E[(Q_U(a)-Q_U(a'))\,(d_xQ^*(a)-d_xQ^*(a'))]`: zero wherever the two
    actions agree, so rollouts are spent only where they differ. Each of the two factors comes
    from rollouts of its own (two per branch, used crosswise), the sums are truncated at random
    with :math:`P(T \ge t) = \gamma^{\kappa t}` and weighted to stay unbiased, and
    :math:`d_xQ^*` follows from the envelope theorem: discounted sums of :math:`d_x r` and, where
    the incentive moves the transitions, the score :math:`d_x \log P` times the soft reward to
    go. All sums enter one surrogate whose derivative is taken once, so the cost does not grow
    with the number of incentive parameters, and any pytree will do.

    Needs: rollouts, also from a given state and action, with the follower's own
    log-probability of each action; the leader's knowledge of how the incentive enters reward
    and transitions; the temperature. Bias: none but for rollouts longer than ``max_steps``
    (their share is reported). Choose it when the follower is a black box.

    Parameters
    ----------
    num_rollouts : int
        Rollouts from the initial law per step, over all contexts and followers; >= 1.
    num_branches : int
        States per (context, follower) from which four branch rollouts start; >= 1.
    max_steps : int
        Longest rollout. Discounts near 1 in endless problems ask for many steps: keep an eye on
        the share of rollouts cut short, which `cbrl_bayes.summary` judges.
    truncation_exponent : float
        kappa in [0, 1]: 1 is truncation without discounting, 0 discounting without truncation.
    common_noise : bool
        Let the two branches of a pair share random numbers, which leaves the mean as it is and
        lowers the variance. Needs a simulator whose noise can be set.
    num_contexts : int, optional
        Contexts drawn per step. Default: all, weighted with their probabilities.
    oracle : TrajectoryOracle
        The follower. Default: exact best response.

    Raises
    ------
    InvalidInputError
        For settings out of range, or (when used) a problem with a general objective.

    Examples
    --------
    >>> import jax
    >>> from cbrl_bayes.problems import two_state
    >>> problem, estimator = two_state(), HPGD(num_rollouts=64, num_branches=16, max_steps=4)
    >>> x = problem.incentive.initial
    >>> state = estimator.init(problem, x, key=jax.random.key(0))
    >>> gradient, state, info = estimator.estimate(
    ...     problem, x, problem.default_parameters, state, key=jax.random.key(1))
    >>> gradient["bonus"].shape
    ()
    """

    num_rollouts: int = 40
    num_branches: int = 20
    max_steps: int = 200
    truncation_exponent: float = 0.5
    common_noise: bool = True
    num_contexts: int | None = None
    oracle: TrajectoryOracle = field(default_factory=ExactFollower)

    def __post_init__(self) -> None:
        contexts = 1 if self.num_contexts is None else self.num_contexts
        counts = (self.num_rollouts, self.num_branches, self.max_steps, contexts)
        if min(counts) < 1 or not 0.0 <= self.truncation_exponent <= 1.0:
            raise InvalidInputError(
                explain("HPGD settings are out of range", received=self,
                        accepted="counts >= 1, truncation_exponent in [0, 1]")
            )  # fmt: skip

    @property
    def is_exact(self) -> bool:
        """Carries simulation error."""
        return False

    def init(self, problem: Problem, unconstrained: Any, *, key: Array) -> Any:
        """Return the followers' memories, one per context and follower."""
        pairs = (self.num_contexts or problem.contexts.num_contexts,
                 problem.followers.num_followers)  # fmt: skip
        memory = self.oracle.initial_memory(problem)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*pairs, *leaf.shape)), memory)

    def estimate(
        self,
        problem: Problem,
        unconstrained: Any,
        parameters: Mapping[str, Any],
        state: Any,
        *,
        key: Array,
        temperature_factor: Array | float = 1.0,
    ) -> tuple[Any, Any, EstimateInfo]:
        """Return an unbiased estimate; see `Estimator.estimate`."""
        context_key, work_key = jax.random.split(key)
        contexts, weights = self._contexts(problem, parameters, context_key)
        followers = problem.followers
        shape = (weights.shape[0], followers.num_followers)
        if self.num_contexts is not None:
            # The contexts are others than last time: what was learned in them does not carry.
            state = self.init(problem, unconstrained, key=context_key)

        def one_pair(entry: tuple) -> tuple:
            context, index, follower, memory = entry
            one = problem.follower_parameters(parameters, follower)
            pair_key = jax.random.fold_in(jax.random.fold_in(work_key, index), follower)
            return self._one_follower(
                problem, unconstrained, context, one, memory, pair_key, temperature_factor
            )

        index, follower = (grid.ravel() for grid in jnp.indices(shape))
        per_pair = jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], contexts)
        memory = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), state)
        gradient, memory, info = jax.lax.map(one_pair, (per_pair, index, follower, memory))
        share = weights[index] * jnp.asarray(followers.weights)[follower]
        total = EstimateInfo(
            share @ info.objective, info.status.max(), info.follower_steps.sum(),
            info.truncated_share.mean(),
        )  # fmt: skip
        gradient = jax.tree.map(lambda leaf: jnp.tensordot(share, leaf, 1), gradient)
        state = jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), memory)
        return gradient, state, total

    def _contexts(self, problem: Problem, parameters: Mapping, key: Array) -> tuple[Any, Array]:
        if self.num_contexts is None:
            return problem.contexts.support(parameters, key)
        values, _ = problem.contexts.draw(parameters, key, self.num_contexts)
        return values, jnp.full(self.num_contexts, 1.0 / self.num_contexts)

    def _one_follower(
        self, problem: Problem, unconstrained: Any, context: Any, parameters: Mapping,
        memory: Any, key: Array, temperature_factor: Array | float,
    ) -> tuple[Any, Any, EstimateInfo]:  # fmt: skip
        train_key, walk_key, branch_key = jax.random.split(key, 3)
        incentive = problem.incentive.transform(unconstrained)
        sample, memory, status = self.oracle.train(
            problem, incentive, context, parameters, memory,
            key=train_key, temperature_factor=temperature_factor,
        )  # fmt: skip

        def build(x: Any) -> tuple[MDP, Array]:
            readable = problem.incentive.transform(x)
            mdp = problem.mdp_fn(readable, context, parameters)
            return mdp, problem.leader_net_reward(readable, context, parameters)

        mdp, leader_reward = build(unconstrained)
        temperature = mdp.temperature * temperature_factor
        pairs = problem.followers.num_followers * (
            self.num_contexts or problem.contexts.num_contexts
        )
        limit_key, walk_key = jax.random.split(walk_key)
        walk = _Truncation.of(problem.leader_discount, self.truncation_exponent)
        limit = walk.limits(limit_key, max(1, self.num_rollouts // pairs))
        base = sample(key=walk_key, num_steps=self.max_steps, num_rollouts=limit.shape[0],
                      step_limit=limit)  # fmt: skip
        times = jnp.arange(self.max_steps)
        weights = walk.weights(problem.leader_discount, times)
        branches = self._branch(
            sample, base, weights, (mdp.discount, problem.leader_discount), branch_key
        )
        scores = (
            depends_on_input(lambda x: build(x)[0].transition.probability, unconstrained),
            depends_on_input(lambda x: build(x)[0].initial, unconstrained),
        )

        def surrogate(x: Any) -> Array:
            own_mdp, own_reward = build(x)
            direct = _leader_surrogate(base, weights, own_mdp, own_reward, scores)
            response = _response_surrogate(branches, own_mdp, leader_reward, temperature, scores[0])
            return direct + response

        gradient = jax.grad(surrogate)(unconstrained)
        earned = _gather(leader_reward, base) * weights
        steps = base.active.sum() * 2 + sum(b.active.sum() for b in branches.rollouts)
        cut = [base.active[:, -1] & (limit > self.max_steps), *branches.cut]
        info = EstimateInfo(
            earned.sum() / limit.shape[0], status, steps, jnp.concatenate(cut).mean()
        )
        return gradient, memory, info

    def _branch(
        self, sample: TrajectorySampler, base: Trajectories, base_weights: Array,
        discounts: tuple[Array | float, float], key: Array,
    ) -> "_Branches":  # fmt: skip
        """Probe a second action everywhere; branch at a random choice of the disagreements."""
        probe_key, choice_key, limit_key, *walk_keys = jax.random.split(key, 5)
        state, action = base.state.ravel(), base.action.ravel()
        active = base.active.ravel()
        probe = sample(key=probe_key, num_steps=1, initial_state=state,
                       step_limit=active.astype(int))  # fmt: skip
        differs = active & (probe.action[:, 0] != action)
        score = jnp.where(differs, jax.random.uniform(choice_key, state.shape), -1.0)
        chosen_score, chosen = jax.lax.top_k(score, min(self.num_branches, state.shape[0]))
        used = chosen_score >= 0.0
        importance = jnp.broadcast_to(base_weights, base.state.shape).ravel()[chosen]
        importance *= used * differs.sum() / jnp.maximum(used.sum(), 1) / base.state.shape[0]
        # One rollout serves both discounts, so it must live as long as the larger one asks.
        walk = _Truncation.of(jnp.maximum(*discounts), self.truncation_exponent)
        rollouts, cut = [], []
        for walk_key, one_limit_key in zip(walk_keys, jax.random.split(limit_key), strict=True):
            limit = jnp.tile(walk.limits(one_limit_key, chosen.shape[0]) * used, 2)
            rollouts.append(
                sample(
                    key=walk_key, num_steps=self.max_steps,
                    initial_state=jnp.tile(state[chosen], 2),
                    initial_action=jnp.concatenate([action[chosen], probe.action[chosen, 0]]),
                    step_limit=limit, noise_copies=2 if self.common_noise else 1,
                )
            )  # fmt: skip
            cut.append(rollouts[-1].active[:, -1] & (limit > self.max_steps))
        times = jnp.arange(self.max_steps)
        follower_weights, leader_weights = (walk.weights(gamma, times) for gamma in discounts)
        return _Branches(rollouts, follower_weights, leader_weights, importance, cut)


@dataclass(frozen=True)
class _Branches:
    rollouts: list[Trajectories]
    follower_weights: Array
    leader_weights: Array
    importance: Array
    cut: list[Array]


@dataclass(frozen=True)
class _Truncation:
    """Random truncation: a rollout survives each step with one probability."""

    survival: Array

    @classmethod
    def of(cls, discount: Array | float, exponent: float) -> "_Truncation":
        return cls(jnp.asarray(discount, float) ** exponent)

    def weights(self, discount: Array | float, times: Array) -> Array:
        """Weights with which a truncated sum has the discounted sum as its mean."""
        alive = jnp.where(self.survival > 0.0, self.survival, 1.0)
        return (jnp.asarray(discount, float) / alive) ** times

    def limits(self, key: Array, num: int) -> Array:
        """Numbers of steps T + 1 with P(T >= t) = survival^t; survival 0 leaves one step."""
        height = 1.0 - jax.random.uniform(key, (num,))  # in (0, 1]
        last = jnp.floor(jnp.log(height) / jnp.log(self.survival))
        last = jnp.where(self.survival >= 1.0, jnp.inf, jnp.where(self.survival > 0, last, 0.0))
        return jnp.minimum(last + 1.0, 2.0**30).astype(int)


def _gather(table: Array, walked: Trajectories) -> Array:
    return jnp.where(walked.active, table[walked.state, walked.action], 0.0)


def _to_go(amounts: Array) -> Array:
    """Sum from each step to the end."""
    return jnp.cumsum(amounts[:, ::-1], axis=1)[:, ::-1]


def _log_transitions(walked: Trajectories, mdp: MDP) -> Array:
    """Return log P of every step that a later active step follows, 0 elsewhere."""
    followed = jnp.pad(walked.active[:, 1:], ((0, 0), (0, 1)))
    chance = mdp.transition.step_probability(walked.state, walked.action, walked.next_state)
    return jnp.log(jnp.where(followed, chance, 1.0))


def _leader_surrogate(
    base: Trajectories, weights: Array, mdp: MDP, leader_reward: Array, scores: tuple[bool, bool]
) -> Array:
    """Return a scalar whose derivative is the leader's, at a policy held fixed."""
    earned = _gather(leader_reward, base) * weights
    total = earned.sum()
    to_go = jax.lax.stop_gradient(_to_go(earned))
    if scores[0]:
        later = jnp.pad(to_go[:, 1:], ((0, 0), (0, 1)))
        going = jnp.pad(base.active[:, 1:], ((0, 0), (0, 1)))
        total += (_log_transitions(base, mdp) * (later - _others_mean(later, going))).sum()
    if scores[1]:
        first = jnp.log(mdp.initial[base.state[:, 0]])
        everyone = jnp.ones((first.shape[0], 1), bool)
        total += (first * (to_go[:, 0] - _others_mean(to_go[:, :1], everyone)[:, 0])).sum()
    return total / base.state.shape[0]


def _others_mean(values: Array, active: Array) -> Array:
    """Mean over the other active walkers at the same time: a baseline that adds no bias."""
    kept = jnp.where(active, values, 0.0)
    others = jnp.maximum(active.sum(0) - active, 1)
    return jnp.where(active, (kept.sum(0) - kept) / others, 0.0)


def _response_surrogate(
    branches: _Branches, mdp: MDP, leader_reward: Array, temperature: Array | float, scores: bool
) -> Array:
    """Return a scalar whose derivative is the hypergradient's part through the policy."""
    weights = branches.follower_weights
    leader_gap = [
        _gap((_gather(leader_reward, walked) * branches.leader_weights).sum(1))
        for walked in branches.rollouts
    ]
    follower_gap = []
    for walked in branches.rollouts:
        earned = _gather(mdp.reward, walked) * weights
        sums = earned.sum(1)
        if scores:
            surprise = jnp.where(walked.active, walked.log_probability, 0.0)
            soft = jax.lax.stop_gradient(earned - temperature * surprise * weights)
            later = jnp.pad(_to_go(soft)[:, 1:], ((0, 0), (0, 1)))
            sums += (_log_transitions(walked, mdp) * later).sum(1)
        follower_gap.append(_gap(sums))
    crossed = leader_gap[0] * follower_gap[1] + leader_gap[1] * follower_gap[0]
    return (branches.importance * crossed).sum() / (4.0 * temperature)


def _gap(sums: Array) -> Array:
    first, second = jnp.split(sums, 2)
    return first - second
