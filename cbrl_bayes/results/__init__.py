"""Labelled results: schema, assembly, intervals, health, storage.

Names are listed in ``__init__.pyi`` and loaded when first used: those that read results do
without JAX.
"""

import lazy_loader

# A module that is named as its function comes first, so that the name means the function.
from cbrl_bayes.results.error_budget import error_budget as error_budget
from cbrl_bayes.results.recommendation import recommendation as recommendation
from cbrl_bayes.results.summary import summary as summary

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
