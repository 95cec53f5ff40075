"""Learning curves of taxes: three estimators, three temperatures, ten seeds, resumable.

Each finished job (one estimator at one temperature, all seeds) is a file in runs/ and is not run
again.
"""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1")

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
import xarray as xr
from economy import published
from tables import shrink

from cbrl_bayes.hypergradients import HPGD, Exact, ZerothOrder
from cbrl_bayes.problems import leader_outcome

HERE = Path(__file__).parent
RUNS = HERE / "runs"
TEMPERATURES = (0.1, 0.2, 0.3)
ESTIMATORS = {
    "exact": Exact(),
    "hpgd": HPGD(num_rollouts=20, num_branches=10, max_steps=80),
    "zeroth_order": ZerothOrder(num_rollouts=None, num_directions=1, radius=0.05, min_radius=0.05),
}
NUM_ASSETS, NUM_SEEDS, NUM_ITERATIONS, RECORD_EVERY, LEARNING_RATE = 51, 10, 1000, 20, 0.05
COLOURS = {"exact": "black", "hpgd": "#0072B2", "zeroth_order": "#D55E00"}
LABELS = {"exact": "exact", "hpgd": "HPGD", "zeroth_order": "zeroth-order"}


def one_seed(name: str, temperature: float, seed: int) -> Iterator[tuple[float, np.ndarray]]:
    """Yield exact welfare and rates at every record; plain ascent, gradient norm at most 1."""
    problem, estimator = published(temperature, NUM_ASSETS), ESTIMATORS[name]
    parameters = problem.default_parameters
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(LEARNING_RATE))
    x = problem.incentive.random_start(jax.random.key(seed), 0.1)
    carry = (x, estimator.init(problem, x, key=jax.random.key(seed)), optimizer.init(x))

    @jax.jit
    def many(carry: tuple, key: jax.Array) -> tuple:
        def step(carry: tuple, key: jax.Array) -> tuple:
            x, state, memory = carry
            gradient, state, _ = estimator.estimate(problem, x, parameters, state, key=key)
            change, memory = optimizer.update(jax.tree.map(lambda g: -g, gradient), memory)
            return (optax.apply_updates(x, change), state, memory), None

        return jax.lax.scan(step, carry, jax.random.split(key, RECORD_EVERY))[0]

    @jax.jit
    def look(x: dict) -> tuple:
        rates = problem.incentive.transform(x)
        welfare = leader_outcome(problem, x, parameters).objective
        return welfare, jax.numpy.append(rates["vat"], rates["income_tax"])

    yield look(x)
    for key in jax.random.split(jax.random.key(1000 + seed), NUM_ITERATIONS // RECORD_EVERY):
        carry = many(carry, key)
        yield look(carry[0])


def run_job(name: str, temperature: float) -> str:
    """Run all seeds of one estimator at one temperature and write them."""
    path = RUNS / f"{name}_lambda{temperature}.nc"
    begun = time.process_time()
    welfare, rates = [], []
    for seed in range(NUM_SEEDS):
        found = list(one_seed(name, temperature, seed))
        welfare.append([float(w) for w, _ in found])
        rates.append([np.asarray(r) for _, r in found])
    seconds = (time.process_time() - begun) / (NUM_SEEDS * NUM_ITERATIONS)
    data = xr.Dataset(
        {
            "welfare": (("seed", "iteration"), welfare),
            "rate": (("seed", "iteration", "tax"), rates),
        },
        coords={
            "iteration": RECORD_EVERY * np.arange(NUM_ITERATIONS // RECORD_EVERY + 1),
            "tax": ["VAT 1", "VAT 2", "VAT 3", "income tax"],
        },
        attrs={
            "estimator_name": name,
            "temperature": temperature,
            "learning_rate": LEARNING_RATE,
            "cpu_seconds_per_iteration": seconds,
        },
    )
    data.to_netcdf(path.with_suffix(".partial"), engine="h5netcdf")
    path.with_suffix(".partial").replace(path)
    return path.stem


def run_all(workers: int) -> None:
    """Run what is missing."""
    RUNS.mkdir(exist_ok=True)
    jobs = [(n, t) for n in ESTIMATORS for t in TEMPERATURES]
    jobs = [(n, t) for n, t in jobs if not (RUNS / f"{n}_lambda{t}.nc").exists()]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(run_job, *job) for job in jobs]):
            print(done.result(), flush=True)


def collect() -> dict[tuple[str, float], xr.Dataset]:
    """Return all jobs."""
    return {
        (n, t): xr.load_dataset(RUNS / f"{n}_lambda{t}.nc", engine="h5netcdf")
        for n in ESTIMATORS
        for t in TEMPERATURES
    }


def rows(found: dict[tuple[str, float], xr.Dataset]) -> list[dict]:
    """Where each estimator ended: mean over seeds and standard error, seconds per iteration."""
    table = []
    for (name, temperature), data in found.items():
        last = data.isel(iteration=-1)
        table.append(
            {
                "estimator": name,
                "temperature": temperature,
                "welfare": float(last["welfare"].mean()),
                "welfare_error": float(last["welfare"].std(ddof=1)) / NUM_SEEDS**0.5,
                "rates": last["rate"].mean("seed").values.tolist(),
                "rate_spread": last["rate"].std("seed", ddof=1).values.tolist(),
                "ms": 1e3 * data.attrs["cpu_seconds_per_iteration"],
            }
        )
    return table


def draw(found: dict[tuple[str, float], xr.Dataset], path: Path) -> None:
    """Welfare and the four rates against iterations; bands from the least to the largest seed."""
    taxes = found["exact", TEMPERATURES[0]]["tax"].values
    figure, axes = plt.subplots(5, 3, figsize=(10, 12), sharex=True, layout="constrained")
    for column, temperature in enumerate(TEMPERATURES):
        for name in ESTIMATORS:
            data = found[name, temperature]
            panels = [data["welfare"], *(data["rate"].sel(tax=tax) for tax in taxes)]
            for panel, values in zip(axes[:, column], panels, strict=True):
                at = data["iteration"].values
                panel.fill_between(
                    at, values.min("seed"), values.max("seed"), color=COLOURS[name], alpha=0.2, lw=0
                )
                panel.plot(at, values.median("seed"), color=COLOURS[name], label=LABELS[name])
        axes[0, column].set_title(f"temperature {temperature}")
        axes[-1, column].set_xlabel("outer iteration")
    axes[0, 0].set_ylabel("discounted welfare")
    for panel, tax in zip(axes[1:, 0], taxes, strict=True):
        panel.set_ylabel(f"{tax} (share)")
    axes[0, 0].legend()
    figure.savefig(path, dpi=110)
    shrink(path)
    plt.close(figure)
