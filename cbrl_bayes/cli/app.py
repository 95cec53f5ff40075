"""The command line. Heavy imports wait inside the commands, so that --help answers at once."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cbrl_bayes import __version__
from cbrl_bayes.cli.input import (
    AcceptFailed,
    CheckpointFolder,
    DaskAddress,
    EstimatorName,
    Json,
    Method,
    PenaltyWeight,
    Prob,
    ProblemName,
    SearchName,
    Seed,
    Slip,
    Temperature,
    chosen_problem,
    chosen_search,
    design_as_given,
    holds_trajectories,
    observed_behaviour,
)
from cbrl_bayes.cli.output import check_output, emit, emit_summary, errors, finish

__all__ = ["main"]

app = typer.Typer(
    name="cbrl-bayes",
    help="From observed behaviour to incentives with credible intervals.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for results and figures.")] = Path(
        "demo_output"
    ),
    draws: Annotated[int, typer.Option(help="Posterior draws to design for.")] = 100,
) -> None:
    """Run the whole chain on Four-Rooms and on the bus data, and print what came out."""
    from cbrl_bayes.cli.demo import run_demo

    begun = time.perf_counter()
    written = run_demo(output, report=typer.echo, num_draws=draws)
    typer.echo(f"\nwritten in {time.perf_counter() - begun:.0f} s:")
    for path in written:
        typer.echo(f"  {path}")


@app.command()
def infer(
    problem: ProblemName,
    data: Annotated[Path | None, typer.Option(help="Trajectories: .nc, .zarr or .csv.")] = None,
    groups: Annotated[
        str | None, typer.Option(help="Bus groups of the Zurcher data, e.g. 4 or 1-4 or 1,2,3.")
    ] = None,
    method: Annotated[Method, typer.Option(help="nuts, svi or mle.")] = Method.NUTS,
    output: Annotated[Path | None, typer.Option(help="Write the fit here (.nc, .zarr).")] = None,
    chains: Annotated[int, typer.Option(help="NUTS chains.")] = 4,
    warmup: Annotated[int, typer.Option(help="NUTS warm-up steps.")] = 500,
    samples: Annotated[int, typer.Option(help="Draws per chain.")] = 500,
    checkpoint: CheckpointFolder = None,
    seed: Seed = 0,
    prob: Prob = 0.9,
    temperature: Temperature = None,
    penalty_weight: PenaltyWeight = None,
    slip: Slip = None,
    as_json: Json = False,
) -> None:
    """Infer rationality and context law from observed behaviour."""
    import jax

    from cbrl_bayes.inference import NUTSSettings, SVISettings, maximum_likelihood
    from cbrl_bayes.workflow import behaviour_model, infer as run_infer

    if checkpoint is not None and method is not Method.NUTS:
        raise typer.BadParameter("--checkpoint goes with --method nuts")
    if output is not None and method is Method.MLE:
        raise typer.BadParameter("--output goes with --method nuts or svi: mle prints its result")
    chosen = chosen_problem(problem, temperature, penalty_weight, slip)
    check_output(output, prob)
    observed = observed_behaviour(problem, data, groups)
    if method is Method.MLE:
        found = maximum_likelihood(behaviour_model(chosen, observed))
        numbers = {name: value.tolist() for name, value in found.estimates.items()}
        errors_of = {name: value.tolist() for name, value in found.standard_errors.items()}
        emit(
            numbers
            | {
                "log_likelihood": found.log_likelihood,
                "choice_log_likelihood": found.choice_log_likelihood,
                "transition_log_likelihood": found.transition_log_likelihood,
                "standard_errors": errors_of,
                "converged": found.converged,
            },
            as_json,
        )
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
        progress=sys.stderr.isatty(),
    )
    finish(fit, output, prob, as_json)


@app.command()
def design(
    problem: ProblemName,
    fit: Annotated[
        Path | None, typer.Option(help="A fit from 'infer'; without one, parameters as given.")
    ] = None,
    estimator: Annotated[EstimatorName, typer.Option()] = EstimatorName.EXACT,
    search: Annotated[SearchName | None, typer.Option(help="Default: suited to the rest.")] = None,
    draws: Annotated[int, typer.Option(help="Posterior draws to design for.")] = 100,
    output: Annotated[Path | None, typer.Option(help="Write the study here (.nc, .zarr).")] = None,
    checkpoint: CheckpointFolder = None,
    dask: DaskAddress = None,
    seed: Seed = 0,
    prob: Prob = 0.9,
    temperature: Temperature = None,
    penalty_weight: PenaltyWeight = None,
    slip: Slip = None,
    accept_failed: AcceptFailed = False,
    as_json: Json = False,
) -> None:
    """Solve the leader's problem under a posterior, or for parameters as given."""
    import jax

    from cbrl_bayes.designs import DaskExecutor
    from cbrl_bayes.hypergradients import ESTIMATORS
    from cbrl_bayes.workflow import default_design_settings, design as run_design

    chosen = chosen_problem(problem, temperature, penalty_weight, slip)
    check_output(output, prob)
    how = ESTIMATORS[estimator]()
    settings = default_design_settings(how)
    if search is not None:
        from dataclasses import replace

        settings = replace(settings, search=chosen_search(search))
    if fit is None:
        if checkpoint is not None or dask is not None:
            raise typer.BadParameter("--checkpoint and --dask go with --fit")
        if output is not None:
            raise typer.BadParameter("--output goes with --fit: without one, the result is printed")
        emit(design_as_given(chosen, how, settings.search, seed), as_json)
        return
    from cbrl_bayes.results import load

    posterior = load(fit)
    executor = None if dask is None else DaskExecutor(None if dask == "local" else dask)
    tree = run_design(
        chosen,
        posterior,
        key=jax.random.key(seed),
        estimator=how,
        num_draws=draws,
        settings=settings,
        checkpoint=checkpoint,
        executor=executor,
    )
    finish(tree, output, prob, as_json, accept_failed)


@app.command()
def robust(
    problem: ProblemName,
    file: Annotated[Path, typer.Argument(help="A study from 'design'.")],
    output: Annotated[Path | None, typer.Option(help="Write the study here (.nc, .zarr).")] = None,
    cvar: Annotated[list[float], typer.Option(help="Worst shares of draws.")] = [0.1],  # noqa: B006
    worst_case: Annotated[list[float], typer.Option(help="Credible sets.")] = [0.9],  # noqa: B006
    minimax_regret: Annotated[list[float], typer.Option(help="Credible sets.")] = [0.9],  # noqa: B006
    most_cost: Annotated[float | None, typer.Option(help="Limit on the expected cost.")] = None,
    most_cost_prob: Annotated[float, typer.Option(help="Probability of keeping it.")] = 0.95,
    seed: Seed = 0,
    prob: Prob = 0.9,
    temperature: Temperature = None,
    penalty_weight: PenaltyWeight = None,
    slip: Slip = None,
    accept_failed: AcceptFailed = False,
) -> None:
    """Add designs for leaders who fear the bad draws, and compare all designs."""
    import jax

    from cbrl_bayes.designs import Criterion, CVaR, MinimaxRegret, WorstCase
    from cbrl_bayes.results import load, save
    from cbrl_bayes.robust import CostAtMost, compare_designs
    from cbrl_bayes.robust.study import robust_designs

    chosen = chosen_problem(problem, temperature, penalty_weight, slip)
    check_output(output, prob)
    criteria: list[Criterion] = [CVaR(level) for level in cvar]
    criteria += [WorstCase(level) for level in worst_case]
    criteria += [MinimaxRegret(level) for level in minimax_regret]
    limits = () if most_cost is None else (CostAtMost(most_cost, most_cost_prob),)
    tree = robust_designs(
        chosen, load(file), key=jax.random.key(seed), criteria=criteria, constraints=limits
    )
    if output is not None:
        save(tree, output)
    typer.echo(str(compare_designs(tree, prob=prob, accept_failed=accept_failed)))


@app.command()
def summary(
    file: Path,
    prob: Prob = 0.9,
    kind: Annotated[str, typer.Option(help="eti (equal-tailed) or hdi.")] = "eti",
    accept_failed: AcceptFailed = False,
    as_json: Json = False,
) -> None:
    """Print a results file's table, intervals and health."""
    from cbrl_bayes.results import load, summary as summarise

    found = summarise(load(file), prob=prob, kind=kind, accept_failed=accept_failed)
    emit_summary(found, as_json)


@app.command()
def plot(
    file: Path,
    output: Annotated[Path, typer.Option(help="Folder for the figures.")] = Path("figures"),
    prob: Prob = 0.9,
) -> None:
    """Draw a results file's figures."""
    from cbrl_bayes.plots import save_figures
    from cbrl_bayes.results import load

    for path in save_figures(load(file), output, prob=prob):
        typer.echo(path)


@app.command()
def report(
    file: Path,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page (.html).")] = Path(
        "report.html"
    ),
    prob: Prob = 0.9,
    question: Annotated[str, typer.Option(help="What the study is about, in your words.")] = "",
    accept_failed: AcceptFailed = False,
) -> None:
    """Write a results file's report: one page that needs nothing else."""
    from cbrl_bayes.reports import report as make_report
    from cbrl_bayes.results import load

    page = make_report(
        load(file), output, prob=prob, question=question, accept_failed=accept_failed
    )
    typer.echo(f"health: {page.health.verdict}")
    typer.echo(output)


@app.command()
def check(file: Path, as_json: Json = False) -> None:
    """Check a results file or a file of trajectories; name every violation."""
    from cbrl_bayes.behaviour import load_trajectories
    from cbrl_bayes.errors import CbrlBayesError
    from cbrl_bayes.results import load

    kind = "trajectories" if holds_trajectories(file) else "results"
    reader: Callable[[Path], object] = load_trajectories if kind == "trajectories" else load
    try:
        reader(file)
    except CbrlBayesError as error:
        if not as_json:
            raise
        typer.echo(json.dumps({"file": str(file), "ok": False, "kind": kind, "error": str(error)}))
        raise typer.Exit(1) from error
    emit({"file": str(file), "ok": True, "kind": kind}, as_json)


def main() -> None:
    """Run the command line; errors of this package print one line and exit with status 1."""
    from cbrl_bayes.errors import CbrlBayesError

    # One device per chain lets NUTS chains run side by side; JAX reads this when it starts.
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", "4")
    try:
        app()
    except CbrlBayesError as error:
        errors.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
