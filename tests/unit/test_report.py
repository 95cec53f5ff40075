import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import cbrl_bayes as cb
from cbrl_bayes.cli import app
from cbrl_bayes.errors import InvalidInputError, ResultsError
from cbrl_bayes.reports import report
from cbrl_bayes.reports.charts import Line, grid_map, interval_bars
from cbrl_bayes.reports.designs import OWN
from cbrl_bayes.reports.parts import Table, Text
from cbrl_bayes.reports.reproduce import commands, expression, program
from cbrl_bayes.reports.tables import group_parts, number
from tests.unit.test_untrusted_files import small_tree

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
EVIL = '"><script>document.title="taken"</script><img src=x onerror=alert(1)>'
NAME = EVIL.replace("/", "")  # names in a tree hold no slash
SECTIONS = ["question", "data", "posterior", "incentive", "objective", "regret", "comparison",
            "ascents", "missing", "provenance", "reproduce"]  # fmt: skip


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
    """A tree that passes its checks, with penalties on three cells of a map beside a bonus."""
    tree, rng = small_tree(60), np.random.default_rng(1)
    for name, dims in (("design", ("chain", "draw")), ("decision", ("design",))):
        data = tree[name].to_dataset().rename(incentive="incentive_bonus")
        sizes = [data.sizes[dim] for dim in dims]
        data = data.assign_coords(row=("cell", [1, 1, 2]), column=("cell", [1, 2, 2]))
        data["incentive_penalty"] = ((*dims, "cell"), rng.uniform(size=(*sizes, 3)))
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
    assert found.sections == ["health", *SECTIONS]
    assert not _outside(found.loads)
    assert not found.handlers
    assert found.tags.count("script") == found.tags.count("style") == 1
    assert "link" not in found.tags
    assert "default-src 'none'" in page.html
    assert len(page.html) < 1_000_000
    text = " ".join(found.text)
    assert "90 % equal-tailed interval" in text
    assert page.html.count('class="chip PASS"') == 6  # beside every result it touches


def test_numbers_on_the_page_are_those_of_the_tree(page):
    tree = small_study()
    decision = tree["decision"].to_dataset()
    objective = decision["objective"].sel(design="plug_in").values.ravel()
    low, high = np.quantile(objective, [0.05, 0.95])
    cells = (number(objective.mean()), number(objective.std()), f"{number(low)} to {number(high)}")
    assert "".join(f'<td class="right">{cell}</td>' for cell in cells) in page.html
    better = np.mean(objective > decision["objective"].sel(design="common").values.ravel())
    assert re.search(rf"plug_in</th><td class=\"right\">{number(better)}</td>", page.html)
    draws = tree["design"]["incentive_penalty"].values.reshape(-1, 3)[:, 1]
    low, high = np.quantile(draws, [0.05, 0.95])
    tip = f"mean {number(draws.mean())}, 90 % equal-tailed interval {number(low)} to {number(high)}"
    assert f"row 1, column 2: {number(float(decision['incentive_penalty'][0, 1]))} points" in (
        page.html
    )
    assert tip in page.html


def test_text_from_the_file_cannot_run():
    tree = small_study()
    tree.attrs |= {"problem": EVIL, "objective_unit": EVIL, "created": EVIL, "estimator": EVIL,
                   "versions": json.dumps({EVIL: EVIL})}  # fmt: skip
    tree.attrs["settings"] = json.dumps({"priors": {"temperature": EVIL}, EVIL: EVIL})
    data = tree["decision"].to_dataset().assign_coords(design=["common", EVIL])
    data["incentive_penalty"].attrs |= {"units": EVIL, "long_name": EVIL, "description": EVIL}
    tree["decision"] = xr.DataTree(data)
    tree["design"] = xr.DataTree(tree["design"].to_dataset().assign_coords(follower=[EVIL]))
    tree["posterior"] = xr.DataTree(tree["posterior"].to_dataset().rename(temperature=NAME))
    tree["another"] = xr.DataTree(
        xr.Dataset({NAME: (NAME, [1.0], {"units": EVIL, "description": EVIL})},
                   coords={NAME + "2": (NAME, [EVIL])}, attrs={"description": EVIL})
    )  # fmt: skip
    made = report(tree, question=EVIL)
    for html, scripts in ((made.html, 1), (made._repr_html_(), 0)):
        found = Page(html)
        assert found.tags.count("script") == scripts
        assert not found.handlers
        assert not _outside(found.loads)
        assert "taken" in " ".join(found.text)  # shown as the text it is
    assert "<script>" not in cb.summary(tree)._repr_html_()
    ast_text = program(tree)
    assert "\n" not in ast_text.splitlines()[4]
    compile(ast_text, "program", "exec")


def test_a_failed_study_is_withheld_unless_accepted():
    tree = small_tree()  # three draws: FAIL
    text = report(tree).html
    assert "Health: FAIL" in text
    assert "3 designed draws are few" in text
    assert text.count("Withheld: this study failed its checks") == 4
    assert "no incentive is recommended" in text
    value = number(float(tree["decision"]["incentive"][0]))
    shown = report(tree, accept_failed=True).html
    assert "Withheld" not in shown
    assert "Do not rely on them" in shown
    assert f">{value}</td>" in shown
    assert "recommended incentive is the common" in shown
    assert "recommended incentive is the common" not in text
    assert "Withheld" in report(tree)._repr_html_()
    assert "do not rely on it" in report(tree, accept_failed=True)._repr_html_()


def test_draws_that_failed_are_counted():
    tree = small_study()
    decision = tree["decision"].to_dataset()
    decision["objective"][0, 0, :4] = np.nan
    tree["decision"] = xr.DataTree(decision)
    text = report(tree, accept_failed=True).html
    assert "4 of 60 draws not finite" in text
    decision["objective"][0] = np.nan
    tree["decision"] = xr.DataTree(decision)
    assert "not finite</text>" in report(tree, accept_failed=True).html


def test_any_group_is_shown():
    group = xr.Dataset(
        {
            "evpi": 0.479811, "evpi_standard_error": 0.01,
            "share": (("source", "design"), [[0.25, 0.5], [0.75, 0.5]], {"units": "1"}),
            "value": (("design", "chain", "draw"), np.arange(8.0).reshape(2, 1, 4)),
            "bounds": (("design", "ci_bound"), [[0.0, 1.0], [2.0, 3.0]]),
            "cube": (("source", "design", "alpha"), np.ones((2, 2, 2))),
            "large": (tuple("abcd"), np.ones((2, 2, 2, 2))),
            "unconstrained": ("design", [5.0, 6.0]),
        },
        coords={"design": ["common", "plug_in"], "source": ["posterior", "search"]},
    )  # fmt: skip
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
    lines = [Line("a", "tip", np.array([0.0, 1.0, 2.0]), "#000000"),
             Line("b", "tip", np.array([np.nan]), "#000000", diamond=1.0)]  # fmt: skip
    chart = interval_bars(lines, 0.8, "x", "")
    first, second = chart.rows
    # The mean and the single value are the same number, hence the same place.
    assert first.middle == second.diamond
    assert first.outer[0] < first.inner[0] < first.middle < first.inner[1] < first.outer[1]
    assert second.outer is None
    at = [place for place, _ in chart.ticks]
    values = [float(text) for _, text in chart.ticks]
    slope = np.diff(at) / np.diff(values)
    assert np.ptp(slope) < 0.1  # places are rounded to a hundredth
    assert interval_bars([Line("c", "", np.full(3, 7.0), "#0")], 0.9, "", "").rows[0].middle
    cells = xr.DataArray([0.0, 1.0, np.nan], dims="cell")
    cells = cells.assign_coords(row=("cell", [1, 1, 3]), column=("cell", [2, 4, 2]))
    drawn = grid_map(cells, ["a", "b", "c"], (0.0, 1.0), "t", "c")
    assert [mark.fill for mark in drawn.marks] == ["#440154", "#fde725", "#d9d9d9"]
    assert drawn.marks[2].y == 2 * drawn.marks[1].x / 2  # both two cells from the corner
    assert [name for _, name in drawn.column_names] == ["2", "3", "4"]


@pytest.mark.slow
def test_the_program_makes_the_study_again(tmp_path, monkeypatch):
    import jax

    problem = cb.problems.two_state()
    data = cb.simulate_trajectories(problem, key=jax.random.key(0), num_episodes=40, num_steps=1,
                                    incentive={"bonus": 1.0})  # fmt: skip
    cb.save_trajectories(data, tmp_path / "data.nc")
    quick = cb.Search(ascent=cb.Ascent(num_steps=20, continuation=(2.0, 1.0)))
    fit = cb.infer(problem, data, key=jax.random.key(3),
                   settings=cb.SVISettings(num_steps=20, num_samples=12))  # fmt: skip
    study = cb.design(problem, fit, key=jax.random.key(4), num_draws=10, estimator=cb.exact(),
                      settings=cb.DesignSettings(search=quick, per_draw=quick))  # fmt: skip
    text = program(study).replace('"DATA"', '"data.nc"')
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(text, "program", "exec"), names)
    for group in ("posterior", "design", "decision"):
        xr.testing.assert_equal(names["study"][group].to_dataset(), study[group].to_dataset())
    assert (tmp_path / "report.html").exists()
    assert commands(study) == "cbrl-bayes report study.nc -o report.html"  # SVI has no command


def test_settings_as_python():
    kept = {"inference": {"type": "NUTSSettings", "num_chains": 2, "num_warmup": 5,
                          "num_samples": 6}, "seed": [0, 7]}  # fmt: skip
    tree = small_tree()
    tree.attrs |= {"problem": "two_state", "settings": json.dumps(kept),
                   "design_settings": json.dumps({"seed": [0, 8], "num_draws": 9})}  # fmt: skip
    assert commands(tree).splitlines() == [
        "cbrl-bayes infer two_state --data DATA --chains 2 --warmup 5 --samples 6 --seed 7 "
        "--output fit.nc",
        "cbrl-bayes design two_state --fit fit.nc --draws 9 --seed 8 --output study.nc",
        "cbrl-bayes report study.nc -o report.html",
    ]
    assert "two_state()" in program(tree)
    assert expression({"type": "os.system('x')"}) == repr({"type": "os.system('x')"})
    assert expression({"type": "system", "a": 1}) == repr({"type": "system", "a": 1})
    tree.attrs["settings"] = json.dumps(kept | {"seed": [5, 7]})
    tree.attrs["stage"] = "fit"
    assert "wrap_key_data(np.array([5, 7], np.uint32))" in program(tree)


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
    done = CliRunner().invoke(app, ["report", str(saved), "-o", str(tmp_path / "cli.html"),
                                    "--question", "Which bonus?"])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "health: PASS" in done.stdout
    assert "Which bonus?" in (tmp_path / "cli.html").read_text()


def test_a_fit_and_a_real_study(fitted, study):
    text = report(fitted, question="How rational are walkers?").html
    assert "How rational are walkers?" in text
    assert "this file is a fit; add them with cb.design" in text
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
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--user-data-dir={folder / 'profile'}", "--disable-background-networking", *more,
         "--dump-dom", (folder / "page.html").as_uri()],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
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
  document.getElementById("design-0").click();
  said.kept = document.querySelector(".pick-0 .map output").textContent;
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
    slipped = page.html.replace("</body>", '<script>document.title="taken"</script>'
                                '<img src="http://localhost:9/x.png"></body>')  # fmt: skip
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
        "hover": (1, 1, values[1, 0]), "right": (1, 2, values[1, 1]),
        "down": (2, 2, values[1, 2]), "kept": (2, 2, values[0, 2]),
    }  # fmt: skip
    for step, (row, column, value) in expected.items():
        assert said[step].startswith(f"row {row}, column {column}: {number(float(value))} points")
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
