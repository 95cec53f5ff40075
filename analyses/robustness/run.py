"""What would change the decision: prior, parameters, follower model, and other worlds.

    python analyses/robustness/run.py [--parts rooms taxes buses]

Each part leaves its figures and numbers (results.json, README.md) beside this file. Buses need the
raw Zurcher files (CBRL_DATA_DIR, the user's cache or the network). Studies are kept small;
README.md says what they cost.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import jax  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import numpyro.distributions as dist  # noqa: E402
import xarray as xr  # noqa: E402
from tables import fill, markdown  # noqa: E402

import cbrl_bayes as cb  # noqa: E402
from cbrl_bayes.plots.sensitivity import (  # noqa: E402
    plot_follower_models,
    plot_power_scaling,
    plot_sobol,
    plot_stress,
)
from cbrl_bayes.problems import HouseholdEconomy, follower_models  # noqa: E402

FIGURES = {
    "prior": plot_power_scaling,
    "sobol": plot_sobol,
    "stress": plot_stress,
    "models": plot_follower_models,
}
PROB = 0.9


@dataclass(frozen=True)
class Case:
    """One application: the follower models to compare, data, priors, worlds, and how hard to work.

    The first model is the one whose study is put to the test.
    """

    models: Mapping[str, cb.Problem]
    data: xr.Dataset
    stresses: Sequence[Any]
    priors: Mapping[str, Any] = field(default_factory=dict)
    num_draws: int = 100
    num_samples: int = 250
    search: cb.Search = field(default_factory=lambda: cb.Search(ascent=ascent(200), num_starts=3))
    per_draw: cb.Search = field(default_factory=lambda: cb.Search(ascent=ascent(100)))


def ascent(num_steps: int) -> cb.Ascent:
    return cb.Ascent(num_steps=num_steps, learning_rate=0.3)


def rooms() -> Case:
    problem = cb.problems.four_rooms()
    goals = problem.contexts.names
    return Case(
        models={
            "soft-optimal": problem,
            "lapsing": follower_models.lapsing(problem, 0.05),
            "myopic (half as far ahead)": follower_models.myopic(problem, 0.99),
            "learning (20 sweeps)": follower_models.learning(problem, 20),
        },
        data=cb.load_trajectories(HERE.parent.parent / "data" / "four_rooms_behaviour.nc"),
        stresses=[
            cb.TemperatureShift(0.5),
            cb.TemperatureShift(2.0),
            *(cb.ContextShift(goal, 0.5) for goal in goals),
            cb.TransitionBlur(0.2),
        ],
        search=cb.global_search(num_hops=1, num_steps=100),
        per_draw=cb.Search(ascent=ascent(60)),
    )


def taxes() -> Case:
    # A third of the published actions, over the same ranges.
    economy = HouseholdEconomy(
        num_goods=3, num_assets=21, num_hours=6, hours_step=1.6, spending_levels=(0, 2, 4)
    )
    problem = cb.problems.tax_design(economy=economy)
    data = cb.simulate_trajectories(problem, key=jax.random.key(7), num_episodes=30, num_steps=15)
    return Case(
        models={
            "soft-optimal": problem,
            "lapsing": follower_models.lapsing(problem, 0.05),
            "myopic (2 periods ahead)": follower_models.myopic(problem, 0.5),
        },
        data=data,
        priors={"effort_weight": dist.LogNormal(np.log(0.1), 0.5)},
        stresses=[
            cb.TemperatureShift(0.5),
            cb.TemperatureShift(2.0),
            cb.ContextShift(problem.contexts.names[0], 0.5),
            cb.ContextShift(problem.contexts.names[1], 0.5),
            cb.AlteredProblem(
                "households look 2 periods ahead", lambda p: follower_models.myopic(p, 0.5)
            ),
        ],
        num_draws=48,
        num_samples=150,
        search=cb.Search(ascent=ascent(120)),
        per_draw=cb.Search(ascent=ascent(40)),
    )


def buses() -> Case:
    problem = cb.problems.bus_replacement()
    return Case(
        models={
            "soft-optimal": problem,
            "lapsing": follower_models.lapsing(problem, 0.01),
            "myopic (this month)": follower_models.myopic(problem),
            "learning (24 months)": follower_models.learning(problem, 23),
        },
        data=cb.load_zurcher((4,)),
        # Wide for theta11: who looks less far ahead needs more of it for the same behaviour.
        priors={
            "RC": dist.LogNormal(np.log(10.0), 1.0),
            "theta11": dist.LogNormal(np.log(10.0), 1.5),
        },
        stresses=[
            cb.TemperatureShift(0.5),
            cb.TemperatureShift(2.0),
            cb.TransitionBlur(0.3),
            cb.AlteredProblem(
                "1 % of decisions at random",
                lambda p: follower_models.lapsing(p, 0.01, uncertain=False),
            ),
            cb.AlteredProblem("manager looks at this month only", follower_models.myopic),
        ],
        num_samples=300,
        per_draw=cb.Search(ascent=ascent(200)),
    )


PARTS: dict[str, Callable[[], Case]] = {"rooms": rooms, "taxes": taxes, "buses": buses}


def study_of(case: Case) -> tuple[xr.DataTree, dict[str, str]]:
    """Fit and design under every model, then put the first study to all four tests."""
    sampler = cb.NUTSSettings(
        num_chains=2, num_warmup=case.num_samples, num_samples=case.num_samples
    )
    settings = cb.DesignSettings(search=case.search, per_draw=case.per_draw, num_search_draws=10)
    studies, health = {}, {}
    for name, problem in case.models.items():
        begun = time.process_time()
        fit = cb.infer(
            problem, case.data, key=jax.random.key(1), priors=case.priors, settings=sampler
        )
        middle = time.process_time()
        studies[name] = cb.design(
            problem, fit, key=jax.random.key(2), num_draws=case.num_draws, settings=settings
        )
        health[name] = str(cb.summary(studies[name]).health)
        print(
            f"{name}: fit {middle - begun:.0f} s, designs {time.process_time() - middle:.0f} s",
            flush=True,
        )
        print(health[name], flush=True)
    (name, problem), *others = case.models.items()
    begun = time.process_time()
    study = cb.compare_followers(
        problem,
        studies[name],
        key=jax.random.key(3),
        others={other: (model, studies[other]) for other, model in others},
        name=name,
    )
    study = cb.prior_sensitivity(problem, study, key=jax.random.key(4))
    study = cb.sobol_indices(
        problem, study, key=jax.random.key(5), settings=cb.SobolSettings(num_resamples=50)
    )
    print(f"sensitivities: {time.process_time() - begun:.0f} s", flush=True)
    search = cb.Search(ascent=case.per_draw.ascent)
    study = cb.stress_test(
        problem,
        study,
        key=jax.random.key(6),
        stresses=case.stresses,
        settings=cb.StressSettings(search=search, num_search_draws=10),
    )
    return study, health


def run_part(name: str) -> dict[str, Any]:
    begun = time.process_time()
    study, health = study_of(PARTS[name]())
    for kind, draw in FIGURES.items():
        figure = draw(study, accept_failed=True)
        figure.savefig(HERE / f"{name}_{kind}.png", dpi=120)
        plt.close(figure)
    return {
        "prior": prior_rows(study),
        "sobol": sobol_rows(study),
        "models": model_rows(study),
        "losses": loss_rows(study),
        "stress": stress_rows(study),
        "health": health,
        "cpu_seconds": round(time.process_time() - begun),
    }


def prior_rows(study: xr.DataTree) -> list[list[str]]:
    """Power-scaling of the results that are one number, then the decision."""
    rows = [["output", "prior (s.e.)", "likelihood (s.e.)", "diagnosis", "draws unsolved"]]
    table = cb.sensitivity_table(study, prob=PROB, accept_failed=True)
    for output, row in table.frame.iterrows():
        if np.isnan(row["prior"]):
            rows.append([str(output), "constant", "", "", str(int(row["unsolved"]))])
        elif "[" not in str(output) or len(rows) < 8:
            rows.append(
                [
                    str(output),
                    f"{row['prior']:.3f} ({row['prior_standard_error']:.3f})",
                    f"{row['likelihood']:.3f} ({row['likelihood_standard_error']:.3f})",
                    row["diagnosis"] or "none",
                    str(int(row["unsolved"])),
                ]
            )
    powers = [("prior", 1.0), *((c, a) for c in ("prior", "likelihood") for a in (0.8, 1.25))]
    for component, alpha in powers:
        one = table.frames["decision"].loc[(component, alpha)]
        rows.append(
            [
                "decision, posterior as it is"
                if alpha == 1.0
                else f"decision, {component} to the power {alpha:g}",
                f"best option: {one['best_option']}",
                f"keeping common loses {one['loss_of_common']:.2g} ({one['standard_error']:.1g})",
                "" if alpha == 1.0 else f"Pareto k {one['pareto_k']:.2f}",
                str(int(one["unsolved"])),
            ]
        )
    return rows


def sobol_rows(study: xr.DataTree) -> list[list[str]]:
    table = cb.sobol_table(study, prob=PROB, accept_failed=True).frame
    parameters = [str(name) for name in table.index.unique("parameter")]
    rows = [["output", *parameters]]
    for output, own in table.groupby("output", sort=False):
        if own["first_order"].isna().all() or ("[" in str(output) and len(rows) >= 8):
            continue
        cells = own.apply("{first_order:.2f} ({lower:.2f} to {upper:.2f})".format_map, axis=1)
        rows.append([str(output), *cells])
    return rows


def model_rows(study: xr.DataTree) -> list[list[str]]:
    rows = [
        [
            "followers",
            "elpd (s.e.)",
            "difference (s.e.)",
            "weight",
            "largest Pareto k",
            "ArviZ's caution",
        ]
    ]
    table = cb.loss_table(study, prob=PROB, accept_failed=True).frames["prediction"]
    for name, one in table.iterrows():
        cautions = [one[of].replace("|", "") for of in ("difference_caution", "caution")]
        rows.append(
            [
                str(name),
                f"{one['elpd']:.1f} ({one['standard_error']:.1f})",
                f"{round(one['difference'], 1) + 0.0:.1f} ({one['difference_error']:.1f})",
                f"{one['weight']:.2f}",
                f"{one['largest_pareto_k']:.2f}",
                "; ".join(filter(None, cautions)),
            ]
        )
    return rows


def loss_rows(study: xr.DataTree) -> list[list[str]]:
    """Mean loss with its Monte Carlo standard error over the draws."""
    loss = study["model_comparison"]["loss"]
    error = loss.std("sample", ddof=1) / np.sqrt(loss.sizes["sample"])
    mean = loss.mean("sample")
    names = [str(name) for name in mean["model"].values]
    rows = [["design made for", *(f"world: {name}" for name in names), "draws unsolved"]]
    unsolved = cb.loss_table(study, accept_failed=True).frame["unsolved"]
    for own in names:
        cells = [
            (mean.sel(designed_for=own, model=n), error.sel(designed_for=own, model=n))
            for n in names
        ]
        shown = (f"{float(m) + 0.0:.2g} ({float(e):.1g})" for m, e in cells)
        rows.append([own, *shown, str(int(unsolved[own]))])
    return rows


def stress_rows(study: xr.DataTree) -> list[list[str]]:
    table = cb.stress_table(study, prob=PROB, accept_failed=True).frame
    rows = [["world", "design", "objective", "change", "regret", "failed solves", "search"]]
    for (world, design), row in table.iterrows():
        cells = [
            f"{row[n]:.3g} ({row[n + '_lower']:.3g} to {row[n + '_upper']:.3g})"
            for n in ("objective", "change", "regret")
        ]
        ended = row["search"].lower().replace("_", " ")
        rows.append([world, design, *cells, str(int(row["failed"])), ended])
    return rows


def health_rows(found: Mapping[str, str]) -> list[list[str]]:
    rows = [["study", "health"]]
    for name, text in found.items():
        first, *reasons = text.splitlines()
        told = "; ".join(" ".join(reason.split()[1:]) for reason in reasons)
        verdict = first.removeprefix("health: ")
        rows.append([name, f"{verdict}: {told}" if told else verdict])
    return rows


def main() -> None:
    """Run the parts that were asked for and fill the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    arguments = parser.parse_args()
    path = HERE / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for name in arguments.parts:
        results[name] = run_part(name)
        path.write_text(json.dumps(results, indent=1) + "\n")
    parts = {}
    for name, found in results.items():
        for kind in ("prior", "sobol", "models", "losses", "stress"):
            parts[f"{name}_{kind}".upper()] = markdown(found[kind])
        parts[f"{name}_HEALTH".upper()] = markdown(health_rows(found["health"]))
        parts[f"{name}_COST".upper()] = f"{found['cpu_seconds']} s"
    if (HERE / "README.md").exists():
        fill(HERE / "README.md", parts)


if __name__ == "__main__":
    main()
