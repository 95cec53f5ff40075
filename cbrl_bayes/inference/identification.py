"""Which directions of the parameters behaviour can tell apart, before and after a fit."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from cbrl_bayes.inference.chain_block import ONCE
from cbrl_bayes.inference.likelihood import choice_rows, policies
from cbrl_bayes.inference.model import BehaviourModel

RANK_TOLERANCE = 1e-8
"""Eigenvalues of the information matrix below this share of the largest count as zero."""


@dataclass(frozen=True)
class Identification:
    """What the observed choices say about the follower's parameters.

    Attributes
    ----------
    names : tuple of str
        Parameters examined, on the log scale.
    eigenvalues : array, shape (n,)
        Of the expected Fisher information of their logarithms, largest first.
    unidentified : tuple of dict
        One per direction that leaves the behaviour unchanged: parameter -> weight.
    advice : str
        "" when every direction is identified, else what to do.
    """

    names: tuple[str, ...]
    eigenvalues: np.ndarray
    unidentified: tuple[dict[str, float], ...]
    advice: str

    @property
    def is_identified(self) -> bool:
        """Whether behaviour tells all parameters apart."""
        return not self.unidentified


def identification(model: BehaviourModel, at: Mapping[str, Any] | None = None) -> Identification:
    r"""Check the rank of the Fisher information of the positive follower parameters.

    With :math:`n(s)` observed choices in state s the information of
    :math:`\theta = \log(\text{parameters})` is :math:`\sum_s n(s) \sum_a \pi(a|s)\,
    \nabla\log\pi(a|s)\,\nabla\log\pi(a|s)^T`. Scaling the temperature and every reward by the
    same factor never changes behaviour; when nothing pins the reward's scale, the matrix is
    singular in that direction.

    Parameters
    ----------
    model : BehaviourModel
    at : mapping, optional
        Where to look; default: the problem's default values.

    Returns
    -------
    Identification

    Examples
    --------
    >>> import jax, numpyro.distributions as dist
    >>> from cbrl_bayes.behaviour import count_behaviour, simulate_trajectories
    >>> from cbrl_bayes.inference import BehaviourModel, default_priors
    >>> from cbrl_bayes.problems import four_rooms
    >>> problem = four_rooms(temperature=0.02)
    >>> data = simulate_trajectories(problem, key=jax.random.key(0), num_episodes=4, num_steps=50)
    >>> priors = default_priors(problem, {"goal_reward": dist.LogNormal(0.0, 1.0)})
    >>> found = identification(BehaviourModel(problem, count_behaviour(problem, data), priors))
    >>> {name: round(weight, 2) for name, weight in found.unidentified[0].items()}
    {'goal_reward': 0.71, 'temperature': 0.71}
    """
    centre = model.complete(at or {})
    names = sorted(
        name
        for name in model.priors
        if name not in ("context_probability", *model.known)
        and np.ndim(centre[name]) == 0
        and float(centre[name]) > 0
    )
    if not names:
        return Identification((), np.zeros(0), (), "")
    logs = np.log([float(centre[name]) for name in names])
    visits = model.counts.action_count.sum(1) if len(model.counts.action_count) else np.ones(1)

    def rows(vector: Array) -> tuple[Array, Array]:
        moved = centre | dict(zip(names, jnp.exp(vector), strict=True))
        log_policy, _ = policies(model.problem, model.counts, moved)
        if len(model.counts.action_count):
            found = choice_rows(model.counts, log_policy)
        else:
            found = log_policy.reshape(-1, log_policy.shape[-1])
        return found, found

    def information_at(vector: Array) -> Array:
        slopes, values = jax.jacfwd(rows, has_aux=True)(vector)
        weights = jnp.exp(values) * visits.reshape(-1, 1)
        return jnp.einsum("ra,rai,raj->ij", weights, slopes, slopes)

    information = np.asarray(jax.jit(information_at, compiler_options=ONCE)(logs))
    values, vectors = np.linalg.eigh(information)
    flat_directions = [
        _direction(names, vectors[:, index])
        for index in range(len(names))
        if values[index] <= RANK_TOLERANCE * max(values[-1], 1e-300)
    ]
    return Identification(
        tuple(names), values[::-1], tuple(flat_directions), _advice(flat_directions)
    )


def contraction(
    prior: Mapping[str, np.ndarray],
    posterior: Mapping[str, np.ndarray],
    shares: Collection[str] = (),
) -> dict[str, float]:
    """Return how much of the prior's uncertainty about each parameter the data took away.

    Near 1: the data decided. Below 0.1: what comes out is nearly the prior. It is
    ``1 - var(posterior) / var(prior)``, on the log scale if positive. Of an array, the least
    informed entry counts; a value that the prior already knows keeps nothing.

    Parameters
    ----------
    prior, posterior : mapping
        Parameter name -> array (chain, draw, ...).
    shares : collection of str
        Parameters in (0, 1), for which the spread depends on where the value lies. For them, and
        for all whose last axis sums to one, it is ``1 - (prior's size) / (posterior's size)``: how
        many observations each is worth, by :math:`m (1 - m) / var`, which a Beta or Dirichlet law
        with n counts has n + 1 of, wherever its mean m lies.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> before = {"law": rng.dirichlet([1, 1], (4, 1000))}
    >>> after = {"law": rng.dirichlet([1, 31], (4, 1000))}  # 30 seen, all of one kind
    >>> round(contraction(before, after)["law"], 1)  # 1 - 3 / 33
    0.9
    """
    result = {}
    for name, before in prior.items():
        after = posterior.get(name)
        if after is None or after.shape[2:] != before.shape[2:]:
            continue
        if name in shares or _sums_to_one(before):
            size = _size(before, name not in shares)
            known = np.isinf(size)
            kept = np.where(
                known, 0.0, np.where(known, 1.0, size) / _size(after, name not in shares)
            )
        else:
            if (before > 0).all() and (after > 0).all():
                before, after = np.log(before), np.log(after)
            spread = before.var((0, 1))
            known = np.ptp(before, axis=(0, 1)) == 0
            kept = np.where(known, 0.0, after.var((0, 1)) / np.where(known, 1.0, spread))
        result[name] = float(1.0 - np.max(kept))
    return result


def _sums_to_one(draws: np.ndarray) -> bool:
    entries = draws.ndim > 2 and draws.shape[-1] > 1
    return bool(entries and (draws >= 0).all() and np.allclose(draws.sum(-1), 1.0, atol=1e-9))


def _size(draws: np.ndarray, whole: bool) -> np.ndarray:
    """Return the number of observations a law of shares is worth, plus one.

    ``whole`` laws along the last axis are worth one number each; else each entry is.
    """
    mean, spread = draws.mean((0, 1)), draws.var((0, 1))
    chance = mean * (1.0 - mean)
    if whole:
        chance, spread = chance.sum(-1), spread.sum(-1)
    return np.where(spread > 0, chance / np.where(spread > 0, spread, 1.0), np.inf)


def _direction(names: list[str], vector: np.ndarray) -> dict[str, float]:
    oriented = vector * np.sign(vector[np.abs(vector).argmax()])
    return {name: float(weight) for name, weight in zip(names, oriented, strict=True)}


def _advice(directions: list[dict[str, float]]) -> str:
    if not directions:
        return ""
    moving = sorted({n for d in directions for n, w in d.items() if abs(w) > 1e-3})
    return (
        f"behaviour cannot tell {' and '.join(moving)} apart (changing them together leaves "
        "every choice probability as it is): fix one of them (a number as its prior), give one a "
        "narrow prior from outside knowledge, or add data from a regime whose incentive has a "
        "known size in the reward's unit"
    )
