"""Functions that ask which follower responds: processes and incentives that differ by group."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cbrl_bayes as cb
from cbrl_bayes.behaviour import count_behaviour
from cbrl_bayes.errors import DataError
from cbrl_bayes.inference import BehaviourModel, default_priors, maximum_likelihood
from cbrl_bayes.problems import check_mdps, leader_outcome, mdps_are_valid, two_state
from tests.conformance.checks import SMALL

NAMES, WEIGHTS = ("calm", "rash"), (0.3, 0.7)
COSTS = np.array([[0.5, 1.5], [0.9, 1.9]])  # by follower and context
BENEFITS = np.array([2.0, 3.0])
TEMPERATURE = 0.25


def own_bonuses(**changed):
    """Two groups: each has a cost, a benefit and a bonus of its own; no parameter says who."""

    def on_work(value):
        return jnp.zeros((2, 2)).at[0, 1].set(value)

    def household(incentive, cost, parameters):
        who = parameters["follower"]
        return cb.MDP(
            reward=on_work(incentive["bonus"][who] - cost - 0.4 * who),
            transition=cb.DenseTransition(jnp.zeros((2, 2, 2)).at[..., 1].set(1.0)),
            initial=jnp.array([1.0, 0.0]),
            discount=0.0,
            temperature=parameters["temperature"],
            terminal=jnp.array([False, True]),
        )

    given = {
        "name": "own_bonuses",
        "incentive": cb.IncentiveSpace(
            {"x": jnp.array([0.2, -0.3])},
            lambda choice: {"bonus": cb.problems.scaled_sigmoid(choice["x"], 0.0, 3.0)},
            {"bonus": cb.Labels(("group",), {"group": (("group",), NAMES)})},
        ),
        "contexts": cb.DiscreteContexts(("low", "high"), jnp.array([0.5, 1.5]), (0.5, 0.5)),
        "followers": cb.Followers(NAMES, WEIGHTS),
        "mdp_fn": household,
        "parameters": {"temperature": TEMPERATURE},
        "leader_reward_fn": lambda i, c, p: on_work(jnp.asarray(BENEFITS)[p["follower"]]),
        "incentive_price_fn": lambda i, c, p: on_work(i["bonus"][p["follower"]]),
        "leader_discount": 0.0,
    }
    return cb.Problem(**given | changed)


def chances(bonus, temperature=TEMPERATURE):
    """Probability of working by follower and context, in closed form."""
    return 1.0 / (1.0 + np.exp(-(np.asarray(bonus)[:, None] - COSTS) / temperature))


def by_hand(x):
    bonus = 3.0 / (1.0 + np.exp(-np.asarray(x)))
    gains = chances(bonus) * (BENEFITS - bonus)[:, None]
    return float(np.asarray(WEIGHTS) @ gains.mean(1))


@pytest.fixture(scope="module")
def problem():
    return own_bonuses()


def test_whether_a_problem_asks_is_read_off_its_functions(problem):
    assert problem.tells_followers_apart
    assert problem.all_followers == range(2)
    plain = two_state().with_followers(NAMES, WEIGHTS)
    assert not plain.tells_followers_apart
    assert plain.all_followers == range(1)
    build = plain.mdp_fn
    for changed in (
        {"mdp_fn": lambda i, c, p: build(i, c + p["follower"], p)},
        {"leader_reward_fn": lambda i, c, p: jnp.ones((2, 2)) * p["follower"]},
        {"incentive_price_fn": lambda i, c, p: jnp.ones((2, 2)) * p["follower"]},
    ):
        assert replace(plain, **changed).tells_followers_apart


def test_objective_and_hypergradient_in_closed_form(problem):
    """Against the formula and its central differences; one group's bonus is the other's no more."""
    x = {"x": jnp.array([0.2, -0.3])}
    parameters = problem.default_parameters
    outcome = leader_outcome(problem, x, parameters)
    assert float(outcome.objective) == pytest.approx(by_hand(x["x"]), rel=1e-12)
    slopes = [(by_hand(x["x"] + step) - by_hand(x["x"] - step)) / 2e-5 for step in 1e-5 * np.eye(2)]
    estimator = cb.Exact()
    state = estimator.init(problem, x, key=jax.random.key(0))
    gradient, _, _ = estimator.estimate(problem, x, parameters, state, key=jax.random.key(1))
    # Values of order 1, each rounded at 1e-16, over 2e-5.
    np.testing.assert_allclose(gradient["x"], slopes, atol=1e-9)


SLOW = {"hpgd", "rt_q", "zeroth_order"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in SMALL]
)
def test_estimators_tell_the_groups_apart(problem, name):
    """The mean of many estimates points where the exact hypergradient does, in both entries."""
    estimator, x = SMALL[name], problem.incentive.initial
    exact = cb.Exact()
    wanted, _, _ = exact.estimate(
        problem,
        x,
        problem.default_parameters,
        exact.init(problem, x, key=jax.random.key(0)),
        key=jax.random.key(1),
    )

    @jax.jit
    def estimates(keys):
        def one(state, key):
            found, state, _ = estimator.estimate(
                problem, x, problem.default_parameters, state, key=key
            )
            return state, found["x"]

        state = estimator.init(problem, x, key=jax.random.key(2))
        return jax.lax.scan(one, state, keys)[1]

    # The noisiest of them has a standard deviation some ten times the gradient's length.
    num = {"zeroth_order": 2000, "exact": 2}.get(name, 400)
    found = np.asarray(estimates(jax.random.split(jax.random.key(3), num)))
    if name in ("amd", "sobirl", "penalty"):
        found = found[num // 2 :]
    error = found.std(0) / np.sqrt(len(found))
    size = np.linalg.norm(wanted["x"])
    # Biased by construction: Boltzmann covariance and the penalty, by some per cent.
    allowance = {"boltzmann_covariance": 0.1, "penalty": 0.1}.get(name, 1e-6)
    assert (np.abs(found.mean(0) - wanted["x"]) < 5.0 * error + allowance * size).all()


def test_behaviour_of_each_group_is_simulated_and_read_as_its_own(problem):
    """Shares who work under one bonus each, and the maximum of the likelihood, by formula."""
    bonus = np.array([0.9, 1.6])
    data = cb.simulate_trajectories(
        problem, key=jax.random.key(0), num_episodes=4000, num_steps=1, incentive={"bonus": bonus}
    )
    group, context = data["group"].values, data["context"].values
    works = data["action"].values[:, 0] == 1
    shares = np.array(
        [[works[(group == g) & (context == c)].mean() for c in ("low", "high")] for g in NAMES]
    )
    # 1,000 choices each: five standard errors of at most .0158.
    np.testing.assert_allclose(shares, chances(bonus), atol=0.079)
    counts = count_behaviour(problem, data)
    model = BehaviourModel(problem, counts, default_priors(problem))
    found = maximum_likelihood(model)
    grid = np.linspace(0.15, 0.4, 2001)
    seen = np.array(
        [[((group == g) & (context == c)).sum() for c in ("low", "high")] for g in NAMES]
    )
    likelihood = [
        (seen * (shares * np.log(p) + (1 - shares) * np.log(1 - p))).sum()
        for p in (chances(bonus, t) for t in grid)
    ]
    assert float(found.estimates["temperature"]) == pytest.approx(
        grid[int(np.argmax(likelihood))], abs=2e-4
    )


@pytest.mark.slow
def test_infer_and_design_know_the_groups(problem):
    """Groups that share every parameter are not solved as one, and each gets its own bonus."""
    data = cb.simulate_trajectories(
        problem,
        key=jax.random.key(0),
        num_episodes=400,
        num_steps=1,
        incentive={"bonus": [0.9, 1.6]},
    )
    settings = cb.NUTSSettings(num_chains=1, num_warmup=100, num_samples=100)
    fit = cb.infer(problem, data, key=jax.random.key(1), settings=settings)
    assert "follower" not in fit["posterior"]["temperature"].dims
    temperature = fit["posterior"]["temperature"].values
    assert abs(temperature.mean() - TEMPERATURE) < 4 * temperature.std()
    quick = cb.Search(ascent=cb.Ascent(num_steps=150))
    study = cb.design(
        problem,
        fit,
        key=jax.random.key(2),
        num_draws=10,
        settings=cb.DesignSettings(search=quick, per_draw=quick),
    )
    grid = np.linspace(0.0, 3.0, 3001)
    law = fit["posterior"]["context_probability"].values[0]
    for place, one in enumerate(study["design"]["draw"].values):
        t = temperature[0, one]
        for f in range(2):
            work = 1.0 / (1.0 + np.exp(-(grid[:, None] - COSTS[f]) / t))
            best = ((work @ law[one]) * (BENEFITS[f] - grid)).max()
            bonus = study["design"]["incentive"].values[0, place, f]
            work = 1.0 / (1.0 + np.exp(-(bonus - COSTS[f]) / t))
            reached = (work @ law[one]) * (BENEFITS[f] - bonus)
            assert reached == pytest.approx(best, rel=1e-3)
    experiment = cb.Experiment("rash only", 20, 1, incentive={"bonus": [0.9, 1.6]}, follower="rash")
    valued = cb.value_of_information(
        problem,
        study,
        key=jax.random.key(3),
        experiments=[experiment],
        settings=cb.InformationSettings(num_draws=40),
    )
    assert float(valued["information"]["evsi"][0]) >= 0.0


def test_groups_that_are_no_followers_are_refused(problem):
    for groups in (["men", "calm"], ["all", "all"]):
        data = cb.make_trajectories([[0], [0]], [[1], [0]], context=["low", "high"], group=groups)
        with pytest.raises(DataError, match=r"unknown groups.*accepted: calm, rash"):
            cb.infer(problem, data, key=jax.random.key(0))
    few = cb.simulate_trajectories(problem, key=jax.random.key(0), num_episodes=1, num_steps=1)
    cb.check_trajectories(few, problem)


def test_every_follower_is_checked(problem):
    """What is wrong with the second follower alone is found: when made, in data, in designs."""
    build = problem.mdp_fn
    for wrong, words in (
        (lambda i, c, p: build(i, c, p | {"temperature": 0.5 - p["follower"]}), "temperature"),
        (lambda i, c, p: build(i, jnp.where(p["follower"] == 1, jnp.nan, c), p), "reward"),
    ):
        with pytest.raises(cb.CbrlBayesError, match=words):
            own_bonuses(mdp_fn=wrong)
    cold = own_bonuses(
        mdp_fn=lambda i, c, p: build(
            i, c, p | {"temperature": p["temperature"] + p["follower"] * (1.4 - i["bonus"][1])}
        )
    )
    high = {"x": jnp.array([0.2, 3.0])}
    assert mdps_are_valid(cold, cold.incentive.initial, cold.default_parameters).all()
    valid = mdps_are_valid(cold, high, cold.default_parameters)
    assert valid.tolist() == [[True, False]] * 2
    ended = own_bonuses(
        mdp_fn=lambda i, c, p: cb.mdp.replace_fields(
            build(i, c, p), reward=jnp.zeros((2, 2)).at[0, 1].set(-1e9 * p["follower"])
        )
    )
    data = cb.make_trajectories([[0], [0]], [[1], [1]], context=["low", "low"], group=list(NAMES))
    with pytest.raises(DataError, match=r"follower.*1.*impossible") as caught:
        cb.check_trajectories(data, ended)
    assert "rules out one step" in str(caught.value)


def test_studies_of_other_groups_are_told_apart(problem):
    """A problem that differs for the second follower only has another fingerprint."""
    build = problem.mdp_fn
    other = own_bonuses(mdp_fn=lambda i, c, p: build(i, c + 0.1 * p["follower"], p))
    marks = {
        tuple(np.concatenate([np.ravel(a) for a in p.signature()]).tolist())
        for p in (problem, other, own_bonuses())
    }
    assert len(marks) == 2
    draws = {name: np.stack([value] * 2) for name, value in problem.default_parameters.items()}
    assert check_mdps(problem, np.zeros((1, 2)), draws).findings == ("",)


@pytest.mark.parametrize("k", [1e-6, 1.0, 1e6])
def test_scales_see_every_group(k):
    """A leaf that only the second group reacts to has a scale in the unit of money."""
    money = own_bonuses()

    def times(function):
        return lambda i, c, p: k * function({"bonus": i["bonus"] / k}, c, p)

    def household(incentive, cost, parameters):
        hot = parameters | {"temperature": parameters["temperature"] / k}
        mdp = money.mdp_fn({"bonus": incentive["bonus"] / k}, cost, hot)
        return cb.mdp.replace_fields(mdp, reward=k * mdp.reward, temperature=k * mdp.temperature)

    scaled = own_bonuses(
        incentive=cb.IncentiveSpace(
            {"calm": jnp.zeros(()), "rash": jnp.zeros(())},
            lambda x: {"bonus": jnp.stack([x["calm"], x["rash"]])},
            {"bonus": cb.Labels(("group",))},
        ),
        mdp_fn=household,
        parameters={"temperature": k * TEMPERATURE},
        leader_reward_fn=times(money.leader_reward_fn),
        incentive_price_fn=times(money.incentive_price_fn),
    )
    sizes = scaled.scale.incentive / k
    assert (sizes > 0.05).all()
    assert (sizes < 5.0).all()
