"""Variables of a model from plain functions: names or numbers on labelled nodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cbrl_bayes.errors import InvalidInputError, as_numbers

ROUNDING = 1e-9
"""Share of a grid's largest number by which a value may miss a node or an edge."""


class Nodes:
    """What grids and chains have in common."""

    nodes: Any

    @property
    def size(self) -> int:
        """Number of nodes."""
        return len(self.nodes)

    @property
    def named(self) -> bool:
        """Whether nodes are names."""
        return isinstance(self.nodes, tuple)

    @cached_property
    def numbers(self) -> np.ndarray:
        """What functions see of each node: its number, or its position if it has a name."""
        return np.arange(self.size) if self.named else self.nodes

    @property
    def labels(self) -> tuple[Any, ...]:
        """The nodes as names, or as plain numbers: whole ones where all of them are."""
        if self.named:
            return self.nodes
        whole = (self.nodes % 1.0 == 0.0).all()
        return tuple((self.nodes.astype(int) if whole else self.nodes).tolist())

    @cached_property
    def slack(self) -> float:
        """How far a value may miss a node or an edge by rounding."""
        return ROUNDING * float(np.abs(self.numbers).max() or 1.0)

    def law_at(self, value: Array) -> Float[Array, " node"]:
        """Return the law that stands for one number; NaN if none does."""
        raise NotImplementedError

    def law_of(self, name: str, given: Any) -> Float[Array, " node"]:
        """Return the law over nodes that a place, or an array of probabilities, stands for.

        Parameters
        ----------
        name : str
            Of the variable, for errors.
        given : str, float or array, shape (N,)

        Examples
        --------
        >>> Grid([0.0, 1.0]).law_of("assets", 0.25).tolist()
        [0.75, 0.25]
        """
        if isinstance(given, str):
            if given not in self.labels:
                raise InvalidInputError(
                    f"initial of {name!r} is none of its names",
                    received=repr(given),
                    accepted=short(self.labels),
                )
            given = self.labels.index(given)
        value = jnp.asarray(given, float)
        if value.ndim and value.shape != (self.size,):
            raise InvalidInputError(
                f"initial of {name!r} has the wrong shape",
                received=value.shape,
                accepted=f"one number, or {self.size} probabilities",
            )
        return value if value.ndim else self.law_at(value)


@dataclass(frozen=True, eq=False)
class Grid(Nodes):
    """A variable on labelled nodes: a state, or an action.

    A function sees a number: the node, or for names the position (0, 1, ...).

    Parameters
    ----------
    nodes : sequence of numbers or of str
        Numbers rise; at least one. Names are all different.
    unit : str
        Unit of the numbers, for tables and plots.
    between : bool, optional
        What may happen to a next state between two nodes. True: it is split among both, with
        weights that keep its mean (linear interpolation of values). False: it is an error. Default:
        True for floats, False for whole numbers and for names.
    clip : bool
        A next state beyond the first or last node stands for that node. Default: an error.

    Examples
    --------
    >>> assets = Grid([0.0, 1.0, 4.0], unit="kEUR")
    >>> [part.tolist() for part in assets.split(jnp.array(1.75))]
    [[1, 2], [0.75, 0.25]]
    >>> Grid(("idle", "work")).numbers.tolist()
    [0, 1]
    """

    nodes: Any
    unit: str = ""
    between: bool | None = None
    clip: bool = False

    def __post_init__(self) -> None:
        names = names_of(self.nodes)
        if names is not None and (self.between or self.clip):
            raise InvalidInputError(
                "nothing lies between or beyond names", received=f"Grid({short(names)}, ...)"
            )
        numbers = np.zeros(1) if names else numbers_of("nodes of a grid", self.nodes)
        if (np.diff(numbers) <= 0.0).any():
            raise InvalidInputError(
                "nodes of a grid do not rise",
                received=short(numbers),
                accepted="each above the last",
            )
        between = self.between
        if between is None:
            between = names is None and np.asarray(self.nodes).dtype.kind == "f"
        object.__setattr__(self, "nodes", numbers if names is None else names)
        object.__setattr__(self, "between", bool(between))

    @property
    def num_parts(self) -> int:
        """Number of nodes among which a value is split: 2 or 1."""
        return 2 if self.between and self.size > 1 else 1

    def split(self, value: Array) -> tuple[Int[Array, " part"], Float[Array, " part"]]:
        """Return the nodes that stand for a value, and their weights, which sum to one.

        Parameters
        ----------
        value : array, shape ()

        Returns
        -------
        tuple of arrays, shape (parts,)
            Of a value off the grid: its nearest nodes, with weights as at the edge; `is_off`
            tells.
        """
        nodes, inside = jnp.asarray(self.numbers), self._inside(value)
        if self.num_parts == 1:
            nearest = jnp.searchsorted((nodes[1:] + nodes[:-1]) / 2.0, inside)
            return nearest[None].astype(jnp.int32), jnp.ones(1)
        first = jnp.searchsorted(nodes, inside, side="right") - 1
        first = jnp.clip(first, 0, self.size - 2).astype(jnp.int32)
        share = (inside - nodes[first]) / (nodes[first + 1] - nodes[first])
        return jnp.stack([first, first + 1]), jnp.stack([1.0 - share, share])

    def is_off(self, value: Array) -> Array:
        """Return whether a value is none that the grid can stand for; shape ()."""
        inside = self._inside(value)
        off = jnp.isnan(value)
        if not self.clip:
            off |= jnp.abs(value - inside) > self.slack
        if self.num_parts == 1:
            nearest = jnp.asarray(self.numbers)[self.split(value)[0][0]]
            off |= jnp.abs(inside - nearest) > self.slack
        return off

    def law_at(self, value: Array) -> Float[Array, " node"]:
        """Return the law that stands for one number; NaN if none does."""
        places, weights = self.split(value)
        law = jnp.zeros(self.size).at[places].add(weights)
        return jnp.where(self.is_off(value), jnp.nan, law)

    def _inside(self, value: Array) -> Array:
        """Put what lies beyond an edge on it; not by `jnp.clip`, whose slope there is a half."""
        low, high = self.numbers[0], self.numbers[-1]
        return jnp.where(value > high, high, jnp.where(value < low, low, value))

    @property
    def accepted(self) -> str:
        """What a next state may be, in words."""
        if self.named:
            return f"a position from 0 to {self.size - 1}, of {short(self.nodes)}"
        if self.num_parts == 1:
            return f"one of {short(self.nodes)}"
        return f"from {self.nodes[0]:g} to {self.nodes[-1]:g}"


def names_of(nodes: Any) -> tuple[str, ...] | None:
    """Return names in a tuple; None for numbers."""
    if isinstance(nodes, str) or not isinstance(nodes, Sequence):
        return None
    names = tuple(nodes)
    if not names or not any(isinstance(name, str) for name in names):
        return None
    if len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
        raise InvalidInputError(
            "names of nodes cannot be used", received=names, accepted="different texts"
        )
    return names


def numbers_of(what: str, nodes: Any) -> Float[np.ndarray, " node"]:
    """Return a list of finite numbers."""
    numbers = as_numbers(what, nodes)
    if numbers.ndim != 1 or not numbers.size or not np.isfinite(numbers).all():
        raise InvalidInputError(
            f"{what} cannot be used",
            received=short(numbers),
            accepted="a list of finite numbers, at least one",
        )
    return numbers


def short(values: Any) -> str:
    """Return the first few of many values as a text."""
    listed = np.asarray(values).tolist()
    text = ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in listed[:6])
    return text + (", ..." if len(listed) > 6 else "") if isinstance(listed, list) else str(listed)


def text_of(label: Any) -> str:
    """Return the label of a node as a text."""
    return label if isinstance(label, str) else f"{label:g}"
