"""What a search for robust designs has to say of itself."""

import numpy as np

from cbrl_bayes.hypergradients import FAILED_ASCENTS, AscentStatus
from cbrl_bayes.robust.record import RobustStudy

APART_REVIEW = 0.05
ROUNDING = 1e-9
ERRORS_BEATEN = 3.0
LOST_REVIEW = 0.05
"""Share of the spread over draws by which a design may fall short on fresh draws."""


def judge_robust(found: RobustStudy, known: int) -> tuple[list[str], list[str]]:
    """Return sentences for REVIEW, and for FAIL.

    Parameters
    ----------
    found : RobustStudy
    known : int
        The first so many designs were known before.
    """
    reviews, failures = [], []
    means = found.scores.objective.mean(1)
    better = int(np.argmax(np.where(found.feasible, means, -np.inf)))
    gain = found.scores.objective[better] - found.scores.objective[0]
    if gain.mean() > ERRORS_BEATEN * gain.std() / np.sqrt(gain.size) > 0.0:
        reviews.append(
            f"by expectation design {found.names[better]} ({means[better]:.4g}) beats "
            f"{found.names[0]} ({means[0]:.4g}): more draws or another start may "
            "improve the latter"
        )
    if not found.feasible[0]:
        reviews.append(
            f"design {found.names[0]} does not keep the chance constraints: choose one that does"
        )
    objective = found.scores.objective[0]
    # Where all draws agree, differences are held against the objective itself.
    spread = max(float(np.std(objective)), ROUNDING * float(np.abs(objective).max()))
    reviews += _on_fresh_draws(found, known, spread)
    for row, name in enumerate(found.names[known:]):
        reached = found.start_value[row][np.isfinite(found.start_value[row])]
        if found.status[row] in FAILED_ASCENTS:
            failures.append(f"the ascents for design {name} failed")
        elif reached.size > 1 and np.ptp(reached) > APART_REVIEW * spread:
            reviews.append(
                f"ascents for design {name} ended {np.ptp(reached):.2g} apart: local optima; "
                "the best is kept, more starts may find better"
            )
        elif found.status[row] == AscentStatus.STEP_LIMIT:
            reviews.append(f"the ascents for design {name} met their step limit: allow more steps")
        if not found.feasible[known + row]:
            failures.append(
                f"design {name} does not keep the chance constraints: no design was "
                "found that does; relax the limit or the probability"
            )
    return reviews, failures


def _on_fresh_draws(found: RobustStudy, known: int, spread: float) -> list[str]:
    """Return sentences on what fresh draws say of designs that others chose."""
    if found.held_out is None:
        return [
            "no draws were left to score the designs on: their values are those of the draws on "
            "which they were chosen, and flatter them; give design fewer draws than the "
            "posterior has"
        ]
    reviews = []
    values = found.held_out.criterion_value
    for row, name in enumerate(found.names[known:]):
        lost = values[row, 0] - values[row, known + row]
        if lost > LOST_REVIEW * spread:
            reviews.append(
                f"on draws on which no design was chosen, design {name} is worse by its own "
                f"criterion ({values[row, known + row]:.4g}) than {found.names[0]} "
                f"({values[row, 0]:.4g}): choose on more draws (num_more_draws)"
            )
    for row, text in enumerate(found.constraints):
        wanted = float(text.rpartition(" ")[2])
        for column, name in enumerate(found.names):
            share = found.held_out.satisfied[row, column]
            error = np.sqrt(wanted * (1.0 - wanted) / found.held_out.objective.shape[1])
            if column >= known and found.feasible[column] and share < wanted - 3.0 * error:
                reviews.append(
                    f"on draws on which no design was chosen, design {name} keeps {text} with "
                    f"{share:.3g} only: demand more, or choose on more draws (num_more_draws)"
                )
    return reviews
