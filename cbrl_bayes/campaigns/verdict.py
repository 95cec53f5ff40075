"""Whether a campaign's predictions can be relied upon, and the surprise check in words."""

import numpy as np
import xarray as xr

from cbrl_bayes.campaigns.rivals import FREQUENCIES, OWN
from cbrl_bayes.results import Health

FEW_EFFECTIVE, FEW_DISTINCT = 100, 50
CLEAR = 0.95
"""Probability from which a model of the follower counts as told apart from the others."""
MEANING = {
    "choices": "followers chose otherwise than predicted",
    "worth": "episodes were not worth to the leader what was predicted",
    "contexts": "contexts came in other shares than predicted",
}


def campaign_health(campaign: xr.Dataset, unsolved_in_plan: int = 0) -> Health:
    """Judge one campaign by its surprise check and by how its numbers were computed.

    FAIL: the surprise check fired. REVIEW: no such check, best responses that did not converge,
    worth that could not be counted, fewer than 100 effective draws, fewer than 50 particles that
    differ, a net value of the last round within two standard errors of zero.

    Parameters
    ----------
    campaign : xarray.Dataset
        One campaign, rounds that were not done left out.
    unsolved_in_plan : int
        Best responses behind a plan that waits which did not converge.
    """
    health, last = Health(), campaign.isel(round=-1)
    surprised = int(campaign["fired"])
    health.note(
        surprised > 0,
        False,
        f"what came back does not fit the model (first seen in round {surprised}): predictions and "
        "designs rest on a model that behaviour contradicts. Compare follower models",
    )
    health.note(
        False,
        not np.isfinite(campaign["p_value"]).any(),
        "there is no surprise check (num_replicates=0): nothing tells whether the model fits",
    )
    health.note(
        False,
        not np.isfinite(last["realised"]).any(),
        "what the last round's episodes were worth could not be counted, and was not checked: no "
        "episode was watched to its end, or the objective is no sum over steps",
    )
    unsolved = int(np.nansum(campaign["unsolved"])) + unsolved_in_plan
    health.note(
        False,
        unsolved > 0,
        f"{unsolved:,} best responses in beliefs and predictions did not converge",
    )
    size, distinct = float(last["effective_size"]), float(last["distinct"])
    health.note(
        False,
        size < FEW_EFFECTIVE,
        f"what is believed rests on {size:.0f} effective draws: intervals are rough. "
        "ParticleSettings(num_particles=...), or DynamicsSettings(num_laws=...)",
    )
    health.note(
        False,
        size >= FEW_EFFECTIVE and distinct < FEW_DISTINCT,
        f"only {distinct:.0f} particles differ, the others are copies: intervals are rough. "
        "ParticleSettings(acceptance=...)",
    )
    net, error = float(last["net_value"]), float(last["net_value_error"])
    health.note(
        False,
        np.isfinite(net) and abs(net) < 2.0 * error,
        f"whether the last round was worth its cost is open: net value {net:.4g}, standard error "
        f"{error:.2g}. PlanningSettings(num_draws=...)",
    )
    return health


def surprise_in_words(campaign: xr.Dataset, models: xr.Dataset | None = None) -> list[str]:
    """Say what the surprise check found, and how models of the follower compare.

    Parameters
    ----------
    campaign : xarray.Dataset
        One campaign, rounds that were not done left out.
    models : xarray.Dataset, optional
        From `Campaign.models`.
    """
    level = float(campaign.attrs["false_alarm"])
    bar, most = 1.0 / level, float(campaign["evidence"].max())
    meaning = (
        f"A right model reaches {bar:.3g} with a probability of {100 * level:g} % at most, over "
        "all rounds and all three statistics together."
    )
    number = int(campaign["fired"])
    if not np.isfinite(campaign["p_value"]).any():
        return ["There is no surprise check (num_replicates=0)."]
    if number == 0:
        return [
            f"No surprise so far: evidence against the model is {most:.2g} at most (1: none; from "
            f"{bar:.3g} on it is a surprise). {meaning}"
        ]
    bets = campaign["bet"].sel(round=slice(None, number)).max("round")
    worst = str(campaign["statistic"].values[int(np.argmax(bets.values))])
    said = [
        f"Surprise in round {number}: {MEANING[worst]}. Evidence against the model "
        f"reached {_large(most)}. {meaning}"
    ]
    return said + (_compared(models) if models is not None else [_not_compared(campaign)])


def _large(value: float) -> str:
    return f"{value:,.0f}" if 100.0 <= value < 1e7 else f"{value:.3g}"


def _not_compared(campaign: xr.Dataset) -> str:
    return (
        "Other models of the follower were not compared (a simulated campaign, or unknown "
        "dynamics): cb.compare_followers does it from the data of all rounds."
    )


def _compared(models: xr.Dataset) -> list[str]:
    """Say which model fits, and what it would change."""
    chance = models["probability"]
    ranked = sorted(zip(chance.values, models["model"].values, strict=True), reverse=True)
    listed = ", ".join(f"{name} {share:.2g}" for share, name in ranked)
    first, best = float(ranked[0][0]), str(ranked[0][1])
    said = [
        "Models of the follower after all rounds, by probability (equally likely before): "
        f"{listed}."
    ]
    if first < CLEAR:
        said.append("The data do not tell clearly which is right.")
    elif best == FREQUENCIES:
        said.append(
            "None of them describes the followers: frequencies of their own for every choice do "
            "better. Keep today's design, or one that was seen to work, until a model fits."
        )
    elif best == OWN:
        said.append("The model is still ahead of the others; none explains the surprise.")
    else:
        said.append(f"Followers seem to be {best}: plan the next rounds with that model.")
    fitting = [str(name) for _, name in ranked if str(name) != FREQUENCIES]
    if fitting[0] != OWN:
        own = models["objective"].sel(designed_for=OWN, under=fitting[0])
        theirs = models["objective"].sel(designed_for=fitting[0], under=fitting[0])
        unit = str(models["objective"].attrs.get("units", ""))
        said.append(
            f"If followers are {fitting[0]}, the design for {OWN} is worth {float(own):.4g} {unit} "
            f"and the design for them {float(theirs):.4g}."
        )
    return said
