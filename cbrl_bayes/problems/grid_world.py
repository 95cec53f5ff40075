"""Grid worlds: reading a map, and walking on it with a slip."""

import jax.numpy as jnp
import numpy as np

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import SuccessorTransition

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
Cell = tuple[int, int]

FOUR_ROOMS_MAP = """\
xxxxxxxxxxxxx
x     x     x
x     x     x
x           x
x     x     x
x     x     x
xx xxxx     x
x     xxx xxx
x     x     x
x     x     x
x           x
x     x     x
xxxxxxxxxxxxx"""
"""The published map: x is wall, a blank is free; rows are counted from the top."""


def free_cells(map_text: str, needed: tuple[Cell, ...]) -> list[Cell]:
    """Return the free cells of a map, row by row; raise if one that is needed is not free."""
    rows = map_text.strip("\n").split("\n")
    odd = sorted({mark for row in rows for mark in row} - {"x", " "})
    if odd or len({len(row) for row in rows}) != 1:
        raise InvalidInputError(
            "the map cannot be read",
            received=f"marks {odd}, row lengths {sorted({len(row) for row in rows})}",
            accepted="rows of equal length of 'x' (wall) and ' ' (free)",
        )
    cells = [(i, j) for i, row in enumerate(rows) for j, mark in enumerate(row) if mark == " "]
    last_row, last_column = len(rows) - 1, len(rows[0]) - 1
    if any(i in (0, last_row) or j in (0, last_column) for i, j in cells):
        raise InvalidInputError("the map is not walled in", remedy="close its border")
    missing = [cell for cell in needed if cell not in cells]
    if missing:
        raise InvalidInputError(
            "a start, target, goal or door is not a free cell of the map", received=missing
        )
    return cells


def places(cells: list[Cell], dim: str) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """Return rows and columns as coordinates along ``dim``."""
    rows, columns = zip(*cells, strict=True)
    return {"row": ((dim,), rows), "column": ((dim,), columns)}


def marked(
    number: dict[Cell, int], start: Cell, goals: tuple[Cell, ...], target: Cell | None = None
) -> dict[str, tuple[int, ...]]:
    """Return the positions of start, goals and target, for the marks of `Labels`."""
    marks = {"start": (number[start],), "goal": tuple(number[goal] for goal in goals)}
    return marks if target is None else marks | {"target": (number[target],)}


def walk(cells: list[Cell], number: dict[Cell, int], slip: float) -> SuccessorTransition:
    """Build the law of moves: into a wall is to stay; slot k is the move in direction k."""
    step = np.array(
        [
            [number.get((i + di, j + dj), here) for di, dj in MOVES]
            for here, (i, j) in enumerate(cells)
        ]
    )
    successor = np.broadcast_to(step[:, None, :], (len(cells), 4, 4))
    probability = np.where(np.eye(4, dtype=bool), 1.0 - slip, slip / 3.0)
    return SuccessorTransition(
        jnp.asarray(successor, jnp.int32),
        jnp.asarray(np.broadcast_to(probability, successor.shape)),
    )
