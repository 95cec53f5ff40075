"""Search by watching, and ascents that begin where the incentive costs little."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from cbrl_bayes.errors import FollowerError, InvalidInputError
from cbrl_bayes.followers import Episode, OutsideFollower
from cbrl_bayes.hypergradients import (
    HPGD,
    Ascent,
    AscentProgram,
    Exact,
    LearnedModel,
    Rounds,
    RoundsProgram,
    Search,
    SearchProgram,
)
from cbrl_bayes.problems import four_rooms, leader_outcome, two_state
from tests.conftest import PLACES


@pytest.fixture(scope="module")
def rooms():
    return four_rooms(temperature=0.01, penalty_weight=3.0, discount=0.95, **PLACES)


@pytest.fixture(scope="module")
def best(rooms):
    """The best exact ascent, with and without low prices first."""
    search = Search(
        ascent=Ascent(num_steps=150, learning_rate=0.3), num_starts=3, prices=(0.1, 0.4)
    )
    return SearchProgram(rooms, Exact(), search).run(
        rooms.default_parameters, key=jax.random.key(0)
    )


def quick(**settings):
    search = Search(
        ascent=Ascent(num_steps=100, learning_rate=0.3), num_starts=2, prices=(0.1, 0.4)
    )
    return Rounds(search=search, num_rounds=2, num_laws=3, **settings)


@pytest.mark.slow
def test_watching_finds_what_the_model_would(rooms, best):
    model = LearnedModel(num_rollouts=40, max_steps=100, law_memory=1.0)
    program = RoundsProgram(rooms, model, quick(follower_steps=150_000))
    steps = []
    found = program.run(rooms.default_parameters, key=jax.random.key(1), on_step=steps.append)
    truth = leader_outcome(rooms, found.unconstrained, rooms.default_parameters)
    start = leader_outcome(rooms, rooms.incentive.initial, rooms.default_parameters)
    gained = float(truth.objective - start.objective)
    assert gained > 0.95 * (best.best.objective - float(start.objective))
    assert len(best.restart_objectives) == 4  # three starts, and one from low prices
    # What was promised and what was seen say the same as the truth.
    assert abs(found.seen - float(truth.objective)) < 5 * found.standard_error
    spread = max(found.promised.std(ddof=1), 0.01)
    assert abs(found.promised.mean() - float(truth.objective)) < 6 * spread
    assert 0 < found.follower_steps <= 150_000
    assert found.follower_steps >= sum(one.follower_steps for one in found.rounds)
    assert sum(steps) == sum(one.follower_steps for one in found.rounds)
    assert found.rounds[0].promised.size == 0
    assert found.rounds[1].promised.shape == (3,)


def test_what_cannot_be_searched_by_watching_is_refused(rooms):
    with pytest.raises(InvalidInputError, match=r"estimator.*HPGD"):
        RoundsProgram(rooms, HPGD())
    with pytest.raises(InvalidInputError, match="num_laws"):
        Rounds(num_laws=1)
    with pytest.raises(InvalidInputError, match="follower_steps"):
        Rounds(follower_steps=0)


def test_a_follower_that_fails_leaves_what_was_seen():
    """And the search goes on from it."""
    problem, calls, limit = two_state(), [], [13]

    def train(incentive, context, parameters, seed):
        calls.append(1)
        if len(calls) > limit[-1]:
            raise RuntimeError("the line is down")

        def play(*, num_rollouts, num_steps, seed):
            rng = np.random.default_rng(seed)
            return [Episode([0, 1], [int(a)]) for a in rng.integers(0, 2, num_rollouts)]

        return play

    model = LearnedModel(num_rollouts=20, max_steps=1, oracle=OutsideFollower(train))
    program = RoundsProgram(problem, model, quick(follower_steps=2_000, ascent_share=0.0))
    with pytest.raises(FollowerError, match="the line is down") as caught:
        program.run(problem.default_parameters, key=jax.random.key(0))
    partial = caught.value.partial
    assert partial.follower_steps > 0
    assert float(partial.state.counts.sum()) > 0
    del calls[:]
    limit.append(10_000)
    found = program.run(
        problem.default_parameters,
        key=jax.random.key(1),
        start=partial.unconstrained,
        state=partial.state,
    )
    assert float(found.state.counts.sum()) > float(partial.state.counts.sum())


def test_low_prices_come_first(rooms):
    settings = Ascent(num_steps=20, learning_rate=0.3, price_continuation=(0.1, 0.4, 1.0))
    found = AscentProgram(rooms, Exact(), settings).run(
        rooms.default_parameters, key=jax.random.key(0), start=rooms.incentive.initial
    )
    assert found.trace.price_factor.tolist() == [0.1] * 20 + [0.4] * 20 + [1.0] * 20
    cheap = rooms.priced(0.1)
    first = leader_outcome(cheap, rooms.incentive.initial, rooms.default_parameters)
    assert found.trace.objective[0] == pytest.approx(float(first.objective), rel=1e-9)
    worth = leader_outcome(rooms, found.unconstrained, rooms.default_parameters).objective
    assert found.objective == pytest.approx(float(worth), rel=1e-9)


def test_prices_need_a_price(rooms):
    free = replace(rooms, incentive_price_fn=None)
    with pytest.raises(InvalidInputError, match="states no price"):
        AscentProgram(free, Exact(), Ascent(price_continuation=(0.5, 1.0)))
    for wrong in ((0.5,), (), (0.0, 1.0), ("low", 1.0)):
        with pytest.raises(InvalidInputError, match="price_continuation"):
            Ascent(price_continuation=wrong)
    with pytest.raises(InvalidInputError, match="number of stages"):
        Ascent(price_continuation=(0.5, 1.0), continuation=(3.0, 2.0, 1.0))


def test_stages_may_heat_and_cheapen_together():
    settings = Ascent(price_continuation=(0.5, 1.0), continuation=(3.0, 1.0))
    assert settings.stages == ((3.0, 0.5), (1.0, 1.0))
    assert Ascent(continuation=(3.0, 1.0)).stages == ((3.0, 1.0), (1.0, 1.0))
