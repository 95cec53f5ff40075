"""Files from strangers end in success or in one of this package's errors, soon and in bounds.

Damaged files are read by worker processes, so that a crash or a hang of a reading library is
seen as such. What is counted: "read", "refused" (an error of this package), and three outcomes
that fail the test: "foreign" (any other error), "crash" and "hang".
"""

import json
import os
import pickle
import random
import select
import shutil
import subprocess
import sys
import time
import warnings
import zlib
from collections import Counter
from dataclasses import dataclass, field

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.extra import numpy as stn

import cbrl_bayes as cb
from cbrl_bayes.behaviour import load_comparisons, make_household_shares
from cbrl_bayes.errors import CbrlBayesError, DataError, InvalidInputError, ResultsError
from cbrl_bayes.files import FileLimits

WORKER = """
import resource, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from cbrl_bayes.behaviour import load_comparisons, load_trajectories
from cbrl_bayes.errors import CbrlBayesError
from cbrl_bayes.files import FileLimits
from cbrl_bayes.results import load
limits = FileLimits(most_bytes=2**26, most_seconds=float(sys.argv[1]))
loaders = {"results": load, "data": load_trajectories, "comparisons": load_comparisons}
print("ready", flush=True)
for line in sys.stdin:
    kind, path = line.rstrip("\\n").split("\\t")
    try:
        loaders[kind](Path(path), limits=limits)
        said = "read"
    except CbrlBayesError:
        said = "refused"
    except BaseException as error:
        said = f"foreign {type(error).__name__}: {error}"[:200].replace("\\n", " ")
    print(said, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, sep="\\t", flush=True)
"""
MOST_GROWTH_MB = 150
"""A reader that keeps every file would grow by more: thousands of trees of some 50 KB."""


@dataclass
class Pool:
    """One worker process that is started again when it dies or blocks."""

    seconds: float = 3.0
    counts: Counter = field(default_factory=Counter)
    odd: list = field(default_factory=list)
    memory: list = field(default_factory=list)
    slowest: float = 0.0

    def __enter__(self):
        self._start()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def read(self, kind, path):
        begun = time.perf_counter()
        self.process.stdin.write(f"{kind}\t{path}\n")
        answered, _, _ = select.select([self.process.stdout], [], [], 25 * self.seconds + 60)
        line = self.process.stdout.readline() if answered else ""
        self.slowest = max(self.slowest, time.perf_counter() - begun)
        if not line:
            said = "crash" if answered else "hang"
            self.__exit__()
            self._start()
        else:
            said, megabytes = line.rstrip("\n").split("\t")
            self.memory.append(int(megabytes))
        self.counts[said.split()[0]] += 1
        if said not in ("read", "refused"):
            self.odd.append((kind, said, path))
        return said

    def forget(self):
        self.counts, self.odd, self.memory, self.slowest = Counter(), [], [], 0.0

    def _start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(self.seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )
        assert self.process.stdout.readline() == "ready\n"


def mutated(raw, rng):
    """Flip bits, set bytes, blank, move, insert, or cut short."""
    data = bytearray(raw)
    how = rng.choice(["flip"] * 4 + ["set", "cut", "blank", "move", "insert"])
    place = rng.randrange(len(data))
    if how == "flip":
        for _ in range(rng.choice([1, 1, 2, 4, 8, 32])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == "set":
        for _ in range(rng.choice([1, 4, 16])):
            data[rng.randrange(len(data))] = rng.choice([0, 127, 128, 255, rng.randrange(256)])
    elif how == "cut":
        del data[place:]
    elif how == "blank":
        end = min(len(data), place + rng.choice([4, 8, 64, 512]))
        data[place:end] = bytes([rng.choice([0, 255])]) * (end - place)
    elif how == "move":
        size = rng.choice([4, 8, 64])
        piece = data[place : place + size]
        target = rng.randrange(len(data))
        data[target : target + len(piece)] = piece
    else:
        data[place:place] = rng.randbytes(rng.choice([1, 8]))
    return bytes(data)


def mutated_text(raw, rng):
    """Change numbers and words of a text, which random bytes seldom reach, or its bytes."""
    if rng.random() < 0.4:
        return mutated(raw, rng)
    text = raw.decode()
    places = [i for i, letter in enumerate(text) if letter in ',\n:[{0123456789"']
    at = rng.choice(places)
    words = [
        "",
        "nan",
        "inf",
        "-1",
        "1e300",
        "99999999999999999999",
        "1.5",
        "\N{SUPERSCRIPT TWO}",
        '"',
        "\0",
        ",",
        "\n",
        "[",
        "null",
        "true",
        "x" * 300,
        "9" * 5000,
        "|O",
    ]
    return (text[:at] + rng.choice(words) + text[at + rng.choice([0, 1, 3]) :]).encode()


def small_tree(num=3):
    """A complete results tree with ``num`` draws, without any computing."""
    rng = np.random.default_rng(0)
    draws, axes = (1, num), ("chain", "draw")

    def group(names, more=(), sizes=(), front=(), first=()):
        return xr.Dataset(
            {
                name: ((*front, *axes, *more), rng.uniform(0.5, 1.0, size=(*first, *draws, *sizes)))
                for name in names
            }
        ).assign_coords(chain=[0], draw=np.arange(num))

    design = group(["leader_objective", "incentive_cost", "incentive"])
    design["objective_standard_error"] = (axes, np.zeros(draws))
    design["follower_value"] = ((*axes, "follower"), rng.normal(size=(*draws, 1)))
    design["status"] = (axes, np.zeros(draws, int))
    design["incentive"].attrs |= {"units": "money", "long_name": "bonus"}
    trace = ["objective", "gradient_norm", "step_norm", "truncated_share"]
    decision = group(["objective", "regret"], front=["design"], first=[2])
    decision = decision.assign_coords(design=["common", "plug_in"])
    for name in ("objective_standard_error", "solve_status"):
        decision[name] = (
            ("design", *axes),
            np.zeros((2, *draws), float if "_err" in name else int),
        )
    decision["status"] = ("design", np.zeros(2, int))
    decision["incentive"] = ("design", np.array([0.25, 0.125]))
    decision["restart_objective"] = ("restart", np.ones(2))
    tree = xr.DataTree.from_dict(
        {
            "posterior": group(["temperature"]),
            "decision": decision,
            "design": design.assign_coords(follower=["follower"]),
            "design_trace": group(trace, ["iteration"], [4]),
        }
    )
    tree.attrs = {
        "schema": "cbrl_bayes results 1",
        "stage": "design only",
        "problem": "small",
        "created": "2026-01-01",
        "versions": "{}",
        "settings": "{}",
        "fingerprint": "0",
        "design_settings": "{}",
        "objective_unit": "money",
    }
    return tree


@pytest.fixture(scope="module")
def pool():
    with Pool() as started:
        yield started


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """One good file of each kind."""
    folder = tmp_path_factory.mktemp("sources")
    data = cb.make_trajectories(
        [[0, 1], [0], [1, 1, 0]], [[1, 0], [1], [0, 0, 1]], context=["a", "b", ""]
    )
    tree = small_tree()
    found = {
        "results .nc": cb.save(tree, folder / "study.nc"),
        "results .zarr": cb.save(tree, folder / "study.zarr"),
        "data .nc": cb.save_trajectories(data, folder / "data.nc"),
        "data .zarr": folder / "data.zarr",
        "data .csv": folder / "data.csv",
        "comparisons .csv": folder / "comparisons.csv",
    }
    data.to_zarr(found["data .zarr"], zarr_format=2, consolidated=True)
    found["data .csv"].write_text(
        "follower,step,state,action,context,successor_slot,choice_observed\n"
        "a,0,1,0,up,,true\na,1,0,1,up,1,false\nb,0,2,1,,-1,true\n"
    )
    found["comparisons .csv"].write_text(
        "id,prompt,model_x,model_y,worker,winner,left,right\n"
        "1,5,0,1,7,left,ant,bee\n1,5,0,1,8,tie,ant,bee\n2,6,1,2,7,right,bee,cat\n"
    )
    return found


def damaged(source, target, rng):
    """Write a damaged copy of a file, or of one file of a store."""
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        inside = sorted(path for path in target.rglob("*") if path.is_file())
        victim = rng.choice(inside)
        if rng.random() < 0.1:
            victim.unlink()
            return
    else:
        victim = target
        victim.write_bytes(source.read_bytes())
    raw = victim.read_bytes() or b"\0"
    is_text = victim.suffix == ".csv" or victim.name.startswith(".z") or victim.suffix == ".json"
    victim.write_bytes((mutated_text if is_text else mutated)(raw, rng))


def fuzz(pool, kind, source, num, tmp_path, seed):
    """Read ``num`` damaged copies of ``source`` and return what came of it."""
    rng = random.Random(seed)
    target = tmp_path / f"damaged{source.suffix}"
    pool.forget()
    assert pool.read(kind, source) == "read"  # the good file: the loader works
    for case in range(num):
        damaged(source, target, rng)
        if pool.read(kind, target) not in ("read", "refused"):
            kept = tmp_path / f"case_{seed}_{case}{source.suffix}"
            (shutil.copytree if target.is_dir() else shutil.copy)(target, kept)
    growth = pool.memory[-1] - pool.memory[min(20, len(pool.memory) - 1)]
    print(
        f"{kind} {source.suffix}: {dict(pool.counts)}, slowest {pool.slowest:.1f} s, "
        f"memory +{growth} MB"
    )
    assert not pool.odd
    assert growth < MOST_GROWTH_MB
    return pool.counts


FEW = {
    "results .nc": 12,
    "results .zarr": 8,
    "data .nc": 8,
    "data .zarr": 6,
    "data .csv": 60,
    "comparisons .csv": 40,
}
MANY = {
    "results .nc": 1000,
    "results .zarr": 500,
    "data .nc": 700,
    "data .zarr": 400,
    "data .csv": 3000,
    "comparisons .csv": 2500,
}


@pytest.mark.parametrize("name", FEW)
def test_damaged_files_end_in_one_of_our_errors(name, pool, sources, tmp_path):
    """134 cases here, with the tables below 234; `make test-slow` runs 10,100."""
    counts = fuzz(pool, name.split()[0], sources[name], FEW[name], tmp_path, seed=1)
    assert sum(counts.values()) == FEW[name] + 1


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", MANY)
def test_thousands_of_damaged_files(name, pool, sources, tmp_path):
    # Every kind has cases that must be refused and cases that still can be read.
    counts = fuzz(pool, name.split()[0], sources[name], MANY[name], tmp_path, seed=2)
    assert counts["refused"] > MANY[name] / 20
    assert counts["read"] > 5


CELLS = st.one_of(
    st.integers(),
    st.integers(0, 3),
    st.floats(),
    st.text(max_size=5),
    st.none(),
    st.booleans(),
    st.binary(max_size=3),
    st.complex_numbers(),
    st.just([1]),
    st.just(pd.NaT),
    st.sampled_from(["true", "0", "nan", "1e400", "-1"]),
)
GOOD = {
    "follower": st.sampled_from("ab"),
    "step": st.integers(0, 3),
    "state": st.integers(0, 3),
    "action": st.integers(0, 1),
}
MORE = [
    "episode",
    "context",
    "regime",
    "group",
    "successor_slot",
    "choice_observed",
    "context_value",
    "odd",
]


@st.composite
def tables(draw):
    """A table with some good and some odd columns."""
    num = draw(st.integers(0, 5))
    names = [*GOOD, *draw(st.lists(st.sampled_from(MORE), max_size=3, unique=True))]
    odd = draw(st.sets(st.sampled_from(names), max_size=2))
    columns = {
        name: draw(
            st.lists(
                GOOD[name] if name in GOOD and name not in odd else CELLS,
                min_size=num,
                max_size=num,
            )
        )
        for name in names
    }
    if draw(st.booleans()):
        columns.pop(draw(st.sampled_from(names)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas on columns of mixed types
        return pd.DataFrame(columns)


def _reads_or_refuses(read, *arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read(*arguments)
        except CbrlBayesError:
            return "refused"
    return "read"


QUIET = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


def _tables(num):
    counts = Counter()

    @settings(max_examples=num, **QUIET)
    @given(tables())
    def run(table):
        counts[_reads_or_refuses(cb.from_table, table)] += 1

    run()
    return counts


def _shares(num):
    counts = Counter()
    numbers = stn.arrays(
        st.sampled_from([np.float64, np.int64, np.bool_, np.complex128, np.dtype("U3")]),
        stn.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    )
    simplex = st.integers(1, 4).map(lambda n: np.full((n, 2), 0.5))
    names = st.lists(st.text(max_size=3), max_size=4).map(tuple)

    @settings(max_examples=num, **QUIET)
    @given(
        st.one_of(numbers, simplex),
        st.one_of(names, st.just(("food", "fuel"))),
        st.dictionaries(st.text(max_size=3), numbers, max_size=2),
    )
    def run(share, goods, covariates):
        counts[_reads_or_refuses(make_household_shares, share, goods, covariates)] += 1

    run()
    return counts


def test_odd_tables_and_shares():
    for counts, num in ((_tables(60), 60), (_shares(40), 40)):
        assert sum(counts.values()) >= num
        assert counts["refused"] > 0
        assert counts["read"] > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_thousands_of_odd_tables_and_shares():
    print({"tables": _tables(1500), "shares": _shares(500)})


def test_a_huge_declared_shape_is_refused_at_once(tmp_path):
    place = tmp_path / "huge.nc"
    with h5py.File(place, "w") as file:
        file.create_dataset("x", (10**15,), "f8", chunks=(1000,))
    store = tmp_path / "huge.zarr"
    (store / "x").mkdir(parents=True)
    (store / ".zgroup").write_text('{"zarr_format": 2}')
    (store / "x" / ".zarray").write_text(json.dumps(_array([10**15], [1000])))
    begun = time.perf_counter()
    for load, path, kind in (
        (cb.load, place, ResultsError),
        (cb.load, store, ResultsError),
        (cb.load_trajectories, place, DataError),
    ):
        with pytest.raises(kind, match=r"declared size above 2,147,483,648 bytes.*limits="):
            load(path)
    assert time.perf_counter() - begun < 60.0  # three small processes; a loaded machine is slow


def _array(shape, chunks, dtype="<f8", **other):
    return {
        "zarr_format": 2,
        "shape": shape,
        "chunks": chunks,
        "dtype": dtype,
        "order": "C",
        "fill_value": 0,
        "filters": None,
        "compressor": None,
    } | other


def test_limits_can_be_raised_and_left_out(sources):
    path = sources["results .nc"]
    with pytest.raises(ResultsError, match="too much memory"):
        cb.load(path, limits=FileLimits(most_bytes=1000))
    with pytest.raises(ResultsError, match="more than 20 groups"):
        cb.load(path, limits=FileLimits(most_pieces=20))
    xr.testing.assert_equal(
        cb.load(path, limits=FileLimits(most_bytes=2**24)), cb.load(path, limits=None)
    )
    with pytest.raises(InvalidInputError, match="most_seconds is not positive"):
        FileLimits(most_seconds=0)


class _Trap:
    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize(
    ("dtype", "filters", "compressor"),
    [
        ("|O", [{"id": "pickle"}], None),
        ("|O", [{"id": "vlen-utf8"}], {"id": "pickle"}),
        ("<i8", [{"id": "pickle"}], None),
    ],
)
def test_codecs_that_run_code_are_refused(dtype, filters, compressor, sources, tmp_path):
    store, trap = tmp_path / "trap.zarr", tmp_path / "sprung"
    shutil.copytree(sources["results .zarr"], store)
    place = store / "posterior" / "trap"
    place.mkdir()
    wanted = _array([1], [1], dtype, filters=filters, compressor=compressor)
    (place / ".zarray").write_text(json.dumps(wanted))
    (place / "0").write_bytes(pickle.dumps(_Trap(trap)))
    with pytest.raises(ResultsError, match=r"has codecs \"\['pickle'\]\", accepted: blosc"):
        cb.load(store)
    assert not trap.exists()


def test_metadata_kept_twice_must_agree(sources, tmp_path):
    store = tmp_path / "two.zarr"
    shutil.copytree(sources["results .zarr"], store)
    known = store / ".zmetadata"
    document = json.loads(known.read_text())
    document["metadata"]["design/status/.zarray"]["shape"] = [10**15, 3]
    known.write_text(json.dumps(document))
    with pytest.raises(ResultsError, match="is not what the store holds"):
        cb.load(store)


@pytest.mark.parametrize("make", ["symlink", "pipe"])
def test_stores_hold_only_files_and_folders(make, sources, tmp_path):
    store = tmp_path / "odd.zarr"
    shutil.copytree(sources["results .zarr"], store)
    if make == "symlink":
        (store / "elsewhere").symlink_to("/etc")
    else:
        os.mkfifo(store / "pipe")  # reading it would wait for ever
    with pytest.raises(ResultsError, match="neither a file nor a folder"):
        cb.load(store)


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.nc")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ResultsError, match="not a regular file"):
        cb.load(tmp_path / "pipe.nc")
    with pytest.raises(DataError, match="not a regular file"):
        cb.load_trajectories(tmp_path / "pipe.csv")


def _external_link(file):
    file["away"] = h5py.ExternalLink("/etc/hostname", "/")


def _soft_loop(file):
    file["away"] = h5py.SoftLink("/away")


def _own_parent(file):
    file.create_group("inner")["again"] = file["/"]


def _values_elsewhere(file):
    file.create_dataset("x", (10,), "i1", external=[("/etc/hostname", 0, 10)])


def _virtual(file):
    layout = h5py.VirtualLayout((10,), "f8")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", shape=(10,))
    file.create_virtual_dataset("x", layout)


def _reference(file):
    file.create_dataset("x", (1,), h5py.ref_dtype)


def _large_chunk(file):
    file.create_dataset("x", (4,), "f8", maxshape=(None,), chunks=(10**8,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_external_link, "is a link to elsewhere"),
        (_soft_loop, "is a link to elsewhere"),
        (_own_parent, "contains itself"),
        (_values_elsewhere, "takes its values from other files"),
        (_virtual, "takes its values from other files"),
        (_reference, "accepted: numbers and text"),
        (_large_chunk, "a chunk of .* is larger"),
    ],
)
def test_what_a_netcdf_file_may_not_hold(make, message, tmp_path):
    with h5py.File(tmp_path / "odd.nc", "w") as file:
        make(file)
    with pytest.raises(ResultsError, match=message):
        cb.load(tmp_path / "odd.nc", limits=FileLimits(most_bytes=2**26))


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        (1000, "is stored in .* bytes but holds 8,000"),
        # Only the bound on memory can tell; reaching it takes seconds.
        pytest.param(2 * 10**6, "cannot be read|crash", marks=pytest.mark.slow),
    ],
)
def test_a_chunk_that_swells_is_bounded(claims, message, tmp_path):
    """8 GiB of zeros in a chunk that claims 8 KB or 16 MB: deflate shrinks a thousandfold."""
    packer = zlib.compressobj(9)
    piece = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    path = tmp_path / "bomb.nc"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("x", (claims,), "f8", chunks=(claims,), compression="gzip")
        data.id.write_direct_chunk((0,), piece + piece[2:] * 8191)
    assert path.stat().st_size < 2**25
    with pytest.raises(ResultsError, match=message):
        cb.load(path, limits=FileLimits(most_bytes=2**26))


def test_a_blank_heap_does_not_block(sources, tmp_path):
    """Blank space in the heap of an HDF5 file makes HDF5 2.0 loop for ever."""
    raw = bytearray(sources["results .nc"].read_bytes())
    heap = raw.index(b"GCOL")
    blocked = 0
    for start in range(heap + 64, heap + 4096, 256):
        changed = bytes(raw[:start]) + bytes(512) + bytes(raw[start + 512 :])
        (tmp_path / "blank.nc").write_bytes(changed)
        try:
            cb.load(tmp_path / "blank.nc", limits=FileLimits(most_seconds=2.0))
        except ResultsError as error:
            blocked += "did not end within 2 s" in str(error)
        if blocked:
            break
    # A mended HDF5 may refuse at once, or read on; the bound is then not needed here.
    assert blocked or not h5py.version.hdf5_version.startswith("2.0.")


def test_a_table_that_swells_is_refused(tmp_path):
    """One long episode among many short ones: each would be stored at the longest's length."""
    lines = [f"f{i},0,0,0" for i in range(60_000)] + [f"long,{t},0,0" for t in range(60_000)]
    path = tmp_path / "wide.csv"
    path.write_text("follower,step,state,action\n" + "\n".join(lines) + "\n")
    with pytest.raises(DataError, match="every episode at the length of the longest"):
        cb.load_trajectories(path)
    with pytest.raises(DataError, match=r"wide.csv would need too much memory"):
        cb.load_trajectories(path, limits=FileLimits(most_bytes=10**6))
    with pytest.raises(DataError, match="too much memory"):
        load_comparisons(path, limits=FileLimits(most_bytes=10**6))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": [0, 2**40]}, "column 'step', row 1 is not a whole number"),
        ({"state": [0, 1e30]}, "column 'state', row 1 is not a whole number"),
        ({"successor_slot": [0, np.inf]}, "column 'successor_slot', row 1"),
        ({"action": [[1], [2]]}, "column 'action', row 0 is not a whole number"),
        (
            {"successor_slot": [1j, 0]},
            "column 'successor_slot', row 0: a cell holds neither text nor",
        ),
    ],
)
def test_numbers_out_of_range(change, message):
    plain = {"follower": ["a", "a"], "step": [0, 1], "state": [0, 0], "action": [0, 0]}
    with pytest.raises(DataError, match=message):
        cb.from_table(pd.DataFrame(plain | change))
    doubled = pd.DataFrame(np.zeros((1, 5)), columns=[*plain, "state"])
    with pytest.raises(DataError, match="columns share a name"):
        cb.from_table(doubled)


def test_units_of_time_are_units(tmp_path):
    """A unit like "hours since noon" must not turn numbers into dates."""
    tree = small_tree()
    tree["design"]["leader_objective"].attrs["units"] = "hours since 2000-01-01"
    loaded = cb.load(cb.save(tree, tmp_path / "hours.nc"))
    assert loaded["design"]["leader_objective"].dtype == float


def test_attributes_that_are_not_json(tmp_path):
    tree = small_tree()
    tree.attrs |= {"contraction": "{", "groups": "{}", "parameter_units": 3}
    path = cb.save(tree, tmp_path / "odd.nc")
    with pytest.raises(ResultsError, match="cannot be read: contraction, parameter_units, groups"):
        cb.load(path)
