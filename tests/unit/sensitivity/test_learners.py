"""Learners against followers who know the schedule: leave-one-out prefers who made the data."""

import jax
import numpy as np
import pytest

import cbrl_bayes as cb
from cbrl_bayes.problems import two_option_learning

NUM_TRIALS = 30
SCHEDULE = np.random.default_rng(0).binomial(1, 0.3, (NUM_TRIALS, 2)).astype(float)
QUICK = cb.Search(ascent=cb.Ascent(num_steps=2, num_extensions=0))


@pytest.mark.slow
@pytest.mark.parametrize("learns", [True, False])
def test_leave_one_out_prefers_the_followers_who_made_the_data(learns):
    problems = {
        name: two_option_learning(
            num_trials=NUM_TRIALS, budgets=(9.0, 9.0), temperature=0.3, learns=name == "learns"
        )
        for name in ("learns", "knows")
    }
    data = cb.simulate_trajectories(
        problems["learns" if learns else "knows"],
        key=jax.random.key(1),
        num_episodes=30,
        num_steps=NUM_TRIALS,
        incentive={"reward": SCHEDULE},
        regime="pilot",
    )
    studies = {}
    for name, problem in problems.items():
        fit = cb.infer(
            problem,
            data,
            key=jax.random.key(2),
            settings=cb.SVISettings(num_steps=800, num_samples=200),
        )
        studies[name] = (
            problem,
            cb.design(
                problem,
                fit,
                key=jax.random.key(3),
                num_draws=2,
                settings=cb.DesignSettings(search=QUICK, per_draw=QUICK),
            ),
        )
    found = cb.compare_followers(
        *studies["learns"], key=jax.random.key(4), others={"knows": studies["knows"]}, name="learns"
    )["model_comparison"]
    best, worse = ("learns", "knows") if learns else ("knows", "learns")
    assert found["elpd_difference"].sel(model=best) == 0.0
    apart = -found["elpd_difference"].sel(model=worse)
    # Three standard errors: by chance once in 1,000 if the two predicted alike.
    assert apart > 3.0 * found["elpd_difference_standard_error"].sel(model=worse)
    assert found["largest_pareto_k"].max() < 0.7
