"""Synchronous soft Q-learning: all states and actions at once, from one successor each."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from cbrl_bayes.mdp import MDP


def soft_q_iterations(
    mdp: MDP,
    q_values: Float[Array, "state action"],
    *,
    key: Key[Array, ""],
    start: Int[Array, ""] | int,
    stop: Int[Array, ""] | int,
) -> Float[Array, "state action"]:
    r"""Run iterations ``start`` to ``stop - 1`` of synchronous soft Q-learning.

    Iteration t draws one successor s' of every state and action and moves Q towards
    :math:`r + \gamma \lambda \log\sum_b e^{Q(s',b)/\lambda}` with step
    :math:`1 / (1 + (1 - \gamma) t)`; the mean squared error then falls as 1/t. Without a
    discount (gamma = 1) the step is :math:`(1 + t)^{-0.7}`. Two calls that follow one another
    with the same key are one run.

    Parameters
    ----------
    mdp : MDP
        Temperature = lambda, rationality = 1/lambda.
    q_values : array, shape (S, A)
        Where to start, units of reward.
    key : typed key
    start, stop : int
        May be traced.

    Returns
    -------
    array, shape (S, A)

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from cbrl_bayes.mdp import DenseTransition
    >>> mdp = MDP(jnp.ones((1, 1)), DenseTransition(jnp.ones((1, 1, 1))), jnp.ones(1), 0.5, 1.0)
    >>> learned = soft_q_iterations(
    ...     mdp, jnp.zeros((1, 1)), key=jax.random.key(0), start=0, stop=2000)
    >>> round(float(learned[0, 0]), 1)
    2.0
    """
    ladder = jnp.cumsum(mdp.transition.probability, axis=-1)
    top = ladder[..., -1:]
    state, action = jnp.indices(mdp.reward.shape)
    continues = mdp.continues[:, None]

    def advance(t: Array, q: Array) -> Array:
        height = jax.random.uniform(jax.random.fold_in(key, t), mdp.reward.shape)
        slot = jnp.minimum((height[..., None] * top >= ladder).sum(-1), ladder.shape[-1] - 1)
        reached = mdp.transition.next_state(state, action, slot)
        values = mdp.soft_maximum(q)
        target = mdp.reward + mdp.discount * continues * values[reached]
        fades = 1.0 - mdp.discount
        return q + (target - q) * jnp.where(fades > 0.0, 1.0 / (1.0 + fades * t), (1.0 + t) ** -0.7)

    return jax.lax.fori_loop(start, stop, advance, q_values)
