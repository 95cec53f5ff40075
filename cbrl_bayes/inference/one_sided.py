r"""Parameters that the data bound on one side only: the likelihood along each of them.

The likelihood is followed from the posterior's centre far to both sides: once with all other
parameters held, once with the others moving along as they do in the posterior. The better of the
two is a lower bound of the profile likelihood. Where its far end is as good as the best, up to
:math:`\chi^2_1(.9)/2 = 1.35`, the data do not speak against values out there; where the
posterior ends on that side is then the prior's doing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from numpyro.distributions import biject_to, constraints

from cbrl_bayes.inference.model import BehaviourModel
from cbrl_bayes.inference.priors import Hierarchical, MadeOfSites, PerGroup, Pooled

DROP = 1.3527717
"""Half the .9 quantile of chi-square with one degree of freedom."""
FAR = 9.2103404
"""A factor of 10,000 on the log scale; the same on that of logits."""
FAR_IN_SPREADS = 10.0
"""How far an unbounded parameter is followed, in standard deviations of its prior."""
NEAR_IN_SPREADS = 4.0
"""Less far than so many of the posterior's spreads says nothing of a side."""
NUM_POINTS = 32
"""On each side; close together near the centre, far apart at the end."""
MOST_ENTRIES = 20
"""Entries of one array that are followed, the first ones."""

Draws = Mapping[str, np.ndarray]
Examine = Callable[[Draws], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class _Path:
    """One parameter to follow.

    Attributes
    ----------
    name : str
    steps : array, shape (points,)
        On the scale on which it is unbounded, 0 at the centre.
    points : dict
        Sampled site -> array (points, ...): held, then moving along where there is such a path.
    value : callable
        From a step to the parameter itself, its entries flattened.
    group : int or None
        Whose choices count; None for everyone's.
    spread : float
        The posterior's standard deviation, in the unit of ``steps``.
    """

    name: str
    steps: Float[np.ndarray, " point"]
    points: dict[str, np.ndarray]
    value: Callable[[float], float]
    group: int | None
    spread: float


def one_sided(
    model: BehaviourModel, posterior: Draws, prior: Draws, examine: Examine
) -> list[dict[str, Any]]:
    """List the parameters that the data bound on one side, or on none.

    Laws (context probabilities among them) are left out: what was never seen is bounded on one
    side by nature, and counts tell how well each is known.

    Parameters
    ----------
    model : BehaviourModel
    posterior, prior : mapping
        Sampled and derived site -> array (draw, ...).
    examine : callable
        From sampled sites, arrays (point, ...), to the log-likelihood of each episode, (point,
        episode), and whether all best responses converged, (point,). Further columns belong to no
        episode.

    Returns
    -------
    list of dict
        ``parameter``; ``side``: "above", "below" (the data say that it is above, or below,
        ``bound``, and nothing beyond) or "neither" (``bound`` is None).
    """
    paths = list(_paths(model, posterior, prior))
    if not paths:
        return []
    # Groups share their points: move all of one parameter at once, look at each.
    tables = {id(path.points): path.points for path in paths}
    sites = next(iter(tables.values()))
    joined = {n: np.concatenate([table[n] for table in tables.values()]) for n in sites}
    episodes, solved = examine(joined)
    ends = np.cumsum([len(next(iter(table.values()))) for table in tables.values()])
    place = dict(zip(tables, np.split(np.arange(len(solved)), ends[:-1]), strict=True))
    counts = model.counts
    group_of = np.full(episodes.shape[1], -1)
    group_of[: len(counts.episode_cells)] = counts.cell_group[counts.episode_cells.max(1)]
    found = []
    for path in paths:
        at = place[id(path.points)]
        own = slice(None) if path.group is None else group_of == path.group
        total = np.where(solved[at], episodes[at][:, own].sum(1), np.nan)
        curve = np.fmax.reduce(total.reshape(-1, len(path.steps)))
        side, step = open_side(path.steps, curve, NEAR_IN_SPREADS * path.spread)
        if side:
            bound = None if side == "neither" else path.value(step)
            found.append({"parameter": path.name, "side": side, "bound": bound})
    return found


def open_side(
    steps: Float[np.ndarray, " point"], curve: Float[np.ndarray, " point"], near: float
) -> tuple[str, float]:
    """Return what a log-likelihood along a parameter says, and up to where.

    Parameters
    ----------
    steps : array, shape (n,)
        Ascending, with 0 among them.
    curve : array, shape (n,)
        NaN where it could not be computed: what lies beyond is not looked at.
    near : float
        A side that is known less far than this says nothing.

    Returns
    -------
    tuple
        "above", "below", "neither" or "" (bounded on both sides), and the step at the bound.

    Examples
    --------
    >>> steps = np.linspace(-9.0, 9.0, 37)
    >>> open_side(steps, -np.exp(-steps), 1.0)[0]  # flat to the right
    'above'
    >>> open_side(steps, -(steps**2), 1.0)[0]
    ''
    """
    known = np.isfinite(curve)
    centre = int(np.flatnonzero(steps == 0.0)[0])
    if not known[centre] or np.ptp(curve[known]) == 0.0:
        return "", 0.0
    low = centre - int(np.argmin(np.append(known[: centre + 1][::-1], False))) + 1
    high = centre + int(np.argmin(np.append(known[centre:], False))) - 1
    steps, curve = steps[low : high + 1], curve[low : high + 1]
    good = curve >= curve.max() - DROP
    from_below = bool(good[0] and -steps[0] >= near)
    from_above = bool(good[-1] and steps[-1] >= near)
    if from_below and from_above:
        return "neither", 0.0
    if from_above:
        first = int(good.argmax())
        return "above", _crossing(steps, curve, first - 1, first) if first else steps[0]
    if from_below:
        last = len(good) - 1 - int(good[::-1].argmax())
        inside = last + 1 < len(good)
        return "below", _crossing(steps, curve, last, last + 1) if inside else steps[-1]
    return "", 0.0


def _crossing(steps: np.ndarray, curve: np.ndarray, one: int, other: int) -> float:
    level = curve.max() - DROP
    share = (level - curve[one]) / (curve[other] - curve[one])
    return float(steps[one] + share * (steps[other] - steps[one]))


def _paths(model: BehaviourModel, posterior: Draws, prior: Draws) -> Iterator[_Path]:
    centre, known = _centre(model, posterior), model.known
    for name, law in model.priors.items():
        if name not in known and isinstance(law, PerGroup | Hierarchical):
            yield from _of_groups(model, name, law, centre, posterior)
    laws = {name: law.prior for name, law in model.priors.items() if isinstance(law, Pooled)}
    if model.context_family is not None:
        laws |= model.context_family.priors
    laws = {name: law for name, law in laws.items() if name not in known}
    bounded, free, before = {}, {}, {}
    for name, law in laws.items():
        transform = biject_to(law.support)
        values, earlier = jax.jit(lambda *draws, t=transform: tuple(map(t.inv, draws)))(
            posterior[name], prior[name]
        )
        same_shape = np.shape(values) == np.shape(posterior[name])
        if name in ("context_probability", *model.problem.laws) or not same_shape:
            continue
        flat = np.asarray(values).reshape(len(values), -1)
        if np.isfinite(flat).all() and np.isfinite(earlier).all():
            bounded[name] = transform
            free[name] = flat
            before[name] = np.asarray(earlier).reshape(len(earlier), -1)
    for name in free:
        yield from _of_entries(name, bounded, free, before[name], centre)


def _of_entries(
    name: str, bounded: dict[str, Any], free: Draws, before: np.ndarray, centre: Draws
) -> Iterator[_Path]:
    """Follow each entry of a parameter that all share."""
    draws, spread = free[name], free[name].std(0)
    straight = np.allclose(bounded[name](draws[:1]), draws[:1])  # unbounded as it is
    for entry in range(min(draws.shape[1], MOST_ENTRIES)):
        if spread[entry] == 0.0:
            continue
        spreads = FAR_IN_SPREADS * max(before[:, entry].std(), spread[entry])
        steps = _steps(spreads if straight else max(FAR, spreads / FAR_IN_SPREADS * 3.0))
        centred = draws[:, entry] - draws[:, entry].mean()
        tables = []
        for along in (False, True):
            moved = {}
            for other, values in free.items():
                slope = np.zeros(values.shape[1])
                if along:
                    slope = centred @ (values - values.mean(0)) / (centred @ centred)
                if other == name:
                    slope[entry] = 1.0
                place = np.median(values, axis=0) + steps[:, None] * slope
                shape = (len(steps), *centre[other].shape)
                moved[other] = np.asarray(bounded[other](place.reshape(shape)))
            tables.append(_repeated(centre, len(steps)) | moved)
        alone = sum(values.shape[1] for values in free.values()) == 1
        points = tables[0] if alone else jax.tree.map(_stacked, *tables)
        begin = np.median(draws, axis=0)

        def value(step: float, entry: int = entry, begin: np.ndarray = begin) -> float:
            at = begin.copy()
            at[entry] += step
            return float(np.asarray(bounded[name](at))[entry])

        label = name if draws.shape[1] == 1 else f"{name}[{entry}]"
        yield _Path(label, steps, points, value, None, float(spread[entry]))


def _of_groups(
    model: BehaviourModel, name: str, law: PerGroup | Hierarchical, centre: Draws, posterior: Draws
) -> Iterator[_Path]:
    """Follow all groups at once: the choices of each depend on its own value alone."""
    values = posterior[name]
    if not (values > 0).all():
        return
    steps = _steps(FAR)
    share = model.problem.ranges.get(name) == (0.0, 1.0)
    scale = biject_to(constraints.unit_interval if share else constraints.positive)
    median = np.asarray(scale.inv(np.median(values, axis=0)))
    moved = median + steps[:, None]
    points = _repeated(centre, len(steps))
    if isinstance(law, Hierarchical):
        population, spread = centre[f"{name}_population"], centre[f"{name}_spread"]
        points[f"{name}_offset"] = (moved - np.asarray(scale.inv(population))) / spread
    else:
        points[name] = np.asarray(scale(moved))

    def value(step: float, group: int) -> float:
        return float(scale(median[group] + step))

    for group, label in enumerate(model.counts.groups):
        wide = float(np.asarray(scale.inv(values[:, group])).std())
        if wide > 0.0:
            yield _Path(f"{name}[{label}]", steps, points, partial(value, group=group), group, wide)


def _centre(model: BehaviourModel, posterior: Draws) -> dict[str, np.ndarray]:
    """Return the median of each sampled site; of laws the mean, which is one too."""
    derived = {n for n, law in model.priors.items() if isinstance(law, MadeOfSites)}
    derived |= {*model.problem.derived(model.problem.default_parameters), *model.known}
    laws = {"context_probability", *model.problem.laws}
    return {
        name: values.mean(0) if name in laws else np.median(values, axis=0)
        for name, values in posterior.items()
        if name not in derived
    }


def _steps(far: float) -> np.ndarray:
    """Return points from -far to far, close together near 0."""
    right = far * np.sinh(np.linspace(0.0, 4.0, NUM_POINTS + 1)) / np.sinh(4.0)
    return np.concatenate([-right[:0:-1], right])


def _repeated(centre: Draws, num: int) -> dict[str, np.ndarray]:
    return {name: np.broadcast_to(value, (num, *value.shape)) for name, value in centre.items()}


def _stacked(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts)
