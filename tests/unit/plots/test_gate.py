import inspect

import numpy as np
import pytest
import xarray as xr

import cbrl_bayes as cb
from cbrl_bayes import plots
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.results.table import WITHHELD
from tests.unit.files.test_untrusted_files import small_tree
from tests.unit.reports.test_report import small_study

GATED = (
    "plot_designs",
    "plot_follower_models",
    "plot_incentive",
    "plot_information",
    "plot_objectives",
    "plot_power_scaling",
    "plot_response",
    "plot_sobol",
    "plot_stress",
)
ALWAYS = ("plot_convergence", "plot_posterior")


def _text(figure):
    """Return a figure's words as one line."""
    return " ".join(" ".join(text.get_text().split()) for text in figure.texts)


def test_every_figure_of_a_study_has_the_gate():
    """Of all figures only diagnostics, and those of calibration, take no ``accept_failed``."""
    for name in (name for name in plots.__all__ if name.startswith("plot_")):
        takes = inspect.signature(getattr(plots, name)).parameters
        assert ("accept_failed" in takes) == (name in GATED), name
        if name in GATED:
            with pytest.raises(InvalidInputError, match="the study has no group"):
                getattr(plots, name)(xr.DataTree(), **_needed(takes))


def _needed(takes):
    return {name: "x" for name in ("action", "coordinate") if name in takes}


@pytest.mark.parametrize("draw", [plots.plot_designs, plots.plot_incentive, plots.plot_objectives])
def test_a_failed_study_shows_why_and_not_its_numbers(draw):
    failed = small_tree()  # three draws
    withheld = draw(failed)
    assert not withheld.axes
    assert "3 designed draws are few" in _text(withheld)
    assert _text(withheld).endswith(WITHHELD)
    accepted = draw(study=failed, accept_failed=True)
    assert accepted.axes
    assert "This study FAILED its checks" in accepted.get_suptitle()
    for accept in (False, True):  # no warning on a study that passed
        passed = draw(small_study(), accept_failed=accept)
        assert passed.axes
        assert passed.get_suptitle() == "health: PASS"


def test_numbers_that_break_a_drawing_are_withheld_before_it_begins():
    failed = small_tree()
    design = failed["design"].to_dataset()
    failed["design"] = xr.DataTree(
        design.assign(leader_objective=design["leader_objective"] * np.nan)
    )
    assert "not finite" in _text(plots.plot_objectives(failed))


def test_files_of_figures_pass_the_same_gate(tmp_path):
    failed = small_tree()
    names = ["incentive.png", "objectives.png", "convergence.png", "designs.png"]
    for accept, folder in ((False, tmp_path / "withheld"), (True, tmp_path / "accepted")):
        written = plots.save_figures(failed, folder, accept_failed=accept)
        assert [path.name for path in written] == names
    sizes = [(folder / "designs.png").read_bytes() for folder in sorted(tmp_path.iterdir())]
    assert sizes[0] != sizes[1]
    with pytest.raises(InvalidInputError, match="0 < prob < 1"):
        plots.save_figures(failed, tmp_path, prob=90)


def test_designs_have_one_name_in_figures():
    shown = plots.plot_designs(small_study())
    labels = [label.get_text() for label in shown.axes[0].get_yticklabels()]
    assert labels == ["best per draw", "common", "plug-in"]
    assert list(cb.compare_designs(small_study()).frame.index) == labels
