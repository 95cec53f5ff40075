"""Build and solve a model from plain functions with a million state-action pairs.

    python tests/benchmarks/grid_model.py

prints seconds and peak memory, for ever and over 20 periods; each in a process of its own.
"""

import json
import resource
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

import cbrl_bayes as cb

STAYS = 0.8
LAW = np.diag([STAYS + 0.1, *[STAYS] * 3, STAYS + 0.1]) + 0.1 * (np.eye(5, k=1) + np.eye(5, k=-1))


def make(num_periods: int | None, num_assets: int) -> cb.GridModel:
    """Savings with a wage that moves: 5 wages, 100 shares to eat."""
    return cb.GridModel(
        states={
            "assets": cb.Grid(np.linspace(0.1, 50.0, num_assets), clip=True),
            "wage": cb.Chain(np.linspace(0.5, 1.5, 5), LAW),
        },
        actions={"share": cb.Grid(np.linspace(0.01, 0.9, 100))},
        reward=lambda state, action: jnp.log(action["share"] * (state["assets"] + state["wage"])),
        next_state=lambda state, action: {
            "assets": 1.02 * (1.0 - action["share"]) * (state["assets"] + state["wage"])
        },
        initial={"assets": 1.0},
        discount=0.95,
        num_periods=num_periods,
    )


def measure(num_periods: int | None) -> dict[str, float]:
    """Return seconds and GB of one build and solve, and of a second one."""
    model = make(num_periods, 2000 if num_periods is None else 2000 // num_periods)
    found: dict[str, float] = {"pairs": model.num_states * model.num_actions}
    for name in ("first", "second"):
        start = time.perf_counter()
        mdp = model.mdp({}, None, {"temperature": 0.1 if name == "first" else 0.11})
        jax.block_until_ready(jax.tree.leaves(mdp))
        found[f"{name} build, s"] = time.perf_counter() - start
        start = time.perf_counter()
        response = cb.best_response(mdp)
        found["status"] = int(response.status)
        found[f"{name} solve, s"] = time.perf_counter() - start
    found["peak, GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {key: round(value, 2) for key, value in found.items()}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]) or None)))
    else:
        for periods in ("0", "20"):
            print(periods, subprocess.check_output([sys.executable, __file__, periods], text=True))
