"""Distributions on quadrature nodes against their moments; chains of QuantEcon.py."""

import sys
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import cbrl_bayes as cb
from cbrl_bayes.errors import InvalidInputError


def mean(shock, function=lambda x: x):
    return float((function(shock.values) * shock.probability).sum())


def test_a_normal_is_exact_for_polynomials():
    shock = cb.Shock.of(dist.Normal(1.0, 2.0), num_nodes=4)
    # E x^k of N(1, 2^2): exact up to degree 7, so rounding only.
    for power, moment in enumerate((1.0, 1.0, 5.0, 13.0, 73.0)):
        assert mean(shock, lambda x, k=power: x**k) == pytest.approx(moment, rel=1e-12)


@pytest.mark.parametrize(
    ("law", "num_nodes", "expected", "tolerance"),
    [
        (dist.LogNormal(0.1, 0.4), 8, np.exp(0.1 + 0.08), 1e-10),  # entire function: fast
        (dist.Uniform(-1.0, 3.0), 2, 1.0, 1e-12),  # a polynomial
        (dist.Exponential(2.0), 40, 0.5, 1e-3),  # log at the end of the interval: slow
        (dist.Bernoulli(0.3), 1, 0.3, 1e-12),  # all values are kept
    ],
    ids=lambda one: type(one).__name__,
)
def test_means(law, num_nodes, expected, tolerance):
    assert mean(cb.Shock.of(law, num_nodes)) == pytest.approx(expected, rel=tolerance)


def test_a_distribution_may_depend_on_parameters():
    shock = cb.Shock.of(lambda parameters: dist.Normal(0.0, parameters["spread"]), num_nodes=3)
    model = cb.GridModel(
        states={"x": cb.Grid(np.linspace(-9.0, 9.0, 3))},
        actions={"none": cb.Grid((0,))},
        shocks={"noise": shock},
        reward=lambda shock: shock["noise"] ** 2,
        next_state=lambda state, shock: {"x": 0.5 * state["x"] + shock["noise"]},
        initial={"x": 0.0},
        discount=0.5,
        temperature=1.0,
    )
    mdp = model.mdp({}, None, {"spread": jnp.array(1.5)})
    np.testing.assert_allclose(mdp.reward, 2.25, rtol=1e-12)
    assert mdp.transition.probability.shape == (3, 1, 6)
    # The mean of the next state is kept by the weights.
    ahead = mdp.transition.expectation(jnp.asarray(model.states["x"].numbers))
    np.testing.assert_allclose(ahead[:, 0], [-4.5, 0.0, 4.5], atol=1e-12)


@pytest.mark.parametrize(
    ("law", "words"),
    [
        (dist.Normal(np.zeros(2), 1.0), "is not one of single numbers"),
        (dist.MultivariateNormal(np.zeros(2), np.eye(2)), "is not one of single numbers"),
        (dist.Poisson(2.0), "has no quantile function"),
        (3.0, "has no quantile function"),
    ],
)
def test_what_cannot_be_put_on_nodes(law, words):
    with pytest.raises(InvalidInputError, match=words):
        cb.Shock.of(law, num_nodes=3)


def test_chains_of_quantecon_with_a_stand_in(monkeypatch):
    asked = []

    def stand_in(*given, **more):
        asked.append((given, more))
        return SimpleNamespace(state_values=np.array([-1.0, 1.0]), P=np.full((2, 2), 0.5))

    package = SimpleNamespace(rouwenhorst=stand_in, tauchen=stand_in)
    monkeypatch.setitem(sys.modules, "quantecon", package)
    chain = cb.Chain.rouwenhorst(2, persistence=0.9, spread=0.1)
    cb.Chain.tauchen(2, persistence=0.9, spread=0.1, constant=1.0, num_deviations=4)
    assert chain.labels == (-1, 1)
    assert asked == [((2, 0.9, 0.1, 0.0), {}), ((2, 0.9, 0.1, 1.0), {"n_std": 4})]
    monkeypatch.setitem(sys.modules, "quantecon", None)
    with pytest.raises(InvalidInputError, match=r"pip install 'cbrl-bayes\[chains\]'"):
        cb.Chain.rouwenhorst(2, persistence=0.9, spread=0.1)


def test_chains_of_quantecon():
    pytest.importorskip("quantecon")
    chain = cb.Chain.rouwenhorst(5, persistence=0.9, spread=0.1)
    law = np.asarray(chain.stationary(jnp.asarray(chain.matrix)))
    # Rouwenhorst keeps variance and persistence: closed forms, rounding only.
    assert law @ chain.numbers**2 == pytest.approx(0.01 / (1 - 0.81), rel=1e-9)
    np.testing.assert_allclose(chain.matrix @ chain.numbers, 0.9 * chain.numbers, atol=1e-12)
    assert cb.Chain.tauchen(5, persistence=0.9, spread=0.1).size == 5
