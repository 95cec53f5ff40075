"""Run every check on every estimator and problem, and write the table for the documentation.

python -m tests.conformance.table [--missing] [--estimators NAME ...] [--problems NAME ...]

Rows that were not asked for stay as the page has them. The page is written after every row.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")

from cbrl_bayes.hypergradients import ESTIMATORS
from tests.conformance.checks import MEANS, PROBLEMS, SMALL, check_contract, measure_mean

HEAD = """\
# Conformance

Every estimator passes one suite on every ready-made problem and on *moving*, a small problem whose
incentive moves reward, transitions and initial law. This page is written by
`python -m tests.conformance.table`.

- **Contract**: gradient shaped like the incentive, finite, one compilation, the same key gives the
  same answer, `vmap` equals a loop.
- **Mean**: the distance of the average estimate from the exact hypergradient, relative to its
  length, and in brackets the bound: four standard errors plus the bias that the estimator's
  documentation owns up to. *Spread* is the standard deviation of one estimate, relative to the
  same length.
- `exact` itself is held against fourth-order differences of the objective (relative error below
  1e-6 on every problem: `tests/conformance/test_estimators.py`).

RT-Q's mean is measured where Q-learning gets near the best response in the iterations a test can
wait for: not at discount .99, and not where an action is tried once in a thousand months.

| estimator | problem | contract | distance (bound) | spread | estimates averaged |
|---|---|---|---|---|---|
"""


def row(name: str, problem_name: str) -> str:
    """Check one pair and format it."""
    problem = PROBLEMS[problem_name]()
    check_contract(SMALL[name], problem)
    check = MEANS.get(problem_name, {}).get(name)
    if check is None:
        return f"| `{name}` | {problem_name} | passed | | | |"
    found = measure_mean(check, problem)
    assert found.distance < found.bound
    bound = f"{found.distance:.2g} ({found.bound:.2g})"
    return (
        f"| `{name}` | {problem_name} | passed | {bound} | {found.spread:.2g} | {check.repeats} |"
    )


def known_rows(path: Path) -> dict[tuple[str, str], str]:
    """Return the rows that the page has, by estimator and problem."""
    lines = path.read_text().splitlines() if path.exists() else []
    cells = [(line, [cell.strip(" `") for cell in line.split("|")]) for line in lines]
    return {(c[1], c[2]): line for line, c in cells if len(c) > 2 and c[1] in ESTIMATORS}


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/conformance.md"))
    parser.add_argument("--estimators", nargs="*", default=list(ESTIMATORS), choices=ESTIMATORS)
    parser.add_argument("--problems", nargs="*", default=list(PROBLEMS), choices=PROBLEMS)
    parser.add_argument("--missing", action="store_true", help="only rows that the page lacks")
    given = parser.parse_args()
    rows = known_rows(given.output)
    every = [(name, problem) for name in ESTIMATORS for problem in PROBLEMS]
    for name, problem in every:
        wanted = name in given.estimators and problem in given.problems
        if not wanted or (given.missing and (name, problem) in rows):
            continue
        rows[name, problem] = row(name, problem)
        print(rows[name, problem], flush=True)
        listed = [rows[pair] for pair in every if pair in rows]
        given.output.write_text(HEAD + "\n".join(listed) + "\n")


if __name__ == "__main__":
    main()
