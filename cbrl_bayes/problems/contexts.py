"""Distributions of the context that no one controls: a finite list, or a sampler."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from cbrl_bayes.errors import InvalidInputError, as_numbers, require_ranges

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class DiscreteContexts:
    """Finitely many contexts; their law is the parameter ``context_probability``.

    Parameters
    ----------
    names : tuple of str
        One readable name per context.
    values : pytree of arrays
        What the problem's functions receive; every leaf has leading axis C.
    probability : array, shape (C,)
        Default law; sums to one.
    law_known : bool
        Whether that law is given: then `infer` does not estimate it, as where contexts are
        hundreds of destinations whose shares were counted. A prior may still be passed.

    Examples
    --------
    >>> contexts = DiscreteContexts(("low", "high"), jnp.array([0.2, 0.8]), (0.5, 0.5))
    >>> contexts.num_contexts
    2
    """

    names: tuple[str, ...]
    values: Any
    probability: tuple[float, ...]
    law_known: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.names, str):
            raise InvalidInputError(
                "names of contexts are one text", received=repr(self.names), accepted="a tuple"
            )
        count = len(self.names)
        lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(self.values)}
        if count == 0 or len(set(self.names)) != count or lengths != {(count,)}:
            raise InvalidInputError(
                "contexts need distinct names and values with one entry per name",
                received=f"names {self.names}, leading lengths {sorted(lengths)}",
            )
        if not all(isinstance(name, str) and name for name in self.names):
            raise InvalidInputError(
                "a context has no name in letters",
                received=self.names,
                accepted="text; '' in data says that a context was not observed",
            )
        weights = as_numbers("context probabilities", self.probability)
        proper = (weights >= 0).all() and abs(weights.sum() - 1) <= 1e-8  # false for NaN
        if weights.shape != (count,) or not proper:
            raise InvalidInputError(
                "context probabilities are not a distribution over the contexts",
                received=self.probability,
                accepted=f"{count} numbers >= 0 that sum to one",
            )

    @property
    def num_contexts(self) -> int:
        """Number of contexts C that an exact evaluation enumerates."""
        return len(self.names)

    @property
    def default_parameters(self) -> dict[str, Array]:
        """The parameter this distribution brings to the problem."""
        return {"context_probability": jnp.asarray(self.probability, float)}

    def support(
        self, parameters: Parameters, key: Key[Array, ""] | None = None
    ) -> tuple[Any, Float[Array, " context"]]:
        """Return all context values and their probabilities."""
        return self.values, jnp.asarray(parameters["context_probability"])

    def draw(
        self, parameters: Parameters, key: Key[Array, ""], num: int
    ) -> tuple[Any, Int[Array, " num"]]:
        """Return ``num`` contexts drawn from their law, and their positions in the list."""
        logits = jnp.log(parameters["context_probability"])
        chosen = jax.random.categorical(key, logits, shape=(num,))
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[chosen], self.values), chosen


@dataclass(frozen=True)
class SampledContexts:
    """A continuous family of contexts, used through samples.

    Parameters
    ----------
    sample_fn : callable
        ``(parameters, key) -> one context value`` (a pytree). With a fixed key it should vary
        smoothly with the parameters, so that studies under different draws are comparable.
    num_samples : int
        Contexts in one evaluation; the sampling error falls as its square root.
    parameters : mapping
        Names and default values of the family's parameters.

    Examples
    --------
    >>> import jax
    >>> family = SampledContexts(
    ...     lambda p, key: p["cost_mean"] + jax.random.normal(key), 8, {"cost_mean": 1.0})
    >>> values, weights = family.support({"cost_mean": 1.0}, jax.random.key(0))
    >>> values.shape, float(weights.sum())
    ((8,), 1.0)
    """

    sample_fn: Callable[[Parameters, Array], Any]
    num_samples: int
    parameters: Parameters = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_ranges(self, "settings of the sampled contexts", num_samples=">= 1")

    @property
    def num_contexts(self) -> int:
        """Number of contexts in one evaluation."""
        return self.num_samples

    @property
    def names(self) -> tuple[str, ...]:
        """Labels of the samples; a sample has no name of its own."""
        return tuple(f"sample {i}" for i in range(self.num_samples))

    @property
    def default_parameters(self) -> dict[str, Array]:
        """The parameters this distribution brings to the problem."""
        return {name: jnp.asarray(value, float) for name, value in self.parameters.items()}

    def support(
        self, parameters: Parameters, key: Key[Array, ""] | None = None
    ) -> tuple[Any, Float[Array, " context"]]:
        """Return sampled context values and equal weights."""
        if key is None:
            raise InvalidInputError(
                "this problem samples its contexts and no key was given",
                remedy="pass key=jax.random.key(...)",
            )
        values, _ = self.draw(parameters, key, self.num_samples)
        return values, jnp.full(self.num_samples, 1.0 / self.num_samples)

    def draw(
        self, parameters: Parameters, key: Key[Array, ""], num: int
    ) -> tuple[Any, Int[Array, " num"]]:
        """Return ``num`` sampled contexts and their running numbers."""
        keys = jax.random.split(key, num)
        return jax.vmap(lambda k: self.sample_fn(parameters, k))(keys), jnp.arange(num)


ContextDistribution = DiscreteContexts | SampledContexts
