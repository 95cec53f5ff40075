"""Every plot of ArviZ that makes sense, on a fit and on a study, from memory and from files."""

import warnings

import arviz as az
import arviz_plots
import arviz_stats
import numpy as np
import pytest
import xarray as xr
from scipy.stats import binom, multinomial

import cbrl_bayes as cb
from cbrl_bayes.inference.predictive import binomial_density

TOLD = {
    "plot_bf": lambda tree: az.plot_bf(tree, var_names="temperature", ref_val=0.004),
    "plot_pair_focus": lambda tree: az.plot_pair_focus(tree, focus_var="temperature"),
    "plot_khat": lambda tree: az.plot_khat(az.loo(tree, pointwise=True)),
    "plot_compare": lambda tree: az.plot_compare(az.compare({"one": tree, "other": tree})),
    "plot_loo_interval": lambda tree: az.plot_loo_interval(_single(tree)),
}
"""Plots that need more than the tree."""
NO_SENSE = {
    *("plot_lm", "plot_ppc_pava_residuals", "plot_ppc_pava", "plot_loo_pava"),
    *("plot_ppc_censored", "plot_ecdf_pit"),
}
NO_PLOTS = {"plot_collection", "plot_matrix"}
OF_PREDICTIONS = ("plot_loo_pit", "plot_loo_interval", "plot_ppc_pit", "plot_ppc_rootogram")
EVERY = sorted({n for n in dir(arviz_plots) if n.startswith("plot_")} - NO_SENSE - NO_PLOTS)


def _few(tree):
    """ArviZ smooths the weights of each choice by itself: a few of them say as much."""
    few = tree.copy()
    for name in [name for name, group in few.children.items() if "choice" in group.dims]:
        few[name] = xr.DataTree(tree[name].to_dataset().isel(choice=slice(16)))
    return few


def _single(tree):
    """The way that docs/posteriors.md shows."""
    single = tree.copy()
    densities = tree["log_likelihood"].to_dataset().reset_coords(["action_count", "context_count"])
    single["log_likelihood"] = xr.DataTree(densities.drop_vars("behaviour"))
    return single


def _drawn(name, tree):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ's own, on counts and on few draws
        TOLD.get(name, getattr(arviz_plots, name))(tree)


@pytest.mark.parametrize("name", OF_PREDICTIONS)
def test_plots_of_predictions(name, study, tmp_path):
    _drawn(name, cb.load(cb.save(_few(study), tmp_path / "study.zarr")))


@pytest.mark.slow
@pytest.mark.parametrize("place", ["memory", "nc", "zarr"])
@pytest.mark.parametrize("kind", ["fit", "study"])
def test_every_plot(kind, place, fitted, study, tmp_path):
    tree = _few(fitted if kind == "fit" else study)
    if place != "memory":
        tree = cb.load(cb.save(tree, tmp_path / f"{kind}.{place}"))
    for name in EVERY:
        _drawn(name, tree)


def test_every_number_observed_is_predicted_and_has_a_density(study):
    """Plots take all that was observed, so places must be coordinates; `az.loo` one likelihood."""
    observed, predicted, density = (
        study[name] for name in ("observed_data", "posterior_predictive", "log_likelihood")
    )
    assert list(observed.data_vars) == list(predicted.data_vars)
    assert list(density.data_vars) == ["behaviour"]
    assert all(array.dtype.kind == "i" for array in predicted.data_vars.values())
    for name, array in predicted.data_vars.items():
        assert density[name].dims == array.dims
        assert observed[name].dims == array.dims[2:]
        for axis in ("chain", "draw"):
            np.testing.assert_array_equal(array[axis], study["posterior"][axis])
    places = {"decision_point", "decision_state", "decision_context", "decision_follower", "action"}
    for group in (observed, predicted, density):
        assert all(group[place].dims == ("choice",) for place in places)


def test_densities_of_single_numbers(study):
    """The binomial of each context's count, and of the counts of choices no more than one."""
    count, density = study["observed_data"]["context_count"], study["log_likelihood"]
    chance = study["posterior"]["context_probability"]
    wanted = binom.logpmf(count.values, int(count.sum()), chance.values)
    np.testing.assert_allclose(density["context_count"], wanted, rtol=1e-9, atol=1e-11)
    assert float(density["action_count"].max()) < 1e-9


def test_a_count_is_binomial_whatever_the_others_are():
    """A multinomial is this binomial times the law of the rest; choices that cannot be."""
    count, chance = np.array([4, 0, 3, 1]), np.array([0.2, 0.1, 0.6, 0.1])
    whole = multinomial.logpmf(count, 8, chance)
    for at, density in enumerate(binomial_density(count, chance)):
        rest = np.delete(count, at), np.delete(chance, at) / (1 - chance[at])
        assert density + multinomial.logpmf(rest[0], rest[0].sum(), rest[1]) == pytest.approx(whole)
    found = binomial_density(np.array([[0, 5], [1, 4]]), np.array([[0.0, 1.0], [0.0, 1.0]]))
    np.testing.assert_array_equal(found, [[0.0, 0.0], [-np.inf, -np.inf]])


def test_densities_do_not_count_in_sensitivity_to_prior_and_likelihood(study):
    alone = study.copy()
    behaviour = study["log_likelihood"].to_dataset()[["behaviour"]]
    alone["log_likelihood"] = xr.DataTree(behaviour)
    assert arviz_stats.psense_summary(study).equals(arviz_stats.psense_summary(alone))
