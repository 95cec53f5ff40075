"""Parameters that are known: a prior that is one value."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array

from cbrl_bayes.errors import InvalidInputError, as_numbers, require_kind
from cbrl_bayes.problems import Problem

NUM_TRIED = 256
"""Draws of a prior that are looked at before it is used."""


def as_law(value: Any, name: str) -> dist.Distribution:
    """Return a distribution as it is, and a number, or several, as the law of what is known.

    Examples
    --------
    >>> float(as_law(0.3, "priors['temperature']").v)
    0.3
    """
    if isinstance(value, int | float | np.generic | np.ndarray | Array | list | tuple):
        numbers = np.asarray(value) if not isinstance(value, list | tuple) else value
        if np.asarray(numbers).dtype.kind != "b":
            return dist.Delta(jnp.asarray(as_numbers(name, numbers)))
    remedy = "dist.LogNormal(0.0, 1.0), or a number for a known value"
    require_kind(value, dist.Distribution, name, remedy)
    return value


def is_known(law: dist.Distribution) -> bool:
    """Return whether a law (of `settled`) is one value."""
    return isinstance(law, dist.Delta)


def settled(law: dist.Distribution, name: str) -> tuple[dist.Distribution, np.ndarray]:
    """Return a law that has no width as `Delta`, others as they are; and draws of it.

    Raises
    ------
    InvalidInputError
        If some of its entries have no width and others have, or its draws are all but one value.
    """
    try:
        draws = np.asarray(law.sample(jax.random.key(0), (NUM_TRIED,)))
    except NotImplementedError:  # an improper one
        return law, np.zeros((0, *law.batch_shape, *law.event_shape))
    still = (draws == draws[0]).all(0)
    if not still.any():
        return law, draws
    if not still.all():
        raise InvalidInputError(
            f"{name} fixes some entries and leaves others open",
            received=f"entries {np.argwhere(still).squeeze(-1).tolist()} are fixed",
            accepted="all of them fixed, or none",
            remedy="two parameters, one for what is known",
        )
    if not (_spread(law) <= 0.0).all():
        raise InvalidInputError(
            f"{name} has some width, and yet the same value in {NUM_TRIED} draws",
            received=draws[0].tolist(),
            remedy="the number itself, where the value is known; else a wider law",
        )
    return dist.Delta(jnp.asarray(draws[0], float)), draws


def drawn(name: str, law: dist.Distribution) -> Array:
    """Sample inside a NumPyro model; what is known is put on record only."""
    if is_known(law):
        return numpyro.deterministic(name, law.v)
    return numpyro.sample(name, law)


def check_known(problem: Problem, name: str, value: np.ndarray, *, per_group: bool) -> None:
    """Refuse a value that the parameter cannot have; ``per_group``: or one of several values."""
    for one in np.ravel(value) if per_group and value.ndim == 1 else [value]:
        problem.complete_parameters({name: one})


def _spread(law: dist.Distribution) -> np.ndarray:
    """Return the variance; 0 where it is not known."""
    try:
        return np.nan_to_num(np.asarray(law.variance, float), nan=0.0)
    except NotImplementedError:
        return np.zeros(())
