"""The figures of a study; every function takes a results tree and returns a figure."""

import json
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cbrl_bayes.errors import InvalidInputError, explain
from cbrl_bayes.plots.inline import design_colours
from cbrl_bayes.plots.robust import plot_designs
from cbrl_bayes.plots.style import COLOURS, band, density

__all__ = [
    "plot_convergence",
    "plot_incentive",
    "plot_objectives",
    "plot_posterior",
    "plot_response",
    "save_figures",
]


MOST_FOLLOWERS = 4
MOST_COLUMNS = 4
MOST_DENSITIES = 2


def plot_incentive(tree: xr.DataTree, *, prob: float = 0.9) -> Figure:
    """Draw the incentive with its uncertainty beside it.

    On a grid (coordinates ``row`` and ``column``): the common design, the mean of the designs
    per draw and the width of their credible interval. A scalar: the distribution of the
    designs per draw, with the common and plug-in designs.
    """
    design, decision = _need(tree, "design"), _need(tree, "decision")
    names = [
        n for n in map(str, design.data_vars) if n.startswith("incentive") and n != "incentive_cost"
    ]
    first = design[names[0]]
    if {"row", "column"} <= set(first.coords):
        return _incentive_maps(first, decision[names[0]].sel(design="common"), prob)
    scalars = [name for name in names if design[name].ndim == 2]
    if not scalars:
        return _incentive_bars(first, decision[names[0]], prob)
    figure, axes = plt.subplots(
        1,
        max(1, len(scalars)),
        figsize=(5 * max(1, len(scalars)), 3.4),
        squeeze=False,
        layout="constrained",
    )
    for panel, name in zip(axes.ravel(), scalars, strict=False):
        density(panel, design[name], COLOURS["own"], "best for each draw")
        colours = design_colours(list(map(str, decision["design"].values)))
        for which in decision["design"].values:
            panel.axvline(
                float(decision[name].sel(design=which)),
                color=colours[str(which)],
                label=f"{which} design",
                linestyle=_dash(which),
            )
        attrs = design[name].attrs
        panel.set_xlabel(f"{attrs.get('long_name', name)} [{attrs.get('units', '')}]")
        panel.set_ylabel("density over posterior draws")
        panel.legend()
    return figure


def plot_objectives(tree: xr.DataTree, *, prob: float = 0.9) -> Figure:
    """Draw the distribution of the leader's objective for each design, and the regrets."""
    design, decision = _need(tree, "design"), _need(tree, "decision")
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    density(left, design["leader_objective"], COLOURS["own"], "best for each draw", filled=True)
    # Densities of more designs than these hide each other: `plot_designs` shows all.
    first = list(map(str, decision["design"].values[:MOST_DENSITIES]))
    for which in first:
        one = decision.sel(design=which)
        density(left, one["objective"], COLOURS[which], f"{which} design", filled=False)
        high = float(one["regret"].quantile(prob))
        density(
            right,
            one["regret"],
            COLOURS[which],
            f"{which}: mean {float(one['regret'].mean()):.2g}, {100 * prob:g} % below {high:.2g}",
            filled=False,
        )
    unit = tree.attrs.get("objective_unit", "")
    left.set_xlabel(_wrapped(f"leader's objective [{unit}]"))
    right.set_xlabel(_wrapped(f"regret against the best for each draw [{unit}]"))
    for panel in (left, right):
        panel.set_ylabel("density over posterior draws")
        panel.legend(fontsize="small")
    return figure


def plot_convergence(tree: xr.DataTree, *, prob: float = 0.9) -> Figure:
    """Draw objective and gradient norm along the ascents, with bands over draws."""
    trace = _need(tree, "design_trace").stack(one=("chain", "draw")).transpose("one", "iteration")
    steps = np.arange(trace.sizes["iteration"])
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
    label = f"median and {100 * prob:g} % band over draws"
    band(left, steps, trace["objective"].values, prob, COLOURS["own"], label)
    band(right, steps, trace["gradient_norm"].values, prob, COLOURS["own"], label)
    left.set_ylabel(_wrapped(f"leader's objective [{tree.attrs.get('objective_unit', '')}]"))
    right.set_ylabel("norm of the hypergradient")
    right.set_yscale("log")
    for panel in (left, right):
        panel.set_xlabel("step of the ascent, from the common design")
        panel.legend(fontsize="small")
    return figure


def plot_posterior(tree: xr.DataTree) -> Figure:
    """Draw the posterior of every scalar parameter, rationality first, with its prior."""
    posterior, prior = _need(tree, "posterior"), tree["prior"].to_dataset()
    names = [n for n in map(str, posterior.data_vars) if posterior[n].ndim == 2 and n in prior]
    names.sort(key=lambda name: (name != "rationality", name))
    entries: list[tuple[str, xr.DataArray, xr.DataArray]] = [
        (name, posterior[name], prior[name]) for name in names
    ]
    if "context_probability" in posterior:
        entries += [
            (
                f"P({context})",
                posterior["context_probability"].sel(context=context),
                prior["context_probability"].sel(context=context),
            )
            for context in posterior["context"].values
        ]
    units = json.loads(tree.attrs.get("parameter_units", "{}"))
    for name in map(str, posterior.data_vars):
        if name in prior and posterior[name].dims == ("chain", "draw", "follower"):
            entries += [
                (
                    f"{name} of {one}",
                    posterior[name].sel(follower=one),
                    prior[name].sel(follower=one),
                )
                for one in posterior["follower"].values[:MOST_FOLLOWERS]
                if not name.endswith("_offset")
            ]
    if not entries:
        raise InvalidInputError("the posterior has no parameter that this figure can show")
    columns = min(len(entries), MOST_COLUMNS)
    lines = -(-len(entries) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(3.6 * columns, 3.2 * lines), squeeze=False, layout="constrained"
    )
    for panel in axes.ravel()[len(entries) :]:
        panel.set_axis_off()
    for panel, (name, after, before) in zip(axes.ravel(), entries, strict=False):
        density(panel, after, COLOURS["own"], "posterior")
        low, high = np.quantile(after, [0.0, 1.0])
        room = 0.5 * (high - low)
        floor = 0.0 if low > 0 else -np.inf
        _prior_curve(panel, before, max(floor, low - room), high + room)
        unit = units.get(name, "1 / reward" if name == "rationality" else "")
        panel.set_xlabel(_wrapped(f"{name} [{unit}]" if unit else name, 26))
        panel.legend(fontsize="small")
    for panel in axes[:, 0]:
        panel.set_ylabel("density")
    return figure


def plot_response(
    tree: xr.DataTree,
    *,
    action: str,
    coordinate: str,
    prob: float = 0.9,
    context: int = 0,
    follower: int = 0,
) -> Figure:
    """Draw the probability of one action along a state coordinate, with bands and data.

    Parameters
    ----------
    tree : xarray.DataTree
        With the group ``response``.
    action : str
        Action's name, e.g. "replace".
    coordinate : str
        State coordinate for the horizontal axis, e.g. "mileage".
    prob : float
        Probability of the bands.
    context, follower : int
        Positions of the context and of the follower (or group); data shown are theirs.
    """
    response = _need(tree, "response")
    if action not in response["action"].values or coordinate not in response.coords:
        raise InvalidInputError(
            explain(
                "there is no such response to draw",
                received=f"{action!r}, {coordinate!r}",
                accepted=f"actions {list(response['action'].values)}, "
                f"coordinates {list(response.coords)}",
            )
        )
    chosen = response.sel(action=action).isel(context=context, follower=follower)
    x = chosen[coordinate].values
    figure, panel = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for name in ("baseline", "common"):
        draws = chosen[f"policy_{name}"].values.reshape(-1, len(x))
        label = "no incentive" if name == "baseline" else "common design"
        band(panel, x, draws, prob, COLOURS[name], f"{label}, {100 * prob:g} % band")
    _observed_shares(tree, panel, action, response, x, (context, follower))
    panel.set_xlabel(coordinate)
    panel.set_ylabel(f"probability of '{action}' per step")
    panel.legend(fontsize="small")
    return figure


def save_figures(tree: xr.DataTree, folder: str | Path, *, prob: float = 0.9) -> list[Path]:
    """Draw every figure that the tree has the groups for, as PNG files.

    Parameters
    ----------
    tree : xarray.DataTree
    folder : str or Path
        Made if absent.
    prob : float
        Probability of bands and intervals.

    Returns
    -------
    list of Path
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    wanted: dict[str, Callable[[], Figure]] = {}
    if "prior" in tree.children:
        wanted["posterior"] = lambda: plot_posterior(tree)
    if "design" in tree.children:
        wanted |= {
            "incentive": lambda: plot_incentive(tree, prob=prob),
            "objectives": lambda: plot_objectives(tree, prob=prob),
            "convergence": lambda: plot_convergence(tree, prob=prob),
            "designs": lambda: plot_designs(tree, prob=prob),
        }
    if "response" in tree.children and "mileage" in tree["response"].coords:
        wanted["replacement"] = lambda: plot_response(
            tree, action="replace", coordinate="mileage", prob=prob
        )
    written = []
    for name, draw in wanted.items():
        figure = draw()
        written.append(folder / f"{name}.png")
        figure.savefig(written[-1], dpi=130)
        plt.close(figure)
    return written


def _incentive_maps(draws: xr.DataArray, common: xr.DataArray, prob: float) -> Figure:
    tail = (1.0 - prob) / 2.0
    flat = draws.stack(one=("chain", "draw"))
    width = flat.quantile(1 - tail, "one") - flat.quantile(tail, "one")
    panels = {
        "common design": common,
        "mean of the designs per draw": flat.mean("one"),
        f"width of their {100 * prob:g} % interval": width,
    }
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.0), layout="constrained")
    shared = float(max(common.max(), flat.mean("one").max()))
    for panel, (title, values) in zip(axes, panels.items(), strict=True):
        rows, columns = values["row"].values, values["column"].values
        grid = np.full((rows.max() + 2, columns.max() + 2), np.nan)
        grid[rows, columns] = values.values
        top = float(width.max()) if values is width else shared
        image = panel.imshow(grid, cmap="viridis", vmin=0.0, vmax=max(top, 1e-12))
        panel.set_facecolor("#d9d9d9")
        panel.set(title=title, xlabel="column", ylabel="row")
        figure.colorbar(
            image, ax=panel, shrink=0.85, label=f"penalty [{draws.attrs.get('units', '')}]"
        )
    return figure


def _incentive_bars(draws: xr.DataArray, designs: xr.DataArray, prob: float) -> Figure:
    """Draw every entry of an array: median and interval over draws, common and plug-in design."""
    tail = (1.0 - prob) / 2.0
    flat = draws.stack(one=("chain", "draw")).transpose("one", ...).values
    low, middle, high = np.quantile(flat.reshape(len(flat), -1), [tail, 0.5, 1.0 - tail], axis=0)
    place = np.arange(middle.size)
    figure, panel = plt.subplots(figsize=(max(5.0, 0.25 * middle.size), 3.6), layout="constrained")
    panel.errorbar(
        place,
        middle,
        [middle - low, high - middle],
        fmt="o",
        color=COLOURS["own"],
        label=f"best for each draw, median and {100 * prob:g} % interval",
    )
    colours = design_colours(list(map(str, designs["design"].values)))
    for which in designs["design"].values:
        panel.scatter(
            place,
            designs.sel(design=which).values.ravel(),
            marker="_",
            s=120,
            color=colours[str(which)],
            label=f"{which} design",
        )
    attrs = draws.attrs
    panel.set(
        xlabel=f"entry of {attrs.get('long_name', draws.name)}", ylabel=attrs.get("units", "")
    )
    panel.legend(fontsize="small")
    return figure


def _prior_curve(panel: Axes, before: xr.DataArray, low: float, high: float) -> None:
    """Draw the prior's density over the window the posterior occupies."""
    values = before.values.ravel()
    inside = values[(values >= low) & (values <= high)]
    edges = np.linspace(low, high, 9)
    counted, _ = np.histogram(inside, bins=edges)
    heights = counted / len(values) / np.diff(edges)
    panel.stairs(heights, edges, color=COLOURS["prior"], label="prior")
    panel.set_xlim(low, high)


def _observed_shares(
    tree: xr.DataTree,
    panel: Axes,
    action: str,
    response: xr.Dataset,
    x: np.ndarray,
    where: tuple[int, int],
) -> None:
    if "observed_data" not in tree.children or "action_count" not in tree["observed_data"]:
        return
    observed = tree["observed_data"].to_dataset()
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


def _need(tree: xr.DataTree, group: str) -> xr.Dataset:
    if group not in tree.children:
        raise InvalidInputError(
            explain(
                f"the tree has no group {group!r}",
                accepted=", ".join(tree.children),
                remedy="run design(...) first",
            )
        )
    return tree[group].to_dataset()


def _dash(which: object) -> str:
    return "-" if which == "common" else "--"


def _wrapped(text: str, width: int = 48) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))
