"""A campaign as one picture: designs, objective, what was learned, and the surprise check."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.plots.style import COLOURS, few_ticks, wrapped
from cbrl_bayes.results.names import entry_name, incentive_arrays

MOST_LINES = 6
MOST_BARS, SIDE = 12, 0.12
"""Rounds up to which intervals are bars, and how far they stand side by side."""
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def plot_campaign(campaign: xr.Dataset, *, number: int = 0) -> Figure:
    """Draw one campaign, round by round.

    Parameters
    ----------
    campaign : xarray.Dataset
        From `simulate_campaigns`, or `Campaign.record`.
    number : int
        Which of several campaigns.

    Returns
    -------
    matplotlib.figure.Figure
        Four panels: the incentives that were deployed (the six entries that moved most), their
        objective as predicted, realised and (simulated) true, against today's; what is believed
        of the unknowns, each as a share of its last mean; the evidence against the model.

    Raises
    ------
    InvalidInputError
        For another dataset.
    """
    if not isinstance(campaign, xr.Dataset) or "predicted" not in campaign:
        raise InvalidInputError(
            "this is no campaign",
            received=type(campaign).__name__,
            accepted="the dataset from cb.simulate_campaigns or Campaign.record()",
        )
    one = campaign.isel(campaign=number) if "campaign" in campaign.dims else campaign
    one = one.isel(round=slice(0, int(one["rounds"])))
    figure, axes = plt.subplots(2, 2, figsize=(10.5, 7.0), layout="constrained")
    _designs(axes[0, 0], one)
    _objective(axes[0, 1], one)
    _learned(axes[1, 0], one)
    _evidence(axes[1, 1], one)
    for panel in axes.ravel():
        panel.set_xlabel("round")
        few_ticks(panel)
        if one.sizes["round"] <= 6:
            panel.set_xticks(one["round"].values)
        else:
            panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        panel.set_xlim(float(one["round"][0]) - 0.4, float(one["round"][-1]) + 0.4)
    return figure


def _designs(panel: Axes, one: xr.Dataset) -> None:
    lines: list[tuple[str, np.ndarray]] = []
    unit = ""
    for name in incentive_arrays(one):
        array = one[name]
        own = [dim for dim in array.dims if dim not in ("round", "arm")]
        unit = str(array.attrs.get("units", ""))
        short = name.removeprefix("incentive").strip("_") or "incentive"
        first = array.isel(round=0, arm=0, drop=True)
        for index in np.ndindex(*(array.sizes[dim] for dim in own)):
            picked = array.isel(dict(zip(own, index, strict=True)))
            lines.append((entry_name(short, first, index), picked.transpose("round", "arm").values))
    moved = sorted(lines, key=lambda line: -float(np.nanmax(line[1]) - np.nanmin(line[1])))
    for colour, (name, values) in zip(CYCLE, moved[:MOST_LINES], strict=False):
        panel.plot(one["round"], values[:, 0], "o", ms=4, color=colour, label=wrapped(name, 24))
        for arm in values.T[1:]:
            panel.plot(one["round"], arm, "o", ms=4, color=colour)
        if values.shape[1] == 1:
            panel.plot(one["round"], values[:, 0], color=colour, lw=1)
    title = "Incentives deployed"
    if one.sizes["arm"] > 1:
        title += ", all arms"
    if len(lines) > MOST_LINES:
        title += f" (the {MOST_LINES} of {len(lines)} that moved most)"
    panel.set_title(title)
    panel.set_ylabel(unit)
    if len(lines) > 1:
        panel.legend(fontsize=7)


def _objective(panel: Axes, one: xr.Dataset) -> None:
    rounds, colour = one["round"].values, COLOURS["common"]
    predicted = one["predicted"].mean("arm")
    low, middle, high = (predicted.sel(band=band).values for band in ("low", "mean", "high"))
    prob = 100 * float(one.attrs.get("prob", 0.9))
    beside = SIDE if len(rounds) <= MOST_BARS else 0.0
    today = one["today"]
    below, usual, above = (today.sel(band=band).values for band in ("low", "mean", "high"))
    said = f"today's design, {prob:g} % interval"
    _interval(panel, rounds - beside, (below, usual, above), COLOURS["prior"], said)
    _interval(panel, rounds, (low, middle, high), colour, f"predicted, {prob:g} % interval")
    panel.errorbar(
        rounds + beside,
        one["realised"].mean("arm"),
        yerr=np.sqrt((one["realised_error"] ** 2).mean("arm") / one["arms"]),
        fmt="s",
        ms=4,
        lw=1,
        color=COLOURS["data"],
        label="realised, standard error",
    )
    if "true_objective" in one:
        true = one["true_objective"].mean("arm")
        panel.plot(rounds, true, color=COLOURS["own"], lw=1.2, label="true")
        panel.axhline(float(one["optimum"]), color=COLOURS["own"], ls=":", label="optimum")
    late = slice(1 if len(rounds) > 1 else 0, None)  # before anything is seen they are wide
    values = np.concatenate([low[late], high[late], middle, one["realised"].mean("arm").values])
    values = values[np.isfinite(values)]
    room = 0.15 * float(np.ptp(values)) if values.size else 1.0
    shown = np.concatenate([values, np.ravel(today.sel(band="mean").values)])
    panel.set_ylim(float(shown.min()) - room, float(shown.max()) + room)
    panel.set_title("Objective of an episode, against today's")
    panel.set_ylabel(str(one["predicted"].attrs.get("units", "")))
    panel.legend(fontsize=7)


def _interval(
    panel: Axes, at: np.ndarray, band: tuple[np.ndarray, ...], colour: str, label: str
) -> None:
    """Draw means and intervals: a bar for each of few rounds, a band over many."""
    low, middle, high = band
    if len(at) > MOST_BARS:
        panel.fill_between(at, low, high, color=colour, alpha=0.25, lw=0)
        panel.plot(at, middle, color=colour, label=label)
        return
    sides = np.maximum([middle - low, high - middle], 0.0)
    panel.errorbar(at, middle, yerr=sides, fmt="o", ms=4, lw=2, color=colour, label=label)


def _learned(panel: Axes, one: xr.Dataset) -> None:
    names = [str(name) for name in one["unknown"].values]
    shown = names[:MOST_LINES]
    for number, (colour, name) in enumerate(zip(CYCLE, shown, strict=False)):
        belief = one["learned"].sel(unknown=name)
        last = float(belief.sel(band="mean").values[-1])
        low, middle, high = (
            belief.sel(band=b).values / (abs(last) or 1.0) for b in ("low", "mean", "high")
        )
        label = wrapped(f"{name}: {last:.4g}", 34)
        if one.sizes["round"] == 1:  # side by side
            at = one["round"].values + SIDE * (number - (len(shown) - 1) / 2)
            _interval(panel, at, (low, middle, high), colour, label)
            continue
        panel.fill_between(one["round"], low, high, color=colour, alpha=0.15, lw=0)
        panel.plot(one["round"], middle, color=colour, label=label)
    panel.set_title("What is believed after each round")
    panel.set_ylabel("share of the last mean")
    if names:
        panel.legend(fontsize=7)


def _evidence(panel: Axes, one: xr.Dataset) -> None:
    level = float(one.attrs.get("false_alarm", 0.05))
    panel.plot(one["round"], one["evidence"], "o-", ms=4, color=COLOURS["data"], label="evidence")
    said = f"a surprise from here on (false alarms: {100 * level:g} % at most)"
    panel.axhline(1.0 / level, color=COLOURS["common"], ls="--", label=wrapped(said, 34))
    number = int(one["fired"])
    if number:
        first = one["evidence"].sel(round=number)
        told: dict[str, Any] = {"ms": 9, "mew": 2, "color": COLOURS["common"], "fillstyle": "none"}
        panel.plot(number, first, "o", label=f"surprise in round {number}", **told)
    panel.set_yscale("log")
    panel.set_title("Evidence against the model")
    panel.set_ylabel("evidence (1: none)")
    panel.legend(fontsize=7)
