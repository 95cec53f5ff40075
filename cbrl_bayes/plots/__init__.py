"""Figures of a study, drawn with matplotlib from a results tree."""

from cbrl_bayes.plots.figures import (
    plot_convergence,
    plot_incentive,
    plot_objectives,
    plot_posterior,
    plot_response,
    save_figures,
)

__all__ = [
    "plot_convergence",
    "plot_incentive",
    "plot_objectives",
    "plot_posterior",
    "plot_response",
    "save_figures",
]
