"""A script that would start itself again is stopped, with the line that does it."""

import subprocess
import sys

import pytest

from cbrl_bayes.designs.main_guard import is_guarded

GUARD = 'if __name__ == "__main__":\n    '


@pytest.mark.parametrize(
    ("source", "line", "guarded"),
    [
        ("work()", 1, False),
        (f"{GUARD}work()", 2, True),
        (f"{GUARD}pass\nelse:\n    pass\nwork()", 5, False),
        ("if '__main__' == __name__:\n    if True:\n        work()", 3, True),
        ("if __name__ != '__main__':\n    raise SystemExit\nwork()", 3, True),
        ("if True:\n    work()", 2, False),
        ("not Python (", 1, True),
    ],
)
def test_what_a_guard_is(source, line, guarded):
    assert is_guarded(source, line) is guarded


SCRIPT = """
from cbrl_bayes.designs.main_guard import require_main_guard
def start():
    require_main_guard()
{guard}start()
print("went on")
"""


@pytest.mark.parametrize("guard", ["", GUARD])
def test_a_script_ends_with_one_line_or_goes_on(tmp_path, guard):
    script = tmp_path / "study.py"
    script.write_text(SCRIPT.format(guard=guard))
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=120
    )
    if guard:
        assert (done.returncode, done.stdout.strip()) == (0, "went on"), done.stderr
    else:
        last = done.stderr.strip().splitlines()[-1]
        assert done.returncode == 1
        assert "study.py, line 5" in last
        assert last.endswith('try: put the calls under `if __name__ == "__main__":`')
