"""Whether the script that runs may be imported anew, as processes of a local cluster do it."""

import ast
import multiprocessing
import sys
from pathlib import Path
from types import FrameType

from cbrl_bayes.errors import InvalidInputError


def require_main_guard() -> None:
    """Refuse to start processes from the top level of a script without a main guard.

    Each would import the script, come to the same call and start processes of its own.

    Raises
    ------
    InvalidInputError
        With the file and the line of the call.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(1)  # such a process: the one that started it says why
    frame: FrameType | None = sys._getframe()
    main = vars(sys.modules["__main__"])
    while frame is not None:
        if frame.f_globals is main and frame.f_code.co_name == "<module>":
            path = Path(frame.f_code.co_filename)
            if path.is_file() and not is_guarded(
                path.read_text("utf-8", "replace"), frame.f_lineno
            ):
                raise InvalidInputError(
                    "a script that uses DaskExecutor() is imported anew by every process of the "
                    f"cluster, and would start it again ({path.name}, line {frame.f_lineno})",
                    remedy='put the calls under `if __name__ == "__main__":`',
                )
        frame = frame.f_back


def is_guarded(source: str, line: int) -> bool:
    r"""Return whether a line of a script runs only where the script itself is run.

    A script that asks for its name elsewhere, say to stop, is taken to know what it does; so is one
    that cannot be read.

    Examples
    --------
    >>> is_guarded("work()", 1), is_guarded("if __name__ == '__main__':\n    work()", 2)
    (False, True)
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return True
    tests = [node for node in ast.walk(tree) if isinstance(node, ast.If) and _asks(node.test)]
    inside = any(node.body[0].lineno <= line <= (node.end_lineno or line) for node in tests)
    stops = any(isinstance(part, ast.NotEq) for node in tests for part in ast.walk(node.test))
    return inside or stops


def _asks(test: ast.expr) -> bool:
    return any(isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(test))
