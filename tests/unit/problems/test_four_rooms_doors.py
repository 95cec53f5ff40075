"""Doors of Four-Rooms: a corridor by hand, all configurations, gradients through transitions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.hypergradients import Ascent, AscentProgram, Exact
from cbrl_bayes.problems import leader_outcome
from cbrl_bayes.problems.four_rooms_doors import FOUR_ROOMS_DOORS, four_rooms_doors

CORRIDOR = "xxxxx\nx   x\nxxxxx"
DISCOUNT, COST = 0.9, 0.02
TARGET_WEIGHT = 1.0
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
CORNERS = list(itertools.product((0.0, 1.0), repeat=4))


@pytest.fixture(scope="module")
def by_the_target():
    """The leader who wants walkers in the target cell, and its objective at many opennesses."""
    problem = four_rooms_doors(target_weight=TARGET_WEIGHT)

    def worth(openness):
        # logit of exactly 0 or 1 is infinite, and its sigmoid exactly 0 or 1 again
        logit = jnp.log(openness) - jnp.log1p(-openness)
        return leader_outcome(problem, {"openness_logit": logit}, problem.default_parameters)

    return problem, jax.jit(lambda points: jax.lax.map(worth, points))


def test_one_door_in_a_corridor_by_hand():
    """Expected discounted time before arrival, and its derivative, in closed form."""
    problem = four_rooms_doors(
        map_text=CORRIDOR,
        doors={"only": (1, 2)},
        start=(1, 1),
        goals=((1, 3),),
        target=(1, 1),
        slip=0.0,
        temperature=1e-3,
        door_cost=COST,
        target_weight=0.3,
        discount=DISCOUNT,
    )

    def by_hand(o):
        stay = DISCOUNT * (1.0 - o)
        through = o * DISCOUNT / (1.0 - stay)  # E[gamma ** steps to the door's cell]
        arrival = DISCOUNT * through
        on_the_way = (1.0 - arrival) / (1.0 - DISCOUNT)
        waiting = 1.0 / (1.0 - stay)  # discounted steps in the first cell, here the target
        return arrival + 0.3 * waiting - COST * o * on_the_way

    def worth(logit):
        x = {"openness_logit": logit[None]}
        return leader_outcome(problem, x, problem.default_parameters).objective

    openness = np.array([0.2, 0.5, 0.9])
    logits = jnp.log(openness / (1.0 - openness))
    value, slope = jax.jit(lambda x: jax.lax.map(jax.value_and_grad(worth), x))(logits)
    # At this temperature a wrong step has probability exp(-60) or less; rounding is left.
    np.testing.assert_allclose(value, by_hand(openness), rtol=1e-10)
    by_openness = (by_hand(openness + 1e-6) - by_hand(openness - 1e-6)) / 2e-6
    # The formula's central difference is good to 1e-9 of its values of order 1.
    expected = by_openness * openness * (1.0 - openness)
    np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-8)


def _law_by_loops(cells, slip, chance):
    """Every transition probability from the words of the description."""
    number = {cell: index for index, cell in enumerate(cells)}
    law = np.zeros((len(cells), 4, len(cells)))
    for here, (row, column) in enumerate(cells):
        for action, way in itertools.product(range(4), range(4)):
            mass = 1.0 - slip if way == action else slip / 3.0
            there = (row + MOVES[way][0], column + MOVES[way][1])
            through = chance.get(there, 1.0) if there in number else 0.0
            law[here, action, number.get(there, here)] += mass * through
            law[here, action, here] += mass * (1.0 - through)
    return law


def _cells(problem):
    coords = problem.state_labels.coords
    return list(zip(coords["row"][1], coords["column"][1], strict=True))


def test_law_of_moves_by_loops():
    problem = four_rooms_doors(slip=0.3)
    openness = np.array([0.1, 0.4, 0.6, 0.95])
    mdp = problem.mdp_fn(
        {"openness": jnp.asarray(openness)}, jnp.asarray(0), problem.default_parameters
    )
    chance = dict(zip(FOUR_ROOMS_DOORS.values(), openness, strict=True))
    expected = _law_by_loops(_cells(problem), 0.3, chance)
    # Sums of at most five numbers below one.
    np.testing.assert_allclose(mdp.transition.to_dense().probability, expected, atol=1e-15)


def _worth_in_a_walled_building(cells, is_open, goal, temperature=0.005, discount=0.99):
    """Solve the walker's problem by soft policy iteration in NumPy; walls for closed doors."""
    shut = [d for d, o in zip(FOUR_ROOMS_DOORS.values(), is_open, strict=True) if not o]
    cells = [cell for cell in cells if cell not in shut]
    law = _law_by_loops(cells, 0.44, {})
    at_goal = np.array([float(cell == goal) for cell in cells])
    law *= (1.0 - at_goal)[:, None, None]
    policy = np.full((len(cells), 4), 0.25)
    for _ in range(40):
        moves = np.einsum("sa,sat->st", policy, law)
        soft = at_goal - temperature * (policy * np.log(policy)).sum(1)
        value = np.linalg.solve(np.eye(len(cells)) - discount * moves, soft)
        scaled = discount * (law @ value) / temperature
        policy = np.exp(scaled - scaled.max(1, keepdims=True))
        policy /= policy.sum(1, keepdims=True)
    earned = at_goal - 0.0005 * sum(is_open) * (1.0 - at_goal)
    earned[cells.index((8, 4))] += TARGET_WEIGHT
    moves = np.einsum("sa,sat->st", policy, law)
    worth = np.linalg.solve(np.eye(len(cells)) - discount * moves, earned)
    return worth[cells.index((4, 1))]


def test_closed_doors_are_walls(by_the_target):
    """All 16 configurations against a NumPy solution in which closed doors are walls."""
    problem, worth = by_the_target
    found = worth(jnp.asarray(CORNERS))
    assert int(found.status.max()) == 0
    cells = _cells(problem)
    expected = [
        np.mean([_worth_in_a_walled_building(cells, c, goal) for goal in ((1, 9), (11, 11))])
        for c in CORNERS
    ]
    # Two linear solves of the same equations (condition about 100), some cells fewer.
    np.testing.assert_allclose(found.objective, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.slow
def test_relaxed_optimum_is_no_worse_than_any_configuration(by_the_target):
    """Here it is better: a bottom door a third open beats open and closed."""
    problem, worth = by_the_target
    best_corner = float(worth(jnp.asarray(CORNERS)).objective.max())
    program = AscentProgram(problem, Exact(), Ascent(num_steps=120, learning_rate=0.3))
    found = program.run(
        problem.default_parameters,
        key=jax.random.key(0),
        start={"openness_logit": jnp.array([-2.0, 2.0, 2.0, 2.0])},
    )
    openness = np.asarray(problem.incentive.transform(found.unconstrained)["openness"])
    assert found.objective > 1.02 * best_corner
    # Top closed, left and right open: the best bottom door by a grid of 101 opennesses.
    grid = np.array([[0.0, 1.0, 1.0, bottom] for bottom in np.linspace(0.0, 1.0, 101)])
    on_grid = np.asarray(worth(jnp.asarray(grid)).objective)
    # A finite ascent leaves logits finite: .998 in place of 1, worth some .001 here.
    assert found.objective == pytest.approx(on_grid.max(), rel=3e-3)
    # Near a flat optimum .003 of the objective leaves the openness uncertain by a few steps.
    assert openness[3] == pytest.approx(grid[on_grid.argmax(), 3], abs=0.05)


@pytest.fixture(scope="module")
def hypergradient(by_the_target):
    problem, _ = by_the_target
    estimator = Exact()
    state = estimator.init(problem, problem.incentive.initial, key=jax.random.key(0))

    def estimate(logit):
        x = {"openness_logit": jnp.asarray(logit)}
        return estimator.estimate(
            problem, x, problem.default_parameters, state, key=jax.random.key(1)
        )

    return jax.jit(estimate)


def test_gradient_through_transitions(by_the_target, hypergradient):
    """Exact hypergradient against central differences."""
    problem, worth = by_the_target
    at = np.asarray(problem.incentive.random_start(jax.random.key(4), 1.0)["openness_logit"])
    gradient, _, info = hypergradient(at)
    assert int(info.status) == 0
    h = 1e-3
    steps = h * np.array([1.0, -1.0, 2.0, -2.0])[:, None, None] * np.eye(4)
    points = (at + steps).reshape(16, 4)
    near_up, near_down, far_up, far_down = np.asarray(
        worth(jnp.asarray(1.0 / (1.0 + np.exp(-points)))).objective
    ).reshape(4, 4)
    # Fourth order: an error of h^4 = 1e-12 against rounding of 1e-13 / h = 1e-10.
    central = (8 * (near_up - near_down) - (far_up - far_down)) / (12 * h)
    np.testing.assert_allclose(gradient["openness_logit"], central, rtol=1e-5, atol=1e-8)


def test_shut_doors_keep_gradients_finite(hypergradient):
    """With every door shut the goals are out of reach; nothing may turn into NaN."""
    slope, _, info = hypergradient(np.full(4, -800.0))
    # start (4,1) and target (8,4) lie in different rooms, so nothing is earned and nothing paid
    assert float(info.objective) == 0.0
    assert np.isfinite(np.asarray(slope["openness_logit"])).all()


def test_a_law_of_goals_may_be_an_array():
    problem = four_rooms_doors(goal_probability=np.array([0.25, 0.75]))
    np.testing.assert_array_equal(
        problem.default_parameters["context_probability"], [0.25, 0.75]
    )  # set, not computed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"doors": {}}, "doors need at least one name"),
        ({"doors": {"one": (3, 6), "again": (3, 6)}}, "at least one name and different cells"),
        ({"doors": {"in the wall": (0, 0)}}, "goal or door is not a free cell"),
        ({"door_cost": -0.1}, "door_cost cannot be used"),
        ({"door_cost": (0.1, 0.2)}, "or 4 of them"),
        ({"door_cost": float("nan")}, "door_cost cannot be used"),
        ({"slip": 1.0}, "slip is out of range"),
        ({"goal_weight": 0.0}, "not both 0"),
        ({"target_weight": -1.0}, "finite numbers >= 0"),
        ({"goal_probability": (0.5, 0.6)}, "not a distribution"),
        ({"goal_probability": ()}, "not a distribution"),
        ({"goals": ()}, "at least one free cell"),
        ({"goals": ((1, 9), (1, 9))}, "all different"),
        ({"start": (0, 0)}, "not a free cell"),
    ],
)
def test_impossible_buildings_are_refused(arguments, words):
    with pytest.raises(InvalidInputError, match=words):
        four_rooms_doors(**arguments)
