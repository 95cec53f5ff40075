"""Settings of a study that suit an estimator."""

from cbrl_bayes.designs.solve import DesignSettings
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.followers import ExactFollower
from cbrl_bayes.hypergradients import (
    LOW_PRICES,
    Ascent,
    DoublyRobust,
    Estimator,
    LearnedModel,
    Search,
    global_search,
    rounds_that_watch,
)
from cbrl_bayes.problems import Problem, law_moves_with, with_unknown_law


def default_design_settings(estimator: Estimator, problem: Problem) -> DesignSettings:
    """Return settings suited to an estimator.

    Exact: a global search for the plug-in design, then 200 Adam steps per draw. A learned model of
    a follower that the posterior describes: rounds, from which all draws learn. Other learned
    models: ascents from low prices and plain ones. Other stochastic estimators: long plain ascents
    with a small learning rate.
    """
    per_draw = Search(ascent=Ascent(num_steps=200, learning_rate=0.3))
    if estimator.is_exact:
        return DesignSettings(search=global_search(num_hops=4), per_draw=per_draw)
    if isinstance(estimator, LearnedModel) and _suits_rounds(estimator, problem):
        return DesignSettings(search=rounds_that_watch(), per_draw=per_draw)
    if isinstance(estimator, LearnedModel | DoublyRobust):
        return DesignSettings(
            search=Search(ascent=Ascent(num_steps=300), prices=LOW_PRICES),
            per_draw=Search(ascent=Ascent(num_steps=150)),
            num_search_draws=4,
        )
    return DesignSettings(
        search=Search(ascent=Ascent(num_steps=2000, learning_rate=0.05)),
        per_draw=Search(ascent=Ascent(num_steps=500, learning_rate=0.05)),
        num_search_draws=4,
    )


def _suits_rounds(estimator: LearnedModel, problem: Problem) -> bool:
    """Tell whether the law can be learned apart from who the follower is and what is inferred."""
    follower_is_described = isinstance(estimator.oracle, ExactFollower)
    if problem.leader_reward_fn is None or not follower_is_described:
        return False
    try:
        with_unknown_law(problem)
    except InvalidInputError:
        return False
    return not law_moves_with(problem, problem.uncertain)
