"""The figure of how followers act: without an incentive, under the common design, as observed."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.plots.gate import gated
from cbrl_bayes.plots.style import COLOURS, band


@gated("response", "design(problem, fit, key=...) first")
def plot_response(
    study: xr.DataTree,
    *,
    action: str,
    coordinate: str,
    prob: float = 0.9,
    context: int = 0,
    follower: int = 0,
    accept_failed: bool = False,
) -> Figure:
    """Draw the probability of one action along a state coordinate, with bands and data.

    Parameters
    ----------
    study : xarray.DataTree
        With the group ``response``.
    action : str
        Action's name, e.g. "replace".
    coordinate : str
        State coordinate for the horizontal axis, e.g. "mileage".
    prob : float
        Probability of the bands.
    context, follower : int
        Positions of the context and of the follower (or group); data shown are theirs.
    accept_failed : bool
        Draw the figure although the study FAILED its checks.
    """
    response = study["response"].to_dataset()
    if action not in response["action"].values or coordinate not in response.coords:
        raise InvalidInputError(
            "the study has no such response",
            received=f"{action!r}, {coordinate!r}",
            accepted=f"actions {list(response['action'].values)}, "
            f"coordinates {list(response.coords)}",
        )
    chosen = response.sel(action=action).isel(context=context, follower=follower)
    x = chosen[coordinate].values
    figure, panel = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for name in ("baseline", "common"):
        draws = chosen[f"policy_{name}"].values.reshape(-1, len(x))
        label = "no incentive" if name == "baseline" else "common design"
        band(panel, x, draws, prob, COLOURS[name], f"{label}, {100 * prob:g} % band")
    _observed_shares(study, panel, action, response, x, (context, follower))
    panel.set_xlabel(coordinate)
    panel.set_ylabel(f"probability of '{action}' per step")
    panel.legend(fontsize="small")
    return figure


def _observed_shares(
    study: xr.DataTree,
    panel: Axes,
    action: str,
    response: xr.Dataset,
    x: np.ndarray,
    where: tuple[int, int],
) -> None:
    if "observed_data" not in study.children or "action_count" not in study["observed_data"]:
        return
    observed = study["observed_data"].to_dataset()
    context, follower = where
    wanted = observed["decision_context"].values == context
    if response.sizes["follower"] > 1:
        wanted &= observed["decision_follower"].values == follower
    counts = np.zeros((len(x), observed.sizes["action"]))
    np.add.at(
        counts, observed["decision_state"].values[wanted], observed["action_count"].values[wanted]
    )
    visits = counts.sum(1)
    column = list(response["action"].values).index(action)
    seen = visits > 0
    if not seen.any():
        return
    share = counts[seen, column] / visits[seen]
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
