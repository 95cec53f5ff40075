"""The nine cells, the estimators with their settings, and one run of one estimator in one cell."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cbrl_bayes.followers import MisspecifiedFollower
from cbrl_bayes.hypergradients import (
    AMD,
    HPGD,
    RTQ,
    BoltzmannCovariance,
    Estimator,
    Exact,
    Penalty,
    SoBiRL,
    ZerothOrder,
)
from cbrl_bayes.mdp import expected_return
from cbrl_bayes.problems import (
    SLIP_AS_PUBLISHED,
    SLIP_OF_PUBLISHED_SIMULATOR,
    Problem,
    four_rooms,
    leader_outcome,
    respond,
)

CELLS = [(temperature, price) for temperature in (0.001, 0.003, 0.005) for price in (1, 3, 5)]
RATES = (0.5, 0.1, 0.05, 0.01)
"""Learning rates of the published grid."""

STEPS_PER_RECORD = 100


@dataclass(frozen=True)
class Contestant:
    """An estimator as it enters the comparison.

    ``make`` returns what runs (given the cell's problem, for followers with beliefs);
    ``simulator_slip`` is the slip of the rollouts it sees.
    """

    make: Callable[[Problem], Estimator]
    simulator_slip: float = SLIP_AS_PUBLISHED


# Rollout numbers are chosen for some 5,000 to 14,000 follower steps an iteration; table.csv
# has the averages.
CONTESTANTS: dict[str, Contestant] = {
    "exact": Contestant(lambda problem: Exact()),
    "hpgd": Contestant(lambda problem: HPGD(num_rollouts=60, num_branches=40)),
    # The published code's estimator: every-visit tables, and rollouts from another kernel.
    "hpgd, as published": Contestant(
        lambda problem: BoltzmannCovariance(
            num_rollouts=260, cross_fit=False, oracle=MisspecifiedFollower(believes=problem)
        ),
        SLIP_OF_PUBLISHED_SIMULATOR,
    ),
    "boltzmann_covariance": Contestant(
        lambda problem: BoltzmannCovariance(num_rollouts=130, critic_memory=0.9)
    ),
    "rt_q": Contestant(
        lambda problem: RTQ(
            num_levels=4, warm_start=True, rollouts=HPGD(num_rollouts=8, num_branches=3)
        )
    ),
    "amd": Contestant(lambda problem: AMD(num_sweeps=2)),
    "sobirl": Contestant(lambda problem: SoBiRL(num_sweeps=5)),
    "penalty": Contestant(lambda problem: Penalty()),
    "zeroth_order": Contestant(lambda problem: ZerothOrder(num_rollouts=140)),
}


@dataclass(frozen=True)
class Record:
    """What one run leaves, one entry per `STEPS_PER_RECORD` iterations; seconds are of CPU."""

    objective: np.ndarray
    objective_in_simulator: np.ndarray
    follower_steps: np.ndarray
    seconds: np.ndarray


def make_problem(cell: tuple[float, int], slip: float) -> Problem:
    """Return Four-Rooms in one cell."""
    return four_rooms(temperature=cell[0], penalty_weight=cell[1], slip=slip)


def make_evaluation(cell: tuple[float, int]) -> Callable[[Any], jax.Array]:
    """Return x -> (value as published, value in the published simulator).

    Both are of the follower that plans with the published slip of the value computation; in the
    second it moves with the slip of the published simulator.
    """
    planned = make_problem(cell, SLIP_AS_PUBLISHED)
    moved = make_problem(cell, SLIP_OF_PUBLISHED_SIMULATOR)
    parameters = planned.default_parameters

    def evaluate(x: Any) -> jax.Array:
        incentive = planned.incentive.transform(x)

        def in_simulator(goal: jax.Array) -> jax.Array:
            _, response = respond(planned, incentive, goal, parameters)
            reward = moved.leader_net_reward(incentive, goal, parameters)
            mdp = moved.mdp_fn(incentive, goal, parameters)
            return expected_return(
                mdp, response.policy, reward=reward, discount=moved.leader_discount
            )

        goals, weights = planned.contexts.support(parameters)
        simulated = weights @ jax.lax.map(in_simulator, goals)
        return jnp.stack([leader_outcome(planned, x, parameters).objective, simulated])

    return jax.jit(evaluate)


def start_at(problem: Problem, seed: int) -> Any:
    """Return the published start: normal with standard deviation .01."""
    return problem.incentive.random_start(jax.random.key(seed), 0.01)


def runs(
    name: str, cell: tuple[float, int], rate: float, seeds: list[int], iterations: int
) -> Iterator[Record]:
    """Run plain gradient ascent with norm clipped at 1 from each seed, one program for all."""
    contestant = CONTESTANTS[name]
    problem = make_problem(cell, contestant.simulator_slip)
    estimator = contestant.make(make_problem(cell, SLIP_AS_PUBLISHED))
    parameters = problem.default_parameters
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(rate))
    evaluate = make_evaluation(cell)

    @jax.jit
    def advance(carry: tuple, key: jax.Array) -> tuple[tuple, jax.Array]:
        def step(walk: tuple, step_key: jax.Array) -> tuple[tuple, jax.Array]:
            x, memory, state = walk
            gradient, memory, info = estimator.estimate(
                problem, x, parameters, memory, key=step_key
            )
            # An estimate that is not finite leaves the iterate where it is.
            usable = jnp.isfinite(optax.tree.norm(gradient))
            descent = jax.tree.map(lambda g: jnp.where(usable, -g, 0.0), gradient)
            change, state = optimizer.update(descent, state, x)
            return (optax.apply_updates(x, change), memory, state), info.follower_steps

        carry, steps = jax.lax.scan(step, carry, jax.random.split(key, STEPS_PER_RECORD))
        return carry, steps.sum()

    def begin(seed: int) -> tuple:
        x = start_at(problem, seed)
        return x, estimator.init(problem, x, key=jax.random.key(seed)), optimizer.init(x)

    # Compile outside the clock.
    jax.block_until_ready(advance(begin(seeds[0]), jax.random.key(0)))
    for seed in seeds:
        carry, steps, elapsed = begin(seed), 0, 0.0
        record = Record(*(np.zeros(iterations // STEPS_PER_RECORD) for _ in range(4)))
        for index in range(iterations // STEPS_PER_RECORD):
            begun = time.process_time()
            key = jax.random.fold_in(jax.random.key(seed), index)
            carry, more = jax.block_until_ready(advance(carry, key))
            elapsed += time.process_time() - begun
            steps += int(more)
            value, simulated = np.asarray(evaluate(carry[0]))
            record.objective[index], record.objective_in_simulator[index] = value, simulated
            record.follower_steps[index], record.seconds[index] = steps, elapsed
        yield record
