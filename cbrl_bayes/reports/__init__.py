"""Self-contained pages: on a fit or a study, and on a campaign."""

from cbrl_bayes.reports.campaign import campaign_report
from cbrl_bayes.reports.page import Report, report
from cbrl_bayes.reports.parts import Section

__all__ = ["Report", "Section", "campaign_report", "report"]
