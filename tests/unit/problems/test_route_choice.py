"""Route choice: the network, its shared solve, its likelihood, its tolls, and the real data."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import cbrl_bayes as cb
from cbrl_bayes.behaviour import count_behaviour, load_borlange, route_trajectories
from cbrl_bayes.errors import DataError, InvalidInputError
from cbrl_bayes.inference.likelihood import choice_rows, policies, row_policies
from cbrl_bayes.mdp import DenseLU, SolveStatus, best_response, has_linear_values
from cbrl_bayes.problems import (
    RoadNetwork,
    Trips,
    borlange,
    leader_outcome,
    respond,
    route_choice,
    shared_network,
)

RAW = Path(os.environ.get("CBRL_DATA_DIR", "../shared/data")) / "borlange"
needs_data = pytest.mark.skipif(
    not RAW.is_dir(), reason="the Borlange files are not at hand (set CBRL_DATA_DIR)"
)
STEPS = np.array([[0, 1], [-1, 0], [0, -1], [1, 0]])  # east, north, west, south


def make_grid(rows, columns, seed=0):
    """A grid of two-way streets; some 20 trips to three destinations, turning at random."""
    rng = np.random.default_rng(seed)
    places = [(r, c) for r in range(rows) for c in range(columns)]
    links, number = [], {}
    for r, c in places:
        for way, (down, right) in enumerate(STEPS):
            if 0 <= r + down < rows and 0 <= c + right < columns:
                number[r, c, way] = len(links)
                links.append((r, c, way))
    turns = []
    for first, (r, c, way) in enumerate(links):
        there = r + STEPS[way][0], c + STEPS[way][1]
        for onward in range(4):
            if (*there, onward) in number:
                turns.append((first, number[(*there, onward)], (onward - way) % 4))
    begin, end, kind = np.array(turns).T
    time = 0.1 + rng.random(len(links))
    ends = rng.choice(len(links), 3, replace=False)
    network = RoadNetwork(
        len(links), begin, end, time[end], kind == 1, kind == 2, ends, [0, 1, 2], ("a", "b", "c")
    )
    return network, Trips(*_wander(network, ends, rng))


def _wander(network, ends, rng):
    """Walk at random until an end is met: a destination for each trip, and its links."""
    goals, rows = [], []
    for _ in range(20):
        row = [int(rng.integers(network.num_links))]
        while row[-1] not in ends or len(row) < 2:
            onward = network.to_link[network.from_link == row[-1]]
            row.append(int(rng.choice(onward)))
        goals.append(int(np.flatnonzero(ends == row[-1])[0]))
        rows.append(np.array(row[-30:]))
    return np.array(goals), rows


@pytest.fixture(scope="module")
def town():
    return make_grid(10, 12)


@pytest.fixture(scope="module")
def problem(town):
    return route_choice(*town, tolled=[3, 50, 120], relieved=[50], largest_toll=2.0)


@pytest.fixture(scope="module")
def one(problem):
    return problem.follower_parameters(problem.default_parameters, 0)


@pytest.fixture(scope="module")
def tolls(problem):
    return problem.incentive.transform(problem.incentive.initial)


def test_the_sparse_solve_is_that_of_newtons_method(problem, tolls, one):
    mdp, found = respond(problem, tolls, 1, one)
    assert has_linear_values(mdp)
    assert int(found.status) == SolveStatus.CONVERGED
    newton = best_response(mdp, linear_solver=DenseLU())
    assert int(newton.status) == SolveStatus.CONVERGED
    np.testing.assert_allclose(found.values, newton.values, rtol=1e-10)
    np.testing.assert_allclose(found.policy, newton.policy, atol=1e-10)
    assert (np.asarray(found.policy)[~np.asarray(mdp.is_open)] == 0.0).all()


def test_all_destinations_share_one_network(problem, tolls, one):
    network = shared_network(problem, tolls, problem.contexts.values, one)
    found = network.solve()
    for context in range(3):
        _, alone = respond(problem, tolls, context, one)
        # Several right sides at once are rounded in another order.
        np.testing.assert_allclose(found.values[context], alone.values, rtol=1e-13)


def test_contexts_that_move_the_reward_share_nothing(problem, tolls, one):
    """A problem whose times depend on the destination must be solved context by context."""
    from dataclasses import replace

    def other(incentive, context, parameters):
        mdp = problem.mdp_fn(incentive, context, parameters)
        return cb.mdp.replace_fields(mdp, reward=mdp.reward * (1.0 + 0.1 * context))

    apart = replace(problem, mdp_fn=other)
    assert shared_network(apart, tolls, apart.contexts.values, one) is None


def test_the_likelihood_of_the_shared_network_is_the_usual_one(problem, town):
    """Values and slopes by one solve for all equal those context by context."""
    counts = count_behaviour(problem, route_trajectories(*town))
    assert counts.num_choices == sum(len(row) for row in town[1].links)

    def total(time, function):
        parameters = problem.default_parameters | {"time": time}
        rows, status = function(problem, counts, parameters)
        return (rows * counts.action_count).sum(), status

    def usual(problem, counts, parameters):
        log_policy, status = policies(problem, counts, parameters)
        return choice_rows(counts, log_policy), status

    (fast, status), slope = jax.value_and_grad(total, has_aux=True)(-2.0, row_policies)
    (slow, _), expected = jax.value_and_grad(total, has_aux=True)(-2.0, usual)
    assert int(status) == SolveStatus.CONVERGED
    np.testing.assert_allclose(fast, slow, rtol=1e-12)
    np.testing.assert_allclose(slope, expected, rtol=1e-9)


def test_the_likelihood_is_a_sum_over_paths(problem, town):
    """log P(path) = utility of the path less the value at its start: choices telescope."""
    counts = count_behaviour(problem, route_trajectories(*town))
    parameters = problem.default_parameters
    rows, _ = row_policies(problem, counts, parameters)
    network, trips = town
    tables, value = network.tables, 0.0
    no_toll = {"toll": jnp.zeros(3)}
    one = problem.follower_parameters(parameters, 0)
    values = shared_network(problem, no_toll, problem.contexts.values, one).solve().values
    for goal, row in zip(trips.destination, trips.links, strict=True):
        place = row[:-1], network.slots_of(row)
        path = sum(parameters[n] * tables.features[n][place].sum() for n in tables.features)
        value += path - values[goal, row[0]]
    np.testing.assert_allclose((rows * counts.action_count).sum(), value, rtol=1e-11)


def test_tolls_move_traffic_and_their_slope_is_exact(problem):
    start, parameters = problem.incentive.initial, problem.default_parameters

    @jax.jit
    def objective(logit):
        return leader_outcome(problem, {"toll_logit": logit}, parameters).objective

    at = start["toll_logit"]
    outcome = leader_outcome(problem, start, parameters)
    assert int(outcome.status) == SolveStatus.CONVERGED
    slope = jax.grad(objective)(at)
    step = 1e-4 * np.eye(3)
    differences = [(objective(at + e) - objective(at - e)) / 2e-4 for e in step]
    np.testing.assert_allclose(slope, differences, rtol=1e-5, atol=1e-9)


def test_without_harm_no_toll_is_best_for_drivers(town):
    """Welfare without relief is the drivers' own value: the envelope says its slope is zero."""
    free = route_choice(*town, tolled=[3, 50], relieved=[50], relief=0.0)
    nothing = free.incentive.unconstrained_for({"toll": 1e-9})
    parameters = free.default_parameters
    outcome = leader_outcome(free, nothing, parameters)
    np.testing.assert_allclose(
        outcome.objective, outcome.follower_value[0] / -parameters["time"], rtol=1e-9
    )
    dear = leader_outcome(free, {"toll_logit": jnp.array([2.0, 2.0])}, parameters)
    assert float(dear.objective) < float(outcome.objective)


def test_a_part_of_a_network_keeps_whole_stretches_of_trips(town):
    network, trips = town
    part, inside = network.cut(range(300), trips)
    assert part.num_links <= 300
    for goal, row in zip(inside.destination, inside.links, strict=True):
        assert len(row) > 1
        assert part.arrives[goal, row[-1]]
        part.slots_of(row)  # every turn exists
    names = {part.link_names[link] for row in inside.links for link in row}
    assert names <= set(network.link_names[:300])


def make_square():
    """Two ways to school, ten trips."""
    no = [False] * 6
    left = [False, True, False, False, False, False]
    network = RoadNetwork(
        5, [0, 0, 1, 2, 3, 4], [1, 2, 3, 3, 4, 0], [2.0, 3.0, 1.0, 1.0, 4.0, 1.0], left, no,
        [3], [0], ("school",),
    )  # fmt: skip
    ways = [np.array([0, 1, 3])] * 7 + [np.array([0, 2, 3])] * 3
    return network, Trips(np.zeros(10, int), ways)


def test_chains_run_on_trips_with_the_default_priors():
    """The mirrored log-normals must not compute their ends within a compiled chain."""
    network, trips = make_square()
    problem = route_choice(network, trips, tolled=[1])
    settings = cb.NUTSSettings(num_chains=2, num_warmup=20, num_samples=20)
    data = route_trajectories(network, trips)
    fit = cb.infer(problem, data, key=jax.random.key(0), settings=settings)
    draws = fit["posterior"]["time"].values
    assert (draws < 0.0).all()
    assert len(np.unique(draws)) > 5
    with pytest.raises(InvalidInputError, match=r"TruncatedNormal\(-1\.0, 1\.0, high=0\.0\)"):
        cb.infer(problem, data, key=jax.random.key(0), priors={"time": dist.Normal(-2.5, 1.0)})


@pytest.mark.parametrize(
    ("goal", "links", "said"),
    [
        (2, [0, 1, 3], "destination 2, links"),
        (0, [0, 99], r"links \[0, 99\]; accepted: .*links 0 to 4"),
        (0, [], r"links \[\]"),
        (0, [0, 3], "trip 1: there is no turn from link 1 to link 4"),
        (0, [0, 1], "trip 1 does not end at its destination; received: link 2 for school"),
    ],
)
def test_trips_that_the_network_does_not_allow_are_refused(goal, links, said):
    network, _ = make_square()
    trips = Trips(np.array([goal]), [np.array(links, int)])
    for use in (route_choice, route_trajectories):
        with pytest.raises(InvalidInputError, match=said):
            use(network, trips)
    with pytest.raises(InvalidInputError, match="0 trips, 0 destinations"):
        route_choice(network, Trips(np.array([], int), []))


def test_what_is_no_network_is_refused():
    with pytest.raises(InvalidInputError, match="cannot reach every other link"):
        RoadNetwork(3, [0, 1], [1, 2], [1.0, 1.0], [False] * 2, [False] * 2, [2], [0], ("a",))
    ring = [0, 1, 2], [1, 2, 0]
    with pytest.raises(InvalidInputError, match="no link ends at b"):
        RoadNetwork(3, *ring, [1.0] * 3, [False] * 3, [False] * 3, [2], [0], ("a", "b"))
    with pytest.raises(InvalidInputError, match=r"a time is -1\.0"):
        RoadNetwork(3, *ring, [1.0, -1.0, 1.0], [False] * 3, [False] * 3, [2], [0], ("a",))


def test_settings_that_cannot_be_are_refused(town):
    with pytest.raises(InvalidInputError, match=r"time in \(-inf, 0\)"):
        route_choice(*town, time=0.5)
    with pytest.raises(InvalidInputError, match="tolled is no list of links"):
        route_choice(*town, tolled=[10_000])
    with pytest.raises(InvalidInputError, match=r"temperature 1 is above 0\.\d+, from where"):
        route_choice(*town, time=-0.1, left_turn=-0.1, link_constant=-0.1, u_turn=-0.1)


def test_files_that_are_missing_or_wrong_are_named(tmp_path, monkeypatch):
    monkeypatch.delenv("CBRL_DATA_DIR", raising=False)
    with pytest.raises(DataError, match=r"CBRL_DATA_DIR is not set.*try"):
        borlange()
    texts = {
        "linkIncidence.txt": "1 2 1\n2 1 1\n1 3 1\n",
        "ATTRIBUTEestimatedtime.txt": "1 2 .5\n2 1 .5\n",
        "ATTRIBUTEturnangles.txt": "1 2 3.14\n2 1 3.14\n",
        "observationsForEstimBAI.txt": "1 1 3\n1 2 2\n1 3 1\n1 4 3\n",
    }

    def written(**changes):
        folder = tmp_path / f"folder {len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for name, text in (texts | {k + ".txt": v for k, v in changes.items()}).items():
            (folder / name).write_text(text)
        return folder

    network, trips = borlange(written())
    assert (network.num_links, network.num_destinations, trips.links[0].tolist()) == (2, 1, [1, 0])
    assert network.u_turn.all()
    assert not network.left_turn.any()
    for faults, match in (
        ({"linkIncidence": "1 2 1\n2 zero 1\n"}, "linkIncidence.txt cannot be read"),
        ({"linkIncidence": "1 2 1\n0 1 1\n"}, r"linkIncidence.txt, line 2, is no entry"),
        ({"ATTRIBUTEestimatedtime": "1 2 .5\n"}, "has no entry for 1 turns.*link 2 to link 1"),
        ({"observationsForEstimBAI": "1 1 3\n1 2 1\n1 3 1\n1 4 3\n"}, "no turn from link 1"),
        ({"observationsForEstimBAI": "1 1 3\n1 2 1\n1 3 2\n1 4 3\n"}, "does not end at"),
        ({"observationsForEstimBAI": "1 1 9\n1 2 1\n1 3 9\n"}, "trip 1 of .* another form"),
    ):
        with pytest.raises(DataError, match=match):
            borlange(written(**faults))


@needs_data
def test_the_published_coefficients_have_the_published_likelihood():
    """7,288 links, 466 destinations: -6302.93 by an independent program, slope zero there."""
    network, trips = borlange(RAW)
    assert (network.num_links, network.num_destinations, len(trips.links)) == (7288, 466, 1832)
    problem = route_choice(network, trips)
    published = {"time": -2.4941, "left_turn": -0.9331, "link_constant": -0.4111, "u_turn": -4.4588}
    one = problem.follower_parameters(problem.complete_parameters(published), 0)
    no_toll = {"toll": jnp.zeros(20)}
    shared = shared_network(problem, no_toll, problem.contexts.values, one)
    values = np.asarray(shared.solve().values)
    features = network.tables.features
    utility = sum(published[name] * features[name] for name in published)
    total = 0.0
    for goal, row in zip(trips.destination, trips.links, strict=True):
        total += utility[row[:-1], network.slots_of(row)].sum() - values[goal, row[0]]
    assert total == pytest.approx(-6302.93, abs=0.005)
    assert load_borlange(directory=RAW).sizes["episode"] == 1832


@needs_data
@pytest.mark.slow
def test_maximum_likelihood_gives_the_published_estimates():
    from cbrl_bayes.inference import maximum_likelihood
    from cbrl_bayes.workflow import behaviour_model

    problem = route_choice(*borlange(RAW))
    found = maximum_likelihood(behaviour_model(problem, load_borlange(directory=RAW)))
    assert found.converged
    assert found.log_likelihood == pytest.approx(-6302.93, abs=0.005)
    published = {"time": -2.494, "left_turn": -0.933, "link_constant": -0.411, "u_turn": -4.459}
    for name, value in published.items():
        assert found.estimates[name] == pytest.approx(value, abs=5e-4)
