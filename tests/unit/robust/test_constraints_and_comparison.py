"""Choosing among designs: robust designs in the tree, comparison, error budget, the health gate."""

import json
from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import cbrl_bayes as cb
from cbrl_bayes.designs import ExactEvaluation, Score, SimulatedEvaluation, evaluate_designs
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.plots import plot_designs, plot_incentive, plot_objectives
from cbrl_bayes.results.error_budget import best_of_restarts_variance
from cbrl_bayes.robust.depth import posterior_depth
from cbrl_bayes.robust.record import HeldOut, RobustStudy
from cbrl_bayes.robust.study import other_draws
from cbrl_bayes.robust.tables import win_shares
from cbrl_bayes.robust.verdict import judge_robust

QUICK = cb.Search(ascent=cb.Ascent(num_steps=60))
VERY_QUICK = cb.RobustSettings(ascent=cb.Ascent(num_steps=10), num_candidates=0)


@pytest.fixture(scope="module")
def small():
    """A study of twenty draws with its robust designs."""
    problem = cb.problems.two_state()
    rng = np.random.default_rng(0)
    draws = {"temperature": 0.3 * np.exp(0.4 * rng.normal(size=20))}
    study = cb.design(
        problem,
        draws,
        key=jax.random.key(0),
        num_draws=20,
        settings=cb.DesignSettings(
            search=cb.Search(ascent=cb.Ascent(num_steps=60), num_starts=3), per_draw=QUICK
        ),
    )
    robust = cb.robust_designs(
        problem,
        study,
        key=jax.random.key(1),
        criteria=(cb.CVaR(0.25), cb.MinimaxRegret(0.9)),
        constraints=(cb.CostAtMost(0.4, 0.5),),
        settings=cb.RobustSettings(ascent=cb.Ascent(num_steps=60), num_candidates=4),
    )
    return problem, study, robust


def test_robust_designs_stand_beside_the_others(small, tmp_path):
    problem, study, robust = small
    decision = robust["decision"].to_dataset()
    assert list(decision["design"].values) == [
        "common",
        "plug_in",
        "cvar_0.25",
        "minimax_regret_0.9",
    ]
    # What was known before is scored as before: contexts are enumerated.
    before = study["decision"].to_dataset()
    np.testing.assert_allclose(decision["objective"][:2], before["objective"], rtol=1e-12)
    np.testing.assert_array_equal(decision["incentive"][:2], before["incentive"])
    best = decision["best_objective"]
    gap = best.values - decision["objective"].values
    np.testing.assert_allclose(decision["regret"], gap, atol=1e-15)
    assert float(decision["regret"].min()) >= 0.0
    # The stored vector is the design: transform it and score it again.
    point = {"bonus": float(decision["unconstrained"].sel(design="cvar_0.25").values[0])}
    draw = {name: study["posterior"][name].values[0, 3] for name in ("temperature",)}
    again = cb.leader_outcome(problem, point, problem.complete_parameters(draw)).objective
    assert float(decision["objective"].sel(design="cvar_0.25")[0, 3]) == pytest.approx(float(again))
    shares = (decision["incentive_cost"] <= 0.4).mean(("chain", "draw"))
    np.testing.assert_allclose(decision["satisfied_probability"].isel(constraint=0), shares)
    kept = cb.load(cb.save(robust, tmp_path / "robust.nc"))
    xr.testing.assert_equal(kept["decision"].to_dataset(), decision)
    with pytest.raises(InvalidInputError, match="criteria need different names"):
        cb.robust_designs(problem, robust, key=jax.random.key(2), criteria=(cb.CVaR(0.25),))


def test_more_criteria_can_be_added_later(small):
    problem, _, robust = small
    more = cb.robust_designs(
        problem,
        robust,
        key=jax.random.key(3),
        criteria=(cb.MeanVariance(1.0),),
        settings=VERY_QUICK,
    )
    assert list(more["decision"]["design"].values)[-2:] == ["minimax_regret_0.9", "mean_variance_1"]
    assert more["decision"]["criterion_value"].shape == (1, 5)


@pytest.fixture(scope="module")
def fresh():
    """A study of 20 of 260 draws: 60 more choose, 180 are held out."""
    problem = cb.problems.two_state()
    rng = np.random.default_rng(4)
    draws = {"temperature": 0.3 * np.exp(0.8 * rng.normal(size=260))}
    settings = cb.DesignSettings(search=QUICK, per_draw=QUICK)
    study = cb.design(problem, draws, key=jax.random.key(0), num_draws=20, settings=settings)
    sizes = cb.RobustSettings(
        ascent=cb.Ascent(num_steps=60), num_candidates=3, num_more_draws=60, num_score_draws=180
    )
    criteria = (cb.CVaR(0.2), cb.WorstCase(0.9), cb.MinimaxRegret(0.9))
    robust = cb.robust_designs(
        problem, study, key=jax.random.key(1), criteria=criteria, settings=sizes
    )
    return problem, study, sizes, robust


def test_final_designs_are_scored_on_draws_that_did_not_choose_them(fresh):
    problem, study, sizes, robust = fresh
    more, scored = other_draws(problem, study, sizes)
    own = study["posterior"]["temperature"].sel(draw=study["design"]["draw"]).values.ravel()
    parts = [own, more["temperature"], scored["temperature"]]
    assert list(map(len, parts)) == [20, 60, 180]
    everything = np.concatenate(parts)
    assert sorted(everything) == sorted(study["posterior"]["temperature"].values.ravel())
    # By evaluating once more, and by the definitions of the criteria.
    decision = robust["decision"].to_dataset()
    points = decision["unconstrained"].values
    worth = evaluate_designs(problem, points, scored, key=jax.random.key(9)).objective
    np.testing.assert_allclose(decision["held_out_objective"], worth, rtol=1e-12)
    tail = np.sort(worth, axis=1)[:, : 180 // 5].mean(1)
    value = decision["held_out_criterion_value"]
    np.testing.assert_allclose(value.sel(criterion="cvar_0.2"), tail, rtol=1e-12)
    # The worst case: over all draws within the credible set that all of them make.
    inside = posterior_depth({"temperature": everything}) < 0.9
    all_draws = {"temperature": everything}
    worth = evaluate_designs(problem, points, all_draws, key=jax.random.key(9)).objective
    worst = value.sel(criterion="worst_case_0.9")
    np.testing.assert_allclose(worst, worth[:, inside].min(1), rtol=1e-12)
    assert (worst <= decision["criterion_value"].sel(criterion="worst_case_0.9")).all()
    # It is a best one: no point of a grid has a better worst case, up to the search's own steps.
    grid = evaluate_designs(
        problem, np.linspace(-0.5, 1.5, 81)[:, None], all_draws, key=jax.random.key(9)
    ).objective[:, inside]
    spread = worth[0].std()
    found = float(worst.sel(design="worst_case_0.9"))
    assert found >= grid.min(1).max() - 0.05 * spread
    # The study's own numbers stay those of its own draws.
    assert decision["objective"].shape == (5, 1, 20)


def test_numbers_of_other_draws_come_first_and_flattering_ones_say_so(fresh, tmp_path):
    *_, robust = fresh
    found = cb.compare_designs(robust, accept_failed=True)
    headings = list(found.frames)
    assert headings[-1] == "on the 20 draws on which designs were chosen, which flatter them"
    held_out = robust["decision"]["held_out_objective"].sel(design="cvar_0.2").values
    assert found.frame.loc["cvar_0.2", "mean"] == pytest.approx(held_out.mean())
    value = robust["decision"]["held_out_criterion_value"].sel(criterion="worst_case_0.9")
    np.testing.assert_allclose(found.frame["worst_case_0.9"], value)
    assert "best per draw" in found.frames[headings[-1]].index
    assert "best per draw" not in found.frame.index
    assert "flatter" not in str(cb.summary(robust).health)
    kept = cb.load(cb.save(robust, tmp_path / "fresh.nc"))
    xr.testing.assert_equal(kept["decision"].to_dataset(), robust["decision"].to_dataset())
    # Later criteria replace them all; a study without other draws says that nothing was left.
    more = cb.robust_designs(
        cb.problems.two_state(),
        robust,
        key=jax.random.key(3),
        criteria=(cb.MeanVariance(1.0),),
        settings=replace(VERY_QUICK, num_score_draws=0),
    )
    assert "held_out_objective" not in more["decision"]
    assert "no draws were left to score the designs on" in str(cb.summary(more).health)


def test_what_other_draws_say_enters_the_verdict():
    """By hand: a design best where it was chosen, worse than the common one elsewhere."""
    scores = Score(*(np.array([[1.0, 2.0], [2.0, 2.5]]) for _ in fields(Score)))
    found = RobustStudy(
        names=("common", "cvar_0.5"),
        designs=np.zeros((2, 1)),
        scores=scores,
        own_objective=np.zeros(2),
        best=np.zeros(2),
        depth=np.zeros(2),
        criterion_value=np.array([[1.0, 2.0]]),
        start_value=np.array([[2.0]]),
        status=np.array([0]),
        constraints=("P(cost at most 1) >= 0.9",),
        satisfied=np.array([[0.9, 1.0]]),
        feasible=np.array([True, True]),
        num_chosen_on=2,
        held_out=HeldOut(
            objective=np.zeros((2, 100)),
            best=np.zeros(100),
            depth=np.zeros(100),
            criterion_value=np.array([[1.0, 0.5]]),
            satisfied=np.array([[0.9, 0.7]]),
        ),
    )
    reviews, failures = judge_robust(found, 1)
    assert failures == []
    assert any("cvar_0.5 is worse by its own criterion (0.5) than common (1)" in r for r in reviews)
    assert any("cvar_0.5 keeps P(cost at most 1) >= 0.9 with 0.7 only" in r for r in reviews)


def test_comparison_pairs_designs_within_draws(small):
    _, _, robust = small
    found = cb.compare_designs(robust, accept_failed=True)
    beats = list(found.frames.values())[1]
    decision = robust["decision"].to_dataset()
    for name in ("objective", "criterion_value"):
        assert decision[name].attrs["units"] == robust.attrs["objective_unit"] != ""
    one, other = (decision["objective"].sel(design=n).values for n in ("common", "cvar_0.25"))
    assert beats.loc["common", "cvar_0.25"] == pytest.approx((one > other).mean(), abs=1e-12)
    assert (np.diag(beats) == 0.5).all()
    np.testing.assert_allclose(beats + beats.T, 1.0)
    assert found.frame.loc["common", "mean"] == pytest.approx(one.mean())
    assert found.frame.loc["common", "cvar_0.1"] == pytest.approx(np.sort(one.ravel())[:2].mean())
    text = str(found)
    assert "90 % credible intervals, equal-tailed (eti)" in text
    assert "health:" in text
    for draw in (plot_designs, plot_incentive, plot_objectives):
        draw(robust)


def test_a_verdict_is_not_lost_by_the_next_call(small):
    problem, study, _ = small
    failed = cb.robust_designs(
        problem,
        study,
        key=jax.random.key(4),
        criteria=(cb.CVaR(0.5),),
        settings=VERY_QUICK,
        constraints=(cb.ObjectiveAtLeast(1e6),),
    )
    later = cb.robust_designs(
        problem,
        failed,
        key=jax.random.key(5),
        criteria=(cb.MeanVariance(1.0),),
        settings=VERY_QUICK,
    )
    assert cb.summary(later).health.verdict == "FAIL"
    assert later["decision"]["feasible"].values.tolist() == [0, 0, 0, 1]
    assert len(json.loads(later["decision"].attrs["settings"])) == 2


def test_a_single_draw_can_be_designed_for(small):
    problem, _, _ = small
    study = cb.design(
        problem,
        {"temperature": np.array([0.3])},
        key=jax.random.key(0),
        num_draws=1,
        settings=cb.DesignSettings(search=QUICK, per_draw=QUICK),
    )
    assert np.isnan(study["error_budget"]["variance"].sel(source="posterior")).all()


def test_a_study_of_another_problem_is_refused(small):
    _, study, _ = small
    with pytest.raises(InvalidInputError, match="not a design study of this problem"):
        cb.robust_designs(cb.problems.four_rooms(), study, key=jax.random.key(0))
    problem = cb.problems.two_state()
    for other in (
        cb.problems.two_state(benefit=3.0),
        cb.problems.constrained(problem, cb.problems.Bounds("bonus", 0.0, 0.8)),
        replace(problem, aggregate=cb.AcrossContexts(cb.CVaR(0.5))),
    ):
        with pytest.raises(InvalidInputError, match="constraints, default parameters or aggregate"):
            cb.robust_designs(other, study, key=jax.random.key(0))


def test_error_budget_adds_up(small):
    _, study, _ = small
    budget = study["error_budget"].to_dataset()
    objective = study["decision"].to_dataset()["objective"]
    variance = budget["variance"].sel(design="plug_in")
    # Exact scores over enumerated contexts: the posterior is all there is beside the search.
    assert float(variance.sel(source="posterior")) == pytest.approx(
        float(objective.sel(design="plug_in").var(ddof=1))
    )
    assert float(variance.sel(source="contexts")) == 0.0
    assert float(variance.sel(source="simulation")) == 0.0
    assert np.isnan(budget["variance"].sel(source="optimiser", design="common"))
    reached = study["decision"].to_dataset()["restart_objective"].values
    rng = np.random.default_rng(0)
    resampled = rng.choice(reached, size=(100_000, len(reached))).max(1)
    # Relative error of a variance of 100,000 values: well below a twentieth.
    assert best_of_restarts_variance(reached) == pytest.approx(resampled.var(), rel=0.05, abs=1e-14)
    assert (budget["not_finite"] == 0).all()


@pytest.mark.parametrize(("size", "stated", "true"), [(2, 0.38, 0.68), (10, 0.18, 0.34)])
def test_the_stated_bias_of_the_optimisers_part(size, stated, true):
    """Independent normal ascents. 20,000 repetitions: both figures are known to about .01."""
    ascents = np.random.default_rng(0).normal(size=(20_000, size))
    assert ascents.max(1).var() == pytest.approx(true, abs=0.015)
    found = np.mean([best_of_restarts_variance(row) for row in ascents])
    assert found == pytest.approx(stated, abs=0.015)


def test_only_ascents_by_expectation_count_as_luck_of_the_objective(small):
    _, _, robust = small
    share = robust["error_budget"]["variance"].sel(source="optimiser")
    assert np.isnan(share.sel(design=["cvar_0.25", "minimax_regret_0.9"])).all()
    tree = robust.copy(deep=True)
    decision = tree["decision"].to_dataset()
    names = {"cvar_0.25": "expectation"}
    renamed = decision.assign_coords(
        {dim: [names.get(n, n) for n in decision[dim].values] for dim in ("design", "criterion")}
    )
    renamed["objective"][0, 0, :2] = np.nan
    tree["decision"] = xr.DataTree(renamed)
    budget = cb.results.error_budget(tree)
    reached = renamed["start_value"].sel(criterion="expectation").values
    found = budget["variance"].sel(source="optimiser", design="expectation")
    assert float(found) == pytest.approx(best_of_restarts_variance(reached))
    assert budget["not_finite"].values.tolist() == [2, 0, 0, 0]
    kept = renamed["objective"].values[0].ravel()[2:]
    assert float(budget["variance"][0, 0]) == pytest.approx(kept.var(ddof=1))


@pytest.mark.slow
def test_noise_of_simulation_and_of_contexts_is_told_apart():
    problem = cb.problems.two_state()
    sampled = cb.SampledContexts(lambda parameters, key: jax.random.uniform(key), 16)
    both = replace(problem, contexts=sampled)
    x = {"bonus": 0.8}
    full = both.default_parameters
    exact = ExactEvaluation().score(both, x, full, key=jax.random.key(0))
    assert float(exact.standard_error) == float(exact.context_error) > 0.0
    walks = SimulatedEvaluation(num_replicates=40, num_rollouts=20, max_steps=3)
    enumerated = walks.score(problem, x, problem.default_parameters, key=jax.random.key(0))
    assert float(enumerated.context_error) == 0.0 < float(enumerated.standard_error)
    mixed = walks.score(both, x, full, key=jax.random.key(0))
    assert 0.0 < float(mixed.context_error) < float(mixed.standard_error)
    # Contexts that are all alike add nothing: over keys, the error is that of rollouts alone.
    alike = replace(problem, contexts=cb.SampledContexts(lambda parameters, key: 0.5, 16))
    score = jax.jit(lambda key: walks.score(alike, x, alike.default_parameters, key=key))
    many = jax.lax.map(score, jax.random.split(jax.random.key(1), 200))
    stated = float(jnp.sqrt((many.standard_error**2).mean()))
    # 200 values: their standard deviation is known to 5 %; the part of contexts, cut at 0,
    # adds up to a tenth to the variance.
    assert stated == pytest.approx(float(many.objective.std()), rel=0.2)
    assert float((many.context_error**2).mean()) < 0.2 * stated**2


def test_a_failed_study_withholds_its_designs(small):
    _, study, _ = small
    failed = study.copy(deep=True)
    failed["decision"].attrs["failures"] = json.dumps(["the ascents for design x failed"])
    shown = cb.summary(failed)
    assert shown.withheld
    assert shown.frame.index.get_level_values("group").unique().tolist() == ["parameter"]
    text = str(shown)
    assert "health: FAIL" in text
    assert "decision: the ascents for design x failed" in text
    assert "accept_failed=True" in text
    assert "common design" in cb.summary(failed, accept_failed=True).frame.index.levels[0]
    compared = cb.compare_designs(failed)
    assert compared.withheld
    assert compared.frame.empty
    assert "the ascents for design x failed" in str(compared)
    assert "accept_failed=True" in str(compared)
    assert "FAIL" in str(cb.compare_designs(failed, accept_failed=True))


@pytest.mark.parametrize("k", [1e-12, 1.0, 1e12])
def test_which_design_is_worth_more_does_not_depend_on_the_unit_of_money(k):
    worth = k * np.array([[1.0, 2.0, 3.0], [0.999, 2.1, 3.0 + 1e-12]])
    np.testing.assert_allclose(win_shares(worth), [[0.5, 0.5], [0.5, 0.5]])
    np.testing.assert_allclose(win_shares(worth[:, :1]), [[0.5, 1.0], [0.0, 0.5]])
