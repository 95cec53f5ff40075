"""A problem's functions at another temperature (lambda), or at another price."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from cbrl_bayes.mdp import MDP, replace_fields

PLACE_OF_PARAMETERS = {
    "mdp_fn": 2,
    "leader_reward_fn": 2,
    "incentive_price_fn": 2,
    "objective_fn": 3,
    "response_fn": 1,
}
"""Which argument of the problem's functions holds the parameters."""


@dataclass(frozen=True)
class Heated:
    """A function of a problem that sees temperatures times ``factor``."""

    function: Callable[..., Any]
    factor: Array | float
    place: int

    def __call__(self, *arguments: Any) -> Any:
        """Call the function; what has no such parameter returns an MDP, which is heated."""
        given = list(arguments)
        parameters = given[self.place]
        if "temperature" in parameters:
            hot = jnp.asarray(parameters["temperature"]) * self.factor
            given[self.place] = {**parameters, "temperature": hot}
            return self.function(*given)
        found = self.function(*given)
        if isinstance(found, MDP):
            return replace_fields(found, temperature=found.temperature * self.factor)
        return found

    def __repr__(self) -> str:
        return repr(self.function)


@dataclass(frozen=True)
class Priced:
    """A problem's ``incentive_price_fn`` times ``factor``."""

    function: Callable[..., Array]
    factor: Array | float

    def __call__(self, *arguments: Any) -> Array:
        """Return the price."""
        return self.factor * self.function(*arguments)

    def __repr__(self) -> str:
        return repr(self.function)
