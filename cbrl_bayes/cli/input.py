"""What the command line takes: names and options, and the problems and settings they stand for."""

import importlib.util
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import xarray as xr

    from cbrl_bayes.designs import DaskExecutor
    from cbrl_bayes.hypergradients import Rounds, Search
    from cbrl_bayes.problems import Problem


READY_MADE = (
    "bus_replacement",
    "contract_design",
    "four_rooms",
    "four_rooms_doors",
    "life_cycle",
    "random_mdp",
    "reserve_price",
    "rlhf",
    "route_choice",
    "shared_default_policy",
    "tax_design",
    "two_option_learning",
    "two_state",
)
"""Ready-made problems: functions of `cbrl_bayes.problems` that need no arguments."""


class Method(StrEnum):
    """Ways to fit."""

    NUTS = "nuts"
    SVI = "svi"
    MLE = "mle"


class Dynamics(StrEnum):
    """Whether the transition law is known."""

    KNOWN = "known"
    UNKNOWN = "unknown"


class SearchName(StrEnum):
    """Ways to look for the best of many local optima."""

    PLAIN = "plain"
    CONTINUATION = "continuation"
    GLOBAL = "global"
    ASCENT = "ascent"
    ROUNDS = "rounds"


class EstimatorName(StrEnum):
    """Estimators of the hypergradient."""

    EXACT = "exact"
    LEARNED_MODEL = "learned_model"
    DOUBLY_ROBUST = "doubly_robust"
    HPGD = "hpgd"
    BOLTZMANN_COVARIANCE = "boltzmann_covariance"
    RT_Q = "rt_q"
    AMD = "amd"
    SOBIRL = "sobirl"
    PENALTY = "penalty"
    ZEROTH_ORDER = "zeroth_order"


EXAMPLE = '{"today": {"bonus": 0.2}, "none": "no incentive"}'


def _between(prob: float) -> float:
    if not 0.0 < prob < 1.0:
        raise typer.BadParameter(f"{prob} must lie between 0 and 1")
    return prob


def _seed(seed: int) -> int:
    if not -(2**63) <= seed < 2**63:
        raise typer.BadParameter(f"{seed} has more than 64 bits")
    return seed


def _problem(text: str) -> str:
    """Refuse what is neither a ready-made problem nor the place of another one."""
    file, sign, name = text.rpartition(":")
    if text not in READY_MADE and not (sign and name.isidentifier()):
        names = ", ".join(READY_MADE)
        raise typer.BadParameter(f"{text} is neither of {names}, nor like module.py:problem")
    if sign and not Path(file).is_file():
        raise typer.BadParameter(f"there is no file {file}")
    return text


def _writable(output: Path | None) -> Path | None:
    """Refuse before the work begins what could only be refused after it."""
    if output is None:
        return None
    if output.suffix not in (".nc", ".zarr"):
        raise typer.BadParameter(f"{output} must end in .nc or .zarr")
    if not output.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {output.parent}")
    # A trial tells more than permissions do; the name is as long as that of unfinished work.
    trial = output.with_name(f".{output.name}.partial-{os.getpid()}")
    try:
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise typer.BadParameter(f"{output} cannot be written: {error.strerror}") from error
    return output


def _designs(alternatives: str | None) -> str | None:
    """Refuse what is no JSON object."""
    try:
        fine = alternatives is None or isinstance(json.loads(alternatives), dict)
    except ValueError:
        fine = False
    if not fine:
        raise typer.BadParameter(f"{alternatives} is not like {EXAMPLE}")
    return alternatives


def _address(dask: str | None) -> str | None:
    if dask is not None and dask != "local" and ":" not in dask:
        raise typer.BadParameter(f"{dask} is neither 'local' nor like tcp://host:8786")
    return dask


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
AProblem = Annotated[
    str,
    typer.Argument(
        callback=_problem,
        metavar="PROBLEM",
        help="A ready-made problem, or yours: module.py:problem (a Problem, or what makes one). "
        f"Ready-made: {', '.join(READY_MADE)}.",
    ),
]
Results = Annotated[Path, typer.Argument(help="A results file (.nc, .zarr).")]
Output = Annotated[
    Path | None, typer.Option(callback=_writable, help="Save the result here (.nc, .zarr).")
]
Seed = Annotated[int, typer.Option(callback=_seed, help="The same seed gives the same numbers.")]
Draws = Annotated[int, typer.Option(min=1, help="Posterior draws to design for.")]
Alternatives = Annotated[
    str | None,
    typer.Option(
        callback=_designs, help=f"Designs to compare with, as JSON in readable values: {EXAMPLE}."
    ),
]
Temperature = Annotated[
    float | None, typer.Option(help="lambda (four_rooms, two_state); rationality is 1/lambda.")
]
PenaltyWeight = Annotated[float | None, typer.Option(help="beta of four_rooms.")]
Slip = Annotated[
    str | None,
    typer.Option(help="four_rooms: 'as-published' (.44), 'simulator' (.33) or a number."),
]
Prob = Annotated[float, typer.Option(callback=_between, help="Probability of the intervals.")]
Kind = Annotated[str, typer.Option(help="Intervals: eti (equal-tailed) or hdi (highest-density).")]
CheckpointFolder = Annotated[
    Path | None,
    typer.Option("--checkpoint", help="Folder for finished work; the same call goes on from it."),
]
DaskAddress = Annotated[
    str | None,
    typer.Option(
        "--dask", callback=_address, help="Run on Dask: 'local' or a scheduler, tcp://host:8786."
    ),
]
AcceptFailed = Annotated[
    bool, typer.Option("--accept-failed", help="Show designs although the study FAILED.")
]


def chosen_problem(
    name: str,
    temperature: float | None = None,
    penalty_weight: float | None = None,
    slip: str | None = None,
) -> "Problem":
    """Build the problem that a name stands for; refuse options it does not take."""
    given: dict[str, Any] = {
        "temperature": temperature,
        "penalty_weight": penalty_weight,
        "slip": _slip(slip),
    }
    given = {key: value for key, value in given.items() if value is not None}
    made = _own(name) if name not in READY_MADE else _ready_made(name)
    accepted = set(inspect.signature(made).parameters) if callable(made) else set()
    foreign = sorted(set(given) - accepted)
    if foreign:
        raise typer.BadParameter(f"{name} does not take {', '.join(foreign)}")
    if name in READY_MADE:
        return made(**given)
    from cbrl_bayes.errors import require_kind
    from cbrl_bayes.problems import Problem

    found = _run_own(name, lambda: made(**given)) if callable(made) else made
    require_kind(found, Problem, name)
    return found


def as_fitted(problem: "Problem", tree: "xr.DataTree") -> "Problem":
    """Return the problem with its transition law unknown, where a file says that it was learned."""
    from cbrl_bayes.problems import LAW, with_unknown_law

    learned = "posterior" in tree.children and LAW in tree["posterior"].data_vars
    return with_unknown_law(problem) if learned and LAW not in problem.parameters else problem


def _ready_made(name: str) -> Any:
    from cbrl_bayes import problems

    return getattr(problems, name)


def _own(place: str) -> Any:
    """Run a file of the user's and return the problem, or the function, that it names."""
    file, _, name = place.rpartition(":")
    path = Path(file).resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise typer.BadParameter(f"{file} is not a Python file (.py)")
    module, loader = importlib.util.module_from_spec(spec), spec.loader
    sys.path.insert(0, str(path.parent))  # what stands beside it can be imported
    sys.modules.setdefault(path.stem, module)
    _run_own(file, lambda: loader.exec_module(module))
    if not hasattr(module, name):
        raise typer.BadParameter(f"{file} has no {name}")
    return getattr(module, name)


def _run_own(place: str, work: Callable[[], Any]) -> Any:
    """Run the user's code; its failures are told in one line, with where they arose."""
    from cbrl_bayes.errors import CbrlBayesError, InvalidInputError

    try:
        return work()
    except CbrlBayesError:
        raise
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise InvalidInputError(
            f"{place} failed ({type(error).__name__}: {' '.join(str(error).split())})",
            received=f"{last.line} (line {last.lineno} of {Path(last.filename).name})",
        ) from error


def _slip(text: str | None) -> float | None:
    from cbrl_bayes.problems import SLIP_AS_PUBLISHED, SLIP_OF_PUBLISHED_SIMULATOR

    named = {"as-published": SLIP_AS_PUBLISHED, "simulator": SLIP_OF_PUBLISHED_SIMULATOR}
    if text is None or text in named:
        return None if text is None else named[text]
    try:
        return float(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"--slip {text} is neither a number nor one of {', '.join(named)}"
        ) from error


def observed_behaviour(problem: str, data: Path | None, groups: str | None) -> Any:
    """Load trajectories, bus groups of the Zurcher data, or the trips that a problem comes with."""
    from cbrl_bayes.behaviour import load_borlange, load_trajectories, load_zurcher

    if problem == "route_choice" and data is None and groups is None:
        return load_borlange()
    if (data is None) == (groups is None):
        raise typer.BadParameter("give --data FILE, or --groups for bus_replacement")
    if data is not None:
        return load_trajectories(data)
    if problem != "bus_replacement":
        raise typer.BadParameter("--groups works with bus_replacement only")
    return load_zurcher(_groups(str(groups)))


def _groups(text: str) -> tuple[int, ...]:
    chosen: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            ends = int(first), int(last or first)
            if not 0 < ends[0] <= ends[1] < 100:
                raise ValueError
            chosen += range(ends[0], ends[1] + 1)
    except ValueError as error:
        raise typer.BadParameter(f"--groups {text} are not numbers like 4, 1-4 or 1,3") from error
    return tuple(chosen)


def chosen_search(name: SearchName, problem: "Problem") -> "Search | Rounds":
    """Return the settings that a name stands for."""
    from cbrl_bayes.hypergradients import LOW_PRICES, Ascent, Rounds, Search, global_search

    if name is SearchName.GLOBAL:
        return global_search()
    if name is SearchName.CONTINUATION:
        stages = (50.0, 30.0, 20.0, 10.0, 5.0, 3.0, 1.0)
        return Search(ascent=Ascent(num_steps=120, continuation=stages))
    if name is SearchName.ROUNDS:
        return Rounds()
    if name is SearchName.ASCENT:
        if problem.incentive_price_fn is None:
            return Search(ascent=Ascent())
        # Small steps: at larger ones stages lead into other optima (Four-Rooms, temperature .001).
        prices = (*LOW_PRICES, 1.0)
        slow = Ascent(num_steps=500, learning_rate=0.05, price_continuation=prices)
        return Search(ascent=slow)
    return Search(ascent=Ascent(num_steps=400))


def holds_trajectories(file: Path) -> bool:
    """Tell whether a file holds trajectories, which have an axis ``episode``."""
    import xarray as xr

    from cbrl_bayes.errors import ResultsError
    from cbrl_bayes.files import DEFAULT_LIMITS, check_file

    if file.suffix == ".csv":
        return True
    try:
        check_file(file, ResultsError, DEFAULT_LIMITS)
        engine = "zarr" if file.suffix == ".zarr" else "h5netcdf"
        with xr.open_dataset(file, engine=engine) as opened:
            return "episode" in opened.dims
    except Exception:  # unreadable: let the loader of results say why
        return False


def on_dask(address: str | None) -> "DaskExecutor | None":
    """Return where work runs: threads of this process, or a Dask cluster."""
    if address is None:
        return None
    from cbrl_bayes.designs import DaskExecutor

    return DaskExecutor(None if address == "local" else address)
