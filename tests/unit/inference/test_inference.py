import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
from numpyro import handlers

import cbrl_bayes as cb
from cbrl_bayes.behaviour import count_behaviour, load_zurcher, simulate_trajectories
from cbrl_bayes.errors import DataError, InvalidInputError
from cbrl_bayes.inference import (
    BehaviourModel,
    ContextFamily,
    Hierarchical,
    PerGroup,
    default_priors,
    episode_log_likelihood,
    fit,
    identification,
    maximum_likelihood,
    policies,
    transition_log_likelihood,
)
from cbrl_bayes.inference.likelihood import context_evidence
from cbrl_bayes.problems import SampledContexts, bus_replacement, four_rooms, respond, two_state
from cbrl_bayes.workflow import behaviour_model
from tests.conftest import make_moving_problem
from tests.unit.behaviour.test_behaviour import RAW, needs_raw_files


def _direct(problem, data, parameters, context_log_probability):
    """The log-likelihood step by step, episode by episode, without any counting."""
    from cbrl_bayes.problems import respond

    names = list(problem.contexts.names)
    zero = {
        n: np.zeros(np.shape(v))
        for n, v in problem.incentive.transform(problem.incentive.initial).items()
    }
    tables = [
        np.asarray(respond(problem, zero, problem.contexts.values[c], parameters)[1].log_policy)
        for c in range(len(names))
    ]
    mdps = [problem.mdp_fn(zero, c, parameters) for c in problem.contexts.values]
    totals = []
    for e in range(data.sizes["episode"]):
        state, action = data.state.values[e], data.action.values[e]
        steps = state >= 0
        by_context = np.array([t[state[steps], action[steps]].sum() for t in tables])
        joint = by_context + np.asarray(context_log_probability)
        name = str(data.context.values[e])
        if not name:  # where it started and went tells of the context, too
            with np.errstate(divide="ignore"):
                joint = joint + [
                    _path_log_probability(m, state[steps], action[steps]) for m in mdps
                ]
        totals.append(joint[names.index(name)] if name else np.logaddexp.reduce(joint))
    return np.array(totals)


def _path_log_probability(mdp, state, action):
    law = np.asarray(mdp.transition.to_dense().probability)
    total = np.log(np.asarray(mdp.initial)[state[0]])
    for now, done, then in zip(state[:-1], action[:-1], state[1:], strict=True):
        total += np.log(law[now, done, then] * (not bool(mdp.terminal[now])))
    return total


@pytest.mark.parametrize("hidden", ["none", "some", "all"])
def test_likelihood_on_counts_is_that_of_every_step(walkers, hidden):
    problem, data = walkers
    context = data.context.values.copy()
    context[{"none": [], "some": slice(0, 7), "all": slice(None)}[hidden]] = ""
    data = data.assign(context=("episode", context))
    counts = count_behaviour(problem, data)
    parameters = problem.default_parameters | {"temperature": jnp.array(0.006)}
    weights = jnp.log(jnp.array([0.3, 0.7]))
    log_policy, status = policies(problem, counts, parameters)
    assert int(status) == 0
    evidence = context_evidence(problem, counts, parameters)
    found = episode_log_likelihood(counts, log_policy, weights, evidence)
    np.testing.assert_allclose(found, _direct(problem, data, parameters, weights), rtol=1e-10)


@pytest.mark.parametrize("hidden", [False, True])
def test_model_density_is_prior_plus_likelihood(walkers, hidden):
    """The NumPyro joint, up to the counts' multinomial constants."""
    problem, data = walkers
    if hidden:
        data = data.assign(context=xr.full_like(data.context, ""))
    model = behaviour_model(problem, data)

    def joint(temperature, share):
        values = {"temperature": temperature, "context_probability": jnp.array([share, 1 - share])}
        trace = handlers.trace(handlers.substitute(model, values)).get_trace()
        return sum(
            site["fn"].log_prob(site["value"]).sum()
            for site in trace.values()
            if site["type"] == "sample"
        )

    def by_hand(temperature, share):
        probability = jnp.array([share, 1 - share])
        parameters = problem.default_parameters | {"temperature": temperature}
        total = _direct(problem, data, parameters, jnp.log(probability)).sum()
        return total + default_priors(problem)["temperature"].prior.log_prob(temperature)

    one, other = (0.004, 0.4), (0.006, 0.7)
    np.testing.assert_allclose(
        joint(*one) - joint(*other), by_hand(*one) - by_hand(*other), rtol=1e-9
    )


def test_likelihood_gradient_is_implicit(walkers):
    problem, data = walkers
    counts = count_behaviour(problem, data)

    def loss(log_temperature):
        parameters = problem.default_parameters | {"temperature": jnp.exp(log_temperature)}
        log_policy, _ = policies(problem, counts, parameters)
        return episode_log_likelihood(counts, log_policy, jnp.log(jnp.array([0.5, 0.5]))).sum()

    at = np.log(0.005)
    central = (loss(at + 1e-4) - loss(at - 1e-4)) / 2e-4
    np.testing.assert_allclose(jax.grad(loss)(at), central, rtol=1e-5)


@needs_raw_files
@pytest.mark.parametrize(
    ("groups", "RC", "theta11", "log_likelihood"),
    [
        ((4,), "10.0750", "2.2930", "-3304.155"),
        pytest.param((1, 2, 3, 4), "9.7558", "2.6275", "-6055.250", marks=pytest.mark.slow),
    ],
)
def test_zurcher_maximum_likelihood(groups, RC, theta11, log_likelihood):
    """Rust (1987), Table IX, to the digits printed."""
    data = load_zurcher(groups, directory=RAW.parent)
    found = maximum_likelihood(behaviour_model(bus_replacement(), data))
    assert found.converged
    assert f"{found.estimates['RC']:.4f}" == RC
    assert f"{found.estimates['theta11']:.4f}" == theta11
    assert f"{found.log_likelihood:.3f}" == log_likelihood


def test_fit_fills_the_tree(fitted):
    groups = {
        "posterior",
        "prior",
        "prior_predictive",
        "posterior_predictive",
        "log_likelihood",
        "sample_stats",
        "observed_data",
    }
    assert groups <= set(fitted.children)
    posterior = fitted["posterior"]
    assert posterior["temperature"].dims == ("chain", "draw")
    assert posterior["context_probability"].dims == ("chain", "draw", "context")
    np.testing.assert_allclose(posterior["rationality"] * posterior["temperature"], 1.0)
    assert float(abs(np.log(posterior["temperature"] / 0.004)).mean()) < 0.2
    assert int(fitted["sample_stats"]["solve_status"].max()) == 0
    observed = fitted["observed_data"]["action_count"]
    simulated = fitted["posterior_predictive"]["action_count"]
    seen, drawn = (counts.groupby("decision_point").sum() for counts in (observed, simulated))
    np.testing.assert_array_equal(drawn, seen.broadcast_like(drawn))


@pytest.mark.slow
def test_same_key_same_posterior():
    problem = two_state()
    data = simulate_trajectories(
        problem, key=jax.random.key(4), num_episodes=20, num_steps=1, incentive={"bonus": 1.0}
    )
    settings = cb.NUTSSettings(num_chains=1, num_warmup=20, num_samples=10)
    model = behaviour_model(problem, data)
    one, other = (fit(model, key=jax.random.key(9), settings=settings) for _ in range(2))
    np.testing.assert_array_equal(one.posterior["temperature"], other.posterior["temperature"])


@pytest.mark.slow
def test_variational_fit_agrees_with_nuts(walkers, fitted):
    problem, data = walkers
    settings = cb.SVISettings(num_steps=1500, num_samples=500)
    fit = cb.infer(problem, data, key=jax.random.key(3), settings=settings)
    assert fit.attrs["sampler"] == "variational"
    assert fit["variational"]["loss"].sizes == {"svi_step": 1500}
    one, other = (np.log(t["posterior"]["temperature"]) for t in (fit, fitted))
    # One parameter, near normal on the log scale: half a posterior standard deviation.
    assert abs(float(one.mean() - other.mean())) < 0.5 * float(other.std())
    assert 0.6 < float(one.std() / other.std()) < 1.5


@pytest.mark.slow
def test_groups_get_their_own_temperature_and_shrink():
    problem = two_state(costs=(1.0,), context_probability=(1.0,)).with_followers(
        ("calm", "rash"), (0.5, 0.5)
    )
    truth = {"temperature": np.array([0.1, 0.8])}
    data = simulate_trajectories(
        problem,
        key=jax.random.key(2),
        num_episodes=400,
        num_steps=1,
        parameters=truth,
        incentive={"bonus": 1.2},
    )
    settings = cb.NUTSSettings(num_chains=2, num_warmup=150, num_samples=150)
    fit = cb.infer(
        problem,
        data,
        key=jax.random.key(0),
        settings=settings,
        priors={"temperature": Hierarchical(dist.LogNormal(-1.0, 1.0))},
    )
    temperature = fit["posterior"]["temperature"]
    assert temperature.dims == ("chain", "draw", "follower")
    assert temperature["follower"].values.tolist() == ["calm", "rash"]
    larger = temperature.sel(follower="rash") > temperature.sel(follower="calm")
    assert float(larger.mean()) > 0.9
    assert "temperature_population" in fit["posterior"]
    assert fit["posterior"]["rationality"].dims == ("chain", "draw", "follower")


@pytest.mark.slow
def test_continuous_contexts_with_their_family():
    plain = two_state(costs=(1.0,), context_probability=(1.0,))
    problem = cb.Problem(
        name="continuous",
        incentive=plain.incentive,
        mdp_fn=plain.mdp_fn,
        contexts=SampledContexts(
            lambda p, key: p["cost_mean"] + p["cost_sd"] * jax.random.normal(key),
            16,
            {"cost_mean": 1.0, "cost_sd": 0.3},
        ),
        parameters={"temperature": 0.3},
        leader_reward_fn=plain.leader_reward_fn,
        incentive_price_fn=plain.incentive_price_fn,
        leader_discount=0.0,
    )
    rng = np.random.default_rng(0)
    costs = rng.normal(1.0, 0.3, size=80)
    works = rng.random(80) < 1 / (1 + np.exp(-(1.1 - costs) / 0.3))
    data = cb.make_trajectories(
        [[0]] * 80, [[int(w)] for w in works], incentives={"baseline": {"bonus": 1.1}}
    )
    family = ContextFamily(
        lambda p: dist.Normal(p["cost_mean"], p["cost_sd"]),
        {"cost_mean": dist.Normal(0.0, 2.0), "cost_sd": dist.HalfNormal(1.0)},
    )
    settings = cb.NUTSSettings(num_chains=2, num_warmup=150, num_samples=150)
    with pytest.raises(DataError, match="context_value"):
        cb.infer(problem, data, key=jax.random.key(0), context_family=family)
    data["context_value"] = ("episode", costs)
    with pytest.raises(InvalidInputError, match=r"pass context_family=.*cost_mean"):
        cb.infer(problem, data, key=jax.random.key(0))
    fit = cb.infer(problem, data, key=jax.random.key(0), settings=settings, context_family=family)
    mean = fit["posterior"]["cost_mean"]
    # The sample mean is the posterior mean under a wide prior; its spread is .3 / sqrt(80).
    assert abs(float(mean.mean()) - costs.mean()) < 0.02
    assert abs(float(mean.std()) - costs.std() / np.sqrt(80)) < 0.01
    assert fit["log_likelihood"]["behaviour"].sizes["episode"] == 80


def test_scale_and_temperature_cannot_be_told_apart(walkers):
    problem, data = walkers
    priors = default_priors(problem, {"goal_reward": dist.LogNormal(0.0, 1.0)})
    found = identification(BehaviourModel(problem, count_behaviour(problem, data), priors))
    assert not found.is_identified
    assert "cannot tell goal_reward and temperature apart" in found.advice
    assert found.eigenvalues[-1] < 1e-8 * found.eigenvalues[0]
    regime = simulate_trajectories(
        problem,
        key=jax.random.key(0),
        num_episodes=20,
        num_steps=40,
        incentive={"penalty": np.linspace(0, 0.02, 104)},
    )
    counts = count_behaviour(problem, regime)
    assert identification(BehaviourModel(problem, counts, priors)).is_identified
    alone = BehaviourModel(problem, count_behaviour(problem, data), default_priors(problem))
    assert identification(alone).advice == ""


@pytest.mark.slow
def test_hidden_contexts_are_recovered_where_the_law_tells_them_apart():
    """Moves differ by context; leaving them out would bias temperature and weights."""
    problem = make_moving_problem()
    truth = {"temperature": 0.5, "context_probability": (0.3, 0.7)}
    data = simulate_trajectories(
        problem,
        key=jax.random.key(1),
        num_episodes=1500,
        num_steps=12,
        parameters=truth,
        incentive={"x": [0.3, 0.9, 0.5]},
        context_observed=False,
    )
    found = maximum_likelihood(behaviour_model(problem, data))
    for name in ("temperature", "context_probability"):
        error = 4 * found.standard_errors[name]  # four standard errors
        assert (np.abs(found.estimates[name] - np.asarray(truth[name])) < error).all()
    assert found.standard_errors["temperature"] < 0.05


@pytest.mark.slow
def test_groups_keep_the_followers_order():
    problem = two_state(costs=(1.0,), context_probability=(1.0,)).with_followers(
        ("rash", "calm"), (0.9, 0.1)
    )
    truth = {"temperature": np.array([0.8, 0.1])}
    data = simulate_trajectories(
        problem,
        key=jax.random.key(2),
        num_episodes=300,
        num_steps=1,
        parameters=truth,
        incentive={"bonus": 1.2},
    )
    counts = count_behaviour(problem, data)
    assert counts.groups == ("rash", "calm")
    priors = {"temperature": PerGroup(dist.LogNormal(-1.0, 1.0))}
    found = maximum_likelihood(behaviour_model(problem, data, priors=priors))
    assert found.estimates["temperature"][0] > 2 * found.estimates["temperature"][1]
    posterior = xr.Dataset(
        {"temperature": (("chain", "draw", "follower"), np.full((1, 4, 2), 0.3))},
        coords={"follower": ["rash", "calm"]},
    )
    fit = xr.DataTree.from_dict({"/": None, "posterior": posterior})
    fit.attrs["problem"] = "two_state"
    other = two_state().with_followers(("x", "y"), (0.5, 0.5))
    with pytest.raises(InvalidInputError, match="groups are not the problem's followers"):
        cb.design(other, fit, key=jax.random.key(0))
    with pytest.raises(InvalidInputError, match="fit is of another problem"):
        cb.design(four_rooms(), fit, key=jax.random.key(0))


def test_fixed_values_per_follower_are_kept():
    """Groups may be pooled only if nothing known tells them apart."""
    problem = cb.Problem(
        **{
            name: getattr(two_state(), name)
            for name in (
                "name",
                "incentive",
                "contexts",
                "mdp_fn",
                "leader_reward_fn",
                "leader_discount",
            )
        },
        parameters={"temperature": np.array([0.2, 0.6])},
        uncertain=(),
        followers=cb.Followers(("a", "b"), (0.5, 0.5)),
    )
    data = simulate_trajectories(problem, key=jax.random.key(0), num_episodes=10, num_steps=1)
    assert behaviour_model(problem, data).counts.groups == ("a", "b")
    assert isinstance(
        default_priors(
            cb.Problem(
                **{
                    f: getattr(problem, f)
                    for f in (
                        "name",
                        "incentive",
                        "contexts",
                        "mdp_fn",
                        "leader_reward_fn",
                        "parameters",
                        "followers",
                    )
                }
            )
        )["temperature"],
        PerGroup,
    )


@pytest.mark.slow
def test_unidentified_likelihoods_have_no_maximum(walkers):
    problem, data = walkers
    priors = {"goal_reward": dist.LogNormal(0.0, 1.0)}
    found = maximum_likelihood(behaviour_model(problem, data, priors=priors))
    assert not found.converged
    assert np.isnan(found.standard_errors["temperature"])


def test_transition_likelihood_is_multinomial():
    problem = bus_replacement(increment_probability=(0.2, 0.5, 0.3))
    data = cb.make_trajectories(
        [[0, 1, 3]], [[0, 0, 0]], context=["fleet"], successor_slot=[[1, 2, -1]]
    )
    counts = count_behaviour(problem, data)
    found = transition_log_likelihood(problem, counts, problem.default_parameters)
    np.testing.assert_allclose(found, np.log(0.5) + np.log(0.3), rtol=1e-12)


def test_arviz_may_be_imported_before_numpyro():
    """ArviZ registers numpyro lazily, which hides attributes that numpyro.factor needs."""
    script = """
import arviz, numpyro.distributions as dist
import cbrl_bayes.inference
import numpyro
with numpyro.handlers.seed(rng_seed=0):
    numpyro.factor("term", 0.0)
print("fine")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300
    )
    assert "fine" in done.stdout, done.stderr


def test_priors_are_checked():
    problem = four_rooms()
    with pytest.raises(InvalidInputError, match="no parameter 'mood'"):
        default_priors(problem, {"mood": dist.LogNormal(0.0, 1.0)})
    with pytest.raises(InvalidInputError, match="cannot differ between followers"):
        default_priors(problem, {"goal_reward": PerGroup(dist.LogNormal(0.0, 1.0))})
    with pytest.raises(InvalidInputError, match="NUTS settings"):
        cb.NUTSSettings(num_samples=0)
    with pytest.raises(InvalidInputError, match="SVI settings"):
        cb.SVISettings(num_steps=0)
    data = simulate_trajectories(problem, key=jax.random.key(0), num_episodes=2, num_steps=3)
    model = behaviour_model(
        problem, data, priors={"temperature": Hierarchical(dist.LogNormal(-5.0, 1.0))}
    )
    with pytest.raises(InvalidInputError, match="does not cover hierarchical priors"):
        maximum_likelihood(model)


WRONG = {
    "settings, dictionary": (
        {"settings": {"num_samples": 5}},
        "settings has the wrong type; received: a dict; accepted: NUTSSettings, SVISettings or "
        "None; try: cb.NUTSSettings(num_samples=1000)",
    ),
    "settings, class": (
        {"settings": cb.NUTSSettings},
        "received: the class NUTSSettings; accepted: NUTSSettings, SVISettings or None; "
        "try: NUTSSettings(...), with parentheses",
    ),
    "prior, text": (
        {"priors": {"temperature": "6.0"}},
        "priors['temperature'] has the wrong type; received: the text '6.0'; accepted: "
        "Distribution; try: dist.LogNormal(0.0, 1.0), or a number for a known value",
    ),
    "prior, class": ({"priors": {"temperature": dist.LogNormal}}, "try: LogNormal(...), with"),
    "priors, number": ({"priors": 5}, "priors has the wrong type; received: the int 5"),
    "key, number": (
        {"key": 7},
        "key is not a JAX random key; received: the int 7; accepted: one key from "
        "jax.random.key; try: key=jax.random.key(7)",
    ),
    "key, numpy": ({"key": np.int64(3)}, "received: the int64 3;"),
    "key, none": ({"key": None}, "received: None; accepted: one key from jax.random.key"),
    "key, raw": (
        {"key": np.zeros(2, np.uint32)},
        "received: an array of shape (2,) and type uint32; accepted: one key from "
        "jax.random.key; try: key=jax.random.wrap_key_data(key)",
    ),
    "keys": ({"key": jax.random.split(jax.random.key(0), 2)}, "key holds several keys"),
    "problem, class": ({"problem": cb.Problem}, "received: the class Problem;"),
    "problem, function": (
        {"problem": two_state},
        "problem has the wrong type; received: the function two_state; accepted: Problem",
    ),
    "problem, name": ({"problem": "two_state"}, "received: the text 'two_state'"),
    "data, frame": (
        {"data": pd.DataFrame({"state": [0]})},
        "data has the wrong type; received: a DataFrame; accepted: Dataset; try: cb.from_table, "
        "cb.load_trajectories or cb.make_trajectories, which return one",
    ),
    "data, array": ({"data": np.zeros((3, 2))}, "received: an array of shape (3, 2) and type"),
    "data, path": ({"data": Path("data.csv")}, "data has the wrong type; received: a PosixPath"),
    "data, results": ({"data": xr.DataTree()}, "a fit is what cb.design takes"),
    "family": ({"context_family": {}}, "context_family has the wrong type; received: a dict"),
}


@pytest.mark.parametrize(("given", "words"), WRONG.values(), ids=WRONG)
def test_arguments_of_the_wrong_kind_are_caught_at_the_door(given, words):
    problem = two_state()
    arguments = {"problem": problem, "data": cb.make_trajectories([[0]], [[1]])}
    arguments |= {"key": jax.random.key(0)} | given
    with pytest.raises(InvalidInputError) as caught:
        cb.infer(arguments.pop("problem"), arguments.pop("data"), **arguments)
    assert words in str(caught.value)


def test_prior_records_hold_distributions():
    for make, name in (
        (cb.Pooled, "Pooled.prior"),
        (PerGroup, "PerGroup.prior"),
        (Hierarchical, "Hierarchical.location"),
        (lambda law: ContextFamily(lambda parameters: law, {"mean": law}), "priors['mean']"),
    ):
        with pytest.raises(InvalidInputError) as caught:
            make("1.0")
        assert f"{name} has the wrong type; received: the text '1.0'" in str(caught.value)


def test_prior_predictive_spans_behaviour(fitted):
    """The default prior allows near-random and near-optimal walkers, and the data between."""
    observed = fitted["observed_data"]["action_count"]
    simulated = fitted["prior_predictive"]["action_count"]
    share = simulated.groupby("decision_point").max().sum("decision_point") / observed.sum()
    truth = float(observed.groupby("decision_point").max().sum() / observed.sum())
    assert float(share.min()) < truth < float(share.max())


@pytest.mark.parametrize(
    "problem", [four_rooms(), bus_replacement(), two_state()], ids=lambda p: p.name
)
def test_default_priors_are_neither_random_nor_certain(problem):
    """Prior predictive check: most prior draws imply choices between random and mechanical."""
    priors = default_priors(problem)
    names = [n for n in priors if n not in ("context_probability", "increment_probability")]
    keys = jax.random.split(jax.random.key(0), 60)
    zero = {
        n: jnp.zeros(jnp.shape(v))
        for n, v in problem.incentive.transform(problem.incentive.initial).items()
    }

    @jax.jit
    def entropy_share(key):
        drawn = {n: priors[n].prior.sample(jax.random.fold_in(key, i)) for i, n in enumerate(names)}
        parameters = problem.default_parameters | drawn
        context = jax.tree.map(lambda v: jnp.asarray(v)[0], problem.contexts.values)
        _, response = respond(problem, zero, context, parameters)
        spread = -(response.policy * response.log_policy).sum(-1) / jnp.log(problem.num_actions)
        return spread.max(), spread.min()

    highest, lowest = np.array([entropy_share(key) for key in keys]).T
    assert (highest > 0.02).mean() > 0.5  # some choice is open
    assert (lowest < 0.98).mean() > 0.5  # some choice is not a coin toss


def test_data_directory_variable_is_documented():
    assert "CBRL_DATA_DIR" in load_zurcher.__doc__
    assert Path(os.environ.get("CBRL_DATA_DIR", ".")).exists()


def test_a_fit_says_that_no_incentive_was_stated_and_takes_priors_where_the_default_is_zero():
    problem = replace(two_state(), parameters={"temperature": 0.3, "taste": 0.0})
    problem = replace(problem, uncertain=("temperature", "taste"))
    settings = cb.SVISettings(num_steps=20, num_samples=8)

    def fitted(data):
        prior = {"taste": dist.Normal(0.0, 1.0)}
        return cb.infer(problem, data, key=jax.random.key(0), priors=prior, settings=settings)

    data = cb.make_trajectories([[0]], [[1]], context=["cost 0.5"])
    told = "no incentive is stated: the behaviour counts as without any (bonus = 0)"
    assert told in str(cb.summary(fitted(data)))
    assert told not in str(cb.summary(fitted(cb.with_incentives(data, {"baseline": {}}))))
    with pytest.raises(InvalidInputError, match="these may differ: temperature; try"):
        cb.infer(
            problem, data, key=jax.random.key(0), priors={"taste": PerGroup(dist.Normal(0.0, 1.0))}
        )
