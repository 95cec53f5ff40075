"""How robust designs are searched, and what a search finds, as plain arrays."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from cbrl_bayes.designs import Evaluation, ExactEvaluation, Score
from cbrl_bayes.errors import require_kind, require_ranges
from cbrl_bayes.hypergradients import Ascent


@dataclass(frozen=True)
class RobustSettings:
    """How robust designs are searched and scored.

    Parameters
    ----------
    ascent : Ascent
        Of each start.
    num_starts : int
        Most promising known designs to ascend from, for each criterion; >= 1.
    num_candidates : int
        Draws' own designs that join the known designs as candidates and starts.
    num_search_draws : int
        Evenly spaced draws on which ascents run, all where there are chance constraints; judged
        are all.
    evaluation : Evaluation
        How designs are scored; exact where possible.
    """

    ascent: Ascent = field(default_factory=lambda: Ascent(num_steps=200, learning_rate=0.1))
    num_starts: int = 2
    num_candidates: int = 20
    num_search_draws: int = 100
    evaluation: Evaluation = field(default_factory=ExactEvaluation)

    def __post_init__(self) -> None:
        require_kind(self.ascent, Ascent, "ascent", "cb.Ascent(...)")
        require_kind(self.evaluation, Evaluation, "evaluation", "cb.ExactEvaluation()")
        require_ranges(
            self,
            "robust settings",
            num_starts=">= 1",
            num_search_draws=">= 1",
            num_candidates=">= 0",
        )


@dataclass(frozen=True)
class RobustStudy:
    """One design per criterion beside those known before, all scored alike, as plain arrays.

    Attributes
    ----------
    names : tuple of str
        Known designs, then one per criterion.
    designs : array, shape (D, P)
        Before their transform.
    scores : Score
        Of these designs under all N draws, with the same contexts and noise within a draw.
    own_objective : array, shape (N,)
        Of each draw's own design, scored like the others.
    best : array, shape (N,)
        What the best design known for each draw is worth. Where scores are exact that is the best
        of its own and all D; where they are noisy, its own.
    depth : array, shape (N,)
        `posterior_depth` of each draw.
    criterion_value : array, shape (criteria, D)
        Every criterion of every design on all draws. The design that maximises a criterion was
        chosen on these draws, so its own value is biased upwards.
    start_value : array, shape (criteria, starts)
        What each ascent reached, on all draws. Wide spreads tell of local optima.
    status : int array, shape (criteria,)
        `AscentStatus` of each criterion's best ascent. Where a criterion has kinks, its slope need
        not vanish at the best design: ascents also count as converged if two from different
        starts agree within a hundredth of the spread over draws.
    constraints : tuple of str
        The chance constraints in words.
    satisfied : array, shape (constraints, D)
        Share of draws in which each design is as wanted.
    feasible : bool array, shape (D,)
        Whether it keeps all chance constraints.
    """

    names: tuple[str, ...]
    designs: Float[np.ndarray, "design coordinate"]
    scores: Score
    own_objective: Float[np.ndarray, " draw"]
    best: Float[np.ndarray, " draw"]
    depth: Float[np.ndarray, " draw"]
    criterion_value: Float[np.ndarray, "criterion design"]
    start_value: Float[np.ndarray, "criterion start"]
    status: Int[np.ndarray, " criterion"]
    constraints: tuple[str, ...]
    satisfied: Float[np.ndarray, "constraint design"]
    feasible: Bool[np.ndarray, " design"]
