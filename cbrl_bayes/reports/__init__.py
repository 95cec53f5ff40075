"""One self-contained page on a fit or a study."""

from cbrl_bayes.reports.page import Report, report
from cbrl_bayes.reports.parts import Section

__all__ = ["Report", "Section", "report"]
