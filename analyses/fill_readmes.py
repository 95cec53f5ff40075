"""Put the figures of results.json and cells.csv into the analyses' README files.

    python analyses/fill_readmes.py

Text between the markers of a table is replaced, so that no number is typed by hand.
"""

import json
import re
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
BUS_PUBLISHED = {
    "1,2,3": ("11.7270", "4.8259", "-2708.366"),
    "4": ("10.0750", "2.2930", "-3304.155"),
    "1-4": ("9.7558", "2.6275", "-6055.250"),
}
"""RC, theta11 and log-likelihood in Rust (1987), Table IX."""


def markdown(rows: list[list[str]]) -> str:
    """Format rows, the first of them the head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def study_table(results: dict) -> str:
    """Objectives, incentives and parameters with their intervals."""
    head = ["", "quantity", "mean", "90 % interval (eti)", "unit"]
    rows = [
        [row["group"], row["quantity"], f"{row['mean']:.4g}",
         f"{row['lower']:.4g} to {row['upper']:.4g}", row["unit"]]
        for row in results["rows"]
    ]  # fmt: skip
    return markdown([head, *rows]) + f"\n\nHealth: {results['health']}."


def cells_table(table: pd.DataFrame) -> str:
    """Ours beside the published values."""
    head = ["lambda", "beta", "HPGD", "AMD", "zeroth-order", "here", "seconds"]
    rows = [
        [f"{row['lambda']:g}", f"{row['beta']:g}", f"{row['HPGD']:.2f}", f"{row['AMD']:.2f}",
         f"{row['zeroth-order']:.2f}", f"**{row['here']:.3f}**", f"{row['seconds']:.0f}"]
        for _, row in table.iterrows()
    ]  # fmt: skip
    return markdown([head, *rows])


def bus_tables(results: dict) -> dict[str, str]:
    """Estimates and sampling diagnostics."""
    rows = [["groups", "RC", "theta11", "log-likelihood", "published"]]
    for name, found in results["maximum_likelihood"].items():
        values = [f"{found[key][0]:.4f} ({found[key][1]:.3f})" for key in ("RC", "theta11")]
        published = ", ".join(BUS_PUBLISHED[name])
        rows.append([name, *values, f"{found['log_likelihood']:.3f}", published])
    sampling = results["sampling"]
    text = (
        f"worst R-hat {sampling['worst_r_hat']}, least effective sample size "
        f"{sampling['least_ess']}, {sampling['divergences']} divergences, "
        f"{sampling['sampler_seconds']} s of sampling on 2 cores, "
        f"{sampling['effective_samples_per_second']} effective samples a second."
    )
    return {"MLE": markdown(rows), "SAMPLING": text, "ROWS": study_table(results)}


def fill(path: Path, parts: dict[str, str]) -> None:
    """Replace ``@NAME@`` or what an earlier run put between the markers."""
    text = path.read_text()
    for name, part in parts.items():
        block = f"<!-- {name} -->\n{part}\n<!-- end {name} -->"
        old = rf"@{name}@|<!-- {name} -->.*?<!-- end {name} -->"
        text, count = re.subn(old, lambda _, b=block: b, text, flags=re.S)
        if count != 1:
            raise SystemExit(f"{path}: {count} places for {name}")
    path.write_text(text)


def main() -> None:
    """Fill both."""
    rooms = json.loads((HERE / "four_rooms/results.json").read_text())
    cells = pd.read_csv(HERE / "four_rooms/cells.csv")
    fill(HERE / "four_rooms/README.md", {"CELLS": cells_table(cells), "ROWS": study_table(rooms)})
    bus = json.loads((HERE / "bus_replacement/results.json").read_text())
    fill(HERE / "bus_replacement/README.md", bus_tables(bus))


if __name__ == "__main__":
    main()
