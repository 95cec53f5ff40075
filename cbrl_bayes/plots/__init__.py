"""Figures of a study, drawn with matplotlib from a results tree."""

from cbrl_bayes.plots.calibration import plot_coverage, plot_ranks
from cbrl_bayes.plots.campaigns import plot_campaign
from cbrl_bayes.plots.designs import plot_designs, plot_objectives
from cbrl_bayes.plots.diagnostics import plot_convergence, plot_posterior
from cbrl_bayes.plots.figures import save_figures
from cbrl_bayes.plots.incentive import plot_incentive
from cbrl_bayes.plots.information import plot_information
from cbrl_bayes.plots.inline import design_colours, inline_figure, sequential_colours
from cbrl_bayes.plots.maps import lies_on_map, marks_in_words
from cbrl_bayes.plots.response import plot_response
from cbrl_bayes.plots.scale import ColourScale, colour_scale
from cbrl_bayes.plots.sensitivity import (
    plot_follower_models,
    plot_power_scaling,
    plot_sobol,
    plot_stress,
)

__all__ = [
    "ColourScale",
    "colour_scale",
    "design_colours",
    "inline_figure",
    "lies_on_map",
    "marks_in_words",
    "plot_campaign",
    "plot_convergence",
    "plot_coverage",
    "plot_designs",
    "plot_follower_models",
    "plot_incentive",
    "plot_information",
    "plot_objectives",
    "plot_posterior",
    "plot_power_scaling",
    "plot_ranks",
    "plot_response",
    "plot_sobol",
    "plot_stress",
    "save_figures",
    "sequential_colours",
]
