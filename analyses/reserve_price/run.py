"""Reserve prices for a bidder of unknown rationality: simulated auctions, posterior, design.

    python analyses/reserve_price/run.py

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
from cbrl_bayes.problems.reserve_price import reserve_price

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from studies import (  # noqa: E402
    LOOKS,
    PART_COLOURS,
    best_incentive,
    compare,
    cost,
    cost_text,
    draws_of,
    health_table,
    observed,
    points,
    summary_table,
)
from tables import fill, interval, markdown, shown  # noqa: E402

CELLS = 8
TRUTH = {
    "temperature": 0.06,
    "participation_cost": 0.03,
    "context_probability": (0.06, 0.10, 0.16, 0.20, 0.18, 0.14, 0.10, 0.06),
}
SETTINGS = {
    "num_rivals": 2,
    "num_rounds": 2,
    "num_bids": 8,
    "value_probability": (1 / CELLS,) * CELLS,
}
REGIMES = {"low": {"reserve": [0.3, 0.2]}, "high": {"reserve": [0.6, 0.5]}}
"""Reserve prices of both rounds in the two arms."""

NUM_BIDDERS = (16, 160)
NUM_DRAWS = 52
PRIORS = {
    "temperature": dist.LogNormal(np.log(0.05), 1.0),
    "participation_cost": dist.LogNormal(np.log(0.02), 1.0),
}
"""Money, the highest value being 1; 95 % within a factor of 7 of the median."""

ASCENT = cb.Ascent(num_steps=120, learning_rate=0.15)
DESIGN = cb.DesignSettings(
    search=cb.Search(ascent=ASCENT, num_starts=3),
    per_draw=cb.Search(ascent=ASCENT),
    num_search_draws=NUM_DRAWS,
)


def bidders(problem: cb.Problem, num_bidders: int) -> xr.Dataset:
    """Simulate bidders whose values are known to the observer, half under each regime."""
    return observed(problem, REGIMES, TRUTH, num_bidders, seed=200)


def study(problem: cb.Problem, num_bidders: int) -> xr.DataTree:
    """Infer from so many bidders and design."""
    fit = cb.infer(
        problem,
        bidders(problem, num_bidders),
        key=jax.random.key(0),
        priors=PRIORS,
        settings=cb.NUTSSettings(num_warmup=250, num_samples=300),
    )
    return cb.design(problem, fit, key=jax.random.key(1), num_draws=NUM_DRAWS, settings=DESIGN)


def free(reserve: Any) -> dict[str, jax.Array]:
    """Return the free numbers of reserve prices, the inverse of the logistic function."""
    return {"reserve": jnp.log(jnp.asarray(reserve)) - jnp.log1p(-jnp.asarray(reserve))}


def sources(
    problem: cb.Problem, tree: xr.DataTree, program: SearchProgram, data: xr.Dataset
) -> dict[str, float]:
    """Return what the best reserve prices bring if either the law or the bidder is as estimated."""
    mean = {name: draws.mean(0) for name, draws in draws_of(tree, TRUTH).items()}
    law = {"context_probability": mean.pop("context_probability")}
    values = np.asarray(problem.contexts.values)
    seen = [values[problem.contexts.names.index(str(name))] for name in data["context"].values]
    return {
        "law_estimated": best_incentive(problem, program, TRUTH | law)[1],
        "bidder_estimated": best_incentive(problem, program, TRUTH | mean)[1],
        "both_estimated": best_incentive(problem, program, TRUTH | law | mean)[1],
        "observed_value": float(np.mean(seen)),
        "estimated_value": float(law["context_probability"] @ values),
        "true_value": float(np.asarray(TRUTH["context_probability"]) @ values),
    }


def textbook_limit() -> list[dict[str, float]]:
    """One round, uniform values, no cost: best reserve price by temperature and rivals."""
    rows = []
    grid = jnp.arange(0.40, 0.905, 0.01)
    for rivals in (0, 1, 4):
        problem = reserve_price(
            num_rivals=rivals,
            participation_cost=0.0,
            value_probability=(1 / 100,) * 100,
            num_bids=None if rivals == 0 else 20,
        )

        def revenue(entry: tuple, problem: cb.Problem = problem) -> jax.Array:
            reserve, temperature = entry
            given = problem.default_parameters | {"temperature": temperature}
            return cb.leader_outcome(problem, free(reserve[None]), given).objective

        curve = jax.jit(lambda t, f=revenue: jax.lax.map(lambda r: f((r, t)), grid))
        for temperature in (0.1, 0.05, 0.02, 0.01, 0.005):
            found = np.asarray(curve(temperature))
            rows.append(
                {
                    "rivals": rivals,
                    "temperature": temperature,
                    "reserve": float(grid[found.argmax()]),
                    "revenue": float(found.max()),
                }
            )
    return rows


def textbook_revenue(rivals: int) -> float:
    """Revenue of n uniform bidders with reserve 1/2: the integral of 2v - 1 over dF^n."""
    n = rivals + 1
    return 2 * n / (n + 1) * (1 - 0.5 ** (n + 1)) - (1 - 0.5**n)


def draw_limit(rows: list[dict[str, float]]) -> None:
    """Best reserve price and revenue less the textbook's, by temperature."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.3), layout="constrained")
    looks = {0: ("own", "o"), 1: ("common", "s"), 4: ("plug_in", "^")}
    for rivals, (colour, marker) in looks.items():
        here = [row for row in rows if row["rivals"] == rivals]
        at = [row["temperature"] for row in here]
        label = "no rival" if rivals == 0 else f"{rivals} rival" + "s" * (rivals > 1)
        style = {"color": COLOURS[colour], "marker": marker, "label": label}
        left.plot(at, [row["reserve"] for row in here], **style)
        right.plot(at, [row["revenue"] - textbook_revenue(rivals) for row in here], **style)
    left.axhline(0.5, color=COLOURS["data"], ls="--", label="textbook")
    right.axhline(0.0, color=COLOURS["data"], ls="--", label="textbook")
    left.set(ylabel="best reserve price (money)")
    right.set(ylabel="revenue less the textbook's (money)")
    for axes in (left, right):
        axes.set(xlabel="temperature (money)", xscale="log")
        axes.legend()
    figure.savefig(HERE / "limit.png", dpi=150)


def draw_design(found: dict[int, dict], true_best: tuple[np.ndarray, float]) -> None:
    """Best reserve prices and regrets, with their intervals."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.4), layout="constrained")
    for number, (colour, marker) in enumerate(zip(PART_COLOURS, "ov", strict=True)):
        rows = [one["reserve"][number] for one in found.values()]
        points(left, 0.1 * (2 * number - 1), rows, (colour, marker), f"round {number + 1}")
        left.axhline(true_best[0][number], color=colour, ls="--")
    left.set(ylabel="reserve price (money)", title="Best reserve (dashed: at the truth)")
    names = {
        "common": "common design",
        "plug_in": "plug-in",
        "rational": "bidder taken as rational",
    }
    for shift, (name, label) in zip((-0.1, 0.0, 0.1), names.items(), strict=True):
        rows = [one["leaders"][name]["regret"] for one in found.values()]
        points(right, shift, rows, LOOKS[name], label)
    right.set(ylabel="regret (money per item)", title="Lost against knowing the truth")
    for axes in (left, right):
        axes.set_xticks(np.arange(len(found)), [str(n) for n in found])
        axes.set(xlabel="bidders observed", xlim=(-0.5, len(found) - 0.5))
        axes.legend(fontsize=8)
    figure.savefig(HERE / "design.png", dpi=150)


def told(results: dict[str, Any]) -> dict[str, str]:
    """Sentences of the README with numbers in them, and where revenue comes from."""
    best = results["truth_best"]
    text = (
        f"At the truth the best reserve prices are {best['reserve'][0]:.3f} and "
        f"{best['reserve'][1]:.3f}; they bring {best['objective']:.4f}."
    )
    lines, mean = [], 0.0
    for n, one in results["by_bidders"].items():
        row, found = one["leaders"]["rational"], one["sources"]
        mean = found["true_value"]
        text += (
            f" After {n} bidders the seller who takes them as rational promises itself "
            f"{row['promised']:.4f} and gets {row['at_truth']:.4f} in truth."
        )
        lines.append(
            [
                n,
                f"{found['observed_value']:.3f}",
                f"{found['estimated_value']:.3f}",
                f"{found['law_estimated']:.4f}",
                f"{found['bidder_estimated']:.4f}",
                f"{found['both_estimated']:.4f}",
            ]
        )
    head = [
        "bidders",
        "mean value observed",
        "mean value, estimated law",
        "revenue: law estimated, bidder true",
        "law true, bidder estimated",
        "both estimated",
    ]
    truth = ["truth", "", f"{mean:.3f}", *[f"{best['objective']:.4f}"] * 3]
    held = [
        n
        for n, one in results["by_bidders"].items()
        if one["best"][1] <= best["objective"] <= one["best"][2]
    ]
    text += (
        f" The 90 % interval of the revenue holds {best['objective']:.4f} in {len(held)} of the "
        f"{len(lines)} rows above" + (f" ({', '.join(held)} bidders)." if held else ".")
    )
    draws = f"The common design is searched over all {NUM_DRAWS} draws designed for."
    return {"TOLD": text, "SOURCES": markdown([head, *lines, truth]), "COMMON": draws}


def tables(results: dict[str, Any]) -> dict[str, str]:
    """Everything the README states in numbers."""
    limit = [["rivals", "temperature", "best reserve price", "revenue", "textbook revenue"]]
    limit += [
        [
            f"{r['rivals']}",
            f"{r['temperature']:g}",
            f"{r['reserve']:.2f}",
            f"{r['revenue']:.4f}",
            f"{textbook_revenue(r['rivals']):.4f}",
        ]
        for r in results["limit"]
    ]
    learning = [["bidders", "reserve, round 1", "reserve, round 2", "revenue"]]
    leaders = [
        [
            "bidders",
            "seller",
            "reserve prices",
            "regret (90 % interval)",
            "share of revenue",
            "revenue at the truth",
        ]
    ]
    for n, one in results["by_bidders"].items():
        learning.append([n, *(shown(row, 4) for row in (*one["reserve"], one["best"]))])
        leaders += [
            [
                n,
                name,
                ", ".join(f"{r:.3f}" for r in row["incentive"]),
                shown(row["regret"], 5),
                f"{100 * row['share_of_objective']:.2f} %",
                f"{row['at_truth']:.4f}",
            ]
            for name, row in one["leaders"].items()
        ]
    verdicts = {n: one["health"] for n, one in results["by_bidders"].items()}
    return {
        "LIMIT": markdown(limit),
        "ROWS": markdown(summary_table(results["rows"])),
        "HEALTH": markdown(health_table("bidders", verdicts)),
        "LEARNING": markdown(learning),
        "LEADERS": markdown(leaders),
        "COST": cost_text(results),
    } | told(results)


def main() -> None:
    """Run all parts."""
    problem = reserve_price(**SETTINGS)
    limit = textbook_limit()
    draw_limit(limit)
    program = SearchProgram(problem, Exact(), DESIGN.search)
    true_best = best_incentive(problem, program, TRUTH)
    print(true_best, cost(), flush=True)
    found = {}
    for num in NUM_BIDDERS:
        tree = study(problem, num)
        own = tree["design"]["incentive"].values.reshape(-1, problem.num_states - 1)
        found[num] = {
            "leaders": compare(problem, tree, TRUTH, program, free),
            "reserve": [interval(column) for column in own.T],
            "best": interval(tree["design"]["leader_objective"].values),
            "sources": sources(problem, tree, program, bidders(problem, num)),
        }
        summary = cb.summary(tree, prob=0.9)
        found[num]["health"] = str(summary.health)
        print(num, found[num], summary, cost(), flush=True)
    draw_design(found, true_best)
    results = {
        "rows": summary.frame.reset_index().replace({np.nan: None}).to_dict(orient="records"),
        "truth": TRUTH,
        "truth_best": {"reserve": true_best[0].tolist(), "objective": true_best[1]},
        "limit": limit,
        "by_bidders": {str(num): one for num, one in found.items()},
    } | cost()
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    fill(HERE / "README.md", tables(results))


if __name__ == "__main__":
    main()
