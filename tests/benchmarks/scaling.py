"""How cost grows: with parameters, states and lanes, and against the published way of writing it.

    python tests/benchmarks/scaling.py [--only PART ...] [--output FILE] [--figure FILE]

Ratios are of functions timed in turn within this run. Memory is what the compiled program
asks for beyond its inputs and outputs.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
from published_way import published_iteration
from run import median_seconds

from cbrl_bayes.hypergradients import AMD, HPGD, BoltzmannCovariance, Estimator, Exact
from cbrl_bayes.problems import GiniWelfare, Problem, SocialWelfare, four_rooms, random_mdp

PARAMETERS = (10, 100, 1000, 10_000)
STATES = (100, 1000, 10_000, 100_000)
LANES = (1, 4, 16, 64)
FOLLOWERS = (1, 10, 100, 1000)


def one_step(problem: Problem, estimator: Estimator, scale: float = 1.0) -> Callable:
    """Return key -> gradient, at a random point."""
    x = problem.incentive.random_start(jax.random.key(5), scale)
    parameters = problem.default_parameters
    state = estimator.init(problem, x, key=jax.random.key(0))
    return lambda key: estimator.estimate(problem, x, parameters, state, key=key)[0]


def megabytes(function: Callable, *arguments: object) -> float:
    """Return the temporary memory of the compiled program."""
    analysis = jax.jit(function).lower(*arguments).compile().memory_analysis()
    return analysis.temp_size_in_bytes / 2**20


def published_row() -> dict:
    """HPGD and Boltzmann covariance against the published way, about 10,000 steps each."""
    problem = four_rooms(temperature=0.001)
    x = problem.incentive.random_start(jax.random.key(5), 1.0)
    parameters, key = problem.default_parameters, jax.random.key(1)
    steps = [
        jax.jit(one_step(problem, HPGD(num_rollouts=60, num_branches=40))),
        jax.jit(one_step(problem, BoltzmannCovariance(num_rollouts=260))),
        jax.jit(lambda k: published_iteration(problem, x, parameters, k)),
    ]
    hpgd, covariance, published = median_seconds(*(lambda f=f: f(key) for f in steps))
    return {
        "hpgd_ms": 1e3 * hpgd,
        "boltzmann_covariance_ms": 1e3 * covariance,
        "published_way_ms": 1e3 * published,
        "published_way / hpgd": published / hpgd,
        "published_way / boltzmann_covariance": published / covariance,
    }


def parameter_rows() -> list[dict]:
    """Time and memory against the number of incentive parameters d."""
    rows = []
    for d in PARAMETERS:
        problem = random_mdp(
            num_states=20, num_actions=4, num_parameters=d, discount=0.8, quadratic=False
        )
        estimators = {
            "hpgd": HPGD(num_rollouts=40, num_branches=40, max_steps=80),
            "boltzmann_covariance": BoltzmannCovariance(num_rollouts=100, max_steps=80),
            "exact": Exact(),
            "amd": AMD(num_sweeps=5),
        }
        steps = {name: one_step(problem, e) for name, e in estimators.items()}
        compiled = [jax.jit(step) for step in steps.values()]
        times = median_seconds(*(lambda f=f: f(jax.random.key(1)) for f in compiled))
        rows += [
            {
                "d": d,
                "estimator": name,
                "ms": 1e3 * seconds,
                "MB": megabytes(steps[name], jax.random.key(1)),
            }
            for name, seconds in zip(steps, times, strict=True)
        ]
    return rows


def state_rows() -> list[dict]:
    """Exact value and gradient against the number of states, by successor."""
    rows = []
    for states in STATES:
        problem = random_mdp(
            num_states=states,
            num_actions=4,
            num_successors=5,
            num_parameters=10,
            discount=0.9,
            quadratic=False,
        )
        step = one_step(problem, Exact())
        compiled = jax.jit(step)
        (seconds,) = median_seconds(lambda f=compiled: f(jax.random.key(1)))
        rows.append(
            {"states": states, "ms": 1e3 * seconds, "MB": megabytes(step, jax.random.key(1))}
        )
    return rows


def follower_rows() -> list[dict]:
    """Exact value and gradient against the number of followers, each with its own temperature."""
    rows = []
    for number in FOLLOWERS:
        names = tuple(map(str, range(number)))
        crowd = four_rooms().with_followers(names, (1 / number,) * number)
        temperature = jnp.linspace(0.003, 0.006, number)
        for objective, aggregate in (("sum", None), ("gini", SocialWelfare(GiniWelfare()))):
            parameters = dict(crowd.parameters) | {"temperature": temperature}
            problem = replace(crowd, aggregate=aggregate, parameters=parameters)
            step = one_step(problem, Exact())
            compiled = jax.jit(step)
            (seconds,) = median_seconds(lambda f=compiled: f(jax.random.key(1)))
            rows.append(
                {
                    "followers": number,
                    "objective": objective,
                    "ms": 1e3 * seconds,
                    "MB": megabytes(step, jax.random.key(1)),
                }
            )
    return rows


def lane_rows() -> list[dict]:
    """Time and memory per lane, one after the other and side by side."""
    problem = four_rooms(temperature=0.005)
    rows = []
    for name, estimator in (("exact", Exact()), ("hpgd", HPGD(num_rollouts=60, num_branches=40))):
        x = problem.incentive.random_start(jax.random.key(5), 1.0)
        state = estimator.init(problem, x, key=jax.random.key(0))

        def step(lane, e=estimator, x=x, s=state):
            temperature, key = lane
            parameters = problem.default_parameters | {"temperature": temperature}
            return e.estimate(problem, x, parameters, s, key=key)[0]

        for lanes in LANES:
            # A draw of the temperature and a seed each.
            given = (jnp.linspace(0.004, 0.006, lanes), jax.random.split(jax.random.key(2), lanes))
            ways = {
                "in turn": lambda lane, f=step: jax.lax.map(f, lane),
                "side by side": lambda lane, f=step: jax.vmap(f)(lane),
            }
            compiled = [jax.jit(way) for way in ways.values()]
            times = median_seconds(*(lambda f=f, g=given: f(g) for f in compiled))
            rows += [
                {
                    "estimator": name,
                    "way": way,
                    "lanes": lanes,
                    "ms_per_lane": 1e3 * t / lanes,
                    "MB_per_lane": megabytes(ways[way], given) / lanes,
                }
                for way, t in zip(ways, times, strict=True)
            ]
    return rows


def draw(results: dict, path: Path) -> None:
    """Three panels of time, three of memory."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.5), layout="constrained")
    colours = dict(
        zip(
            ("hpgd", "boltzmann_covariance", "exact", "amd"),
            ("#0072B2", "#D55E00", "#000000", "#009E73"),
            strict=True,
        )
    )
    for row, (unit, label) in enumerate((("ms", "ms per estimate"), ("MB", "MB"))):
        panel = axes[row, 0]
        for name, colour in colours.items():
            mine = [r for r in results["parameters"] if r["estimator"] == name]
            panel.loglog(
                [r["d"] for r in mine], [r[unit] for r in mine], "o-", color=colour, label=name
            )
        panel.set(xlabel="incentive parameters d", ylabel=label)
        panel.legend(fontsize="small")
        panel = axes[row, 1]
        panel.loglog(
            [r["states"] for r in results["states"]],
            [r[unit] for r in results["states"]],
            "o-",
            color="black",
        )
        panel.set(xlabel="states (exact, 5 successors)", ylabel=label)
        panel = axes[row, 2]
        for name in ("exact", "hpgd"):
            for way, style in (("in turn", "o-"), ("side by side", "s--")):
                mine = [r for r in results["lanes"] if (r["estimator"], r["way"]) == (name, way)]
                panel.loglog(
                    [r["lanes"] for r in mine],
                    [r[f"{unit}_per_lane"] for r in mine],
                    style,
                    color=colours[name],
                    label=f"{name}, {way}",
                )
        panel.set(xlabel="lanes (seeds or draws)", ylabel=f"{label} and lane")
        low, high = panel.get_ylim()
        panel.set_ylim(low, high * (high / low) ** 0.6)
        panel.legend(fontsize="small", loc="upper right", ncols=2)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Run all and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = {
        "published": published_row,
        "parameters": parameter_rows,
        "states": state_rows,
        "followers": follower_rows,
        "lanes": lane_rows,
    }
    parser.add_argument("--only", nargs="*", default=list(parts), choices=list(parts))
    parser.add_argument("--output", type=Path, default=None)
    parser.add_argument("--figure", type=Path, default=None)
    arguments = parser.parse_args()
    earlier = arguments.output is not None and arguments.output.exists()
    results = json.loads(arguments.output.read_text()) if earlier else {}
    results |= {name: parts[name]() for name in arguments.only}
    for name, part in results.items():
        print(name)
        for row in part if isinstance(part, list) else [part]:
            print(
                "   ",
                ", ".join(
                    f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
                ),
            )
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    if arguments.figure is not None and set(parts) <= set(results):
        draw(results, arguments.figure)


if __name__ == "__main__":
    main()
