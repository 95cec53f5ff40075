"""The common design is what it is said to be: no listed design is better on the study's draws."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cbrl_bayes as cb
from cbrl_bayes.designs.alternatives import read_alternatives
from cbrl_bayes.designs.solve import DesignSettings, study_designs
from cbrl_bayes.hypergradients import AscentStatus
from cbrl_bayes.problems import two_state


@pytest.fixture(scope="module")
def hills():
    """Pay a little for the cheap effort, or much for both: two hills, a plain ascent finds one.

    At the mean of the draws the low hill is higher; on average over them the high one is.
    """
    problem = two_state(benefit=6.0, costs=(0.5, 3.5), temperature=0.1)
    share = np.linspace(0.05, 0.75, 12)  # of the cheap context
    draws = {
        "context_probability": np.stack([share, 1.0 - share], axis=1),
        "temperature": np.linspace(0.05, 0.6, 12),
    }
    return problem, draws


def mean_on_grid(problem, draws):
    grid = jnp.linspace(0.0, 6.0, 1201)
    names = problem.complete_parameters({n: v[0] for n, v in draws.items()})
    full = {n: jnp.asarray(draws.get(n, np.stack([v] * 12))) for n, v in names.items()}

    def worth(bonus):
        outcomes = jax.vmap(lambda p: cb.leader_outcome(problem, {"bonus": bonus}, p).objective)
        return outcomes(full).mean()

    return grid, np.asarray(jax.jit(lambda g: jax.lax.map(worth, g))(grid))


@pytest.mark.parametrize("start", [0.6, 4.0])
def test_the_common_design_is_the_best_of_all_listed_and_of_a_grid(hills, start):
    problem, draws = hills
    plain = cb.Search(ascent=cb.Ascent(num_steps=60))
    found = study_designs(
        problem,
        draws,
        estimator=cb.Exact(),
        key=jax.random.key(0),
        settings=DesignSettings(search=plain, per_draw=plain, num_search_draws=4),
        alternatives=read_alternatives(problem, {"start": {"bonus": start}}),
    )
    means = found.design_objective.mean(1)
    assert found.designs == ("common", "plug_in", "start")
    assert means[0] == means.max()
    assert (found.regret >= 0.0).all()
    grid, worth = mean_on_grid(problem, draws)
    # Ascents see 4 of 12 draws: the maximum is missed by what that costs, not by a hill.
    assert means[0] == pytest.approx(worth.max(), rel=0.02)
    assert float(found.design_incentive["bonus"][0]) == pytest.approx(
        float(grid[worth.argmax()]), abs=0.3
    )


def test_searches_that_all_fail_are_told_and_nothing_is_lost():
    problem = two_state()
    broken = replace(
        problem,
        leader_reward_fn=None,
        incentive_price_fn=None,
        objective_fn=lambda incentive, *_: jnp.log(incentive["bonus"] - 100.0),
    )
    plain = cb.Search(ascent=cb.Ascent(num_steps=3))
    found = study_designs(
        broken,
        {"temperature": np.array([0.2, 0.3])},
        estimator=cb.Exact(),
        key=jax.random.key(0),
        settings=DesignSettings(search=plain, per_draw=plain),
    )
    assert found.design_status.tolist() == [AscentStatus.NOT_FINITE] * 2
    assert found.status.tolist() == [AscentStatus.NOT_FINITE] * 2
    assert np.isnan(found.objective).all()


def test_no_alternative_is_better_wherever_it_stands_in_the_list(hills):
    """The maximum on all draws is stated; ascents see 4 of them and end beside it."""
    problem, draws = hills
    grid, worth = mean_on_grid(problem, draws)
    plain = cb.Search(ascent=cb.Ascent(num_steps=60))
    best = {"bonus": float(grid[worth.argmax()])}
    stated = {"low": {"bonus": 0.1}, "best": best, "none": "no incentive", "high": {"bonus": 5.9}}
    found = study_designs(
        problem,
        draws,
        estimator=cb.Exact(),
        key=jax.random.key(0),
        settings=DesignSettings(search=plain, per_draw=plain, num_search_draws=4),
        alternatives=read_alternatives(problem, stated),
    )
    means = found.design_objective.mean(1)
    assert means[0] == means.max()
