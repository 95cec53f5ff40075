"""A transition law that is not known: what is believed of it, and how data speak of it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpyro
from jaxtyping import Array, Float

from cbrl_bayes.errors import InvalidInputError, as_numbers, require_kind
from cbrl_bayes.inference.dirichlet_rows import DirichletRows
from cbrl_bayes.problems import LAW, LawSupport, Problem, law_support

MOST_JOINT = 200
"""Free probabilities up to which a law is learned jointly with the followers' parameters."""


@dataclass(frozen=True, eq=False)
class UnknownLaw:
    r"""The prior of a transition law (`with_unknown_law`), and how the law is learned.

    Independently for each state and action, the probabilities of the states that can follow are
    Dirichlet. **Joint**: transitions and choices speak of the law together, since people choose
    according to where actions lead. **Cut**: the law is drawn from its Dirichlet posterior given
    the transitions alone, and the followers' parameters given each draw of the law; choices do not
    speak of the law. A cut posterior is cheaper where the law is large, and a follower model that
    is wrong cannot bend the law; it leaves out what choices tell of it.

    Parameters
    ----------
    concentration : float or array of the law's shape
        In visits: 1 makes all laws on the possible successors equally probable; n says as much as
        n visits that led to each of them. An array has a number > 0 wherever a state can follow,
        and 0 where the user rules it out; numbers for places that stand for the same state add up.
    joint : bool, optional
        Default: joint where at most 200 probabilities are free, cut above.

    Raises
    ------
    InvalidInputError
        For numbers out of range or of another shape.

    Examples
    --------
    >>> from cbrl_bayes.problems import contract_design, with_unknown_law
    >>> law = UnknownLaw(2.0).settled(with_unknown_law(contract_design()))
    >>> law.prior.num_free, law.is_joint
    (2, True)
    """

    concentration: Any = 1.0
    joint: bool | None = None

    def __post_init__(self) -> None:
        require_kind(self.joint, bool | None, "UnknownLaw.joint", "True, False or None")
        numbers = as_numbers("UnknownLaw.concentration", self.concentration)
        fits = np.isfinite(numbers).all() and (numbers >= 0.0).all() and (numbers > 0.0).any()
        if not fits:
            raise InvalidInputError(
                "this concentration cannot be used",
                received=numbers.tolist() if numbers.size < 10 else f"{numbers.min():g} at least",
                accepted="finite numbers >= 0, or one > 0",
            )
        object.__setattr__(self, "concentration", numbers)

    def settled(self, problem: Problem) -> "UnknownLaw":
        """Return the same with one number for each place of the problem's law.

        Raises
        ------
        InvalidInputError
            If the problem's law is known, or the numbers do not fit it.
        """
        if LAW not in problem.parameters:
            raise InvalidInputError(
                f"the transition law of problem {problem.name!r} is known",
                remedy="problem = cb.problems.with_unknown_law(problem)",
            )
        support, shape = law_support(problem), np.shape(problem.default_parameters[LAW])
        if self.concentration.shape not in ((), shape):
            raise InvalidInputError(
                "the concentration of an unknown law does not fit the problem",
                received=f"shape {self.concentration.shape}",
                accepted=f"one number, or shape {shape}",
            )
        if self.concentration.ndim:
            numbers = _merged(support, self.concentration)
            _refuse_strangers(problem, support, numbers)
        else:
            numbers = self.concentration * support.possible
        law = replace(self, concentration=numbers)
        if not law.prior.num_free:
            raise InvalidInputError(
                f"nothing of the transition law of problem {problem.name!r} is unknown: one state "
                "can follow each state and action",
                remedy="the problem itself, whose law is known",
            )
        return law

    @property
    def prior(self) -> DirichletRows:
        """The law's prior; of a settled one."""
        return DirichletRows(self.concentration)

    @property
    def is_joint(self) -> bool:
        """Whether choices speak of the law; of a settled one."""
        return self.prior.num_free <= MOST_JOINT if self.joint is None else self.joint

    def given(self, counts: Float[np.ndarray, "... state action successor"]) -> DirichletRows:
        """Return the law's posterior given counted transitions alone; of a settled one."""
        return DirichletRows(self.concentration + np.where(self.concentration > 0.0, counts, 0.0))

    def sample(self, name: str, num_groups: int) -> Array:
        """Draw the law inside a NumPyro model."""
        return numpyro.sample(name, self.prior)

    def __str__(self) -> str:
        free, way = self.prior.num_free, "joint" if self.is_joint else "cut"
        found = np.unique(self.concentration[self.concentration > 0.0].round(6))
        each = f"{found[0]:g}" if len(found) == 1 else f"{found[0]:g} to {found[-1]:g}"
        return f"UnknownLaw(concentration={each}, {way}; {free} free probabilities)"


def _merged(support: LawSupport, numbers: np.ndarray) -> np.ndarray:
    """Add numbers for places that stand for the same state up in the first of them."""
    rows = numbers.reshape(-1, numbers.shape[-1])
    merged = np.zeros_like(rows)
    which = np.arange(len(rows))[:, None]
    np.add.at(merged, (which, support.first.reshape(rows.shape)), rows)
    return merged.reshape(numbers.shape)


def _refuse_strangers(problem: Problem, support: LawSupport, numbers: np.ndarray) -> None:
    """Refuse numbers where the law never leads, and rows that lead nowhere."""
    ends = support.terminal[..., None, None]
    strange = np.argwhere((numbers > 0.0) & ~support.possible & ~ends)
    if len(strange):
        *_, state, action, place = strange[0].tolist()
        raise InvalidInputError(
            "the concentration of an unknown law is positive where the problem's law never leads",
            received=f"{len(strange)} places, the first {strange[0].tolist()}: from state {state} "
            f"with action {action} by successor {place}",
            accepted="0 there",
            remedy="a law in mdp_fn that gives this state some probability",
        )
    nowhere = np.argwhere(~(numbers > 0.0).any(-1) & ~support.terminal[..., None])
    if len(nowhere):
        raise InvalidInputError(
            "the concentration of an unknown law lets nothing follow some state and action",
            received=f"0 for all successors at [state, action] = {nowhere[0][-2:].tolist()}",
            accepted="a number > 0 for at least one",
        )
    # What follows a state that ends the episode does not matter.
    numbers[np.broadcast_to(ends, numbers.shape)] = support.possible[
        np.broadcast_to(ends, numbers.shape)
    ]
