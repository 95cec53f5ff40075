"""Fill the README from results.json."""

import json
from pathlib import Path

from tables import fill, markdown, shown

__all__ = ["fill_readme"]

UNIT = 1e6
"""Information is worth little: its tables are in millionths of RC per bus-month."""


def fill_readme(folder: Path) -> None:
    """Put every number of the analysis into its README."""
    results = json.loads((folder / "results.json").read_text())
    demand, known = results["demand"], results["information"]
    fill(
        folder / "README.md",
        {
            "SAMPLING": _sampling(results["sampling"]),
            "DEMAND": _demand(demand),
            "ELASTICITY": _between(demand["elasticity_at_1"], 2),
            "RECORD": _record(demand),
            "MYOPIC": _myopic(demand),
            "APART": _apart(demand),
            "CHECKS": _checks(demand["checks"]),
            "LIMIT": _limit(demand["checks"]["limit"]),
            "CELLS": _cells(results["subsidy"]["cells"]),
            "DESIGN": _design(results["subsidy"]["design"]),
            "VALUE": _value(known),
            "NESTED": _nested(known),
            "WORTH": _worth(results),
            "FEWER": _fewer(results["fewer_buses"]),
            "FEWER_CHECK": _fewer_check(results["fewer_buses"]),
            "COST": f"{results['cpu_seconds']:.0f} s of processor time, "
            f"{results['peak_memory_MB']:,} MB at most.",
        },
    )


def _between(entry: dict, digits: int, scale: float = 1.0) -> str:
    return shown([entry[key] * scale for key in ("mean", "low", "high")], digits)


def _sampling(entry: dict) -> str:
    return (
        f"RC {_between(entry['RC'], 2)}, theta11 {_between(entry['theta11'], 2)}; "
        f"correlation of their logarithms {entry['correlation_log_RC_log_theta11']:.2f}; "
        f"worst R-hat {entry['worst_r_hat']:.4f}, least effective sample size "
        f"{entry['least_ess']:.0f}, {entry['divergences']} divergences."
    )


def _demand(entry: dict) -> str:
    rows = [
        [
            "price [RC]",
            "replacements per bus-year",
            "noise alone",
            "180 bins less 90",
            "myopic manager",
        ]
    ]
    bins = entry["checks"]["by_bins"]
    gaps = [wide - narrow for wide, narrow in zip(bins["180"], bins["90"], strict=True)]
    for (price, rate), gap in zip(entry["per_bus_year"].items(), gaps, strict=True):
        rows.append(
            [
                price,
                _between(rate, 3),
                f"{entry['without_wear'][price]:.3f}",
                f"{gap:+.5f}",
                f"{entry['myopic']['per_bus_year'][price]:.3f}",
            ]
        )
    return markdown(rows)


def _record(entry: dict) -> str:
    return (
        f"{_between(entry['in_record'], 1)} expected over {entry['bus_months']:,} bus-months, "
        f"{entry['observed']} observed. The expectation is under the posterior from these same "
        "choices, so this is a check of fit, not a prediction."
    )


def _myopic(entry: dict) -> str:
    found, ahead = entry["myopic"], entry["forward_looking"]
    return (
        f"RC {found['RC']:.2f}, theta11 {found['theta11']:.1f}, log-likelihood "
        f"{found['log_likelihood']:.2f} (forward-looking, discount .9999: RC {ahead['RC']:.2f}, "
        f"theta11 {ahead['theta11']:.2f}, log-likelihood {ahead['log_likelihood']:.2f})."
    )


def _apart(entry: dict) -> str:
    gap = entry["forward_looking"]["log_likelihood"] - entry["myopic"]["log_likelihood"]
    better = "forward-looking" if gap > 0 else "myopic"
    return f"{abs(gap):.1f} nats apart in their largest log-likelihoods (the {better} one higher)"


def _checks(entry: dict) -> str:
    return markdown(
        [
            ["way", "replacements per bus-year"],
            ["stationary law (NumPy)", f"{entry['stationary']:.6f}"],
            ["the package's occupancy, discount 1 - 1e-7", f"{entry['occupancy']:.6f}"],
            [
                "simulation, 10,000 buses, 1,000 months",
                f"{entry['simulation']:.6f} ± {entry['simulation_error']:.6f} (s.e.)",
            ],
        ]
    )


def _limit(rows: list[dict]) -> str:
    head = [["price [RC]", "replacements per bus-year", "limit formula", "ratio"]]
    return markdown(
        head
        + [
            [
                f"{row['price']:g}",
                f"{row['rate']:.3e}",
                f"{row['limit']:.3e}",
                f"{row['ratio']:.6f}",
            ]
            for row in rows
        ]
    )


def _cells(cells: dict) -> str:
    rows = [
        [
            "late cost",
            "target [miles]",
            "best per draw",
            "common",
            "objective of the common",
            "objective without",
            "regret of the common [1e-6]",
        ]
    ]
    for cell in cells.values():
        rows.append(
            [
                f"{cell['late_cost']:g}",
                f"{cell['target']:,}",
                _between(cell["best"], 3),
                f"{cell['common']:.4f}",
                _between(cell["objective"], 5),
                f"{cell['without']['mean']:.5f}",
                f"{cell['regret']['mean'] * UNIT:.0f}",
            ]
        )
    return markdown(rows)


def _design(checks: dict) -> str:
    rows = [
        [
            "cell",
            "draws",
            "best per draw",
            "common",
            "plug-in",
            "mean regret [1e-6]",
            "enumerated [1e-6]",
            "largest gap of subsidies",
            "largest gap of objectives [1e-6]",
        ]
    ]
    for name, row in checks.items():
        rows.append(
            [
                name,
                str(row["num_draws"]),
                _between(row["best"], 3),
                f"{row['common']:.4f}",
                f"{row['plug_in']:.4f}",
                f"{row['regret']['mean'] * UNIT:.1f}",
                f"{row['regret_enumerated'] * UNIT:.1f}",
                f"{row['largest_gap_of_subsidies']:.4f}",
                f"{row['largest_gap_of_objectives'] * UNIT:.2f}",
            ]
        )
    return markdown(rows)


def _value(known: dict) -> str:
    rows = [["known", "draws (s.e.)", "by knots 0 / 2 / 4 / 8", "quadrature"]]
    exact = known["quadrature"]
    rows.append(
        [
            "everything (EVPI)",
            f"{known['perfect'] * UNIT:.1f} ({known['perfect_error'] * UNIT:.1f})",
            "",
            f"{exact['perfect'] * UNIT:.1f}",
        ]
    )
    for name, entry in known["partial"].items():
        knots = " / ".join(f"{value * UNIT:.2f}" for value in entry["by_knots"].values())
        rows.append(
            [
                name,
                f"{entry['by_knots']['4'] * UNIT:.2f} ({entry['error'] * UNIT:.2f})",
                knots,
                f"{exact[name] * UNIT:.2f}" if name in exact else "not on the grid",
            ]
        )
    return markdown(rows)


def _nested(known: dict) -> str:
    parts = [
        f"{entry['value'] * UNIT:.2f} (s.e. {entry['error'] * UNIT:.2f}) with {int(inner):,} inner "
        "draws"
        for inner, entry in known["nested_RC"].items()
    ]
    return (
        "; ".join(parts) + f". Mass next to the grid's rim: {known['edge_mass']:.0e}; largest "
        f"error of the splined net benefits at posterior draws: "
        f"{known['largest_spline_error'] * UNIT:.2f}e-6."
    )


def _worth(results: dict) -> str:
    known, cell = results["information"], results["subsidy"]["cells"]["0.05, 200,000"]
    share = known["quadrature"]["RC"] / known["quadrature"]["perfect"]
    loss = abs(cell["objective"]["mean"])
    yearly = known["quadrature"]["perfect"] * 37 * 12
    return (
        f"Knowing everything is worth {known['quadrature']['perfect'] / loss:.1%} of what late "
        f"buses and subsidies cost the leader, {yearly:.3f} RC a year for 37 buses; knowing RC "
        f"alone brings {share:.0%} of that, knowing theta11 alone "
        f"{known['quadrature']['theta11'] / known['quadrature']['perfect']:.0%}."
    )


def _fewer(fewer: dict) -> str:
    rows = [
        [
            "buses",
            "width of RC's interval",
            "width of theta11's",
            "subsidy",
            "EVPI [1e-6]",
            "loss [1e-6]",
        ]
    ]
    for name in ("1/4", "1/2"):
        row = fewer[name]
        rows.append(
            [
                str(row["buses"]),
                _between(row["width_RC"], 1),
                _between(row["width_theta11"], 2),
                _between(row["subsidy"], 3),
                _between(row["perfect"], 0, UNIT),
                _between(row["loss"], 0, UNIT),
            ]
        )
    row = fewer["all"]
    rows.append(
        [
            "37",
            f"{row['width_RC']:.1f}",
            f"{row['width_theta11']:.2f}",
            f"{row['subsidy']:.3f}",
            f"{row['perfect'] * UNIT:.0f}",
            "0 (itself)",
        ]
    )
    return markdown(rows)


def _fewer_check(fewer: dict) -> str:
    row = fewer["1/4"]
    grid, sampled = row["first_part"]["grid"], row["first_part"]["sampled"]
    found = (
        f"{row['first_part']['replacements']} replacements, grid {grid[0]:.2f} to {grid[1]:.2f}, "
        f"NUTS {sampled[0]:.2f} to {sampled[1]:.2f}. Largest mass next to the grid's rim over all "
        f"parts: {row['largest_edge_mass']:.1e} (9 buses), "
        f"{fewer['1/2']['largest_edge_mass']:.1e} (18)."
    )
    sums = []
    for name in ("1/4", "1/2"):
        row = fewer[name]
        total = (row["loss"]["mean"] + fewer["all"]["perfect"]) * UNIT
        sums.append(
            f"{total:.0f} against {row['perfect']['mean'] * UNIT:.0f} ({row['buses']} buses)"
        )
    return (
        found
        + "\n\nLoss plus the full fleet's EVPI, against the EVPI of the part (means, 1e-6): "
        + ", ".join(sums)
        + "."
    )
