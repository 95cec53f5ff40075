"""Boltzmann covariance: the hypergradient from whole episodes and a critic of the leader."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cbrl_bayes.errors import require_ranges
from cbrl_bayes.followers import ExactFollower, TrajectoryOracle
from cbrl_bayes.hypergradients.contract import EstimateInfo, FollowerAccess
from cbrl_bayes.hypergradients.discounting import forward_trace, step_factor, sums_ahead
from cbrl_bayes.hypergradients.pairs import (
    choose_contexts,
    contexts_change,
    leader_view,
    memory_per_pair,
    moved_laws,
    over_pairs,
    walkers_per_pair,
)
from cbrl_bayes.hypergradients.rollout_terms import (
    Scores,
    Truncation,
    check_log_probabilities,
    gather,
    leader_surrogate,
    log_transitions,
    was_cut,
    worth_of,
)
from cbrl_bayes.mdp import MDP, Trajectories
from cbrl_bayes.problems import Problem


@dataclass(frozen=True)
class BoltzmannCovariance:
    r"""Estimate the hypergradient from single visits along whole episodes.

    Since :math:`\sum_a \pi(a|s) A_U(s,a) = 0`, the response term needs no derivative of a value
    function,

    .. math:: \tfrac1\lambda E[A_U\, d_xA^*] = \tfrac1\lambda E[A_U\, d_xQ^*],

    and :math:`d_xQ^*(s_t,a_t)` is replaced by the sum of what follows in the same episode.
    Summed over t, the derivative of the reward at step u is weighted with the trace
    :math:`e_u = \gamma e_{u-1} + \gamma_U^u A_U(s_u,a_u)`. The leader's advantage comes from a
    tabular critic: average returns by state and action. The walkers are split in halves; each
    half's critic judges the other half, so that no sample meets itself, and is centred among
    the visits of the half it judges, so that what all actions of a state have in common cancels
    sample by sample. Source: Kudo, Tanabe, Wachi, Akimoto, arXiv 2603.14867 (there with a
    learned critic). With ``cross_fit=False`` it is the every-visit tabular estimate in the
    published code of HPGD.

    Needs: episodes from the initial law, nothing else (no restarts); the leader's knowledge of
    how the incentive enters; the temperature; log-probabilities of the actions only where the
    incentive moves the transitions. Cost per step: ``num_rollouts`` rollouts, whatever the
    number of incentive parameters. Bias: pairs of state and action that the other half did not
    visit are judged by the one successor seen (by nothing where that is unknown too), and
    averages over several visits of one episode are ratios; both vanish with more rollouts, or
    faster with ``critic_memory``. Choose it for outside followers and logs.

    Parameters
    ----------
    num_rollouts : int
        Rollouts per step, over all contexts and followers; at least 2 for each of them.
    max_steps : int
        Longest rollout.
    truncation_exponent : float
        kappa in [0, 1], as in `HPGD`.
    critic_memory : float
        In [0, 1): weight that the critic's sums keep from step to step. 0 uses this step's
        rollouts alone; near 1 the critic is better supplied and lags behind the incentive.
    cross_fit : bool
        False lets the critic judge the walkers it was made from, as published: biased, in two
        measured problems by a sixth and by seven times the gradient's length.
    baseline : bool
        As in `HPGD`.
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
    >>> problem, estimator = two_state(), BoltzmannCovariance(num_rollouts=64, max_steps=4)
    >>> x = problem.incentive.initial
    >>> state = estimator.init(problem, x, key=jax.random.key(0))
    >>> gradient, state, info = estimator.estimate(
    ...     problem, x, problem.default_parameters, state, key=jax.random.key(1))
    >>> gradient["bonus"].shape
    ()
    """

    is_exact: ClassVar[bool] = False
    access: ClassVar[FollowerAccess] = FollowerAccess.TRAJECTORIES
    num_rollouts: int = 60
    max_steps: int = 200
    truncation_exponent: float = 0.5
    critic_memory: float = 0.0
    cross_fit: bool = True
    baseline: bool = True
    num_contexts: int | None = None
    oracle: TrajectoryOracle = field(default_factory=ExactFollower)

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "Boltzmann covariance settings",
            num_rollouts=">= 2",
            max_steps=">= 1",
            num_contexts=">= 1 or None",
            truncation_exponent="[0, 1]",
            critic_memory="[0, 1)",
        )

    @property
    def runs_on_host(self) -> bool:
        """As the oracle."""
        return self.oracle.runs_on_host

    def init(self, problem: Problem, unconstrained: Any, *, key: Array) -> Any:
        """Return the followers' memories and empty critics (sums and visits, two halves)."""
        critic = jnp.zeros((2, 2, problem.num_states, problem.num_actions))
        return memory_per_pair(
            problem, self.num_contexts, (self.oracle.initial_memory(problem), critic)
        )

    def estimate(
        self,
        problem: Problem,
        unconstrained: Any,
        parameters: Mapping[str, Any],
        state: Any,
        *,
        key: Array,
    ) -> tuple[Any, Any, EstimateInfo]:
        """Return the estimate; see `Estimator.estimate`."""
        context_key, work_key = jax.random.split(key)
        contexts = choose_contexts(problem, parameters, self.num_contexts, context_key)
        if contexts_change(problem, self.num_contexts):
            # The contexts are others than last time: what was learned in them does not carry.
            state = self.init(problem, unconstrained, key=context_key)
        half = max(1, walkers_per_pair(problem, self.num_rollouts, self.num_contexts) // 2)

        def one_pair(context: Any, one: Mapping, kept: Any, pair_key: Array) -> tuple:
            train_key, limit_key, walk_key = jax.random.split(pair_key, 3)
            memory, critic = kept
            sample, memory, status = self.oracle.train(
                problem,
                problem.incentive.transform(unconstrained),
                context,
                one,
                memory,
                key=train_key,
            )
            build = leader_view(problem, context, one)
            mdp, reward = build(unconstrained)
            discount = problem.leader_discount
            discounts = jnp.asarray(mdp.discount), discount
            walk = Truncation.of(jnp.maximum(*discounts), self.truncation_exponent)
            limit = walk.limits(limit_key, 2 * half)
            base = sample(
                key=walk_key, num_steps=self.max_steps, num_rollouts=2 * half, step_limit=limit
            )
            times = jnp.arange(self.max_steps)
            follower_weights, weights = (walk.weights(gamma, times) for gamma in discounts)
            earned = gather(reward, base)
            critic = self._update(critic, base, earned, step_factor(weights))
            given = critic, base, earned, mdp.continues, discount, weights
            advantage = _advantage(*given, cross_fit=self.cross_fit)
            trace = forward_trace(advantage, follower_weights, weights)
            scores = moved_laws(build, unconstrained)
            if self.runs_on_host and scores.transition:
                check_log_probabilities(base)

            def surrogate(x: Any) -> Array:
                own, own_reward = build(x)
                direct = leader_surrogate(
                    base, weights, own, own_reward, scores, baseline=self.baseline
                )
                response = _response(base, trace, follower_weights, own, mdp.temperature, scores)
                return direct + response

            gradient = jax.grad(surrogate)(unconstrained)
            after = walk.weights(discount, jnp.asarray(self.max_steps))
            worth = worth_of(base, weights, after, mdp, reward, discount, limit)
            objective = worth.returns.mean()
            cut = was_cut(base, limit).mean()
            info = EstimateInfo(objective, status, base.active.sum(), cut)
            return gradient, (memory, critic), info

        return over_pairs(
            problem, parameters, contexts, state, one_pair, key=work_key, on_host=self.runs_on_host
        )

    def _update(self, critic: Array, base: Trajectories, earned: Array, factor: Array) -> Array:
        """Add each half's returns to its own sums, shape (half, sums or visits, S, A)."""
        returns = sums_ahead(earned, factor)
        half = base.state.shape[0] // 2
        number = jnp.repeat(jnp.arange(2), half)[:, None]
        active = base.active.astype(returns.dtype)
        number = jnp.broadcast_to(number, base.state.shape)
        seen = jnp.stack([active * returns, active], axis=-1)
        new = jnp.zeros((2, *critic.shape[2:], 2)).at[number, base.state, base.action].add(seen)
        return self.critic_memory * critic + jnp.moveaxis(new, -1, 1)


def _advantage(
    critic: Array,
    base: Trajectories,
    earned: Array,
    continues: Array,
    discount: float,
    weights: Array,
    *,
    cross_fit: bool,
) -> Float[Array, "walker step"]:
    """Judge each step by the critic of the other half, centred among its own half's visits."""
    half = jnp.repeat(jnp.arange(2), base.state.shape[0] // 2)[:, None]
    judge = 1 - half
    if not cross_fit:
        critic, half, judge = critic.sum(0, keepdims=True), half * 0, half * 0
    sums, visits = critic[:, 0], critic[:, 1]
    seen, seen_state = visits > 0, visits.sum(-1) > 0
    by_action = sums / jnp.where(seen, visits, 1.0)
    by_state = sums.sum(-1) / jnp.where(seen_state, visits.sum(-1), 1.0)
    # An action that the judging half never took there is judged by where it led this time.
    goes_on = continues[base.state]
    led_to = earned + discount * goes_on * by_state[judge, base.next_state]
    known = seen_state[judge, base.next_state] | (goes_on == 0.0)
    taken = seen[judge, base.state, base.action]
    worth = jnp.where(taken, by_action[judge, base.state, base.action], led_to)
    usable = base.active & (taken | known)

    # Sums over all usable visits of the own half to the same state.
    weights = jnp.broadcast_to(weights, worth.shape)
    amounts = jnp.stack([weights, weights**2, weights * worth], axis=-1)
    table = jnp.zeros((critic.shape[0], continues.shape[0], 3))
    table = table.at[half, base.state].add(jnp.where(usable[..., None], amounts, 0.0))
    mass, squares, weighted = jnp.moveaxis(table[half, base.state], -1, 0)
    mean = weighted / jnp.where(mass > 0.0, mass, 1.0)
    # A sample covariance of n visits is short by 1/n (by squares / mass^2 with weights).
    free = 1.0 - squares / jnp.where(mass > 0.0, mass, 1.0) ** 2
    several = free > 1e-6
    centred = (worth - mean) / (jnp.where(several, free, 1.0) if cross_fit else 1.0)
    alone = jnp.where(seen_state[judge, base.state], worth - by_state[judge, base.state], 0.0)
    return jnp.where(usable, jnp.where(several, centred, alone), 0.0)


def _response(
    base: Trajectories,
    trace: Array,
    follower_weights: Array,
    mdp: MDP,
    temperature: Array | float,
    scores: Scores,
) -> Float[Array, ""]:
    """Return a scalar whose derivative is the mean of A_U d_xQ* / lambda along the episodes."""
    total = (gather(mdp.reward, base) * trace).sum()
    if scores.transition:
        surprise = jnp.where(base.active, base.log_probability, 0.0)
        soft = jax.lax.stop_gradient(gather(mdp.reward, base) - temperature * surprise)
        factor = step_factor(follower_weights)
        later = factor * jnp.pad(sums_ahead(soft, factor)[:, 1:], ((0, 0), (0, 1)))
        total += (log_transitions(base, mdp) * trace * later).sum()
    return total / (temperature * base.state.shape[0])
