"""Four-Rooms: from simulated behaviour to penalties with intervals, and the nine cells.

    python analyses/four_rooms/run.py [--cells-only] [--seed 0]

Leaves results.json, the table cells.csv and figures beside this file.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import cbrl_bayes as cb
from cbrl_bayes.hypergradients import Exact, SearchProgram, global_search
from cbrl_bayes.plots import save_figures
from cbrl_bayes.problems import SLIP_AS_PUBLISHED, four_rooms

HERE = Path(__file__).parent
DATA = HERE.parent.parent / "data" / "four_rooms_behaviour.nc"

PUBLISHED = {
    (row["lambda"], int(row["beta"])): (row["hpgd"], row["amd"], row["zeroth_order"])
    for _, row in pd.read_csv(Path(__file__).parent.parent / "four_rooms_published.csv").iterrows()
}
"""(lambda, beta) -> mean objective of HPGD, AMD and zeroth-order in Thoma et al. (2024)."""


def search_cells(seed: int) -> pd.DataFrame:
    """Global search with the exact hypergradient in every published cell."""
    rows = []
    for (temperature, weight), published in PUBLISHED.items():
        problem = four_rooms(temperature=temperature, penalty_weight=weight, slip=SLIP_AS_PUBLISHED)
        begun = time.perf_counter()
        program = SearchProgram(problem, Exact(), global_search())
        found = program.run(problem.default_parameters, key=jax.random.key(seed))
        rows.append(
            {
                "lambda": temperature,
                "beta": weight,
                "HPGD": published[0],
                "AMD": published[1],
                "zeroth-order": published[2],
                "here": found.best.objective,
                "median of ascents": np.nanmedian(found.restart_objectives),
                "seconds": time.perf_counter() - begun,
            }
        )
        print(f"lambda {temperature}, beta {weight}: {found.best.objective:.4f}", flush=True)
    return pd.DataFrame(rows)


def draw_cells(table: pd.DataFrame) -> None:
    """Draw ours beside the published values."""
    figure, axes = plt.subplots(figsize=(9, 3.8), layout="constrained")
    place = np.arange(len(table))
    marks = {"HPGD": "o", "AMD": "s", "zeroth-order": "^"}
    for (name, mark), colour in zip(marks.items(), ("#0072B2", "#009E73", "#999999"), strict=True):
        axes.scatter(place, table[name], marker=mark, color=colour, label=f"{name}, published")
    axes.scatter(
        place, table["here"], marker="*", s=130, color="#D55E00", label="exact, global search"
    )
    labels = [f"{row['lambda']:g}\n{row['beta']:g}" for _, row in table.iterrows()]
    axes.set_xticks(place, labels)
    axes.set(
        xlabel="temperature lambda (above) and price beta (below)", ylabel="leader's objective"
    )
    axes.legend(fontsize="small")
    figure.savefig(HERE / "cells.png", dpi=130)
    plt.close(figure)


def study_behaviour() -> dict:
    """Run the chain on the simulated walkers."""
    problem = four_rooms()
    fit = cb.infer(problem, cb.load_trajectories(DATA), key=jax.random.key(1))
    study = cb.design(problem, fit, key=jax.random.key(2), num_draws=200)
    summary = cb.summary(study, prob=0.9)
    print(summary)
    save_figures(study, HERE)
    return {
        "health": summary.health.verdict,
        "rows": summary.frame.reset_index().replace({np.nan: None}).to_dict(orient="records"),
    }


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells-only", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    table = search_cells(arguments.seed)
    table.round(4).to_csv(HERE / "cells.csv", index=False)
    draw_cells(table)
    if not arguments.cells_only:
        (HERE / "results.json").write_text(json.dumps(study_behaviour(), indent=1) + "\n")


if __name__ == "__main__":
    main()
