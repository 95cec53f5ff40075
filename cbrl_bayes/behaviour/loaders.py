"""Read observed behaviour from a file, and write it."""

import csv
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from cbrl_bayes.behaviour.check import check_trajectories
from cbrl_bayes.behaviour.headers import COLUMNS
from cbrl_bayes.behaviour.regimes import incentive_columns
from cbrl_bayes.behaviour.saving import ENGINES, opened_trajectories
from cbrl_bayes.behaviour.table import from_table
from cbrl_bayes.errors import DataError, InvalidInputError, require_kind
from cbrl_bayes.files import DEFAULT_LIMITS, FileLimits, check_file, stands_there
from cbrl_bayes.problems import Problem

OF_TABLE = ("columns", "labels", "incentives", "missing", "gaps", "step_unit")
"""What a table may be read with."""

HEAD = 100_000
"""Letters of the first line that are looked at."""


def load_trajectories(
    path: str | Path,
    problem: Problem | None = None,
    *,
    limits: FileLimits | None = DEFAULT_LIMITS,
    **of_table: Any,
) -> xr.Dataset:
    """Read and check trajectories: netCDF (.nc), zarr (.zarr) or a table (.csv).

    Nothing in the file is executed, and its sizes are checked before memory is allocated.

    Parameters
    ----------
    path : str or Path
        A table needs the columns of `from_table`; commas, semicolons or tabs are between them,
        whichever its first line has most of. Every cell is read as text.
    problem : Problem, optional
        To check the data against; in a table its names may be used (`from_table`).
    limits : FileLimits or None
        How much memory the file may need. None: no limit and no check.
    **of_table
        Of a table: ``columns``, ``labels``, ``incentives``, ``missing``, ``gaps`` and
        ``step_unit`` of `from_table`.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    DataError
        If the file is absent, unreadable, larger than the limits or not in the documented
        format.
    """
    require_kind(path, str | Path, "path", "the name of a file, as in 'walks.csv'")
    require_kind(problem, Problem | None, "problem", "cb.problems.two_state(), or a cb.Problem")
    path = Path(path)
    if not stands_there(path):
        raise DataError("the data file does not exist", received=path)
    if path.suffix not in (*ENGINES, ".csv"):
        raise DataError(
            "the file type is unknown", received=path.name, accepted=", ".join([*ENGINES, ".csv"])
        )
    unknown = sorted(set(of_table) - set(OF_TABLE))
    if unknown:
        raise InvalidInputError(
            f"there is no option {', '.join(unknown)}", accepted=", ".join(OF_TABLE)
        )
    if of_table and path.suffix != ".csv":
        raise InvalidInputError(
            f"{', '.join(sorted(of_table))}: only for tables",
            received=path.name,
            remedy="cb.with_incentives states the incentives of any data",
        )
    check_file(path, DataError, limits)
    try:
        if path.suffix == ".csv":
            return from_table(_cells(path), problem, limits=limits, **of_table)
        data = opened_trajectories(path)
        check_trajectories(data, problem)
    except (DataError, InvalidInputError):
        raise
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name} cannot be read: it is no text in UTF-8",
            received=f"byte {error.object[error.start]:#04x}",
            remedy="save it again as a table (.csv) in UTF-8",
        ) from error
    except Exception as error:  # readers raise many kinds for a damaged file
        raise DataError(
            f"{path.name} cannot be read ({type(error).__name__}: {error})",
            remedy="check that the file is complete",
        ) from error
    return data


def states_incentives(path: Path, problem: Problem) -> bool:
    """Return whether a table (.csv) has a column of the problem's incentives."""
    line, between = _head(path, errors="replace")
    names = next(csv.reader([line], delimiter=between), [])
    return bool(incentive_columns([name.strip() for name in names], set(COLUMNS), problem))


def _head(path: Path, errors: str = "strict") -> tuple[str, str]:
    """Return the first line of a table, and what stands between its columns."""
    with path.open(encoding="utf-8-sig", errors=errors, newline="") as file:
        line = file.readline(HEAD)
    return line, max(",;\t", key=line.count)


def _cells(path: Path) -> pd.DataFrame:
    """Read a table as it is written: every cell text, none taken for missing."""
    head, between = _head(path)
    if "\0" in head:  # a spreadsheet, or two bytes for each letter
        raise DataError(
            f"{path.name} is no table in text", remedy="save it again as a table (.csv) in UTF-8"
        )
    cells = pd.read_csv(
        path,
        sep=between,
        header=None,  # two columns of one name must not get two names
        dtype=str,
        keep_default_na=False,
        encoding="utf-8-sig",
        skipinitialspace=True,
    )
    return cells[1:].set_axis(cells.iloc[0].tolist(), axis=1).reset_index(drop=True)
