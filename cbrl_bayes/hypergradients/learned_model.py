"""The exact hypergradient of a model learned from trajectories."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cbrl_bayes.errors import InvalidInputError, require_kind, require_ranges
from cbrl_bayes.followers import ExactFollower, TrajectoryOracle
from cbrl_bayes.hypergradients.contract import EstimateInfo, FollowerAccess
from cbrl_bayes.hypergradients.learned_crowd import in_crowd, slope_in_crowd
from cbrl_bayes.hypergradients.learned_law import (
    LawPrior,
    LearnedLaw,
    Outlook,
    Sharing,
    refuse_unlisted,
)
from cbrl_bayes.hypergradients.learned_policy import Seen, gain_in_model
from cbrl_bayes.hypergradients.learned_state import ModelState, of_pair, require_fitting
from cbrl_bayes.hypergradients.pairs import (
    choose_contexts,
    contexts_change,
    leader_view,
    map_pairs,
    memory_per_pair,
    pair_weights,
    summed,
    walkers_per_pair,
)
from cbrl_bayes.hypergradients.rollout_terms import Truncation, was_cut, worth_of
from cbrl_bayes.mdp import MDP, Trajectories, best_response, occupancy, policy_values
from cbrl_bayes.problems import Problem


class Watched(NamedTuple):
    """One step's episodes, leaves (C F, ...), and what they were made with."""

    walked: Trajectories
    info: EstimateInfo
    followers: Any


@dataclass(frozen=True)
class LearnedModel:
    r"""Learn the transitions from all episodes seen, and differentiate exactly in what was learned.

    The law :math:`\hat P` is counts of transitions with a prior (`LawPrior`), the policy
    :math:`\hat\pi` that of this step's episodes. With values :math:`\hat V, \hat Q` of
    :math:`\hat\pi` in the learned model, the response is
    :math:`d_x \hat\pi = \hat\pi\, d_x(\hat Q - \hat V)/\lambda` (docs, *Method*). Where contexts
    or followers have the same law, found out from the problem's functions, they share the counts.
    Where the incentive moves the law, old counts are re-weighted by :math:`P_x / P_{old}`, which
    needs only how the incentive changes the probabilities.

    Needs: episodes from the initial law; which states can follow a state and an action; how the
    incentive enters; the temperature. Log-probabilities of actions help where they are reported.
    Works with a general ``objective_fn``. Where followers meet (`Population`), episodes are those
    of a crowd that has settled, and the gradient goes through the learned model's equilibrium.
    Cost per step: ``num_rollouts`` rollouts and the solution of one learned model for each context
    and follower. Bias: that of the learned law, of
    first order; it falls with everything seen, not with one step's episodes, and is largest where
    nobody went (`EstimateInfo.prior_share`). Variance: at equal numbers of follower steps, in three
    settings of Four-Rooms, 6,000 to 200,000 times below that of `HPGD` at the start of an
    ascent, and more than ten million times after 500 steps (docs, *How to choose*; its cells are
    alike, `LawPrior`). Choose it whenever only episodes can be had.

    Parameters
    ----------
    num_rollouts : int
        Rollouts per step, over all contexts and followers; at least 1 for each of them.
    max_steps : int
        Longest rollout.
    truncation_exponent : float
        kappa in [0, 1], as in `HPGD`.
    law_memory : float
        In [0, 1]: weight that counts of transitions keep from step to step; 1 forgets nothing.
    policy_memory : float
        In [0, 1): the same for frequencies of actions. Near 1 the policy lags behind the
        incentive, and the ascent may lose its way. Reported log-probabilities are never kept.
    policy_weight : float
        >= 0, in visits: how much the best response in the learned model counts beside
        frequencies of actions.
    prior : LawPrior
        What is believed of transitions seldom seen.
    num_contexts : int, optional
        Contexts drawn per step. Default: all, weighted with their probabilities. Counts are kept
        if the law does not depend on the context.
    oracle : TrajectoryOracle
        The follower. Default: exact best response.

    Raises
    ------
    InvalidInputError
        For settings out of range, or (when used) an outlook other than neutral with a general
        objective.

    Examples
    --------
    >>> import jax
    >>> from cbrl_bayes.problems import two_state
    >>> problem, estimator = two_state(), LearnedModel(num_rollouts=64, max_steps=4)
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
    law_memory: float = 0.99
    policy_memory: float = 0.0
    policy_weight: float = 1.0
    prior: LawPrior = field(default_factory=LawPrior)
    num_contexts: int | None = None
    oracle: TrajectoryOracle = field(default_factory=ExactFollower)

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "learned model settings",
            num_rollouts=">= 1",
            max_steps=">= 1",
            num_contexts=">= 1 or None",
            truncation_exponent="[0, 1]",
            law_memory="[0, 1]",
            policy_memory="[0, 1)",
            policy_weight=">= 0",
        )
        require_kind(self.prior, LawPrior, "prior", "LawPrior(weight=1.0)")

    @property
    def runs_on_host(self) -> bool:
        """As the oracle."""
        return self.oracle.runs_on_host

    def init(self, problem: Problem, unconstrained: Any, *, key: Array) -> ModelState:
        """Return a state in which nothing has been seen."""
        S, A = problem.num_states, problem.num_actions
        sharing = Sharing.of(problem, problem.default_parameters)
        pairs = self.num_contexts or problem.contexts.num_contexts, problem.followers.num_followers
        blank = jnp.zeros((pairs[0] * pairs[1], S, A, problem.num_successors))
        return ModelState(
            memory_per_pair(problem, self.num_contexts, self.oracle.initial_memory(problem)),
            sharing.pooled(blank, problem),
            jnp.zeros((*pairs, S, A)),
            jnp.zeros((*pairs, S)),
        )

    def estimate(
        self,
        problem: Problem,
        unconstrained: Any,
        parameters: Mapping[str, Any],
        state: ModelState,
        *,
        key: Array,
    ) -> tuple[Any, ModelState, EstimateInfo]:
        """Return the estimate; see `Estimator.estimate`."""
        faced = in_crowd(problem, unconstrained, parameters, self.oracle, key=key)
        contexts, state, watched = self.watch(problem, unconstrained, faced, state, key)
        sharing = Sharing.of(problem, parameters)
        seen = self.read(problem, unconstrained, faced, contexts[0], watched.walked, sharing)
        counts = self.law_memory * state.counts + sharing.pooled(seen.counts, problem)
        pairs = state.visits.shape[:2]
        visits = self.policy_memory * state.visits + seen.visits.reshape(state.visits.shape)
        if problem.population is not None:
            used = seen.visits.sum(0)
            slope, outcome, seldom = slope_in_crowd(
                problem, unconstrained, parameters, counts, self.prior, sharing, used, key=key
            )
            info = watched.info.combined()
            status = jnp.maximum(info.status, outcome.status)
            info = EstimateInfo(
                outcome.objective, status, info.follower_steps, jnp.zeros(()), seldom
            )
            return slope, ModelState(watched.followers, counts, visits, state.values), info

        def one_pair(context: Any, one: Mapping, kept: tuple, _: Array) -> tuple:
            seen_here, start, number = kept
            law = of_pair(counts, number)
            slope, objective, values, share = self._slope(
                problem, unconstrained, context, one, seen_here._replace(counts=law), start, sharing
            )
            return slope, (seen_here, values, number), (objective, share)

        shaped = jax.tree.map(lambda leaf: leaf.reshape(*pairs, *leaf.shape[1:]), seen)
        shaped = shaped._replace(visits=visits)
        numbers = jnp.stack(jnp.indices(pairs), axis=-1)
        (slope, (objective, prior_share)), (_, values, _) = map_pairs(
            problem, parameters, contexts, (shaped, state.values, numbers), one_pair, key=key
        )
        share = pair_weights(problem, contexts[1])
        info = watched.info.combined()
        weights = share.ravel()
        info = replace(
            info,
            objective=weights @ objective,
            prior_share=weights @ prior_share,
            truncated_share=jnp.zeros(()),  # a step seen is a step seen, however its episode ended
        )
        after = ModelState(watched.followers, counts, visits, values)
        return summed(slope, share), after, info

    def watch(
        self,
        problem: Problem,
        unconstrained: Any,
        parameters: Mapping[str, Any],
        state: ModelState,
        key: Array,
        *,
        halves: bool = False,
    ) -> tuple[tuple[Any, Float[Array, " context"]], ModelState, Watched]:
        """Choose contexts, let every follower train there, and watch its episodes."""
        require_fitting(problem, state, self.num_contexts)
        context_key, work_key = jax.random.split(key)
        contexts = choose_contexts(problem, parameters, self.num_contexts, context_key)
        if contexts_change(problem, self.num_contexts):
            # The contexts are others than last time: what was learned in them does not carry.
            new = self.init(problem, unconstrained, key=context_key)
            state = new._replace(counts=state.counts) if state.counts.shape[0] == 1 else new
        number = walkers_per_pair(problem, self.num_rollouts, self.num_contexts)
        number = 2 * max(1, number // 2) if halves else number

        def one_pair(context: Any, one: Mapping, memory: Any, pair_key: Array) -> tuple:
            train_key, limit_key, walk_key = jax.random.split(pair_key, 3)
            incentive = problem.incentive.transform(unconstrained)
            sample, memory, status = self.oracle.train(
                problem, incentive, context, one, memory, key=train_key
            )
            mdp = problem.mdp_fn(incentive, context, one)
            limit = self.truncation(problem, mdp).limits(limit_key, number)
            walked = sample(
                key=walk_key, num_steps=self.max_steps, num_rollouts=number, step_limit=limit
            )
            if self.runs_on_host:
                refuse_unlisted(mdp, walked)
            cut = was_cut(walked, limit).mean()
            seen = self._worth(problem, unconstrained, context, one, walked, limit)
            info = EstimateInfo(seen, status, walked.active.sum(), cut)
            return walked, memory, info

        (walked, info), memory = map_pairs(
            problem,
            parameters,
            contexts,
            state.followers,
            one_pair,
            key=work_key,
            on_host=self.runs_on_host,
        )
        return contexts, state, Watched(walked, info, memory)

    def _worth(
        self,
        problem: Problem,
        unconstrained: Any,
        context: Any,
        parameters: Mapping,
        walked: Trajectories,
        limit: Array,
    ) -> Float[Array, ""]:
        """Return what the episodes were worth to the leader; NaN with a general objective."""
        if problem.leader_reward_fn is None:
            return jnp.array(jnp.nan)
        mdp, reward = leader_view(problem, context, parameters)(unconstrained)
        truncation = self.truncation(problem, mdp)
        discount = problem.leader_discount
        weights, after = jnp.split(
            truncation.weights(discount, jnp.arange(self.max_steps + 1)), [-1]
        )
        return worth_of(walked, weights, after, mdp, reward, discount, limit).returns.mean()

    def truncation(self, problem: Problem, mdp: MDP) -> Truncation:
        """Return how rollouts end at random."""
        longest = jnp.maximum(jnp.asarray(mdp.discount), problem.leader_discount)
        return Truncation.of(longest, self.truncation_exponent)

    def read(
        self,
        problem: Problem,
        unconstrained: Any,
        parameters: Mapping[str, Any],
        contexts: Any,
        walked: Trajectories,
        sharing: Sharing,
    ) -> Seen:
        """Return what the episodes of every pair say, leaves (C F, ...)."""
        followers = problem.followers.num_followers

        def one(entry: tuple) -> Seen:
            number, episodes = entry
            context = jax.tree.map(lambda leaf: jnp.asarray(leaf)[number // followers], contexts)
            own = problem.follower_parameters(parameters, number % followers)
            mdp = problem.mdp_fn(problem.incentive.transform(unconstrained), context, own)
            return Seen.of(mdp, episodes, incentive_moves=sharing.incentive_moves)

        return jax.lax.map(one, (jnp.arange(walked.state.shape[0]), walked))

    def model(
        self,
        problem: Problem,
        mdp: MDP,
        reward: Float[Array, "state action"] | None,
        seen: Seen,
        start: Float[Array, " state"],
        sharing: Sharing,
    ) -> tuple[LearnedLaw, Float[Array, "state action"], Float[Array, " state"], Int[Array, ""]]:
        """Return the learned law, the present policy, and the solution of the learned model."""
        moves = sharing.incentive_moves
        law = LearnedLaw.of(mdp, seen.counts, self.prior, incentive_moves=moves)
        solved = best_response(law.applied(mdp), initial_values=start)
        if self.prior.outlook is not Outlook.NEUTRAL:
            if reward is None:
                raise InvalidInputError(
                    "a general objective does not tell which successor is best for the leader",
                    received=str(self.prior.outlook),
                    accepted="LawPrior(outlook='neutral')",
                )
            sign = 1.0 if self.prior.outlook is Outlook.OPTIMISTIC else -1.0
            worth = policy_values(
                law.applied(mdp), solved.policy, reward=reward, discount=problem.leader_discount
            )
            law = law.hopeful(mdp, worth, sign)
            solved = best_response(law.applied(mdp), initial_values=solved.values)
        policy = seen.policy(solved.policy, self.policy_weight)
        return law, jax.lax.stop_gradient(policy), solved.values, solved.status

    def _slope(
        self,
        problem: Problem,
        unconstrained: Any,
        context: Any,
        parameters: Mapping,
        seen: Seen,
        start: Array,
        sharing: Sharing,
    ) -> tuple[Any, Array, Array, Array]:
        """Return the gradient in the learned model, its objective, values, and prior share."""
        incentive = problem.incentive.transform(unconstrained)
        mdp = problem.mdp_fn(incentive, context, parameters)
        reward = None
        if problem.leader_reward_fn is not None:
            reward = problem.leader_net_reward(incentive, context, parameters)
        law, policy, values, _ = self.model(problem, mdp, reward, seen, start, sharing)

        def worth(x: Any) -> Array:
            stated = problem.mdp_fn(problem.incentive.transform(x), context, parameters)
            return gain_in_model(problem, x, context, parameters, law.applied(stated), policy)

        objective, slope = jax.value_and_grad(worth)(unconstrained)
        spent = occupancy(law.applied(mdp), policy)
        return slope, objective, values, (spent * law.seldom(mdp)).sum() / spent.sum()
