"""Does RT-Q accelerate? Ascents in Four-Rooms at equal iterations of the follower's training.

    python analyses/theory/rt_q_ascents.py [--seeds 10]

All contestants differentiate exactly at the policies that Q-learning has reached: without the noise
of rollouts, which is what doubly robust rollouts tend to. So what differs is how the follower's
training is spent:

- *full*: from zero, ``LONGEST`` iterations at every step;
- *RT-Q*: from zero, a random number of iterations with the same mean estimate (K = ``LEVELS``);
- *RT-Q, warm*: the same from the last step's tables;
- *warm*: ``FEW`` iterations on the last step's tables, nothing corrected.

Step sizes of Adam are chosen per contestant and cell on seeds that are not reported. Leaves
rt_q_ascents.json and rt_q_ascents.png, and fills its table in README.md.
"""

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.ticker import NullLocator

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tables import fill, markdown, shrink  # noqa: E402

from cbrl_bayes.followers import soft_q_iterations  # noqa: E402
from cbrl_bayes.hypergradients.learned_policy import gain_in_model  # noqa: E402
from cbrl_bayes.problems import Problem, four_rooms, leader_outcome  # noqa: E402

CELLS = ((0.001, 1.0), (0.003, 3.0), (0.005, 5.0))
LEVELS, FIRST = 11, 2
LONGEST = FIRST * 2**LEVELS
EXPECTED = FIRST * LEVELS / (1.0 - 2.0**-LEVELS)
FEW, OLD = 22, 200
"""Iterations of *warm* in a step, and the age at which its tables stay: steps of about a third."""
BUDGET, GRID = 60_000, 40
RATES = (0.02, 0.1, 0.5)
TUNING_SEEDS = (100, 101)
NAMES = {"full": "full", "rt_q": "RT-Q", "rt_q_warm": "RT-Q, warm", "warm": "warm"}


def gradient_at(problem: Problem, x: Any, context: Any, q: jax.Array) -> jax.Array:
    """Return the exact gradient at the policy of some tables, in one context."""
    one = problem.follower_parameters(problem.default_parameters, 0)

    def worth(flat: jax.Array) -> jax.Array:
        choice = problem.incentive.unflatten(flat)
        mdp = problem.mdp_fn(problem.incentive.transform(choice), context, one)
        policy = jax.lax.stop_gradient(jax.nn.softmax(q / mdp.temperature))
        return gain_in_model(problem, choice, context, one, mdp, policy)

    return jax.grad(worth)(problem.incentive.flatten(x))


def estimate(
    problem: Problem, name: str, x: Any, context: Any, kept: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the gradient, the tables and the iterations used, in one context."""
    one = problem.follower_parameters(problem.default_parameters, 0)
    mdp = problem.mdp_fn(problem.incentive.transform(x), context, one)
    learn = partial(soft_q_iterations, mdp, key=key)
    slope = partial(gradient_at, problem, x, context)
    blank = jnp.zeros_like(kept)
    if name == "full":
        q = learn(blank, start=0, stop=LONGEST)
        return slope(q), q, jnp.asarray(float(LONGEST))
    if name == "warm":
        q = learn(kept, start=OLD, stop=OLD + FEW)
        return slope(q), q, jnp.asarray(float(FEW))
    chances = 2.0 ** -jnp.arange(1.0, LEVELS + 1.0)
    chances /= chances.sum()
    level = jax.random.choice(jax.random.fold_in(key, 7), LEVELS, p=chances)
    first = learn(kept if name == "rt_q_warm" else blank, start=0, stop=FIRST)
    lower = learn(first, start=FIRST, stop=FIRST * 2**level)
    upper = learn(lower, start=FIRST * 2**level, stop=FIRST * 2 ** (level + 1))
    found = slope(first) + (slope(upper) - slope(lower)) / chances[level]
    return found, upper, FIRST * 2.0 ** (level + 1)


def ascent(problem: Problem, name: str) -> Any:
    """Return a compiled ascent: (key, rate) -> objectives on the grid of budgets."""
    values, weights = problem.contexts.support(problem.default_parameters)
    steps = {"full": int(BUDGET / LONGEST) + 1, "warm": int(BUDGET / FEW) + 1}
    num_steps = steps.get(name, int(1.5 * BUDGET / EXPECTED))
    budgets = jnp.geomspace(LONGEST, BUDGET, GRID)
    adam = optax.scale_by_adam()

    def run(key: jax.Array, rate: jax.Array) -> tuple[jax.Array, jax.Array]:
        start_key, key = jax.random.split(key)
        flat = problem.incentive.flatten(problem.incentive.random_start(start_key, 0.1))
        tables = jnp.zeros((len(weights), problem.num_states, problem.num_actions))

        def step(carry: tuple, number: jax.Array) -> tuple:
            flat, state, tables, used = carry
            x = problem.incentive.unflatten(flat)

            def one(entry: tuple) -> tuple:
                context, kept, index = entry
                own = jax.random.fold_in(jax.random.fold_in(key, number), index)
                return estimate(problem, name, x, context, kept, own)

            slope, tables, spent = jax.lax.map(one, (values, tables, jnp.arange(len(weights))))
            move, state = adam.update(weights @ slope, state)
            after = used + spent.mean()
            return (flat + rate * move, state, tables, after), (flat, used)

        first = flat, adam.init(flat), tables, jnp.zeros(())
        (last, _, _, used), (path, spent) = jax.lax.scan(step, first, jnp.arange(num_steps))
        path = jnp.concatenate([path, last[None]])
        at = jnp.searchsorted(jnp.append(spent, used), budgets, side="right") - 1

        def objective(flat: jax.Array) -> jax.Array:
            x = problem.incentive.unflatten(flat)
            return leader_outcome(problem, x, problem.default_parameters).objective

        return budgets, jax.lax.map(objective, path[at])

    return jax.jit(run)


def contest(seeds: int) -> dict:
    """Tune, run, and gather."""
    found: dict[str, Any] = {"budget": BUDGET, "longest": LONGEST, "seeds": seeds, "cells": []}
    for temperature, weight in CELLS:
        problem = four_rooms(temperature=temperature, penalty_weight=weight)
        row: dict[str, Any] = {"temperature": temperature, "penalty_weight": weight}
        for name in NAMES:
            begun, run = time.perf_counter(), ascent(problem, name)
            tried = [
                np.mean([run(jax.random.key(seed), rate)[1][-1] for seed in TUNING_SEEDS])
                for rate in RATES
            ]
            rate = RATES[int(np.argmax(tried))]
            ends = [run(jax.random.key(seed), rate) for seed in range(seeds)]
            row["budgets"] = np.asarray(ends[0][0]).tolist()
            row[name] = {
                "rate": rate,
                "tuning": [float(value) for value in tried],
                "objective": np.round([curve for _, curve in ends], 5).tolist(),
                "seconds": time.perf_counter() - begun,
            }
            last = np.array(row[name]["objective"])[:, -1]
            print(temperature, weight, name, rate, last.mean(), last.std(), flush=True)
        found["cells"].append(row)
    return found


def draw(found: dict) -> None:
    """Draw objective against iterations, mean and range over seeds."""
    figure, panels = plt.subplots(1, len(CELLS), figsize=(12.0, 4.0), layout="constrained")
    for panel, row in zip(panels, found["cells"], strict=True):
        for (name, label), colour in zip(NAMES.items(), ("C7", "C1", "C3", "C0"), strict=True):
            curves = np.array(row[name]["objective"])
            panel.plot(row["budgets"], curves.mean(0), color=colour, label=label)
            low, high = curves.min(0), curves.max(0)
            panel.fill_between(row["budgets"], low, high, color=colour, alpha=0.2)
        panel.set_xscale("log")
        panel.set_xticks((5_000, 10_000, 20_000, 50_000), ("5,000", "10,000", "20,000", "50,000"))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xlabel("iterations of Q-learning, per context")
        panel.set_title(f"temperature {row['temperature']}, weight {row['penalty_weight']:g}")
    panels[0].set_ylabel("leader's objective (exact)")
    panels[0].legend()
    figure.savefig(HERE / "rt_q_ascents.png", dpi=110)
    shrink(HERE / "rt_q_ascents.png")
    plt.close(figure)


def table(found: dict) -> str:
    """Return where each ended: mean over seeds and the standard error of that mean."""
    rows = [["temperature, weight", *NAMES.values()]]
    for row in found["cells"]:
        cells = [f"{row['temperature']:g}, {row['penalty_weight']:g}"]
        for name in NAMES:
            last = np.array(row[name]["objective"])[:, -1]
            error = last.std(ddof=1) / np.sqrt(len(last))
            cells.append(f"{last.mean():.3f} ({error:.3f})")
        rows.append(cells)
    return markdown(rows)


def main() -> None:
    """Run, draw and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--draw", action="store_true", help="Only draw what was found before.")
    given, place = parser.parse_args(), HERE / "rt_q_ascents.json"
    found = json.loads(place.read_text()) if given.draw else contest(given.seeds)
    place.write_text(json.dumps(found) + "\n")
    draw(found)
    fill(HERE / "README.md", {"RTQ_ASCENTS": table(found)})


if __name__ == "__main__":
    main()
