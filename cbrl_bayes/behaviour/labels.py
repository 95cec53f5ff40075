"""Names of states, actions and contexts in a table, and the positions they stand for."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cbrl_bayes.behaviour.values import (
    MOST_NUMBER,
    YES,
    each,
    keyed_by_text,
    listed,
    text_of,
    whole_of,
)
from cbrl_bayes.errors import DataError
from cbrl_bayes.problems import DiscreteContexts, Problem


def positions(
    frame: pd.DataFrame,
    name: str,
    problem: Problem | None,
    mapping: Mapping[Any, Any] | None,
    notes: list[str],
    named: list[tuple[str, ...]] | None = None,
) -> np.ndarray:
    """Read a column of states or actions: numbers, the problem's names, or what a mapping says.

    Parameters
    ----------
    frame : pandas.DataFrame
    name : str
        "state" or "action".
    problem : Problem, optional
        Whose names may stand in the column.
    mapping : mapping, optional
        Text of a cell -> number or name.
    notes : list of str
        Receives what the reader should know.
    named : list of tuples of str, optional
        Lists of names that the positions may have. Default: the problem's.

    Returns
    -------
    array of int
    """
    named = _names(problem, name) if named is None else named
    given = {
        cell: _target(name, target, named) for cell, target in keyed_by_text(mapping or {}).items()
    }
    cells = each(frame, name, lambda value: (_text(value), whole_of(value)))
    words = {text for text, number in cells if text not in given and number is None}
    table = given | _matches(name, words, named, problem, notes)
    _refuse_ambiguous(name, {text for text, _ in cells if text not in given}, named)
    found = [table.get(text or "", number) for text, number in cells]
    bad = [row for row, n in enumerate(found) if n is None or abs(n) > MOST_NUMBER]
    if bad:
        texts = [frame[name].iloc[row] for row in bad]
        if all(_is_blank(frame[name].iloc[row]) for row in bad):
            raise DataError(f"column {name!r} is empty in row {frame.index[bad[0]]}")
        accepted = f"a number from 0 to {MOST_NUMBER:,}{_or_names(named)}"
        remedy = f"labels={{{name!r}: {{{str(texts[0])!r}: 0, ...}}}}"
        if problem is None:
            remedy += ", or give the problem, whose names then count"
        raise DataError(
            f"column {name!r}, row {frame.index[bad[0]]} is not a whole number"
            + (" and no name of the problem" if named else ""),
            received=listed(texts),
            accepted=accepted,
            remedy=remedy,
        )
    return np.array(found, dtype=int)


def renamed(
    column: Sequence[str | None],
    name: str,
    known: Sequence[str],
    mapping: Mapping[Any, Any] | None,
    notes: list[str],
) -> list[str | None]:
    """Apply a mapping to a column of names; spell known names as they are known."""
    given = {cell: text_of(target) for cell, target in keyed_by_text(mapping or {}).items()}
    table: dict[str, str | None] = {**_spelling({t for t in column if t}, known), **given}
    changed = [cell for cell, text in table.items() if cell != text and cell not in given]
    if changed:
        notes.append(
            f"column {name!r}: {listed([f'{cell} read as {table[cell]}' for cell in changed])}"
        )
    return [table.get(text, text) if text else text for text in column]


def context_names(problem: Problem | None) -> tuple[str, ...]:
    """Return the names that a column of contexts may hold; () if any."""
    if problem is None or not isinstance(problem.contexts, DiscreteContexts):
        return ()
    return problem.contexts.names


def _names(problem: Problem | None, name: str) -> list[tuple[str, ...]]:
    """Return the lists of names that states or actions have; labels that are numbers are none."""
    if problem is None:
        return []
    if name == "action":
        names = problem.action_names
        return [names] if names and len(set(names)) == len(names) else []
    return [
        tuple(values)
        for dims, values in problem.state_labels.coords.values()
        if len(dims) == 1
        and all(isinstance(value, str) for value in values)
        and len(set(values)) == len(values)
    ]


def _text(value: Any) -> str | None:
    try:
        return text_of(value)
    except DataError:
        return None


def _is_blank(value: Any) -> bool:
    try:
        return text_of(value) is None
    except DataError:
        return False


def _matches(
    name: str,
    words: set[str | None],
    named: list[tuple[str, ...]],
    problem: Problem | None,
    notes: list[str],
) -> dict[str, int]:
    """Return the position of every word, where the problem's names or yes and no give one."""
    present = {word for word in words if word}
    for names in named:
        spelling = _spelling(present, names)
        if present and len(spelling) == len(present):
            other = [f"{w} read as {s}" for w, s in spelling.items() if w != s]
            if other:
                notes.append(f"column {name!r}: {listed(other)}")
            return {word: names.index(right) for word, right in spelling.items()}
    size = None if problem is None else getattr(problem, f"num_{name}s")
    if present and {word.lower() for word in present} <= set(YES) and size in (None, 2):
        read = {word: YES[word.lower()] for word in sorted(present)}
        notes.append(
            f"column {name!r}: "
            + ", ".join(f"{w} read as {n}{_called(named, n)}" for w, n in read.items())
        )
        return read
    return {}


def _spelling(words: set[str], names: Sequence[str]) -> dict[str, str]:
    """Match words with names: as they are, else the only one that differs in capitals."""
    stripped = {name.strip(): name for name in names}
    found = {word: stripped[word] for word in words if word in stripped}
    folded: dict[str, list[str]] = {}
    for name in names:
        folded.setdefault(name.strip().casefold(), []).append(name)
    for word in words - set(found):
        alike = folded.get(word.casefold(), [])
        if len(alike) == 1:
            found[word] = alike[0]
    return found


def _refuse_ambiguous(name: str, cells: set[str | None], named: list[tuple[str, ...]]) -> None:
    """Refuse cells that are a number and the name of another position."""
    for names in named:
        for position, label in enumerate(names):
            number = whole_of(label)
            if label in cells and number is not None and number != position:
                raise DataError(
                    f"column {name!r}: {label!r} may be number {number} or the name of {position}",
                    accepted=f"numbers from 0, or names that are no numbers; here {listed(names)}",
                    remedy=f"labels={{{name!r}: {{{label!r}: {position}, ...}}}} says which",
                )


def _target(name: str, target: Any, named: list[tuple[str, ...]]) -> int:
    """Return the position that the value of a mapping stands for."""
    for names in named:
        if target in names:
            return names.index(target)
    number = whole_of(target)
    if number is None:
        raise DataError(
            f"labels[{name!r}] leads to something unknown",
            received=repr(target),
            accepted=f"a number from 0{_or_names(named)}",
        )
    return number


def _or_names(named: list[tuple[str, ...]]) -> str:
    return " or one of " + listed(named[0], 12) if named else ""


def _called(named: list[tuple[str, ...]], number: int) -> str:
    return f" ({named[0][number]})" if named and number < len(named[0]) else ""
