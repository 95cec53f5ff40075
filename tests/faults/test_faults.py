"""Every tried fault comes out as it must: the right value, or one clear error."""

import pytest

from cbrl_bayes.errors import InvalidInputError
from tests.faults.catalogue import FAULTS
from tests.faults.page import PAGE, page
from tests.faults.registry import Bench, Fault, held, refused, try_fault


def _case(fault):
    marks = [pytest.mark.slow] if fault.slow else []
    if fault.failed:
        marks.append(pytest.mark.xfail(strict=True, reason=fault.failed))
    return pytest.param(fault, id=ascii(f"{fault.kind}: {fault.name}"), marks=marks)


@pytest.mark.parametrize("fault", [_case(fault) for fault in FAULTS])
def test_fault(fault, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try_fault(fault, Bench(tmp_path))


def test_the_page_says_what_the_registry_says():
    assert PAGE.read_text(encoding="utf-8") == page(FAULTS), "python tests/faults/write.py"


def test_faults_have_names_of_their_own():
    names = [(fault.kind, fault.name) for fault in FAULTS]
    assert len(set(names)) == len(names)


def _raises(error):
    def run(bench):
        raise error

    return run


@pytest.mark.parametrize(
    "fault",
    [
        refused("k", "no error", lambda bench: 1.0, "thing"),
        refused("k", "other words", _raises(InvalidInputError("other")), "thing"),
        refused("k", "an error of Python", _raises(TypeError("thing")), "thing"),
        held("k", "another value", lambda bench: 1.0, 2.0),
        held("k", "a value beside", lambda bench: 1.1, 1.0, tolerance=0.05),
        held("k", "no note", lambda bench: 1.0, 1.0, note="thing"),
    ],
    ids=lambda fault: fault.name,
)
def test_a_try_that_comes_out_otherwise_fails(fault, tmp_path):
    assert isinstance(fault, Fault)
    with pytest.raises((AssertionError, TypeError)):
        try_fault(fault, Bench(tmp_path))
