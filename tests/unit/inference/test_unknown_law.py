"""A transition law that is learned: prior, counts, jointly with choices or cut from them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import biject_to

import cbrl_bayes as cb
from cbrl_bayes.behaviour import count_behaviour
from cbrl_bayes.errors import DataError, InvalidInputError
from cbrl_bayes.inference import BehaviourModel, default_priors, prior_text, transition_counts
from cbrl_bayes.inference.dirichlet_rows import DirichletRows
from cbrl_bayes.inference.likelihood import policies, transition_log_likelihood
from cbrl_bayes.inference.mle import maximum_likelihood
from cbrl_bayes.mdp import MDP, SuccessorTransition
from cbrl_bayes.problems import LAW, law_support, with_unknown_law
from cbrl_bayes.workflow import behaviour_model
from tests.conftest import make_workshop

CONCENTRATION = np.array([[[1.0, 2.0, 0.0], [0.0, 3.0, 0.0]], [[0.5, 1.0, 2.0], [0.0, 1.0, 1.0]]])
SETTINGS = cb.NUTSSettings(num_chains=2, num_warmup=200, num_samples=500)


@pytest.fixture(scope="module")
def workshop():
    return with_unknown_law(make_workshop())


@pytest.fixture(scope="module")
def data(workshop):
    return cb.simulate_trajectories(workshop, key=jax.random.key(0), num_episodes=6, num_steps=10)


def by_hand(data, shape):
    """Count state, action and next state of every step but an episode's last."""
    table = np.zeros(shape)
    states, actions = data["state"].values, data["action"].values
    for row, acts in zip(states, actions, strict=True):
        for s, a, after in zip(row[:-1], acts[:-1], row[1:], strict=True):
            if after >= 0:
                table[s, a, after] += 1
    return table


def test_rows_are_independent_dirichlet_laws():
    law = DirichletRows(CONCENTRATION)
    draws = np.asarray(law.sample(jax.random.key(0), (4000,)))
    # Five standard errors of 4,000 draws.
    error = 5.0 * np.sqrt(law.variance / 4000) + 1e-12
    assert (abs(draws.mean(0) - law.mean) <= error).all()
    rows = [([0, 0], [0, 1]), ([1, 0], [0, 1, 2]), ([1, 1], [1, 2])]
    value = draws[:3]
    parts = [
        dist.Dirichlet(CONCENTRATION[s, a, k]).log_prob(value[:, s, a, k]) for (s, a), k in rows
    ]
    np.testing.assert_allclose(law.log_prob(value), sum(parts), rtol=1e-10)
    assert law.support(value).all()
    assert not law.support(value + 0.1).any()


def test_rows_have_as_many_numbers_as_are_free():
    law = DirichletRows(CONCENTRATION)
    transform = biject_to(law.support)
    value = law.sample(jax.random.key(1), (2,))
    free = transform.inv(value)
    assert free.shape == (2, law.num_free) == transform.inverse_shape(value.shape)
    assert transform.forward_shape(free.shape) == value.shape
    np.testing.assert_allclose(transform(free), value, atol=1e-12)

    def chosen(numbers):
        rows = transform(numbers)
        return jnp.stack([rows[0, 0, 0], rows[1, 0, 0], rows[1, 0, 1], rows[1, 1, 1]])

    _, wanted = np.linalg.slogdet(jax.jacobian(chosen)(free[0]))
    assert float(transform.log_abs_det_jacobian(free[0], value[0])) == pytest.approx(wanted)


def test_transitions_are_counted_from_states_and_from_slots(workshop, data):
    wanted = by_hand(data, (2, 2, 2))
    assert wanted.sum() == 54
    counts = count_behaviour(workshop, data)
    np.testing.assert_array_equal(transition_counts(workshop, counts), wanted)
    # A known law learns nothing from states.
    assert not len(count_behaviour(make_workshop(), data).transition_count)
    last = np.full(data["state"].shape, -1)
    last[:, -1] = 1  # where each episode went at last, which its states do not show
    told = data.assign(successor_slot=(data["state"].dims, last))
    more = transition_counts(workshop, count_behaviour(workshop, told)) - wanted
    assert more.sum() == 6
    assert not more[..., 0].any()


def _twice_listed(first=0.3):
    """Two states; the second is listed twice under every pair of the first."""
    listed = jnp.array([[[1, 1, 0], [1, 1, 0]], [[0, 1, 1], [0, 1, 1]]])
    law = jnp.array([[[first, 0.3, 0.4 - first + 0.3]] * 2, [[0.5, 0.5, 0.0]] * 2])

    def mdp_fn(x, context, parameters):
        return MDP(
            reward=jnp.array([[0.0, 1.0], [0.5, 0.0]]) + x["bonus"],
            transition=SuccessorTransition(listed, law),
            initial=jnp.array([1.0, 0.0]),
            discount=0.5,
            temperature=parameters["temperature"],
        )

    return with_unknown_law(replace(make_workshop(), name="twice", mdp_fn=mdp_fn))


def test_a_state_that_is_listed_twice_counts_in_its_first_place():
    problem = _twice_listed()
    support = law_support(problem)
    assert support.possible[0, 0].tolist() == [True, False, True]
    assert support.possible[1, 0].tolist() == [True, True, False]
    data = cb.simulate_trajectories(problem, key=jax.random.key(3), num_episodes=4, num_steps=9)
    counts = count_behaviour(problem, data)
    table, wanted = transition_counts(problem, counts), by_hand(data, (2, 2, 2))
    np.testing.assert_array_equal(table[0, :, [0, 2]].T, wanted[0][:, [1, 0]])
    found = transition_log_likelihood(problem, counts, problem.default_parameters)
    chance = np.array([[[0.4, 0.6], [0.4, 0.6]], [[0.5, 0.5], [0.5, 0.5]]])
    assert float(found) == pytest.approx((wanted * np.log(chance)).sum(), rel=1e-12)
    law = cb.UnknownLaw(np.ones((2, 2, 3))).settled(problem)
    assert law.concentration[0, 0].tolist() == [2.0, 0.0, 1.0]


@pytest.mark.parametrize("joint", [True, False])
def test_a_law_that_choices_do_not_speak_of_has_its_closed_form(joint):
    """Without a future (discount 0) joint and cut posterior are the same Dirichlet law."""
    problem = with_unknown_law(make_workshop(discount=0.0))
    data = cb.simulate_trajectories(problem, key=jax.random.key(1), num_episodes=6, num_steps=10)
    law = cb.UnknownLaw(1.5, joint=joint)
    fit = cb.infer(problem, data, key=jax.random.key(2), settings=SETTINGS, priors={LAW: law})
    draws = fit["posterior"][LAW].values.reshape(-1, 2, 2, 2)
    number = 1.5 + by_hand(data, (2, 2, 2))
    mean = number / number.sum(-1, keepdims=True)
    variance = mean * (1 - mean) / (number.sum(-1, keepdims=True) + 1)
    # 1,000 draws, worth 400 at the least: five standard errors of a mean and of a variance.
    assert (abs(draws.mean(0) - mean) < 5 * np.sqrt(variance / 400)).all()
    assert (abs(draws.var(0) / variance - 1) < 5 * np.sqrt(2.0 / 400)).all()
    told = fit["dynamics"].attrs
    assert told["learned"] == ("joint" if joint else "cut")
    np.testing.assert_array_equal(fit["dynamics"]["transition_count"], number - 1.5)


def test_a_cut_draws_the_rest_given_each_law(workshop, data):
    """Against integration: a grid of temperatures under 400 laws of the Dirichlet posterior."""
    prior = dist.LogNormal(np.log(0.3), 1.0)
    law = cb.UnknownLaw(joint=False)
    fit = cb.infer(workshop, data, key=jax.random.key(5), settings=SETTINGS, priors={LAW: law})
    model = behaviour_model(workshop, data, priors={LAW: law})
    laws = model.cut_law.sample(jax.random.key(6), (400,))
    grid = jnp.exp(jnp.linspace(np.log(0.02), np.log(30.0), 80))

    def log_density(one, temperature):
        parameters = model.complete({"temperature": temperature, LAW: one})
        log_policy, _ = policies(workshop, model.counts, parameters)
        rows = log_policy[model.counts.row_cell, model.counts.row_state]
        # The grid is even on the log scale, hence the Jacobian.
        return (
            (model.counts.action_count * rows).sum()
            + prior.log_prob(temperature)
            + jnp.log(temperature)
        )

    over = jax.jit(lambda one: jax.vmap(lambda t: log_density(one, t))(grid))
    weight = np.asarray(jax.nn.softmax(jax.lax.map(over, laws), axis=1)).mean(0)
    logs = np.log(np.asarray(grid))
    mean = weight @ logs
    spread = np.sqrt(weight @ (logs - mean) ** 2)
    found = np.log(fit["posterior"]["temperature"].values).ravel()
    # 1,000 draws, worth 400 at the least: four standard errors, and the grid's 400 laws.
    assert found.mean() == pytest.approx(mean, abs=5 * spread / np.sqrt(400))
    assert found.std() == pytest.approx(spread, rel=5 / np.sqrt(2 * 400))


def test_choices_speak_of_a_law_jointly(workshop, data):
    """The joint density is prior, transitions and choices; a cut leaves the choices out."""
    joint = behaviour_model(workshop, data, priors={LAW: cb.UnknownLaw(joint=True)})
    cut = behaviour_model(workshop, data, priors={LAW: cb.UnknownLaw(joint=False)})
    assert joint.cut_law is None
    np.testing.assert_array_equal(cut.cut_law.concentration, 1.0 + by_hand(data, (2, 2, 2)))
    assert cb.UnknownLaw().settled(workshop).is_joint
    large = with_unknown_law(cb.problems.four_rooms())
    law = cb.UnknownLaw().settled(large)
    assert not law.is_joint
    assert prior_text(law) == "UnknownLaw(concentration=1, cut; 1168 free probabilities)"


def test_a_variational_fit_of_a_cut_says_what_it_did(workshop, data):
    settings = cb.SVISettings(num_steps=30, num_samples=40)
    law = cb.UnknownLaw(joint=False)
    fit = cb.infer(workshop, data, key=jax.random.key(7), settings=settings, priors={LAW: law})
    assert fit["dynamics"].attrs["learned"] == "cut at the mean"
    assert fit["posterior"][LAW].shape == (1, 40, 2, 2, 2)
    assert "fitted at its mean" in str(cb.summary(fit))


def test_hidden_episodes_speak_of_a_law_that_all_contexts_share(workshop):
    hidden = cb.simulate_trajectories(
        workshop, key=jax.random.key(0), num_episodes=6, num_steps=10, context_observed=False
    )
    hidden["context"][:] = ""
    counts = count_behaviour(workshop, hidden)
    np.testing.assert_array_equal(transition_counts(workshop, counts), by_hand(hidden, (2, 2, 2)))


def test_what_does_not_fit_the_problem_is_refused(workshop):
    with pytest.raises(InvalidInputError, match=r"no parameter.*with_unknown_law"):
        default_priors(make_workshop(), {LAW: cb.UnknownLaw()})
    with pytest.raises(InvalidInputError, match=r"is known.*with_unknown_law"):
        cb.UnknownLaw().settled(make_workshop())
    with pytest.raises(InvalidInputError, match=r"one number, or shape \(2, 2, 2\)"):
        default_priors(workshop, {LAW: cb.UnknownLaw(np.ones((2, 2, 3)))})
    with pytest.raises(InvalidInputError, match="lets nothing follow"):
        cb.UnknownLaw(np.ones((2, 2, 2)) * [[[1], [0]]]).settled(workshop)
    with pytest.raises(InvalidInputError, match="this concentration cannot be used"):
        cb.UnknownLaw(-1.0)
    with pytest.raises(InvalidInputError, match="this concentration cannot be used"):
        cb.UnknownLaw(0.0)
    with pytest.raises(InvalidInputError, match="UnknownLaw is no prior of 'temperature'"):
        default_priors(workshop, {"temperature": cb.UnknownLaw()})
    with pytest.raises(InvalidInputError, match="nothing of the transition law"):
        default_priors(with_unknown_law(cb.problems.two_state()))
    contract = with_unknown_law(cb.problems.contract_design())
    everywhere = np.ones(np.shape(contract.default_parameters[LAW]))
    with pytest.raises(InvalidInputError, match="positive where the problem's law never leads"):
        cb.UnknownLaw(everywhere).settled(contract)


def test_data_that_do_not_teach_the_law_are_refused(workshop, data):
    short = cb.simulate_trajectories(workshop, key=jax.random.key(0), num_episodes=6, num_steps=1)
    with pytest.raises(DataError, match=r"hold no transitions.*6 episodes"):
        behaviour_model(workshop, short)
    never = np.ones((2, 2, 2))
    never[0, 0, 1] = 0.0
    with pytest.raises(DataError, match="from state 0 with action 0 to state 1"):
        behaviour_model(workshop, data, priors={LAW: cb.UnknownLaw(never)})
    with pytest.raises(InvalidInputError, match="maximum likelihood does not cover"):
        maximum_likelihood(behaviour_model(workshop, data))
    alone = {LAW: cb.UnknownLaw(joint=False), "temperature": 0.3}
    with pytest.raises(InvalidInputError, match="nothing to infer"):
        behaviour_model(workshop, data, priors=alone).require_unknown()


def test_a_cut_needs_the_law_itself_in_the_data():
    problem = with_unknown_law(make_workshop(price_moves_law=True))
    for bonus, allowed in ((0.0, True), (0.7, False)):
        data = cb.simulate_trajectories(
            problem,
            key=jax.random.key(0),
            num_episodes=4,
            num_steps=8,
            incentive={"bonus": bonus},
            regime="paid",
        )
        model = behaviour_model(problem, data)  # jointly
        cut = default_priors(problem, {LAW: cb.UnknownLaw(joint=False)})
        if allowed:
            BehaviourModel(problem, model.counts, cut)
        else:
            with pytest.raises(InvalidInputError, match="the incentive moves the law"):
                BehaviourModel(problem, model.counts, cut)
            found = transition_log_likelihood(problem, model.counts, problem.default_parameters)
            law = problem.mdp_fn({"bonus": bonus}, 1.0, {**problem.default_parameters}).transition
            wanted = (by_hand(data, (2, 2, 2)) * np.log(law.probability)).sum()
            assert float(found) == pytest.approx(float(wanted), rel=1e-10)


def test_episodes_that_do_not_show_their_end_are_noted():
    problem = with_unknown_law(cb.problems.contract_design())
    names = [str(problem.contexts.names[0])] * 2
    data = cb.make_trajectories([[0, 1], [0]], [[1, 1], [1]], context=names)
    with pytest.warns(cb.errors.DataNote, match="none shows a state that ends it"):
        count_behaviour(problem, data)
