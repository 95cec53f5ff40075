"""Put the counts of docs/calibration/*.json into docs/calibration.md, and draw its figures.

    python analyses/fill_calibration.py

`make test-slow` writes the counts.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from tables import fill, markdown, shrink

from cbrl_bayes.calibration import binomial_band, detectable_coverage
from cbrl_bayes.plots import plot_coverage, plot_ranks
from cbrl_bayes.results import Table

DOCS = Path(__file__).parent.parent / "docs"
PROB = 0.9
HELD = ", draws held out"
FALSE_ALARM = 0.001
"""Of a problem's asserted counts together: tests/statistical/test_calibration.py."""
COLUMNS = {
    "optimal objective": "optimal objective",
    "searched harder": "optimal objective, searched harder",
    "common design, printed": "objective of the common design",
    "common design, held out": "objective of the common design" + HELD,
    "regret, printed": "regret of the common design",
    "regret, held out": "regret of the common design" + HELD,
}
ASSERTED = ("optimal objective", "common design, held out", "regret, held out")


def read(kind: str) -> dict[str, dict]:
    """Return the contents of all files of a kind, by name."""
    files = sorted((DOCS / "calibration").glob(f"{kind}_*.json"))
    found = [json.loads(path.read_text()) for path in files]
    return {one["name"]: one for one in found}


def models_table(models: dict[str, dict]) -> str:
    """One row per model: the quantity nearest to failing, and what became of the fits."""
    rows = [
        [
            "model",
            "data sets",
            "quantities",
            "L",
            "least p-value",
            "its bound",
            "in central 90 %, least to most",
            "divergent fits",
            "failed",
            "unsolved",
            "slow fits",
        ]
    ]
    for name, one in models.items():
        table = pd.DataFrame(one["table"])
        worst = table.loc[table["p_value"].idxmin()]
        rows.append(
            [
                name,
                str(one["data_sets"]),
                str(len(table)),
                str(one["kept"]),
                f"{worst['p_value']:.2g} ({worst['quantity']})",
                f"{worst['level']:.1g}",
                f"{table['covered_90'].min():.3f} to {table['covered_90'].max():.3f}",
                str(one["divergent"]),
                str(one["failed"]),
                str(one["unsolved"]),
                str(table["slow"].max()),
            ]
        )
    low, high = binomial_band(500, 0.9, 0.99)
    note = (
        f"\n\nOf 500 central intervals of 90 %, {low} to {high} hold the truth with probability "
        f".99 ({low / 500:.3f} to {high / 500:.3f}); of 300, {binomial_band(300, 0.9)[0]} to "
        f"{binomial_band(300, 0.9)[1]}. A divergent fit has at least one divergent transition, an "
        "unsolved one at least one draw whose best responses did not converge."
    )
    return markdown(rows) + note


def coverage_table(problems: dict[str, dict]) -> str:
    """List counts per problem and quantity, with the band of one count."""
    rows = [
        [
            "problem",
            "data sets",
            "99 % band",
            "seen",
            "seen by what is asserted",
            *COLUMNS,
            "optimal incentive, by coordinate",
        ]
    ]
    for name, one in problems.items():
        table = pd.DataFrame(one["table"]).set_index("quantity")
        first = table.loc["optimal objective"]
        place = table[table.index.str.startswith("incentive ")]
        share = place["share"]
        rows.append(
            [
                name,
                str(one["data_sets"]),
                f"{first['low']:.0f} to {first['high']:.0f}",
                *(
                    f"below {detectable_coverage(int(first['data_sets']), band_prob=band):.2f}"
                    for band in (0.99, 1.0 - FALSE_ALARM / asserted(table))
                ),
                *(f"{table.loc[q, 'covered']:.0f}" for q in COLUMNS.values()),
                f"{one['data_sets'] * share.iloc[0]:.0f}"
                if len(share) == 1
                else f"{share.mean():.3f} ({share.min():.2f} to {share.max():.2f}, "
                f"{len(share)} of them)",
            ]
        )
    head = [
        [
            "problem",
            "fits divergent",
            "fits failed",
            "searches",
            "failed",
            "at step limit",
            "better found by the harder search",
            "mean gain of it",
            "spread over draws",
        ]
    ]
    head += [
        [
            name,
            str(one["fits_divergent"]),
            str(one["fits_failed"]),
            str(one["searches"]),
            str(one["searches_broken"]),
            str(one["searches_unsettled"]),
            str(one["truths_better"]),
            f"{one['mean_gap']:.2g}",
            f"{one['spread']:.2g} {one['unit']}",
        ]
        for name, one in problems.items()
    ]
    return markdown(rows) + "\n\nWhat became of fits and searches:\n\n" + markdown(head)


def asserted(table: pd.DataFrame) -> int:
    """Return how many counts the test of a problem asserts."""
    recorded = [name for label, name in COLUMNS.items() if label not in ASSERTED]
    return int((~table.index.isin(recorded)).sum())


def regret_table(problems: dict[str, dict]) -> str:
    """Mean realised and mean predicted, for what the common design achieves and loses."""
    rows = [
        [
            "problem",
            "quantity",
            "mean realised",
            "mean predicted",
            "realised less predicted (standard error)",
            "mean rank of the truth",
            "unit",
        ]
    ]
    for name, one in problems.items():
        table = pd.DataFrame(one["table"]).set_index("quantity")
        for label, quantity in list(COLUMNS.items())[2:]:
            row = table.loc[quantity]
            # Counts of an earlier version hold the standard error under the name "difference".
            error = row.get("difference_standard_error", row["difference"])
            rows.append(
                [
                    name,
                    label,
                    f"{row['mean_true']:.4g}",
                    f"{row['mean_predicted']:.4g}",
                    f"{row['mean_true'] - row['mean_predicted']:.2g} ({error:.2g})",
                    f"{row['mean_rank']:.2f}{_p_value(row)}",
                    one["unit"],
                ]
            )
    note = (
        "\n\nA mean rank of .5 is nominal; its standard error is .29 over the root of the number "
        "of data sets (.05 for 30, .03 for 100)."
    )
    return markdown(rows) + note


def _p_value(row: pd.Series) -> str:
    """Word the test of a mean rank, where the counts were made with one."""
    return f" (p = {row['rank_p_value']:.2g})" if "rank_p_value" in row else ""


def ranks(one: dict) -> xr.Dataset:
    """Rebuild what the figure of ranks needs."""
    table = np.array(list(one["ranks"].values()), float)
    noise = np.random.default_rng(0).random(table.shape)
    place = np.where(table >= 0, (table + noise) / (one["kept"] + 1), np.nan)
    return xr.Dataset(
        {"fractional_rank": (("quantity", "data_set"), place)},
        coords={"quantity": list(one["ranks"])},
    )


def main() -> None:
    """Fill the page and draw the figures."""
    models, problems = read("model"), read("problem")
    fill(
        DOCS / "calibration.md",
        {
            "MODELS": models_table(models),
            "COVERAGE": coverage_table(problems),
            "REGRET": regret_table(problems),
        },
    )
    figure = plot_ranks({name: ranks(one) for name, one in models.items()})
    figure.savefig(DOCS / "images" / "calibration_ranks.png", dpi=110)
    shrink(DOCS / "images" / "calibration_ranks.png")
    figure = plot_coverage(
        {
            name: Table("", {"": pd.DataFrame(one["table"]).set_index("quantity")}, prob=PROB)
            for name, one in problems.items()
        }
    )
    figure.savefig(DOCS / "images" / "calibration_coverage.png", dpi=110)


if __name__ == "__main__":
    main()
