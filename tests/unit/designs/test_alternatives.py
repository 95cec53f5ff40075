"""Designs a user states are scored like those that are searched."""

import json

import jax
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

import cbrl_bayes as cb
from cbrl_bayes.designs import evaluate_designs
from cbrl_bayes.errors import InvalidInputError, ResultsError

PROBLEM = cb.problems.two_state()
DRAWS = {"temperature": np.linspace(0.2, 0.3, 6)}
QUICK = cb.Search(ascent=cb.Ascent(num_steps=30))
ASKED = {"today": {"bonus": 0.2}, "none": "no incentive"}


def _design(alternatives=None, **settings):
    return cb.design(
        PROBLEM,
        DRAWS,
        key=jax.random.key(0),
        num_draws=6,
        settings=cb.DesignSettings(search=QUICK, per_draw=QUICK),
        alternatives=alternatives,
        **settings,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("asked")


@pytest.fixture(scope="module")
def compared(folder):
    return _design(ASKED, checkpoint=folder)


@jax.jit
def _worth(bonus, temperature):
    parameters = PROBLEM.default_parameters | {"temperature": temperature}
    return cb.leader_outcome(PROBLEM, {"bonus": bonus}, parameters).objective


def _by_hand(bonus):
    """What the leader gets, draw by draw, from the problem's own outcome."""
    return np.array([_worth(bonus, one) for one in DRAWS["temperature"]])


def test_alternatives_stand_beside_the_searched_designs(compared, tmp_path):
    decision = compared["decision"].to_dataset()
    assert decision["design"].values.tolist() == ["common", "plug_in", "today", "none"]
    assert decision["incentive"].sel(design=["today", "none"]).values.tolist() == [0.2, 0.0]
    for name, bonus in (("today", 0.2), ("none", 0.0)):
        worth = decision["objective"].sel(design=name).values.ravel()
        np.testing.assert_allclose(worth, _by_hand(bonus), rtol=1e-12)
    assert (decision["regret"].values >= 0.0).all()
    assert compared.attrs["alternatives"] == '["today", "none"]'
    plain = _design()
    assert plain.attrs["alternatives"] == "[]"
    for name in ("objective", "incentive", "regret", "unconstrained"):
        searched = decision[name].sel(design=["common", "plug_in"])
        np.testing.assert_array_equal(searched, plain["decision"][name])
    back = cb.load(cb.save(compared, tmp_path / "study.nc"), limits=None)
    text = str(cb.summary(back, accept_failed=True))
    assert "today design" in text
    stated = json.loads(back.attrs["design_settings"])["alternatives"]
    assert stated == {"today": {"bonus": 0.2}, "none": {"bonus": 0.0}}


def test_an_alternative_that_is_best_for_a_draw_is_its_design():
    """The maximum under the first draw is stated; a search ends within its tolerance of it."""

    def lost(bonus):
        return -float(_worth(bonus, DRAWS["temperature"][0]))

    best = float(minimize_scalar(lost, bounds=(0.0, 2.0), options={"xatol": 1e-9}).x)
    lazy = cb.Search(ascent=cb.Ascent(num_steps=1, learning_rate=1e-9))
    study = cb.design(
        PROBLEM,
        DRAWS,
        key=jax.random.key(0),
        num_draws=6,
        settings=cb.DesignSettings(search=lazy, per_draw=lazy),
        alternatives={"today": {"bonus": 0.2}, "good": {"bonus": best}},
    )
    design = study["design"].to_dataset().isel(chain=0)
    assert design["source"].values[0] == 4
    assert '"4": "good"' in design["source"].attrs["meaning"]
    assert float(design["incentive"][0]) == pytest.approx(best, rel=1e-12)
    assert (design["source"].values[1:] != 4).all()


def test_a_checkpoint_knows_its_alternatives(compared, folder):
    again = _design(ASKED, checkpoint=folder)
    np.testing.assert_array_equal(compared["decision"]["objective"], again["decision"]["objective"])
    with pytest.raises(ResultsError, match="different alternatives"):
        _design({"today": {"bonus": 0.3}}, checkpoint=folder)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"today": {"bonnus": 0.2}}, "alternative 'today': the names.*try: 'bonus'"),
        ({"today": 0.2}, "alternative 'today': an incentive cannot be read"),
        ({"common": {"bonus": 0.2}}, "names of alternatives.*'common'"),
        ({"": {"bonus": 0.2}}, "names of alternatives"),
        ({3: {"bonus": 0.2}}, "names of alternatives"),
        ([{"bonus": 0.2}], "alternatives cannot be used"),
    ],
)
def test_alternatives_that_cannot_be_used(given, words):
    with pytest.raises(InvalidInputError, match=words):
        _design(given)


def test_readable_designs_are_scored_by_name():
    scores = evaluate_designs(
        PROBLEM, {"today": {"bonus": 0.2}, "none": "no incentive"}, DRAWS, key=jax.random.key(0)
    )
    np.testing.assert_allclose(scores.objective, [_by_hand(0.2), _by_hand(0.0)], rtol=1e-12)


def test_questions_take_a_study_with_alternatives(compared):
    key = jax.random.key(1)
    robust = cb.robust_designs(
        PROBLEM,
        compared,
        key=key,
        criteria=[cb.CVaR(0.5)],
        settings=cb.RobustSettings(num_search_draws=2),
    )
    names = robust["decision"]["design"].values.tolist()
    assert names == ["common", "plug_in", "today", "none", "cvar_0.5"]
    assert "today" in str(cb.compare_designs(robust, accept_failed=True))
    stressed = cb.stress_test(PROBLEM, compared, key=key, stresses=[cb.TemperatureShift(2.0)])
    assert "today" in stressed["stress"]["design"].values
