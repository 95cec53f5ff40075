"""What a page is made of, as plain records; the templates turn them into HTML and escape them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

FEWEST_ALIKE, MOST_NAMED = 3, 3


@dataclass(frozen=True)
class Part:
    """One thing on a page; ``macro`` names the template that writes it."""

    macro: ClassVar[str]


@dataclass(frozen=True)
class Text(Part):
    """A paragraph; ``tone`` is "", "note" or "warning"."""

    macro: ClassVar[str] = "text"
    text: str
    tone: str = ""


@dataclass(frozen=True)
class Code(Part):
    """Text to copy as it stands."""

    macro: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True)
class Table(Part):
    """A table; the first column names the row.

    ``options`` gives the number of the design that a row is about, so that it can be marked.
    """

    macro: ClassVar[str] = "table"
    caption: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    options: tuple[int, ...] = ()

    def condensed(self) -> list[Part]:
        """Say in one line what is the same in every row, and in one row what is zero in several.

        A table of zeros becomes a sentence. Rows that are about a design of the reader's choice
        stay apart.
        """
        columns = list(zip(*self.rows, strict=True))
        several = len(self.rows) > 1
        constant = [at for at in range(1, len(self.head)) if several and len(set(columns[at])) == 1]
        rows = list(self.rows) if self.options else _zeros_together(self.rows)
        if not constant:
            return [replace(self, rows=rows)]
        same = "; ".join(f"{self.head[at]} {columns[at][0]}" for at in constant)
        if len(constant) == len(self.head) - 1:
            return [Text(f"{self.caption}: {same}, in every row ({_listed(columns[0])}).", "note")]
        kept = [at for at in range(len(self.head)) if at not in constant]
        shorter = replace(
            self,
            head=tuple(self.head[at] for at in kept),
            rows=[tuple(row[at] for at in kept) for row in rows],
        )
        return [shorter, Text(f"In every row: {same}.", "note")]

    def without_empty_columns(self) -> "Table":
        """Leave out columns that hold nothing."""
        kept = [at for at in range(len(self.head)) if at == 0 or any(row[at] for row in self.rows)]
        return replace(
            self,
            head=tuple(self.head[at] for at in kept),
            rows=[tuple(row[at] for at in kept) for row in self.rows],
        )

    @property
    def sides(self) -> tuple[str, ...]:
        """Side to which each column is set: words to the left, numbers to the right."""
        if not self.rows:
            return ("left",) * len(self.head)
        return tuple(
            "left" if any(_is_words(cell) for cell in column) or at == 0 else "right"
            for at, column in enumerate(zip(*self.rows, strict=True))
        )


@dataclass(frozen=True)
class Picture(Part):
    """A figure as a ``data:`` address, with words for those who do not see it."""

    macro: ClassVar[str] = "picture"
    source: str
    words: str
    caption: str


@dataclass(frozen=True)
class Mark:
    """One cell or bar: where it lies, how it looks and what it says."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    tip: str


@dataclass(frozen=True)
class GridMap(Part):
    """Cells of a map with the colours' scale beside them; ``array`` names what is mapped."""

    macro: ClassVar[str] = "grid_map"
    caption: str
    array: str
    width: float
    height: float
    marks: list[Mark]
    row_names: list[tuple[float, str]]
    column_names: list[tuple[float, str]]
    scale: list[tuple[float, str]]
    scale_names: tuple[str, str]
    scale_title: str
    letters: list[tuple[float, float, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """One line of an interval chart: positions in the drawing, or None where not finite."""

    name: str
    y: float
    outer: tuple[float, float] | None
    inner: tuple[float, float] | None
    middle: float | None
    colour: str
    tip: str
    diamond: float | None = None
    option: int | None = None


@dataclass(frozen=True)
class Bars(Part):
    """Intervals, one line each, over one axis."""

    macro: ClassVar[str] = "bars"
    caption: str
    height: float
    axis: str
    ticks: list[tuple[float, str]]
    rows: list[Row]


@dataclass(frozen=True)
class Bullets(Part):
    """A list of sentences."""

    macro: ClassVar[str] = "bullets"
    lines: list[str]


@dataclass(frozen=True)
class Folded(Part):
    """Parts below a line that opens them; on paper they are open."""

    macro: ClassVar[str] = "folded"
    summary: str
    parts: list[Part]


@dataclass(frozen=True)
class Choice(Part):
    """Parts of which those of the chosen design are shown."""

    macro: ClassVar[str] = "choice"
    options: list[list[Part]]


@dataclass(frozen=True)
class Section:
    """A heading with its parts.

    ``judged`` sections rest on the computation and carry its verdict; ``names`` are the designs
    to choose from, offered at the top of the section; a ``folded`` one shows its heading until a
    reader opens it.
    """

    anchor: str
    title: str
    parts: list[Part] = field(default_factory=list)
    judged: bool = False
    names: tuple[str, ...] = ()
    folded: bool = False


def _zeros_together(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Put rows of the same zeros, three or more, into the place of their first."""
    zeros: dict[tuple[str, ...], list[str]] = {}
    for name, *cells in rows:
        if cells and all(map(_is_zero, cells)):
            zeros.setdefault(tuple(cells), []).append(name)
    many = {cells: names for cells, names in zeros.items() if len(names) >= FEWEST_ALIKE}
    found = []
    for row in rows:
        names = many.get(row[1:])
        if names is None:
            found.append(row)
        elif row[0] == names[0]:
            found.append((_listed(names), *row[1:]))
    return found


def _is_zero(cell: str) -> bool:
    """Tell whether a cell holds zeros and nothing else: "0", "0 [0, 0]", "0 (s.e. 0)"."""
    return "0" in cell and not set(cell) & set("123456789")


def _listed(names: Sequence[str]) -> str:
    """Name up to three, and count the others."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _is_words(cell: str) -> bool:
    return bool(cell) and cell[0] not in "-0123456789\N{EN DASH}" and cell != "not finite"
