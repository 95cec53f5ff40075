"""Put the figures of results.json and cells.csv into the analyses' README files.

    python analyses/fill_readmes.py

Text between the markers of a table is replaced, so that no number is typed by hand.
"""

import json
from pathlib import Path

import pandas as pd
from tables import fill, markdown

HERE = Path(__file__).parent
CONTESTANTS = (
    "exact",
    "hpgd",
    "hpgd, as published",
    "boltzmann_covariance",
    "rt_q",
    "amd",
    "sobirl",
    "penalty",
    "zeroth_order",
)
"""Estimators of the published comparison, in the order of its table."""

BUS_PUBLISHED = {
    "1,2,3": ("11.7270", "4.8259", "-2708.366"),
    "4": ("10.0750", "2.2930", "-3304.155"),
    "1-4": ("9.7558", "2.6275", "-6055.250"),
}
"""RC, theta11 and log-likelihood in Rust (1987), Table IX."""


def study_table(results: dict) -> str:
    """Objectives, incentives and parameters with their intervals."""
    head = ["", "quantity", "mean", "90 % interval (eti)", "unit"]
    rows = [
        [
            row["group"],
            row["quantity"],
            f"{row['mean']:.4g}",
            f"{row['lower']:.4g} to {row['upper']:.4g}",
            row["unit"],
        ]
        for row in results["rows"]
    ]
    return markdown([head, *rows]) + f"\n\nHealth: {results['health']}."


def cells_table(table: pd.DataFrame) -> str:
    """Ours beside the published values."""
    head = ["lambda", "beta", "HPGD", "AMD", "zeroth-order", "here", "seconds"]
    rows = [
        [
            f"{row['lambda']:g}",
            f"{row['beta']:g}",
            f"{row['HPGD']:.2f}",
            f"{row['AMD']:.2f}",
            f"{row['zeroth-order']:.2f}",
            f"**{row['here']:.3f}**",
            f"{row['seconds']:.0f}",
        ]
        for _, row in table.iterrows()
    ]
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


def slope_text(found: dict) -> str:
    """Format a slope with its interval."""
    return f"{found['slope']:.2f} ({found['interval'][0]:.2f} to {found['interval'][1]:.2f})"


def theory_tables(results: dict) -> dict[str, str]:
    """Slopes, RT-Q beside plain HPGD, the random-MDP test, variance reduction."""
    slopes = [
        ["quantity", "against", "theory", "slope (95 %)"],
        [
            "mean squared gradient of HPGD",
            "steps T, step size T^(-1/2)",
            "at most T^(-1/2)",
            slope_text(results["decay"]),
        ],
        ["bias", "distance of the follower's policy", "1", slope_text(results["bias"])],
        [
            "bias of a level",
            "its Q-learning iterations",
            "at most -1/2",
            slope_text(results["rt_q"]["bias_slope"]),
        ],
        [
            "squared change between levels",
            "iterations",
            "-1",
            slope_text(results["rt_q"]["change_slope"]),
        ],
    ]
    agrees = results["bias"]["sampled_agrees"]
    sampled = (
        f"distance of HPGD's mean from that computation {agrees['distance_from_plug_in']:.3f}, "
        f"from the exact hypergradient {agrees['distance_from_exact']:.3f}, standard error "
        f"{agrees['standard_error']:.3f}."
    )
    levels = [
        [
            "K",
            "expected iterations",
            "iterations of one long run",
            "variance, RT-Q",
            "variance, plain",
            "iterations at equal variance, RT-Q / plain",
        ]
    ]
    for row in results["rt_q"]["variance"]:
        ratio = row["variance"] / row["plain_variance"]
        cost = ratio * row["expected_iterations"] / row["plain_iterations"]
        levels.append(
            [
                str(row["K"]),
                f"{row['expected_iterations']:.1f}",
                f"{row['plain_iterations']:.0f}",
                f"{row['variance']:.3g}",
                f"{row['plain_variance']:.3g}",
                f"{cost:.1f}",
            ]
        )
    race = [["estimator", "iterations to 1.00009", "seconds"]]
    race += [
        [f"`{row['estimator']}`", f"{row['median_iterations']:.0f}", f"{row['median_seconds']:.2g}"]
        for row in results["race"]
    ]
    return {
        "SLOPES": markdown(slopes),
        "SAMPLED": sampled,
        "RTQ": markdown(levels),
        "RACE": markdown(race),
        "VARIANCE": variance_table(results),
    }


def variance_table(results: dict) -> str:
    """Spread of one estimate, with and without each variance reduction."""
    head = ["problem", "estimator", "standard deviation", "bias (standard error)", "follower steps"]
    rows = [
        [
            row["problem"],
            row["estimator"],
            f"{row['relative_standard_deviation']:.2g}",
            f"{row['relative_bias']:.2g} ({row['bias_noise']:.1g})",
            f"{row['follower_steps']:.0f}",
        ]
        for row in results["variance"]
    ]
    return markdown([head, *rows])


def comparison_tables(table: pd.DataFrame, budgets: pd.DataFrame, cells: pd.DataFrame) -> dict:
    """Every estimator in every cell, beside the published value and the best found here."""
    names = [name for name in CONTESTANTS if name in set(table["estimator"])]
    missing = [f"{name} (all cells)" for name in CONTESTANTS if name not in names]
    rows = [["lambda", "beta", *names, "global search"]]
    found = table.set_index(["lambda", "beta", "estimator"])
    for (temperature, price), best in cells.groupby(["lambda", "beta"])["here"].first().items():
        row, second, any_published = [f"{temperature:g}", f"{price:g}"], ["", "published"], False
        for name in names:
            if (temperature, price, name) not in found.index:
                missing.append(f"{name} at ({temperature:g}, {price:g})")
                row.append("")
                second.append("")
                continue
            one = found.loc[(temperature, price, name)]
            row.append(f"{one['mean']:.3f} ({one['standard_error']:.3f})")
            known = pd.notna(one["published"])
            second.append(f"{one['published']:.2f}" if known else "")
            any_published |= known
        rows.append([*row, f"{best:.3f}"])
        if any_published:
            rows.append([*second, ""])
    columns = [name for name in budgets.columns if name.startswith("at ")]
    budgets = budgets.set_index(["lambda", "beta"])
    done = budgets.groupby(level=[0, 1])["estimator"].nunique() == len(names)
    shared = budgets[budgets.index.isin(done.index[done])]
    means = shared.groupby("estimator", sort=False)[columns].mean()
    spent = [["estimator", *columns, f"cells: {int(done.sum())}"]] + [
        [f"`{name}`", *(f"{v:.3f}" if pd.notna(v) else "" for v in means.loc[name]), ""]
        for name in means.index
    ]
    note = "Not finished yet: " + "; ".join(missing) + "." if missing else ""
    return {"TABLE": markdown(rows), "BUDGETS": markdown(spent), "MISSING": note}


def scaling_tables(results: dict) -> dict[str, str]:
    """Ratios to the published way, and growth with parameters, states and lanes."""
    found = results["published"]
    ratios = [["one iteration, about 10,000 follower steps", "ms", "published way / this"]]
    for name in ("hpgd", "boltzmann_covariance"):
        ratios.append(
            [f"`{name}`", f"{found[f'{name}_ms']:.1f}", f"{found[f'published_way / {name}']:.0f}"]
        )
    ratios.append(["published way of writing it", f"{found['published_way_ms']:.0f}", ""])
    estimators = list(dict.fromkeys(row["estimator"] for row in results["parameters"]))
    sizes = list(dict.fromkeys(row["d"] for row in results["parameters"]))
    grown = [["d", *(f"{name}: ms (MB)" for name in estimators)]]
    for size in sizes:
        here = {r["estimator"]: r for r in results["parameters"] if r["d"] == size}
        grown.append(
            [f"{size:,}", *(f"{here[n]['ms']:.2g} ({here[n]['MB']:.2g})" for n in estimators)]
        )
    states = [["states", "ms", "MB"]]
    states += [[f"{r['states']:,}", f"{r['ms']:.3g}", f"{r['MB']:.2g}"] for r in results["states"]]
    lanes = [["estimator", "lanes", "in turn: ms (MB) a lane", "side by side: ms (MB) a lane"]]
    for name in dict.fromkeys(r["estimator"] for r in results["lanes"]):
        for number in dict.fromkeys(r["lanes"] for r in results["lanes"]):
            cells = [
                f"{r['ms_per_lane']:.2g} ({r['MB_per_lane']:.2g})"
                for r in results["lanes"]
                if (r["estimator"], r["lanes"]) == (name, number)
            ]
            lanes.append([f"`{name}`", str(number), *cells])
    crowd = [["followers", "sum: ms (MB)", "Gini: ms (MB)", "ms a follower, sum"]]
    for number in dict.fromkeys(r["followers"] for r in results["followers"]):
        mine = {r["objective"]: r for r in results["followers"] if r["followers"] == number}
        cells = [f"{mine[o]['ms']:.3g} ({mine[o]['MB']:.2g})" for o in ("sum", "gini")]
        crowd.append([f"{number:,}", *cells, f"{mine['sum']['ms'] / number:.2g}"])
    return {
        "FOLLOWERS": markdown(crowd),
        "RATIOS": markdown(ratios),
        "PARAMETERS": markdown(grown),
        "STATES": markdown(states),
        "LANES": markdown(lanes),
    }


def worker_tables(results: dict) -> dict[str, str]:
    """Draws a second against workers, states and the number of draws."""
    alone = next(r for r in results["workers"] if (r["kind"], r["workers"]) == ("threads", 1))
    table = [
        [
            "executor",
            "workers",
            "draws/s",
            "times one thread",
            "first draw after, s",
            "peak of the caller (a worker), MB",
        ]
    ]
    table += [
        [
            r["kind"],
            str(r["workers"]),
            f"{r['draws_per_second']:.1f}",
            f"{r['draws_per_second'] / alone['draws_per_second']:.2f}",
            f"{r['start_seconds']:.1f}",
            f"{r['peak_MB']:.0f}"
            + (f" ({r['worker_peak_MB']:.0f})" if r["kind"] == "dask" else ""),
        ]
        for r in results["workers"]
    ]
    states = [
        ["states", "1 thread: draws/s", "2 threads: draws/s", "ratio", "peak, MB (2 threads)"]
    ]
    for number in dict.fromkeys(r["states"] for r in results["states"]):
        one, two = (r for r in results["states"] if r["states"] == number)
        rates = [r["draws_per_second"] for r in (one, two)]
        states.append(
            [
                f"{number:,}",
                *(f"{rate:.3g}" for rate in rates),
                f"{rates[1] / rates[0]:.2f}",
                f"{two['peak_MB']:.0f}",
            ]
        )
    draws = [["draws", "executor", "draws/s, start included", "seconds", "peak, MB", "results, MB"]]
    draws += [
        [
            f"{r['num']:,}",
            r["kind"],
            f"{r['draws_per_second']:.0f}",
            f"{r['seconds']:.0f}",
            f"{r['peak_MB']:.0f}",
            f"{r['result_MB']:.1f}",
        ]
        for r in results["draws"]
    ]
    return {
        "WORKERS": markdown(table),
        "WORKERSTATES": markdown(states),
        "STREAMED": markdown(draws),
    }


def learned_tables(results: dict) -> dict[str, str]:
    """Return what a step of the estimators that only watch costs."""

    def grown(rows: list[dict], size: str) -> str:
        names = list(dict.fromkeys(row["estimator"] for row in rows))
        head = [size, *(f"`{name}`: ms (MB)" for name in names), "kept by `learned_model`, MB"]
        table = [[*head, "`doubly_robust` / `hpgd`, time"]]
        for number in dict.fromkeys(row[size] for row in rows):
            here = {row["estimator"]: row for row in rows if row[size] == number}
            table.append(
                [
                    f"{number:,}",
                    *(f"{r['ms']:.3g} ({r['MB'] + r['kept_MB']:.2g})" for r in here.values()),
                    f"{here['learned_model']['kept_MB']:.2g}",
                    f"{here['doubly_robust']['ms'] / here['hpgd']['ms']:.2g}",
                ]
            )
        return markdown(table)

    outside = [["estimator", "ms a step", "of it in the follower", "rest / follower"]]
    for row in results["outside"]:
        rest = row["ms"] - row["ms_follower"]
        outside.append(
            [
                f"`{row['estimator']}`",
                f"{row['ms']:.0f}",
                f"{row['ms_follower']:.0f}",
                f"{rest / row['ms_follower']:.2g}",
            ]
        )
    return {
        "WATCHED_PARAMETERS": grown(results["parameters"], "d"),
        "WATCHED_STATES": grown(results["states"], "states"),
        "WATCHED_OUTSIDE": markdown(outside),
    }


def main() -> None:
    """Fill all."""
    rooms = json.loads((HERE / "four_rooms/results.json").read_text())
    cells = pd.read_csv(HERE / "four_rooms/cells.csv")
    fill(HERE / "four_rooms/README.md", {"CELLS": cells_table(cells), "ROWS": study_table(rooms)})
    bus = json.loads((HERE / "bus_replacement/results.json").read_text())
    fill(HERE / "bus_replacement/README.md", bus_tables(bus))
    theory = json.loads((HERE / "theory/results.json").read_text())
    fill(HERE / "theory/README.md", theory_tables(theory))
    fill(HERE.parent / "docs/choosing.md", {"VARIANCE": variance_table(theory)})
    scaling = json.loads((HERE.parent / "tests/benchmarks/scaling.json").read_text())
    workers = json.loads((HERE.parent / "tests/benchmarks/workers.json").read_text())
    watched = json.loads((HERE.parent / "tests/benchmarks/learned.json").read_text())
    growth = scaling_tables(scaling) | worker_tables(workers) | learned_tables(watched)
    fill(HERE.parent / "docs/performance.md", growth)
    compared = HERE / "published_comparison"
    tables = [pd.read_csv(compared / name) for name in ("table.csv", "budgets.csv")]
    fill(compared / "README.md", comparison_tables(*tables, cells))


if __name__ == "__main__":
    main()
