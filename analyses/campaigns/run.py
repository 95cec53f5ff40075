"""Campaigns against simulated followers: regret, getting stuck, coverage, surprise, stopping.

    python analyses/campaigns/run.py [--parts regret stuck coverage surprise stopping rooms]
                                     [--campaigns 100]

Each part leaves its numbers in results.json and its figures beside this file. README.md says what
was found and what it cost.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
HERE = Path(__file__).parent

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import numpyro.distributions as dist  # noqa: E402
import xarray as xr  # noqa: E402
from scipy.stats import binomtest, norm  # noqa: E402

import cbrl_bayes as cb  # noqa: E402
from cbrl_bayes.campaigns import suitable_settings  # noqa: E402
from cbrl_bayes.campaigns.tables import covered  # noqa: E402
from cbrl_bayes.mdp import DenseTransition  # noqa: E402
from cbrl_bayes.problems import follower_models, scaled_sigmoid  # noqa: E402

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
    "knowledge gradient": cb.KnowledgeGradient(num_candidates=3),
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
    settings = cb.CampaignSettings(policy=policy, planning=LIGHT, **given)
    return cb.simulate_campaigns(
        problem,
        key=jax.random.key(seed),
        num_campaigns=num,
        settings=settings,
        clairvoyant=CLAIRVOYANT,
        progress=False,
        **more,
    )


SIMULATED = {"truth", "world", "priors", "today", "num_workers", "follower"}


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
    panel.set_ylabel(f"cumulative regret ({problem.objective_unit})")
    panel.set_title(f"{title}: mean of {num} campaigns, 90 % intervals")
    panel.legend(fontsize=8)
    figure.savefig(HERE / f"{name}.png", dpi=120)
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
        num_rounds=15,
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
        num_rounds=15,
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
        num_rounds=15,
        episodes_per_round=20,
        num_replicates=99,
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


def surprise(num: int) -> dict[str, Any]:
    """When does the check notice followers whom the model does not describe."""
    problem = cb.problems.two_state()
    worlds = {
        "lapses, a tenth": follower_models.lapsing(problem, 0.1),
        "lapses, three tenths": follower_models.lapsing(problem, 0.3),
    }
    told = {}
    for label, world in worlds.items():
        found = run(
            problem,
            cb.Thompson(),
            num,
            3,
            world=world,
            num_rounds=10,
            episodes_per_round=100,
            num_replicates=99,
        )
        rounds = found["fired"].values
        told[label] = {
            "fired": share_with_interval((rounds > 0).sum(), num),
            "median_round": float(np.median(rounds[rounds > 0])) if (rounds > 0).any() else None,
            "last_regret": mean_with_interval(found["regret"].values[:, -1]),
        }
        print("surprise", label, told[label], flush=True)
    return {"campaigns": num, "followers": told}


def stopping(num: int) -> dict[str, Any]:
    """Net benefit of the rule, of fixed numbers of rounds, and of never experimenting.

    The benefit of a campaign that ends after r rounds: population times the true objective of the
    common design then in force, plus the episodes of the rounds times theirs, less their costs.
    """
    population, cost, most, episodes = 2000.0, 10.0, 8, 20
    problem = cb.problems.two_state()
    fixed: dict[str, list[float]] = {}
    given = {"truth": "prior", "episodes_per_round": episodes, "num_replicates": 0}

    def benefit(found: xr.Dataset, rounds: np.ndarray) -> np.ndarray:
        """Sum up; the last round deploys the design that is kept, and is not paid for."""
        true, last = found["true_objective"].values[..., 0], rounds - 1
        kept = np.take_along_axis(true, last[:, None], 1)[:, 0]
        tried = np.array([row[:end].sum() for row, end in zip(true, last, strict=True)])
        return (population - episodes * last) * kept + episodes * tried - cost * last

    for rounds in range(1, most + 1):
        found = run(problem, cb.Thompson(), num, 4, num_rounds=rounds, **given)
        fixed[str(rounds - 1)] = mean_with_interval(benefit(found, np.full(num, rounds)))
        print("stopping after", rounds - 1, fixed[str(rounds - 1)], flush=True)
    rule = cb.StopRule(cost_per_round=cost, population=population, least_rounds=0)
    found = run(problem, cb.Thompson(), num, 4, num_rounds=most, stopping=rule, **given)
    rounds = found["rounds"].values
    return {
        "campaigns": num,
        "population": population,
        "cost_per_round": cost,
        "rule": mean_with_interval(benefit(found, rounds)),
        "rounds_experimenting": mean_with_interval(rounds - 1),
        "fixed": fixed,
    }


def rooms(num: int) -> dict[str, Any]:
    """Four-Rooms, cell (.005, 5): nothing known but cells and rewards. 10 campaigns at most."""
    problem = cb.problems.four_rooms(temperature=0.005, penalty_weight=5.0)
    settings = suitable_settings(
        problem, cb.CampaignSettings(policy=cb.Thompson(), num_rounds=100, steps_per_round=2000)
    )
    last, optimum, seconds, told = [], [], [], []
    for seed in range(min(num, 10)):
        found = cb.simulate_campaigns(
            problem, key=jax.random.key(seed), settings=settings, progress=False
        ).isel(campaign=0)
        last.append(float(found["true_objective"][-1, 0]))
        optimum.append(float(found["optimum"]))
        seconds.append(found["seconds"].values.tolist())
        told.append(float(found["cumulative_regret"][-1]))
        print("rooms", seed, last[-1], optimum[-1], told[-1], flush=True)
    near = np.array(last) >= 0.98 * np.array(optimum)
    return {
        "campaigns": len(last),
        "last_objective": last,
        "optimum": optimum,
        "within_2_per_cent": share_with_interval(near.sum(), len(near)),
        "cumulative_regret": told,
        "median_seconds_by_round": np.median(seconds, axis=0).tolist(),
    }


PARTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "regret": regret,
    "stuck": stuck,
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
