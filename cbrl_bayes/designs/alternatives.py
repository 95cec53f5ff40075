"""Designs that the user states, in readable values: today's policy, a rival's proposal, none."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.problems import Problem
from cbrl_bayes.problems.inverse import readable_arrays, unconstrained_for

WATCHED = "watched"
"""The design that a search in rounds ended with."""
TAKEN = ("common", "plug_in", "own", "baseline", WATCHED)
"""Names that results give to other designs."""


@dataclass(frozen=True)
class Alternatives:
    """Designs by name that are scored like those that are searched.

    Attributes
    ----------
    names : tuple of str
    points : array, shape (A, P)
        Before their transform, as flat vectors.
    incentive : dict of arrays, each (A, ...)
        In readable values, as they were stated.
    """

    names: tuple[str, ...]
    points: Float[np.ndarray, "design coordinate"]
    incentive: dict[str, np.ndarray]

    @property
    def by_name(self) -> dict[str, dict[str, list]]:
        """What was stated: name -> incentive's name -> numbers."""
        return {
            design: {name: array[place].tolist() for name, array in self.incentive.items()}
            for place, design in enumerate(self.names)
        }


def read_alternatives(
    problem: Problem, given: Mapping[str, Mapping[str, Any] | str] | None
) -> Alternatives:
    """Read designs in readable values and find them before their transform.

    Parameters
    ----------
    problem : Problem
    given : mapping, optional
        Name -> incentive, as `IncentiveSpace.unconstrained_for` takes it.

    Raises
    ------
    InvalidInputError
        For a name that is empty, no text or taken, and an incentive that no choice gives.

    Examples
    --------
    >>> from cbrl_bayes.problems import two_state
    >>> found = read_alternatives(two_state(), {"today": {"bonus": 0.2}, "none": "no incentive"})
    >>> found.names, found.points.ravel().tolist()
    (('today', 'none'), [0.2, 0.0])
    """
    given = {} if given is None else given
    accepted = '{"today": {incentive name: value, ...}, "none": "no incentive"}'
    if not isinstance(given, Mapping):
        raise InvalidInputError(
            "alternatives cannot be used", received=repr(given)[:80], accepted=accepted
        )
    wrong = [n for n in given if not isinstance(n, str) or not n.strip() or n in TAKEN]
    if wrong:
        raise InvalidInputError(
            "names of alternatives cannot be used",
            received=wrong,
            accepted=f"texts other than {', '.join(TAKEN)}: {accepted}",
        )
    space = problem.incentive
    stated, points = [], []
    for name, incentive in given.items():
        try:
            stated.append(readable_arrays(space, incentive))
            points.append(space.flatten(unconstrained_for(space, stated[-1])))
        except InvalidInputError as error:
            raise InvalidInputError(f"alternative {name!r}: {error}") from error
    return Alternatives(
        tuple(given),
        np.array(points, float).reshape(-1, space.size),
        {name: np.stack([one[name] for one in stated]) for name in space.labels} if stated else {},
    )
