"""The leader's instrument: an unconstrained pytree, its transform, and readable labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from cbrl_bayes.errors import InvalidInputError, require_kind, require_ranges
from cbrl_bayes.mdp import is_traced


@dataclass(frozen=True)
class Labels:
    """Names for the axes of an array, for tables and plots.

    Parameters
    ----------
    dims : tuple of str
        One name per axis; () for a scalar.
    coords : mapping
        Coordinate name -> (its dims, its values).
    unit : str
        Unit of the array's entries.
    description : str
        One clause.
    marks : mapping
        What single places along the first axis are, for maps: name -> their positions, for
        example ``{"start": (3,), "goal": (17, 40)}``.
    """

    dims: tuple[str, ...] = ()
    coords: Mapping[str, tuple[tuple[str, ...], Sequence[Any]]] = field(default_factory=dict)
    unit: str = ""
    description: str = ""
    marks: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def misfit(self, shape: tuple[int, ...]) -> str:
        """Return what does not fit an array of this shape, in words; "" if all does."""
        if len(self.dims) != len(shape):
            return f"dims {self.dims}, shape {shape}"
        sizes = dict(zip(self.dims, shape, strict=True))
        for name, (dims, values) in self.coords.items():
            wanted = tuple(sizes.get(dim, 0) for dim in dims)
            found = np.shape(np.asarray(values, object))[: len(dims)]
            if found != wanted:
                return f"coordinate {name!r} along {dims} has shape {found}, not {wanted}"
        for name, places in self.marks.items():
            if not shape or any(not 0 <= place < shape[0] for place in places):
                return f"mark {name!r} at {tuple(places)}, shape {shape}"
        return ""


@dataclass(frozen=True)
class IncentiveSpace:
    """What the leader may choose.

    The leader searches over ``unconstrained``, a pytree of any shape; ``transform`` maps it to
    the incentive a user can read, a dictionary of named arrays (penalties per cell, rates in
    [0, 2], a subsidy in dollars).

    Parameters
    ----------
    initial : pytree of arrays
        A start of the search, which also fixes the shapes; float.
    transform : callable
        ``unconstrained -> {name: array}``, differentiable.
    labels : mapping
        Name -> `Labels` for every array that ``transform`` returns.
    start_scale : float
        Standard deviation of random starts around ``initial``, > 0, in units of ``scale``.
    scale : float or pytree of floats, optional
        A change of an unconstrained number that matters, > 0: one number for all, or one for each
        leaf of ``initial``. Searches measure their steps by it. Logits have 1; an amount of money
        has a typical amount. Default: found from what the incentive changes (`find_scale`).

    Examples
    --------
    >>> space = IncentiveSpace(
    ...     initial={"rate": jnp.zeros(())},
    ...     transform=lambda x: {"rate": scaled_sigmoid(x["rate"], 0.0, 2.0)},
    ...     labels={"rate": Labels(unit="share of price")},
    ... )
    >>> float(space.transform(space.initial)["rate"])
    1.0
    """

    initial: Any
    transform: Callable[[Any], Mapping[str, Array]]
    labels: Mapping[str, Labels]
    start_scale: float = 0.01
    scale: Any = None

    def __post_init__(self) -> None:
        self._check_initial()
        require_kind(self.labels, Mapping, "labels", "{'bonus': cb.Labels()}")
        for name, label in self.labels.items():
            require_kind(label, Labels, f"labels[{name!r}]", "cb.Labels(...)")
            require_kind(label.coords, Mapping, f"coords of labels[{name!r}]")
            require_kind(label.dims, (tuple, list), f"dims of labels[{name!r}]", "('road',)")
        try:
            named = jax.eval_shape(self.transform, self.initial)
        except Exception as error:  # of any kind: it is the user's function
            raise InvalidInputError(
                f"the incentive's transform failed ({type(error).__name__}: {error})"
            ) from error
        require_kind(named, Mapping, "what the incentive's transform returns", "{name: array}")
        if set(named) != set(self.labels):
            raise InvalidInputError(
                "the incentive's transform and its labels do not name the same arrays",
                received=f"transform {sorted(named)}, labels {sorted(self.labels)}",
            )
        if "cost" in named and len(named) > 1:
            raise InvalidInputError(
                "no part of an incentive can have the name 'cost': results use it for what "
                "the incentive costs",
                remedy="another name",
            )
        self._check_scale()
        for name, array in named.items():
            misfit = self.labels[name].misfit(array.shape)
            if misfit:
                raise InvalidInputError(
                    f"labels of incentive {name!r} do not fit its shape",
                    received=misfit,
                    accepted="one dim per axis, coordinates of the same lengths",
                )

    def _check_initial(self) -> None:
        """Make whole numbers floats, which have a slope; refuse what is no finite number."""
        if is_traced(self.initial):
            return
        leaves, tree = jax.tree.flatten(self.initial)
        kinds = {np.asarray(leaf).dtype.kind for leaf in leaves}
        if not kinds <= set("biuf") or not all(np.isfinite(leaf).all() for leaf in leaves):
            raise InvalidInputError(
                "initial of an incentive is not made of finite numbers", received=self.initial
            )
        if kinds & set("biu"):
            floats = [jnp.asarray(leaf, float) for leaf in leaves]
            object.__setattr__(self, "initial", jax.tree.unflatten(tree, floats))

    def _check_scale(self) -> None:
        given = {"start_scale": self.start_scale}
        leaves = jax.tree.leaves(self.scale)
        given |= {f"scale[{number}]": leaf for number, leaf in enumerate(leaves)}
        require_ranges(given, "scales of an incentive", **dict.fromkeys(given, "> 0"))
        if len(leaves) not in (0, 1, len(jax.tree.leaves(self.initial))):
            raise InvalidInputError(
                "scale does not fit the incentive",
                received=self.scale,
                accepted="one number > 0, or one for each leaf of initial",
            )

    @property
    def size(self) -> int:
        """Number of scalars P that the leader chooses."""
        return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(self.initial))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every readable incentive."""
        readable = jax.eval_shape(self.transform, self.initial)
        return {name: array.shape for name, array in readable.items()}

    def flatten(self, unconstrained: Any) -> Float[Array, " coordinate"]:
        """Return a choice as one vector; a NumPy array unless the choice is traced."""
        numeric: Any = jnp if is_traced(unconstrained) else np
        leaves = [numeric.ravel(leaf) for leaf in jax.tree.leaves(unconstrained)]
        return numeric.concatenate(leaves, dtype=float)

    def unflatten(self, vector: Float[Array | np.ndarray, " coordinate"]) -> Any:
        """Return the choice that `flatten` made a vector of.

        Examples
        --------
        >>> from cbrl_bayes.problems import two_state
        >>> space = two_state().incentive
        >>> space.unflatten(np.array([0.5]))["bonus"].shape, space.size
        ((), 1)
        """
        leaves, tree = jax.tree.flatten(self.initial)
        ends = np.cumsum([np.size(leaf) for leaf in leaves])
        parts = [
            vector[end - np.size(leaf) : end].reshape(np.shape(leaf))
            for leaf, end in zip(leaves, ends, strict=True)
        ]
        return jax.tree.unflatten(tree, parts)

    def unconstrained_for(self, incentive: Mapping[str, Any] | str) -> Any:
        """Return the choice before its transform that gives a readable incentive.

        It is found numerically, and checked: its transform comes within 1e-6 of the incentive's
        size. A bound that the transform only approaches (0 of a toll between 0 and 5) counts as
        reached. Where several choices give the same incentive, it is one of them.

        Parameters
        ----------
        incentive : mapping or "no incentive"
            Name -> array in readable values; or one number for all entries; or label -> number
            where an array's one axis has labels; or a labelled array. "no incentive" is 0
            everywhere.

        Raises
        ------
        InvalidInputError
            If names, labels or shapes are not the incentive's, or no choice gives it; the nearest
            one that was found is named.

        Examples
        --------
        >>> space = IncentiveSpace(
        ...     {"logit": jnp.zeros(())},
        ...     lambda x: {"toll": scaled_sigmoid(x["logit"], 0.0, 5.0)}, {"toll": Labels()})
        >>> round(float(space.unconstrained_for({"toll": 4.0})["logit"]), 6)  # log(4 / 1)
        1.386294
        """
        from cbrl_bayes.problems.inverse import readable_arrays, unconstrained_for

        return unconstrained_for(self, readable_arrays(self, incentive))

    def random_start(self, key: Key[Array, ""], spread: Any = None) -> Any:
        """Return ``initial`` plus normal noise.

        Parameters
        ----------
        key : typed key
        spread : float or array, shape (P,), optional
            Its standard deviation, in unconstrained units. Default: ``start_scale``.
        """
        leaves = jax.tree.leaves(self.initial)
        keys = jax.random.split(key, len(leaves))
        noise = [
            jax.random.normal(k, (np.size(leaf),)) for leaf, k in zip(leaves, keys, strict=True)
        ]
        spread = self.start_scale if spread is None else spread
        return self.unflatten(self.flatten(self.initial) + spread * jnp.concatenate(noise))


def scaled_sigmoid(unconstrained: Array, low: float, high: float) -> Array:
    """Map the real line to the open interval (low, high); 0 goes to its middle."""
    return low + (high - low) * jax.nn.sigmoid(unconstrained)
