"""Designs by any criterion, side by side with those a study has."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import xarray as xr
from jaxtyping import Array, Key

from cbrl_bayes.designs import Criterion, CVaR, Executor, MinimaxRegret, WorstCase, evenly_spaced
from cbrl_bayes.errors import require_key, require_kind
from cbrl_bayes.hypergradients import Estimator, Exact
from cbrl_bayes.problems import Problem
from cbrl_bayes.progress import Progress
from cbrl_bayes.results import designed, posterior_draws, running
from cbrl_bayes.robust.constraints import ChanceConstraint
from cbrl_bayes.robust.record import RobustSettings
from cbrl_bayes.robust.search import search_designs
from cbrl_bayes.robust.tables import add_robust

FEWEST_SCORED = 20
"""Fewer draws than this tell nothing of a tail."""


def robust_designs(
    problem: Problem,
    study: xr.DataTree,
    *,
    key: Key[Array, ""],
    criteria: Sequence[Criterion] | None = None,
    constraints: Sequence[ChanceConstraint] = (),
    estimator: Estimator | None = None,
    settings: RobustSettings | None = None,
    executor: Executor | None = None,
    num_workers: int = 2,
    checkpoint: str | Path | None = None,
    progress: Progress = None,
) -> xr.DataTree:
    """Add to a study the design that maximises each criterion over its draws.

    Parameters
    ----------
    problem : Problem
        The problem the study is of. Hard constraints on the incentive are put on it before the
        study (`cbrl_bayes.problems.constrained`).
    study : xarray.DataTree
        From `design`.
    key : typed key
    criteria : sequence of Criterion, optional
        `Expectation`, `MeanVariance`, `CVaR`, `VaR`, `WorstCase`, `MinimaxRegret`. Default: the
        worst tenth, the worst case and the largest regret over a 90 % credible set.
    constraints : sequence of ChanceConstraint
        `CostAtMost`, `ObjectiveAtLeast`, `FollowerValueAtLeast`; kept by the new designs.
    estimator : Estimator, optional
        Default: `Exact()`.
    settings : RobustSettings, optional
    executor, num_workers, checkpoint, progress
        How it runs, as in `design`.

    Returns
    -------
    xarray.DataTree
        The study; ``decision`` holds the new designs beside the old ones, all scored with the
        same contexts and noise within a draw: on the study's draws, which chose them and so
        flatter them, and on other draws of the posterior (``held_out_*``), where there are any.
        `compare_designs` tables them.

    Raises
    ------
    InvalidInputError
        For a tree that is no study of the problem, or criteria of the same name.

    Examples
    --------
    >>> import jax, numpy as np, cbrl_bayes as cb
    >>> problem = cb.problems.two_state()
    >>> quick = cb.Search(ascent=cb.Ascent(num_steps=50))
    >>> study = cb.design(problem, {"temperature": np.array([0.2, 0.25, 0.3])},
    ...                   key=jax.random.key(0), num_draws=3,
    ...                   settings=cb.DesignSettings(search=quick, per_draw=quick))
    >>> study = cb.robust_designs(problem, study, key=jax.random.key(1),
    ...                           criteria=[cb.CVaR(0.5)])
    >>> list(map(str, study["decision"]["design"].values))
    ['common', 'plug_in', 'cvar_0.5']
    """
    settings = RobustSettings() if settings is None else settings
    estimator = Exact() if estimator is None else estimator
    criteria = (CVaR(0.1), WorstCase(0.9), MinimaxRegret(0.9)) if criteria is None else criteria
    require_key(key)
    require_kind(settings, RobustSettings, "settings", "cb.RobustSettings(...)")
    require_kind(estimator, Estimator, "estimator", "cb.Exact()")
    require_kind(criteria, list | tuple, "criteria", "criteria=[cb.CVaR(0.1)]")
    require_kind(constraints, list | tuple, "constraints", "constraints=[cb.CostAtMost(...)]")
    for criterion in criteria:
        require_kind(criterion, Criterion, "criteria", "criteria=[cb.CVaR(0.1), ...]")
    for constraint in constraints:
        require_kind(
            constraint, ChanceConstraint, "constraints", "constraints=[cb.CostAtMost(...)]"
        )
    parts = designed(problem, study)
    more, fresh = other_draws(parts.problem, study, settings)
    used = {
        "criteria": list(criteria),
        "constraints": list(constraints),
        "estimator": estimator,
        "settings": settings,
        "seed": np.asarray(jax.random.key_data(key)).tolist(),
    }
    with running(
        parts.problem,
        executor=executor,
        num_workers=num_workers,
        checkpoint=checkpoint,
        progress=progress,
        question="robust designs",
        draws=(parts.draws, more, fresh),
        designs=(parts.designs, parts.own),
        settings=used,
    ) as run:
        found = search_designs(
            parts.problem,
            parts.draws,
            names=parts.names,
            designs=parts.designs,
            own=parts.own,
            criteria=criteria,
            constraints=constraints,
            estimator=estimator,
            key=key,
            settings=settings,
            run=run,
            more=more,
            fresh=fresh,
        )
    return add_robust(study, parts.problem, found, used)


def other_draws(
    problem: Problem, study: xr.DataTree, settings: RobustSettings
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return posterior draws beside the study's own: some to choose on, and some to score on.

    Evenly spaced, the former between the latter. Both are empty where the posterior holds fewer
    than `FEWEST_SCORED` others.
    """
    posterior, design = study["posterior"].to_dataset(), study["design"].to_dataset()
    used = np.isin(posterior["chain"], design["chain"])[:, None] & np.isin(
        posterior["draw"], design["draw"]
    )
    left = np.flatnonzero(~used)
    if min(len(left), settings.num_score_draws) < FEWEST_SCORED:
        return {}, {}
    num_more = min(settings.num_more_draws, len(left) // 2)
    left = left[evenly_spaced(len(left), num_more + settings.num_score_draws)]
    to_choose = evenly_spaced(len(left), num_more) if num_more else np.zeros(0, int)
    draws = posterior_draws(problem, posterior)

    def taken(index: np.ndarray) -> dict[str, np.ndarray]:
        return {name: value[index] for name, value in draws.items()} if len(index) else {}

    return taken(left[to_choose]), taken(np.delete(left, to_choose))
