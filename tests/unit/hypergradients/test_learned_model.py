"""Learned models: the law from counts, the gradient in it, and what fresh episodes correct."""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from cbrl_bayes.errors import DataError, InvalidInputError
from cbrl_bayes.followers import ExactFollower
from cbrl_bayes.hypergradients import DoublyRobust, Exact, LawPrior, LearnedModel
from cbrl_bayes.hypergradients.learned_law import (
    LearnedLaw,
    Sharing,
    count_transitions,
    drawn_rows,
    refuse_unlisted,
)
from cbrl_bayes.hypergradients.learned_policy import Seen, responding
from cbrl_bayes.mdp import MDP, DenseTransition, SuccessorTransition, best_response, rollout
from cbrl_bayes.mdp.evaluation import occupancy, policy_values
from cbrl_bayes.problems import (
    Problem,
    contract_design,
    four_rooms,
    leader_gain,
    leader_outcome,
    two_state,
    with_unknown_law,
)
from tests.conftest import make_moving_problem


def exact_gradient(problem, x):
    estimator, key = Exact(), jax.random.key(0)
    state = estimator.init(problem, x, key=key)
    gradient, _, _ = estimator.estimate(problem, x, problem.default_parameters, state, key=key)
    return np.asarray(ravel_pytree(gradient)[0])


def first_view(problem):
    """The first context's value, and the first follower's parameters."""
    parameters = problem.default_parameters
    values, _ = problem.contexts.support(parameters, jax.random.key(0))
    context = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], values)
    return context, problem.follower_parameters(parameters, 0)


def test_laws_are_shared_where_they_are_the_same():
    rooms = four_rooms()
    assert Sharing.of(rooms, rooms.default_parameters) == (True, True, False)
    moving = make_moving_problem()
    assert Sharing.of(moving, moving.default_parameters).incentive_moves

    def apart(incentive, context, parameters):
        mdp = base.mdp_fn(incentive, context, parameters)
        law = replace(
            mdp.transition, probability=mdp.transition.probability * (1.0 + 0.0 * context)
        )
        return replace(mdp, transition=law)

    base = two_state()
    assert Sharing.of(base, base.default_parameters).contexts
    own = replace(base, mdp_fn=apart)
    sharing = Sharing.of(own, own.default_parameters)
    assert not sharing.contexts
    counts = jnp.arange(4.0).reshape(2, 2)
    assert sharing.pooled(counts, own).shape == (2, 1, 2)
    assert Sharing(True, True, False).pooled(counts, own).tolist() == [[[2.0, 4.0]]]


@pytest.mark.parametrize("layout", ["dense", "successor"])
def test_counts_become_the_law(layout):
    law = jnp.array([[[0.2, 0.8, 0.0]], [[0.0, 0.5, 0.5]], [[1.0, 0.0, 0.0]]])
    transition = DenseTransition(law)
    if layout == "successor":  # state 0 lists its second successor twice
        listed = jnp.array([[[1, 0, 1]], [[1, 2, 1]], [[0, 0, 0]]])
        chance = jnp.array([[[0.5, 0.2, 0.3]], [[0.25, 0.5, 0.25]], [[1.0, 0.0, 0.0]]])
        transition = SuccessorTransition(listed, chance)
    mdp = MDP(jnp.zeros((3, 1)), transition, jnp.array([1.0, 0.0, 0.0]), 0.9, 1.0)
    walked = rollout(mdp, jnp.ones((3, 1)), key=jax.random.key(0), num_steps=400, num_rollouts=50)
    for moves in (False, True):
        counts = count_transitions(mdp, walked, incentive_moves=moves)
        found = LearnedLaw.of(mdp, counts, LawPrior(), incentive_moves=moves).applied(mdp)
        np.testing.assert_allclose(found.transition.to_dense().probability, law, atol=0.02)


def test_draws_of_a_law_are_laws_however_small_the_prior():
    """At weights of .001 all gammas of a row are zero as numbers, more often than not."""
    weights = jnp.array([[0.001, 0.002, 0.0], [2.0, 3.0, 0.0]])
    drawn = drawn_rows(np.broadcast_to(weights, (20_000, 2, 3)), jax.random.key(0))
    np.testing.assert_allclose(drawn.sum(-1), 1.0, atol=1e-12)
    assert (drawn[..., 2] == 0.0).all()
    # Moments of the Dirichlet law; five standard errors of 20,000 draws.
    np.testing.assert_allclose(drawn[:, 0, 0].mean(), 1 / 3, atol=5 * np.sqrt(2 / 9 / 20_000))
    np.testing.assert_allclose(drawn[:, 1, 0].mean(), 0.4, atol=5 * np.sqrt(0.04 / 20_000))
    np.testing.assert_allclose(drawn[:, 1, 0].std(), np.sqrt(0.4 * 0.6 / 6), rtol=0.03)


def test_counts_under_one_incentive_serve_another():
    """n / P_old times P_new is what would have been seen under the new law."""
    problem = make_moving_problem()
    context, one = first_view(problem)
    here, there = (problem.incentive.random_start(jax.random.key(i), 1.0) for i in (1, 2))
    old, new = (problem.mdp_fn(problem.incentive.transform(x), context, one) for x in (here, there))
    walked = rollout(
        old,
        jnp.full(old.reward.shape, 1.0 / old.num_actions),
        key=jax.random.key(0),
        num_steps=50,
        num_rollouts=5000,
    )
    counts = count_transitions(old, walked, incentive_moves=True)
    law = LearnedLaw.of(old, counts, LawPrior(), incentive_moves=True)
    learned, wanted = law.applied(new).transition.to_dense(), new.transition.to_dense()
    unmoved = law.applied(old).transition.to_dense()
    # Where nobody went, or the episode ended, there is only the prior.
    known = np.asarray(law.counts.sum(-1) > 1000) & ~np.asarray(old.terminal)[:, None]
    assert known.sum() >= 6
    error = np.abs(np.asarray(learned.probability - wanted.probability))[known].max()
    assert error < 0.05
    assert np.abs(np.asarray(unmoved.probability - wanted.probability))[known].max() > 3 * error


@pytest.mark.parametrize("make", [four_rooms, make_moving_problem, contract_design])
def test_the_responding_policy_has_the_derivative_of_the_best_response(make):
    problem = make()
    context, one = first_view(problem)
    x = problem.incentive.random_start(jax.random.key(3), 0.5)

    def worth(x, policy_of):
        incentive = problem.incentive.transform(x)
        mdp = problem.mdp_fn(incentive, context, one)
        return leader_gain(problem, incentive, context, one, mdp, policy_of(mdp))

    fixed = best_response(problem.mdp_fn(problem.incentive.transform(x), context, one)).policy
    found = jax.grad(lambda x: worth(x, lambda mdp: responding(mdp, fixed)))(x)
    wanted = jax.grad(lambda x: worth(x, lambda mdp: best_response(mdp).policy))(x)
    for one_leaf, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one_leaf, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("estimator", [LearnedModel, DoublyRobust])
def test_a_known_law_and_reported_policies_give_the_exact_gradient(estimator):
    """In two_state every move is certain: nothing is left to chance once all was seen."""
    problem = two_state()
    model = LearnedModel(num_rollouts=200, max_steps=3)
    chosen = model if estimator is LearnedModel else DoublyRobust(model)
    x = problem.incentive.initial
    state = chosen.init(problem, x, key=jax.random.key(0))
    for key in jax.random.split(jax.random.key(1), 2):
        gradient, state, info = chosen.estimate(
            problem, x, problem.default_parameters, state, key=key
        )
    np.testing.assert_allclose(ravel_pytree(gradient)[0], exact_gradient(problem, x), rtol=1e-10)
    truth = leader_outcome(problem, x, problem.default_parameters).objective
    assert float(info.objective) == pytest.approx(float(truth), rel=1e-10)
    assert float(info.prior_share) == 0.0


@dataclass(frozen=True)
class InTheRealWorld:
    """A follower whose world has another transition law than the problem states."""

    world: Problem
    runs_on_host = False

    def initial_memory(self, problem):
        return ExactFollower().initial_memory(self.world)

    def train(self, problem, *arguments, **named):
        return ExactFollower().train(self.world, *arguments, **named)


@pytest.mark.parametrize("estimator", [LearnedModel, DoublyRobust])
def test_what_the_problem_says_of_the_law_does_not_enter(estimator):
    """Only which states can follow is taken from it: a wrong law gives the same estimate."""
    world = four_rooms(temperature=0.05, slip=0.44)
    model = LearnedModel(num_rollouts=40, max_steps=40, oracle=InTheRealWorld(world))
    chosen = model if estimator is LearnedModel else DoublyRobust(model)
    found = []
    for stated in (world, four_rooms(temperature=0.05, slip=0.1)):
        x = stated.incentive.initial
        state = chosen.init(stated, x, key=jax.random.key(0))
        gradient, _, _ = jax.jit(partial(chosen.estimate, stated))(
            x, stated.default_parameters, state, key=jax.random.key(1)
        )
        found.append(np.asarray(ravel_pytree(gradient)[0]))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9, atol=1e-12)
    assert np.abs(found[0]).max() > 1e-3


def critic_with(problem, share):
    """The true policy, and a law that is a mixture of the true one and one alike for all."""

    def critic(incentive, context, parameters):
        mdp = problem.mdp_fn(incentive, context, parameters)
        policy = best_response(jax.lax.stop_gradient(mdp)).policy
        law = mdp.transition.to_dense().probability
        mixed = DenseTransition((1.0 - share) * law + share / law.shape[-1])
        return replace(mdp, transition=mixed), policy

    return critic


def advantages(problem, x, context, one, critic):
    """Leader's and follower's advantages at a fixed policy, and the follower's derivative."""
    leader = problem.leader_discount
    policy = best_response(problem.mdp_fn(problem.incentive.transform(x), context, one)).policy

    def both(x):
        incentive = problem.incentive.transform(x)
        mdp = problem.mdp_fn(incentive, context, one)
        if critic is not None:
            mdp, _ = critic(incentive, context, one)
        reward = problem.leader_net_reward(incentive, context, one)
        worth = policy_values(mdp, policy, reward=reward, discount=leader)
        by_leader = reward + leader * mdp.continues[:, None] * mdp.transition.expectation(worth)
        logits = mdp.temperature * jnp.log(responding(mdp, policy))
        return by_leader - worth[:, None], logits - (policy * logits).sum(-1, keepdims=True)

    slope = jax.jacfwd(lambda x: both(x)[1])(x)
    return both(x)[0], slope, policy


def test_the_error_of_doubly_robust_is_the_product_of_both_errors():
    """Its mean is exact less sum w (A - A^)(dA - dA^) / lambda, here by matrices."""
    problem = make_moving_problem()
    x = problem.incentive.random_start(jax.random.key(8), 0.3)
    parameters = problem.default_parameters
    values, weights = problem.contexts.support(parameters, jax.random.key(0))
    critic = critic_with(problem, 1.0)
    wanted = np.zeros(problem.incentive.size)
    for number, weight in enumerate(np.asarray(weights)):
        context = jax.tree.map(lambda leaf, i=number: jnp.asarray(leaf)[i], values)
        for who, share in enumerate(problem.followers.weights):
            one = problem.follower_parameters(parameters, who)
            mdp = problem.mdp_fn(problem.incentive.transform(x), context, one)
            true, true_slope, policy = advantages(problem, x, context, one, None)
            said, said_slope, _ = advantages(problem, x, context, one, critic)
            visits = occupancy(mdp, policy, discount=problem.leader_discount)
            lost = visits * (true - said) / mdp.temperature
            for_each = jax.tree.map(
                lambda a, b, lost=lost: jnp.tensordot(lost, a - b, 2), true_slope, said_slope
            )
            wanted -= weight * share * np.asarray(ravel_pytree(for_each)[0])
    exact = exact_gradient(problem, x)
    estimator = DoublyRobust(LearnedModel(num_rollouts=4000, max_steps=60), critic=critic)
    state = estimator.init(problem, x, key=jax.random.key(0))

    @jax.jit
    def one_estimate(key):
        gradient, _, _ = estimator.estimate(problem, x, parameters, state, key=key)
        return ravel_pytree(gradient)[0]

    found = np.stack([one_estimate(key) for key in jax.random.split(jax.random.key(5), 30)])
    error = found.std(0, ddof=1) / np.sqrt(len(found))
    assert np.abs((found.mean(0) - exact - wanted) / error).max() < 4.5
    assert (np.abs(wanted) > 5 * error).any()  # there is a bias to be seen


def test_an_outlook_orders_what_unseen_moves_promise():
    problem = four_rooms(temperature=0.05)
    x, key = problem.incentive.initial, jax.random.key(4)
    promised = {}
    for outlook in ("cautious", "neutral", "optimistic"):
        estimator = LearnedModel(num_rollouts=4, max_steps=20, prior=LawPrior(5.0, outlook))
        state = estimator.init(problem, x, key=key)
        _, _, info = estimator.estimate(problem, x, problem.default_parameters, state, key=key)
        promised[outlook] = float(info.objective)
        assert 0.0 < float(info.prior_share) <= 1.0
    assert promised["cautious"] < promised["neutral"] < promised["optimistic"]


def test_frequencies_serve_where_nothing_is_reported():
    model = jnp.array([[0.5, 0.5], [0.9, 0.1]])
    visits = jnp.array([[3.0, 1.0], [0.0, 0.0]])
    nothing = Seen(jnp.zeros((2, 2, 1)), visits, jnp.zeros((2, 2)))
    np.testing.assert_allclose(nothing.policy(model, 2.0), [[4 / 6, 2 / 6], [0.9, 0.1]])
    np.testing.assert_allclose(nothing.policy(model, 0.0), [[0.75, 0.25], [0.9, 0.1]])
    said = nothing._replace(reported=jnp.array([[0.7, 0.0], [0.0, 0.0]]))
    np.testing.assert_allclose(said.policy(model, 2.0), [[0.7, 0.3], [0.9, 0.1]])


def test_a_law_as_a_parameter_is_the_stated_one_by_default():
    for make in (four_rooms, make_moving_problem):
        problem = make()
        unknown = with_unknown_law(problem)
        x = problem.incentive.random_start(jax.random.key(2), 0.5)
        found = leader_outcome(unknown, x, unknown.default_parameters)
        wanted = leader_outcome(problem, x, problem.default_parameters)
        assert float(found.objective) == pytest.approx(float(wanted.objective), rel=1e-9)
        with pytest.raises(InvalidInputError, match="already has a parameter"):
            with_unknown_law(unknown)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InvalidInputError, match="outlook on unseen transitions"):
        LawPrior(outlook="hopeful")
    with pytest.raises(InvalidInputError, match="law_memory"):
        LearnedModel(law_memory=1.5)
    with pytest.raises(InvalidInputError, match="critic is not a function"):
        DoublyRobust(critic=3)
    problem = two_state()
    small = LearnedModel(num_rollouts=8, max_steps=2)
    wrong = DoublyRobust(
        small, critic=lambda x, c, p: (problem.mdp_fn(x, c, p), jnp.ones((7, 2)) / 2)
    )
    x = problem.incentive.initial
    state = wrong.init(problem, x, key=jax.random.key(0))
    with pytest.raises(InvalidInputError, match="critic does not fit"):
        wrong.estimate(problem, x, problem.default_parameters, state, key=jax.random.key(1))
    context, one = first_view(problem)
    mdp = problem.mdp_fn(problem.incentive.transform(x), context, one)
    walked = rollout(
        mdp, jnp.ones(mdp.reward.shape) / 2, key=jax.random.key(0), num_steps=1, num_rollouts=2
    )
    lost = replace(walked, next_state=jnp.full_like(walked.next_state, 0))
    with pytest.raises(DataError, match="moved where the problem's law never leads"):
        refuse_unlisted(mdp, lost)
