"""The road network of Borlänge and 1,832 trips on it, seen by GPS, from their raw files."""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np

from cbrl_bayes.errors import DataError, InvalidInputError
from cbrl_bayes.problems.road_network import RoadNetwork, Trips

FILES = {
    "incidence": "linkIncidence.txt",
    "time": "ATTRIBUTEestimatedtime.txt",
    "angle": "ATTRIBUTEturnangles.txt",
    "trips": "observationsForEstimBAI.txt",
}
"""Each lists the entries of a sparse matrix: row, column, value, numbered from 1."""
LEFT_ANGLE = -0.5236
"""A turn with a smaller angle (radians; 30 degrees) goes left."""
U_TURN_ANGLE = 3.1
"""A turn with a larger absolute angle (radians) is a U-turn, and no left turn."""
REMEDY = (
    "set CBRL_DATA_DIR to a folder that has the files of the public repository "
    "austinknies/choiceaversion_recursivelogit (mle/RL-ChoiceAversion/Input/Borlange)"
)


def borlange(directory: str | Path | None = None) -> tuple[RoadNetwork, Trips]:
    """Read the network of Borlange, Sweden, and the trips observed on it.

    7,288 links, 466 destinations, 1,832 trips. Source: Fosgerau, Frejinger and Karlstrom (2013),
    Transportation Research Part B 56. A turn of less than -30 degrees goes left, one of more than
    3.1 radians is a U-turn; a turn has the travel time of the link that it leads into.

    Parameters
    ----------
    directory : path, optional
        Folder with the four raw files, or with a folder ``borlange`` that has them. Default: the
        environment variable ``CBRL_DATA_DIR``.

    Returns
    -------
    RoadNetwork, Trips

    Raises
    ------
    DataError
        If a file is not found, or is not what it should be: the file and the fault are named.
    """
    given = directory or os.environ.get("CBRL_DATA_DIR")
    folders = [Path(given), Path(given) / "borlange"] if given else []
    for folder in folders:
        if (folder / FILES["incidence"]).is_file():
            return _read(folder.resolve())
    raise DataError(
        "the files of the Borlange network were not found",
        received=f"no {FILES['incidence']} in "
        + (" or ".join(map(str, folders)) or "any place: CBRL_DATA_DIR is not set"),
        remedy=REMEDY,
    )


@lru_cache(maxsize=2)
def _read(folder: Path) -> tuple[RoadNetwork, Trips]:
    row, column, _ = _entries(folder, "incidence")
    num_links = int(row.max()) + 1
    inner = column < num_links
    begin, end = row[inner], column[inner]
    time = _attribute(folder, "time", begin, end, num_links, needed=True)
    angle = _attribute(folder, "angle", begin, end, num_links, needed=False)
    u_turn = np.abs(angle) > U_TURN_ANGLE
    names = tuple(f"destination {number + 1}" for number in range(column.max() + 1 - num_links))
    network = RoadNetwork(
        num_links=num_links,
        from_link=begin,
        to_link=end,
        time=time,
        left_turn=(angle < LEFT_ANGLE) & ~u_turn,
        u_turn=u_turn,
        end_link=row[~inner],
        end_destination=column[~inner] - num_links,
        destination_names=names,
    )
    return network, _trips(folder, network)


def _entries(folder: Path, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows and columns, from 0, and values of one file."""
    name = FILES[kind]
    path = folder / name
    if not path.is_file():
        raise DataError(f"{name} was not found", received=str(folder), remedy=REMEDY)
    try:
        table = np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise DataError(
            f"{name} cannot be read ({error})", accepted="three numbers in each line"
        ) from error
    if table.ndim != 2 or table.shape[1] != 3 or not len(table):
        raise DataError(
            f"{name} has another form",
            received=f"{len(table)} lines of {table.shape[-1]} numbers",
            accepted="lines of three numbers: row, column, value",
        )
    places = table[:, :2]
    whole = np.isfinite(table).all(axis=1) & (places >= 1).all(axis=1)
    whole &= (places % 1 == 0).all(axis=1)
    if not whole.all():
        line = int(np.argmin(whole))
        raise DataError(
            f"{name}, line {line + 1}, is no entry of a matrix",
            received=table[line].tolist(),
            accepted="row and column as whole numbers from 1, and a finite value",
        )
    row, column = (places - 1).astype(int).T
    pairs = np.unique(places, axis=0)
    if len(pairs) < len(places):
        raise DataError(f"{name} lists an entry twice", received=f"{len(places)} lines")
    return row, column, table[:, 2]


def _attribute(
    folder: Path, kind: str, begin: np.ndarray, end: np.ndarray, num_links: int, *, needed: bool
) -> np.ndarray:
    """Return an attribute of each turn; 0 where the file has none and that may be."""
    row, column, value = _entries(folder, kind)
    wide = max(num_links, int(column.max()) + 1)
    known = dict(zip((row * wide + column).tolist(), value.tolist(), strict=True))
    found = np.array([known.get(place, np.nan) for place in (begin * wide + end).tolist()])
    missing = np.isnan(found)
    if needed and missing.any():
        at = int(np.argmax(missing))
        raise DataError(
            f"{FILES[kind]} has no entry for {int(missing.sum())} turns of {FILES['incidence']}",
            received=f"the first: from link {begin[at] + 1} to link {end[at] + 1}",
            accepted="the files of one network",
            remedy=REMEDY,
        )
    return np.where(missing, 0.0, found)


def _trips(folder: Path, network: RoadNetwork) -> Trips:
    """Return the trips: a destination, then links, then the destination again."""
    row, column, value = _entries(folder, "trips")
    order = np.lexsort((column, row))
    first = np.flatnonzero(np.diff(row[order], prepend=-1))
    destinations, links = [], []
    for number, trip in enumerate(np.split(value[order].astype(int) - 1, first[1:])):
        goal, path, end = trip[0], trip[1:-1], trip[-1]
        sound = goal == end and 0 <= goal - network.num_links < network.num_destinations
        if not sound or not len(path) or path.min() < 0 or path.max() >= network.num_links:
            raise DataError(
                f"trip {number + 1} of {FILES['trips']} has another form",
                received=(trip + 1).tolist()[:8],
                accepted="the destination's number, links in order, the destination again",
            )
        destination = int(goal - network.num_links)
        try:
            network.check_way(f"trip {number + 1} of {FILES['trips']}", destination, path)
        except InvalidInputError as error:
            raise DataError(str(error)) from error
        destinations.append(destination)
        links.append(path)
    return Trips(np.array(destinations), links)
