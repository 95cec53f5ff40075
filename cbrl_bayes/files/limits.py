"""How much a file may ask for."""

from dataclasses import dataclass

from cbrl_bayes.errors import InvalidInputError


@dataclass(frozen=True)
class FileLimits:
    """Bounds that a file has to keep to be opened.

    Parameters
    ----------
    most_bytes : int
        All variables and attributes of the file together, once decoded, in bytes; > 0. A table
        (.csv) may be an eighth of it, since its cells need about that much more in memory.
    most_seconds : float
        Processor time that reading the whole file may take, in seconds; > 0, rounded up to whole
        seconds. (Twenty times as long by the clock, which is all that holds on Windows.)
    most_pieces : int
        Groups, variables, attributes and chunks together; > 0.

    Raises
    ------
    InvalidInputError
        For a limit that is not positive.

    Examples
    --------
    >>> FileLimits(most_bytes=8 * 1024**3).most_seconds
    60.0
    """

    most_bytes: int = 2 * 1024**3
    most_seconds: float = 60.0
    most_pieces: int = 100_000

    def __post_init__(self) -> None:
        for name in ("most_bytes", "most_seconds", "most_pieces"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not value > 0:
                raise InvalidInputError(
                    f"{name} is not positive", received=repr(value), accepted="a number > 0"
                )


DEFAULT_LIMITS = FileLimits()
