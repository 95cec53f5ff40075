"""The three figures of the analysis."""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from cbrl_bayes.plots.style import COLOURS, band

__all__ = ["demand_figure", "information_figure", "subsidy_figure"]

TARGET_COLOURS = {150_000: "#0072B2", 200_000: "#D55E00", 250_000: "#009E73"}
MARKERS = {150_000: "o", 200_000: "s", 250_000: "^"}


def demand_figure(folder: Path, curves: dict, numbers: dict) -> None:
    """Draw replacements per bus-year against the price, on both scales."""
    figure, panels = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
    for axes in panels:
        band(
            axes,
            curves["prices"],
            curves["rate"].T,
            0.9,
            COLOURS["own"],
            "forward-looking (0.9999): posterior\nmedian and 90 % equal-tailed band",
        )
        axes.plot(
            curves["prices"],
            curves["myopic"],
            "--",
            color=COLOURS["common"],
            label="myopic (0): maximum likelihood",
        )
        axes.axvline(1.0, color=COLOURS["prior"], linewidth=0.8, linestyle=":")
        axes.set_xlabel("price of a replacement [RC]")
        axes.set_ylabel("replacements per bus-year, long run")
    panels[0].set_ylim(0, None)
    panels[0].legend(fontsize=8)
    panels[0].text(1.01, panels[0].get_ylim()[1] * 0.55, "no subsidy", fontsize=8)
    panels[1].set_yscale("log")
    _save(figure, folder / "demand.png")


def subsidy_figure(folder: Path, numbers: dict, centre: np.ndarray) -> None:
    """Draw the best subsidy per draw at the centre, and by the leader's assumptions."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
    cells = numbers["cells"].values()
    middle = numbers["cells"]["0.05, 200,000"]
    left.hist(
        centre,
        bins=np.arange(centre.min() - 0.00125, centre.max() + 0.005, 0.005),
        color=COLOURS["own"],
        alpha=0.6,
        label="best for each draw",
    )
    left.axvline(middle["common"], color=COLOURS["common"], label="common")
    for end in ("low", "high"):
        left.axvline(
            middle["best"][end],
            color=COLOURS["data"],
            linestyle=":",
            label="90 % equal-tailed interval" if end == "low" else None,
        )
    left.set(
        xlabel="subsidy [RC]",
        ylabel=f"posterior draws of {centre.size}",
        title="late cost .05 RC, target 200,000 miles",
    )
    left.title.set_fontsize(9)
    left.set_ylim(0, left.get_ylim()[1] * 1.3)
    left.legend(fontsize=8)
    for shift, target in zip((-0.06, 0.0, 0.06), TARGET_COLOURS, strict=True):
        rows = [cell for cell in cells if cell["target"] == target]
        at = np.array([row["late_cost"] for row in rows]) * np.exp(shift)
        common = np.array([row["common"] for row in rows])
        ends = np.array([[row["best"]["low"], row["best"]["high"]] for row in rows]).T
        right.vlines(at, *ends, color=TARGET_COLOURS[target], linewidth=2)
        right.plot(
            at,
            common,
            MARKERS[target],
            color=TARGET_COLOURS[target],
            label=f"target {target:,} miles",
        )
    right.set_xscale("log")
    right.set_xticks([0.025, 0.05, 0.1], ["0.025", "0.05", "0.1"])
    right.minorticks_off()
    right.set(
        xlabel="late cost [RC per bus-month beyond the target]",
        ylabel="subsidy [RC]",
        title="marker: common; line: 90 % interval of the draws' best",
    )
    right.title.set_fontsize(9)
    right.legend(fontsize=8)
    _save(figure, folder / "subsidy.png")


def information_figure(folder: Path, known: dict, fewer: dict, raw: dict) -> None:
    """Draw what knowing more is worth, and what fewer buses cost."""
    figure, panels = plt.subplots(1, 3, figsize=(11.5, 3.8), layout="constrained")
    names = ["everything", "RC", "theta11", "mean\nincrement"]
    values = [known["perfect"]] + [entry["by_knots"][4] for entry in known["partial"].values()]
    errors = [known["perfect_error"]] + [entry["error"] for entry in known["partial"].values()]
    panels[0].bar(
        range(4),
        np.array(values) * 1e6,
        yerr=2e6 * np.array(errors),
        color=COLOURS["baseline"],
        capsize=3,
        label="draws, ± 2 s.e.",
    )
    exact = [known["quadrature"][name] for name in ("perfect", "RC", "theta11")]
    panels[0].plot(
        range(3), np.array(exact) * 1e6, "D", color=COLOURS["common"], label="quadrature"
    )
    panels[0].set_xticks(range(4), names)
    panels[0].set(xlabel="known before the subsidy is set", ylabel="worth [1e-6 RC per bus-month]")
    panels[0].set_ylim(0, panels[0].get_ylim()[1] * 1.25)
    panels[0].legend(fontsize=8)
    order = ["1/4", "1/2"]
    for axes, key, scale, label in (
        (panels[1], "width_RC", 1.0, "width of RC's 90 % interval [noise scale]"),
        (panels[2], "loss", 1e6, "loss [1e-6 RC per bus-month]"),
    ):
        axes.boxplot(
            [[row[key] * scale for row in raw[name]] for name in order],
            positions=[0, 1],
            widths=0.5,
            whis=(5, 95),
            showfliers=False,
            medianprops={"color": COLOURS["common"]},
        )
        axes.plot(2, fewer["all"][key] * scale, "D", color=COLOURS["own"], label="all 37 buses")
        axes.set_xticks([0, 1, 2], ["9 buses", "18 buses", "37 buses"])
        axes.set(ylabel=label, xlabel="fleet observed")
        axes.set_xlim(-0.5, 2.5)
        axes.set_ylim(0, axes.get_ylim()[1] * 1.15)
        axes.legend(
            fontsize=8, title="boxes: 200 random parts,\nwhiskers 5 % to 95 %", title_fontsize=8
        )
    _save(figure, folder / "information.png")


def _save(figure, path: Path) -> None:
    for axes in figure.axes:
        axes.grid(alpha=0.25, linewidth=0.5)
    figure.savefig(path, dpi=150)
    plt.close(figure)
