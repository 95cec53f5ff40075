"""Shocks of a model from plain functions: finitely many values, or a distribution put on nodes."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import jax.numpy as jnp
import numpy as np

from cbrl_bayes.errors import InvalidInputError, require_ranges
from cbrl_bayes.mdp import ROW_SUM_TOLERANCE, is_traced


@dataclass(frozen=True, eq=False)
class Shock:
    """What chance adds in each step, independently of all that was before.

    Parameters
    ----------
    values : array, shape (N,), or callable
        What can happen. A function names what it needs: state, action, period, incentive, context,
        parameters.
    probability : array, shape (N,), or callable
        The probabilities, which sum to one.

    Examples
    --------
    >>> repair = Shock([0.0, 30.0], lambda action: jnp.array([0.9, 0.1]) + 0.1 * action)
    >>> import numpyro.distributions as dist
    >>> income = Shock.of(dist.LogNormal(0.0, 0.5), num_nodes=7)
    >>> float(abs((income.values * income.probability).sum() - jnp.exp(0.125))) < 1e-9
    True
    """

    values: Any
    probability: Any

    def __post_init__(self) -> None:
        fixed = [np.shape(one) for one in (self.values, self.probability) if not callable(one)]
        if any(len(shape) != 1 or not shape[0] for shape in fixed) or len(set(fixed)) > 1:
            raise InvalidInputError(
                "values and probabilities of a shock do not fit together",
                received=f"shapes {', '.join(map(str, fixed))}",
                accepted="one list of numbers each, of the same length",
            )
        if not callable(self.probability) and not is_traced(self.probability):
            chance = np.asarray(self.probability, float)
            if not (chance >= 0.0).all() or abs(chance.sum() - 1.0) > ROW_SUM_TOLERANCE:
                raise InvalidInputError(
                    "probabilities of a shock are no distribution",
                    received=chance.tolist(),
                    accepted="numbers >= 0 that sum to one",
                )

    @classmethod
    def of(cls, distribution: Any, num_nodes: int) -> "Shock":
        """Put a NumPyro distribution on nodes at which means of smooth functions come out right.

        Of a normal (or of what is lognormal) by Gauss-Hermite quadrature, which is exact for
        polynomials up to degree 2 N - 1; of others by Gauss-Legendre quadrature through the
        quantile function. A discrete distribution with finitely many values keeps all of them.

        Parameters
        ----------
        distribution : numpyro Distribution, or callable that returns one
            Of single numbers. A function names what it needs, for example ``parameters``.
        num_nodes : int
            N >= 1.

        Returns
        -------
        Shock

        Raises
        ------
        InvalidInputError
            For a distribution without a quantile function (``icdf``), or of several numbers.
        """
        require_ranges({"num_nodes": num_nodes}, "the shock", num_nodes=">= 1")
        if not callable(distribution) or hasattr(distribution, "log_prob"):
            return cls(*_on_nodes(distribution, num_nodes))
        return cls(*(_one_of_two(distribution, num_nodes, which) for which in (0, 1)))


def _one_of_two(distribution: Callable[..., Any], num_nodes: int, which: int) -> Callable[..., Any]:
    """Return the function of the same arguments that gives the values (0) or probabilities (1)."""

    @wraps(distribution)
    def part(*args: Any, **given: Any) -> Any:
        return _on_nodes(distribution(*args, **given), num_nodes)[which]

    part.__signature__ = inspect.signature(distribution)  # type: ignore[attr-defined]
    return part


def _on_nodes(distribution: Any, num_nodes: int) -> tuple[Any, Any]:
    kinds = {kind.__name__ for kind in type(distribution).__mro__}
    shape = (*getattr(distribution, "batch_shape", ()), *getattr(distribution, "event_shape", ()))
    if shape:
        raise _unusable(distribution, "is not one of single numbers")
    if getattr(distribution, "has_enumerate_support", False):
        values = distribution.enumerate_support()
        return values, jnp.exp(distribution.log_prob(values))
    if kinds & {"Normal", "LogNormal"}:
        nodes, weights = np.polynomial.hermite_e.hermegauss(num_nodes)
        values = distribution.loc + distribution.scale * nodes
        return jnp.exp(values) if "LogNormal" in kinds else values, weights / weights.sum()
    nodes, weights = np.polynomial.legendre.leggauss(num_nodes)
    try:
        return distribution.icdf(jnp.asarray((1.0 + nodes) / 2.0)), weights / weights.sum()
    except (AttributeError, NotImplementedError) as error:
        raise _unusable(distribution, "has no quantile function") from error


def _unusable(distribution: Any, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"a distribution that {why} cannot be put on nodes",
        received=type(distribution).__name__,
        accepted="a distribution of single numbers with icdf, or with finitely many values",
        remedy="Shock(values, probability)",
    )
