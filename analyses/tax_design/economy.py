"""The published economy: convergence in the grid, agreement of gradients, the deep follower."""

import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from cbrl_bayes.followers import DeepQFollower
from cbrl_bayes.hypergradients import HPGD, Estimator, Exact, ZerothOrder
from cbrl_bayes.mdp import expected_return, occupancy, soft_policy_values
from cbrl_bayes.problems import HouseholdEconomy, Problem, leader_outcome, respond, tax_design

GRIDS = (21, 51, 101, 201)
DEEP_STEPS = 300_000
"""Learning steps of the published follower in every outer iteration."""


def published(temperature: float, num_assets: int = 101) -> Problem:
    """Return the published economy on a grid."""
    economy = HouseholdEconomy(num_goods=3, num_assets=num_assets)
    return tax_design(temperature=temperature, economy=economy)


def gradient_of(problem: Problem, estimator: Estimator, repeats: int = 1) -> dict:
    """Mean, standard error, and seconds of one estimate at the published start."""
    x, parameters = problem.incentive.initial, problem.default_parameters
    state = estimator.init(problem, x, key=jax.random.key(0))
    step = jax.jit(lambda s, key: estimator.estimate(problem, x, parameters, s, key=key))
    _, state, _ = jax.block_until_ready(step(state, jax.random.key(1)))
    found = []
    for key in jax.random.split(jax.random.key(2), repeats):
        gradient, state, info = step(state, key)
        found.append(np.asarray(ravel_pytree(gradient)[0]))
    seconds = seconds_per_step(problem, estimator)
    found = np.stack(found)
    error = found.std(0, ddof=1) / np.sqrt(repeats) if repeats > 1 else np.zeros(found.shape[1])
    return {
        "gradient": found.mean(0).tolist(),
        "standard_error": error.tolist(),
        "seconds": seconds,
        "objective": float(info.objective),
    }


def seconds_per_step(problem: Problem, estimator: Estimator, steps: int = 10) -> float:
    """Return CPU seconds of one outer iteration, compiled, while the rates move as in an ascent."""
    parameters = problem.default_parameters

    @jax.jit
    def step(x: dict, state: tuple, key: jax.Array) -> tuple:
        gradient, state, _ = estimator.estimate(problem, x, parameters, state, key=key)
        length = jnp.sqrt(sum((g**2).sum() for g in jax.tree.leaves(gradient)))
        return jax.tree.map(lambda v, g: v + 0.05 * g / length, x, gradient), state

    x = problem.incentive.initial
    state = estimator.init(problem, x, key=jax.random.key(0))
    for key in jax.random.split(jax.random.key(1)):  # types settle in the first, so two
        x, state = jax.block_until_ready(step(x, state, key))
    begun = time.process_time()
    for key in jax.random.split(jax.random.key(2), steps):
        x, state = jax.block_until_ready(step(x, state, key))
    return (time.process_time() - begun) / steps


def grid_rows(temperature: float = 0.1) -> list[dict]:
    """Welfare and exact hypergradient at the published start against the number of grid points."""
    rows = []
    for number in GRIDS:
        problem = published(temperature, number)
        found = gradient_of(problem, Exact())
        x = problem.incentive.initial
        outcome = leader_outcome(problem, x, problem.default_parameters)
        rows.append(
            {
                "assets": number,
                "welfare": float(outcome.objective),
                "status": int(outcome.status),
                **found,
            }
        )
        print(rows[-1], flush=True)
    return rows


def agreement_rows(temperature: float = 0.3) -> list[dict]:
    """Exact, sampled and zeroth-order gradients of the same economy."""
    problem = published(temperature, 51)
    estimators = {
        "exact": (Exact(), 1),
        "hpgd": (HPGD(num_rollouts=60, num_branches=40, max_steps=120), 150),
        "zeroth_order": (ZerothOrder(num_rollouts=None, num_directions=10, radius=1e-3), 60),
    }
    rows = []
    for name, (estimator, repeats) in estimators.items():
        rows.append(
            {"estimator": name, "repeats": repeats, **gradient_of(problem, estimator, repeats)}
        )
        print(rows[-1], flush=True)
    return rows


def network_rows(temperature: float, steps: tuple[int, ...]) -> list[dict]:
    """Deep soft Q-learning against the grid's best response, at the published start."""
    problem = published(temperature, 101)
    parameters = problem.default_parameters
    incentive = problem.incentive.transform(problem.incentive.initial)
    assets = jnp.asarray(problem.state_labels.coords["assets"][1])
    # What the network sees: assets, and where debt begins.
    scaled = jnp.stack(
        [assets / 100.0, jnp.minimum(assets, 0.0) / 10.0, jnp.tanh(assets / 5.0)], axis=1
    )
    rows = []
    for group in range(problem.contexts.num_contexts):
        mdp, best = respond(problem, incentive, group, parameters)
        reward = problem.leader_net_reward(incentive, group, parameters)
        visits = occupancy(mdp, best.policy).sum(-1)
        visits /= visits.sum()
        welfare = float(expected_return(mdp, best.policy, reward=reward, discount=0.9))
        value = float(mdp.initial @ best.values)
        for number in steps:
            oracle = DeepQFollower(
                num_steps=number,
                num_walkers=8,
                batch_size=64,
                buffer_size=20_000,
                learning_rate=5e-4,
                target_rate=0.01,
                exploration=0.05,
                value_scale=20.0,
                features_fn=lambda _: scaled,
            )
            log_policy, seconds = _train(oracle, problem, incentive, group)
            policy = jnp.exp(log_policy)
            rows.append(
                {
                    "temperature": temperature,
                    "group": problem.contexts.names[group],
                    "steps": number,
                    "seconds": seconds,
                    "policy_distance": float(visits @ (0.5 * jnp.abs(policy - best.policy).sum(1))),
                    "own_value": float(mdp.initial @ soft_policy_values(mdp, log_policy)),
                    "own_value_grid": value,
                    "welfare": float(expected_return(mdp, policy, reward=reward, discount=0.9)),
                    "welfare_grid": welfare,
                }
            )
            print(rows[-1], flush=True)
    return rows


def _train(
    oracle: DeepQFollower, problem: Problem, incentive: dict, group: int
) -> tuple[jax.Array, float]:
    """Return the log policy of a network trained from scratch, and CPU seconds of training."""
    parameters = problem.default_parameters

    @jax.jit
    def program(key: jax.Array) -> jax.Array:
        memory = oracle.initial_memory(problem)
        _, memory, _ = oracle.train(problem, incentive, group, parameters, memory, key=key)
        values = oracle.action_values(problem, memory)
        return jax.nn.log_softmax(values / parameters["temperature"], axis=-1)

    compiled = program.lower(jax.random.key(3)).compile()
    begun = time.process_time()
    log_policy = jax.block_until_ready(compiled(jax.random.key(3)))
    return log_policy, time.process_time() - begun
