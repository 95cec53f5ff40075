"""Contracts for agents of unknown rationality and cost: simulated trial, posterior, design.

    python analyses/contract_design/run.py

Behaviour is simulated, so the truth is known. Leaves results.json and figures beside this file
and fills the tables of README.md.
"""

import json
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro.distributions as dist
import xarray as xr

import cbrl_bayes as cb
from cbrl_bayes.hypergradients import Exact, SearchProgram
from cbrl_bayes.plots.style import COLOURS
from cbrl_bayes.problems.contract_design import contract_design

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from tables import fill, markdown  # noqa: E402

TRUTH = {"temperature": 0.3, "effort_cost": 1.1, "context_probability": (0.6, 0.4)}
PLANS = {"low": [[0.2, 1.8], [0.2, 1.8]], "high": [[0.2, 3.2], [0.2, 3.2]]}
"""Payments by stage and outcome (bad, good) in the two arms of the trial."""

NUM_PROJECTS = (0, 6, 24, 96)
"""Projects observed; 0 means the prior alone."""

STUDIED = 24
NUM_DRAWS = 52
PRIORS = {
    "temperature": dist.LogNormal(np.log(0.2), 1.0),
    "effort_cost": dist.LogNormal(0.0, 0.5),
}
"""Money: 95 % of the temperature within a factor of 7 of .2, of the cost within 2.7 of 1."""

ASCENT = cb.Ascent(num_steps=150, learning_rate=0.1, continuation=(3.0, 1.0))
SETTINGS = cb.DesignSettings(
    search=cb.Search(ascent=ASCENT, num_starts=3),
    per_draw=cb.Search(ascent=ASCENT),
    num_common_draws=52,
)
RATIONAL = 0.01
"""Temperature that the leader assumes who takes agents to be rational."""


def trial(problem: cb.Problem, num_projects: int) -> xr.Dataset:
    """Simulate the trial, half of the projects under each plan, efforts and types recorded."""
    rows: dict[str, list] = {"state": [], "action": [], "context": [], "regime": []}
    for number, (name, payment) in enumerate(PLANS.items()):
        arm = cb.behaviour.simulate_trajectories(
            problem, key=jax.random.key(100 + number), num_episodes=num_projects // 2,
            num_steps=problem.num_states, parameters=TRUTH,
            incentive={"payment": payment}, regime=name,
        )  # fmt: skip
        for episode in range(num_projects // 2):
            one = arm.isel(episode=episode)
            kept = one["state"].values >= 0
            rows["state"].append(one["state"].values[kept])
            rows["action"].append(one["action"].values[kept])
            rows["context"].append(str(one["context"].values))
            rows["regime"].append(name)
    return cb.make_trajectories(
        rows["state"], rows["action"], context=rows["context"], regime=rows["regime"],
        incentives={name: {"payment": payment} for name, payment in PLANS.items()},
    )  # fmt: skip


def prior_draws() -> dict[str, np.ndarray]:
    """Draw parameters from the prior."""
    keys = jax.random.split(jax.random.key(7), 3)
    draws = {name: np.asarray(prior.sample(key, (NUM_DRAWS,)))
             for (name, prior), key in zip(PRIORS.items(), keys, strict=False)}  # fmt: skip
    types = dist.Dirichlet(jnp.ones(2)).sample(keys[2], (NUM_DRAWS,))
    return draws | {"context_probability": np.asarray(types)}


def study(problem: cb.Problem, num_projects: int) -> xr.DataTree:
    """Infer from so many projects (none: the prior) and design."""
    if num_projects == 0:
        given: Any = prior_draws()
    else:
        given = cb.infer(
            problem, trial(problem, num_projects), key=jax.random.key(0), priors=PRIORS,
            settings=cb.NUTSSettings(num_warmup=300, num_samples=300),
        )  # fmt: skip
    return cb.design(problem, given, key=jax.random.key(1), num_draws=NUM_DRAWS, settings=SETTINGS)


def best_contract(problem: cb.Problem, parameters: Mapping[str, Any]) -> tuple[np.ndarray, float]:
    """Return the best payments for known parameters and what they are worth."""
    complete = problem.complete_parameters(parameters)
    program = SearchProgram(problem, Exact(), SETTINGS.search)
    found = program.run(complete, key=jax.random.key(3)).best
    payment = problem.incentive.transform(found.unconstrained)["payment"]
    return np.asarray(payment), float(found.objective)


def worth(problem: cb.Problem, payment: np.ndarray, draws: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return what one contract earns under each draw."""
    x = {"payment": jnp.log(jnp.expm1(jnp.maximum(jnp.asarray(payment), 1e-12)))}
    known = problem.default_parameters
    value = jax.jit(lambda one: cb.leader_outcome(problem, x, known | one).objective)
    return np.asarray(jax.lax.map(value, {k: jnp.asarray(v) for k, v in draws.items()}))


def draws_of(tree: xr.DataTree) -> dict[str, np.ndarray]:
    """Return the draws that were designed for."""
    kept = tree["posterior"].to_dataset().sel(draw=tree["design"]["draw"].values)
    return {name: kept[name].values.reshape(-1, *kept[name].shape[2:]) for name in TRUTH}


def compare(problem: cb.Problem, tree: xr.DataTree) -> dict[str, Any]:
    """Return how three leaders fare under the draws and at the truth."""
    draws = draws_of(tree)
    mean = {name: value.mean(0) for name, value in draws.items()}
    rational, promised = best_contract(problem, mean | {"temperature": RATIONAL})
    decision, best = tree["decision"].to_dataset(), tree["design"]["leader_objective"].values
    contracts = {
        "common": decision["incentive"].sel(design="common").values,
        "plug_in": decision["incentive"].sel(design="plug_in").values,
        "rational": rational,
    }
    truth = {name: np.asarray(value)[None] for name, value in TRUTH.items()}
    rows = {}
    for name, payment in contracts.items():
        earned = worth(problem, payment, draws)
        loss = best.ravel() - earned
        rows[name] = {
            "payment": np.round(payment, 3).tolist(),
            "objective": interval(earned),
            "regret": interval(loss),
            "share_of_objective": float(loss.mean() / best.mean()),
            "at_truth": float(worth(problem, payment, truth)[0]),
        }
    rows["rational"]["promised"] = promised
    return rows


def interval(values: np.ndarray) -> list[float]:
    """Mean and equal-tailed 90 % interval."""
    return [float(values.mean()), *np.quantile(values, [0.05, 0.95]).tolist()]


def textbook_limit() -> list[dict[str, float]]:
    """One stage, one type: best payments as the temperature falls."""
    problem = contract_design(num_stages=1, cost_types={"all": 1.0}, outside_option=-1e3)
    ascent = cb.Ascent(num_steps=600, learning_rate=0.05)
    program = SearchProgram(problem, Exact(), cb.Search(ascent=ascent))
    rows, start = [], problem.incentive.initial
    for temperature in (0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005):
        given = problem.complete_parameters({"temperature": temperature})
        best = program.run(given, key=jax.random.key(0), start=start).best
        start = best.unconstrained
        bad, good = np.asarray(problem.incentive.transform(start)["payment"])[0].tolist()
        rows.append({"temperature": temperature, "bad": bad, "good": good,
                     "objective": float(best.objective)})  # fmt: skip
    return rows


def draw_limit(rows: list[dict[str, float]]) -> None:
    """Payments and objective beside the textbook's."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.0, 3.2), layout="constrained")
    at = [row["temperature"] for row in rows]
    left.plot(at, [row["good"] for row in rows], "o-", color=COLOURS["own"], label="good outcome")
    left.plot(at, [row["bad"] for row in rows], "s-", color=COLOURS["common"], label="bad outcome")
    left.axhline(2.0, color=COLOURS["data"], ls="--", label="textbook, good outcome")
    left.set(xlabel="temperature (money)", ylabel="best payment (money)", xscale="log")
    left.legend(loc="center left")
    right.plot(at, [row["objective"] for row in rows], "o-", color=COLOURS["own"], label="best")
    right.axhline(3.2, color=COLOURS["data"], ls="--", label="textbook")
    right.set(xlabel="temperature (money)", ylabel="principal's objective (money)", xscale="log")
    right.legend()
    figure.savefig(HERE / "limit.png", dpi=150)


def draw_learning(found: dict[int, dict[str, Any]], true_best: tuple[np.ndarray, float]) -> None:
    """Payments, and what each leader expects to earn, by number of projects observed."""
    figure, panels = plt.subplots(1, 3, figsize=(11.5, 3.5), layout="constrained")
    place = np.arange(len(found))
    looks = {"own": "o", "common": "s", "plug_in": "^"}

    def points(axes: plt.Axes, shift: float, rows: list, colour: str, label: str) -> None:
        centre, low, high = np.transpose(rows)
        axes.errorbar(place + shift, centre, [centre - low, high - centre], fmt=looks[colour],
                      color=COLOURS[colour], capsize=3, label=label)  # fmt: skip

    for stage, (axes, shift) in enumerate(zip(panels[:1].repeat(2), (-0.1, 0.1), strict=True)):
        rows = [one["good_payment"][stage] for one in found.values()]
        points(axes, shift, rows, ("own", "common")[stage], f"stage {stage + 1}, good outcome")
        axes.axhline(true_best[0][stage, 1], color=COLOURS[("own", "common")[stage]], ls="--")
    panels[0].set(ylabel="payment (money)", title="Best contract (dashed: at the truth)")
    points(panels[1], 0.0, [one["best"] for one in found.values()], "own", "best of each draw")
    panels[1].axhline(true_best[1], color=COLOURS["data"], ls="--", label="at the truth")
    panels[1].set(ylabel="objective (money per project)", title="What the best contract earns")
    names = {"common": ("own", "common design"), "plug_in": ("common", "plug-in"),
             "rational": ("plug_in", "agent taken as rational")}  # fmt: skip
    for shift, (name, (colour, label)) in zip((-0.15, 0.0, 0.15), names.items(), strict=True):
        rows = [one["leaders"][name]["regret"] for one in found.values()]
        points(panels[2], shift, rows, colour, label)
    panels[2].set(ylabel="regret (money per project)", title="Lost against knowing the truth")
    for axes in panels:
        axes.set_xticks(place, [str(n) if n else "prior" for n in found])
        axes.set_xlabel("projects observed")
        axes.legend(fontsize=8)
    panels[0].set_ylim(top=1.35 * panels[0].get_ylim()[1])
    figure.savefig(HERE / "learning.png", dpi=150)


def tell(one: dict[str, Any]) -> dict[str, Any]:
    """Keep of one study what the page needs."""
    design = one["tree"]["design"].to_dataset()
    good = design["incentive"].values[..., 1].reshape(-1, design.sizes["stage"])
    return {
        "good_payment": [interval(good[:, stage]) for stage in range(good.shape[1])],
        "best": interval(design["leader_objective"].values),
        "leaders": one["leaders"],
        "seconds": one["seconds"],
    }


def tables(results: dict[str, Any]) -> dict[str, str]:
    """Everything the README states in numbers."""

    def three(values: list[float]) -> str:
        return f"{values[0]:.3f} ({values[1]:.3f} to {values[2]:.3f})"

    limit = [["temperature", "bad outcome", "good outcome", "objective"]]
    limit += [[f"{r['temperature']:g}", f"{r['bad']:.4f}", f"{r['good']:.4f}",
               f"{r['objective']:.4f}"] for r in results["limit"]]  # fmt: skip
    limit += [["0 (textbook)", "0", "2", "3.2"]]
    rows = [["", "quantity", "mean", "90 % interval (eti)", "unit"]]
    rows += [[row["group"], row["quantity"], f"{row['mean']:.4g}",
              f"{row['lower']:.4g} to {row['upper']:.4g}", row["unit"]]
             for row in results["rows"]]  # fmt: skip
    leaders = [["projects", "leader", "regret (90 % interval)", "share of the objective",
                "earns at the truth"]]  # fmt: skip
    for n, one in results["by_projects"].items():
        leaders += [[n if int(n) else "0 (prior)", name, three(row["regret"]),
                     f"{100 * row['share_of_objective']:.1f} %", f"{row['at_truth']:.3f}"]
                    for name, row in one["leaders"].items()]  # fmt: skip
    learning = [["projects", "stage 1, good outcome", "stage 2, good outcome", "objective"]]
    learning += [[n if int(n) else "0 (prior)", *map(three, one["good_payment"]),
                  three(one["best"])] for n, one in results["by_projects"].items()]  # fmt: skip
    best, studied = results["truth_best"], results["by_projects"][str(STUDIED)]["leaders"]
    told = (
        f"At the truth the best contract pays {best['payment'][0][1]:.2f} in stage 1 and "
        f"{best['payment'][1][1]:.2f} in stage 2 for the good outcome, "
        f"{best['payment'][1][0]:.2f} in stage 2 for the bad one, and earns "
        f"{best['objective']:.3f}. The leader who takes agents as rational promises itself "
        f"{studied['rational']['promised']:.3f} after {STUDIED} projects and earns "
        f"{studied['rational']['at_truth']:.3f} in truth; its contract pays "
        f"{studied['rational']['payment'][0][1]:.2f} and {studied['rational']['payment'][1][1]:.2f}"
        " for the good outcomes."
    )
    inside = [n for n, one in results["by_projects"].items()
              if one["best"][1] <= best["objective"] <= one["best"][2]]  # fmt: skip
    able = ", ".join(f"{n}: {share:.2f}" for n, share in results["able_share"].items())
    held = (
        f"The 90 % interval of the objective holds the best at the truth, "
        f"{best['objective']:.3f}, in {len(inside)} of the {len(results['by_projects'])} rows "
        f"({', '.join(inside)} "
        "projects; 0 is the prior). That is one set of simulated data, not a test of coverage. "
        f"The share of able agents happened to be, by number of projects, {able}; the true share "
        f"is {TRUTH['context_probability'][0]:g}, and able agents earn the principal more."
    )
    cost = (
        f"{results['cpu_seconds']:.0f} s of processor time ({results['seconds']:.0f} s on the "
        f"clock of a shared machine), peak memory {results['peak_memory_mb']:.0f} MB."
    )
    return {"LIMIT": markdown(limit), "ROWS": markdown(rows) + f"\n\nHealth: {results['health']}.",
            "LEADERS": markdown(leaders), "LEARNING": markdown(learning), "TOLD": told,
            "COST": cost, "HELD": held}  # fmt: skip


def main() -> None:
    """Run all parts."""
    begun = time.perf_counter()
    problem = contract_design()
    limit = textbook_limit()
    draw_limit(limit)
    true_best = best_contract(problem, TRUTH)
    found, results = {}, {}
    for num in NUM_PROJECTS:
        start = time.perf_counter()
        tree = study(problem, num)
        leaders = compare(problem, tree)
        found[num] = tell({"tree": tree, "leaders": leaders,
                           "seconds": round(time.perf_counter() - start, 1)})  # fmt: skip
        print(num, found[num], flush=True)
        if num == STUDIED:
            told = cb.summary(tree, prob=0.9)
            print(told)
            table = told.table.reset_index().replace({np.nan: None})
            results |= {"health": told.health.verdict, "rows": table.to_dict(orient="records")}
    draw_learning(found, true_best)
    results |= {
        "truth": TRUTH,
        "able_share": {
            str(num): float((trial(problem, num)["context"].values == "able").mean())
            for num in NUM_PROJECTS
            if num
        },
        "truth_best": {"payment": true_best[0].tolist(), "objective": true_best[1]},
        "limit": limit,
        "by_projects": {str(num): one for num, one in found.items()},
        "seconds": round(time.perf_counter() - begun, 1),
        "cpu_seconds": round(time.process_time(), 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    fill(HERE / "README.md", tables(results))


if __name__ == "__main__":
    main()
