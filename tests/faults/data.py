"""Tables and lists of behaviour as people have them, with what goes wrong in them."""

import datetime
from typing import Any

import numpy as np
import pandas as pd

import cbrl_bayes as cb
from tests.faults.registry import Bench, Fault, held, refused

KIND = "data"
HEAD = "follower,step,state,action,context\n"
ANN, BOB = "ann,0,offered,work,cost 0.5\n", "bob,0,offered,decline,cost 1.5\n"


def _read(data: Any, names: tuple[str, ...]) -> dict[str, list]:
    return {name: data[name].values.tolist() for name in names}


def _file(content: str | bytes, names: tuple[str, ...], **given: Any) -> Any:
    def run(bench: Bench) -> Any:
        path = bench.file("t.csv", content)
        return _read(cb.load_trajectories(path, bench.problem, **given), names)

    return run


def _frame(columns: Any, names: tuple[str, ...] = (), **given: Any) -> Any:
    def run(bench: Bench) -> Any:
        table = columns() if callable(columns) else pd.DataFrame(columns)
        return _read(cb.from_table(table, bench.problem, **given), names)

    return run


RIGHT = {"follower": ["ann", "bob"], "action": [[1], [0]], "context": ["cost 0.5", "cost 1.5"]}
THREE = ("follower", "action", "context")
NONE = "no incentive is stated"

# What is wrong with a file, its content, and options: RIGHT must come out all the same.
SAME = {
    "semicolons between cells": ((HEAD + ANN + BOB).replace(",", ";"), {}),
    "tabs between cells": ((HEAD + ANN + BOB).replace(",", "\t"), {}),
    "a byte order mark": (b"\xef\xbb\xbf" + (HEAD + ANN + BOB).encode(), {}),
    "ends of lines of Windows": ((HEAD + ANN + BOB).replace("\n", "\r\n"), {}),
    "ends of lines of old Macs": ((HEAD + ANN + BOB).replace("\n", "\r"), {}),
    "no end of the last line": ((HEAD + ANN + BOB).rstrip("\n"), {}),
    "empty lines between and at the end": (f"{HEAD}\n{ANN}\n{BOB}\n\n", {}),
    "every cell in quotes": (
        "".join(
            ",".join(f'"{cell}"' for cell in line.split(",")) + "\n"
            for line in (HEAD + ANN + BOB).splitlines()
        ),
        {},
    ),
    "blanks around headers and cells": ((HEAD + ANN + BOB).replace(",", " , "), {}),
    "hard blanks around cells": (HEAD + ANN.replace("work", "\u00a0work\u00a0") + BOB, {}),
    "steps written 0.0": (HEAD + (ANN + BOB).replace(",0,", ",0.0,"), {}),
    "steps that begin at 17": (HEAD + (ANN + BOB).replace(",0,", ",17,"), {}),
    "a date for each step": (HEAD + (ANN + BOB).replace(",0,", ",2026-02-28,"), {}),
    "a quarter for each step": (HEAD + (ANN + BOB).replace(",0,", ",2026Q4,"), {}),
    "columns in another order": (
        "context,action,state,step,follower\n"
        "cost 0.5,work,offered,0,ann\ncost 1.5,decline,offered,0,bob\n",
        {},
    ),
    "headers in capitals": (HEAD.upper() + ANN + BOB, {}),
    "digits of another alphabet": (
        HEAD + (ANN + BOB).replace("work", "\u0661").replace("decline", "\u0660"),
        {},
    ),
    "an empty column without a header": ((HEAD + ANN + BOB).replace("\n", ",\n"), {}),
    "numbers for states and actions": (
        HEAD + (ANN + BOB).replace("offered", "0").replace("work", "1").replace("decline", "0"),
        {},
    ),
    "words of another language, with labels": (
        HEAD + (ANN + BOB).replace("work", "ja").replace("decline", "nein"),
        {"labels": {"action": {"ja": "work", "nein": 0}}},
    ),
    "other headers, with columns": (
        (HEAD + ANN + BOB).replace("action", "Worked?"),
        {"columns": {"Worked?": "action"}},
    ),
}

# As above, with a note that says what was read in another way.
NOTED = {
    "Yes and No": ((HEAD + ANN + BOB).replace("work", "Yes").replace("decline", "No"), "Yes read"),
    "TRUE and FALSE": (
        (HEAD + ANN + BOB).replace("work", "TRUE").replace("decline", "FALSE"),
        "TRUE read",
    ),
    "names with other capitals": ((HEAD + ANN + BOB).replace("work", "WORK"), "WORK read as work"),
    "contexts with other capitals": (
        (HEAD + ANN + BOB).replace("cost 0.5", "Cost 0.5"),
        "Cost 0.5 read as cost 0.5",
    ),
    "a column of remarks": (
        HEAD.replace("\n", ",remarks\n") + ANN.replace("\n", ",late\n") + BOB.replace("\n", ",\n"),
        "remarks",
    ),
}

# What is wrong, the content, options, and words of the error.
WRONG = {
    "an empty file": ("", {}, ["t.csv"]),
    "a header and nothing else": (HEAD, {}, ["no episodes"]),
    "no column action": ("follower,step,state\nann,0,0\n", {}, ["action"]),
    "a column twice": (
        HEAD.replace("context", "action") + ANN.replace("cost 0.5", "work"),
        {},
        ["action"],
    ),
    "a row with a cell too many": (HEAD + ANN + BOB.replace("\n", ",x\n"), {}, ["t.csv"]),
    "a row cut short": (HEAD + ANN + "bob,0\n", {}, ["state", "row 1"]),
    "a quote that never ends": (HEAD + ANN + BOB.replace("bob", '"bob'), {}, ["t.csv"]),
    "letters of another encoding": (
        (HEAD + ANN + BOB).replace("ann", "José").encode("latin-1"),
        {},
        ["t.csv", "UTF-8"],
    ),
    "two bytes for each letter": ((HEAD + ANN + BOB).encode("utf-16"), {}, ["t.csv", "UTF-8"]),
    "an Excel file under the name of a table": (
        b"PK\x03\x04\x14\x00\x06\x00\x08\x00",
        {},
        ["t.csv"],
    ),
    "a follower without a name": (HEAD + ANN + BOB.replace("bob", ""), {}, ["follower", "row 1"]),
    "half an action": (HEAD + ANN.replace("work", "0.5") + BOB, {}, ["action", "0.5"]),
    "action 7 of two": (HEAD + ANN.replace("work", "7") + BOB, {}, ["action", "7", "0 to 1"]),
    "action -1": (HEAD + ANN.replace("work", "-1") + BOB, {}, ["action"]),
    "state 5 of two": (HEAD + ANN.replace("offered", "5") + BOB, {}, ["state", "5", "0 to 1"]),
    "an action nobody knows": (HEAD + ANN.replace("work", "maybe") + BOB, {}, ["action", "maybe"]),
    "an empty action": (HEAD + ANN.replace("work", "") + BOB, {}, ["action", "row 0"]),
    "action NA": (HEAD + ANN.replace("work", "NA") + BOB, {}, ["action", "NA"]),
    "a context nobody knows": (HEAD + ANN.replace("cost 0.5", "cost 0,5") + BOB, {}, ["t.csv"]),
    "a misspelt context": (HEAD + ANN.replace("cost 0.5", "cost .5") + BOB, {}, ["cost .5"]),
    "a step twice": (HEAD + ANN + ANN, {}, ["ann", "repeats"]),
    "a gap between steps": (HEAD + ANN + ANN.replace(",0,", ",2,"), {}, ["ann", "gaps"]),
    "a step of text": (HEAD + ANN.replace(",0,", ",first,") + BOB, {}, ["step", "first"]),
    "a step with a comma": (HEAD + ANN.replace(",0,", ',"1,000",') + BOB, {}, ["step", "1,000"]),
    "a step of 1e300": (HEAD + ANN.replace(",0,", ",1e300,") + BOB, {}, ["step"]),
    "an empty step": (HEAD + ANN.replace(",0,", ",,") + BOB, {}, ["step"]),
    "dates beside numbers": (HEAD + ANN.replace(",0,", ",2026-01-05,") + BOB, {}, ["step"]),
    "dates with the day first": (
        HEAD + (ANN + BOB).replace(",0,", ",05/01/2026,"),
        {},
        ["step", "05/01/2026"],
    ),
    "February 30th": (HEAD + (ANN + BOB).replace(",0,", ",2026-02-30,"), {}, ["step", "02-30"]),
    "a context that changes within an episode": (
        HEAD + ANN + "ann,1,settled,decline,cost 1.5\n",
        {},
        ["context", "ann"],
    ),
    "an episode that goes on after its end": (
        HEAD + ANN + "ann,1,settled,work,cost 0.5\nann,2,offered,work,cost 0.5\n",
        {},
        ["ann", "settled"],
    ),
    "a move that the model rules out": (
        HEAD + ANN + ANN.replace(",0,", ",1,"),
        {},
        ["ann", "offered"],
    ),
    "a start that the model rules out": (
        HEAD.replace(",context", "") + "ann,0,settled,work\n",
        {},
        ["ann", "settled"],
    ),
    "two regimes without incentives": (
        HEAD.replace("\n", ",regime\n")
        + ANN.replace("\n", ",now\n")
        + BOB.replace("\n", ",then\n"),
        {},
        ["now", "then", "incentives"],
    ),
    "a regime of two incentives": (
        HEAD.replace("\n", ",regime,bonus\n")
        + ANN.replace("\n", ",now,1\n")
        + BOB.replace("\n", ",now,2\n"),
        {},
        ["now", "more than one incentive"],
    ),
    "an incentive with a decimal comma": (
        (HEAD.replace("\n", ",bonus\n") + ANN.replace("\n", ",0#5\n"))
        .replace(",", ";")
        .replace("#", ","),
        {},
        ["bonus", "0,5"],
    ),
    "an incentive of 1e400": (
        HEAD.replace("\n", ",bonus\n") + ANN.replace("\n", ",1e400\n"),
        {},
        ["bonus", "finite"],
    ),
    "an empty incentive": (
        HEAD.replace("\n", ",bonus\n") + ANN.replace("\n", ",\n"),
        {},
        ["bonus", "finite"],
    ),
    "an incentive with its currency": (
        HEAD.replace("\n", ",bonus\n") + ANN.replace("\n", ",$1\n"),
        {},
        ["bonus", "$1"],
    ),
    "incentives for a regime that is not in the data": (
        HEAD.replace("\n", ",regime\n") + ANN.replace("\n", ",now\n"),
        {"incentives": {"Now ": {"bonus": 1.0}}},
        ["now"],
    ),
    "an incentive under another name": (
        HEAD.replace("\n", ",regime\n") + ANN.replace("\n", ",now\n"),
        {"incentives": {"now": {"bounty": 1.0}}},
        ["bounty", "bonus"],
    ),
    "an incentive of two numbers where one is needed": (
        HEAD.replace("\n", ",regime\n") + ANN.replace("\n", ",now\n"),
        {"incentives": {"now": {"bonus": [1.0, 2.0]}}},
        ["bonus", "shape"],
    ),
    "an incentive NaN": (
        HEAD.replace("\n", ",regime\n") + ANN.replace("\n", ",now\n"),
        {"incentives": {"now": {"bonus": float("nan")}}},
        ["bonus", "finite"],
    ),
    "labels that lead nowhere": (
        HEAD + ANN + BOB,
        {"labels": {"action": {"work": "toil"}}},
        ["action", "toil"],
    ),
    "labels of a column that has none": (
        HEAD + ANN + BOB,
        {"labels": {"actions": {"work": 1}}},
        ["actions"],
    ),
    "labels in a list": (HEAD + ANN + BOB, {"labels": {"action": ["work"]}}, ["action"]),
    "columns renamed to one name": (
        HEAD + ANN + BOB,
        {"columns": {"context": "action"}},
        ["action"],
    ),
    "a renamed column that is not there": (
        HEAD + ANN + BOB,
        {"columns": {"person": "follower"}},
        ["person"],
    ),
    "columns the other way round": (
        HEAD.replace("action", "worked") + ANN + BOB,
        {"columns": {"action": "worked"}},
        ["action"],
    ),
    "gaps='ignore'": (HEAD + ANN + BOB, {"gaps": "ignore"}, ["gaps", "ignore"]),
    "steps in fortnights": (
        HEAD + (ANN + BOB).replace(",0,", ",2026-02-28,"),
        {"step_unit": "fortnight"},
        ["step_unit", "fortnight"],
    ),
    "neither true nor false": (
        HEAD.replace("\n", ",choice_observed\n") + ANN.replace("\n", ",perhaps\n"),
        {},
        ["choice_observed", "perhaps"],
    ),
    "a successor slot of 9": (
        HEAD.replace("\n", ",successor_slot\n") + ANN.replace("\n", ",9\n"),
        {},
        ["successor_slot", "9"],
    ),
    "a group that changes within an episode": (
        HEAD.replace("\n", ",group\n")
        + ANN.replace("\n", ",old\n")
        + "ann,1,settled,work,cost 0.5,young\n",
        {},
        ["group", "ann"],
    ),
    "an action 1_0, which Python reads as 10": (
        HEAD + ANN.replace("work", "1_0") + BOB,
        {},
        ["action", "1_0"],
    ),
    "an action in hexadecimal": (HEAD + ANN.replace("work", "0x1") + BOB, {}, ["action", "0x1"]),
    "an incentive 1_0": (
        HEAD.replace("\n", ",bonus\n") + ANN.replace("\n", ",1_0\n"),
        {},
        ["bonus", "1_0"],
    ),
    "a row of units below the header": (HEAD + "-,days,-,-,-\n" + ANN, {}, ["row 0"]),
    "a row of totals": (HEAD + ANN + "Total,,,1,\n", {}, ["row 1"]),
    "a remark above the header": ("# by hand\n" + HEAD + ANN, {}, ["t.csv"]),
    "a line that says the separator": ("sep=;\n" + HEAD + ANN, {}, ["sep=", "columns"]),
    "bars between cells": ((HEAD + ANN).replace(",", "|"), {}, ["columns", "|"]),
    "days beside months": (
        HEAD + ANN.replace(",0,", ",2026-01-05,") + "ann,2026-01,settled,work,cost 0.5\n",
        {},
        ["step", "distance"],
    ),
    "a misspelt option": (HEAD + ANN, {"seperator": ";"}, ["seperator", "columns"]),
    "missing=5": (HEAD + ANN, {"missing": 5}, ["missing", "5"]),
    "columns that are one text": (HEAD + ANN, {"columns": "follower"}, ["columns", "follower"]),
    "incentives in words": (HEAD + ANN, {"incentives": "none"}, ["incentives", "none"]),
    "an incentive whose entries have a hole": (
        HEAD.replace("\n", ",bonus[0],bonus[2]\n") + ANN.replace("\n", ",1,2\n"),
        {},
        ["bonus"],
    ),
    "the sign 0 in a cell": (HEAD + ANN.replace("ann", "an\0n") + BOB, {}, ["0"]),
}

# Text that must stay text: a column, its cells as written, and what must be read.
TEXT = {
    "followers 007 and 7": ("follower", ("007", "7")),
    "followers 1e3 and 1000": ("follower", ("1e3", "1000")),
    "followers NA and null": ("follower", ("NA", "null")),
    "followers of 16 digits that differ in the last": (
        "follower",
        ("9007199254740993", "9007199254740992"),
    ),
    "followers with letters of two alphabets": ("follower", ("Zoë", "Ζωή")),
    "followers =1+1 and +2": ("follower", ("=1+1", "+2")),
    "followers True and true": ("follower", ("True", "true")),
    "groups 01 and 1": ("group", ("01", "1")),
    "groups inf and Infinity": ("group", ("inf", "Infinity")),
    "regimes 1.0 and 1": ("regime", ("1.0", "1")),
    "regimes 2026-01 and 2026-01-01": ("regime", ("2026-01", "2026-01-01")),
    "contexts nan and None": ("context", ("nan", "None")),
}


def _text(column: str, cells: tuple[str, str]) -> Any:
    content = "id,step,state,action,follower,context,group,regime\n"
    for number, cell in enumerate(cells):
        row = {"follower": f"f{number}", "context": "c", "group": "g", "regime": "baseline"}
        content += f"{number},0,0,1," + ",".join((row | {column: cell}).values()) + "\n"

    def run(bench: Bench) -> Any:
        given = {cell: {} for cell in cells} if column == "regime" else None
        path = bench.file("t.csv", content.replace("id,", "episode,"))
        return cb.load_trajectories(path, incentives=given)[column].values.tolist()

    return run


def _columns(**changed: Any) -> dict:
    return {
        "follower": ["ann", "bob"],
        "step": [0, 0],
        "state": [0, 0],
        "action": [1, 0],
        "context": ["cost 0.5", "cost 1.5"],
    } | changed


# Cells of other types, which must be read all the same.
TYPES = {
    "actions as categories": _columns(action=pd.Categorical(["work", "decline"])),
    "actions as truth values": _columns(action=np.array([True, False])),
    "actions as floats": _columns(action=[1.0, 0.0]),
    "actions as nullable numbers": _columns(action=pd.array([1, 0], dtype="Int64")),
    "names in bytes": _columns(follower=[b"ann", b"bob"], action=[b"work", b"decline"]),
    "dates with a time zone": _columns(step=pd.to_datetime(["2026-03-29"] * 2).tz_localize("CET")),
    "dates of Python": _columns(step=[datetime.date(2026, 3, 29)] * 2),
    "periods": _columns(step=pd.PeriodIndex(["2026-03"] * 2, freq="M")),
    "strings of NumPy": _columns(follower=np.array(["ann", "bob"])),
}

# Cells and tables that cannot be read, with words of the error.
ODD = {
    "complex numbers": (_columns(action=[1j, 0]), ["action"]),
    "lists in cells": (_columns(action=[[1], [0]]), ["action"]),
    "dictionaries in cells": (_columns(follower=[{}, {}]), ["follower"]),
    "a nullable number that is missing": (
        _columns(action=pd.array([1, None], dtype="Int64")),
        ["action", "row 1"],
    ),
    "an identifier that lost its digits": (_columns(follower=[1.2e18, 2.0]), ["follower"]),
    "headers in two rows": (
        lambda: pd.DataFrame(_columns()).T.assign(level=1).set_index("level", append=True).T,
        ["follower"],
    ),
    "a table without rows": (lambda: pd.DataFrame(_columns())[:0], ["no episodes"]),
    "steps as spans of time": (_columns(step=pd.to_timedelta([0, 0], "D")), ["step"]),
}


def _made(*rows: Any, **given: Any) -> Any:
    def run(bench: Bench) -> Any:
        data = cb.make_trajectories(*rows, **given)
        cb.check_trajectories(data, bench.problem)
        return data.action.values.tolist()

    return run


# Lists, with words of the error.
LISTS = {
    "more actions than states": ((([[0]], [[1, 0]])), {}, ["action", "episode 0"]),
    "fewer episodes of actions": ((([[0], [0]], [[1]])), {}, ["2 state", "1 action"]),
    "no episodes": (([], []), {}, ["no episodes"]),
    "an empty episode": (([[], [0]], [[], [1]]), {}, ["episode 0 is empty"]),
    "nothing but an empty episode": (([[]], [[]]), {}, ["no steps"]),
    "fractions": (([[0]], [[0.5]]), {}, ["action", "0.5"]),
    "text for numbers": (([[0]], [["work"]]), {}, ["action", "work"]),
    "an action of 2**40": (([[0]], [[2**40]]), {}, ["action"]),
    "a list of numbers for a list of lists": (([0, 0], [1, 0]), {}, ["state"]),
    "three names for two followers": (
        ([[0], [0]], [[1], [0]]),
        {"follower": ["a", "b", "c"]},
        ["follower has 3"],
    ),
    "a follower None": (([[0]], [[1]]), {"follower": [None]}, ["follower"]),
    "a context that is a number": (([[0]], [[1]]), {"context": [0.5]}, ["0.5", "cost 0.5"]),
    "an incentive for nobody": (
        ([[0]], [[1]]),
        {"regime": ["now"], "incentives": {"then": {"bonus": 1.0}}},
        ["now"],
    ),
}


def _joined(bench: Bench) -> Any:
    parts = [
        cb.make_trajectories([[0]], [[1]], regime=["now"], incentives={"now": {"bonus": bonus}})
        for bonus in (1.0, 2.0)
    ]
    return cb.concatenate(parts)


FAULTS: list[Fault] = [
    *(held(KIND, n, _file(c, THREE, **g), RIGHT, note=NONE) for n, (c, g) in SAME.items()),
    *(held(KIND, n, _file(c, THREE), RIGHT, note=note) for n, (c, note) in NOTED.items()),
    *(refused(KIND, n, _file(c, ("action",), **g), *w) for n, (c, g, w) in WRONG.items()),
    *(held(KIND, n, _text(c, cells), list(cells)) for n, (c, cells) in TEXT.items()),
    *(held(KIND, n, _frame(c, THREE), RIGHT, note=NONE) for n, c in TYPES.items()),
    *(refused(KIND, n, _frame(c), *w) for n, (c, w) in ODD.items()),
    *(refused(KIND, n, _made(*rows, **g), *w) for n, (rows, g, w) in LISTS.items()),
    refused(KIND, "two data sets, one regime, two incentives", _joined, "now", "two incentives"),
    refused(KIND, "no data set to join", lambda b: cb.concatenate([]), "no data"),
    refused(KIND, "a data set and a text to join", lambda b: cb.concatenate([b.data, "x"]), "'x'"),
    refused(
        KIND,
        "behaviour of another problem",
        lambda b: cb.check_trajectories(b.data, cb.problems.four_rooms()),
        "context",
    ),
    refused(
        KIND,
        "a file that is not there",
        lambda b: cb.load_trajectories(b.folder / "none.csv"),
        "none.csv",
    ),
    refused(
        KIND,
        "a folder under the name of a table",
        lambda b: ((b.folder / "t.csv").mkdir(), cb.load_trajectories(b.folder / "t.csv")),
        "t.csv",
    ),
    refused(
        KIND,
        "a spreadsheet",
        lambda b: cb.load_trajectories(b.file("t.xlsx", b"PK")),
        "t.xlsx",
        ".csv",
    ),
    refused(
        KIND,
        "a table beyond the limits of memory",
        lambda b: cb.from_table(
            pd.DataFrame({"follower": "a", "step": range(200), "state": 0, "action": 1}),
            limits=cb.FileLimits(most_bytes=1000),
        ),
        "limit",
    ),
]
