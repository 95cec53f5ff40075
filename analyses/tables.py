"""Tables in Markdown put into pages, so that no number is typed by hand; pictures made small."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image


def markdown(rows: list[list[str]]) -> str:
    """Format rows, the first of them the head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def fill(path: Path, parts: dict[str, str]) -> None:
    """Replace ``@NAME@`` or what an earlier run put between the markers."""
    text = path.read_text()
    for name, part in parts.items():
        block = f"<!-- {name} -->\n{part}\n<!-- end {name} -->"
        old = rf"@{name}@|<!-- {name} -->.*?<!-- end {name} -->"
        text, count = re.subn(old, lambda _, b=block: b, text, flags=re.S)
        if count != 1:
            raise SystemExit(f"{path}: {count} places for {name}")
    path.write_text(text)


def interval(values: ArrayLike, prob: float = 0.9) -> list[float]:
    """Return the mean and the ends of the equal-tailed interval of probability ``prob``."""
    draws = np.asarray(values, dtype=float)
    tail = (1.0 - prob) / 2
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return [float(draws.mean()), float(low), float(high)]


def shown(bounds: Sequence[float], digits: int = 2) -> str:
    """Write ``[mean, low, high]`` as ``mean (low to high)``."""
    mean, low, high = bounds
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def shrink(picture: Path) -> None:
    """Write a picture again with 256 colours: the same to the eye in a third of the bytes."""
    Image.open(picture).convert("RGB").quantize(dither=Image.Dither.NONE).save(
        picture, optimize=True
    )
