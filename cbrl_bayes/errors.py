"""The errors this package raises: one base class and few leaves, all in one form of words."""

import importlib
import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from types import FunctionType, UnionType
from typing import Any, get_args


class CbrlBayesError(Exception):
    """Base class of every error raised on purpose by this package.

    Parameters
    ----------
    what, received, accepted, remedy
        As in `explain`, which words the message.
    """

    def __init__(
        self,
        what: str = "",
        *,
        received: object = None,
        accepted: str = "",
        remedy: str | Sequence[str] = "",
    ) -> None:
        super().__init__(explain(what, received=received, accepted=accepted, remedy=remedy))


class InvalidInputError(CbrlBayesError, ValueError):
    """An argument, a model or a setting cannot be used as given."""


class DataError(CbrlBayesError, ValueError):
    """Observed behaviour does not have the documented form."""


class ResultsError(CbrlBayesError, ValueError):
    """A results file or tree is damaged, incomplete or not of the documented schema."""


class FollowerError(CbrlBayesError, RuntimeError):
    """A follower outside this package failed, was too slow, or returned what cannot be used.

    Attributes
    ----------
    partial : object
        What the interrupted computation had reached, where there is such a thing: an
        `AscentResult` when raised out of an ascent. None otherwise.
    finished : tuple
        Ascents of the same search that had ended before.
    records : mapping, optional
        When raised out of a design study: all that was finished, draws included. Hand it back
        as ``checkpoint`` (`cbrl_bayes.design`) to go on.
    """

    partial: object = None
    finished: tuple = ()
    records: Mapping | None = None


class DataNote(UserWarning):
    """Something about observed behaviour that the reader should know; no error."""


class NotConvergedError(CbrlBayesError, RuntimeError):
    """A computation stopped before its answer could be trusted."""


def note(text: str) -> None:
    """Warn with a `DataNote`, at the line of the user's own code."""
    warnings.warn(text, DataNote, skip_file_prefixes=(str(Path(__file__).parent),))


def counted(number: float, noun: str) -> str:
    """Return a number with its noun, in the singular for one.

    Examples
    --------
    >>> counted(1, "episode"), counted(1200, "episode")
    ('1 episode', '1,200 episodes')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def explain(
    what: str, *, received: object = None, accepted: str = "", remedy: str | Sequence[str] = ""
) -> str:
    """Word an error: what is wrong, the value received, what is accepted, what to try.

    Parameters
    ----------
    what : str
        One clause that says what is wrong.
    received : object
        The offending value; left out when None.
    accepted : str
        What would have been accepted.
    remedy : str or sequence of str
        What to try.

    Returns
    -------
    str
        The message, in one line.

    Examples
    --------
    >>> print(explain("temperature is not positive", received=-1.0, accepted="a number > 0"))
    temperature is not positive; received: -1.0; accepted: a number > 0
    """
    parts = [what]
    if received is not None:
        parts.append(f"received: {received}")
    if accepted:
        parts.append(f"accepted: {accepted}")
    if remedy:
        parts.append(f"try: {remedy if isinstance(remedy, str) else '; '.join(remedy)}")
    return " ".join(line.strip() for line in "; ".join(parts).splitlines())


def import_extra(package: str, extra: str) -> Any:
    """Import a package that only some users need, and name the extra that installs it.

    Raises
    ------
    InvalidInputError
        If it is not installed.

    Examples
    --------
    >>> try:
    ...     import_extra("no_such_package", "cluster")
    ... except InvalidInputError as error:
    ...     print(error)
    no_such_package is not installed; try: pip install 'cbrl-bayes[cluster]'
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InvalidInputError(
            f"{package} is not installed", remedy=f"pip install 'cbrl-bayes[{extra}]'"
        ) from error


def require_kind(
    value: object,
    kind: type | UnionType | tuple[type, ...],
    name: str,
    remedy: str | Sequence[str] = "",
) -> None:
    """Refuse an argument of the wrong kind before anything is computed with it.

    Parameters
    ----------
    value : object
        What the caller passed.
    kind : type, union of types or tuple of types
        What is accepted, as for `isinstance`.
    name : str
        Of the argument.
    remedy : str or sequence of str
        What to try.

    Raises
    ------
    InvalidInputError
        If ``value`` is not an instance of ``kind``; a class in place of its instance included.

    Examples
    --------
    >>> try:
    ...     require_kind("5", int | None, "num_steps", remedy="num_steps=5")
    ... except InvalidInputError as error:
    ...     print(error)
    num_steps has the wrong type; received: the text '5'; accepted: int or None; try: num_steps=5
    """
    if isinstance(value, kind) and not isinstance(value, type):
        return
    kinds = kind if isinstance(kind, tuple) else get_args(kind) or (kind,)
    names = ["None" if one is type(None) else one.__name__ for one in kinds]
    if isinstance(value, type) and _makes(value, kind):
        remedy = f"{value.__name__}(...), with parentheses"
    raise InvalidInputError(
        f"{name} has the wrong type",
        received=_in_words(value),
        accepted=" or ".join([", ".join(names[:-1]), names[-1]]) if names[1:] else names[0],
        remedy=remedy,
    )


def require_ranges(owner: object, what: str, **ranges: str) -> None:
    """Refuse numbers out of range, naming each.

    Parameters
    ----------
    owner : mapping, or object with attributes
        Holds the numbers by name.
    what : str
        Whose numbers they are, in the plural.
    **ranges : str
        Name -> ">= 1", "> 0", "[0, 1)", "(0, inf)"; " or None" may be added. Names that begin
        with ``num_`` are counts: whole numbers.

    Raises
    ------
    InvalidInputError
        For numbers outside, NaN, and what is no number.

    Examples
    --------
    >>> try:
    ...     require_ranges({"slip": 1.5, "steps": 3}, "settings", slip="[0, 1)", steps=">= 1")
    ... except InvalidInputError as error:
    ...     print(error)
    settings are out of range; received: slip = 1.5; accepted: slip in [0, 1)
    """
    values = owner if isinstance(owner, Mapping) else vars(owner)
    wrong = {
        name: text
        for name, text in ranges.items()
        if not _inside(values[name], text)
        or (name.startswith("num_") and not is_whole(values[name], or_none=True))
    }
    if wrong:
        raise InvalidInputError(
            f"{what} are out of range",
            received=", ".join(f"{name} = {values[name]!r}" for name in wrong),
            accepted=", ".join(
                f"{name} {text}{', a whole number' if name.startswith('num_') else ''}"
                if text[0] == ">"
                else f"{name} in {text}"
                for name, text in wrong.items()
            ),
        )


def as_numbers(name: str, value: Any) -> Any:
    """Return a value as an array of floats; refuse what is no number.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> as_numbers("weights", (1, 2)).tolist()
    [1.0, 2.0]
    """
    import numpy as np

    try:
        if np.asarray(value).dtype.kind in "US":  # of which NumPy would make numbers
            raise ValueError("text")
        return np.asarray(value, float)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{name} is no number", received=repr(value)[:80]) from error


def is_whole(value: object, *, or_none: bool = False) -> bool:
    """Return whether a value is a whole number; a truth value is none.

    Examples
    --------
    >>> is_whole(3), is_whole(3.0), is_whole(True)
    (True, False, False)
    """
    if value is None:
        return or_none
    return isinstance(value, Integral) and not isinstance(value, bool)


def _inside(value: Any, accepted: str) -> bool:
    accepted, _, nothing = accepted.partition(" or ")
    if value is None:
        return bool(nothing)
    try:
        if accepted[0] == ">":
            sign, bound = accepted.split()
            return bool(value >= float(bound) if sign == ">=" else value > float(bound))
        low, high = map(float, accepted[1:-1].split(","))
        within = low <= value if accepted[0] == "[" else low < value
        return bool(within and (value <= high if accepted[-1] == "]" else value < high))
    except (TypeError, ValueError):  # no number
        return False


def _makes(value: Any, kind: Any) -> bool:
    """Return whether instances of a class are of a kind."""
    try:
        return issubclass(value, kind)
    except TypeError:  # a protocol with attributes: the class has them too
        return isinstance(value, kind)


def require_key(key: Any, name: str = "key") -> None:
    """Refuse anything but one typed JAX random key.

    Raises
    ------
    InvalidInputError
        For numbers, None, raw arrays of key data and arrays of several keys.

    Examples
    --------
    >>> try:  # doctest: +NORMALIZE_WHITESPACE
    ...     require_key(7)
    ... except InvalidInputError as error:
    ...     print(str(error).split("; "))
    ['key is not a JAX random key', 'received: the int 7', 'accepted: one key from jax.random.key',
    'try: key=jax.random.key(7)']
    """
    import jax
    import numpy as np

    typed = isinstance(key, jax.Array) and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
    if typed and key.ndim == 0:
        return
    shape = getattr(key, "shape", None)
    if typed:
        remedy = f"{name}=keys[0], one of them"
    elif shape == (2,) and key.dtype == np.uint32:  # from jax.random.PRNGKey
        remedy = f"{name}=jax.random.wrap_key_data({name})"
    else:
        is_seed = isinstance(key, int) or (shape == () and np.issubdtype(key.dtype, np.integer))
        remedy = f"{name}=jax.random.key({int(key) if is_seed else 0})"
    raise InvalidInputError(
        f"{name} holds several keys" if typed else f"{name} is not a JAX random key",
        received=_in_words(key),
        accepted="one key from jax.random.key",
        remedy=remedy,
    )


def _in_words(value: Any) -> str:
    """Name a value of the wrong kind in a few words."""
    kind = type(value).__name__
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, FunctionType):
        return f"the function {value.__name__}"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if getattr(value, "ndim", 0) and hasattr(value, "dtype"):
        return f"an array of shape {value.shape} and type {value.dtype}"
    if isinstance(value, bool | int | float) or hasattr(value, "dtype"):
        return f"the {kind} {value}"
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"
