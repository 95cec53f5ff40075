"""The figures that help to mend a study: posterior beside prior, and how the ascents went."""

import json
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.plots.style import COLOURS, band, density, few_ticks, wrapped
from cbrl_bayes.results import need_group
from cbrl_bayes.results.names import known_among

MOST_FOLLOWERS, MOST_COLUMNS = 4, 4


def plot_convergence(tree: xr.DataTree, *, prob: float = 0.9) -> Figure:
    """Draw objective and gradient norm along the ascents, with bands over draws."""
    trace = need_group(tree, "design_trace", "design(problem, fit, key=...) first")
    trace = trace.stack(one=("chain", "draw")).transpose("one", "iteration")
    steps = np.arange(trace.sizes["iteration"])
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
    label = f"median and {100 * prob:g} % band over draws"
    band(left, steps, trace["objective"].values, prob, COLOURS["own"], label)
    band(right, steps, trace["gradient_norm"].values, prob, COLOURS["own"], label)
    left.set_ylabel(wrapped(f"leader's objective [{tree.attrs.get('objective_unit', '')}]", 34))
    right.set_ylabel("norm of the hypergradient")
    if (trace["gradient_norm"] > 0.0).any():
        right.set_yscale("log")
    for panel in (left, right):
        panel.set_xlabel("step of the ascent, from the common design")
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        panel.legend(fontsize="small")
    return figure


def plot_posterior(tree: xr.DataTree) -> Figure:
    """Draw the posterior of every scalar parameter, temperature first, with its prior.

    What says the same again has no panel of its own: the rationality (1 / temperature), and the
    probability of the second of two contexts. Neither has what was known before.
    """
    remedy = "fit = infer(problem, data, key=...)"
    posterior, prior = (need_group(tree, name, remedy) for name in ("posterior", "prior"))
    posterior = posterior.drop_vars(known_among(tree))
    entries = list(_entries(posterior, prior))
    if not entries:
        raise InvalidInputError("the posterior has no parameter that this figure can show")
    columns = min(len(entries), MOST_COLUMNS)
    lines = -(-len(entries) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(3.6 * columns, 3.2 * lines), squeeze=False, layout="constrained"
    )
    for panel in axes.ravel()[len(entries) :]:
        panel.set_axis_off()
    units = json.loads(tree.attrs.get("parameter_units", "{}"))
    for panel, (name, after, before) in zip(axes.ravel(), entries, strict=False):
        density(panel, after, COLOURS["own"], "posterior")
        low, high = np.quantile(after, [0.0, 1.0])
        room = 0.5 * (high - low)
        floor = 0.0 if low > 0 else -np.inf
        _prior_curve(panel, before, max(floor, low - room), high + room)
        few_ticks(panel)
        whole = name.partition(" of ")[0]  # of one follower
        unit = units.get(whole, "1 / reward" if whole == "rationality" else "")
        panel.set_xlabel(wrapped(f"{name} [{unit}]" if unit else name, 26))
        panel.legend(fontsize="small")
    for panel in axes[:, 0]:
        panel.set_ylabel("density")
    return figure


def _entries(
    posterior: xr.Dataset, prior: xr.Dataset
) -> Iterator[tuple[str, xr.DataArray, xr.DataArray]]:
    """Yield name, posterior and prior of each number: single, by context, by follower."""
    twice = {"rationality"} if "temperature" in posterior and "temperature" in prior else set()
    names = sorted(
        (name for name in map(str, posterior.data_vars) if name in prior and name not in twice),
        key=lambda name: (name not in ("temperature", "rationality"), name),
    )
    for name in names:
        if posterior[name].ndim == 2:
            yield name, posterior[name], prior[name]
    if "context_probability" in posterior:
        contexts = posterior["context"].values
        for context in contexts[:1] if len(contexts) == 2 else contexts:
            after, before = (
                one["context_probability"].sel(context=context) for one in (posterior, prior)
            )
            yield f"P({context})", after, before
    for name in names:
        if posterior[name].dims == ("chain", "draw", "follower") and not name.endswith("_offset"):
            for one in posterior["follower"].values[:MOST_FOLLOWERS]:
                after, before = (each[name].sel(follower=one) for each in (posterior, prior))
                yield f"{name} of {one}", after, before


def _prior_curve(panel: Axes, before: xr.DataArray, low: float, high: float) -> None:
    """Draw the prior's density over the window the posterior occupies."""
    values = before.values.ravel()
    inside = values[(values >= low) & (values <= high)]
    edges = np.linspace(low, high, 9)
    counted, _ = np.histogram(inside, bins=edges)
    heights = counted / len(values) / np.diff(edges)
    panel.stairs(heights, edges, color=COLOURS["prior"], label="prior")
    panel.set_xlim(low, high)
