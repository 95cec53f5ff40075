"""What designs achieve under draws whose transition law is that of other draws."""

from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import Array, Key

from cbrl_bayes.designs.evaluation import Evaluation, Score
from cbrl_bayes.designs.running import Running
from cbrl_bayes.designs.scoring import evaluate_designs
from cbrl_bayes.designs.solve import DesignStudy
from cbrl_bayes.problems import LAW, Problem


def score_under_other_laws(
    problem: Problem,
    study: DesignStudy,
    draws: Mapping[str, np.ndarray],
    *,
    key: Key[Array, ""],
    evaluation: Evaluation,
    run: Running,
) -> Score | None:
    """Score a study's designs under every draw with another draw's law; None if no law varies.

    Beside the scores under the draws themselves this tells what not knowing the law adds to their
    spread. The law is that of the draw half of all draws on: neighbours in a chain are alike.

    Parameters
    ----------
    problem : Problem
    study : DesignStudy
        Of these draws.
    draws : mapping
        Parameter name -> array (N, ...).
    key : typed key
        That of the study; simulation noise is drawn anew.
    evaluation : Evaluation
    run : Running

    Returns
    -------
    Score or None
        Arrays of shape (designs, N).
    """
    law = draws.get(LAW)
    if law is None or len(law) < 2 or not np.ptp(law, axis=0).any():
        return None
    return evaluate_designs(
        problem,
        study.design_unconstrained,
        dict(draws) | {LAW: np.roll(law, len(law) // 2, axis=0)},
        key=jax.random.fold_in(key, 1),
        evaluation=evaluation,
        run=run,
        table="scores_under_other_laws",
    )
