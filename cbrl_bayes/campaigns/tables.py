"""Campaigns, labelled and printed.

`simulate_campaigns` returns an `xarray.Dataset`. Axes: ``campaign``, ``round`` (from 1), ``arm``,
``band`` (low, mean, high of equal-tailed intervals whose probability is the attribute ``prob``),
``statistic`` (of the surprise check), ``unknown`` (entries of what is learned). Rounds that were
not done are NaN. Variables:

- ``incentive_*`` and ``point``: designs deployed, readable and before their transform;
- ``predicted``: their objective as believed before the round; ``today``: that of today's design;
  ``gain``: the difference; ``better``: the probability that it is positive;
- ``true_objective``: exact, of best responses; ``optimum`` (campaign): the best known;
- ``regret``: optimum less true objective, mean over arms; ``cumulative_regret``: added up;
- ``expected_regret``: what the leader believes it to be, among the campaign's own designs;
- ``realised``, ``realised_error``: mean worth of the round's whole episodes, and its error;
- ``learned``: what is believed after the round; ``effective_size`` of the particles, ``distinct``
  ones and their ``moves`` (of unknown dynamics: laws drawn); ``unsolved``: best responses of the
  round, in beliefs and predictions, that did not converge;
- ``p_value``, ``bet``, ``evidence``, ``alarm_p_value``: the surprise check (`surprise`);
- ``information``, ``given_up``, ``net_value`` and their errors: the stopping rule's inputs;
- ``drawn_back``: whether a constraint was broken by a proposal; ``arms``, ``episodes``,
  ``follower_steps``, ``seconds``;
- ``rounds``, ``stopped_because``, ``fired`` (campaign): rounds done, why it ended, and the round in
  which the surprise check fired, 0 for never.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import norm

from cbrl_bayes.campaigns.engine import Engine
from cbrl_bayes.campaigns.rivals import Comparison
from cbrl_bayes.campaigns.round_plan import RoundPlan
from cbrl_bayes.campaigns.simulation import BANDS, Ending, fired
from cbrl_bayes.campaigns.surprise import STATISTICS
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.problems import Problem
from cbrl_bayes.results import certificate, incentive_names
from cbrl_bayes.results.table import Table, check_interval

DIMS: Mapping[str, tuple[str, ...]] = {
    "point": ("arm", "coordinate"),
    "predicted": ("arm", "band"),
    "true_objective": ("arm",),
    "realised": ("arm",),
    "realised_error": ("arm",),
    "p_value": ("arm", "statistic"),
    "gain": ("arm", "band"),
    "better": ("arm",),
    "today": ("band",),
    "bet": ("statistic",),
    "learned": ("unknown", "band"),
}
"""Axes of a round's records, but for single numbers."""
OWN_DIMS = frozenset(
    {"campaign", "round", "arm", "band", "statistic", "unknown", "coordinate", "model"}
)
"""An incentive's axis of such a name is called ``incentive_...`` here."""
IN_OBJECTIVE = (
    "predicted",
    "today",
    "gain",
    "true_objective",
    "realised",
    "realised_error",
    "regret",
    "cumulative_regret",
    "expected_regret",
    "optimum",
    "information",
    "information_error",
)


def campaigns_dataset(
    engine: Engine, records: Mapping[str, np.ndarray], used: dict[str, Any]
) -> xr.Dataset:
    """Return the records of campaigns, leaves (N, R, ...), with labels."""
    lead = ("campaign", "round")
    own = {"rounds", "optimum", "ending"}
    variables: dict[str, Any] = {
        name: ((*lead, *DIMS.get(name, ())), values)
        for name, values in records.items()
        if name not in own
    }
    found = xr.Dataset(variables | {n: ("campaign", records[n]) for n in ("rounds", "optimum")})
    regret = found["optimum"] - found["true_objective"].mean("arm")
    found["regret"] = regret.transpose(*lead)
    found["cumulative_regret"] = found["regret"].cumsum("round").where(found["regret"].notnull())
    words = [Ending(int(number)).words for number in records["ending"]]
    found["stopped_because"] = ("campaign", words)
    level = engine.settings.false_alarm
    found["fired"] = ("campaign", fired(records["alarm_p_value"], level))
    found = found.assign(readable(engine.problem, records["point"]))
    found = found.assign_coords(labels_of(engine, records["point"].shape))
    for name in IN_OBJECTIVE:
        found[name].attrs["units"] = engine.problem.objective_unit
    found.attrs |= certificate(engine.problem, "campaign", used)
    found.attrs |= {"prob": engine.settings.prob, "false_alarm": level}
    return found


def recorded_dataset(engine: Engine, rows: Sequence[Mapping[str, np.ndarray]]) -> xr.Dataset:
    """Return the rows of a real campaign, one for each round, with labels.

    As the one campaign of `campaigns_dataset`, without the axis ``campaign`` and what only truth
    tells.
    """
    unknown = {"true_objective", "seconds"}
    columns = {
        name: np.stack([np.asarray(row[name], float) for row in rows])
        for name in rows[0]
        if name not in unknown
    }
    found = xr.Dataset(
        {name: (("round", *DIMS.get(name, ())), values) for name, values in columns.items()}
    )
    found["rounds"] = len(rows)
    level = engine.settings.false_alarm
    found["fired"] = int(fired(columns["alarm_p_value"], level))
    found = found.assign(readable(engine.problem, columns["point"]))
    found = found.assign_coords(labels_of(engine, columns["point"].shape))
    for name in IN_OBJECTIVE:
        if name in found:
            found[name].attrs["units"] = engine.problem.objective_unit
    found.attrs |= {
        "problem": engine.problem.name,
        "objective_unit": engine.problem.objective_unit,
        "prob": engine.settings.prob,
        "false_alarm": level,
        "worth_rests_on": ", ".join(engine.worth_rests_on),
    }
    return found


def plan_dataset(problem: Problem, told: RoundPlan) -> xr.Dataset:
    """Return what is deployed, for anyone who opens the store."""
    found = xr.Dataset(
        {
            name: (
                ("regime", *label.dims),
                np.stack([arrays[name] for arrays in told.incentives.values()]),
                {"units": label.unit},
            )
            for name, label in problem.incentive.labels.items()
        },
        coords={"regime": list(told.incentives), "band": list(BANDS)},
    )
    units = {"units": told.objective_unit}
    found["predicted_objective"] = ("band", list(told.predicted), units)
    found["objective_of_today"] = ("band", list(told.today), units)
    found["gain_over_today"] = ("band", list(told.gain), units)
    return found


def comparison_dataset(engine: Engine, found: Comparison) -> xr.Dataset:
    """Return a comparison of follower models, with labels."""
    names, unit = list(found.names), {"units": engine.problem.objective_unit}
    dataset = xr.Dataset(
        {
            "log_evidence": ("model", found.log_evidence),
            "probability": ("model", found.probability),
            "objective": (("designed_for", "under"), found.objective, unit),
            "last": ("under", found.last, unit),
        },
        coords={"model": names, "designed_for": names[:-1], "under": names[:-1]},
    )
    designs = readable(engine.problem, found.points[None])
    return dataset.assign(
        {
            name: (("designed_for", *dims[2:]), values[0], attrs)
            for name, (dims, values, attrs) in designs.items()
        }
    )


def readable(problem: Problem, points: np.ndarray) -> dict[str, tuple]:
    """Return the incentives of points (..., arm, P), NaN where there is none."""
    flat = points.reshape(-1, points.shape[-1])
    rows = []
    for point in flat:
        known = np.where(np.isfinite(point), point, 0.0)
        made = problem.incentive.transform(problem.incentive.unflatten(known))
        gap = not np.isfinite(point).all()
        rows.append({n: np.asarray(v) * (np.nan if gap else 1.0) for n, v in made.items()})
    names, lead = incentive_names(problem), ("campaign", "round", "arm")[4 - points.ndim :]
    return {
        names[name]: (
            (*lead, *(f"incentive_{dim}" if dim in OWN_DIMS else dim for dim in label.dims)),
            np.stack([row[name] for row in rows]).reshape(
                *points.shape[:-1], *np.shape(rows[0][name])
            ),
            {"units": label.unit},
        )
        for name, label in problem.incentive.labels.items()
    }


def labels_of(engine: Engine, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return coordinates for records of so many rounds and arms (..., R, A, P)."""
    return {
        "round": np.arange(1, shape[-3] + 1),
        "arm": np.arange(1, shape[-2] + 1),
        "band": list(BANDS),
        "statistic": list(STATISTICS),
        "unknown": unknown_names(engine),
    }


def unknown_names(engine: Engine) -> list[str]:
    """Return the names of all entries of what is learned."""
    names = []
    contexts, followers = engine.problem.contexts.names, engine.problem.followers.names
    for name, shape in engine.learned_shapes.items():
        places: list[Any] = [", ".join(map(str, place)) for place in np.ndindex(shape)]
        if name == "context_probability":
            places = list(contexts)
        elif len(shape) == 1 and name in engine.problem.per_follower:
            places = list(followers)
        names += [f"{name}[{place}]" if shape else name for place in places]
    return names


def campaign_table(campaigns: xr.Dataset, *, prob: float = 0.9) -> Table:
    """Print campaigns round by round.

    Parameters
    ----------
    campaigns : xarray.Dataset
        From `simulate_campaigns`, or `Campaign.record` of a real one.
    prob : float
        Of normal intervals for means over several campaigns.

    Returns
    -------
    Table
        A row per round. One campaign: the predicted objective with its interval, what came back,
        the true one and the regret where they are known. Several: means over campaigns, with
        intervals for the cumulative regret, and ``covered``, the share of predicted intervals that
        held the true objective.

    Raises
    ------
    InvalidInputError
        For another dataset, or a probability outside (0, 1).
    """
    check_interval(prob)
    if not isinstance(campaigns, xr.Dataset) or "predicted" not in campaigns:
        raise InvalidInputError(
            "these are no campaigns",
            received=type(campaigns).__name__,
            accepted="the dataset from cb.simulate_campaigns, or record() of a campaign",
        )
    many = campaigns.sizes.get("campaign", 1) > 1
    one = campaigns if "campaign" in campaigns.dims else campaigns.expand_dims("campaign")
    frame = _several(one, prob) if many else _single(one.isel(campaign=0))
    unit = str(campaigns.attrs.get("objective_unit", ""))
    frame.attrs |= {"units": {name: unit for name in frame if name not in ("covered", "evidence")}}
    held = 100 * float(campaigns.attrs["prob"])
    level = 100 * float(campaigns.attrs["false_alarm"])
    notes = [
        f"predicted: {held:g} % equal-tailed credible intervals under what was believed before "
        "the round",
        f"the surprise check fires when evidence reaches {100 / level:g}: if the model is right, "
        f"with at most {level:g} % over all rounds and statistics",
    ]
    fired_in = np.atleast_1d(campaigns["fired"].values)
    if (fired_in > 0).any():
        notes.append(_alarm(fired_in))
    kind = "normal" if many else "eti"
    title = f"Campaign on {campaigns.attrs.get('problem', '')}, by round"
    return Table(title, {"": frame}, prob if many else held / 100, kind, notes=tuple(notes))


def _single(one: xr.Dataset) -> pd.DataFrame:
    done = one.isel(round=slice(0, int(one["rounds"])))
    columns: dict[str, Any] = {
        "today": done["today"].sel(band="mean"),
        "predicted": done["predicted"].sel(band="mean").mean("arm"),
        "low": done["predicted"].sel(band="low").mean("arm"),
        "high": done["predicted"].sel(band="high").mean("arm"),
        "realised": done["realised"].mean("arm"),
    }
    for name in ("true_objective", "cumulative_regret"):
        if name in done:
            columns[name] = done[name].mean("arm") if "arm" in done[name].dims else done[name]
    columns |= {"expected_regret": done["expected_regret"], "evidence": done["evidence"]}
    frame = pd.DataFrame({name: np.asarray(values) for name, values in columns.items()})
    return frame.set_index(pd.Index(done["round"].values, name="round"))


def _several(many: xr.Dataset, prob: float) -> pd.DataFrame:
    width = norm.isf((1.0 - prob) / 2.0)
    # After a stop the last design stays in force.
    last = many["regret"].isel(round=many["rounds"] - 1)
    regret = many["regret"].fillna(last.drop_vars("round")).cumsum("round")
    error = regret.std("campaign", ddof=1) / np.sqrt(many.sizes["campaign"])
    middle = regret.mean("campaign")
    columns = {
        "objective": many["true_objective"].mean(("campaign", "arm")),
        "regret": many["regret"].mean("campaign"),
        "cumulative_regret": middle,
        "low": middle - width * error,
        "high": middle + width * error,
        "covered": covered(many).mean(("campaign", "arm")),
        "campaigns": many["regret"].notnull().sum("campaign"),
    }
    frame = pd.DataFrame({name: np.asarray(values) for name, values in columns.items()})
    return frame.set_index(pd.Index(many["round"].values, name="round"))


def covered(campaigns: xr.Dataset) -> xr.DataArray:
    """Return 1 where the predicted interval held the true objective, 0 where not, else NaN."""
    true, band = campaigns["true_objective"], campaigns["predicted"]
    inside = (band.sel(band="low") <= true) & (true <= band.sel(band="high"))
    return inside.astype(float).where(true.notnull()).drop_vars("band", errors="ignore")


def _alarm(rounds: np.ndarray) -> str:
    where = rounds[rounds > 0]
    if len(rounds) == 1:
        return (
            f"SURPRISE in round {int(where[0])}: what came back does not fit the model; compare "
            "other follower models before going on"
        )
    return f"the surprise check fired in {len(where)} of {len(rounds)} campaigns"
