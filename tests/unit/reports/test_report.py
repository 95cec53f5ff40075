import ast
import io
import json
import re
import shlex
import shutil
import subprocess
import tokenize
from collections import Counter
from html import escape
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import cbrl_bayes as cb
from cbrl_bayes.cli.app import app
from cbrl_bayes.designs import default_design_settings
from cbrl_bayes.errors import InvalidInputError, ResultsError
from cbrl_bayes.hypergradients import ESTIMATORS
from cbrl_bayes.plots import ColourScale
from cbrl_bayes.reports import report
from cbrl_bayes.reports.charts import Line, grid_map, interval_bars
from cbrl_bayes.reports.designs import MOST_DESIGNS
from cbrl_bayes.reports.incentives import MOST_ARRAYS, MOST_CELLS, OWN
from cbrl_bayes.reports.parts import Table, Text
from cbrl_bayes.reports.reproduce import SETTINGS, commands, expression, program
from cbrl_bayes.reports.sections import judged
from cbrl_bayes.reports.tables import group_parts, number, spread
from cbrl_bayes.results.provenance import describe
from cbrl_bayes.results.table import WITHHELD
from cbrl_bayes.robust.tables import BEATS
from tests.unit.files.test_untrusted_files import small_tree

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
EVIL = '"><script>document.title="taken"</script><img src=x onerror=alert(1)>'
NAME = EVIL.replace("/", "")  # names in a tree hold no slash
SECTIONS = [
    "question",
    "data",
    "posterior",
    "incentive",
    "objective",
    "regret",
    "comparison",
    "ascents",
    "missing",
    "provenance",
    "reproduce",
]


class Page(HTMLParser):
    """What a page holds: elements, text, and everything that could load or run."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.loads, self.handlers, self.sections = [], [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href"):
                self.loads.append(value)
            if name.startswith("on"):
                self.handlers.append((tag, name))
            if tag == "section" and name == "id":
                self.sections.append(value)

    def handle_data(self, data):
        self.text.append(data)


def small_study():
    """A tree that passes its checks: a bonus, and penalties and tolls on three cells of a map."""
    tree, rng = small_tree(60), np.random.default_rng(1)
    for name, dims in (("design", ("chain", "draw")), ("decision", ("design",))):
        data = tree[name].to_dataset().rename(incentive="incentive_bonus")
        sizes = [data.sizes[dim] for dim in dims]
        data = data.assign_coords(row=("cell", [1, 1, 2]), column=("cell", [1, 2, 2]))
        data["incentive_penalty"] = ((*dims, "cell"), rng.uniform(size=(*sizes, 3)))
        data["incentive_toll"] = 2.0 * data["incentive_penalty"]
        data["incentive_penalty"].attrs["units"] = "points"
        tree[name] = xr.DataTree(data)
    return tree


@pytest.fixture(scope="module")
def page():
    return report(small_study())


def _outside(loads):
    return [value for value in loads if not value.startswith(("#", "data:image/svg+xml;base64,"))]


def test_a_page_stands_alone(page):
    found = Page(page.html)
    assert page.health.verdict == "PASS"
    assert found.sections == ["recommendation", "health", *SECTIONS]
    assert not _outside(found.loads)
    assert not found.handlers
    assert found.tags.count("script") == found.tags.count("style") == 1
    assert "link" not in found.tags
    assert "default-src 'none'" in page.html
    assert len(page.html) < 1_000_000
    text = " ".join(found.text)
    assert "90 % equal-tailed interval" in text
    assert page.html.count('class="chip PASS"') == 7  # on top, and beside every result it touches


def _table_rows(html, caption):
    """Return the cells of the tables whose caption begins so, by the name of the row."""
    rows = {}
    for table in re.findall(rf"<caption>{re.escape(caption)}.*?</table>", html, flags=re.S):
        for row in re.findall(r"<tr[^>]*>(<th scope=\"row\".*?)</tr>", table):
            name, *cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)
            rows[name] = cells
    return rows


def test_numbers_on_the_page_are_those_of_the_tables():
    """The page and the package's tables come to the same numbers by two ways."""
    tree = small_study()
    decision = tree["decision"].to_dataset()
    decision["objective"][1, 0, :9] = decision["objective"][0, 0, :9]  # ties count half
    third = decision.isel(design=[1]).assign_coords(design=["cvar_0.1"])
    third["objective"] = third["objective"] + 0.01
    decision = xr.concat([decision, third], "design", data_vars="minimal")
    own = tree["design"].to_dataset()["leader_objective"]
    decision["own_objective"] = own + 0.25  # as robust designs score them anew
    decision["best_objective"] = own + 1.0
    tree["decision"] = xr.DataTree(decision)
    html = report(tree).html
    found = cb.compare_designs(tree)
    shown = _table_rows(html, "leader&#39;s objective [money] over 60 posterior draws")
    regrets = _table_rows(html, "regret [money] over 60 posterior draws")
    for name, row in found.frame.iterrows():
        interval = f"{number(row['lower'])} to {number(row['upper'])}"
        assert shown[name][:3] == [number(row["mean"]), number(row["sd"]), interval]
        if name != OWN:
            assert regrets[name][0] == number(row["regret"])
    shares = _table_rows(html, "P(row beats column)")
    beats = found.frames[BEATS]
    for i, name in enumerate(beats):
        expected = [number(value) for value in beats.loc[name]]
        assert shares[name] == [*expected[:i], "\N{EN DASH}", *expected[i + 1 :]]
    against = _table_rows(html, "common against the others")
    assert against["plug-in"][0] == number(beats.loc["common", "plug-in"])
    told = cb.summary(tree).frame
    bonus = told.loc[("best per draw", "incentive_bonus")]
    interval = f"{number(bonus['lower'])} to {number(bonus['upper'])}"
    assert _table_rows(html, "incentive_bonus")["incentive_bonus"][3:] == [
        number(bonus["mean"]),
        interval,
    ]
    cell = told.loc[("best per draw", "incentive_penalty[row 1, column 2]")]
    tip = (
        f"mean {number(cell['mean'])}, 90 % equal-tailed interval {number(cell['lower'])} to "
        f"{number(cell['upper'])} points"
    )
    value = number(float(decision["incentive_penalty"][0, 1]))
    assert f"row 1, column 2: {value} points in this design; best per draw: {tip}" in html


def test_text_from_the_file_cannot_run():
    tree = small_study()
    tree.attrs |= {
        "problem": EVIL,
        "objective_unit": EVIL,
        "created": EVIL,
        "estimator": EVIL,
        "versions": json.dumps({EVIL: EVIL}),
    }
    tree.attrs["settings"] = json.dumps({"priors": {"temperature": EVIL}, EVIL: EVIL})
    data = tree["decision"].to_dataset().assign_coords(design=["common", EVIL])
    data["incentive_penalty"].attrs |= {"units": EVIL, "long_name": EVIL, "description": EVIL}
    tree["decision"] = xr.DataTree(data)
    tree["design"] = xr.DataTree(tree["design"].to_dataset().assign_coords(follower=[EVIL]))
    tree["posterior"] = xr.DataTree(tree["posterior"].to_dataset().rename(temperature=NAME))
    tree["another"] = xr.DataTree(
        xr.Dataset(
            {NAME: (NAME, [1.0], {"units": EVIL, "description": EVIL})},
            coords={NAME + "2": (NAME, [EVIL])},
            attrs={"description": EVIL},
        )
    )
    made = report(tree, question=EVIL)
    for html, scripts in ((made.html, 1), (made._repr_html_(), 0)):
        found = Page(html)
        assert found.tags.count("script") == scripts
        assert not found.handlers
        assert not _outside(found.loads)
        assert "taken" in " ".join(found.text)  # shown as the text it is
    assert "<script>" not in cb.summary(tree)._repr_html_()


BREAKS_OUT = (
    "2' $(touch taken); touch taken\ntaken()\n`touch taken`'); taken() #",
    ["taken"],
    [0, "$(taken)"],
    True,
    1.5,
    -1,
    {"type": "save", "tree": "taken", "path": "/etc/passwd"},
    {"type": "taken()"},
    {"type": "NUTSSettings", "num_chains": "taken", "taken": 1, "x=taken()": 2},
    float("nan"),
)
HARMLESS = {
    "cb.infer",
    "cb.design",
    "cb.save",
    "cb.report",
    "cb.load_trajectories",
    "float",
    "cb.problems.two_state",
    "jax.random.key",
    "jax.random.wrap_key_data",
    "np.array",
    *SETTINGS,
}


def _default_tree(estimator="exact"):
    """Return a tree as the command line would have made it."""
    how = ESTIMATORS[estimator]()
    tree = small_study()
    fitted = {"inference": describe(cb.NUTSSettings()), "seed": [0, 7]}
    designed = {
        "design": describe(default_design_settings(how, cb.problems.two_state())),
        "estimator": describe(how),
        "num_draws": 9,
        "seed": [0, 8],
    }
    calls = [
        {
            "command": "infer",
            "problem": "two_state",
            "options": {"data": "DATA", "method": "nuts", "chains": 4, "seed": 7},
            "created": "earlier",
        },
        {
            "command": "design",
            "problem": "two_state",
            "options": {"fit": "fit.nc", "estimator": estimator, "draws": 9, "temperature": 0.25},
            "created": tree.attrs["created"],
        },
        {
            "command": "robust",
            "problem": "two_state",
            "options": {"cvar": [0.1, 0.25], "most-cost": -1.5},
            "created": tree.attrs["created"],
        },
    ]
    tree.attrs |= {
        "problem": "two_state",
        "stage": "design",
        "settings": json.dumps(fitted),
        "design_settings": json.dumps(designed),
        "commands": json.dumps(calls),
    }
    return tree


def _places(value):
    """Yield every dictionary and list in a value, with each of its places."""
    if isinstance(value, dict | list):
        for place in value if isinstance(value, dict) else range(len(value)):
            yield value, place
            yield from _places(value[place])


@pytest.mark.parametrize("attribute", ["settings", "design_settings", "commands"])
def test_what_is_printed_to_copy_cannot_do_harm(attribute):
    """Each setting in turn is replaced by what would leave its place in Python or in a shell."""
    tree = _default_tree("hpgd")
    good = tree.attrs[attribute]
    for at in range(len(list(_places(json.loads(good))))):
        for evil in BREAKS_OUT:
            kept = json.loads(good)
            inside, name = list(_places(kept))[at]
            inside[name] = evil
            tree.attrs[attribute] = json.dumps(kept)
            text = program(tree)
            for token in tokenize.generate_tokens(io.StringIO(text).readline):
                # Text of the file only stands where Python does not run it.
                if token.type not in (tokenize.STRING, tokenize.COMMENT):
                    assert "taken" not in token.string
            calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
            names = Counter(ast.unparse(node.func) for node in calls)
            assert set(names) <= HARMLESS
            assert all(names[f"cb.{verb}"] == 1 for verb in ("infer", "design", "save", "report"))
            _assert_harmless(commands(tree))
    tree.attrs |= {"problem": "two_state; taken", "fingerprint": "$(taken)"}
    assert "$" not in program(tree)


def _assert_harmless(text):
    for line in text.splitlines():
        # No letter that a shell reads as more than itself, comment or not.
        assert re.fullmatch(r"(# )?[\w .,:-]+", line), line
        assert "taken" not in line


def test_no_foreign_word_gets_into_a_command():
    """Names of options, more options, and values that a shell or the command would read anew."""
    for change in (
        {"seed; touch taken": 1},
        {"output": "taken.nc"},
        {"seed": "--output"},
        {"seed": "x" * 65},
        {"seed": "a\nb"},
        {"seed": "a\n"},
        {"cvar": [[0.1]]},
        {"cvar": {"taken": 1}},
    ):
        tree = _default_tree()
        calls = json.loads(tree.attrs["commands"])
        calls[1]["options"] |= change
        tree.attrs["commands"] = json.dumps(calls)
        _assert_harmless(commands(tree))
        assert commands(tree).startswith("# Made from Python")
    for damaged in ("{", "{}", "[]", "[1]", "null", '"taken"', '[{"command": "infer"}]'):
        tree.attrs["commands"] = damaged
        assert commands(tree).startswith("# Made from Python")


def test_a_failed_study_is_withheld_unless_accepted():
    tree = small_tree()  # three draws: FAIL
    text = report(tree).html
    assert "Health: FAIL" in text
    assert "3 designed draws are few" in text
    assert text.count(WITHHELD) == 4
    assert "no incentive is recommended" in text
    value = number(float(tree["decision"]["incentive"][0]))
    shown = report(tree, accept_failed=True).html
    assert WITHHELD not in shown
    assert "Do not rely on them" in shown
    assert f">{value}</td>" in shown
    assert "recommended incentive is the common" in shown
    assert "recommended incentive is the common" not in text
    assert WITHHELD in report(tree)._repr_html_()
    assert "do not rely on it" in report(tree, accept_failed=True)._repr_html_()
    passed = report(small_study(), accept_failed=True)  # a study that passed carries no warning
    assert "FAILED" not in passed.html + passed._repr_html_()


def test_draws_that_failed_are_counted():
    tree = small_study()
    design, decision = (tree[name].to_dataset() for name in ("design", "decision"))
    decision["objective"][0, 0, :4] = np.nan
    design["leader_objective"][0, :2] = np.nan
    design["incentive_penalty"][0, :7, 0] = np.nan
    design["incentive_bonus"][0, :5] = np.nan
    tree["decision"], tree["design"] = xr.DataTree(decision), xr.DataTree(design)
    tree["posterior"]["temperature"][0, :3] = np.nan
    text = report(tree, accept_failed=True).html
    objectives = _table_rows(text, "leader&#39;s objective")
    assert {"common (4 of 60 draws not finite)", f"{OWN} (2 of 60 draws not finite)"} <= {
        *objectives
    }
    pair = _table_rows(text, f"{OWN} against the others")["common"]
    assert pair[-1] == "4 of 60 draws not finite"  # two draws are lost in both
    assert "Left out: 4 draws, in which a design is not finite" in text
    assert _table_rows(text, "incentive_bonus")["incentive_bonus"][-1] == "5 of 60 draws not finite"
    assert "posterior: 3 of 60 draws not finite" in text
    # The mean of the draws' own is one number in the table, in each tip and on the map.
    mean = number(float(design["incentive_penalty"][0, 7:, 0].mean()))
    assert _table_rows(text, "incentive_penalty [points]")["row 1, column 1"][2] == mean
    assert f"row 1, column 1: {mean} points in this design; best per draw: mean {mean}" in text
    assert text.count("points; 7 of 60 draws not finite") == 6  # three designs, tip and title
    decision["objective"][0] = np.nan
    tree["decision"] = xr.DataTree(decision)
    assert "not finite</text>" in report(tree, accept_failed=True).html


def test_only_a_design_that_keeps_the_constraints_is_recommended():
    tree = small_study()
    decision = tree["decision"].to_dataset()
    constraint = {"constraint": ["P(cost) >= 0.9"]}
    for feasible, said in (
        ([1, 0], "The recommended incentive is the common design"),
        ([0, 1], "Designs that keep all of them: plug-in."),
        ([0, 0], "No design shown here keeps all of them."),
    ):
        one = decision.assign(feasible=("design", feasible)).assign_coords(constraint)
        one["satisfied_probability"] = (("constraint", "design"), [[0.5, 0.75]])
        tree["decision"] = xr.DataTree(one)
        text = report(tree).html
        assert said in text
        assert ("recommended incentive is the common" in text.lower()) == bool(feasible[0])
        assert ("<h2>Recommended incentive</h2>" in text) == bool(feasible[0])
        assert text.count("It does not keep the chance constraints") == feasible.count(0)


def test_a_small_file_makes_no_large_page():
    """Packed, a file of a few kilobytes may hold many designs, arrays, entries and long names."""
    tree = small_study()
    design, decision = (tree[name].to_dataset() for name in ("design", "decision"))
    num, cells = 300, 4000
    decision = decision.isel(design=np.zeros(num, int)).assign_coords(
        design=[f"d{i}" + 5000 * "x" for i in range(num)]
    )
    place = {"row": ("site", np.arange(cells) // 100), "column": ("site", np.arange(cells) % 100)}
    for i in range(2 * MOST_ARRAYS):
        attrs = {"units": 5000 * "u", "long_name": 5000 * "n"}
        decision[f"incentive_{i}"] = (("design", "site"), np.zeros((num, cells)), attrs)
        design[f"incentive_{i}"] = (("chain", "draw", "site"), np.zeros((1, 60, cells)))
    tree["design"] = xr.DataTree(design.assign_coords(place))
    tree["decision"] = xr.DataTree(decision.assign_coords(place))
    text = report(tree, accept_failed=True).html
    assert f"{num - MOST_DESIGNS} more designs are in the file" in text
    assert f"{2 * MOST_ARRAYS + 3 - MOST_ARRAYS} more arrays are in the file" in text
    assert "The 40 largest of 4000 entries" in text
    assert text.count("<rect") < MOST_CELLS
    assert len(text) < 15_000_000


def test_what_passed_is_what_was_judged():
    """A file without chains does not say that chains passed."""
    tree = small_study()
    words = re.search(r"Health: PASS</strong>: (.*?)</p>", report(tree).html).group(1)
    assert words.startswith(
        "nothing was found wrong with ascents; best responses to the designs for all draws; "
    )
    assert "chains" not in words
    tree.attrs |= {"sampler": "NUTS", "contraction": json.dumps({"temperature": 0.5})}
    assert judged(tree)[:3] == [
        "chains (R-hat, effective sample size, divergences)",
        "what the data say about each parameter",
        "ascents",
    ]
    for name in ("design", "design_trace", "decision"):
        del tree[name]
    assert len(judged(tree)) == 2


def test_any_group_is_shown():
    group = xr.Dataset(
        {
            "evpi": 0.479811,
            "evpi_standard_error": 0.01,
            "share": (("source", "design"), [[0.25, 0.5], [0.75, 0.5]], {"units": "1"}),
            "value": (("design", "chain", "draw"), np.arange(8.0).reshape(2, 1, 4)),
            "bounds": (("design", "ci_bound"), [[0.0, 1.0], [2.0, 3.0]]),
            "cube": (("source", "design", "alpha"), np.ones((2, 2, 2))),
            "large": (tuple("abcd"), np.ones((2, 2, 2, 2))),
            "unconstrained": ("design", [5.0, 6.0]),
        },
        coords={"design": ["common", "plug_in"], "source": ["posterior", "search"]},
    )
    parts = group_parts(group, 0.5)
    cells = {cell for part in parts if isinstance(part, Table) for row in part.rows for cell in row}
    assert {"0.4798 (s.e. 0.01)", "0.25", "1.5 [0.75, 2.25]", "0 to 1", "posterior"} <= cells
    assert any(isinstance(part, Text) and "a 2, b 2" in part.text for part in parts)
    assert not {"5", "6"} & cells
    tree = small_study()
    tree["another"] = xr.DataTree(group)
    tree["quite_new"] = xr.DataTree(group)
    tree["quite_new"].attrs["reviews"] = json.dumps(["few draws"])
    text = report(tree).html
    assert 'id="group-quite_new"' in text
    assert "REVIEW: few draws" in text
    assert "Health: REVIEW" in text
    assert text.count("0.4798 (s.e. 0.01)") == 2


def test_a_map_that_is_too_large_becomes_a_list():
    """A damaged coordinate must not make a page of a million rows."""
    tree = small_study()
    for name in ("design", "decision"):
        data = tree[name].to_dataset()
        tree[name] = xr.DataTree(data.assign_coords(row=("cell", [1, 2, 10**15])))
    text = report(tree).html
    assert 'class="map"' not in text
    assert "row 1000000000000000, column 2" in text


def test_places_on_the_charts():
    lines = [
        Line("a", "tip", spread(np.array([0.0, 1.0, 2.0]), 0.8), "#000000"),
        Line("b", "tip", spread(np.array([np.nan]), 0.8), "#000000", diamond=1.0),
    ]
    chart = interval_bars(lines, "x", "")
    first, second = chart.rows
    # The mean and the single value are the same number, hence the same place.
    assert first.middle == second.diamond
    assert first.outer[0] < first.inner[0] < first.middle < first.inner[1] < first.outer[1]
    assert second.outer is None
    at = [place for place, _ in chart.ticks]
    values = [float(text) for _, text in chart.ticks]
    slope = np.diff(at) / np.diff(values)
    assert np.ptp(slope) < 0.1  # places are rounded to a hundredth
    assert interval_bars([Line("c", "", spread(np.full(3, 7.0), 0.9), "#0")], "", "").rows[0].middle
    cells = xr.DataArray([0.0, 1.0, np.nan], dims="cell")
    cells = cells.assign_coords(row=("cell", [1, 1, 3]), column=("cell", [2, 4, 2]))
    cells.attrs["marks"] = json.dumps({"goal": [1, 9], "start": [0, "x"]})  # what fits is used
    drawn = grid_map(cells, ["a", "b", "c"], ColourScale(0.0, 1.0), "t", "c")
    assert [(letter, x) for x, _, letter in drawn.letters] == [("G", 85.0), ("S", 17.0)]
    assert drawn.caption == "c. G: goal, S: start"
    same = grid_map(cells, ["a", "b", "c"], ColourScale(2.0, 2.0), "t", "c")
    assert same.caption.startswith("c. All cells: 2.")
    assert not same.scale  # no colours that could tell 2 from 2
    assert [mark.fill for mark in drawn.marks] == ["#440154", "#fde725", "#d9d9d9"]
    assert drawn.marks[2].y == 2 * drawn.marks[1].x / 2  # both two cells from the corner
    assert [name for _, name in drawn.column_names] == ["2", "3", "4"]


def test_a_table_says_once_what_is_the_same():
    """Constant columns are one line, rows of zeros one row, a table of zeros a sentence."""
    head = ("entry", "mean", "lost")
    rows = [(f"e{i}", "0", "0") for i in range(5)]
    (said,) = Table("tolls", head, rows).condensed()
    assert said.text == "tolls: mean 0; lost 0, in every row (e0, e1, e2 and 2 more)."
    shorter, line = Table("tolls", head, [*rows, ("e5", "7", "0")]).condensed()
    assert shorter.rows == [("e0, e1, e2 and 2 more", "0"), ("e5", "7")]
    assert line.text == "In every row: lost 0."
    alike = [("a", "0", "7"), *rows[:2], ("b", "7", "7"), ("c", "7", "7"), ("d", "7", "7")]
    assert Table("tolls", head, alike).condensed() == [Table("tolls", head, alike)]
    # Rows of designs, which a reader marks, stay apart; a single row is no repetition.
    kept, _ = Table("tolls", head, [*rows, ("e5", "7", "0")], tuple(range(6))).condensed()
    assert len(kept.rows) == 6
    assert Table("tolls", head, rows[:1]).condensed() == [Table("tolls", head, rows[:1])]


def test_rounding_is_written_as_zero():
    """7.8e-14 beside .02 is 0, in matrices, intervals and spreads; 1e-5 beside 1 is not."""
    group = xr.Dataset(
        {
            "share": (("source", "design"), [[1.0, 1.0], [7.8e-14, 0.02]]),
            "value": (("design", "chain", "draw"), [[[1.0, 3.0]], [[1e-15, 2e-15]]]),
            "bounds": (("design", "ci_bound"), [[-1e-17, 1.0], [1e-5, 3.0]]),
            "tiny": ("design", [3e-14, 5e-14]),  # small as a whole: these are its numbers
        },
        coords={"design": ["common", "plug_in"], "source": ["posterior", "optimiser"]},
    )
    parts = group_parts(group, 0.9)
    cells = [cell for part in parts if isinstance(part, Table) for row in part.rows for cell in row]
    assert {"0 [0, 0]", "0 to 1", "1e-05 to 3", "3e-14", "5e-14", "0.02"} <= set(cells)
    assert not [cell for cell in cells if "7.8e-14" in cell or "e-17" in cell or "e-15" in cell]


def five_numbers():
    """A study of five tolls that passes, with responses, a long settings record and zeros."""
    tree, rng = small_tree(60), np.random.default_rng(2)
    roads = ["motorway", "ring road " * 6, "tunnel", "link", "street"]
    for name, dims in (("design", ("chain", "draw")), ("decision", ("design",))):
        data = tree[name].to_dataset().drop_vars("incentive")
        sizes = [data.sizes[dim] for dim in dims]
        tolls = (*dims, "road"), rng.uniform(size=(*sizes, 5)), {"units": "euro per passage"}
        tree[name] = xr.DataTree(data.assign(incentive=tolls).assign_coords(road=roads))
    share = rng.uniform(size=(1, 60, 2, 1, 3))
    dims = ("chain", "draw", "context", "follower", "state", "action")
    policies = {
        f"policy_{n}": (dims, np.stack([1 - by * share, by * share], -1))
        for n, by in (("baseline", 0.2), ("common", 0.9))
    }
    coords = {"context": ["dry", "rain"], "follower": ["all"], "state": ["home", "east", "west"]}
    tree["response"] = xr.DataTree(xr.Dataset(policies, coords=coords))
    tree.attrs["settings"] = json.dumps({f"setting {i}": i for i in range(200)})
    return tree


MEASURE = """
addEventListener("load", () => {
  const top = (id) => Math.round(document.getElementById(id).getBoundingClientRect().bottom);
  const page = document.documentElement;
  document.body.textContent = JSON.stringify([page.scrollHeight, page.scrollWidth, innerWidth,
    top("recommendation")]);
});
"""


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_the_answer_is_on_the_first_screen(tmp_path):
    """At both widths; a page with five numbers is below 6,000 pixels and never scrolls sideways."""
    html = report(five_numbers()).html
    became, _ = _browse(tmp_path, html, MEASURE, "--window-size=1400,900")
    height, width, inner, end = json.loads(re.search(r"\[[\d,]+\]", became).group())
    assert height < 6000
    assert width <= inner
    assert end < 900
    # A window of the browser is 500 wide at least: a frame stands for the small screen.
    (tmp_path / "small").mkdir()
    script = MEASURE.replace("document.body.textContent", "parent.document.title")
    inside = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    inside = inside.replace("</body>", f"<script>{script}</script></body>")
    frame = f'<iframe width="420" height="900" srcdoc="{escape(inside)}"></iframe></body>'
    became, _ = _browse(tmp_path / "small", f"<title>x</title><body>{frame}", "0")
    _, width, inner, end = json.loads(re.search(r"<title>(.*?)</title>", became).group(1))
    assert inner == 420
    assert width <= 420
    assert end < 900


def test_long_settings_and_code_are_folded():
    html = report(five_numbers()).html
    answer, settings = html.index("Do this"), html.index("setting 199")
    assert answer < html.index("Health</h2>") < settings
    opened = html[:settings].count("<details>") - html[:settings].count("</details>")
    assert opened == 2  # the section, and the settings in it
    assert "How followers respond" in html  # for states of any kind


@pytest.mark.slow
def test_the_program_makes_the_study_again(tmp_path, monkeypatch):
    import jax

    problem = cb.problems.two_state()
    data = cb.simulate_trajectories(
        problem, key=jax.random.key(0), num_episodes=40, num_steps=1, incentive={"bonus": 1.0}
    )
    cb.save_trajectories(data, tmp_path / "data.nc")
    quick = cb.Search(ascent=cb.Ascent(num_steps=20, continuation=(2.0, 1.0)))
    fit = cb.infer(
        problem, data, key=jax.random.key(3), settings=cb.SVISettings(num_steps=20, num_samples=12)
    )
    study = cb.design(
        problem,
        fit,
        key=jax.random.key(4),
        num_draws=10,
        estimator=cb.Exact(),
        settings=cb.DesignSettings(search=quick, per_draw=quick),
    )
    text = program(study).replace('"DATA"', '"data.nc"')
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(text, "program", "exec"), names)
    for group in ("posterior", "design", "decision"):
        xr.testing.assert_equal(names["study"][group].to_dataset(), study[group].to_dataset())
    assert (tmp_path / "report.html").exists()


def test_settings_as_python():
    tree = _default_tree()
    assert "two_state()" in program(tree)
    hpgd = json.loads(json.dumps(describe(cb.HPGD())))
    namespace = {"cb": cb}
    exec(f"made = {expression(hpgd)}", namespace)  # its follower too
    assert describe(namespace["made"]) == describe(cb.HPGD())
    # Only types of settings are named: no function, no other type, no name that is no field.
    for kind in ("os.system('x')", "system", "save", "design", "load", "Problem", "DataTree"):
        assert expression({"type": kind, "a": 1}) == repr({"type": kind, "a": 1})
    assert expression({"type": "Ascent", "num_steps": 5, "evil": 1}) == "cb.Ascent(num_steps=5)"
    assert expression([float("inf")]) == "(float('inf'),)"
    tree.attrs["settings"] = json.dumps({"seed": [5, 7]})
    assert "wrap_key_data(np.array([5, 7], np.uint32))" in program(tree)


def test_commands_are_those_that_made_the_study():
    tree = _default_tree("hpgd")
    lines = [
        "cbrl-bayes infer two_state --data DATA --method nuts --chains 4 --seed 7 --output fit.nc",
        "cbrl-bayes design two_state --fit fit.nc --estimator hpgd --draws 9 --temperature 0.25 "
        "--output study.nc",
        "cbrl-bayes robust two_state study.nc --cvar 0.1 --cvar 0.25 --most-cost -1.5 "
        "--output study.nc",
        "cbrl-bayes report study.nc -o report.html",
    ]
    assert commands(tree).splitlines() == lines
    calls = json.loads(tree.attrs["commands"])
    tree.attrs["commands"] = json.dumps(calls[1:])
    head, *found = commands(tree).splitlines()
    assert head == "# fit.nc was made from Python: use the program above."
    assert found == lines[1:]
    tree.attrs["created"] = "later"  # designed anew from Python
    head, *found = commands(tree).splitlines()
    assert head == "# Made from Python, or by an older version: use the program above."
    assert found == lines[3:]
    del tree.attrs["commands"]
    assert commands(tree).splitlines()[0] == head
    tree["stress"] = xr.DataTree()
    assert "# Left out is what was added to the study later" in commands(tree)


def test_alternatives_are_written_so_that_a_shell_and_python_read_them_again():
    tree = _default_tree("hpgd")
    stated = {"today's": {"bonus": 0.2}}
    calls = json.loads(tree.attrs["commands"])
    calls[1]["options"]["alternatives"] = json.dumps(stated)
    tree.attrs["commands"] = json.dumps(calls)
    words = shlex.split(commands(tree).splitlines()[1])
    assert json.loads(words[words.index("--alternatives") + 1]) == stated
    designed = json.loads(tree.attrs["design_settings"])
    tree.attrs["design_settings"] = json.dumps({**designed, "alternatives": stated})
    call = next(node for node in ast.walk(ast.parse(program(tree))) if _calls_design(node))
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    assert ast.literal_eval(given["alternatives"]) == stated


def _calls_design(node):
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "cb.design"


def test_files_and_wrong_use(tmp_path):
    tree = small_study()
    path = tmp_path / "page.html"
    path.write_text("before")
    made = report(tree, path)
    assert path.read_text() == made.html
    assert made.html == report(tree).html  # nothing in it depends on when it is made
    assert made.save(tmp_path / "again.html").exists()
    with pytest.raises(InvalidInputError, match=r"accepted: \*\.html"):
        report(tree, tmp_path / "page.pdf")
    with pytest.raises(InvalidInputError, match="0 < prob < 1"):
        report(tree, prob=90)
    with pytest.raises(ResultsError, match="cannot be written"):
        report(tree, tmp_path / "no_folder" / "page.html")
    with pytest.raises(ResultsError, match="groups are missing"):
        report(xr.DataTree(xr.Dataset(attrs=tree.attrs)))
    broken = tree.copy(deep=True)
    broken.attrs["settings"] = "{"
    with pytest.raises(ResultsError, match="the tree cannot be shown"):
        report(broken)
    saved = cb.save(tree, tmp_path / "study.nc")
    done = CliRunner().invoke(
        app, ["report", str(saved), "-o", str(tmp_path / "cli.html"), "--question", "Which bonus?"]
    )
    assert done.exit_code == 0, done.output
    assert "health: PASS" in done.stdout
    assert "Which bonus?" in (tmp_path / "cli.html").read_text()


def test_a_fit_and_a_real_study(fitted, study):
    text = report(fitted, question="How rational are walkers?").html
    assert "How rational are walkers?" in text
    assert "this file is a fit. Add them with cb.design" in text
    assert 'id="incentive"' not in text
    assert "prior, 90 %" in text
    made = report(study, accept_failed=True)
    assert "Lay penalties" in made.html  # the ready-made problem's own words
    assert made.html.count("<rect") > 3 * 104  # a map for each design and for the draws' mean
    assert OWN in made.html
    assert len(made.html) < 5_000_000
    short = made._repr_html_()
    assert "Health: " in short
    assert short.count("<svg") == 2
    assert "<script" not in short


def _browse(folder, html, script="", *more):
    """Open a page and return what it became and what the console said."""
    if script:  # a script of ours must be let in past the page's own policy
        html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
        html = html.replace("</body>", f"<script>{script}</script></body>")
    (folder / "page.html").write_text(html)
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            f"--user-data-dir={folder / 'profile'}",
            "--disable-background-networking",
            *more,
            "--dump-dom",
            (folder / "page.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


ACT = """
addEventListener("load", () => {
  const said = {};
  const shown = () => [...document.querySelectorAll(".pick")]
    .filter((each) => getComputedStyle(each).display !== "none").map((each) => each.className);
  const marked = () => [...document.querySelectorAll("tr[class^=option]")]
    .filter((each) => getComputedStyle(each).backgroundColor !== "rgba(0, 0, 0, 0)")
    .map((each) => each.className);
  said.before = shown();
  document.getElementById("design-1").click();
  said.after = shown();
  said.marked = marked();
  const map = document.querySelector(".pick-1 .map");
  const out = map.querySelector("output");
  const cell = map.querySelectorAll("[data-tip]")[0];
  cell.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
  said.hover = out.textContent;
  const svg = map.querySelector("svg");
  svg.focus();
  svg.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
  said.right = out.textContent;
  svg.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown", bubbles: true }));
  said.down = out.textContent;
  svg.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown", bubbles: true }));
  said.edge = out.textContent;
  document.getElementById("design-0").click();
  const tolls = () => document.querySelectorAll(".pick-0 .map")[1];
  said.kept = document.querySelector(".pick-0 .map output").textContent;
  said.untouched = tolls().querySelector("output").textContent;
  tolls().querySelectorAll("[data-tip]")[1]
    .dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
  document.getElementById("design-1").click();
  said.own = [...document.querySelectorAll(".pick-1 .map output")].map((each) => each.textContent);
  said.requests = performance.getEntriesByType("resource").map((entry) => entry.name)
    .filter((name) => !name.startsWith("data:"));
  document.body.textContent = JSON.stringify(said);
});
"""


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_in_a_browser(page, tmp_path):
    became, console = _browse(tmp_path, page.html)
    assert console == []
    assert "Point at the drawing" in became  # the page's script ran under its own policy
    # The policy holds: what slips in neither runs nor loads, and the console says so.
    slipped = page.html.replace(
        "</body>",
        '<script>document.title="taken"</script><img src="http://localhost:9/x.png"></body>',
    )
    became, console = _browse(tmp_path, slipped)
    assert "<title>taken" not in became
    assert len(console) == 2
    assert all("Content Security Policy" in line for line in console)


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_choosing_and_pointing(page, tmp_path):
    became, console = _browse(tmp_path, page.html, ACT)
    assert console == []
    body = became[became.index("<body>") + 6 : became.index("</body>")]
    said = json.loads(body.replace("&amp;", "&"))
    assert set(said["before"]) == {"pick pick-0"}
    assert set(said["after"]) == {"pick pick-1"}
    assert len(said["before"]) == len(said["after"]) == 4  # incentive, objective, regret, pairs
    assert set(said["marked"]) == {"option-1"}
    values = small_study()["decision"]["incentive_penalty"].values
    expected = {
        "hover": (1, 1, values[1, 0]),
        "right": (1, 2, values[1, 1]),
        "down": (2, 2, values[1, 2]),
        "edge": (2, 2, values[1, 2]),
        "kept": (2, 2, values[0, 2]),
    }
    for step, (row, column, value) in expected.items():
        assert said[step].startswith(f"row {row}, column {column}: {number(float(value))} points")
    assert said["untouched"].startswith("Point at the drawing")
    assert said["own"][0].startswith("row 2, column 2: ")  # each array keeps its own cell
    assert said["own"][1].startswith(f"row 1, column 2: {number(2 * float(values[1, 1]))} ")
    assert said["requests"] == []


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_without_javascript_and_on_paper(page, tmp_path):
    """The choice of design is plain CSS; every number but those of single cells is text."""
    bare = re.sub(r"<script>.*?</script>", "", page.html, flags=re.S)
    became, console = _browse(tmp_path, bare)
    assert console == []
    assert "row 1, column 1: " in became  # as the title of the cell
    pdf = tmp_path / "page.pdf"
    _browse(tmp_path, page.html, "", f"--print-to-pdf={pdf}")
    assert pdf.exists()
    assert pdf.read_bytes().startswith(b"%PDF")
