"""The command line. Heavy imports wait inside the commands, so that --help answers at once."""

import inspect
import json
import os
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cbrl_bayes import __version__
from cbrl_bayes.cli_output import check_output, emit, emit_summary, errors, finish, progress

if TYPE_CHECKING:
    from cbrl_bayes.hypergradients import Search
    from cbrl_bayes.problems import Problem

__all__ = ["main"]

app = typer.Typer(
    name="cbrl-bayes",
    help="From observed behaviour to incentives with credible intervals.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


class ProblemName(StrEnum):
    """Ready-made problems."""

    BUS_REPLACEMENT = "bus_replacement"
    CONTRACT_DESIGN = "contract_design"
    FOUR_ROOMS = "four_rooms"
    FOUR_ROOMS_DOORS = "four_rooms_doors"
    RESERVE_PRICE = "reserve_price"
    TAX_DESIGN = "tax_design"
    TWO_STATE = "two_state"


class Method(StrEnum):
    """Ways to fit."""

    NUTS = "nuts"
    SVI = "svi"
    MLE = "mle"


class SearchName(StrEnum):
    """Ways to look for the best of many local optima."""

    PLAIN = "plain"
    CONTINUATION = "continuation"
    GLOBAL = "global"


class EstimatorName(StrEnum):
    """Estimators of the hypergradient."""

    EXACT = "exact"
    HPGD = "hpgd"
    BOLTZMANN_COVARIANCE = "boltzmann_covariance"
    RT_Q = "rt_q"
    AMD = "amd"
    SOBIRL = "sobirl"
    PENALTY = "penalty"
    ZEROTH_ORDER = "zeroth_order"


Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Seed = Annotated[int, typer.Option(help="Seed; the same seed gives the same numbers.")]
Temperature = Annotated[
    float | None, typer.Option(help="lambda (Four-Rooms, two_state); rationality is 1/lambda.")
]
PenaltyWeight = Annotated[float | None, typer.Option(help="beta of Four-Rooms.")]
Slip = Annotated[
    str | None,
    typer.Option(help="Four-Rooms: 'as-published' (.44), 'simulator' (.33) or a number."),
]
Prob = Annotated[float, typer.Option(help="Probability of credible intervals.")]


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
    from cbrl_bayes.demo import run_demo

    begun = time.perf_counter()
    with progress() as on_progress:
        written = run_demo(output, report=typer.echo, on_progress=on_progress, num_draws=draws)
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
    from cbrl_bayes.workflow import behaviour_model
    from cbrl_bayes.workflow import infer as run_infer

    chosen = _problem(problem, temperature, penalty_weight, slip)
    check_output(output, prob)
    observed = _observed(problem, data, groups)
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
    fit = run_infer(chosen, observed, key=jax.random.key(seed), settings=settings,
                    progress=sys.stderr.isatty())  # fmt: skip
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
    seed: Seed = 0,
    prob: Prob = 0.9,
    temperature: Temperature = None,
    penalty_weight: PenaltyWeight = None,
    slip: Slip = None,
    as_json: Json = False,
) -> None:
    """Solve the leader's problem under a posterior, or for parameters as given."""
    import jax

    from cbrl_bayes.hypergradients import ESTIMATORS
    from cbrl_bayes.workflow import default_design_settings
    from cbrl_bayes.workflow import design as run_design

    chosen = _problem(problem, temperature, penalty_weight, slip)
    check_output(output, prob)
    how = ESTIMATORS[estimator]()
    settings = default_design_settings(how)
    if search is not None:
        from dataclasses import replace

        settings = replace(settings, search=_search(search))
    if fit is None:
        emit(_design_as_given(chosen, how, settings.search, seed), as_json)
        return
    from cbrl_bayes.results import load

    posterior = load(fit)
    with progress() as on_progress:
        tree = run_design(chosen, posterior, key=jax.random.key(seed), estimator=how,
                          num_draws=draws, settings=settings, on_progress=on_progress)  # fmt: skip
    finish(tree, output, prob, as_json)


@app.command()
def summary(
    file: Path,
    prob: Prob = 0.9,
    kind: Annotated[str, typer.Option(help="eti (equal-tailed) or hdi.")] = "eti",
    as_json: Json = False,
) -> None:
    """Print a results file's table, intervals and health."""
    from cbrl_bayes.results import load
    from cbrl_bayes.results import summary as summarise

    emit_summary(summarise(load(file), prob=prob, kind=kind), as_json)


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
def check(file: Path, as_json: Json = False) -> None:
    """Check a results file or a file of trajectories; name every violation."""
    from cbrl_bayes.behaviour import load_trajectories
    from cbrl_bayes.errors import CbrlBayesError
    from cbrl_bayes.results import load

    kind = "trajectories" if _holds_trajectories(file) else "results"
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


def _problem(
    name: ProblemName, temperature: float | None, penalty_weight: float | None, slip: str | None
) -> "Problem":
    from cbrl_bayes.problems import READY_MADE

    given: dict[str, Any] = {"temperature": temperature, "penalty_weight": penalty_weight,
                             "slip": _slip(slip)}  # fmt: skip
    given = {key: value for key, value in given.items() if value is not None}
    accepted = set(inspect.signature(READY_MADE[name.value]).parameters)
    foreign = sorted(set(given) - accepted)
    if foreign:
        raise typer.BadParameter(f"{name.value} does not take {', '.join(foreign)}")
    return READY_MADE[name.value](**given)


def _slip(text: str | None) -> float | None:
    from cbrl_bayes.problems import SLIP_AS_PUBLISHED, SLIP_OF_PUBLISHED_SIMULATOR

    named = {"as-published": SLIP_AS_PUBLISHED, "simulator": SLIP_OF_PUBLISHED_SIMULATOR}
    if text is None or text in named:
        return None if text is None else named[text]
    try:
        return float(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"slip {text!r} is neither a number nor one of {', '.join(named)}"
        ) from error


def _observed(problem: ProblemName, data: Path | None, groups: str | None) -> Any:
    from cbrl_bayes.behaviour import load_trajectories, load_zurcher

    if (data is None) == (groups is None):
        raise typer.BadParameter("give either --data FILE or, for bus_replacement, --groups")
    if data is not None:
        return load_trajectories(data)
    if problem is not ProblemName.BUS_REPLACEMENT:
        raise typer.BadParameter("--groups goes with bus_replacement only")
    return load_zurcher(_groups(str(groups)))


def _groups(text: str) -> tuple[int, ...]:
    chosen: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            chosen += range(int(first), int(last or first) + 1)
    except ValueError as error:
        raise typer.BadParameter(f"groups {text!r} are not numbers like 4, 1-4 or 1,3") from error
    return tuple(chosen)


def _search(name: SearchName) -> "Search":
    from cbrl_bayes.hypergradients import Ascent, Search, global_search

    if name is SearchName.GLOBAL:
        return global_search()
    if name is SearchName.CONTINUATION:
        stages = (50.0, 30.0, 20.0, 10.0, 5.0, 3.0, 1.0)
        return Search(ascent=Ascent(num_steps=120, continuation=stages))
    return Search(ascent=Ascent(num_steps=400))


def _design_as_given(problem: "Problem", estimator: Any, search: "Search", seed: int) -> dict:
    import jax
    import numpy as np

    from cbrl_bayes.hypergradients import SearchProgram
    from cbrl_bayes.problems import leader_outcome

    begun = time.perf_counter()
    program = SearchProgram(problem, estimator, search)
    parameters = problem.default_parameters
    with progress() as on_progress:
        done = 0

        def on_step(steps: int) -> None:
            nonlocal done
            done += steps
            on_progress("ascent steps", done, search.total_steps)

        found = program.run(parameters, key=jax.random.key(seed), on_step=on_step)
    best = found.best
    outcome = leader_outcome(problem, best.unconstrained, parameters, key=jax.random.key(seed))
    incentive = problem.incentive.transform(best.unconstrained)
    return {
        "leader_objective": float(outcome.objective),
        "seconds": time.perf_counter() - begun,
        "objective_unit": problem.objective_unit,
        "incentive_cost": float(outcome.incentive_cost),
        "status": best.status.name,
        "restart_objectives": [float(v) for v in found.restart_objectives],
        "incentive": {name: np.asarray(value).tolist() for name, value in incentive.items()},
    }


def _holds_trajectories(file: Path) -> bool:
    """Trajectories have a variable ``state`` at the top; results have groups."""
    import xarray as xr

    if file.suffix == ".csv":
        return True
    try:
        engine = "zarr" if file.suffix == ".zarr" else "h5netcdf"
        with xr.open_dataset(file, engine=engine) as opened:
            return "episode" in opened.dims
    except Exception:  # unreadable: let the loader of results say why
        return False
