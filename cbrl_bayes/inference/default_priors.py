"""The prior of every parameter that is not known: what is given, checked, and defaults."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpyro.distributions as dist

from cbrl_bayes.errors import InvalidInputError, require_kind
from cbrl_bayes.inference.drift import Drift
from cbrl_bayes.inference.known import as_law, check_known, is_known, settled
from cbrl_bayes.inference.priors import Hierarchical, OfGroups, PerGroup, Pooled, Prior
from cbrl_bayes.inference.unknown_law import UnknownLaw
from cbrl_bayes.problems import LAW, DiscreteContexts, Problem, has_unknown_law

DEFAULT_LOG_SCALE = 1.0
"""Log-normal scale of default priors: 95 % of the mass within a factor of 7 of the centre."""


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
        share = problem.ranges.get(name) == (0.0, 1.0)
        if name == LAW and has_unknown_law(problem):
            priors[name] = UnknownLaw().settled(problem)
        elif name in problem.per_follower and centre.ndim == 1 and (centre > 0).all():
            priors[name] = PerGroup(_share(centre.mean()) if share else _around(centre))
        elif name == "context_probability" or name in problem.laws:
            priors[name] = Pooled(dist.Dirichlet(np.ones(centre.shape)))
        elif centre.ndim == 0 and share:
            priors[name] = Pooled(_share(centre))
        elif centre.ndim == 0 and centre > 0:
            priors[name] = Pooled(_around(centre))
        elif centre.ndim == 0 and problem.ranges.get(name, (0.0, np.inf))[1] == 0.0:
            priors[name] = Pooled(_below_zero(centre))
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


def _share(mean: Any) -> dist.Distribution:
    return dist.Beta(1.0, float((1.0 - mean) / mean))


def _around(values: np.ndarray) -> dist.Distribution:
    """Return a log-normal whose median is the values' geometric mean."""
    return dist.LogNormal(float(np.log(values).mean()), DEFAULT_LOG_SCALE)


def _below_zero(median: np.ndarray) -> dist.Distribution:
    """Return the mirror image of a log-normal: minus the parameter has it."""
    return dist.TransformedDistribution(_around(-median), _Mirror(0.0, -1.0))


class _Mirror(dist.transforms.AffineTransform):
    """From positive numbers to negative ones.

    NumPyro finds the place of the end by the transform itself. Within a compiled chain that is no
    number, and a later program of the chain cannot use it.
    """

    codomain = dist.constraints.less_than(0.0)


def _suited(low: float, high: float) -> str:
    """Name a distribution on a range."""
    if (low, high) == (0.0, np.inf):
        return "dist.LogNormal(0.0, 1.0)"
    if (low, high) == (-np.inf, 0.0):
        return "dist.TruncatedNormal(-1.0, 1.0, high=0.0)"
    if (low, high) == (0.0, 1.0):
        return "dist.Beta(1.0, 1.0)"
    if np.isfinite([low, high]).all():
        return f"dist.Uniform({low:g}, {high:g})"
    ends = [f"low={low:g}"] if np.isfinite(low) else []
    ends += [f"high={high:g}"] if np.isfinite(high) else []
    return f"dist.TruncatedNormal({', '.join(['loc', 'scale', *ends])})"


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
            remedy=f"a distribution on that range, such as {_suited(low, high)}",
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
            else "a distribution on that range, such as " + _suited(0.0, high),
        )
    return law
