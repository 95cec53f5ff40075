"""What would change the decision: prior, parameters, another world."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
import numpy as np
import xarray as xr
from jaxtyping import Array, Key

from cbrl_bayes.designs import Executor, evaluate_designs
from cbrl_bayes.designs.scoring import complete_draws
from cbrl_bayes.errors import InvalidInputError, require_kind
from cbrl_bayes.hypergradients import Estimator, Exact
from cbrl_bayes.problems import Problem
from cbrl_bayes.progress import Progress
from cbrl_bayes.results import Designed, fingerprint, running
from cbrl_bayes.sensitivity.labels import (
    COMMON,
    add_power_scaling,
    add_sobol,
    add_stress,
    check_finite,
    component_densities,
    opened,
    parameter_table,
    study_outputs,
)
from cbrl_bayes.sensitivity.prior import (
    COMPONENTS,
    PriorSensitivitySettings,
    power_scaled_decision,
    power_scaling_sensitivity,
)
from cbrl_bayes.sensitivity.sobol import (
    FEWEST_DRAWS,
    SobolIndices,
    SobolSettings,
    distinct_columns,
    first_order_indices,
)
from cbrl_bayes.sensitivity.stress import StressSettings, stress_designs
from cbrl_bayes.sensitivity.worlds import Stress


def prior_sensitivity(
    problem: Problem,
    study: xr.DataTree,
    *,
    key: Key[Array, ""],
    outputs: Sequence[str] | None = None,
    settings: PriorSensitivitySettings | None = None,
    executor: Executor | None = None,
    num_workers: int = 2,
    checkpoint: str | Path | None = None,
    progress: Progress = None,
) -> xr.DataTree:
    r"""Add to a study how prior and likelihood move its results and its decision.

    Prior or likelihood is raised to a power :math:`\alpha` by weights on the posterior draws
    (Pareto-smoothed), without another fit. *Outputs* (`study_outputs`) get ArviZ's ``psense``.
    *The decision*: for each alpha, which of the options is best in expectation, what it is worth,
    and what keeping the common design would lose. Options are the study's designs and evenly
    spaced ones among the draws' own. The loss is scored on draws that did not choose the best
    option (`weighted_decision`); on average it does not exceed what an optimal design gains, since
    nothing is searched anew. One estimate can err to both sides: its standard error stands beside.

    Parameters
    ----------
    problem : Problem
        The problem the study is of.
    study : xarray.DataTree
        From `infer` and `design`.
    key : typed key
    outputs : sequence of str, optional
        Variables of the group ``design``; default: all results and incentives.
    settings : PriorSensitivitySettings, optional
    executor, num_workers, checkpoint, progress
        How it runs, as in `design`.

    Returns
    -------
    xarray.DataTree
        The study with the group ``sensitivity``; `sensitivity_table` prints it.

    Raises
    ------
    InvalidInputError
        For a study without designs or without a fit, or with fewer than 40 designed draws.
    NotConvergedError
        If some option has no finite objective under some draw.

    Notes
    -----
    Power-scaling is local: it says what a somewhat wider or narrower prior would do, not what a
    different prior would. Priors are scaled on the parameters' unbounded scale, where log-normal
    ones keep their median and Beta and Dirichlet ones their mean (`inference.log_prior`).
    Priors whose density is constant there cannot be scaled: the attribute ``constant_priors`` of
    ``power_scaling`` lists them.
    """
    settings = PriorSensitivitySettings() if settings is None else settings
    made = opened(problem, study, key, settings, PriorSensitivitySettings)
    densities, table = component_densities(study), study_outputs(study, outputs)
    _check_enough(len(made.own))
    names, options = made.options(settings.num_options)
    with running(
        made.problem,
        executor=executor,
        num_workers=num_workers,
        checkpoint=checkpoint,
        progress=progress,
        question="sensitivity to the prior",
        draws=made.draws,
        densities=densities,
        outputs=table.values,
        options=options,
        settings=settings,
        key=key,
    ) as run:
        scores = evaluate_designs(
            made.problem,
            options,
            made.draws,
            key=key,
            evaluation=settings.evaluation,
            run=run,
            table="options",
        )
        check_finite(names, scores)
        generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        sensitivity = run.once(
            "power_scaling",
            lambda: power_scaling_sensitivity(
                table.values, densities, generator, settings.num_resamples
            ),
        )
    decide = partial(
        power_scaled_decision,
        scores.objective,
        alphas=settings.alphas,
        reference=names.index(COMMON),
    )
    return add_power_scaling(
        study,
        outputs=list(map(str, table["output"].values)),
        options=names,
        alphas=settings.alphas,
        sensitivity=sensitivity,
        decisions=[decide(densities[component]) for component in COMPONENTS],
        unsolved=(scores.status != 0).sum(1),
    )


def sobol_indices(
    problem: Problem,
    study: xr.DataTree,
    *,
    key: Key[Array, ""],
    outputs: Sequence[str] | None = None,
    settings: SobolSettings | None = None,
    executor: Executor | None = None,
    num_workers: int = 2,
    checkpoint: str | Path | None = None,
    progress: Progress = None,
) -> xr.DataTree:
    """Add to a study which uncertain parameter its results depend on most.

    First-order Sobol indices of every output to every entry of the problem's uncertain
    parameters, from the designed draws alone (`first_order_indices`, which says what they mean
    if draws are correlated, how biased they are and what their errors cover). Entries that
    follow from an earlier one (rationality, the last of two probabilities) are left out.

    Parameters
    ----------
    problem : Problem
        The problem the study is of.
    study : xarray.DataTree
        From `design`, with at least 40 designed draws; some 200 are needed for errors of .05.
    key : typed key
    outputs : sequence of str, optional
        As in `prior_sensitivity`.
    settings : SobolSettings, optional
    executor, num_workers, checkpoint, progress
        How it runs, as in `design`. It is one piece of work, so the first two change nothing.

    Returns
    -------
    xarray.DataTree
        The study with the group ``sensitivity``; `sobol_table` prints it.

    Raises
    ------
    InvalidInputError
        For a study without designs, or with too few.
    """
    settings = SobolSettings() if settings is None else settings
    made = opened(problem, study, key, settings, SobolSettings)
    labels, draws = parameter_table(study, list(made.draws))
    kept = distinct_columns(draws)
    labels, draws = [n for n, k in zip(labels, kept, strict=True) if k], draws[:, kept]
    if not labels:
        raise InvalidInputError("no uncertain parameter differs between the designed draws")
    table = study_outputs(study, outputs)
    values = table.values.reshape(len(draws), -1)
    with running(
        made.problem,
        executor=executor,
        num_workers=num_workers,
        checkpoint=checkpoint,
        progress=progress,
        question="Sobol indices",
        draws=draws,
        outputs=values,
        settings=settings,
        key=key,
    ) as run:
        found = run.once(
            "sobol",
            lambda: vars(
                first_order_indices(draws, values, key=key, settings=settings, report=run.report)
            ),
        )
    outputs = list(map(str, table["output"].values))
    return add_sobol(study, outputs, labels, SobolIndices(**found), draws)


def stress_test(
    problem: Problem,
    study: xr.DataTree,
    *,
    key: Key[Array, ""],
    stresses: Sequence[Stress],
    estimator: Estimator | None = None,
    settings: StressSettings | None = None,
    executor: Executor | None = None,
    num_workers: int = 2,
    checkpoint: str | Path | None = None,
    progress: Progress = None,
) -> xr.DataTree:
    """Add to a study what its designs achieve in worlds shifted away from the posterior.

    Parameters
    ----------
    problem : Problem
        The problem the study is of.
    study : xarray.DataTree
        From `design`.
    key : typed key
    stresses : sequence of Stress
        `TemperatureShift`, `ContextShift`, `TransitionBlur`, `AlteredProblem` or your own. The
        world as it is comes first, under the name "none".
    estimator : Estimator, optional
        For ``settings.search``. Default: `Exact()`.
    settings : StressSettings, optional
    executor, num_workers, checkpoint, progress
        How it runs, as in `design`.

    Returns
    -------
    xarray.DataTree
        The study with the group ``stress``; `stress_table` prints it.

    Raises
    ------
    InvalidInputError
        For a study without designs, no stresses, stresses with equal names or that do not fit the
        problem.

    Examples
    --------
    >>> import jax, numpy as np, cbrl_bayes as cb
    >>> problem = cb.problems.two_state()
    >>> quick = cb.Search(ascent=cb.Ascent(num_steps=20))
    >>> study = cb.design(problem, {"temperature": np.array([0.2, 0.25, 0.3])},
    ...                   key=jax.random.key(0), num_draws=3,
    ...                   settings=cb.DesignSettings(search=quick, per_draw=quick))
    >>> stressed = cb.stress_test(problem, study, key=jax.random.key(1),
    ...                           stresses=[cb.TemperatureShift(3.0)])
    >>> stressed["stress"]["change"].dims
    ('stress', 'design', 'chain', 'draw')
    """
    settings = StressSettings() if settings is None else settings
    estimator = Exact() if estimator is None else estimator
    made = opened(problem, study, key, settings, StressSettings)
    require_kind(estimator, Estimator, "estimator", "cb.Exact()")
    require_kind(stresses, list | tuple, "stresses", "stresses=[cb.TemperatureShift(2.0)]")
    for stress in stresses:
        require_kind(stress, Stress, "stresses", "stresses=[cb.TemperatureShift(2.0)]")
    designs = dict(zip(made.names, made.designs, strict=True))
    with running(
        made.problem,
        executor=executor,
        num_workers=num_workers,
        checkpoint=checkpoint,
        progress=progress,
        question="stress test",
        draws=made.draws,
        designs=designs,
        stresses=stresses,
        worlds=() if checkpoint is None else [_world(one, made) for one in stresses],
        estimator=estimator,
        settings=settings,
        key=key,
    ) as run:
        found = stress_designs(
            made.problem,
            designs,
            made.draws,
            stresses,
            key=key,
            estimator=estimator,
            settings=settings,
            run=run,
        )
    return add_stress(study, found)


def _world(stress: Stress, made: Designed) -> tuple:
    """Return what tells one shifted world from another, whatever object describes it."""
    world, draws = stress.shift(made.problem, complete_draws(made.problem, made.draws)[0])
    return fingerprint(world), draws


def _check_enough(num: int) -> None:
    if num < FEWEST_DRAWS:
        raise InvalidInputError(
            "the study has too few designed draws for power-scaling",
            received=num,
            accepted=f">= {FEWEST_DRAWS}",
            remedy="design for more posterior draws (num_draws)",
        )
