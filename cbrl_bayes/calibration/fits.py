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

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array, Key
from numpyro import handlers
from numpyro.diagnostics import effective_sample_size
from numpyro.infer import MCMC, NUTS, init_to_median
from numpyro.infer.util import compute_log_probs

from cbrl_bayes.designs.executors import Work
from cbrl_bayes.designs.running import Record, Running
from cbrl_bayes.errors import require_ranges
from cbrl_bayes.inference.generative import GenerativeModel
from cbrl_bayes.mdp import is_traced

LIKELIHOOD = "log_likelihood"


@dataclass(frozen=True)
class CalibrationSettings:
    """How many data sets are simulated, and how each is fitted: one chain of NUTS, thinned.

    Parameters
    ----------
    num_data_sets : int
        R, >= 1. With 500, beta-binomial data that count twice are seen practically always,
        1.5 times in four cases of five (false alarm .001).
    num_draws : int
        L, posterior draws kept of each fit, >= 4.
    num_warmup : int
        Steps of adaptation, >= 1.
    thinning : int
        One draw is kept of so many steps, >= 1; the chain makes ``num_draws * thinning`` steps.
    target_accept : float
        In (0, 1).
    batch : int
        Data sets that one call of the compiled program fits, >= 1. The numbers do not depend on it.
    """

    num_data_sets: int = 500
    num_draws: int = 99
    num_warmup: int = 300
    thinning: int = 5
    target_accept: float = 0.9
    batch: int = 10

    def __post_init__(self) -> None:
        sizes = dict.fromkeys(("num_data_sets", "num_warmup", "thinning", "batch"), ">= 1")
        require_ranges(
            self, "settings of the calibration", num_draws=">= 4", target_accept="(0, 1)", **sizes
        )


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
    def num_draws(self) -> int:
        """L."""
        return next(iter(self.draws.values())).shape[1]


def fit_simulated(
    simulation: GenerativeModel,
    *,
    key: Key[Array, ""],
    settings: CalibrationSettings | None = None,
    run: Running | None = None,
) -> SimulatedFits:
    """Simulate data sets with known truth and fit each; one program is compiled for all.

    Parameters
    ----------
    simulation : GenerativeModel
    key : typed key
        A key of its own is derived for each data set.
    settings : CalibrationSettings, optional
    run : Running, optional
        How it runs. Default: two threads. ``run.records`` receives ("simulated_fits", batch).

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
    >>> quick = CalibrationSettings(
    ...     num_data_sets=2, num_draws=4, num_warmup=20, thinning=1, batch=2)
    >>> fits = fit_simulated(simulation, key=jax.random.key(0), settings=quick)
    >>> fits.draws["context_probability"].shape
    (2, 4, 2)
    """
    settings, run = settings or CalibrationSettings(), run or Running()
    num, batch = settings.num_data_sets, settings.batch

    def numbers(index: int) -> np.ndarray:
        # The last batch is filled up, so that no second program is compiled for it.
        return np.minimum(np.arange(index * batch, (index + 1) * batch), num - 1)

    num_batches = -(-num // batch)
    run.each("simulated_fits", _Fits(simulation, settings, key), numbers, num_batches)
    found = {
        name: values.reshape(-1, *values.shape[2:])[:num]
        for name, values in run.stacked("simulated_fits", num_batches).items()
    }
    return _collect(found, settings)


@dataclass
class _Fits(Work):
    """Simulates and fits one batch of data sets; an item is their numbers."""

    simulation: GenerativeModel
    settings: CalibrationSettings
    key: Key[Array, ""]

    def __post_init__(self) -> None:
        self._names = _sites(self.simulation)
        self._program = jax.jit(lambda keys: jax.lax.map(self._one, keys))

    def __call__(self, numbers: Array | np.ndarray) -> Record:
        keys = jax.vmap(lambda number: jax.random.fold_in(self.key, number))(numbers)
        found = self._program(keys)
        return found if is_traced(found) else jax.tree.map(np.asarray, found)

    def _one(self, key: Array) -> dict[str, Array]:
        """Return truth, the whole chain and the divergences of one data set."""
        simulation, settings, names = self.simulation, self.settings, self._names
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
            num_samples=settings.num_draws * settings.thinning,
            progress_bar=False,
        )
        mcmc.run(run_key, data, extra_fields=("diverging",))
        chain = mcmc.get_samples()
        free = [n for n in names if trace[n]["type"] == "sample"]

        def log_likelihood(values: dict[str, Array]) -> Array:
            given = {name: values[name] for name in free}
            program = handlers.seed(simulation.program, 0)
            terms, seen = compute_log_probs(program, (data,), {}, given)
            observed = [
                terms[n]
                for n, site in seen.items()
                if site["type"] == "sample" and site["is_observed"]
            ]
            return sum(observed, start=jax.numpy.zeros(()))

        kept = {name: chain[name] for name in (*names, "solve_status") if name in chain}
        kept[LIKELIHOOD] = jax.lax.map(log_likelihood, {name: chain[name] for name in free})
        truth[LIKELIHOOD] = log_likelihood(truth)
        return {
            **{f"truth.{name}": value for name, value in truth.items()},
            **{f"chain.{name}": value for name, value in kept.items()},
            "diverging": mcmc.get_extra_fields()["diverging"],
        }


def _sites(simulation: GenerativeModel) -> tuple[str, ...]:
    """Names of what the prior samples or derives; what is known has no rank."""
    trace, other = (
        handlers.trace(handlers.seed(simulation.prior, seed)).get_trace() for seed in (0, 1)
    )

    def moves(name: str) -> bool:
        return not np.array_equal(trace[name]["value"], other[name]["value"])

    derived = {name for name, site in trace.items() if site["type"] == "deterministic"}
    return tuple(
        name
        for name, site in trace.items()
        if site["type"] == "sample" or (name in derived and moves(name))
    )


def _collect(found: dict[str, np.ndarray], settings: CalibrationSettings) -> SimulatedFits:
    truth, chain = (
        {name.removeprefix(part): found[name] for name in found if name.startswith(part)}
        for part in ("truth.", "chain.")
    )
    diverging = found["diverging"]
    status = chain.pop("solve_status", np.zeros(diverging.shape))
    every = slice(settings.thinning - 1, None, settings.thinning)
    kept = {name: values[:, every] for name, values in chain.items()}
    num = len(diverging)
    finite = [np.isfinite(v.reshape(num, -1)).all(1) for v in (*truth.values(), *kept.values())]
    return SimulatedFits(
        truth=truth,
        draws=kept,
        effective_size={name: _effective_size(values) for name, values in chain.items()},
        num_divergent=diverging.sum(1),
        num_unsolved=(status[:, every] != 0).sum(1),
        failed=~np.logical_and.reduce(finite),
    )


def _effective_size(chain: np.ndarray) -> np.ndarray:
    """Return the effective size of each data set's chain; 0 for one that did not move."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = effective_sample_size(np.moveaxis(chain, 0, 1)[None])
    return np.nan_to_num(np.asarray(found), nan=0.0)
