"""Followers who meet: two roads against a closed form, tolls against marginal external cost."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit

import cbrl_bayes as cb
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.problems import equilibria, leader_outcome, respond_everywhere
from cbrl_bayes.status import SolveStatus
from cbrl_bayes.workflow import behaviour_model

FREE, SLOPE = np.array([1.0, 1.5]), np.array([2.0, 0.5])
TEMPERATURE = 0.2


def make_roads(slope=SLOPE, surplus=False, unit=1.0, size=1.0):
    """Travellers take one of two roads; the first can have a toll. Amounts in ``unit``."""
    free, slope = unit * jnp.asarray(FREE), unit * jnp.asarray(slope)

    def times(parameters):
        return free + slope * parameters["population"] / size

    def mdp_fn(incentive, context, parameters):
        toll = jnp.array([1.0, 0.0]) * incentive["toll"]
        return cb.MDP(
            (-times(parameters) - toll)[None],
            cb.DenseTransition(jnp.ones((1, 2, 1))),
            jnp.ones(1),
            0.9,
            parameters["temperature"],
            terminal=np.array([True]),
        )

    def welfare(incentive, policy, context, parameters):
        variety = -(policy * jnp.log(policy)).sum() * parameters["temperature"]
        return -policy[0] @ times(parameters) + (variety if surplus else 0.0)

    return cb.Problem(
        name="roads",
        incentive=cb.IncentiveSpace(
            {"toll": jnp.zeros(())}, lambda x: {"toll": unit * x["toll"]}, {"toll": cb.Labels()}
        ),
        contexts=cb.DiscreteContexts(("morning",), jnp.zeros(1), (1.0,)),
        mdp_fn=mdp_fn,
        parameters={"temperature": unit * TEMPERATURE},
        objective_fn=welfare,
        population=cb.Population(
            lambda incentive, visits, context, parameters: visits[0],
            jnp.full(2, 0.5 * size),
            size=size,
        ),
    )


def share_by_hand(toll, slope=SLOPE, temperature=TEMPERATURE):
    def gap(share):
        cost = FREE + slope * np.array([share, 1.0 - share])
        return share - expit((cost[1] - cost[0] - toll) / temperature)

    return brentq(gap, 0.0, 1.0, xtol=1e-14)


def test_two_roads():
    problem = make_roads()
    solve = jax.jit(
        lambda toll: cb.equilibrium(problem, {"toll": toll}, problem.default_parameters)
    )
    for toll in (0.0, 0.3, 2.0):
        found = solve(toll)
        assert found.statistic[0] == pytest.approx(share_by_hand(toll), abs=1e-9)
        assert int(found.status) == SolveStatus.CONVERGED


def test_neither_money_nor_heads_have_a_unit():
    problem = make_roads(unit=1e6, size=1e6)
    toll = {"toll": jnp.asarray(0.3e6)}
    found = cb.equilibrium(problem, toll, problem.default_parameters)
    assert found.statistic[0] / 1e6 == pytest.approx(share_by_hand(0.3), abs=1e-9)


def test_entries_of_a_statistic_have_units_of_their_own():
    """Flows beside a sum of 1e12: a search that looks at the largest alone leaves the flows."""
    plain = make_roads()

    def flows_and_money(incentive, visits, context, parameters):
        return jnp.append(visits[0], 1e12 * visits[0, 0])

    def mdp_fn(incentive, context, parameters):
        flows = parameters["population"][:2]
        return plain.mdp_fn(incentive, context, {**parameters, "population": flows})

    population = cb.Population(flows_and_money, jnp.array([0.5, 0.5, 5e11]))
    problem = replace(
        plain,
        mdp_fn=mdp_fn,
        population=population,
        objective_fn=lambda i, policy, c, p: policy.sum(),
    )
    given = {"toll": 0.3}, problem.default_parameters
    share = share_by_hand(0.3)
    found = cb.equilibrium(problem, *given)
    assert int(found.status) == 0
    np.testing.assert_allclose(found.statistic, [share, 1.0 - share, 1e12 * share], rtol=1e-9)
    assert len(equilibria(problem, *given, key=jax.random.key(0), num_starts=4)) == 1
    # A wrong flow is seen, however small beside the money.
    wrong = found.statistic.at[1].add(1e-3)
    one_step = replace(problem, population=replace(population, max_steps=1))
    assert int(cb.equilibrium(one_step, *given, start=wrong).status) == SolveStatus.UNSETTLED


@pytest.fixture(scope="module")
def gradient():
    """The exact hypergradient through the estimator, as a function of toll and temperature."""
    problem, estimator = make_roads(), cb.Exact()
    state = estimator.init(problem, problem.incentive.initial, key=jax.random.key(0))

    def slope(toll, temperature):
        return estimator.estimate(
            problem,
            {"toll": toll},
            {"temperature": temperature, "context_probability": jnp.ones(1)},
            state,
            key=jax.random.key(1),
        )

    return jax.jit(slope)


def test_the_hypergradient_counts_what_the_incentive_does_to_the_crowd(gradient):
    def worth(toll, temperature):
        share = share_by_hand(toll, temperature=temperature)
        both = np.array([share, 1.0 - share])
        return -both @ (FREE + SLOPE * both)

    for toll, temperature in ((0.3, 0.2), (-0.5, 0.1), (1.0, 1.0)):
        slope, _, info = gradient(toll, temperature)
        step = 1e-5
        central = (worth(toll + step, temperature) - worth(toll - step, temperature)) / (2 * step)
        assert float(slope["toll"]) == pytest.approx(central, rel=1e-6)
        assert float(info.objective) == pytest.approx(worth(toll, temperature), rel=1e-9)


@pytest.mark.slow
def test_the_best_toll_is_the_marginal_external_cost():
    """With the travellers' variety in welfare at any temperature; without it when they are cold."""

    def best(problem, temperature):
        known = problem.complete_parameters({"temperature": temperature})
        loss = jax.jit(lambda toll: -leader_outcome(problem, {"toll": toll}, known).objective)
        toll = minimize_scalar(lambda t: float(loss(t)), bounds=(-1, 2), options={"xatol": 1e-9}).x
        share = share_by_hand(toll, temperature=temperature)
        return toll, SLOPE @ np.array([share, share - 1.0])

    for temperature in (0.05, 0.2, 1.0):
        toll, external = best(make_roads(surplus=True), temperature)
        assert toll == pytest.approx(external, abs=1e-5)
    gaps = [abs(np.subtract(*best(make_roads(), t))) for t in (0.2, 0.05, 0.0125)]
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2]


@pytest.mark.slow
def test_several_equilibria_are_found():
    """A crowd that attracts: with attraction 1 at temperature .1 all on either road, or between."""
    problem = replace(make_roads(slope=np.array([-1.0, -1.0])))
    toll = {"toll": jnp.asarray(0.5)}  # makes both roads alike
    found = equilibria(problem, toll, {"temperature": 0.1}, key=jax.random.key(0), num_starts=12)
    shares = sorted(float(one.statistic[0]) for one in found)
    wanted = [brentq(lambda q: q - expit((2 * q - 1) / 0.1), a, b) for a, b in ((0, 0.3), (0.7, 1))]
    assert shares[0] == pytest.approx(wanted[0], abs=1e-6)
    assert shares[-1] == pytest.approx(wanted[1], abs=1e-6)
    assert len(shares) <= 3


def test_watching_estimators_and_wrong_statistics_are_refused():
    problem = make_roads()
    estimator = cb.HPGD(num_rollouts=4, num_branches=2, max_steps=5)
    x, parameters = problem.incentive.initial, problem.default_parameters
    state = estimator.init(problem, x, key=jax.random.key(0))
    with pytest.raises(InvalidInputError, match=r"followers of problem 'roads' meet"):
        estimator.estimate(problem, x, parameters, state, key=jax.random.key(0))
    short = cb.Population(lambda i, visits, c, p: visits[0, :1], jnp.zeros(2))
    with pytest.raises(InvalidInputError, match=r"received: \(1,\); accepted: \(2,\), as start"):
        replace(problem, population=short)
    for statistic, said in (
        (lambda visits, context, parameters: visits[0], "statistic_fn fails.*TypeError"),
        (lambda i, visits, c, p: jnp.ones(2) * float(visits[0, 0]), "statistic_fn fails"),
        (lambda i, visits, c, p: {"flow": visits[0]}, "wrong shape; received: dict"),
    ):
        with pytest.raises(InvalidInputError, match=said):
            replace(problem, population=cb.Population(statistic, jnp.zeros(2)))
    circular = cb.Population(lambda i, v, c, p: p["population"], jnp.zeros(2))
    with pytest.raises(InvalidInputError, match="asks for 'population'"):
        replace(problem, population=circular)
    with pytest.raises(InvalidInputError, match="no parameter can be called 'population'"):
        replace(problem, parameters={"temperature": 1.0, "population": 0.0})


def test_what_does_not_settle_says_so():
    problem = make_roads(slope=np.array([2e4, 0.0]))
    impatient = replace(problem, population=replace(problem.population, max_steps=1))
    found = cb.equilibrium(impatient, {"toll": jnp.asarray(0.0)}, problem.default_parameters)
    assert int(found.status) == SolveStatus.UNSETTLED
    assert float(found.residual) > 1e-8
    _, status = respond_everywhere(
        impatient, {"toll": jnp.asarray(0.0)}, problem.default_parameters
    )
    assert int(status.max()) != SolveStatus.CONVERGED
    with pytest.raises(InvalidInputError, match="no equilibrium was found"):
        cb.simulate_trajectories(impatient, key=jax.random.key(0), num_episodes=2, num_steps=1)


def test_groups_that_are_no_followers_make_no_population():
    problem, toll = make_roads(), {"baseline": {"toll": 0.0}}
    data = cb.make_trajectories(
        [[0], [0]], [[0], [1]], group=["calm", "rash"], context=["morning"] * 2, incentives=toll
    )
    known = {"temperature": cb.PerGroup(dist.LogNormal(0.0, 1.0))}
    with pytest.raises(InvalidInputError, match="must be the problem's followers"):
        behaviour_model(problem, data, priors=known)
    with pytest.raises(InvalidInputError, match="start is no population statistic"):
        cb.equilibrium(problem, {"toll": 0.0}, problem.default_parameters, start=jnp.ones(3))
    with pytest.raises(InvalidInputError, match="parts of the incentive are missing: toll"):
        cb.equilibrium(problem, {"tol": 0.0}, problem.default_parameters)


def make_beach(game):
    """The game of `mfglib_beach.py`: who is where at which time is the population statistic."""
    T, N = game["steps"], game["places"]
    place, move = np.arange(N), np.array([-1, 0, 1])
    law = np.zeros((T * N, 3, T * N))
    for t in range(T - 1):
        for drift, chance in zip(move, [0.25, 0.5, 0.25], strict=True):
            reached = np.clip(place[:, None] + move + drift, 0, N - 1)
            np.add.at(law, (t * N + place[:, None], np.arange(3), (t + 1) * N + reached), chance)
    law[(T - 1) * N :, :, 0] = 1.0
    comfort = np.abs(place - game["bar"])[:, None] - np.abs(move) / N
    initial = np.zeros(T * N)
    initial[:N] = 1.0 / N
    at_bar = np.tile(place == game["bar"], T)[:, None]

    def mdp_fn(incentive, context, parameters):
        crowd = jnp.maximum(parameters["population"], 1e-12)
        return cb.MDP(
            jnp.tile(comfort, (T, 1)) - jnp.log(crowd)[:, None] - incentive["fee"] * at_bar,
            cb.DenseTransition(law),
            initial,
            1.0,
            parameters["temperature"],
            terminal=np.arange(T * N) >= (T - 1) * N,
        )

    return cb.Problem(
        name="beach",
        incentive=cb.IncentiveSpace({"fee": jnp.zeros(())}, lambda x: x, {"fee": cb.Labels()}),
        contexts=cb.DiscreteContexts(("summer",), jnp.zeros(1), (1.0,)),
        mdp_fn=mdp_fn,
        parameters={"temperature": game["temperature"]},
        # A crowd is a nuisance to the leader, wherever it is.
        leader_reward_fn=lambda i, c, p: -jnp.broadcast_to(p["population"][:, None], (T * N, 3)),
        leader_discount=1.0,
        population=cb.Population(
            lambda incentive, visits, context, parameters: visits.sum(1), jnp.full(T * N, 1.0 / N)
        ),
    )


@pytest.fixture(scope="module")
def game():
    """What mfglib found."""
    return json.loads((Path(__file__).parent / "mfglib_beach.json").read_text())


def test_a_crowd_that_is_watched_has_settled():
    """Nothing is unknown of two roads but who takes them: the learned model's slope is exact."""
    problem, x, known = make_roads(), {"toll": jnp.asarray(0.3)}, {"temperature": TEMPERATURE}
    known, key = problem.complete_parameters(known), jax.random.key(3)

    def estimate(estimator):
        state = estimator.init(problem, x, key=key)
        return jax.jit(lambda key: estimator.estimate(problem, x, known, state, key=key))(key)

    exact, _, told = estimate(cb.Exact())
    slope, after, info = estimate(cb.LearnedModel(num_rollouts=500, max_steps=2))
    assert float(slope["toll"]) == pytest.approx(float(exact["toll"]), rel=1e-6)
    assert float(info.objective) == pytest.approx(float(told.objective), rel=1e-9)
    taken = np.asarray(after.visits)[0, 0, 0]
    assert taken.sum() == 500
    assert taken[0] / 500 == pytest.approx(share_by_hand(0.3), abs=0.1)
    with pytest.raises(InvalidInputError, match=r"respond at best; received: QLearningFollower"):
        estimate(cb.LearnedModel(num_rollouts=4, oracle=cb.followers.QLearningFollower()))


@pytest.mark.slow
def test_watching_estimators_of_a_mean_field_game(game):
    """A learned law's slope comes near the exact one; simulated returns have the exact mean."""
    problem, x = make_beach(game), {"fee": jnp.asarray(0.5)}
    known, key = problem.default_parameters, jax.random.key(3)

    def estimate(estimator):
        state = estimator.init(problem, x, key=key)
        return jax.jit(lambda key: estimator.estimate(problem, x, known, state, key=key)[::2])(key)

    exact, told = estimate(cb.Exact())
    slope, info = estimate(cb.LearnedModel(num_rollouts=4000, max_steps=5))
    assert float(slope["fee"]) == pytest.approx(float(exact["fee"]), rel=0.05)
    assert float(info.objective) == pytest.approx(float(told.objective), rel=0.01)
    assert 0.0 <= float(info.prior_share) < 0.05
    _, simulated = estimate(cb.ZerothOrder(num_rollouts=4000, max_steps=5))
    assert float(simulated.objective) == pytest.approx(float(told.objective), rel=0.02)


def test_a_mean_field_game_as_mfglib_solves_it(game):
    problem = make_beach(game)
    fee, known = {"fee": jnp.zeros(())}, problem.default_parameters
    found = cb.equilibrium(problem, fee, known)
    assert int(found.status) == SolveStatus.CONVERGED
    share = np.asarray(found.statistic).reshape(game["steps"], game["places"])
    np.testing.assert_allclose(share, game["share_by_time_and_place"], atol=1e-4)
    log_policy, _ = respond_everywhere(problem, fee, known)
    theirs = np.reshape(game["policy"], (-1, 3))
    np.testing.assert_allclose(np.exp(log_policy[0, 0]), theirs, atol=5e-4)
    assert game["exploitability"] < 1e-4
