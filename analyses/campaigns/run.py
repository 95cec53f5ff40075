"""Campaigns against simulated followers: regret, getting stuck, coverage, surprise, stopping.

    python analyses/campaigns/run.py [--parts regret stuck buses reserve coverage surprise
                                              stopping rooms] [--campaigns 100]

Each part leaves its numbers in results.json and its figures beside this file. README.md says what
was found and what it cost.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import numpyro.distributions as dist  # noqa: E402
import xarray as xr  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402
from scipy.stats import binomtest, norm  # noqa: E402
from tables import shrink  # noqa: E402

import cbrl_bayes as cb  # noqa: E402
from cbrl_bayes.campaigns import Engine, World, suitable_settings  # noqa: E402
from cbrl_bayes.campaigns.tables import covered  # noqa: E402
from cbrl_bayes.followers.tabular import sampler_of  # noqa: E402
from cbrl_bayes.mdp import DenseTransition, best_response, replace_fields  # noqa: E402
from cbrl_bayes.problems import scaled_sigmoid  # noqa: E402

PROB = 0.9
LIGHT = cb.PlanningSettings(
    search=cb.Search(
        ascent=cb.Ascent(num_steps=40, learning_rate=0.3, num_extensions=0),
        num_starts=2,
        start_scales=(1.0, 2.0),
        num_candidates=16,
    ),
    num_draws=99,
    num_common=16,
)
CLAIRVOYANT = cb.Search(
    ascent=cb.Ascent(num_steps=150, learning_rate=0.3),
    num_starts=4,
    start_scales=(1.0, 2.0),
    num_candidates=64,
)
ONE_NUMBER = cb.PlanningSettings(
    search=cb.Search(ascent=cb.Ascent(num_steps=25, learning_rate=0.3, num_extensions=0)),
    num_draws=49,
    num_common=8,
)
"""Lighter still, for a problem with many states, one optimum and a posterior that is narrow."""
COLOURS = ("#999999", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")


def adoption() -> cb.Problem:
    """Offer a programme that is paid for whether or not anyone takes it up.

    A follower in state *offered* joins (reward: grant less an unknown cost) or not. The leader
    gains 2 if it joins, and pays 1.2 times the grant either way. With a log-normal prior on the
    cost (median 1.5, log-scale .35) every grant loses on average, so the best design on average
    is (nearly) none, under which nobody joins and nothing is learned. At a cost of .8 a grant of
    1 or so is worth .6.
    """

    def mdp_fn(incentive: Mapping, context: Any, parameters: Mapping) -> cb.MDP:
        return cb.MDP(
            reward=jnp.zeros((2, 2)).at[0, 1].set(incentive["grant"] - parameters["cost"]),
            transition=DenseTransition(jnp.zeros((2, 2, 2)).at[..., 1].set(1.0)),
            initial=jnp.array([1.0, 0.0]),
            discount=0.0,
            temperature=parameters["temperature"],
            terminal=jnp.array([False, True]),
        )

    return cb.Problem(
        name="adoption",
        incentive=cb.IncentiveSpace(
            initial={"logit": jnp.zeros(())},
            transform=lambda x: {"grant": scaled_sigmoid(x["logit"], 0.0, 3.0)},
            labels={"grant": cb.Labels(unit="money")},
            scale=1.0,
        ),
        contexts=cb.DiscreteContexts(("all",), jnp.zeros(1), (1.0,)),
        mdp_fn=mdp_fn,
        parameters={"temperature": 0.1, "cost": 0.8},
        leader_reward_fn=lambda x, c, p: jnp.zeros((2, 2)).at[0, 1].set(2.0),
        incentive_price_fn=lambda x, c, p: jnp.zeros((2, 2)).at[0].set(1.2 * x["grant"]),
        leader_discount=0.0,
        objective_unit="money",
        parameter_units={"temperature": "money", "cost": "money"},
        uncertain=("cost",),
    )


POLICIES: dict[str, Any] = {
    "greedy": cb.Greedy(),
    "Thompson": cb.Thompson(),
    "upper confidence": cb.UpperConfidence(num_candidates=3),
    "knowledge gradient": cb.KnowledgeGradient(num_candidates=6),
    "epsilon-greedy": cb.EpsilonGreedy(epsilon=0.1),
}


def mean_with_interval(values: np.ndarray) -> list[float]:
    """Mean over campaigns with a normal 90 % interval: low, mean, high."""
    values = np.asarray(values, float)
    half = norm.isf((1 - PROB) / 2) * values.std(ddof=1) / np.sqrt(len(values))
    return [float(values.mean() - half), float(values.mean()), float(values.mean() + half)]


def share_with_interval(hits: int, num: int) -> list[float]:
    """Share with its exact (Clopper-Pearson) 90 % interval: low, share, high."""
    found = binomtest(int(hits), int(num)).proportion_ci(PROB, method="exact")
    return [float(found.low), hits / num, float(found.high)]


def run(problem: cb.Problem, policy: Any, num: int, seed: int, **more: Any) -> xr.Dataset:
    """Simulate campaigns with light planning."""
    given = {name: more.pop(name) for name in list(more) if name not in SIMULATED}
    settings = cb.CampaignSettings(policy=policy, **{"planning": LIGHT} | given)
    return cb.simulate_campaigns(
        problem,
        key=jax.random.key(seed),
        num_campaigns=num,
        settings=settings,
        clairvoyant=CLAIRVOYANT,
        progress=False,
        **more,
    )


SIMULATED = {"truth", "world", "priors", "today", "earlier", "num_workers", "follower"}


def compared(
    problem: cb.Problem, policies: Mapping[str, Any], num: int, title: str, name: str, **more: Any
) -> dict[str, Any]:
    """Cumulative regret of policies; the same truths and seeds for all."""
    told: dict[str, Any] = {}
    figure, panel = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for (label, policy), colour in zip(policies.items(), COLOURS, strict=False):
        begun = time.perf_counter()
        found = run(problem, policy, num, 1, num_replicates=0, **more)
        regret = found["cumulative_regret"].values
        bands = np.array([mean_with_interval(column) for column in regret.T])
        panel.plot(found["round"], bands[:, 1], color=colour, label=label)
        panel.fill_between(found["round"], bands[:, 0], bands[:, 2], color=colour, alpha=0.2, lw=0)
        told[label] = {
            "cumulative_regret": bands[-1].tolist(),
            "last_regret": mean_with_interval(found["regret"].values[:, -1]),
            "median_seconds_per_round": float(found["seconds"].median()),
            "seconds": time.perf_counter() - begun,
        }
        print(title, label, told[label], flush=True)
    panel.set_xlabel("round")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_ylabel(f"cumulative regret ({problem.objective_unit})")
    panel.set_title(f"{title}: mean of {num} campaigns, 90 % intervals")
    panel.legend(fontsize=8)
    figure.savefig(HERE / f"{name}.png", dpi=120)
    shrink(HERE / f"{name}.png")
    plt.close(figure)
    return {"campaigns": num, "rounds": found.sizes["round"], "policies": told}


def regret(num: int) -> dict[str, Any]:
    """Cumulative regret on two_state, truths from the prior, 20 episodes a round."""
    arms = tuple({"bonus": bonus} for bonus in (0.4, 0.8, 1.2, 1.6))
    policies = POLICIES | {"A/B of four bonuses": cb.FixedArms(arms, num_trials=3)}
    return compared(
        cb.problems.two_state(),
        policies,
        num,
        "two_state",
        "regret",
        truth="prior",
        num_rounds=10,
        episodes_per_round=20,
    )


def stuck(num: int) -> dict[str, Any]:
    """Where the best design on average teaches nothing."""
    return compared(
        adoption(),
        POLICIES,
        num,
        "adoption",
        "stuck",
        priors={"cost": dist.LogNormal(np.log(1.5), 0.35)},
        today={"grant": 0.05},
        num_rounds=20,
        episodes_per_round=20,
    )


def buses(num: int) -> dict[str, Any]:
    """Subsidies for engine replacements, from the posterior that Rust's own data leave.

    Truths are drawn from that posterior. A round: 30 new buses for 60 months. Today: no subsidy.
    """
    return compared(
        cb.problems.bus_replacement(),
        {name: POLICIES[name] for name in ("greedy", "Thompson")},
        num,
        "bus_replacement",
        "buses",
        truth="prior",
        priors={
            "RC": dist.LogNormal(np.log(10.0), 1.0),
            "theta11": dist.LogNormal(np.log(2.5), 1.0),
        },
        today="no incentive",
        earlier=cb.load_zurcher((4,)),
        planning=ONE_NUMBER,
        particles=cb.campaigns.ParticleSettings(num_particles=200, acceptance=1.0),
        num_rounds=4,
        steps_per_round=1800,
    )


def reserve(num: int) -> dict[str, Any]:
    """Reserve prices in an auction with bidders of unknown rationality, truths from the prior."""
    return compared(
        cb.problems.reserve_price(),
        {name: POLICIES[name] for name in ("greedy", "Thompson", "upper confidence")},
        num,
        "reserve_price",
        "reserve",
        truth="prior",
        num_rounds=6,
        episodes_per_round=20,
    )


def coverage(num: int) -> dict[str, Any]:
    """Do predicted intervals hold the true objective in every round; does the check stay silent."""
    found = run(
        cb.problems.two_state(),
        cb.Thompson(),
        num,
        2,
        truth="prior",
        num_rounds=10,
        episodes_per_round=20,
        num_replicates=199,
    )
    held = covered(found).values[..., 0]
    return {
        "campaigns": num,
        "coverage_by_round": [share_with_interval(column.sum(), num) for column in held.T],
        "coverage": share_with_interval(held.sum(), held.size),
        "fired": share_with_interval((found["fired"] > 0).sum().item(), num),
        "false_alarm": 0.05,
        "effective_size": float(found["effective_size"].median()),
        "median_seconds_by_round": found["seconds"].median("campaign").values.tolist(),
    }


@dataclass(frozen=True)
class Gaming:
    """Acts against its interest in its first trainings, to be offered more; then at best.

    Followers train once for each batch of episodes, here about seven times a round.
    """

    runs_on_host: ClassVar[bool] = False
    num_trainings: int = 20

    def initial_memory(self, problem: cb.Problem) -> Any:
        """No training so far."""
        return jnp.zeros((), int)

    def train(self, problem, incentive, context, parameters, memory, *, key):  # type: ignore[no-untyped-def]
        """Solve with the rewards' sign turned, then as they are; see `TrajectoryOracle.train`."""
        mdp = problem.mdp_fn(incentive, context, parameters)
        sign = jnp.where(memory < self.num_trainings, -1.0, 1.0)
        found = best_response(replace_fields(mdp, reward=sign * mdp.reward))
        return sampler_of(mdp, found.policy), memory + 1, found.status


def other_worlds(problem: cb.Problem) -> dict[str, tuple[cb.Problem | None, Any]]:
    """Followers whom the model of `two_state` does not describe: world, and who answers there."""

    def by_context(incentive: Mapping, cost: Any, parameters: Mapping) -> cb.MDP:
        own = parameters["temperature"] * jnp.where(cost < 1.0, 0.2, 3.0)
        return problem.mdp_fn(incentive, cost, {**parameters, "temperature": own})

    slow = cb.followers.QLearningFollower(num_steps=2, num_walkers=1, step_exponent=1.0)
    return {
        "right model": (None, None),
        "a temperature per context": (replace(problem, mdp_fn=by_context), None),
        "learning": (None, slow),
        "gaming": (None, Gaming()),
    }


def surprise(num: int) -> dict[str, Any]:
    """When does the check notice followers whom the model does not describe, and what they cost."""
    problem = cb.problems.two_state()
    told: dict[str, Any] = {}
    for label, (world, follower) in other_worlds(problem).items():
        told[label] = {}
        for name in ("Thompson", "greedy"):
            found = run(
                problem,
                POLICIES[name],
                num,
                3,
                world=world,
                follower=follower,
                num_rounds=6,
                episodes_per_round=100,
                num_replicates=199,
            )
            rounds = found["fired"].values
            told[label][name] = {
                "fired": share_with_interval((rounds > 0).sum(), num),
                "median_round": float(np.median(rounds[rounds > 0])) if rounds.any() else None,
                "cumulative_regret": mean_with_interval(found["cumulative_regret"].values[:, -1]),
                "last_regret": mean_with_interval(found["regret"].values[:, -1]),
            }
            print("surprise", label, name, told[label][name], flush=True)
    return {"campaigns": num, "rounds": 6, "false_alarm": 0.05, "followers": told}


def stopping(num: int) -> dict[str, Any]:
    """Net benefit of the rule, of fixed numbers of rounds, and of never experimenting.

    One pass for all: before each round of a Thompson campaign stands what would be kept if it
    ended there (the common design), and whether the rule ends it. The benefit of ending after r
    rounds: population times the true objective of what is kept, less the episodes of the rounds;
    plus these times the objective of what was tried, less the rounds' costs.
    """
    population, cost, most, episodes = 2000.0, 10.0, 8, 20
    problem, key = cb.problems.two_state(), jax.random.key(4)
    rule = cb.StopRule(cost_per_round=cost, population=population, least_rounds=0)
    given = {"policy": cb.Thompson(), "planning": LIGHT, "episodes_per_round": episodes}
    given |= {"num_replicates": 0, "num_rounds": most + 1}
    leader = Engine(problem, cb.CampaignSettings(**given))
    judge = Engine(problem, cb.CampaignSettings(**given, stopping=rule))
    keeper = Engine(problem, cb.CampaignSettings(**given | {"policy": cb.Greedy()}))
    for other in (judge, keeper):
        other.desk, other.programs = leader.desk, leader.programs  # compiled once
    world = World(problem, problem.default_parameters)
    true = jax.jit(
        lambda point, truth: cb.leader_outcome(problem, {"bonus": point}, truth).objective
    )
    drawn = leader.prior_draws(key, num)
    kept, tried, ends = np.zeros((num, most + 1)), np.zeros((num, most)), np.full(num, most)
    for number in range(num):
        truth = problem.complete_parameters({n: v[number] for n, v in drawn.items()})
        here, own = world.of(truth), jax.random.fold_in(key, number)
        state, memory = leader.begin(jax.random.fold_in(own, 1000)), here.initial_memory()
        for rounds in range(most + 1):
            keys = jax.random.split(jax.random.fold_in(own, rounds), 3)
            point = keeper.plan(state, keys[0]).points[0]
            kept[number, rounds] = float(true(point[0], truth))
            if rounds == most:
                break
            if ends[number] == most and judge.plan(state, keys[0]).stop:
                ends[number] = rounds
            plan = leader.plan(state, keys[0])
            tried[number, rounds] = float(true(plan.points[0, 0], truth))
            answer, memory = here.answer(plan.points[0], leader.watch, memory, keys[1])
            state, _ = leader.absorb(state, plan, [answer], keys[2])
        if number % 10 == 9:
            print("stopping", number + 1, flush=True)
    rounds = np.arange(most + 1)
    spent = np.concatenate([np.zeros((num, 1)), np.cumsum(tried, 1)], axis=1)
    benefit = (population - episodes * rounds) * kept + episodes * spent - cost * rounds
    ruled = benefit[np.arange(num), ends]
    best = int(benefit.mean(0).argmax())
    _draw_stopping(benefit, ruled, ends)
    return {
        "campaigns": num,
        "population": population,
        "cost_per_round": cost,
        "rule": mean_with_interval(ruled),
        "rounds_experimenting": mean_with_interval(ends),
        "fixed": {str(r): mean_with_interval(benefit[:, r]) for r in rounds},
        "best_fixed": best,
        "rule_less_best_fixed": mean_with_interval(ruled - benefit[:, best]),
        "rule_less_never": mean_with_interval(ruled - benefit[:, 0]),
    }


def _draw_stopping(benefit: np.ndarray, ruled: np.ndarray, ends: np.ndarray) -> None:
    figure, panel = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    gain = benefit - benefit[:, :1]
    low, middle, high = np.array([mean_with_interval(column) for column in gain.T]).T
    rounds = np.arange(len(middle))
    panel.errorbar(
        rounds, middle, yerr=[middle - low, high - middle], fmt="o-", color=COLOURS[1],
        label="fixed number of rounds",
    )  # fmt: skip
    low, middle, high = mean_with_interval(ruled - benefit[:, 0])
    panel.axhspan(low, high, color=COLOURS[2], alpha=0.2, lw=0)
    said = f"stopping rule ({ends.mean():.1f} rounds on average)"
    panel.axhline(middle, color=COLOURS[2], label=said)
    panel.set_xlabel("rounds of experimenting")
    panel.set_ylabel("net benefit over never experimenting (money)")
    panel.set_title(f"two_state: mean of {len(ruled)} campaigns, 90 % intervals")
    panel.legend(fontsize=8)
    figure.savefig(HERE / "stopping.png", dpi=120)
    shrink(HERE / "stopping.png")
    plt.close(figure)


def rooms(num: int) -> dict[str, Any]:
    """Four-Rooms, cell (.005, 5): nothing known but cells and rewards. 10 campaigns at most."""
    problem = cb.problems.four_rooms(temperature=0.005, penalty_weight=5.0)
    settings = suitable_settings(
        problem, cb.CampaignSettings(policy=cb.Thompson(), num_rounds=100, steps_per_round=2000)
    )
    place, rows = HERE / "rooms.jsonl", []
    if place.exists():  # campaigns that were run before
        rows = [json.loads(line) for line in place.read_text().splitlines()]
    for seed in range(len(rows), min(num, 10)):
        found = cb.simulate_campaigns(
            problem, key=jax.random.key(seed), settings=settings, progress=False
        ).isel(campaign=0)
        row = {
            "seed": seed,
            "last": float(found["true_objective"][-1, 0]),
            "optimum": float(found["optimum"]),
            "regret": float(found["cumulative_regret"][-1]),
            "seconds": found["seconds"].values.tolist(),
            "true": found["true_objective"].values[:, 0].tolist(),
        }
        rows.append(row)
        with place.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print("rooms", seed, row["last"], row["optimum"], row["regret"], flush=True)
    last, optimum = (np.array([row[name] for row in rows]) for name in ("last", "optimum"))
    near = last >= 0.98 * optimum
    _draw_rooms(rows)
    return {
        "campaigns": len(rows),
        "last_objective": last.tolist(),
        "optimum": optimum.tolist(),
        "within_2_per_cent": share_with_interval(near.sum(), len(near)),
        "cumulative_regret": [row["regret"] for row in rows],
        "median_seconds_by_round": np.median([row["seconds"] for row in rows], axis=0).tolist(),
    }


def _draw_rooms(rows: list[dict[str, Any]]) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.0, 4.0), layout="constrained")
    for row, colour in zip(rows, plt.get_cmap("tab10").colors, strict=False):
        short = 1.0 - np.array(row["true"]) / row["optimum"]
        rounds = np.arange(1, len(short) + 1)
        left.plot(rounds, short, color=colour, lw=1, label=f"seed {row['seed']}")
        right.plot(rounds, row["seconds"], color=colour, lw=1)
    left.axhline(0.02, color="black", ls=":", label="2 %")
    left.set_ylabel("shortfall, share of the optimum")
    left.set_title("Four-Rooms, cell (.005, 5), nothing known but cells and rewards")
    left.legend(fontsize=7, ncols=3)
    right.set_ylabel("seconds a round (machine shared)")
    for panel in (left, right):
        panel.set_yscale("log")
        panel.set_xlabel("round")
    figure.savefig(HERE / "rooms.png", dpi=120)
    shrink(HERE / "rooms.png")
    plt.close(figure)


PARTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "regret": regret,
    "stuck": stuck,
    "buses": buses,
    "reserve": reserve,
    "coverage": coverage,
    "surprise": surprise,
    "stopping": stopping,
    "rooms": rooms,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--campaigns", type=int, default=100)
    given = parser.parse_args()
    place = HERE / "results.json"
    results = json.loads(place.read_text()) if place.exists() else {}
    for name in given.parts:
        begun = time.perf_counter()
        found = PARTS[name](given.campaigns)
        results[name] = found | {"seconds": round(time.perf_counter() - begun)}
        print(name, json.dumps(results[name])[:2000], flush=True)
        place.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
