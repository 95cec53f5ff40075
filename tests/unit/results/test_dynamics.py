"""A law that was learned, in the tree: its group, its words, and its part of the error budget."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cbrl_bayes as cb
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.problems import LAW, DiscreteContexts, leader_outcome, with_unknown_law
from cbrl_bayes.results.law_words import law_notes
from tests.conftest import make_workshop

QUICK = cb.Search(ascent=cb.Ascent(num_steps=40))
DESIGN = cb.DesignSettings(search=QUICK, per_draw=QUICK)
RNG = np.random.default_rng(0)
LAWS = RNG.dirichlet([6.0, 3.0], (12, 2, 2))
TEMPERATURES = RNG.uniform(0.2, 0.5, 12)


@pytest.fixture(scope="module")
def workshop():
    return with_unknown_law(make_workshop())


@pytest.fixture(scope="module")
def fitted(workshop):
    data = cb.simulate_trajectories(workshop, key=jax.random.key(0), num_episodes=6, num_steps=10)
    settings = cb.NUTSSettings(num_chains=2, num_warmup=200, num_samples=500)
    return cb.infer(workshop, data, key=jax.random.key(2), settings=settings)


def budget(problem, draws):
    return cb.design(problem, draws, key=jax.random.key(1), num_draws=12, settings=DESIGN)


def test_a_fit_says_what_it_learned_of_the_law_and_how(fitted):
    assert fitted["posterior"][LAW].dims == ("chain", "draw", "state", "action", "successor")
    told = fitted["dynamics"]
    assert int(told["transition_count"].sum()) == told.attrs["transitions"] == 54
    assert (told.attrs["learned"], told.attrs["free_probabilities"]) == ("joint", 4)
    seen = told["transition_count"].sum("successor")
    assert told.attrs["seldom_seen"] == int((seen < 10).sum())
    words = str(cb.summary(fitted))
    assert "learned from 54 transitions (4 free probabilities), jointly" in words
    assert f"{told.attrs['seldom_seen']} of 4 pairs of state and action were seen fewer" in words


def test_it_comes_back_from_a_file(fitted, workshop, tmp_path):
    for name in ("fit.nc", "fit.zarr"):
        cb.save(fitted, tmp_path / name)
        back = cb.load(tmp_path / name)
        cb.results.check_tree(back)
        np.testing.assert_array_equal(back["posterior"][LAW], fitted["posterior"][LAW])
        assert back["dynamics"].attrs == fitted["dynamics"].attrs
        assert law_notes(back) == law_notes(fitted)
    del back["dynamics"]["concentration"]
    with pytest.raises(cb.errors.ResultsError, match="dynamics/concentration is missing"):
        cb.results.check_tree(back)


def test_a_problem_whose_law_is_known_does_not_take_it(fitted, workshop):
    for draws in (fitted, {LAW: LAWS, "temperature": TEMPERATURES}):
        with pytest.raises(InvalidInputError, match=r"was learned.*with_unknown_law"):
            cb.results.from_draws(make_workshop(), draws)
    tree = cb.results.from_draws(workshop, {LAW: LAWS, "temperature": TEMPERATURES})
    assert tree["posterior"][LAW].dims[2:] == ("state", "action", "successor")
    with pytest.raises(InvalidInputError, match="do not fit the problem"):
        cb.results.from_draws(workshop, {LAW: LAWS[..., :1], "temperature": TEMPERATURES})


def test_laws_of_contexts_are_labelled_by_context():
    plain = make_workshop()

    def mdp_fn(incentive, cost, parameters):
        mdp = plain.mdp_fn(incentive, cost, parameters)
        moved = mdp.transition.probability * jnp.array([1.0, cost])
        law = type(mdp.transition)(moved / moved.sum(-1, keepdims=True))
        return cb.MDP(mdp.reward, law, mdp.initial, mdp.discount, mdp.temperature)

    contexts = DiscreteContexts(("easy", "hard"), jnp.array([1.0, 2.0]), (0.5, 0.5))
    fields = {"name": "two", "contexts": contexts, "mdp_fn": mdp_fn}
    problem = with_unknown_law(cb.Problem(**(_fields(plain) | fields)))
    data = cb.simulate_trajectories(problem, key=jax.random.key(0), num_episodes=8, num_steps=6)
    settings = cb.NUTSSettings(num_chains=1, num_warmup=20, num_samples=8)
    fit = cb.infer(problem, data, key=jax.random.key(1), settings=settings)
    law = fit["posterior"][LAW]
    assert law.dims[2:] == ("context", "state", "action", "successor")
    assert law["context"].values.tolist() == ["easy", "hard"]
    assert int(fit["dynamics"]["transition_count"].sum()) == 8 * 5
    turned = fit.copy(deep=True)
    turned["posterior"] = turned["posterior"].to_dataset().isel(context=[1, 0])
    again = cb.results.from_draws(problem, turned)["posterior"]
    np.testing.assert_array_equal(again[LAW], law)


def _fields(problem):
    names = ("incentive", "parameters", "leader_reward_fn", "incentive_price_fn")
    return {name: getattr(problem, name) for name in names} | {"leader_discount": 0.8}


def test_the_error_budget_has_a_row_for_the_dynamics(workshop):
    study = budget(workshop, {LAW: LAWS, "temperature": TEMPERATURES})
    parts = study["error_budget"]["variance"].sel(design="common")
    decision = study["decision"].sel(design="common")
    bonus = {"bonus": jnp.asarray(float(decision["incentive"]))}
    known = workshop.default_parameters

    def worth(temperature, law):
        given = known | {"temperature": jnp.asarray(temperature), LAW: jnp.asarray(law)}
        return float(leader_outcome(workshop, bonus, given).objective)

    here = np.array([worth(t, law) for t, law in zip(TEMPERATURES, LAWS, strict=True)])
    there = np.array(
        [worth(t, law) for t, law in zip(TEMPERATURES, np.roll(LAWS, 6, axis=0), strict=True)]
    )
    half = ((here - there) ** 2).mean() / 2
    wanted = min(half, here.var(ddof=1))
    assert float(parts.sel(source="dynamics")) == pytest.approx(wanted, rel=1e-6)
    both = parts.sel(source=["posterior", "dynamics"]).sum()
    assert float(both) == pytest.approx(here.var(ddof=1), rel=1e-6)


def test_what_is_known_has_no_part(workshop):
    law_alone = budget(workshop, {LAW: LAWS, "temperature": np.full(12, 0.3)})
    share = law_alone["error_budget"]["share"].sel(design="common")
    assert float(share.sel(source="dynamics")) > 0.5  # half a mean square of few draws
    one = np.broadcast_to(LAWS[:1], LAWS.shape)
    for problem, draws in (
        (workshop, {LAW: one, "temperature": TEMPERATURES}),
        (make_workshop(), {"temperature": TEMPERATURES}),
    ):
        share = budget(problem, draws)["error_budget"]["share"].sel(design="common")
        assert float(share.sel(source="dynamics")) == 0.0
        assert float(share.sel(source="posterior")) == pytest.approx(1.0)
