import json
import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

import cbrl_bayes as cb
from cbrl_bayes.cli.app import app
from cbrl_bayes.errors import CbrlBayesError
from cbrl_bayes.reports.reproduce import program
from tests.faults.command_line import call
from tests.unit.behaviour.test_behaviour import RAW, needs_raw_files

runner = CliRunner()


def _run(*arguments):
    return runner.invoke(app, [str(a) for a in arguments])


def _json(*arguments):
    result = _run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


LIGHT = """
import contextlib, sys
from cbrl_bayes.cli import main
for option in ("--version", "--help"):
    sys.argv = ["cbrl-bayes", option]
    with contextlib.suppress(SystemExit):
        main()
print("jax" in sys.modules)
"""


def test_version_and_help_do_not_import_jax():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    version, *usage, with_jax = done.stdout.splitlines()
    assert version == cb.__version__
    assert "infer" in "".join(usage)
    assert with_jax == "False"


def test_every_ready_made_thing_is_on_offer():
    from cbrl_bayes.cli.input import READY_MADE, EstimatorName, chosen_problem
    from cbrl_bayes.hypergradients import ESTIMATORS

    assert {name.value for name in EstimatorName} == set(ESTIMATORS)
    makers = {
        name
        for name in dir(cb.problems)
        if getattr(getattr(cb.problems, name), "__annotations__", {}).get("return")
        in (cb.Problem, "Problem")
    }
    # These two make a problem out of another one.
    assert set(READY_MADE) | {"constrained", "with_unknown_law"} == makers
    assert set(cb.problems.READY_MADE) < set(READY_MADE)
    for name in ("random_mdp", "rlhf", "shared_default_policy"):
        assert isinstance(chosen_problem(name), cb.Problem)


def test_a_study_keeps_options_that_its_command_has():
    import typer

    from cbrl_bayes.cli.input import READY_MADE, Method, SearchName
    from cbrl_bayes.results import commands as kept_of
    from cbrl_bayes.results.commands import OPTIONS

    commands = typer.main.get_command(app).commands
    for name, options in OPTIONS.items():
        known = {option for each in commands[name].params for option in each.opts}
        assert {f"--{option}" for option in options} <= known
    kept = [name for name in SearchName if name is not SearchName.ROUNDS]  # without a fit only
    assert OPTIONS["design"]["search"].split("|") == kept
    assert OPTIONS["infer"]["method"].split("|") == [Method.NUTS, Method.SVI]  # mle is not kept
    assert set(READY_MADE) == set(kept_of.READY_MADE)


@needs_raw_files
@pytest.mark.slow
def test_infer_mle_on_buses(monkeypatch):
    monkeypatch.setenv("CBRL_DATA_DIR", str(RAW.parent))
    found = _json("infer", "bus_replacement", "--groups", "4", "--method", "mle")
    assert f"{found['RC']:.4f}" == "10.0750"
    assert f"{found['theta11']:.4f}" == "2.2930"
    assert f"{found['log_likelihood']:.3f}" == "-3304.155"


def test_design_for_parameters_as_given():
    found = _json(
        "design",
        "four_rooms",
        "--temperature",
        "0.001",
        "--penalty-weight",
        "1",
        "--slip",
        "as-published",
        "--search",
        "plain",
    )
    assert 0.5 < found["leader_objective"] < 0.62  # where plain ascent gets stuck
    assert found["seconds"] > 0
    assert np.shape(found["incentive"]["penalty"]) == (104,)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Data, fit and study, each a file made from the one before."""
    folder = tmp_path_factory.mktemp("chain")
    data = cb.save_trajectories(
        cb.simulate_trajectories(
            cb.problems.two_state(),
            key=jax.random.key(0),
            num_episodes=60,
            num_steps=1,
            incentive={"bonus": 1.0},
        ),
        folder / "data.nc",
    )
    fit, study, run = folder / "fit.nc", folder / "study.nc", folder / "run"
    sizes = ("--chains", 2, "--warmup", 100, "--samples", 100)
    fitted = _json("infer", "two_state", "--data", data, *sizes, "--output", fit)
    design = ("design", "two_state", "--fit", fit, "--draws", 6, "--checkpoint", run)
    designed = _json(*design, "--output", study)
    return SimpleNamespace(
        data=data, fit=fit, study=study, run=run, fitted=fitted, design=design, designed=designed
    )


@pytest.fixture(scope="module")
def study(chain):
    return chain.study


def test_chain_through_files(chain, tmp_path):
    rows = chain.fitted["rows"]
    assert {row["quantity"] for row in rows} >= {"temperature", "rationality"}
    assert _json("check", chain.data)["kind"] == "trajectories"
    assert _json("check", chain.fit) == {"file": str(chain.fit), "ok": True, "kind": "results"}
    study, found = chain.study, chain.designed
    assert len(list((chain.run / "draws").glob("*.0"))) == 6
    assert _json(*chain.design) == found  # read from the folder
    assert found["health"]["verdict"] in {"PASS", "REVIEW", "FAIL"}
    assert found["failed_share"] == 0.0
    again = _json("summary", study, "--prob", 0.5, "--kind", "hdi")
    assert (again["prob"], again["kind"]) == (0.5, "hdi")
    assert "health" in _run("summary", study).stdout
    shown = _run("plot", study, "--output", tmp_path / "figures")
    assert "objectives.png" in shown.stdout
    assert _run("plot", study, "--output", tmp_path / "all", "--accept-failed").exit_code == 0
    page = tmp_path / "page.html"
    assert _run("report", study, "-o", page).exit_code == 0
    text = page.read_text()
    assert (
        "cbrl-bayes infer two_state --data DATA --method nuts --chains 2 --warmup 100 "
        "--samples 100 --seed 0 --output fit.nc\n"
        "cbrl-bayes design two_state --fit fit.nc --estimator exact --draws 6 --seed 0 "
        "--output study.nc\n"
        "cbrl-bayes report study.nc -o report.html"
    ) in text


def test_the_word_that_dynamics_are_not_known_is_passed_on(chain, monkeypatch):
    from cbrl_bayes.cli.input import as_fitted
    from cbrl_bayes.problems import LAW

    asked = []

    def infer(problem, *_, **__):
        asked.append(problem)
        raise CbrlBayesError("seen enough")

    monkeypatch.setattr("cbrl_bayes.workflow.infer", infer)
    for dynamics in ("known", "unknown"):
        _run("infer", "two_state", "--data", chain.data, "--dynamics", dynamics)
    assert [LAW in problem.parameters for problem in asked] == [False, True]
    tree = cb.load(chain.fit)
    assert as_fitted(asked[0], tree) is asked[0]
    tree["posterior"] = tree["posterior"].to_dataset().assign({LAW: ("state", np.ones(2))})
    assert LAW in as_fitted(asked[0], tree).parameters


@pytest.mark.slow
def test_dynamics_that_are_not_known(tmp_path):
    """The file says that the law was learned, and so the later commands know."""
    problem = cb.problems.contract_design()
    data, fit = tmp_path / "data.nc", tmp_path / "fit.nc"
    seen = cb.simulate_trajectories(problem, key=jax.random.key(0), num_episodes=8, num_steps=4)
    cb.save_trajectories(seen, data)
    few = ("--chains", 1, "--warmup", 20, "--samples", 20, "--method", "svi")
    common = ("contract_design", "--data", data, *few, "--output", fit)
    found = _json("infer", *common, "--dynamics", "unknown")
    assert any("transition_probability" in row["quantity"] for row in found["rows"])
    study = tmp_path / "study.nc"
    _json(
        "design",
        "contract_design",
        "--fit",
        fit,
        "--draws",
        3,
        "--search",
        "plain",
        "--output",
        study,
    )
    tree = cb.load(study)
    assert "dynamics" in tree["error_budget"]["source"].values
    assert float(tree["error_budget"]["variance"].sel(source="dynamics").max()) > 0.0
    told = json.loads(tree.attrs["commands"])
    assert told[0]["options"]["dynamics"] == "unknown"
    assert "with_unknown_law" in program(tree)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("infer", "four_rooms"), "give --data FILE, or --groups"),
        (("infer", "four_rooms", "--groups", "4"), "works with bus_replacement only"),
        (("infer", "bus_replacement", "--groups", "x"), "are not numbers"),
        (("infer", "bus_replacement", "--groups", "1-99999999999"), "are not numbers"),
        (("design", "two_state", "--seed", str(2**64)), "has more than 64 bits"),
        (("plot", "study.nc", "--prob", "2"), "between 0 and 1"),
        (("design", "four_rooms", "--slip", "ice"), "neither a number"),
        (("design", "bus_replacement", "--temperature", "1"), "does not take temperature"),
        (("design", "moon"), "Invalid value"),
        (("design", "two_state", "--checkpoint", "run"), "need --fit"),
        (("design", "two_state", "--dask", "local"), "need --fit"),
        (
            ("infer", "two_state", "--data", "data.csv", "--method", "mle", "--checkpoint", "run"),
            "works with --method nuts only",
        ),
        (
            ("infer", "two_state", "--data", "x.csv", "--method", "mle", "--output", "fit.nc"),
            "--output works with --method nuts or svi",
        ),
        (("design", "two_state", "--output", "study.nc"), "--output needs --fit"),
        (("infer", "four_rooms", "--data", "x.nc", "--output", "x.txt"), "must end in .nc"),
        (("infer", "four_rooms", "--data", "x.nc", "--prob", "90"), "between 0 and 1"),
        (("design", "two_state", "--draws", "0"), "greater than or equal to 1"),
        (("design", "two_state", "--fit", "x.nc", "--dask", "nonsense"), "tcp://host:8786"),
    ],
)
def test_wrong_usage(arguments, message):
    result = _run(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("design", "four_rooms", "--temperature", "-1"), "temperature"),
        (("summary", "absent.nc"), "no such results file"),
        (("infer", "two_state", "--data", "absent.nc"), "the data file does not exist"),
    ],
)
def test_errors_of_the_package(arguments, message):
    result = _run(*arguments)
    assert isinstance(result.exception, CbrlBayesError)
    assert message in str(result.exception)


def test_errors_are_one_line_on_standard_error(tmp_path):
    # A process of its own says what the shell sees; that of the others is taken from this one.
    done = subprocess.run(
        [sys.executable, "-c", "from cbrl_bayes.cli import main; main()", "check", "absent.nc"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: there is no such results file")
    broken = tmp_path / "cut.nc"
    broken.write_bytes(b"\x89HDF\r\n\x1a\n cut short")
    status, out, _ = call("check", str(broken), "--json")
    assert status == 1
    assert json.loads(out)["ok"] is False
    for arguments, said in (
        (("infer", "four_rooms"), "error: give --data FILE"),
        (("moon",), "error: No such command"),
        (("plot", str(tmp_path / "absent.nc")), "error: there is no such results file"),
    ):
        status, out, err = call(*arguments)
        assert status in (1, 2)
        assert out == ""
        assert err.startswith(said)
        assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_robust_designs_on_the_command_line(tmp_path):
    study = cb.design(
        cb.problems.two_state(),
        {"temperature": np.linspace(0.2, 0.6, 12)},
        key=jax.random.key(0),
        num_draws=12,
        settings=cb.DesignSettings(
            search=cb.Search(ascent=cb.Ascent(num_steps=60)),
            per_draw=cb.Search(ascent=cb.Ascent(num_steps=60)),
        ),
    )
    before, after = cb.save(study, tmp_path / "study.nc"), tmp_path / "robust.nc"
    found = _run("robust", "two_state", before, "--cvar", 0.25, "--output", after)
    assert found.exit_code == 0, found.output
    assert "cvar_0.25" in found.stdout
    assert "health:" in found.stdout
    names = ["common", "plug_in", "cvar_0.25", "worst_case_0.9", "minimax_regret_0.9"]
    assert list(cb.load(after)["decision"]["design"].values) == names
    calls = json.loads(cb.load(after).attrs["commands"])
    assert [call["command"] for call in calls] == ["robust"]
    assert calls[0]["options"]["cvar"] == [0.25]
    impossible = ("robust", "two_state", before, "--most-cost", -1.0)
    withheld = _json(*impossible)
    assert withheld["withheld"] is True
    assert withheld["rows"] == []
    assert any("does not keep" in line for line in withheld["health"]["failures"])
    shown = _json(*impossible, "--accept-failed")
    assert [row["name"] for row in shown["rows"]][:3] == ["best per draw", "common", "plug-in"]
    assert len(shown["further"]) == 1


OWN = """
import cbrl_bayes as cb
from beside import price

def problem(temperature=0.25):
    return cb.problems.two_state(temperature=temperature)

made = problem()
number = price
def broken():
    return price / 0
"""


def test_a_problem_of_the_users_own(tmp_path, monkeypatch):
    from cbrl_bayes.cli.input import chosen_problem

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    (tmp_path / "beside.py").write_text("price = 3")
    file = tmp_path / "a problem.py"
    file.write_text(OWN)
    assert float(chosen_problem(f"{file}:problem", 0.5).default_parameters["temperature"]) == 0.5
    assert chosen_problem(f"{file}:made").name == "two_state"
    for name, message in (
        ("absent", "has no absent"),
        ("number", "received: the int 3; accepted: Problem"),
        ("broken", r"failed \(ZeroDivisionError: division by zero\); received: return price / 0"),
    ):
        with pytest.raises(Exception, match=message):
            chosen_problem(f"{file}:{name}")
    file.write_text("import no_such_package")
    with pytest.raises(CbrlBayesError, match="No module named 'no_such_package'"):
        chosen_problem(f"{file}:problem")
    for wrong in ("two_state:", "no.py:problem", f"{file}:not a name"):
        assert _run("design", wrong).exit_code == 2


def test_questions_on_the_command_line(study, tmp_path):
    later = tmp_path / "later.nc"
    found = _json("information", "two_state", study, "--output", later, "--accept-failed")
    assert {row["name"] for row in found["rows"]}
    found = _json("stress", "two_state", later, "--factor", 3.0, "--output", later)
    tree = cb.load(later)
    assert {"information", "stress"} <= set(tree.children)  # the later question keeps the earlier
    assert list(tree["stress"]["stress"].values) == ["none", "temperature x 3"]
    # These draws are few.
    for more in ((), ("--sobol",)):
        assert isinstance(_run("sensitivity", "two_state", study, *more).exception, CbrlBayesError)


@pytest.fixture(scope="module")
def draws(tmp_path_factory):
    """The smallest file that can be shown: a posterior."""
    tree = cb.from_draws(cb.problems.two_state(), {"temperature": np.linspace(0.2, 0.6, 400)})
    return cb.save(tree, tmp_path_factory.mktemp("draws") / "draws.nc")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="places of POSIX")
def test_places_that_cannot_be_written_are_refused_before_the_work(draws, tmp_path):
    infer = ("infer", "two_state", "--data", tmp_path / "absent.nc", "--output")
    (tmp_path / "file").touch()
    for place, said in (
        (tmp_path / ("x" * 250 + ".nc"), "File name too long"),
        (tmp_path / "file" / "x.nc", "there is no folder"),
        ("/proc/x.nc", "cannot be written"),
    ):
        refused = _run(*infer, place)
        assert refused.exit_code == 2
        assert said in " ".join(refused.output.replace("│", " ").split())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    for command in (
        ("plot", draws, "--output", tmp_path / "file"),
        ("plot", draws, "--output", "/proc/figures"),
        ("demo", "--output", tmp_path / "file"),
        ("report", draws, "-o", "/proc/x.html"),
        ("report", draws, "-o", tmp_path / ("x" * 250 + ".html")),
    ):
        assert isinstance(_run(*command).exception, OSError | CbrlBayesError)


FULL = """
import resource, signal, sys
import cbrl_bayes as cb
from cbrl_bayes.cli import main
draws, folder = sys.argv[1:]
tree = cb.load(draws)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # a disk that takes 4 kB a file
try:
    cb.save(tree, folder + "/later.nc")  # the library of the format may crash the process
except cb.CbrlBayesError:
    print("saving is refused")
sys.argv = ["cbrl-bayes", "report", draws, "-o", folder + "/page.html"]
main()
"""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="limits of POSIX")
def test_a_full_disk_is_one_line(draws, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(draws), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == "saving is refused\n"
    assert done.stderr.startswith("error: the report cannot be written")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("failure", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "error: interrupted"),
        (OSError(28, "No space left on device"), 1, "error: [Errno 28] No space left on device"),
        (ZeroDivisionError("of two\nlines"), 1, "error: ZeroDivisionError: of two lines (CBRL_"),
    ],
)
def test_every_failure_is_one_line_and_a_status(failure, status, said, monkeypatch, capsys):
    from cbrl_bayes.cli import main

    def fails(**_):
        raise failure

    monkeypatch.setattr(sys.modules[main.__module__], "app", fails)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == status
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(said)
    assert told.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--search", "rounds"), "estimator of a search in rounds"),
        (("--follower-steps", 100), "needs an estimator that simulates"),
        (("--follower-steps", 0, "--estimator", "hpgd"), "--follower-steps"),
        (("--fit", "fit.nc", "--follower-steps", 9), "needs --search rounds"),
    ],
)
def test_a_budget_of_steps_needs_what_takes_steps(arguments, message):
    status, out, err = call("design", "two_state", *map(str, arguments))
    assert status in (1, 2)
    assert out == ""
    assert message in err


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["learned_model", "doubly_robust"])
def test_a_design_from_episodes_alone(estimator):
    """One object: what it is worth, what was promised, what it took."""
    status, out, err = call(
        *("design", "two_state", "--estimator", estimator, "--search", "ascent"),
        *("--follower-steps", "20000", "--json"),
    )
    assert status == 0, err
    found = json.loads(out)
    low, high = found["promised_interval"]
    assert low <= found["promised_objective"] <= high
    assert found["promised_objective"] == pytest.approx(found["leader_objective"], abs=0.02)
    assert 0 < found["follower_steps"] <= 22_000
    assert found["seconds"] > 0
    program = cb.hypergradients.SearchProgram(
        cb.problems.two_state(), cb.Exact(), cb.Search(ascent=cb.Ascent(num_steps=100))
    )
    best = program.run(cb.problems.two_state().default_parameters, key=jax.random.key(0)).best
    assert found["leader_objective"] == pytest.approx(best.objective, abs=0.01)
