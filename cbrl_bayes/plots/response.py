"""The figure of how followers act: without an incentive, under the common design, as observed."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from cbrl_bayes.errors import InvalidInputError, counted
from cbrl_bayes.plots.gate import gated
from cbrl_bayes.plots.maps import draw_map, lies_on_map, marks_in_words
from cbrl_bayes.plots.style import COLOURS, band, named_rows
from cbrl_bayes.results.names import marks_of, place_name

MOST_PANELS, MOST_ACTIONS, MOST_ROWS = 3, 4, 16
FEWEST_FOR_CURVE = 8
UNCHANGED = 1e-6
"""A probability that moves by less is called unchanged."""
SERIES = (("baseline", "no incentive"), ("common", "common design"))


@gated("response", "design(problem, fit, key=...) first")
def plot_response(
    study: xr.DataTree,
    *,
    action: str | None = None,
    coordinate: str | None = None,
    prob: float = 0.9,
    context: int | None = None,
    follower: int = 0,
    accept_failed: bool = False,
) -> Figure:
    """Draw how followers act without an incentive, under the common design, and as observed.

    The form follows the states. One number that grows from state to state (mileage): a curve with
    bands. Rows and columns: by how much the design changes the probability of each action, on
    maps. Any other states: the choices that change most, with intervals.

    Parameters
    ----------
    study : xarray.DataTree
        With the group ``response``.
    action : str, optional
        For the curve: the action's name, e.g. "replace". Default: the one that changes most; of
        two that change alike, the rarer.
    coordinate : str, optional
        Asks for the curve along this coordinate of states, e.g. "mileage". Default: found from
        the states.
    prob : float
        Probability of the bands and equal-tailed intervals, in (0, 1).
    context : int, optional
        Position of the context. Default: the first for a curve, else up to three.
    follower : int
        Position of the follower (or group). Data shown are those of context and follower.
    accept_failed : bool
        Draw the figure although the study FAILED its checks.

    Raises
    ------
    InvalidInputError
        For an action or a coordinate that the study does not have.
    """
    response = study["response"].to_dataset()
    actions = _actions(response)
    coordinates = [str(name) for name, one in response.coords.items() if one.dims == ("state",)]
    if action not in (None, *actions) or coordinate not in (None, *coordinates):
        raise InvalidInputError(
            "the study has no such response",
            received=f"{action!r}, {coordinate!r}",
            accepted=f"actions {actions}, coordinates {coordinates}",
        )
    along = coordinate or _curve_coordinate(response, coordinates)
    if along is not None:
        column = _most_changed(response, context or 0, follower) if action is None else None
        chosen = actions.index(action) if action is not None else int(column or 0)
        return _curve(study, response, along, chosen, prob, (context or 0, follower))
    contexts = [context] if context is not None else list(range(response.sizes["context"]))
    shown = contexts[:MOST_PANELS]
    if lies_on_map(response["policy_common"], "state"):
        return _maps(response, shown[:2], follower)
    wanted = None if action is None else actions.index(action)
    return _choices(study, response, shown, follower, wanted, prob)


def _actions(response: xr.Dataset) -> list[str]:
    if "action" in response.coords:
        return list(map(str, response["action"].values))
    return [f"action {at}" for at in range(response.sizes["action"])]


def _states(response: xr.Dataset) -> list[str]:
    one = xr.DataArray(
        np.zeros(response.sizes["state"]),
        {n: c for n, c in response.coords.items() if c.dims == ("state",)},
        ("state",),
    )
    named = bool(one.coords)
    return [("" if named else "state ") + place_name(one, (at,)) for at in range(one.size)]


def _curve_coordinate(response: xr.Dataset, coordinates: list[str]) -> str | None:
    """Return the one coordinate of the states, if it is a number that grows along them."""
    if len(coordinates) != 1 or response.sizes["state"] < FEWEST_FOR_CURVE:
        return None
    values = response[coordinates[0]].values
    grows = values.dtype.kind in "iuf" and bool((np.diff(values) > 0).all())
    return coordinates[0] if grows else None


def _draws(response: xr.Dataset, name: str, context: int, follower: int) -> np.ndarray:
    """Return the policy's draws, shape (draws, states, actions)."""
    chosen = response[f"policy_{name}"].isel(context=context, follower=follower)
    values = chosen.transpose("chain", "draw", "state", "action").values
    return values.reshape(-1, *values.shape[2:])


def _most_changed(response: xr.Dataset, context: int, follower: int) -> int:
    """Return the action that the design changes most; of two alike, the rarer."""
    before, after = (_draws(response, name, context, follower) for name, _ in SERIES)
    change = np.abs(after - before).mean((0, 1))
    rare = before.mean((0, 1)) + after.mean((0, 1))
    return int(np.lexsort((rare, -np.round(change, 9)))[0])


def _curve(
    study: xr.DataTree,
    response: xr.Dataset,
    coordinate: str,
    action: int,
    prob: float,
    where: tuple[int, int],
) -> Figure:
    x = response[coordinate].values
    figure, panel = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for name, title in SERIES:
        draws = _draws(response, name, *where)[:, :, action]
        band(panel, x, draws, prob, COLOURS[name], f"{title}, {100 * prob:g} % band")
    counts = _observed(study, response, *where)
    visits = counts.sum(1)
    if visits.any():
        seen = visits > 0
        share = counts[seen, action] / visits[seen]
        panel.scatter(
            x[seen],
            share,
            s=4 + 0.35 * visits[seen],
            color=COLOURS["data"],
            alpha=0.6,
            label="observed share (area: visits)",
            zorder=3,
        )
        panel.set_ylim(-0.01, min(1.0, 1.3 * max(share.max(), 0.05)))
    panel.set_xlabel(coordinate)
    panel.set_ylabel(f"probability of '{_actions(response)[action]}' per step")
    if response.sizes["context"] > 1:
        panel.set_title(_context(response, where[0]), fontsize="medium")
    panel.legend(fontsize="small")
    return figure


def _observed(study: xr.DataTree, response: xr.Dataset, context: int, follower: int) -> np.ndarray:
    """Return how often each action was seen in each state, shape (states, actions)."""
    counts = np.zeros((response.sizes["state"], response.sizes["action"]))
    if "observed_data" not in study.children or "action_count" not in study["observed_data"]:
        return counts
    observed = study["observed_data"].to_dataset()
    wanted = observed["decision_context"].values == context
    if response.sizes["follower"] > 1:
        wanted &= observed["decision_follower"].values == follower
    action = np.arange(len(wanted)) % counts.shape[1]
    np.add.at(
        counts,
        (observed["decision_state"].values[wanted], action[wanted]),
        observed["action_count"].values[wanted],
    )
    return counts


def _context(response: xr.Dataset, at: int) -> str:
    return f"context {response['context'].values[at]}"


def _maps(response: xr.Dataset, contexts: list[int], follower: int) -> Figure:
    """Draw the mean change of each action's probability; blue where the design lowers it."""
    change = []
    for at in contexts:
        before, after = (_draws(response, name, at, follower) for name, _ in SERIES)
        change.append((after - before).mean(0))
    size = np.abs(change).mean((0, 1))
    shown = np.sort(np.argsort(-size, kind="stable")[:MOST_ACTIONS])
    high = float(np.abs(change).max())
    figure, axes = plt.subplots(
        len(contexts),
        len(shown),
        figsize=(3.3 * len(shown) + 0.8, 3.3 * len(contexts) + 0.6),
        squeeze=False,
        layout="constrained",
    )
    places = response["policy_common"].isel(chain=0, draw=0, context=0, follower=0, action=0)
    norm, actions = Normalize(-max(high, UNCHANGED), max(high, UNCHANGED)), _actions(response)
    for line, at, one in zip(axes, contexts, change, strict=True):
        for panel, column in zip(line, shown, strict=True):
            image = draw_map(panel, places, one[:, column], norm, "RdBu_r")
            panel.set_title(f"{actions[column]}, {_context(response, at)}", fontsize="small")
            panel.label_outer()
    if high <= UNCHANGED:
        figure.supxlabel("the common design changes no choice")
        return figure
    figure.colorbar(image, ax=axes, shrink=0.7, label="change of the probability, mean over draws")
    words = "common design less no incentive"
    left = response.sizes["context"] - len(contexts)
    words += f"; {left} more contexts not shown" if left else ""
    marks = marks_in_words(marks_of(places))
    figure.supxlabel(f"{words}. {marks}" if marks else words, fontsize="small")
    return figure


class _Context(NamedTuple):
    """What one panel shows, each of shape (..., states, actions)."""

    before: np.ndarray
    after: np.ndarray
    counts: np.ndarray


def _choices(
    study: xr.DataTree,
    response: xr.Dataset,
    contexts: list[int],
    follower: int,
    action: int | None,
    prob: float,
) -> Figure:
    """Draw the choices that change most: mean and interval before and after, and as observed."""
    found = [
        _Context(
            _draws(response, "baseline", at, follower),
            _draws(response, "common", at, follower),
            _observed(study, response, at, follower),
        )
        for at in contexts
    ]
    rows, left = _rows_to_show(found, action)
    figure, axes = plt.subplots(
        1,
        len(found),
        sharey=True,
        squeeze=False,
        figsize=(2.6 + 3.6 * len(found), 1.8 + 0.36 * len(rows)),
        layout="constrained",
    )
    for panel, at, one in zip(axes[0], contexts, found, strict=True):
        _choice_panel(panel, one, rows, prob)
        if response.sizes["context"] > 1:
            panel.set_title(_context(response, at), fontsize="medium")
    states, actions = _states(response), _actions(response)
    named_rows(axes[0, 0], [f"{states[state]}: {actions[column]}" for state, column in rows])
    words = f"{counted(left, 'choice')} with less change not shown" if left else ""
    for panel in axes[0]:
        panel.set_xlabel("probability of the choice")
    figure.supxlabel(words, fontsize="small")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        fontsize="small",
    )
    return figure


def _rows_to_show(found: list[_Context], action: int | None) -> tuple[list[tuple[int, int]], int]:
    """Return the choices (state, action) to show, and how many are left out.

    Of two possible actions in a state the second says all. Choices that the design does not
    change are left out unless none changes.
    """
    before, after = (np.stack([one[at].mean(0) for one in found]) for at in (0, 1))
    change = np.abs(after - before).max(0)
    possible = (np.maximum(before, after) > 0.0).any(0)
    wanted = possible & (possible.sum(1, keepdims=True) > 1)
    pairs = possible.sum(1) == 2
    wanted[pairs, possible[pairs].argmax(1)] = False  # the first of two
    if action is not None:
        wanted = possible & (np.arange(wanted.shape[1]) == action)
    if (wanted & (change > UNCHANGED)).any():
        wanted &= change > UNCHANGED
    places = np.argwhere(wanted if wanted.any() else possible)
    order = np.argsort(-change[tuple(places.T)], kind="stable")[:MOST_ROWS]
    shown = sorted((int(state), int(column)) for state, column in places[order])
    return shown, len(places) - len(shown)


def _choice_panel(panel: Axes, one: _Context, rows: list[tuple[int, int]], prob: float) -> None:
    tail, (states, columns) = (1.0 - prob) / 2.0, np.array(rows).T
    visits = one.counts.sum(1)[states]
    for number, (name, title) in enumerate(SERIES):
        draws = one[number][:, states, columns]
        place = np.arange(len(rows)) + 0.2 * (number - 0.5)
        low, high = np.nanquantile(draws, [tail, 1.0 - tail], axis=0)
        panel.hlines(place, low, high, color=COLOURS[name], linewidth=2)
        panel.plot(
            np.nanmean(draws, 0),
            place,
            "os"[number],
            color=COLOURS[name],
            label=f"{title}: mean, {100 * prob:g} % interval",
        )
    seen = visits > 0
    if seen.any():
        share = one.counts[states, columns][seen] / visits[seen]
        at = np.flatnonzero(seen)
        panel.plot(share, at, "x", color=COLOURS["data"], label="observed share")
    panel.set_xlim(-0.03, 1.03)
    panel.grid(axis="x", alpha=0.3)
