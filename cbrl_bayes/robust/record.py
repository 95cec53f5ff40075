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
    num_more_draws : int
        Posterior draws beside the study's own on which designs are chosen too: with them a tail
        rests on more than a handful of draws. At most half of those there are. None where scores
        are noisy.
    num_score_draws : int
        Posterior draws that no design was chosen on, on which the final ones are scored.
    evaluation : Evaluation
        How designs are scored; exact where possible.
    """

    ascent: Ascent = field(default_factory=lambda: Ascent(num_steps=200, learning_rate=0.1))
    num_starts: int = 2
    num_candidates: int = 20
    num_search_draws: int = 100
    num_more_draws: int = 200
    num_score_draws: int = 1000
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
            num_more_draws=">= 0",
            num_score_draws=">= 0",
        )


@dataclass(frozen=True)
class HeldOut:
    """The final designs on H draws that none of them was chosen on.

    Attributes
    ----------
    objective : array, shape (D, H)
    best : array, shape (H,)
        What the best of the final designs and the candidates is worth. A search for these draws
        alone could find more: regret against it is a lower bound.
    depth : array, shape (H,)
    criterion_value : array, shape (criteria, D)
        On these draws; of a worst case or a largest regret, on all draws, as more of them can only
        show more of the credible set.
    satisfied : array, shape (constraints, D)
    """

    objective: Float[np.ndarray, "design fresh"]
    best: Float[np.ndarray, " fresh"]
    depth: Float[np.ndarray, " fresh"]
    criterion_value: Float[np.ndarray, "criterion design"]
    satisfied: Float[np.ndarray, "constraint design"]


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
        Of these designs under the study's N draws, with the same contexts and noise within a draw.
    own_objective : array, shape (N,)
        Of each draw's own design, scored like the others.
    best : array, shape (N,)
        What the best design known for each draw is worth. Where scores are exact that is the best
        of its own and all D; where they are noisy, its own.
    depth : array, shape (N,)
        `posterior_depth` of each draw.
    criterion_value : array, shape (criteria, D)
        Every criterion of every design on the draws on which designs were chosen, the N of the
        study and others. They flatter the design that maximises the criterion.
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
    num_chosen_on : int
        Draws on which designs were chosen.
    held_out : HeldOut or None
        None where the posterior has no other draws.
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
    num_chosen_on: int
    held_out: HeldOut | None
