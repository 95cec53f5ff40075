"""The house keeps its rules: imports in one direction, no forbidden words, examples that run."""

import ast
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import cbrl_bayes

PACKAGE = Path(cbrl_bayes.__file__).parent
ROOT = PACKAGE.parent

MAY_IMPORT = {
    "errors": set(),
    "mdp": {"errors"},
    "problems": {"errors", "mdp"},
    "files": {"errors"},
    "behaviour": {"errors", "files", "mdp", "problems"},
    "followers": {"errors", "mdp", "problems"},
    "hypergradients": {"errors", "mdp", "problems", "followers"},
    "inference": {"errors", "mdp", "problems", "behaviour"},
    "decisions": {"errors", "mdp", "problems", "followers", "hypergradients"},
    "results": {
        "errors",
        "files",
        "mdp",
        "problems",
        "behaviour",
        "hypergradients",
        "inference",
        "decisions",
    },
    "plots": {"errors", "results"},
    "choice": {"problems", "hypergradients", "decisions", "results"},
    "valuation": {"errors", "problems", "decisions", "results"},
    "robustness": {"errors", "hypergradients", "problems", "decisions", "results"},
    "reports": {
        "errors",
        "problems",
        "followers",
        "hypergradients",
        "inference",
        "decisions",
        "results",
        "plots",
        "workflow",
        "cli_input",
    },
    "workflow": {
        "errors",
        "mdp",
        "problems",
        "behaviour",
        "hypergradients",
        "inference",
        "decisions",
        "results",
    },
    "demo": {
        "errors",
        "problems",
        "behaviour",
        "hypergradients",
        "inference",
        "decisions",
        "results",
        "plots",
        "workflow",
    },
    "cli_output": {"results"},
    "cli_input": {"behaviour", "cli_output", "errors", "files", "hypergradients", "problems"},
    "cli": {
        "choice",
        "cli_input",
        "cli_output",
        "decisions",
        "demo",
        "errors",
        "behaviour",
        "hypergradients",
        "inference",
        "plots",
        "problems",
        "reports",
        "results",
        "workflow",
    },
}
ONLY_HERE = {
    "xarray": {
        "behaviour",
        "choice",
        "results",
        "plots",
        "reports",
        "robustness",
        "valuation",
        "workflow",
        "demo",
        "cli_input",
    },
    "arviz": {"results", "plots"},
    "arviz_stats": {"results", "plots"},
    "SALib": {"decisions"},
    "numpyro": {"inference", "workflow"},
    "matplotlib": {"plots"},
    "optax": {"followers", "hypergradients", "inference"},
    "equinox": {"followers"},
    "gymnasium": {"followers"},
}


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE)
        room = place.parts[0].removesuffix(".py")
        if room != "__init__":
            yield room, path


def test_imports_go_in_one_direction():
    wrong = []
    for room, path in _modules():
        for module in _imports(path):
            first, *rest = module.split(".")
            if first == "cbrl_bayes" and rest and rest[0] not in MAY_IMPORT[room] | {room}:
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
            if first in ONLY_HERE and room not in ONLY_HERE[first]:
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong


def test_modules_and_functions_stay_small():
    """A guard against growth, with room above the aim of 300 lines and 40 per function."""
    large = []
    for _, path in _modules():
        text = path.read_text()
        if len(text.splitlines()) > 420:
            large.append(f"{path.relative_to(ROOT)}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                start = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
                length = (node.end_lineno or 0) - start.lineno + 1
                if length > 60:
                    large.append(f"{path.relative_to(ROOT)}: {node.name} has {length} lines")
    assert not large


def test_nothing_is_pickled_or_tied_to_a_machine():
    words = re.compile(r"\bpickle\b|/work/|/root/|/home/|np\.load\(|eval\(")
    found = []
    for path in [*PACKAGE.rglob("*.py"), ROOT / "Makefile", ROOT / "README.md"]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if words.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found


def _names():
    for found in pkgutil.walk_packages(cbrl_bayes.__path__, "cbrl_bayes."):
        yield found.name


SLOW_EXAMPLES = {
    "cbrl_bayes.choice",
    "cbrl_bayes.decisions.calibration",
    "cbrl_bayes.hypergradients.rt_q",
    "cbrl_bayes.followers.deep_q",
    "cbrl_bayes.inference.calibration",
    "cbrl_bayes.problems.tax_design",
    "cbrl_bayes.reports.page",
    "cbrl_bayes.results.calibration",
    "cbrl_bayes.results.decision_calibration",
    "cbrl_bayes.robustness",
    "cbrl_bayes.valuation",
    "cbrl_bayes.workflow",
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW_EXAMPLES else [])
        for name in sorted(_names())
    ],
)
def test_examples_in_docstrings_run(name):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


def test_the_facade_offers_what_it_lists():
    for name in cbrl_bayes.__all__:
        assert getattr(cbrl_bayes, name) is not None


def _blocks(path):
    return re.findall(r"```python\n(.*?)```", path.read_text(), flags=re.S)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param("README.md", marks=pytest.mark.slow),  # the quickstart page, at full size
        "docs/own_problem.md",
        pytest.param("docs/calibration.md", marks=pytest.mark.slow),
        pytest.param("docs/choosing.md", marks=pytest.mark.slow),
        pytest.param("docs/followers.md", marks=pytest.mark.slow),
        pytest.param("docs/clusters.md", marks=pytest.mark.slow),
        pytest.param("docs/quickstart.md", marks=pytest.mark.slow),
        pytest.param("docs/information.md", marks=pytest.mark.slow),
        pytest.param("docs/robust.md", marks=pytest.mark.slow),
        pytest.param("docs/sensitivity.md", marks=pytest.mark.slow),
        *(
            pytest.param(f"docs/gallery/{path.name}", marks=pytest.mark.slow)
            for path in sorted((ROOT / "docs/gallery").glob("*.md"))
            if path.name != "index.md"
        ),
    ],
)
def test_pages_run_as_written(page, tmp_path, monkeypatch):
    """Every Python block of a page, in order, from a copy of the data folder."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    blocks = _blocks(ROOT / page)
    assert blocks
    exec(compile("\n".join(blocks), page, "exec"), {"__name__": "__page__"})
