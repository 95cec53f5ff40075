"""Does the theory show? Slopes with intervals, the random-MDP test, and variance reduction.

    python analyses/theory/run.py [--only decay bias rt_q race variance]

Leaves results.json and slopes.png beside this file.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from scipy import stats

from cbrl_bayes.followers import SweepFollower, soft_q_iterations
from cbrl_bayes.hypergradients import (
    HPGD,
    RTQ,
    BoltzmannCovariance,
    Exact,
    Penalty,
    SoBiRL,
    ZerothOrder,
)
from cbrl_bayes.mdp import best_response, occupancy, policy_values, rollout, value_iteration
from cbrl_bayes.problems import four_rooms, leader_outcome, random_mdp

HERE = Path(__file__).parent
PROBABILITY = 0.95


def slope_with_interval(x: np.ndarray, replicates: np.ndarray, draws: int = 2000) -> dict:
    """Fit log y on log x; the interval is a bootstrap over replicates (rows).

    Parameters
    ----------
    x : array, shape (points,)
    replicates : array, shape (replicates, points)
        Their mean over rows is y.
    """
    rng = np.random.default_rng(0)
    fits = []
    for _ in range(draws):
        rows = rng.integers(0, len(replicates), len(replicates))
        fits.append(stats.linregress(np.log(x), np.log(replicates[rows].mean(0))).slope)
    center = stats.linregress(np.log(x), np.log(replicates.mean(0))).slope
    low, high = np.quantile(fits, [(1 - PROBABILITY) / 2, (1 + PROBABILITY) / 2])
    return {"slope": float(center), "interval": [float(low), float(high)]}


def plug_in_gradient(problem, x, policy):
    """Return the hypergradient formula with any policy in place of the best response, exactly.

    By matrices; a route of its own, not through the package's estimators. One context, and an
    incentive that moves the reward alone.
    """
    flat, unravel = ravel_pytree(x)
    parameters = problem.default_parameters
    context = jax.tree.map(lambda leaf: leaf[0], problem.contexts.values)

    def mdp_at(v):
        return problem.mdp_fn(problem.incentive.transform(unravel(v)), context, parameters)

    def leader_reward(v):
        incentive = problem.incentive.transform(unravel(v))
        return problem.leader_net_reward(incentive, context, parameters)

    mdp, gamma_u = mdp_at(flat), problem.leader_discount
    P = mdp.transition.to_dense().probability
    P_pi = jnp.einsum("sa,sat->st", policy, P)
    reward_slope = jax.jacfwd(lambda v: mdp_at(v).reward)(flat)
    mean_slope = jnp.einsum("sa,sad->sd", policy, reward_slope)
    value_slope = jnp.linalg.solve(jnp.eye(len(P)) - mdp.discount * P_pi, mean_slope)
    q_slope = reward_slope + mdp.discount * jnp.einsum("sat,td->sad", P, value_slope)
    net = leader_reward(flat)
    leader_values = policy_values(mdp, policy, reward=net, discount=gamma_u)
    advantage = net + gamma_u * P @ leader_values - leader_values[:, None]
    visits = occupancy(mdp, policy, discount=gamma_u)
    response = jnp.einsum("sa,sad->d", visits * advantage, q_slope) / mdp.temperature
    direct = jnp.einsum("sa,sad->d", visits, jax.jacfwd(leader_reward)(flat))
    return direct + response


def exact_gradient(problem, x):
    """Return the exact hypergradient as one vector."""
    estimator, parameters = Exact(), problem.default_parameters
    state = estimator.init(problem, x, key=jax.random.key(0))
    gradient, _, _ = estimator.estimate(problem, x, parameters, state, key=jax.random.key(0))
    return ravel_pytree(gradient)[0]


def decay() -> dict:
    """Return the mean squared gradient over HPGD's iterates, step size T^-1/2.

    The slope is fitted on the three longest lengths.
    """
    problem = random_mdp(num_parameters=20, discount=0.8, temperature=0.5, quadratic=False)
    estimator = HPGD(num_rollouts=8, num_branches=8, max_steps=80)
    parameters, lengths, seeds = problem.default_parameters, (64, 256, 1024, 4096, 16384), 6

    def run(length):
        @jax.jit
        def walk(start, keys):
            def step(carry, step_key):
                x, state = carry
                truth = exact_gradient(problem, x)
                gradient, state, _ = estimator.estimate(problem, x, parameters, state, key=step_key)
                x = jax.tree.map(lambda leaf, g: leaf + g / length**0.5, x, gradient)
                return (x, state), truth @ truth

            state = estimator.init(problem, start, key=jax.random.key(0))
            return jax.lax.scan(step, (start, state), keys)[1].mean()

        return [
            float(
                walk(
                    problem.incentive.random_start(jax.random.key(seed), 1.0),
                    jax.random.split(jax.random.key(1000 + seed), length),
                )
            )
            for seed in range(seeds)
        ]

    found = np.array([run(length) for length in lengths]).T
    return {
        "steps": list(lengths),
        "mean_square_gradient": found.tolist(),
        **slope_with_interval(np.array(lengths[2:], float), found[:, 2:]),
    }


def bias() -> dict:
    """Bias of the estimate against the follower's accuracy, over twenty random problems."""
    sweeps, problems = list(range(0, 40, 3)), 20
    slopes, distance, error = [], [], []
    for seed in range(problems):
        problem = random_mdp(
            num_parameters=20, discount=0.8, temperature=0.5, quadratic=False, seed=seed
        )
        x = problem.incentive.random_start(jax.random.key(seed), 1.0)
        incentive = problem.incentive.transform(x)
        mdp = problem.mdp_fn(incentive, problem.contexts.values[0], problem.default_parameters)
        best, truth = best_response(mdp).policy, exact_gradient(problem, x)
        rows = []
        for number in sweeps:
            values = value_iteration(mdp, num_sweeps=number)
            policy = jax.nn.softmax(mdp.q_values(values) / mdp.temperature)
            found = plug_in_gradient(problem, x, policy)
            rows.append((jnp.abs(policy - best).max(), jnp.linalg.norm(found - truth)))
        delta, wrong = np.array(rows).T
        kept = delta > 1e-9  # beyond, rounding shows
        slopes.append(stats.linregress(np.log(delta[kept]), np.log(wrong[kept])).slope)
        distance.append(delta[kept].tolist())
        error.append(wrong[kept].tolist())
    center, spread = np.mean(slopes), stats.sem(slopes)
    width = stats.t.ppf((1 + PROBABILITY) / 2, problems - 1) * spread
    return {
        "policy_distance": distance,
        "bias": error,
        "slope": float(center),
        "interval": [float(center - width), float(center + width)],
        "sampled_agrees": sampled_bias(),
    }


def sampled_bias() -> dict:
    """HPGD's own mean with a follower that plans one step ahead against the plug-in formula."""
    problem = random_mdp(num_parameters=20, discount=0.8, temperature=0.5, quadratic=False)
    x = problem.incentive.random_start(jax.random.key(0), 1.0)
    parameters = problem.default_parameters
    oracle = SweepFollower(num_sweeps=0)
    estimator = HPGD(num_rollouts=200, num_branches=200, max_steps=80, oracle=oracle)
    state = estimator.init(problem, x, key=jax.random.key(0))
    one = jax.jit(lambda k: estimator.estimate(problem, x, parameters, state, key=k)[0]["weight"])
    found = np.stack([one(key) for key in jax.random.split(jax.random.key(1), 400)])
    incentive = problem.incentive.transform(x)
    mdp = problem.mdp_fn(incentive, problem.contexts.values[0], parameters)
    values = jnp.zeros(mdp.num_states)
    policy = jax.nn.softmax(mdp.q_values(values) / mdp.temperature)
    expected = np.asarray(plug_in_gradient(problem, x, policy))
    error = np.sqrt((found.var(0, ddof=1) / len(found)).sum())
    return {
        "distance_from_plug_in": float(np.linalg.norm(found.mean(0) - expected)),
        "standard_error": float(error),
        "distance_from_exact": float(
            np.linalg.norm(found.mean(0) - np.asarray(exact_gradient(problem, x)))
        ),
    }


def rt_q() -> dict:
    """Levels of Q-learning: error, bias and change between levels; RT-Q's own variance."""
    problem = random_mdp(num_parameters=20, discount=0.8, temperature=0.5, quadratic=False)
    x = problem.incentive.random_start(jax.random.key(0), 1.0)
    parameters = problem.default_parameters
    incentive = problem.incentive.transform(x)
    mdp = problem.mdp_fn(incentive, problem.contexts.values[0], parameters)
    truth, levels, num_runs = exact_gradient(problem, x), 9, 1000

    @jax.jit
    def snapshots(key):
        q, begun, found = jnp.zeros(mdp.reward.shape), 0, []
        for level in range(1, levels + 1):
            q = soft_q_iterations(mdp, q, key=key, start=begun, stop=2**level)
            begun = 2**level
            found.append(plug_in_gradient(problem, x, jax.nn.softmax(q / mdp.temperature)))
        return jnp.stack(found)

    found = np.asarray(jax.lax.map(snapshots, jax.random.split(jax.random.key(2), num_runs)))
    iterations = 2.0 ** np.arange(1, levels + 1)
    blocks = found.reshape(20, -1, *found.shape[1:]).mean(1)
    wrong = np.linalg.norm(found.mean(0) - truth, axis=-1)
    noise = np.sqrt(found.var(0, ddof=1).sum(-1) / num_runs)
    change = (np.diff(found, axis=1) ** 2).sum(-1)
    trusted = wrong > 3 * noise  # beyond, the bias is not told from sampling
    rms = np.sqrt(((found - truth) ** 2).sum(-1).mean(0))
    return {
        "iterations": iterations.tolist(),
        "bias": wrong.tolist(),
        "bias_noise": noise.tolist(),
        "rms_error": rms.tolist(),
        "change": change.mean(0).tolist(),
        "bias_slope": bootstrap_bias(iterations[trusted], blocks[:, trusted], np.asarray(truth)),
        "change_slope": slope_with_interval(iterations[2:-1], change[:, 2:]),
        "variance": rt_q_variance(problem, x, parameters),
        "scale": float(np.linalg.norm(truth)),
    }


def bootstrap_bias(iterations: np.ndarray, blocks: np.ndarray, truth: np.ndarray) -> dict:
    """Slope of the norm of the mean error; resampled over blocks of runs."""
    rng = np.random.default_rng(0)

    def fit(sample: np.ndarray) -> float:
        wrong = np.linalg.norm(sample.mean(0) - truth, axis=-1)
        return stats.linregress(np.log(iterations), np.log(wrong)).slope

    fits = [fit(blocks[rng.integers(0, len(blocks), len(blocks))]) for _ in range(2000)]
    low, high = np.quantile(fits, [(1 - PROBABILITY) / 2, (1 + PROBABILITY) / 2])
    return {"slope": float(fit(blocks)), "interval": [float(low), float(high)]}


def rt_q_variance(problem, x, parameters, repeats: int = 1500) -> list[dict]:
    """RT-Q from rollouts, K by K: variance, and inner iterations against plain Q-learning's."""
    rows = []
    for levels in (1, 2, 4, 6, 8):
        rollouts = HPGD(num_rollouts=40, num_branches=40, max_steps=80)
        estimator = RTQ(num_levels=levels, rollouts=rollouts)
        state = estimator.init(problem, x, key=jax.random.key(0))

        def one(key, e=estimator, s=state):
            return e.estimate(problem, x, parameters, s, key=key)[0]["weight"]

        found = np.stack([jax.jit(one)(k) for k in jax.random.split(jax.random.key(3), repeats)])
        rows.append(
            {
                "K": levels,
                "variance": float(found.var(0, ddof=1).sum()),
                "expected_iterations": estimator.expected_iterations,
                "plain_iterations": 2.0 ** (levels + 1),
                "plain_variance": plain_variance(problem, x, parameters, 2 ** (levels + 1)),
            }
        )
    return rows


def plain_variance(problem, x, parameters, iterations: int, repeats: int = 500) -> float:
    """Return HPGD's variance, same rollouts, with a follower that learns for so long."""
    incentive = problem.incentive.transform(x)
    mdp = problem.mdp_fn(incentive, problem.contexts.values[0], parameters)
    settings = HPGD(num_rollouts=40, num_branches=40, max_steps=80)

    @jax.jit
    def one(key):
        learn_key, play_key = jax.random.split(key)
        q = soft_q_iterations(
            mdp, jnp.zeros(mdp.reward.shape), key=learn_key, start=0, stop=iterations
        )
        policy = jax.nn.softmax(q / mdp.temperature)
        gradient, *_ = settings.from_rollouts(
            problem,
            x,
            problem.contexts.values[0],
            parameters,
            partial(rollout, mdp, policy),
            1.0,
            tuple(jax.random.split(play_key)),
        )
        return gradient["weight"]

    found = np.stack([one(key) for key in jax.random.split(jax.random.key(6), repeats)])
    return float(found.var(0, ddof=1).sum())


def race() -> list[dict]:
    """Run the random-MDP test: iterations and seconds to 1.00009, from the same start."""
    problem, goal = random_mdp(), 1.00009
    decaying = optax.sgd(lambda t: 1.0 / (1.0 + t / 5.0))
    contestants = {
        "exact": (Exact(), optax.sgd(1.0), 50),
        "sobirl": (SoBiRL(num_sweeps=5), optax.sgd(1.0), 50),
        "penalty": (Penalty(price=100.0, growth=1.5, max_price=1e6), optax.sgd(1.0), 100),
        "hpgd": (HPGD(num_rollouts=50, num_branches=50, max_steps=40), decaying, 400),
        "zeroth_order": (
            ZerothOrder(num_rollouts=None, num_directions=10, radius=0.1, min_radius=1e-6),
            optax.sgd(0.08),
            1500,
        ),
    }
    rows = []
    for name, (estimator, optimizer, most) in contestants.items():
        counts, seconds = [], []
        for seed in range(5):
            count, spent = time_to_goal(problem, estimator, optimizer, most, goal, seed)
            counts.append(count)
            seconds.append(spent)
        rows.append(
            {
                "estimator": name,
                "iterations": counts,
                "seconds": seconds,
                "median_iterations": float(np.median(counts)),
                "median_seconds": float(np.median(seconds)),
            }
        )
    return rows


def time_to_goal(problem, estimator, optimizer, most: int, goal: float, seed: int):
    """Count iterations until the loss is below ``goal``, then time as many, compiled."""
    parameters, key = problem.default_parameters, jax.random.key(seed)
    start = problem.incentive.random_start(key, 1.0)

    def walk(length: int, watch: bool) -> Callable:
        def step(carry, step_key):
            x, state, kept = carry
            gradient, state, _ = estimator.estimate(problem, x, parameters, state, key=step_key)
            descent = jax.tree.map(jnp.negative, gradient)
            change, kept = optimizer.update(descent, kept, x)
            x = optax.apply_updates(x, change)
            loss = -leader_outcome(problem, x, parameters).objective if watch else 0.0
            return (x, state, kept), loss

        def run(x):
            first = (x, estimator.init(problem, x, key=key), optimizer.init(x))
            return jax.lax.scan(step, first, jax.random.split(key, length))

        return jax.jit(run)

    losses = np.asarray(walk(most, True)(start)[1])
    if losses.min() > goal:
        return float("nan"), float("nan")
    count = int(np.argmax(losses <= goal)) + 1
    timed = walk(count, False)
    jax.block_until_ready(timed(start))
    begun = time.process_time()
    jax.block_until_ready(timed(start))
    return count, time.process_time() - begun


def variance() -> list[dict]:
    """Measure each variance reduction, on Four-Rooms (temperature .005) and a random MDP."""
    rooms = four_rooms(temperature=0.005)
    moved = random_mdp(num_parameters=20, discount=0.8, temperature=0.5, quadratic=False)
    start_scales = {"four_rooms": 0.3, "random_mdp": 1.0}
    rows = []
    for problem in (rooms, moved):
        long = 400 if problem is rooms else 80
        options = {
            "HPGD": HPGD(num_rollouts=60, num_branches=40, max_steps=long),
            "HPGD, common_noise=False": HPGD(
                num_rollouts=60, num_branches=40, max_steps=long, common_noise=False
            ),
            "BoltzmannCovariance": BoltzmannCovariance(num_rollouts=200, max_steps=long),
            "BoltzmannCovariance, cross_fit=False": BoltzmannCovariance(
                num_rollouts=200, max_steps=long, cross_fit=False
            ),
            "BoltzmannCovariance, critic_memory=0.9": BoltzmannCovariance(
                num_rollouts=200, max_steps=long, critic_memory=0.9
            ),
        }
        x = problem.incentive.random_start(jax.random.key(8), start_scales[problem.name])
        rows += [
            {"problem": problem.name, "estimator": name} | spread(problem, x, estimator)
            for name, estimator in options.items()
        ]
    return rows


def spread(problem, x, estimator, repeats: int = 600) -> dict:
    """Return the standard deviation of one estimate relative to the exact length, and its cost."""
    parameters, truth = problem.default_parameters, np.asarray(exact_gradient(problem, x))
    state = estimator.init(problem, x, key=jax.random.key(0))

    @jax.jit
    def one(state, key):
        gradient, state, info = estimator.estimate(problem, x, parameters, state, key=key)
        return ravel_pytree(gradient)[0], state, info.follower_steps

    found, steps = [], []
    for index, key in enumerate(jax.random.split(jax.random.key(5), repeats + 100)):
        gradient, state, taken = one(state, key)
        if index >= 100:
            found.append(np.asarray(gradient))
            steps.append(int(taken))
    found = np.stack(found)
    length = np.linalg.norm(truth)
    return {
        "relative_standard_deviation": float(np.sqrt(found.var(0, ddof=1).sum()) / length),
        "relative_bias": float(np.linalg.norm(found.mean(0) - truth) / length),
        "bias_noise": float(np.sqrt(found.var(0, ddof=1).sum() / repeats) / length),
        "follower_steps": float(np.mean(steps)),
    }


def draw(results: dict) -> None:
    """One panel per claim."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
    ours, guide = "#0072B2", "#999999"

    def titled(panel, text: str, fit: dict) -> None:
        low, high = fit["interval"]
        panel.set_title(f"{text}\nslope {fit['slope']:.2f} ({low:.2f} to {high:.2f})", fontsize=9)

    panel, found = axes[0, 0], results["decay"]
    steps, values = np.array(found["steps"]), np.array(found["mean_square_gradient"])
    panel.loglog(steps, values.T, ".", color=ours, alpha=0.4)
    panel.loglog(steps, values.mean(0), color=ours)
    panel.loglog(steps, values.mean(0)[0] * (steps / steps[0]) ** -0.5, "--", color=guide)
    panel.set(xlabel="steps T (step size T^-1/2)", ylabel="mean squared gradient")
    titled(panel, "HPGD (dashed: T^-1/2); fitted from T = 1024", found)

    panel, found = axes[0, 1], results["bias"]
    for delta, wrong in zip(found["policy_distance"], found["bias"], strict=True):
        panel.loglog(delta, wrong, color=ours, alpha=0.4)
    panel.set(xlabel="distance of the follower's policy from its best", ylabel="bias")
    titled(panel, "bias against follower accuracy, 20 problems", found)

    panel, found = axes[1, 0], results["rt_q"]
    panel.loglog(found["iterations"], found["rms_error"], color=guide, label="one run's error")
    panel.loglog(found["iterations"], found["bias"], "o-", color=ours, label="bias")
    panel.loglog(
        found["iterations"],
        found["bias_noise"],
        ":",
        color=guide,
        label="standard error of the bias",
    )
    panel.set(xlabel="Q-learning iterations", ylabel="distance from the exact hypergradient")
    panel.legend(fontsize="small")
    titled(panel, "levels of Q-learning: bias", found["bias_slope"])

    panel = axes[1, 1]
    rows = found["variance"]
    panel.plot(
        [r["K"] for r in rows],
        [r["variance"] for r in rows],
        "o-",
        color=ours,
        label="variance of RT-Q",
    )
    panel.set(xlabel="levels K", ylabel="variance")
    right = panel.twinx()
    right.semilogy(
        [r["K"] for r in rows],
        [r["plain_iterations"] for r in rows],
        "s--",
        color=guide,
        label="iterations, one long run",
    )
    right.semilogy(
        [r["K"] for r in rows],
        [r["expected_iterations"] for r in rows],
        "s-",
        color="#D55E00",
        label="iterations, RT-Q (expected)",
    )
    right.set_ylabel("Q-learning iterations")
    handles = [*panel.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
    panel.legend(handles, [h.get_label() for h in handles], fontsize="small", loc="upper left")
    panel.set_title("RT-Q: variance and cost", fontsize=9)
    figure.savefig(HERE / "slopes.png", dpi=130)
    plt.close(figure)


def main() -> None:
    """Run what was asked for and keep the rest."""
    parts = {"decay": decay, "bias": bias, "rt_q": rt_q, "race": race, "variance": variance}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(parts), choices=list(parts))
    path = HERE / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for name in parser.parse_args().only:
        begun = time.perf_counter()
        results[name] = parts[name]()
        print(f"{name}: {time.perf_counter() - begun:.0f} s", flush=True)
        path.write_text(json.dumps(results, indent=1) + "\n")
    if set(parts) <= set(results):
        draw(results)


if __name__ == "__main__":
    main()
