"""What the studies of simulated behaviour share: data, leaders compared, points with intervals."""

import resource
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from tables import interval

import cbrl_bayes as cb
from cbrl_bayes.hypergradients import SearchProgram
from cbrl_bayes.plots.style import COLOURS

NEARLY_RATIONAL_TEMPERATURE = 0.01
"""What a leader assumes, in money, who takes followers to be rational."""

PART_COLOURS = ("#E69F00", "#CC79A7")
"""Okabe and Ito's two colours that `COLOURS` leaves free: for two stages or rounds."""

LOOKS = {
    "best": (COLOURS["own"], "o"),
    "common": (COLOURS["common"], "s"),
    "plug_in": (COLOURS["plug_in"], "^"),
    "rational": (COLOURS["baseline"], "D"),
}
"""Colour and marker of the best of each draw and of each leader."""


def observed(
    problem: cb.Problem, arms: Mapping[str, Any], truth: Mapping[str, Any], num: int, seed: int
) -> xr.Dataset:
    """Simulate followers, the same number under each arm's incentive; contexts recorded."""
    rows: dict[str, list] = {"state": [], "action": [], "context": [], "regime": []}
    for number, (name, incentive) in enumerate(arms.items()):
        arm = cb.simulate_trajectories(
            problem,
            key=jax.random.key(seed + number),
            num_episodes=num // len(arms),
            num_steps=problem.num_states,
            parameters=truth,
            incentive=incentive,
            regime=name,
        )
        for episode in range(num // len(arms)):
            one = arm.isel(episode=episode)
            kept = one["state"].values >= 0
            rows["state"].append(one["state"].values[kept])
            rows["action"].append(one["action"].values[kept])
            rows["context"].append(str(one["context"].values))
            rows["regime"].append(name)
    return cb.make_trajectories(
        rows["state"],
        rows["action"],
        context=rows["context"],
        regime=rows["regime"],
        incentives=dict(arms),
    )


def draws_of(tree: xr.DataTree, names: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the draws that were designed for."""
    kept = tree["posterior"].to_dataset().sel(draw=tree["design"]["draw"].values)
    return {name: kept[name].values.reshape(-1, *kept[name].shape[2:]) for name in names}


def best_incentive(
    problem: cb.Problem, program: SearchProgram, parameters: Mapping[str, Any], start: Any = None
) -> tuple[np.ndarray, float]:
    """Return the best incentive for known parameters and what it is worth."""
    complete = problem.complete_parameters(parameters)
    found = program.run(complete, key=jax.random.key(3), start=start).best
    (incentive,) = problem.incentive.transform(found.unconstrained).values()
    return np.asarray(incentive), float(found.objective)


def worth(problem: cb.Problem, x: Mapping[str, Any], draws: Mapping[str, Any]) -> np.ndarray:
    """Return what one incentive, given as free numbers, is worth under each draw."""
    known = problem.default_parameters
    value = jax.jit(lambda one: cb.leader_outcome(problem, x, known | one).objective)
    return np.asarray(jax.lax.map(value, {k: jnp.asarray(v) for k, v in draws.items()}))


def compare(
    problem: cb.Problem,
    tree: xr.DataTree,
    truth: Mapping[str, Any],
    program: SearchProgram,
    free: Callable[[np.ndarray], Mapping[str, Any]],
) -> dict[str, dict[str, Any]]:
    """Return how three leaders fare under the draws and at the truth.

    ``free`` gives the free numbers of an incentive. The search of the leader who takes
    followers to be rational begins at the plug-in incentive besides random starts.
    """
    draws = draws_of(tree, truth)
    mean = {name: value.mean(0) for name, value in draws.items()}
    decision, best = tree["decision"].to_dataset(), tree["design"]["leader_objective"].values
    incentives = {
        name: decision["incentive"].sel(design=name).values for name in ("common", "plug_in")
    }
    rational, promised = best_incentive(
        problem,
        program,
        mean | {"temperature": NEARLY_RATIONAL_TEMPERATURE},
        start=free(incentives["plug_in"]),
    )
    at_truth = {name: np.asarray(value)[None] for name, value in truth.items()}
    rows: dict[str, dict[str, Any]] = {}
    for name, incentive in (incentives | {"rational": rational}).items():
        loss = best.ravel() - worth(problem, free(incentive), draws)
        rows[name] = {
            "incentive": np.round(incentive, 3).tolist(),
            "regret": interval(loss),
            "share_of_objective": float(loss.mean() / best.mean()),
            "at_truth": float(worth(problem, free(incentive), at_truth)[0]),
        }
    rows["rational"]["promised"] = promised
    return rows


def points(axes: plt.Axes, shift: float, rows: list, look: tuple[str, str], label: str) -> None:
    """Draw means with their intervals side by side, a row each."""
    centre, low, high = np.transpose(rows)
    colour, marker = look
    axes.errorbar(
        np.arange(len(rows)) + shift,
        centre,
        [centre - low, high - centre],
        fmt=marker,
        color=colour,
        capsize=3,
        label=label,
    )


def health_table(heading: str, verdicts: Mapping[str, str]) -> list[list[str]]:
    """Verdict and reasons of each study, as `cb.summary` gives them."""
    rows = [[heading, "health"]]
    for name, text in verdicts.items():
        first, *reasons = text.splitlines()
        told = "; ".join(" ".join(reason.split()[1:]) for reason in reasons)
        verdict = first.removeprefix("health: ")
        rows.append([name, f"{verdict}: {told}" if told else verdict])
    return rows


def cost() -> dict[str, float]:
    """Return seconds of processor time and the peak memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu_seconds": round(time.process_time(), 1), "peak_memory_mb": round(peak)}


def cost_text(results: Mapping[str, Any]) -> str:
    """Write what a run took."""
    return (
        f"{results['cpu_seconds']:.0f} s of processor time, peak memory "
        f"{results['peak_memory_mb']:.0f} MB."
    )


def summary_table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Rows of `cb.summary` for a table."""
    return [["", "quantity", "mean", "90 % interval (eti)", "unit"]] + [
        [
            row["group"],
            row["quantity"],
            f"{row['mean']:.4g}",
            f"{row['lower']:.4g} to {row['upper']:.4g}",
            row["unit"],
        ]
        for row in rows
    ]
