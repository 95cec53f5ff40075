"""Contracts for agents of unknown rationality and cost: simulated trial, posterior, design.

    python analyses/contract_design/run.py

Behaviour is simulated, so the truth is known. Leaves results.json and figures beside this file
and fills the tables of README.md.
"""

import json
import sys
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
from studies import (  # noqa: E402
    LOOKS,
    PART_COLOURS,
    best_incentive,
    compare,
    cost,
    cost_text,
    health_table,
    observed,
    points,
    summary_table,
    worth,
)
from tables import fill, interval, markdown, shown  # noqa: E402

TRUTH = {"temperature": 0.3, "effort_cost": 1.1, "context_probability": (0.6, 0.4)}
PLANS = {
    "low": {"payment": [[0.2, 1.8], [0.2, 1.8]]},
    "high": {"payment": [[0.2, 3.2], [0.2, 3.2]]},
}
"""Payments by stage and outcome (bad, good) in the two arms of the trial."""

NUM_PROJECTS = (0, 6, 24, 96)
"""Projects observed; 0 means the prior alone."""

STUDIED = 24
NUM_DRAWS = 52
PRIORS = {"temperature": dist.LogNormal(np.log(0.2), 1.0), "effort_cost": dist.LogNormal(0.0, 0.5)}
"""Money: 95 % of the temperature within a factor of 7 of .2, of the cost within 2.7 of 1."""

ASCENT = cb.Ascent(num_steps=150, learning_rate=0.1, continuation=(3.0, 1.0))
SETTINGS = cb.DesignSettings(
    search=cb.Search(ascent=ASCENT, num_starts=3),
    per_draw=cb.Search(ascent=ASCENT),
    num_search_draws=NUM_DRAWS,
)
TEMPERATURES = (0.6, 0.3, 0.15, 0.08, 0.04, 0.02)
"""Where the best contract is searched with everything else at the truth."""


def trial(problem: cb.Problem, num_projects: int) -> xr.Dataset:
    """Simulate the trial, half of the projects under each plan, efforts and types recorded."""
    return observed(problem, PLANS, TRUTH, num_projects, seed=100)


def prior_draws() -> dict[str, np.ndarray]:
    """Draw parameters from the prior."""
    keys = jax.random.split(jax.random.key(7), 3)
    draws = {
        name: np.asarray(prior.sample(key, (NUM_DRAWS,)))
        for (name, prior), key in zip(PRIORS.items(), keys, strict=False)
    }
    types = dist.Dirichlet(jnp.ones(2)).sample(keys[2], (NUM_DRAWS,))
    return draws | {"context_probability": np.asarray(types)}


def study(problem: cb.Problem, num_projects: int) -> xr.DataTree:
    """Infer from so many projects (none: the prior) and design."""
    if num_projects == 0:
        given: Any = prior_draws()
    else:
        given = cb.infer(
            problem,
            trial(problem, num_projects),
            key=jax.random.key(0),
            priors=PRIORS,
            settings=cb.NUTSSettings(num_warmup=300, num_samples=300),
        )
    return cb.design(problem, given, key=jax.random.key(1), num_draws=NUM_DRAWS, settings=SETTINGS)


def free(payment: np.ndarray) -> dict[str, jax.Array]:
    """Return the free numbers of payments, the inverse of the softplus."""
    paid = jnp.maximum(jnp.asarray(payment), 1e-12)
    return {"payment": paid + jnp.log(-jnp.expm1(-paid))}


def by_temperature(problem: cb.Problem, program: SearchProgram) -> list[dict[str, Any]]:
    """Best contracts from random starts, and from the best at the temperature before."""
    rows: list[dict[str, Any]] = []
    for temperature in TEMPERATURES:
        given = TRUTH | {"temperature": temperature}
        fresh, earned = best_incentive(problem, program, given)
        start = free(np.asarray(rows[-1]["followed"]) if rows else fresh)
        alone = SearchProgram(problem, Exact(), SETTINGS.per_draw)
        followed, kept = best_incentive(problem, alone, given, start)
        rows.append(
            {
                "temperature": temperature,
                "fresh": fresh.tolist(),
                "fresh_objective": earned,
                "followed": followed.tolist(),
                "followed_objective": kept,
            }
        )
    return rows


def by_type(problem: cb.Problem, payment: np.ndarray) -> dict[str, float]:
    """Return what one contract earns with each type of agent at the truth."""
    known = {name: np.asarray([value] * 2) for name, value in TRUTH.items()}
    earned = worth(problem, free(payment), known | {"context_probability": np.eye(2)})
    return dict(zip(problem.contexts.names, earned.tolist(), strict=True))


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
        rows.append(
            {
                "temperature": temperature,
                "bad": bad,
                "good": good,
                "objective": float(best.objective),
            }
        )
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
    for stage, (colour, marker) in enumerate(zip(PART_COLOURS, "ov", strict=True)):
        rows = [one["good_payment"][stage] for one in found.values()]
        points(
            panels[0], 0.2 * stage - 0.1, rows, (colour, marker), f"stage {stage + 1}, good outcome"
        )
        panels[0].axhline(true_best[0][stage, 1], color=colour, ls="--")
    panels[0].set(ylabel="payment (money)", title="Best contract (dashed: at the truth)")
    rows = [one["best"] for one in found.values()]
    points(panels[1], 0.0, rows, LOOKS["best"], "best of each draw")
    panels[1].axhline(true_best[1], color=COLOURS["data"], ls="--", label="at the truth")
    panels[1].set(ylabel="objective (money per project)", title="What the best contract earns")
    names = {"common": "common design", "plug_in": "plug-in", "rational": "agent taken as rational"}
    for shift, (name, label) in zip((-0.15, 0.0, 0.15), names.items(), strict=True):
        rows = [one["leaders"][name]["regret"] for one in found.values()]
        points(panels[2], shift, rows, LOOKS[name], label)
    panels[2].set(ylabel="regret (money per project)", title="Lost against knowing the truth")
    for axes in panels:
        axes.set_xticks(np.arange(len(found)), [str(n) if n else "prior" for n in found])
        axes.set_xlabel("projects observed")
        axes.legend(fontsize=8)
    panels[0].set_ylim(top=1.35 * panels[0].get_ylim()[1])
    figure.savefig(HERE / "learning.png", dpi=150)


def keep(tree: xr.DataTree, leaders: dict[str, Any]) -> dict[str, Any]:
    """Keep of one study what the page needs."""
    design = tree["design"].to_dataset()
    good = design["incentive"].values[..., 1].reshape(-1, design.sizes["stage"])
    return {
        "good_payment": [interval(good[:, stage]) for stage in range(good.shape[1])],
        "best": interval(design["leader_objective"].values),
        "leaders": leaders,
    }


def told(results: dict[str, Any]) -> str:
    """Say what the leader who takes agents as rational promises itself and gets."""
    best = results["truth_best"]
    rational = results["by_projects"][str(STUDIED)]["leaders"]["rational"]
    pay = rational["incentive"]
    return (
        f"At the truth the best contract found pays {best['payment'][0][1]:.2f} in stage 1 and "
        f"{best['payment'][1][1]:.2f} in stage 2 for the good outcome, "
        f"{best['payment'][1][0]:.2f} in stage 2 for the bad one, and earns "
        f"{best['objective']:.3f}. The leader who takes agents as rational promises itself "
        f"{rational['promised']:.3f} after {STUDIED} projects and earns "
        f"{rational['at_truth']:.3f} in truth; its contract pays "
        f"{pay[0][1]:.2f} and {pay[1][1]:.2f} for the good outcomes."
    )


def held(results: dict[str, Any]) -> str:
    """Say which intervals hold the best objective at the truth, and what the types earn."""
    best = results["truth_best"]
    inside = [
        n
        for n, one in results["by_projects"].items()
        if one["best"][1] <= best["objective"] <= one["best"][2]
    ]
    share = ", ".join(f"{n}: {share:.2f}" for n, share in results["able_share"].items())
    earned = " and ".join(
        f"{value:.2f} with an agent of type {name!r}" for name, value in results["by_type"].items()
    )
    return (
        f"The 90 % interval of the objective holds the best at the truth, "
        f"{best['objective']:.3f}, in {len(inside)} of the {len(results['by_projects'])} rows "
        f"({', '.join(inside)} "
        "projects; 0 is the prior). That is one set of simulated data, not a test of coverage. "
        f"The share of able agents happened to be, by number of projects, {share}; the true share "
        f"is {TRUTH['context_probability'][0]:g}. The contract that is best at the truth earns "
        f"{earned}."
    )


def split(results: dict[str, Any]) -> str:
    """Say how little the objective depends on when the pay is given, and where a search stops."""
    row = next(r for r in results["by_temperature"] if r["temperature"] == TRUTH["temperature"])
    last = results["by_temperature"][-1]
    return (
        f"At temperature {row['temperature']:g} a contract with {row['fresh'][0][1]:.2f} and "
        f"{row['fresh'][1][1]:.2f} earns {row['fresh_objective']:.4f}, one with "
        f"{row['followed'][0][1]:.2f} and {row['followed'][1][1]:.2f} earns "
        f"{row['followed_objective']:.4f}. At {last['temperature']:g} the ascents from random "
        f"starts ended at {last['fresh_objective']:.3f}, the one from the row above at "
        f"{last['followed_objective']:.3f}."
    )


def temperature_table(results: dict[str, Any]) -> str:
    """Payments for the good outcome by temperature, from either start."""
    rows = [
        [
            "temperature",
            "random starts: stage 1",
            "stage 2",
            "objective",
            "from the row above: stage 1",
            "stage 2",
            "objective",
        ]
    ]
    for row in results["by_temperature"]:
        cells = [f"{row['temperature']:g}"]
        for name in ("fresh", "followed"):
            cells += [
                f"{row[name][0][1]:.2f}",
                f"{row[name][1][1]:.2f}",
                f"{row[f'{name}_objective']:.3f}",
            ]
        rows.append(cells)
    return markdown(rows)


def tables(results: dict[str, Any]) -> dict[str, str]:
    """Everything the README states in numbers."""
    limit = [["temperature", "bad outcome", "good outcome", "objective"]]
    limit += [
        [f"{r['temperature']:g}", f"{r['bad']:.4f}", f"{r['good']:.4f}", f"{r['objective']:.4f}"]
        for r in results["limit"]
    ]
    limit += [["0 (textbook)", "0", "2", "3.2"]]
    leaders = [
        [
            "projects",
            "leader",
            "regret (90 % interval)",
            "share of the objective",
            "earns at the truth",
        ]
    ]
    learning = [["projects", "stage 1, good outcome", "stage 2, good outcome", "objective"]]
    for n, one in results["by_projects"].items():
        name_of = n if int(n) else "0 (prior)"
        learning.append([name_of, *(shown(row, 3) for row in (*one["good_payment"], one["best"]))])
        leaders += [
            [
                name_of,
                name,
                shown(row["regret"], 3),
                f"{100 * row['share_of_objective']:.1f} %",
                f"{row['at_truth']:.3f}",
            ]
            for name, row in one["leaders"].items()
        ]
    verdicts = {n: one["health"] for n, one in results["by_projects"].items()}
    return {
        "LIMIT": markdown(limit),
        "ROWS": markdown(summary_table(results["rows"])),
        "HEALTH": markdown(health_table("projects", verdicts)),
        "LEADERS": markdown(leaders),
        "LEARNING": markdown(learning),
        "TEMPERATURES": temperature_table(results),
        "SPLIT": split(results),
        "TOLD": told(results),
        "HELD": held(results),
        "COST": cost_text(results),
    }


def main() -> None:
    """Run all parts."""
    problem = contract_design()
    limit = textbook_limit()
    draw_limit(limit)
    program = SearchProgram(problem, Exact(), SETTINGS.search)
    true_best = best_incentive(problem, program, TRUTH)
    results: dict[str, Any] = {
        "truth": TRUTH,
        "truth_best": {"payment": true_best[0].tolist(), "objective": true_best[1]},
        "by_type": by_type(problem, true_best[0]),
        "limit": limit,
        "by_temperature": by_temperature(problem, program),
        "able_share": {
            str(num): float((trial(problem, num)["context"].values == "able").mean())
            for num in NUM_PROJECTS
            if num
        },
    }
    print(results, cost(), flush=True)
    found = {}
    for num in NUM_PROJECTS:
        tree = study(problem, num)
        found[num] = keep(tree, compare(problem, tree, TRUTH, program, free))
        summary = cb.summary(tree, prob=0.9)
        found[num]["health"] = str(summary.health)
        print(num, found[num], cost(), flush=True)
        if num == STUDIED:
            table = summary.frame.reset_index().replace({np.nan: None})
            results["rows"] = table.to_dict(orient="records")
    draw_learning(found, true_best)
    results |= {"by_projects": {str(num): one for num, one in found.items()}} | cost()
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    fill(HERE / "README.md", tables(results))


if __name__ == "__main__":
    main()
