"""What a search in rounds is told, and what it tells: settings, designs watched, result."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from cbrl_bayes.errors import require_kind, require_ranges
from cbrl_bayes.hypergradients.ascent import Ascent
from cbrl_bayes.hypergradients.learned_state import ModelState
from cbrl_bayes.hypergradients.search import LOW_PRICES, Search


@dataclass(frozen=True)
class Rounds:
    """How to search by watching.

    Each round draws transition laws from the posterior of what was seen (Dirichlet, pair by pair),
    searches for the best incentive under their mean, and ascends under each draw, all exactly. It
    then watches the follower under two of the designs found: the one that promises most on average,
    and the one that some draw promises most. So what is not known is tried where it may be good. An
    ascent by the estimator itself, from the best design so far, ends the search.

    Parameters
    ----------
    search : Search
        In the learned model, under the mean law.
    num_rounds : int
        At most, >= 1.
    num_laws : int
        Laws drawn in each round, >= 2.
    follower_steps : int
        Budget: steps of the follower over the whole search, >= 1. Each design is watched for two
        estimates at least, however small the budget; standard errors of so few mean little.
    ascent_share : float
        In [0, 1): share of the budget for the last ascent.
    ascent : Ascent
        The last ascent; its ``num_steps`` follow from the budget.
    tolerance : float
        Rounds end when the design with the highest promise is worth what it promised, within
        two standard errors or this share of it, and no draw promises more than this share above.

    Raises
    ------
    InvalidInputError
        For settings out of range.

    Examples
    --------
    >>> Rounds(num_rounds=2, follower_steps=50_000).num_laws
    4
    """

    search: Search = field(
        default_factory=lambda: Search(
            ascent=Ascent(num_steps=200, learning_rate=0.3),
            num_starts=3,
            start_scales=(1.0, 2.0, 4.0),
            num_candidates=128,
            prices=LOW_PRICES,
            num_hops=1,
            num_mutants=128,
        )
    )
    num_rounds: int = 4
    num_laws: int = 4
    follower_steps: int = 1_000_000
    ascent_share: float = 0.4
    ascent: Ascent = field(default_factory=lambda: Ascent(learning_rate=0.05))
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        require_kind(self.search, Search, "search", "global_search()")
        require_kind(self.ascent, Ascent, "ascent", "Ascent(...)")
        require_ranges(
            self,
            "settings of a search in rounds",
            num_rounds=">= 1",
            num_laws=">= 2",
            follower_steps=">= 1",
            ascent_share="[0, 1)",
            tolerance="> 0",
        )


def rounds_that_watch() -> Rounds:
    """Return rounds for learning a law: two, of 300,000 steps in all, and no ascent."""
    return Rounds(num_rounds=2, follower_steps=300_000, ascent_share=0.0)


class Round(NamedTuple):
    """A design that was watched.

    Attributes
    ----------
    unconstrained : array, shape (P,)
        Before its transform.
    promised : array, shape (L,)
        Objective under each drawn law, before it was watched; empty for the first.
    seen, standard_error : float
        Mean worth of the episodes to the leader, and its error.
    follower_steps : int
        What watching it took.
    steps_per_estimate : float
        Steps of the estimator's rollouts, once.
    """

    unconstrained: Float[np.ndarray, " coordinate"]
    promised: Float[np.ndarray, " law"]
    seen: float
    standard_error: float
    follower_steps: int
    steps_per_estimate: float


@dataclass(frozen=True)
class RoundsResult:
    """What a search in rounds found.

    Attributes
    ----------
    unconstrained : pytree
        The best design.
    seen, standard_error : float
        What episodes under it were worth that had no part in choosing it.
    promised : array, shape (L,)
        Its objective under laws drawn from what was learned in all.
    rounds : tuple of Round
        Every design watched, in order.
    follower_steps : int
        All of them.
    state : ModelState
        What was learned; hand it in again to go on.
    """

    unconstrained: Any
    seen: float
    standard_error: float
    promised: Float[np.ndarray, " law"]
    rounds: tuple[Round, ...]
    follower_steps: int
    state: ModelState
