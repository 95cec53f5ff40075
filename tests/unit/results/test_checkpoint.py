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
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from pathlib import Path

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
import zarr

import cbrl_bayes as cb
from cbrl_bayes.designs import SimulatedEvaluation, ThreadExecutor, evaluate_designs, study_designs
from cbrl_bayes.designs.running import Running
from cbrl_bayes.errors import FollowerError, ResultsError
from cbrl_bayes.followers import Episode, OutsideFollower
from cbrl_bayes.hypergradients import BoltzmannCovariance, Exact
from cbrl_bayes.inference import Pooled, prior_text
from cbrl_bayes.problems import two_state
from cbrl_bayes.results import Checkpoint, identify
from cbrl_bayes.results.checkpoint import MARK

NUM_DRAWS = 12
NOISY = cb.Search(ascent=cb.Ascent(num_steps=8, gradient_noise=1.0))  # so that keys matter
SETTINGS = cb.DesignSettings(search=NOISY, per_draw=NOISY)
IDENTITY = {"study": "0123456789abcdef"}
RECORD = {"trace": np.linspace(0.0, 1.0, 900), "status": np.array(2), "done": np.array(True)}


def _draws(num=NUM_DRAWS):
    return {"temperature": np.linspace(0.1, 0.5, num)}


def _design(checkpoint=None, **settings):
    return cb.design(
        two_state(),
        _draws(),
        key=jax.random.key(5),
        num_draws=NUM_DRAWS,
        settings=SETTINGS,
        checkpoint=checkpoint,
        **settings,
    )


@cache
def _whole_design():
    """The study that ran in one go, to compare with; made once."""
    return _design()


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
    odd = {
        "nan": np.full(3, np.nan),
        "key": np.array([1, 2**32 - 1], np.uint32),
        "minus_zero": np.array([-0.0]),
        "empty": np.zeros((0, 2)),
    }
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
    assert names == sorted(RECORD)
    assert np.isnan(table[3]).all()
    np.testing.assert_array_equal(table[7][MARK + 2 :], RECORD["trace"])
    again["draws", 2] = dict(reversed(RECORD.items()))  # the order of names is no part of a record
    assert again["draws", 2]["status"] == 2
    del again["draws", 2]
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


def test_a_kill_at_the_very_first_write_does_not_bar_the_folder(tmp_path):
    """All it leaves is a file under its temporary name."""
    (tmp_path / "zarr.0a1b2c.partial").write_bytes(b'{"zarr')
    Checkpoint(tmp_path, IDENTITY)["draws", 0] = RECORD
    assert list(Checkpoint(tmp_path, IDENTITY)) == [("draws", 0)]


def test_two_writers_lose_nothing(tmp_path):
    """Each knows its own length of the table; neither makes it shorter for the other."""
    one, other = (Checkpoint(tmp_path, IDENTITY) for _ in range(2))
    one["draws", 0] = RECORD
    assert len(other) == 1
    other["draws", 0]  # from here on it takes the table to have one row
    one["draws", 9] = RECORD
    other["draws", 5] = RECORD
    for place in (one, other, Checkpoint(tmp_path, IDENTITY)):
        assert list(place) == [("draws", 0), ("draws", 5), ("draws", 9)]
        for key in place:
            np.testing.assert_array_equal(place[key]["trace"], RECORD["trace"])
    assert zarr.open_group(tmp_path, mode="r")["draws"].shape[0] == 16
    # Both may lengthen it at the same moment, and the shorter length be what remains.
    document = tmp_path / "draws" / "zarr.json"
    width = MARK + int(one["draws", 0]["trace"].size) + 2
    document.write_text(json.dumps(json.loads(document.read_text()) | {"shape": [6, width]}))
    again = Checkpoint(tmp_path, IDENTITY)
    np.testing.assert_array_equal(again["draws", 9]["trace"], RECORD["trace"])
    assert zarr.open_group(tmp_path, mode="r")["draws"].shape[0] == 16


def test_what_is_not_ours_is_refused_and_left_alone(tmp_path):
    kept = Checkpoint(tmp_path / "run", IDENTITY)
    kept["draws", 0] = RECORD
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    zarr.create_group(tmp_path / "other.zarr", attributes={"schema": "x", "identity": {}})
    before = _stamps(tmp_path)
    for place, words in (
        ("notes", "is not a checkpoint"),
        ("file", "is not a checkpoint"),
        ("other.zarr", "written by another version of this package"),
    ):
        with pytest.raises(ResultsError, match=words):
            Checkpoint(tmp_path / place, IDENTITY)
    with pytest.raises(ResultsError, match="belongs to a different run; received: different study"):
        Checkpoint(tmp_path / "run", {"study": "another"})
    assert (tmp_path / "notes" / "diary.txt").read_text() == "mine"
    assert _stamps(tmp_path) == before
    damaged = tmp_path / "run" / "draws" / "0.0"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.raises(ResultsError, match=r"delete .*0\.0: its work is then done again"):
        Checkpoint(tmp_path / "run", IDENTITY)["draws", 0]


def test_a_record_knows_which_it_is(tmp_path):
    """Files exchanged within a run, between tables or between runs are refused; the rest stays."""
    kept, other = (Checkpoint(tmp_path / name, {"study": name}) for name in ("one", "other"))
    for index in range(3):
        kept["draws", index] = {"worth": np.array(float(index))}
        kept["scores", index] = {"worth": np.array(float(index))}
        other["draws", index] = {"worth": np.array(float(index))}
    draws = tmp_path / "one" / "draws"
    rows = {name: (draws / name).read_bytes() for name in ("0.0", "1.0")}
    foreign = {
        "another draw": rows["0.0"],
        "another table": (tmp_path / "one" / "scores" / "1.0").read_bytes(),
        "another study": (tmp_path / "other" / "draws" / "1.0").read_bytes(),
    }
    for what, row in foreign.items():
        (draws / "1.0").write_bytes(row)
        again = Checkpoint(tmp_path / "one", {"study": "one"})
        with pytest.raises(ResultsError, match=r"record 1 of 'draws' .* not the one .*1\.0: its"):
            again["draws", 1]
        assert float(again["draws", 2]["worth"]) == 2.0, what
    (draws / "1.0").write_bytes(rows["1.0"])
    assert float(Checkpoint(tmp_path / "one", {"study": "one"})["draws", 1]["worth"]) == 1.0
    document = draws / "zarr.json"  # a row of another layout: the same numbers by other names
    document.write_text(document.read_text().replace("worth", "price"))
    with pytest.raises(ResultsError, match="not the one that this run wrote"):
        Checkpoint(tmp_path / "one", {"study": "one"})["draws", 1]


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [1, 10**12]},
        {"data_type": "string"},
        {"codecs": [{"name": "pickle"}]},
        {"attributes": {"layout": '[["objective", [1], "|O"]]'}},
        {"attributes": {}},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 10**12]}}},
    ],
    ids=["wide", "text", "codec", "objects", "no layout", "chunks"],
)
def test_a_changed_table_is_refused_before_it_is_read(tmp_path, change):
    kept = Checkpoint(tmp_path, IDENTITY)
    kept["draws", 0] = RECORD
    document = tmp_path / "draws" / "zarr.json"
    document.write_text(json.dumps(json.loads(document.read_text()) | change))
    with pytest.raises(ResultsError, match=r"'draws' in .* was not written by this package"):
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

    base = {
        "draws": _draws(),
        "settings": SETTINGS,
        "key": jax.random.key(0),
        "follower": train(1.0),
    }
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


def _keyword_only(scale):
    def train(incentive, *, strength=scale):
        return strength

    return train


AFFINE = dist.transforms.AffineTransform
PAIRS = {
    "keyword-only default": (_keyword_only(1.0), _keyword_only(2.0)),
    "truncated": tuple(dist.TruncatedNormal(loc, 1.0, low=0.01) for loc in (0.0, 1.0)),
    "truncated on both sides": tuple(
        dist.TruncatedNormal(0.0, scale, low=0.0, high=2.0) for scale in (1.0, 2.0)
    ),
    "expanded": tuple(dist.Normal(loc, 1.0).expand([2]) for loc in (0.0, 1.0)),
    "expanded to": tuple(dist.Normal(0.0, 1.0).expand([size]) for size in (2, 3)),
    "event": tuple(dist.Normal(np.full(2, loc), 1.0).to_event(1) for loc in (0.0, 1.0)),
    "masked": tuple(dist.Normal(0.0, 1.0).mask(mask) for mask in (True, False)),
    "base": tuple(
        dist.TransformedDistribution(dist.Normal(0.0, scale), AFFINE(0.0, 2.0))
        for scale in (1.0, 2.0)
    ),
    "transform": tuple(
        dist.TransformedDistribution(dist.Normal(0.0, 1.0), AFFINE(0.0, scale))
        for scale in (1.0, 2.0)
    ),
    "inverse": tuple(
        dist.TransformedDistribution(dist.Normal(0.0, 1.0), AFFINE(0.0, scale).inv)
        for scale in (1.0, 2.0)
    ),
    "mixture": tuple(
        dist.MixtureSameFamily(
            dist.Categorical(np.array([0.5, 0.5])), dist.Normal(np.array([0.0, loc]), 1.0)
        )
        for loc in (1.0, 2.0)
    ),
}


@pytest.mark.parametrize(("one", "other"), PAIRS.values(), ids=PAIRS)
def test_the_identity_tells_wrapped_distributions_apart(one, other):
    """Pairs that agree in their ``arg_constraints``, or in all but a keyword's default."""
    problem = two_state()
    first = identify(problem, part=one)
    assert identify(problem, part=other)["part"] != first["part"]
    if isinstance(one, dist.Distribution):
        one.log_prob(one.sample(jax.random.key(0)))  # what it computes and keeps does not count
        assert identify(problem, part=one) == first
        assert prior_text(Pooled(one)) != prior_text(Pooled(other))


def test_what_a_distribution_keeps_is_no_part_of_it():
    prior = dist.MultivariateNormal(np.zeros(2), covariance_matrix=np.eye(2))
    first = identify(two_state(), part=prior)
    before = dict(vars(prior))
    assert prior.precision_matrix.shape == (2, 2)
    assert set(vars(prior)) > set(before)
    assert identify(two_state(), part=prior) == first
    transform = AFFINE(0.0, 2.0)
    first = identify(two_state(), part=transform)
    inverse = transform.inv
    assert identify(two_state(), part=transform) == first
    assert inverse.inv is transform


def test_the_stored_prior_tells_all_that_it_was_made_with():
    assert prior_text(Pooled(dist.LogNormal(0.0, 1.0))) == "Pooled(LogNormal(loc=0.0, scale=1.0))"
    truncated = "LeftTruncatedDistribution(base_dist=Normal(loc=1.0, scale=2.0), low=0.01)"
    assert prior_text(Pooled(dist.TruncatedNormal(1.0, 2.0, low=0.01))) == f"Pooled({truncated})"


class _WholeChains:
    """Runs items one after another, as a cluster would: chains are not cut into blocks."""

    def run(self, work, items):
        yield from enumerate(map(work, items))


def test_where_chains_run_does_not_change_the_draws(tmp_path):
    one = _infer(tmp_path / "run", num_workers=1)
    _assert_same(one, _infer(num_workers=3))
    # It may go on with another executor.
    _assert_same(one, _infer(tmp_path / "run", executor=ThreadExecutor(1)))
    # Whole chains are run anew, into a table of their own, and compiled otherwise: rounding, which
    # 60 steps carry on a little.
    whole = _infer(tmp_path / "run", executor=_WholeChains())
    assert len(list((tmp_path / "run").glob("chunks_of_*"))) == 2
    assert whole["posterior"].sizes == one["posterior"].sizes
    for name, draws in one["posterior"].data_vars.items():
        np.testing.assert_allclose(draws, whole["posterior"][name], rtol=1e-6)


def _pool_threads():
    """Count the threads of pools; zarr has others of its own."""
    return sum(thread.name.startswith("ThreadPoolExecutor") for thread in threading.enumerate())


class Held:
    """Keeps hold of the generator of results, so that it ends only if it is closed."""

    def __init__(self, executor):
        self.executor = executor

    def run(self, work, items):
        self.results = self.executor.run(work, items)
        return self.results


def test_threads_end_when_the_caller_fails():
    held = Held(ThreadExecutor(2))
    before = _pool_threads()
    draws, points = {"temperature": np.full(40, 0.3)}, np.zeros((1, 1))

    def impatient(stage, done, total):
        if done == 5:
            assert _pool_threads() > before
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_designs(
            two_state(), points, draws, key=jax.random.key(0), run=Running(held, report=impatient)
        )
    assert _pool_threads() == before


STUDY_THAT_DIES = """
import sys, time
from pathlib import Path
from tests.unit.results.test_checkpoint import _design
_design(Path(sys.argv[1]), progress=lambda stage, done, total: time.sleep(0.05))
"""


def test_a_study_killed_at_a_random_moment_goes_on(tmp_path):
    folder = tmp_path / "study.zarr"
    root = Path(__file__).parents[3]
    process = subprocess.Popen([sys.executable, "-c", STUDY_THAT_DIES, str(folder)], cwd=root)
    wanted = secrets.randbelow(NUM_DRAWS - 3)  # records of draws, none included
    moment = secrets.randbelow(50) / 1000
    deadline = time.monotonic() + 300
    while len(list(folder.glob("draws/*.0"))) < wanted or not list(folder.glob("common/0.0")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = _stamps(folder)
    here = sum("draws" in path.parts for path in before)
    assert here < NUM_DRAWS, f"killed too late: {wanted} draws, {moment} s"
    done = []
    resumed = _design(folder, progress=lambda stage, n, total: done.append((stage, n)))
    after = _stamps(folder)
    assert sum("draws" in path.parts for path in after) == NUM_DRAWS
    assert {path: after[path] for path in before} == before  # nothing was done twice
    per_draw = [n for stage, n in done if stage == "designs per draw"]
    assert per_draw == list(range(here, NUM_DRAWS + 1))
    _assert_same(resumed, _whole_design())
    with pytest.raises(ResultsError, match="belongs to a different run; received: different key"):
        cb.design(
            two_state(),
            _draws(),
            key=jax.random.key(6),
            num_draws=NUM_DRAWS,
            settings=SETTINGS,
            checkpoint=folder,
        )


def test_an_interrupt_keeps_what_was_done(tmp_path):
    def impatient(stage, done, total):
        if stage == "designs per draw" and done == 5:
            raise KeyboardInterrupt

    threads, held = _pool_threads(), Held(ThreadExecutor(2))
    with pytest.raises(KeyboardInterrupt):
        _design(tmp_path, executor=held, progress=impatient)
    assert _pool_threads() == threads
    before = _stamps(tmp_path / "draws")
    assert len(before) == 5
    _assert_same(_design(tmp_path), _whole_design())
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
@pytest.mark.slow
def test_a_follower_that_fails_costs_one_draw_at_most(tmp_path, on_disk):
    few = cb.Search(ascent=cb.Ascent(num_steps=1))

    def study(calls, fails_at=(), checkpoint=None):
        follower = OutsideFollower(_outside(calls, list(fails_at)))
        settings = cb.DesignSettings(
            search=few,
            per_draw=few,
            num_search_draws=1,
            evaluation=SimulatedEvaluation(
                num_replicates=2, num_rollouts=2, max_steps=1, oracle=follower
            ),
        )
        return cb.design(
            two_state(),
            _draws(3),
            key=jax.random.key(1),
            num_draws=3,
            settings=settings,
            estimator=BoltzmannCovariance(num_rollouts=2, max_steps=1, oracle=follower),
            checkpoint=checkpoint,
        )

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
    with pytest.raises(cb.CbrlBayesError, match="accepted: num_workers >= 1"):
        ThreadExecutor(0)


def test_a_study_reads_its_records_as_it_would_its_results():
    """The records of one run, handed to another, are all that it needs."""
    records: dict = {}
    arguments = {"estimator": Exact(), "key": jax.random.key(0), "settings": SETTINGS}
    one = study_designs(two_state(), _draws(4), run=Running(records=records), **arguments)
    searches = {"plug_in_search": 1, "common": 1, "draws": 4, "plug_in": 1}
    tables = Counter(table for table, _ in records)
    assert {table: tables[table] for table in searches} == searches
    assert tables["scores"] == 4

    class NoWork:
        def run(self, work, items):
            assert not list(items)
            yield from ()

    run = Running(NoWork(), records=records)
    other = study_designs(two_state(), _draws(4), run=run, **arguments)
    for entry in fields(one):
        jax.tree.map(
            np.testing.assert_array_equal, getattr(one, entry.name), getattr(other, entry.name)
        )


def _behaviour():
    problem = two_state()
    return problem, cb.simulate_trajectories(
        problem, key=jax.random.key(11), num_episodes=60, num_steps=3
    )


def _infer(checkpoint=None, seed=3, episodes=60, **how):
    problem, data = _behaviour()
    settings = cb.NUTSSettings(num_chains=2, num_warmup=60, num_samples=53)
    return cb.infer(
        problem,
        data.isel(episode=slice(episodes)),
        key=jax.random.key(seed),
        settings=settings,
        checkpoint=checkpoint,
        **how,
    )


@pytest.mark.slow
def test_a_fit_goes_on_from_its_last_block(tmp_path, monkeypatch):
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
    assert len(after) == 3  # 113 steps in blocks of 38
    assert {path: after[path] for path in before} == before
    _assert_same(resumed, _infer())
    with pytest.raises(ResultsError, match="received: different data, key"):
        _infer(tmp_path / "cut", seed=4, episodes=50)
    monkeypatch.setattr("cbrl_bayes.workflow.device_kind", lambda: "another")
    with pytest.raises(ResultsError, match="received: different device"):
        _infer(tmp_path / "cut")


FIT_THAT_DIES = """
import sys
from pathlib import Path
from tests.unit.results.test_checkpoint import _infer
_infer(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_fit_killed_at_a_random_moment_goes_on(tmp_path):
    folder = tmp_path / "fit.zarr"
    root = Path(__file__).parents[3]
    process = subprocess.Popen([sys.executable, "-c", FIT_THAT_DIES, str(folder)], cwd=root)
    wanted = secrets.randbelow(3)
    deadline = time.monotonic() + 600
    while len(list(folder.glob("chunks/*.0"))) < wanted or not folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _assert_same(_infer(folder), _infer())
