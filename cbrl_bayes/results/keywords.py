"""The keywords that say how long work runs, the same in every function that can take long."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cbrl_bayes.designs import Executor
from cbrl_bayes.designs.running import Running
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.problems import Problem
from cbrl_bayes.progress import Progress, reporter
from cbrl_bayes.results.checkpoint import Checkpoint, Records, open_records
from cbrl_bayes.results.identity import identify


@contextmanager
def running(
    problem: Problem | None,
    *,
    executor: Executor | None = None,
    num_workers: int = 2,
    checkpoint: str | Path | Records | Checkpoint | None = None,
    progress: Progress = None,
    **work: Any,
) -> Iterator[Running]:
    """Yield how work runs, from the keywords of a public function.

    Parameters
    ----------
    problem : Problem or None
        None for work that is of no problem.
    executor : Executor, optional
        Where pieces of work run: `ThreadExecutor`, `DaskExecutor` or `DeviceExecutor`. Default:
        ``num_workers`` threads.
    num_workers : int
        Threads, >= 1.
    checkpoint : str, Path or records, optional
        A folder that receives every finished piece of work. The same call goes on from there.
    progress : bool or callable, optional
        See `cbrl_bayes.progress.reporter`.
    **work
        All that the numbers depend on (question, draws, settings, key): a checkpoint is refused
        where any of it differs.

    Raises
    ------
    InvalidInputError
        For an executor or a number of workers that cannot be used.
    ResultsError
        If the checkpoint belongs to other work (what differs is named) or cannot be written.
    """
    whole = isinstance(num_workers, int | np.integer) and not isinstance(num_workers, bool)
    if not whole or num_workers < 1:
        raise InvalidInputError(
            "num_workers cannot be used", received=repr(num_workers), accepted="1, 2, ..."
        )
    if executor is not None and not (hasattr(executor, "run") and not isinstance(executor, type)):
        raise InvalidInputError(
            "executor cannot be used",
            received=repr(executor),
            accepted="None, ThreadExecutor(...), DaskExecutor(...) or DeviceExecutor(...)",
        )
    with reporter(progress) as report:
        records = open_records(checkpoint, lambda: identify(problem, **work))
        yield Running(executor, num_workers, records, report)
