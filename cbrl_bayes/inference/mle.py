"""Maximum likelihood by the same likelihood, with standard errors from its exact Hessian."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro.distributions import biject_to

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.inference.likelihood import (
    context_evidence,
    episode_log_likelihood,
    policies,
    row_policies,
    transition_log_likelihood,
    with_populations,
)
from cbrl_bayes.inference.model import BehaviourModel
from cbrl_bayes.inference.priors import MadeOfSites, PerGroup
from cbrl_bayes.inference.unknown_law import UnknownLaw

FLAT = 1e-9
"""Curvature below this share of the largest counts as none."""
NEAR, FAR = 1.0, 5.0
"""Steps on the unconstrained scale that try for a boundary: a positive number times 2.7 and 150."""
NO_LOSS = 1e-3
"""So little of log-likelihood lost on such a step means that the maximum lies at the boundary."""


@dataclass(frozen=True)
class MaximumLikelihood:
    """A maximum of the likelihood.

    Attributes
    ----------
    estimates, standard_errors : dict
        Parameter name -> value, of those that are not known. Errors are NaN where the likelihood
        is flat in some direction.
    log_likelihood : float
        Total of choices, contexts and recorded transitions.
    choice_log_likelihood, transition_log_likelihood : float
        Its parts (contexts count with the choices).
    gradient_norm : float
        At the maximum, on the unconstrained scale.
    converged : bool
        False also where the likelihood has no proper maximum.
    boundary : tuple of str
        One sentence for each parameter whose likelihood has no maximum inside its range, as
        where everyone chose alike; its estimate is where the search stopped, and means nothing.
    """

    estimates: dict[str, np.ndarray]
    standard_errors: dict[str, np.ndarray]
    log_likelihood: float
    choice_log_likelihood: float
    transition_log_likelihood: float
    gradient_norm: float
    converged: bool
    boundary: tuple[str, ...] = ()


def maximum_likelihood(model: BehaviourModel) -> MaximumLikelihood:
    """Maximise the joint likelihood of choices, contexts and transitions; priors are ignored.

    Full-information maximum likelihood, as in the last step of Rust (1987): transition
    parameters are estimated together with the others. Quasi-Newton (BFGS) on the unconstrained
    scale of the priors' supports, from the problem's default values; standard errors from the
    exact Hessian by the delta method.

    Parameters
    ----------
    model : BehaviourModel
        Without hierarchy: a maximum of the likelihood over a population does not exist.

    Returns
    -------
    MaximumLikelihood

    Raises
    ------
    InvalidInputError
        For a hierarchical prior or a continuous context family, or if all parameters are known.
    """
    if model.context_family or any(isinstance(p, MadeOfSites) for p in model.priors.values()):
        raise InvalidInputError(
            "maximum likelihood does not cover hierarchical priors, a drift or a context family",
            remedy="Pooled or PerGroup priors, or cb.infer",
        )
    if any(isinstance(prior, UnknownLaw) for prior in model.priors.values()):
        raise InvalidInputError(
            "maximum likelihood does not cover an unknown transition law: what was never seen has "
            "its maximum at probability 0",
            remedy="cb.infer, or the problem itself, whose law is known",
        )
    model.require_unknown()
    from scipy.optimize import minimize  # takes a tenth of a second

    supports = {
        name: biject_to(prior.prior.support)
        for name, prior in model.priors.items()
        if not isinstance(prior, MadeOfSites) and name not in model.known
    }
    free = {name: supports[name].inv(_start(model, name)) for name in supports}
    flat, unravel = ravel_pytree(free)

    def constrained(vector: Any) -> dict[str, Any]:
        return {name: supports[name](value) for name, value in unravel(vector).items()}

    def loss(vector: Any) -> Any:
        return -sum(_parts(model, constrained(vector)))

    value_and_grad = jax.jit(jax.value_and_grad(loss))
    answer = minimize(
        lambda v: tuple(np.asarray(part) for part in value_and_grad(v)),
        np.asarray(flat),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-6, "maxiter": 500},
    )
    norm = float(np.linalg.norm(answer.jac))
    best = jnp.asarray(answer.x)
    parts = jax.jit(lambda vector: _parts(model, constrained(vector)))
    choices, moves = (float(part) for part in parts(best))
    errors, is_maximum = _standard_errors(loss, constrained, best)
    boundary = tuple(
        _at_boundary(
            lambda v: float(value_and_grad(v)[0]), constrained, unravel, np.asarray(flat), answer.x
        )
    )
    return MaximumLikelihood(
        estimates=jax.tree.map(np.asarray, constrained(best)),
        standard_errors=errors,
        log_likelihood=choices + moves,
        choice_log_likelihood=choices,
        transition_log_likelihood=moves,
        gradient_norm=norm,
        # BFGS also stops when rounding hides any further gain; then the slope must be tiny.
        converged=bool((answer.success or norm < 1e-3) and is_maximum and not boundary),
        boundary=boundary,
    )


def _parts(model: BehaviourModel, sampled: Mapping[str, Any]) -> tuple[Any, Any]:
    parameters = with_populations(model.problem, model.counts, model.complete(sampled))
    choices = _choices(model, parameters)
    if not len(model.counts.transition_count):
        return choices, jnp.zeros(())
    return choices, transition_log_likelihood(model.problem, model.counts, parameters)


def _choices(model: BehaviourModel, parameters: Mapping[str, Any]) -> Any:
    """Return the log-likelihood of choices, and of contexts where their law is in question."""
    counts = model.counts
    weights = jnp.log(parameters["context_probability"])
    if counts.has_latent_contexts:
        log_policy, _ = policies(model.problem, counts, parameters)
        evidence = context_evidence(model.problem, counts, parameters)
        return episode_log_likelihood(counts, log_policy, weights, evidence).sum()
    rows, _ = row_policies(model.problem, counts, parameters)
    choices = (rows * counts.action_count).sum()
    if "context_probability" not in model.priors:
        return choices
    seen = counts.context_count > 0
    return choices + (jnp.where(seen, weights, 0.0) * counts.context_count).sum()


def _standard_errors(loss: Any, constrained: Any, best: Any) -> tuple[dict[str, np.ndarray], bool]:
    """Return errors and whether this is a proper maximum; NaN where some direction is flat."""
    # Column by column: all at once would need several times the memory.
    slope_of = jax.grad(loss)
    hessian = np.asarray(
        jax.jit(
            lambda at: jax.lax.map(lambda e: jax.jvp(slope_of, (at,), (e,))[1], jnp.eye(len(at)))
        )(best)
    )
    slope = np.asarray(jax.jit(jax.jacobian(lambda v: ravel_pytree(constrained(v))[0]))(best))
    curvature = np.linalg.eigvalsh(hessian)
    _, unravel = ravel_pytree(constrained(best))
    if not curvature[0] > FLAT * max(curvature[-1], 0.0):
        unknown = unravel(jnp.full(len(slope), jnp.nan))
        return jax.tree.map(np.asarray, unknown), False
    variance = np.diag(slope @ np.linalg.inv(hessian) @ slope.T)
    return jax.tree.map(np.asarray, unravel(jnp.sqrt(jnp.asarray(variance)))), True


def _at_boundary(
    loss: Callable[[np.ndarray], float],
    constrained: Any,
    unravel: Any,
    start: np.ndarray,
    best: np.ndarray,
) -> Iterator[str]:
    """Yield a sentence for each parameter that the likelihood sends to the end of its range.

    It does so if the likelihood does not fall far out, but does fall on the way back.
    """
    lowest = loss(best)

    def is_flat(index: int, place: float) -> bool:
        return loss(_with_entry(best, index, place)) - lowest < NO_LOSS

    def stays_flat(index: int, sign: float) -> bool:
        # Nearby first: far out a solve can be dear.
        return all(is_flat(index, best[index] + sign * step) for step in (NEAR, FAR))

    for name, indices in unravel(np.arange(len(best), dtype=float)).items():
        for index in np.ravel(np.asarray(indices)).astype(int):
            outward = [sign for sign in (-1.0, 1.0) if stays_flat(index, sign)]
            if len(outward) == 2:  # far out on a plain already, or no information at all
                outward = [] if is_flat(index, start[index]) else [np.sign((best - start)[index])]
            if outward:
                out = _with_entry(best, index, best[index] + outward[0] * FAR)
                here, there = (_in_words(constrained(v)[name]) for v in (best, out))
                yield (
                    f"{name} has no maximum of the likelihood inside its range: {there} is as "
                    f"good as {here}, where the search stopped; the data give a bound only, as "
                    "where everyone chose alike"
                )
                break


def _with_entry(vector: np.ndarray, index: int, value: float) -> np.ndarray:
    moved = vector.copy()
    moved[index] = value
    return moved


def _in_words(value: Any) -> str:
    return np.array2string(np.asarray(value), formatter={"float_kind": "{:.3g}".format})


def _start(model: BehaviourModel, name: str) -> Any:
    default = model.problem.default_parameters[name]
    if isinstance(model.priors[name], PerGroup):
        return jnp.broadcast_to(default, (len(model.counts.groups),))
    return default
