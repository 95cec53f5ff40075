"""Studies on a Dask cluster: the same numbers as in one process, whatever happens to workers."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cbrl_bayes as cb
from cbrl_bayes.designs import DaskExecutor, evaluate_designs
from cbrl_bayes.designs.running import Running
from cbrl_bayes.errors import CbrlBayesError, FollowerError, InvalidInputError
from cbrl_bayes.problems import two_state
from tests.unit.results.test_checkpoint import (
    NUM_DRAWS,
    Held,
    _assert_same,
    _design,
    _stamps,
    _whole_design,
)

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster():
    """Two processes, each with a thread."""
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        memory_limit="4GiB",
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
    ) as started:
        yield started


@pytest.fixture(scope="module")
def executor(cluster):
    return DaskExecutor(address=cluster.scheduler_address)


@pytest.fixture(scope="module")
def in_one_process():
    return _whole_design()


@pytest.mark.slow
def test_a_study_is_the_same_as_in_one_process(executor, in_one_process):
    _assert_same(_design(executor=executor), in_one_process)


class KillsAWorker:
    """Ends, by signal 9, a worker that holds finished results which nobody has fetched yet."""

    def __init__(self, executor, cluster):
        self.executor, self.cluster, self.lost = executor, cluster, []

    def run(self, work, items):
        for number, result in enumerate(self.executor.run(work, items)):
            if number == 2:
                self._kill()
            yield result

    def _kill(self):
        deadline = time.monotonic() + 60
        with distributed.Client(self.cluster, set_as_default=False) as client:
            while any(map(_items, client.processing().values())):  # all under way gets finished
                assert time.monotonic() < deadline
                time.sleep(0.01)
            held = {address: _items(keys) for address, keys in client.has_what().items()}
            address = max(held, key=lambda one: len(held[one]))
            nannies = self.cluster.workers.values()
            (nanny,) = (nanny for nanny in nannies if nanny.worker_address == address)
            os.kill(nanny.process.pid, signal.SIGKILL)
            while address in client.nthreads():
                assert time.monotonic() < deadline
                time.sleep(0.01)
        time.sleep(0.1)  # the news reaches the other client too
        self.lost = held[address]


def _items(keys):
    return [key for key in keys if str(key).startswith("_apply")]


def test_results_that_die_with_their_worker_are_made_again(executor, cluster):
    def work(item):
        time.sleep(0.3)  # so that what was lost is still lost when its turn comes
        return item**2

    unlucky = KillsAWorker(executor, cluster)
    found = dict(unlucky.run(work, range(6)))
    assert unlucky.lost
    assert found == {item: item**2 for item in range(6)}


def test_a_worker_that_dies_loses_nothing(executor, cluster, in_one_process, tmp_path):
    """With a checkpoint too: no record is written twice."""
    unlucky = KillsAWorker(executor, cluster)
    writes = []

    def count(stage, done, total):
        if stage == "designs per draw":
            writes.append(done)

    found = _design(tmp_path / "run", executor=unlucky, progress=count)
    assert unlucky.lost
    _assert_same(found, in_one_process)
    assert writes == list(range(NUM_DRAWS + 1))
    stamps = _stamps(tmp_path / "run")
    _assert_same(_design(tmp_path / "run"), in_one_process)  # goes on without a cluster
    assert _stamps(tmp_path / "run") == stamps


def _cell(temperature):
    """An independent study, and the type of numbers where it ran."""
    small = cb.Search(ascent=cb.Ascent(num_steps=5))
    study = cb.design(
        two_state(),
        {"temperature": np.array([temperature])},
        key=jax.random.key(0),
        num_draws=1,
        settings=cb.DesignSettings(search=small, per_draw=small),
        num_workers=1,
    )
    return float(study["design"]["leader_objective"].item()), str(jnp.zeros(()).dtype)


@pytest.mark.slow
def test_cells_run_as_whole_studies_with_float64(executor):
    cells = [0.1, 0.2, 0.4]
    found = dict(executor.run(_cell, cells))
    assert found == dict(enumerate(map(_cell, cells)))
    table = jnp.array([1.0, 1.0 + 1e-12])  # a closure over an array reaches the worker whole
    ((_, spread),) = executor.run(lambda item: float(table[1] - table[0]) * item, [1.0])
    assert spread == float(table[1] - table[0]) > 0


def test_errors_of_the_work_come_back_as_they_are(executor):
    def work(item):
        if item == 1:
            error = FollowerError("no licence")
            error.partial = np.arange(3)
            raise error
        time.sleep(0.1)  # the others are still at work when the error arrives
        return item

    found = []
    results = executor.run(work, range(100))
    with pytest.raises(FollowerError, match="no licence") as failure:
        found.extend(results)
    np.testing.assert_array_equal(failure.value.partial, np.arange(3))
    assert (0, 0) in found
    assert len(found) < 20


@pytest.mark.slow
def test_work_that_ends_every_worker_is_given_up(cluster):
    executor = DaskExecutor(address=cluster.scheduler_address)
    results = executor.run(lambda item: os.kill(os.getpid(), signal.SIGKILL), [0])
    with pytest.raises(CbrlBayesError, match="ended every worker that tried it"):
        list(results)


@pytest.mark.slow
def test_a_local_cluster_lives_as_long_as_the_call(in_one_process):
    _assert_same(_design(executor=DaskExecutor(num_workers=2)), in_one_process)


@pytest.mark.slow
def test_a_local_cluster_ends_when_the_caller_fails():
    psutil = pytest.importorskip("psutil")
    before, started = set(psutil.Process().children(recursive=True)), set()

    def impatient(stage, done, total):
        started.update(set(psutil.Process().children(recursive=True)) - before)
        raise KeyboardInterrupt

    draws = {"temperature": np.full(9, 0.3)}
    held = Held(DaskExecutor(num_workers=2))
    with pytest.raises(KeyboardInterrupt):
        evaluate_designs(
            two_state(),
            np.zeros((1, 1)),
            draws,
            key=jax.random.key(0),
            run=Running(held, report=impatient),
        )
    assert len(started) >= 2
    workers = [p for p in started if p.is_running() and "resource_tracker" not in str(p.cmdline())]
    assert not workers


def test_a_cluster_without_workers_is_given_up():
    """At the start, and when the last worker has gone."""
    with distributed.LocalCluster(
        n_workers=0,
        threads_per_worker=1,
        processes=False,
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
    ) as empty:
        impatient = DaskExecutor(address=empty.scheduler_address, worker_timeout=0.2)
        with pytest.raises(CbrlBayesError, match="the cluster has had no worker for"):
            list(impatient.run(abs, [1]))
        empty.scale(1)
        patient = DaskExecutor(address=empty.scheduler_address, worker_timeout=2.0)
        with closing(patient.run(abs, itertools.count())) as results:
            assert next(results)[0] < 2
            empty.scale(0)
            with pytest.raises(CbrlBayesError, match="the cluster has had no worker for"):
                list(results)


def _dask(part, *options):
    """Start a scheduler or a worker in a process of its own."""
    command = [sys.executable, "-m", f"distributed.cli.dask_{part}", "--no-dashboard", *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture
def scheduler(tmp_path):
    """The process of a scheduler and its address; a worker in another process."""
    file = str(tmp_path / "scheduler.json")
    of_both = ("--host", "127.0.0.1", "--scheduler-file", file)
    alone = ("--nworkers", "1", "--nthreads", "1", "--no-nanny")
    both = process, _ = (
        _dask("scheduler", *of_both, "--port", "0"),
        _dask("worker", *of_both, *alone),
    )
    try:
        deadline = time.monotonic() + 60
        while not Path(file).exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process, json.loads(Path(file).read_text())["address"]
    finally:
        for one in both:
            one.kill()
            one.wait()


class KillsTheScheduler:
    """Ends the scheduler's process, by signal 9, once some results have been taken."""

    def __init__(self, executor, process):
        self.executor, self.process = executor, process

    def run(self, work, items):
        for number, result in enumerate(self.executor.run(work, items)):
            yield result
            if number == 2:
                self.process.kill()
                self.process.wait()
                self.killed = time.monotonic()


@pytest.mark.slow
def test_a_scheduler_that_dies_ends_the_study_and_not_its_checkpoint(
    scheduler, in_one_process, tmp_path
):
    process, address = scheduler
    dying = KillsTheScheduler(DaskExecutor(address=address), process)
    with pytest.raises(CbrlBayesError, match="the Dask scheduler went away") as failure:
        _design(tmp_path / "run", executor=dying)
    assert "run the same call" in str(failure.value)
    assert time.monotonic() - dying.killed < 60.0
    stamps = _stamps(tmp_path / "run")
    assert stamps
    again = _design(tmp_path / "run")  # goes on without a cluster
    _assert_same(again, in_one_process)
    assert stamps.items() <= _stamps(tmp_path / "run").items()


def test_settings_are_checked(monkeypatch):
    with pytest.raises(InvalidInputError, match="settings of the cluster"):
        DaskExecutor(num_workers=0)
    with pytest.raises(InvalidInputError, match="settings of the cluster"):
        DaskExecutor(worker_timeout=0.0)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InvalidInputError, match=r"pip install 'cbrl-bayes\[cluster\]'"):
        list(DaskExecutor().run(abs, [1]))


def test_a_scheduler_that_is_not_there_is_named():
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "300ms"}),
        pytest.raises(InvalidInputError, match="no Dask scheduler answers"),
    ):
        list(DaskExecutor(address="tcp://127.0.0.1:9").run(abs, [1]))
    with pytest.raises(InvalidInputError, match="no Dask scheduler answers"):
        list(DaskExecutor(address="nonsense://x").run(abs, [1]))
