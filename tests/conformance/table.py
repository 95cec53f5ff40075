"""Run every check on every estimator and problem, and write the table for the documentation.

python -m tests.conformance.table [--output docs/conformance.md]
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
    check = MEANS[problem_name].get(name)
    if check is None:
        return f"| `{name}` | {problem_name} | passed | | | |"
    found = measure_mean(check, problem)
    assert found.distance < found.bound
    bound = f"{found.distance:.2g} ({found.bound:.2g})"
    return (
        f"| `{name}` | {problem_name} | passed | {bound} | {found.spread:.2g} | {check.repeats} |"
    )


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/conformance.md"))
    rows = []
    for name in ESTIMATORS:
        for problem_name in PROBLEMS:
            rows.append(row(name, problem_name))
            print(rows[-1], flush=True)
    parser.parse_args().output.write_text(HEAD + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
