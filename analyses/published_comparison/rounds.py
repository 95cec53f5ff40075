"""Search in rounds with a learned model, on a hundredth of the published follower steps.

    python analyses/published_comparison/rounds.py [--seeds 10] [--steps 1000000]

For every cell and seed: what `cbrl-bayes design four_rooms --estimator learned_model --search
rounds` finds, evaluated exactly, and per cell the exact global search. Every run is a line of
rounds.csv as soon as it ends; runs that stand there are not made again. Fills the table of
README.md.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from cbrl_bayes.cli.as_given import design_as_given
from cbrl_bayes.hypergradients import Exact, LearnedModel, Rounds, global_search
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


def problem_of(cell: tuple[float, int]) -> Problem:
    """Return Four-Rooms in one cell."""
    temperature, weight = cell
    return four_rooms(temperature=temperature, penalty_weight=weight, slip=SLIP_AS_PUBLISHED)


def wanted(seeds: int) -> Iterator[tuple[tuple[float, int], str, int]]:
    """Yield cell, search and seed: a whole round of cells before the next seed."""
    for seed in range(seeds):
        for cell in CELLS:
            if seed == 0:
                yield cell, "exact", 0
            yield cell, "rounds", seed


def run(cell: tuple[float, int], search: str, seed: int, steps: int) -> dict[str, float | str]:
    """Return one line of the file."""
    problem = problem_of(cell)
    found = (
        design_as_given(problem, Exact(), global_search(), seed)
        if search == "exact"
        else design_as_given(problem, LearnedModel(), Rounds(), seed, steps)
    )
    told = (
        found["leader_objective"],
        found.get("promised_objective", ""),
        found.get("follower_steps", 0),
    )
    values = (*cell, search, seed, *told, round(found["seconds"], 1))
    return dict(zip(FIELDS, values, strict=True))


def table(found: pd.DataFrame) -> str:
    """Compare each cell with the best published objective and the exact global search."""
    rows = [["temperature, price", "rounds, mean", "worst", "seeds", "follower steps",
             "published best", "exact global search", "share of it"]]  # fmt: skip
    reached = beaten = cells = 0
    for cell in CELLS:
        here = found[(found["lambda"] == cell[0]) & (found["beta"] == cell[1])]
        rounds, exact = (here[here["search"] == name] for name in ("rounds", "exact"))
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
    parser.add_argument("--steps", type=int, default=1_000_000)
    given = parser.parse_args()
    if not FILE.exists():
        FILE.write_text(",".join(FIELDS) + "\n")
    for cell, search, seed in wanted(given.seeds):
        found = pd.read_csv(FILE)
        known = (found["lambda"] == cell[0]) & (found["beta"] == cell[1])
        known &= (found["search"] == search) & (found["seed"] == seed)
        if not known.any():
            line = run(cell, search, seed, given.steps)
            with FILE.open("a", newline="") as file:
                csv.DictWriter(file, FIELDS).writerow(line)
            print(line, flush=True)
        fill(HERE / "README.md", {"ROUNDS": table(pd.read_csv(FILE))})


if __name__ == "__main__":
    main()
