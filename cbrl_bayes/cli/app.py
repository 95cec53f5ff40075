"""The command line. Heavy imports wait inside the commands, so that --help answers at once."""

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from cbrl_bayes.cli.ask import information, sensitivity, stress
from cbrl_bayes.cli.campaign import campaign
from cbrl_bayes.cli.input import AcceptFailed, Draws, Json, Kind, Prob, Results, holds_trajectories
from cbrl_bayes.cli.make import design, infer, robust
from cbrl_bayes.cli.output import emit, emit_table, errors

app = typer.Typer(
    name="cbrl-bayes",
    help="From observed behaviour to incentives with credible intervals.",
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        from cbrl_bayes import __version__

        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for results and figures.")] = Path(
        "demo_output"
    ),
    draws: Draws = 100,
) -> None:
    """Run the whole chain on Four-Rooms and on the bus data, and print what came out."""
    from cbrl_bayes.cli.demo import run_demo

    begun = time.perf_counter()
    written = run_demo(output, report=typer.echo, num_draws=draws)
    typer.echo(f"\nwritten in {time.perf_counter() - begun:.0f} s:")
    for path in written:
        typer.echo(f"  {path}")


for command in (infer, design, robust, information, sensitivity, stress):
    app.command()(command)
app.add_typer(campaign, name="campaign")


@app.command()
def summary(
    file: Results,
    prob: Prob = 0.9,
    kind: Kind = "eti",
    accept_failed: AcceptFailed = False,
    as_json: Json = False,
) -> None:
    """Print a results file's table, intervals and health."""
    from cbrl_bayes.results import load, summary as summarise

    found = summarise(load(file), prob=prob, kind=kind, accept_failed=accept_failed)
    emit_table(found, as_json)


@app.command()
def plot(
    file: Results,
    output: Annotated[Path, typer.Option(help="Folder for the figures.")] = Path("figures"),
    prob: Prob = 0.9,
    accept_failed: AcceptFailed = False,
) -> None:
    """Draw a results file's figures."""
    from cbrl_bayes.plots import save_figures
    from cbrl_bayes.results import load

    for path in save_figures(load(file), output, prob=prob, accept_failed=accept_failed):
        typer.echo(path)


@app.command()
def report(
    file: Results,
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
    typer.echo(page.health)
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


@contextmanager
def _notes_in_one_line() -> Iterator[None]:
    """Print notes on data without the place in the code that says them."""
    from cbrl_bayes.errors import DataNote

    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, DataNote):
            errors.print(f"note: {message}", markup=False)
        else:
            others(message, category, *where, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = others


def main() -> None:
    """Run the command line. A failure prints one line and ends with status 1, wrong use with 2.

    With ``CBRL_BAYES_TRACEBACK`` set in the environment, what nobody foresaw prints where it
    arose.
    """
    from cbrl_bayes.errors import CbrlBayesError

    try:
        with _notes_in_one_line():
            status = app(standalone_mode=False)
        sys.stdout.flush()  # what cannot be written is a failure too
    except CbrlBayesError as error:
        status = _refuse(str(error), 1)
    except OSError as error:
        status = _refuse(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except (typer.Abort, KeyboardInterrupt):
        status = _refuse("interrupted", 130)
    except Exception as error:
        told = getattr(error, "format_message", None)  # of all that the parser of options raises
        if told is not None:
            status = _refuse(told().removeprefix("Invalid value: "), 2)
        elif "CBRL_BAYES_TRACEBACK" in os.environ:
            raise
        else:
            hint = "CBRL_BAYES_TRACEBACK=1 in the environment shows where"
            status = _refuse(f"{type(error).__name__}: {error} ({hint})", 1)
    sys.exit(status)


def _refuse(why: str, status: int) -> int:
    errors.print(f"error: {' '.join(why.split())}", style="red", markup=False, soft_wrap=True)
    return status
