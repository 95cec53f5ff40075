"""The sampler in blocks, and what draws imply: the same numbers as NumPyro's own loops."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS, Predictive, init_to_median

import cbrl_bayes as cb
from cbrl_bayes.errors import NotConvergedError
from cbrl_bayes.inference.nuts import run_nuts
from cbrl_bayes.inference.replay import Replay
from cbrl_bayes.workflow import behaviour_model

SETTINGS = cb.NUTSSettings(num_chains=2, num_warmup=60, num_samples=53)


def _slope():
    level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    spread = numpyro.sample("spread", dist.HalfNormal(1.0))
    numpyro.deterministic("ratio", level / spread)
    numpyro.sample("seen", dist.Normal(level, spread), obs=jnp.array([0.3, 1.1, 0.2]))


def test_the_draws_are_those_of_numpyro():
    """Same starts, keys and steps; compiled otherwise, so that they agree up to rounding."""
    kernel = NUTS(_slope, init_strategy=init_to_median())
    mcmc = MCMC(kernel, num_warmup=60, num_samples=53, num_chains=2, progress_bar=False)
    mcmc.run(jax.random.key(0), extra_fields=("num_steps",))
    seen = []
    draws, stats = run_nuts(
        _slope,
        key=jax.random.key(0),
        settings=SETTINGS,
        report=lambda stage, done, total: seen.append((stage, done, total)),
    )
    for name, array in mcmc.get_samples(group_by_chain=True).items():
        np.testing.assert_allclose(draws[name], array, rtol=1e-6, atol=1e-9, err_msg=name)
    steps = mcmc.get_extra_fields(group_by_chain=True)["num_steps"]
    np.testing.assert_array_equal(stats["n_steps"], steps)
    # Blocks of 38 steps of two chains.
    assert seen == [("warm-up", 76, 226), ("draws", 152, 226), ("draws", 226, 226)]


def _above(bound):
    def model():
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        numpyro.factor("bound", jnp.where(level > bound, 0.0, -jnp.inf))

    return model


def test_a_first_point_of_density_zero_is_drawn_again():
    kernel = NUTS(_above(0.3), init_strategy=init_to_median())
    mcmc = MCMC(kernel, num_warmup=4, num_samples=4, num_chains=2, progress_bar=False)
    mcmc.run(jax.random.key(0))
    draws, _ = run_nuts(
        _above(0.3),
        key=jax.random.key(0),
        settings=cb.NUTSSettings(num_chains=2, num_warmup=4, num_samples=4),
    )
    wanted = mcmc.get_samples(group_by_chain=True)["level"]
    np.testing.assert_allclose(draws["level"], wanted, rtol=1e-9)
    with pytest.raises(NotConvergedError, match="the sampler found no starting point"):
        run_nuts(_above(50.0), key=jax.random.key(0), settings=SETTINGS)


def test_simulated_data_are_those_of_numpyro():
    problem = cb.problems.two_state()
    data = cb.simulate_trajectories(problem, key=jax.random.key(0), num_episodes=20, num_steps=1)
    model = behaviour_model(problem, data)
    replay = Replay(model, block=4)
    draws, keys = replay.prior_draws(jax.random.key(1), 6)
    parts, rows = replay.examine(draws, np.arange(6))
    found = replay.predict(draws, keys, rows)
    one = Predictive(model, num_samples=6, parallel=False)(jax.random.key(1), condition=False)
    for name in ("action_count", "context_count"):
        np.testing.assert_array_equal(found[name], one[name])
    for name in ("temperature", "context_probability"):
        np.testing.assert_allclose(draws[name], one[name], rtol=1e-12)
    np.testing.assert_allclose(parts["derived"]["rationality"], 1.0 / one["temperature"])
    # The last block was filled up: nothing of that shows.
    assert rows.shape[0] == parts["log_likelihood"].shape[0] == 6
