"""A map of a network without coordinates, and its tolls."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import TwoSlopeNorm
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, shortest_path
from tables import shrink

from cbrl_bayes.problems import RoadNetwork

NUM_REFINED = 200


def junctions(network: RoadNetwork) -> tuple[np.ndarray, np.ndarray, int]:
    """Return where each link begins and ends: a turn joins the end of one and another's start."""
    L = network.num_links
    ends, starts = network.from_link, L + network.to_link
    graph = coo_array((np.ones(len(ends)), (ends, starts)), shape=(2 * L, 2 * L))
    num, label = connected_components(graph.tocsr(), directed=False)
    return label[L:], label[:L], num


def layout(network: RoadNetwork) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return start and end of each link, and places (junction, 2) at distances like driving times.

    The data have no coordinates. Classical scaling of shortest driving times, then steps of
    majorisation (SMACOF) that weigh near places more.
    """
    start, end, num = junctions(network)
    time = np.zeros(network.num_links)
    time[network.to_link] = np.maximum(network.time, 0.01)
    graph = coo_array((time, (start, end)), shape=(num, num)).tocsr()
    far = shortest_path(graph, directed=False)
    far = np.minimum(far, far[np.isfinite(far)].max())
    centred = far**2 - (far**2).mean(0) - (far**2).mean(1)[:, None] + (far**2).mean()
    values, vectors = np.linalg.eigh(-0.5 * centred)
    place = vectors[:, -2:] * np.sqrt(np.maximum(values[-2:], 0.0))
    weight = 1.0 / np.maximum(far, 0.05) ** 2
    np.fill_diagonal(weight, 0.0)
    laplacian = np.diag(weight.sum(1)) - weight
    inverse = np.linalg.pinv(laplacian)
    for _ in range(NUM_REFINED):
        apart = np.linalg.norm(place[:, None] - place[None], axis=-1)
        pull = -weight * far / np.maximum(apart, 1e-9)
        np.fill_diagonal(pull, 0.0)
        np.fill_diagonal(pull, -pull.sum(1))
        place = inverse @ (pull @ place)
    return start, end, place


def draw_map(
    network: RoadNetwork,
    before: np.ndarray,
    after: np.ndarray,
    tolls: dict,
    relieved: np.ndarray,
    path: Path,
) -> None:
    """Draw links as wide as their traffic, coloured by how tolls change it; name the tolls.

    The picture shows the part where traffic changes; stars are the links to be relieved.
    """
    start, end, place = layout(network)
    along = place[end] - place[start]
    side = np.stack([-along[:, 1], along[:, 0]], -1)
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
    gap = 0.004 * np.ptp(place)  # the two directions of a street side by side
    lines = np.stack([place[start] - gap * side, place[end] - gap * side], axis=1)
    change = 100.0 * (after - before)
    most = max(np.abs(change).max(), 1e-9)
    figure, axes = plt.subplots(figsize=(10, 8), layout="constrained")
    order = np.argsort(np.abs(change))
    drawn = LineCollection(
        lines[order],
        linewidths=0.4 + 9.0 * before[order] / before.max(),
        cmap="RdBu_r",
        norm=TwoSlopeNorm(0.0, -most, most),
        capstyle="round",
    )
    drawn.set_array(change[order])
    axes.add_collection(LineCollection(lines, linewidths=0.5, colors="0.75", zorder=0))
    axes.add_collection(drawn)
    for link, toll in tolls.items():
        if toll > 0.05:
            middle = lines[link].mean(axis=0)
            axes.annotate(
                f"{toll:.1f}",
                middle,
                middle - 6 * gap * side[link],
                fontsize=9,
                ha="center",
                va="center",
                bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "0.4", "lw": 0.6},
                arrowprops={"arrowstyle": "-", "lw": 0.6, "color": "0.4"},
            )
    stars = lines[relieved].mean(axis=1)
    axes.plot(*stars.T, "*", ms=11, mfc="gold", mec="0.3", mew=0.6, ls="", zorder=5)
    moved = lines[np.abs(change) > 0.05 * most].reshape(-1, 2)
    room = 0.12 * np.ptp(moved, axis=0).max()
    axes.set(
        xlim=(moved[:, 0].min() - room, moved[:, 0].max() + room),
        ylim=(moved[:, 1].min() - room, moved[:, 1].max() + room),
    )
    axes.set_aspect("equal")
    axes.set_axis_off()
    marked = "stars: links to be relieved. " if len(relieved) else ""
    axes.set_title(
        "Traffic before the tolls (width) and its change (colour); labels: tolls in minutes;\n"
        f"{marked}Laid out by driving time: the data have no coordinates"
    )
    figure.colorbar(drawn, label="change, entries per 100 trips", shrink=0.6)
    figure.savefig(path, dpi=110)
    shrink(path)
    plt.close(figure)


def draw_tolls(tolls: list[dict], path: Path) -> None:
    """Draw each link's toll with its interval over the draws."""
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    at = np.arange(len(tolls))
    mean, low, high = (np.array([t[k] for t in tolls]) for k in ("mean", "lower", "upper"))
    axes.vlines(at, low, high, color="tab:blue", lw=5, alpha=0.5, label="best by draw, 90 %")
    axes.plot(at, mean, "o", color="tab:blue", label="best by draw, mean")
    axes.plot(at, [t["common"] for t in tolls], "k_", ms=14, label="one set for all draws")
    axes.set_xticks(at, [t["link"] for t in tolls], rotation=90)
    axes.set_ylabel("toll, minutes of travel time")
    axes.set_title("Tolls where the relieved links themselves may have none")
    axes.legend()
    figure.savefig(path, dpi=110)
    shrink(path)
    plt.close(figure)
