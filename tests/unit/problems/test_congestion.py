"""Roads that fill: traffic in equilibrium on a network, its slopes, and the tolls of Pigou."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import root

import cbrl_bayes as cb
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.problems import (
    Congestion,
    Population,
    RoadNetwork,
    Trips,
    equilibrium,
    leader_outcome,
    respond,
    route_choice,
    shared_network,
)
from cbrl_bayes.problems.equilibrium import statistic_of_responses
from tests.unit.problems.test_route_choice import make_grid

TOLLS = {"toll": jnp.array([0.1, 0.2, 0.3])}


@pytest.fixture(scope="module")
def crowded():
    """A town large enough for sparse solves, whose busiest link takes half as long again."""
    return route_choice(
        *make_grid(10, 12), tolled=[3, 50, 120], congestion=Congestion(1000.0, 330.0)
    )


def test_all_contexts_by_one_solve_make_the_traffic_of_each_by_itself(crowded):
    known, some = crowded.default_parameters, jnp.linspace(0.0, 300.0, 436)
    one = crowded.follower_parameters({**known, "population": some}, 0)
    assert shared_network(crowded, TOLLS, crowded.contexts.values, one) is not None
    together, status = statistic_of_responses(crowded, TOLLS, known, some)
    assert int(status) == 0
    # The statistic of one context alone depends on the context: no shared solve is used.
    own = crowded.population.statistic_fn
    apart = Population(
        lambda incentive, visits, context, one: (
            own(incentive, visits, context, one) + 0.0 * context
        ),
        crowded.population.start,
        size=crowded.population.size,
    )
    alone, _ = statistic_of_responses(replace(crowded, population=apart), TOLLS, known, some)
    np.testing.assert_allclose(together, alone, rtol=1e-9, atol=1e-9)


def test_what_does_not_add_up_over_contexts_is_not_added_up(crowded):
    """A constant that each follower adds; squares, steps, and what has no derivative."""
    known, some = crowded.default_parameters, jnp.full(436, 50.0)
    own = crowded.population.statistic_fn

    def traffic(change):
        statistic = Population(
            lambda i, visits, c, p: change(own(i, visits, c, p)), jnp.ones(436), size=2.0
        )
        return statistic_of_responses(replace(crowded, population=statistic), TOLLS, known, some)[0]

    plain = traffic(lambda entries: entries)
    np.testing.assert_allclose(traffic(lambda entries: entries + 3.0), plain + 6.0, rtol=1e-9)
    one = crowded.follower_parameters({**known, "population": some}, 0)
    by_hand = []
    for context, share in enumerate(crowded.contexts.probability):
        mdp, response = respond(crowded, TOLLS, context, one)
        visits = cb.mdp.occupancy(mdp, response.policy)
        by_hand.append((2.0 * share, own(TOLLS, visits, context, one)))
    for change in (
        lambda entries: entries**2,
        lambda entries: (entries > 0.05).astype(float),
        lambda entries: jnp.floor(10.0 * entries),
        lambda entries: entries + jnp.ceil(entries),
        lambda entries: jax.lax.stop_gradient(entries) ** 2,
    ):
        wanted = sum(share * change(entries) for share, entries in by_hand)
        np.testing.assert_allclose(traffic(change), wanted, rtol=1e-9)


def test_traffic_settles_and_its_slope_is_exact(crowded):
    known = crowded.default_parameters

    def traffic(toll):
        return equilibrium(crowded, {"toll": toll}, known)

    found = jax.jit(traffic)(TOLLS["toll"])
    assert int(found.status) == 0
    slowdown = Congestion(1000.0, 330.0).slowdown(found.statistic)
    assert 1.2 < float(slowdown.max()) < 2.0
    again, _ = statistic_of_responses(crowded, TOLLS, known, found.statistic)
    np.testing.assert_allclose(again, found.statistic, rtol=1e-8)
    way = jnp.array([1.0, -0.5, 2.0])
    moved = jax.jit(lambda t: jax.jvp(lambda t: traffic(t).statistic, (t,), (way,))[1])
    step = 1e-4
    both = [jax.jit(traffic)(TOLLS["toll"] + side * step * way).statistic for side in (1.0, -1.0)]
    np.testing.assert_allclose(
        moved(TOLLS["toll"]), (both[0] - both[1]) / (2 * step), rtol=1e-4, atol=1e-4
    )


@pytest.mark.slow
def test_the_tolls_of_pigou_are_where_the_hypergradient_vanishes():
    """A toll on every link, each the time that one more entry costs all others."""
    network, trips = make_grid(3, 3)
    roads = Congestion(100.0, 25.0)
    every = range(network.num_links)
    problem = route_choice(
        network, trips, tolled=every, relief=0.0, largest_toll=50.0, congestion=roads
    )
    time = np.zeros(network.num_links)
    time[network.to_link] = network.time
    known = problem.default_parameters
    settle = jax.jit(lambda toll: equilibrium(problem, {"toll": toll}, known).statistic)
    toll = jnp.zeros(network.num_links)
    for _ in range(60):
        toll = 0.5 * toll + 0.5 * time * roads.external_share(settle(toll))
    assert 0.1 < float(toll.max()) < 50.0
    x = problem.incentive.unconstrained_for({"toll": np.maximum(toll, 1e-6)})
    objective = jax.jit(jax.value_and_grad(lambda x: leader_outcome(problem, x, known).objective))
    at_best, slope = objective(x)
    without, _ = objective(problem.incentive.unconstrained_for({"toll": 0.0 * time + 1e-6}))
    half = objective(problem.incentive.unconstrained_for({"toll": 0.5 * np.maximum(toll, 1e-6)}))
    assert float(at_best) > float(half[0]) > float(without)
    steep = float(jnp.abs(half[1]["toll_logit"]).max())
    assert float(jnp.abs(slope["toll_logit"]).max()) < 1e-5 * steep


def test_roads_that_never_fill_are_the_network_without_congestion():
    town = make_grid(3, 3)
    plain = route_choice(*town, tolled=[3, 5])
    free = small_town(town, Congestion(100.0, 25.0, strength=0.0))
    crowd = {**free.default_parameters, "population": jnp.full(24, 80.0)}
    x = plain.incentive.initial
    without = leader_outcome(plain, x, plain.default_parameters).objective
    np.testing.assert_allclose(leader_outcome(free, x, crowd).objective, without, rtol=1e-12)
    full = small_town(town, Congestion(100.0, 25.0))
    assert float(leader_outcome(full, x, crowd).objective) < float(without)


def small_town(town, congestion):
    """The same tolls with other roads."""
    return route_choice(*town, tolled=[3, 5], congestion=congestion)


def test_capacities_that_cannot_be_are_refused():
    town = make_grid(3, 3)
    with pytest.raises(InvalidInputError, match=r"shape \(3,\); accepted: one number, or shape"):
        route_choice(*town, congestion=Congestion(100.0, np.ones(3)))
    with pytest.raises(InvalidInputError, match=r"capacity of a link is not positive.*0\.0"):
        Congestion(100.0, np.array([1.0, 0.0]))
    with pytest.raises(InvalidInputError, match=r"power = 0\.5; accepted: power >= 1"):
        Congestion(100.0, 25.0, power=0.5)
    with pytest.raises(
        InvalidInputError, match=r"congestion has the wrong type; received: the bool True"
    ):
        route_choice(*town, congestion=True)
    problem = small_town(town, Congestion(100.0, 25.0))
    with pytest.raises(InvalidInputError, match=r"'toll' has the wrong shape; received: \(3,\)"):
        equilibrium(problem, {"toll": np.zeros(3)}, problem.default_parameters)
    known = {**problem.default_parameters, "population": np.ones(3)}
    with pytest.raises(InvalidInputError, match=r"given has the wrong shape; received: \(3,\)"):
        leader_outcome(problem, problem.incentive.initial, known)


def test_a_small_game_by_enumeration_of_its_routes():
    """Braess' four corners: shares of three routes as logit gives them under their own times."""
    # Links: 0 into the town, 1 o-a, 2 o-b, 3 a-b, 4 a-d, 5 b-d, 6 out of it; a long way back.
    turns = np.array([[0, 1], [0, 2], [1, 3], [1, 4], [2, 5], [3, 5], [4, 6], [5, 6], [6, 0]]).T
    free = np.array([40.0, 1.0, 3.0, 0.2, 3.0, 1.0, 0.5])
    no = [False] * turns.shape[1]
    network = RoadNetwork(7, *turns, free[turns[1]], no, no, [6], [0], ("work",))
    trips = Trips(np.array([0]), [np.array([0, 1, 4, 6])])
    roads = Congestion(100.0, 40.0, strength=1.0, power=2.0)
    problem = route_choice(network, trips, tolled=[3], congestion=roads, time=-1.5)
    routes = np.zeros((3, 7))
    for row, links in zip(routes, ([1, 4, 6], [2, 5, 6], [1, 3, 5, 6]), strict=True):
        row[links] = 1.0
    known = problem.default_parameters
    settle = jax.jit(lambda toll: equilibrium(problem, {"toll": toll}, known))
    for toll in (0.0, 1.3):
        own = toll * routes[:, 3]

        def shares(flow, own=own):
            minutes = routes @ (free * np.asarray(roads.slowdown(flow))) + own
            worth = known["time"] * minutes + known["link_constant"] * routes.sum(1)
            chance = np.exp(worth - worth.max())
            return chance / chance.sum()

        found = root(lambda flow, s=shares: 100.0 * s(flow) @ routes - flow, np.full(7, 30.0))
        assert found.success
        settled = settle(jnp.array([toll]))
        assert int(settled.status) == 0
        np.testing.assert_allclose(settled.statistic, found.x, rtol=1e-6, atol=1e-6)
