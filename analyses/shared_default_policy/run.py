"""A default policy for many tasks: what it gains on tasks seen and not seen, by temperature.

    python analyses/shared_default_policy/run.py

How often each task occurs is inferred from simulated counts; the default policy is designed under
posterior draws of that law, at several temperatures and two prices of guidance, and tried on goals
that the design did not know. Leaves results.json, figures and the numbers in README.md.
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import cbrl_bayes as cb
from cbrl_bayes.plots.style import COLOURS
from cbrl_bayes.problems.shared_default_policy import goal_tasks, shared_default_policy

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from rooms import draw_walls, on_map  # noqa: E402
from studies import cost, cost_text  # noqa: E402
from tables import fill, interval, markdown, shown  # noqa: E402

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
    per_draw=QUICK,
    num_search_draws=5,
)


def posterior_of_law() -> tuple[np.ndarray, np.ndarray]:
    """Return simulated counts of tasks, and draws from the Dirichlet posterior of their law."""
    rng = np.random.default_rng(3)
    counts = rng.multinomial(NUM_TASKS_SEEN, TRUE_LAW)
    return counts, rng.dirichlet(1.0 + counts, size=NUM_DRAWS)


class Returns:
    """Task returns under a default policy, price left out; compiled once."""

    def __init__(self, goals: tuple) -> None:
        self.problem = problem = shared_default_policy(tasks=goal_tasks(goals))

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
    problem = shared_default_policy(
        tasks=goal_tasks(SEEN), temperature=temperature, guidance_price=price
    )
    tree = cb.design(
        problem,
        {"context_probability": law},
        key=jax.random.key(4),
        num_draws=NUM_DRAWS,
        settings=SETTINGS,
    )
    own = tree["design"]["incentive"].values[0]
    common = tree["decision"]["incentive"].sel(design="common").values
    uniform = np.zeros_like(common)
    preferences = np.concatenate([[uniform, common], own])
    on_seen, on_held = seen.of(preferences, temperature), held.of(preferences, temperature)
    by_law = np.einsum("dk,dk->d", law, on_seen[2:])
    found = {
        "health": str(cb.summary(tree, prob=0.9).health),
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
            axes.errorbar(
                np.array(TEMPERATURES) * shift,
                mean,
                yerr=[mean - low, high - mean],
                marker=mark,
                capsize=3,
                color=colour,
                label=label,
            )
        axes.axhline(0.0, color="black", linewidth=0.8)
        axes.set(
            xscale="log",
            xlabel="temperature lambda (task reward per nat)",
            title=f"price of guidance {price:g} per nat and visit",
        )
    panels[0].set_ylabel("gain in mean task return\nover the uniform default")
    panels[0].legend()
    figure.savefig(HERE / "gain.png", dpi=130)
    plt.close(figure)


def draw_goals(results: dict) -> None:
    """Draw the gain goal by goal at one temperature."""
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for shift, price, mark, colour in (
        (-0.1, PRICES[0], "o", COLOURS["own"]),
        (0.1, PRICES[1], "^", COLOURS["common"]),
    ):
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
    axes.set(
        xlabel="held-out goal (row,column)",
        ylabel="gain in task return",
        title=f"temperature {SHOWN_TEMPERATURE:g}",
    )
    axes.legend()
    figure.savefig(HERE / "held_out_goals.png", dpi=130)
    plt.close(figure)


def draw_default(results: dict) -> None:
    """Draw where the common default policy points, and how strongly."""
    problem = shared_default_policy(tasks=goal_tasks(SEEN))
    row, column = (np.array(problem.state_labels.coords[name][1]) for name in ("row", "column"))
    figure, panels = plt.subplots(1, 2, figsize=(10.5, 5.2), layout="constrained")
    for axes, price in zip(panels, PRICES, strict=True):
        one = results["studies"][f"{price}"][f"{SHOWN_TEMPERATURE}"]
        preference = np.array(one["common design"])
        policy = np.exp(preference) / 4
        guidance = (policy * preference).sum(1)
        draw_walls(axes)
        colours = axes.imshow(on_map(problem, guidance), cmap="cividis", vmin=0.0, vmax=np.log(4))
        across, up = policy[:, 1] - policy[:, 3], policy[:, 0] - policy[:, 2]
        axes.quiver(
            column, row, across, up, color="white", scale=1.2, scale_units="xy", width=0.006
        )
        for goals, mark, label in ((SEEN, "o", "seen goal"), (HELD_OUT, "x", "held-out goal")):
            axes.scatter(
                *np.array(goals).T[::-1], marker=mark, s=55, color=COLOURS["common"], label=label
            )
        axes.text(
            1,
            4,
            "S",
            ha="center",
            va="center",
            weight="bold",
            bbox={"facecolor": "white", "pad": 1.5, "linewidth": 0.5},
        )
        axes.set(title=f"price of guidance {price:g}")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    figure.colorbar(colours, ax=panels, label="guidance: KL to uniform (nats)")
    figure.savefig(HERE / "default_policy.png", dpi=130)
    plt.close(figure)


def price_table(results: dict) -> str:
    """Say what the price of guidance changes, and which held-out goals lose all the same."""
    without, priced = (results["studies"][f"{price}"] for price in PRICES)
    told: dict[str, list[str]] = {"loss": [], "not told from zero": [], "gain": []}
    seen, held = "gain, seen, per draw", "gain, held out, per draw"
    rows = [
        [
            "temperature",
            "held-out goals, no price",
            "held-out goals, priced",
            "gain on seen goals given up",
            "held-out goals with a loss, no price",
            "with a loss, priced",
        ]
    ]
    for temperature in TEMPERATURES:
        before, after = without[f"{temperature}"], priced[f"{temperature}"]
        losing = [
            ", ".join(
                goal.replace(" ", "")
                for goal, gain in one["gain by held-out goal, per draw"].items()
                if gain[2] < 0
            )
            or "none"
            for one in (before, after)
        ]
        given_up = 1.0 - after[seen][0] / before[seen][0]
        told[verdict(before[held])].append(f"{temperature:g} ({100 * given_up:.0f} %)")
        rows.append(
            [
                f"{temperature:g}",
                verdict(before[held]),
                verdict(after[held]),
                f"{100 * given_up:.0f} %",
                *losing,
            ]
        )
    sentences = [
        f"{words} at temperature {', '.join(told[name])}."
        for name, words in {
            "loss": "Without a price, a clear average loss on the held-out goals",
            "not told from zero": "An average that cannot be told from zero",
            "gain": "An average gain even without a price",
        }.items()
        if told[name]
    ]
    sentences.append("In brackets the share of the gain on the seen goals that the price costs.")
    return markdown(rows) + "\n\n" + " ".join(sentences)


def verdict(gain: list[float]) -> str:
    """Say on which side of zero the interval lies."""
    if gain[2] < 0:
        return "loss"
    return "gain" if gain[1] > 0 else "not told from zero"


def guidance_text(results: dict) -> str:
    """Mean guidance over the cells, common designs."""
    means = []
    for price in PRICES:
        one = results["studies"][f"{price}"][f"{SHOWN_TEMPERATURE}"]
        preference = np.array(one["common design"])
        guidance = (np.exp(preference) / 4 * preference).sum(1).mean()
        means.append(f"{guidance:.2f} nats at price {price:g}")
    return (
        f"Guidance of the common default at temperature {SHOWN_TEMPERATURE:g}, mean over all "
        f"cells: {means[0]}, {means[1]} (log 4 = {np.log(4):.2f} is certainty)."
    )


def health_text(results: dict) -> str:
    """Say what the package's own rules say of the designs."""
    reasons: dict[str, list[str]] = {}
    for price, by_temperature in results["studies"].items():
        for temperature, one in by_temperature.items():
            for line in one["health"].splitlines()[1:]:
                reasons.setdefault(line.strip(), []).append(f"{temperature} at price {price}")
    first = {
        one["health"].splitlines()[0].removeprefix("health: ")
        for by_temperature in results["studies"].values()
        for one in by_temperature.values()
    }
    total = len(PRICES) * len(TEMPERATURES)
    return "\n".join(
        [
            f"{NUM_DRAWS} posterior draws of the law; each common default is optimised over "
            f"{SETTINGS.num_search_draws} of them and judged under all. The package's verdicts on "
            f"the {total} designs: {', '.join(sorted(first))}. Reasons (temperature at price):",
            "",
            *(
                f"- {reason}: {'all' if len(where) == total else '; '.join(where)}."
                for reason, where in reasons.items()
            ),
        ]
    )


def pages(results: dict) -> dict[str, str]:
    """Tables and sentences with numbers."""
    head = [
        "price",
        "temperature",
        "return, uniform default, seen",
        "gain on seen goals",
        "return, uniform default, held out",
        "gain on held-out goals",
        "regret of the common default",
        "plug-in ascents ended between",
    ]
    rows = [head]
    for price, by_temperature in results["studies"].items():
        for temperature, one in by_temperature.items():
            rows.append(
                [
                    price,
                    temperature,
                    shown(one["uniform, seen"], 3),
                    shown(one["gain, seen, per draw"], 3),
                    f"{one['uniform, held out']:.3f}",
                    shown(one["gain, held out, per draw"], 3),
                    shown(one["regret of the common design"], 3),
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
                        ][str(goal)],
                        3,
                    )
                    for price in PRICES
                ),
            ]
        )
    law = [["goal", "times seen", "posterior probability", "truth"]]
    for goal, count, draws, truth in zip(
        SEEN, results["counts"], results["posterior of the law"], TRUE_LAW, strict=True
    ):
        law.append([str(goal), str(count), shown(draws, 3), f"{truth:g}"])
    return {
        "LAW": markdown(law),
        "GAINS": markdown(rows),
        "GOALS": f"At temperature {SHOWN_TEMPERATURE:g}:\n\n" + markdown(goals),
        "PRICE": price_table(results),
        "GUIDANCE": guidance_text(results),
        "HEALTH": health_text(results),
        "COST": cost_text(results),
    }


def main() -> None:
    """Draw the law, design, try, draw, write."""
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
    results |= cost()
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    fill(HERE / "README.md", pages(results))


if __name__ == "__main__":
    main()
