"""What a wrong temperature, or a follower that is not soft-optimal, does to each estimator.

    python analyses/wrong_followers/run.py [--fill]

Leaves results.json beside this file, and fills the tables of README.md and docs/choosing.md; with
--fill from the results of an earlier run.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tables import fill, markdown  # noqa: E402

from cbrl_bayes.followers import MisspecifiedFollower, SweepFollower, TrajectoryOracle  # noqa: E402
from cbrl_bayes.hypergradients import (  # noqa: E402
    HPGD,
    BoltzmannCovariance,
    DoublyRobust,
    Estimator,
    Exact,
    LearnedModel,
    ZerothOrder,
)
from cbrl_bayes.mdp import best_response, expected_return, replace_fields  # noqa: E402
from cbrl_bayes.problems import random_mdp  # noqa: E402

SEEDS = 3
STEPS = 300
RATE = 0.05
PROBLEM = partial(
    random_mdp, num_parameters=20, discount=0.8, temperature=0.5, quadratic=False, seed=0
)


class Case(NamedTuple):
    """How a follower plays, beside the leader's model: factors, and a chance to act at random."""

    temperature: float = 1.0
    discount: float = 1.0
    lapse: float = 0.0

    def follower(self) -> TrajectoryOracle:
        """Return one who plays so; the numbers may be traced, so that one program serves all."""
        found = MisspecifiedFollower()
        object.__setattr__(found, "temperature_scale", self.temperature)
        object.__setattr__(found, "discount_scale", self.discount)
        object.__setattr__(found, "lapse", self.lapse)
        return found


CASES = {
    "as the model has it": Case(),
    "temperature half of the model's": Case(temperature=0.5),
    "temperature twice the model's": Case(temperature=2.0),
    "temperature four times the model's": Case(temperature=4.0),
    "discount half of the model's": Case(discount=0.5),
    "one action in five at random": Case(lapse=0.2),
}
LEARNERS = {"learning: one sweep of planning a step": SweepFollower(num_sweeps=1)}
ESTIMATORS: dict[str, Callable[[TrajectoryOracle], Estimator]] = {
    "exact, in the leader's model": lambda oracle: Exact(),
    "learned_model": lambda oracle: LearnedModel(num_rollouts=60, max_steps=80, oracle=oracle),
    "doubly_robust": lambda oracle: DoublyRobust(
        LearnedModel(num_rollouts=60, max_steps=80, oracle=oracle)
    ),
    "boltzmann_covariance": lambda oracle: BoltzmannCovariance(
        num_rollouts=60, max_steps=80, critic_memory=0.9, oracle=oracle
    ),
    "hpgd": lambda oracle: HPGD(num_rollouts=60, num_branches=40, max_steps=80, oracle=oracle),
    "zeroth_order": lambda oracle: ZerothOrder(
        num_rollouts=60, num_directions=10, min_radius=0.3, max_steps=80, oracle=oracle
    ),
}


def true_worth(problem, case: Case) -> Callable:
    """Return unconstrained choice -> the objective with the real follower, by matrices."""
    context, parameters = problem.contexts.values[0], problem.default_parameters

    def worth(x):
        incentive = problem.incentive.transform(x)
        mdp = problem.mdp_fn(incentive, context, parameters)
        planned = replace_fields(
            mdp,
            temperature=mdp.temperature * case.temperature,
            discount=jnp.asarray(mdp.discount) * case.discount,
        )
        policy = best_response(planned).policy
        policy = (1.0 - case.lapse) * policy + case.lapse / mdp.num_actions
        reward = problem.leader_net_reward(incentive, context, parameters)
        return expected_return(mdp, policy, reward=reward, discount=problem.leader_discount)

    return worth


def walk(step: Callable, start, state, rate, keys):
    """Go by Adam, at a rate that falls to nothing; return gradients, iterates, steps."""
    optimizer = optax.scale_by_adam()
    falling = optax.cosine_decay_schedule(1.0, len(keys), alpha=0.01)

    def one(carry, entry):
        x, state, kept = carry
        number, key = entry
        gradient, state, steps = step(x, state, key)
        change, kept = optimizer.update(gradient, kept, x)
        moved = jax.tree.map(lambda leaf, c: leaf + rate * falling(number) * c, x, change)
        return (moved, state, kept), (ravel_pytree(gradient)[0], x, steps)

    begun = (start, state, optimizer.init(start))
    return jax.lax.scan(one, begun, (jnp.arange(len(keys)), keys))[1]


def end_of(path):
    """Return the mean of the last fifth of the iterates."""
    return jax.tree.map(lambda leaf: leaf[-(len(leaf) // 5) :].mean(0), path)


class Programs:
    """One estimator's walks, compiled once for all cases."""

    def __init__(self, problem, make: Callable, learner: TrajectoryOracle | None = None) -> None:
        self.problem, self.make, self.learner = problem, make, learner
        self.walk = jax.jit(self._walk)

    def _walk(self, case: Case, start, rate, keys):
        estimator = self.make(self.learner or case.follower())
        parameters = self.problem.default_parameters

        def step(x, state, key):
            gradient, state, info = estimator.estimate(self.problem, x, parameters, state, key=key)
            return gradient, state, info.follower_steps

        state = estimator.init(self.problem, start, key=jax.random.key(0))
        return walk(step, start, state, rate, keys)

    def measure(self, case: Case, truth: np.ndarray, worth: Callable) -> dict:
        """Return how the mean estimate points at one place, and where ascents lead."""
        here, space = place(self.problem), self.problem.incentive
        found, _, steps = self.walk(case, here, 0.0, jax.random.split(jax.random.key(2), STEPS))
        # A memory fills, and a follower learns, in the first third.
        charge = np.asarray(ravel_pytree(here)[0])  # minus the slope of half its square
        found, truth = np.asarray(found)[STEPS // 3 :] + charge, truth + charge
        reached = []
        for seed in range(SEEDS):
            keys = jax.random.split(jax.random.key(10 + seed), STEPS)
            reached.append(
                float(worth(case, end_of(self.walk(case, space.initial, RATE, keys)[1])))
            )
        rng = np.random.default_rng(0)
        again = [found[rng.integers(0, len(found), len(found))].mean(0) for _ in range(200)]
        return {
            "cosine": cosine(found.mean(0), truth),
            "cosine_error": float(np.std([cosine(one, truth) for one in again])),
            "length": float(np.linalg.norm(found.mean(0)) / np.linalg.norm(truth)),
            "spread": float(np.sqrt(found.var(0, ddof=1).sum()) / np.linalg.norm(truth)),
            "reached": reached,
            "follower_steps": float(np.mean(steps)),
        }


def place(problem):
    """Return the incentive at which directions are compared."""
    return problem.incentive.random_start(jax.random.key(1), 1.0)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the cosine of the angle between two vectors."""
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def tables(results: dict) -> dict[str, str]:
    """Return the two tables."""
    names = list(ESTIMATORS)
    direction = [["follower", *(f"`{name}`" if " " not in name else name for name in names)]]
    lost = [direction[0]]
    for case, found in results.items():
        gain = found["best"] - found["start"]
        rows = [found["estimators"][name] for name in names]
        direction.append(
            [
                case,
                *(f"{r['cosine']:.2f} ({r['cosine_error']:.2f}), {r['length']:.2f}" for r in rows),
            ]
        )
        shares = [(found["best"] - np.array(r["reached"])) / gain for r in rows]
        lost.append(
            [case, *(f"{100 * s.mean():.0f} % ({100 * np.ptp(s) / 2:.0f})" for s in shares)]
        )
    first = next(iter(results.values()))["estimators"]
    cost = [["estimator", "follower steps an estimate", "standard deviation of one"]]
    cost += [
        [f"`{name}`", f"{first[name]['follower_steps']:,.0f}", f"{first[name]['spread']:.2g}"]
        for name in names
        if name != names[0]
    ]
    return {"DIRECTION": markdown(direction), "LOST": markdown(lost), "COST": markdown(cost)}


def main() -> None:
    """Measure, keep the numbers, and fill the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fill", action="store_true")
    path = HERE / "results.json"
    if not parser.parse_args().fill:
        path.write_text(json.dumps(measured(), indent=1) + "\n")
    found = tables(json.loads(path.read_text()))
    fill(HERE / "README.md", found)
    fill(HERE.parents[1] / "docs/choosing.md", {"WRONG": found["LOST"]})


def measured() -> dict:
    """Measure every pair of follower and estimator."""
    problem, results = PROBLEM(), {}
    worth = jax.jit(lambda case, x: true_worth(problem, case)(x))
    slope = jax.jit(lambda case, x: jax.grad(true_worth(problem, case))(x))

    @jax.jit
    def best(case: Case, start):
        def step(x, state, key):
            return jax.grad(true_worth(problem, case))(x), state, 0

        return end_of(
            walk(step, start, (), RATE, jax.random.split(jax.random.key(0), 2 * STEPS))[1]
        )

    for learner, cases in ((None, CASES), *((f, {n: Case()}) for n, f in LEARNERS.items())):
        for name, case in cases.items():
            start = problem.incentive.initial
            known = {"start": worth(case, start), "best": worth(case, best(case, start))}
            results[name] = {k: float(v) for k, v in known.items()} | {"estimators": {}}
        for key, make in ESTIMATORS.items():
            begun, programs = time.perf_counter(), Programs(problem, make, learner)
            for name, case in cases.items():
                truth = np.asarray(ravel_pytree(slope(case, place(problem)))[0])
                results[name]["estimators"][key] = programs.measure(case, truth, worth)
            print(f"{key}, {', '.join(cases)}: {time.perf_counter() - begun:.0f} s", flush=True)
    return results


if __name__ == "__main__":
    main()
