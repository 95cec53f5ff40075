"""Fit a model of behaviour by NUTS or by variational inference, and simulate from it."""

import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key
from numpyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO, init_to_median, init_to_value
from numpyro.infer.autoguide import AutoMultivariateNormal
from rich.console import Console
from rich.progress import Progress

from cbrl_bayes.errors import InvalidInputError, explain
from cbrl_bayes.inference.chunks import Record, sample_in_chunks
from cbrl_bayes.inference.densities import log_prior, transition_part
from cbrl_bayes.inference.model import BehaviourModel

__all__ = ["FitDraws", "NUTSSettings", "SVISettings", "fit", "run_nuts"]

HIDDEN = ("solve_status", "action_count", "context_count", "context_value")
PREDICTED = ("action_count", "context_count", "context_value")
EXTRA_FIELDS = (
    "diverging",
    "num_steps",
    "accept_prob",
    "energy",
    "potential_energy",
    "adapt_state.step_size",
)


@dataclass(frozen=True)
class NUTSSettings:
    """Settings of the No-U-Turn sampler (the default).

    Parameters
    ----------
    num_chains, num_warmup, num_samples : int
        Chains, and steps of each; at least 1, 1 and 4.
    target_accept : float
        In (0, 1).

    Notes
    -----
    Chains run side by side when JAX has a device for each (set the environment variable
    ``JAX_NUM_CPU_DEVICES`` before Python starts), else one after the other. The
    draws agree up to rounding, which a chain carries on: after many steps they may part.
    """

    num_chains: int = 4
    num_warmup: int = 500
    num_samples: int = 500
    target_accept: float = 0.8

    def __post_init__(self) -> None:
        sizes = self.num_chains >= 1 and self.num_warmup >= 1 and self.num_samples >= 4
        if not sizes or not 0.0 < self.target_accept < 1.0:
            raise InvalidInputError(explain("NUTS settings are out of range", received=self))


@dataclass(frozen=True)
class SVISettings:
    """Settings of variational inference with a full-rank normal guide.

    Fast, and too narrow where the posterior is far from normal on the unconstrained scale:
    compare with NUTS before relying on interval ends.

    Parameters
    ----------
    num_steps : int
        Optimisation steps.
    num_samples : int
        Draws from the fitted guide, reported as one chain.
    learning_rate : float
        Of Adam.
    """

    num_steps: int = 2000
    num_samples: int = 1000
    learning_rate: float = 0.01

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.num_samples < 4 or self.learning_rate <= 0:
            raise InvalidInputError(explain("SVI settings are out of range", received=self))


@dataclass(frozen=True)
class FitDraws:
    """Everything a fit produces, as plain arrays.

    Attributes
    ----------
    posterior, sample_stats, log_likelihood, posterior_predictive : dict
        Name -> array of shape (chain, draw, ...).
    prior, prior_predictive : dict
        Name -> array of shape (1, draw, ...).
    seconds : float
        Wall time of the sampler, compilation included.
    losses : array
        Negative ELBO per step of SVI; empty for NUTS.
    log_prior : dict
        Sampled site -> log density of its prior, shape (chain, draw); may be empty.
    """

    posterior: dict[str, np.ndarray]
    sample_stats: dict[str, np.ndarray]
    log_likelihood: dict[str, np.ndarray]
    posterior_predictive: dict[str, np.ndarray]
    prior: dict[str, np.ndarray]
    prior_predictive: dict[str, np.ndarray]
    seconds: float
    losses: np.ndarray = field(default_factory=lambda: np.zeros(0))
    log_prior: dict[str, np.ndarray] = field(default_factory=dict)


def fit(
    model: BehaviourModel,
    *,
    key: Key[Array, ""],
    settings: NUTSSettings | SVISettings | None = None,
    num_prior_draws: int = 500,
    num_predictive_draws: int = 500,
    progress: bool = False,
    records: MutableMapping[tuple[str, int], Record] | None = None,
) -> FitDraws:
    """Draw from the posterior, the prior and both predictive distributions.

    Parameters
    ----------
    model : BehaviourModel
    key : typed key
    settings : NUTSSettings or SVISettings, optional
        Default: `NUTSSettings()`.
    num_prior_draws, num_predictive_draws : int
        Sizes of the prior and of the predictive samples (at most all posterior draws).
    progress : bool
        Show a progress bar.
    records : mutable mapping, optional
        NUTS then samples in chunks of at most 50 steps and puts each in here with the sampler's
        state; what is already there is not sampled again (`sample_in_chunks`). Variational
        inference does not use it.

    Returns
    -------
    FitDraws
    """
    settings = settings or NUTSSettings()
    sample_key, prior_key, predictive_key = jax.random.split(key, 3)
    prior = _simulate(model, prior_key, num_prior_draws)
    begun = time.perf_counter()
    if isinstance(settings, NUTSSettings):
        posterior, stats = run_nuts(model, sample_key, settings, progress, records=records)
        losses = np.zeros(0)
    else:
        posterior, losses = _run_svi(model, sample_key, settings, progress)
        stats = {}
    seconds = time.perf_counter() - begun
    stats["solve_status"] = posterior.pop("solve_status").astype(int)
    stats |= transition_part(model, posterior)
    predictive = _simulate_posterior(model, posterior, predictive_key, num_predictive_draws)
    return FitDraws(
        posterior=posterior,
        sample_stats=stats,
        log_likelihood={"behaviour": _pointwise(model, posterior)},
        posterior_predictive=predictive,
        prior={n: v[None] for n, v in prior.items() if n not in HIDDEN},
        prior_predictive={n: prior[n][None] for n in PREDICTED if n in prior},
        seconds=seconds,
        losses=losses,
        log_prior=log_prior(model, posterior),
    )


def run_nuts(
    model: Callable[[], Any],
    key: Array,
    settings: NUTSSettings,
    progress: bool,
    start: Mapping[str, Array] | None = None,
    records: MutableMapping[tuple[str, int], Record] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return draws and sample statistics, both (chain, draw, ...), of any NumPyro model.

    All chains begin at ``start`` (values of the sampled sites) where it is given. With
    ``records`` it samples in chunks and keeps each there (`sample_in_chunks`).
    """
    begin = init_to_median() if start is None else init_to_value(values=dict(start))
    kernel = NUTS(model, target_accept_prob=settings.target_accept, init_strategy=begin)
    run = _all_at_once if records is None else partial(_in_chunks, records=records)
    draws, extra = run(kernel, key, settings, progress)
    return draws, {
        "diverging": extra["diverging"],
        "n_steps": extra["num_steps"],
        "tree_depth": np.log2(extra["num_steps"]).astype(int) + 1,
        "acceptance_rate": extra["accept_prob"],
        "energy": extra["energy"],
        "lp": -extra["potential_energy"],
        "step_size": extra["adapt_state.step_size"],
    }


def _all_at_once(
    kernel: NUTS, key: Array, settings: NUTSSettings, progress: bool
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    enough = jax.local_device_count() >= settings.num_chains > 1
    mcmc = MCMC(
        kernel,
        num_warmup=settings.num_warmup,
        num_samples=settings.num_samples,
        num_chains=settings.num_chains,
        chain_method="parallel" if enough else "sequential",
        progress_bar=progress,
    )
    mcmc.run(key, extra_fields=EXTRA_FIELDS)
    draws, extra = mcmc.get_samples(group_by_chain=True), mcmc.get_extra_fields(group_by_chain=True)
    return (
        {name: np.asarray(value) for name, value in draws.items()},
        {name: np.asarray(value) for name, value in extra.items()},
    )


def _in_chunks(
    kernel: NUTS,
    key: Array,
    settings: NUTSSettings,
    progress: bool,
    *,
    records: MutableMapping[tuple[str, int], Record],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    with Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar:
        task = bar.add_task("sampling")

        def show(stage: str, done: int, total: int) -> None:
            bar.update(task, description=stage, completed=done, total=total)

        return sample_in_chunks(
            kernel,
            key=key,
            num_chains=settings.num_chains,
            num_warmup=settings.num_warmup,
            num_samples=settings.num_samples,
            fields=EXTRA_FIELDS,
            records=records,
            on_progress=show,
        )


def _run_svi(
    model: BehaviourModel, key: Array, settings: SVISettings, progress: bool
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    guide = AutoMultivariateNormal(model, init_loc_fn=init_to_median())
    svi = SVI(model, guide, optax.adam(settings.learning_rate), Trace_ELBO())
    run_key, draw_key, replay_key = jax.random.split(key, 3)
    result = svi.run(run_key, settings.num_steps, progress_bar=progress)
    draws = guide.sample_posterior(draw_key, result.params, sample_shape=(settings.num_samples,))
    # Deterministic sites (rationality, solve status) are not the guide's to give.
    replay = Predictive(model, posterior_samples=draws, parallel=False)
    full = draws | {
        name: value
        for name, value in replay(replay_key, condition=False).items()
        if name not in PREDICTED
    }
    return {n: np.asarray(v)[None] for n, v in full.items()}, np.asarray(result.losses)


def _simulate(model: BehaviourModel, key: Array, num: int) -> dict[str, np.ndarray]:
    draws = Predictive(model, num_samples=num, parallel=False)(key, condition=False)
    return {name: np.asarray(value) for name, value in draws.items()}


def _simulate_posterior(
    model: BehaviourModel, posterior: Mapping[str, np.ndarray], key: Array, num: int
) -> dict[str, np.ndarray]:
    """Simulate from evenly spaced draws of every chain."""
    chains, draws = next(iter(posterior.values())).shape[:2]
    kept = np.unique(np.linspace(0, draws - 1, max(1, num // chains)).astype(int))
    thinned = {n: jnp.asarray(v[:, kept]) for n, v in posterior.items()}
    predictive = Predictive(model, posterior_samples=thinned, batch_ndims=2, parallel=False)
    simulated: Mapping[str, Any] = predictive(key, condition=False)
    return {n: np.asarray(simulated[n]) for n in PREDICTED if n in simulated}


def _pointwise(model: BehaviourModel, posterior: Mapping[str, np.ndarray]) -> np.ndarray:
    chains, draws = next(iter(posterior.values())).shape[:2]
    known = set(model.problem.default_parameters)
    flat = {
        name: jnp.asarray(value).reshape(chains * draws, *value.shape[2:])
        for name, value in posterior.items()
        if name in known
    }
    table = jax.jit(lambda sampled: jax.lax.map(model.pointwise, sampled))(flat)
    return np.asarray(table).reshape(chains, draws, -1)
