"""Speed and memory as ratios within one run; prints a table and writes it as JSON.

    python tests/benchmarks/run.py [--output FILE]

Each pair is timed in turn (A B A B ...), medians are reported. Times depend on the machine,
ratios much less.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import cbrl_bayes as cb
from cbrl_bayes.hypergradients import HPGD, Exact
from cbrl_bayes.mdp import best_response, replace_fields, soft_bellman, value_iteration
from cbrl_bayes.problems import four_rooms

REPEATS = 15
SWEEPS = 1000


def median_seconds(*functions: Callable[[], object]) -> list[float]:
    """Time functions in turn after one warm-up each; return the medians."""
    times: list[list[float]] = [[] for _ in functions]
    for function in functions:
        jax.block_until_ready(function())
    for _ in range(REPEATS):
        for function, seen in zip(functions, times, strict=True):
            begun = time.perf_counter()
            jax.block_until_ready(function())
            seen.append(time.perf_counter() - begun)
    return [statistics.median(seen) for seen in times]


def peak_megabytes() -> float:
    """Return the peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def solver_rows() -> list[dict]:
    """Newton and its implicit gradient against value iteration and its unrolled gradient.

    In both layouts of the transition law: dense is how the published code stores it.
    """
    problem = four_rooms(temperature=0.005)
    incentive = problem.incentive.transform(problem.incentive.initial)
    sparse = problem.mdp_fn(incentive, problem.contexts.values[0], problem.default_parameters)
    dense = replace_fields(sparse, transition=sparse.transition.to_dense())
    at = jnp.array(0.005)
    rows = []
    for layout, mdp in (("dense", dense), ("by successor", sparse)):

        def newton(temperature, mdp=mdp):
            return best_response(replace_fields(mdp, temperature=temperature)).values.sum()

        def sweeps(temperature, mdp=mdp):
            moved = replace_fields(mdp, temperature=temperature)
            return value_iteration(moved, num_sweeps=SWEEPS).sum()

        for name, transform in (
            ("best response", lambda f: f),
            ("value and gradient", jax.value_and_grad),
        ):
            ours, theirs = (jax.jit(transform(f)) for f in (newton, sweeps))
            fast, slow = median_seconds(lambda f=ours: f(at), lambda f=theirs: f(at))
            rows.append(
                {
                    "what": f"Four-Rooms, {layout}, {name}: "
                    f"{SWEEPS}-sweep value iteration / Newton",
                    "ratio": slow / fast,
                    "ours_ms": 1e3 * fast,
                    "other_ms": 1e3 * slow,
                }
            )
    # How accurate each is, so that the ratio compares like with like.
    exact = best_response(sparse).values
    swept = value_iteration(sparse, num_sweeps=SWEEPS)
    rows[0]["residual_ours"] = float(jnp.abs(soft_bellman(sparse, exact)[1] - exact).max())
    rows[0]["error_other"] = float(jnp.abs(swept - exact).max())
    return rows


def estimator_rows() -> list[dict]:
    """One iteration of each estimator; HPGD at the published 10,000 environment steps."""
    problem = four_rooms(temperature=0.001)
    x = problem.incentive.random_start(jax.random.key(5), 1.0)
    parameters = problem.default_parameters
    rows = []
    for name, estimator in (
        ("exact", Exact()),
        ("hpgd, some 10,000 environment steps", HPGD(num_rollouts=60, num_branches=40)),
    ):
        state = estimator.init(problem, x, key=jax.random.key(0))
        step = jax.jit(
            lambda key, e=estimator, s=state: e.estimate(problem, x, parameters, s, key=key)
        )
        (seconds,) = median_seconds(lambda f=step: f(jax.random.key(1)))
        info = step(jax.random.key(1))[2]
        rows.append(
            {
                "what": f"Four-Rooms, one iteration of {name}",
                "ours_ms": 1e3 * seconds,
                "environment_steps": int(info.follower_steps),
            }
        )
    return rows


def design_row(num_draws: int = 200) -> dict:
    """Per-draw designs on Four-Rooms."""
    rng = np.random.default_rng(0)
    draws = {
        "temperature": 0.005 * np.exp(0.02 * rng.normal(size=num_draws)),
        "context_probability": rng.dirichlet([20, 20], num_draws),
    }
    before = peak_megabytes()
    begun = time.perf_counter()
    marks: dict[str, float] = {}

    def on_progress(stage: str, done: int, total: int) -> None:
        marks.setdefault(stage, time.perf_counter())

    tree = cb.design(
        four_rooms(), draws, key=jax.random.key(0), num_draws=num_draws, progress=on_progress
    )
    ended = time.perf_counter()
    return {
        "what": f"Four-Rooms, {num_draws} per-draw designs, 200 exact ascent steps each",
        "seconds_per_draw_designs": ended - marks["designs per draw"],
        "seconds_whole_study": ended - begun,
        "memory_added_MB": peak_megabytes() - before,
        "failed": int((tree["design"].to_dataset()["status"] > 1).sum()),
    }


def main() -> None:
    """Run all and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=None)
    rows = [*solver_rows(), *estimator_rows(), design_row()]
    for row in rows:
        print(row["what"])
        for name, value in row.items():
            if name != "what":
                print(f"    {name:28s} {value:.4g}")
    output = parser.parse_args().output
    if output is not None:
        output.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
