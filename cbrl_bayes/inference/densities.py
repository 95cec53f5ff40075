"""Log densities of the parts of a model, draw by draw: what power-scaling weighs."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpyro import handlers
from numpyro.distributions import biject_to

from cbrl_bayes.inference.likelihood import transition_log_likelihood
from cbrl_bayes.inference.model import BehaviourModel


def log_prior(model: BehaviourModel, posterior: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    r"""Return the log density of each sampled site's prior at each draw.

    On the unbounded scale on which NUTS samples it, Jacobian included: of the logarithm of a
    positive parameter, of the logit of one in (0, 1), of log ratios of a probability vector. Raised
    to a power :math:`\alpha` there, familiar priors keep their family and their place, and only
    their width changes: normal and log-normal their median (log-scale
    :math:`\sigma/\sqrt\alpha`), Beta(a, b) and Dirichlet(a) their mean, as
    Beta(:math:`\alpha a, \alpha b`) and Dirichlet(:math:`\alpha a`), a uniform one included. On
    the parameter's own scale a log-normal's median would move by
    :math:`\exp((1-\alpha)\sigma^2/\alpha)`, and a uniform prior could not be scaled at all.
    Other families change shape somewhat. Of a hierarchy there are ``<name>_population``,
    ``<name>_spread`` and ``<name>_offset``.

    Parameters
    ----------
    model : BehaviourModel
    posterior : mapping
        Site name -> array (chain, draw, ...), as `fit` gives them.

    Returns
    -------
    dict
        Site name -> array (chain, draw); sites of several values are summed.
    """

    def densities(sampled: Mapping[str, Array]) -> dict[str, Array]:
        with handlers.trace() as sites, handlers.substitute(data=dict(sampled)):
            model.parameters()
        return site_densities(sites)

    chains, draws = next(iter(posterior.values())).shape[:2]
    flat = {
        name: jnp.asarray(value).reshape(chains * draws, *value.shape[2:])
        for name, value in posterior.items()
    }
    found = jax.jit(lambda all_draws: jax.lax.map(densities, all_draws))(flat)
    return {name: np.asarray(value).reshape(chains, draws) for name, value in found.items()}


def site_densities(sites: Mapping[str, Mapping[str, Any]]) -> dict[str, Array]:
    """Return the log density of each sampled site of a trace, as `log_prior` does."""
    return {
        name: site["fn"].log_prob(site["value"]).sum() + _jacobian(site)
        for name, site in sites.items()
        if site["type"] == "sample"
    }


def _jacobian(site: Mapping[str, Any]) -> Array:
    """Return the log derivative of a site's value by its unbounded form, summed."""
    transform = biject_to(site["fn"].support)
    value = site["value"]
    return transform.log_abs_det_jacobian(transform.inv(value), value).sum()


def transition_part(
    model: BehaviourModel, posterior: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the log-likelihood of recorded transitions at each draw, where there are any.

    It belongs to no one episode, so the pointwise log-likelihood does not hold it.

    Returns
    -------
    dict
        Empty, or ``transition_log_likelihood`` -> array (chain, draw).
    """
    if not len(model.counts.transition_count):
        return {}
    chains, draws = next(iter(posterior.values())).shape[:2]
    known = set(model.problem.default_parameters)
    flat = {
        name: jnp.asarray(value).reshape(chains * draws, *value.shape[2:])
        for name, value in posterior.items()
        if name in known
    }

    def one(sampled: Mapping[str, Array]) -> Array:
        return transition_log_likelihood(model.problem, model.counts, model.complete(sampled))

    total = jax.jit(lambda all_draws: jax.lax.map(one, all_draws))(flat)
    return {"transition_log_likelihood": np.asarray(total).reshape(chains, draws)}
