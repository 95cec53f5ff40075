r"""Simulation-based calibration: inference must give back the parameters that made the data.

Draw :math:`\theta_0` from the prior, data from :math:`p(y \mid \theta_0)`, then L draws from the
posterior. Given y, the truth and the draws have the same law, so the rank of :math:`\theta_0`
among L independent draws is uniform on 0, ..., L. This holds for any scalar function of
parameters and data. One is the log-likelihood under the model that is fitted: it sees a sampler
that gets every parameter right by itself but not together, or that ignores the data. A *model* that
ignores some of the data consistently stays unseen. Sources: Talts, Betancourt, Simpson, Vehtari,
Gelman, arXiv 1804.06788 (thinning: algorithm 2); Modrak et al., Bayesian Analysis 2023 (the
log-likelihood).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key
from numpyro import handlers
from numpyro.diagnostics import effective_sample_size
from numpyro.infer import MCMC, NUTS, init_to_median
from numpyro.infer.util import compute_log_probs

from cbrl_bayes.errors import InvalidInputError, explain
from cbrl_bayes.inference.generative import GenerativeModel

__all__ = ["CalibrationSettings", "SimulatedFits", "fit_simulated", "ranks_of"]

LIKELIHOOD = "log_likelihood"


@dataclass(frozen=True)
class CalibrationSettings:
    """How each simulated data set is fitted: one chain of NUTS, thinned.

    Parameters
    ----------
    num_warmup : int
        Steps of adaptation, >= 1.
    num_kept : int
        L, draws kept for the ranks, >= 4.
    thinning : int
        Every so many steps one draw is kept, >= 1; the chain makes ``num_kept * thinning``.
    target_accept : float
        In (0, 1).
    batch : int
        Data sets that one call of the compiled program fits.
    num_workers : int
        Threads over batches. The numbers do not depend on these two.
    """

    num_warmup: int = 300
    num_kept: int = 99
    thinning: int = 5
    target_accept: float = 0.9
    batch: int = 10
    num_workers: int = 2

    def __post_init__(self) -> None:
        sizes = (self.num_warmup, self.thinning, self.batch, self.num_workers, self.num_kept - 3)
        if min(sizes) < 1 or not 0.0 < self.target_accept < 1.0:
            raise InvalidInputError(explain("calibration settings are out of range", received=self))


@dataclass(frozen=True)
class SimulatedFits:
    """R simulated data sets and the posterior of each.

    Attributes
    ----------
    truth : dict of arrays, each (R, ...)
        Parameters that made the data, and ``log_likelihood`` of the data under them.
    draws : dict of arrays, each (R, L, ...)
        Thinned posterior draws of the same.
    effective_size : dict of arrays, each (R, ...)
        Effective number of draws of the whole chain, 0 where it did not move. Ranks are those of
        independent draws where it is at least L.
    num_divergent : int array, shape (R,)
        Divergent transitions after warm-up.
    num_unsolved : int array, shape (R,)
        Kept draws under which some best response did not converge; 0 where nothing is solved.
    failed : bool array, shape (R,)
        Whether some number is not finite.
    """

    truth: dict[str, np.ndarray]
    draws: dict[str, np.ndarray]
    effective_size: dict[str, np.ndarray]
    num_divergent: np.ndarray
    num_unsolved: np.ndarray
    failed: np.ndarray

    @property
    def num_kept(self) -> int:
        """L."""
        return next(iter(self.draws.values())).shape[1]


def fit_simulated(
    simulation: GenerativeModel,
    *,
    key: Key[Array, ""],
    num_data_sets: int = 500,
    settings: CalibrationSettings | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> SimulatedFits:
    """Simulate data sets with known truth and fit each; one program is compiled for all.

    Parameters
    ----------
    simulation : GenerativeModel
    key : typed key
        A key of its own is derived for each data set.
    num_data_sets : int
        R, >= 1.
    settings : CalibrationSettings, optional
    on_progress : callable, optional
        Called with (stage, done, total).

    Returns
    -------
    SimulatedFits
        No data set is dropped, whatever became of its fit.

    Examples
    --------
    >>> import jax
    >>> from cbrl_bayes.inference import BehaviourSimulation
    >>> from cbrl_bayes.problems import two_state
    >>> simulation = BehaviourSimulation(two_state(), num_episodes=5, num_steps=1)
    >>> quick = CalibrationSettings(num_warmup=20, num_kept=4, thinning=1, batch=2)
    >>> fits = fit_simulated(simulation, key=jax.random.key(0), num_data_sets=2, settings=quick)
    >>> fits.draws["context_probability"].shape
    (2, 4, 2)
    """
    settings = settings or CalibrationSettings()
    if num_data_sets < 1:
        raise InvalidInputError(
            explain("num_data_sets is too small", received=num_data_sets, accepted=">= 1")
        )
    names = _sites(simulation)
    keys = [jax.random.fold_in(key, index) for index in range(num_data_sets)]
    # The last batch is filled up, so that no second program is compiled for it.
    keys += [keys[-1]] * (-num_data_sets % settings.batch)
    batches = [
        jax.numpy.stack(keys[i : i + settings.batch]) for i in range(0, len(keys), settings.batch)
    ]

    @jax.jit
    def program(some: Array) -> Any:
        return jax.lax.map(lambda one: _one(simulation, names, settings, one), some)

    def run(batch: Array) -> Any:
        return jax.tree.map(np.asarray, program(batch))

    found = [run(batches[0])]
    with ThreadPoolExecutor(settings.num_workers) as pool:
        for result in pool.map(run, batches[1:]):
            found.append(result)
            if on_progress is not None:
                done = min(len(found) * settings.batch, num_data_sets)
                on_progress("simulated fits", done, num_data_sets)
    whole = jax.tree.map(lambda *parts: np.concatenate(parts)[:num_data_sets], *found)
    truth, chain, diverging = whole
    return _collect(truth, chain, diverging, settings)


def ranks_of(truth: np.ndarray, draws: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return how many draws lie below the truth; ties are broken at random.

    Parameters
    ----------
    truth : array, shape (R, ...)
    draws : array, shape (R, L, ...)
    rng : numpy.random.Generator

    Returns
    -------
    int array, shape (R, ...)
        From 0 to L; uniform if truth and draws are exchangeable, ties or not. -1 where a
        number is not finite.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> ranks_of(np.array([2.5]), np.array([[1.0, 2.0, 3.0]]), rng).tolist()
    [2]
    """
    truth, draws = np.asarray(truth, float), np.asarray(draws, float)
    below = (draws < truth[:, None]).sum(1)
    ties = (draws == truth[:, None]).sum(1)
    ranks = below + rng.integers(0, ties + 1)
    return np.where(np.isfinite(truth) & np.isfinite(draws).all(1), ranks, -1)


def _sites(simulation: GenerativeModel) -> tuple[str, ...]:
    """Names of what the prior samples or derives."""
    trace = handlers.trace(handlers.seed(simulation.prior, 0)).get_trace()
    return tuple(n for n, site in trace.items() if site["type"] in ("sample", "deterministic"))


def _one(
    simulation: GenerativeModel, names: tuple[str, ...], settings: CalibrationSettings, key: Array
) -> tuple[dict[str, Array], dict[str, Array], Array]:
    """Return truth, the whole chain and the divergences of one data set."""
    truth_key, data_key, run_key = jax.random.split(key, 3)
    trace = handlers.trace(handlers.seed(simulation.prior, truth_key)).get_trace()
    truth = {name: trace[name]["value"] for name in names}
    data = simulation.simulate(truth, data_key)
    mcmc = MCMC(
        NUTS(
            simulation.program,
            target_accept_prob=settings.target_accept,
            init_strategy=init_to_median(),
        ),
        num_warmup=settings.num_warmup,
        num_samples=settings.num_kept * settings.thinning,
        progress_bar=False,
    )
    mcmc.run(run_key, data, extra_fields=("diverging",))
    chain = mcmc.get_samples()
    free = [n for n in names if trace[n]["type"] == "sample"]

    def log_likelihood(values: dict[str, Array]) -> Array:
        given = {name: values[name] for name in free}
        terms, seen = compute_log_probs(handlers.seed(simulation.program, 0), (data,), {}, given)
        return sum(
            (
                terms[n]
                for n, site in seen.items()
                if site["type"] == "sample" and site["is_observed"]
            ),
            start=jax.numpy.zeros(()),
        )

    kept = {name: chain[name] for name in (*names, "solve_status") if name in chain}
    kept[LIKELIHOOD] = jax.lax.map(log_likelihood, {name: chain[name] for name in free})
    return truth | {LIKELIHOOD: log_likelihood(truth)}, kept, mcmc.get_extra_fields()["diverging"]


def _collect(
    truth: dict[str, np.ndarray],
    chain: dict[str, np.ndarray],
    diverging: np.ndarray,
    settings: CalibrationSettings,
) -> SimulatedFits:
    status = chain.pop("solve_status", np.zeros(diverging.shape))
    kept = {
        name: values[:, settings.thinning - 1 :: settings.thinning]
        for name, values in chain.items()
    }
    num = len(diverging)
    finite = [np.isfinite(v.reshape(num, -1)).all(1) for v in (*truth.values(), *kept.values())]
    return SimulatedFits(
        truth=truth,
        draws=kept,
        effective_size={name: _effective_size(values) for name, values in chain.items()},
        num_divergent=diverging.sum(1),
        num_unsolved=(status[:, settings.thinning - 1 :: settings.thinning] != 0).sum(1),
        failed=~np.logical_and.reduce(finite),
    )


def _effective_size(chain: np.ndarray) -> np.ndarray:
    """Return the effective size of each data set's chain; 0 for one that did not move."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = effective_sample_size(np.moveaxis(chain, 0, 1)[None])
    return np.nan_to_num(np.asarray(found), nan=0.0)
