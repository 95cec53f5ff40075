"""The sampler in blocks, and what draws imply: the same numbers as NumPyro's own loops."""

import arviz_stats as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr
from numpyro.infer import MCMC, NUTS, Predictive

import cbrl_bayes as cb
from cbrl_bayes.errors import NotConvergedError
from cbrl_bayes.inference.chain_block import ChainBlock
from cbrl_bayes.inference.counted import MOST_TRIALS, counts_law
from cbrl_bayes.inference.likelihood import policies
from cbrl_bayes.inference.nuts import _apart, run_nuts
from cbrl_bayes.inference.replay import Replay
from cbrl_bayes.workflow import behaviour_model

KIND = str(jax.random.key_impl(jax.random.key(0)))
SETTINGS = cb.NUTSSettings(num_chains=2, num_warmup=60, num_samples=53)


def _slope():
    level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    spread = numpyro.sample("spread", dist.HalfNormal(1.0))
    numpyro.deterministic("ratio", level / spread)
    numpyro.sample("seen", dist.Normal(level, spread), obs=jnp.array([0.3, 1.1, 0.2]))


def test_the_draws_are_those_of_numpyro():
    """Same starts, keys and steps; compiled otherwise, so that they agree up to rounding."""
    key = jax.random.key(0)
    starts = ChainBlock(_slope, SETTINGS, None, True, 38, KIND)._points_apart(key)
    mcmc = MCMC(NUTS(_slope), num_warmup=60, num_samples=53, num_chains=2, progress_bar=False)
    mcmc.run(key, extra_fields=("num_steps",), init_params=starts)
    seen = []
    draws, stats = run_nuts(
        _slope,
        key=key,
        settings=SETTINGS,
        report=lambda stage, done, total: seen.append((stage, done, total)),
    )
    for name, array in mcmc.get_samples(group_by_chain=True).items():
        # From far out, where the density is steep, the first steps magnify rounding.
        np.testing.assert_allclose(draws[name], array, rtol=2e-3, atol=1e-4, err_msg=name)
    steps = mcmc.get_extra_fields(group_by_chain=True)["num_steps"]
    np.testing.assert_array_equal(stats["n_steps"], steps)
    # Blocks of 38 steps of two chains.
    assert seen == [("warm-up", 76, 226), ("draws", 152, 226), ("draws", 226, 226)]


def test_chains_begin_spread_over_the_prior():
    settings = cb.NUTSSettings(num_chains=4)
    block = ChainBlock(_slope, settings, None, True, 1, KIND)
    starts = block._points_apart(jax.random.key(3))
    level, spread = np.sort(starts["level"]), np.sort(np.exp(starts["spread"]))
    # Quantiles .03, .34, .66, .97 of 64 draws: the standard error of the outer ones, of a standard
    # normal, is sqrt(.03 * .97 / 64) / .068 = .31; of the inner ones .16.
    np.testing.assert_allclose(level, [-1.88, -0.4, 0.4, 1.88], atol=0.95)
    assert (np.diff(spread) > 0.1).all()
    # Orders of their own: not all coordinates rise together for every key.
    orders = [
        tuple(np.argsort(np.argsort(found["level"])) - np.argsort(np.argsort(found["spread"])))
        for found in (block._points_apart(jax.random.key(seed)) for seed in range(4))
    ]
    assert len(set(orders)) > 1
    again = block._points_apart(jax.random.key(3))
    np.testing.assert_array_equal(again["level"], starts["level"])


def _two_places():
    """Half of the mass at 0, the other half four of its spreads away from the prior's median."""
    place = numpyro.sample("place", dist.Normal(0.0, 2.0))
    modes = [dist.Normal(at, 0.3).log_prob(place) for at in (0.0, 4.0)]
    numpyro.factor("data", jnp.logaddexp(*modes) - dist.Normal(0.0, 2.0).log_prob(place))


def test_a_second_place_is_found_and_told():
    """Chains from the prior's median all stay at 0, with R-hat below 1.03 for these keys."""
    settings = cb.NUTSSettings(num_chains=4, num_warmup=100, num_samples=100)
    for seed in range(2):
        draws, _ = run_nuts(_two_places, key=jax.random.key(seed), settings=settings)
        means = draws["place"].mean(1)
        assert np.ptp(means) > 3.0
        assert az.rhat(xr.DataArray(draws["place"], dims=("chain", "draw"))) > 1.05


def _above(bound):
    def model():
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        numpyro.factor("bound", jnp.where(level > bound, 0.0, -jnp.inf))

    return model


def test_a_first_point_of_density_zero_is_drawn_again():
    few = cb.NUTSSettings(num_chains=2, num_warmup=4, num_samples=4)
    draws, _ = run_nuts(_above(0.3), key=jax.random.key(0), settings=few)
    assert (draws["level"] > 0.3).all()
    # One chain begins near -1.9 by itself; it alone is placed anew.
    key = jax.random.key(0)
    block = ChainBlock(_above(0.3), few, None, True, 1, KIND)
    spread, begun = block._points_apart(key), block.begin(key)
    placed = np.stack([block._state(one)[0].z["level"] for one in _apart(begun, 2)])
    good = np.asarray(spread["level"]) > 0.3
    assert good.sum() == 1
    np.testing.assert_array_equal(placed == spread["level"], good)
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


def test_many_choices_are_drawn_as_counts():
    """Means and covariance of 4,000 multinomial counts, and choices that cannot be."""
    logits = jnp.log(jnp.array([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0], [0.1, 0.9, 0.0]]))
    total = np.array([MOST_TRIALS, 7, 0])
    draw = jax.jit(lambda logits, key: counts_law(total, logits).sample(key, (4000,)))
    counts = np.asarray(draw(logits, jax.random.key(0)))
    assert (counts.sum(-1) == total).all()
    np.testing.assert_array_equal(counts[:, 1], np.broadcast_to([0, 7, 0], (4000, 3)))
    chance = np.array([0.5, 0.3, 0.2])
    wanted = MOST_TRIALS * (np.diag(chance) - np.outer(chance, chance))
    found = np.cov(counts[:, 0], rowvar=False)
    # The standard error of a variance is sqrt(2 / 4000) = 2.2 % of it, less for a covariance in
    # units of the variances: four of them.
    np.testing.assert_allclose(found, wanted, atol=0.09 * wanted.max())
    error = np.sqrt(np.diag(wanted) / 4000)
    assert (np.abs(counts[:, 0].mean(0) - MOST_TRIALS * chance) < 4.0 * error).all()
    # Few choices are drawn as before.
    few = counts_law(np.array([5]), logits[:1])
    one_by_one = dist.Multinomial(total_count=np.array([5]), logits=logits[:1])
    key = jax.random.key(1)
    np.testing.assert_array_equal(few.sample(key), one_by_one.sample(key))


def test_episodes_are_weighed_as_the_model_does_draw_by_draw():
    """The sparse product, for all draws, against `BehaviourModel.pointwise` for one."""
    for problem, steps in ((cb.problems.two_state(), 1), (cb.problems.contract_design(), 4)):
        data = cb.simulate_trajectories(
            problem, key=jax.random.key(2), num_episodes=9, num_steps=steps
        )
        model = behaviour_model(problem, data)
        replay = Replay(model, block=3)
        draws, _ = replay.prior_draws(jax.random.key(3), 4)
        found = replay.examine(draws, np.arange(4))[0]["log_likelihood"]
        one = model.complete({name: value[3] for name, value in draws.items()})
        log_policy, _ = policies(problem, model.counts, one)
        np.testing.assert_allclose(found[3], model.pointwise(one, log_policy), rtol=1e-12)
