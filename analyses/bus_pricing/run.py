"""Bus engines: demand for replacements by price, the best subsidy, and what knowing more is worth.

    python analyses/bus_pricing/run.py

Needs the raw Zurcher files (CBRL_DATA_DIR, the user's cache or the network). Leaves
results.json and figures beside this file and fills in its README.
"""

import json
import resource
import sys
import time
from pathlib import Path

import arviz as az
import jax
import numpy as np
import numpyro.distributions as dist
import xarray as xr

sys.path.insert(0, str(Path(__file__).parent.parent))  # for tables.py
from demand import (
    expected_replacements,
    leader_accounts,
    replacement_probability,
    replacements_per_year,
)
from demand_checks import high_price_limit, occupancy_rate, simulated_rate
from grid_posterior import Plane, choice_counts, edge_mass, grid_interval, nested_sampling
from information import bootstrap_error, expected_regret, partial_information
from pictures import demand_figure, information_figure, subsidy_figure
from report import fill_readme
from scipy.interpolate import CubicSpline
from tables import interval

import cbrl_bayes as cb
from cbrl_bayes.inference import maximum_likelihood
from cbrl_bayes.problems import bus_replacement
from cbrl_bayes.workflow import behaviour_model

HERE = Path(__file__).parent
LOG_PRIORS = {"RC": (np.log(10.0), 1.0), "theta11": (np.log(2.5), 1.0)}
"""Mean and standard deviation of the logarithm; those of analyses/bus_replacement."""
PRIORS = {name: dist.LogNormal(*values) for name, values in LOG_PRIORS.items()}
PROB = 0.9
NUM_DRAWS, NUM_DEMAND_DRAWS, NUM_CELL_DRAWS = 1200, 400, 200
"""At the centre; for the curves of demand; for the other targets."""
PRICES = np.append(np.round(np.arange(0.3, 1.501, 0.1), 2), [0.99, 1.01])
"""Units of RC; the last two are for the elasticity at 1."""
SHOWN = (0.3, 0.5, 0.7, 0.9, 1.0, 1.1, 1.3, 1.5)
LATE_COSTS, TARGETS = (0.025, 0.05, 0.1), (150_000, 200_000, 250_000)
CENTRE = (0.05, 200_000)
CHECKED = (CENTRE, (0.025, 150_000), (0.1, 250_000))
"""Where `cb.design` is run too."""
NODES = np.linspace(0.0, 0.6, 25)
SUBSIDIES = np.linspace(0.0, 0.6, 241)
"""The leader's options, every .0025 RC; objectives are computed at the nodes."""
SUBSETS = {"1/4": 9, "1/2": 18}
NUM_SUBSETS = 200


def spread(draws: np.ndarray) -> dict[str, float]:
    """Return mean and 90 % equal-tailed interval."""
    return dict(zip(("mean", "low", "high"), interval(draws, PROB), strict=True))


def posterior(data: xr.Dataset) -> tuple[xr.DataTree, dict]:
    """Infer RC, theta11 and the increments of group 4."""
    fit = cb.infer(
        bus_replacement(), data, key=jax.random.key(0), priors=PRIORS, settings=cb.NUTSSettings()
    )
    checked = fit["posterior"].to_dataset()[["RC", "theta11", "increment_probability"]]
    return fit, {
        "worst_r_hat": max(float(v.max()) for v in az.rhat(checked).data_vars.values()),
        "least_ess": min(float(v.min()) for v in az.ess(checked).data_vars.values()),
        "divergences": int(fit["sample_stats"]["diverging"].sum()),
        "correlation_log_RC_log_theta11": float(
            np.corrcoef(
                np.log(checked["RC"].values.ravel()), np.log(checked["theta11"].values.ravel())
            )[0, 1]
        ),
    } | {name: spread(checked[name].values) for name in ("RC", "theta11")}


def thin(fit: xr.DataTree, num: int) -> dict[str, np.ndarray]:
    """Return ``num`` evenly spaced draws."""
    names = ("RC", "theta11", "increment_probability")
    flat = fit["posterior"].to_dataset().stack(sample=("chain", "draw"))
    kept = np.linspace(0, flat.sizes["sample"] - 1, num).astype(int)
    return {name: np.moveaxis(flat[name].values, -1, 0)[kept] for name in names}


def demand(data: xr.Dataset, draws: dict[str, np.ndarray]) -> tuple[dict, dict]:
    """Return replacements per bus-year by price, under every draw and of a myopic manager."""
    replace = replacement_probability(PRICES, draws)
    law = draws["increment_probability"]
    rate = replacements_per_year(replace, np.broadcast_to(law, (len(PRICES), *law.shape)))
    at = {price: rate[index] for index, price in enumerate(PRICES)}
    elasticity = np.log(at[1.01] / at[0.99]) / np.log(1.01 / 0.99)

    myopic_answer = maximum_likelihood(
        behaviour_model(bus_replacement(RC=7.6, theta11=70.0, discount=0.0), data)
    )
    forward = maximum_likelihood(behaviour_model(bus_replacement(), data))
    myopic = {name: np.asarray(value)[None] for name, value in myopic_answer.estimates.items()}
    myopic_rate = replacements_per_year(
        replacement_probability(PRICES, myopic, discount=0.0), myopic["increment_probability"]
    )[:, 0]

    first, months = data["state"].values[:, 0], data.sizes["step"] - 1
    in_record = expected_replacements(replace[PRICES == 1.0][0], law, first, months)
    numbers = {
        "per_bus_year": {f"{price:g}": spread(at[price]) for price in SHOWN},
        "without_wear": {
            f"{price:g}": float((12 / (1 + np.exp(price * draws["RC"]))).mean()) for price in SHOWN
        },
        "elasticity_at_1": spread(elasticity),
        "in_record": spread(in_record),
        "observed": int((data["action"].values == 1).sum()),
        "bus_months": int(data["choice_observed"].values.sum()),
        "forward_looking": {
            **{name: float(forward.estimates[name]) for name in ("RC", "theta11")},
            "log_likelihood": forward.log_likelihood,
            "converged": bool(forward.converged),
        },
        "myopic": {
            "RC": float(myopic["RC"][0]),
            "theta11": float(myopic["theta11"][0]),
            "log_likelihood": myopic_answer.log_likelihood,
            "converged": bool(myopic_answer.converged),
            "per_bus_year": {f"{p:g}": float(r) for p, r in zip(PRICES, myopic_rate, strict=True)},
        },
    }
    return numbers, {"rate": rate[:-2], "myopic": myopic_rate[:-2], "prices": PRICES[:-2]}


def demand_checks(draws: dict[str, np.ndarray]) -> dict:
    """Return the long-run rate at the posterior mean by three ways, and its limit."""
    mean = {name: value.mean(0)[None] for name, value in draws.items()}
    prices = np.array([1.0, 2.0, 3.0, 4.0])
    replace = replacement_probability(prices, mean)[:, 0]
    law = mean["increment_probability"][0]
    rate = replacements_per_year(replace, np.broadcast_to(law, (4, 3)))

    by_bins = {}
    for num_bins in (90, 180):
        shown = replacement_probability(np.array(SHOWN), mean, num_bins=num_bins)[:, 0]
        by_bins[num_bins] = replacements_per_year(
            shown, np.broadcast_to(law, (len(SHOWN), 3))
        ).tolist()

    by_occupancy, _ = occupancy_rate({n: v[0] for n, v in mean.items()}, 1 - 1e-7)
    simulation, error = simulated_rate(replace[0], law, num_buses=10_000, num_months=1000)
    limit = high_price_limit(prices, mean["RC"][0], mean["theta11"][0], law)
    return {
        "by_bins": by_bins,
        "stationary": float(rate[0]),
        "occupancy": by_occupancy,
        "simulation": simulation,
        "simulation_error": error,
        "limit": [
            {"price": float(p), "rate": float(r), "limit": float(a), "ratio": float(r / a)}
            for p, r, a in zip(prices[1:], rate[1:], limit[1:], strict=True)
        ],
    }


def accounts(draws: dict[str, np.ndarray]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Return late months and subsidy payments at the nodes, per target; (nodes, draws)."""
    found = {}
    for target in TARGETS:
        problem = bus_replacement(late_cost=1.0, target_mileage=target)
        every = 1 if target == CENTRE[1] else NUM_DRAWS // NUM_CELL_DRAWS
        found[target] = leader_accounts(problem, NODES, {k: v[::every] for k, v in draws.items()})
    return found


def net_benefit(late: np.ndarray, paid: np.ndarray, late_cost: float) -> np.ndarray:
    """Return the leader's objective, (draws, options), by splines over the subsidy."""
    return CubicSpline(NODES, -(late_cost * late + paid))(SUBSIDIES).T


def subsidies(fit: xr.DataTree, found: dict) -> tuple[dict, dict]:
    """Find the best subsidy per draw and for all in every cell, by `cb.design` in three."""
    cells, per_draw, checks = {}, {}, {}
    for late_cost in LATE_COSTS:
        for target in TARGETS:
            worth = net_benefit(*found[target], late_cost)
            best = SUBSIDIES[worth.argmax(1)]
            common = int(worth.mean(0).argmax())
            regret = worth.max(1) - worth[:, common]
            name = f"{late_cost:g}, {target:,}"
            per_draw[name] = best
            cells[name] = {
                "late_cost": late_cost,
                "target": target,
                "best": spread(best),
                "common": float(SUBSIDIES[common]),
                "objective": spread(worth[:, common]),
                "without": spread(worth[:, 0]),
                "regret": spread(regret),
            }
    quick = cb.Search(ascent=cb.Ascent(num_steps=100, learning_rate=0.3))
    for late_cost, target in CHECKED:
        centre = (late_cost, target) == CENTRE
        problem = bus_replacement(late_cost=late_cost, target_mileage=target)
        settings = None if centre else cb.DesignSettings(search=quick, per_draw=quick)
        tree = cb.design(
            problem, fit, key=jax.random.key(1), num_draws=100 if centre else 12, settings=settings
        )
        checks[f"{late_cost:g}, {target:,}"] = compare(tree, late_cost, target)
    return {"cells": cells, "design": checks}, per_draw


def compare(tree: xr.DataTree, late_cost: float, target: int) -> dict:
    """Hold what `cb.design` found against the enumeration, draw by draw."""
    design, decision = tree["design"], tree["decision"]
    chosen = tree["posterior"].to_dataset().sel(chain=design["chain"], draw=design["draw"])
    own = {
        name: chosen[name].values.reshape(-1, *chosen[name].shape[2:])
        for name in ("RC", "theta11", "increment_probability")
    }
    problem = bus_replacement(late_cost=1.0, target_mileage=target)
    worth = net_benefit(*leader_accounts(problem, NODES, own), late_cost)
    found = design["incentive"].values.ravel()
    return {
        "num_draws": len(found),
        "best": spread(found),
        "common": float(decision["incentive"].sel(design="common")),
        "plug_in": float(decision["incentive"].sel(design="plug_in")),
        "objective": spread(decision["objective"].sel(design="common").values),
        "regret": spread(decision["regret"].sel(design="common").values),
        "largest_gap_of_subsidies": float(np.abs(found - SUBSIDIES[worth.argmax(1)]).max()),
        "largest_gap_of_objectives": float(
            np.abs(design["leader_objective"].values.ravel() - worth.max(1)).max()
        ),
        "regret_enumerated": expected_regret(worth),
    }


def information(
    draws: dict[str, np.ndarray], worth: np.ndarray, plane: Plane, weights: np.ndarray
) -> dict:
    """Find EVPI and EVPPI by draws and regression, quadrature, and nested sampling."""
    law = draws["increment_probability"]
    parameters = {
        "RC": draws["RC"],
        "theta11": draws["theta11"],
        "mean increment": law @ np.arange(law.shape[1]),
    }
    partial = {}
    for name, values in parameters.items():
        partial[name] = {
            "by_knots": {k: partial_information(worth, values, k) for k in (0, 2, 4, 8)},
            "error": bootstrap_error(partial_information, worth, values),
        }
    nested = {}
    for num_inner in (100, 1000, 10_000):
        value, error = nested_sampling(plane, weights, num_outer=4000, num_inner=num_inner)
        nested[num_inner] = {"value": value, "error": error}
    return {
        "perfect": expected_regret(worth),
        "perfect_error": bootstrap_error(expected_regret, worth),
        "partial": partial,
        "quadrature": {
            "perfect": plane.perfect(weights),
            "RC": plane.partial(weights, axis=0),
            "theta11": plane.partial(weights, axis=1),
        },
        "nested_RC": nested,
        "edge_mass": edge_mass(weights),
        "largest_spline_error": spline_error(draws, plane),
        "grid_RC": grid_interval(weights, axis=0),
        "grid_theta11": grid_interval(weights, axis=1),
    }


def spline_error(draws: dict[str, np.ndarray], plane: Plane, num: int = 60) -> float:
    """Return the largest error of the plane's net benefits at some draws, increments as there."""
    some = {name: value[:: len(value) // num] for name, value in draws.items()}
    law = some["increment_probability"]
    some["increment_probability"] = np.broadcast_to(
        draws["increment_probability"].mean(0), law.shape
    )
    direct = -sum(leader_accounts(bus_replacement(), SUBSIDIES[::10], some)).T
    return float(np.abs(plane.worth_at(some["RC"], some["theta11"])[:, ::10] - direct).max())


def fewer_buses(data: xr.Dataset, plane: Plane) -> tuple[dict, dict]:
    """Infer and decide from parts of the fleet, all by quadrature, one by NUTS too."""
    counts = choice_counts(data)
    full = plane.weights(counts.sum(0))
    worth = plane.expected(full)
    generator = np.random.default_rng(0)
    numbers, raw = {"all": one_part(plane, full, worth)}, {}
    for name, size in SUBSETS.items():
        parts = [generator.choice(len(counts), size, replace=False) for _ in range(NUM_SUBSETS)]
        rows = [one_part(plane, plane.weights(counts[part].sum(0)), worth) for part in parts]
        raw[name] = rows
        numbers[name] = (
            {"buses": size}
            | {
                key: spread(np.array([row[key] for row in rows]))
                for key in ("width_RC", "width_theta11", "subsidy", "perfect", "loss")
            }
            | {"largest_edge_mass": max(row["edge_mass"] for row in rows)}
        )
        if name != "1/4":
            continue
        fit = cb.infer(
            bus_replacement(),
            data.isel(episode=np.sort(parts[0])),
            key=jax.random.key(2),
            priors=PRIORS,
            settings=cb.NUTSSettings(num_chains=2),
        )
        numbers[name]["first_part"] = {
            "replacements": int(counts[parts[0], 1].sum()),
            "grid": grid_interval(plane.weights(counts[parts[0]].sum(0)), axis=0),
            "sampled": [spread(fit["posterior"]["RC"].values)[end] for end in ("low", "high")],
        }
    return numbers, raw


def one_part(plane: Plane, weights: np.ndarray, worth: np.ndarray) -> dict[str, float]:
    """Return widths, decision, and its loss under the full posterior's expected net benefits."""
    chosen = int(plane.expected(weights).argmax())
    ends = [grid_interval(weights, axis=axis) for axis in (0, 1)]
    return {
        "width_RC": ends[0][1] - ends[0][0],
        "width_theta11": ends[1][1] - ends[1][0],
        "subsidy": float(SUBSIDIES[chosen]),
        "perfect": plane.perfect(weights),
        "loss": float(worth.max() - worth[chosen]),
        "edge_mass": edge_mass(weights),
    }


def main() -> None:
    """Run everything."""

    def lap(name: str) -> None:
        print(f"{name}: {time.process_time():.0f} s of processor time so far", flush=True)

    data = cb.load_zurcher((4,))
    fit, sampling = posterior(data)
    lap("posterior")
    draws = thin(fit, NUM_DRAWS)
    demanded, curves = demand(data, thin(fit, NUM_DEMAND_DRAWS))
    demanded["checks"] = demand_checks(draws)
    lap("demand")
    found = accounts(draws)
    lap("accounts")
    designed, per_draw = subsidies(fit, found)
    lap("subsidies")
    plane = Plane.build(
        bus_replacement(), draws["increment_probability"].mean(0), LOG_PRIORS, NODES, SUBSIDIES
    )
    late_cost, target = CENTRE
    worth = net_benefit(*found[target], late_cost)
    known = information(draws, worth, plane, plane.weights(choice_counts(data).sum(0)))
    lap("information")
    fewer, raw = fewer_buses(data, plane)
    lap("fewer buses")
    demand_figure(HERE, curves, demanded)
    subsidy_figure(HERE, designed, per_draw[f"{late_cost:g}, {target:,}"])
    information_figure(HERE, known, fewer, raw)
    lap("figures")
    results = {
        "sampling": sampling,
        "demand": demanded,
        "subsidy": designed,
        "information": known,
        "fewer_buses": fewer,
        "cpu_seconds": round(time.process_time(), 1),
        "peak_memory_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    fill_readme(HERE)


if __name__ == "__main__":
    main()
