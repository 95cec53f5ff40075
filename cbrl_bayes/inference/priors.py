"""Priors on what the leader does not know: shared, per group, or with a hierarchy over groups.

Wherever a distribution stands a number may stand: then the value is known.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
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
from cbrl_bayes.inference.known import as_law, check_known, drawn, is_known, settled
from cbrl_bayes.inference.unknown_law import UnknownLaw
from cbrl_bayes.problems import LAW, DiscreteContexts, Problem, has_unknown_law

DEFAULT_LOG_SCALE = 1.0
"""Log-normal scale of default priors: 95 % of the mass within a factor of 7 of the centre."""


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


def default_priors(
    problem: Problem, given: Mapping[str, Prior | dist.Distribution | Any] | None = None
) -> dict[str, Prior]:
    """Return one prior per uncertain parameter; ``given`` adds or replaces.

    Defaults, from the problem's own default values: positive scalars get a log-normal with
    that value as median and log-scale 1 (95 % within a factor of 7), independently per group
    where the default differs between followers; scalars whose range ends at 0 the mirror image
    of that; scalars in the range (0, 1) a Beta(1, b) with
    that value as mean; probability vectors, context probabilities among them, a uniform
    Dirichlet; an unknown transition law `UnknownLaw`. Units are the parameters' own
    (``Problem.parameter_units``). `infer` simulates from them before it conditions: look at
    the group ``prior_predictive``.

    Parameters
    ----------
    problem : Problem
    given : mapping, optional
        Parameter name -> `Pooled`, `PerGroup`, `Hierarchical`, `Drift`, `UnknownLaw` or a bare
        NumPyro distribution, which counts as pooled; or a number (an array, a `Delta`): the
        parameter is known.

    Returns
    -------
    dict

    Raises
    ------
    InvalidInputError
        For a name the problem does not have, several values of a parameter that cannot differ
        between followers, and a prior of another shape or out of range.

    Examples
    --------
    >>> from cbrl_bayes.problems import four_rooms
    >>> sorted(default_priors(four_rooms()))
    ['context_probability', 'temperature']
    """
    known = problem.default_parameters
    priors: dict[str, Prior] = {}
    names = [*problem.uncertain]
    contexts = problem.contexts
    discrete = isinstance(contexts, DiscreteContexts) and not contexts.law_known
    if discrete and contexts.num_contexts > 1:
        names.append("context_probability")
    require_kind(given, Mapping | None, "priors", "{parameter name: distribution}")
    for name in (name for name in names if name not in (given or {})):
        centre = np.asarray(known[name])
        if name == LAW and has_unknown_law(problem):
            priors[name] = UnknownLaw().settled(problem)
        elif name in problem.per_follower and centre.ndim == 1 and (centre > 0).all():
            median = float(np.exp(np.log(centre).mean()))
            if problem.ranges.get(name) == (0.0, 1.0):
                mean = float(centre.mean())
                priors[name] = PerGroup(dist.Beta(1.0, (1.0 - mean) / mean))
                continue
            priors[name] = PerGroup(dist.LogNormal(np.log(median), DEFAULT_LOG_SCALE))
        elif name == "context_probability" or name in problem.laws:
            priors[name] = Pooled(dist.Dirichlet(np.ones(centre.shape)))
        elif centre.ndim == 0 and problem.ranges.get(name) == (0.0, 1.0):
            priors[name] = Pooled(dist.Beta(1.0, float((1.0 - centre) / centre)))
        elif centre.ndim == 0 and centre > 0:
            priors[name] = Pooled(dist.LogNormal(float(np.log(centre)), DEFAULT_LOG_SCALE))
        elif centre.ndim == 0 and problem.ranges.get(name, (0.0, np.inf))[1] == 0.0:
            priors[name] = Pooled(_below_zero(float(centre)))
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
                remedy="problem = cb.problems.with_unknown_law(problem)" if name == LAW else "",
            )
        chosen = prior if isinstance(prior, Prior) else Pooled(as_law(prior, f"priors[{name!r}]"))
        if isinstance(chosen, Pooled) and is_known(chosen.prior) and name in problem.per_follower:
            chosen = PerGroup(chosen.prior) if np.ndim(chosen.prior.v) == 1 else chosen
        apart = isinstance(chosen, OfGroups)
        if apart and name not in problem.per_follower:
            raise InvalidInputError(
                f"parameter {name!r} cannot differ between followers",
                received=type(chosen).__name__,
                accepted=f"Pooled; these may differ: {', '.join(problem.per_follower) or 'none'}",
                remedy=f"per_follower=({name!r},) when the problem is made",
            )
        priors[name] = _settled(problem, name, chosen)
    _refuse_mixture(priors)
    return priors


def _refuse_mixture(priors: Mapping[str, Prior]) -> None:
    """Raise where the groups are periods for one parameter, and people for another."""
    by_group = {name: prior for name, prior in priors.items() if isinstance(prior, OfGroups)}
    others = [name for name, prior in by_group.items() if not isinstance(prior, Drift)]
    if others and len(others) < len(by_group):
        raise InvalidInputError(
            "the groups of the data are periods for one parameter and followers for another",
            received=", ".join(f"{n}: {type(prior).__name__}" for n, prior in by_group.items()),
            accepted="Drift beside Pooled, or beside another Drift",
        )


def _below_zero(median: float) -> dist.Distribution:
    """Return the mirror image of a log-normal: minus the parameter has it."""
    law = dist.LogNormal(float(np.log(-median)), DEFAULT_LOG_SCALE)
    mirror = dist.transforms.AffineTransform(0.0, -1.0, domain=dist.constraints.positive)
    return dist.TransformedDistribution(law, mirror)


def _settled(problem: Problem, name: str, prior: Prior) -> Prior:
    """Return the prior, laws of one value as such; refuse what the parameter cannot have."""
    if isinstance(prior, UnknownLaw):
        if name != LAW:
            raise InvalidInputError(
                f"UnknownLaw is no prior of {name!r}",
                accepted=f"priors={{{LAW!r}: UnknownLaw(...)}}",
            )
        return prior.settled(problem)
    if isinstance(prior, Hierarchical):
        low, high = problem.ranges.get(name, (-np.inf, np.inf))
        share = (low, high) == (0.0, 1.0)
        if not share and (low > 0.0 or high < np.inf):
            raise InvalidInputError(
                f"a hierarchy of {name!r} would leave its range",
                received=f"range {(low, high)}",
                accepted="positive without an end (log scale), or (0, 1) (logit scale)",
                remedy=f"priors={{{name!r}: PerGroup(a distribution within the range)}}",
            )
        return Hierarchical(
            _positive(name, "Hierarchical.location", prior.location, 1.0 if share else np.inf),
            _positive(name, "Hierarchical.scale", prior.scale),
            share,
        )
    if isinstance(prior, Drift):
        first = _positive(name, "Drift.first", prior.first)
        return replace(prior, first=first, spread=_positive(name, "Drift.spread", prior.spread))
    shape = (*prior.prior.batch_shape, *prior.prior.event_shape)
    wanted = np.shape(problem.default_parameters[name])
    fits = shape in (wanted, ()) if isinstance(prior, Pooled) else True
    if not is_known(prior.prior) and (
        not fits or (name in {"context_probability", *problem.laws} and shape != wanted)
    ):
        raise InvalidInputError(
            f"prior of {name!r} does not fit", received=f"shape {shape}", accepted=str(wanted)
        )
    law, draws = settled(prior.prior, f"prior of {name!r}")
    if is_known(law):
        check_known(problem, name, np.asarray(law.v), per_group=isinstance(prior, PerGroup))
        return type(prior)(law)
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
    return prior


def _positive(
    name: str, part: str, law: dist.Distribution, high: float = np.inf
) -> dist.Distribution:
    """Return a part of a hierarchy, settled; refuse draws that are not between 0 and ``high``."""
    law, draws = settled(law, f"prior of {name!r}: {part}")
    outside = int((~((draws > 0.0) & (draws < high))).sum())
    if draws.ndim > 1:
        raise InvalidInputError(
            f"prior of {name!r}: {part} does not fit",
            received=f"shape {draws.shape[1:]}",
            accepted="(), one number for the population",
        )
    if outside:
        raise InvalidInputError(
            f"prior of {name!r}: {part} has draws that are out of range",
            received=f"{outside} of {draws.size}",
            accepted="> 0 and finite"
            if high == np.inf
            else f"between 0 and {high:g}, both excluded",
            remedy="Pooled(...), where all groups are alike"
            if is_known(law) and part.endswith((".scale", ".spread"))
            else "a distribution on that range, such as "
            + ("dist.LogNormal(0.0, 1.0)" if high == np.inf else "dist.Beta(1.0, 1.0)"),
        )
    return law


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
