"""Many independent pieces of work: where they run, what is kept of them, and who hears of it."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cbrl_bayes.designs.executors import Executor, ThreadExecutor
from cbrl_bayes.errors import FollowerError
from cbrl_bayes.progress import Report, silent

Record = Mapping[str, np.ndarray]
"""A finished piece of work as named arrays, so that any store can keep it."""


@dataclass(frozen=True)
class Running:
    """How long work runs. The numbers do not depend on it.

    Parameters
    ----------
    executor : Executor, optional
        Where pieces of work run. Default: ``num_workers`` threads, or one where the work cannot
        leave Python.
    num_workers : int
        Threads, >= 1.
    records : mutable mapping
        Receives every finished piece: (table, number) -> `Record`. What it holds already is not
        done again; the caller sees to it that it belongs to the same work.
    report : callable
        Called with (stage, done, total).

    Examples
    --------
    >>> run = Running(num_workers=1)
    >>> run.each("squares", lambda x: {"value": np.array(x**2)}, lambda index: index, 3)
    >>> run.stacked("squares", 3)["value"].tolist()
    [0, 1, 4]
    """

    executor: Executor | None = None
    num_workers: int = 2
    records: MutableMapping[tuple[str, int], Record] = field(default_factory=dict)
    report: Report = silent

    def each(
        self,
        table: str,
        work: Callable[[Any], Record],
        item: Callable[[int], Any],
        num: int,
        *,
        stage: str = "",
        on_host: bool = False,
    ) -> None:
        """Do ``work(item(number))`` for every number below ``num`` that is not done yet.

        Parameters
        ----------
        table : str
            Where records go.
        work, item : callable
            Items are made as they are needed.
        num : int
        stage : str, optional
            What to report; default: the table's name.
        on_host : bool
            Whether the work cannot leave this Python thread.

        Raises
        ------
        FollowerError
            If an outside follower fails. Its ``records`` hold all that was finished.
        """
        stage = stage or table.replace("_", " ")
        missing = [index for index in range(num) if (table, index) not in self.records]
        done = num - len(missing)
        self.report(stage, done, num)
        executor = self.executor or ThreadExecutor(1 if on_host else self.num_workers)
        with self._handed_over(), closing(executor.run(work, map(item, missing))) as found:
            for position, record in found:
                self.records[table, missing[position]] = record
                done += 1
                self.report(stage, done, num)

    def once(self, table: str, work: Callable[[], Record], *, stage: str = "") -> Record:
        """Return the record of one piece of work, done unless it was done before."""
        if (table, 0) not in self.records:
            self.report(stage or table.replace("_", " "), 0, 1)
            with self._handed_over():
                self.records[table, 0] = work()
        return self.records[table, 0]

    @contextmanager
    def _handed_over(self) -> Iterator[None]:
        """Put what is finished into the error of an outside follower that fails."""
        try:
            yield
        except FollowerError as error:
            error.records = self.records
            raise

    def stacked(self, table: str, num: int) -> dict[str, np.ndarray]:
        """Return the records below ``num`` as arrays with one leading axis, read one at a time."""
        columns: dict[str, np.ndarray] = {}
        for index in range(num):
            record = self.records[table, index]
            if not columns:
                columns = {
                    name: np.empty((num, *np.shape(value)), np.asarray(value).dtype)
                    for name, value in record.items()
                }
            for name, value in record.items():
                columns[name][index] = value
        return columns
