"""A law learned by watching joins a posterior, and one set of episodes serves all its draws."""

import jax
import numpy as np
import pytest
import xarray as xr

import cbrl_bayes as cb
from cbrl_bayes.errors import InvalidInputError
from tests.conftest import PLACES

ASCENT = cb.Ascent(num_steps=100, learning_rate=0.3)
SEARCH = cb.Search(ascent=ASCENT, num_starts=2, start_scales=(1.0,), num_candidates=32)
ROUNDS = cb.Rounds(search=SEARCH, num_rounds=2, num_laws=2, follower_steps=40_000, ascent_share=0.0)
LAW = "transition_probability"


@pytest.fixture(scope="module")
def rooms():
    return cb.problems.four_rooms(
        temperature=0.01, penalty_weight=1.0, discount=0.95, slip=0.3, **PLACES
    )


@pytest.fixture(scope="module")
def draws():
    rng = np.random.default_rng(0)
    chance = rng.beta(20.0, 30.0, 12)
    return {
        "temperature": rng.normal(0.01, 0.001, 12),
        "context_probability": np.stack([chance, 1.0 - chance], -1),
    }


def settings(search):
    return cb.DesignSettings(search=search, per_draw=cb.Search(ascent=ASCENT), num_search_draws=6)


@pytest.fixture(scope="module")
def watched(rooms, draws):
    return cb.design(
        rooms,
        draws,
        key=jax.random.key(1),
        estimator=cb.LearnedModel(num_rollouts=20, max_steps=60),
        num_draws=12,
        settings=settings(ROUNDS),
        alternatives={"free": "no incentive"},
    )


@pytest.fixture(scope="module")
def exact(rooms, draws):
    return cb.design(rooms, draws, key=jax.random.key(1), num_draws=12, settings=settings(SEARCH))


def common(study):
    return study["decision"].to_dataset()["objective"].sel(design="common")


def test_what_was_watched_leads_to_the_exact_design(rooms, watched, exact):
    """The common design truly is worth as much, up to 3 %; its promise errs as its spread says."""
    budget = watched["error_budget"].to_dataset()["variance"]
    spread = float(np.sqrt(budget.sel(source="dynamics", design="common")))
    assert spread < 0.1 * float(common(exact).mean())
    gap = float(common(watched).mean() - common(exact).mean())
    assert abs(gap) < 4.0 * spread
    design = watched["decision"].to_dataset()["unconstrained"].sel(design="common").values
    known = cb.designs.evaluate_designs(
        rooms,
        design[None],
        {n: exact["posterior"][n].values[0] for n in ("temperature", "context_probability")},
        key=jax.random.key(0),
    )
    assert float(known.objective.mean()) > 0.97 * float(common(exact).mean())
    low, high = (float(common(watched).quantile(level)) for level in (0.05, 0.95))
    assert low < float(common(exact).mean()) < high


def test_all_that_was_watched_is_in_the_tree(rooms, watched, tmp_path):
    rounds, dynamics = watched["rounds"].to_dataset(), watched["dynamics"].to_dataset()
    steps = int(rounds["follower_steps"].sum())
    assert steps == rounds.attrs["follower_steps"] == dynamics.attrs["transitions"]
    assert 0 < steps < 45_000
    assert float(dynamics["transition_count"].sum()) <= steps  # ends lead nowhere
    assert watched.attrs["estimator"] == "LearnedModel"
    assert list(watched["decision"]["design"].values) == ["common", "plug_in", "free", "watched"]
    assert watched.attrs["alternatives"] == '["free"]'
    text = " ".join(str(cb.summary(watched, accept_failed=True)).split())
    assert "by watching a follower in rounds" in text
    assert "against free" in text.lower()
    budget = watched["error_budget"].to_dataset()["variance"]
    assert float(budget.sel(source="dynamics", design="common")) > 0.0
    cb.save(watched, tmp_path / "study.nc")
    with xr.open_datatree(tmp_path / "study.nc") as plain:
        np.testing.assert_array_equal(plain["rounds"]["seen"], rounds["seen"])


def test_draws_of_the_law_are_near_the_truth(rooms, watched):
    law = watched["posterior"][LAW].values[0]
    np.testing.assert_allclose(law.sum(-1), 1.0, atol=1e-9)
    true = cb.problems.with_unknown_law(rooms).default_parameters[LAW]
    counts = watched["dynamics"]["transition_count"].values.sum(-1)
    # The first cell's moves are all to other cells or into walls: compare where places differ.
    known = (counts > 200.0) & (np.asarray(law[0] > 0).sum(-1) == 4)
    assert known.sum() >= 4
    assert np.abs(law.mean(0) - true)[known].max() < 0.06


def test_other_questions_take_the_problem_as_it_was(rooms, watched):
    """Its law was learned on the way: who asks further need not know."""
    stress = [cb.TemperatureShift(2.0)]
    study = cb.stress_test(rooms, watched, key=jax.random.key(0), stresses=stress)
    assert "stress" in study.children


def test_the_posterior_may_learn_the_law_first(rooms, draws):
    known = cb.learn_law(
        rooms,
        draws,
        key=jax.random.key(1),
        estimator=cb.LearnedModel(num_rollouts=20, max_steps=60),
        rounds=ROUNDS,
    )
    unknown = cb.problems.with_unknown_law(rooms)
    study = cb.design(
        unknown, known, key=jax.random.key(1), num_draws=12, settings=settings(SEARCH)
    )
    assert study["posterior"][LAW].shape[:2] == (1, 12)
    with pytest.raises(InvalidInputError, match="with_unknown_law"):
        cb.design(rooms, known, key=jax.random.key(1))


def test_a_general_objective_keeps_to_ascents(rooms):
    found = cb.designs.default_design_settings(cb.LearnedModel(), rooms)
    assert isinstance(found.search, cb.Rounds)
    rlhf = cb.problems.rlhf()
    assert rlhf.leader_reward_fn is None
    found = cb.designs.default_design_settings(cb.LearnedModel(), rlhf)
    assert isinstance(found.search, cb.Search)


@pytest.mark.parametrize("estimator", [cb.Exact(), cb.HPGD()])
def test_rounds_need_an_estimator_that_learns(rooms, draws, estimator):
    with pytest.raises(InvalidInputError, match="LearnedModel"):
        cb.design(
            rooms, draws, key=jax.random.key(1), estimator=estimator, settings=settings(ROUNDS)
        )


def test_rounds_are_the_default_only_where_the_posterior_tells_the_rest():
    """Not for a follower of one's own, nor for laws that are inferred."""
    rooms, default = cb.problems.two_state(), cb.designs.default_design_settings
    assert isinstance(default(cb.LearnedModel(), rooms).search, cb.Rounds)
    other = cb.LearnedModel(oracle=cb.followers.QLearningFollower())
    assert isinstance(default(other, rooms).search, cb.Search)
    assert isinstance(default(cb.DoublyRobust(), rooms).search, cb.Search)
    assert isinstance(default(cb.LearnedModel(), cb.problems.bus_replacement()).search, cb.Search)


@pytest.mark.parametrize(("follower", "said"), [("exact", False), ("q_learning", True)])
def test_the_verdict_says_what_is_taken_for_granted(follower, said):
    known = cb.learn_law(
        cb.problems.two_state(),
        {"temperature": np.full(4, 0.3)},
        key=jax.random.key(1),
        estimator=cb.LearnedModel(
            num_rollouts=20, max_steps=4, oracle=cb.followers.FOLLOWERS[follower]()
        ),
        rounds=cb.Rounds(
            search=SEARCH, num_rounds=1, num_laws=2, follower_steps=2_000, ascent_share=0.0
        ),
    )
    assert ("taken for granted" in known["rounds"].attrs["reviews"]) == said
