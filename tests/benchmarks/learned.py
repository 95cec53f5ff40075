"""What a step of the estimators that only watch costs: with d, S, and an outside follower.

    python tests/benchmarks/learned.py [--only PART ...] [--output FILE]

Ratios are of functions timed in turn within this run. Memory is what the compiled program asks for
beyond its inputs and outputs, and what is kept from step to step.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from run import median_seconds

from cbrl_bayes.followers import Episode, OutsideFollower
from cbrl_bayes.hypergradients import (
    HPGD,
    BoltzmannCovariance,
    DoublyRobust,
    Estimator,
    Exact,
    LearnedModel,
)
from cbrl_bayes.problems import Problem, random_mdp

PARAMETERS = (10, 100, 1000, 10_000)
STATES = (100, 1000, 10_000)
LONGEST = 60


def make_problem(states: int = 100, parameters: int = 10) -> Problem:
    """Return a random MDP with its law by successor."""
    return random_mdp(
        num_states=states,
        num_actions=4,
        num_successors=5,
        num_parameters=parameters,
        discount=0.8,
        quadratic=False,
    )


def estimators() -> dict[str, Estimator]:
    """Return the estimators, all with the same number of rollouts from the initial law."""
    model = LearnedModel(num_rollouts=100, max_steps=LONGEST)
    return {
        "exact": Exact(),
        "learned_model": model,
        "doubly_robust": DoublyRobust(model),
        "hpgd": HPGD(num_rollouts=100, num_branches=40, max_steps=LONGEST),
    }


def rows_of(problem: Problem) -> list[dict]:
    """Time one step of each estimator in turn, and weigh its memory."""
    x = problem.incentive.random_start(jax.random.key(5), 1.0)
    parameters, key, rows, compiled = problem.default_parameters, jax.random.key(1), [], []
    for name, estimator in estimators().items():
        state = estimator.init(problem, x, key=jax.random.key(0))

        def step(state, key, estimator=estimator):
            return estimator.estimate(problem, x, parameters, state, key=key)

        program = jax.jit(step).lower(state, key).compile()
        compiled.append(lambda program=program, state=state: program(state, key))
        info = program(state, key)[2]
        rows.append(
            {
                "estimator": name,
                "MB": program.memory_analysis().temp_size_in_bytes / 2**20,
                "kept_MB": sum(leaf.nbytes for leaf in jax.tree.leaves(state)) / 2**20,
                "follower_steps": int(info.follower_steps),
            }
        )
    for row, seconds in zip(rows, median_seconds(*compiled), strict=True):
        row["ms"] = 1e3 * seconds
    return rows


def parameter_rows() -> list[dict]:
    """Against the number of incentive parameters, 100 states."""
    return [{"d": d} | row for d in PARAMETERS for row in rows_of(make_problem(parameters=d))]


def state_rows() -> list[dict]:
    """Against the number of states, 10 parameters."""
    return [{"states": n} | row for n in STATES for row in rows_of(make_problem(states=n))]


class Clock:
    """An outside follower that plays a fixed policy at random, and how long it took."""

    def __init__(self, problem: Problem) -> None:
        context = problem.contexts.values[0]
        incentive = problem.incentive.transform(problem.incentive.initial)
        law = problem.mdp_fn(incentive, context, problem.default_parameters).transition
        self.reached = np.asarray(law.successor)
        self.ladder = np.asarray(law.probability).cumsum(-1)
        self.seconds = 0.0

    def train(self, incentive: dict, context: object, parameters: dict, seed: int) -> Callable:
        """Learn nothing."""
        return self.play

    def play(self, *, num_rollouts: int, num_steps: int, seed: int) -> list[Episode]:
        """Walk at random."""
        begun = time.perf_counter()
        rng = np.random.default_rng(seed)
        states, actions, S, A = [], [], *self.reached.shape[:2]
        states.append(rng.integers(0, S, num_rollouts))
        for _ in range(num_steps):
            actions.append(rng.integers(0, A, num_rollouts))
            rows = self.ladder[states[-1], actions[-1]]
            slot = (rows < rng.random((num_rollouts, 1))).sum(-1).clip(max=rows.shape[1] - 1)
            states.append(self.reached[states[-1], actions[-1], slot])
        walks = np.stack(states, 1), np.stack(actions, 1)
        found = [Episode(list(s), list(a)) for s, a in zip(*walks, strict=True)]
        self.seconds += time.perf_counter() - begun
        return found


def outside_rows() -> list[dict]:
    """With a follower in plain Python: all of a step, and what of it is the follower's."""
    problem = make_problem()
    x, rows = problem.incentive.initial, []
    settings = {"num_rollouts": 100, "max_steps": LONGEST}
    for name in ("learned_model", "doubly_robust", "boltzmann_covariance"):
        clock = Clock(problem)
        oracle = OutsideFollower(clock.train)
        model = LearnedModel(**settings, oracle=oracle)
        estimator = {
            "learned_model": model,
            "doubly_robust": DoublyRobust(model),
            "boltzmann_covariance": BoltzmannCovariance(**settings, oracle=oracle),
        }[name]
        state = estimator.init(problem, x, key=jax.random.key(0))
        spent = []
        for number in range(6):
            clock.seconds, begun = 0.0, time.perf_counter()
            found = estimator.estimate(
                problem, x, problem.default_parameters, state, key=jax.random.key(number)
            )
            jax.block_until_ready(found)
            spent.append((time.perf_counter() - begun, clock.seconds))
        whole, follower = np.median(spent[2:], axis=0)
        rows.append({"estimator": name, "ms": 1e3 * whole, "ms_follower": 1e3 * follower})
    return rows


def main() -> None:
    """Run all and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = {"parameters": parameter_rows, "states": state_rows, "outside": outside_rows}
    parser.add_argument("--only", nargs="*", default=list(parts), choices=list(parts))
    parser.add_argument("--output", type=Path, default=None)
    given = parser.parse_args()
    results = {}
    if given.output is not None and given.output.exists():
        results = json.loads(given.output.read_text())
    for name in given.only:
        results[name] = parts[name]()
        for row in results[name]:
            print(name, {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})
        if given.output is not None:
            given.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
