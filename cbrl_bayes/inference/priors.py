"""Priors on what the leader does not know: shared, per group, or with a hierarchy over groups.

Wherever a distribution stands a number may stand: then the value is known.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.special import logit
from jaxtyping import Array

from cbrl_bayes.errors import InvalidInputError, require_kind
from cbrl_bayes.inference.drift import Drift
from cbrl_bayes.inference.known import as_law, drawn, is_known, settled
from cbrl_bayes.inference.unknown_law import UnknownLaw


@dataclass(frozen=True)
class Pooled:
    """One value for all followers.

    Parameters
    ----------
    prior : numpyro distribution or number
        In the unit of the parameter. A number (or `Delta`) is a known value.
    """

    prior: dist.Distribution

    def __post_init__(self) -> None:
        _set_laws(self, "prior")

    def sample(self, name: str, num_groups: int) -> Array:
        """Draw the parameter inside a NumPyro model."""
        return drawn(name, self.prior)


@dataclass(frozen=True)
class PerGroup:
    """One value per follower group, independent a priori (no pooling).

    Parameters
    ----------
    prior : numpyro distribution or number
        Scalar, in the unit of the parameter. A number is a known value, several are those of the
        groups, in the order of the problem's followers (of the alphabet if the groups are others).
    """

    prior: dist.Distribution

    def __post_init__(self) -> None:
        _set_laws(self, "prior")

    def sample(self, name: str, num_groups: int) -> Array:
        """Draw one value per group, shape (G,)."""
        if is_known(self.prior):
            return numpyro.deterministic(name, jnp.broadcast_to(self.prior.v, (num_groups,)))
        with numpyro.plate("follower", num_groups):
            return numpyro.sample(name, self.prior)


@dataclass(frozen=True)
class Hierarchical:
    r"""One value per follower group, partially pooled on the log scale, or on the logit scale.

    :math:`\log \theta_g = \mu + \tau z_g`, :math:`z_g \sim N(0, 1)` (non-centred), of a positive
    parameter; of one whose range is (0, 1) the logit takes the place of the logarithm.

    Parameters
    ----------
    location : numpyro distribution or number
        Prior of the population median :math:`e^\mu`, in the unit of the parameter; positive, or
        within (0, 1).
    scale : numpyro distribution or number
        Prior of :math:`\tau` > 0, the spread of log values (of logits) between groups; default
        half-normal with scale 0.5 (two groups then differ by a factor of 2 or so, in odds).

    Attributes
    ----------
    share : bool
        Whether the parameter lies in (0, 1); `default_priors` finds it in the problem's ranges.
    """

    location: dist.Distribution
    scale: dist.Distribution = field(default_factory=lambda: dist.HalfNormal(0.5))
    share: bool = False

    def __post_init__(self) -> None:
        _set_laws(self, "location", "scale")

    def sample(self, name: str, num_groups: int) -> Array:
        """Draw population and groups; returns shape (G,)."""
        median = drawn(f"{name}_population", self.location)
        spread = drawn(f"{name}_spread", self.scale)
        with numpyro.plate("follower", num_groups):
            offset = numpyro.sample(f"{name}_offset", dist.Normal(0.0, 1.0))
        if self.share:
            values = jax.nn.sigmoid(logit(median) + spread * offset)
        else:
            values = median * jnp.exp(spread * offset)
        return numpyro.deterministic(name, values)


@dataclass(frozen=True)
class ContextFamily:
    """A continuous family of contexts, for problems with `SampledContexts`.

    Parameters
    ----------
    family_fn : callable
        ``parameters -> numpyro distribution`` of one context value; the distribution that the
        problem's ``sample_fn`` draws from.
    priors : mapping
        Name of each of the family's parameters -> numpyro distribution, or a number where it is
        known.
    """

    family_fn: Callable[[Mapping[str, Any]], dist.Distribution]
    priors: Mapping[str, dist.Distribution]

    def __post_init__(self) -> None:
        require_kind(self.priors, Mapping, "ContextFamily.priors", "{name: distribution}")
        laws = {}
        for name, prior in self.priors.items():
            place = f"ContextFamily.priors[{name!r}]"
            laws[name], _ = settled(as_law(prior, place), place)
        object.__setattr__(self, "priors", laws)


Prior = Pooled | PerGroup | Hierarchical | Drift | UnknownLaw
OfGroups = PerGroup | Hierarchical | Drift
"""Priors of one value per group."""
MadeOfSites = Hierarchical | Drift
"""Priors whose values follow from sites of other names."""


def _set_laws(record: Any, *names: str) -> None:
    """Put laws in place of numbers that a record of a prior was given."""
    for name in names:
        law = as_law(getattr(record, name), f"{type(record).__name__}.{name}")
        object.__setattr__(record, name, law)


def known_values(
    priors: Mapping[str, Prior], family: ContextFamily | None, num_groups: int
) -> dict[str, np.ndarray]:
    """Return the values of what is known: one for all, or one per group, shape (G,)."""
    laws = {name: p.prior for name, p in priors.items() if not isinstance(p, MadeOfSites)}
    laws |= family.priors if family else {}
    values = {name: np.asarray(law.v) for name, law in laws.items() if is_known(law)}
    return {
        name: np.broadcast_to(value, (num_groups,))
        if isinstance(priors.get(name), PerGroup) and value.ndim == 0
        else value
        for name, value in values.items()
    }


def require_unknown(
    priors: Mapping[str, Prior], family: ContextFamily | None, num_groups: int
) -> None:
    """Raise if every parameter is known: then there is nothing to infer.

    Raises
    ------
    InvalidInputError
        Saying how to go on without a fit.
    """
    known = known_values(priors, family, num_groups)
    if {*priors, *(family.priors if family else {})} - set(known):
        return
    told = {name: value.tolist() for name, value in known.items()}
    draws = ", ".join(
        f"{n!r}: np.full(50, {v})" if np.ndim(v) == 0 else f"{n!r}: np.tile({v}, (50, 1))"
        for n, v in told.items()
    )
    raise InvalidInputError(
        "there is nothing to infer: every parameter is known",
        received=told or "no parameter with a prior",
        accepted="at least one parameter with a distribution as its prior",
        remedy=f"cb.design(problem, {{{draws}}}, key=key), which needs no fit"
        if told
        else "a name in uncertain of the problem, or in priors",
    )


def prior_text(prior: Prior) -> str:
    """Word a prior with all that it was made with, for the record."""
    if not isinstance(prior, MadeOfSites) and is_known(prior.prior):
        return _told(prior.prior)
    if isinstance(prior, UnknownLaw):
        return str(prior)
    if isinstance(prior, Drift):
        parts = (f"{n}={_told(getattr(prior, n))}" for n in ("first", "spread", "trend"))
        return f"Drift({', '.join(parts)})"
    if isinstance(prior, Hierarchical):
        return f"Hierarchical(location={_told(prior.location)}, scale={_told(prior.scale)})"
    return f"{type(prior).__name__}({_told(prior.prior)})"


def _told(value: Any) -> str:
    """Word a distribution with all it was made with: wrappers tell what they wrap."""
    if isinstance(value, dist.Delta):
        return f"known: {np.asarray(value.v).tolist()}"
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
