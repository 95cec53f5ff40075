"""All estimators on the nine published Four-Rooms cells, at the published budget.

    python analyses/published_comparison/run.py [--workers 2] [--seeds 10] [--iterations 10000]

Every finished job (one estimator in one cell, all seeds) is a file in runs/ and is not run
again, nor is one that comparison.nc already holds; interrupt and repeat at will. At the end
comparison.nc (one DataTree), table.csv, budgets.csv and convergence.png are written.
"""

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1")
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import numpy as np  # noqa: E402
import xarray as xr  # noqa: E402
from cells import CELLS, CONTESTANTS, RATES, STEPS_PER_RECORD, runs  # noqa: E402
from report import recorded_rates, report, unpack  # noqa: E402
from rich.progress import Progress  # noqa: E402

RUNS = HERE / "runs"
TUNING_CELL, TUNING_SEED = (0.003, 3), 1000


def file_of(name: str, cell: tuple[float, int]) -> Path:
    """Return where one job's result lies."""
    plain = name.replace(", ", "_").replace(" ", "_")
    return RUNS / f"{plain}_lambda{cell[0]}_beta{cell[1]}.nc"


def run_job(name: str, cell: tuple[float, int], rate: float, seeds: int, iterations: int) -> str:
    """Run all seeds of one estimator in one cell and write them."""
    path = file_of(name, cell)
    records = list(runs(name, cell, rate, list(range(seeds)), iterations))
    fields = ("objective", "objective_in_simulator", "follower_steps", "seconds")
    data = xr.Dataset(
        {
            field: (("seed", "iteration"), np.stack([getattr(r, field) for r in records]))
            for field in fields
        },
        coords={
            "seed": np.arange(seeds),
            "iteration": STEPS_PER_RECORD * np.arange(1, iterations // STEPS_PER_RECORD + 1),
        },
        attrs={
            "estimator_name": name,
            "learning_rate": rate,
            "temperature": cell[0],
            "penalty_weight": cell[1],
        },
    )
    partial = path.with_suffix(".partial")
    data.to_netcdf(partial, engine="h5netcdf")
    partial.replace(path)
    return path.stem


def tune(name: str, iterations: int) -> tuple[str, float]:
    """Choose the rate on a cell and a seed of its own, by the mean of the last tenth."""
    reached = {}
    for rate in RATES:
        (record,) = runs(name, TUNING_CELL, rate, [TUNING_SEED], iterations)
        reached[rate] = record.objective[-max(1, len(record.objective) // 10) :].mean()
    return name, max(reached, key=reached.__getitem__)


def learning_rates(pool: ProcessPoolExecutor, names: list[str], iterations: int) -> dict:
    """Return the rate of every estimator; chosen once and kept in rates.json."""
    path = RUNS / "rates.json"
    known = json.loads(path.read_text()) if path.exists() else recorded_rates(RUNS)
    missing = [name for name in names if name not in known]
    for done in as_completed([pool.submit(tune, name, iterations) for name in missing]):
        name, rate = done.result()
        known[name] = rate
        path.with_suffix(".partial").write_text(json.dumps(known, indent=1))
        path.with_suffix(".partial").replace(path)
        print(f"learning rate of {name}: {rate}", flush=True)
    return known


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=10_000)
    parser.add_argument("--tuning-iterations", type=int, default=3000)
    parser.add_argument("--estimators", nargs="*", default=list(CONTESTANTS))
    arguments = parser.parse_args()
    RUNS.mkdir(exist_ok=True)
    unpack(HERE / "comparison.nc", file_of)
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        rates = learning_rates(pool, arguments.estimators, arguments.tuning_iterations)
        jobs = [(name, cell) for name in arguments.estimators for cell in CELLS]
        jobs = [job for job in jobs if not file_of(*job).exists()]
        waiting = [
            pool.submit(run_job, name, cell, rates[name], arguments.seeds, arguments.iterations)
            for name, cell in jobs
        ]
        with Progress() as progress:
            bar = progress.add_task("jobs", total=len(jobs))
            for done in as_completed(waiting):
                progress.console.print(done.result())
                progress.advance(bar)
    report(HERE, {(name, cell): file_of(name, cell) for name in CONTESTANTS for cell in CELLS})


if __name__ == "__main__":
    main()
