"""Tolls that bring traffic off busy links of a real network, under the posterior of drivers.

    python analyses/route_tolls/posterior.py
    python analyses/route_tolls/run.py

The first command samples the drivers' coefficients given 1,832 trips. This one lays tolls on the
busiest part of the network: the best for each draw, and one set for all. Leaves results.json,
map.png, tolls.png and the numbers in README.md.
"""

import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from cbrl_bayes.problems import RoadNetwork, Trips, borlange, leader_outcome, route_choice

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))
from pictures import draw_map, draw_tolls  # noqa: E402
from tables import fill, markdown  # noqa: E402
from tolls import Leader  # noqa: E402

NUM_KEPT, NUM_TOLLED, NUM_RELIEVED = 1000, 20, 5
RELIEF, LARGEST = 1.0, 5.0
NUM_DRAWS, NUM_SEARCH_DRAWS = 40, 8
ENDS = [0.05, 0.95]


def main() -> None:
    """Cut, design twice, compare, draw."""
    begun = time.perf_counter()
    posterior = json.loads((HERE / "posterior.json").read_text())
    part, trips = busiest_part()
    use = np.bincount(np.concatenate(trips.links), minlength=part.num_links)
    busiest = np.argsort(-use, kind="stable")[:NUM_TOLLED]
    relieved = busiest[:NUM_RELIEVED]
    draws = thinned(posterior["draws"], NUM_DRAWS)
    results: dict = {
        "links": part.num_links,
        "destinations": part.num_destinations,
        "trips": len(trips.links),
        "draws": NUM_DRAWS,
    }
    for case, tolled in (("anywhere", busiest), ("elsewhere", busiest[NUM_RELIEVED:])):
        found, flows = study(part, trips, tolled, relieved, draws)
        results[case] = found
        print(f"{case}: designed after {time.perf_counter() - begun:.0f} s", flush=True)
    results["seconds"] = time.perf_counter() - begun
    (HERE / "results.json").write_text(json.dumps(results, indent=1))
    elsewhere = {t["number"]: t["common"] for t in results["elsewhere"]["tolls"]}
    draw_map(part, flows["none"], flows["common"], elsewhere, relieved, HERE / "map.png")
    draw_tolls(results["elsewhere"]["tolls"], HERE / "tolls.png")
    write_readme(results, posterior)


def study(
    part: RoadNetwork,
    trips: Trips,
    tolled: np.ndarray,
    relieved: np.ndarray,
    draws: list[dict[str, float]],
) -> tuple[dict, dict[str, np.ndarray]]:
    """Design tolls on some links; return what they do, and mean flows without and with them."""
    problem = route_choice(
        part, trips, tolled=tolled, relieved=relieved, relief=RELIEF, largest_toll=LARGEST
    )
    leader = Leader(problem, tolled, relieved, RELIEF)
    checked = _agrees(leader, draws[0])
    common = leader.best(draws[:: NUM_DRAWS // NUM_SEARCH_DRAWS], LARGEST)
    each = [leader.best([one], LARGEST, common) for one in draws]
    objective, traffic = jax.jit(leader.objective), jax.jit(leader.traffic)
    none = np.zeros(len(tolled))
    rows = []
    for one, best in zip(draws, each, strict=True):
        at = {"none": none, "common": common, "own": best}
        worth = {name: float(objective(jnp.asarray(t), one)) for name, t in at.items()}
        flows = {name: np.asarray(traffic(jnp.asarray(t), one)) for name, t in at.items()}
        on = {name: flow[relieved].sum() for name, flow in flows.items()}
        # What drivers lose is what the objective loses beside the harm.
        loss = {n: worth["none"] - worth[n] + RELIEF * (on["none"] - on[n]) for n in worth}
        rows.append({"worth": worth, "on": on, "loss": loss, "flows": flows})
    found = {
        "largest_difference_to_leader_outcome": checked,
        "gain_common": told([r["worth"]["common"] - r["worth"]["none"] for r in rows]),
        "gain_own": told([r["worth"]["own"] - r["worth"]["none"] for r in rows]),
        "value_of_knowing": told([r["worth"]["own"] - r["worth"]["common"] for r in rows]),
        "traffic_before": told([r["on"]["none"] for r in rows]),
        "traffic_change": told([r["on"]["common"] / r["on"]["none"] - 1.0 for r in rows]),
        "drivers_loss": told([r["loss"]["common"] for r in rows]),
        "tolls": [
            {
                "number": int(link),
                "link": part.link_names[link],
                "relieved": bool(link in relieved),
                "common": float(common[i]),
                **told([best[i] for best in each]),
            }
            for i, link in enumerate(tolled)
        ],
    }
    mean = {n: np.mean([r["flows"][n] for r in rows], axis=0)[:-1] for n in ("none", "common")}
    return found, mean


def busiest_part() -> tuple[RoadNetwork, Trips]:
    """Return the links that most trips use and that reach each other, and the trips on them."""
    network, trips = borlange()
    use = np.bincount(np.concatenate(trips.links), minlength=network.num_links)
    return network.cut(np.argsort(-use, kind="stable")[:NUM_KEPT], trips)


def thinned(draws: dict, num: int) -> list[dict[str, float]]:
    """Return some draws, evenly spaced over all chains."""
    flat = {name: np.ravel(values) for name, values in draws.items()}
    chosen = np.linspace(0, len(next(iter(flat.values()))) - 1, num).astype(int)
    return [{name: float(values[i]) for name, values in flat.items()} for i in chosen]


def _agrees(leader: Leader, one: dict[str, float]) -> float:
    """Compare with the package's own evaluation, context by context, at some tolls."""
    problem = leader.problem
    logit = jnp.linspace(-3.0, 0.0, len(leader.tolled))
    toll = problem.incentive.transform({"toll_logit": logit})["toll"]
    parameters = problem.complete_parameters(one)
    slow = jax.jit(lambda x: leader_outcome(problem, {"toll_logit": x}, parameters).objective)
    return float(abs(slow(logit) - leader.objective(toll, one)))


def told(values: list[float]) -> dict[str, float]:
    """Return mean and 90 % interval."""
    low, high = np.quantile(values, ENDS)
    return {"mean": float(np.mean(values)), "lower": float(low), "upper": float(high)}


def interval(found: dict[str, float], scale: float = 1.0, form: str = ".3f") -> str:
    """Return mean and interval as text."""
    mean, low, high = (format(scale * found[k], form) for k in ("mean", "lower", "upper"))
    return f"{mean} ({low} to {high})"


def write_readme(results: dict, posterior: dict) -> None:
    """Put the numbers between the markers of README.md."""
    names = posterior["parameters"]
    table = [
        ["coefficient", "posterior mean", "90 % interval", "Laplace's", "R-hat", "effective draws"]
    ]
    table += [
        [
            name,
            f"{row['mean']:.4f}",
            f"{row['interval'][0]:.3f} to {row['interval'][1]:.3f}",
            f"{row['laplace'][0]:.3f} to {row['laplace'][1]:.3f}",
            f"{row['rhat']:.4f}",
            f"{row['ess_bulk']:.0f}",
        ]
        for name, row in names.items()
    ]
    text = markdown(table) + (
        f"\n\n{posterior['chains']} chains of {posterior['draws_per_chain']} draws after "
        f"{posterior['warmup']} steps of warm-up, {posterior['divergences']} divergences, "
        f"{posterior['seconds'] / 60:.0f} minutes; one likelihood with its gradient takes "
        f"{posterior['per_slope_seconds']:.2f} s."
    )
    fill(HERE / "README.md", {"POSTERIOR": text, **_leader_texts(results)})


def _leader_texts(results: dict) -> dict[str, str]:
    cases = results["anywhere"], results["elsewhere"]
    lines = (
        ("entries into relieved links per trip, before", "traffic_before", 1.0, ".3f"),
        ("change of these entries, %", "traffic_change", 100.0, ".1f"),
        ("what drivers lose, minutes per trip", "drivers_loss", 1.0, ".4f"),
        ("gain of the objective, minutes per trip", "gain_common", 1.0, ".4f"),
        ("gain with each draw's own tolls", "gain_own", 1.0, ".4f"),
        ("value of knowing drivers exactly", "value_of_knowing", 1.0, ".6f"),
    )
    rows = [["", "tolls on all 20", "none on the relieved five"]]
    rows += [
        [title, *(interval(case[name], scale, form) for case in cases)]
        for title, name, scale, form in lines
    ]
    tolls = [["link", "common toll, minutes", "best toll by draw"]]
    tolls += [
        [t["link"], f"{t['common']:.2f}", interval(t, 1.0, ".2f")]
        for t in results["elsewhere"]["tolls"]
        if max(t["common"], t["upper"]) >= 0.005
    ]
    size = (
        f"{results['links']} links, {results['destinations']} destinations, "
        f"{results['trips']} trips or parts of trips; {results['draws']} posterior draws."
    )
    first = [t for t in results["anywhere"]["tolls"] if t["relieved"]]
    others = [t["upper"] for t in results["anywhere"]["tolls"] if not t["relieved"]]
    harm = (
        f"Over draws, the best tolls on the relieved links lie between "
        f"{min(t['lower'] for t in first):.3f} and {max(t['upper'] for t in first):.3f} minutes, "
        f"those on the others below {max(others) + 5e-4:.3f}."
    )
    pictures = "![map](map.png)\n\n![tolls](tolls.png)\n\n"
    return {
        "SIZE": size,
        "GAINS": markdown(rows),
        "HARM": harm,
        "TOLLS": pictures + markdown(tolls),
    }


if __name__ == "__main__":
    main()
