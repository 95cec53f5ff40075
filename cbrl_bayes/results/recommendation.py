"""What to do, what to expect of it, and what it gains over today: what a reader needs first."""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from cbrl_bayes.results.names import design_title, entry_name, incentive_arrays
from cbrl_bayes.results.table import bounds, win_shares

MOST_SHOWN = 8
AT_BOUND = 0.002
"""Share of its range within which a number counts as being at a bound."""
ROUNDING = 1e-6
"""Share of its range within which a number is the bound, which a transform may never reach."""
STATE_TODAY = 'State the present policy: cb.design(..., alternatives={"today": {...}}).'


@dataclass(frozen=True)
class Recommendation:
    """The design to choose, and how it compares.

    Attributes
    ----------
    design : str
        Its name in the study (`recommendation` says which it is).
    incentive : pandas.DataFrame
        A row per number of the incentive: value, unit, and ``bound`` ("the lowest possible" or
        "the highest possible" where it lies at the end of its range, else "").
    objective : tuple of float
        Mean over posterior draws, and the ends of the interval.
    gains : pandas.DataFrame
        A row per other design: mean of what is gained over it, draw by draw, ``lower``, ``upper``,
        ``probability`` that it is positive, and ``stated``: whether it is an alternative that the
        user stated.
    unit : str
        Of objective and gains.
    prob : float
        Probability of the intervals, equal-tailed unless ``kind`` says otherwise.
    kind : str
    """

    design: str
    incentive: pd.DataFrame
    objective: tuple[float, float, float]
    gains: pd.DataFrame
    unit: str
    prob: float
    kind: str = "eti"

    @property
    def action(self) -> str:
        """Say what to do: every number, or the largest of many, with its unit."""
        rows = self.incentive.reindex(
            self.incentive["value"].abs().sort_values(ascending=False, kind="stable").index
        )
        shown = self.incentive.loc[self.incentive.index.isin(rows.index[:MOST_SHOWN])]
        words: list[str] = []
        before = ""
        for name, row in shown.iterrows():
            array, _, place = str(name).removesuffix("]").partition("[")
            said = " ".join(filter(None, [f"{row.value:.4g}", row.unit]))
            said += f" ({row.bound})" if row.bound else ""
            if not place:
                words.append(f"{array} {said}")
            else:  # the array's name stands before its first entry
                words.append((f"{array}: " if array != before else "") + f"{place} = {said}")
            before = array
        left = self.incentive.drop(index=shown.index)["value"].abs()
        more = f", and {len(left)} more of at most {left.max():.3g}" if len(left) else ""
        return f"{'; '.join(words)}{more} (the {design_title(self.design)} design)"

    @property
    def expectation(self) -> str:
        """Say what it is worth."""
        mean, low, high = self.objective
        unit = f" {self.unit}" if self.unit else ""
        return f"leader objective {mean:.4g}{unit} ({self._interval(low, high)})"

    @property
    def comparisons(self) -> list[tuple[str, str]]:
        """Say for every other design what is gained over it, stated alternatives first."""
        found = []
        for name, row in self.gains.sort_values(
            "stated", ascending=False, kind="stable"
        ).iterrows():
            unit = f" {self.unit}" if self.unit else ""
            words = (
                f"{row['mean']:+.3g}{unit} ({self._interval(row.lower, row.upper, '+')}), "
                f"better in {100 * row.probability:.0f} % of draws"
            )
            if row.lower < 0.0 < row.upper:
                words += "; the difference is smaller than its uncertainty"
            found.append((f"against {design_title(name)}", words))
        return found

    def lines(self) -> tuple[str, ...]:
        """Return all this as lines of text."""
        lines = [f"Do this: {self.action}", f"Expect that: {self.expectation}"]
        lines += [f"{title[0].upper()}{title[1:]}: {words}" for title, words in self.comparisons]
        if not self.gains["stated"].any():
            lines.append(f"Against today: not known. {STATE_TODAY}")
        return tuple(lines)

    def _interval(self, low: float, high: float, sign: str = "") -> str:
        return f"{100 * self.prob:g} % interval {low:{sign}.4g} to {high:{sign}.4g}"


def recommendation(
    study: xr.DataTree, *, prob: float = 0.9, kind: str = "eti"
) -> Recommendation | None:
    """Return which design a study recommends, or None where it has no design.

    The common design maximises the expected objective, and is recommended where it keeps all
    constraints; else that of those which keep them whose expected objective is highest. If none
    does there is no recommendation.

    Parameters
    ----------
    study : xarray.DataTree
        From `design` or `robust_designs`.
    prob : float
        Probability of the intervals, in (0, 1).
    kind : {"eti", "hdi"}

    Examples
    --------
    >>> import jax, numpy as np, cbrl_bayes as cb
    >>> quick = cb.Search(ascent=cb.Ascent(num_steps=50))
    >>> study = cb.design(cb.problems.two_state(), {"temperature": np.array([0.2, 0.25, 0.3])},
    ...                   key=jax.random.key(0), num_draws=3,
    ...                   settings=cb.DesignSettings(search=quick, per_draw=quick),
    ...                   alternatives={"today": {"bonus": 0.2}})
    >>> found = recommendation(study)
    >>> found.design, round(float(found.gains.loc["today", "probability"]))
    ('common', 1)
    """
    if "decision" not in study.children:
        return None
    decision = study["decision"].to_dataset()
    objective = decision["objective"].transpose("design", "chain", "draw")
    kept = np.ones(decision.sizes["design"], bool)
    if "feasible" in decision:
        kept = decision["feasible"].values == 1
    if not kept.any():
        return None
    means = np.where(kept, objective.mean(("chain", "draw")).values, -np.inf)
    place = 0 if kept[0] else int(means.argmax())
    stated = set(json.loads(study.attrs.get("alternatives", "[]")))
    rest = [at for at in range(len(kept)) if at != place]
    others = objective.isel(design=rest)
    gain = objective.isel(design=place, drop=True) - others
    ends = bounds(gain.rename("gain"), prob, kind).transpose("design", "ci_bound").values
    names = [str(name) for name in others["design"].values]
    gains = pd.DataFrame(
        {
            "mean": gain.mean(("chain", "draw")).values,
            "lower": ends[:, 0],
            "upper": ends[:, 1],
            "probability": win_shares(objective.values.reshape(len(kept), -1))[place, rest],
            "stated": [name in stated for name in names],
        },
        index=names,
    )
    own = objective.isel(design=place, drop=True)
    low, high = map(float, bounds(own.rename("objective"), prob, kind).values)
    return Recommendation(
        str(decision["design"].values[place]),
        _incentive(decision.isel(design=place, drop=True)),
        (float(own.mean()), low, high),
        gains,
        str(study.attrs.get("objective_unit", "")),
        prob,
        kind,
    )


def _incentive(chosen: xr.Dataset) -> pd.DataFrame:
    """Return every number of a design with its unit, and whether it lies at a bound."""
    rows = {}
    for variable in incentive_arrays(chosen):
        array = chosen[variable]
        low, high = (
            chosen[f"{end}_{variable}"].values if f"{end}_{variable}" in chosen else None
            for end in ("lowest", "highest")
        )
        for index in np.ndindex(array.shape):
            value, bound = float(array.values[index]), ""
            if low is not None and high is not None:
                least, most = float(low[index]), float(high[index])
                bound = _bound(value, least, most)
                value = _without_rounding(value, least, most)
            name = entry_name(str(array.attrs.get("long_name", variable)), array, index)
            rows[name] = (value, str(array.attrs.get("units", "")), bound)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "unit", "bound"])


def _bound(value: float, low: float, high: float) -> str:
    """Say at which end of its range a number lies, if at one."""
    near = AT_BOUND * (high - low) if np.isfinite(high - low) else 0.0
    if low < high and value <= low + near:
        return "the lowest possible"
    return "the highest possible" if low < high and value >= high - near else ""


def _without_rounding(value: float, low: float, high: float) -> float:
    """Return the bound for a number that only the transform keeps from it."""
    near = ROUNDING * (high - low) if np.isfinite(high - low) else 0.0
    for end in (low, high):
        if abs(value - end) <= near:
            return end
    return value
