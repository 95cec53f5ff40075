"""What tolls do on a network that all destinations share: one solve for all, and its slopes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from cbrl_bayes.mdp import linear_values
from cbrl_bayes.problems import POPULATION, Problem, settled, shared_network

SHARP = 1000.0
"""The search minimises thousandths of a minute: its limit on the slope then is 1e-8 minutes."""


@dataclass(frozen=True)
class Leader:
    """The objective of `route_choice` for all destinations at once.

    With V the drivers' value at the start, averaged over trips, the traffic on a turn is the
    slope of V in its utility. So welfare without tolls' payments is V plus what is paid, and what
    is paid, like the harm, is a directional derivative of V. With congestion utility is that of
    the settled traffic.
    """

    problem: Problem
    tolled: np.ndarray
    relieved: np.ndarray
    relief: float

    def __post_init__(self) -> None:
        assert self.network is not None  # made now, outside of any compiled program
        assert self.start.shape

    @cached_property
    def network(self) -> Any:
        """Tables without toll; only utility depends on parameters."""
        one = self._known({})
        toll = {"toll": jnp.zeros(len(self.tolled))}
        return shared_network(self.problem, toll, self.problem.contexts.values, one)

    @cached_property
    def start(self) -> jax.Array:
        """Share of trips to each destination that begin on each link, (C, S)."""
        one = self._known({})
        toll = {"toll": jnp.zeros(len(self.tolled))}
        initial = jax.vmap(lambda c: self.problem.mdp_fn(toll, c, one).initial)
        shares = jnp.asarray(self.problem.contexts.probability)
        return shares[:, None] * initial(self.problem.contexts.values)

    def utility(self, parameters: Mapping[str, Any]) -> jax.Array:
        """Return what each move is worth without tolls, (S, A)."""
        toll = {"toll": jnp.zeros(len(self.tolled))}
        return self.problem.mdp_fn(toll, jnp.asarray(0), self._known(parameters)).as_stated[0]

    def _known(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return all parameters; with congestion, traffic as it is first guessed if not given."""
        known = {**self.problem.default_parameters, **parameters}
        if self.problem.population is not None:
            known = {POPULATION: self.problem.population.start, **known}
        return self.problem.follower_parameters(known, 0)

    def settled(self, toll: jax.Array, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters, with the traffic that settles under tolls if there is any."""
        known = {**self.problem.default_parameters, **parameters}
        return settled(self.problem, {"toll": toll}, known)

    def value(self, utility: jax.Array) -> jax.Array:
        """Return the drivers' average value at the start, in utility."""
        network = self.network
        found = linear_values(
            utility, network.successor, network.available, network.terminal, network.temperature
        )
        return (self.start * found.values).sum()

    def _into(self, per_link: jax.Array) -> jax.Array:
        """Return a number per link as one for each turn into it, (S, A)."""
        network = self.network
        S = network.reward.shape[0]
        turns = jnp.where(network.successor == S - 1, 0.0, per_link[network.successor])
        return jnp.where(network.terminal[:, None], 0.0, turns)

    def _on(self, links: np.ndarray, values: Any) -> jax.Array:
        return jnp.zeros(self.network.reward.shape[0]).at[jnp.asarray(links)].set(values)

    def objective(self, toll: jax.Array, parameters: Mapping[str, Any]) -> jax.Array:
        """Return the leader's objective, minutes per trip."""
        parameters = self.settled(toll, parameters)
        minute = -parameters["time"]
        paid = self._into(self._on(self.tolled, toll))
        harm = self._into(self._on(self.relieved, self.relief))
        utility = self.utility(parameters) - minute * paid
        # Along (paid - harm) utility moves as if tolls were given back and harm were felt.
        value, moved = jax.jvp(self.value, (utility,), (minute * (paid - harm),))
        return (value + moved) / minute

    def traffic(self, toll: jax.Array, parameters: Mapping[str, Any]) -> jax.Array:
        """Return entries into each link per trip, (S,)."""
        parameters = self.settled(toll, parameters)
        paid = self._into(self._on(self.tolled, toll))
        utility = self.utility(parameters) + parameters["time"] * paid
        visits = jax.grad(self.value)(utility)
        S = utility.shape[0]
        inner = jnp.where(self.network.terminal[:, None], 0.0, visits)
        return jnp.zeros(S).at[self.network.successor].add(inner).at[S - 1].set(0.0)

    @cached_property
    def _slope(self) -> Any:
        return jax.jit(jax.value_and_grad(self.objective))

    def best(
        self, draws: list[dict[str, float]], largest: float, begin: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the tolls that are best on average over some draws."""

        def loss(toll: np.ndarray) -> tuple[float, np.ndarray]:
            found = [self._slope(jnp.asarray(toll), one) for one in draws]
            value = np.mean([float(v) for v, _ in found])
            slope = np.mean([np.asarray(g) for _, g in found], axis=0)
            return -SHARP * value, -SHARP * slope

        first = np.full(len(self.tolled), 0.2) if begin is None else begin
        bounds = [(0.0, largest)] * len(self.tolled)
        answer = minimize(
            loss,
            first,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": 60, "ftol": 1e-12},
        )
        return answer.x
