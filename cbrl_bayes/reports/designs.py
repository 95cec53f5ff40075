"""The sections that state a design or its worth: they follow the reader's choice of design."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from cbrl_bayes.errors import counted
from cbrl_bayes.plots import design_colours
from cbrl_bayes.reports.charts import Line, interval_bars
from cbrl_bayes.reports.incentives import OWN, incentive_parts, kept_constraints
from cbrl_bayes.reports.parts import Choice, Folded, Part, Section, Table, Text
from cbrl_bayes.reports.tables import (
    clipped,
    group_parts,
    inner_probability,
    interval_words,
    number,
    spread,
    without_dust,
)
from cbrl_bayes.results.names import design_title
from cbrl_bayes.results.recommendation import STATE_TODAY, recommendation
from cbrl_bayes.results.table import win_shares
from cbrl_bayes.robust.tables import own_and_best

DESIGN_SECTIONS = {
    "incentive": "Incentive by design",
    "objective": "Leader's objective by design",
    "regret": "Regret",
    "comparison": "Which design beats which",
}
"""Anchor -> title."""
MOST_DESIGNS = 20
FEWEST_COMPARED = 2
"""Comparisons on the first screen, unless the user stated more alternatives."""
FURTHER = ("held_out_criterion_value", "criterion_value", "satisfied_probability", "feasible")
"""What robust designs add to the group ``decision``."""


def design_sections(tree: xr.DataTree, prob: float) -> list[Section]:
    """Return the sections on incentive, objective, regret and comparison of designs.

    Parameters
    ----------
    tree : xarray.DataTree
        With the groups ``design`` and ``decision``.
    prob : float
        Probability of the intervals.
    """
    design, decision = tree["design"].to_dataset(), tree["decision"].to_dataset()
    left = decision.sizes["design"] - MOST_DESIGNS
    more: list[Part] = [Text(f"{left} more designs are in the file.", "note")] if left > 0 else []
    decision = decision.isel(design=slice(MOST_DESIGNS))
    own = own_and_best(tree)[0].transpose("chain", "draw").values
    names = (*map(clipped, map(design_title, decision["design"].values)), OWN)
    unit = clipped(tree.attrs.get("objective_unit", ""))
    found = {
        "incentive": incentive_parts(design, decision, names, prob),
        "objective": _objective(design, decision, own, names, unit, prob),
        "regret": _regret(decision, names, unit, prob),
        "comparison": _comparison(decision, own, names, unit, prob),
    }
    titles = dict(DESIGN_SECTIONS)
    if kept_constraints(decision)[0]:
        titles["incentive"] = "Recommended incentive"
    return [
        Section(
            anchor,
            title,
            [*found[anchor], *more],
            judged=True,
            names=names if anchor == "incentive" else (),
        )
        for anchor, title in titles.items()
    ]


def recommended_section(tree: xr.DataTree, prob: float) -> list[Section]:
    """Return what to do, what to expect and what is gained; nothing if nothing is recommended."""
    found = recommendation(tree, prob=prob)
    if found is None:
        return []
    rows = [("Do this", found.action), ("Expect that", found.expectation)]
    comparisons = found.comparisons
    shown = max(int(found.gains["stated"].sum()), FEWEST_COMPARED)
    rows += [(f"{title[0].upper()}{title[1:]}", words) for title, words in comparisons[:shown]]
    parts: list[Part] = [Table("", ("", ""), rows)]
    if len(comparisons) > shown:
        more = len(comparisons) - shown
        parts.append(Text(f"{more} more designs: see {DESIGN_SECTIONS['comparison']}.", "note"))
    if not found.gains["stated"].any():
        parts.append(Text(f"What is gained over today is not known. {STATE_TODAY}", "note"))
    return [Section("recommendation", "Recommendation", parts)]


@dataclass(frozen=True)
class _Score:
    """A design's name, its draws, and what its last cell says instead of the largest draw."""

    name: str
    values: np.ndarray
    last: str | None = None


def _objective(
    design: xr.Dataset,
    decision: xr.Dataset,
    own: np.ndarray,
    names: tuple[str, ...],
    unit: str,
    prob: float,
) -> list[Part]:
    def error(group: xr.Dataset) -> str:
        return number(spread(group["objective_standard_error"].values, prob).mean)

    scores = [
        _Score(name, one["objective"].values, error(one))
        for name, one in zip(names[:-1], _by_design(decision), strict=True)
    ]
    # With robust designs the best per draw are scored anew, and no error is kept.
    scores.append(_Score(OWN, own, "" if "own_objective" in decision else error(design)))
    head = ("design", "mean", "sd", interval_words(prob), "simulation s.e. of one draw, mean")
    return [
        Text(
            "What each design achieves if a posterior draw is the truth. Every design is "
            "scored under the same draws, so the lines below move together. Compare designs "
            "by regret, or by how often one beats the other, not by overlap."
        ),
        *_scored(scores, f"leader's objective [{unit}]", head, prob),
    ]


def _regret(decision: xr.Dataset, names: tuple[str, ...], unit: str, prob: float) -> list[Part]:
    scale = float(np.abs(decision["objective"]).max())
    scores = [
        _Score(name, without_dust(one["regret"].values, scale))
        for name, one in zip(names[:-1], _by_design(decision), strict=True)
    ]
    head = ("design", "mean", "sd", interval_words(prob), "largest")
    chosen, *rest = _scored(scores, f"regret [{unit}]", head, prob)
    if isinstance(chosen, Choice):
        chosen.options.append([Text(f"Chosen: {OWN}: no regret, by definition.", "note")])
    return [
        Text(
            "What a design loses, draw by draw, against the best incentive found for that draw. "
            "The mean regret is the price of not knowing. It comes out too small where the "
            "search missed a draw's optimum."
        ),
        chosen,
        *rest,
    ]


def _by_design(decision: xr.Dataset) -> list[xr.Dataset]:
    return [decision.isel(design=at) for at in range(decision.sizes["design"])]


def _scored(scores: list[_Score], axis: str, head: tuple[str, ...], prob: float) -> list[Part]:
    colours = design_colours([score.name for score in scores])
    lines, rows, sentences = [], [], []
    for index, score in enumerate(scores):
        found = spread(score.values, prob)
        loss = f" ({found.loss})" if found.lost else ""
        words = f"{score.name}: mean {number(found.mean)}, {interval_words(prob)} {found.bounds}"
        lines.append(Line(score.name, words + loss, found, colours[score.name], index))
        last = number(found.largest) if score.last is None else score.last
        rows.append((score.name + loss, number(found.mean), number(found.sd), found.bounds, last))
        sentences.append([Text(f"Chosen: {words} {axis[axis.index('[') :]}{loss}.", "note")])
    num = scores[0].values.size
    inside = 100 * inner_probability(prob)
    caption = (
        f"{axis} over {counted(num, 'draw')}: dot, mean; thick line, {inside:g} %; thin line, "
        f"{interval_words(prob)}"
    )
    table = Table(
        f"{axis} over {counted(num, 'posterior draw')}", head, rows, tuple(range(len(rows)))
    )
    return [
        Choice([list(parts) for parts in sentences]),
        interval_bars(lines, axis, caption),
        Folded("The numbers", table.condensed()),
    ]


def _comparison(
    decision: xr.Dataset, own: np.ndarray, names: tuple[str, ...], unit: str, prob: float
) -> list[Part]:
    scores = [
        one["objective"].transpose("chain", "draw").values.ravel() for one in _by_design(decision)
    ]
    fixed, worth = range(len(scores)), np.stack(scores)
    every = np.vstack([worth, own.ravel()])
    # Among designs for all draws as in `compare_designs`; then the best per draw against them.
    shares = np.vstack([win_shares(worth), win_shares(every)[-1:, :-1]])

    def share(first: int, second: int) -> str:
        return "\N{EN DASH}" if first == second else number(float(shares[first, second]))

    rows = [(names[i], *(share(i, j) for j in fixed)) for i in fixed]
    table = Table(
        "P(row beats column): share of posterior draws under which the row's design achieves "
        "more; draws that tie, up to rounding, count half",
        ("design", *names[:-1]),
        rows,
        tuple(fixed),
    )
    finite = np.abs(every[np.isfinite(every)])
    scale = float(finite.max(initial=0.0))
    head = ("against", "P(beats)", f"mean difference [{unit}]", interval_words(prob), "left out")
    options: list[list[Part]] = []
    for i, name in enumerate(names):
        gains = {j: spread(every[i] - every[j], prob, scale) for j in fixed if i != j}
        against = [
            (names[j], share(i, j), number(gain.mean), gain.bounds, gain.loss)
            for j, gain in gains.items()
        ]
        one = Table(f"{name} against the others, draw by draw", head, against)
        options.append([one.without_empty_columns()])
    num = int(np.isfinite(worth).all(0).sum())
    lost = worth.shape[1] - num
    note = (
        f"Probabilities rest on {counted(num, 'draw')}: the standard error of a share is at most "
        f"{number(0.5 / np.sqrt(max(num, 1)))} if draws are independent."
    )
    note += f" Left out: {counted(lost, 'draw')}, in which a design is not finite." if lost else ""
    # Every design is feasible where nothing is asked of it.
    unasked = set() if "satisfied_probability" in decision else {"feasible"}
    further = [name for name in FURTHER if name in decision and name not in unasked]
    return [table, Choice(options), Text(note, "note"), *group_parts(decision[further], prob)]
