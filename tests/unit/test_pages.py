"""What README and pages show can be run as it stands, and what they list is complete."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
import xarray as xr
from typer.testing import CliRunner

import cbrl_bayes
from cbrl_bayes.cli.app import app

ROOT = Path(cbrl_bayes.__file__).parent.parent
GALLERY = [path for path in sorted((ROOT / "docs/gallery").glob("*.md")) if path.stem != "index"]
SLOW_PAGES = [
    "README.md",
    "docs/alternatives.md",
    "docs/calibration.md",
    "docs/campaigns.md",
    "docs/choosing.md",
    "docs/drift.md",
    "docs/equilibria.md",
    "docs/followers.md",
    "docs/clusters.md",
    "docs/faq.md",
    "docs/horizons.md",
    "docs/information.md",
    "docs/learning.md",
    "docs/one_step.md",
    "docs/posteriors.md",
    "docs/quickstart.md",
    "docs/robust.md",
    "docs/routes.md",
    "docs/sensitivity.md",
    *(str(path.relative_to(ROOT)) for path in GALLERY),
]
NOTES = "ignore::cbrl_bayes.errors.DataNote"
OF_A_PROBLEM = {
    "link",
    "answer",
    "cell",
    "district",
    "door",
    "good",
    "move",
    "option",
    "outcome",
    "round",
    "stage",
    "state",
    "trial",
}
"""Axes that an incentive or a parameter brings along."""


def _blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), flags=re.S)


def _run_page(page):
    """Run every Python block of a page, in order; return what they defined."""
    blocks = _blocks(page, "python")
    assert blocks
    found = {"__name__": "__page__"}
    exec(compile("\n".join(blocks), page, "exec"), found)
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the data of the repository, to run pages in."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "page",
    [
        pytest.param("docs/own_problem.md", marks=pytest.mark.slow),
        pytest.param("docs/data_format.md", marks=pytest.mark.filterwarnings(NOTES)),
        *(pytest.param(page, marks=pytest.mark.slow) for page in SLOW_PAGES),
    ],
)
def test_pages_run_as_written(page, folder):
    found = _run_page(page)
    for study in (value for value in found.values() if isinstance(value, xr.DataTree)):
        dims = {str(dim) for group in study.subtree for dim in group.to_dataset().dims}
        own = {dim for dim in dims if re.search(r"_entry(_\d+)?$", dim)} | OF_A_PROBLEM
        assert dims <= _axes() | own  # docs/notation.md lists every axis of every file
    if page != "README.md":
        return
    designed = cbrl_bayes.load("study.nc")  # later questions may add sentences of their own
    assert cbrl_bayes.summary(designed).health.verdict == "PASS"
    for line in "".join(_blocks(page, "bash")).splitlines():  # files of the blocks above
        result = CliRunner().invoke(app, shlex.split(line)[1:])
        assert result.exit_code == 0, (line, result.output, result.exception)
    assert (folder / "report.html").exists()


def _axes():
    rows = (ROOT / "docs/notation.md").read_text().split("## Names of axes")[1]
    firsts = [line.split("|")[1] for line in rows.splitlines() if line.startswith("|")]
    return set(re.findall(r"`([a-z_]+)`", " ".join(firsts)))


@pytest.mark.slow
def test_the_tutorial_runs_again(folder, monkeypatch):
    (folder / "docs").mkdir()
    monkeypatch.chdir(folder / "docs")
    notebook = json.loads((ROOT / "docs/tutorial.ipynb").read_text())
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    found = {"__name__": "__page__"}
    with matplotlib.rc_context():
        exec(compile("\n".join(cells), "tutorial", "exec"), found)
    cb, study = found["cb"], found["study"]
    assert cb.summary(study).health.verdict == "PASS"
    # Each group's true values lie well inside: within four posterior standard deviations.
    posterior = study["posterior"].to_dataset()
    for kind, values in found["truth"].items():
        for name, value in values.items():
            draws = posterior[name].sel(follower=kind)
            assert abs(float(draws.mean()) - value) < 4 * float(draws.std())


def test_the_committed_tutorial_holds_its_outputs():
    path = ROOT / "docs/tutorial.ipynb"
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    assert path.stat().st_size < 300_000
    assert "site-packages" not in path.read_text()  # no warning of the machine it ran on
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))
    kinds = {kind for c in cells for out in c["outputs"] for kind in out.get("data", {})}
    assert {"text/html", "image/png"} <= kinds
    assert not any(out["output_type"] == "error" for c in cells for out in c["outputs"])


@pytest.mark.slow
def test_the_pages_build_and_fetch_nothing(tmp_path):
    call = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    done = subprocess.run(
        [*call, str(ROOT / "docs"), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    pages = list(tmp_path.rglob("*.html"))
    assert pages
    fetched = re.compile(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?:https?:)?//[^"]*"')
    for page in pages:
        text = page.read_text()
        assert not fetched.search(text), page.name
        for formula in re.findall(r"<math.*?</math>", text, flags=re.S):
            assert "\\" not in formula, (page.name, formula)  # a command that was not understood


def test_the_reference_lists_every_public_name():
    public, rooms = (ROOT / "docs/api.rst").read_text().split("Rooms\n-----")
    names = re.findall(r"^   ([A-Za-z]\w*)$", public, flags=re.M)
    assert len(names) == len(set(names))
    missing = set(cbrl_bayes.__all__) - set(names) - {"__version__"}
    assert missing <= set(re.findall(r"^   (\w+)$", rooms, flags=re.M))
    assert set(names) <= set(cbrl_bayes.__all__)
