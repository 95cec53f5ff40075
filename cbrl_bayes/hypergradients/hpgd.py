"""Hyper policy gradient descent (HPGD): the hypergradient from the follower's trajectories."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cbrl_bayes.errors import InvalidInputError, require_ranges
from cbrl_bayes.followers import ExactFollower, TrajectoryOracle, TrajectorySampler
from cbrl_bayes.hypergradients.contract import EstimateInfo, FollowerAccess
from cbrl_bayes.hypergradients.control_variates import Judge
from cbrl_bayes.hypergradients.critics import CriticModel, critic_view, require_critic
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
    Branches,
    BranchSettings,
    Scores,
    Truncation,
    cut_share,
    draw_branches,
    leader_surrogate,
    paired_surrogate,
    response_surrogate,
    was_cut,
    worth_of,
)
from cbrl_bayes.mdp import MDP, Trajectories
from cbrl_bayes.problems import Problem


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

    A general ``objective_fn`` f of the policy is served by the same covariance with
    :math:`\partial f/\partial\pi` in place of :math:`Q_U`, summed over all states; the policy
    in it is then the frequency of actions among ``num_rollouts`` asked for in each state.

    With a ``critic``, its values are control variates (docs, *Method*): what it says of every pair
    of actions enters as it is, and the branches only correct it. The mean stays the same, however
    wrong the critic is; the variance fell 1.3 to 3.4 times where its law was wrong by a twentieth.

    Needs: rollouts, also from a given state and action, with the follower's own
    log-probability of each action; the leader's knowledge of how the incentive enters reward
    and transitions; the temperature. Bias: none but for rollouts longer than ``max_steps``
    (their share is reported) and, with a general objective, none if its derivatives are linear
    in the policy (they must be finite where an action was never seen; the objective reported
    beside the gradient is biased where it is curved). Cost per step: some ``num_rollouts``
    rollouts and ``4 num_branches`` per context and follower; with a critic also linear solves in
    the critic's model. Variance: the price of no bias. In Four-Rooms at 10,000 follower steps one
    estimate's standard deviation is some 20 times the gradient's length, and hundreds of estimates
    must be averaged to see the direction; for the same variance `LearnedModel` needs hundreds to
    millions of times fewer follower steps, `DoublyRobust` 7 to 1,300 times fewer. Choose it where
    no bias at all is allowed (to check another estimator, say), the follower can be started
    anywhere, and steps are cheap; else `LearnedModel`, `DoublyRobust`, or `BoltzmannCovariance`
    where successors cannot be listed.

    Parameters
    ----------
    num_rollouts : int
        Rollouts from the initial law per step, over all contexts and followers; with a general
        objective, actions asked for in each state of each context and follower; >= 1.
    num_branches : int
        States per (context, follower) from which four branch rollouts start; >= 1.
    max_steps : int
        Longest rollout. Discounts near 1 in endless problems ask for many steps: keep an eye on
        the share of rollouts cut short, which `cbrl_bayes.summary` judges.
    truncation_exponent : float
        kappa in [0, 1]: 1 is truncation without discounting, 0 discounting without truncation
        (then every rollout that has not ended by ``max_steps`` counts as cut).
    common_noise : bool
        Let the two branches of a pair share random numbers, which leaves the mean as it is and
        lowers the variance. Needs a simulator whose noise can be set.
    baseline : bool
        Subtract the other rollouts' mean from what multiplies the leader's score terms (there
        are none where the incentive leaves the transitions alone); the mean stays.
    num_contexts : int, optional
        Contexts drawn per step. Default: all, weighted with their probabilities.
    critic : callable, optional
        ``(incentive, context, parameters) -> (MDP, policy (S, A))``, a model of follower and
        transitions as in `DoublyRobust`. It must not have been made from this step's rollouts. The
        initial law is then taken as the problem states it. ``baseline`` is not used.
    oracle : TrajectoryOracle
        The follower. Default: exact best response.

    Raises
    ------
    InvalidInputError
        For settings out of range, and (when used) for a critic of a wrong shape, or with a general
        objective.

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

    is_exact: ClassVar[bool] = False
    access: ClassVar[FollowerAccess] = FollowerAccess.TRAJECTORIES
    num_rollouts: int = 40
    num_branches: int = 20
    max_steps: int = 200
    truncation_exponent: float = 0.5
    common_noise: bool = True
    baseline: bool = True
    num_contexts: int | None = None
    critic: CriticModel | None = None
    oracle: TrajectoryOracle = field(default_factory=ExactFollower)

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "HPGD settings",
            num_rollouts=">= 1",
            num_branches=">= 1",
            max_steps=">= 1",
            num_contexts=">= 1 or None",
            truncation_exponent="[0, 1]",
        )
        require_critic(self.critic)

    @property
    def runs_on_host(self) -> bool:
        """As the oracle."""
        return self.oracle.runs_on_host

    def init(self, problem: Problem, unconstrained: Any, *, key: Array) -> Any:
        """Return the followers' memories, one per context and follower."""
        return memory_per_pair(problem, self.num_contexts, self.oracle.initial_memory(problem))

    def estimate(
        self,
        problem: Problem,
        unconstrained: Any,
        parameters: Mapping[str, Any],
        state: Any,
        *,
        key: Array,
    ) -> tuple[Any, Any, EstimateInfo]:
        """Return an unbiased estimate; see `Estimator.estimate`."""
        context_key, work_key = jax.random.split(key)
        contexts = choose_contexts(problem, parameters, self.num_contexts, context_key)
        if contexts_change(problem, self.num_contexts):
            # The contexts are others than last time: what was learned in them does not carry.
            state = self.init(problem, unconstrained, key=context_key)
        estimate_one = self._general if problem.objective_fn is not None else self.from_rollouts

        def one_pair(context: Any, one: Mapping, memory: Any, pair_key: Array) -> tuple:
            train_key, walk_key, branch_key = jax.random.split(pair_key, 3)
            sample, memory, status = self.oracle.train(
                problem,
                problem.incentive.transform(unconstrained),
                context,
                one,
                memory,
                key=train_key,
            )
            gradient, objective, walked, cut = estimate_one(
                problem, unconstrained, context, one, sample, (walk_key, branch_key)
            )
            steps = jnp.stack([rollouts.active.sum() for rollouts in walked]).sum()
            share = cut_share(cut)
            return gradient, memory, EstimateInfo(objective, status, steps, share)

        return over_pairs(
            problem, parameters, contexts, state, one_pair, key=work_key, on_host=self.runs_on_host
        )

    def from_rollouts(
        self,
        problem: Problem,
        unconstrained: Any,
        context: Any,
        parameters: Mapping,
        sample: TrajectorySampler,
        keys: tuple,
    ) -> tuple[Any, Array, list[Trajectories], list[Array]]:
        """Return gradient, objective, rollouts and cuts for one follower in one context."""
        walk_key, branch_key = keys
        build = leader_view(problem, context, parameters)
        mdp, leader_reward = build(unconstrained)
        limit_key, walk_key = jax.random.split(walk_key)
        walk = Truncation.of(problem.leader_discount, self.truncation_exponent)
        limit = walk.limits(
            limit_key, walkers_per_pair(problem, self.num_rollouts, self.num_contexts)
        )
        base = sample(
            key=walk_key, num_steps=self.max_steps, num_rollouts=limit.shape[0], step_limit=limit
        )
        times = jnp.arange(self.max_steps + 1)
        weights, next_weight = jnp.split(walk.weights(problem.leader_discount, times), [-1])
        branches = draw_branches(
            sample,
            base,
            weights,
            (mdp.discount, problem.leader_discount),
            self.branch_settings,
            branch_key,
        )
        scores = moved_laws(build, unconstrained)
        surrogate = self._plain(build, unconstrained, base, weights, branches, scores)
        if self.critic is not None:
            stated = critic_view(self.critic, problem, context, parameters, mdp)
            judge = Judge.of(stated, unconstrained, mdp, base, branches, scores)
            surrogate = judge.surrogate(
                build, unconstrained, base, weights, branches, problem.leader_discount
            )
        given = mdp, leader_reward, problem.leader_discount, limit
        earned = worth_of(base, weights, next_weight, *given).returns.mean()
        cut = [was_cut(base, limit), *branches.cut]
        # The base steps count twice: each was also asked for a second action.
        return jax.grad(surrogate)(unconstrained), earned, [base, base, *branches.rollouts], cut

    def _plain(
        self,
        build: Callable[[Any], tuple[MDP, Array]],
        unconstrained: Any,
        base: Trajectories,
        weights: Array,
        branches: Branches,
        scores: Scores,
    ) -> Callable[[Any], Array]:
        """Return the scalar whose derivative is the estimate, by rollouts alone."""
        mdp, reward = build(unconstrained)

        def surrogate(x: Any) -> Array:
            own, own_reward = build(x)
            direct = leader_surrogate(
                base, weights, own, own_reward, scores, baseline=self.baseline
            )
            return direct + response_surrogate(branches, own, reward, mdp.temperature, scores)

        return surrogate

    def _general(
        self,
        problem: Problem,
        unconstrained: Any,
        context: Any,
        parameters: Mapping,
        sample: TrajectorySampler,
        keys: tuple,
    ) -> tuple[Any, Array, list[Trajectories], list[Array]]:
        """For any objective: the policy's frequencies, and branches from every state."""
        walk_key, branch_key = keys
        if self.critic is not None:
            raise InvalidInputError(
                f"problem {problem.name!r} has a general objective, which no critic judges",
                accepted="critic=None, or a problem with leader_reward_fn",
            )
        S, A = problem.num_states, problem.num_actions
        objective_fn = problem.objective_fn
        assert objective_fn is not None

        def objective(x: Any, policy: Array) -> Array:
            return objective_fn(problem.incentive.transform(x), policy, context, parameters)

        def build(x: Any) -> tuple[Any, Any]:
            return problem.mdp_fn(problem.incentive.transform(x), context, parameters), None

        asked_key, base_key = jax.random.split(walk_key)
        asked = sample(
            key=asked_key, num_steps=1, initial_state=jnp.repeat(jnp.arange(S), self.num_rollouts)
        )
        frequency = (
            jnp.zeros((S, A)).at[asked.state[:, 0], asked.action[:, 0]].add(1.0 / self.num_rollouts)
        )
        slope = jax.grad(objective, argnums=1)(unconstrained, frequency)
        repeats = -(-self.num_branches // S)
        base = sample(key=base_key, num_steps=1, initial_state=jnp.repeat(jnp.arange(S), repeats))
        mdp, _ = build(unconstrained)
        every_state = jnp.full(base.state.shape, float(S))
        branches = draw_branches(
            sample, base, every_state, (mdp.discount, 0.0), self.branch_settings, branch_key
        )
        gap = self._slope_gap(slope, base, branches)
        scores = moved_laws(build, unconstrained)

        def surrogate(x: Any) -> Array:
            own, _ = build(x)
            return objective(x, frequency) + paired_surrogate(
                branches, [gap, gap], own, mdp.temperature, scores
            )

        walked = [asked, base, base, *branches.rollouts]
        gradient = jax.grad(surrogate)(unconstrained)
        return gradient, objective(unconstrained, frequency), walked, branches.cut

    @staticmethod
    def _slope_gap(slope: Array, base: Trajectories, branches: Branches) -> Array:
        state = base.state.ravel()[branches.place]
        return slope[state, branches.first_action] - slope[state, branches.second_action]

    @property
    def branch_settings(self) -> BranchSettings:
        """How branch rollouts are made."""
        return BranchSettings(
            self.num_branches, self.max_steps, self.truncation_exponent, self.common_noise
        )
