"""States that are alike share what was seen; states that differ do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import dirichlet_multinomial

from cbrl_bayes.hypergradients import LawPrior
from cbrl_bayes.hypergradients.alike import WEIGHTS, AlikeStates
from cbrl_bayes.hypergradients.learned_law import LearnedLaw, drawn_rows
from cbrl_bayes.mdp import MDP, SuccessorTransition

LISTED = np.tile([0, 1, 2], (9, 2, 1))
LISTED[8, :] = [3, 3, 4]
CORRIDOR = SuccessorTransition(jnp.asarray(LISTED), jnp.full((9, 2, 3), 1.0 / 3.0))
"""Nine rows of two actions and three places; in the last, two places are one state."""
LAW = np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])


def corridor(counts):
    return AlikeStates.learned(CORRIDOR.successor, jnp.asarray(counts, float))


def true_rows():
    rows = np.tile(LAW, (9, 1, 1))
    rows[8] = [[0.9, 0.0, 0.1], [0.4, 0.0, 0.6]]
    return rows


def drawn_laws(counts, num):
    """As `learned_law` draws, for one table."""
    keys = jax.random.split(jax.random.key(1), num)
    return drawn_rows(
        counts + jax.vmap(corridor(counts).drawn_pseudo_counts)(keys), jax.random.key(2)
    )


def test_states_that_are_alike_are_learned_together():
    rng = np.random.default_rng(0)
    true = true_rows()
    counts = rng.multinomial(40, true).astype(float)
    found = corridor(counts)
    # 360 steps for each action: .026 at most; 4 of them.
    np.testing.assert_allclose(found.shares, LAW, atol=0.11)
    assert WEIGHTS[int(found.log_weight.argmax())] >= 64.0
    drawn = drawn_laws(counts, 200)
    alone = (counts + 1.0 / 3.0) / (counts.sum(-1, keepdims=True) + 1.0)
    together = np.abs(drawn.mean(0) - true).mean()
    assert together < 0.7 * np.abs(alone - true)[:8].mean()
    assert (drawn[:, 8, :, 1] == 0.0).all()  # not a state of its own
    np.testing.assert_allclose(drawn.sum(-1), 1.0)


def test_a_state_never_visited_follows_the_others():
    """And without the prior on likeness it follows nothing."""
    true = true_rows()
    counts = np.random.default_rng(0).multinomial(400, true).astype(float)
    counts[:, 1][[3, 8]] = 0.0
    blank = jnp.zeros((9, 2))
    mdp = MDP(blank, CORRIDOR, jnp.eye(9)[0], 0.9, 1.0)
    law, alone = (
        LearnedLaw.of(mdp, jnp.asarray(counts), LawPrior(alike=alike), incentive_moves=False)
        for alike in (True, False)
    )
    mean = law.applied(mdp).transition.probability
    # 2,800 steps of action 1: .009; four of them.
    np.testing.assert_allclose(mean[3, 1], true[3, 1], atol=0.04)
    np.testing.assert_allclose(mean[8, 1], true[8, 1], atol=0.04)
    other = alone.applied(mdp).transition.probability
    assert abs(other[3, 1, 0] - 0.2) > 0.3  # what action 0 did there
    assert float(law.seldom(mdp)[3, 1]) == 1.0  # it was not seen, whatever others say
    assert float(alone.seldom(mdp)[3, 1]) == 1.0


def test_states_that_differ_are_learned_by_themselves():
    rng = np.random.default_rng(1)
    true = rng.dirichlet(np.ones(3), size=(9, 2))
    true[8] = [[0.5, 0.0, 0.5], [0.2, 0.0, 0.8]]
    counts = rng.multinomial(4000, true).astype(float)
    assert WEIGHTS[int(corridor(counts).log_weight.argmax())] <= 16.0
    # Each row has 4,000 steps: .008; five of them.
    np.testing.assert_allclose(drawn_laws(counts, 100).mean(0), true, atol=0.04)


def test_the_weight_has_the_likelihood_of_its_counts():
    """One row that was seen: the Dirichlet-multinomial, from SciPy."""
    counts = np.zeros((9, 2, 3))
    counts[0, 0] = [5, 2, 1]
    found = corridor(counts)
    expected = [
        dirichlet_multinomial.logpmf([5, 2, 1], weight * np.asarray(found.shares[0]), 8)
        - np.log1p(8.0 * weight / (8.0 + weight))
        for weight in WEIGHTS
    ]
    np.testing.assert_allclose(np.diff(found.log_weight), np.diff(expected), atol=1e-6)


@pytest.mark.parametrize("row", [[5, 2, 1], [500, 200, 100]])
def test_one_row_says_nothing_of_likeness(row):
    """The base fits it by itself."""
    counts = np.zeros((9, 2, 3))
    counts[0, 0] = row
    chance = np.exp(np.asarray(corridor(counts).log_weight))
    assert (chance / chance.sum()).max() < 0.5


def test_what_no_count_tells_stays_open():
    """Places 0 and 1 are one state wherever anybody went: their split is anything."""
    counts = np.zeros((9, 2, 3))
    counts[8] = [[900, 0, 100], [0, 0, 0]]
    drawn = np.asarray(
        jax.vmap(lambda key: corridor(counts).drawn_pseudo_counts(key))(
            jax.random.split(jax.random.key(0), 400)
        )
    )
    shares = drawn[:, 0, 0] / drawn[:, 0, 0].sum(-1, keepdims=True)
    assert shares[:, 0].std() > 0.2
    np.testing.assert_allclose(shares[:, 2].mean(), 0.1, atol=0.05)


@pytest.mark.parametrize("seen", [0.0, 3.0])
def test_others_tell_no_more_than_was_seen(seen):
    counts = np.zeros((9, 2, 3))
    counts[0, 0, 0] = seen
    told = corridor(counts).pseudo_counts()
    assert np.isfinite(told).all()
    np.testing.assert_allclose(told[:, 1], 0.0)
    assert float(told.sum(-1).max()) <= seen
    drawn = drawn_laws(counts, 2000)
    # Action 1 was never seen: its rows are anything, the same on average.
    np.testing.assert_allclose(drawn[:, 3, 1].mean(0), 1.0 / 3.0, atol=0.06)
    assert drawn[:, 3, 1].std(0).min() > 0.2
