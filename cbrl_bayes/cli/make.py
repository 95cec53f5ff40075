"""The commands that make a fit or a study: infer, design, robust."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cbrl_bayes.cli.input import (
    AcceptFailed,
    Alternatives,
    AProblem,
    CheckpointFolder,
    DaskAddress,
    Draws,
    Dynamics,
    EstimatorName,
    Json,
    Kind,
    Method,
    Output,
    PenaltyWeight,
    Prob,
    SearchName,
    Seed,
    Slip,
    Temperature,
    as_fitted,
    chosen_problem,
    chosen_search,
    observed_behaviour,
    on_dask,
)
from cbrl_bayes.cli.output import emit, finish

TENTH, NINE_TENTHS = [0.1], [0.9]
CredibleSets = Annotated[list[float], typer.Option(help="Probabilities of credible sets.")]


def infer(
    context: typer.Context,
    problem: AProblem,
    data: Annotated[Path | None, typer.Option(help="Trajectories: .nc, .zarr or .csv.")] = None,
    groups: Annotated[
        str | None, typer.Option(help="Bus groups of the Zurcher data, e.g. 4 or 1-4 or 1,2,3.")
    ] = None,
    method: Annotated[
        Method, typer.Option(help="nuts (draws), svi (fast, approximate) or mle (one estimate).")
    ] = Method.NUTS,
    dynamics: Annotated[
        Dynamics | None,
        typer.Option(help="unknown: learn where actions lead, too, from the same data."),
    ] = None,
    output: Output = None,
    chains: Annotated[int, typer.Option(min=1, help="NUTS chains.")] = 4,
    warmup: Annotated[int, typer.Option(min=1, help="NUTS warm-up steps.")] = 500,
    samples: Annotated[int, typer.Option(min=1, help="Draws per chain.")] = 500,
    checkpoint: CheckpointFolder = None,
    dask: DaskAddress = None,
    seed: Seed = 0,
    prob: Prob = 0.9,
    kind: Kind = "eti",
    temperature: Temperature = None,
    penalty_weight: PenaltyWeight = None,
    slip: Slip = None,
    as_json: Json = False,
) -> None:
    """Infer rationality and context law from observed behaviour."""
    import jax

    from cbrl_bayes.inference import NUTSSettings, SVISettings
    from cbrl_bayes.problems import with_unknown_law
    from cbrl_bayes.results import check_interval, summary as summarise
    from cbrl_bayes.workflow import infer as run_infer

    if checkpoint is not None and method is not Method.NUTS:
        raise typer.BadParameter("--checkpoint works with --method nuts only")
    if dask is not None and method is not Method.NUTS:
        raise typer.BadParameter("--dask works with --method nuts only")
    if output is not None and method is Method.MLE:
        raise typer.BadParameter("--output works with --method nuts or svi: mle only prints")
    check_interval(prob, kind)
    chosen = chosen_problem(problem, temperature, penalty_weight, slip)
    if dynamics is Dynamics.UNKNOWN:
        chosen = with_unknown_law(chosen)
    observed = observed_behaviour(problem, data, groups)
    if method is Method.MLE:
        from cbrl_bayes.cli.as_given import maximum

        emit(maximum(chosen, observed), as_json)
        return
    settings = (
        NUTSSettings(num_chains=chains, num_warmup=warmup, num_samples=samples)
        if method is Method.NUTS
        else SVISettings(num_samples=chains * samples)
    )
    fit = run_infer(
        chosen,
        observed,
        key=jax.random.key(seed),
        settings=settings,
        checkpoint=checkpoint,
        executor=on_dask(dask),
    )
    finish(context, fit, summarise(fit, prob=prob, kind=kind))


def design(
    context: typer.Context,
    problem: AProblem,
    fit: Annotated[
        Path | None, typer.Option(help="A fit from 'infer'; without one, parameters as given.")
    ] = None,
    estimator: Annotated[
        EstimatorName, typer.Option(help="Estimator of the hypergradient.")
    ] = EstimatorName.EXACT,
    search: Annotated[
        SearchName | None, typer.Option(help="Default: the one that suits the estimator.")
    ] = None,
    follower_steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="Budget of an estimator that simulates; with --fit, of --search rounds."
        ),
    ] = None,
    draws: Draws = 100,
    alternatives: Alternatives = None,
    output: Output = None,
    checkpoint: CheckpointFolder = None,
    dask: DaskAddress = None,
    seed: Seed = 0,
    prob: Prob = 0.9,
    kind: Kind = "eti",
    temperature: Temperature = None,
    penalty_weight: PenaltyWeight = None,
    slip: Slip = None,
    accept_failed: AcceptFailed = False,
    as_json: Json = False,
) -> None:
    """Find the best incentive under a posterior, or for parameters as given."""
    from dataclasses import replace

    import jax

    from cbrl_bayes.designs import default_design_settings
    from cbrl_bayes.hypergradients import ESTIMATORS, Rounds
    from cbrl_bayes.results import check_interval, load, summary as summarise
    from cbrl_bayes.workflow import design as run_design

    check_interval(prob, kind)
    chosen = chosen_problem(problem, temperature, penalty_weight, slip)
    how = ESTIMATORS[estimator]()
    settings = default_design_settings(how, chosen)
    looking = settings.search if search is None else chosen_search(search, chosen)
    if fit is None:
        if checkpoint is not None or dask is not None:
            raise typer.BadParameter("--checkpoint and --dask need --fit")
        if output is not None:
            raise typer.BadParameter("--output needs --fit: without a fit the result is printed")
        if alternatives is not None:
            raise typer.BadParameter("--alternatives needs --fit: there they are scored on draws")
        from cbrl_bayes.cli.as_given import design_as_given

        emit(design_as_given(chosen, how, looking, seed, follower_steps), as_json)
        return
    if follower_steps is not None:
        if not isinstance(looking, Rounds):
            raise typer.BadParameter("--follower-steps with --fit needs --search rounds")
        looking = replace(looking, follower_steps=follower_steps)
    settings = replace(settings, search=looking)
    posterior = load(fit)
    tree = run_design(
        as_fitted(chosen, posterior),
        posterior,
        key=jax.random.key(seed),
        estimator=how,
        num_draws=draws,
        settings=settings,
        alternatives=json.loads(alternatives or "{}"),
        checkpoint=checkpoint,
        executor=on_dask(dask),
    )
    table = summarise(tree, prob=prob, kind=kind, accept_failed=accept_failed)
    finish(context, tree, table, posterior)


def robust(
    context: typer.Context,
    problem: AProblem,
    file: Annotated[Path, typer.Argument(help="A study from 'design'.")],
    output: Output = None,
    cvar: Annotated[list[float], typer.Option(help="Worst shares of the draws.")] = TENTH,
    worst_case: CredibleSets = NINE_TENTHS,
    minimax_regret: CredibleSets = NINE_TENTHS,
    most_cost: Annotated[float | None, typer.Option(help="Limit on the expected cost.")] = None,
    most_cost_prob: Annotated[float, typer.Option(help="Probability of keeping it.")] = 0.95,
    checkpoint: CheckpointFolder = None,
    dask: DaskAddress = None,
    seed: Seed = 0,
    prob: Prob = 0.9,
    kind: Kind = "eti",
    temperature: Temperature = None,
    penalty_weight: PenaltyWeight = None,
    slip: Slip = None,
    accept_failed: AcceptFailed = False,
    as_json: Json = False,
) -> None:
    """Add designs for leaders who fear the bad draws, and compare all designs."""
    import jax

    from cbrl_bayes.designs import CVaR, MinimaxRegret, WorstCase
    from cbrl_bayes.results import check_interval, load
    from cbrl_bayes.robust import CostAtMost, compare_designs, robust_designs

    check_interval(prob, kind)
    chosen = chosen_problem(problem, temperature, penalty_weight, slip)
    study = load(file)
    tree = robust_designs(
        as_fitted(chosen, study),
        study,
        key=jax.random.key(seed),
        criteria=[
            *map(CVaR, cvar),
            *map(WorstCase, worst_case),
            *map(MinimaxRegret, minimax_regret),
        ],
        constraints=() if most_cost is None else (CostAtMost(most_cost, most_cost_prob),),
        checkpoint=checkpoint,
        executor=on_dask(dask),
    )
    table = compare_designs(tree, prob=prob, kind=kind, accept_failed=accept_failed)
    finish(context, tree, table, study)
