"""Roads that get slower as they fill: travel times that grow with traffic."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cbrl_bayes.errors import InvalidInputError, as_numbers, require_ranges


@dataclass(frozen=True)
class Congestion:
    r"""How the travel time of a link grows with its traffic.

    With traffic f (entries into the link) the time is :math:`t\,(1 + s\,(f / k)^p)` for the time t
    of the empty link, its capacity k, strength s and power p: the function of the Bureau of Public
    Roads (1964), whose usual numbers are the defaults.

    Parameters
    ----------
    volume : float
        Trips of all destinations together in the period, > 0.
    capacity : float or array, shape (L,)
        k: entries in the same period, > 0. One number serves all links. A link that carries its
        capacity takes ``1 + strength`` times as long as an empty one.
    strength : float
        s >= 0; 0 is a network without congestion.
    power : float
        p >= 1.

    Examples
    --------
    >>> roads = Congestion(volume=1000.0, capacity=np.array([400.0, 100.0]))
    >>> roads.slowdown(np.array([400.0, 200.0])).tolist()
    [1.15, 3.4]
    >>> roads.external_share(np.array([400.0, 200.0])).round(2).tolist()
    [0.6, 9.6]
    """

    volume: float
    capacity: Float[np.ndarray, " link"] | float
    strength: float = 0.15
    power: float = 4.0

    def __post_init__(self) -> None:
        require_ranges(self, "numbers of congestion", volume="> 0", strength=">= 0", power=">= 1")
        capacity = as_numbers("capacity", self.capacity)
        if capacity.ndim > 1 or not (np.isfinite(capacity) & (capacity > 0)).all():
            raise InvalidInputError(
                "capacity of a link is not positive",
                received=capacity.min() if capacity.size else capacity,
                accepted="> 0 and finite: one number, or one for each link",
            )
        object.__setattr__(self, "capacity", capacity)

    def slowdown(self, traffic: Float[Array, " link"]) -> Float[Array, " link"]:
        """Return by what each link's time is multiplied, shape (L,)."""
        return 1.0 + self.strength * self._load(traffic) ** self.power

    def external_share(self, traffic: Float[Array, " link"]) -> Float[Array, " link"]:
        """Return the time that one more entry costs all others, over the empty link's, (L,).

        It is f dt/df / t: times the time of the empty link it is the toll of Pigou (1920).
        """
        return self.strength * self.power * self._load(traffic) ** self.power

    def _load(self, traffic: Array) -> Array:
        # A search for the equilibrium may try flows below zero, where powers have no value.
        return jnp.maximum(traffic, 0.0) / self.capacity
