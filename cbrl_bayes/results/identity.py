"""Digests of what a run depends on, so that finished work is never mixed into another run."""

import hashlib
import inspect
import types
import weakref
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import jax
import numpy as np
import xarray as xr

from cbrl_bayes.problems import Problem
from cbrl_bayes.results.provenance import fingerprint
from cbrl_bayes.version import COMMITTED_VERSION

PACKAGES = ("jax", "numpyro", "optax", "numpy")


def identify(problem: Problem | None, **parts: Any) -> dict[str, str]:
    """Return a digest of the problem, of each part and of the versions of what computes.

    Arrays count by their values, settings by their fields, functions by their code, defaults
    and the arrays, numbers, texts, settings and functions they close over; distributions with
    their transforms and constraints by all their attributes. Mutable containers that a function
    closes over and objects of other kinds, callable ones among them, count by their type alone,
    and global variables that a function reads do not count: a change in those goes unnoticed.

    Parameters
    ----------
    problem : Problem or None
        None for work that is of no problem.
    **parts
        Draws, data, settings, key.

    Returns
    -------
    dict
        Name -> 16 hexadecimal digits.

    Examples
    --------
    >>> from cbrl_bayes.problems import two_state
    >>> one, other = identify(two_state(), seed=1), identify(two_state(), seed=2)
    >>> [name for name in one if one[name] != other[name]]
    ['seed']
    """
    versions = {"cbrl-bayes": COMMITTED_VERSION, **{name: version(name) for name in PACKAGES}}
    of = {} if problem is None else {"problem": (fingerprint(problem), problem)}
    whole = {**of, "versions": versions, **parts}
    return {name: _digest(part) for name, part in whole.items()}


def _digest(value: Any) -> str:
    found = hashlib.sha256()
    _feed(found, value, ())
    return found.hexdigest()[:16]


def _feed(found: Any, value: Any, above: tuple[int, ...]) -> None:
    """Add a value to a digest; ``above`` are the objects it lies in, so that circles end."""
    found.update(f"<{type(value).__name__}".encode())
    if id(value) in above:
        return
    above = (*above, id(value))
    for part in _parts(value):
        if isinstance(part, bytes):
            found.update(part)
        else:
            _feed(found, part, above)
    found.update(b">")


def _parts(value: Any) -> list[Any]:
    """Return what a value consists of: bytes, or values that consist of more."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | range):
        return [repr(value).encode()]
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return [str(value.dtype).encode(), np.asarray(jax.random.key_data(value))]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        array = np.asarray(value)
        head = f"{array.dtype.str}{array.shape}".encode()
        plain = array.dtype.kind not in "OST"
        return [head, np.ascontiguousarray(array).tobytes() if plain else array.ravel().tolist()]
    if isinstance(value, xr.Dataset):
        return [
            entry
            for name in sorted(map(str, value.variables))
            for entry in (name, value[name].values)
        ]
    if isinstance(value, Mapping):
        return [entry for name in sorted(value, key=str) for entry in (str(name), value[name])]
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if is_dataclass(value) and not isinstance(value, type):
        return [entry for f in fields(value) for entry in (f.name, getattr(value, f.name))]
    return _parts_of_callable(value)


def _parts_of_callable(value: Any) -> list[Any]:
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, types.CodeType):
        return [value.co_code, value.co_consts, value.co_names]
    if hasattr(value, "__wrapped__"):
        return [value.__wrapped__]
    if isinstance(value, types.FunctionType):
        cells = [_content(cell) for cell in value.__closure__ or ()]
        defaults = [value.__defaults__, value.__kwdefaults__]
        return [value.__qualname__, value.__code__, *defaults, cells]
    if hasattr(type(value), "tree_flatten"):
        return _attributes(value)
    kind = value if isinstance(value, type) else type(value)
    return [f"{kind.__module__}.{kind.__qualname__}"]


def _attributes(value: Any) -> list[Any]:
    """Return what a NumPyro distribution, transform or constraint was made with.

    Those wrap each other, and what tells them apart need not be among their ``arg_constraints``;
    the order in which they list their fields differs between processes. What they compute when
    asked and then keep is left out.
    """
    return [
        (name, entry)
        for name, entry in sorted(vars(value).items())
        if not hasattr(inspect.getattr_static(type(value), name, None), "__get__")
        and entry is not None
        and not isinstance(entry, weakref.ref)
    ]


def _content(cell: types.CellType) -> Any:
    """Return what a function closes over; containers may change while it runs, so leave them."""
    try:
        inside = cell.cell_contents
    except ValueError:  # still empty
        return None
    return type(inside).__name__ if isinstance(inside, list | dict | set) else inside
