"""Calibration: do credible intervals contain the truth as often as they say?"""

import jax
import numpy as np
import pytest
from scipy.stats import binom

import cbrl_bayes as cb

NUM_DATA_SETS = 60
PROB = 0.9
FALSE_ALARM = 0.001  # per quantity, two-sided, if coverage is exactly nominal


@pytest.mark.slow
def test_posterior_covers_the_truth_at_the_nominal_rate():
    """Truths are drawn from the prior, so coverage is nominal on average by construction.

    Over 60 data sets the number of 90 % intervals that contain the truth is binomial(60, .9):
    45 to 60 with probability above .998.
    """
    problem = cb.problems.four_rooms(temperature=0.004)
    rng = np.random.default_rng(20260)
    low, high = binom.ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2], NUM_DATA_SETS, PROB)
    covered = {"temperature": 0, "P(goal (1,9))": 0}
    settings = cb.NUTSSettings(num_chains=2, num_warmup=150, num_samples=200)
    for index in range(NUM_DATA_SETS):
        # The default priors of `infer`: log-normal(log .004, 1) and a uniform Dirichlet.
        share = rng.random()
        truth = {
            "temperature": 0.004 * np.exp(rng.normal()),
            "context_probability": np.array([share, 1 - share]),
        }
        key = jax.random.key(1000 + index)
        data = cb.simulate_trajectories(
            problem, key=key, num_episodes=12, num_steps=30, parameters=truth
        )
        fit = cb.infer(problem, data, key=jax.random.fold_in(key, 1), settings=settings)
        posterior = fit["posterior"].to_dataset()
        tail = (1 - PROB) / 2
        for name, draws, value in (
            ("temperature", posterior["temperature"], truth["temperature"]),
            ("P(goal (1,9))", posterior["context_probability"][..., 0], share),
        ):
            ends = draws.quantile([tail, 1 - tail]).values
            covered[name] += int(ends[0] <= value <= ends[1])
    print(f"covered of {NUM_DATA_SETS}: {covered}; binomial band {low:.0f} to {high:.0f}")
    for name, count in covered.items():
        assert low <= count <= high, f"{name}: {count} of {NUM_DATA_SETS}"
