"""Hypergradients through an equilibrium: implicit, and through 200 unrolled sweeps.

    python tests/benchmarks/equilibrium.py [--links 50 100 ...] [--contexts 1 4] [--output FILE]

Drivers move along the links of a random network whose links get slower as they fill; the leader
sets a toll on each. Both ways solve the same responses; the unrolled one takes damped sweeps
``m + (G(m) - m) / 2`` and differentiates all of them. Reported for each size: seconds of one
hypergradient (best of three, compiled before) and memory of the compiled program, both ways, and
their ratios in this run; and how far the two gradients are apart.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import cbrl_bayes as cb
from cbrl_bayes.problems import leader_outcome
from cbrl_bayes.problems.equilibrium import POPULATION, statistic_of_responses

SWEEPS = 200


def make_network(num_links: int, num_contexts: int) -> cb.Problem:
    """Links with three ways on, congestion, and a destination in each context."""
    rng = np.random.default_rng(0)
    ahead = jnp.asarray(rng.integers(0, num_links, (num_links, 3)))
    free = jnp.asarray(rng.uniform(0.5, 1.5, num_links))

    def drive(incentive, goal, parameters):
        cost = free + 0.5 * parameters[POPULATION] + incentive["toll"]
        ends = jnp.arange(num_links) == goal
        return cb.MDP(
            reward=-jnp.broadcast_to(cost[:, None], (num_links, 3)),
            transition=cb.SuccessorTransition(ahead[..., None], jnp.ones((num_links, 3, 1))),
            initial=jnp.full(num_links, 1.0 / num_links),
            discount=0.9,
            temperature=parameters["temperature"],
            terminal=ends,
        )

    def minutes(incentive, goal, parameters):
        return -jnp.broadcast_to((free + 0.5 * parameters[POPULATION])[:, None], (num_links, 3))

    goals = jnp.arange(num_contexts)
    return cb.Problem(
        name="network",
        incentive=cb.IncentiveSpace(
            {"toll": jnp.full(num_links, 0.1)}, lambda x: x, {"toll": cb.Labels(("link",))}
        ),
        contexts=cb.DiscreteContexts(
            tuple(map(str, range(num_contexts))), goals, (1.0 / num_contexts,) * num_contexts
        ),
        mdp_fn=drive,
        parameters={"temperature": 0.5},
        leader_reward_fn=minutes,
        leader_discount=0.9,
        population=cb.Population(
            lambda incentive, visits, goal, parameters: visits.sum(1), jnp.full(num_links, 0.1)
        ),
    )


def implicit(problem, toll):
    """The package's way."""
    return leader_outcome(problem, {"toll": toll}, problem.default_parameters).objective


def unrolled(problem, toll):
    """Damped sweeps, all of them kept for the derivative."""
    incentive, known = {"toll": toll}, problem.default_parameters

    def sweep(statistic, _):
        made, _ = statistic_of_responses(problem, incentive, known, statistic)
        return statistic + 0.5 * (made - statistic), None

    start = jnp.asarray(problem.population.start)
    statistic, _ = jax.lax.scan(sweep, start, length=SWEEPS)
    given = {**known, POPULATION: statistic}
    return leader_outcome(problem, {"toll": toll}, given).objective


def measure(problem, way, toll):
    """Return the gradient, seconds, and megabytes that the program needs beside its arguments."""
    program = jax.jit(jax.grad(lambda x: way(problem, x))).lower(toll).compile()
    memory = program.memory_analysis().temp_size_in_bytes / 1e6
    gradient, seconds = program(toll), []
    for _ in range(3):
        begun = time.perf_counter()
        jax.block_until_ready(program(toll))
        seconds.append(time.perf_counter() - begun)
    return np.asarray(gradient), min(seconds), memory


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--links", type=int, nargs="+", default=[25, 50, 100, 200])
    parser.add_argument("--contexts", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    rows = []
    for links in options.links:
        for contexts in options.contexts:
            problem, toll = make_network(links, contexts), jnp.full(links, 0.1)
            ours, seconds, memory = measure(problem, implicit, toll)
            theirs, slow, large = measure(problem, unrolled, toll)
            rows.append(
                {
                    "links": links,
                    "contexts": contexts,
                    "implicit_seconds": round(seconds, 4),
                    "unrolled_seconds": round(slow, 4),
                    "times_faster": round(slow / seconds, 1),
                    "implicit_megabytes": round(memory, 2),
                    "unrolled_megabytes": round(large, 2),
                    "gradient_difference": float(abs(ours - theirs).max() / abs(theirs).max()),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    if options.output:
        options.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
