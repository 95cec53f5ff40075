"""The version of the code that runs: a release's number, or in a checkout the git commit.

A checkout with the tag ``v0.2.0`` is ``0.2.0``; twelve commits later it is
``0.2.1.dev12+g1a2b3c4d``; files changed since the commit add ``.edited``. The build reads this
module too (``pyproject.toml``), so it imports the standard library alone.
"""

import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UNTAGGED = "0.1.0"
"""The last release, for a clone that has no tags."""

DISTRIBUTION = "cbrl-bayes"


def find_version() -> str:
    """Return the version by git, by the file of a source archive or by the installation."""
    project = ROOT / "pyproject.toml"
    if not project.is_file() or f'name = "{DISTRIBUTION}"' not in project.read_text("utf-8"):
        try:
            return version(DISTRIBUTION)
        except PackageNotFoundError:  # the folder alone was copied
            return _next(UNTAGGED, "0+unknown")
    if (ROOT / ".git").exists():
        try:
            return _version_by_git()
        except (OSError, subprocess.SubprocessError):
            pass  # no git here, or one that does not trust the folder's owner
    archive = ROOT / "PKG-INFO"
    found = archive.is_file() and re.search(
        r"^Version: (.+)$", archive.read_text("utf-8"), flags=re.M
    )
    return found.group(1) if found else _next(UNTAGGED, "0+unknown")


def _version_by_git() -> str:
    described = _git("describe", "--tags", "--long", "--always", "--abbrev=8", "--match=v[0-9]*")
    found = re.fullmatch(r"v(.+)-(\d+)-g([0-9a-f]+)", described)
    tag, distance, commit = found.groups() if found else (UNTAGGED, "", described)
    edited = bool(_git("status", "--porcelain", "--", "cbrl_bayes", "pyproject.toml"))
    if distance == "0":
        return f"{tag}+edited" if edited else tag
    distance = distance or _git("rev-list", "--count", "HEAD")
    return _next(tag, f"{distance}+g{commit}") + (".edited" if edited else "")


def _git(*words: str) -> str:
    """Run git on this checkout alone, whatever the environment says, and change nothing."""
    place = ("--no-optional-locks", f"--git-dir={ROOT / '.git'}", f"--work-tree={ROOT}")
    done = subprocess.run(
        ["git", *place, *words], cwd=ROOT, check=True, timeout=10, capture_output=True, text=True
    )
    return done.stdout.strip()


def _next(tag: str, rest: str) -> str:
    """Return a development version that sorts after the tag and before the next release."""
    return re.sub(r"\d+$", lambda last: str(int(last.group()) + 1), tag) + f".dev{rest}"


__version__ = find_version()

COMMITTED_VERSION = re.sub(r"[+.]edited$", "", __version__)
"""The version, edits since the commit left aside: a checkpoint stays good while files change."""
