"""A schedule of rewards for four groups of learners: 100 trials, 25 rewards for each option.

    python analyses/learning/run.py

Choices are simulated, so the truth is known. Leaves results.json beside this file and the picture
of docs/learning.md.
"""

import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro.distributions as dist

import cbrl_bayes as cb
from cbrl_bayes.problems import respond_everywhere, two_option_learning

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from tables import shrink  # noqa: E402

PICTURE = HERE.parents[1] / "docs" / "images" / "learning.png"
GROUPS = ("a", "b", "c", "d")
TRUTH = {
    "temperature": np.array([0.15, 0.2, 0.25, 0.3]),
    "learning_rate": np.array([0.12, 0.2, 0.3, 0.45]),
}
PRIORS = {
    "temperature": cb.Hierarchical(dist.LogNormal(-1.6, 1.0)),
    "learning_rate": cb.Hierarchical(dist.Beta(1.0, 3.0)),
}
NUM_LEARNERS = 40
NUM_DRAWS = 12
SAMPLING = cb.NUTSSettings(num_chains=2, num_warmup=500, num_samples=1500)
SETTINGS = cb.DesignSettings(
    search=cb.Search(ascent=cb.Ascent(num_steps=150, learning_rate=0.3)),
    per_draw=cb.Search(ascent=cb.Ascent(num_steps=100, learning_rate=0.3)),
    num_search_draws=4,
)
QUICK = cb.Search(ascent=cb.Ascent(num_steps=1, num_extensions=0))


def problem_of(learns: bool = True) -> cb.Problem:
    """Return the problem, of learners or of those who know the schedule."""
    problem = two_option_learning(learns=learns, num_values=17)  # nodes closer than lambda
    return problem.with_followers(GROUPS, (0.25,) * len(GROUPS))


def pilot() -> np.ndarray:
    """Return a schedule of zeros and ones, 25 of each option, at random times."""
    random = np.random.default_rng(0)
    reward = np.zeros((100, 2))
    for option in (0, 1):
        reward[random.choice(100, 25, replace=False), option] = 1.0
    return reward


def target_first() -> np.ndarray:
    """Return what one would try by rule of thumb: the target's rewards early, others late."""
    reward = np.zeros((100, 2))
    reward[:25, 0] = reward[-25:, 1] = 1.0
    return reward


def compared(problem: cb.Problem, study: Any, data: Any) -> dict[str, float]:
    """Return how much worse those who know the schedule predict than learners."""
    static = problem_of(learns=False)
    priors = {"temperature": PRIORS["temperature"]}
    fit = cb.infer(static, data, key=jax.random.key(7), priors=priors, settings=SAMPLING)
    settings = cb.DesignSettings(search=QUICK, per_draw=QUICK)
    other = cb.design(static, fit, key=jax.random.key(8), num_draws=NUM_DRAWS, settings=settings)
    found = cb.compare_followers(
        problem, study, key=jax.random.key(9), others={"static": (static, other)}, name="learner"
    )["model_comparison"]
    return {
        "elpd_difference": float(found["elpd_difference"].sel(model="static")),
        "error": float(found["elpd_difference_standard_error"].sel(model="static")),
        "largest_pareto_k": float(found["largest_pareto_k"].max()),
    }


def draw(study: Any, problem: cb.Problem) -> None:
    """Draw the schedule, and how often the target is taken under it and under the pilot's."""
    schedule = study["decision"]["incentive"].sel(design="common").values
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(7.0, 5.0), sharex=True, layout="constrained"
    )
    trial = np.arange(1, 101)
    for option, colour, name in ((0, "#0072B2", "target"), (1, "#D55E00", "other")):
        above.step(trial, schedule[:, option], where="mid", color=colour, label=name)
    above.set(ylabel="reward if taken", title="The schedule")
    above.legend(frameon=False)
    truth = problem.complete_parameters(TRUTH)
    for reward, style, name in (
        (schedule, "-", "common design"),
        (target_first(), "--", "target first"),
        (pilot(), ":", "at random times"),
    ):
        log_policy, _ = respond_everywhere(problem, {"reward": jnp.asarray(reward)}, truth)
        share = np.exp(np.asarray(log_policy)[0, :, :, 0]).mean(0)
        below.plot(trial, share, style, color="#0072B2", label=f"{name}: {share.sum():.0f} of 100")
    below.set(xlabel="trial", ylabel="share with target", ylim=(0.0, 1.0))
    below.legend(frameon=False)
    figure.savefig(PICTURE, dpi=110)
    shrink(PICTURE)
    plt.close(figure)


def main() -> None:
    """Simulate, fit, design, compare, and leave the numbers."""
    problem = problem_of()
    data = cb.simulate_trajectories(
        problem,
        key=jax.random.key(1),
        num_episodes=NUM_LEARNERS,
        num_steps=100,
        parameters=TRUTH,
        incentive={"reward": pilot()},
        regime="pilot",
    )
    fit = cb.infer(problem, data, key=jax.random.key(2), priors=PRIORS, settings=SAMPLING)
    rules = {"at random times": {"reward": pilot()}, "target first": {"reward": target_first()}}
    study = cb.design(
        problem,
        fit,
        key=jax.random.key(3),
        num_draws=NUM_DRAWS,
        settings=SETTINGS,
        alternatives=rules,
    )
    print(cb.summary(study))
    posterior = fit["posterior"]
    objectives = study["decision"]["objective"]
    results = {
        "fit_seconds": fit.attrs["fit_seconds"],
        "divergent": int(fit["sample_stats"]["diverging"].sum()),
        "posterior": {
            name: [
                {
                    "truth": float(true),
                    "low": float(np.quantile(posterior[name].sel(follower=group), 0.05)),
                    "high": float(np.quantile(posterior[name].sel(follower=group), 0.95)),
                }
                for group, true in zip(GROUPS, TRUTH[name], strict=True)
            ]
            for name in TRUTH
        },
        "objective": {
            str(name): [
                float(np.quantile(objectives.sel(design=name), q)) for q in (0.05, 0.5, 0.95)
            ]
            for name in objectives["design"].values
        },
        "static": compared(problem, study, data),
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(study, problem)


if __name__ == "__main__":
    main()
