"""Models of budget shares: Dirichlet, mixtures of it, and logistic-normal, with covariates.

**Zeros.** A diary of two weeks misses goods that a household does buy: a zero says that the good
was not bought, not that its share is tiny. So which goods are bought, S, is modelled for itself
(`Participation`), and the composition is a law of the shares among the goods of S. For a Dirichlet
and for a logistic-normal law this is the law of the sub-composition, with the same parameters. All
densities are with respect to the same measure (Lebesgue, on all goods of S but one), so that
pointwise log likelihoods of different families compare.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from jax.scipy.special import gammaln
from jaxtyping import Array, Bool, Float, Key
from numpyro import handlers
from numpyro.infer import SVI, Trace_ELBO, init_to_sample
from numpyro.infer.autoguide import AutoDelta

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.inference.fit import FitDraws
from cbrl_bayes.inference.nuts import NUTSSettings, run_nuts
from cbrl_bayes.progress import Progress, reporter

Draws = dict[str, Array]


def dirichlet_log_density(
    share: Float[Array, "... good"], concentration: Float[Array, "... good"]
) -> Float[Array, "..."]:
    """Return the log density of the goods bought; those with share 0 are left out."""
    bought = share > 0.0
    logs = jnp.log(jnp.where(bought, share, 1.0))
    total = jnp.where(bought, concentration, 0.0).sum(-1)
    terms = (concentration - 1.0) * logs - gammaln(concentration)
    return gammaln(total) + jnp.where(bought, terms, 0.0).sum(-1)


def logistic_normal_log_density(
    share: Float[Array, "household good"],
    mean: Float[Array, "household good"],
    factor: Float[Array, "good good"],
) -> Float[Array, " household"]:
    """Return the log density of the goods bought when logits are normal.

    Shares are ``softmax(mean + factor z)`` with standard normal z, closed on the goods bought.
    """
    patterns, which = np.unique(np.asarray(share) > 0.0, axis=0, return_inverse=True)
    contrasts = jnp.asarray(np.stack([_contrasts(pattern) for pattern in patterns]))
    absent = jnp.asarray(_free_rows(patterns))
    spread = contrasts @ factor
    # A row that a pattern does not use gets a unit of its own, which is taken off again.
    cholesky = jnp.linalg.cholesky(spread @ spread.mT + jax.vmap(jnp.diag)(absent))
    logs = jnp.log(jnp.where(share > 0.0, share, 1.0))
    gap = jnp.einsum("nkg,ng->nk", contrasts[which], logs - mean)
    density = dist.MultivariateNormal(jnp.zeros(gap.shape[-1]), scale_tril=cholesky[which])
    unit = 0.5 * jnp.log(2.0 * jnp.pi) * absent.sum(-1)
    return density.log_prob(gap) + unit[which] - logs.sum(-1)


def _contrasts(bought: Bool[np.ndarray, " good"]) -> np.ndarray:
    """Rows log s_g - log s_ref for the goods bought, the last of them the reference; else zero."""
    goods = np.flatnonzero(bought)
    rows = np.zeros((len(bought) - 1, len(bought)))
    for row, good in enumerate(goods[:-1]):
        rows[row, good], rows[row, goods[-1]] = 1.0, -1.0
    return rows


def _free_rows(patterns: np.ndarray) -> np.ndarray:
    used = patterns.sum(1, keepdims=True) - 1
    return (np.arange(patterns.shape[1] - 1) >= used).astype(float)


class ShareModel(Protocol):
    """A NumPyro model of shares: priors, pointwise density, simulation of full compositions."""

    def parameters(self, num_goods: int, num_covariates: int) -> Draws:
        """Sample the parameters from their priors (inside a NumPyro model)."""

    def log_density(
        self, draw: Draws, share: Array, design: Float[Array, "household column"]
    ) -> Float[Array, " household"]:
        """Return the log density of each household's composition."""

    def simulate(self, draw: Draws, design: Array, key: Key[Array, ""]) -> Array:
        """Return one full composition per household, as if all goods were bought."""


@dataclass(frozen=True)
class DirichletShares:
    r"""Shares of class k are Dirichlet with concentration :math:`\phi_k\,softmax(X\beta_k)`.

    Parameters
    ----------
    num_classes : int
        Classes of households, >= 1, each with its own mean and concentration.
    ordered_good : int
        Classes are in ascending order of this good's logit at mean covariates, relative to the
        last good, which fixes their labels: take a good in which they differ. Other local maxima
        remain possible (``num_starts`` of `fit_shares`).

    Examples
    --------
    >>> DirichletShares(num_classes=2).num_classes
    2
    """

    num_classes: int = 1
    ordered_good: int = 0

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise InvalidInputError(
                "num_classes is too small", received=self.num_classes, accepted=">= 1"
            )

    def parameters(self, num_goods: int, num_covariates: int) -> Draws:
        """Sample; see `ShareModel`. Logits are relative to the last good."""
        classes, place = self.num_classes, self.ordered_good
        if not 0 <= place < num_goods - 1:
            raise InvalidInputError(
                "ordered_good is out of range",
                received=place,
                accepted=f"0 to {num_goods - 2}: any good but the last",
            )
        ordered = numpyro.sample(
            "ordered_logit",
            dist.TransformedDistribution(
                dist.Normal(jnp.zeros(classes), 1.5).to_event(1), dist.transforms.OrderedTransform()
            ),
        )
        rest = numpyro.sample(
            "other_logit", dist.Normal(jnp.zeros((classes, num_goods - 2)), 1.5).to_event(2)
        )
        draw = {
            "logit": jnp.concatenate(
                [rest[:, :place], ordered[:, None], rest[:, place:], jnp.zeros((classes, 1))],
                axis=1,
            ),
            "concentration": numpyro.sample(
                "concentration", dist.LogNormal(jnp.full(classes, jnp.log(20.0)), 1.0).to_event(1)
            ),
        }
        if num_covariates:
            draw["slope"] = _slopes((classes, num_covariates, num_goods))
        if classes > 1:
            draw["class_probability"] = numpyro.sample(
                "class_probability", dist.Dirichlet(jnp.full(classes, 2.0))
            )
        return draw

    def log_density(self, draw: Draws, share: Array, design: Array) -> Float[Array, " household"]:
        """Return log densities, classes summed out."""
        each = dirichlet_log_density(share[:, None, :], self._concentration(draw, design))
        if self.num_classes == 1:
            return each[:, 0]
        return jax.nn.logsumexp(each + jnp.log(draw["class_probability"]), axis=1)

    def simulate(self, draw: Draws, design: Array, key: Key[Array, ""]) -> Array:
        """Return one full composition per household."""
        class_key, share_key = jax.random.split(key)
        concentration = self._concentration(draw, design)
        chance = draw.get("class_probability", jnp.ones(1))
        chosen = jax.random.categorical(class_key, jnp.log(chance), shape=(len(design),))
        return jax.random.dirichlet(share_key, concentration[jnp.arange(len(design)), chosen])

    def class_means(self, draw: Draws) -> Float[Array, "class good"]:
        """Return each class's mean shares at mean covariates."""
        return jax.nn.softmax(draw["logit"], axis=-1)

    def _concentration(self, draw: Draws, design: Array) -> Float[Array, "household class good"]:
        logit = jnp.broadcast_to(draw["logit"], (len(design), *draw["logit"].shape))
        if "slope" in draw:
            logit = logit + jnp.einsum("nc,kcg->nkg", design, draw["slope"])
        return draw["concentration"][:, None] * jax.nn.softmax(logit, axis=-1)


@dataclass(frozen=True)
class LogisticNormalShares:
    r"""Shares are :math:`softmax(\mu + X\beta + L z)`: tastes for two goods may go together.

    ``L`` is the Cholesky factor of the covariance of the logits relative to the last good (its
    row is zero).
    """

    def parameters(self, num_goods: int, num_covariates: int) -> Draws:
        """Sample; see `ShareModel`."""
        free = num_goods - 1
        scale = numpyro.sample("logit_scale", dist.HalfNormal(jnp.ones(free)).to_event(1))
        correlation = numpyro.sample("logit_correlation", dist.LKJCholesky(free, 2.0))
        level = numpyro.sample("logit_mean", dist.Normal(jnp.zeros(free), 1.5).to_event(1))
        factor = jnp.zeros((num_goods, free)).at[:-1].set(scale[:, None] * correlation)
        draw = {"logit": jnp.append(level, 0.0), "factor": factor}
        if num_covariates:
            draw["slope"] = _slopes((num_covariates, num_goods))
        return draw

    def log_density(self, draw: Draws, share: Array, design: Array) -> Float[Array, " household"]:
        """Return log densities of the sub-compositions."""
        return logistic_normal_log_density(share, self._mean(draw, design), draw["factor"])

    def simulate(self, draw: Draws, design: Array, key: Key[Array, ""]) -> Array:
        """Return one full composition per household."""
        noise = jax.random.normal(key, (len(design), draw["factor"].shape[1]))
        return jax.nn.softmax(self._mean(draw, design) + noise @ draw["factor"].T, axis=-1)

    def _mean(self, draw: Draws, design: Array) -> Float[Array, "household good"]:
        mean = jnp.broadcast_to(draw["logit"], (len(design), len(draw["logit"])))
        return mean + design @ draw["slope"] if "slope" in draw else mean


@dataclass(frozen=True)
class Participation:
    """Each good is bought by chance, with a logistic regression on the covariates.

    Goods are independent given the covariates.
    """

    def parameters(self, num_goods: int, num_covariates: int) -> Draws:
        """Sample; see `ShareModel`."""
        draw = {
            "bought_logit": numpyro.sample(
                "bought_logit", dist.Normal(jnp.full(num_goods, 2.0), 2.0).to_event(1)
            )
        }
        if num_covariates:
            draw["bought_slope"] = numpyro.sample(
                "bought_slope", dist.Normal(jnp.zeros((num_covariates, num_goods)), 0.5).to_event(2)
            )
        return draw

    def log_density(self, draw: Draws, share: Array, design: Array) -> Float[Array, " household"]:
        """Return the log probability of which goods are bought."""
        return dist.Bernoulli(logits=self._logits(draw, design)).log_prob(share > 0.0).sum(-1)

    def simulate(self, draw: Draws, design: Array, key: Key[Array, ""]) -> Array:
        """Return which goods are bought, as 0 and 1."""
        return jax.random.bernoulli(key, jax.nn.sigmoid(self._logits(draw, design))).astype(float)

    def _logits(self, draw: Draws, design: Array) -> Float[Array, "household good"]:
        logit = jnp.broadcast_to(draw["bought_logit"], (len(design), len(draw["bought_logit"])))
        return logit + design @ draw["bought_slope"] if "bought_slope" in draw else logit


def fit_shares(
    model: ShareModel,
    share: Float[np.ndarray, "household good"],
    design: Float[np.ndarray, "household column"],
    *,
    key: Key[Array, ""],
    settings: NUTSSettings | None = None,
    num_starts: int = 1,
    progress: Progress = None,
) -> FitDraws:
    """Draw from the posterior of a model of shares by NUTS.

    Parameters
    ----------
    model : ShareModel
        `DirichletShares`, `LogisticNormalShares`, or `Participation` for which goods are bought.
    share : array, shape (N, G)
        Budget shares, rows summing to one (`make_household_shares`).
    design : array, shape (N, C)
        Covariates, best standardised; C may be 0.
    key : typed key
    settings : NUTSSettings, optional
    num_starts : int
        Where above 1, all chains begin at the best of so many local maxima of the posterior.
        Mixtures have several; R-hat then speaks of the one that was chosen.
    progress : bool or callable, optional
        See `cbrl_bayes.progress.reporter`.

    Returns
    -------
    FitDraws
        ``log_likelihood["composition"]`` has one entry per household.

    Raises
    ------
    InvalidInputError
        If shares and covariates do not fit.
    """
    share, design = np.asarray(share, float), np.asarray(design, float)
    fits = share.ndim == design.ndim == 2 and len(share) == len(design) > 0
    if not fits or not np.isfinite(design).all() or not _are_shares(share):
        raise InvalidInputError(
            "shares and covariates do not fit",
            received=f"shares {share.shape}, covariates {design.shape}",
            accepted="(N, G) and (N, C) of the same N >= 1, all finite, shares >= 0 that "
            "sum to one in each row",
            remedy="make_household_shares, which names the first row that is wrong",
        )
    given = jnp.asarray(share), jnp.asarray(design)

    def program() -> None:
        draw = model.parameters(share.shape[1], design.shape[1])
        numpyro.factor("composition", model.log_density(draw, *given).sum())

    begun = time.perf_counter()
    start_key, sample_key = jax.random.split(key)
    start = _best_maximum(program, start_key, num_starts) if num_starts > 1 else None
    with reporter(progress) as report:
        sampled, stats = run_nuts(
            program,
            key=sample_key,
            settings=settings or NUTSSettings(),
            start=start,
            derived=False,
            report=report,
        )
    seconds = time.perf_counter() - begun

    def examine(sites: Draws) -> tuple[Draws, Array]:
        with handlers.substitute(data=sites):
            draw = model.parameters(share.shape[1], design.shape[1])
        return draw, model.log_density(draw, *given)

    # What the model works with; the sites that were sampled are parts of it.
    chains, number = next(iter(sampled.values())).shape[:2]
    flat = {name: value.reshape(-1, *value.shape[2:]) for name, value in sampled.items()}
    found = jax.jit(lambda draws: jax.lax.map(examine, draws))(flat)
    draws, table = jax.tree.map(
        lambda leaf: np.asarray(leaf).reshape(chains, number, *leaf.shape[1:]), found
    )
    return FitDraws(
        posterior=draws,
        sample_stats=stats,
        posterior_predictive={},
        prior={},
        prior_predictive={},
        seconds=seconds,
        log_likelihood={"composition": table},
    )


def _are_shares(share: np.ndarray) -> bool:
    proper = np.isfinite(share).all() and (share >= 0.0).all()
    return bool(proper and (abs(share.sum(1) - 1.0) < 1e-6).all())


def _best_maximum(program: Callable[[], None], key: Key[Array, ""], num: int) -> dict[str, Array]:
    """Return the highest of the posterior's local maxima found from ``num`` draws of the prior."""
    guide = AutoDelta(program, init_loc_fn=init_to_sample())
    svi = SVI(program, guide, optax.adam(0.05), Trace_ELBO())
    found = [svi.run(k, 600, progress_bar=False) for k in jax.random.split(key, num)]
    best = min(found, key=lambda result: float(result.losses[-1]))
    return dict(guide.median(best.params))


def predict_shares(
    model: ShareModel,
    draw: Draws,
    design: Float[Array, "household column"],
    participation: Draws,
    participation_design: Float[Array, "household column"],
    key: Key[Array, ""],
) -> Float[Array, "household good"]:
    """Simulate observable shares: a full composition, closed on the goods that are bought.

    Where no good would be bought, the household buys its largest.
    """
    share_key, buy_key = jax.random.split(key)
    full = model.simulate(draw, design, share_key)
    bought = Participation().simulate(participation, participation_design, buy_key)
    nothing = bought.sum(-1, keepdims=True) == 0.0
    bought = jnp.where(nothing, full == full.max(-1, keepdims=True), bought)
    part = full * bought
    return part / part.sum(-1, keepdims=True)


def _slopes(shape: tuple[int, ...]) -> Array:
    """Sample slopes of the logits relative to the last good; columns are standardised."""
    slope = numpyro.sample(
        "free_slope", dist.Normal(jnp.zeros((*shape[:-1], shape[-1] - 1)), 0.5).to_event(len(shape))
    )
    return jnp.concatenate([slope, jnp.zeros((*shape[:-1], 1))], axis=-1)
