"""The sections that state a design or its worth: they follow the reader's choice of design."""

import numpy as np
import xarray as xr

from cbrl_bayes.plots import design_colours
from cbrl_bayes.reports.charts import Line, grid_map, inner_probability, interval_bars
from cbrl_bayes.reports.parts import Choice, Part, Section, Table, Text
from cbrl_bayes.reports.tables import entry_names, group_parts, interval_words, number, quantiles

__all__ = ["OWN", "design_sections", "incentive_arrays", "incentive_table"]

OWN = "best for each draw"
FURTHER = ("criterion_value", "satisfied_probability", "feasible")
"""What robust designs add to the group ``decision``."""

MOST_ENTRIES, MOST_CELLS, MOST_SIDE, MOST_BARS = 12, 4000, 200, 40
MEANING = {
    "common": "one incentive for all posterior draws: it maximises the mean objective over them",
    "plug_in": "the best incentive if the posterior mean of the parameters were the truth",
    "cvar": "maximises the mean objective over the worst share of draws that its name states",
    "var": "maximises the objective that all but the share of draws in its name exceed",
    "mean_variance": "maximises mean objective less a charge for its variance",
    "worst_case": "maximises the smallest objective over the credible set of draws",
    "minimax_regret": "minimises the largest regret over the draws",
    OWN: "what the best incentive would be if a draw were the truth; shown is the mean over draws",
}


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
    names = (*map(str, decision["design"].values), OWN)
    unit = str(tree.attrs.get("objective_unit", ""))
    return [
        Section("incentive", "Recommended incentive", _incentive(design, decision, names, prob),
                judged=True, names=names),
        Section("objective", "Leader's objective by design",
                _objective(design, decision, names, unit, prob), judged=True),
        Section("regret", "Regret", _regret(decision, names, unit, prob), judged=True),
        Section("comparison", "Which design beats which",
                _comparison(design, decision, names, unit, prob), judged=True),
    ]  # fmt: skip


def incentive_arrays(decision: xr.Dataset) -> list[str]:
    """Return the names of the arrays that make up an incentive."""
    return [name for name in map(str, decision.data_vars)
            if name.startswith("incentive") and name != "incentive_cost"]  # fmt: skip


def incentive_table(design: xr.Dataset, decision: xr.Dataset, name: str, prob: float) -> Table:
    """Return the largest entries of an incentive array under every design."""
    fixed = decision[name].transpose("design", ...)
    rest = [str(dim) for dim in fixed.dims[1:]]
    own = design[name].transpose("chain", "draw", *rest)
    draws = own.values.reshape(own.shape[0] * own.shape[1], -1)
    values = fixed.values.reshape(fixed.shape[0], -1)
    labels = [name or _title(fixed) for name in entry_names(fixed.isel(design=0, drop=True))]
    order = np.argsort(-np.abs(values[0]), kind="stable")[:MOST_ENTRIES]
    rows = []
    for entry in sorted(map(int, order)):
        mean, low, high = quantiles(draws[:, entry], prob)
        rows.append((labels[entry], *map(number, values[:, entry].tolist()),
                     number(mean), f"{number(low)} to {number(high)}"))  # fmt: skip
    cut = f"; the {len(rows)} largest of {len(labels)} entries" if len(rows) < len(labels) else ""
    head = ("entry", *map(str, fixed["design"].values), "mean over draws' own",
            f"their {interval_words(prob)}")  # fmt: skip
    return Table(f"{_title(fixed)}{_unit(fixed)}{cut}", head, rows)


def _incentive(
    design: xr.Dataset, decision: xr.Dataset, names: tuple[str, ...], prob: float
) -> list[Part]:
    arrays = incentive_arrays(decision)
    lead = Text("The recommended incentive is the common design. The intervals say how far the "
                "best incentive of a single posterior draw may lie from it: they show what is not "
                "known about the followers, not what to pay.")  # fmt: skip
    options: list[list[Part]] = []
    for index, name in enumerate(names):
        shown: list[Part] = [Text(f"{name}: {_meaning(name)}.", "note")]
        for array in arrays:
            shown += _drawn(design[array], decision[array], index, name, prob)
        options.append(shown)
    tables: list[Part] = [incentive_table(design, decision, array, prob) for array in arrays]
    return [lead, Choice(options), *tables]


def _drawn(
    own: xr.DataArray, fixed: xr.DataArray, index: int, name: str, prob: float
) -> list[Part]:
    rest = [str(dim) for dim in fixed.dims if dim != "design"]
    own, fixed = own.transpose("chain", "draw", *rest), fixed.transpose("design", *rest)
    draws = own.values.reshape(-1, *own.shape[2:])
    chosen = fixed.isel(design=min(index, fixed.sizes["design"] - 1), drop=True)
    if name == OWN:
        chosen = chosen.copy(data=draws.mean(0))
    labels = [name or _title(fixed) for name in entry_names(chosen)]
    spread = [quantiles(column, prob) for column in draws.reshape(len(draws), -1).T]
    unit = str(fixed.attrs.get("units", ""))
    tips = [
        f"{label}: {number(float(value))} {unit} in this design; best for each draw: mean "
        f"{number(mean)}, {interval_words(prob)} {number(low)} to {number(high)} {unit}"
        for label, value, (mean, low, high) in zip(labels, chosen.values.ravel(), spread,
                                                   strict=True)
    ]  # fmt: skip
    caption = f"{_title(fixed)}{_unit(fixed)}, design: {name}"
    if _is_map(chosen):
        every = np.concatenate([fixed.values.ravel(), draws.mean(0).ravel()])
        every = every[np.isfinite(every)] if np.isfinite(every).any() else np.zeros(1)
        bounds = (min(0.0, float(every.min())), max(0.0, float(every.max())))
        return [grid_map(chosen, tips, bounds, f"{_title(fixed)}{_unit(fixed)}", caption)]
    order = np.argsort(-np.abs(np.nan_to_num(chosen.values.ravel())), kind="stable")[:MOST_BARS]
    columns = draws.reshape(len(draws), -1)
    colour = design_colours(["own"])["own"]
    lines = [
        Line(labels[i], tips[i], columns[:, i], colour, diamond=float(chosen.values.ravel()[i]))
        for i in sorted(map(int, order))
    ]
    inside = 100 * inner_probability(prob)
    caption += (f". Diamond: the design; dot and lines: mean, {inside:g} % and {100 * prob:g} % "
                "equal-tailed intervals of the best for each draw")  # fmt: skip
    return [interval_bars(lines, prob, f"{_title(fixed)}{_unit(fixed)}", caption)]


def _is_map(array: xr.DataArray) -> bool:
    """Tell whether an array lies on rows and columns, few enough to draw."""
    if array.ndim != 1 or not 0 < array.size <= MOST_CELLS:
        return False
    places = [array.coords.get(name) for name in ("row", "column")]
    return all(
        place is not None and place.dims == array.dims and place.dtype.kind in "iu"
        and int(place.max()) - int(place.min()) < MOST_SIDE
        for place in places
    )  # fmt: skip


def _objective(
    design: xr.Dataset, decision: xr.Dataset, names: tuple[str, ...], unit: str, prob: float
) -> list[Part]:
    scores = {name: decision["objective"].sel(design=name).values for name in names[:-1]}
    errors = {name: decision["objective_standard_error"].sel(design=name).values
              for name in names[:-1]}  # fmt: skip
    scores[OWN] = design["leader_objective"].values
    errors[OWN] = design["objective_standard_error"].values
    head = ("design", "mean", "sd", interval_words(prob), "simulation s.e. of one draw, mean")
    return [
        Text("What each design achieves if a posterior draw is the truth. Every design is "
             "scored under the same draws, so the lines below move together; compare designs "
             "by regret or by how often one beats the other, not by overlap."),
        *_scored(scores, f"leader's objective [{unit}]", head, prob, errors),
    ]  # fmt: skip


def _regret(decision: xr.Dataset, names: tuple[str, ...], unit: str, prob: float) -> list[Part]:
    scores = {name: decision["regret"].sel(design=name).values for name in names[:-1]}
    head = ("design", "mean", "sd", interval_words(prob), "largest")
    chosen, *rest = _scored(scores, f"regret [{unit}]", head, prob, None)
    if isinstance(chosen, Choice):
        chosen.options.append([Text(f"Chosen: {OWN}: no regret, by definition.", "note")])
    return [
        Text("What a design loses, draw by draw, against the best incentive found for that draw. "
             "The mean regret is the price of not knowing; a search that missed a draw's "
             "optimum understates it."),
        chosen,
        *rest,
    ]  # fmt: skip


def _scored(
    scores: dict[str, np.ndarray], axis: str, head: tuple[str, ...], prob: float,
    errors: dict[str, np.ndarray] | None,
) -> list[Part]:  # fmt: skip
    colours = design_colours([name if name != OWN else "own" for name in scores])
    lines, rows, sentences = [], [], []
    for index, (name, values) in enumerate(scores.items()):
        mean, low, high = quantiles(values, prob)
        finite = values[np.isfinite(values)]
        lost = values.size - finite.size
        if errors:
            last = float(np.mean(errors[name]))
        else:
            last = float(finite.max()) if finite.size else np.nan
        words = (f"{name}: mean {number(mean)}, {interval_words(prob)} {number(low)} to "
                 f"{number(high)}")  # fmt: skip
        words += f"; {lost} of {values.size} draws not finite" if lost else ""
        lines.append(Line(name, words, values, colours["own" if name == OWN else name], index))
        spread = float(finite.std()) if finite.size else np.nan
        rows.append((name + (f" ({lost} draws not finite)" if lost else ""), number(mean),
                     number(spread), f"{number(low)} to {number(high)}", number(last)))  # fmt: skip
        sentences.append([Text(f"Chosen: {words} {_bracket(axis)}.", "note")])
    num = next(iter(scores.values())).size
    inside = 100 * inner_probability(prob)
    caption = (f"{axis} over {num} draws: dot, mean; thick line, {inside:g} %; thin line, "
               f"{interval_words(prob)}")  # fmt: skip
    return [
        Choice([list(parts) for parts in sentences]),
        interval_bars(lines, prob, axis, caption),
        Table(f"{axis} over {num} posterior draws", head, rows, tuple(range(len(rows)))),
    ]


def _comparison(
    design: xr.Dataset, decision: xr.Dataset, names: tuple[str, ...], unit: str, prob: float
) -> list[Part]:
    scores = [decision["objective"].sel(design=name).values.ravel() for name in names[:-1]]
    scores.append(design["leader_objective"].values.ravel())
    fixed = range(len(names) - 1)

    def share(first: int, second: int) -> str:
        if first == second:
            return "\N{EN DASH}"
        return number(float(np.mean(scores[first] > scores[second])))

    rows = [(names[i], *(share(i, j) for j in fixed)) for i in fixed]
    shares = Table(
        "P(row beats column): share of posterior draws under which the row's design achieves "
        "more; draws that tie count for neither",
        ("design", *names[:-1]), rows, tuple(fixed),
    )  # fmt: skip
    options: list[list[Part]] = []
    for i, name in enumerate(names):
        against = []
        for j in fixed:
            if i != j:
                mean, low, high = quantiles(scores[i] - scores[j], prob)
                against.append((names[j], share(i, j), number(mean),
                                f"{number(low)} to {number(high)}"))  # fmt: skip
        head = ("against", "P(beats)", f"mean difference [{unit}]", interval_words(prob))
        options.append([Table(f"{name} against the others, draw by draw", head, against)])
    num = scores[0].size
    note = (f"Probabilities rest on {num} draws: the standard error of a share is at most "
            f"{number(0.5 / np.sqrt(num))} if draws are independent. Ties within rounding count as "
            "differences.")  # fmt: skip
    further = [name for name in FURTHER if name in decision]
    return [shares, Choice(options), Text(note, "note"), *group_parts(decision[further], prob)]


def _meaning(name: str) -> str:
    stem = name.rstrip("0123456789.").rstrip("_")
    return MEANING.get(name) or MEANING.get(stem) or "a further design; see the file"


def _bracket(axis: str) -> str:
    return axis[axis.index("[") :]


def _title(array: xr.DataArray) -> str:
    return str(array.attrs.get("long_name") or array.name)


def _unit(array: xr.DataArray) -> str:
    unit = array.attrs.get("units")
    return f" [{unit}]" if unit else ""
