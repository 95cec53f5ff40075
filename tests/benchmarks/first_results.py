"""Processor time of the first results: fresh processes, from a cold and from a warm cache.

    python tests/benchmarks/first_results.py [--before FOLDER] [--output FILE] [--only NAME ...]

Every command runs in a process of its own, on at most two cores. Compiled programs go to a folder
of this run: the first time a command finds it empty, then it finds what it left there. Reported
are seconds of processor time (user and system, child processes included), the median of
``--repeats`` runs. With ``--before`` each command runs in turn from this checkout and from another
one, so that both meet the same machine; the ratio is before / now.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parents[2]
CLI = "from cbrl_bayes.cli import main; main()"
DATA = """
import jax, cbrl_bayes as cb
data = cb.simulate_trajectories(
    cb.problems.two_state(), key=jax.random.key(0), num_episodes=200, num_steps=20)
cb.save_trajectories(data, "data.nc")
"""
FILES = ["--fit", "fit.nc", "--draws", "100", "--output", "study.nc"]
COMMANDS = {
    "--help": ["-c", CLI, "--help"],
    "import, cb.infer": ["-c", "import cbrl_bayes as cb; cb.infer"],
    "infer": ["-c", CLI, "infer", "two_state", "--data", "data.nc", "--output", "fit.nc"],
    "design": ["-c", CLI, "design", "two_state", *FILES],
    "summary": ["-c", CLI, "summary", "study.nc", "--accept-failed"],
}
COMPILES = ("infer", "design")


def processor_seconds(checkout: Path, arguments: list[str], folder: Path, cache: Path) -> float:
    """Run Python with ``arguments`` in ``folder`` and return what it cost."""
    environment = os.environ | {
        "PYTHONPATH": str(checkout),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
        preexec_fn=_two_cores,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _two_cores() -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])


def measure(checkouts: dict[str, Path], names: list[str], repeats: int) -> list[dict]:
    """Return one row per command and state of the cache."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folders = {}
        for which, checkout in checkouts.items():
            folders[which] = Path(temporary, which.replace(" ", "_"))
            folders[which].mkdir()
            processor_seconds(checkout, ["-c", DATA], folders[which], folders[which] / "data_cache")
            for needed in ("infer", "design"):  # also where only later commands are timed
                if needed not in names:
                    cache = folders[which] / "data_cache"
                    processor_seconds(checkout, COMMANDS[needed], folders[which], cache)
        for name in names:
            states = ("cold", "warm") if name in COMPILES else ("",)
            times: dict[tuple[str, str], list[float]] = {}
            for repeat in range(repeats):
                for state in states:
                    for which, checkout in checkouts.items():
                        folder = folders[which]
                        cache = folder / f"cache_{name}_{repeat}".replace(" ", "_")
                        seconds = processor_seconds(checkout, COMMANDS[name], folder, cache)
                        times.setdefault((state, which), []).append(seconds)
            for state in states:
                found = {which: statistics.median(times[state, which]) for which in checkouts}
                row = {"what": f"{name}, {state} cache" if state else name, **found}
                if "before" in found:
                    row["ratio"] = found["before"] / found["now"]
                rows.append(row)
                print("  ".join(_told(value) for value in row.values()), flush=True)
    return rows


def _told(value: object) -> str:
    return f"{value:8.2f}" if isinstance(value, float) else f"{value!s:24s}"


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, help="another checkout to compare with")
    parser.add_argument("--output", type=Path, help="write the rows here as JSON")
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    checkouts = {} if chosen.before is None else {"before": chosen.before.resolve()}
    checkouts["now"] = HERE
    print("  ".join([f"{'processor seconds':24s}", *(f"{name:>8s}" for name in checkouts)]))
    rows = measure(checkouts, chosen.only, chosen.repeats)
    if chosen.output is not None:
        chosen.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
