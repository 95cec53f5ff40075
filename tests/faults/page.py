"""The page of tried faults, written from the registry."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from tests.faults.registry import FAILED, HELD, REFUSED, Fault

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

HEAD = """\
# Tried faults

What people do wrong, and what goes wrong by itself, tried one by one: {total} faults. A test runs
every one of them.

| What came out | Faults | Meaning |
|---|---|---|
| held | {held} | the fault does not matter: the right value comes out |
| one clear error | {refused} | one line names the thing; what was there is left as it was |
| failed | {failed} | neither of the two: known, and not yet put right |

The faults are data, in `tests/faults`: what is done, and the value or the words of the error that
must come. Add one there, and write this page again:

```sh
python tests/faults/write.py
```

The test suite fails where a fault comes out otherwise, and where this page is not what the registry
says. {slow} heavier ones run with `make test-slow`.
"""


COLUMNS = "| Fault | What came out | Words of the error |\n|---|---|---|\n"


def page(faults: Sequence[Fault]) -> str:
    """Return the text of the page."""
    counts = Counter(fault.outcome for fault in faults)
    text = HEAD.format(
        total=len(faults),
        held=counts[HELD],
        refused=counts[REFUSED],
        failed=counts[FAILED],
        slow=sum(fault.slow for fault in faults),
    )
    for kind, some in groupby(faults, key=lambda fault: fault.kind):
        text += f"\n## {kind.capitalize()}\n\n{COLUMNS}"
        for fault in some:
            cells = [fault.name, fault.outcome, fault.failed or _words(fault)]
            text += "| " + " | ".join(map(_cell, cells)) + " |\n"
    return text


def _words(fault: Fault) -> str:
    """Return the words that the error must have, or the note that comes with the value."""
    if fault.words is not None:
        return ", ".join(fault.words)
    return f"(a note: {fault.note})" if fault.note else ""


def _cell(text: str) -> str:
    """Return text as one cell, its signs without a meaning."""
    plain = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
    if len(plain) > 90:
        plain = plain[:80] + "..."
    return "".join("\\" + sign if sign in r"\`*_{}[]<>#|~$" else sign for sign in plain)
