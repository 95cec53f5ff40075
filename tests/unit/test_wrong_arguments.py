"""Arguments of the wrong kind are refused at the door, each with one clear sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import cbrl_bayes as cb

KEY = jax.random.key(0)
DRAWS = {"temperature": np.array([0.2, 0.3])}


@pytest.fixture(scope="module")
def problem():
    return cb.problems.two_state()


@pytest.fixture(scope="module")
def data():
    return cb.make_trajectories([[0], [0]], [[1], [0]], context=["cost 0.5", "cost 1.5"])


INFER = [
    ({"settings": {"num_chains": 2}}, "settings has the wrong type; received: a dict"),
    (
        {"settings": cb.NUTSSettings},
        r"settings .*the class NUTSSettings.*try: NUTSSettings\(\.\.\.",
    ),
    ({"priors": {"taste": 6.0}}, "no parameter 'taste'; accepted: context_prob.*, temperature"),
    ({"priors": {"temperature": "6.0"}}, "prior.*temperature.*the text '6.0'.*Distribution"),
    ({"priors": {"temperature": True}}, "prior.*temperature.*the bool True.*a number for a known"),
    ({"priors": 6.0}, "priors"),
    ({"key": 0}, r"key is not a JAX random key; received: the int 0;.*jax.random.key\(0\)"),
    ({"key": None}, "key is not a JAX random key; received: None"),
    ({"progress": "yes"}, "progress"),
    ({"checkpoint": 3}, "checkpoint"),
]


@pytest.mark.parametrize(("given", "words"), INFER)
def test_infer_refuses(problem, data, given, words):
    with pytest.raises(cb.CbrlBayesError, match=words):
        cb.infer(problem, data, **{"key": KEY} | given)


@pytest.mark.parametrize(
    "given", ["data.csv", np.zeros(3), {"state": [0]}, cb.problems.two_state], ids=type
)
def test_infer_refuses_what_is_no_data(problem, given):
    with pytest.raises(cb.CbrlBayesError, match="data"):
        cb.infer(problem, given, key=KEY)


@pytest.mark.parametrize("given", ["two_state", cb.problems.two_state, cb.Problem, None])
def test_functions_refuse_what_is_no_problem(data, given):
    for call in (
        lambda: cb.infer(given, data, key=KEY),
        lambda: cb.design(given, DRAWS, key=KEY),
        lambda: cb.robust_designs(given, None, key=KEY),
        lambda: cb.value_of_information(given, None, key=KEY),
    ):
        with pytest.raises(cb.CbrlBayesError, match="problem has the wrong type"):
            call()


DESIGN = [
    ({"settings": {"learning_rate": 0.1}}, "settings has the wrong type; received: a dict"),
    ({"estimator": "hpgd"}, "estimator has the wrong type; received: the text 'hpgd'"),
    ({"estimator": cb.HPGD}, r"estimator .*the class HPGD.*try: HPGD\(\.\.\.\), with parentheses"),
    ({"key": 7}, r"key is not a JAX random key.*jax.random.key\(7\)"),
    ({"num_draws": 0}, "num_draws cannot be used; received: 0"),
    ({"num_draws": 2.5}, "num_draws cannot be used; received: 2.5"),
    ({"num_workers": 0}, "num_workers cannot be used; received: 0"),
    ({"num_workers": True}, "num_workers cannot be used; received: True"),
    ({"executor": "dask"}, "executor cannot be used; received: 'dask'; accepted: None, Thread"),
    ({"executor": cb.DaskExecutor}, "executor cannot be used"),
    ({"checkpoint": 3}, "checkpoint cannot be used; received: 3; accepted: the path of a folder"),
    ({"progress": "yes"}, "progress cannot be used; received: 'yes'"),
]


@pytest.mark.parametrize(("given", "words"), DESIGN)
def test_design_refuses(problem, given, words):
    with pytest.raises(cb.CbrlBayesError, match=words):
        cb.design(problem, DRAWS, **{"key": KEY} | given)


def test_design_refuses_what_is_no_posterior(problem, data):
    for given, words in (
        (data, "fit holds data, not a posterior"),
        ("fit.nc", "fit has the wrong type; received: the text 'fit.nc'"),
        (None, "fit has the wrong type; received: None"),
        (cb.infer, "fit has the wrong type"),
    ):
        with pytest.raises(cb.CbrlBayesError, match=words):
            cb.design(problem, given, key=KEY)


@pytest.mark.parametrize("function", ["robust_designs", "value_of_information"])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"settings": {"num_starts": 1}}, "settings has the wrong type; received: a dict"),
        ({"key": 0}, "key is not a JAX random key"),
        ({}, "study has the wrong type; received: None"),
    ],
)
def test_questions_refuse(problem, function, given, words):
    with pytest.raises(cb.CbrlBayesError, match=words):
        getattr(cb, function)(problem, None, **{"key": KEY} | given)


def test_lists_of_the_wrong_things_are_refused(problem):
    for call, words in (
        (lambda: cb.robust_designs(problem, None, key=KEY, criteria=["cvar"]), "criteria"),
        (lambda: cb.robust_designs(problem, None, key=KEY, constraints=[1.0]), "constraints"),
        (lambda: cb.value_of_information(problem, None, key=KEY, experiments=["a"]), "experiments"),
    ):
        with pytest.raises(cb.CbrlBayesError, match=f"{words} has the wrong type"):
            call()


def test_results_and_data_of_the_wrong_kind_are_refused(problem):
    for call, words in (
        (lambda: cb.summary("study.nc"), "no group 'posterior'"),
        (lambda: cb.save({}, "study.nc"), "tree has the wrong type; received: a dict"),
        (lambda: cb.report(None), "tree has the wrong type; received: None"),
        (lambda: cb.check_trajectories("data.nc"), "data has the wrong type.*load_trajectories"),
        (lambda: cb.from_table("data.csv"), "table has the wrong type.*load_trajectories"),
        (lambda: cb.NUTSSettings(num_samples=20.0), "num_samples >= 4, a whole number"),
        (lambda: cb.NUTSSettings(num_chains="4"), "num_chains = '4'"),
        (lambda: cb.RobustSettings(ascent=5), "ascent has the wrong type"),
        (lambda: cb.InformationSettings(evaluation=5), "evaluation has the wrong type"),
        (
            lambda: cb.simulate_trajectories(problem, key=0, num_episodes=1, num_steps=1),
            "key is not a JAX random key",
        ),
    ):
        with pytest.raises(cb.CbrlBayesError, match=words):
            call()


def test_chains_cannot_be_part_of_one_program(problem, data):
    with pytest.raises(cb.CbrlBayesError, match="chains cannot run inside one compiled program"):
        cb.infer(problem, data, key=KEY, executor=cb.DeviceExecutor())


PRIORS = {
    "a known value below zero": ({"temperature": dist.Delta(-0.25)}, "temperature is not positive"),
    "a known law of .9": ({"context_probability": [0.5, 0.4]}, "is not a distribution"),
    "several known values of one": ({"temperature": [0.1, 0.2]}, r"accepted: one number, or 1, in"),
    "known in part": (
        {"temperature": cb.PerGroup(dist.Uniform(jnp.array([0.2, 0.1]), jnp.array([0.2, 0.5])))},
        r"fixes some entries and leaves others open; received: entries \[0\] are fixed",
    ),
    "hardly any width": (
        {"temperature": dist.Normal(1e10, 1e-9)},
        "has some width, and yet the same value in 256 draws",
    ),
    "all known": (
        {"temperature": 0.25, "context_probability": [0.5, 0.5]},
        r"nothing to infer: every parameter is known.*np.full\(50, 0.25\)",
    ),
    "a hierarchy without spread": (
        {"temperature": cb.Hierarchical(dist.LogNormal(0.0, 1.0), 0.0)},
        "Hierarchical.scale has draws that are out of range.*Pooled",
    ),
    "a hierarchy of two populations": (
        {"temperature": cb.Hierarchical([0.2, 0.3])},
        r"Hierarchical.location does not fit; received: shape \(2,\)",
    ),
    "below zero": ({"temperature": dist.Normal(0.0, 1.0)}, "out of range; .*between 0 and inf"),
    "per group": ({"temperature": cb.PerGroup(dist.Normal(0.0, 1.0))}, "out of range"),
    "another shape": (
        {"context_probability": dist.Dirichlet(np.ones(3))},
        r"does not fit; received: shape \(3,\); accepted: \(2,\)",
    ),
}


@pytest.mark.parametrize(("priors", "words"), PRIORS.values(), ids=PRIORS)
def test_priors_that_cannot_be_used(problem, data, priors, words):
    with pytest.raises(cb.CbrlBayesError, match=words):
        cb.infer(problem, data, key=KEY, priors=priors)


def test_infer_refuses_keys_that_the_sampler_does_not_know(problem, data):
    with pytest.raises(cb.CbrlBayesError, match="a key of rbg"):
        cb.infer(problem, data, key=jax.random.key(0, impl="rbg"))
