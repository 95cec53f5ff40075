"""How long work shows that it moves: a bar where a person watches, nothing elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from cbrl_bayes.errors import InvalidInputError

Report = Callable[[str, int, int], None]
"""Takes what is being done, how many steps of it are done, and how many there are."""
Progress = bool | Report | None
"""The keyword ``progress`` of long functions: True, False, a `Report`, or None (see `reporter`)."""


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


@contextmanager
def reporter(progress: Progress = None) -> Iterator[Report]:
    """Yield what long work calls as it goes.

    Parameters
    ----------
    progress : bool or callable, optional
        None: a bar if a person watches (standard error is a terminal, or this is a notebook),
        nothing otherwise. True: a bar. False: nothing. A callable gets (stage, done, total).

    Examples
    --------
    >>> seen = []
    >>> with reporter(lambda stage, done, total: seen.append(f"{stage} {done}/{total}")) as report:
    ...     report("draws", 1, 2)
    >>> seen
    ['draws 1/2']
    """
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise InvalidInputError(
            "progress cannot be used",
            received=repr(progress),
            accepted="None, True, False or a function of (stage, done, total)",
        )
    if callable(progress):
        yield progress
    elif progress or (progress is None and _watched()):
        bar = _line if _in_notebook() and find_spec("ipywidgets") is None else _bar
        with bar() as report:
            yield report
    else:
        yield silent


def _watched() -> bool:
    return sys.stderr.isatty() or _in_notebook()


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    kernel = shell.get_ipython() if shell is not None else None
    return type(kernel).__name__ == "ZMQInteractiveShell"


@contextmanager
def _line() -> Iterator[Report]:
    """Yield a report that rewrites one line, for notebooks that cannot draw a bar."""

    def report(stage: str, done: int, total: int) -> None:
        print(f"\r{stage}: {done} of {total}   ", end="", file=sys.stderr, flush=True)

    yield report
    print(file=sys.stderr)


@contextmanager
def _bar() -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress as Bar,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def report(stage: str, done: int, total: int) -> None:
            bar.update(task, description=stage, completed=done, total=total)

        yield report
