"""What behaviour reveals of followers and contexts: priors, likelihood, NumPyro models, fits."""

from cbrl_bayes.inference.fit import FitDraws, NUTSSettings, SVISettings, fit
from cbrl_bayes.inference.identification import Identification, contraction, identification
from cbrl_bayes.inference.likelihood import (
    choice_rows,
    episode_log_likelihood,
    policies,
    transition_log_likelihood,
)
from cbrl_bayes.inference.mle import MaximumLikelihood, maximum_likelihood
from cbrl_bayes.inference.model import BehaviourModel
from cbrl_bayes.inference.priors import (
    ContextFamily,
    Hierarchical,
    PerGroup,
    Pooled,
    Prior,
    default_priors,
)

__all__ = [
    "BehaviourModel",
    "ContextFamily",
    "FitDraws",
    "Hierarchical",
    "Identification",
    "MaximumLikelihood",
    "NUTSSettings",
    "PerGroup",
    "Pooled",
    "Prior",
    "SVISettings",
    "choice_rows",
    "contraction",
    "default_priors",
    "episode_log_likelihood",
    "fit",
    "identification",
    "maximum_likelihood",
    "policies",
    "transition_log_likelihood",
]
