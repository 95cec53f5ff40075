"""What the command line writes: tables or JSON on standard output, the rest on standard error."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import typer
from rich.console import Console

__all__ = ["check_output", "emit", "emit_summary", "errors", "finish"]

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
    rows = found.frame.reset_index().astype(object)
    health = found.health
    typer.echo(
        json.dumps(
            {
                **{name: _plain(value) for name, value in found.details.items()},
                "prob": found.prob,
                "kind": found.kind,
                "health": {
                    "verdict": health.verdict,
                    "failures": health.failures,
                    "reviews": health.reviews,
                },
                "withheld": found.withheld,
                "rows": rows.where(rows.notna(), None).to_dict(orient="records"),
            }
        )
    )


def _plain(value: Any) -> Any:
    """Turn what is not finite into null, which JSON knows."""
    if isinstance(value, str):
        return value
    return [_plain(entry) for entry in value] if np.ndim(value) else _number(value)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def emit(numbers: dict[str, Any], as_json: bool) -> None:
    """Print numbers by name, or as one JSON object."""
    if as_json:
        typer.echo(json.dumps(numbers))
        return
    for name, value in numbers.items():
        text = str(value)
        typer.echo(f"{name}: {text if len(text) < 200 else text[:200] + ' ...'}")
