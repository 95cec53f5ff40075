"""What is typed wrongly: one line and a status, and nothing on standard output."""

import contextlib
import io
import sys
from collections.abc import Callable
from typing import Any

import cbrl_bayes as cb
from tests.faults.registry import Bench, Fault, held, refused

KIND = "command line"
LONG = "x" * 250


class OneLineError(cb.CbrlBayesError):
    """What the command line said before it ended with the right status."""


def call(*arguments: str) -> tuple[int, str, str]:
    """Run the command line in this process; return status, output and errors."""
    from cbrl_bayes.cli import main

    out, err = io.StringIO(), io.StringIO()
    before = sys.argv
    sys.argv = ["cbrl-bayes", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        return int(end.code or 0), out.getvalue(), err.getvalue()
    finally:
        sys.argv = before
    raise AssertionError("the command line did not end")


def _typed(text: str, status: int, make: Callable[[Bench], Any] | None = None) -> Any:
    def run(bench: Bench) -> Any:
        if make is not None:
            make(bench)
        arguments = [part.replace("_BLANK_", " ") for part in text.split()]
        ended, out, err = call(*arguments)
        if ended == 0:
            return out
        assert ended == status, f"status {ended}: {err}"
        assert not out, f"on standard output: {out}"
        raise OneLineError(err.removesuffix("\n"))

    return run


def _results(bench: Bench) -> None:
    cb.save(bench.tree, "draws.nc")


def _data(bench: Bench) -> None:
    cb.save_trajectories(bench.data, "data.nc")


def _own(content: str) -> Callable[[Bench], Any]:
    return lambda bench: bench.file("own.py", content)


OWN = "import cbrl_bayes as cb\n"

WRONG: dict[str, tuple[str, int, list[str], Callable[[Bench], Any] | None]] = {
    "a command nobody knows": ("desgin two_state", 2, ["desgin"], None),
    "an option nobody knows": ("summary x.nc --probability 0.9", 2, ["--probability"], None),
    "no file": ("summary", 2, ["file"], None),
    "a problem nobody knows": ("design two_sate", 2, ["two_sate", "two_state"], None),
    "a number for a problem": ("design 7", 2, ["7"], None),
    "a file that is not there": ("summary none.nc", 1, ["none.nc"], None),
    "a file to check that is not there": ("check none.nc", 1, ["none.nc"], None),
    "a file of another kind": ("summary own.py", 1, ["own.py"], _own("")),
    "data for results": ("summary data.nc", 1, ["cbrl_bayes trajectories 1"], _data),
    "results for data": ("infer two_state --data draws.nc", 1, ["state"], _results),
    "draws without designs": ("information two_state draws.nc", 1, ["design"], _results),
    "draws for a study to stress": ("stress two_state draws.nc", 1, ["design"], _results),
    "draws for a study to make robust": ("robust two_state draws.nc", 1, ["design"], _results),
    "draws of another problem": ("design four_rooms --fit draws.nc", 1, ["two_state"], _results),
    "a probability in percent": ("summary draws.nc --prob 90", 2, ["90"], _results),
    "a probability in text": ("summary draws.nc --prob most", 2, ["--prob", "number"], _results),
    "a probability of 0": ("plot draws.nc --prob 0", 2, ["0.0"], _results),
    "intervals of a kind nobody knows": ("summary draws.nc --kind hpd", 1, ["hpd"], _results),
    "a seed of 70 bits": (f"design two_state --seed {2**69}", 2, [str(2**69)], None),
    "a seed in text": ("design two_state --seed lucky", 2, ["--seed", "integer"], None),
    "no draws": ("design two_state --draws 0", 2, ["--draws", "1"], None),
    "draws below zero": ("design two_state --draws -5", 2, ["--draws", "1"], None),
    "no chains": ("infer two_state --data d.nc --chains 0", 2, ["--chains", "1"], None),
    "an estimator nobody knows": ("design two_state --estimator reinforce", 2, ["reinforce"], None),
    "a search nobody knows": ("design two_state --search wide", 2, ["wide"], None),
    "a temperature below zero": ("design two_state --temperature -1", 1, ["temperature"], None),
    "a temperature NaN": ("design two_state --temperature nan", 1, ["temperature"], None),
    "a temperature in text": (
        "design two_state --temperature warm",
        2,
        ["--temperature", "number"],
        None,
    ),
    "a slip in text": ("design four_rooms --slip often", 2, ["often"], None),
    "a slip of 2": ("design four_rooms --slip 2", 1, ["slip"], None),
    "an option of another problem": ("design two_state --slip 0.1", 2, ["slip"], None),
    "an output of another kind": ("design two_state --output s.csv", 2, ["s.csv", ".nc"], None),
    "an output in no folder": ("design two_state --output none/s.nc", 2, ["none"], None),
    "an output below a file": ("design two_state --output own.py/s.nc", 2, ["own.py"], _own("")),
    "an output of 250 letters": (f"design two_state --output {LONG}.nc", 2, [LONG[:9]], None),
    "an output without a fit": ("design two_state --output s.nc", 2, ["--fit"], None),
    "a checkpoint without a fit": ("design two_state --checkpoint c", 2, ["--fit"], None),
    "an output of an estimate": (
        "infer two_state --data d.nc --method mle --output s.nc",
        2,
        ["mle"],
        None,
    ),
    "a scheduler without a port": ("infer two_state --data d.nc --dask there", 2, ["there"], None),
    "no data": ("infer two_state", 2, ["--data"], None),
    "bus groups of another problem": ("infer two_state --groups 4", 2, ["--groups"], None),
    "bus groups in words": ("infer bus_replacement --groups four", 2, ["four"], None),
    "bus groups backwards": ("infer bus_replacement --groups 4-1", 2, ["4-1"], None),
    "data that are not there": ("infer two_state --data none.csv", 1, ["none.csv"], None),
    "data of another kind": ("infer two_state --data own.py", 1, ["own.py"], _own("")),
    "a table without the columns": (
        "check t.csv",
        1,
        ["columns are missing", "action"],
        lambda b: b.file("t.csv", "a,b\n1,2\n"),
    ),
    "an empty table": ("check t.csv", 1, ["t.csv"], lambda b: b.file("t.csv", "")),
    "a problem of one's own that is not there": ("design none.py:problem", 2, ["none.py"], None),
    "a problem of one's own without its name": ("design own.py", 2, ["own.py"], _own("")),
    "a name that the file does not have": ("design own.py:problem", 2, ["problem"], _own("")),
    "a file with a fault of Python": ("design own.py:problem", 1, ["SyntaxError"], _own("x = (")),
    "a file that fails": (
        "design own.py:problem",
        1,
        ["ZeroDivisionError", "line 1"],
        _own("problem = 1 / 0"),
    ),
    "a file that ends the program": (
        "design own.py:problem",
        1,
        ["own.py"],
        _own("raise SystemExit(0)"),
    ),
    "a file that imports what is not there": (
        "design own.py:problem",
        1,
        ["no_such_package"],
        _own("import no_such_package"),
    ),
    "a problem of one's own that is a number": (
        "design own.py:problem",
        1,
        ["Problem"],
        _own("problem = 5"),
    ),
    "a function of one's own that needs arguments": (
        "design own.py:make",
        1,
        ["make"],
        _own(f"{OWN}def make(cost):\n    return cb.problems.two_state(costs=(cost,))\n"),
    ),
    "a function of one's own that fails": (
        "design own.py:make",
        1,
        ["KeyError", "line 3"],
        _own(f"{OWN}def make():\n    return {{}}['cost']\n"),
    ),
    "a report to a table": ("report draws.nc -o r.csv", 1, [".html"], _results),
    "a report to no folder": ("report draws.nc -o none/r.html", 1, ["none"], _results),
    "figures to a file": (
        "plot draws.nc --output own.py",
        1,
        ["own.py"],
        lambda b: (_results(b), b.file("own.py", "")),
    ),
    "figures where nobody may write": ("plot draws.nc --output /proc/f", 1, ["/proc"], _results),
    "a demonstration to a file": ("demo --output own.py", 1, ["own.py"], _own("")),
    "a demonstration where nobody may write": ("demo --output /proc/demo", 1, ["/proc"], None),
    "a tail in percent": ("robust two_state draws.nc --cvar 10", 1, ["10"], _results),
    "a stress of zero": ("stress two_state draws.nc --factor 0", 1, ["factor"], _results),
}


def _json(text: str, key: str, make: Callable[[Bench], Any]) -> Any:
    """What comes on standard output must be one JSON object, whatever the status."""

    def run(bench: Bench) -> Any:
        import json

        make(bench)
        status, out, _ = call(*text.split())
        return status, json.loads(out)[key]

    return run


FAULTS: list[Fault] = [
    *(refused(KIND, n, _typed(t, s, make), *w) for n, (t, s, w, make) in WRONG.items()),
    held(
        KIND,
        "--json with a fault in the file",
        _json("check t.csv --json", "ok", lambda b: b.file("t.csv", "a,b\n1,2\n")),
        (1, False),
    ),
    held(
        KIND, "--json with data", _json("check data.nc --json", "kind", _data), (0, "trajectories")
    ),
    held(KIND, "--json of draws", _json("check draws.nc --json", "kind", _results), (0, "results")),
]
