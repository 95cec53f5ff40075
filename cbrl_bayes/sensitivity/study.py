"""What would change the decision: prior, parameters, follower model, a world that is different."""

from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
import xarray as xr
from jaxtyping import Array, Key

from cbrl_bayes.designs import Evaluation, Score, evaluate_designs
from cbrl_bayes.errors import InvalidInputError, NotConvergedError, explain
from cbrl_bayes.hypergradients import Estimator, Search
from cbrl_bayes.problems import Problem
from cbrl_bayes.results import designed
from cbrl_bayes.sensitivity.prior import (
    COMPONENTS,
    PowerScaling,
    add_power_scaling,
    add_sobol,
    component_densities,
    constant_priors,
    parameter_table,
    power_scale_weights,
    power_scaling_sensitivity,
    study_outputs,
)
from cbrl_bayes.sensitivity.sobol import (
    FEWEST_DRAWS,
    distinct_columns,
    first_order_indices,
    weighted_decision,
)
from cbrl_bayes.sensitivity.stress import Stress, stress_designs
from cbrl_bayes.sensitivity.tables import add_model_comparison, add_stress, check_same_data

__all__ = ["compare_followers", "prior_sensitivity", "sobol_indices", "stress_test"]

COMMON = "common"
ALPHAS = (0.8, 0.9, 1.0, 1.1, 1.25)
Progress = Callable[[str, int, int], None]


def prior_sensitivity(
    problem: Problem,
    study: xr.DataTree,
    *,
    key: Key[Array, ""],
    alphas: Sequence[float] = ALPHAS,
    outputs: Sequence[str] | None = None,
    num_options: int = 20,
    num_resamples: int = 50,
    evaluation: Evaluation | None = None,
    num_workers: int = 2,
    on_progress: Progress | None = None,
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
    alphas : sequence of float
        Exponents for the decision, > 0. ``psense`` itself takes .99 and 1.01.
    outputs : sequence of str, optional
        Variables of the group ``design``; default: all results and incentives.
    num_options : int
        Options in all, at least the study's own designs.
    num_resamples : int
        Resamples of the draws for the standard errors of ``psense``, >= 2.
    evaluation : Evaluation, optional
        Default: exact.
    num_workers : int
        Threads over draws; the numbers do not depend on it.
    on_progress : callable, optional
        Called with (stage, done, total).

    Returns
    -------
    xarray.DataTree
        The study with the group ``sensitivity``; `results.sensitivity_table` prints it.

    Raises
    ------
    InvalidInputError
        For a study without designs or without a fit, fewer than 40 designed draws, or settings
        out of range.
    NotConvergedError
        Where some option has no finite objective under some draw.

    Notes
    -----
    Power-scaling is local: it says what a somewhat wider or narrower prior would do, not what a
    different prior would. Priors are scaled on the parameters' unbounded scale, where log-normal
    ones keep their median and Beta and Dirichlet ones their mean (`inference.log_prior`).
    Priors whose density is constant there cannot be scaled: the attribute ``constant_priors`` of
    ``power_scaling`` lists them.
    """
    made = designed(problem, study)
    densities = component_densities(study)
    if not alphas or not all(0.0 < a < np.inf for a in alphas) or num_resamples < 2:
        raise InvalidInputError(
            explain(
                "settings of power-scaling are out of range",
                received=f"alphas={tuple(alphas)}, num_resamples={num_resamples}",
                accepted="alphas > 0, num_resamples >= 2",
            )
        )
    table = study_outputs(study, outputs)
    if made.own.shape[0] < FEWEST_DRAWS:
        raise InvalidInputError(
            explain(
                "there are too few designed draws for power-scaling",
                received=made.own.shape[0],
                accepted=f">= {FEWEST_DRAWS}",
                remedy="design for more posterior draws (num_draws)",
            )
        )
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    sensitivity, error = power_scaling_sensitivity(table, densities, generator, num_resamples)
    names, options = made.options(num_options)
    scores = evaluate_designs(made.problem, options, made.draws, key=key, evaluation=evaluation)
    _check_finite(names, scores)
    decisions, pareto_k = [], np.full((len(COMPONENTS), len(alphas)), np.nan)
    for row, component in enumerate(COMPONENTS):
        weights = []
        for column, alpha in enumerate(alphas):
            found, pareto_k[row, column] = power_scale_weights(densities[component], alpha)
            weights.append(found)
        decisions.append(
            weighted_decision(scores.objective, np.stack(weights), reference=names.index(COMMON))
        )
    return add_power_scaling(
        study,
        PowerScaling(
            outputs=tuple(map(str, table["output"].values)),
            options=names,
            alphas=tuple(alphas),
            sensitivity=sensitivity,
            standard_error=error,
            decisions=tuple(decisions),
            pareto_k=pareto_k,
            unsolved=(scores.status != 0).sum(1),
            constant_priors=constant_priors(study),
        ),
    )


def sobol_indices(
    problem: Problem,
    study: xr.DataTree,
    *,
    key: Key[Array, ""],
    outputs: Sequence[str] | None = None,
    prob: float = 0.9,
    num_resamples: int = 100,
) -> xr.DataTree:
    """Add to a study which uncertain parameter its results depend on most.

    First-order Sobol indices of every output to every entry of the problem's uncertain
    parameters, from the designed draws alone (`first_order_indices`, which says what they mean
    where draws are correlated, how biased they are and what their intervals cover). Entries that
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
    prob : float
        Probability of the intervals.
    num_resamples : int
        For the intervals.

    Returns
    -------
    xarray.DataTree
        The study with the group ``sensitivity``.

    Raises
    ------
    InvalidInputError
        For a study without designs, or with too few.
    """
    made = designed(problem, study)
    labels, draws = parameter_table(study, list(made.draws))
    kept = distinct_columns(draws)
    labels, draws = [n for n, k in zip(labels, kept, strict=True) if k], draws[:, kept]
    if not labels:
        raise InvalidInputError("no uncertain parameter differs between the designed draws")
    table = study_outputs(study, outputs)
    found = first_order_indices(
        draws, table.values.reshape(len(draws), -1), key=key, prob=prob, num_resamples=num_resamples
    )
    return add_sobol(study, [str(o) for o in table["output"].values], labels, found, draws, prob)


def stress_test(
    problem: Problem,
    study: xr.DataTree,
    stresses: Sequence[Stress],
    *,
    key: Key[Array, ""],
    search: Search | None = None,
    estimator: Estimator | None = None,
    evaluation: Evaluation | None = None,
    num_search_draws: int = 20,
    num_workers: int = 2,
    on_progress: Progress | None = None,
) -> xr.DataTree:
    """Add to a study what its designs achieve in worlds shifted away from the posterior.

    Parameters
    ----------
    problem : Problem
        The problem the study is of.
    study : xarray.DataTree
        From `design`.
    stresses : sequence of Stress
        `TemperatureShift`, `ContextShift`, `TransitionBlur`, `AlteredProblem` or your own.
    key, search, estimator, evaluation, num_search_draws, num_workers, on_progress
        As in `stress_designs`.

    Returns
    -------
    xarray.DataTree
        The study with the group ``stress``; `results.stress_table` prints it.

    Raises
    ------
    InvalidInputError
        For a study without designs, or stresses that do not fit the problem.

    Examples
    --------
    >>> import jax, numpy as np, cbrl_bayes as cb
    >>> problem = cb.problems.two_state()
    >>> quick = cb.Search(ascent=cb.Ascent(num_steps=40))
    >>> study = cb.design(problem, {"temperature": np.array([0.2, 0.25, 0.3])},
    ...                   key=jax.random.key(0), num_draws=3,
    ...                   settings=cb.DesignSettings(search=quick, per_draw=quick))
    >>> stressed = stress_test(problem, study, [cb.TemperatureShift(3.0)], key=jax.random.key(1))
    >>> stressed["stress"]["change"].dims
    ('stress', 'design', 'chain', 'draw')
    """
    made = designed(problem, study)
    found = stress_designs(
        made.problem,
        dict(zip(made.names, made.designs, strict=True)),
        made.draws,
        stresses,
        key=key,
        evaluation=evaluation,
        search=search,
        estimator=estimator,
        num_search_draws=num_search_draws,
    )
    return add_stress(study, found)


def compare_followers(
    models: Mapping[str, Problem],
    studies: Mapping[str, xr.DataTree],
    *,
    key: Key[Array, ""],
    evaluation: Evaluation | None = None,
    num_workers: int = 2,
    on_progress: Progress | None = None,
) -> xr.DataTree:
    """Compare models of the follower: how well they predict, and what each would decide.

    Prediction: PSIS-LOO over episodes (`arviz.compare`, stacking weights). Decision: the common
    design under each model is scored under every model's posterior draws.

    Parameters
    ----------
    models : mapping
        Name -> problem; the same but for how followers respond (`problems.follower_models`).
    studies : mapping
        Name -> study of that problem, each fitted to the same data and designed for the same
        number of draws.
    key : typed key
    evaluation : Evaluation, optional
        Default: exact.
    num_workers : int
        Threads over draws; the numbers do not depend on it.
    on_progress : callable, optional
        Called with (stage, done, total).

    Returns
    -------
    xarray.DataTree
        The first study with the group ``model_comparison``; `results.loss_table` prints the
        square table.

    Raises
    ------
    InvalidInputError
        For fewer than two models, names that do not fit, or different data.
    NotConvergedError
        Where some design has no finite objective under some draw.

    Notes
    -----
    That the data are the same is checked by what the fits keep of them (`check_same_data`), which
    is not everything.
    """
    if len(models) < 2 or list(models) != list(studies):
        raise InvalidInputError(
            explain(
                "models and studies do not fit",
                accepted="two or more, named alike",
                received=f"models {', '.join(models)}; studies {', '.join(studies)}",
            )
        )
    made = {name: designed(models[name], studies[name]) for name in models}
    check_same_data(studies)
    if len({one.designs.shape[1] for one in made.values()}) > 1:
        raise InvalidInputError("the models' incentives differ, so their designs do not compare")
    common = np.stack([one.designs[one.names.index(COMMON)] for one in made.values()])
    columns, unsolved = [], []
    for one in made.values():
        scores = evaluate_designs(one.problem, common, one.draws, key=key, evaluation=evaluation)
        _check_finite([f"common design for {name}" for name in made], scores)
        columns.append(scores.objective)
        unsolved.append((scores.status != 0).sum(1))
        if on_progress is not None:
            on_progress("designs under other models", len(columns), len(made))
    return add_model_comparison(
        next(iter(studies.values())),
        studies,
        np.stack(columns, axis=1),
        unsolved=np.stack(unsolved, axis=1),
    )


def _check_finite(names: Sequence[str], scores: Score) -> None:
    """Raise if a design has no finite objective under some draw."""
    wrong = (~np.isfinite(scores.objective)).sum(1)
    if wrong.any():
        listed = ", ".join(f"{n} ({k} draws)" for n, k in zip(names, wrong, strict=True) if k)
        raise NotConvergedError(
            explain(
                "the objective of some designs is not finite under some draws",
                received=listed,
                accepted="finite numbers",
                remedy="look at these draws; a solver with more steps; fewer options (num_options)",
            )
        )
