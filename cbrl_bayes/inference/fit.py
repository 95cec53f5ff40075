"""Fit a model of behaviour by NUTS or by variational inference, and simulate from it."""

import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key
from numpyro import handlers
from numpyro.infer import SVI, Trace_ELBO, init_to_median
from numpyro.infer.autoguide import AutoMultivariateNormal

from cbrl_bayes.errors import require_ranges
from cbrl_bayes.inference.chain_block import Redraw
from cbrl_bayes.inference.model import BehaviourModel
from cbrl_bayes.inference.nuts import MOST_STEPS, NUTSSettings, OverChains, run_nuts
from cbrl_bayes.inference.one_sided import one_sided
from cbrl_bayes.inference.predictive import number_densities, predictive_check
from cbrl_bayes.inference.replay import Replay
from cbrl_bayes.mdp import SolveStatus
from cbrl_bayes.problems import LAW
from cbrl_bayes.progress import Report, silent

MOST_PREDICTED = 5_000_000
"""Predicted counts of choices up to which all draws are predicted from (40 MB)."""
FEW_PREDICTED = 500
"""Draws that are predicted from where all would give more."""


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
        require_ranges(
            self, "SVI settings", num_steps=">= 1", num_samples=">= 4", learning_rate="> 0"
        )


@dataclass(frozen=True)
class FitDraws:
    """Everything a fit produces, as plain arrays.

    Attributes
    ----------
    posterior, sample_stats, posterior_predictive : dict
        Name -> array of shape (chain, draw, ...).
    log_likelihood : dict
        Likewise: ``behaviour`` by episode, and, where all draws are predicted, of each number in
        ``posterior_predictive`` (`number_densities`).
    prior, prior_predictive : dict
        Name -> array of shape (1, draw, ...).
    seconds : float
        Wall time of the sampler, compilation included.
    losses : array
        Negative ELBO per step of SVI; empty for NUTS.
    log_prior : dict
        Sampled site -> log density of its prior, shape (chain, draw); may be empty.
    one_sided : list of dict
        Parameters that the data bound on one side only (`one_sided`).
    check : dict
        How observed choices compare with predicted ones (`predictive_check`).
    predicted : array
        Draws of each chain that ``posterior_predictive`` holds.
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
    one_sided: list[dict[str, Any]] = field(default_factory=list)
    check: dict[str, Any] = field(default_factory=dict)
    predicted: np.ndarray = field(default_factory=lambda: np.zeros(0, int))


def fit(
    model: BehaviourModel,
    *,
    key: Key[Array, ""],
    settings: NUTSSettings | SVISettings | None = None,
    num_prior_draws: int = 500,
    records: MutableMapping[tuple[str, int], Mapping[str, np.ndarray]] | None = None,
    report: Report = silent,
    over_chains: OverChains | None = None,
    most_steps: int = MOST_STEPS,
) -> FitDraws:
    """Draw from the posterior, the prior and both predictive distributions.

    Parameters
    ----------
    model : BehaviourModel
    key : typed key
    settings : NUTSSettings or SVISettings, optional
        Default: `NUTSSettings()`.
    num_prior_draws : int
        Size of the prior sample. Predictions are made from all posterior draws, or from some 500
        where all would be more than `MOST_PREDICTED` numbers.
    records : mutable mapping, optional
        NUTS puts each block of steps in here, with the sampler's state; blocks that are in it
        already are not sampled again (`run_nuts`). Variational inference does not use it.
    report : callable
        Called with (stage, done, total) as the sampler goes.
    over_chains, most_steps
        Where chains run, and how many steps at a time (`run_nuts`).

    Returns
    -------
    FitDraws

    Raises
    ------
    InvalidInputError
        If every parameter is known.
    """
    model.require_unknown()
    settings = settings or NUTSSettings()
    (sample_key, prior_key, predictive_key), begun = jax.random.split(key, 3), time.perf_counter()
    if isinstance(settings, NUTSSettings):
        sampled, stats = run_nuts(
            model,
            key=sample_key,
            settings=settings,
            derived=False,
            records=records,
            report=report,
            over_chains=over_chains,
            most_steps=most_steps,
            redraw=_redraw(model),
        )
        losses = np.zeros(0)
    else:
        sampled, losses = _run_svi(model, sample_key, settings, report)
        stats = {}
    seconds = time.perf_counter() - begun
    chains, number = next(iter(sampled.values())).shape[:2]
    # Blocks as equal as can be, none above the number of prior draws.
    replay = Replay(model, -(-chains * number // -(-chains * number // num_prior_draws)))
    given, prior_keys = replay.prior_draws(prior_key, num_prior_draws)
    of_prior, rows = replay.examine(given, np.arange(num_prior_draws))
    prior_predictive = replay.predict(given, prior_keys, rows)

    flat = {name: value.reshape(-1, *value.shape[2:]) for name, value in sampled.items()}
    of_each = _predicted(model, chains, number)
    kept = (number * np.arange(chains)[:, None] + of_each).ravel()
    of_posterior, rows = replay.examine(flat, kept)
    keys = np.asarray(jax.random.key_data(jax.random.split(predictive_key, len(kept))))
    predictive = replay.predict({name: value[kept] for name, value in flat.items()}, keys, rows)
    named = predictive if len(of_each) == number else ()
    densities = number_densities(model.counts, named, flat, of_posterior, rows)

    def along(points: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        parts, _ = replay.examine(points, np.zeros(0, int))
        # Recorded transitions belong to no one episode: a column of their own, after all episodes.
        whole = [parts["stats"][n] for n in ("transition_log_likelihood",) if n in parts["stats"]]
        solved = parts["stats"]["solve_status"] == SolveStatus.CONVERGED
        return np.column_stack([parts["log_likelihood"], *whole]), solved

    before, by_chain = given | of_prior["derived"], partial(_by_chain, chains)
    choices = predictive.get("action_count", np.zeros((0, *model.counts.action_count.shape)))
    found = jax.tree.map(by_chain, of_posterior)
    return FitDraws(
        posterior=sampled | found["derived"],
        sample_stats=stats | found["stats"],
        log_likelihood={"behaviour": found["log_likelihood"]} | jax.tree.map(by_chain, densities),
        posterior_predictive=jax.tree.map(by_chain, predictive),
        predicted=of_each,
        prior={name: value[None] for name, value in before.items()},
        prior_predictive={name: value[None] for name, value in prior_predictive.items()},
        seconds=seconds,
        losses=losses,
        log_prior=found["log_prior"],
        one_sided=one_sided(model, flat | of_posterior["derived"], before, along),
        check=predictive_check(model.problem, model.counts, choices),
    )


def _redraw(model: BehaviourModel) -> Redraw | None:
    """Return what is drawn by itself: a transition law that is cut from the rest."""
    law = model.cut_law
    return None if law is None else Redraw(LAW, law)


def _by_chain(chains: int, array: np.ndarray) -> np.ndarray:
    return array.reshape(chains, -1, *array.shape[1:])


def _predicted(model: BehaviourModel, chains: int, number: int) -> np.ndarray:
    """Return which of the ``number`` draws of each chain to predict from."""
    numbers = model.counts.action_count.size * chains * number
    some = number if numbers <= MOST_PREDICTED else max(1, FEW_PREDICTED // chains)
    return np.unique(np.linspace(0, number - 1, some).astype(int))


def _run_svi(
    model: BehaviourModel, key: Array, settings: SVISettings, report: Report
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return draws of the sampled sites from the fitted guide, and the loss of each step.

    A law that is cut from the rest is drawn by itself, and the guide fitted at its mean.
    """
    cut = model.cut_law
    given = {} if cut is None else {LAW: jnp.asarray(cut.mean)}
    program = handlers.condition(model, data=given)
    guide = AutoMultivariateNormal(program, init_loc_fn=init_to_median())
    svi = SVI(program, guide, optax.adam(settings.learning_rate), Trace_ELBO())
    run_key, draw_key, law_key = jax.random.split(key, 3)
    report("variational inference", 0, settings.num_steps)
    result = svi.run(run_key, settings.num_steps, progress_bar=False)
    report("variational inference", settings.num_steps, settings.num_steps)
    draws = guide.sample_posterior(draw_key, result.params, sample_shape=(settings.num_samples,))
    if cut is not None:
        draws[LAW] = cut.sample(law_key, (settings.num_samples,))
    return {n: np.asarray(v)[None] for n, v in draws.items()}, np.asarray(result.losses)
