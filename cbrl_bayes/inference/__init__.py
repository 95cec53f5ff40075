"""What behaviour reveals of followers and contexts: priors, likelihood, NumPyro models, fits."""

import importlib

import numpyro.distributions

# ArviZ registers numpyro lazily; where it was imported first, the package lacks this attribute,
# which numpyro.factor (and so every constrained site) looks up.
numpyro.distributions.distribution = importlib.import_module("numpyro.distributions.distribution")

from cbrl_bayes.inference.fit import FitDraws, NUTSSettings, SVISettings, fit  # noqa: E402
from cbrl_bayes.inference.identification import Identification, contraction, identification  # noqa: E402
from cbrl_bayes.inference.likelihood import (  # noqa: E402
    choice_rows,
    episode_log_likelihood,
    policies,
    transition_log_likelihood,
)
from cbrl_bayes.inference.mle import MaximumLikelihood, maximum_likelihood  # noqa: E402
from cbrl_bayes.inference.model import BehaviourModel  # noqa: E402
from cbrl_bayes.inference.priors import (  # noqa: E402
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
