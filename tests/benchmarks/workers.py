"""How many draws a second: against workers, against states, and against the number of draws.

    python tests/benchmarks/workers.py [--only PART ...] [--output FILE] [--figure FILE]

Every measurement is a process of its own, so that its peak of resident memory is its own. What is
compared runs in turn, twice; the faster of the two counts.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")

import jax
import matplotlib.pyplot as plt
import numpy as np

import cbrl_bayes as cb
from cbrl_bayes.designs import DaskExecutor, DeviceExecutor, ThreadExecutor, evaluate_designs
from cbrl_bayes.designs.per_draw import DrawSolver
from cbrl_bayes.designs.running import Running
from cbrl_bayes.hypergradients import Ascent, Exact, Search
from cbrl_bayes.problems import four_rooms, random_mdp, two_state

WORKERS = (1, 2)
STATES = (100, 1000, 10_000, 100_000)
DRAWS = (100, 1000, 10_000, 100_000)
MOST_DESIGNS = 10_000
REPEATS = 2


def executor(kind: str, workers: int):
    """Return an executor by name."""
    if kind == "devices":
        return DeviceExecutor(tuple(jax.devices()[:workers]))
    return ThreadExecutor(workers) if kind == "threads" else DaskExecutor(num_workers=workers)


def designs_per_second(kind: str, workers: int, num: int) -> dict:
    """Each draw's own design on Four-Rooms, 100 exact steps; the first third warms up."""
    problem = four_rooms()
    solver = DrawSolver(
        problem, Exact(), Search(ascent=Ascent(num_steps=100)), np.zeros(105), jax.random.key(0)
    )
    temperatures = np.random.default_rng(0).lognormal(np.log(0.004), 0.2, size=num)
    items = (
        (number, problem.default_parameters | {"temperature": np.array(value)})
        for number, value in enumerate(temperatures)
    )
    begun = time.perf_counter()
    seen = []
    for _ in executor(kind, workers).run(solver, items):
        seen.append(time.perf_counter() - begun)
    warm = num // 3
    return {
        "draws_per_second": (num - warm) / (seen[-1] - seen[warm - 1]),
        "start_seconds": seen[0],
    }


def scores_by_states(workers: int, states: int) -> dict:
    """One design, exact, by successor (4 actions, 5 successors, discount .9)."""
    problem = random_mdp(
        num_states=states,
        num_actions=4,
        num_successors=5,
        num_parameters=10,
        discount=0.9,
        quadratic=False,
    )
    num = max(8, min(1000, 400_000 // states))
    draws = {"temperature": np.linspace(0.5, 1.5, num)}
    seen = []
    evaluate_designs(
        problem,
        np.zeros((1, 10)),
        draws,
        key=jax.random.key(0),
        run=Running(ThreadExecutor(workers), report=lambda *_: seen.append(time.perf_counter())),
    )
    warm = num // 3
    return {"draws": num, "draws_per_second": (num - warm) / (seen[-1] - seen[warm - 1])}


def streamed(kind: str, num: int) -> dict:
    """Whole study on two_state: each draw's design (20 steps), kept in a folder as it is found.

    Or scores alone: two given designs under each draw, on the devices.
    """
    if kind == "scores":
        return scores_streamed(num)
    quick = cb.Search(ascent=cb.Ascent(num_steps=20))
    settings = cb.DesignSettings(search=quick, per_draw=quick)
    draws = {"temperature": np.random.default_rng(0).lognormal(np.log(0.3), 0.4, size=num)}
    run = DeviceExecutor(draws_per_device=256) if kind == "devices" else ThreadExecutor(2)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        study = cb.design(
            two_state(),
            draws,
            key=jax.random.key(0),
            num_draws=num,
            settings=settings,
            executor=run,
            checkpoint=Path(folder, "run"),
        )
        seconds = time.perf_counter() - begun
    held = sum(node.nbytes for node in study.subtree) / 2**20
    return {"draws_per_second": num / seconds, "seconds": seconds, "result_MB": held}


def scores_streamed(num: int) -> dict:
    """Two designs scored under each draw, by chunks on the devices."""
    draws = {"temperature": np.random.default_rng(0).lognormal(np.log(0.3), 0.4, size=num)}
    begun = time.perf_counter()
    scores = evaluate_designs(
        two_state(),
        np.zeros((2, 1)),
        draws,
        key=jax.random.key(0),
        run=Running(DeviceExecutor(draws_per_device=256)),
    )
    seconds = time.perf_counter() - begun
    held = sum(value.nbytes for value in vars(scores).values()) / 2**20
    return {"draws_per_second": num / seconds, "seconds": seconds, "result_MB": held}


MEASURES = {"workers": designs_per_second, "states": scores_by_states, "draws": streamed}
PLANS = {
    "workers": [
        {"kind": kind, "workers": workers, "num": 150}
        for kind in ("threads", "dask", "devices")
        for workers in WORKERS
    ],
    "states": [{"workers": workers, "states": states} for states in STATES for workers in WORKERS],
    "draws": [
        {"kind": kind, "num": num}
        for num in DRAWS
        for kind in ("threads", "devices", "scores")
        if kind == "scores" or num <= MOST_DESIGNS
    ],
}


def measured(part: str, plan: dict) -> dict:
    """Run one measurement in a process of its own."""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, "--measure", part, json.dumps(plan)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    print(
        part,
        plan,
        {k: round(v, 3) for k, v in found.items()},
        f"{time.perf_counter() - begun:.0f} s",
        flush=True,
    )
    return plan | found


def all_rows(part: str) -> list[dict]:
    """Every plan of a part, in turn; the fastest of the repeats."""
    repeats = 1 if part == "draws" else REPEATS
    rounds = [[measured(part, plan) for plan in PLANS[part]] for _ in range(repeats)]
    return [
        max(tries, key=lambda row: row["draws_per_second"]) for tries in zip(*rounds, strict=True)
    ]


def draw(results: dict, path: Path) -> None:
    """Rates against workers, states and draws; memory against draws."""
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.4), layout="constrained")
    colours = {"threads": "#0072B2", "dask": "#D55E00", "devices": "#009E73", "scores": "#000000"}
    markers = {"threads": "o-", "dask": "s--", "devices": "^:", "scores": "D-."}
    for kind, colour in colours.items():
        mine = [row for row in results["workers"] if row["kind"] == kind]
        if mine:
            axes[0].plot(
                [row["workers"] for row in mine],
                [row["draws_per_second"] for row in mine],
                markers[kind],
                color=colour,
                label=kind,
            )
        mine = [row for row in results["draws"] if row["kind"] == kind]
        if mine:
            for panel, unit in zip(axes[2:], ("draws_per_second", "peak_MB"), strict=True):
                panel.plot(
                    [row["num"] for row in mine],
                    [row[unit] for row in mine],
                    markers[kind],
                    color=colour,
                    label=kind,
                )
    axes[0].set(xlabel="workers", ylabel="draws/s (Four-Rooms, 100 steps)", xticks=WORKERS, ylim=0)
    for workers, style in zip(WORKERS, ("o--", "s-"), strict=True):
        mine = [row for row in results["states"] if row["workers"] == workers]
        axes[1].loglog(
            [row["states"] for row in mine],
            [row["draws_per_second"] for row in mine],
            style,
            color="black",
            mfc="white",
            label=f"{workers} thread(s)",
        )
    axes[1].set(xlabel="states", ylabel="draws/s (one exact score)")
    axes[2].set(
        xlabel="draws (two_state)", ylabel="draws/s, start included", xscale="log", yscale="log"
    )
    axes[3].set(xlabel="draws (two_state)", ylabel="peak memory (MB)", xscale="log", ylim=0)
    for panel in axes:
        panel.legend(fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Run all and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(MEASURES), choices=list(MEASURES))
    parser.add_argument("--output", type=Path, default=None)
    parser.add_argument("--figure", type=Path, default=None)
    parser.add_argument("--measure", nargs=2, default=None, metavar=("PART", "PLAN"))
    arguments = parser.parse_args()
    if arguments.measure is not None:
        part, plan = arguments.measure
        found = MEASURES[part](**json.loads(plan))
        peaks = {"peak_MB": resource.RUSAGE_SELF, "worker_peak_MB": resource.RUSAGE_CHILDREN}
        peaks = {name: resource.getrusage(who).ru_maxrss / 1024 for name, who in peaks.items()}
        print(json.dumps(found | peaks))
        return
    earlier = arguments.output is not None and arguments.output.exists()
    results = json.loads(arguments.output.read_text()) if earlier else {}
    results |= {part: all_rows(part) for part in arguments.only}
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    if arguments.figure is not None and set(MEASURES) <= set(results):
        draw(results, arguments.figure)


if __name__ == "__main__":
    main()
