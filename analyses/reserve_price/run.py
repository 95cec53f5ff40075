"""Reserve prices for a bidder of unknown rationality: simulated auctions, posterior, design.

    python analyses/reserve_price/run.py

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
from cbrl_bayes.problems.reserve_price import reserve_price

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from tables import fill, markdown  # noqa: E402

CELLS = 8
TRUTH = {
    "temperature": 0.06,
    "participation_cost": 0.03,
    "context_probability": (0.06, 0.10, 0.16, 0.20, 0.18, 0.14, 0.10, 0.06),
}
SETTINGS = {"num_rivals": 2, "num_rounds": 2, "num_bids": 8,
            "value_probability": (1 / CELLS,) * CELLS}  # fmt: skip
REGIMES = {"low": [0.3, 0.2], "high": [0.6, 0.5]}
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
    num_common_draws=26,
)
RATIONAL = 0.01
"""Temperature that the seller assumes who takes bidders to be rational."""


def experiment(problem: cb.Problem, num_bidders: int) -> xr.Dataset:
    """Simulate bidders whose values are known to the observer, half under each regime."""
    rows: dict[str, list] = {"state": [], "action": [], "context": [], "regime": []}
    for number, (name, reserve) in enumerate(REGIMES.items()):
        arm = cb.simulate_trajectories(
            problem, key=jax.random.key(200 + number), num_episodes=num_bidders // 2,
            num_steps=problem.num_states, parameters=TRUTH, incentive={"reserve": reserve},
            regime=name,
        )  # fmt: skip
        for episode in range(num_bidders // 2):
            one = arm.isel(episode=episode)
            kept = one["state"].values >= 0
            rows["state"].append(one["state"].values[kept])
            rows["action"].append(one["action"].values[kept])
            rows["context"].append(str(one["context"].values))
            rows["regime"].append(name)
    return cb.make_trajectories(
        rows["state"], rows["action"], context=rows["context"], regime=rows["regime"],
        incentives={name: {"reserve": reserve} for name, reserve in REGIMES.items()},
    )  # fmt: skip


def study(problem: cb.Problem, num_bidders: int) -> xr.DataTree:
    """Infer from so many bidders and design."""
    fit = cb.infer(
        problem, experiment(problem, num_bidders), key=jax.random.key(0), priors=PRIORS,
        settings=cb.NUTSSettings(num_warmup=250, num_samples=300),
    )  # fmt: skip
    return cb.design(problem, fit, key=jax.random.key(1), num_draws=NUM_DRAWS, settings=DESIGN)


def best_reserve(problem: cb.Problem, parameters: Mapping[str, Any]) -> tuple[np.ndarray, float]:
    """Return the best reserve prices for known parameters and what they bring."""
    complete = problem.complete_parameters(parameters)
    program = SearchProgram(problem, Exact(), DESIGN.search)
    found = program.run(complete, key=jax.random.key(3)).best
    reserve = problem.incentive.transform(found.unconstrained)["reserve"]
    return np.asarray(reserve), float(found.objective)


def worth(problem: cb.Problem, reserve: np.ndarray, draws: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return what given reserve prices bring under each draw."""
    x = {"reserve": jnp.log(jnp.asarray(reserve)) - jnp.log1p(-jnp.asarray(reserve))}
    known = problem.default_parameters
    value = jax.jit(lambda one: cb.leader_outcome(problem, x, known | one).objective)
    return np.asarray(jax.lax.map(value, {k: jnp.asarray(v) for k, v in draws.items()}))


def interval(values: np.ndarray) -> list[float]:
    """Mean and equal-tailed 90 % interval."""
    return [float(values.mean()), *np.quantile(values, [0.05, 0.95]).tolist()]


def compare(problem: cb.Problem, tree: xr.DataTree) -> dict[str, Any]:
    """Return how three sellers fare under the draws and at the truth."""
    kept = tree["posterior"].to_dataset().sel(draw=tree["design"]["draw"].values)
    draws = {name: kept[name].values.reshape(-1, *kept[name].shape[2:]) for name in TRUTH}
    mean = {name: value.mean(0) for name, value in draws.items()}
    rational, promised = best_reserve(problem, mean | {"temperature": RATIONAL})
    decision, best = tree["decision"].to_dataset(), tree["design"]["leader_objective"].values
    designs = {
        "common": decision["incentive"].sel(design="common").values,
        "plug_in": decision["incentive"].sel(design="plug_in").values,
        "rational": rational,
    }
    truth = {name: np.asarray(value)[None] for name, value in TRUTH.items()}
    rows = {}
    for name, reserve in designs.items():
        loss = best.ravel() - worth(problem, reserve, draws)
        rows[name] = {
            "reserve": np.round(reserve, 3).tolist(),
            "regret": interval(loss),
            "share_of_objective": float(loss.mean() / best.mean()),
            "at_truth": float(worth(problem, reserve, truth)[0]),
        }
    rows["rational"]["promised"] = promised
    own = tree["design"]["incentive"].values.reshape(-1, problem.num_states - 1)
    return {
        "leaders": rows,
        "reserve": [interval(column) for column in own.T],
        "best": interval(best),
    }


def textbook_limit() -> list[dict[str, float]]:
    """One round, uniform values, no cost: best reserve price by temperature and rivals."""
    rows = []
    grid = jnp.arange(0.40, 0.905, 0.01)
    for rivals in (0, 1, 4):
        problem = reserve_price(
            num_rivals=rivals, participation_cost=0.0, value_probability=(1 / 100,) * 100,
            num_bids=None if rivals == 0 else 20,
        )  # fmt: skip

        def revenue(entry: tuple, problem: cb.Problem = problem) -> jax.Array:
            reserve, temperature = entry
            x = {"reserve": jnp.log(reserve)[None] - jnp.log1p(-reserve)[None]}
            given = problem.default_parameters | {"temperature": temperature}
            return cb.leader_outcome(problem, x, given).objective

        curve = jax.jit(lambda t, f=revenue: jax.lax.map(lambda r: f((r, t)), grid))
        for temperature in (0.1, 0.05, 0.02, 0.01, 0.005):
            found = np.asarray(curve(temperature))
            rows.append({"rivals": rivals, "temperature": temperature,
                         "reserve": float(grid[found.argmax()]),
                         "revenue": float(found.max())})  # fmt: skip
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
    looks = {"own": "o", "common": "s", "plug_in": "^"}
    place = np.arange(len(found))

    def points(axes: plt.Axes, shift: float, rows: list, colour: str, label: str) -> None:
        centre, low, high = np.transpose(rows)
        axes.errorbar(place + shift, centre, [centre - low, high - centre], fmt=looks[colour],
                      color=COLOURS[colour], capsize=3, label=label)  # fmt: skip

    for number, colour in enumerate(("own", "common")):
        rows = [one["reserve"][number] for one in found.values()]
        points(left, 0.1 * (2 * number - 1), rows, colour, f"round {number + 1}")
        left.axhline(true_best[0][number], color=COLOURS[colour], ls="--")
    left.set(ylabel="reserve price (money)", title="Best reserve (dashed: at the truth)")
    names = {"common": ("own", "common design"), "plug_in": ("common", "plug-in"),
             "rational": ("plug_in", "bidder taken as rational")}  # fmt: skip
    for shift, (name, (colour, label)) in zip((-0.1, 0.0, 0.1), names.items(), strict=True):
        rows = [one["leaders"][name]["regret"] for one in found.values()]
        points(right, shift, rows, colour, label)
    right.set(ylabel="regret (money per item)", title="Lost against knowing the truth")
    for axes in (left, right):
        axes.set_xticks(place, [str(n) for n in found])
        axes.set(xlabel="bidders observed", xlim=(-0.5, len(found) - 0.5))
        axes.legend(fontsize=8)
    figure.savefig(HERE / "design.png", dpi=150)


def tables(results: dict[str, Any]) -> dict[str, str]:
    """Everything the README states in numbers."""

    def three(values: list[float]) -> str:
        return f"{values[0]:.4f} ({values[1]:.4f} to {values[2]:.4f})"

    limit = [["rivals", "temperature", "best reserve price", "revenue", "textbook revenue"]]
    limit += [[f"{r['rivals']}", f"{r['temperature']:g}", f"{r['reserve']:.2f}",
               f"{r['revenue']:.4f}", f"{textbook_revenue(r['rivals']):.4f}"]
              for r in results["limit"]]  # fmt: skip
    rows = [["", "quantity", "mean", "90 % interval (eti)", "unit"]]
    rows += [[row["group"], row["quantity"], f"{row['mean']:.4g}",
              f"{row['lower']:.4g} to {row['upper']:.4g}", row["unit"]]
             for row in results["rows"]]  # fmt: skip
    learning = [["bidders", "reserve, round 1", "reserve, round 2", "revenue"]]
    learning += [[n, *map(three, one["reserve"]), three(one["best"])]
                 for n, one in results["by_bidders"].items()]  # fmt: skip
    leaders = [["bidders", "seller", "reserve prices", "regret (90 % interval)",
                "share of revenue", "revenue at the truth"]]  # fmt: skip
    for n, one in results["by_bidders"].items():
        leaders += [[n, name, ", ".join(f"{r:.3f}" for r in row["reserve"]), three(row["regret"]),
                     f"{100 * row['share_of_objective']:.2f} %", f"{row['at_truth']:.4f}"]
                    for name, row in one["leaders"].items()]  # fmt: skip
    best = results["truth_best"]
    told = (
        f"At the truth the best reserve prices are {best['reserve'][0]:.3f} and "
        f"{best['reserve'][1]:.3f}; they bring {best['objective']:.4f}."
    )
    for n, one in results["by_bidders"].items():
        row = one["leaders"]["rational"]
        told += (
            f" After {n} bidders the seller who takes them as rational promises itself "
            f"{row['promised']:.4f} and gets {row['at_truth']:.4f} in truth."
        )
    cost = (
        f"{results['cpu_seconds']:.0f} s of processor time ({results['seconds']:.0f} s on the "
        f"clock of a shared machine), peak memory {results['peak_memory_mb']:.0f} MB."
    )
    return {"LIMIT": markdown(limit), "ROWS": markdown(rows) + f"\n\n```\n{results['health']}\n```",
            "LEARNING": markdown(learning), "LEADERS": markdown(leaders), "TOLD": told,
            "COST": cost}  # fmt: skip


def main() -> None:
    """Run all parts."""
    begun = time.perf_counter()
    problem = reserve_price(**SETTINGS)
    limit = textbook_limit()
    draw_limit(limit)
    print(limit, time.perf_counter() - begun, flush=True)
    true_best = best_reserve(problem, TRUTH)
    print(true_best, time.perf_counter() - begun, flush=True)
    found, results = {}, {}
    for num in NUM_BIDDERS:
        tree = study(problem, num)
        found[num] = compare(problem, tree)
        print(num, found[num], time.perf_counter() - begun, flush=True)
        told = cb.summary(tree, prob=0.9)
        print(told, flush=True)
    draw_design(found, true_best)
    table = told.table.reset_index().replace({np.nan: None})
    results |= {
        "health": str(told.health),
        "rows": table.to_dict(orient="records"),
        "truth": TRUTH,
        "truth_best": {"reserve": true_best[0].tolist(), "objective": true_best[1]},
        "limit": limit,
        "by_bidders": {str(num): one for num, one in found.items()},
        "seconds": round(time.perf_counter() - begun, 1),
        "cpu_seconds": round(time.process_time(), 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    fill(HERE / "README.md", tables(results))


if __name__ == "__main__":
    main()
