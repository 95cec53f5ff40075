"""Measure the order of `DoublyRobust`'s bias, and its variance beside that of `HPGD`.

    python analyses/theory/second_order.py [--only bias variance]

Leaves second_order.json and second_order.png beside this file, and fills its tables in README.md
and docs/choosing.md.
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

from cbrl_bayes.hypergradients import HPGD, DoublyRobust, Exact, LearnedModel  # noqa: E402
from cbrl_bayes.mdp import DenseTransition, best_response  # noqa: E402
from cbrl_bayes.problems import four_rooms, random_mdp  # noqa: E402

SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4)
"""How far the critic's law is from the true one to one that leads everywhere alike."""
PROBLEMS = 20
CELLS = ((0.001, 1.0), (0.003, 3.0), (0.005, 5.0))
STEPS, REPEATS = 500, 60


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


def by_matrices(problem, x, shares) -> list[tuple[float, float, float]]:
    """Return the critics' error, the bias of the model's gradient and that of its correction.

    The error is the geometric mean of the errors of the leader's advantage and of the slope of the
    follower's, relative and weighted by visits; one row for each share. Expectations of the sums
    in docs/method.md, with NumPy: not through the estimators.
    """
    parameters, discount = problem.default_parameters, problem.leader_discount
    context = problem.contexts.values[0]
    incentive = problem.incentive.transform(x)
    mdp = problem.mdp_fn(incentive, context, parameters)
    law = np.asarray(mdp.transition.to_dense().probability)
    policy, start = np.asarray(best_response(mdp).policy), np.asarray(mdp.initial)
    # Rewards are linear in the weights, and the charge a square.
    features = np.asarray(
        jax.jacfwd(lambda w: problem.mdp_fn({"weight": w}, context, parameters).reward)(
            incentive["weight"]
        )
    )
    reward = np.asarray(problem.leader_net_reward(incentive, context, parameters))
    reward_slope = -(1.0 - discount) * np.asarray(incentive["weight"])

    def in_law(law):
        """Return the visits, the leader's advantage and the slope of the follower's."""
        moved = np.eye(len(law)) - discount * np.einsum("sa,sat->st", policy, law)
        worth = np.linalg.solve(moved, (policy * reward).sum(1))
        value_slope = np.linalg.solve(moved, np.einsum("sa,sad->sd", policy, features))
        slope = features + discount * law @ value_slope - value_slope[:, None]
        visits = np.linalg.solve(moved.T, start)[:, None] * policy
        return visits, reward + discount * law @ worth - worth[:, None], slope

    def gradient(visits, by_leader, by_follower):
        direct = visits.sum() * reward_slope
        return direct + np.einsum("sa,sad->d", visits * by_leader, by_follower) / mdp.temperature

    visits, true_leader, true_slope = in_law(law)
    truth, found = gradient(visits, true_leader, true_slope), []
    for share in shares:
        said = in_law((1.0 - share) * law + share / len(law))
        _, said_leader, said_slope = said
        corrected = (
            gradient(visits, said_leader, said_slope)
            + gradient(visits, true_leader - said_leader, said_slope)
            + gradient(visits, said_leader, true_slope - said_slope)
            - 2.0 * gradient(visits, 0.0 * said_leader, said_slope)
        )
        length = np.linalg.norm(truth)
        wrong = [
            np.sqrt((weights * (said - true) ** 2).sum() / (weights * true**2).sum())
            for weights, said, true in (
                (visits, said_leader, true_leader),
                (visits[..., None], said_slope, true_slope),
            )
        ]
        biases = [np.linalg.norm(g - truth) / length for g in (gradient(*said), corrected)]
        found.append((float(np.sqrt(np.prod(wrong))), *map(float, biases)))
    return found


def bias() -> dict:
    """Slopes of both biases over twenty problems, and the estimator's own mean on one."""
    found = []
    for seed in range(PROBLEMS):
        problem = make_problem(seed)
        x = problem.incentive.random_start(jax.random.key(seed), 1.0)
        found.append(by_matrices(problem, x, SHARES))
    every = np.array(found)  # problem, share, (error, plain, corrected)
    result = {"shares": list(SHARES)}
    for column, name in enumerate(("error", "plain", "corrected")):
        result[name] = every[..., column].T.tolist()
        if name == "error":
            continue
        few = np.log(every[:, :3])
        slopes = [stats.linregress(one[:, 0], one[:, column]).slope for one in few]
        width = stats.t.ppf((1 + PROBABILITY) / 2, PROBLEMS - 1) * stats.sem(slopes)
        center = float(np.mean(slopes))
        result[f"{name}_slope"] = [center, center - width, center + width]
    return result | {"sampled": [sampled(share) for share in SHARES[4:]]}


def sampled(share: float, repeats: int = 40) -> dict:
    """Return the distance of the estimator's own mean from the exact gradient."""
    problem = make_problem(0)
    x = problem.incentive.random_start(jax.random.key(0), 1.0)
    estimator = DoublyRobust(
        LearnedModel(num_rollouts=4_000, max_steps=60, truncation_exponent=0.0),
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
        "error": by_matrices(problem, x, [share])[0][0],
        "by_matrices": by_matrices(problem, x, [share])[0][2],
    }


def variance() -> list[dict]:
    """Variance times follower steps, at the start of an ascent and after 500 steps of it."""
    base = four_rooms(penalty_weight=1)
    model = LearnedModel(num_rollouts=60)
    plain = HPGD(num_rollouts=60, num_branches=40)
    doubly, rows = Sampler(base, lambda problem: DoublyRobust(model)), []
    samplers = {
        "hpgd": Sampler(base, lambda problem: plain),
        "hpgd with a critic": Sampler(
            base, lambda problem: replace(plain, critic=wrong_critic(problem, 0.05))
        ),
        "learned_model": Sampler(base, lambda problem: model),
        "doubly_robust": doubly,
    }
    exact = Sampler(base, lambda problem: Exact())
    for cell in CELLS:
        start = base.incentive.random_start(jax.random.key(0), 0.01)
        nothing = model.init(base, start, key=jax.random.key(0))
        end, learned = doubly.ascended(cell, start, nothing)
        for place, x, state in (("start", start, nothing), (f"after {STEPS} steps", end, learned)):
            given = exact.one(cell, x, jnp.zeros(()), jax.random.key(0))[0]
            truth = np.asarray(ravel_pytree(given)[0])
            row = {"cell": cell, "place": place, "length": float(np.linalg.norm(truth))}
            for name, sampler in samplers.items():
                row[name] = sampler.spread(cell, x, state, truth)
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


class Sampler:
    """One estimator in Four-Rooms, compiled once for all settings."""

    def __init__(self, base, make) -> None:
        self.base, self.make = base, make
        self.walk, self.one = jax.jit(self._walk), jax.jit(self._one)

    def stated(self, cell) -> tuple:
        """Return the problem of a setting, and its parameters."""
        temperature, price = cell
        problem = self.base.priced(price)
        return problem, problem.default_parameters | {"temperature": temperature}

    def _one(self, cell, x, state, key):
        problem, parameters = self.stated(cell)
        estimator = self.make(problem)
        if isinstance(estimator, HPGD | Exact):  # they learn nothing
            state = estimator.init(problem, x, key=key)
        return estimator.estimate(problem, x, parameters, state, key=key)

    def _walk(self, cell, start, state, keys):
        optimizer = optax.adam(0.05)

        def step(carry, key):
            x, state, kept = carry
            gradient, state, _ = self._one(cell, x, state, key)
            change, kept = optimizer.update(jax.tree.map(jnp.negative, gradient), kept, x)
            return (optax.apply_updates(x, change), state, kept), None

        return jax.lax.scan(step, (start, state, optimizer.init(start)), keys)[0][:2]

    def ascended(self, cell, start, state) -> tuple:
        """Ascend, and return the last iterate with what was learned."""
        return self.walk(cell, start, state, jax.random.split(jax.random.key(3), STEPS))

    def spread(self, cell, x, state, truth: np.ndarray) -> dict:
        """Return variance (all coordinates), follower steps and bias of one estimate."""
        found, steps = [], []
        for key in jax.random.split(jax.random.key(4), REPEATS):
            gradient, _, info = self.one(cell, x, state, key)
            found.append(np.asarray(ravel_pytree(gradient)[0]))
            steps.append(float(info.follower_steps))
        total = float(np.var(found, axis=0, ddof=1).sum())
        off = ((np.mean(found, axis=0) - truth) ** 2).sum() - total / REPEATS
        length = np.linalg.norm(truth)
        return {
            "variance": total,
            "steps": float(np.mean(steps)),
            "bias": float(np.sqrt(max(off, 0.0)) / length),
            "bias_noise": float(np.sqrt(total / REPEATS) / length),
        }


def draw(found: dict) -> None:
    """Bias against the law's error, corrected and not."""
    figure, axes = plt.subplots(figsize=(5.5, 4.2), layout="constrained")
    for name, colour, label in (
        ("plain", "#D55E00", "learned model"),
        ("corrected", "#0072B2", "corrected by episodes (doubly_robust)"),
    ):
        values = np.array(found[name])
        errors = np.array(found["error"])
        axes.loglog(errors, values, color=colour, alpha=0.25, linewidth=0.8)
        center, low, high = found[f"{name}_slope"]
        axes.loglog(
            np.exp(np.log(errors).mean(1)),
            np.exp(np.log(values).mean(1)),
            "o-",
            color=colour,
            label=f"{label}: slope {center:.2f} ({low:.2f} to {high:.2f})",
        )
    for number, one in enumerate(found["sampled"]):
        axes.errorbar(
            one["error"],
            one["bias"],
            2 * one["standard_error"],
            fmt="ks",
            markersize=4,
            capsize=3,
            label="DoublyRobust itself, one problem, 2 standard errors" if number == 0 else None,
        )
    axes.set(
        xlabel="error of the critics (geometric mean of the leader's and the follower's)",
        ylabel="bias, relative to the gradient's length",
    )
    axes.legend(fontsize="small")
    figure.savefig(HERE / "second_order.png", dpi=130)
    plt.close(figure)


def tables(results: dict) -> dict[str, str]:
    """Return what goes into README.md."""
    slopes = [["gradient", "slope of its bias against the error of the critics (95 %)", "theory"]]
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
    found = tables(results)
    fill(HERE / "README.md", found)
    fill(HERE.parents[1] / "docs/choosing.md", {"EQUAL": found["EQUAL"]})


if __name__ == "__main__":
    main()
