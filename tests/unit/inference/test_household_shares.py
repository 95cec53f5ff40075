"""Budget shares: densities against other routes, zeros, and what data are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from cbrl_bayes.behaviour import make_household_shares
from cbrl_bayes.errors import DataError, InvalidInputError
from cbrl_bayes.inference import (
    DirichletShares,
    LogisticNormalShares,
    NUTSSettings,
    Participation,
    dirichlet_log_density,
    fit_shares,
    logistic_normal_log_density,
    predict_shares,
)

MEAN = np.array([0.3, -0.4, 0.8, 0.0])
FACTOR = np.vstack([np.array([[0.7, 0, 0], [0.3, 0.5, 0], [-0.2, 0.1, 0.9]]), np.zeros(3)])


def test_dirichlet_density_is_scipys_also_where_goods_are_missing():
    concentration = np.array([2.0, 3.0, 0.7, 1.5])
    shares = np.array([[0.1, 0.2, 0.3, 0.4], [0.25, 0.0, 0.75, 0.0], [0.0, 0.0, 1.0, 0.0]])
    found = dirichlet_log_density(jnp.asarray(shares), jnp.asarray(concentration))
    kept = concentration[[0, 2]]
    expected = [
        stats.dirichlet.logpdf(shares[0], concentration),
        stats.dirichlet.logpdf(shares[1, [0, 2]], kept),
        0.0,  # one good bought: nothing left to chance
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def _by_ratios(share, reference):
    """Density by scipy from log ratios to any reference, for the goods bought."""
    bought = [g for g in np.flatnonzero(share) if g != reference]
    covariance = FACTOR @ FACTOR.T
    contrast = np.eye(4)[bought] - np.eye(4)[reference]
    ratios = np.log(share[bought]) - np.log(share[reference])
    normal = stats.multivariate_normal(contrast @ MEAN, contrast @ covariance @ contrast.T)
    return normal.logpdf(ratios) - np.log(share[share > 0]).sum()


def test_logistic_normal_density_does_not_depend_on_the_reference():
    shares = np.array([[0.1, 0.2, 0.3, 0.4], [0.25, 0.0, 0.75, 0.0], [0.0, 0.1, 0.3, 0.6]])
    found = logistic_normal_log_density(
        jnp.asarray(shares), jnp.tile(MEAN, (3, 1)), jnp.asarray(FACTOR)
    )
    for share, value in zip(shares, found, strict=True):
        for reference in np.flatnonzero(share):
            assert float(value) == pytest.approx(_by_ratios(share, reference), rel=1e-10)


def test_both_densities_are_of_one_measure():
    """Each integrates to one over the share of the first of two goods."""
    # Gauss-Legendre with 60 points: both are smooth and vanish at the ends.
    nodes, weights = np.polynomial.legendre.leggauss(60)
    first = (nodes + 1.0) / 2.0
    share = np.stack([first, 1.0 - first], axis=1)
    factor = jnp.array([[0.8], [0.0]])
    for density in (
        dirichlet_log_density(jnp.asarray(share), jnp.array([2.0, 3.5])),
        logistic_normal_log_density(share, jnp.zeros((60, 2)), factor),
    ):
        assert weights @ np.exp(density) / 2.0 == pytest.approx(1.0, abs=1e-5)


def test_mixture_sums_its_classes_out():
    model = DirichletShares(num_classes=2)
    draw = {
        "logit": jnp.array([[0.1, 0.4, 0.0], [1.2, -0.3, 0.0]]),
        "concentration": jnp.array([9.0, 30.0]),
        "class_probability": jnp.array([0.3, 0.7]),
    }
    share = np.array([[0.2, 0.5, 0.3], [0.6, 0.4, 0.0]])
    means = np.asarray(model.class_means(draw))
    for row, found in zip(share, model.log_density(draw, share, jnp.zeros((2, 0))), strict=True):
        kept = row > 0
        each = [
            stats.dirichlet.pdf(row[kept], (phi * mean)[kept])
            for phi, mean in zip((9.0, 30.0), means, strict=True)
        ]
        assert float(found) == pytest.approx(np.log(0.3 * each[0] + 0.7 * each[1]))


@pytest.mark.parametrize("model", [DirichletShares(), LogisticNormalShares()])
def test_simulation_follows_the_density(model):
    """Mean shares of simulated households: the Dirichlet's mean; the other by quadrature."""
    draw = {"logit": jnp.array([[0.5, 0.0]]), "concentration": jnp.array([5.0])}
    expected = float(jax.nn.sigmoid(0.5))
    if isinstance(model, LogisticNormalShares):
        draw = {"logit": jnp.array([0.5, 0.0]), "factor": jnp.array([[1.2], [0.0]])}
        nodes, weights = np.polynomial.hermite_e.hermegauss(60)
        expected = (weights / weights.sum()) @ (1 / (1 + np.exp(-0.5 - 1.2 * nodes)))
    found = model.simulate(draw, jnp.zeros((20_000, 0)), jax.random.key(0))
    error = float(found[:, 0].std()) / np.sqrt(20_000)
    assert abs(float(found[:, 0].mean()) - expected) < 4 * error  # false alarm 6e-5


def test_predicted_shares_have_the_zeros_of_participation():
    draw = {"logit": jnp.array([[0.5, 0.1, 0.0]]), "concentration": jnp.array([5.0])}
    never_first = {"bought_logit": jnp.array([-50.0, 50.0, 50.0])}
    design = jnp.zeros((50, 0))
    found = predict_shares(DirichletShares(), draw, design, never_first, design, jax.random.key(0))
    assert (np.asarray(found[:, 0]) == 0).all()
    np.testing.assert_allclose(found.sum(1), 1.0)
    nothing = {"bought_logit": jnp.full(3, -50.0)}
    found = predict_shares(DirichletShares(), draw, design, nothing, design, jax.random.key(1))
    np.testing.assert_allclose(np.sort(found, axis=1), np.tile([0.0, 0.0, 1.0], (50, 1)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dirichlet", "logistic_normal", "participation"])
def test_known_parameters_are_recovered(name):
    """800 simulated households; every parameter within 4 posterior standard deviations."""
    design = jax.random.normal(jax.random.key(1), (800, 1))
    slope = jnp.array([[0.3, -0.4, 0.0]])
    model, truth = {
        "dirichlet": (
            DirichletShares(),
            {
                "logit": jnp.array([[0.5, -0.2, 0.0]]),
                "concentration": jnp.array([12.0]),
                "slope": slope[None],
            },
        ),
        "logistic_normal": (
            LogisticNormalShares(),
            {
                "logit": jnp.array([0.5, -0.2, 0.0]),
                "slope": slope,
                "factor": jnp.array([[0.6, 0.0], [0.3, 0.5], [0.0, 0.0]]),
            },
        ),
        "participation": (
            Participation(),
            {"bought_logit": jnp.array([2.0, 0.5, -0.5]), "bought_slope": slope},
        ),
    }[name]
    share = model.simulate(truth, design, jax.random.key(2))
    settings = NUTSSettings(num_chains=2, num_warmup=300, num_samples=300)
    fit = fit_shares(model, share, design, key=jax.random.key(3), settings=settings)
    assert fit.sample_stats["diverging"].sum() == 0
    assert fit.log_likelihood["composition"].shape == (2, 300, 800)
    for parameter, value in truth.items():
        draws = fit.posterior[parameter].reshape(600, -1)
        gap = np.abs(draws.mean(0) - np.ravel(value))
        assert (gap <= 4 * draws.std(0) + 1e-12).all()  # a dozen numbers: false alarm 1e-3


@pytest.mark.parametrize(
    ("share", "goods", "words"),
    [
        ([[0.5, 0.5], [0.7, 0.2]], ("a", "b"), "household 1 are not shares.*sum 0.9000"),
        ([[1.2, -0.2]], ("a", "b"), "household 0 are not shares"),
        ([[np.nan, 1.0]], ("a", "b"), "household 0 are not shares"),
        (np.zeros((0, 2)), ("a", "b"), "at least one household"),
        ([[1.0]], ("a",), "two goods"),
        ([[0.5, 0.5]], ("a", "b", "c"), r"\(1, 2\) for 3 goods"),
    ],
)
def test_impossible_shares_are_refused(share, goods, words):
    with pytest.raises(DataError, match=words):
        make_household_shares(np.asarray(share), goods)


def test_covariates_and_designs_must_fit():
    with pytest.raises(DataError, match=r"covariate 'age'.*2 finite numbers"):
        make_household_shares(np.full((2, 2), 0.5), ("a", "b"), {"age": np.array([1.0])})
    with pytest.raises(InvalidInputError, match=r"shares \(2, 2\), covariates \(3, 0\)"):
        fit_shares(DirichletShares(), np.full((2, 2), 0.5), np.zeros((3, 0)), key=jax.random.key(0))
    for wrong in ([[0.5, np.nan]], [[1.2, -0.2]], [[0.0, 0.0]]):
        with pytest.raises(InvalidInputError, match="names the first row that is wrong"):
            fit_shares(DirichletShares(), np.array(wrong), np.zeros((1, 0)), key=jax.random.key(0))
    with pytest.raises(InvalidInputError, match="ordered_good is out of range"):
        fit_shares(
            DirichletShares(ordered_good=1),
            np.full((2, 2), 0.5),
            np.zeros((2, 0)),
            key=jax.random.key(0),
        )
    with pytest.raises(DataError, match="no covariate called share"):
        make_household_shares(np.full((2, 2), 0.5), ("a", "b"), {"share": np.ones(2)})
    with pytest.raises(InvalidInputError, match="num_classes is too small"):
        DirichletShares(num_classes=0)
