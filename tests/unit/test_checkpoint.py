"""Runs that die and go on: same numbers, nothing lost, nothing done twice, clear errors."""

import errno
import json
import os
import resource
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import jax
import numpy as np
import pytest
import zarr

import cbrl_bayes as cb
from cbrl_bayes.decisions import SimulatedEvaluation, ThreadExecutor, study_designs
from cbrl_bayes.errors import FollowerError, ResultsError
from cbrl_bayes.followers import Episode, OutsideFollower
from cbrl_bayes.hypergradients import BoltzmannCovariance, Exact
from cbrl_bayes.problems import two_state
from cbrl_bayes.results import Checkpoint, identify

NUM_DRAWS = 12
NOISY = cb.Search(ascent=cb.Ascent(num_steps=8, gradient_noise=1.0))  # so that keys matter
SETTINGS = cb.DesignSettings(search=NOISY, per_draw=NOISY, num_workers=2)
IDENTITY = {"study": "0123456789abcdef"}
RECORD = {"trace": np.linspace(0.0, 1.0, 900), "status": np.array(2), "done": np.array(True)}


def _draws(num=NUM_DRAWS):
    return {"temperature": np.linspace(0.1, 0.5, num)}


def _design(checkpoint=None, **settings):
    return cb.design(two_state(), _draws(), key=jax.random.key(5), num_draws=NUM_DRAWS,
                     settings=SETTINGS, checkpoint=checkpoint, **settings)  # fmt: skip


def _assert_same(one, other):
    """Bit for bit, in every group."""
    assert [node.path for node in one.subtree] == [node.path for node in other.subtree]
    for node in one.subtree:
        for name, array in node.data_vars.items():
            np.testing.assert_array_equal(array.values, other[node.path][name].values, str(name))


def _stamps(folder):
    """When each record was written, and where on the disk it lies."""
    found = (path for path in folder.rglob("*.0") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in found}


@contextmanager
def _no_rights(folder):
    """Take away the right to write, which root has whatever the folder's mode is."""
    root = os.geteuid() == 0
    places = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    modes = [place.stat().st_mode for place in places]
    for place in places:
        place.chmod(0o555)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for place, mode in zip(places, modes, strict=True):
            place.chmod(mode)


def test_records_come_back_as_they_were(tmp_path):
    kept = Checkpoint(tmp_path / "run", IDENTITY)
    odd = {"nan": np.full(3, np.nan), "key": np.array([1, 2**32 - 1], np.uint32),
           "minus_zero": np.array([-0.0]), "empty": np.zeros((0, 2))}  # fmt: skip
    kept["draws", 7] = RECORD
    kept["odd", 0] = odd
    again = Checkpoint(tmp_path / "run", IDENTITY)
    assert list(again) == [("draws", 7), ("odd", 0)]
    assert len(again) == 2
    for name, value in odd.items():
        back = again["odd", 0][name]
        assert (back.dtype, back.shape) == (value.dtype, value.shape)
        assert back.tobytes() == value.tobytes()
    with pytest.raises(KeyError):
        again["draws", 3]
    # Readable without this package; rows that are absent are NaN.
    table = zarr.open_group(tmp_path / "run", mode="r")["draws"]
    names = [name for name, _, _ in json.loads(table.attrs["layout"])]
    assert names == list(RECORD)
    assert np.isnan(table[3]).all()
    np.testing.assert_array_equal(table[7][:900], RECORD["trace"])
    with pytest.raises(ResultsError, match="does not fit table"):
        again["draws", 8] = {"trace": np.zeros(2)}
    with pytest.raises(ResultsError, match="cannot be kept as float64"):
        again["large", 0] = {"number": np.array(2**53 + 1)}


def test_a_record_counts_only_when_whole(tmp_path):
    """What a process leaves that dies between the first byte of a record and its new name."""
    kept = Checkpoint(tmp_path, IDENTITY)
    kept["draws", 0] = RECORD
    kept["draws", 1] = RECORD
    row = tmp_path / "draws" / "1.0"
    (tmp_path / "draws" / "1.0a1b2c.partial").write_bytes(row.read_bytes()[:100])
    row.unlink()
    again = Checkpoint(tmp_path, IDENTITY)
    assert list(again) == [("draws", 0)]
    assert ("draws", 1) not in again
    again["draws", 1] = RECORD
    assert len(again) == 2


def test_what_is_not_ours_is_refused_and_left_alone(tmp_path):
    kept = Checkpoint(tmp_path / "run", IDENTITY)
    kept["draws", 0] = RECORD
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    zarr.create_group(tmp_path / "other.zarr", attributes={"schema": "x", "identity": {}})
    before = _stamps(tmp_path)
    for place, words in (
        ("notes", "is not a checkpoint"), ("file", "is not a checkpoint"),
        ("other.zarr", "another version or kind"),
    ):  # fmt: skip
        with pytest.raises(ResultsError, match=words):
            Checkpoint(tmp_path / place, IDENTITY)
    with pytest.raises(ResultsError, match="belongs to another run; received: other study"):
        Checkpoint(tmp_path / "run", {"study": "another"})
    assert (tmp_path / "notes" / "diary.txt").read_text() == "mine"
    assert _stamps(tmp_path) == before
    damaged = tmp_path / "run" / "draws" / "0.0"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.raises(ResultsError, match=r"delete .*0\.0: its work is then done again"):
        Checkpoint(tmp_path / "run", IDENTITY)["draws", 0]


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [1, 10**12]}, {"data_type": "string"}, {"codecs": [{"name": "pickle"}]},
        {"attributes": {"layout": '[["objective", [1], "|O"]]'}}, {"attributes": {}},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 10**12]}}},
    ],
    ids=["wide", "text", "codec", "objects", "no layout", "chunks"],
)  # fmt: skip
def test_a_changed_table_is_refused_before_it_is_read(tmp_path, change):
    kept = Checkpoint(tmp_path, IDENTITY)
    kept["draws", 0] = RECORD
    document = tmp_path / "draws" / "zarr.json"
    document.write_text(json.dumps(json.loads(document.read_text()) | change))
    with pytest.raises(ResultsError, match=r"'draws' in .* is none this package wrote"):
        Checkpoint(tmp_path, IDENTITY)["draws", 0]


def test_a_full_disk_gives_one_error_and_harms_nothing(tmp_path, monkeypatch):
    kept = Checkpoint(tmp_path, IDENTITY)
    kept["draws", 0] = RECORD
    before = _stamps(tmp_path)
    noise = RECORD | {"trace": np.random.default_rng(0).normal(size=900)}  # 7 kB however packed
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # the system's own refusal
    try:
        with pytest.raises(ResultsError, match=r"cannot be written to .*File too large"):
            kept["draws", 1] = noise
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    # A disk without room for a single byte.
    def full(*_args, **_settings):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("zarr.storage._local._put", full)
        with pytest.raises(
            ResultsError, match=r"No space left on device.*what is finished is kept"
        ):
            kept["draws", 1] = noise
        with pytest.raises(ResultsError, match="No space left on device"):
            Checkpoint(tmp_path / "new", IDENTITY)
    again = Checkpoint(tmp_path, IDENTITY)
    assert list(again) == [("draws", 0)]
    assert _stamps(tmp_path) == before
    assert not list(tmp_path.rglob("*.partial"))
    again["draws", 1] = noise  # there is room again
    np.testing.assert_array_equal(again["draws", 1]["trace"], noise["trace"])


def test_a_read_only_folder_gives_one_error_and_harms_nothing():
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        folder.chmod(0o755)
        kept = Checkpoint(folder / "run", IDENTITY)
        kept["draws", 0] = RECORD
        before = _stamps(folder)
        with _no_rights(folder):
            with pytest.raises(ResultsError, match=r"cannot be written to .*Permission denied"):
                Checkpoint(folder / "new", IDENTITY)
            again = Checkpoint(folder / "run", IDENTITY)
            with pytest.raises(ResultsError, match=r"cannot be written to .*Permission denied"):
                again["draws", 1] = RECORD
            assert list(again) == [("draws", 0)]
        assert _stamps(folder) == before


def test_the_identity_tells_studies_apart():
    def train(scale):
        return lambda incentive, context, parameters, seed: scale

    base = {"draws": _draws(), "settings": SETTINGS, "key": jax.random.key(0),
            "follower": train(1.0)}  # fmt: skip
    same = identify(two_state(), **(base | {"draws": _draws(), "follower": train(1.0)}))
    assert identify(two_state(), **base) == same
    longer = cb.Search(ascent=cb.Ascent(num_steps=9, gradient_noise=1.0))
    for name, other in (
        ("draws", _draws(11)),
        ("settings", cb.DesignSettings(search=longer)),
        ("key", jax.random.key(1)),
        ("follower", train(2.0)),
    ):
        found = identify(two_state(), **(base | {name: other}))
        assert [part for part in same if part != "problem" and found[part] != same[part]] == [name]
    found = identify(two_state(costs=(1.0,), context_probability=(1.0,)), **base)
    assert [part for part in same if found[part] != same[part]] == ["problem"]


STUDY_THAT_DIES = """
import sys, time
from pathlib import Path
from tests.unit.test_checkpoint import _design
_design(Path(sys.argv[1]), on_progress=lambda stage, done, total: time.sleep(0.05))
"""


def test_a_study_killed_at_a_random_moment_goes_on(tmp_path):
    folder = tmp_path / "study.zarr"
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", STUDY_THAT_DIES, str(folder)], cwd=root)
    wanted = secrets.randbelow(NUM_DRAWS - 3)  # records of draws, none included
    moment = secrets.randbelow(50) / 1000
    deadline = time.monotonic() + 300
    while len(list(folder.glob("draws/*.0"))) < wanted or not list(folder.glob("plug_in/0.0")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = _stamps(folder)
    assert len(before) < 3 + NUM_DRAWS, f"killed too late: {wanted} draws, {moment} s"
    done = []
    resumed = _design(folder, on_progress=lambda stage, n, total: done.append((stage, n)))
    after = _stamps(folder)
    assert len(after) == 3 + NUM_DRAWS
    assert {path: after[path] for path in before} == before  # nothing was done twice
    here = sum("draws" in path.parts for path in before)
    per_draw = [n for stage, n in done if stage == "designs per draw"]
    assert per_draw == list(range(here, NUM_DRAWS + 1))
    _assert_same(resumed, _design())
    with pytest.raises(ResultsError, match="received: other key"):
        cb.design(two_state(), _draws(), key=jax.random.key(6), num_draws=NUM_DRAWS,
                  settings=SETTINGS, checkpoint=folder)  # fmt: skip


def test_an_interrupt_keeps_what_was_done(tmp_path):
    def impatient(stage, done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _design(tmp_path, on_progress=impatient)
    before = _stamps(tmp_path / "draws")
    assert len(before) == 5
    _assert_same(_design(tmp_path), _design())
    after = _stamps(tmp_path / "draws")
    assert {path: after[path] for path in before} == before


def _outside(calls, fails_at):
    """A trainer for `two_state` that knows the closed form, and fails at some calls.

    Lists that it closes over are no part of what identifies a run.
    """

    def train(incentive, context, parameters, seed):
        calls.append(seed)
        if len(calls) in fails_at:
            raise RuntimeError("no licence")
        chance = 1 / (1 + np.exp(-(float(incentive["bonus"]) - float(context)) / 0.25))

        def play(*, num_rollouts, num_steps, seed):
            works = np.random.default_rng(seed).random(num_rollouts) < chance
            return [Episode([0, 1], [int(w)], reward=[0.0]) for w in works]

        return play

    return train


@pytest.mark.parametrize("on_disk", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_follower_that_fails_costs_one_draw_at_most(tmp_path, on_disk):
    few = cb.Search(ascent=cb.Ascent(num_steps=1))

    def study(calls, fails_at=(), checkpoint=None):
        follower = OutsideFollower(_outside(calls, list(fails_at)))
        settings = cb.DesignSettings(
            search=few, per_draw=few, num_common_draws=1,
            evaluation=SimulatedEvaluation(num_replicates=2, num_rollouts=2, max_steps=1,
                                           oracle=follower),
        )  # fmt: skip
        return cb.design(
            two_state(), _draws(3), key=jax.random.key(1), num_draws=3, settings=settings,
            estimator=BoltzmannCovariance(num_rollouts=2, max_steps=1, oracle=follower),
            checkpoint=checkpoint,
        )  # fmt: skip

    whole: list[int] = []
    truth = study(whole)
    calls: list[int] = []
    place = tmp_path if on_disk else None
    with pytest.raises(FollowerError, match="no licence") as failure:
        study(calls, fails_at=(len(whole) - 1,), checkpoint=place)
    records = failure.value.records
    assert [key for key in records if key[0] == "draws"] == [("draws", 0), ("draws", 1)]
    again: list[int] = []
    found = study(again, checkpoint=place or records)
    _assert_same(found, truth)
    # What is trained again is the draw that failed: its calls are the last of the whole run.
    assert again == whole[-len(again) :]
    assert len(again) < len(whole) / 3


def test_threads_yield_what_ran_before_they_raise():
    def work(item):
        if item == 3:
            raise ValueError("three")
        return item * 10

    for num in (1, 3):
        found = []
        results = ThreadExecutor(num).run(work, iter(range(50)))
        with pytest.raises(ValueError, match="three"):
            found.extend(results)
        assert (2, 20) in found
        assert all(value == 10 * index for index, value in found)
        assert len(found) < 12
    with pytest.raises(cb.CbrlBayesError, match="num_workers is too small"):
        ThreadExecutor(0)


def test_a_study_reads_its_records_as_it_would_its_results():
    """The records of one run, handed to another, are all that it needs."""
    records: dict = {}
    arguments = {"estimator": Exact(), "key": jax.random.key(0), "settings": SETTINGS,
                 "records": records}  # fmt: skip
    one = study_designs(two_state(), _draws(4), **arguments)
    assert len(records) == 3 + 4

    class NoWork:
        def run(self, work, items):
            assert not list(items)
            return iter(())

    other = study_designs(two_state(), _draws(4), executor=NoWork(), **arguments)
    for entry in fields(one):
        jax.tree.map(np.testing.assert_array_equal, getattr(one, entry.name),
                     getattr(other, entry.name))  # fmt: skip


def _behaviour():
    problem = two_state()
    return problem, cb.simulate_trajectories(
        problem, key=jax.random.key(11), num_episodes=60, num_steps=3
    )


def _infer(checkpoint=None, seed=3, episodes=60):
    problem, data = _behaviour()
    settings = cb.NUTSSettings(num_chains=2, num_warmup=60, num_samples=53)
    return cb.infer(problem, data.isel(episode=slice(episodes)), key=jax.random.key(seed),
                    settings=settings, checkpoint=checkpoint)  # fmt: skip


@pytest.mark.slow
def test_a_fit_goes_on_from_its_last_chunk(tmp_path, monkeypatch):
    write, written = Checkpoint.__setitem__, []

    def dies_at_the_second(self, key, record):
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(key)
        write(self, key, record)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "__setitem__", dies_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            _infer(tmp_path / "cut")
    before = _stamps(tmp_path / "cut")
    resumed = _infer(tmp_path / "cut")
    after = _stamps(tmp_path / "cut")
    assert len(after) == 3  # 113 steps in chunks of 38
    assert {path: after[path] for path in before} == before
    _assert_same(resumed, _infer(tmp_path / "whole"))
    # NumPyro's own loop takes the same steps, compiled otherwise: rounding of 1e-12 was seen
    # after 113 steps; draws of another chain would differ by some 0.1.
    plain = _infer()
    for name, array in plain["posterior"].data_vars.items():
        np.testing.assert_allclose(
            resumed["posterior"][name], array, rtol=1e-5, atol=1e-8, err_msg=str(name)
        )
    with pytest.raises(ResultsError, match="received: other data, key"):
        _infer(tmp_path / "cut", seed=4, episodes=50)


FIT_THAT_DIES = """
import sys
from pathlib import Path
from tests.unit.test_checkpoint import _infer
_infer(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_fit_killed_at_a_random_moment_goes_on(tmp_path):
    folder = tmp_path / "fit.zarr"
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", FIT_THAT_DIES, str(folder)], cwd=root)
    wanted = secrets.randbelow(3)
    deadline = time.monotonic() + 600
    while len(list(folder.glob("chunks/*.0"))) < wanted or not folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _assert_same(_infer(folder), _infer(tmp_path / "whole"))
