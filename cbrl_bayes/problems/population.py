"""Who responds to the incentive: one follower, or several with weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cbrl_bayes.errors import InvalidInputError, as_numbers


@dataclass(frozen=True)
class Followers:
    """Who responds: names and the leader's weights.

    Parameters
    ----------
    names : tuple of str
        One per follower (or per homogeneous group of them).
    weights : tuple of float
        Weight of each in the leader's objective; finite and >= 0.

    Examples
    --------
    >>> Followers(("young", "old"), (0.3, 0.7)).num_followers
    2
    """

    names: tuple[str, ...] = ("follower",)
    weights: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        texts = not isinstance(self.names, str) and all(
            isinstance(name, str) and name for name in self.names
        )
        if not texts or len(set(self.names)) < len(self.names):
            raise InvalidInputError(
                "followers need names in letters, each its own", received=repr(self.names)
            )
        weights = as_numbers("weights of followers", self.weights)
        fits = self.names and weights.shape == (len(self.names),)
        if not fits or not (np.isfinite(weights) & (weights >= 0)).all() or not weights.any():
            raise InvalidInputError(
                "followers need one weight each: finite, >= 0, not all 0",
                received=f"names {self.names}, weights {self.weights}",
            )

    @property
    def num_followers(self) -> int:
        """Number of followers F."""
        return len(self.names)

    @classmethod
    def from_members(
        cls, groups: Sequence[str], weights: Sequence[float] | None = None
    ) -> "Followers":
        """Gather people into homogeneous groups, each of which is solved once.

        Parameters
        ----------
        groups : sequence of str, one per person
            To which group each person belongs; groups in order of first appearance.
        weights : sequence of float, optional
            One per person, >= 0. Default: equal, sum one.

        Raises
        ------
        InvalidInputError
            For no people, or weights that do not fit.

        Examples
        --------
        >>> Followers.from_members(["young", "old", "young", "young"])
        Followers(names=('young', 'old'), weights=(0.75, 0.25))
        """
        each = np.full(len(groups), 1.0 / max(len(groups), 1)) if weights is None else weights
        each = np.asarray(each, float)
        if len(groups) == 0 or each.shape != (len(groups),) or not (each >= 0).all():
            raise InvalidInputError(
                "people and weights do not fit",
                received=f"{len(groups)} people, weights of shape {each.shape}",
                accepted="at least one person, one weight >= 0 each",
            )
        names = tuple(dict.fromkeys(groups))
        place = np.array([names.index(group) for group in groups])
        total = np.bincount(place, weights=each, minlength=len(names))
        return cls(names, tuple(total.tolist()))
