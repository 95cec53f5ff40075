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

ORDER = (
    ("errors", "status", "version"),
    ("progress", "files"),
    ("mdp",),
    ("problems",),
    ("behaviour", "followers"),
    ("hypergradients", "inference"),
    ("designs",),
    ("results",),
    ("robust", "information", "sensitivity", "calibration"),
    ("campaigns",),
    ("plots",),
    ("reports",),
    ("workflow",),
    ("cli",),
)
"""Rooms from the lowest to the highest: a room imports from lower rows and from itself."""
EXCEPTIONS = {"hypergradients": {"inference"}, "inference": {"hypergradients", "followers"}}
"""Lower rooms that a room does without all the same."""
LABELS = {"behaviour", "results", "plots", "reports", "workflow", "cli"}
QUESTIONS = {"robust", "information", "sensitivity", "calibration", "campaigns"}
BORDER = {
    "study",
    "tables",
    "sensitivity/followers",
    "sensitivity/labels",
    "campaigns/folder",
    "campaigns/real",
    "campaigns/verdict",
}
"""Where a question meets the tree: followers compares whole fits, labels serves several studies, a
real campaign lives in a folder of stores, and its verdict is on a record."""
ONLY_HERE = {
    "arviz_base": {"results"},
    "arviz_stats": {"results", "plots", *QUESTIONS},
    "SALib": {"sensitivity"},
    "numpyro": {"inference", "calibration", "workflow"},
    "matplotlib": {"plots"},
    "optax": {"followers", "hypergradients", "inference"},
    "equinox": {"followers"},
    "gymnasium": {"followers"},
    "optimistix": {"problems"},
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


def _allowed(room):
    row = next(number for number, rooms in enumerate(ORDER) if room in rooms)
    lower = {name for rooms in ORDER[:row] for name in rooms}
    return (lower | {room}) - EXCEPTIONS.get(room, set())


def _may_label(room, path):
    """Labels are for the border: in a question's room its study, its tables and few others."""
    border = {path.stem, f"{room}/{path.stem}"} & BORDER
    return room in LABELS or (room in QUESTIONS and bool(border))


def test_imports_go_in_one_direction():
    wrong = []
    for room, path in _modules():
        for module in _imports(path):
            first, *rest = module.split(".")
            inside = first == "cbrl_bayes" and rest
            if (
                (inside and rest[0] not in _allowed(room))
                or (first == "xarray" and not _may_label(room, path))
                or room not in ONLY_HERE.get(first, {room})
            ):
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
    words = re.compile(r"\bpickle\b|/work/|/root/|/home/|np\.load\(|\beval\(")
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
    "cbrl_bayes.calibration.fits",
    "cbrl_bayes.calibration.studies",
    "cbrl_bayes.calibration.study",
    "cbrl_bayes.campaigns.study",
    "cbrl_bayes.followers.deep_q",
    "cbrl_bayes.hypergradients.rt_q",
    "cbrl_bayes.information.study",
    "cbrl_bayes.problems.tax_design",
    "cbrl_bayes.reports.campaign",
    "cbrl_bayes.reports.page",
    "cbrl_bayes.robust.study",
    "cbrl_bayes.sensitivity.study",
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
