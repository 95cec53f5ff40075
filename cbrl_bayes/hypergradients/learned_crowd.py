"""Followers who meet, watched in episodes: the equilibrium of a learned model."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.followers import ExactFollower, TrajectoryOracle
from cbrl_bayes.hypergradients.learned_law import LawPrior, LearnedLaw, Outlook, Sharing
from cbrl_bayes.mdp import MDP
from cbrl_bayes.problems import (
    POPULATION,
    LeaderOutcome,
    Problem,
    law_moves_with,
    leader_outcome,
    settled,
    start_of_crowd,
)


def in_crowd(
    problem: Problem,
    unconstrained: Any,
    parameters: Mapping[str, Any],
    oracle: TrajectoryOracle,
    *,
    key: Array,
) -> dict[str, Any]:
    """Return what followers face who are watched: the statistic that has settled, if they meet.

    Raises
    ------
    InvalidInputError
        Where followers meet who do not respond at best: nobody knows what they make together.
    """
    if problem.population is not None and not isinstance(oracle, ExactFollower):
        raise InvalidInputError(
            f"followers of problem {problem.name!r} meet (it has a population statistic), so that "
            "simulated ones must respond at best",
            received=type(oracle).__name__,
            accepted="ExactFollower()",
        )
    return settled(problem, problem.incentive.transform(unconstrained), parameters, key=key)


def slope_in_crowd(
    problem: Problem,
    unconstrained: Any,
    parameters: Mapping[str, Any],
    counts: Array,
    prior: LawPrior,
    sharing: Sharing,
    visits: Array,
    *,
    key: Array,
) -> tuple[Any, LeaderOutcome, Array]:
    """Return the exact hypergradient through the equilibrium of the learned model.

    And what the model promises, and which share of the visits seen lies in pairs seldom seen.

    Parameters
    ----------
    problem : Problem
        With a population statistic, and one transition law for all.
    unconstrained : pytree
    parameters : mapping
        Without the statistic.
    counts : array, shape (1, 1, S, A, K)
        Transitions seen.
    prior : LawPrior
    sharing : Sharing
    visits : array, shape (S, A)
        Of this step's episodes.
    key : typed key
        For contexts that are sampled.
    """
    _check(problem, prior, sharing)

    def law_of(mdp: MDP) -> LearnedLaw:
        return LearnedLaw.of(mdp, counts[0, 0], prior, incentive_moves=sharing.incentive_moves)

    def learned(incentive: Any, context: Any, one: Mapping[str, Any]) -> MDP:
        mdp = problem.mdp_fn(incentive, context, one)
        return law_of(mdp).applied(mdp)

    model = replace(problem, mdp_fn=learned)

    def worth(x: Any) -> tuple[Array, LeaderOutcome]:
        outcome = leader_outcome(model, x, parameters, key=key)
        return outcome.objective, outcome

    slope, outcome = jax.grad(worth, has_aux=True)(unconstrained)
    values, _ = problem.contexts.support(parameters, key)
    first = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], values)
    one = problem.follower_parameters(start_of_crowd(problem, parameters), 0)
    mdp = problem.mdp_fn(problem.incentive.transform(unconstrained), first, one)
    return slope, outcome, (visits * law_of(mdp).seldom(mdp)).sum() / visits.sum()


def _check(problem: Problem, prior: LawPrior, sharing: Sharing) -> None:
    name = f"followers of problem {problem.name!r} meet"
    if not (sharing.contexts and sharing.followers) or law_moves_with(problem, [POPULATION]):
        raise InvalidInputError(
            f"{name}; their transition law cannot be learned where it depends on the context, the "
            "follower or the population statistic",
            remedy="Exact() or ZerothOrder()",
        )
    if prior.outlook is not Outlook.NEUTRAL:
        raise InvalidInputError(
            f"{name}: which successor is best for the leader is not known",
            received=str(prior.outlook),
            accepted="LawPrior(outlook='neutral')",
        )
