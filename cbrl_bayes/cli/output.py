"""What the command line writes: tables or JSON on standard output, the rest on standard error."""

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from cbrl_bayes.results import Table


errors = Console(stderr=True, highlight=False)

MAKERS = ("infer", "design", "robust")
"""Commands that a study keeps; the others add answers to it, which its page says."""

FILES = {"data": "DATA", "fit": "fit.nc"}
"""Options that name a file, and what a study calls the file: places are no part of it."""


def finish(
    context: typer.Context, tree: "xr.DataTree", table: "Table", before: "xr.DataTree | None" = None
) -> None:
    """Save a tree with the command that made it, if asked to, and print a table of it.

    Parameters
    ----------
    context : typer.Context
        Of the command.
    tree, table
        What it made.
    before : xarray.DataTree, optional
        The file that it began with.
    """
    from cbrl_bayes.results import save

    output = context.params["output"]
    if output is not None:
        if context.command.name in MAKERS:
            tree.attrs["commands"] = json.dumps(_calls(context, tree, before))
        save(tree, output)
        errors.print(f"written: {output}", markup=False)
    emit_table(table, context.params["as_json"])


def _calls(
    context: typer.Context, tree: "xr.DataTree", before: "xr.DataTree | None"
) -> list[dict[str, Any]]:
    """Return the commands of the file before, and this one."""
    from cbrl_bayes.results.commands import OPTIONS, kept_commands

    command = str(context.command.name)
    kept = [] if before is None else kept_commands(before)
    if command == "design":  # it takes the place of an earlier one
        kept = [call for call in kept if call["command"] == "infer"]
    given = {name.replace("_", "-"): value for name, value in context.params.items()}
    if given.get("alternatives") is not None:
        given["alternatives"] = json.dumps(json.loads(given["alternatives"]), ensure_ascii=False)
    options = {
        name: FILES.get(name, given[name])
        for name in OPTIONS[command]
        if given.get(name) is not None
    }
    return [
        *kept,
        {
            "command": command,
            "problem": context.params["problem"],
            "options": options,
            "created": tree.attrs["created"],
        },
    ]


def emit_table(table: "Table", as_json: bool) -> None:
    """Print a table as text or as one JSON object."""
    if not as_json:
        typer.echo(str(table))
        return
    first, *rest = table.frames.items()
    numbers = {
        **table.details,
        "title": table.title,
        "notes": table.notes,
        "units": first[1].attrs.get("units", {}),
        "prob": table.prob,
        "kind": table.kind,
        "withheld": table.withheld,
        "rows": _rows(first[1]),
        **({"further": {heading: _rows(frame) for heading, frame in rest}} if rest else {}),
    }
    if table.health is not None:
        numbers["health"] = {"verdict": table.health.verdict} | vars(table.health)
    emit(numbers, as_json)


def emit(numbers: Mapping[str, Any], as_json: bool) -> None:
    """Print numbers by name, or as one JSON object."""
    plain = _plain(numbers)
    if as_json:
        typer.echo(json.dumps(plain))
        return
    for name, value in plain.items():
        text = str(value)
        typer.echo(f"{name}: {text if len(text) < 200 else text[:200] + ' ...'}")


def _rows(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    named = frame if any(frame.index.names) else frame.rename_axis("name")
    return named.reset_index().to_dict(orient="records")


def _plain(value: Any) -> Any:
    """Turn arrays into lists, and numbers that are not finite into null, which JSON knows."""
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    value = value.tolist() if hasattr(value, "tolist") else value  # NumPy's arrays and numbers
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
