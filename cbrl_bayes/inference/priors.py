"""Priors on what the leader does not know: shared, per group, or with a hierarchy over groups."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array

from cbrl_bayes.errors import InvalidInputError, require_kind
from cbrl_bayes.problems import DiscreteContexts, Problem

DEFAULT_LOG_SCALE = 1.0
"""Log-normal scale of default priors: 95 % of the mass within a factor of 7 of the centre."""


@dataclass(frozen=True)
class Pooled:
    """One value for all followers.

    Parameters
    ----------
    prior : numpyro distribution
        In the unit of the parameter.
    """

    prior: dist.Distribution

    def __post_init__(self) -> None:
        _require_law(self.prior, "Pooled.prior")

    def sample(self, name: str, num_groups: int) -> Array:
        """Draw the parameter inside a NumPyro model."""
        return numpyro.sample(name, self.prior)


@dataclass(frozen=True)
class PerGroup:
    """One value per follower group, independent a priori (no pooling).

    Parameters
    ----------
    prior : numpyro distribution
        Scalar, in the unit of the parameter.
    """

    prior: dist.Distribution

    def __post_init__(self) -> None:
        _require_law(self.prior, "PerGroup.prior")

    def sample(self, name: str, num_groups: int) -> Array:
        """Draw one value per group, shape (G,)."""
        with numpyro.plate("follower", num_groups):
            return numpyro.sample(name, self.prior)


@dataclass(frozen=True)
class Hierarchical:
    r"""One positive value per follower group, partially pooled on the log scale.

    :math:`\log \theta_g = \mu + \tau z_g`, :math:`z_g \sim N(0, 1)` (non-centred).

    Parameters
    ----------
    location : numpyro distribution
        Prior of the population median :math:`e^\mu`, in the unit of the parameter; positive.
    scale : numpyro distribution
        Prior of :math:`\tau` > 0, the spread of log values between groups; default half-normal
        with scale 0.5 (two groups then differ by a factor of 2 or so).
    """

    location: dist.Distribution
    scale: dist.Distribution = field(default_factory=lambda: dist.HalfNormal(0.5))

    def __post_init__(self) -> None:
        _require_law(self.location, "Hierarchical.location")
        _require_law(self.scale, "Hierarchical.scale")

    def sample(self, name: str, num_groups: int) -> Array:
        """Draw population and groups; returns shape (G,)."""
        median = numpyro.sample(f"{name}_population", self.location)
        spread = numpyro.sample(f"{name}_spread", self.scale)
        with numpyro.plate("follower", num_groups):
            offset = numpyro.sample(f"{name}_offset", dist.Normal(0.0, 1.0))
        return numpyro.deterministic(name, median * jnp.exp(spread * offset))


@dataclass(frozen=True)
class ContextFamily:
    """A continuous family of contexts, for problems with `SampledContexts`.

    Parameters
    ----------
    family_fn : callable
        ``parameters -> numpyro distribution`` of one context value; the distribution that the
        problem's ``sample_fn`` draws from.
    priors : mapping
        Name of each of the family's parameters -> numpyro distribution.
    """

    family_fn: Callable[[Mapping[str, Any]], dist.Distribution]
    priors: Mapping[str, dist.Distribution]

    def __post_init__(self) -> None:
        require_kind(self.priors, Mapping, "ContextFamily.priors", "{name: distribution}")
        for name, prior in self.priors.items():
            _require_law(prior, f"ContextFamily.priors[{name!r}]")


Prior = Pooled | PerGroup | Hierarchical
NUM_TRIED = 256
"""Draws of a prior that are looked at before it is used."""


def default_priors(
    problem: Problem, given: Mapping[str, Prior | dist.Distribution] | None = None
) -> dict[str, Prior]:
    """Return one prior per uncertain parameter; ``given`` adds or replaces.

    Defaults, from the problem's own default values: positive scalars get a log-normal with
    that value as median and log-scale 1 (95 % within a factor of 7), independently per group
    where the default differs between followers; scalars in the range (0, 1) a Beta(1, b) with
    that value as mean; probability vectors, context probabilities among them, a uniform
    Dirichlet. Units are the parameters' own
    (``Problem.parameter_units``). `infer` simulates from them before it conditions: look at
    the group ``prior_predictive``.

    Parameters
    ----------
    problem : Problem
    given : mapping, optional
        Parameter name -> `Pooled`, `PerGroup`, `Hierarchical` or a bare NumPyro distribution,
        which counts as pooled.

    Returns
    -------
    dict

    Raises
    ------
    InvalidInputError
        For a name the problem does not have, several values of a parameter that cannot differ
        between followers, and a prior of another shape, of one value or out of range.

    Examples
    --------
    >>> from cbrl_bayes.problems import four_rooms
    >>> sorted(default_priors(four_rooms()))
    ['context_probability', 'temperature']
    """
    known = problem.default_parameters
    priors: dict[str, Prior] = {}
    discrete = isinstance(problem.contexts, DiscreteContexts)
    names = [*problem.uncertain]
    if discrete and problem.contexts.num_contexts > 1:
        names.append("context_probability")
    require_kind(given, Mapping | None, "priors", "{parameter name: distribution}")
    for name in (name for name in names if name not in (given or {})):
        centre = np.asarray(known[name])
        if name in problem.per_follower and centre.ndim == 1 and (centre > 0).all():
            median = float(np.exp(np.log(centre).mean()))
            priors[name] = PerGroup(dist.LogNormal(np.log(median), DEFAULT_LOG_SCALE))
        elif name == "context_probability" or name in problem.laws:
            priors[name] = Pooled(dist.Dirichlet(np.ones(centre.shape)))
        elif centre.ndim == 0 and problem.ranges.get(name) == (0.0, 1.0):
            priors[name] = Pooled(dist.Beta(1.0, float((1.0 - centre) / centre)))
        elif centre.ndim == 0 and centre > 0:
            priors[name] = Pooled(dist.LogNormal(float(np.log(centre)), DEFAULT_LOG_SCALE))
        else:
            raise InvalidInputError(
                f"parameter {name!r} has no default prior",
                received=centre,
                remedy=f"pass priors={{{name!r}: a NumPyro distribution}}",
            )
    for name, prior in (given or {}).items():
        if name not in known:
            raise InvalidInputError(
                f"problem {problem.name!r} has no parameter {name!r}",
                accepted=", ".join(sorted(known)),
            )
        if not isinstance(prior, Prior):
            _require_law(prior, f"priors[{name!r}]")
        chosen = prior if isinstance(prior, Prior) else Pooled(prior)
        if not isinstance(chosen, Pooled) and name not in problem.per_follower:
            raise InvalidInputError(
                f"parameter {name!r} cannot differ between followers",
                received=type(chosen).__name__,
                accepted=f"Pooled; these may differ: {', '.join(problem.per_follower) or 'none'}",
                remedy=f"per_follower=({name!r},) when the problem is made",
            )
        if isinstance(chosen, Pooled | PerGroup):
            _require_fitting(problem, name, chosen)
        else:
            _require_positive(name, "location", chosen.location)
            _require_positive(name, "scale", chosen.scale)
        priors[name] = chosen
    return priors


def _require_fitting(problem: Problem, name: str, prior: Pooled | PerGroup) -> None:
    """Refuse a prior of another shape, of one value, or with draws the parameter cannot have."""
    law, wanted = prior.prior, np.shape(problem.default_parameters[name])
    shape = (*law.batch_shape, *law.event_shape)
    fits = shape in (wanted, ()) if isinstance(prior, Pooled) else True
    if not fits or (name in {"context_probability", *problem.laws} and shape != wanted):
        raise InvalidInputError(
            f"prior of {name!r} does not fit", received=f"shape {shape}", accepted=str(wanted)
        )
    try:
        draws = np.asarray(law.sample(jax.random.key(0), (NUM_TRIED,)))
    except NotImplementedError:  # an improper one
        return
    if (draws == draws[0]).all():
        raise InvalidInputError(
            f"prior of {name!r} is one value",
            received=draws[0].tolist(),
            accepted="a distribution",
            remedy="a known value needs no prior: set it in the parameters of the problem, and "
            "leave its name out of uncertain",
        )
    low, high = problem.ranges.get(name, (-np.inf, np.inf))
    low = max(low, 0.0) if name == "temperature" else low
    outside = int((~((low < draws) & (draws < high))).sum())
    if outside:
        raise InvalidInputError(
            f"prior of {name!r} has draws that are out of range",
            received=f"{outside} of {draws.size}",
            accepted=f"between {low:g} and {high:g}, both excluded",
            remedy="a distribution on that range, such as dist.LogNormal(0.0, 1.0)",
        )


def _require_positive(name: str, part: str, law: dist.Distribution) -> None:
    """Refuse a part of a hierarchy with draws below zero: both are positive."""
    draws = np.asarray(law.sample(jax.random.key(0), (NUM_TRIED,)))
    outside = int((~((draws > 0.0) & (draws < np.inf))).sum())
    if outside:
        raise InvalidInputError(
            f"prior of {name!r}: Hierarchical.{part} has draws that are out of range",
            received=f"{outside} of {draws.size}",
            accepted="> 0 and finite",
            remedy="a distribution on that range, such as dist.LogNormal(0.0, 1.0)",
        )


def _require_law(value: Any, name: str) -> None:
    known = "a known value needs no prior: set it in the parameters of the problem"
    is_number = isinstance(value, int | float | np.generic | np.ndarray | Array)
    remedy = ["a NumPyro distribution, such as dist.LogNormal(0.0, 1.0)"]
    require_kind(value, dist.Distribution, name, [*remedy, known] if is_number else remedy)


def prior_text(prior: Prior) -> str:
    """Word a prior with all that it was made with, for the record."""
    if isinstance(prior, Hierarchical):
        return f"Hierarchical(location={_told(prior.location)}, scale={_told(prior.scale)})"
    return f"{type(prior).__name__}({_told(prior.prior)})"


def _told(value: Any) -> str:
    """Word a distribution with all it was made with: wrappers tell what they wrap."""
    if isinstance(value, dist.Distribution):
        names = list(value.arg_constraints) or sorted(type(value).gather_pytree_data_fields())
        shapes = (
            {}
            if value.arg_constraints
            else {"batch_shape": value.batch_shape, "event_shape": value.event_shape}
        )
        if hasattr(value, "base_dist") and not isinstance(value, dist.TransformedDistribution):
            names = ["base_dist", *(name for name in names if name != "base_dist")]
        parts = {name: getattr(value, name) for name in names} | shapes
    elif isinstance(value, dist.transforms.Transform):
        kind = dist.transforms.Transform
        parts = {
            name: part
            for name, part in vars(value).items()
            if isinstance(part, kind) or not name.startswith("_")
        }
    elif isinstance(value, list | tuple) and value and not np.isscalar(value[0]):
        return f"[{', '.join(map(_told, value))}]"
    else:
        array = np.asarray(value)
        plain = array.round(6) if array.dtype.kind == "f" else array
        return str(plain.tolist()) if array.dtype.kind in "biuf" else type(value).__name__
    return f"{type(value).__name__}({', '.join(f'{n}={_told(part)}' for n, part in parts.items())})"
