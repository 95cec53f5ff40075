"""A prior as draws and as a density on the real line, for samplers outside NumPyro."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, Key
from numpyro import handlers

from cbrl_bayes.inference.priors import Pooled, Prior


@dataclass(frozen=True)
class PriorLaw:
    """The joint prior of several parameters over one vector of real numbers.

    Each sampled site is mapped to the real line by NumPyro's transform of its support; the vector
    holds them one after the other. What is known takes no place in it.

    Parameters
    ----------
    priors : mapping
        From `default_priors`.
    num_groups : int
        Follower groups, >= 1.

    Examples
    --------
    >>> from cbrl_bayes.inference import default_priors
    >>> from cbrl_bayes.problems import two_state
    >>> law = PriorLaw(default_priors(two_state()))
    >>> points = law.draw(jax.random.key(0), 3)
    >>> points.shape, sorted(law.parameters(points[0]))
    ((3, 2), ['context_probability', 'temperature'])
    """

    priors: Mapping[str, Prior]
    num_groups: int = 1

    @property
    def size(self) -> int:
        """Length of the vector."""
        return sum(int(np.prod(shape, dtype=int)) for shape in self._shapes.values())

    @property
    def sampled(self) -> tuple[str, ...]:
        """Names of the sites that the vector holds."""
        return tuple(self._sites)

    def draw(self, key: Key[Array, ""], num: int) -> Float[Array, "draw coordinate"]:
        """Return independent draws of the vector, (num, size)."""

        def one(key: Array) -> Array:
            values = self._trace(key, {})
            parts = [
                jnp.ravel(self._transform(name).inv(values[name]["value"])) for name in self._sites
            ]
            return jnp.concatenate([jnp.zeros(0), *parts])

        return jax.vmap(one)(jax.random.split(key, num))

    def log_density(self, point: Float[Array, " coordinate"]) -> Float[Array, ""]:
        """Return the log density at a vector, the transforms' volume included."""
        total = jnp.zeros(())
        for name, free in self._parts(point).items():
            transform, law = self._transform(name), self._sites[name]
            value = transform(free)
            volume = transform.log_abs_det_jacobian(free, value)
            total += jnp.sum(law.log_prob(value)) + jnp.sum(volume)
        return total

    def parameters(self, point: Float[Array, " coordinate"]) -> dict[str, Array]:
        """Return name -> value of every parameter with a prior, known ones included."""
        values = {name: self._transform(name)(free) for name, free in self._parts(point).items()}
        found = self._trace(jax.random.key(0), values)
        return {name: found[name]["value"] for name in self.priors}

    @cached_property
    def _sites(self) -> dict[str, Any]:
        found = self._trace(jax.random.key(0), {})
        return {name: site["fn"] for name, site in found.items() if site["type"] == "sample"}

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            name: tuple(self._transform(name).inverse_shape((*law.batch_shape, *law.event_shape)))
            for name, law in self._sites.items()
        }

    def _transform(self, name: str) -> Any:
        return dist.biject_to(self._sites[name].support)

    def _parts(self, point: Array) -> dict[str, Array]:
        parts, begin = {}, 0
        for name, shape in self._shapes.items():
            end = begin + int(np.prod(shape, dtype=int))
            parts[name] = point[begin:end].reshape(shape)
            begin = end
        return parts

    def _trace(self, key: Array, values: Mapping[str, Array]) -> dict[str, Any]:
        def sample() -> None:
            for name, prior in self.priors.items():
                prior.sample(name, self.num_groups)

        seeded = handlers.substitute(handlers.seed(sample, key), dict(values))
        return dict(handlers.trace(seeded).get_trace())


def dirichlet_weights(prior: Prior | None) -> Float[np.ndarray, " entry"] | None:
    """Return the concentration of a prior that is a plain Dirichlet; None for any other.

    Examples
    --------
    >>> dirichlet_weights(Pooled(dist.Dirichlet(jnp.ones(2)))).tolist()
    [1.0, 1.0]
    """
    if isinstance(prior, Pooled) and isinstance(prior.prior, dist.Dirichlet):
        return np.asarray(prior.prior.concentration, float)
    return None
