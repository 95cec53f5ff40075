"""Where independent pieces of work run: threads of this process, or processes of a Dask cluster."""

import itertools
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Protocol

import jax

from cbrl_bayes.designs.main_guard import require_main_guard
from cbrl_bayes.errors import CbrlBayesError, InvalidInputError, import_extra, require_ranges

Results = Generator[tuple[int, Any], None, None]
"""(Number of the item, result) as items finish. Close it if you stop early."""

MOST_PROGRAM_SETS = 4
"""Pieces of work whose compiled programs a worker of a cluster keeps at a time."""


class Work:
    """A dataclass whose instances every executor can run: they are called with one item.

    They travel to other processes by their fields, without what they compiled; and they can be
    called under a JAX transformation, so that one compiled program does many items.
    """

    def __reduce__(self) -> tuple:
        """Travel without what was compiled."""
        return type(self), tuple(getattr(self, entry.name) for entry in fields(self))  # type: ignore[arg-type]


class Executor(Protocol):
    """Runs one function on many items."""

    def run(self, work: Callable[[Any], Any], items: Iterable[Any]) -> Results:
        """Yield (number of the item, ``work(item)``) as they finish, in any order.

        Items are taken when they are needed; results are not kept. If an item fails, the items
        that run at that time finish and are yielded; then the error is raised. Closing the
        generator ends threads and processes; callers always close it.
        """


@dataclass(frozen=True)
class ThreadExecutor:
    """Threads of this process.

    Parameters
    ----------
    num_workers : int
        Threads, >= 1. With one, everything runs in the caller's own.

    Examples
    --------
    >>> sorted(ThreadExecutor(2).run(lambda item: item**2, [1, 2, 3]))
    [(0, 1), (1, 4), (2, 9)]
    """

    num_workers: int = 2

    def __post_init__(self) -> None:
        require_ranges(self, "settings of the threads", num_workers=">= 1")

    def run(self, work: Callable[[Any], Any], items: Iterable[Any]) -> Results:
        """Yield (number, result) as they finish; the first alone, so that programs compile once."""
        numbered = enumerate(items)
        ready = getattr(work, "compiled", False)
        alone = None if self.num_workers == 1 else 0 if ready else 1
        for index, item in itertools.islice(numbered, alone):
            yield index, work(item)
        if self.num_workers == 1:
            return
        with ThreadPoolExecutor(self.num_workers) as pool:
            running: dict[Future, int] = {}
            error: BaseException | None = None
            try:
                while True:
                    more = 0 if error else 2 * self.num_workers - len(running)
                    for index, item in itertools.islice(numbered, more):
                        running[pool.submit(work, item)] = index
                    if not running:
                        break
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        index = running.pop(future)
                        if future.cancelled():
                            continue
                        if future.exception() is None:
                            yield index, future.result()
                            continue
                        error = error or future.exception()
                        for waiting in running:  # what has begun is finished, the rest is not
                            waiting.cancel()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        if error is not None:
            raise error


@dataclass(frozen=True)
class DaskExecutor:
    """Processes of a Dask cluster: on this machine, or wherever a scheduler has them.

    The work is sent to the workers by cloudpickle, over the wire and never to a file, since
    problems hold functions of your own; so the package and your own modules must be installed in
    the same versions on all of them. A worker that dies loses nothing: what it had not
    delivered is done again elsewhere. At most two items per thread of the cluster are under way
    at a time, so neither the scheduler nor this process has to hold many.

    A script that uses it needs ``if __name__ == "__main__":`` around its calls, as processes of
    the local cluster import the script anew.

    Parameters
    ----------
    address : str, optional
        Of a scheduler, e.g. "tcp://10.0.0.1:8786". None: a cluster of processes on this machine
        that lives as long as the call.
    num_workers : int
        Processes of the local cluster, one thread each; >= 1.
    memory_limit : str
        Of each process of the local cluster, e.g. "4GiB": a worker that grows beyond 95 % of it is
        ended and begun anew. For other clusters their own limits hold.
    worker_timeout : float
        Seconds, > 0, to wait while the cluster has no worker, at the start and later. Allow
        more if workers wait in the queue of a batch system.

    Raises
    ------
    InvalidInputError
        If Dask is not installed, the scheduler does not answer, a setting is out of range, or a
        script without the guard above would start a local cluster.
    CbrlBayesError
        If the cluster has no worker for ``worker_timeout`` seconds, gives up an item, or its
        scheduler goes away.

    Examples
    --------
    >>> DaskExecutor(num_workers=4, memory_limit="2GiB").address is None
    True
    """

    address: str | None = None
    num_workers: int = 2
    memory_limit: str = "4GiB"
    worker_timeout: float = 300.0

    def __post_init__(self) -> None:
        require_ranges(self, "settings of the cluster", num_workers=">= 1", worker_timeout="> 0")
        if not str(self.memory_limit).strip():
            raise InvalidInputError('memory_limit is empty; accepted: for example "4GiB"')

    def run(self, work: Callable[[Any], Any], items: Iterable[Any]) -> Results:
        """Yield (number, result) as they finish."""
        from_dask = import_extra("distributed", "cluster")
        with self._client(from_dask) as client, _watched(client, self.address):
            token = uuid.uuid4().hex
            # A task and no scattered data: the scheduler can make it again if its worker dies.
            shipped = client.submit(_arrive, _Parcel(work), pure=False)
            finished = from_dask.as_completed(loop=client.loop)
            numbered = enumerate(items)
            running: dict[Any, int] = {}
            error: BaseException | None = None
            while True:
                threads = max(1, _threads(client))
                more = 0 if error else max(0, 2 * threads - len(running))
                for index, item in itertools.islice(numbered, more):
                    future = client.submit(_apply, token, shipped, _Parcel(item), pure=False)
                    running[future] = index
                    finished.add(future)
                if not running:
                    break
                future = self._next(client, finished)
                if future.status in ("error", "cancelled"):
                    del running[future]
                    _require_scheduler(client, self.address)
                    error = error or _cause(future.exception(), from_dask)
                    continue
                try:  # not for ever: it may be lost with its worker, now or on its way
                    result = future.result(timeout=self.worker_timeout) if future.done() else _LOST
                except TimeoutError:
                    result = _LOST
                if result is _LOST:  # the scheduler has it done again
                    finished.add(future)
                else:
                    yield running.pop(future), result
        if error is not None:
            raise error

    def _next(self, client: Any, finished: Any) -> Any:
        """Wait for the next item; give up on a cluster that has no worker for too long."""
        pause, looked = 0.001, time.monotonic()
        alone = 0.0
        while not finished.has_ready():
            time.sleep(pause)
            pause = min(2 * pause, 0.1)
            if time.monotonic() - looked < min(1.0, self.worker_timeout):
                continue
            alone = 0.0 if _threads(client) else alone + time.monotonic() - looked
            looked = time.monotonic()
            if alone >= self.worker_timeout:
                _require_scheduler(client, self.address)
                raise CbrlBayesError(
                    f"the cluster has had no worker for {alone:.0f} s",
                    accepted=f"worker_timeout = {self.worker_timeout:g} s at most",
                    remedy="look at the workers' logs, or allow more time; then run the "
                    "same call again",
                )
        return next(finished)

    @contextmanager
    def _client(self, from_dask: Any) -> Iterator[Any]:
        if self.address is not None:
            try:
                client = from_dask.Client(self.address, set_as_default=False)
            except (OSError, ValueError) as error:
                raise InvalidInputError(
                    f"no Dask scheduler answers ({error})",
                    received=self.address,
                    accepted="an address like tcp://host:8786",
                ) from error
            with client:
                yield client
            return
        with (
            self._local_cluster(from_dask) as cluster,
            from_dask.Client(cluster, set_as_default=False) as client,
        ):
            yield client

    def _local_cluster(self, from_dask: Any) -> Any:
        require_main_guard()
        try:
            return from_dask.LocalCluster(
                n_workers=self.num_workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=self.memory_limit,
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},  # and no fixed port, of which there is one
            )
        except (RuntimeError, OSError) as error:
            raise CbrlBayesError(
                f"the processes of the local cluster did not start ({error})",
                remedy=[
                    'in a script: put the calls under `if __name__ == "__main__":`',
                    "look at what they printed",
                ],
            ) from error


def _threads(client: Any) -> int:
    """Return the number of the workers' threads; none if the scheduler does not answer."""
    if client.status != "running":
        return 0
    try:
        return sum(client.nthreads().values())
    except (OSError, AttributeError):  # the latter where it went away meanwhile
        return 0


@contextmanager
def _watched(client: Any, address: str | None) -> Iterator[None]:
    """Turn whatever fails once the scheduler is gone into the error that says so."""
    try:
        yield
    except CbrlBayesError:
        raise
    except Exception:
        _require_scheduler(client, address)
        raise


def _require_scheduler(client: Any, address: str | None) -> None:
    if client.status != "running":
        raise CbrlBayesError(
            "the Dask scheduler went away",
            received=address,
            remedy="start it again and run the same call: what a checkpoint holds is not done anew",
        )


_LOST = object()


class _Parcel:
    """Wraps what is sent, so that a worker imports this module (and so float64) before it."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def __reduce__(self) -> tuple:
        return _Parcel, (self.content,)


_SEEN: set[str] = set()
_READY: set[str] = set()
_TRACING = threading.Lock()


def _arrive(parcel: _Parcel) -> _Parcel:
    return parcel


def _apply(token: str, work: _Parcel, item: _Parcel) -> Any:
    """Do one item in a worker process; programs compiled for earlier work are dropped there."""
    if token not in _SEEN:
        if len(_SEEN) >= MOST_PROGRAM_SETS:
            _SEEN.clear()
            _READY.clear()
            jax.clear_caches()
        _SEEN.add(token)
    if token not in _READY:  # NumPyro models cannot be traced by two threads at once
        with _TRACING:
            done = work.content(item.content)
        _READY.add(token)
        return done
    return work.content(item.content)


def _cause(error: Any, from_dask: Any) -> BaseException:
    """Return the error to raise: the cluster's in plain words, the work's own unchanged."""
    if isinstance(error, from_dask.KilledWorker):
        return CbrlBayesError(
            f"an item killed every worker that tried it ({error})",
            remedy="more memory for each worker (memory_limit)",
        )
    if not isinstance(error, BaseException):
        return CbrlBayesError(
            "the cluster gave up an item",
            received=error,
            remedy="look at the scheduler's log, then run the same call again",
        )
    return error
