"""Calls of users' functions: by the names of their arguments, with errors in one line."""

import inspect
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from cbrl_bayes.errors import CbrlBayesError, InvalidInputError

NEEDS_A_VALUE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
"""What JAX raises where Python asks for a value that is traced."""


def needs_a_value(name: str, function: Any, error: Exception) -> InvalidInputError:
    """Say where a function asks for a number that JAX has not computed yet."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f for f in frames if code is not None and f.filename == code.co_filename]
    where = f"{lines[-1].line} ({lines[-1].filename}, line {lines[-1].lineno})" if lines else None
    return InvalidInputError(
        f"{name} needs the value of a number that JAX has not computed yet: it uses "
        "`if`, `while`, float() or NumPy on it",
        received=where,
        remedy="jnp.where(condition, a, b) in place of if; jnp in place of np",
    )


def failed(name: str, error: Exception, accepted: str) -> InvalidInputError:
    """Say in one line how and where a function failed."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return InvalidInputError(
        f"{name} failed ({type(error).__name__}: {error})",
        received=f"{last.line} (line {last.lineno} of {Path(last.filename).name})",
        accepted=accepted,
    )


@dataclass(frozen=True)
class Named:
    """A function that is given those of the arguments on offer that its signature names.

    Parameters
    ----------
    name : str
        What it is called in errors.
    function : callable
    wanted : tuple of str
        Names of the arguments it is given.
    """

    name: str
    function: Callable[..., Any]
    wanted: tuple[str, ...]

    @classmethod
    def of(cls, name: str, function: Any, offered: tuple[str, ...]) -> "Named":
        """Read the signature of a function.

        Raises
        ------
        InvalidInputError
            If it is no function, or needs an argument that is not on offer.

        Examples
        --------
        >>> reward = Named.of("reward", lambda action, state: 2 * state + action,
        ...                   ("state", "action", "context"))
        >>> reward.wanted, reward({"state": 3, "action": 1, "context": 0})
        (('action', 'state'), 7)
        """
        accepted = f"a function of some of: {', '.join(offered)}"
        if not callable(function):
            raise InvalidInputError(
                f"{name} is no function", received=repr(function)[:80], accepted=accepted
            )
        try:
            parameters = inspect.signature(function).parameters.values()
        except ValueError as error:
            raise InvalidInputError(
                f"{name} does not say what its arguments are called",
                received=repr(function),
                remedy="a function written with def or lambda",
            ) from error
        if any(one.kind is one.VAR_KEYWORD for one in parameters):
            return cls(name, function, offered)
        needed = [one for one in parameters if one.kind is not one.VAR_POSITIONAL]
        wrong = [
            one.name
            for one in needed
            if one.kind is one.POSITIONAL_ONLY
            or (one.name not in offered and one.default is one.empty)
        ]
        if wrong:
            raise InvalidInputError(
                f"{name} asks for what nobody gives it",
                received=", ".join(wrong),
                accepted=accepted,
            )
        return cls(name, function, tuple(one.name for one in needed if one.name in offered))

    def __call__(self, given: Mapping[str, Any]) -> Any:
        """Return what the function returns for those of the arguments that it names."""
        own = {name: given[name] for name in self.wanted}
        try:
            return self.function(**own)
        except CbrlBayesError:
            raise
        except NEEDS_A_VALUE as error:
            raise needs_a_value(self.name, self.function, error) from error
        except KeyError as error:
            known = [f"{n}: {', '.join(v)}" for n, v in own.items() if isinstance(v, Mapping)]
            raise failed(self.name, error, "; ".join(known)) from error
        except Exception as error:
            raise failed(self.name, error, f"a function of {', '.join(self.wanted)}") from error
