"""Evaluate a given incentive under given parameters: exactly, or by simulation with its error."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from cbrl_bayes.errors import InvalidInputError, require_ranges
from cbrl_bayes.followers import ExactFollower, TrajectoryOracle
from cbrl_bayes.hypergradients.pairs import map_in_order
from cbrl_bayes.hypergradients.rollout_terms import worth_of
from cbrl_bayes.mdp import is_traced
from cbrl_bayes.problems import Problem, SampledContexts, leader_outcome, settled


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Score:
    """What one incentive is worth under one set of parameters.

    For many designs and draws all arrays get these as leading axes.

    Attributes
    ----------
    objective : float
        The leader's objective.
    standard_error : float
        Of ``objective``, from simulation alone; 0 if it is exact. The spread over draws is not
        part of it.
    context_error : float
        The part of it that comes from sampling contexts; 0 where they are enumerated.
    incentive_cost : float
        NaN if the evaluation does not report it.
    follower_value : array, shape (F,)
        NaN if the evaluation does not report it.
    status : int
        Worst `SolveStatus`.
    """

    objective: Float[Any, "*many"]
    standard_error: Float[Any, "*many"]
    context_error: Float[Any, "*many"]
    incentive_cost: Float[Any, "*many"]
    follower_value: Float[Any, "*many follower"]
    status: Int[Any, "*many"]


@runtime_checkable
class Evaluation(Protocol):
    """Turns an incentive and parameters into a `Score`; traceable unless it ``runs_on_host``."""

    @property
    def is_exact(self) -> bool:
        """Whether scores carry no simulation noise."""

    @property
    def runs_on_host(self) -> bool:
        """Whether it must run in Python, as its follower cannot be traced."""

    def score(
        self,
        problem: Problem,
        unconstrained: Any,
        parameters: Mapping[str, Any],
        *,
        key: Key[Array, ""],
    ) -> Score:
        """Evaluate; equal keys give equal contexts and noise."""


def scores_are_noisy(problem: Problem, evaluation: Evaluation) -> bool:
    """Whether scores depend on the key: contexts are sampled or followers simulated."""
    return isinstance(problem.contexts, SampledContexts) or not evaluation.is_exact


def score_program(problem: Problem, evaluation: Evaluation) -> Callable[..., Score]:
    """Return ``(unconstrained, parameters, key) -> Score``, compiled where that is possible."""

    def score(x: Any, parameters: Mapping[str, Any], key: Array) -> Score:
        return evaluation.score(problem, x, parameters, key=key)

    return score if evaluation.runs_on_host else jax.jit(score)


def score_designs(
    problem: Problem,
    score: Callable[..., Score],
    designs: Float[Array | np.ndarray, "design coordinate"],
    parameters: Mapping[str, Any],
    key: Key[Array, ""],
) -> Score:
    """Return the scores of many designs under one set of parameters, stacked in the leaves.

    ``score`` is from `score_program`; it runs once per design, with the same contexts and noise.
    """

    def one(point: Array) -> Score:
        return score(problem.incentive.unflatten(point), parameters, key)

    if is_traced((designs, parameters, key)):
        return jax.lax.map(one, designs)
    scores = [jax.tree.map(np.asarray, one(point)) for point in designs]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *scores)


def require_no_tracing(evaluation: Evaluation, item: Any) -> None:
    """Refuse a traced item for an evaluation that runs in Python."""
    if evaluation.runs_on_host and is_traced(item):
        raise InvalidInputError(
            "an evaluation outside compiled programs cannot be part of one",
            received=evaluation,
            remedy="ThreadExecutor or DaskExecutor",
        )


@dataclass(frozen=True)
class ExactEvaluation:
    """Solve every follower in every context (the default).

    Where contexts are sampled, the standard error is that of the mean over the sample; with an
    aggregate, by the delta method, and NaN where that says nothing (the minimum over a sample).
    """

    is_exact: ClassVar[bool] = True
    runs_on_host: ClassVar[bool] = False

    def score(
        self,
        problem: Problem,
        unconstrained: Any,
        parameters: Mapping[str, Any],
        *,
        key: Key[Array, ""],
    ) -> Score:
        """Return the exact score; contexts that cannot be enumerated are sampled with ``key``."""
        outcome = leader_outcome(problem, unconstrained, parameters, key=key)
        error = jnp.zeros(())
        if isinstance(problem.contexts, SampledContexts):
            # One context says nothing of the spread between them.
            error = jnp.full((), jnp.nan)
            if problem.contexts.num_contexts > 1:
                error = outcome.by_context.std(ddof=1) / jnp.sqrt(problem.contexts.num_contexts)
            if problem.aggregate is not None:
                error = jnp.where(error > 0.0, error, jnp.nan)
        return Score(
            outcome.objective,
            error,
            error,
            outcome.incentive_cost,
            outcome.follower_value,
            outcome.status,
        )


@dataclass(frozen=True)
class SimulatedEvaluation:
    """Average the leader's return over rollouts, for followers known by behaviour alone.

    Parameters
    ----------
    num_replicates : int
        Independent replicates, >= 2; their spread gives the standard error (to which the spread
        between contexts is added where contexts are sampled).
    num_rollouts : int
        Rollouts of each context and follower in a replicate.
    max_steps : int
        Longest rollout. What lies beyond is continued at the rates of the walks' second half. If
        that is over a tenth of the discounting weight, the status is CUT_SHORT.
    retrain : bool
        Train the follower anew for every replicate, so that the standard error includes the
        luck of its training. Use it for followers that learn. For a follower that solves its
        problem it only adds cost.
    oracle : TrajectoryOracle
        The follower.
    """

    is_exact: ClassVar[bool] = False
    num_replicates: int = 10
    num_rollouts: int = 50
    max_steps: int = 500
    retrain: bool = False
    oracle: TrajectoryOracle = field(default_factory=ExactFollower)

    @property
    def runs_on_host(self) -> bool:
        """As the oracle."""
        return self.oracle.runs_on_host

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "settings of the simulated evaluation",
            num_replicates=">= 2",
            num_rollouts=">= 1",
            max_steps=">= 1",
        )

    def score(
        self,
        problem: Problem,
        unconstrained: Any,
        parameters: Mapping[str, Any],
        *,
        key: Key[Array, ""],
    ) -> Score:
        """Return mean and standard error over the replicates."""
        problem.refuse_aggregate()
        incentive = problem.incentive.transform(unconstrained)
        parameters = settled(problem, incentive, parameters, key=key)
        values, weights = problem.contexts.support(parameters, key)
        followers = problem.followers
        shape = (weights.shape[0], followers.num_followers)
        discounting = problem.leader_discount ** jnp.arange(self.max_steps + 1)

        def one_pair(entry: tuple) -> tuple[Array, Array]:
            context, index, follower = entry
            one = problem.follower_parameters(parameters, follower)
            pair_key = jax.random.fold_in(jax.random.fold_in(key, index), follower)
            reward = problem.leader_net_reward(incentive, context, one)
            mdp = problem.mdp_fn(incentive, context, one)

            def one_training(training_key: Array, num_replicates: int) -> tuple[Array, Array]:
                train_key, walk_key = jax.random.split(training_key)
                sample, _, status = self.oracle.train(
                    problem,
                    incentive,
                    context,
                    one,
                    self.oracle.initial_memory(problem),
                    key=train_key,
                )
                walked = sample(
                    key=walk_key,
                    num_steps=self.max_steps,
                    num_rollouts=num_replicates * self.num_rollouts,
                )
                now, after = discounting[:-1], discounting[-1]
                worth = worth_of(walked, now, after, mdp, reward, problem.leader_discount)
                means = worth.returns.reshape(num_replicates, -1).mean(1)
                return means, worth.status(status)

            if not self.retrain:
                return one_training(pair_key, self.num_replicates)
            keys = jax.random.split(pair_key, self.num_replicates)
            found, status = map_in_order(
                lambda k: one_training(k, 1), keys, on_host=self.runs_on_host
            )
            return found[:, 0], status.max()

        index, follower = (grid.ravel() for grid in jnp.indices(shape))
        per_pair = jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], values)
        replicates, status = map_in_order(
            one_pair, (per_pair, index, follower), on_host=self.runs_on_host
        )
        totals = (weights[index] * jnp.asarray(followers.weights)[follower]) @ replicates
        variance = totals.var(ddof=1) / self.num_replicates
        of_contexts = jnp.zeros(())
        if isinstance(problem.contexts, SampledContexts) and shape[0] > 1:
            per_context = jnp.asarray(followers.weights) @ replicates.mean(1).reshape(shape).T
            # The means of contexts carry rollouts' noise, which is counted already.
            of_contexts = jnp.maximum(per_context.var(ddof=1) / shape[0] - variance, 0.0)
        error, context_error = jnp.sqrt(variance + of_contexts), jnp.sqrt(of_contexts)
        unseen = jnp.full(followers.num_followers, jnp.nan)
        return Score(
            totals.mean(), error, context_error, jnp.array(jnp.nan), unseen, jnp.max(status)
        )
