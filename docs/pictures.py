"""Draw the small pictures of the documentation: `python docs/pictures.py` writes docs/images/.

The README's picture is the last one of the executed tutorial; the gallery's thumbnails are made of
the pictures that the analyses left; the plan of the rooms is drawn here.
"""

import base64
import json
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from PIL import Image, ImageOps

DOCS = Path(__file__).parent
IMAGES = DOCS / "images"
THUMBNAIL = (360, 240)
"""Width and height in pixels."""
COLOURS = 64
"""Of a thumbnail's palette: enough for charts, and a quarter of the bytes."""

GALLERY = {
    "tax_design": "tax_design/rates.png",
    "social_welfare": "tax_design/incidence.png",
    "bus_pricing": "bus_pricing/subsidy.png",
    "rlhf": "rlhf/win_rate.png",
    "contract_design": "contract_design/limit.png",
    "reserve_price": "reserve_price/design.png",
    "four_rooms_doors": "four_rooms_doors/building.png",
    "shared_default_policy": "shared_default_policy/gain.png",
    "four_rooms": "four_rooms/incentive.png",
    "bus_replacement": "bus_replacement/objectives.png",
    "outside_follower": "outside_follower/ascent.png",
    "robustness": "robustness/rooms_stress.png",
}
"""Page or analysis -> the picture that stands for it, in ``analyses``."""

ROOMS = (
    (("errors", "version", "progress", "status", "files"), "what every room may use"),
    (("mdp",), "one decision process: soft solve, derivative, rollouts"),
    (("problems",), "leader, contexts, followers: the record, ready-made ones"),
    (("behaviour", "followers"), "what was seen; who can be watched"),
    (("hypergradients", "inference"), "where to move the incentive; what the data say"),
    (("designs",), "from draws to designs, on bare arrays"),
    (("results",), "the labelled tree: schema, storage, health, tables"),
    (("robust", "information", "sensitivity", "calibration"), "a room per question"),
    (("campaigns",), "the question that is asked in rounds"),
    (("plots",), "pictures"),
    (("reports",), "the page for those who decide"),
    (("workflow", "cli"), "infer and design; the command line"),
)
"""Rows of the plan, lowest first: the rooms and what they are for."""


def story() -> None:
    """Take the last picture of the executed tutorial for the README."""
    cells = json.loads((DOCS / "tutorial.ipynb").read_text())["cells"]
    shown = [out.get("data", {}) for cell in cells for out in cell.get("outputs", [])]
    last = [data["image/png"] for data in shown if "image/png" in data][-1]
    (IMAGES / "story.png").write_bytes(base64.b64decode("".join(last)))


def thumbnails() -> None:
    """Shrink the left part of a picture of each analysis to a card of one size."""
    folder = IMAGES / "thumbnails"
    folder.mkdir(exist_ok=True)
    for name, source in GALLERY.items():
        picture = Image.open(DOCS.parent / "analyses" / source).convert("RGB")
        wanted = picture.height * THUMBNAIL[0] // THUMBNAIL[1]
        part = picture.crop((0, 0, min(wanted, picture.width), picture.height))
        card = ImageOps.pad(part, THUMBNAIL, Image.Resampling.LANCZOS, color="white")
        card.quantize(COLOURS).save(folder / f"{name}.png", optimize=True)


def plan() -> None:
    """Draw the rooms, lowest at the bottom; a room imports from below and never from above."""
    figure, axes = plt.subplots(figsize=(9.0, 6.6), layout="constrained")
    for row, (names, purpose) in enumerate(ROOMS):
        width = 6.0 / len(names)
        for place, name in enumerate(names):
            _box(axes, place * width, row, width - 0.08, name)
        axes.text(6.15, row + 0.36, purpose, va="center", fontsize=9, color="0.25")
    axes.annotate(
        "", xy=(-0.25, 0.1), xytext=(-0.25, len(ROOMS) - 0.3), arrowprops={"arrowstyle": "->"}
    )
    axes.text(-0.4, len(ROOMS) / 2, "imports go down only", rotation=90, va="center", ha="center")
    axes.set(xlim=(-0.6, 10.4), ylim=(-0.1, len(ROOMS)))
    axes.axis("off")
    figure.savefig(IMAGES / "rooms.svg", metadata={"Date": None})
    plt.close(figure)


def _box(axes: Axes, left: float, row: int, width: float, name: str) -> None:
    question = name in {"robust", "information", "sensitivity", "calibration", "campaigns"}
    colour = "#F0E442" if question else "#56B4E9"
    axes.add_patch(plt.Rectangle((left, row), width, 0.72, facecolor=colour, alpha=0.45))
    axes.text(left + width / 2, row + 0.36, name, ha="center", va="center", fontsize=10)


if __name__ == "__main__":
    plt.rcParams |= {"svg.hashsalt": "rooms", "svg.fonttype": "none"}
    story()
    thumbnails()
    plan()
