"""A default policy for many tasks: what it gains on tasks seen and not seen, by temperature.

    python analyses/shared_shaping/run.py

How often each task occurs is inferred from simulated counts; the default policy is designed under
posterior draws of that law, at several temperatures and two prices of guidance, and tried on goals
that the design did not know. Leaves results.json, figures and the numbers in README.md.
"""

import json
import resource
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import cbrl_bayes as cb
from cbrl_bayes.plots.style import COLOURS
from cbrl_bayes.problems import FOUR_ROOMS_MAP
from cbrl_bayes.problems.shared_shaping import goal_tasks, shared_shaping

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from tables import fill, markdown  # noqa: E402

SEEN = ((2, 8), (5, 11), (9, 11), (11, 8), (9, 2), (2, 10))
HELD_OUT = ((1, 11), (4, 9), (8, 9), (11, 11), (11, 3), (2, 4))
"""The start is (4,1): the last held-out goal lies in its own room, where no seen goal is."""

TRUE_LAW = np.array([0.3, 0.2, 0.2, 0.15, 0.1, 0.05])
NUM_TASKS_SEEN, NUM_DRAWS = 30, 20
TEMPERATURES = (0.003, 0.01, 0.03, 0.1, 1.0)
PRICES = (0.0, 0.002)
SHOWN_TEMPERATURE = 0.03
QUICK = cb.Search(ascent=cb.Ascent(num_steps=60, learning_rate=0.3))
SETTINGS = cb.DesignSettings(
    search=cb.Search(
        ascent=cb.Ascent(num_steps=70, learning_rate=0.3), num_starts=5, start_scales=(0.5, 1.0)
    ),
    per_draw=QUICK, num_common_draws=5,
)  # fmt: skip


def interval(values: np.ndarray) -> list[float]:
    """Mean and 90 % equal-tailed interval."""
    return [float(values.mean()), *map(float, np.quantile(values, [0.05, 0.95]))]


def shown(numbers: list[float]) -> str:
    """Format mean and interval."""
    return f"{numbers[0]:.3f} ({numbers[1]:.3f} to {numbers[2]:.3f})"


def posterior_of_law() -> tuple[np.ndarray, np.ndarray]:
    """Return simulated counts of tasks, and draws from the Dirichlet posterior of their law."""
    rng = np.random.default_rng(3)
    counts = rng.multinomial(NUM_TASKS_SEEN, TRUE_LAW)
    return counts, rng.dirichlet(1.0 + counts, size=NUM_DRAWS)


class Returns:
    """Task returns under a default policy, price left out; compiled once."""

    def __init__(self, goals: tuple) -> None:
        self.problem = problem = shared_shaping(tasks=goal_tasks(goals))

        def returns(preference: jax.Array, temperature: jax.Array) -> jax.Array:
            parameters = problem.default_parameters | {"temperature": temperature}
            # log softmax of a log policy is the log policy: its preference serves as logits
            return cb.leader_outcome(problem, {"logit": preference}, parameters).by_context

        self._many = jax.jit(
            lambda preferences, temperature: jax.lax.map(
                lambda one: returns(one, temperature), preferences
            )
        )

    def of(self, preferences: np.ndarray, temperature: float) -> np.ndarray:
        """Return an array (designs, tasks)."""
        return np.asarray(self._many(jnp.asarray(preferences), temperature))


def study(price: float, temperature: float, law: np.ndarray, seen: Returns, held: Returns) -> dict:
    """Design at one temperature and price; try the designs on both sets of tasks."""
    problem = shared_shaping(tasks=goal_tasks(SEEN), temperature=temperature, guidance_price=price)
    begun = time.perf_counter()
    tree = cb.design(
        problem, {"context_probability": law}, key=jax.random.key(4), num_draws=NUM_DRAWS,
        settings=SETTINGS,
    )  # fmt: skip
    own = tree["design"]["incentive"].values[0]
    common = tree["decision"]["incentive"].sel(design="common").values
    uniform = np.zeros_like(common)
    preferences = np.concatenate([[uniform, common], own])
    on_seen, on_held = seen.of(preferences, temperature), held.of(preferences, temperature)
    by_law = np.einsum("dk,dk->d", law, on_seen[2:])
    found = {
        "seconds": round(time.perf_counter() - begun, 1),
        "uniform, seen": interval(law @ on_seen[0]),
        "common, seen": interval(law @ on_seen[1]),
        "gain, seen, common": interval(law @ (on_seen[1] - on_seen[0])),
        "gain, seen, per draw": interval(by_law - law @ on_seen[0]),
        "uniform, held out": float(on_held[0].mean()),
        "gain, held out, common": float((on_held[1] - on_held[0]).mean()),
        "gain, held out, per draw": interval((on_held[2:] - on_held[0]).mean(1)),
        "gain by held-out goal, per draw": {
            str(goal): interval(on_held[2:, i] - on_held[0, i]) for i, goal in enumerate(HELD_OUT)
        },
        "regret of the common design": interval(
            tree["decision"]["regret"].sel(design="common").values
        ),
        "ascents of the plug-in search": [
            float(f(tree["decision"]["restart_objective"].values)) for f in (np.min, np.max)
        ],
        "failed designs": int(np.isin(tree["design"]["status"].values, (2, 3)).sum()),
        "common design": common.tolist() if temperature == SHOWN_TEMPERATURE else None,
    }
    print(price, temperature, {k: v for k, v in found.items() if k != "common design"}, flush=True)
    return found


def draw_gains(results: dict) -> None:
    """Draw the gain on seen and held-out tasks by temperature."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    kinds = {
        "gain, seen, per draw": ("seen goals", "o", COLOURS["own"], 0.97),
        "gain, held out, per draw": ("held-out goals", "^", COLOURS["common"], 1.03),
    }
    for axes, price in zip(panels, PRICES, strict=True):
        for name, (label, mark, colour, shift) in kinds.items():
            mean, low, high = np.array(
                [results["studies"][f"{price}"][f"{t}"][name] for t in TEMPERATURES]
            ).T
            axes.errorbar(np.array(TEMPERATURES) * shift, mean, yerr=[mean - low, high - mean],
                          marker=mark, capsize=3, color=colour, label=label)  # fmt: skip
        axes.axhline(0.0, color="black", linewidth=0.8)
        axes.set(xscale="log", xlabel="temperature lambda (task reward per nat)",
                 title=f"price of guidance {price:g} per nat and visit")  # fmt: skip
    panels[0].set_ylabel("gain in mean task return\nover the uniform default")
    panels[0].legend()
    figure.savefig(HERE / "gain.png", dpi=130)
    plt.close(figure)


def draw_goals(results: dict) -> None:
    """Draw the gain goal by goal at one temperature."""
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for shift, price, mark, colour in ((-0.1, PRICES[0], "o", COLOURS["own"]),
                                       (0.1, PRICES[1], "^", COLOURS["common"])):  # fmt: skip
        one = results["studies"][f"{price}"][f"{SHOWN_TEMPERATURE}"]
        mean, low, high = np.array(list(one["gain by held-out goal, per draw"].values())).T
        axes.errorbar(
            np.arange(len(HELD_OUT)) + shift,
            mean,
            yerr=[mean - low, high - mean],
            fmt=mark,
            capsize=3,
            color=colour,
            label=f"price of guidance {price:g}",
        )
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(HELD_OUT)), [f"({i},{j})" for i, j in HELD_OUT])
    axes.set(xlabel="held-out goal (row,column)", ylabel="gain in task return",
             title=f"temperature {SHOWN_TEMPERATURE:g}")  # fmt: skip
    axes.legend()
    figure.savefig(HERE / "held_out_goals.png", dpi=130)
    plt.close(figure)


def draw_default(results: dict) -> None:
    """Draw where the common default policy points, and how strongly."""
    coords = goal_tasks(SEEN).state_labels.coords
    row, column = (np.array(coords[name][1]) for name in ("row", "column"))
    wall = np.array([[mark == "x" for mark in line] for line in FOUR_ROOMS_MAP.split("\n")])
    figure, panels = plt.subplots(1, 2, figsize=(10.5, 5.2), layout="constrained")
    for axes, price in zip(panels, PRICES, strict=True):
        one = results["studies"][f"{price}"][f"{SHOWN_TEMPERATURE}"]
        preference = np.array(one["common design"])
        policy = np.exp(preference) / 4
        guidance = (policy * preference).sum(1)
        image = np.full(wall.shape, np.nan)
        image[row, column] = guidance
        axes.imshow(np.where(wall, 1.0, np.nan), cmap="gray", vmin=0, vmax=2)
        colours = axes.imshow(image, cmap="cividis", vmin=0.0, vmax=np.log(4))
        across, up = policy[:, 1] - policy[:, 3], policy[:, 0] - policy[:, 2]
        axes.quiver(column, row, across, up, color="white", scale=1.2, scale_units="xy",
                    width=0.006)  # fmt: skip
        for goals, mark, label in ((SEEN, "o", "seen goal"), (HELD_OUT, "x", "held-out goal")):
            axes.scatter(*np.array(goals).T[::-1], marker=mark, s=55, color=COLOURS["common"],
                         label=label)  # fmt: skip
        axes.text(1, 4, "S", ha="center", va="center", weight="bold",
                  bbox={"facecolor": "white", "pad": 1.5, "linewidth": 0.5})  # fmt: skip
        axes.set(title=f"price of guidance {price:g}", xlabel="column", ylabel="row")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    figure.colorbar(colours, ax=panels, label="guidance: KL to uniform (nats)")
    figure.savefig(HERE / "default_policy.png", dpi=130)
    plt.close(figure)


def pages(results: dict) -> dict[str, str]:
    """Tables and sentences with numbers."""
    head = ["price", "temperature", "return, uniform default, seen", "gain on seen goals",
            "return, uniform default, held out", "gain on held-out goals",
            "regret of the common default", "plug-in ascents ended between"]  # fmt: skip
    rows = [head]
    for price, by_temperature in results["studies"].items():
        for temperature, one in by_temperature.items():
            rows.append(
                [
                    price,
                    temperature,
                    shown(one["uniform, seen"]),
                    shown(one["gain, seen, per draw"]),
                    f"{one['uniform, held out']:.3f}",
                    shown(one["gain, held out, per draw"]),
                    shown(one["regret of the common design"]),
                    "{:.3f} and {:.3f}".format(*one["ascents of the plug-in search"]),
                ]
            )
    goals = [["held-out goal", *(f"gain at price {price:g}" for price in PRICES)]]
    for goal in HELD_OUT:
        goals.append(
            [
                str(goal),
                *(
                    shown(
                        results["studies"][f"{price}"][f"{SHOWN_TEMPERATURE}"][
                            "gain by held-out goal, per draw"
                        ][str(goal)]
                    )
                    for price in PRICES
                ),
            ]
        )
    law = [["goal", "times seen", "posterior probability", "truth"]]
    for goal, count, draws, truth in zip(
        SEEN, results["counts"], results["posterior of the law"], TRUE_LAW, strict=True
    ):
        law.append([str(goal), str(count), shown(draws), f"{truth:g}"])
    return {
        "LAW": markdown(law),
        "GAINS": markdown(rows),
        "GOALS": f"At temperature {SHOWN_TEMPERATURE:g}:\n\n" + markdown(goals),
        "COST": f"{results['seconds']:.0f} s ({results['cpu_seconds']:.0f} s of CPU), "
        f"{results['peak_memory_MB']:.0f} MB at the peak.",
    }


def main() -> None:
    """Draw the law, design, try, draw, write."""
    begun = time.perf_counter()
    counts, law = posterior_of_law()
    seen, held = Returns(SEEN), Returns(HELD_OUT)
    results: dict = {
        "counts": counts.tolist(),
        "posterior of the law": [interval(column) for column in law.T],
        "studies": {
            f"{price}": {f"{t}": study(price, t, law, seen, held) for t in TEMPERATURES}
            for price in PRICES
        },
    }
    draw_gains(results)
    draw_goals(results)
    draw_default(results)
    results["seconds"] = round(time.perf_counter() - begun, 1)
    results["cpu_seconds"] = round(time.process_time(), 1)
    results["peak_memory_MB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    fill(HERE / "README.md", pages(results))


if __name__ == "__main__":
    main()
