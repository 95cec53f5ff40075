"""Observed trips as trajectories of the route choice problem."""

from pathlib import Path

import numpy as np
import xarray as xr

from cbrl_bayes.behaviour.schema import make_trajectories
from cbrl_bayes.problems import RoadNetwork, Trips, borlange


def route_trajectories(network: RoadNetwork, trips: Trips) -> xr.Dataset:
    """Return trips as trajectories for `route_choice` on the same network.

    State: the link. Action: the turn, and arriving at the end of the last link. Context: the
    destination.

    Parameters
    ----------
    network : RoadNetwork
    trips : Trips

    Returns
    -------
    xarray.Dataset
        One episode per trip.

    Raises
    ------
    InvalidInputError
        For trips that the network does not allow.

    Examples
    --------
    >>> ring = RoadNetwork(3, [0, 1, 2], [1, 2, 0], [1.0, 1.0, 2.0], [False] * 3, [False] * 3,
    ...                    [2], [0], ("school",))
    >>> data = route_trajectories(ring, Trips(np.array([0]), [np.array([0, 1, 2])]))
    >>> data["action"].values.tolist()
    [[0, 0, 1]]
    """
    network.check_trips(trips)
    arrive = network.tables.available.shape[1]
    return make_trajectories(
        list(trips.links),
        [np.append(network.slots_of(row), arrive) for row in trips.links],
        follower=[f"trip {number + 1}" for number in range(len(trips.links))],
        context=[network.destination_names[number] for number in trips.destination],
    )


def load_borlange(*, directory: str | Path | None = None) -> xr.Dataset:
    """Load 1,832 trips in Borlange, Sweden, as trajectories for `route_choice`.

    37,167 choices of links on the way to 466 destinations (Fosgerau, Frejinger and Karlstrom 2013).

    Parameters
    ----------
    directory : path, optional
        Folder with the raw files, or with a folder ``borlange`` that has them. Default: the
        environment variable ``CBRL_DATA_DIR``.

    Returns
    -------
    xarray.Dataset
        One episode per trip.

    Raises
    ------
    DataError
        If a file is not found, or is not what it should be.
    """
    return route_trajectories(*borlange(directory))
