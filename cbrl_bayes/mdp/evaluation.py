"""What a given policy earns and where it spends its time: exact evaluation and occupancy."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from cbrl_bayes.mdp.linear import LinearSolver, default_linear_solver, solve_transposed
from cbrl_bayes.mdp.record import MDP


def entropy(log_policy: Float[Array, "state action"]) -> Float[Array, " state"]:
    """Return ``-sum_a pi log pi`` in nats, shape (S,)."""
    policy = jnp.exp(log_policy)
    return -(policy * jnp.where(policy > 0, log_policy, 0.0)).sum(-1)


def policy_values(
    mdp: MDP,
    policy: Float[Array, "state action"],
    *,
    reward: Float[Array, "state action"] | None = None,
    discount: Float[Array, ""] | float | None = None,
    linear_solver: LinearSolver | None = None,
) -> Float[Array, " state"]:
    """Return the expected discounted sum of ``reward`` from each state under ``policy``.

    Parameters
    ----------
    mdp : MDP
        Supplies the transition law and the terminal states.
    policy : array, shape (S, A)
        Probability of each action.
    reward : array, shape (S, A), optional
        Default: the follower's own reward, without entropy.
    discount : float, optional
        In [0, 1]. Default: the follower's own.
    linear_solver : DenseLU or Krylov, optional
        Default: by size.

    Returns
    -------
    array, shape (S,)
        Values, units of ``reward``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from cbrl_bayes.mdp import MDP, DenseTransition
    >>> mdp = MDP(jnp.array([[1.0]]), DenseTransition(jnp.ones((1, 1, 1))), jnp.ones(1), 0.9, 1.0)
    >>> round(float(policy_values(mdp, jnp.ones((1, 1)))[0]), 9)
    10.0
    """
    solver = linear_solver or default_linear_solver(mdp)
    earned = (policy * (mdp.reward if reward is None else reward)).sum(-1)
    return solver.solve(mdp, policy, mdp.discount if discount is None else discount, earned)


def soft_policy_values(
    mdp: MDP, log_policy: Float[Array, "state action"]
) -> Float[Array, " state"]:
    """Return the follower's own values of a policy, entropy included, shape (S,)."""
    reward = mdp.reward + mdp.temperature * entropy(log_policy)[:, None]
    return policy_values(mdp, jnp.exp(log_policy), reward=reward)


def occupancy(
    mdp: MDP,
    policy: Float[Array, "state action"],
    *,
    discount: Float[Array, ""] | float | None = None,
    linear_solver: LinearSolver | None = None,
) -> Float[Array, "state action"]:
    """Return expected discounted visits ``sum_t gamma^t P(s_t = s, a_t = a)``, shape (S, A).

    Without terminal states they sum to ``1 / (1 - gamma)``.
    """
    solver = linear_solver or default_linear_solver(mdp)
    gamma = mdp.discount if discount is None else discount
    visits = solve_transposed(solver, mdp, policy, gamma, jnp.asarray(mdp.initial, float))
    return visits[:, None] * policy


def expected_return(
    mdp: MDP,
    policy: Float[Array, "state action"],
    *,
    reward: Float[Array, "state action"] | None = None,
    discount: Float[Array, ""] | float | None = None,
    linear_solver: LinearSolver | None = None,
) -> Float[Array, ""]:
    """Return `policy_values` averaged over the initial law."""
    values = policy_values(
        mdp, policy, reward=reward, discount=discount, linear_solver=linear_solver
    )
    return mdp.initial @ values
