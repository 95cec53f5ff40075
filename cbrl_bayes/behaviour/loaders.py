"""Read observed behaviour from a file or a plain table."""

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from cbrl_bayes.behaviour.saving import ENGINES, opened_trajectories
from cbrl_bayes.behaviour.schema import MISSING, check_trajectories, make_trajectories
from cbrl_bayes.errors import DataError, require_kind
from cbrl_bayes.files import DEFAULT_LIMITS, FileLimits, check_file, check_size, stands_there

COLUMNS = {
    "follower",
    "episode",
    "step",
    "state",
    "action",
    "context",
    "regime",
    "group",
    "successor_slot",
    "choice_observed",
    "context_value",
}
STEP_COLUMNS = ("state", "action", "successor_slot", "choice_observed")
EPISODE_COLUMNS = ("follower", "group", "context", "regime")
MOST_NUMBER = 2**31 - 1
TRUTH = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def load_trajectories(
    path: str | Path, *, limits: FileLimits | None = DEFAULT_LIMITS
) -> xr.Dataset:
    """Read and check trajectories: netCDF (.nc), zarr (.zarr) or a table (.csv).

    Nothing in the file is executed, and its sizes are checked before memory is allocated.

    Parameters
    ----------
    path : str or Path
        A table needs the columns of `from_table`.
    limits : FileLimits or None
        How much memory the file may need. None: no limit and no check.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    DataError
        If the file is absent, unreadable, larger than the limits or not in the documented
        format.
    """
    path = Path(path)
    if not stands_there(path):
        raise DataError("the data file does not exist", received=path)
    if path.suffix not in (*ENGINES, ".csv"):
        raise DataError(
            "the file type is unknown", received=path.name, accepted=", ".join([*ENGINES, ".csv"])
        )
    check_file(path, DataError, limits)
    try:
        if path.suffix == ".csv":
            return from_table(pd.read_csv(path), limits=limits)
        data = opened_trajectories(path)
        check_trajectories(data)
    except DataError:
        raise
    except Exception as error:  # readers raise many kinds for a damaged file
        raise DataError(
            f"{path.name} cannot be read ({type(error).__name__}: {error})",
            remedy="check that the file is complete",
        ) from error
    return data


def from_table(table: pd.DataFrame, *, limits: FileLimits | None = DEFAULT_LIMITS) -> xr.Dataset:
    """Turn a plain table, one row per step, into trajectories.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``follower``, ``step``, ``state``, ``action``; optional ``episode`` (where a
        follower has several), ``context`` (empty where not observed), ``regime``, ``group``,
        ``successor_slot`` (empty or -1 where not recorded), ``choice_observed`` (true or false),
        ``context_value``. Other columns are an error. Rows may come in any order; steps count
        up from any number without gaps.
    limits : FileLimits or None
        How much memory the trajectories may take: every episode is stored at the length of the
        longest. None: any.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    DataError
        Names every violation.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"follower": ["a", "a", "b"], "step": [1, 0, 0],
    ...                       "state": [1, 0, 0], "action": [0, 1, 1]})
    >>> from_table(table).state.values.tolist()
    [[0, 1], [0, -1]]
    """
    require_kind(table, pd.DataFrame, "table", "cb.load_trajectories(path) for a file")
    try:
        return _from_table(table, limits)
    except DataError:
        raise
    except Exception as error:  # a table can hold any Python object
        raise DataError(
            f"the table cannot be read ({type(error).__name__}: {error})",
            accepted="columns of numbers and text",
        ) from error


def _from_table(table: pd.DataFrame, limits: FileLimits | None) -> xr.Dataset:
    missing = [name for name in ("follower", "step", "state", "action") if name not in table]
    if missing or not table.columns.is_unique:
        raise DataError(
            "columns are missing from the table" if missing else "columns share a name",
            received=list(table.columns),
            accepted=f"columns {', '.join(missing)} as well" if missing else "each name once",
        )
    table = table.copy()
    for name in ("step", "state", "action"):
        table[name] = _whole_numbers(table, name)
    table = _cleaned(table)
    keys = ["follower", "episode"] if "episode" in table else ["follower"]
    _check_padded_size(table, table.groupby(keys).size(), limits)
    episodes = [rows.sort_values("step") for _, rows in table.groupby(keys, sort=False)]
    _check_episodes(episodes)

    def column(name: str) -> list | None:
        return [rows[name].tolist() for rows in episodes] if name in table else None

    def constant(name: str) -> list[str] | None:
        return [str(rows[name].iloc[0]) for rows in episodes] if name in table else None

    data = make_trajectories(
        column("state") or [],
        column("action") or [],
        follower=constant("follower"),
        group=constant("group"),
        context=constant("context"),
        regime=constant("regime"),
        successor_slot=column("successor_slot"),
        choice_observed=column("choice_observed"),
    )
    if "context_value" in table:
        firsts = [float(rows["context_value"].iloc[0]) for rows in episodes]
        data["context_value"] = ("episode", np.array(firsts))
    check_trajectories(data)
    return data


def _whole_numbers(table: pd.DataFrame, name: str, empty: int | None = None) -> pd.Series:
    """Read a column as integers of 32 bits; ``empty`` stands for cells without a number."""
    numbers = pd.to_numeric(table[name], errors="coerce")
    if empty is not None:
        numbers = numbers.fillna(empty)
    bad = numbers.isna() | (numbers % 1 != 0) | (numbers.abs() > MOST_NUMBER)
    if bad.any():
        row = table.index[bad][0]
        raise DataError(
            f"column {name!r}, row {row} is not a whole number",
            received=table.loc[row, name],
            accepted=f"whole numbers, at most {MOST_NUMBER:,} in absolute value",
        )
    return numbers.astype(int)


def _check_padded_size(table: pd.DataFrame, lengths: pd.Series, limits: FileLimits | None) -> None:
    """Episodes are padded to the longest, names to the longest name: refuse before it is done."""
    longest = int(lengths.max()) if len(lengths) else 0
    per_step = sum(4 for name in STEP_COLUMNS if name in table)
    letters = sum(
        int(table[name].astype(str).str.len().max())
        for name in EPISODE_COLUMNS
        if name in table and len(table)
    )
    check_size(
        "the table, with every episode at the length of the longest,",
        len(lengths) * (longest * per_step + 4 * letters),
        DataError,
        limits,
    )


def _cleaned(table: pd.DataFrame) -> pd.DataFrame:
    """Fill what may be empty, refuse what may not."""
    foreign = sorted(set(map(str, table.columns)) - COLUMNS)
    if foreign:
        raise DataError(
            "the table has unknown columns", received=foreign, accepted=", ".join(sorted(COLUMNS))
        )
    for name in ("follower", "episode", "group", "regime"):
        if name in table and table[name].isna().any():
            row = table.index[table[name].isna()][0]
            raise DataError(f"column {name!r} is empty in row {row}")
    if "context" in table:
        table["context"] = table["context"].fillna("").astype(str)
    if "successor_slot" in table:
        table["successor_slot"] = _whole_numbers(table, "successor_slot", empty=MISSING)
    if "choice_observed" in table:
        words = table["choice_observed"].astype(str).str.lower().map(TRUTH)
        if words.isna().any():
            row = table.index[words.isna()][0]
            raise DataError(
                f"column 'choice_observed', row {row} is neither true nor false",
                received=table.loc[row, "choice_observed"],
            )
        table["choice_observed"] = words.astype(bool)
    return table


def _check_episodes(episodes: list[pd.DataFrame]) -> None:
    found = []
    for rows in episodes:
        who = rows["follower"].iloc[0]
        if (np.diff(rows["step"]) != 1).any():
            found.append(f"steps of follower {who!r} have gaps or repeats")
        for name in ("context", "regime", "group", "context_value"):
            if name in rows and rows[name].nunique() > 1:
                found.append(
                    f"{name} of follower {who!r} changes within an episode "
                    "(make each part an episode of its own)"
                )
    if found:
        raise DataError("this table cannot be used: " + "; ".join(found))
