import json
import warnings
from pathlib import Path

import arviz as az
import jax
import numpy as np
import pytest
import xarray as xr

import cbrl_bayes as cb
from cbrl_bayes.errors import InvalidInputError, ResultsError
from cbrl_bayes.hypergradients import AscentStatus
from cbrl_bayes.mdp import SolveStatus
from cbrl_bayes.plots import (
    plot_convergence,
    plot_incentive,
    plot_objectives,
    plot_posterior,
    plot_response,
    save_figures,
)
from cbrl_bayes.results import assess, tree_violations


def test_design_groups_are_labelled(study, fitted):
    design, decision = study["design"], study["decision"]
    assert design["leader_objective"].dims == ("chain", "draw")
    assert design["incentive"].dims == ("chain", "draw", "cell")
    assert {"row", "column"} <= set(design["incentive"].coords)
    assert design["draw"].isin(fitted["posterior"]["draw"]).all()
    assert decision["regret"].dims == ("design", "chain", "draw")
    assert decision["design"].values.tolist() == ["common", "plug_in"]
    assert (decision["regret"] >= 0).all()
    np.testing.assert_allclose(
        design["leader_objective"] - decision["objective"].sel(design="common"),
        decision["regret"].sel(design="common"),
    )
    total = design["incentive"].sum("cell")
    assert ((total > 0) & (total <= 0.2 + 1e-12)).all()
    assert study["response"]["policy_common"].dims[-2:] == ("state", "action")
    assert json.loads(study.attrs["versions"])["jax"]
    assert json.loads(study.attrs["design_settings"])["estimator"]["type"] == "Exact"


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_saved_trees_come_back(study, fitted, suffix, tmp_path):
    for name, tree in (("fit", fitted), ("study", study)):
        path = cb.save(tree, tmp_path / f"{name}{suffix}")
        xr.testing.assert_equal(cb.load(path), tree)
    assert cb.load(path).attrs["fingerprint"] == study.attrs["fingerprint"]
    cb.save(study, path)  # over what is there
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"fit{suffix}", f"study{suffix}"]


def test_opens_without_this_package(study, tmp_path):
    path = cb.save(study, tmp_path / "study.nc")
    with xr.open_datatree(path, engine="h5netcdf") as plain:
        assert float(plain["design"]["leader_objective"].mean()) == pytest.approx(
            float(study["design"]["leader_objective"].mean())
        )


def test_schema_lists_all_violations_at_once(study, tmp_path):
    broken = study.copy(deep=True)
    del broken["decision"]
    broken["design"] = xr.DataTree(broken["design"].to_dataset().drop_vars("status"))
    del broken.attrs["versions"]
    with pytest.raises(ResultsError) as caught:
        cb.save(broken, tmp_path / "broken.nc")
    text = str(caught.value)
    assert "groups are missing: decision" in text
    assert "design/status is missing" in text
    assert "attributes are missing: versions" in text
    assert not list(tmp_path.iterdir())
    turned = study.copy(deep=True)
    turned["design"] = xr.DataTree(turned["design"].to_dataset().transpose("draw", "chain", ...))
    assert any("design/leader_objective has dims" in v for v in tree_violations(turned))
    other = study.copy(deep=True)
    other.attrs |= {"stage": "half", "schema": "else"}
    assert len(list(tree_violations(other))) == 2


def test_damaged_and_foreign_files(study, tmp_path):
    path = cb.save(study, tmp_path / "study.nc")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ResultsError, match="cannot be read"):
        cb.load(path)
    with pytest.raises(ResultsError, match="no such results file"):
        cb.load(tmp_path / "absent.nc")
    with pytest.raises(ResultsError, match="type is not known"):
        cb.save(study, tmp_path / "study.pkl")
    xr.Dataset({"x": ("i", [1.0])}).to_netcdf(tmp_path / "foreign.nc", engine="h5netcdf")
    with pytest.raises(ResultsError, match="attributes are missing"):
        cb.load(tmp_path / "foreign.nc")
    with pytest.raises(ResultsError, match="cannot be written"):
        cb.save(study, tmp_path / "no_folder" / "study.nc")


def test_a_failed_write_leaves_the_old_file(study, tmp_path, monkeypatch):
    path = cb.save(study, tmp_path / "study.nc")
    before = path.read_bytes()

    def full(*args, **kwargs):
        (tmp_path / ".study.nc.partial-0").write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(xr.DataTree, "to_netcdf", full)
    with pytest.raises(ResultsError, match="No space left"):
        cb.save(study, path)
    assert path.read_bytes() == before


def test_summary_states_its_intervals(study):
    found = cb.summary(study, prob=0.8, kind="hdi")
    text = str(found)
    assert "80 % credible intervals, highest-density (hdi)" in text
    assert "failed designs: 0.0 %" in text
    assert "health:" in text
    row = found.frame.loc[("best per draw", "leader_objective")]
    objective = study["design"]["leader_objective"]
    low, high = az.hdi(objective.to_dataset(), prob=0.8)["leader_objective"].values
    assert (row["lower"], row["upper"]) == (pytest.approx(low), pytest.approx(high))
    assert row["mean"] == pytest.approx(float(objective.mean()))
    equal = cb.summary(study, prob=0.8).frame.loc[("parameter", "temperature")]
    expected = study["posterior"]["temperature"].quantile([0.1, 0.9])
    np.testing.assert_allclose(equal[["lower", "upper"]].astype(float), expected)
    with pytest.raises(InvalidInputError, match="0 < prob < 1"):
        cb.summary(study, prob=90)


def test_summary_shows_the_spread_over_restarts(study):
    """A user sees when the optimum is one of many."""
    many = study.copy(deep=True)
    decision = many["decision"].to_dataset().drop_dims("restart")
    decision["restart_objective"] = ("restart", [0.5, 1.0, np.nan, 0.998, 0.7])
    many["decision"] = xr.DataTree(decision)
    text = " ".join(str(cb.summary(many)).split())
    assert "5 ascents ended between 0.5 and 1 (median 0.849), 2 of them within 1 %" in text
    np.testing.assert_array_equal(
        cb.summary(many).details["restart_objectives"], [0.5, 1.0, np.nan, 0.998, 0.7]
    )


def test_health_verdicts(study):
    def verdict(change):
        tree = study.copy(deep=True)
        change(tree)
        return assess(tree)

    def scatter(tree):
        posterior = tree["posterior"].to_dataset()
        offset = xr.DataArray([0.0, 1.0, 2.0, 3.0], dims="chain", coords=posterior.chain.coords)
        tree["posterior"] = xr.DataTree(
            posterior.assign(temperature=posterior.temperature + offset)
        )

    def fail_designs(tree):
        status = tree["design"].to_dataset()["status"].copy()
        status[0, :] = AscentStatus.NOT_FINITE
        tree["design"] = xr.DataTree(tree["design"].to_dataset().assign(status=status))

    def diverge(tree):
        stats = tree["sample_stats"].to_dataset()
        tree["sample_stats"] = xr.DataTree(stats.assign(diverging=stats.diverging | True))

    assert "R-hat of temperature" in str(verdict(scatter))
    assert verdict(scatter).verdict == "FAIL"
    assert "designs failed" in str(verdict(fail_designs))
    assert verdict(fail_designs).verdict == "FAIL"
    assert cb.summary(_with(study, fail_designs)).details["failed_share"] == pytest.approx(0.25)
    assert "divergent" in str(verdict(diverge))
    assert verdict(lambda t: t.attrs.update(identification="apart")).verdict == "FAIL"
    assert verdict(lambda t: t.attrs.update(contraction='{"temperature": 0.02}')).reviews

    def lose(tree):
        design = tree["design"].to_dataset()
        tree["design"] = xr.DataTree(
            design.assign(leader_objective=design.leader_objective * np.nan)
        )

    def cut(tree):
        trace = tree["design_trace"].to_dataset()
        tree["design_trace"] = xr.DataTree(
            trace.assign(truncated_share=trace.truncated_share + 0.5)
        )

    assert "objectives of the draws' designs are not finite" in str(verdict(lose))
    biased = _with(study, cut)
    biased.attrs["estimator_is_exact"] = 0
    assert "cut by its step limit" in str(assess(biased))
    assert assess(biased).verdict == "FAIL"
    assert "12 designed draws are few" in str(assess(study))
    assert "no certificate" in str(verdict(lambda t: t.attrs.update(estimator_is_exact=0)))


def test_the_verdict_judges_the_search_itself(study):
    """No reaction, the edge of the problem, and a common design that another one beats."""

    def changed(group, name, value):
        def change(tree):
            dataset = tree[group].to_dataset()
            tree[group] = xr.DataTree(dataset.assign({name: dataset[name] * 0 + value}))

        return assess(_with(study, change))

    flat = changed("design", "status", int(AscentStatus.FLAT))
    assert "does not react to the incentive, near or far, in 12 of 12 draws" in str(flat)
    assert flat.verdict == "FAIL"
    both = changed("decision", "status", int(AscentStatus.FLAT))
    assert "and in that for all draws" in str(both)
    assert both.verdict == "FAIL"
    edge = changed("design_trace", "solve_status", int(SolveStatus.INVALID_MDP))
    assert "in 100 % of the draws the search met incentives that lead to no MDP" in str(edge)

    def beaten(tree):
        decision = tree["decision"].to_dataset()
        more = xr.DataArray([0.0, 1.0], dims="design")
        tree["decision"] = xr.DataTree(decision.assign(objective=decision.objective + more))

    assert "the plug-in design has a higher mean objective than the common one" in str(
        assess(_with(study, beaten))
    )
    assert "higher mean" not in str(assess(study))


def _with(tree, change):
    copy = tree.copy(deep=True)
    change(copy)
    return copy


def test_arviz_works_on_the_tree_as_it_is(study):
    assert "temperature" in az.summary(study, ci_prob=0.9).index
    assert (
        "leader_objective"
        in az.summary(study, group="design", ci_prob=0.9, var_names=["leader_objective"]).index
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ's and matplotlib's own deprecations
        az.plot_trace(study, var_names=["temperature"])
        az.plot_forest(study, var_names=["temperature"], ci_probs=(0.5, 0.9))
        az.plot_dist(study, group="design", var_names=["leader_objective"], ci_prob=0.9)
        az.plot_ppc_dist(study, var_names=["context_count"])
        assert np.isfinite(az.loo(study).elpd)


def test_figures(study, tmp_path):
    for draw in (plot_posterior, plot_incentive, plot_objectives, plot_convergence):
        assert len(draw(study).axes) >= 2
    written = save_figures(study, tmp_path / "figures")
    assert [p.name for p in written] == [
        "posterior.png",
        "incentive.png",
        "objectives.png",
        "convergence.png",
        "designs.png",
        "response.png",
    ]
    assert all(p.stat().st_size > 5000 for p in written)
    curve = plot_response(study, action="down", coordinate="row")
    assert "down" in curve.axes[0].get_ylabel()
    with pytest.raises(InvalidInputError, match="no such response"):
        plot_response(study, action="fly", coordinate="row")
    with pytest.raises(InvalidInputError, match="no group 'design'"):
        plot_objectives(xr.DataTree())


@pytest.mark.slow
def test_scalar_incentive_and_replacement_figures(tmp_path):
    problem = cb.problems.bus_replacement()
    draws = {"RC": np.array([9.0, 10.0, 11.0]), "theta11": np.array([2.0, 2.5, 3.0])}
    settings = cb.DesignSettings(
        search=cb.Search(ascent=cb.Ascent(num_steps=60, learning_rate=0.3)),
        per_draw=cb.Search(ascent=cb.Ascent(num_steps=30)),
    )
    tree = cb.design(problem, draws, key=jax.random.key(0), num_draws=3, settings=settings)
    assert tree.attrs["stage"] == "design only"
    assert cb.load(cb.save(tree, tmp_path / "bus.nc")).attrs["sampler"] == "given"
    names = [p.name for p in save_figures(tree, tmp_path)]
    assert names == [
        "incentive.png",
        "objectives.png",
        "convergence.png",
        "designs.png",
        "response.png",
    ]
    assert tree["design"]["incentive"].attrs["units"] == "RC"


@pytest.mark.slow
def test_many_studies_need_no_more_memory_than_one():
    """JAX keeps compiled programs for good unless told otherwise; each maps memory."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("counts memory mappings, which only Linux shows")
    problem, draws = cb.problems.two_state(), {"temperature": np.array([0.2, 0.3])}
    small = cb.Search(ascent=cb.Ascent(num_steps=5))
    settings = cb.DesignSettings(search=small, per_draw=small)
    counts = []
    for seed in range(3):
        cb.design(problem, draws, key=jax.random.key(seed), num_draws=2, settings=settings)
        counts.append(len(maps.read_text().splitlines()))
    # One study compiles programs with several hundred mappings.
    assert counts[2] < counts[1] + 100


def test_wrong_draws_are_refused():
    problem = cb.problems.two_state()
    for draws, message in (
        ({}, "draws cannot be used"),
        ({"temperature": np.ones(3), "context_probability": np.full((2, 2), 0.5)}, "differ in"),
        ({"luck": np.ones(3)}, "none of the problem's parameters"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            cb.design(problem, draws, key=jax.random.key(0))
    with pytest.raises(InvalidInputError, match="num_draws cannot be used"):
        cb.design(problem, {"temperature": np.ones(3)}, key=jax.random.key(0), num_draws=0)
