"""Tolls on a real network whose roads get slower as they fill, under the posterior of drivers.

    python analyses/route_tolls/posterior.py
    python analyses/route_tolls/congestion.py

On the busiest part of the network: tolls on every link, on the 20 busiest alone, and those of two
leaders who do not see that traffic answers. Leaves congestion.json, congestion.png,
congestion_map.png and the numbers in README.md.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from cbrl_bayes.problems import Congestion, RoadNetwork, Trips, route_choice

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))
from pictures import draw_map  # noqa: E402
from run import NUM_TOLLED, busiest_part, interval, thinned, told  # noqa: E402
from tables import fill, markdown, shrink  # noqa: E402
from tolls import Leader  # noqa: E402

VOLUME, OVERLOAD, LARGEST = 1000.0, 1.5, 10.0
NUM_DRAWS, NUM_SEARCH_DRAWS = 12, 3
NUM_SWEEPS, CLOSE = 100, 1e-7
LABELS = {
    "today": "harm as of today, 20 links",
    "twenty": "best on 20 links",
    "each": "best on 20 links, by draw",
    "everywhere": "best on all links (Pigou)",
}


def main() -> None:
    """Design in each way, compare, draw."""
    begun = time.perf_counter()
    posterior = json.loads((HERE / "posterior.json").read_text())
    part, trips = busiest_part()
    roads = crowded(part, trips)
    use = entries_seen(part, trips)
    busiest = np.argsort(-use, kind="stable")[:NUM_TOLLED]
    draws = thinned(posterior["draws"], NUM_DRAWS)
    few = leader_of(part, trips, roads, busiest)
    every = leader_of(part, trips, roads, np.arange(part.num_links))
    empty = leader_of(part, trips, None, busiest)
    external = External(part, roads)
    none, nowhere = np.zeros(NUM_TOLLED), np.zeros(part.num_links)
    common = few.best(draws[:: NUM_DRAWS // NUM_SEARCH_DRAWS], LARGEST)
    print(f"common tolls after {time.perf_counter() - begun:.0f} s", flush=True)
    objective, everywhere = jax.jit(few.objective), jax.jit(every.objective)
    on_empty_roads = jax.jit(empty.objective)
    traffic, flows = jax.jit(few.traffic), jax.jit(every.traffic)
    rows = []
    for one in draws:
        before = np.asarray(traffic(none, one))[:-1]
        harm = external.tolls(before)[busiest]
        pigou = external.best(lambda toll, one=one: np.asarray(flows(toll, one))[:-1], nowhere)
        own = few.best([one], LARGEST, common)
        at = {"none": none, "today": harm, "twenty": common, "each": own}
        worth = {name: float(objective(jnp.asarray(t), one)) for name, t in at.items()}
        worth["everywhere"] = float(everywhere(jnp.asarray(pigou), one))
        worth["empty"] = float(on_empty_roads(jnp.asarray(none), one))
        after = np.asarray(traffic(jnp.asarray(common), one))[:-1]
        rows.append({**at, "worth": worth, "pigou": pigou, "before": before, "after": after})
        print(f"draw {len(rows)} after {time.perf_counter() - begun:.0f} s", flush=True)
    results = {
        "links": part.num_links,
        "destinations": part.num_destinations,
        "draws": NUM_DRAWS,
        "slowdown": told([float(roads.slowdown(VOLUME * r["before"]).max()) for r in rows]),
        "lost": told([r["worth"]["empty"] - r["worth"]["none"] for r in rows]),
        "checked": checked(every, rows[0]["pigou"], draws[0]),
        "frozen": frozen(few, rows[0]["before"], draws[0]),
        "gains": {
            name: told([r["worth"][name] - r["worth"]["none"] for r in rows]) for name in LABELS
        },
        "share": {
            name: told(
                [
                    (r["worth"][name] - r["worth"]["none"])
                    / (r["worth"]["everywhere"] - r["worth"]["none"])
                    for r in rows
                ]
            )
            for name in LABELS
        },
        "tolls": [
            {
                "link": part.link_names[link],
                "common": float(common[i]),
                "today": told([r["today"][i] for r in rows]),
                "each": told([r["each"][i] for r in rows]),
                "pigou": told([r["pigou"][link] for r in rows]),
            }
            for i, link in enumerate(busiest)
        ],
        "seconds": time.perf_counter() - begun,
    }
    (HERE / "congestion.json").write_text(json.dumps(results, indent=1) + "\n")
    mean = {name: np.mean([r[name] for r in rows], axis=0) for name in ("before", "after")}
    draw_map(
        part,
        mean["before"],
        mean["after"],
        dict(zip(busiest.tolist(), common.tolist(), strict=True)),
        np.zeros(0, int),
        HERE / "congestion_map.png",
    )
    draw(results, HERE / "congestion.png")
    write_readme(results)


def crowded(part: RoadNetwork, trips: Trips) -> Congestion:
    """Equal capacities; the busiest link carries 1.5 times its own with the data's traffic."""
    capacity = VOLUME * entries_seen(part, trips).max() / len(trips.links) / OVERLOAD
    return Congestion(volume=VOLUME, capacity=float(capacity))


def entries_seen(part: RoadNetwork, trips: Trips) -> np.ndarray:
    """Return how often each link was entered in the data, (L,)."""
    entered = np.concatenate([row[1:] for row in trips.links])
    return np.bincount(entered, minlength=part.num_links)


def leader_of(
    part: RoadNetwork, trips: Trips, roads: Congestion | None, tolled: np.ndarray
) -> Leader:
    """Return the leader who may toll some links and minds nothing but what drivers lose."""
    problem = route_choice(
        part, trips, tolled=tolled, relief=0.0, largest_toll=LARGEST, congestion=roads
    )
    return Leader(problem, tolled, np.zeros(0, int), 0.0)


class External:
    """What one more entry into each link costs all others, minutes."""

    def __init__(self, part: RoadNetwork, roads: Congestion) -> None:
        self.roads, self.time = roads, np.zeros(part.num_links)
        self.time[part.to_link] = part.time

    def tolls(self, traffic: np.ndarray) -> np.ndarray:
        """Return the harm of an entry, (L,), under traffic per trip (L,)."""
        return self.time * np.asarray(self.roads.external_share(VOLUME * traffic))

    def best(self, traffic: Callable[[np.ndarray], np.ndarray], toll: np.ndarray) -> np.ndarray:
        """Return tolls that are the harm under the traffic that they lead to."""
        for _ in range(NUM_SWEEPS):
            harm = self.tolls(traffic(toll))
            if np.abs(harm - toll).max() < CLOSE:
                return harm
            toll = 0.5 * (toll + harm)
        raise RuntimeError("the tolls of Pigou did not settle")


def checked(every: Leader, pigou: np.ndarray, one: dict[str, float]) -> dict[str, float]:
    """Return the slope of the objective at Pigou's tolls and at half of them: zero only there."""
    slope = jax.jit(jax.grad(every.objective))
    return {
        name: float(jnp.abs(slope(jnp.asarray(share * pigou), one)).max())
        for name, share in (("at_pigou", 1.0), ("at_half", 0.5))
    }


def frozen(few: Leader, before: np.ndarray, one: dict[str, float]) -> float:
    """Return the largest slope, at no toll, for a leader who takes today's times as given."""
    given = {**one, "population": VOLUME * jnp.asarray(before)}
    return float(jax.grad(few.objective)(jnp.zeros(len(few.tolled)), given).max())


def draw(results: dict, path: Path) -> None:
    """Draw gains, and tolls on the 20 links, with their intervals over the draws."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 4.6), layout="constrained", width_ratios=(1, 1.6)
    )
    for place, name in enumerate(LABELS):
        _bar(left, place, results["gains"][name], "tab:blue")
    left.set_xticks(range(len(LABELS)), [t.replace(", ", ",\n") for t in LABELS.values()])
    left.tick_params(axis="x", labelrotation=30)
    left.set_ylim(0.0)
    left.set_ylabel("gain over no toll, minutes per trip")
    left.set_title("What tolls bring")
    at = np.arange(len(results["tolls"]))
    for shift, name, colour, label in (
        (-0.22, "today", "tab:gray", "harm as of today"),
        (0.0, "each", "tab:blue", "best on these 20, by draw"),
        (0.22, "pigou", "tab:orange", "best on all links, by draw"),
    ):
        for place, row in zip(at, results["tolls"], strict=True):
            _bar(right, place + shift, row[name], colour, label if place == 0 else None)
    right.set_xticks(at, [row["link"] for row in results["tolls"]], rotation=90)
    right.set_ylabel("toll, minutes of travel time")
    right.set_title("Tolls on the 20 busiest links: mean and 90 % interval")
    right.legend()
    figure.savefig(path, dpi=110)
    shrink(path)
    plt.close(figure)


def _bar(axes: plt.Axes, place: float, row: dict, colour: str, label: str | None = None) -> None:
    axes.vlines(place, row["lower"], row["upper"], color=colour, lw=4, alpha=0.5)
    axes.plot(place, row["mean"], "o", ms=4, color=colour, label=label)


def write_readme(results: dict) -> None:
    """Put the numbers between the markers of README.md."""
    rows = [["tolls", "gain over no toll, minutes per trip", "of what all links allow, %"]]
    rows += [
        [
            label,
            interval(results["gains"][name], 1.0, ".4f"),
            interval(results["share"][name], 100.0, ".1f"),
        ]
        for name, label in LABELS.items()
    ]
    fill(
        HERE / "README.md",
        {
            "CONGESTION_SIZE": f"{results['links']} links, {results['destinations']} destinations, "
            f"{results['draws']} posterior draws; without tolls the slowest link takes "
            f"{interval(results['slowdown'], 1.0, '.2f')} times its time when empty, and a trip "
            f"loses {interval(results['lost'], 1.0, '.3f')} minutes to traffic.",
            "CONGESTION_GAINS": markdown(rows),
            "CONGESTION_CHECKS": "Largest slope of the objective, minutes per trip and minute of "
            f"toll: {results['checked']['at_pigou']:.1e} at these tolls, "
            f"{results['checked']['at_half']:.1e} at half of them. Where times are taken as given, "
            f"the largest slope at no toll is {results['frozen']:.1e}.",
        },
    )


if __name__ == "__main__":
    main()
