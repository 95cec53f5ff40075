"""What the command line writes: tables or JSON on standard output, the rest on standard error."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

__all__ = ["check_output", "emit", "emit_summary", "errors", "finish", "progress"]

errors = Console(stderr=True, highlight=False)


def check_output(output: Path | None, prob: float) -> None:
    """Refuse before the work begins what could only be refused after it."""
    if output is not None and output.suffix not in (".nc", ".zarr"):
        raise typer.BadParameter(f"--output {output} must end in .nc or .zarr")
    if output is not None and not output.parent.is_dir():
        raise typer.BadParameter(f"--output: there is no folder {output.parent}")
    if not 0.0 < prob < 1.0:
        raise typer.BadParameter(f"--prob {prob} must lie between 0 and 1")


def finish(
    tree: Any, output: Path | None, prob: float, as_json: bool, accept_failed: bool = False
) -> None:
    """Save a tree if asked to, and print its summary."""
    from cbrl_bayes.results import save, summary as summarise

    if output is not None:
        save(tree, output)
        errors.print(f"written: {output}", markup=False)
    emit_summary(summarise(tree, prob=prob, accept_failed=accept_failed), as_json)


def emit_summary(found: Any, as_json: bool) -> None:
    """Print a summary as text or as one JSON object."""
    if not as_json:
        typer.echo(str(found))
        return
    rows = found.table.reset_index().astype(object)
    rows = rows.where(rows.notna(), None).to_dict(orient="records")
    health = {
        "verdict": found.health.verdict,
        "failures": found.health.failures,
        "reviews": found.health.reviews,
    }
    share = found.failed_share
    typer.echo(
        json.dumps(
            {
                "problem": found.problem,
                "estimator": found.estimator,
                "prob": found.prob,
                "kind": found.kind,
                "failed_share": share if share == share else None,
                "restart_objectives": [
                    float(v) if v == v else None for v in found.restart_objectives
                ],
                "health": health,
                "withheld": found.withheld,
                "rows": rows,
            }
        )
    )


def emit(numbers: dict[str, Any], as_json: bool) -> None:
    """Print numbers by name, or as one JSON object."""
    if as_json:
        typer.echo(json.dumps(numbers))
        return
    for name, value in numbers.items():
        text = str(value)
        typer.echo(f"{name}: {text if len(text) < 200 else text[:200] + ' ...'}")


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar on standard error when a person is watching."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("starting", total=1)

        def update(stage: str, done: int, total: int) -> None:
            bar.update(task, description=stage, completed=done, total=total)

        yield update
