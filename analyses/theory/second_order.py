"""Measure the order of `DoublyRobust`'s bias, and its variance beside that of `HPGD`.

    python analyses/theory/second_order.py [--only bias variance]

Leaves second_order.json and second_order.png beside this file, and fills its tables in README.md.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from scipy import stats

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from run import PROBABILITY, exact_gradient  # noqa: E402
from tables import fill, markdown  # noqa: E402

from cbrl_bayes.hypergradients import HPGD, DoublyRobust, LearnedModel  # noqa: E402
from cbrl_bayes.mdp import (  # noqa: E402
    DenseTransition,
    best_response,
    occupancy,
    policy_values,
    soft_policy_values,
)
from cbrl_bayes.problems import four_rooms, random_mdp  # noqa: E402

SHARES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
"""How far the critic's law is from the true one to one that leads everywhere alike."""
PROBLEMS = 20
CELLS = ((0.001, 1), (0.003, 3), (0.005, 5))
STEPS = 500


def make_problem(seed: int):
    """Return a random problem."""
    return random_mdp(num_parameters=20, discount=0.8, temperature=0.5, quadratic=False, seed=seed)


def wrong_critic(problem, share: float):
    """Return a critic with the follower's own policy, and a law that is wrong by a share."""

    def critic(incentive, context, parameters):
        mdp = problem.mdp_fn(incentive, context, parameters)
        policy = best_response(jax.lax.stop_gradient(mdp)).policy
        law = mdp.transition.to_dense().probability
        return replace(
            mdp, transition=DenseTransition((1.0 - share) * law + share / law.shape[-1])
        ), policy

    return critic


def by_matrices(problem, x, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the bias of the learned model's gradient, and of its correction by episodes.

    Expectations of the sums in docs/method.md, by matrices: not through the estimators.
    """
    flat, unravel = ravel_pytree(x)
    context, parameters = problem.contexts.values[0], problem.default_parameters
    discount = problem.leader_discount

    def mdp_at(v, wrong):
        incentive = problem.incentive.transform(unravel(v))
        if wrong:
            return wrong_critic(problem, share)(incentive, context, parameters)[0]
        return problem.mdp_fn(incentive, context, parameters)

    def reward_at(v):
        incentive = problem.incentive.transform(unravel(v))
        return problem.leader_net_reward(incentive, context, parameters)

    log_policy = best_response(mdp_at(flat, False)).log_policy
    policy = jnp.exp(log_policy)

    def leader(wrong):
        mdp, reward = mdp_at(flat, wrong), reward_at(flat)
        values = policy_values(mdp, policy, reward=reward, discount=discount)
        return reward + discount * mdp.transition.expectation(values) - values[:, None]

    def slope(wrong):
        def values_of(v):
            mdp = mdp_at(v, wrong)
            return mdp.q_values(soft_policy_values(mdp, log_policy))

        found = jax.jacfwd(values_of)(flat)
        return found - (policy[..., None] * found).sum(1, keepdims=True)

    def direct(wrong):
        visits = occupancy(mdp_at(flat, wrong), policy, discount=discount)
        return jnp.einsum("sa,sad->d", visits, jax.jacfwd(reward_at)(flat))

    def response(by_leader, by_follower, wrong=False):
        mdp = mdp_at(flat, wrong)
        visits = occupancy(mdp, policy, discount=discount)
        return jnp.einsum("sa,sad->d", visits * by_leader, by_follower) / mdp.temperature

    true_leader, said_leader = leader(False), leader(True)
    true_slope, said_slope = slope(False), slope(True)
    truth = direct(False) + response(true_leader, true_slope)
    plain = direct(True) + response(said_leader, said_slope, wrong=True)
    corrected = direct(False) + (
        response(said_leader, said_slope)
        + response(true_leader - said_leader, said_slope)
        + response(said_leader, true_slope - said_slope)
    )
    np.testing.assert_allclose(truth, exact_gradient(problem, x), rtol=1e-6, atol=1e-9)
    length = np.linalg.norm(truth)
    return tuple(np.asarray(jnp.linalg.norm(one - truth) / length) for one in (plain, corrected))


def bias() -> dict:
    """Slopes of both biases over twenty problems, and the estimator's own mean on one."""
    found = []
    for seed in range(PROBLEMS):
        problem = make_problem(seed)
        x = problem.incentive.random_start(jax.random.key(seed), 1.0)
        found.append([by_matrices(problem, x, share) for share in SHARES])
    both = np.array(found)  # problem, share, (plain, corrected)
    result = {"shares": list(SHARES), "plain": both[..., 0].T.tolist()}
    result["corrected"] = both[..., 1].T.tolist()
    for column, name in enumerate(("plain", "corrected")):
        slopes = [
            stats.linregress(np.log(SHARES[:3]), np.log(one[:3, column])).slope for one in both
        ]
        width = stats.t.ppf((1 + PROBABILITY) / 2, PROBLEMS - 1) * stats.sem(slopes)
        center = float(np.mean(slopes))
        result[f"{name}_slope"] = [center, center - width, center + width]
    return result | {"sampled": [sampled(share) for share in SHARES[4:]]}


def sampled(share: float, repeats: int = 40) -> dict:
    """Return the distance of the estimator's own mean from the exact gradient."""
    problem = make_problem(0)
    x = problem.incentive.random_start(jax.random.key(0), 1.0)
    estimator = DoublyRobust(
        LearnedModel(num_rollouts=10_000, max_steps=60, truncation_exponent=0.0),
        critic=wrong_critic(problem, share),
    )
    state = estimator.init(problem, x, key=jax.random.key(0))
    parameters = problem.default_parameters
    one = jax.jit(lambda k: estimator.estimate(problem, x, parameters, state, key=k)[0]["weight"])
    found = np.stack([one(key) for key in jax.random.split(jax.random.key(1), repeats)])
    truth = np.asarray(exact_gradient(problem, x))
    length, noise = np.linalg.norm(truth), found.var(0, ddof=1).sum() / repeats
    # The length of a mean is too long by its noise.
    squared = ((found.mean(0) - truth) ** 2).sum() - noise
    return {
        "share": share,
        "bias": float(np.sqrt(max(squared, 0.0)) / length),
        "standard_error": float(np.sqrt(noise) / length),
        "by_matrices": float(by_matrices(problem, x, share)[1]),
    }


def variance() -> list[dict]:
    """Variance times follower steps, at the start of an ascent and after 500 steps of it."""
    rows = []
    for temperature, price in CELLS:
        problem = four_rooms(temperature=temperature, penalty_weight=price)
        estimators = {
            "hpgd": (HPGD(num_rollouts=60, num_branches=40), 150),
            "hpgd with a critic": (
                HPGD(num_rollouts=60, num_branches=40, critic=wrong_critic(problem, 0.05)),
                150,
            ),
            "learned_model": (LearnedModel(num_rollouts=60), 60),
            "doubly_robust": (DoublyRobust(LearnedModel(num_rollouts=60)), 60),
        }
        start = problem.incentive.random_start(jax.random.key(0), 0.01)
        end = ascended(problem, estimators["doubly_robust"][0], start)
        for place, x in (("start", start), (f"after {STEPS} steps", end[0])):
            truth = np.asarray(exact_gradient(problem, x))
            row = {"cell": [temperature, price], "place": place, "length": float(truth @ truth)}
            for name, (estimator, repeats) in estimators.items():
                state = estimator.init(problem, x, key=jax.random.key(0))
                if place != "start" and not name.startswith("hpgd"):
                    state = end[1]
                row[name] = spread(problem, x, estimator, state, repeats, truth)
            rows.append(row)
            print(row, flush=True)
    return rows


def ascended(problem, estimator, start):
    """Ascend, and return the last iterate with what was learned."""
    optimizer, parameters = optax.adam(0.05), problem.default_parameters

    @jax.jit
    def walk(keys):
        def step(carry, key):
            x, state, kept = carry
            gradient, state, _ = estimator.estimate(problem, x, parameters, state, key=key)
            change, kept = optimizer.update(jax.tree.map(jnp.negative, gradient), kept, x)
            return (optax.apply_updates(x, change), state, kept), None

        begun = estimator.init(problem, start, key=jax.random.key(0))
        (x, state, _), _ = jax.lax.scan(step, (start, begun, optimizer.init(start)), keys)
        return x, state

    return walk(jax.random.split(jax.random.key(3), STEPS))


def spread(problem, x, estimator, state, repeats: int, truth: np.ndarray) -> dict:
    """Return variance (all coordinates), follower steps and bias of one estimate from a state."""

    @jax.jit
    def one(key):
        gradient, _, info = estimator.estimate(
            problem, x, problem.default_parameters, state, key=key
        )
        return ravel_pytree(gradient)[0], info.follower_steps

    found, steps = zip(
        *(one(key) for key in jax.random.split(jax.random.key(4), repeats)), strict=True
    )
    found = np.stack(found)
    total = float(found.var(0, ddof=1).sum())
    off = ((found.mean(0) - truth) ** 2).sum() - total / repeats
    return {
        "variance": total,
        "steps": float(np.mean(steps)),
        "bias": float(np.sqrt(max(off, 0.0) / (truth @ truth))),
        "bias_noise": float(np.sqrt(total / repeats / (truth @ truth))),
    }


def draw(found: dict) -> None:
    """Bias against the law's error, corrected and not."""
    figure, axes = plt.subplots(figsize=(5.5, 4.2), layout="constrained")
    for name, colour, label in (
        ("plain", "#D55E00", "learned model"),
        ("corrected", "#0072B2", "corrected by episodes (doubly_robust)"),
    ):
        values = np.array(found[name])
        axes.loglog(found["shares"], values, color=colour, alpha=0.25, linewidth=0.8)
        center, low, high = found[f"{name}_slope"]
        axes.loglog(
            found["shares"],
            np.exp(np.log(values).mean(1)),
            "o-",
            color=colour,
            label=f"{label}: slope {center:.2f} ({low:.2f} to {high:.2f})",
        )
    for number, one in enumerate(found["sampled"]):
        axes.errorbar(
            one["share"],
            one["bias"],
            2 * one["standard_error"],
            fmt="ks",
            markersize=4,
            capsize=3,
            label="DoublyRobust itself, one problem, 2 standard errors" if number == 0 else None,
        )
    axes.set(
        xlabel="error of the law (share of uniform moves)",
        ylabel="bias, relative to the gradient's length",
    )
    axes.legend(fontsize="small")
    figure.savefig(HERE / "second_order.png", dpi=130)
    plt.close(figure)


def tables(results: dict) -> dict[str, str]:
    """Return what goes into README.md."""
    slopes = [["gradient", "slope of its bias against the error of the law (95 %)", "theory"]]
    for name, label, theory in (
        ("plain", "in the learned model", "1"),
        ("corrected", "corrected by episodes", "2"),
    ):
        center, low, high = results["bias"][f"{name}_slope"]
        slopes.append([label, f"{center:.2f} ({low:.2f} to {high:.2f})", theory])
    others = ("hpgd with a critic", "doubly_robust", "learned_model")
    rows = [["cell", "place", *(f"`hpgd` / `{name}`" for name in others)]]
    rows[0] += [f"bias of `{name}` (noise)" for name in others[1:]]
    for row in results["variance"]:
        work = {name: row[name]["variance"] * row[name]["steps"] for name in ("hpgd", *others)}
        rows.append(
            [
                "{:g}, {:g}".format(*row["cell"]),
                row["place"],
                *(f"{work['hpgd'] / work[name]:,.2g}" for name in others[:1]),
                *(f"{work['hpgd'] / work[name]:,.0f}" for name in others[1:]),
                *(f"{row[n]['bias']:.2g} ({row[n]['bias_noise']:.1g})" for n in others[1:]),
            ]
        )
    return {"SECOND": markdown(slopes), "EQUAL": markdown(rows)}


def main() -> None:
    """Measure, keep the numbers, draw, and fill the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = {"bias": bias, "variance": variance}
    parser.add_argument("--only", nargs="*", default=list(parts), choices=list(parts))
    path = HERE / "second_order.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for name in parser.parse_args().only:
        results[name] = parts[name]()
        path.write_text(json.dumps(results, indent=1) + "\n")
    draw(results["bias"])
    fill(HERE / "README.md", tables(results))


if __name__ == "__main__":
    main()
