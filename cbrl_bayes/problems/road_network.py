"""A road network as links and turns: what turning costs, where trips end, who travels where."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cbrl_bayes.errors import InvalidInputError


class TurnTables(NamedTuple):
    """A network as tables over (link, slot): the slots of a link are its turns in order.

    Attributes
    ----------
    successor : int array, shape (L, K)
        Link turned into; the link itself where the slot is not used.
    available : bool array, shape (L, K)
        Slots in use.
    features : dict of arrays, shape (L, K)
        ``time``, ``left_turn``, ``link_constant`` and ``u_turn`` of each turn; 0 where not used.
    """

    successor: np.ndarray
    available: np.ndarray
    features: dict[str, np.ndarray]


@dataclass(frozen=True)
class Trips:
    """Trips on a network.

    Parameters
    ----------
    destination : int array, shape (N,)
        Number of each trip's destination.
    links : sequence of int arrays
        The links of each trip in order; the last one ends at the destination.
    """

    destination: np.ndarray
    links: Sequence[np.ndarray]

    @property
    def origin(self) -> np.ndarray:
        """First link of each trip."""
        return np.array([row[0] for row in self.links], int)


@dataclass(frozen=True)
class RoadNetwork:
    """Links, the turns between them, and the links at which each destination is reached.

    Parameters
    ----------
    num_links : int
        L.
    from_link, to_link : int arrays, shape (T,)
        Turns, each at most once.
    time : array, shape (T,)
        Travel time of the link turned into, minutes, >= 0.
    left_turn, u_turn : bool arrays, shape (T,)
        What kind of turn it is.
    end_link, end_destination : int arrays, shape (E,)
        A link at whose end a destination is reached, and the destination's number.
    destination_names : tuple of str
        One for each destination.
    link_names : tuple of str, optional
        Default: ``link 1``, ``link 2``, ...

    Raises
    ------
    InvalidInputError
        If numbers are out of range, a turn is listed twice, a time is negative, or some link
        cannot reach every other one: every trip must be able to end.

    Examples
    --------
    >>> ring = RoadNetwork(3, [0, 1, 2], [1, 2, 0], [1.0, 1.0, 2.0], [False] * 3, [False] * 3,
    ...                    [2], [0], ("school",))
    >>> ring.num_destinations, ring.tables.successor.ravel().tolist()
    (1, [1, 2, 0])
    """

    num_links: int
    from_link: np.ndarray
    to_link: np.ndarray
    time: np.ndarray
    left_turn: np.ndarray
    u_turn: np.ndarray
    end_link: np.ndarray
    end_destination: np.ndarray
    destination_names: tuple[str, ...]
    link_names: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        kinds = {"time": float, "left_turn": bool, "u_turn": bool}
        for name in ("from_link", "to_link", *kinds, "end_link", "end_destination"):
            array = np.asarray(getattr(self, name), kinds.get(name, int))
            object.__setattr__(self, name, array)
        if not self.link_names:
            names = tuple(f"link {number + 1}" for number in range(self.num_links))
            object.__setattr__(self, "link_names", names)
        found = [text for text in self._violations() if text]
        if found:
            raise InvalidInputError("this is no road network: " + "; ".join(found))

    def _violations(self) -> list[str]:
        turns = {len(getattr(self, n)) for n in ("from_link", "to_link", "time", "left_turn")}
        if turns | {len(self.u_turn)} != {len(self.u_turn)} or not len(self.u_turn):
            return [f"turns are described by lists of lengths {sorted(turns)}"]
        if len(self.link_names) != self.num_links:
            return [f"{len(self.link_names)} names of {self.num_links} links"]
        found = []
        for name, most in (
            ("from_link", self.num_links),
            ("to_link", self.num_links),
            ("end_link", self.num_links),
            ("end_destination", self.num_destinations),
        ):
            array = getattr(self, name)
            wrong = array[(array < 0) | (array >= most)]
            if len(wrong):
                found.append(f"{name} has {wrong[0]}, accepted: 0 to {most - 1}")
        if found:
            return found
        pairs = np.stack([self.from_link, self.to_link])
        if np.unique(pairs, axis=1).shape[1] < pairs.shape[1]:
            found.append("some turn is listed twice")
        if not (np.isfinite(self.time) & (self.time >= 0)).all():
            found.append(f"a time is {self.time.min()}, accepted: >= 0 and finite")
        unserved = sorted(set(range(self.num_destinations)) - set(self.end_destination.tolist()))
        if unserved:
            found.append(f"no link ends at {self.destination_names[unserved[0]]}")
        component = self._components()
        if component.max():
            lost = int(np.flatnonzero(component != np.bincount(component).argmax())[0])
            found.append(
                f"{self.link_names[lost]} cannot reach every other link, or not be reached by it "
                f"({(component == component[lost]).sum()} of {self.num_links} links in its part)"
            )
        return found

    def _components(self) -> np.ndarray:
        ones = np.ones(len(self.from_link))
        shape = (self.num_links, self.num_links)
        graph = coo_array((ones, (self.from_link, self.to_link)), shape=shape)
        return connected_components(graph.tocsr(), connection="strong")[1]

    @property
    def num_destinations(self) -> int:
        """Number of destinations D."""
        return len(self.destination_names)

    @cached_property
    def arrives(self) -> np.ndarray:
        """Whether each destination is reached at the end of each link, bool (D, L)."""
        found = np.zeros((self.num_destinations, self.num_links), bool)
        found[self.end_destination, self.end_link] = True
        return found

    @cached_property
    def slot(self) -> np.ndarray:
        """Number of each turn among those of its link, (T,)."""
        order = np.lexsort((self.to_link, self.from_link))
        first = np.searchsorted(self.from_link[order], np.arange(self.num_links))
        found = np.empty(len(order), int)
        found[order] = np.arange(len(order)) - first[self.from_link[order]]
        return found

    @cached_property
    def tables(self) -> TurnTables:
        """The turns as tables over (link, slot)."""
        shape = self.num_links, int(self.slot.max()) + 1
        successor = np.repeat(np.arange(self.num_links)[:, None], shape[1], axis=1)
        available = np.zeros(shape, bool)
        place = self.from_link, self.slot
        successor[place], available[place] = self.to_link, True
        features = {}
        for name, values in (
            ("time", self.time),
            ("left_turn", self.left_turn),
            ("link_constant", self.time > 0),
            ("u_turn", self.u_turn),
        ):
            table = np.zeros(shape)
            table[place] = values
            features[name] = table
        return TurnTables(successor, available, features)

    def slots_of(self, links: np.ndarray) -> np.ndarray:
        """Return the slot of each turn along a path of links, one fewer than links.

        Raises
        ------
        InvalidInputError
            If the network has no such turn.
        """
        before, after = np.asarray(links[:-1]), np.asarray(links[1:])
        fits = self.tables.available[before] & (self.tables.successor[before] == after[:, None])
        if not fits.any(axis=1).all():
            at = int(np.argmin(fits.any(axis=1)))
            names = self.link_names[before[at]], self.link_names[after[at]]
            raise InvalidInputError(f"there is no turn from {names[0]} to {names[1]}")
        return fits.argmax(axis=1)

    def check_trips(self, trips: Trips) -> None:
        """Refuse trips that the network does not allow.

        Raises
        ------
        InvalidInputError
            For no trips, links or destinations that do not exist, a turn that there is not, or a
            trip that does not end at its destination.
        """
        if len(trips.links) == 0 or len(trips.links) != len(trips.destination):
            raise InvalidInputError(
                "trips and destinations do not fit",
                received=f"{len(trips.links)} trips, {len(trips.destination)} destinations",
                accepted="one destination for each trip, at least one trip",
            )
        for number, (goal, row) in enumerate(zip(trips.destination, trips.links, strict=True)):
            links = np.asarray(row)
            known = links.size > 0 and links.min() >= 0 and links.max() < self.num_links
            if not known or not 0 <= goal < self.num_destinations:
                raise InvalidInputError(
                    f"trip {number + 1} is no trip on this network",
                    received=f"destination {goal}, links {links.tolist()[:8]}",
                    accepted=f"destinations 0 to {self.num_destinations - 1}, at least one link, "
                    f"links 0 to {self.num_links - 1}",
                )
            self.check_way(f"trip {number + 1}", goal, links)

    def check_way(self, name: str, destination: int, links: np.ndarray) -> None:
        """Refuse links in an order that the network does not allow, or that end elsewhere.

        Parameters
        ----------
        name : str
            What the trip is called in errors.
        destination : int
        links : int array
            Of the network.

        Raises
        ------
        InvalidInputError
        """
        try:
            self.slots_of(links)
        except InvalidInputError as error:
            raise InvalidInputError(f"{name}: {error}") from error
        if not self.arrives[destination, links[-1]]:
            raise InvalidInputError(
                f"{name} does not end at its destination",
                received=f"{self.link_names[links[-1]]} for {self.destination_names[destination]}",
            )

    def cut(self, links: Sequence[int], trips: Trips) -> tuple["RoadNetwork", Trips]:
        """Return a part of the network, and the parts of the trips that lie in it.

        Of the links those remain that can reach each other within the part. A stretch of a trip
        inside is a trip of its own; its destination is its last link. Stretches of one link are
        left out: nothing is chosen in them.

        Parameters
        ----------
        links : sequence of int
            Numbers of the links to keep.
        trips : Trips

        Returns
        -------
        RoadNetwork, Trips
        """
        kept = np.zeros(self.num_links, bool)
        kept[np.asarray(links)] = True
        inside = kept[self.from_link] & kept[self.to_link]
        shape = (self.num_links, self.num_links)
        pairs = self.from_link[inside], self.to_link[inside]
        graph = coo_array((np.ones(len(pairs[0])), pairs), shape=shape).tocsr()
        component = connected_components(graph, connection="strong")[1]
        kept &= component == np.bincount(component[kept]).argmax()
        number = np.cumsum(kept) - 1
        runs = [number[run] for row in trips.links for run in _runs_inside(row, kept)]
        last = np.array([run[-1] for run in runs], int)
        ends, destination = np.unique(last, return_inverse=True)
        names = tuple(np.asarray(self.link_names)[kept].tolist())
        inside = kept[self.from_link] & kept[self.to_link]
        part = replace(
            self,
            num_links=int(kept.sum()),
            from_link=number[self.from_link[inside]],
            to_link=number[self.to_link[inside]],
            time=self.time[inside],
            left_turn=self.left_turn[inside],
            u_turn=self.u_turn[inside],
            end_link=ends,
            end_destination=np.arange(len(ends)),
            destination_names=tuple(f"end of {names[link]}" for link in ends),
            link_names=names,
        )
        return part, Trips(destination, runs)


def _runs_inside(row: np.ndarray, kept: np.ndarray) -> list[np.ndarray]:
    """Return the longest stretches of at least two links that lie inside."""
    pieces = np.split(row, np.flatnonzero(np.diff(kept[row].astype(int))) + 1)
    return [piece for piece in pieces if kept[piece[0]] and len(piece) > 1]
