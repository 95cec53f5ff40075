"""A random problem of any size, to measure algorithms: dense features, optional known optimum."""

import jax.numpy as jnp
import numpy as np

from cbrl_bayes.errors import require_ranges
from cbrl_bayes.mdp import MDP, SuccessorTransition
from cbrl_bayes.problems.contexts import DiscreteContexts
from cbrl_bayes.problems.incentive import IncentiveSpace, Labels
from cbrl_bayes.problems.record import Incentive, Parameters, Problem


def random_mdp(
    *,
    num_states: int = 10,
    num_actions: int = 5,
    num_successors: int = 5,
    num_parameters: int = 100,
    discount: float = 0.5,
    temperature: float = 1.0,
    quadratic: bool = True,
    seed: int = 0,
) -> Problem:
    r"""Reward a follower by random features of the leader's choice in a random MDP.

    The follower's reward is :math:`r_x(s,a) = \phi(s,a) \cdot x` with normal features of
    variance 1/d. With ``quadratic`` the leader maximises
    :math:`-\tfrac12|x|^2 - \tfrac12\sum_{s,a}\pi(a|s)^2`; at :math:`x = 0` play is uniform and
    both terms are at their best, so the optimum is :math:`-S/(2A)` exactly (10 states and 5
    actions: -1). This is the test problem of Yang, Gao, Yuan, arXiv 2405.19697 (there to be
    minimised). Without, the leader earns a random reward less :math:`\tfrac12|x|^2` charged in
    equal parts over the episode.

    Parameters
    ----------
    num_states, num_actions, num_successors, num_parameters : int
        S, A, K and d, all >= 1.
    discount : float
        gamma of the follower, and of the leader where it earns a reward; in [0, 1).
    temperature : float
        lambda > 0, in units of the follower's reward; rationality is 1/lambda.
    quadratic : bool
        Which objective.
    seed : int
        Of features, transitions and rewards.

    Returns
    -------
    Problem

    Examples
    --------
    >>> from cbrl_bayes.problems import leader_outcome
    >>> problem = random_mdp()
    >>> at_zero = leader_outcome(problem, problem.incentive.initial, problem.default_parameters)
    >>> round(float(at_zero.objective), 12)
    -1.0
    """
    sizes = {
        "num_states": num_states,
        "num_actions": num_actions,
        "num_successors": num_successors,
        "num_parameters": num_parameters,
    }
    require_ranges(sizes, "sizes of the random MDP", **dict.fromkeys(sizes, ">= 1"))
    rng = np.random.default_rng(seed)
    pairs = (num_states, num_actions)
    features = jnp.asarray(rng.normal(size=(*pairs, num_parameters)) / num_parameters**0.5)
    transition = SuccessorTransition(
        jnp.asarray(rng.integers(0, num_states, (*pairs, num_successors)), jnp.int32),
        jnp.asarray(rng.dirichlet(np.ones(num_successors), pairs)),
    )
    leader_reward = jnp.asarray(rng.normal(size=pairs))
    uniform = jnp.full(num_states, 1.0 / num_states)

    def mdp_fn(incentive: Incentive, context: jnp.ndarray, parameters: Parameters) -> MDP:
        return MDP(
            reward=features @ incentive["weight"],
            transition=transition,
            initial=uniform,
            discount=discount,
            temperature=parameters["temperature"],
        )

    def quadratic_loss(
        incentive: Incentive, policy: jnp.ndarray, context: jnp.ndarray, parameters: Parameters
    ) -> jnp.ndarray:
        return -0.5 * (incentive["weight"] ** 2).sum() - 0.5 * (policy**2).sum()

    def price(incentive: Incentive, context: jnp.ndarray, parameters: Parameters) -> jnp.ndarray:
        charge = 0.5 * (1.0 - discount) * (incentive["weight"] ** 2).sum()
        return jnp.broadcast_to(charge, pairs)

    return Problem(
        name="random_mdp",
        incentive=IncentiveSpace(
            initial={"weight": jnp.zeros(num_parameters)},
            transform=lambda x: {"weight": x["weight"]},
            labels={"weight": Labels(("feature",), description="weight of a random feature")},
            start_scale=1.0,
            scale=1.0,
        ),
        contexts=DiscreteContexts(("only",), jnp.zeros(1), (1.0,)),
        mdp_fn=mdp_fn,
        parameters={"temperature": temperature},
        leader_reward_fn=None if quadratic else lambda x, context, parameters: leader_reward,
        incentive_price_fn=None if quadratic else price,
        leader_discount=discount,
        objective_fn=quadratic_loss if quadratic else None,
    )
