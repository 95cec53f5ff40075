"""What behaviour reveals of followers and contexts: priors, likelihood, NumPyro models, fits."""

import importlib

import numpyro.distributions

# ArviZ registers numpyro lazily; where it was imported first, the package lacks this attribute,
# which numpyro.factor (and so every constrained site) looks up.
numpyro.distributions.distribution = importlib.import_module("numpyro.distributions.distribution")

# A module that is named as its function comes first, so that the name means the function.
from cbrl_bayes.inference.default_priors import default_priors  # noqa: E402
from cbrl_bayes.inference.densities import log_prior, transition_part  # noqa: E402
from cbrl_bayes.inference.drift import Drift  # noqa: E402
from cbrl_bayes.inference.fit import FitDraws, SVISettings, fit  # noqa: E402
from cbrl_bayes.inference.generative import (  # noqa: E402
    BehaviourSimulation,
    GenerativeModel,
    PreferenceSimulation,
    ShareSimulation,
)
from cbrl_bayes.inference.identification import Identification, contraction, identification  # noqa: E402
from cbrl_bayes.inference.law_counts import transition_counts  # noqa: E402
from cbrl_bayes.inference.likelihood import (  # noqa: E402
    choice_rows,
    episode_log_likelihood,
    policies,
    transition_log_likelihood,
)
from cbrl_bayes.inference.mle import MaximumLikelihood, maximum_likelihood  # noqa: E402
from cbrl_bayes.inference.model import BehaviourModel  # noqa: E402
from cbrl_bayes.inference.nuts import NUTSSettings, device_kind  # noqa: E402
from cbrl_bayes.inference.preferences import (  # noqa: E402
    PreferenceModel,
    count_comparisons,
    fit_preferences,
    ties_as_half_wins,
)
from cbrl_bayes.inference.priors import (  # noqa: E402
    ContextFamily,
    Hierarchical,
    OfGroups,
    PerGroup,
    Pooled,
    Prior,
    known_values,
    prior_text,
)
from cbrl_bayes.inference.shares import (  # noqa: E402
    DirichletShares,
    LogisticNormalShares,
    Participation,
    ShareModel,
    dirichlet_log_density,
    fit_shares,
    logistic_normal_log_density,
    predict_shares,
)
from cbrl_bayes.inference.unknown_law import UnknownLaw  # noqa: E402

__all__ = [
    "BehaviourModel",
    "BehaviourSimulation",
    "ContextFamily",
    "DirichletShares",
    "Drift",
    "FitDraws",
    "GenerativeModel",
    "Hierarchical",
    "Identification",
    "LogisticNormalShares",
    "MaximumLikelihood",
    "NUTSSettings",
    "OfGroups",
    "Participation",
    "PerGroup",
    "Pooled",
    "PreferenceModel",
    "PreferenceSimulation",
    "Prior",
    "SVISettings",
    "ShareModel",
    "ShareSimulation",
    "UnknownLaw",
    "choice_rows",
    "contraction",
    "count_comparisons",
    "default_priors",
    "device_kind",
    "dirichlet_log_density",
    "episode_log_likelihood",
    "fit",
    "fit_preferences",
    "fit_shares",
    "identification",
    "known_values",
    "log_prior",
    "logistic_normal_log_density",
    "maximum_likelihood",
    "policies",
    "predict_shares",
    "prior_text",
    "ties_as_half_wins",
    "transition_counts",
    "transition_log_likelihood",
    "transition_part",
]
