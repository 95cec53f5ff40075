"""The life cycle against a backward induction of its own in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.problems import leader_outcome, respond
from cbrl_bayes.problems.life_cycle import life_cycle

SAVINGS, HOURS, LUCK = (-12.0, -6.0, -2.0, 0.0, 2.0, 6.0), (0.0, 0.5, 1.0), (0.8, 1.2)
STAYS = np.array([[0.9, 0.1], [0.1, 0.9]])


def by_numpy(
    *, match, pay, discount, temperature=0.2, toil=0.6, num_periods=60, retirement=42, nodes=13
):
    """Return the first values (assets, luck), and the leader's objective from no assets on."""
    assets = 150.0 * np.linspace(0, 1, nodes) ** 2
    k = assets[:, None, None, None]  # assets, luck, saving, hours
    z = np.array(LUCK)[None, :, None, None]
    x = np.array(SAVINGS)[None, None, :, None]
    h = np.array(HOURS)
    later = np.repeat(0.5 * np.log1p(assets / 8.0)[:, None], 2, axis=1)
    policies, moves, gains = [], [], []
    for t in reversed(range(num_periods)):
        works = t < retirement
        c = (pay * z * h if works else 8.0 + 0.0 * z * h) - x + 0.0 * k
        is_open = (c > 0) & (k + x >= 0) & (works | (h == 0))
        then = 1.02 * (k + x + (match * np.maximum(x, 0) if works else 0.0)) + 0.0 * c
        ahead = np.stack([np.interp(then, assets, later[:, v]) for v in range(2)])
        mean = np.einsum("zv,vkzxh->kzxh", STAYS, ahead)
        q = np.log(np.where(c > 0, c, 1.0)) - toil * h + discount * mean
        scaled = np.where(is_open, q / temperature, -np.inf).reshape(nodes, 2, -1)
        later = temperature * np.logaddexp.reduce(scaled, axis=-1)
        policies.insert(0, np.exp(scaled - later[..., None] / temperature).reshape(c.shape))
        moves.insert(0, then)
        harm = 0.0 if works else 8.0 * np.maximum(14.0 - c, 0.0)
        gains.insert(0, -harm - (match * np.maximum(x, 0.0) if works else 0.0) + 0.0 * c)
    mass = np.zeros((nodes, 2))
    mass[0] = 0.5
    objective = 0.0
    for t in range(num_periods):
        flow = mass[:, :, None, None] * policies[t]
        objective += 0.98**t * (flow * gains[t]).sum()
        nearest = np.stack([np.interp(moves[t], assets, row) for row in np.eye(nodes)])
        mass = np.einsum("kzxh,nkzxh,zv->nv", flow, nearest, STAYS)
    return later, objective


@pytest.mark.parametrize("discount", [0.98, 1.0])
def test_backward_induction(discount):
    problem = life_cycle(discount=discount)
    for match, pay in ((0.4, 36.0), (0.0, 20.0)):
        incentive = {"match": jnp.array(match)}
        one = problem.follower_parameters(problem.default_parameters, 0)
        _, found = respond(problem, incentive, pay, one)
        values, _ = by_numpy(match=match, pay=pay, discount=discount)
        assert int(found.status) == 0
        # Rounding of 60 sums.
        np.testing.assert_allclose(found.values[:26].reshape(13, 2), values, rtol=1e-11)


def test_the_leaders_objective_and_its_derivative():
    problem = life_cycle()
    parameters = problem.default_parameters
    worth = jax.jit(lambda x: leader_outcome(problem, {"match_logit": x}, parameters).objective)
    x = 0.3
    match = float(problem.incentive.transform({"match_logit": x})["match"])
    wanted = np.mean([by_numpy(match=match, pay=p, discount=0.98)[1] for p in (20.0, 36.0)])
    assert float(worth(x)) == pytest.approx(wanted, rel=1e-10)
    slope = float(jax.grad(worth)(x))
    central = (float(worth(x + 1e-4)) - float(worth(x - 1e-4))) / 2e-4
    # Between two nodes of a grid values are straight lines: no term of third order in most steps.
    assert slope == pytest.approx(central, rel=1e-5)
    assert abs(slope) > 1e-3


def test_a_match_makes_people_save_and_old_people_less_poor():
    problem = life_cycle(num_periods=20, retirement=12)
    parameters = problem.default_parameters
    low, high = (
        leader_outcome(problem, {"match_logit": jnp.array(x)}, parameters) for x in (-6.0, 2.0)
    )
    assert float(high.incentive_cost) > float(low.incentive_cost)
    harm = [float(one.objective + one.incentive_cost) for one in (low, high)]
    assert harm[0] < harm[1] < 0.0
    assert (high.follower_value > low.follower_value).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"retirement": 60}, "retirement = 60"),
        ({"discount": 1.1}, r"discount = 1\.1"),
        ({"pension": 0.0}, "pension = 0"),
        ({"savings": (1.0, 2.0)}, "0 among the savings"),
        ({"hours": (0.5, 1.0)}, "hours that rise from 0"),
        ({"pay": {"all": 0.0}}, "pay and luck cannot be used"),
        ({"savings": (0.0, -1.0)}, "do not rise"),
    ],
)
def test_impossible_lives_are_refused(changes, words):
    with pytest.raises(InvalidInputError, match=words):
        life_cycle(**changes)
