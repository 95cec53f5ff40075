"""Draws of other tools: the right numbers under the right names and labels, or one clear error."""

import arviz as az
import jax
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import cbrl_bayes as cb
from cbrl_bayes.errors import InvalidInputError, ResultsError

PROBLEM = cb.problems.two_state()
EASY, HARD = PROBLEM.contexts.names
NUM = 12
LAW = np.random.default_rng(0).dirichlet([5.0, 2.0], NUM)
TEMPERATURE = np.linspace(0.2, 0.3, NUM)
RIGHT = {"temperature": TEMPERATURE, "context_probability": LAW}
QUICK = cb.Search(ascent=cb.Ascent(num_steps=3))
SETTINGS = cb.DesignSettings(search=QUICK, per_draw=QUICK)


def _labelled(labels=(EASY, HARD), law=LAW):
    """Two chains of six draws, the contexts labelled or not."""
    coords = {"chain": [0, 1], "draw": range(NUM // 2)}
    if labels is not None:
        coords["context"] = list(labels)
    return xr.Dataset(
        {
            "temperature": (("chain", "draw"), TEMPERATURE.reshape(2, -1)),
            "context_probability": (("chain", "draw", "context"), law.reshape(2, -1, 2)),
        },
        coords=coords,
    )


def _table(**columns):
    return pd.DataFrame({"lp__": np.zeros(NUM), "temperature": TEMPERATURE, **columns})


TURNED = LAW[:, ::-1]
SAME = {
    "arrays": RIGHT,
    "lists": {name: array.tolist() for name, array in RIGHT.items()},
    "1 / temperature": {"rationality": 1.0 / TEMPERATURE, "context_probability": LAW},
    "what a sampler adds": {**RIGHT, "lp__": np.zeros(NUM), "rationality": 1.0 / TEMPERATURE},
    "columns from 1": _table(**{f"context_probability[{i + 1}]": LAW[:, i] for i in (0, 1)}),
    "columns from 0": _table(**{f"context_probability[{i}]": LAW[:, i] for i in (1, 0)}),
    "columns with points": _table(**{f"context_probability.{i + 1}": LAW[:, i] for i in (1, 0)}),
    "columns by name": _table(
        **{f"context_probability[{HARD}]": LAW[:, 1], f"context_probability[{EASY}]": LAW[:, 0]}
    ),
    "columns of two chains": _table(
        chain__=np.repeat([1, 2], NUM // 2),
        iter__=np.tile(np.arange(NUM // 2), 2),
        **{f"context_probability[{i}]": LAW[:, i] for i in (0, 1)},
    ),
    "labels": _labelled(),
    "labels in another order": _labelled((HARD, EASY), TURNED),
    "labels as bytes": _labelled([EASY.encode(), HARD.encode()]),
    "numbers in another order": _labelled((1, 0), TURNED),
    "numbers from 1": _labelled((1, 2)),
    "no labels": _labelled(None),
    "axes in another order": _labelled().transpose("draw", "context", "chain"),
    "a stacked sample": _labelled().stack(sample=("chain", "draw")),
    "a tree": xr.DataTree.from_dict({"/posterior": _labelled()}),
    "a group": xr.DataTree.from_dict({"/posterior": _labelled()})["posterior"],
    "a tree with axes in another order": xr.DataTree.from_dict(
        {"/posterior": _labelled().transpose("draw", "chain", "context")}
    ),
    "six digits": {"temperature": TEMPERATURE, "context_probability": LAW.round(6)},
    "single precision": {"temperature": TEMPERATURE, "context_probability": LAW.astype("f4")},
}


@pytest.mark.parametrize("draws", SAME.values(), ids=SAME)
def test_the_same_draws_in_any_form(draws):
    posterior = cb.from_draws(PROBLEM, draws)["posterior"]
    assert posterior["context_probability"].dims == ("chain", "draw", "context")
    assert posterior["context"].values.tolist() == [EASY, HARD]
    np.testing.assert_allclose(posterior["temperature"].values.ravel(), TEMPERATURE, rtol=1e-12)
    # Six digits are what a table holds.
    law = posterior["context_probability"].values.reshape(NUM, 2)
    np.testing.assert_allclose(law, LAW, atol=1e-6)
    np.testing.assert_allclose(law.sum(1), 1.0, rtol=1e-15)


WRONG = {
    "temprature": ({"temprature": TEMPERATURE}, "no parameter 'temprature'.*try: 'temperature'"),
    "Temperature": ({"Temperature": TEMPERATURE}, "no parameter 'Temperature'"),
    "lambda": ({"lambda": TEMPERATURE, "context_probability": LAW}, "no draws of temperature.*nam"),
    "law misspelt": (
        _table(**{f"context_probabilty[{i}]": LAW[:, i] for i in (0, 1)}),
        "names={'context_probabilty': 'context_probability'}",
    ),
    "an entry missing": (_table(**{"context_probability[1]": LAW[:, 0]}), r"shape \(1,\)"),
    "an entry twice": (
        {**RIGHT, "context_probability[1]": LAW[:, 0]},
        "'context_probability' are there twice",
    ),
    "a hole": (
        _table(**{f"context_probability[{i}]": LAW[:, 0] for i in (1, 3)}),
        "cannot be told apart; received: .1, 3.",
    ),
    "foreign labels": (_labelled(("London", "Paris")), "not the problem's; received: London, Par"),
    "one label twice": (_labelled((EASY, EASY)), "occur twice"),
    "one chain twice": (_labelled().assign_coords(chain=[0, 0]), "'chain' of .* occur twice"),
    "no axes": (_labelled().rename(chain="a", draw="b").drop_vars(["a", "b"]), "holds data, not"),
    "another number": ({**RIGHT, "temperature": TEMPERATURE[1:]}, "differ in number"),
    "chains as draws": (
        {"temperature": TEMPERATURE.reshape(2, -1)},
        r"received: shape \(6,\) for each draw; accepted: shape \(\).*az.from_dict",
    ),
    "turned": ({"temperature": TEMPERATURE, "context_probability": LAW.T}, "do not fit the prob"),
    "one number": ({"temperature": 0.3}, "draws of 'temperature' cannot be used"),
    "text": ({"temperature": [str(x) for x in TEMPERATURE]}, "received: an array of type <U"),
    "complex": ({"temperature": TEMPERATURE + 0j}, "type complex128"),
    "truth values": ({"temperature": TEMPERATURE > 0}, "type bool"),
    "too long a whole number": ({"temperature": np.full(NUM, 2**53 + 1)}, "that 64-bit floats"),
    "masked": ({"temperature": np.ma.masked_less(TEMPERATURE, 0.25)}, "6 of 12 numbers"),
    "not finite": ({"temperature": np.where(TEMPERATURE < 0.25, np.inf, 1.0)}, "6 of 12 numbers"),
    "ragged": ({"temperature": [[1.0], [1.0, 2.0]]}, "cannot be used"),
    "columns of one name": (
        pd.DataFrame(np.ones((3, 2)), columns=["temperature", "temperature"]),
        "share a name",
    ),
    "several rows for one draw": (_labelled().to_dataframe(), "several rows for one draw"),
}


@pytest.mark.parametrize(("draws", "words"), WRONG.values(), ids=WRONG)
def test_draws_that_cannot_be_meant_are_refused(draws, words):
    with pytest.raises(InvalidInputError, match=words):
        cb.from_draws(PROBLEM, draws)
    with pytest.raises(InvalidInputError):
        cb.design(PROBLEM, draws, key=jax.random.key(0), num_draws=4, settings=SETTINGS)


def test_names_are_mapped_and_others_left_out_with_a_note():
    given = {"lam": TEMPERATURE, "theta[1]": LAW[:, 0], "theta[2]": LAW[:, 1]}
    names = {"lam": "temperature", "theta": "context_probability"}
    posterior = cb.from_draws(PROBLEM, given, names=names)["posterior"]
    np.testing.assert_array_equal(posterior["context_probability"].values[0], LAW)
    with pytest.warns(UserWarning, match="draws of mu, note are left out.*default: context_prob"):
        found = cb.from_draws(PROBLEM, {"temperature": TEMPERATURE, "mu": TEMPERATURE, "note": "x"})
    assert list(found["posterior"].data_vars) == ["temperature"]
    for wrong, words in (
        ({"lamda": "temperature"}, "there are no draws of"),
        ({"lam": "heat"}, "no parameters"),
        ({"lam": "temperature", "theta[1]": "temperature"}, "several draws have one name"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            cb.from_draws(PROBLEM, given, names=wrong)


def test_followers_are_found_by_name():
    problem = PROBLEM.with_followers(("young", "old"), (0.5, 0.5))
    lam = np.stack([TEMPERATURE, 2 * TEMPERATURE], axis=1)
    given = xr.DataArray(
        lam[None, :, ::-1], {"who": ["old", "young"]}, dims=("chain", "draw", "who")
    )
    posterior = cb.from_draws(problem, {"temperature": given})["posterior"]
    np.testing.assert_array_equal(posterior["temperature"].values[0], lam)
    assert posterior["follower"].values.tolist() == ["young", "old"]
    bare = cb.from_draws(problem, {"temperature": lam})["posterior"]["temperature"]
    assert bare["follower"].values.tolist() == ["young", "old"]
    for labels in (["old", "rich"], ["old", "old"]):
        with pytest.raises(InvalidInputError):
            cb.from_draws(problem, {"temperature": given.assign_coords(who=labels)})
    # Groups of the draws become the followers of a problem that has one.
    groups = given.rename(who="follower")
    study = cb.design(
        PROBLEM, {"temperature": groups}, key=jax.random.key(0), num_draws=3, settings=SETTINGS
    )
    assert study["design"]["follower"].values.tolist() == ["old", "young"]
    with pytest.raises(InvalidInputError, match="occur twice"):
        cb.from_draws(PROBLEM, {"temperature": groups.assign_coords(follower=["a", "a"])})


@pytest.fixture(scope="module")
def foreign():
    """A tree as PyMC leaves it: other groups, other names, axes in another order."""
    tree = az.from_dict(
        {
            "posterior": {"temperature": TEMPERATURE.reshape(2, -1)},
            "sample_stats": {"diverging": np.zeros((2, NUM // 2), bool)},
            "log_likelihood": {"y": np.zeros((2, NUM // 2, 5))},
            "observed_data": {"y": np.zeros(5)},
        }
    )
    for name in ("posterior", "sample_stats"):
        tree[name] = xr.DataTree(tree[name].to_dataset().transpose("draw", "chain", ...))
    return tree


def test_a_tree_of_another_tool_is_designed_saved_and_reported(foreign, tmp_path):
    study = cb.design(PROBLEM, foreign, key=jax.random.key(0), num_draws=NUM, settings=SETTINGS)
    assert study.attrs["stage"] == "design only"
    again = cb.load(cb.save(study, tmp_path / "study.nc"), limits=None)
    assert list(again["log_likelihood"].data_vars) == ["y"]
    cb.report(again, tmp_path / "page.html", accept_failed=True)
    assert (tmp_path / "page.html").is_file()
    # Draw by draw: the hotter the follower, the more work it does without being paid.
    plain = cb.design(
        PROBLEM,
        {"temperature": TEMPERATURE},
        key=jax.random.key(0),
        num_draws=NUM,
        settings=SETTINGS,
    )
    np.testing.assert_array_equal(
        study["design"]["leader_objective"].values.ravel(),
        plain["design"]["leader_objective"].values.ravel(),
    )


def test_a_group_that_fits_no_draws_is_left_out(foreign):
    odd = foreign.copy()
    odd["sample_stats"] = xr.DataTree(xr.Dataset({"step_size": ("stage", [0.1])}))
    with pytest.warns(UserWarning, match="groups sample_stats are left out"):
        tree = cb.from_draws(PROBLEM, odd)
    assert "sample_stats" not in tree.children


def test_parts_of_a_fit(fitted, walkers, tmp_path):
    problem, _ = walkers
    whole = cb.from_draws(problem, fitted)
    assert whole.attrs["stage"] == "fit"
    one = cb.from_draws(problem, fitted.isel(chain=0))
    group = cb.from_draws(problem, fitted["posterior"])
    turned = fitted.copy()
    turned["posterior"] = xr.DataTree(
        fitted["posterior"].to_dataset().transpose("draw", "chain", ...).isel(context=[1, 0])
    )
    turned = cb.from_draws(problem, turned)
    for name in ("temperature", "context_probability"):
        own = fitted["posterior"][name].values
        np.testing.assert_array_equal(one["posterior"][name].values[0], own[0])
        np.testing.assert_array_equal(group["posterior"][name].values, own)
        np.testing.assert_array_equal(turned["posterior"][name].values, own)
    for tree in (one, group, turned):
        cb.check_tree(tree)
    few = cb.from_draws(problem, fitted.filter(lambda node: node.name in (None, "posterior")))
    assert few.attrs["stage"] == "draws"
    assert cb.load(cb.save(few, tmp_path / "few.nc"), limits=None).attrs["sampler"] == "given"
    with pytest.raises(InvalidInputError, match=r"no group 'posterior'.*received: groups: prior"):
        cb.from_draws(problem, fitted.filter(lambda node: node.name in (None, "prior")))
    with pytest.raises(InvalidInputError, match="different problem"):
        cb.from_draws(PROBLEM, fitted)


def _joined(study, how):
    def join(dataset):
        if "chain" not in dataset.dims:
            return dataset
        other = dataset.assign_coords(chain=dataset["chain"] + how["shift"])
        if how["shift"] == 0 or how["by"] == "concat":
            return xr.concat(
                [dataset, other],
                how["dim"],
                data_vars=how["vars"],
                coords="minimal",
                compat="override",
            )
        return xr.merge([dataset, other], join="outer", compat="no_conflicts")

    return xr.map_over_datasets(join, study)


def test_joined_studies_are_usable_or_refused(study, walkers, tmp_path):
    problem, _ = walkers
    good = {"shift": 4, "by": "concat", "dim": "chain", "vars": "minimal"}
    both = _joined(study, good)
    back = cb.load(cb.save(both, tmp_path / "both.nc"), limits=None)
    assert back["design"].sizes["chain"] == 8
    assert cb.summary(back, accept_failed=True).frame is not None
    for change, words in (
        ({"shift": 0}, "posterior has labels twice along chain"),
        ({"shift": 0, "dim": "draw"}, "labels twice along draw"),
        ({"vars": "all"}, "differs between draws"),
        ({"by": "merge"}, "accepted: whole numbers"),
    ):
        wrong = _joined(study, good | change)
        with pytest.raises(ResultsError, match=words):
            cb.save(wrong, tmp_path / "wrong.nc")
        with pytest.raises(ResultsError, match=words):
            cb.value_of_information(problem, wrong, key=jax.random.key(0))
    assert not (tmp_path / "wrong.nc").exists()
