"""Draw the pictures of the pages on kinds of problems: `python docs/concepts.py`.

Each picture is drawn from what the code blocks of its page define, so that it shows what the reader
has just read. Writes docs/images/. Most of the time goes into the fits of the page on drift.
"""

import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import cbrl_bayes as cb

DOCS = Path(__file__).parent
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "0.6"
COLOURS = 128
"""Of a picture's palette: the same to the eye in a third of the bytes."""


def defined(page: str, *wanted: str) -> dict[str, Any]:
    """Run the imports of a page and those of its code blocks that have a wanted text in them."""
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / f"{page}.md").read_text(), re.S | re.M)
    names: dict[str, Any] = {}
    for block in blocks:
        lines = block.splitlines() if any(text in block for text in wanted) else ()
        imports = [line for line in block.splitlines() if re.match(r"(import|from) ", line)]
        exec("\n".join(lines or imports), names)
    return names


def grid() -> None:
    """Draw how a place between nodes is split, and what savers do with 20 years."""
    names = defined("own_problem", "savers = cb.GridModel")
    savers, policy = names["savers"], names["policy"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.2), layout="constrained")
    nodes, place = np.arange(3.0, 8.0), 5.3
    weight = np.maximum(1.0 - np.abs(nodes - place), 0.0)
    left.bar(nodes, weight, 0.12, color=BLUE)
    left.axvline(place, color=ORANGE)
    left.text(place + 0.08, 0.93, f"next state {place}", color=ORANGE)
    for node, share in zip(nodes, weight, strict=True):
        if share > 0.0:
            left.text(node, share + 0.02, f"{share:.1f}", ha="center", color=BLUE)
    left.set(
        xticks=nodes, ylim=(0.0, 1.0), xlabel="assets [kEUR], at the nodes",
        ylabel="probability", title="A place between two nodes",
    )  # fmt: skip
    assets, spending = savers.states["assets"].nodes, savers.actions["spending"].nodes
    mean = (np.asarray(policy)[:, :, 0] * np.asarray(spending)).sum(-1)
    shown = right.pcolormesh(np.arange(1, 21), np.asarray(assets), mean.T, shading="nearest")
    figure.colorbar(shown, label="mean spending [kEUR]")
    right.set(
        xticks=[1, 5, 10, 15, 20], xlabel="year", ylabel="assets [kEUR]",
        title="What savers spend at a wage of 20",
    )  # fmt: skip
    _save(figure, "grid")


def horizon() -> None:
    """Draw how the choice changes as the last month comes near."""
    names = defined("horizons", "def seeker", "takes_course =")
    figure, axes = plt.subplots(figsize=(6.0, 3.2), layout="constrained")
    for temperature, colour in zip((0.2, 0.4, 0.8), (BLUE, ORANGE, GREEN), strict=True):
        mdp = names["seeker"](names["bonus"], 2.0, {"temperature": temperature})
        chance = cb.best_response(mdp).policy.reshape(6, 3, 3)[:, 0, 1]
        axes.plot(names["MONTHS"], chance, "o-", color=colour, label=f"{temperature} kEUR")
    axes.set(ylim=(0.0, 1.0), ylabel="P(course), still searching")
    axes.legend(title="temperature", loc="lower left")
    _save(figure, "horizon")


def crowd() -> None:
    """Draw the traffic that drivers make where they expect so much, with and without a toll."""
    names = defined("equilibria", "def commuter", "def minutes")
    problem, parameters = names["problem"], names["problem"].default_parameters
    figure, axes = plt.subplots(figsize=(5.2, 4.2), layout="constrained")
    total = 0.6 * names["PEAK"] + 0.4 * names["QUIET"]
    expected = np.linspace(0.0, total, 41)
    axes.plot(expected, expected, color=GREY, lw=1.0, label="as many as expected")
    for toll, colour in ((0.0, BLUE), (4.0, ORANGE)):
        made = []
        for bridge in expected:
            given = parameters | {"population": jnp.array([bridge, total - bridge])}
            chance = cb.best_response(problem.mdp_fn({"toll": toll}, 1.0, given)).policy[0, 0]
            made.append(total * float(chance))
        met = cb.equilibrium(problem, {"toll": toll}, parameters).statistic[0]
        axes.plot(expected, made, color=colour, label=f"toll {toll:.0f} euro")
        axes.plot(met, met, "o", color=colour)
    axes.set(xlabel="traffic expected on the bridge", ylabel="traffic that comes")
    figure.legend(loc="outside upper center", ncol=3)
    _save(figure, "crowd")


def drift() -> None:
    """Draw what is believed of each month and of the next, beside the truth and the pooled fit."""
    names = defined("drift", "pilot = cb.concatenate", "moving = cb.infer")
    months, truth = [*names["months"], "next"], names["truth"]
    moving = names["moving"]["posterior"]
    draws = [moving["temperature"].values.reshape(-1, 6), moving["temperature_next"].values.ravel()]
    low, middle, high = np.quantile(np.column_stack(draws), [0.05, 0.5, 0.95], axis=0)
    figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    pooled = np.quantile(names["steady"]["posterior"]["temperature"], [0.05, 0.95])
    axes.axhspan(*pooled, color=GREY, alpha=0.35, lw=0.0, label="all months as one")
    bars = np.stack([middle - low, high - middle])
    for part, colour, name in ((slice(6), BLUE, "each month"), (slice(6, 7), ORANGE, "next month")):
        axes.errorbar(
            np.arange(7)[part], middle[part], bars[:, part], fmt="o", color=colour, capsize=3,
            label=name,
        )  # fmt: skip
    axes.plot(np.arange(7), truth, "kx", label="truth")
    axes.set(xticks=np.arange(7), xticklabels=months, ylim=(0.0, None))
    axes.set_ylabel("temperature [money]")
    axes.legend(title="90 % intervals", loc="upper left")
    _save(figure, "drift")


def _save(figure: plt.Figure, name: str) -> None:
    place = DOCS / "images" / f"{name}.png"
    figure.savefig(place, dpi=110)
    plt.close(figure)
    picture = Image.open(place).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(place, optimize=True)


if __name__ == "__main__":
    grid()
    horizon()
    crowd()
    drift()
