"""Settings of a study that suit an estimator."""

from cbrl_bayes.designs.solve import DesignSettings
from cbrl_bayes.hypergradients import (
    LOW_PRICES,
    Ascent,
    DoublyRobust,
    Estimator,
    LearnedModel,
    Search,
    global_search,
)


def default_design_settings(estimator: Estimator) -> DesignSettings:
    """Return settings suited to an estimator.

    Exact: a global search for the plug-in design, then 200 Adam steps per draw. Learned models:
    ascents from low prices and plain ones. Other stochastic estimators: long plain ascents with a
    small learning rate.
    """
    if estimator.is_exact:
        return DesignSettings(
            search=global_search(num_hops=4),
            per_draw=Search(ascent=Ascent(num_steps=200, learning_rate=0.3)),
        )
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
