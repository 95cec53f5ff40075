"""Many independent Dirichlet laws in one array, each on those places of its row that can occur."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Bool, Key
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.transforms import StickBreakingTransform, Transform
from scipy.special import gammaln


class DirichletRows(dist.Distribution):
    """Independent Dirichlet laws along the last axis, on the places of positive concentration.

    A row with one such place is known: it has probability one there.

    Parameters
    ----------
    concentration : array, shape (..., K)
        >= 0, and in each row positive somewhere. Known, not traced.

    Examples
    --------
    >>> law = DirichletRows(np.array([[1.0, 2.0, 0.0], [0.0, 5.0, 0.0]]))
    >>> law.event_shape, law.num_free, law.mean.round(2).tolist()
    ((2, 3), 1, [[0.33, 0.67, 0.0], [0.0, 1.0, 0.0]])
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"concentration": constraints.nonnegative}

    def __init__(self, concentration: Any, *, validate_args: bool | None = None) -> None:
        self.concentration = np.asarray(concentration, float)
        super().__init__((), self.concentration.shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """Arrays whose rows are laws on the possible places."""
        return _RowsConstraint(_Places(self.concentration > 0.0))

    @property
    def num_free(self) -> int:
        """Number of probabilities that the others of their row do not determine."""
        return _Places(self.concentration > 0.0).num_free

    @property
    def mean(self) -> np.ndarray:
        """Return the mean law, shape (..., K)."""
        return self.concentration / self.concentration.sum(-1, keepdims=True)

    @property
    def variance(self) -> np.ndarray:
        """Return the variance of each probability, shape (..., K)."""
        size = self.concentration.sum(-1, keepdims=True)
        return self.mean * (1.0 - self.mean) / (size + 1.0)

    def sample(self, key: Key[Array, ""], sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw laws, shape (*sample_shape, ..., K)."""
        possible = self.concentration > 0.0
        # On the log scale: a gamma of small shape is often below the smallest number.
        shape = (*sample_shape, *self.event_shape)
        logs = jax.random.loggamma(key, jnp.where(possible, self.concentration, 1.0), shape)
        return jax.nn.softmax(jnp.where(possible, logs, -jnp.inf), axis=-1)

    def log_prob(self, value: Array) -> Array:
        """Return the log density with respect to all but one of each row's possible places."""
        possible = self.concentration > 0.0
        shape = np.where(possible, self.concentration, 1.0)
        size = np.where(possible, self.concentration, 0.0).sum(-1)
        power = (shape - 1.0) * jnp.log(jnp.where(possible, value, 1.0))
        whole = jnp.asarray((gammaln(size) - gammaln(shape).sum(-1)).sum())
        return whole + power.sum(tuple(range(-self.event_dim, 0)))


@dataclass(frozen=True, eq=False)
class _Places:
    """Which places of an array of rows can occur; equal by value, so that programs are shared."""

    possible: Bool[np.ndarray, "... place"]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Places) and np.array_equal(self.possible, other.possible)

    def __hash__(self) -> int:
        return hash((self.possible.shape, self.possible.tobytes()))

    @property
    def num_free(self) -> int:
        return int(self.possible.sum() - self.possible[..., 0].size)

    def by_size(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield, of rows with the same number of places, which rows and places: (n,), (n, k)."""
        rows = self.possible.reshape(-1, self.possible.shape[-1])
        sizes = rows.sum(-1)
        for size in np.unique(sizes[sizes > 1]):
            chosen = np.flatnonzero(sizes == size)
            yield chosen, np.argsort(~rows[chosen], axis=-1, kind="stable")[:, :size]


class _RowsConstraint(constraints.Constraint):
    def __init__(self, places: _Places) -> None:
        self.places = places

    @property
    def event_dim(self) -> int:
        return self.places.possible.ndim

    def __call__(self, x: Any) -> Any:
        axes = tuple(range(-self.places.possible.ndim, 0))
        proper = (x >= 0.0) & (self.places.possible | (x == 0.0))
        whole = abs(x.sum(-1, keepdims=True) - 1.0) < 1e-6
        return (proper & whole).all(axes)

    def feasible_like(self, prototype: Any) -> Any:
        possible = self.places.possible
        even = possible / possible.sum(-1, keepdims=True)
        return jnp.broadcast_to(even, jnp.shape(prototype))

    def tree_flatten(self) -> tuple:
        return (), ((), {"places": self.places})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _RowsConstraint) and self.places == other.places

    def __hash__(self) -> int:
        return hash(self.places)


class _RowsTransform(Transform):
    """From a vector of unbounded numbers to rows, stick-breaking each on its own places."""

    domain = constraints.real_vector

    def __init__(self, places: _Places) -> None:
        self.places = places

    @property
    def codomain(self) -> constraints.Constraint:
        return _RowsConstraint(self.places)

    def __call__(self, x: Array) -> Array:
        possible = self.places.possible
        flat = np.where(possible.sum(-1, keepdims=True) == 1, possible, False).astype(float)
        rows = jnp.broadcast_to(
            flat.reshape(-1, possible.shape[-1]), (*x.shape[:-1], flat[..., 0].size, flat.shape[-1])
        )
        for part, chosen, places in self._parts(x):
            law = StickBreakingTransform()(part)
            rows = rows.at[..., chosen[:, None], places].set(law)
        return rows.reshape(*x.shape[:-1], *possible.shape)

    def _inverse(self, y: Array) -> Array:
        possible = self.places.possible
        lead = y.shape[: y.ndim - possible.ndim]
        rows = y.reshape(*lead, -1, possible.shape[-1])
        parts = [
            StickBreakingTransform()._inverse(rows[..., chosen[:, None], places]).reshape(*lead, -1)
            for chosen, places in self.places.by_size()
        ]
        return jnp.concatenate(parts, axis=-1) if parts else jnp.zeros((*lead, 0))

    def log_abs_det_jacobian(self, x: Array, y: Array, intermediates: Any = None) -> Array:
        total = jnp.zeros(x.shape[:-1])
        rows = y.reshape(*x.shape[:-1], -1, y.shape[-1])
        for part, chosen, places in self._parts(x):
            law = rows[..., chosen[:, None], places]
            total += StickBreakingTransform().log_abs_det_jacobian(part, law).sum(-1)
        return total

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-1], *self.places.possible.shape)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[: len(shape) - self.places.possible.ndim], self.places.num_free)

    def tree_flatten(self) -> tuple:
        return (), ((), {"places": self.places})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _RowsTransform) and self.places == other.places

    def __hash__(self) -> int:
        return hash(self.places)

    def _parts(self, x: Array) -> Iterator[tuple[Array, np.ndarray, np.ndarray]]:
        """Yield the numbers of rows of one size, (..., n, k - 1), with their rows and places."""
        begin = 0
        for chosen, places in self.places.by_size():
            count = places.shape[0] * (places.shape[1] - 1)
            part = x[..., begin : begin + count]
            yield part.reshape(*x.shape[:-1], len(chosen), -1), chosen, places
            begin += count


@biject_to.register(_RowsConstraint)
def _rows_transform(constraint: _RowsConstraint) -> Transform:
    return _RowsTransform(constraint.places)
