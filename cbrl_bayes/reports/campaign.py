"""A campaign's page: what to do now and why, the campaign as one picture, and what it rests on."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from cbrl_bayes.campaigns import Campaign, RoundPlan
from cbrl_bayes.campaigns.round_plan import in_few_words
from cbrl_bayes.campaigns.verdict import campaign_health, surprise_in_words
from cbrl_bayes.errors import InvalidInputError, counted, require_kind
from cbrl_bayes.plots import plot_campaign
from cbrl_bayes.reports.charts import picture
from cbrl_bayes.reports.page import Report, checked_path, page_of
from cbrl_bayes.reports.parts import Bullets, Part, Section, Table, Text
from cbrl_bayes.reports.tables import interval_words, number
from cbrl_bayes.results.names import incentive_arrays

MOST_ROUNDS, MOST_UNKNOWN = 30, 40
JUDGED = [
    "the surprise check",
    "best responses in beliefs and predictions",
    "the number of draws and of particles that differ",
    "the stopping rule's uncertainty",
]


def campaign_report(
    campaign: Campaign | xr.Dataset, path: str | Path | None = None, *, which: int = 0
) -> Report:
    """Make one self-contained page of a campaign for those who decide.

    The first screen says what to do now, whether to go on or to stop, and why. Then come the
    campaign as one picture, the surprise check in words, and every round in numbers.

    Parameters
    ----------
    campaign : Campaign or xarray.Dataset
        A real campaign (`open_campaign`) with a recorded round; or `simulate_campaigns`.
    path : str or Path, optional
        Where to write the page; ends in .html.
    which : int
        Which of several simulated campaigns.

    Returns
    -------
    Report
        Its verdict is FAIL where the surprise check fired.

    Raises
    ------
    ResultsError
        If no round is recorded yet, or the page cannot be written.
    InvalidInputError
        For something else than a campaign, or a path that does not end in .html.

    Examples
    --------
    >>> import jax, cbrl_bayes as cb
    >>> quick = cb.PlanningSettings(
    ...     search=cb.Search(ascent=cb.Ascent(num_steps=20, learning_rate=0.3)), num_draws=20)
    >>> found = cb.simulate_campaigns(
    ...     cb.problems.two_state(), key=jax.random.key(0),
    ...     settings=cb.CampaignSettings(num_rounds=2, planning=quick, num_replicates=19),
    ...     clairvoyant=cb.Search(ascent=cb.Ascent(num_steps=50)))
    >>> page = campaign_report(found)
    >>> [section.anchor for section in page.sections][:2]
    ['recommendation', 'surprise']
    """
    remedy = "cb.open_campaign(...), or the dataset of cb.simulate_campaigns(...)"
    require_kind(campaign, Campaign | xr.Dataset, "campaign", remedy)
    if path is not None:
        checked_path(path)
    if isinstance(campaign, xr.Dataset):
        one, plan, models, waits = _simulated(campaign, which, remedy), None, None, ""
        done = f"The campaign ended: {one['stopped_because'].values}."
    else:
        one, models = campaign.record(), campaign.models()
        waits, plan = campaign.status()["waits_for"], campaign.waiting_plan()
        done = f"The campaign has ended: {waits.partition(': ')[2]}."
    one = one.isel(round=slice(0, int(one["rounds"])))
    health = campaign_health(one, plan.unsolved if plan else 0)
    words = surprise_in_words(one, models)
    prob = float(one.attrs["prob"])
    sections = [
        Section(
            "recommendation",
            "What to do now",
            [
                Table("", ("", ""), _decision(one, plan, waits, done, words)),
                *picture(
                    lambda: plot_campaign(one),
                    "Designs, objective, beliefs and the surprise check over rounds",
                    "The campaign in one picture; the numbers are below",
                ),
            ],
        ),
        Section("surprise", "Does the model fit", _surprise(words, models), judged=True),
        Section("rounds", "Round by round", [_rounds(one, prob)], judged=True),
        Section("beliefs", "What is believed", _beliefs(one, prob), judged=True),
        Section("stopping", "What one more round is worth", _stopping(one), folded=True),
    ]
    title = f"{one.attrs['problem']}: campaign after {counted(one.sizes['round'], 'round')}"
    found = Report(title, health, False, sections, "")
    page = page_of(
        found, prob=prob, created=str(one.attrs.get("created", "")), stage="campaign", judged=JUDGED
    )
    if path is not None:
        page.save(path)
    return page


def _simulated(campaigns: xr.Dataset, which: int, remedy: str) -> xr.Dataset:
    if "predicted" not in campaigns or "campaign" not in campaigns.dims:
        raise InvalidInputError(
            "this is no campaign", received=list(map(str, campaigns))[:3], remedy=remedy
        )
    if not 0 <= which < campaigns.sizes["campaign"]:
        raise InvalidInputError(
            "there is no such campaign",
            received=which,
            accepted=f"0 to {campaigns.sizes['campaign'] - 1}",
        )
    return campaigns.isel(campaign=which)


def _decision(
    one: xr.Dataset, plan: RoundPlan | None, waits: str, done: str, words: list[str]
) -> list[tuple[str, str]]:
    """Return what to do now and why, a row for each."""
    surprised = int(one["fired"]) > 0
    rows: list[tuple[str, str]] = []
    if surprised:
        rows.append(
            (
                "Do this",
                "Look at the followers before you deploy anything new: the model does not fit. "
                "Keep the design in force, or today's.",
            )
        )
        rows.append(("Why", " ".join(words[:1])))
        rows += [("Other models", " ".join(words[1:]))] if words[1:] else []
    if plan is not None:
        head = "If you go on" if surprised else "Do this"
        go = "" if surprised else "Go on: "
        ending = (
            "Stop experimenting and keep" if plan.stop else f"{go}in round {plan.number} deploy"
        )
        rows.append((head, f"{ending} {_designs(plan)}."))
        rows.append(("Stop or go on", _reason(plan)))
        rows += _expected(plan)
    elif waits == "a plan":
        rows.append(
            (
                "Next" if surprised else "Do this",
                "Plan the next round: next_round(), or 'campaign plan'.",
            )
        )
        rows.append(("In force", _last_design(one)))
    else:
        rows.append(
            ("Next" if surprised else "Do this", f"Keep the last design: {_last_design(one)}.")
        )
        rows.append(("Stop or go on", done))
        rows.append(("Against today", _gain(one)))
    if not surprised:
        rows.append(("Does the model fit", words[0]))
    return rows


def _designs(plan: RoundPlan) -> str:
    told = [
        (regime, ", ".join(f"{name} {in_few_words(value)}" for name, value in arrays.items()))
        for regime, arrays in plan.incentives.items()
    ]
    if len(told) == 1:
        return told[0][1]
    return "; ".join(f"{regime.partition(', ')[2] or regime}: {design}" for regime, design in told)


def _reason(plan: RoundPlan) -> str:
    if plan.net is None:
        return "There is no stopping rule: the campaign goes on for its rounds."
    worth = (
        f"the net value of this round of experimenting is {number(plan.net.net)} (standard error "
        f"{number(plan.net.net_error)}) {plan.objective_unit}"
    )
    if plan.stop:
        return f"Stop: {worth}, so it costs more than it is worth."
    return f"Go on: {worth}: what it teaches is worth more than it costs."


def _expected(plan: RoundPlan) -> list[tuple[str, str]]:
    unit, inside = plan.objective_unit, f"{100 * plan.prob:g} % interval"

    def words(band: tuple[float, float, float]) -> str:
        return f"{number(band[1])} {unit}, {inside} {number(band[0])} to {number(band[2])}"

    gain = f"{words(plan.gain)}; better with probability {plan.better:.2g}"
    rows = [
        ("Expect that", f"objective of an episode {words(plan.predicted)}"),
        ("Against today", f"{gain}. Today's design: {words(plan.today)}"),
        (
            "Watch",
            f"{plan.num_episodes:,} episodes of each regime, or {plan.num_steps:,} steps, "
            "whichever comes first",
        ),
    ]
    if plan.better < 0.5 and not plan.stop:
        rows.append(("Mind", "It is tried to learn from: it may well do worse than today's design"))
    if plan.broken:
        rows.append(("Drawn back", f"to keep {', '.join(plan.broken)}"))
    return rows


def _last_design(one: xr.Dataset) -> str:
    last = one.isel(round=-1)
    told = []
    for name in incentive_arrays(last):
        values = last[name].transpose("arm", ...).values
        values = values[np.isfinite(values.reshape(len(values), -1)).all(1)]
        short = name.removeprefix("incentive").strip("_") or "incentive"
        told.append(f"{short} {'; '.join(in_few_words(value) for value in values)}")
    return ", ".join(told)


def _gain(one: xr.Dataset) -> str:
    last, unit = one.isel(round=-1), str(one["gain"].attrs.get("units", ""))
    low, mean, high = (
        number(float(last["gain"].sel(band=b).mean("arm"))) for b in ("low", "mean", "high")
    )
    better = float(last["better"].mean("arm"))
    arms = "" if one.sizes["arm"] == 1 else "; each a mean over arms of the arm's own number"
    return (
        f"{mean} {unit}, {100 * float(one.attrs['prob']):g} % interval {low} to {high}; better "
        f"with probability {better:.2g} (as believed before the last round{arms})"
    )


def _surprise(words: list[str], models: xr.Dataset | None) -> list[Part]:
    parts: list[Part] = [Bullets(words)] if len(words) > 1 else [Text(words[0])]
    if models is None:
        return parts
    unit = str(models["objective"].attrs.get("units", ""))
    designs = set(models["under"].values)
    rows = []
    for name in models["model"].values:
        one = models.sel(model=name)
        known = name in designs
        own = models["objective"].sel(designed_for=name, under=name) if known else None
        rows.append(
            (
                str(name),
                number(float(one["probability"])),
                number(float(one["log_evidence"])),
                number(float(own)) if own is not None else "",
                number(float(models["last"].sel(under=name))) if known else "",
            )
        )
    head = (
        "model",
        "probability",
        "log evidence",
        f"its own design [{unit}]",
        f"last design [{unit}]",
    )
    caption = "Models of the follower after all rounds: the mean objective of designs under each"
    note = (
        "Probabilities also rest on the models' priors. 'no model': frequencies of their own for "
        "every choice. cb.compare_followers compares fits episode by episode."
    )
    return [*parts, Table(caption, head, rows), Text(note, "note")]


def _rounds(one: xr.Dataset, prob: float) -> Table:
    unit = str(one.attrs.get("objective_unit", ""))
    shown = one.isel(round=slice(-MOST_ROUNDS, None))

    def banded(name: str, at: xr.Dataset) -> str:
        band = at[name].mean("arm") if "arm" in at[name].dims else at[name]
        low, mean, high = (number(float(band.sel(band=b))) for b in ("low", "mean", "high"))
        return f"{mean} ({low} to {high})"

    rows = []
    for at in (shown.isel(round=i) for i in range(shown.sizes["round"])):
        error = float(np.sqrt((at["realised_error"] ** 2).mean("arm") / at["arms"]))
        cells: list[Any] = [
            banded("predicted", at),
            f"{number(float(at['realised'].mean('arm')))} (s.e. {number(error)})",
            banded("today", at),
            number(float(at["better"].mean("arm"))),
            number(float(at["evidence"])),
            f"{int(at['episodes']):,}",
        ]
        rows.append((str(int(at["round"])), *cells))
    head = ("round", "predicted", "realised", "today's design", "P(better)", "evidence", "episodes")
    more = f"; the last {len(rows)}" if one.sizes["round"] > len(rows) else ""
    arms = "" if one.sizes["arm"] == 1 else "; means over arms, also of the ends of intervals"
    caption = f"Objective [{unit}], {interval_words(prob)} as believed before the round{more}{arms}"
    return Table(caption, head, rows)


def _beliefs(one: xr.Dataset, prob: float) -> list[Part]:
    first, last = one["learned"].isel(round=0), one["learned"].isel(round=-1)

    def words(belief: xr.DataArray, name: str) -> str:
        low, mean, high = (
            number(float(belief.sel(unknown=name, band=b))) for b in ("low", "mean", "high")
        )
        return f"{mean} ({low} to {high})"

    names = [str(name) for name in one["unknown"].values]
    rows = [(name, words(first, name), words(last, name)) for name in names[:MOST_UNKNOWN]]
    more = f"; {len(names) - len(rows)} more in the file" if len(names) > len(rows) else ""
    at = one.isel(round=-1)
    computed = [
        ("effective draws", number(float(at["effective_size"]))),
        ("particles (or laws) that differ", number(float(at["distinct"]))),
        ("moves of the particles so far", number(float(at["moves"]))),
        (
            "best responses that did not converge, all rounds",
            f"{int(np.nansum(one['unsolved'])):,}",
        ),
    ]
    parts: list[Part] = [
        Table(
            f"Unknowns: mean and {interval_words(prob)}{more}",
            ("unknown", "after the first round", "now"),
            rows,
        ),
        Table("How the beliefs are kept", ("", ""), computed),
    ]
    rests = str(one.attrs.get("worth_rests_on", ""))
    if rests:
        parts.append(
            Text(
                f"The leader's reward depends on what is learned ({rests}). Realised worth is "
                "counted at what was believed before each round, and the surprise check leaves it "
                "out.",
                "note",
            )
        )
    return parts


def _stopping(one: xr.Dataset) -> list[Part]:
    if not np.isfinite(one["net_value"]).any():
        return [Text("This campaign has no stopping rule.")]
    rows = [
        (
            str(int(at["round"])),
            f"{number(float(at['information']))} (s.e. {number(float(at['information_error']))})",
            number(float(at["given_up"])),
            f"{number(float(at['net_value']))} (s.e. {number(float(at['net_value_error']))})",
        )
        for at in (one.isel(round=i) for i in range(one.sizes["round"]))
    ]
    head = ("round", "value of information, an episode", "given up in the round", "net value")
    unit = str(one.attrs.get("objective_unit", ""))
    return [Table(f"The stopping rule's inputs [{unit}], before each round", head, rows)]
