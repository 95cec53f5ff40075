import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import (
    MDP,
    DenseTransition,
    Krylov,
    SolveStatus,
    SuccessorTransition,
    best_response,
    entropy,
    expected_return,
    finite_status,
    occupancy,
    policy_values,
    replace_fields,
    rollout,
    soft_bellman,
    value_iteration,
)
from tests.conftest import make_random_mdp


@pytest.mark.parametrize("temperature", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("discount", [0.0, 0.9, 0.9999])
def test_solves_the_soft_bellman_equation(discount, temperature):
    mdp = make_random_mdp(discount=discount, temperature=temperature, terminal=False)
    answer = best_response(mdp)
    assert answer.status == SolveStatus.CONVERGED
    _, swept = soft_bellman(mdp, answer.values)
    scale = max(1.0, float(jnp.abs(answer.values).max()))
    # Rounding of one sweep, a few units in the last place of the largest value.
    np.testing.assert_allclose(swept, answer.values, atol=2e-15 * 10 * scale)
    np.testing.assert_allclose(answer.policy.sum(1), 1.0, atol=1e-12)


def test_agrees_with_value_iteration():
    mdp = make_random_mdp(discount=0.9)
    # The error of n sweeps is gamma^n / (1 - gamma) times the reward's size: 1e-13 here.
    np.testing.assert_allclose(
        best_response(mdp).values, value_iteration(mdp, num_sweeps=320), atol=1e-11
    )


def test_two_state_chain_has_a_closed_form_at_discount_9999():
    """Actions that do not move the state: V(s) = lambda logsumexp(r / lambda) / (1 - gamma)."""
    reward = jnp.array([[0.0, 0.3], [0.1, -0.2]])
    stay = jnp.broadcast_to(jnp.eye(2)[:, None, :], (2, 2, 2))
    for temperature in (0.001, 1.0):
        mdp = MDP(reward, DenseTransition(stay), jnp.array([1.0, 0.0]), 0.9999, temperature)
        per_step = temperature * jax.nn.logsumexp(reward / temperature, axis=1)
        np.testing.assert_allclose(best_response(mdp).values, per_step / 1e-4, rtol=1e-11)


def _loss(mdp, **changes):
    return (best_response(replace_fields(mdp, **changes)).values ** 2).sum()


def _moved_loss(at, discount, temperature):
    """The loss where reward, transitions, temperature and discount are moved by these numbers."""
    base = make_random_mdp()
    rng = np.random.default_rng(3)
    law = base.transition
    tilt = rng.normal(size=law.probability.shape)
    tilt -= tilt.mean(-1, keepdims=True)
    push = jnp.asarray(rng.normal(size=base.reward.shape))
    moved = law.probability * (1.0 + at[1] * tilt)
    moved /= moved.sum(-1, keepdims=True)
    return _loss(
        base,
        reward=base.reward + at[0] * push,
        transition=SuccessorTransition(law.successor, moved),
        temperature=temperature * jnp.exp(at[2]),
        discount=discount - (1 - discount) * at[3],
    )


VALUE = jax.jit(_moved_loss)
SLOPES = {"backward": jax.jit(jax.grad(_moved_loss)), "forward": jax.jit(jax.jacfwd(_moved_loss))}


@pytest.mark.parametrize(("discount", "temperature"), [(0.9, 0.3), (0.9999, 0.5), (0.99, 0.001)])
def test_implicit_derivative_against_central_differences(discount, temperature):
    at = (discount, temperature)
    slopes = {mode: transform(np.zeros(4), *at) for mode, transform in SLOPES.items()}
    step = 1e-5 * min(1.0, 10 * temperature)
    # Central differences of step h carry an error of order h^2 and rounding / h.
    rounding = 1e-14 * abs(float(VALUE(np.zeros(4), *at))) / step
    for number, name in enumerate(("reward", "transition", "temperature", "discount")):
        along = step * np.eye(4)[number]
        central = (VALUE(along, *at) - VALUE(-along, *at)) / (2 * step)
        for mode, slope in slopes.items():
            np.testing.assert_allclose(
                slope[number], central, rtol=1e-6, atol=rounding, err_msg=f"{name}, {mode}"
            )


def test_closed_forms_of_the_derivative():
    """dL/dr = u pi, dL/dlambda = sum u H with (I - gamma P_pi)^T u = v."""
    mdp = make_random_mdp()
    answer = best_response(mdp)
    cotangent = jnp.asarray(np.random.default_rng(5).normal(size=mdp.num_states))
    visits = occupancy(replace_fields_unchecked(mdp, initial=cotangent), answer.policy).sum(1)

    def loss(reward, temperature):
        moved = replace_fields(mdp, reward=reward, temperature=temperature)
        return cotangent @ best_response(moved).values

    by_reward, by_temperature = jax.grad(loss, (0, 1))(mdp.reward, mdp.temperature)
    np.testing.assert_allclose(by_reward, visits[:, None] * answer.policy, rtol=1e-10)
    np.testing.assert_allclose(by_temperature, visits @ entropy(answer.log_policy), rtol=1e-10)


def replace_fields_unchecked(mdp, **changes):
    """A signed initial law, which the checked constructor refuses."""
    return jax.jit(lambda changes: replace_fields(mdp, **changes))(changes)


def test_second_derivatives():
    mdp = make_random_mdp()

    def slope(t):
        return jax.grad(lambda u: _loss(mdp, temperature=u))(t)

    numeric = (slope(0.3 + 1e-5) - slope(0.3 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(slope)(0.3), numeric, rtol=1e-6)


def test_krylov_agrees_with_lu_in_value_and_gradient():
    mdp = make_random_mdp(states=60, discount=0.99)

    def loss(reward, solver):
        answer = best_response(replace_fields(mdp, reward=reward), linear_solver=solver)
        return (answer.log_policy**2).sum()

    for solver in (None, Krylov()):
        value, gradient = jax.value_and_grad(loss)(mdp.reward, solver)
        if solver is None:
            expected = value, gradient
    np.testing.assert_allclose(value, expected[0], rtol=1e-9)  # Krylov's own tolerance 1e-13
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-6, atol=1e-8)


def test_status_says_what_went_wrong():
    mdp = make_random_mdp(discount=0.99)
    assert best_response(mdp, max_iterations=1).status == SolveStatus.ITERATION_LIMIT
    bad = jax.jit(lambda r: best_response(replace_fields(mdp, reward=r)).status)
    assert bad(mdp.reward.at[0, 0].set(jnp.nan)) == SolveStatus.NOT_FINITE
    starved = best_response(mdp, linear_solver=Krylov(max_iterations=1), max_iterations=3)
    assert starved.status == SolveStatus.ITERATION_LIMIT
    with pytest.raises(InvalidInputError, match="Krylov settings"):
        Krylov(tolerance=0.0)


LINE, DOOR = 12, 5


def _line_with_a_pit(loss, temperature=0.3, discount=0.95, slip=0.0, **changes):
    """A walk on a line; from DOOR a side door, and with chance ``slip`` a trap, lead to a pit."""
    law = np.zeros((LINE + 1, 3, LINE + 1))
    for s in range(LINE):
        law[s, 0, max(s - 1, 0)] = law[s, 1, min(s + 1, LINE - 1)] = law[s, 2, s] = 1.0
    law[DOOR] *= 1.0 - slip
    law[DOOR, :, LINE] = slip
    law[DOOR, 2] = law[LINE, 0] = np.eye(LINE + 1)[LINE]
    law[LINE, 1:] = np.eye(LINE + 1)[0]  # one may leave the pit
    reward = np.zeros((LINE + 1, 3))
    reward[LINE - 1], reward[LINE] = 1.0, -loss
    first = jnp.eye(LINE + 1)[0]
    mdp = MDP(jnp.asarray(reward), DenseTransition(jnp.asarray(law)), first, discount, temperature)
    return replace_fields(mdp, **changes)


def _policy_without_the_door(temperature, discount, beyond=0.0):
    """Sweep by hand; ``beyond`` is what the trap takes in DOOR, whatever is done there."""
    values, law = np.zeros(LINE), np.zeros((LINE, 3), int)
    for s in range(LINE):
        law[s] = max(s - 1, 0), min(s + 1, LINE - 1), s
    bonus = np.zeros((LINE, 3))
    bonus[-1] = 1.0
    bonus[DOOR] = [-beyond, -beyond, -np.inf]
    for _ in range(700):  # .95^700 is below rounding
        logits = (bonus + discount * values[law]) / temperature
        best = logits.max(1)
        values = temperature * (best + np.log(np.exp(logits - best[:, None]).sum(1)))
    policy = np.exp(logits - best[:, None])
    return policy / policy.sum(1, keepdims=True)


@pytest.mark.parametrize("solver", [None, Krylov()])
@pytest.mark.parametrize("loss", [1e3, 1e9, 1e12, 1e15])
def test_a_forbidding_state_leaves_the_rest_as_it_is(loss, solver):
    answer = best_response(_line_with_a_pit(loss), linear_solver=solver)
    assert answer.status == SolveStatus.CONVERGED
    # Rounding of values near 20 in units of the temperature, and the sweeps' own.
    expected = _policy_without_the_door(0.3, 0.95)
    np.testing.assert_allclose(answer.policy[:LINE], expected, atol=1e-12)


@pytest.mark.parametrize("loss", [1e9, 1e12])
def test_a_forbidding_state_met_by_tiny_chance_counts_as_what_it_is(loss):
    chance = 0.1 / loss
    answer = best_response(_line_with_a_pit(loss, slip=chance))
    assert answer.status == SolveStatus.CONVERGED
    # From the pit one leaves at once: its value is -loss to within 1e-7 of it.
    expected = _policy_without_the_door(0.3, 0.95, beyond=0.95 * chance * loss)
    np.testing.assert_allclose(answer.policy[:LINE], expected, atol=1e-7)


def test_slopes_beside_a_forbidding_state():
    def policy(temperature, discount, loss):
        mdp = _line_with_a_pit(1.0, temperature=temperature, discount=discount)
        mdp = replace_fields(mdp, reward=mdp.reward.at[LINE].set(-loss))
        return best_response(mdp).policy[:LINE]

    slopes = jax.jit(jax.jacfwd(policy, argnums=(0, 1, 2)))(0.3, 0.95, 1e12)
    step = 1e-5
    for index, slope in enumerate(slopes[:2]):
        shift = step * np.eye(2)[index]
        up, down = (_policy_without_the_door(*(np.array([0.3, 0.95]) + d)) for d in (shift, -shift))
        # Central differences: step^2 times a third derivative near 1e3, rounding / step.
        np.testing.assert_allclose(slope, (up - down) / (2 * step), atol=1e-6)
    assert not np.any(slopes[2])  # how bad the pit is moves nothing
    back = jax.jit(jax.jacrev(policy, argnums=(0, 1)))(0.3, 0.95, 1e12)
    for one, other in zip(slopes, back, strict=False):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_a_loss_that_only_the_leader_has_there_leaves_its_values_elsewhere():
    mdp = _line_with_a_pit(1e3)
    policy = best_response(mdp).policy
    reward = jnp.ones_like(mdp.reward).at[LINE].set(-1e15)
    np.testing.assert_allclose(policy_values(mdp, policy, reward=reward)[:LINE], 20.0, rtol=1e-13)


@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 0.3, 100.0])
def test_units_of_reward_change_nothing(temperature):
    mdp = make_random_mdp(temperature=temperature)
    one = best_response(mdp)
    assert one.status == SolveStatus.CONVERGED
    for k in (1e-9, 1e-3, 1e9):
        scaled = replace_fields(mdp, reward=k * mdp.reward, temperature=k * temperature)
        other = best_response(scaled)
        assert (other.status, other.iterations) == (one.status, one.iterations)
        # Rounding of values near 10 in units of the temperature.
        rounding = 1e-14 / min(temperature, 1.0)
        np.testing.assert_allclose(other.policy, one.policy, atol=rounding)
        np.testing.assert_allclose(other.values / k, one.values, rtol=1e-12)


def test_status_says_when_rounding_hides_the_policy():
    mdp = make_random_mdp(terminal=False)
    for offset, status in ((1e6, SolveStatus.CONVERGED), (1e14, SolveStatus.ITERATION_LIMIT)):
        answer = best_response(replace_fields(mdp, reward=mdp.reward + offset))
        assert answer.status == status
    error = jnp.abs(answer.policy - best_response(mdp).policy).max()
    assert error > 1e-2  # so the status is right


def test_status_of_an_mdp_that_cannot_be():
    mdp = make_random_mdp()

    @jax.jit
    def solve(temperature, chance):
        law = SuccessorTransition(
            mdp.transition.successor, mdp.transition.probability.at[0, 0, 0].add(chance)
        )
        return best_response(replace_fields(mdp, temperature=temperature, transition=law)).status

    assert solve(0.3, 0.0) == SolveStatus.CONVERGED
    assert solve(-0.3, 0.0) == SolveStatus.INVALID_MDP
    assert solve(0.3, 0.01) == SolveStatus.INVALID_MDP
    assert finite_status(mdp, jnp.ones(3)) == SolveStatus.CONVERGED
    assert finite_status(mdp, jnp.array([jnp.nan])) == SolveStatus.NOT_FINITE


def test_vmap_equals_loop():
    mdp = make_random_mdp()
    temperatures = jnp.array([0.05, 0.3, 2.0])

    def solve(t):
        return best_response(replace_fields(mdp, temperature=t)).values

    batched = jax.vmap(solve)(temperatures)
    for row, t in zip(batched, temperatures, strict=True):
        np.testing.assert_allclose(row, solve(t), rtol=1e-12)


ALONE = """
import resource, threading
import jax, jax.numpy as jnp, numpy as np
from cbrl_bayes.mdp import MDP, DenseTransition, SuccessorTransition, best_response, replace_fields
rng = np.random.default_rng(0)
S, A, K = 100_000, 3, 5
mdp = MDP(jnp.asarray(rng.normal(size=(S, A))),
          SuccessorTransition(jnp.asarray(rng.integers(0, S, (S, A, K)), jnp.int32),
                              jnp.asarray(rng.dirichlet(np.ones(K), (S, A)))),
          jnp.full(S, 1 / S), 0.99, 0.1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
answer = best_response(mdp)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(int(answer.status), float(answer.residual), (after - before) / 1024, flush=True)

mdp = MDP(jnp.asarray(rng.normal(size=(60, 3))),
          DenseTransition(jnp.asarray(rng.dirichlet(np.ones(60), (60, 3)))),
          jnp.full(60, 1 / 60), 0.95, 0.1)
solve = jax.jit(jax.vmap(lambda t: best_response(replace_fields(mdp, temperature=t)).values))
work = lambda: [solve(jnp.linspace(0.05, 1.0, 16)).block_until_ready() for _ in range(10)]
threads = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
print("finished")
"""


def test_many_states_in_bounded_memory_and_many_solves_at_once():
    """In a process of its own: its memory is measured, and it may hang.

    100,000 states with 5 successors. Then threads: batched LU inside loops deadlocked some
    versions of XLA's CPU runtime.
    """
    done = subprocess.run(
        [sys.executable, "-c", ALONE], capture_output=True, text=True, check=True, timeout=300
    )
    status, residual, megabytes, *more = done.stdout.split()
    assert int(status) == SolveStatus.CONVERGED
    assert float(residual) < 1e-12
    assert float(megabytes) < 500  # a dense matrix would take 80,000
    assert more == ["finished"]


def test_evaluation_and_occupancy_agree():
    mdp = make_random_mdp(terminal=False)
    policy = best_response(mdp).policy
    visits = occupancy(mdp, policy, discount=0.8)
    np.testing.assert_allclose(visits.sum(), 5.0, rtol=1e-12)
    np.testing.assert_allclose(
        (visits * mdp.reward).sum(), expected_return(mdp, policy, discount=0.8), rtol=1e-12
    )
    np.testing.assert_allclose(
        occupancy(mdp, policy, linear_solver=Krylov()), occupancy(mdp, policy), rtol=1e-8
    )


def test_soft_value_is_reward_plus_entropy():
    mdp = make_random_mdp()
    answer = best_response(mdp)
    bonus = jnp.broadcast_to(entropy(answer.log_policy)[:, None], mdp.reward.shape)
    total = policy_values(mdp, answer.policy, reward=mdp.reward + mdp.temperature * bonus)
    np.testing.assert_allclose(total, answer.values, rtol=1e-11)


def test_rollouts_follow_policy_and_law():
    mdp = make_random_mdp(states=6)
    policy = best_response(mdp).policy
    walks = rollout(mdp, policy, key=jax.random.key(0), num_steps=30, num_rollouts=4000)
    discounting = mdp.discount ** jnp.arange(30)
    earned = jnp.where(walks.active, mdp.reward[walks.state, walks.action], 0.0) * discounting
    returns = np.asarray(earned.sum(1))
    error = returns.std() / np.sqrt(len(returns))
    # 4 standard errors: a false alarm in 16,000 runs; what lies beyond 30 steps is below .9^30.
    tail = 0.9**30 * 10 * float(jnp.abs(mdp.reward).max())
    assert abs(returns.mean() - float(expected_return(mdp, policy))) < 4 * error + tail
    again = rollout(mdp, policy, key=jax.random.key(0), num_steps=30, num_rollouts=4000)
    np.testing.assert_array_equal(walks.state, again.state)
    ended = walks.state == mdp.num_states - 1
    assert not bool((walks.active[:, 1:] & ended[:, :-1]).any())


def test_rollouts_from_given_pairs_and_limits():
    mdp = make_random_mdp(terminal=False)
    policy = jnp.full((12, 3), 1 / 3)
    walks = rollout(
        mdp,
        policy,
        key=jax.random.key(3),
        num_steps=5,
        initial_state=jnp.array([1, 2, 1, 2]),
        initial_action=jnp.array([0, 1, 2, 1]),
        step_limit=jnp.array([5, 0, 2, 5]),
        noise_copies=2,
    )
    assert walks.state[:, 0].tolist()[::2] == [1, 1]
    assert walks.action[0, 0] == 0
    assert walks.active.sum(1).tolist() == [5, 0, 2, 5]
