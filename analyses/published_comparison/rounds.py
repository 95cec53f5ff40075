"""Estimators that learn a model, on a hundredth of the published follower steps and a little more.

    python analyses/published_comparison/rounds.py [--seeds 10] [--ascent-seeds 3]

For every cell and seed: what `cbrl-bayes design four_rooms --estimator learned_model --search
rounds` finds with a million follower steps, and what ascents by `learned_model` and `doubly_robust`
(`--search ascent`, from low prices) find with three and ten million, evaluated exactly; per cell
the exact global search. Every run is a line of rounds.csv as soon as it ends; runs that stand there
are not made again. Fills the tables of README.md.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from cbrl_bayes.cli.as_given import design_as_given
from cbrl_bayes.cli.input import SearchName, chosen_search
from cbrl_bayes.hypergradients import DoublyRobust, Exact, LearnedModel, Rounds, global_search
from cbrl_bayes.problems import SLIP_AS_PUBLISHED, Problem, four_rooms

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))
from cells import CELLS  # noqa: E402
from report import PUBLISHED  # noqa: E402
from tables import fill, markdown  # noqa: E402

FILE = HERE / "rounds.csv"
FIELDS = ("lambda", "beta", "search", "seed", "objective", "promised", "follower_steps", "seconds")
LEAST_SHARE = 0.98
FROM_LOW_PRICES = chosen_search(SearchName.ASCENT, four_rooms())
SEARCHES = {
    "exact": (Exact(), global_search(), None),
    "rounds": (LearnedModel(), Rounds(), 1_000_000),
    "learned_model": (LearnedModel(), FROM_LOW_PRICES, 3_000_000),
    "doubly_robust": (DoublyRobust(), FROM_LOW_PRICES, 10_000_000),
}
"""Estimator, search, and follower steps."""


def problem_of(cell: tuple[float, int]) -> Problem:
    """Return Four-Rooms in one cell."""
    temperature, weight = cell
    return four_rooms(temperature=temperature, penalty_weight=weight, slip=SLIP_AS_PUBLISHED)


def wanted(seeds: int, ascent_seeds: int) -> Iterator[tuple[tuple[float, int], str, int]]:
    """Yield cell, search and seed: a whole round of cells before the next seed."""
    for cell in CELLS:
        yield cell, "exact", 0
    for seed in range(max(seeds, ascent_seeds)):
        for search in SEARCHES:
            if search != "exact" and seed < (seeds if search == "rounds" else ascent_seeds):
                for cell in CELLS:
                    yield cell, search, seed


def run(cell: tuple[float, int], search: str, seed: int) -> dict[str, float | str]:
    """Return one line of the file."""
    estimator, how, steps = SEARCHES[search]
    found = design_as_given(problem_of(cell), estimator, how, seed, steps)
    told = (
        found["leader_objective"],
        found.get("promised_objective", ""),
        found.get("follower_steps", 0),
    )
    values = (*cell, search, seed, *told, round(found["seconds"], 1))
    return dict(zip(FIELDS, values, strict=True))


def table(found: pd.DataFrame, search: str) -> str:
    """Compare each cell with the best published objective and the exact global search."""
    rows = [["temperature, price", f"{search}, mean", "worst", "seeds", "follower steps",
             "published best", "exact global search", "share of it"]]  # fmt: skip
    reached = beaten = cells = 0
    for cell in CELLS:
        here = found[(found["lambda"] == cell[0]) & (found["beta"] == cell[1])]
        rounds, exact = (here[here["search"] == name] for name in (search, "exact"))
        if rounds.empty or exact.empty:
            continue
        best, top = max(PUBLISHED[cell]), float(exact["objective"].iloc[0])
        mean = float(rounds["objective"].mean())
        cells += 1
        beaten += mean >= best
        reached += mean >= LEAST_SHARE * top
        steps = float(rounds["follower_steps"].mean())
        rows.append(
            [f"{cell[0]}, {cell[1]}", f"{mean:.3f}", f"{rounds['objective'].min():.3f}",
             str(len(rounds)), f"{steps:.2e}", f"{best:.2f}", f"{top:.3f}", f"{mean / top:.3f}"]
        )  # fmt: skip
    said = (
        f"At least the published best in {beaten} of {cells} cells, at least {LEAST_SHARE:g} of "
        f"the exact global search in {reached} of {cells} (means over seeds)."
    )
    return f"{said}\n\n{markdown(rows)}"


def main() -> None:
    """Run what is not on file, then fill the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--ascent-seeds", type=int, default=3)
    given = parser.parse_args()
    if not FILE.exists():
        FILE.write_text(",".join(FIELDS) + "\n")
    for cell, search, seed in wanted(given.seeds, given.ascent_seeds):
        found = pd.read_csv(FILE)
        known = (found["lambda"] == cell[0]) & (found["beta"] == cell[1])
        known &= (found["search"] == search) & (found["seed"] == seed)
        if not known.any():
            line = run(cell, search, seed)
            with FILE.open("a", newline="") as file:
                csv.DictWriter(file, FIELDS).writerow(line)
            print(line, flush=True)
        found = pd.read_csv(FILE)
        fill(
            HERE / "README.md",
            {name.upper(): table(found, name) for name in SEARCHES if name != "exact"},
        )


if __name__ == "__main__":
    main()
