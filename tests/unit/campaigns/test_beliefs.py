"""Beliefs over rounds, against quadrature, conjugate posteriors and NUTS."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.stats import dirichlet, kstest, norm

import cbrl_bayes as cb
from cbrl_bayes.campaigns.answers import Answer, Watch
from cbrl_bayes.campaigns.dynamics import DynamicsPrograms
from cbrl_bayes.campaigns.particles import (
    ParticlePrograms,
    ParticleSettings,
    _largest_step,
    _Student,
)
from cbrl_bayes.campaigns.watching import World, _used
from cbrl_bayes.inference import PerGroup, default_priors
from cbrl_bayes.inference.prior_law import PriorLaw

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def problem():
    return cb.problems.two_state()


@pytest.fixture(scope="module")
def programs(problem):
    settings = ParticleSettings(num_particles=2000)
    return ParticlePrograms(problem, default_priors(problem), settings)


@pytest.fixture(scope="module")
def answers(problem):
    """Five rounds of forty episodes under five bonuses."""
    world = World(problem, problem.default_parameters)
    memory = world.initial_memory()
    found = []
    for number, bonus in enumerate((0.4, 1.0, 1.6, 0.8, 1.2)):
        key = jax.random.fold_in(KEY, number)
        answer, memory = world.answer(np.array([bonus]), Watch(40, 80, 2), memory, key)
        found.append(answer)
    return found


def by_quadrature(answers):
    """Mean and standard deviation of the temperature, on a fine grid of its logarithm."""
    log = np.linspace(np.log(0.25) - 4.0, np.log(0.25) + 4.0, 4001)
    total = norm.logpdf(log, np.log(0.25), 1.0)
    for answer in answers:
        for context, cost in enumerate((0.5, 1.5)):
            gain = (answer.point[0] - cost) / np.exp(log)
            refused, worked = answer.choices[context, 0, 0]
            total += -worked * np.logaddexp(0.0, -gain) - refused * np.logaddexp(0.0, gain)
    weight = np.exp(total - total.max())
    weight /= weight.sum()
    mean = weight @ np.exp(log)
    evidence = total.max() + np.log(np.exp(total - total.max()).sum() * (log[1] - log[0]))
    return mean, np.sqrt(weight @ (np.exp(log) - mean) ** 2), evidence


def test_particles_follow_the_posterior_over_rounds(programs, answers):
    belief = programs.first(KEY)
    for number, answer in enumerate(answers):
        belief = belief.updated([answer], jax.random.fold_in(KEY, number))
        mean, spread, evidence = by_quadrature(answers[: number + 1])
        drawn = belief.draws(KEY, 2000)["temperature"]
        # ESS >= 1,000: a standard error of .03 spreads; 5 of them.
        assert drawn.mean() == pytest.approx(mean, abs=0.16 * spread)
        assert drawn.std() == pytest.approx(spread, rel=0.2)
        assert belief.effective_size >= 1000
    assert belief.num_moves > 0
    # Contexts are conjugate: their part of the evidence is known exactly.
    assert belief.context_weights.tolist() == (1.0 + belief.contexts).tolist()
    contexts = belief.log_evidence - evidence
    exact = -np.log(201.0) - _log_choose(200, int(belief.contexts[0]))
    exact += 200 * np.log(0.5)  # what is done in the last state, where nothing matters
    assert contexts == pytest.approx(exact, abs=0.25)  # error of the evidence by particles


def _log_choose(total, some):
    return float(
        np.sum(np.log(np.arange(some + 1, total + 1)) - np.log(np.arange(1, total - some + 1)))
    )


@pytest.mark.slow
def test_particles_agree_with_nuts_on_the_same_data(problem, programs):
    data = cb.concatenate(
        [
            cb.simulate_trajectories(
                problem,
                key=jax.random.key(n),
                num_episodes=60,
                num_steps=2,
                incentive={"bonus": bonus},
                regime=f"bonus {bonus}",
            )
            for n, bonus in enumerate((0.6, 1.3))
        ]
    )
    settings = cb.NUTSSettings(num_chains=2, num_warmup=200, num_samples=400)
    fit = cb.infer(problem, data, key=KEY, settings=settings, progress=False)
    belief = programs.first(KEY)
    for regime in np.unique(data["regime"].values):
        some = data.isel(episode=np.flatnonzero(data["regime"].values == regime))
        belief = belief.updated([_answer_of(problem, some)], KEY)
    drawn = belief.draws(KEY, 2000)
    for name in ("temperature", "context_probability"):
        by_nuts = fit["posterior"][name].values.reshape(800, -1)
        ours = drawn[name].reshape(2000, -1)
        spread = by_nuts.std(0)
        # Some 300 effective draws of NUTS and 1,000 particles: .07 spreads; 4 of them.
        np.testing.assert_array_less(np.abs(ours.mean(0) - by_nuts.mean(0)), 0.28 * spread)
        np.testing.assert_allclose(ours.std(0), spread, rtol=0.25)


def _answer_of(problem, data):
    from cbrl_bayes.behaviour import count_behaviour

    counts = count_behaviour(problem, data)
    choices = np.zeros((2, 1, 2, 2))
    for row, (cell, state) in enumerate(zip(counts.row_cell, counts.row_state, strict=True)):
        choices[counts.cell_context[cell], 0, state] += counts.action_count[row]
    point = counts.incentives["bonus"][0][None]
    blank = np.zeros((2, 1, 2, 2, 2))
    return Answer(point, choices, blank, counts.context_count.astype(float), 0, 0.0, 0.0, 0)


def test_one_round_that_says_everything_is_put_in_by_degrees(problem, answers):
    priors = {"temperature": dist.LogNormal(3.0, 1.0)}  # 4.4 spreads away
    small = ParticlePrograms(
        problem, default_priors(problem, priors), ParticleSettings(num_particles=400)
    )
    belief = small.first(KEY).updated(answers, KEY)
    mean = belief.draws(KEY, 400)["temperature"].mean()
    assert 0.15 < mean < 0.35  # from about 20
    assert belief.num_moves >= 4
    assert belief.effective_size >= 200


def test_the_same_design_again_adds_to_the_same_counts(programs, answers):
    belief = programs.first(KEY).updated(answers[:1], KEY).updated(answers[:1], KEY)
    assert len(belief.answers) == 1
    assert belief.answers[0].choices.sum() == 2 * answers[0].choices.sum()
    assert belief.answers[0].steps == 2 * answers[0].steps


def test_a_prior_has_the_density_of_its_draws(problem):
    priors = default_priors(problem, {"temperature": dist.LogNormal(0.5, 0.3)})
    law = PriorLaw(priors)
    points = law.draw(KEY, 2000)
    assert points.shape == (2000, law.size)
    assert (
        kstest(np.asarray(points[:, law.sampled.index("temperature")]), norm(0.5, 0.3).cdf)[1]
        > 1e-3
    )
    point = points[0]
    parameters = law.parameters(point)
    chance = np.asarray(parameters["context_probability"])
    # Stick-breaking of two: logit of the first, up to its sign; density p (1 - p) on the real line.
    expected = (
        norm.logpdf(np.log(parameters["temperature"]), 0.5, 0.3)
        + dirichlet.logpdf(chance, [1.0, 1.0])
        + np.log(chance.prod())
    )
    assert float(law.log_density(point)) == pytest.approx(float(expected), abs=1e-8)


def test_what_is_known_takes_no_place(problem):
    priors = default_priors(problem, {"temperature": 0.3, "context_probability": (0.2, 0.8)})
    law = PriorLaw(priors)
    assert law.size == 0
    assert float(law.parameters(jnp.zeros(0))["temperature"]) == 0.3
    belief = ParticlePrograms(problem, priors).first(KEY)
    assert np.all(belief.draws(KEY, 7)["context_probability"] == (0.2, 0.8))


def test_followers_of_two_groups_have_values_of_their_own():
    two = cb.problems.two_state().with_followers(("calm", "rash"), (0.5, 0.5))
    priors = default_priors(two, {"temperature": PerGroup(dist.LogNormal(-1.0, 1.0))})
    truth = two.complete_parameters({"temperature": np.array([0.1, 1.0])})
    world = World(two, truth)
    answer, _ = world.answer(np.array([1.0]), Watch(400, 800, 2), world.initial_memory(), KEY)
    assert answer.choices.sum((0, 2, 3)).tolist() == [400.0, 400.0]
    belief = ParticlePrograms(two, priors).first(KEY).updated([answer], KEY)
    calm, rash = belief.draws(KEY, 400)["temperature"].mean(0)
    assert calm < 0.2 < 0.6 < rash


def test_dynamics_are_learned_with_the_parameters():
    """Against quadrature under one law: where the law is certain, nothing is cut."""
    problem = cb.problems.two_state()
    programs = DynamicsPrograms(
        problem, default_priors(problem), cb.DynamicsSettings(num_laws=64, num_recent=8)
    )
    world = World(problem, problem.default_parameters)
    found, memory, belief = [], world.initial_memory(), programs.first(KEY)
    for number, bonus in enumerate((0.4, 1.0, 1.6, 0.8, 1.2)):
        key = jax.random.fold_in(KEY, number)
        answer, memory = world.answer(np.array([bonus]), Watch(300, 600, 2), memory, key)
        found.append(answer)
        belief = belief.updated([answer], key)
    mean, spread, _ = by_quadrature(found)
    drawn = belief.draws(KEY, 64)["temperature"]
    # The Laplace approximation is good to a few per cent here; 64 draws: .125 spreads, 4 of them.
    assert drawn.mean() == pytest.approx(mean, abs=0.5 * spread)
    assert drawn.std() == pytest.approx(spread, rel=0.4)
    assert np.allclose(belief.laws[:, 0], [[0.0, 1.0], [0.0, 1.0]])  # the only possible successor
    assert belief.counts[0, 0].sum() == 1500


def test_a_round_ends_with_its_last_step():
    cut, taken, left = _used(np.array([[3, 3], [5, 1]]), np.array([0, 1, 0, 0]), 0, 9)
    assert (taken, left) == (3, 0)
    assert cut.length.tolist() == [[3, 1], [5, 0]]
    assert cut.whole.tolist() == [[True, False], [True, False]]


def test_steps_of_a_likelihood_keep_the_effective_size():
    rng = np.random.default_rng(0)
    gain = 5.0 * rng.normal(size=1000)
    step = _largest_step(np.zeros(1000), gain, 1.0, 500.0)
    weight = np.exp(step * gain)
    assert weight.sum() ** 2 / (weight**2).sum() == pytest.approx(500.0, rel=1e-3)
    assert _largest_step(np.zeros(1000), 1e-6 * gain, 1.0, 500.0) == 1.0


def test_proposals_are_a_student_t():
    rng = np.random.default_rng(1)
    like = _Student.like(rng.normal(size=(500, 1)) * 2.0 + 1.0)
    drawn = like.draw(4000, rng)[:, 0]
    assert kstest((drawn - like.mean[0]) / like.root[0, 0], "t", args=(5,))[1] > 1e-3
    # Density ratio of two points, from SciPy.
    from scipy.stats import t

    points = np.array([[0.0], [3.0]])
    ours = np.diff(like.log_density(points))[0]
    theirs = np.diff(t.logpdf(points[:, 0], 5, like.mean[0], like.root[0, 0]))[0]
    assert ours == pytest.approx(theirs)
