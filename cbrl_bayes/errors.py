"""The errors this package raises: one base class and few leaves, all in one form of words."""

from collections.abc import Mapping, Sequence

__all__ = [
    "CbrlBayesError",
    "DataError",
    "FollowerError",
    "InvalidInputError",
    "NotConvergedError",
    "ResultsError",
    "explain",
]


class CbrlBayesError(Exception):
    """Base class of every error raised on purpose by this package."""


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
        as ``checkpoint`` (`cbrl_bayes.design`) or ``records`` (`study_designs`) to go on.
    """

    partial: object = None
    finished: tuple = ()
    records: Mapping | None = None


class NotConvergedError(CbrlBayesError, RuntimeError):
    """A computation stopped before its answer could be trusted."""


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
        The message.

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
    return "; ".join(parts)
