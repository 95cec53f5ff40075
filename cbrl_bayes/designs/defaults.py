"""Settings of a study that suit an estimator."""

from cbrl_bayes.designs.solve import DesignSettings
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.hypergradients import (
    LOW_PRICES,
    Ascent,
    DoublyRobust,
    Estimator,
    LearnedModel,
    Rounds,
    Search,
    global_search,
)
from cbrl_bayes.problems import Problem, with_unknown_law


def default_design_settings(estimator: Estimator, problem: Problem) -> DesignSettings:
    """Return settings suited to an estimator.

    Exact: a global search for the plug-in design, then 200 Adam steps per draw. Learned models:
    rounds, from which all draws learn; ascents from low prices where the problem has no one law to
    learn. Other stochastic estimators: long plain ascents with a small learning rate.
    """
    per_draw = Search(ascent=Ascent(num_steps=200, learning_rate=0.3))
    if estimator.is_exact:
        return DesignSettings(search=global_search(num_hops=4), per_draw=per_draw)
    if isinstance(estimator, LearnedModel | DoublyRobust):
        if _law_can_be_learned(problem):
            rounds = Rounds(num_rounds=2, follower_steps=300_000, ascent_share=0.0)
            return DesignSettings(search=rounds, per_draw=per_draw)
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


def _law_can_be_learned(problem: Problem) -> bool:
    if problem.leader_reward_fn is None:  # episodes do not show what the leader gets
        return False
    try:
        with_unknown_law(problem)
    except InvalidInputError:
        return False
    return True
