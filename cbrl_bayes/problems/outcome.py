"""What an incentive leads to when every follower responds at best: the leader's exact outcome."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from cbrl_bayes.errors import InvalidInputError, as_numbers
from cbrl_bayes.mdp import MDP, expected_return, is_traced
from cbrl_bayes.problems.equilibrium import settle, settled
from cbrl_bayes.problems.record import Incentive, Parameters, Problem
from cbrl_bayes.problems.response import each_pair, respond


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LeaderOutcome:
    """Exact consequences of one incentive under one set of parameters.

    Attributes
    ----------
    objective : float
        The leader's objective, price of the incentive included; to be maximised.
    incentive_cost : float
        The price paid, in the unit of the objective (0 where the problem states none).
    follower_value : array, shape (F,)
        Expected soft value V* of each follower at the start, units of its reward.
    by_context : array, shape (C,)
        Objective in each context, before weighting with the contexts' probabilities. With an
        ``aggregate``: its derivative by each context's probability.
    status : int
        Worst `SolveStatus` of all solves.
    values : array, shape (C, F, S)
        Soft values, for warm starts.
    """

    objective: Float[Array, ""]
    incentive_cost: Float[Array, ""]
    follower_value: Float[Array, " follower"]
    by_context: Float[Array, " context"]
    status: Int[Array, ""]
    values: Float[Array, "context follower state"]


def respond_everywhere(
    problem: Problem,
    incentive: Incentive,
    parameters: Parameters,
    *,
    key: Key[Array, ""] | None = None,
) -> tuple[Float[Array, "context follower state action"], Int[Array, "context follower"]]:
    """Return every follower's log policy in every context, and the status of each solve."""
    parameters = settled(problem, incentive, parameters, key=key)
    values, weights = problem.contexts.support(parameters, key)

    def solve(pair: tuple) -> tuple[Array, Array]:
        context, follower = pair
        one = problem.follower_parameters(parameters, follower)
        _, response = respond(problem, incentive, context, one)
        return response.log_policy, response.status

    log_policy, status = jax.lax.map(solve, each_pair(values, weights.shape[0], problem))
    shape = (weights.shape[0], problem.followers.num_followers)
    return log_policy.reshape(*shape, *log_policy.shape[1:]), status.reshape(shape)


def leader_outcome(
    problem: Problem,
    unconstrained: Any,
    parameters: Parameters,
    *,
    key: Key[Array, ""] | None = None,
    initial_values: Float[Array, "context follower state"] | None = None,
) -> LeaderOutcome:
    """Evaluate the leader's objective exactly, contexts enumerated (or sampled with ``key``).

    Differentiable in ``unconstrained`` and ``parameters``; the derivative is the exact
    hypergradient.

    Parameters
    ----------
    problem : Problem
    unconstrained : pytree
        The leader's choice before its transform.
    parameters : mapping
        All parameters (`Problem.complete_parameters`).
    key : typed key, optional
        Needed where contexts are sampled.
    initial_values : array, shape (C, F, S), optional
        Warm start, from an earlier outcome's ``values``.

    Returns
    -------
    LeaderOutcome

    Raises
    ------
    InvalidInputError
        Where nothing is traced: for a choice of another form, an incentive that is not finite, and
        parameters that are missing or out of range.

    Examples
    --------
    >>> from cbrl_bayes.problems import two_state
    >>> problem = two_state()
    >>> outcome = leader_outcome(problem, problem.incentive.initial, problem.default_parameters)
    >>> int(outcome.status)
    0
    """
    _check_given(problem, unconstrained, parameters)
    incentive = problem.incentive.transform(unconstrained)
    parameters, together = settle(problem, incentive, parameters, key=key)
    values, weights = problem.contexts.support(parameters, key)
    num_contexts, num_followers = weights.shape[0], problem.followers.num_followers
    pairs = each_pair(values, num_contexts, problem)
    warm = None
    if initial_values is not None:
        warm = initial_values.reshape(num_contexts * num_followers, -1)

    def one_pair(entry: tuple) -> tuple:
        (context, follower), start = entry
        one = problem.follower_parameters(parameters, follower)
        mdp, response = respond(problem, incentive, context, one, initial_values=start)
        gain = leader_gain(problem, incentive, context, one, mdp, response.policy)
        cost = _cost(problem, incentive, context, one, mdp, response.policy)
        return gain, cost, mdp.initial @ response.values, response.status, response.values

    gain, cost, value, status, soft_values = jax.lax.map(one_pair, (pairs, warm))
    shape = (num_contexts, num_followers)
    follower_weights = jnp.asarray(problem.followers.weights)
    worst = status.max()
    worst = jnp.where(worst > 0, worst, together)
    objective, by_context = jax.value_and_grad(leader_total, argnums=3)(
        problem, gain.reshape(shape), value.reshape(shape), weights
    )
    return LeaderOutcome(
        objective=objective,
        incentive_cost=weights @ (cost.reshape(shape) @ follower_weights),
        follower_value=weights @ value.reshape(shape),
        by_context=by_context,
        status=worst,
        values=jax.lax.stop_gradient(soft_values.reshape(*shape, -1)),
    )


def _check_given(problem: Problem, unconstrained: Any, parameters: Parameters) -> None:
    """Refuse a choice of another form or not finite, and parameters that cannot be, where known."""
    if is_traced((unconstrained, dict(parameters))):
        return
    wanted, found = (
        jax.tree.map(lambda leaf: jnp.shape(as_numbers("the incentive", leaf)), tree)
        for tree in (problem.incentive.initial, unconstrained)
    )
    if wanted != found:
        raise InvalidInputError(
            "the incentive, before its transform, has another form than the problem's",
            received=f"shapes {found}",
            accepted=f"shapes {wanted}",
            remedy="problem.incentive.unconstrained_for({name: value}) for readable values",
        )
    for name, value in problem.incentive.transform(unconstrained).items():
        # Constants of a compiled program have values here, and what follows from them has none.
        if not is_traced(value) and not np.isfinite(np.asarray(value)).all():
            raise InvalidInputError(
                f"the incentive {name!r} is not finite",
                received=np.asarray(value).tolist(),
                accepted="finite numbers",
                remedy="another choice before the transform",
            )
    missing = sorted(set(problem.contexts.default_parameters) - set(parameters))
    if missing:
        raise InvalidInputError(
            f"parameters are missing: {', '.join(missing)}",
            remedy="problem.complete_parameters({name: value})",
        )
    if "temperature" in parameters:
        temperature = as_numbers("temperature", parameters["temperature"])
        if not (temperature > 0).all():
            raise InvalidInputError(
                "temperature is not positive",
                received=temperature.tolist(),
                accepted="> 0 (temperature is lambda, rationality is 1/lambda)",
            )


def leader_total(
    problem: Problem,
    gain: Float[Array, "context follower"],
    value: Float[Array, "context follower"],
    weights: Float[Array, " context"],
) -> Float[Array, ""]:
    """Return the leader's objective from each follower's gain and value in each context."""
    mass = weights[:, None] * jnp.asarray(problem.followers.weights)
    if problem.aggregate is not None:
        return problem.aggregate(gain, value, mass)
    return (mass * gain).sum()


def leader_gain(
    problem: Problem,
    incentive: Incentive,
    context: Any,
    parameters: Parameters,
    mdp: MDP,
    policy: Float[Array, "state action"],
) -> Float[Array, ""]:
    """Return the leader's objective in one context if one follower played ``policy``.

    Differentiable in the incentive (at a fixed policy) and in the policy: the two parts of the
    hypergradient before the policy's own response.
    """
    if problem.objective_fn is not None:
        return problem.objective_fn(incentive, policy, context, parameters)
    net = problem.leader_net_reward(incentive, context, parameters)
    return expected_return(mdp, policy, reward=net, discount=problem.leader_discount)


def _cost(
    problem: Problem,
    incentive: Incentive,
    context: Any,
    parameters: Parameters,
    mdp: MDP,
    policy: Array,
) -> Array:
    if problem.incentive_price_fn is None:
        return jnp.zeros(())
    price = problem.incentive_price_fn(incentive, context, parameters)
    return expected_return(mdp, policy, reward=price, discount=problem.leader_discount)
