"""Which doors to open, under uncertainty about those who walk through them.

    python analyses/four_rooms_doors/run.py

Walkers are simulated with all doors open; their temperature and how often each goal occurs are
inferred; then doors are designed for two leaders and compared with all 16 configurations of open
and closed doors. Leaves results.json, figures and the figures' numbers in README.md.
"""

import itertools
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import cbrl_bayes as cb
from cbrl_bayes.hypergradients import AscentProgram, Exact
from cbrl_bayes.mdp import occupancy
from cbrl_bayes.plots.style import COLOURS
from cbrl_bayes.problems import respond
from cbrl_bayes.problems.four_rooms_doors import FOUR_ROOMS_DOORS, four_rooms_doors

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from rooms import draw_walls, on_map  # noqa: E402
from studies import cost, cost_text  # noqa: E402
from tables import fill, interval, markdown, shown  # noqa: E402

TRUE_TEMPERATURE, TRUE_LAW = 0.004, (0.35, 0.65)
NUM_WALKERS, NUM_STEPS, NUM_DRAWS = 15, 100, 52
LEADERS = {"arrival": four_rooms_doors(), "target": four_rooms_doors(target_weight=1.0)}
"""Both pay .0005 per step and open door; the second also earns 1 per step in cell (8,4)."""

SETTINGS = cb.DesignSettings(
    search=cb.Search(
        ascent=cb.Ascent(num_steps=150, learning_rate=0.3),
        num_starts=6,
        start_scales=(2.0, 4.0),
        num_candidates=64,
    ),
    per_draw=cb.Search(
        ascent=cb.Ascent(num_steps=80, learning_rate=0.3), num_starts=2, start_scales=(2.0,)
    ),
    num_search_draws=10,
)
ABOVE = "share of draws where the common design is above every configuration"
CORNERS = np.array(list(itertools.product((0.0, 1.0), repeat=len(FOUR_ROOMS_DOORS))))


def configuration(corner: np.ndarray) -> str:
    """Name the open doors."""
    names = [name for name, is_open in zip(FOUR_ROOMS_DOORS, corner, strict=True) if is_open]
    return ", ".join(names) or "none"


def observe() -> tuple[cb.Problem, object, dict]:
    """Simulate walkers with all doors open and infer what moves them."""
    problem = LEADERS["arrival"]
    data = cb.simulate_trajectories(
        problem,
        key=jax.random.key(10),
        num_episodes=NUM_WALKERS,
        num_steps=NUM_STEPS,
        parameters={"temperature": TRUE_TEMPERATURE, "context_probability": TRUE_LAW},
        incentive={"openness": np.ones(len(FOUR_ROOMS_DOORS))},
        regime="all open",
    )
    fit = cb.infer(
        problem,
        data,
        key=jax.random.key(11),
        settings=cb.NUTSSettings(num_chains=4, num_warmup=400, num_samples=400),
    )
    posterior = fit["posterior"]
    found = {
        "temperature": interval(posterior["temperature"].values),
        "first goal": interval(posterior["context_probability"].values[..., 0]),
        "steps seen": int((data["action"].values >= 0).sum()),
    }
    return problem, fit, found


def designed_draws(tree: object) -> dict[str, np.ndarray]:
    """Return the draws under which designs were made, one row each."""
    draws = tree["posterior"].sel(draw=tree["design"]["draw"])
    return {
        name: draws[name].values.reshape(-1, *draws[name].shape[2:])
        for name in ("temperature", "context_probability")
    }


def spread_by_source(problem: cb.Problem, tree: object) -> dict[str, float]:
    """Return standard deviations of the common design's objective, by what varies."""
    draws = designed_draws(tree)
    openness = tree["decision"]["incentive"].sel(design="common").values
    x = {"openness_logit": jnp.log(openness) - jnp.log1p(-openness)}

    def returns(temperature: jax.Array) -> jax.Array:
        parameters = problem.default_parameters | {"temperature": temperature}
        return cb.leader_outcome(problem, x, parameters).by_context

    temperature, law = draws["temperature"], draws["context_probability"]
    by_goal = np.asarray(
        jax.jit(lambda many: jax.lax.map(returns, many))(
            jnp.append(jnp.asarray(temperature), temperature.mean())
        )
    )
    return {
        "both": float((law * by_goal[:-1]).sum(1).std()),
        "only the law of goals": float((law @ by_goal[-1]).std()),
        "only the temperature": float((by_goal[:-1] @ law.mean(0)).std()),
    }


def ascent_from_the_middle(problem: cb.Problem, tree: object) -> dict[str, float]:
    """At the mean of the draws: where one ascent from the middle ends; the best configuration."""
    mean = {name: jnp.asarray(v.mean(0)) for name, v in designed_draws(tree).items()}
    parameters = problem.complete_parameters(mean)
    program = AscentProgram(problem, Exact(), SETTINGS.search.ascent)
    found = program.run(parameters, key=jax.random.key(0), start=problem.incentive.initial)
    logits = jnp.log(CORNERS) - jnp.log1p(-CORNERS)
    worth = jax.jit(
        lambda many: jax.lax.map(
            lambda x: cb.leader_outcome(problem, {"openness_logit": x}, parameters).objective, many
        )
    )
    return {"ascent": float(found.objective), "best configuration": float(worth(logits).max())}


def corners_under_draws(problem: cb.Problem, tree: object) -> np.ndarray:
    """Objective of every configuration under every designed draw, shape (draws, 16)."""
    parameters = {name: jnp.asarray(values) for name, values in designed_draws(tree).items()}
    logits = jnp.log(CORNERS) - jnp.log1p(-CORNERS)

    def worth(one: dict) -> jax.Array:
        complete = problem.default_parameters | one
        return jax.lax.map(
            lambda x: cb.leader_outcome(problem, {"openness_logit": x}, complete).objective, logits
        )

    return np.asarray(jax.jit(lambda sampled: jax.lax.map(worth, sampled))(parameters))


def study(name: str, fit: object) -> tuple[dict, dict]:
    """Design for one leader; compare with the configurations draw by draw."""
    problem = LEADERS[name]
    tree = cb.design(problem, fit, key=jax.random.key(12), num_draws=NUM_DRAWS, settings=SETTINGS)
    summary = cb.summary(tree, prob=0.9)
    print(summary, flush=True)
    corners = corners_under_draws(problem, tree)
    own = tree["design"]["leader_objective"].values.ravel()
    decision = tree["decision"]
    common = decision["objective"].sel(design="common").values.ravel()
    best = int(corners.mean(0).argmax())
    order = np.argsort(-corners.mean(0))
    results = {
        "health": str(summary.health),
        "ascents of the plug-in search": sorted(
            map(float, decision["restart_objective"].values.ravel())
        ),
        "ascent from the middle": ascent_from_the_middle(problem, tree),
        "standard deviation of the common design's objective": spread_by_source(problem, tree),
        "correlation of top door and first goal": float(
            np.corrcoef(
                tree["design"]["incentive"].sel(door="top").values.ravel(),
                designed_draws(tree)["context_probability"][:, 0],
            )[0, 1]
        )
        if name == "arrival"
        else None,
        "openness per draw": {
            door: interval(tree["design"]["incentive"].sel(door=door).values.ravel())
            for door in FOUR_ROOMS_DOORS
        },
        "openness of the common design": {
            door: float(decision["incentive"].sel(design="common", door=door))
            for door in FOUR_ROOMS_DOORS
        },
        "objective of each draw's design": interval(own),
        "objective of the common design": interval(common),
        "regret of the common design": interval(own - common),
        "best configuration": configuration(CORNERS[best]),
        "objective of the best configuration": interval(corners[:, best]),
        "common less best configuration": interval(common - corners[:, best]),
        ABOVE: float((common > corners.max(1)).mean()),
        "smallest own less best corner": float((own - corners.max(1)).min()),
        "configurations": {
            configuration(CORNERS[i]): {
                "objective": interval(corners[:, i]),
                "share of draws where best": float((corners.argmax(1) == i).mean()),
            }
            for i in order
        },
    }
    return results, {"tree": tree, "corners": corners[:, order], "order": order, "common": common}


def draw_objectives(raw: dict[str, dict]) -> None:
    """Draw all configurations and the relaxed common design, with intervals."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    for axes, (name, one) in zip(panels, raw.items(), strict=True):
        names = [configuration(CORNERS[i]) for i in one["order"]]
        low, middle, high = np.quantile(one["corners"], [0.05, 0.5, 0.95], axis=0)
        place = np.arange(len(names))
        axes.errorbar(
            middle,
            place,
            xerr=[middle - low, high - middle],
            fmt="s",
            capsize=2,
            color=COLOURS["own"],
            label="open or closed doors",
        )
        low, middle, high = np.quantile(one["common"], [0.05, 0.5, 0.95])
        axes.axvspan(low, high, color=COLOURS["common"], alpha=0.2, linewidth=0)
        axes.axvline(middle, color=COLOURS["common"], label="relaxed doors, common design")
        axes.set_yticks(place, names, fontsize="small")
        axes.invert_yaxis()
        axes.set(xlabel="leader's objective (discounted arrivals)", title=f"leader: {name}")
        axes.legend(fontsize="small", loc="upper left")
    panels[0].set_ylabel("open doors")
    figure.savefig(HERE / "configurations.png", dpi=130)
    plt.close(figure)


def draw_openness(raw: dict[str, dict]) -> None:
    """Draw how far each door is opened."""
    figure, axes = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
    styles = {"arrival": ("o", COLOURS["own"]), "target": ("^", COLOURS["common"])}
    for shift, (name, one) in zip((-0.12, 0.12), raw.items(), strict=True):
        draws = one["tree"]["design"]["incentive"].values.reshape(-1, len(FOUR_ROOMS_DOORS))
        low, middle, high = np.quantile(draws, [0.05, 0.5, 0.95], axis=0)
        mark, colour = styles[name]
        place = np.arange(len(FOUR_ROOMS_DOORS)) + shift
        axes.errorbar(
            place,
            middle,
            yerr=[middle - low, high - middle],
            fmt=mark,
            capsize=3,
            color=colour,
            label=f"leader: {name}, best per draw",
        )
        common = one["tree"]["decision"]["incentive"].sel(design="common").values
        axes.scatter(
            place, common, marker="_", s=350, color=colour, label=f"leader: {name}, common design"
        )
    axes.set_xticks(range(len(FOUR_ROOMS_DOORS)), list(FOUR_ROOMS_DOORS))
    axes.set(xlabel="door", ylabel="openness (probability)", ylim=(-0.04, 1.04))
    figure.legend(fontsize="small", loc="outside upper center", ncols=2)
    figure.savefig(HERE / "openness.png", dpi=130)
    plt.close(figure)


def draw_building(raw: dict[str, dict], parameters: dict) -> None:
    """Draw where walkers spend their time with all doors open and under the designs."""
    problem = LEADERS["target"]
    openings = {"all doors open": np.ones(4)} | {
        f"common design, leader: {name}": one["tree"]["decision"]["incentive"]
        .sel(design="common")
        .values
        for name, one in raw.items()
    }
    figure, panels = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    for axes, (title, openness) in zip(panels, openings.items(), strict=True):
        visits = 0.0
        for goal, weight in zip(problem.contexts.values, TRUE_LAW, strict=True):
            mdp, response = respond(problem, {"openness": jnp.asarray(openness)}, goal, parameters)
            visits += weight * np.asarray(occupancy(mdp, response.policy).sum(1))
        draw_walls(axes)
        shown_image = axes.imshow(
            on_map(problem, np.maximum(visits, 1e-3)),
            cmap="cividis",
            norm="log",
            vmin=1e-2,
            vmax=10,
        )
        for (i, j), degree in zip(FOUR_ROOMS_DOORS.values(), openness, strict=True):
            axes.text(
                j,
                i,
                f"{degree:.2f}",
                ha="center",
                va="center",
                fontsize=8,
                bbox={"facecolor": "white", "pad": 1.5, "linewidth": 0.5},
            )
        for (i, j), mark in (((4, 1), "S"), ((1, 9), "G"), ((11, 11), "G"), ((8, 4), "T")):
            axes.text(j, i, mark, ha="center", va="center", color="white", weight="bold")
        axes.set_title(title)
    figure.colorbar(shown_image, ax=panels, label="discounted steps in the cell", shrink=0.8)
    figure.savefig(HERE / "building.png", dpi=130)
    plt.close(figure)


def claims(results: dict) -> str:
    """Numbers behind what is said to be learned."""
    lines = []
    correlation = results["arrival"]["correlation of top door and first goal"]
    lines.append(
        "- arrival: correlation over the draws of the openness of the top door and the "
        f"probability of the goal (1,9): {correlation:.2f}."
    )
    for name in LEADERS:
        one = results[name]
        spread = one["standard deviation of the common design's objective"]
        ascents, middle = one["ascents of the plug-in search"], one["ascent from the middle"]
        lines += [
            f"- {name}: standard deviation over the draws of the common design's objective "
            f"{spread['both']:.4f}; {spread['only the law of goals']:.4f} if only the law of the "
            f"goals varies, {spread['only the temperature']:.4f} if only the temperature varies.",
            f"- {name}: each draw's own design less the best configuration in that draw: at least "
            f"{one['smallest own less best corner']:.5f}.",
            f"- {name}: the ascents of the search at the mean of the posterior end at "
            f"{', '.join(f'{value:.4f}' for value in ascents)}; one ascent from the middle of the "
            f"cube at the mean of the designed draws ends at {middle['ascent']:.4f}, where the "
            f"best configuration is worth {middle['best configuration']:.4f}.",
        ]
    return "\n".join(lines)


def pages(results: dict) -> dict[str, str]:
    """Tables and sentences with numbers."""
    seen = results["behaviour"]
    temperature, law = shown(seen["temperature"], 5), shown(seen["first goal"], 3)
    parts = {
        "BEHAVIOUR": (
            f"{NUM_WALKERS} walkers, {seen['steps seen']} steps. Temperature: {temperature}, "
            f"truth {TRUE_TEMPERATURE}. Probability of the goal (1,9): {law}, truth {TRUE_LAW[0]}."
        ),
        "HEALTH": f"{NUM_DRAWS} designed draws; each common design is optimised over "
        f"{SETTINGS.num_search_draws} of them and judged under all.\n\n"
        + "\n".join(
            f"- {name}: "
            + ". ".join(
                line.strip().removeprefix("health: ")
                for line in results[name]["health"].splitlines()
            )
            + "."
            for name in LEADERS
        ),
        "CLAIMS": claims(results),
        "COST": cost_text(results),
    }
    head = ["leader", *(f"{door} door" for door in FOUR_ROOMS_DOORS), "objective"]
    rows, compared = (
        [head],
        [
            [
                "leader",
                "best configuration",
                "its objective",
                "relaxed common design",
                "difference",
                "regret, common",
            ]
        ],
    )
    for name in LEADERS:
        one = results[name]
        rows.append(
            [
                f"{name}, per draw",
                *(shown(v, 3) for v in one["openness per draw"].values()),
                shown(one["objective of each draw's design"], 4),
            ]
        )
        rows.append(
            [
                f"{name}, common",
                *(f"{v:.3f}" for v in one["openness of the common design"].values()),
                shown(one["objective of the common design"], 4),
            ]
        )
        compared.append(
            [
                name,
                one["best configuration"],
                shown(one["objective of the best configuration"], 4),
                shown(one["objective of the common design"], 4),
                shown(one["common less best configuration"], 5),
                shown(one["regret of the common design"], 5),
            ]
        )
    parts["ABOVE"] = "Share of draws in which the common design is above every configuration: " + (
        ", ".join(f"{results[n][ABOVE]:.2f} ({n})" for n in LEADERS) + "."
    )
    parts["OPENNESS"], parts["COMPARED"] = markdown(rows), markdown(compared)
    table = [
        [
            "open doors",
            *(f"objective, {name}" for name in LEADERS),
            *(f"share of draws where best, {name}" for name in LEADERS),
        ]
    ]
    for corner in CORNERS:
        found = [results[name]["configurations"][configuration(corner)] for name in LEADERS]
        table.append(
            [
                configuration(corner),
                *(shown(one["objective"], 3) for one in found),
                *(f"{one['share of draws where best']:.2f}" for one in found),
            ]
        )
    parts["CONFIGURATIONS"] = markdown(table)
    return parts


def main() -> None:
    """Observe, design, draw, write."""
    _, fit, behaviour = observe()
    print(behaviour, flush=True)
    results, raw = {"behaviour": behaviour}, {}
    for name in LEADERS:
        results[name], raw[name] = study(name, fit)
    draw_objectives(raw)
    draw_openness(raw)
    truth = {"temperature": TRUE_TEMPERATURE, "context_probability": TRUE_LAW}
    draw_building(raw, LEADERS["target"].complete_parameters(truth))
    results |= cost()
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    fill(HERE / "README.md", pages(results))


if __name__ == "__main__":
    main()
