"""Parameters that are known: constants of the posterior that nothing is learned about."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import cbrl_bayes as cb
from cbrl_bayes.behaviour import count_behaviour
from cbrl_bayes.inference import (
    BehaviourModel,
    ContextFamily,
    Hierarchical,
    PerGroup,
    Pooled,
    default_priors,
    fit,
    identification,
    maximum_likelihood,
    prior_text,
)
from cbrl_bayes.problems import SampledContexts, two_state
from cbrl_bayes.workflow import behaviour_model

SHORT = cb.NUTSSettings(num_chains=2, num_warmup=60, num_samples=60)
LAW = np.array([0.6, 0.4])


@pytest.fixture(scope="module")
def problem():
    return two_state()


@pytest.fixture(scope="module")
def data(problem):
    return cb.simulate_trajectories(
        problem, key=jax.random.key(0), num_episodes=60, num_steps=1, incentive={"bonus": 0.8}
    )


@pytest.fixture(scope="module")
def fitted(problem, data):
    """Temperature known, by the distribution that says so."""
    priors = {"temperature": dist.Delta(0.3)}
    return cb.infer(problem, data, key=jax.random.key(1), settings=SHORT, priors=priors)


WAYS = {
    "a number": 0.3,
    "an array": np.array(0.3),
    "Delta": dist.Delta(0.3),
    "equal ends": dist.Uniform(0.3, 0.3),
    "a Delta transformed": dist.TransformedDistribution(
        dist.Delta(jnp.log(0.3)), dist.transforms.ExpTransform()
    ),
    "pooled": Pooled(0.3),
}


@pytest.mark.parametrize("prior", WAYS.values(), ids=WAYS)
def test_all_that_has_one_value_is_known(problem, prior):
    (found,) = [default_priors(problem, {"temperature": prior})["temperature"]]
    assert isinstance(found.prior, dist.Delta)
    assert float(found.prior.v) == pytest.approx(0.3, rel=1e-15)
    assert prior_text(found).startswith("known: 0.3")


def test_a_law_and_values_per_group(problem):
    several = problem.with_followers(("calm", "rash"), (0.5, 0.5))
    found = default_priors(several, {"context_probability": LAW, "temperature": [0.2, 0.4]})
    assert isinstance(found["temperature"], PerGroup)
    assert found["context_probability"].prior.v.tolist() == LAW.tolist()
    concentrated = default_priors(
        problem, {"context_probability": dist.Delta(jnp.asarray(LAW), event_dim=1)}
    )
    assert isinstance(concentrated["context_probability"].prior, dist.Delta)


def test_a_known_value_is_the_same_as_a_fixed_one(problem, data, fitted):
    """Draw for draw: the sampler never sees it, whichever way it was fixed."""
    fixed = replace(problem, parameters={"temperature": 0.3}, uncertain=())
    other = cb.infer(fixed, data, key=jax.random.key(1), settings=SHORT)
    for group in ("sample_stats", "log_likelihood", "log_prior", "posterior_predictive", "prior"):
        for name, array in other[group].data_vars.items():
            assert (fitted[group][name] == array).all(), (group, name)
    law = "context_probability"
    assert (fitted["posterior"][law] == other["posterior"][law]).all()
    assert (fitted["posterior"]["temperature"] == 0.3).all()
    assert (fitted["posterior"]["rationality"] == 1 / 0.3).all()


def test_what_is_known_is_not_judged(fitted):
    assert json.loads(fitted.attrs["known"]) == ["rationality", "temperature"]
    assert set(json.loads(fitted.attrs["contraction"])) == {"context_probability"}
    assert set(fitted["log_prior"].data_vars) == {"context_probability"}
    table = cb.summary(fitted)
    row = table.frame.loc[("known", "temperature")]
    assert (row["mean"], row["sd"], row["lower"], row["upper"]) == (0.3, 0.0, 0.3, 0.3)
    assert "temperature" not in str(table.health)
    assert "rationality" not in str(table.health)


def test_studies_rest_on_known_values(problem, fitted, tmp_path):
    """Design, value of information, Sobol indices, prior sensitivity, a file, the report."""
    quick = cb.Search(ascent=cb.Ascent(num_steps=30))
    settings = cb.DesignSettings(search=quick, per_draw=quick)
    key = jax.random.key(2)
    study = cb.design(problem, fitted, key=key, num_draws=40, settings=settings)
    law = fitted["posterior"]["context_probability"].values.reshape(-1, 2)
    given = {"temperature": np.full(len(law), 0.3), "context_probability": law}
    plain = cb.design(problem, given, key=key, num_draws=40, settings=settings)
    mean = [float(one["decision"]["objective"][0].mean()) for one in (study, plain)]
    # The draws differ: those of one chain of 120 against those of two of 60.
    assert mean[0] == pytest.approx(mean[1], rel=0.05)
    few = cb.InformationSettings(num_draws=40)
    asked = ["temperature", "context_probability"]
    for parameters in (None, asked):
        study = cb.value_of_information(
            problem, study, key=key, settings=few, parameters=parameters
        )
        worth = study["information"]["evppi"]
        assert float(worth.sel(parameter="temperature")) == 0.0
        assert float(worth.sel(parameter="context_probability")) > 0.0
    study = cb.sobol_indices(problem, study, key=key)
    assert "temperature" not in study["sensitivity"]["parameter"]
    assert "known, and so left out: rationality, temperature" in str(
        cb.sobol_table(study, accept_failed=True)
    )
    study = cb.prior_sensitivity(problem, study, key=key)
    assert study["sensitivity"]["power_scaling"].attrs["constant_priors"] == ""
    cb.save(study, tmp_path / "study.nc")
    read = cb.load(tmp_path / "study.nc")
    assert ("known", "temperature") in cb.summary(read, accept_failed=True).frame.index
    assert "known: 0.3" in cb.report(read, accept_failed=True).html
    names = [panel.get_xlabel() for panel in cb.plots.plot_posterior(read).axes]
    assert names == ["P(cost 0.5)"]


@pytest.mark.slow
def test_variational_fit_of_what_is_not_known(problem, data):
    settings = cb.SVISettings(num_steps=300, num_samples=50)
    found = cb.infer(
        problem, data, key=jax.random.key(3), settings=settings, priors={"context_probability": LAW}
    )
    assert (found["posterior"]["context_probability"] == LAW).all()
    assert float(found["posterior"]["temperature"].std()) > 0.0
    assert set(found["log_prior"].data_vars) == {"temperature"}


def test_maximum_likelihood_and_identification_leave_it_out(problem, data):
    counts = count_behaviour(problem, data)
    model = BehaviourModel(problem, counts, default_priors(problem, {"temperature": 0.3}))
    found = maximum_likelihood(model)
    assert set(found.estimates) == {"context_probability"}
    seen = counts.context_count / counts.context_count.sum()
    np.testing.assert_allclose(found.estimates["context_probability"], seen, atol=1e-5)
    fixed = replace(problem, parameters={"temperature": 0.3}, uncertain=())
    other = maximum_likelihood(BehaviourModel(fixed, counts, default_priors(fixed)))
    assert found.log_likelihood == other.log_likelihood
    assert identification(model).names == ()
    everything = default_priors(problem, {"temperature": 0.3, "context_probability": LAW})
    for run in (maximum_likelihood, lambda m: fit(m, key=jax.random.key(0))):
        with pytest.raises(cb.CbrlBayesError, match="nothing to infer"):
            run(BehaviourModel(problem, counts, everything))


@pytest.mark.slow
def test_the_remedy_where_all_is_known_works(problem, data):
    with pytest.raises(cb.CbrlBayesError) as caught:
        cb.infer(
            problem,
            data,
            key=jax.random.key(0),
            priors={"temperature": 0.3, "context_probability": LAW},
        )
    call = str(caught.value).partition("try: ")[2].rpartition(",")[0]
    quick = cb.Search(ascent=cb.Ascent(num_steps=30))
    call = call.removesuffix(")") + ", settings=settings)"
    settings = cb.DesignSettings(search=quick, per_draw=quick)
    names = {"cb": cb, "np": np, "problem": problem, "key": jax.random.key(0)}
    study = eval(call, names | {"settings": settings})
    assert study["design"]["leader_objective"].size == 50


def test_known_per_group_and_in_a_hierarchy(problem):
    """Groups by name; a population's median or spread that is known."""
    several = problem.with_followers(("calm", "rash"), (0.5, 0.5))
    data = cb.simulate_trajectories(
        several, key=jax.random.key(0), num_episodes=40, num_steps=1, incentive={"bonus": 0.8}
    )
    counts = count_behaviour(several, data)

    def drawn(**priors):
        model = BehaviourModel(several, counts, default_priors(several, priors))
        tiny = cb.NUTSSettings(num_chains=1, num_warmup=30, num_samples=20)
        return fit(model, key=jax.random.key(1), settings=tiny, num_prior_draws=20)

    of_groups = drawn(temperature=[0.2, 0.4])
    assert (of_groups.posterior["temperature"] == [0.2, 0.4]).all()
    assert of_groups.posterior["temperature"].shape == (1, 20, 2)
    assert of_groups.one_sided == []
    hierarchy = drawn(temperature=Hierarchical(0.3, dist.Delta(0.5)))
    assert (hierarchy.posterior["temperature_population"] == 0.3).all()
    assert (hierarchy.posterior["temperature_spread"] == 0.5).all()
    assert (np.ptp(hierarchy.posterior["temperature"], axis=1) > 0).all()
    assert set(hierarchy.log_prior) == {"temperature_offset", "context_probability"}
    expected = 0.3 * np.exp(0.5 * hierarchy.posterior["temperature_offset"])
    np.testing.assert_allclose(hierarchy.posterior["temperature"], expected, rtol=1e-12)


@pytest.mark.slow
def test_a_family_of_contexts_may_be_known_in_part(problem):
    contexts = SampledContexts(
        lambda p, key: p["cost_mean"] + p["cost_sd"] * jax.random.normal(key),
        4,
        {"cost_mean": 1.0, "cost_sd": 0.3},
    )
    sampled = replace(problem, contexts=contexts)
    data = cb.make_trajectories([[0]] * 6, [[0], [1]] * 3)
    data["context_value"] = ("episode", np.linspace(0.5, 1.5, 6))
    counts = count_behaviour(sampled, data)

    def model(**priors):
        family = ContextFamily(lambda p: dist.Normal(p["cost_mean"], p["cost_sd"]), priors)
        return BehaviourModel(sampled, counts, default_priors(sampled), family)

    found = model(cost_mean=dist.Normal(1.0, 1.0), cost_sd=0.5)
    assert found.known == {"cost_sd": 0.5}
    assert float(found.complete({})["cost_sd"]) == 0.5
    tiny = cb.NUTSSettings(num_chains=1, num_warmup=20, num_samples=10)
    draws = fit(found, key=jax.random.key(0), settings=tiny, num_prior_draws=10)
    assert (draws.posterior["cost_sd"] == 0.5).all()
    assert set(draws.log_prior) == {"temperature", "cost_mean"}


def test_a_fit_goes_on_from_its_checkpoint(problem, data, fitted, tmp_path):
    """The same draws from finished records; another known value is another run."""

    def again(value):
        return cb.infer(
            problem,
            data,
            key=jax.random.key(1),
            settings=SHORT,
            priors={"temperature": value},
            checkpoint=tmp_path / "run",
        )

    for _ in range(2):
        found = again(0.3)
        for name, array in fitted["posterior"].data_vars.items():
            assert (found["posterior"][name] == array).all()
    with pytest.raises(cb.CbrlBayesError, match="priors"):
        again(0.31)


@pytest.mark.slow
def test_calibration_ranks_only_what_is_unknown(problem):
    watched = cb.BehaviourSimulation(
        problem, num_episodes=5, num_steps=1, priors={"temperature": 0.3}
    )
    quick = cb.CalibrationSettings(num_data_sets=2, num_draws=9, num_warmup=20, thinning=1, batch=2)
    found = cb.calibrate_inference(watched, key=jax.random.key(0), settings=quick)
    assert not [name for name in found["quantity"].values if "temperature" in name]
    with pytest.raises(cb.CbrlBayesError, match="nothing to infer"):
        cb.BehaviourSimulation(problem, priors={"temperature": 0.3, "context_probability": LAW})


def test_data_are_held_against_the_known_value(problem, data):
    """A move that is possible at the default and ruled out by what is known, and a context."""

    def build(incentive, cost, parameters):
        mdp = problem.mdp_fn(incentive, cost, parameters)
        chance = parameters["chance"]
        law = jnp.zeros((2, 2, 2)).at[..., 1].set(chance).at[..., 0].set(1.0 - chance)
        return cb.MDP(
            mdp.reward, cb.DenseTransition(law), mdp.initial, mdp.discount, mdp.temperature
        )

    moving = replace(problem, mdp_fn=build, parameters={**problem.parameters, "chance": 0.5})
    seen = cb.make_trajectories([[0, 0]], [[0, 0]], context=["cost 0.5"])
    behaviour_model(moving, seen, priors={"chance": 0.9})
    with pytest.raises(cb.CbrlBayesError, match="rules out one step"):
        behaviour_model(moving, seen, priors={"chance": 1.0})
    with pytest.raises(cb.CbrlBayesError, match=r"probability 0 of cost 0\.5"):
        behaviour_model(moving, seen, priors={"context_probability": [0.0, 1.0]})


def test_one_known_value_for_followers_who_may_differ(problem):
    """A scalar stands for all where the default is one value per follower; designs take it."""
    several = replace(
        problem.with_followers(("calm", "rash"), (0.5, 0.5)), parameters={"temperature": [0.2, 0.4]}
    )
    assert np.ndim(default_priors(several, {"temperature": 0.3})["temperature"].prior.v) == 0
    tree = cb.from_draws(several, {"temperature": np.full(4, 0.3)})
    assert tree["posterior"]["temperature"].dims == ("chain", "draw")
