"""What the command line takes: names and options, and the problems and settings they stand for."""

import inspect
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from cbrl_bayes.designs import DaskExecutor
    from cbrl_bayes.hypergradients import Search
    from cbrl_bayes.problems import Problem


class ProblemName(StrEnum):
    """Ready-made problems."""

    BUS_REPLACEMENT = "bus_replacement"
    CONTRACT_DESIGN = "contract_design"
    FOUR_ROOMS = "four_rooms"
    FOUR_ROOMS_DOORS = "four_rooms_doors"
    RESERVE_PRICE = "reserve_price"
    TAX_DESIGN = "tax_design"
    TWO_STATE = "two_state"


class Method(StrEnum):
    """Ways to fit."""

    NUTS = "nuts"
    SVI = "svi"
    MLE = "mle"


class SearchName(StrEnum):
    """Ways to look for the best of many local optima."""

    PLAIN = "plain"
    CONTINUATION = "continuation"
    GLOBAL = "global"


class EstimatorName(StrEnum):
    """Estimators of the hypergradient."""

    EXACT = "exact"
    HPGD = "hpgd"
    BOLTZMANN_COVARIANCE = "boltzmann_covariance"
    RT_Q = "rt_q"
    AMD = "amd"
    SOBIRL = "sobirl"
    PENALTY = "penalty"
    ZEROTH_ORDER = "zeroth_order"


def _between(prob: float) -> float:
    if not 0.0 < prob < 1.0:
        raise typer.BadParameter(f"{prob} must lie between 0 and 1")
    return prob


def _seed(seed: int) -> int:
    if not -(2**63) <= seed < 2**63:
        raise typer.BadParameter(f"{seed} has more than 64 bits")
    return seed


def _writable(output: Path | None) -> Path | None:
    """Refuse before the work begins what could only be refused after it."""
    if output is not None and output.suffix not in (".nc", ".zarr"):
        raise typer.BadParameter(f"{output} must end in .nc or .zarr")
    if output is not None and not output.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {output.parent}")
    return output


def _address(dask: str | None) -> str | None:
    if dask is not None and dask != "local" and ":" not in dask:
        raise typer.BadParameter(f"{dask} is neither 'local' nor like tcp://host:8786")
    return dask


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
ReadyMade = Annotated[ProblemName, typer.Argument(help="A ready-made problem.")]
Results = Annotated[Path, typer.Argument(help="A results file (.nc, .zarr).")]
Output = Annotated[
    Path | None, typer.Option(callback=_writable, help="Save the result here (.nc, .zarr).")
]
Seed = Annotated[int, typer.Option(callback=_seed, help="The same seed gives the same numbers.")]
Draws = Annotated[int, typer.Option(min=1, help="Posterior draws to design for.")]
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
    name: ProblemName, temperature: float | None, penalty_weight: float | None, slip: str | None
) -> "Problem":
    """Build a ready-made problem; refuse options it does not take."""
    from cbrl_bayes.problems import READY_MADE

    given: dict[str, Any] = {
        "temperature": temperature,
        "penalty_weight": penalty_weight,
        "slip": _slip(slip),
    }
    given = {key: value for key, value in given.items() if value is not None}
    accepted = set(inspect.signature(READY_MADE[name.value]).parameters)
    foreign = sorted(set(given) - accepted)
    if foreign:
        raise typer.BadParameter(f"{name.value} does not take {', '.join(foreign)}")
    return READY_MADE[name.value](**given)


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


def observed_behaviour(problem: ProblemName, data: Path | None, groups: str | None) -> Any:
    """Load trajectories, or bus groups of the Zurcher data."""
    from cbrl_bayes.behaviour import load_trajectories, load_zurcher

    if (data is None) == (groups is None):
        raise typer.BadParameter("give --data FILE, or --groups for bus_replacement")
    if data is not None:
        return load_trajectories(data)
    if problem is not ProblemName.BUS_REPLACEMENT:
        raise typer.BadParameter("--groups works with bus_replacement only")
    return load_zurcher(_groups(str(groups)))


def _groups(text: str) -> tuple[int, ...]:
    chosen: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            chosen += range(int(first), int(last or first) + 1)
    except ValueError as error:
        raise typer.BadParameter(f"--groups {text} are not numbers like 4, 1-4 or 1,3") from error
    return tuple(chosen)


def chosen_search(name: SearchName) -> "Search":
    """Return the settings that a name stands for."""
    from cbrl_bayes.hypergradients import Ascent, Search, global_search

    if name is SearchName.GLOBAL:
        return global_search()
    if name is SearchName.CONTINUATION:
        stages = (50.0, 30.0, 20.0, 10.0, 5.0, 3.0, 1.0)
        return Search(ascent=Ascent(num_steps=120, continuation=stages))
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
