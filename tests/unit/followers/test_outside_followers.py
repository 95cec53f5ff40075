"""Followers outside the package: what they may return, how they fail, what is kept then."""

import time

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cbrl_bayes.designs import SimulatedEvaluation
from cbrl_bayes.errors import DataError, FollowerError, InvalidInputError
from cbrl_bayes.followers import (
    Episode,
    Log,
    OutsideFollower,
    environment_of,
    follower_from_logs,
    gymnasium_follower,
)
from cbrl_bayes.hypergradients import (
    HPGD,
    Ascent,
    AscentProgram,
    AscentStatus,
    BoltzmannCovariance,
    Exact,
    Search,
    SearchProgram,
    ZerothOrder,
)
from cbrl_bayes.mdp import best_response
from cbrl_bayes.problems import leader_outcome, two_state
from tests.conftest import make_moving_problem


def _worker(temperature=0.25):
    """A trainer for `two_state` that knows the closed form."""

    def train(incentive, context, parameters, seed):
        chance = 1 / (1 + np.exp(-(float(incentive["bonus"]) - float(context)) / temperature))

        def play(*, num_rollouts, num_steps, seed):
            works = np.random.default_rng(seed).random(num_rollouts) < chance
            return [Episode([0, 1], [int(w)], reward=[0.0]) for w in works]

        return play

    return train


def _returning(episode):
    """A trainer whose player returns the same thing whatever is asked."""

    def train(incentive, context, parameters, seed):
        return lambda *, num_rollouts, num_steps, seed: [episode] * num_rollouts

    return train


def _estimate(train, **settings):
    problem = two_state()
    follower = OutsideFollower(train, **settings)
    estimator = BoltzmannCovariance(num_rollouts=8, max_steps=2, oracle=follower)
    x = {"bonus": jnp.asarray(1.0)}
    state = estimator.init(problem, x, key=jax.random.key(0))
    return estimator.estimate(problem, x, problem.default_parameters, state, key=jax.random.key(1))


@pytest.mark.slow
def test_gradient_from_outside_episodes_is_right():
    """Closed form of `two_state`; the episodes are made by NumPy."""
    problem = two_state()
    x = {"bonus": jnp.asarray(0.9)}
    parameters = problem.default_parameters
    exact, _, truth = Exact().estimate(
        problem,
        x,
        parameters,
        Exact().init(problem, x, key=jax.random.key(0)),
        key=jax.random.key(0),
    )
    follower = OutsideFollower(_worker())
    estimator = BoltzmannCovariance(num_rollouts=2000, max_steps=1, oracle=follower)
    state = estimator.init(problem, x, key=jax.random.key(0))
    found = [
        estimator.estimate(problem, x, parameters, state, key=key)
        for key in jax.random.split(jax.random.key(3), 8)
    ]
    slopes = np.array([float(g["bonus"]) for g, _, _ in found])
    # 4 standard errors, at least the size that 8 x 2,000 episodes leave.
    assert abs(slopes.mean() - float(exact["bonus"])) < 4 * slopes.std(ddof=1) / np.sqrt(8) + 0.01
    score = SimulatedEvaluation(num_rollouts=200, max_steps=1, oracle=follower).score(
        problem, x, parameters, key=jax.random.key(2)
    )
    assert abs(float(score.objective - truth.objective)) < 4 * float(score.standard_error)


@pytest.mark.parametrize(
    ("episode", "words"),
    [
        (Episode([], []), "has no states"),
        (Episode([0], [1]), "does not say where its last action led: 1 states"),
        (Episode([0, 1, 0], [1, 0, 1]), "goes on after state 1 at step 1, which is terminal"),
        (Episode([0, 1], [5]), "has actions 5, accepted: whole numbers 0 to 1"),
        (Episode([0, 7], [1]), "has states 7, accepted: whole numbers 0 to 1"),
        (Episode([0.5, 1], [1]), "has states 0.5"),
        (Episode(["a", "b"], [1]), "has states of type"),
        (Episode([0, 1, 1, 1], [1]), "has 4 states for 1 actions"),
        (Episode([0, 1], [1], reward=[np.nan]), "has reward nan at step 0, accepted: a finite"),
        (Episode([0, 1], [1], log_probability=[0.3]), "log_probability 0.3, accepted: <= 0"),
        (Episode([0, 1], [1], log_probability=[0.0, 0.0]), "log_probability of shape (2,)"),
        ({"state": [0]}, "is a dict, accepted: Episode"),
    ],
)
def test_unusable_episodes_are_named(episode, words):
    with pytest.raises(FollowerError) as error:
        _estimate(_returning(episode))
    assert words in str(error.value)
    assert "bonus 1." in str(error.value)
    assert "context 0.5" in str(error.value)


def test_other_failures_are_named():
    def nothing(incentive, context, parameters, seed):
        return lambda *, num_rollouts, num_steps, seed: []

    def broken(incentive, context, parameters, seed):
        raise RuntimeError("no licence")

    def no_player(incentive, context, parameters, seed):
        return None

    def table(incentive, context, parameters, seed):
        return lambda *, num_rollouts, num_steps, seed: np.zeros(3)

    for train, words in (
        (nothing, "0 episodes, accepted: 4"),
        (broken, "failed while training: RuntimeError: no licence"),
        (no_player, "returned None, not a function"),
        (table, "a ndarray, accepted: a list of Episode"),
    ):
        with pytest.raises(FollowerError, match=words):
            _estimate(train)
        with pytest.raises(FollowerError, match=words):
            _estimate(train, time_limit=30.0)


def test_a_follower_that_never_returns_is_left():
    def forever(incentive, context, parameters, seed):
        time.sleep(3600)

    begun = time.monotonic()
    with pytest.raises(FollowerError, match=r"did not finish training within 0\.2 s"):
        _estimate(forever, time_limit=0.2)
    assert time.monotonic() - begun < 60


def test_an_episode_that_just_stops_is_refused():
    """A log cut short would bias the estimate; ending in a terminal state is no fault."""
    problem = make_moving_problem()
    follower = OutsideFollower(_returning(Episode([0, 1, 2], [0, 0])))
    estimator = BoltzmannCovariance(
        num_rollouts=8, max_steps=50, truncation_exponent=0.0, oracle=follower
    )
    x = problem.incentive.initial
    state = estimator.init(problem, x, key=jax.random.key(0))
    with pytest.raises(FollowerError, match="stops after 2 steps in state 1, which is not"):
        estimator.estimate(problem, x, problem.default_parameters, state, key=jax.random.key(1))
    # Long enough, but silent about log-probabilities, which moving transitions call for.
    long = OutsideFollower(_returning(Episode([0] * 51, [0] * 50)))
    estimator = BoltzmannCovariance(
        num_rollouts=8, max_steps=50, truncation_exponent=0.0, oracle=long
    )
    with pytest.raises(InvalidInputError, match="log-probability of its actions"):
        estimator.estimate(problem, x, problem.default_parameters, state, key=jax.random.key(1))


def test_requests_it_cannot_serve_are_refused():
    problem, follower = two_state(), OutsideFollower(_worker())
    x = problem.incentive.initial
    estimator = HPGD(num_rollouts=4, num_branches=2, max_steps=2, oracle=follower)
    state = estimator.init(problem, x, key=jax.random.key(0))
    with pytest.raises(InvalidInputError, match="cannot be started in a chosen state"):
        estimator.estimate(problem, x, problem.default_parameters, state, key=jax.random.key(1))
    with pytest.raises(InvalidInputError, match="temperature cannot be changed"):
        _ascend(follower, Ascent(num_steps=1, continuation=(2.0, 1.0)))
    with pytest.raises(InvalidInputError, match="time_limit is not positive"):
        OutsideFollower(_worker(), time_limit=0.0)


def _ascend(follower, settings, start=None):
    problem = two_state(costs=(1.0,), context_probability=(1.0,))
    estimator = BoltzmannCovariance(num_rollouts=400, max_steps=1, oracle=follower)
    program = AscentProgram(problem, estimator, settings)
    return program.run(problem.default_parameters, key=jax.random.key(0), start=start)


def test_ascent_with_an_outside_follower_finds_the_closed_form():
    """The optimum of one context at cost 1 is a bonus of 1.20 (Lambert W; see `AscentProgram`)."""
    result = _ascend(OutsideFollower(_worker()), Ascent(num_steps=30, learning_rate=0.2))
    assert abs(float(result.unconstrained["bonus"]) - 1.2) < 0.1
    assert result.trace.follower_steps.sum() == 30 * 400


def test_nothing_of_an_interrupted_ascent_is_lost():
    calls = []

    def fails_at_ten(incentive, context, parameters, seed):
        calls.append(1)
        if len(calls) == 11:
            raise OSError("connection lost")
        return _worker()(incentive, context, parameters, seed)

    follower = OutsideFollower(fails_at_ten)
    with pytest.raises(FollowerError, match="connection lost") as error:
        _ascend(follower, Ascent(num_steps=20))
    partial = error.value.partial
    assert partial.status == AscentStatus.INTERRUPTED
    assert len(partial.trace.objective) == 10
    assert float(partial.unconstrained["bonus"]) != 0.0
    more = _ascend(follower, Ascent(num_steps=5), start=partial.unconstrained)
    assert len(more.trace.objective) == 5


def test_standard_error_includes_the_luck_of_training_on_request():
    """A follower whose training is pure chance: without retraining the error is far too small."""
    problem = two_state(costs=(1.0,), context_probability=(1.0,))

    def gambler(incentive, context, parameters, seed):
        chance = np.random.default_rng(seed).random()

        def play(*, num_rollouts, num_steps, seed):
            works = np.random.default_rng(seed).random(num_rollouts) < chance
            return [Episode([0, 1], [int(w)]) for w in works]

        return play

    x = {"bonus": jnp.asarray(1.0)}
    errors = {}
    for retrain in (False, True):
        evaluation = SimulatedEvaluation(
            num_replicates=20,
            num_rollouts=50,
            max_steps=1,
            retrain=retrain,
            oracle=OutsideFollower(gambler),
        )
        score = evaluation.score(problem, x, problem.default_parameters, key=jax.random.key(3))
        errors[retrain] = float(score.standard_error)
    # Chance of work uniform, leader's gain 1: standard deviation .29 a training, 20 of them.
    assert 0.04 < errors[True] < 0.09
    assert errors[False] < 0.03


def test_progress_is_told_step_by_step():
    told = []
    problem = two_state(costs=(1.0,), context_probability=(1.0,))
    estimator = BoltzmannCovariance(num_rollouts=20, max_steps=1, oracle=OutsideFollower(_worker()))
    AscentProgram(problem, estimator, Ascent(num_steps=3)).run(
        problem.default_parameters, key=jax.random.key(0), on_step=told.append
    )
    assert told == [1, 1, 1]


def test_zeroth_order_serves_outside_followers():
    problem, follower = two_state(), OutsideFollower(_worker())
    estimator = ZerothOrder(num_rollouts=40, max_steps=1, num_directions=2, oracle=follower)
    x = problem.incentive.initial
    state = estimator.init(problem, x, key=jax.random.key(0))
    gradient, _, info = estimator.estimate(
        problem, x, problem.default_parameters, state, key=jax.random.key(1)
    )
    assert np.isfinite(float(gradient["bonus"]))
    assert int(info.follower_steps) == 3 * 40


def test_gymnasium_environment_and_follower():
    """The environment passes Gymnasium's own checker; its episodes give the leader's objective."""
    from gymnasium.utils.env_checker import check_env

    problem = two_state()
    parameters = problem.default_parameters

    def make_env(incentive, context):
        return environment_of(problem.mdp_fn(incentive, context, parameters))

    check_env(make_env({"bonus": jnp.asarray(1.0)}, 0.5), skip_render_check=True)
    assert isinstance(make_env({"bonus": jnp.asarray(1.0)}, 0.5), gymnasium.Env)

    def train(env, seed):
        # Stands for any trainer: reads both rewards off the environment, then softmax.
        worth = []
        for action in (0, 1):
            env.reset(seed=seed)
            worth.append(env.step(action)[1])
        weights = np.exp(np.array(worth) / 0.25)
        weights /= weights.sum()

        def act(observation, rng):
            action = rng.choice(2, p=weights)
            return action, np.log(weights[action])

        return act

    follower = gymnasium_follower(make_env, train, time_limit=60.0)
    x = {"bonus": jnp.asarray(1.1)}
    score = SimulatedEvaluation(num_rollouts=100, max_steps=1, oracle=follower).score(
        problem, x, parameters, key=jax.random.key(2)
    )
    assert (
        len(
            follower.train_fn({"bonus": np.array(1.1)}, 0.5, {}, 0)(
                num_rollouts=3, num_steps=2, seed=0
            )
        )
        == 3
    )
    truth = leader_outcome(problem, x, parameters).objective
    assert abs(float(score.objective - truth)) < 4 * float(score.standard_error)


def test_logged_episodes_answer_for_their_incentive_only():
    problem = two_state()
    x = {"bonus": jnp.asarray(1.0)}
    rng = np.random.default_rng(0)
    logs = []
    for index, cost in enumerate(np.asarray(problem.contexts.values)):
        mdp = problem.mdp_fn(problem.incentive.transform(x), cost, problem.default_parameters)
        works = rng.random(4000) < float(best_response(mdp).policy[0, 1])
        logs.append(Log({"bonus": 1.0}, cost, [Episode([0, 1], [int(w)]) for w in works]))
        assert index < 2
    follower = follower_from_logs(logs)
    estimator = BoltzmannCovariance(num_rollouts=8000, max_steps=1, oracle=follower)
    parameters = problem.default_parameters
    state = estimator.init(problem, x, key=jax.random.key(0))
    slope = float(
        estimator.estimate(problem, x, parameters, state, key=jax.random.key(1))[0]["bonus"]
    )
    exact = Exact().estimate(
        problem,
        x,
        parameters,
        Exact().init(problem, x, key=jax.random.key(0)),
        key=jax.random.key(0),
    )[0]
    # The log's 8,000 episodes leave about .02; drawing all of them adds nothing.
    assert abs(slope - float(exact["bonus"])) < 0.12
    with pytest.raises(FollowerError, match="nothing was logged under this incentive"):
        estimator.estimate(
            problem, {"bonus": jnp.asarray(1.1)}, parameters, state, key=jax.random.key(1)
        )
    greedy = BoltzmannCovariance(num_rollouts=20_000, max_steps=1, oracle=follower)
    with pytest.raises(FollowerError, match="10000 episodes were asked for and 4000 are on rec"):
        greedy.estimate(problem, x, parameters, state, key=jax.random.key(1))
    with pytest.raises(DataError, match="no episodes on record"):
        follower_from_logs([])


def test_environments_that_end_on_arrival():
    """A step in the terminal state is added, which this package counts and they do not."""

    class Arrival(gymnasium.Env):
        observation_space = gymnasium.spaces.Discrete(2)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return 0, {}

        def step(self, action):
            return 1, 0.5, True, False, {}

    def train(env, seed):
        return lambda observation, rng: 1

    for ends, states, actions in ((False, [0, 1], [1]), (True, [0, 1], [1, 0])):
        follower = gymnasium_follower(lambda x, c: Arrival(), train, ends_on_arrival=ends)
        player = follower.train_fn({}, 0.5, {}, 0)
        (episode,) = player(num_rollouts=1, num_steps=5, seed=0)
        assert (episode.state, episode.action) == (states, actions)


def test_a_search_hands_over_the_ascents_that_had_ended():
    calls = []

    def fails_later(incentive, context, parameters, seed):
        calls.append(1)
        if len(calls) > 7:
            raise OSError("connection lost")
        return _worker()(incentive, context, parameters, seed)

    problem = two_state(costs=(1.0,), context_probability=(1.0,))
    estimator = BoltzmannCovariance(
        num_rollouts=20, max_steps=1, oracle=OutsideFollower(fails_later)
    )
    search = Search(ascent=Ascent(num_steps=3), num_starts=4)
    with pytest.raises(FollowerError) as error:
        SearchProgram(problem, estimator, search).run(
            problem.default_parameters, key=jax.random.key(0)
        )
    assert len(error.value.finished) == 2
    assert len(error.value.partial.trace.objective) == 1
