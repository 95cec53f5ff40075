"""Route choice on a road network: tolls bring traffic off some links, at little loss to drivers."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from cbrl_bayes.errors import InvalidInputError, require_kind, require_ranges
from cbrl_bayes.mdp import MDP, SuccessorTransition, expected_return
from cbrl_bayes.problems.borlange import borlange
from cbrl_bayes.problems.congestion import Congestion
from cbrl_bayes.problems.contexts import DiscreteContexts
from cbrl_bayes.problems.equilibrium import POPULATION, Population
from cbrl_bayes.problems.incentive import IncentiveSpace, Labels, scaled_sigmoid
from cbrl_bayes.problems.record import Incentive, Parameters, Problem
from cbrl_bayes.problems.road_network import RoadNetwork, Trips

COEFFICIENTS = ("time", "left_turn", "link_constant", "u_turn")
UNITS = {
    "time": "utility per minute",
    "left_turn": "utility per left turn",
    "link_constant": "utility per link",
    "u_turn": "utility per U-turn",
    "temperature": "utility",
    "rationality": "1 / utility",
    "context_probability": "probability",
}
NUM_TOLLED = 20
"""Links that bear a toll by default: those that most trips use."""


def route_choice(
    network: RoadNetwork | None = None,
    trips: Trips | None = None,
    *,
    time: float = -2.5,
    left_turn: float = -1.0,
    link_constant: float = -0.4,
    u_turn: float = -4.5,
    temperature: float = 1.0,
    tolled: Sequence[int] | None = None,
    relieved: Sequence[int] | None = None,
    relief: float = 1.0,
    largest_toll: float = 5.0,
    congestion: Congestion | None = None,
) -> Problem:
    r"""Lay tolls on links so that drivers leave some links alone.

    **The follower** drives to its destination, link by link: the recursive logit of Fosgerau,
    Frejinger and Karlstrom (2013). State: the link it is on, and one state for having arrived.
    Action: a turn (the slots of `RoadNetwork.tables`), or, where its destination is at the end of
    the link, to arrive (the last action). A turn is worth

    .. math:: \beta_{time} (t + \mathrm{toll}) + \beta_{left} [\mathrm{left}] +
        \beta_{const} [t > 0] + \beta_{u} [\mathrm{U\ turn}]

    with the time t and the toll (in minutes) of the link turned into; arriving is worth 0. Nothing
    is discounted. The temperature is lambda = 1 in units of utility: only utility relative to it
    shows in behaviour. **Estimated from behaviour**: the four coefficients.

    **The leader** lays tolls on the links ``tolled``. For each entry into a link of ``relieved``
    it counts ``relief`` minutes lost, beside what the drivers lose: their expected utility,
    the worth of having a choice included (the logsum), in minutes of travel time. What is paid
    is no loss: it is given back.

    Parameters
    ----------
    network, trips : RoadNetwork and Trips, optional
        Default: `borlange`, whose files must be at hand. The trips say how often each
        destination occurs (these shares count as known), and where its trips begin.
    time : float
        Utility of a minute, < 0. Defaults: round numbers of the size that was published.
    left_turn, link_constant, u_turn : float
        Utility of a left turn, of each link, and of a U-turn, < 0.
    temperature : float
        lambda > 0, units of utility; rationality is 1/lambda. Known: 1 by the choice of units.
    tolled : sequence of int, optional
        Numbers of the links that may bear a toll. Default: the 20 that most trips use.
    relieved : sequence of int, optional
        Numbers of the links to bring traffic off. Default: the five that most trips use.
    relief : float
        Minutes that one entry into a relieved link counts, >= 0.
    largest_toll : float
        Upper bound of a toll, minutes, > 0.
    congestion : Congestion, optional
        Travel times grow with traffic. The entries into each link are then a population
        statistic, and drivers are in equilibrium (`equilibrium`). Default: times are given.

    Returns
    -------
    Problem
        Parameters ``time``, ``left_turn``, ``link_constant``, ``u_turn`` and ``temperature``;
        one context per destination.

    Raises
    ------
    DataError
        If the files of the default network are not at hand.
    InvalidInputError
        For links that the network does not have, trips that it does not allow, capacities that do
        not fit its links, and coefficients so small that wandering for ever is worth more than
        arriving.

    Examples
    --------
    >>> import numpy as np
    >>> square = RoadNetwork(4, [0, 1, 2, 3, 0], [1, 2, 3, 0, 2], np.ones(5), [False] * 5,
    ...                      [False] * 5, [3], [0], ("school",))
    >>> problem = route_choice(square, Trips(np.array([0]), [np.array([0, 1, 2, 3])]))
    >>> problem.num_states, problem.num_actions
    (5, 3)
    """
    coefficients = (time, left_turn, link_constant, u_turn)
    parameters = {**dict(zip(COEFFICIENTS, coefficients, strict=True)), "temperature": temperature}
    _check_settings(parameters | {"relief": relief, "largest_toll": largest_toll})
    if (network is None) != (trips is None):
        raise InvalidInputError("route_choice needs both a network and its trips, or neither")
    require_kind(
        congestion, Congestion | None, "congestion", "Congestion(volume=..., capacity=...)"
    )
    if network is None or trips is None:
        network, trips = borlange()
    else:
        network.check_trips(trips)
    use = np.bincount(np.concatenate(trips.links), minlength=network.num_links)
    busiest = np.argsort(-use, kind="stable")
    at_toll = _links(network, "tolled", busiest[:NUM_TOLLED] if tolled is None else tolled)
    off = _links(network, "relieved", busiest[:5] if relieved is None else relieved)
    drivers = _Drivers(_Tables(network, trips), at_toll, off, relief, congestion)
    shares = np.bincount(trips.destination, minlength=network.num_destinations) / len(trips.links)
    return Problem(
        name="route_choice",
        incentive=_tolls(network, at_toll, largest_toll),
        contexts=DiscreteContexts(
            network.destination_names,
            jnp.arange(network.num_destinations),
            tuple(shares.tolist()),
            law_known=True,
        ),
        mdp_fn=drivers.mdp,
        parameters=parameters,
        objective_fn=drivers.welfare,
        leader_discount=1.0,
        per_follower=(*COEFFICIENTS, "temperature"),
        state_labels=Labels(("state",), {"link": (("state",), (*network.link_names, "arrived"))}),
        action_names=(*(f"turn {n + 1}" for n in range(drivers.tables.num_actions - 1)), "arrive"),
        objective_unit="minutes per trip",
        parameter_units=UNITS,
        ranges=dict.fromkeys(COEFFICIENTS, (-np.inf, 0.0)),
        uncertain=COEFFICIENTS,
        population=None if congestion is None else _traffic(network, drivers, congestion),
    )


class _Tables:
    """A network as tables over (state, action): links and the state of having arrived."""

    def __init__(self, network: RoadNetwork, trips: Trips) -> None:
        turns = network.tables
        L, K = turns.successor.shape
        self.num_states, self.num_actions = L + 1, K + 1
        open_ = np.zeros((L + 1, K + 1), bool)
        open_[:L, :K] = turns.available
        successor = np.full((L + 1, K + 1), L)
        successor[:L, :K] = turns.successor
        self.turns, self.successor = jnp.asarray(open_), jnp.asarray(successor, jnp.int32)
        self.features = {
            name: jnp.asarray(np.pad(table, ((0, 1), (0, 1))))
            for name, table in turns.features.items()
        }
        self.certain = jnp.ones((L + 1, K + 1, 1))
        self.arrived = jnp.arange(L + 1) == L
        self.arrives = jnp.asarray(np.pad(network.arrives, ((0, 0), (0, 1)), constant_values=True))
        begun = np.zeros((network.num_destinations, L + 1))
        np.add.at(begun, (trips.destination, trips.origin), 1.0)
        begun[begun.sum(axis=1) == 0.0, :L] = 1.0  # nobody was seen to go there
        self.initial = jnp.asarray(begun / begun.sum(axis=1, keepdims=True))

    def available(self, destination: Array) -> Array:
        """Return which moves are open to drivers with a destination, (S, A)."""
        return jnp.concatenate([self.turns[:, :-1], self.arrives[destination][:, None]], axis=1)


class _Drivers:
    """What drivers decide about, and what their routes are worth to them and to the leader."""

    def __init__(
        self,
        tables: _Tables,
        tolled: np.ndarray,
        relieved: np.ndarray,
        relief: float,
        congestion: Congestion | None,
    ) -> None:
        self.tables, self.tolled, self.congestion = tables, tolled, congestion
        entered = jnp.zeros(tables.num_states).at[relieved].set(1.0)
        self.harm = relief * jnp.where(tables.turns, entered[tables.successor], 0.0)

    def utility(self, parameters: Parameters) -> Array:
        """Return what each move is worth without tolls, (S, A)."""
        tables = self.tables
        features = dict(tables.features)
        if self.congestion is not None:
            slowdown = jnp.append(self.congestion.slowdown(parameters[POPULATION]), 1.0)
            features["time"] = features["time"] * slowdown[tables.successor]
        return sum(parameters[name] * features[name] for name in COEFFICIENTS)

    def entries(self, visits: Array) -> Array:
        """Return the entries into each link, (L,), given visits (S, A)."""
        tables = self.tables
        turns = jnp.where(tables.turns, visits, 0.0)
        return jnp.zeros(tables.num_states).at[tables.successor].add(turns)[:-1]

    def mdp(self, incentive: Incentive, destination: Array, parameters: Parameters) -> MDP:
        """Return the process of drivers with one destination."""
        tables = self.tables
        toll = jnp.zeros(tables.num_states).at[self.tolled].set(incentive["toll"])
        paid = jnp.where(tables.turns, toll[tables.successor], 0.0)
        return MDP(
            reward=self.utility(parameters) + parameters["time"] * paid,
            transition=SuccessorTransition(tables.successor[..., None], tables.certain),
            initial=tables.initial[destination],
            discount=1.0,
            temperature=parameters["temperature"],
            terminal=tables.arrived,
            available=tables.available(destination),
        )

    def welfare(
        self, incentive: Incentive, policy: Array, destination: Array, parameters: Parameters
    ) -> Array:
        """Return what a trip is worth to drivers, less the harm to others, in minutes."""
        surprise = -jnp.log(jnp.where(policy > 0.0, policy, 1.0))
        worth = self.utility(parameters) + parameters["temperature"] * surprise
        minutes = worth / -parameters["time"] - self.harm
        mdp = self.mdp(incentive, destination, parameters)
        return expected_return(mdp, policy, reward=minutes, discount=1.0)


def _check_settings(given: dict[str, float]) -> None:
    require_ranges(
        given,
        "settings of route_choice",
        **dict.fromkeys(COEFFICIENTS, "(-inf, 0)"),
        temperature="> 0",
        relief=">= 0",
        largest_toll="> 0",
    )


def _links(network: RoadNetwork, name: str, links: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return numbers of links, checked."""
    found = np.asarray(links)
    whole = found.ndim == 1 and found.size > 0 and np.issubdtype(found.dtype, np.integer)
    if not whole or found.min() < 0 or found.max() >= network.num_links:
        raise InvalidInputError(
            f"{name} is no list of links of the network",
            received=found.tolist(),
            accepted=f"whole numbers from 0 to {network.num_links - 1}, at least one",
        )
    if len(np.unique(found)) < len(found):
        raise InvalidInputError(f"{name} has a link twice", received=found.tolist())
    return found


def _traffic(network: RoadNetwork, drivers: _Drivers, congestion: Congestion) -> Population:
    """Describe the traffic on each link, which all drivers make together."""
    shape = np.shape(congestion.capacity)
    if shape not in ((), (network.num_links,)):
        raise InvalidInputError(
            "capacity does not fit the network's links",
            received=f"shape {shape}",
            accepted=f"one number, or shape ({network.num_links},)",
        )
    return Population(
        statistic_fn=lambda incentive, visits, destination, parameters: drivers.entries(visits),
        start=jnp.full(network.num_links, congestion.volume / network.num_links),
        size=congestion.volume,
        labels=Labels(("road",), {"road": (("road",), network.link_names)}, unit="entries"),
    )


def _tolls(network: RoadNetwork, links: np.ndarray, largest: float) -> IncentiveSpace:
    """Describe a toll on each of some links, between 0 and ``largest`` minutes."""
    names = tuple(network.link_names[link] for link in links)
    return IncentiveSpace(
        initial={"toll_logit": jnp.full(len(links), -2.0)},
        transform=lambda x: {"toll": scaled_sigmoid(x["toll_logit"], 0.0, largest)},
        labels={
            "toll": Labels(
                ("link",),
                {"link": (("link",), names)},
                unit="minutes",
                description="toll per entry into a link, in minutes of travel time",
            )
        },
        start_scale=1.0,
        scale=1.0,
    )
