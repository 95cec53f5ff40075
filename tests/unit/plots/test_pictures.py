"""What pictures show, read from the figures themselves."""

import itertools
import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from cbrl_bayes import plots
from cbrl_bayes.plots import colour_scale, sequential_colours
from cbrl_bayes.problems import four_rooms
from cbrl_bayes.reports.charts import Line, interval_bars
from cbrl_bayes.reports.tables import spread
from tests.unit.files.test_untrusted_files import small_tree
from tests.unit.reports.test_report import five_numbers, small_study


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def _words(figure):
    """Return every text of a figure."""
    return [text.get_text() for text in figure.findobj(plt.Text) if text.get_text()]


def _with_response(before, after, coords, marks=None):
    """Return a study whose policies, arrays (states, actions), are the same under every draw."""
    tree = small_study()
    dims = ("chain", "draw", "context", "follower", "state", "action")
    arrays = {
        f"policy_{name}": (
            dims,
            np.broadcast_to(policy, (1, 4, 1, 1, *np.shape(policy))).copy(),
            {"marks": json.dumps(marks)} if marks else {},
        )
        for name, policy in (("baseline", before), ("common", after))
    }
    labels = {"context": ["only"], "follower": ["all"], **coords}
    tree["response"] = xr.DataTree(xr.Dataset(arrays, coords=labels))
    return tree


def test_a_curve_along_states_that_are_a_number():
    """Of two actions, which change alike, the rarer."""
    rare = np.linspace(0.0, 0.3, 10)
    tree = _with_response(
        np.stack([1 - rare, rare], 1),
        np.stack([1 - rare**2, rare**2], 1),
        {"mileage": ("state", np.arange(10)), "action": ["keep", "replace"]},
    )
    panel = plots.plot_response(tree).axes[0]
    assert panel.get_xlabel() == "mileage"
    assert panel.get_ylabel() == "probability of 'replace' per step"
    np.testing.assert_allclose(panel.lines[0].get_ydata(), rare)


def test_choices_of_any_other_states():
    """The choices that change, by name; the first of two actions and forced ones say no more."""
    before = [[0.9, 0.1, 0.0], [1.0, 0.0, 0.0], [0.4, 0.4, 0.2]]
    after = [[0.3, 0.7, 0.0], [1.0, 0.0, 0.0], [0.4, 0.1, 0.5]]
    names = {"state": ["home", "end", "road"], "action": ["stay", "go", "fly"]}
    tree = _with_response(before, after, names)
    panel = plots.plot_response(tree).axes[0]
    shown = [label.get_text() for label in panel.get_yticklabels()]
    assert shown == ["home: go", "road: go", "road: fly"]
    np.testing.assert_allclose(panel.lines[0].get_xdata(), [0.1, 0.4, 0.2])
    np.testing.assert_allclose(panel.lines[1].get_xdata(), [0.7, 0.1, 0.5])
    only = plots.plot_response(tree, action="stay").axes[0].get_yticklabels()
    assert [label.get_text() for label in only] == ["home: stay"]
    unnamed = _with_response(before, after, {})
    assert "state 0: action 1" in _words(plots.plot_response(unnamed))


def test_changes_on_a_map():
    """Every action's change, with the marks of the problem and whole numbers beside the axes."""
    cells = {"row": ("state", [1, 1, 2]), "column": ("state", [1, 2, 2]), "action": ["up", "down"]}
    before, after = np.full((3, 2), 0.5), np.array([[0.5, 0.5], [0.2, 0.8], [0.5, 0.5]])
    tree = _with_response(before, after, cells, {"start": [0], "goal": [2]})
    figure = plots.plot_response(tree)
    panel = figure.axes[0]
    grid = panel.images[0].get_array()
    assert grid[1, 2] == pytest.approx(-0.3)  # row 1, column 2, from a border of walls
    assert {"S", "G", "common design less no incentive. S: start, G: goal"} <= set(_words(figure))
    assert all(float(tick).is_integer() for tick in (*panel.get_xticks(), *panel.get_yticks()))
    none = plots.plot_response(_with_response(before, before, cells))
    assert "the common design changes no choice" in _words(none)


def test_states_of_a_problem_are_marked():
    marks = four_rooms().incentive.labels["penalty"].marks
    cells = four_rooms().state_labels.coords
    at = {
        name: [(cells["row"][1][i], cells["column"][1][i]) for i in marks[name]] for name in marks
    }
    assert at == {"start": [(4, 1)], "goal": [(1, 9), (11, 11)], "target": [(8, 4)]}


def test_a_scale_shows_more_than_the_largest_cells():
    few = np.r_[1.0, 0.5, np.geomspace(0.002, 0.02, 48)]
    scale = colour_scale(few)
    assert scale.is_log
    assert scale.low == pytest.approx(0.002)
    shades = sequential_colours(few, scale.low, scale.high, is_log=True)
    assert len(set(shades)) > 40
    assert not colour_scale(np.linspace(0.0, 1.0, 50)).is_log
    assert not colour_scale([-1.0, 0.01, 0.02]).is_log  # signs have no logarithm
    assert colour_scale(np.full(4, 0.002) + 1e-18).all_equal
    assert colour_scale([np.nan]).all_equal


def _mapped(values):
    """Return a study with one incentive on a map; the draws' own are the design's."""
    tree = small_study()
    for name, dims in (("design", (1, 60)), ("decision", (2,))):
        data = tree[name].to_dataset().drop_vars(["incentive_bonus", "incentive_toll"])
        data["incentive_penalty"].values[:] = np.broadcast_to(values, (*dims, 3))
        tree[name] = xr.DataTree(data)
    return tree


def test_a_map_of_equal_cells_says_so():
    figure = plots.plot_incentive(_mapped(0.002))
    assert len(figure.axes) == 3  # no colour bars
    assert "common\nall cells: 0.002 points" in _words(figure)
    assert len(plots.plot_incentive(_mapped([0.0, 1.0, 2.0])).axes) == 5  # two bars; no width


def test_entries_have_their_labels():
    figure = plots.plot_incentive(five_numbers())
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[0] == "motorway"
    assert labels[1].count("\n") == 1  # long names take two lines at most
    assert figure.axes[0].get_xlabel() == "incentive [euro per passage]"


def test_what_says_the_same_is_drawn_once():
    tree = small_tree(20)
    posterior = tree["posterior"].to_dataset()
    posterior["rationality"] = 1.0 / posterior["temperature"]
    first = posterior["temperature"]
    shares = xr.concat([first, 1.0 - first], "context").transpose("chain", "draw", "context")
    posterior["context_probability"] = shares.assign_coords(context=["dry", "rain"])
    tree["posterior"] = tree["prior"] = xr.DataTree(posterior)
    panels = plots.plot_posterior(tree).axes
    assert [panel.get_xlabel() for panel in panels] == ["temperature", "P(dry)"]
    posterior = posterior.drop_vars("temperature")  # where it stands alone it is shown
    tree["posterior"] = tree["prior"] = xr.DataTree(posterior)
    assert plots.plot_posterior(tree).axes[0].get_xlabel() == "rationality [1 / reward]"


def test_numbers_that_lie_close_together_can_be_told_apart():
    """As of objectives that differ in the fifth digit: no offset, no number twice."""
    tree = small_study()
    decision = tree["decision"].to_dataset()
    decision["objective"] = 0.65 + 1e-5 * decision["objective"]
    tree["decision"] = xr.DataTree(decision)
    tree["design"]["leader_objective"][:] = 0.65 + 1e-5 * tree["design"]["leader_objective"]
    figure = plots.plot_designs(tree)
    figure.canvas.draw()
    panel = figure.axes[0]
    texts = [tick.get_text() for tick in panel.get_xticklabels()]
    assert len(set(texts)) == len(texts) >= 3
    assert not panel.xaxis.get_offset_text().get_text()
    boxes = [label.get_window_extent() for label in panel.get_xticklabels()]
    assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))
    line = Line("a", "", spread(0.65 + 1e-5 * np.arange(9.0), 0.9), "#000000")
    texts = [text for _, text in interval_bars([line], "", "").ticks]
    assert len(set(texts)) == len(texts) >= 3


def test_every_group_of_a_study_has_its_file(tmp_path):
    tree = five_numbers()
    found = dict.fromkeys(("evpi", "evpi_held_out", "evpi_own_design"), 0.5)
    found |= {f"{name}_standard_error": 0.1 for name in found}
    tree["information"] = xr.DataTree(xr.Dataset(found))
    scores = tree["decision"].to_dataset()[["objective", "regret"]].expand_dims(stress=["cold"])
    tree["stress"] = xr.DataTree(scores)
    written = {path.name for path in plots.save_figures(tree, tmp_path)}
    assert {"response.png", "information.png", "stress.png", "incentive.png"} <= written
