"""RT-Q: soft Q-learning run for a random number of iterations, debiased by coupled levels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cbrl_bayes.errors import require_kind, require_ranges
from cbrl_bayes.followers import soft_q_iterations
from cbrl_bayes.hypergradients.contract import EstimateInfo, FollowerAccess
from cbrl_bayes.hypergradients.hpgd import HPGD
from cbrl_bayes.hypergradients.pairs import (
    choose_contexts,
    contexts_change,
    follower_view,
    leader_view,
    memory_per_pair,
    moved_laws,
    over_pairs,
    walkers_per_pair,
)
from cbrl_bayes.hypergradients.policy_mixture import MixtureSampler, level_terms
from cbrl_bayes.hypergradients.rollout_terms import (
    Truncation,
    cut_share,
    draw_branches,
    gather,
    leader_surrogate,
    response_surrogate,
    was_cut,
)
from cbrl_bayes.mdp import MDP, finite_status, rollout
from cbrl_bayes.problems import Problem


@dataclass(frozen=True)
class RTQ:
    r"""Let the follower learn for a random time, and correct for what it has not learned.

    Soft Q-learning passes the snapshots :math:`Q_1, Q_2, \dots` after :math:`t_k` = ``first
    * 2^(k-1)`` iterations. With :math:`g_k` the HPGD estimate under the policy of :math:`Q_k`
    and k drawn from 1..K with :math:`p_k = 2^{-k}/(1 - 2^{-K})`,

    .. math:: g_1 + (g_{k+1} - g_k)/p_k

    has the mean of :math:`g_{K+1}`, for an expected number of iterations that grows with K and
    not with 2^K. The levels are coupled: one run of Q-learning gives all snapshots, and
    :math:`g_{k+1} - g_k` comes from one set of rollouts, each drawn from either policy with
    equal chance and weighted for both levels by twice the likelihood over the sum of the two
    (never more than 2, where a plain likelihood ratio has no bound). Source: Thoma et al. 2024,
    section 4 (randomly truncated Q-learning); the mixture weights are this package's.

    Needs: control of the follower's training (how long it learns, its policies at the
    snapshots) and what `HPGD` needs. Cost per step: ``num_samples`` times an expected
    ``first * K`` Q-learning iterations and two sets of rollouts. Bias: that of K + 1 levels, of
    order 2^(-K/2). Variance: much larger than HPGD's and growing with K (in theory linearly in the
    end; faster where it was measured). At equal iterations of training it did not accelerate an
    ascent: followers who go on from their last tables, uncorrected, ended higher in three of three
    cells (``analyses/theory``, *RT-Q in ascents*). Choose it where every training starts from zero,
    may be cut short, and must leave no bias.

    Parameters
    ----------
    num_levels : int
        K >= 1.
    first : int
        Iterations of the first snapshot, >= 1.
    num_samples : int
        Independent (Q-learning run, k) averaged per context and follower, >= 1.
    warm_start : bool
        Start Q-learning from the last step's tables instead of zero (its first iteration, of
        step size 1, keeps of them the soft values): less bias near the end of an ascent, and the
        mean is then no longer that of a run from zero.
    rollouts : HPGD
        Numbers and lengths of rollouts; its oracle is not used.

    Raises
    ------
    InvalidInputError
        For settings out of range, or (when used) a problem with a general objective.

    Examples
    --------
    >>> import jax
    >>> from cbrl_bayes.problems import two_state
    >>> problem, estimator = two_state(), RTQ(num_levels=3)
    >>> x = problem.incentive.initial
    >>> state = estimator.init(problem, x, key=jax.random.key(0))
    >>> gradient, state, info = estimator.estimate(
    ...     problem, x, problem.default_parameters, state, key=jax.random.key(1))
    >>> gradient["bonus"].shape
    ()
    """

    is_exact: ClassVar[bool] = False
    access: ClassVar[FollowerAccess] = FollowerAccess.TRAINING
    runs_on_host: ClassVar[bool] = False
    num_levels: int = 8
    first: int = 2
    num_samples: int = 1
    warm_start: bool = False
    rollouts: HPGD = field(default_factory=HPGD)

    def __post_init__(self) -> None:
        require_ranges(self, "RT-Q settings", num_levels=">= 1", first=">= 1", num_samples=">= 1")
        require_kind(self.rollouts, HPGD, "rollouts", "HPGD(...)")

    @property
    def expected_iterations(self) -> float:
        """Expected Q-learning iterations of one sample, ``first * K / (1 - 2^-K)``."""
        return self.first * self.num_levels / (1.0 - 2.0**-self.num_levels)

    def init(self, problem: Problem, unconstrained: Any, *, key: Array) -> Any:
        """Return zero Q tables, one per context and follower."""
        table = jnp.zeros((problem.num_states, problem.num_actions))
        return memory_per_pair(problem, self.rollouts.num_contexts, table)

    def estimate(
        self,
        problem: Problem,
        unconstrained: Any,
        parameters: Mapping[str, Any],
        state: Any,
        *,
        key: Array,
    ) -> tuple[Any, Any, EstimateInfo]:
        """Return the debiased estimate; see `Estimator.estimate`."""
        context_key, work_key = jax.random.split(key)
        contexts = choose_contexts(problem, parameters, self.rollouts.num_contexts, context_key)
        if contexts_change(problem, self.rollouts.num_contexts) or not self.warm_start:
            state = self.init(problem, unconstrained, key=context_key)

        def one_pair(context: Any, one: Mapping, kept: Array, pair_key: Array) -> tuple:
            def one_sample(sample_key: Array) -> tuple:
                return self._sample(problem, unconstrained, context, one, kept, sample_key)

            keys = jax.random.split(pair_key, self.num_samples)
            gradient, learned, info = jax.lax.map(one_sample, keys)
            mean = jax.tree.map(lambda leaf: leaf.mean(0), gradient)
            return mean, learned[-1], info.combined()

        return over_pairs(problem, parameters, contexts, state, one_pair, key=work_key)

    def _sample(
        self,
        problem: Problem,
        unconstrained: Any,
        context: Any,
        parameters: Mapping,
        start: Array,
        key: Array,
    ) -> tuple[Any, Array, EstimateInfo]:
        level_key, learn_key, first_key, second_key = jax.random.split(key, 4)
        chances = 2.0 ** -jnp.arange(1.0, self.num_levels + 1.0)
        chances /= chances.sum()
        level = jax.random.choice(level_key, self.num_levels, p=chances)  # k - 1
        mdp = follower_view(problem, context, parameters)(unconstrained)

        def learn(q: Array, begin: Array | int, end: Array | int) -> Array:
            return soft_q_iterations(mdp, q, key=learn_key, start=begin, stop=end)

        times = self.first, self.first * 2**level, self.first * 2 ** (level + 1)
        first = learn(start, 0, times[0])
        lower = learn(first, times[0], times[1])
        upper = learn(lower, times[1], times[2])
        policies = [mdp.log_policy(q / mdp.temperature) for q in (first, lower, upper)]

        def sample(**arguments: Any) -> Any:
            return rollout(mdp, jnp.exp(policies[0]), **arguments)

        gradient, objective, walked, cut = self.rollouts.from_rollouts(
            problem, unconstrained, context, parameters, sample, tuple(jax.random.split(first_key))
        )
        difference, change, more, more_cut = self.difference(
            problem,
            unconstrained,
            context,
            parameters,
            mdp,
            jnp.stack(policies[1:]),
            jax.random.split(second_key, 3),
        )
        weight = 1.0 / chances[level]
        gradient = jax.tree.map(lambda g, d: g + weight * d, gradient, difference)
        learned_steps = times[2] * mdp.reward.size
        steps = learned_steps + sum(rollouts.active.sum() for rollouts in [*walked, *more])
        share = cut_share([*cut, *more_cut])
        info = EstimateInfo(objective + weight * change, finite_status(mdp, upper), steps, share)
        return gradient, upper, info

    def difference(
        self,
        problem: Problem,
        unconstrained: Any,
        context: Any,
        parameters: Mapping,
        mdp: MDP,
        log_policies: Float[Array, "level state action"],
        keys: Array,
    ) -> tuple[Any, Array, list, list]:
        """Estimate g_{k+1} - g_k from rollouts of a mixture of both policies, given as (k, k+1)."""
        limit_key, walk_key, branch_key = keys
        settings = self.rollouts.branch_settings
        build = leader_view(problem, context, parameters)
        _, leader_reward = build(unconstrained)
        sample = MixtureSampler(mdp, jnp.exp(log_policies))
        num_walkers = walkers_per_pair(
            problem, self.rollouts.num_rollouts, self.rollouts.num_contexts
        )
        walk = Truncation.of(problem.leader_discount, settings.truncation_exponent)
        limit = walk.limits(limit_key, num_walkers)
        base = sample(
            key=walk_key,
            num_steps=settings.max_steps,
            num_rollouts=limit.shape[0],
            step_limit=limit,
        )
        weights = walk.weights(problem.leader_discount, jnp.arange(settings.max_steps))
        branches = draw_branches(
            sample, base, weights, (mdp.discount, problem.leader_discount), settings, branch_key
        )
        scores = moved_laws(build, unconstrained)

        levels = [level_terms(log_policies, j, base, weights, branches) for j in (0, 1)]

        def surrogate(x: Any) -> Array:
            own, own_reward = build(x)
            total = jnp.zeros(())
            for terms, sign in zip(levels, (-1.0, 1.0), strict=True):
                total += sign * (
                    leader_surrogate(
                        base,
                        terms.base_weights,
                        own,
                        own_reward,
                        scores,
                        baseline=self.rollouts.baseline,
                    )
                    + response_surrogate(
                        terms.branches, own, leader_reward, mdp.temperature, scores
                    )
                )
            return total

        earned = [
            (gather(leader_reward, base) * terms.base_weights).sum(1).mean() for terms in levels
        ]
        cut = [was_cut(base, limit), *branches.cut]
        walked = [base, base, *branches.rollouts]
        return jax.grad(surrogate)(unconstrained), earned[1] - earned[0], walked, cut
