"""The checks that every estimator must pass, as functions that return what they measured."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from cbrl_bayes.hypergradients import (
    AMD,
    HPGD,
    RTQ,
    BoltzmannCovariance,
    DoublyRobust,
    Exact,
    LearnedModel,
    Penalty,
    SoBiRL,
    ZerothOrder,
)
from cbrl_bayes.problems import (
    HouseholdEconomy,
    bus_replacement,
    contract_design,
    four_rooms,
    four_rooms_doors,
    life_cycle,
    reserve_price,
    tax_design,
    two_state,
)
from tests.conftest import make_ending_problem, make_moving_problem, make_staged_problem


def make_bus():
    """The bus problem at a discount that rollouts of 300 steps can serve."""
    return bus_replacement(discount=0.9, leader_discount=0.9, target_mileage=20_000, num_bins=20)


def make_taxes():
    """The tax economy with few hours and levels of spending, so that tables stay small."""
    economy = HouseholdEconomy(
        num_goods=3, num_assets=21, num_hours=4, hours_step=2.0, spending_levels=(0, 1, 2)
    )
    return tax_design(economy=economy, temperature=0.3)


def make_life():
    """A short life on a coarse grid."""
    return life_cycle(num_periods=8, retirement=5, num_assets=5)


PROBLEMS = {
    "two_state": two_state,
    "moving": make_moving_problem,
    "bus_replacement": make_bus,
    "four_rooms": four_rooms,
    "tax_design": make_taxes,
    "contract_design": contract_design,
    "four_rooms_doors": four_rooms_doors,
    "reserve_price": reserve_price,
    "ending": make_ending_problem,
    "staged": make_staged_problem,
    "life_cycle": make_life,
}

SMALL = {
    "exact": Exact(),
    "learned_model": LearnedModel(num_rollouts=8, max_steps=30),
    "doubly_robust": DoublyRobust(LearnedModel(num_rollouts=8, max_steps=30)),
    "hpgd": HPGD(num_rollouts=8, num_branches=4, max_steps=30),
    "boltzmann_covariance": BoltzmannCovariance(num_rollouts=8, max_steps=30, critic_memory=0.5),
    "rt_q": RTQ(num_levels=2, rollouts=HPGD(num_rollouts=8, num_branches=4, max_steps=30)),
    "amd": AMD(num_sweeps=2),
    "sobirl": SoBiRL(num_sweeps=2),
    "penalty": Penalty(num_inner_steps=2),
    "zeroth_order": ZerothOrder(num_rollouts=8, max_steps=30),
}
"""Settings for the contract, where accuracy does not matter."""


@dataclass(frozen=True)
class MeanCheck:
    """How an estimator's mean is held against the exact hypergradient.

    ``repeats`` estimates are averaged (with ``carries`` the state goes from one to the next and
    the first half is left out). Passed if the distance to exact is below 4 standard errors,
    all coordinates together, plus ``allowance`` times the length of the exact one: the bias that
    the estimator's docstring owns up to.
    """

    estimator: object
    repeats: int
    allowance: float = 0.0
    carries: bool = False


def _sampling(max_steps, rollouts=60, branches=20):
    return HPGD(num_rollouts=rollouts, num_branches=branches, max_steps=max_steps)


def _learned(max_steps, rollouts=60, **settings):
    """A model that forgets nothing: what is left of its bias is of first order in 1 / visits."""
    return LearnedModel(num_rollouts=rollouts, max_steps=max_steps, law_memory=1.0, **settings)


def _both(max_steps, repeats, rollouts=60, allowance=0.05):
    model = _learned(max_steps, rollouts)
    return {
        "learned_model": MeanCheck(model, repeats, allowance=allowance, carries=True),
        "doubly_robust": MeanCheck(
            DoublyRobust(model), repeats, allowance=allowance / 2, carries=True
        ),
    }


def _differences(directions):
    return ZerothOrder(num_rollouts=None, num_directions=directions, radius=1e-3)


def _watching(max_steps):
    """Checks of a small problem that ends by itself."""
    return _both(max_steps, 400, 60) | {
        "hpgd": MeanCheck(_sampling(max_steps), 400),
        "boltzmann_covariance": MeanCheck(
            BoltzmannCovariance(num_rollouts=200, max_steps=max_steps), 300, allowance=0.05
        ),
        "rt_q": MeanCheck(
            RTQ(num_levels=8, num_samples=8, rollouts=_sampling(max_steps)), 400, allowance=0.05
        ),
        "zeroth_order": MeanCheck(_differences(50), 100, allowance=0.01),
    }


SWEPT = {
    "amd": MeanCheck(AMD(num_sweeps=100), 20, 1e-6, carries=True),
    "sobirl": MeanCheck(SoBiRL(num_sweeps=100), 20, 1e-6, carries=True),
    # The penalised objective differs from the true one by a share of order 1/c.
    "penalty": MeanCheck(
        Penalty(price=1e5, max_price=1e5, num_inner_steps=20), 4, 1e-3, carries=True
    ),
    "exact": MeanCheck(Exact(), 2, 1e-12),
}

MEANS = {
    "two_state": SWEPT
    | _both(3, 100, 64)
    | {
        "hpgd": MeanCheck(_sampling(3, 64, 32), 200),
        "boltzmann_covariance": MeanCheck(
            BoltzmannCovariance(num_rollouts=200, max_steps=3), 200, allowance=0.05
        ),
        "rt_q": MeanCheck(RTQ(num_levels=3, rollouts=_sampling(3, 64, 32)), 200),
        "zeroth_order": MeanCheck(_differences(20), 200, allowance=0.01),
    },
    "moving": SWEPT
    | _both(150, 400, 60)
    | {
        "hpgd": MeanCheck(_sampling(150), 300),
        "hpgd, plain": MeanCheck(
            HPGD(
                num_rollouts=60,
                num_branches=20,
                max_steps=150,
                common_noise=False,
                baseline=False,
                truncation_exponent=1.0,
                num_contexts=2,
            ),
            600,
        ),
        "boltzmann_covariance": MeanCheck(
            BoltzmannCovariance(num_rollouts=200, max_steps=150), 300, allowance=0.05
        ),
        # After K = 8 levels, 512 iterations, the bias is .002 by matrices.
        "rt_q": MeanCheck(
            RTQ(num_levels=8, num_samples=8, rollouts=_sampling(150)), 800, allowance=0.01
        ),
        "zeroth_order": MeanCheck(_differences(50), 100, allowance=0.01),
    },
    "ending": SWEPT | _watching(60),
    "staged": SWEPT | _watching(5),
    "bus_replacement": SWEPT
    | _both(300, 200, 60)
    | {
        "hpgd": MeanCheck(_sampling(300, 40, 20), 200),
        "boltzmann_covariance": MeanCheck(
            BoltzmannCovariance(num_rollouts=120, max_steps=300), 300, allowance=0.1
        ),
        "zeroth_order": MeanCheck(_differences(50), 100, allowance=0.01),
    },
    "four_rooms": SWEPT
    | _both(1000, 400, 200, 0.05)
    | {
        "hpgd": MeanCheck(_sampling(1000, 200, 400), 1500),
        "boltzmann_covariance": MeanCheck(
            BoltzmannCovariance(num_rollouts=200, max_steps=500, critic_memory=0.9),
            1000,
            allowance=0.15,
            carries=True,
        ),
        "zeroth_order": MeanCheck(_differences(100), 100, allowance=0.01),
    },
    "contract_design": SWEPT
    | _both(4, 200, 200)
    | {
        "hpgd": MeanCheck(_sampling(4, 200, 100), 300),
        "boltzmann_covariance": MeanCheck(
            BoltzmannCovariance(num_rollouts=400, max_steps=4), 400, allowance=0.1
        ),
        "zeroth_order": MeanCheck(_differences(50), 200, allowance=0.01),
    },
    "tax_design": SWEPT
    | _both(150, 400, 200, 0.05)
    | {
        "hpgd": MeanCheck(_sampling(150, 100, 50), 1500),
        "boltzmann_covariance": MeanCheck(
            BoltzmannCovariance(num_rollouts=200, max_steps=150, critic_memory=0.9),
            3000,
            allowance=0.15,
            carries=True,
        ),
        "zeroth_order": MeanCheck(_differences(50), 100, allowance=0.01),
    },
}
"""problem -> estimator -> check. RT-Q is left out where Q-learning needs more iterations than a
test can wait for (gamma .99, or replacements that are tried once in a thousand months)."""


def check_contract(estimator, problem):
    """Shapes as the incentive's, finite, one compilation, same key same answer, vmap as loop."""
    x = problem.incentive.random_start(jax.random.key(5), 0.5)
    parameters = problem.default_parameters
    state = estimator.init(problem, x, key=jax.random.key(0))
    traces = []

    @jax.jit
    def step(x, state, key):
        traces.append(1)
        return estimator.estimate(problem, x, parameters, state, key=key)

    gradient, after, info = step(x, state, jax.random.key(1))
    again, _, _ = step(x, state, jax.random.key(1))
    step(x, after, jax.random.key(2))
    assert len(traces) == 1
    assert jax.tree.structure(gradient) == jax.tree.structure(x)
    for leaf, given in zip(jax.tree.leaves(gradient), jax.tree.leaves(x), strict=True):
        assert leaf.shape == jnp.shape(given)
        assert bool(jnp.isfinite(leaf).all())
    np.testing.assert_array_equal(ravel_pytree(gradient)[0], ravel_pytree(again)[0])
    assert np.isfinite(float(info.objective))
    assert 0.0 <= float(info.truncated_share) <= 1.0
    assert int(info.status) == 0
    keys = jax.random.split(jax.random.key(3), 2)
    batched = jax.vmap(lambda k: step(x, state, k)[0])(keys)
    single = ravel_pytree(step(x, state, keys[1])[0])[0]
    row = ravel_pytree(jax.tree.map(lambda leaf: leaf[1], batched))[0]
    # Batched linear algebra rounds differently.
    np.testing.assert_allclose(row, single, rtol=1e-6, atol=1e-8)


@dataclass(frozen=True)
class Measured:
    """Distance of the mean from exact and its bound, relative to the exact length."""

    distance: float
    bound: float
    objective_error: float
    objective_bound: float
    spread: float


def measure_mean(check, problem):
    """Average the estimator and hold it against exact, in gradient and objective."""
    x = problem.incentive.random_start(jax.random.key(8), 0.3)
    parameters = problem.default_parameters
    exact, _, truth = Exact().estimate(
        problem,
        x,
        parameters,
        Exact().init(problem, x, key=jax.random.key(0)),
        key=jax.random.key(0),
    )
    exact = np.asarray(ravel_pytree(exact)[0])
    state = check.estimator.init(problem, x, key=jax.random.key(0))

    @jax.jit
    def one(state, key):
        gradient, state, info = check.estimator.estimate(problem, x, parameters, state, key=key)
        return ravel_pytree(gradient)[0], info.objective, info.truncated_share, state

    gradients, objectives, shares = [], [], []
    for key in jax.random.split(jax.random.key(12), check.repeats):
        gradient, objective, share, after = one(state, key)
        state = after if check.carries else state
        gradients.append(np.asarray(gradient))
        objectives.append(float(objective))
        shares.append(float(share))
    assert max(shares) < 0.02
    skipped = check.repeats // 2 if check.carries else 0
    if check.allowance <= 1e-3 and check.carries:
        skipped = check.repeats - 1  # a deterministic sequence: its last member counts
    gradients, objectives = np.stack(gradients[skipped:]), np.array(objectives[skipped:])
    count, length = len(gradients), np.linalg.norm(exact)
    spread = np.sqrt(gradients.var(0, ddof=1).sum()) if count > 1 else 0.0
    objective_spread = objectives.std(ddof=1) if count > 1 else 0.0
    scale = max(abs(float(truth.objective)), 1e-3)
    return Measured(
        distance=float(np.linalg.norm(gradients.mean(0) - exact) / length),
        bound=float(check.allowance + 4 * spread / np.sqrt(count) / length),
        objective_error=abs(objectives.mean() - float(truth.objective)) / scale,
        objective_bound=check.allowance + 4 * objective_spread / np.sqrt(count) / scale + 1e-12,
        spread=float(spread / length),
    )
