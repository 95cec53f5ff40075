"""Rust's (1987) bus data: odometer readings and engine replacements, Madison 1974-85."""

import hashlib
import os
from pathlib import Path

import numpy as np
import xarray as xr

from cbrl_bayes.behaviour.schema import make_trajectories
from cbrl_bayes.errors import DataError
from cbrl_bayes.problems import MILES_PER_BIN

GROUP_FILES = {
    1: ("g870.asc", 36),
    2: ("rt50.asc", 60),
    3: ("t8h203.asc", 81),
    4: ("a530875.asc", 128),
}
"""Rust's bus group -> file and rows per bus (header included)."""

CHECKSUMS = {
    "g870.asc": "sha256:28c565af50b316670ebf3bc21e45b779c743fc93ff5adab375a2296a5a9ca042",
    "rt50.asc": "sha256:18281cf711d9ea17cbcae0b17371f3749c46d40f46f2b44bde8bee6360b0f43a",
    "t8h203.asc": "sha256:edf9548b8e343991a9d5da514fde260d70b9002d84accfbbbd9c4abc78675684",
    "a530875.asc": "sha256:d67a6b7ea23b1b1fa772a22e86930ce79ed2afb9b1f01f546c119349ee7badab",
}
SOURCE = (
    "https://raw.githubusercontent.com/OpenSourceEconomics/zurcher-data/"
    "d39eb4d6da1cbdcadf7e5594672bb8495e3394b0/data/original_data/"
)
HEADER_ROWS = 11
REPLACEMENT_ROWS = (5, 8)  # odometer at the first and second replacement, 0 for none


def load_zurcher(
    groups: tuple[int, ...] = (4,), *, directory: str | Path | None = None, download: bool = True
) -> xr.Dataset:
    """Load the bus data as trajectories for `bus_replacement`.

    State: ``max(ceil(miles since replacement / 5000) - 1, 0)``. Action: 1 in the month before
    the odometer first shows a replacement. ``successor_slot``: the month's increment in bins,
    which after a replacement is ``ceil(miles / 5000)``. As in Rust's likelihood, choices count
    from the second month on; transitions from the first.

    Parameters
    ----------
    groups : tuple of int
        Rust's bus groups, 1 to 4 (15, 4, 48 and 37 buses).
    directory : path, optional
        Folder with the raw files, or with a folder ``zurcher`` that has them. Default: the
        environment variable ``CBRL_DATA_DIR``, else the user's cache, else the public
        repository OpenSourceEconomics/zurcher-data (MIT), with a checksum.
    download : bool
        Whether the files may be downloaded.

    Returns
    -------
    xarray.Dataset
        One episode per bus; ``group`` is the bus group.

    Raises
    ------
    DataError
        For an unknown group, or a file that is not found or differs from the published one.
    """
    unknown = [group for group in groups if group not in GROUP_FILES]
    if unknown or not groups:
        raise DataError("unknown bus group", received=list(groups), accepted="1, 2, 3, 4")
    states, actions, slots, seen, buses, names = [], [], [], [], [], []
    for group in groups:
        for bus in _read_group(group, directory, download):
            state, action, slot = _months(bus)
            states.append(state)
            actions.append(action)
            slots.append(slot)
            seen.append(np.arange(len(state)) > 0)
            buses.append(f"bus {int(bus[0])}")
            names.append(f"group {group}")
    return make_trajectories(
        states,
        actions,
        follower=buses,
        group=names,
        context=["fleet"] * len(states),
        successor_slot=slots,
        choice_observed=seen,
    )


def _read_group(group: int, directory: str | Path | None, download: bool) -> np.ndarray:
    name, rows = GROUP_FILES[group]
    content = _locate(name, directory, download).read_bytes()
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != CHECKSUMS[name]:
        raise DataError(
            f"{name} is not the published file: its checksum differs",
            remedy="download it again from OpenSourceEconomics/zurcher-data",
        )
    return np.array(content.split(), float).reshape(-1, rows)


def _locate(name: str, directory: str | Path | None, download: bool) -> Path:
    given = directory or os.environ.get("CBRL_DATA_DIR")
    folders = [Path(given), Path(given) / "zurcher"] if given else []
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    import pooch

    pooch.get_logger().setLevel("WARNING")
    cache = pooch.os_cache("cbrl_bayes")
    if not download and not (Path(cache) / name).is_file():
        raise DataError(
            f"the bus data file {name} was not found",
            remedy="set CBRL_DATA_DIR to a folder that holds the raw Zurcher files",
        )
    try:
        return Path(pooch.retrieve(SOURCE + name, CHECKSUMS[name], fname=name, path=cache))
    except Exception as error:  # pooch passes on whatever the network raises
        raise DataError(
            f"the bus data file {name} could not be downloaded ({type(error).__name__})",
            remedy="set CBRL_DATA_DIR to a folder that holds the raw Zurcher files",
        ) from error


def _months(bus: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return state, action and increment of every month of one bus."""
    odometer = bus[HEADER_ROWS:]
    origin = np.zeros(len(odometer))
    action = np.zeros(len(odometer), int)
    for at in (bus[row] for row in REPLACEMENT_ROWS):
        after = np.flatnonzero(odometer >= at)
        if at > 0 and len(after):
            origin[after] = at
            action[after[0] - 1] = 1
    driven = np.ceil((odometer - origin) / MILES_PER_BIN).astype(int)
    state = np.maximum(driven - 1, 0)
    # After a replacement the increment is counted from mileage zero, not from bin zero.
    kept = action[:-1] == 0
    increment = np.where(kept, state[1:] - state[:-1], driven[1:])
    return state, action, np.append(increment, -1)
