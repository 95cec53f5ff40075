"""A two-state problem with a closed form: the smallest complete example, and a test oracle."""

import jax.numpy as jnp

from cbrl_bayes.mdp import MDP, DenseTransition
from cbrl_bayes.problems.contexts import DiscreteContexts
from cbrl_bayes.problems.incentive import IncentiveSpace, Labels
from cbrl_bayes.problems.record import Incentive, Parameters, Problem


def two_state(
    *,
    benefit: float = 2.0,
    costs: tuple[float, ...] = (0.5, 1.5),
    context_probability: tuple[float, ...] = (0.5, 0.5),
    temperature: float = 0.25,
) -> Problem:
    r"""Pay a bonus for an effort of uncertain cost.

    A follower in state *offered* works (reward: bonus - cost of the context) or declines
    (reward 0); either way the episode ends in *settled*. With temperature
    :math:`\lambda` the probability of work is
    :math:`p = 1/(1 + \exp(-(x - c)/\lambda))`, and the leader's objective
    :math:`\sum_c P(c)\,(b - x)\,p(x, c)`. All money in the same unit.

    Parameters
    ----------
    benefit : float
        b, what the leader gains from work.
    costs : tuple of float
        Cost of effort in each context.
    context_probability : tuple of float
        Their law.
    temperature : float
        lambda > 0, in units of money; rationality is 1/lambda.

    Returns
    -------
    Problem

    Examples
    --------
    >>> from cbrl_bayes.problems import leader_outcome
    >>> problem = two_state(costs=(1.0,), context_probability=(1.0,))
    >>> outcome = leader_outcome(problem, {"bonus": jnp.array(1.0)}, problem.default_parameters)
    >>> round(float(outcome.objective), 9)  # (2 - 1) / 2
    0.5
    """

    def mdp_fn(incentive: Incentive, cost: jnp.ndarray, parameters: Parameters) -> MDP:
        return MDP(
            reward=jnp.zeros((2, 2)).at[0, 1].set(incentive["bonus"] - cost),
            transition=DenseTransition(jnp.zeros((2, 2, 2)).at[..., 1].set(1.0)),
            initial=jnp.array([1.0, 0.0]),
            discount=0.0,
            temperature=parameters["temperature"],
            terminal=jnp.array([False, True]),
        )

    def on_work(amount: jnp.ndarray | float) -> jnp.ndarray:
        return jnp.zeros((2, 2)).at[0, 1].set(amount)

    return Problem(
        name="two_state",
        incentive=IncentiveSpace(
            initial={"bonus": jnp.zeros(())},
            transform=lambda unconstrained: {"bonus": unconstrained["bonus"]},
            labels={"bonus": Labels(unit="money", description="payment for work")},
            scale=max([abs(benefit), *costs]) / 2.0,
        ),
        contexts=DiscreteContexts(
            tuple(f"cost {cost:g}" for cost in costs), jnp.asarray(costs), context_probability
        ),
        mdp_fn=mdp_fn,
        parameters={"temperature": temperature},
        leader_reward_fn=lambda incentive, cost, parameters: on_work(benefit),
        incentive_price_fn=lambda incentive, cost, parameters: on_work(incentive["bonus"]),
        leader_discount=0.0,
        state_labels=Labels(("state",), {"state": (("state",), ("offered", "settled"))}),
        action_names=("decline", "work"),
        objective_unit="money",
        parameter_units={
            "temperature": "money",
            "rationality": "1 / money",
            "context_probability": "probability",
        },
    )
