"""Whether an incentive leads to MDPs that can be: a flag for programs, and a finding in words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from cbrl_bayes.mdp import is_valid, value_violations
from cbrl_bayes.problems.equilibrium import settled
from cbrl_bayes.problems.record import Parameters, Problem
from cbrl_bayes.problems.response import each_pair


@dataclass(frozen=True)
class Feasibility:
    """Which MDPs that designs lead to can be.

    Attributes
    ----------
    valid : bool array, shape (D, N, C, F)
        By design, draw, context and follower.
    findings : tuple of str
        One per design: what is wrong, with draw, context, follower, state, action and value; ""
        if nothing is.
    """

    valid: Bool[np.ndarray, "design draw context follower"]
    findings: tuple[str, ...]


def mdps_are_valid(
    problem: Problem,
    unconstrained: Any,
    parameters: Parameters,
    *,
    key: Key[Array, ""] | None = None,
) -> Bool[Array, "context follower"]:
    """Return for every context and follower whether the MDP can be; runs in compiled programs.

    Parameters
    ----------
    problem : Problem
    unconstrained : pytree
        The leader's choice before its transform.
    parameters : mapping
        All parameters (`Problem.complete_parameters`).
    key : typed key, optional
        Needed where contexts are sampled.

    Returns
    -------
    bool array, shape (C, F)

    Examples
    --------
    >>> from cbrl_bayes.problems import two_state
    >>> problem = two_state()
    >>> x, parameters = problem.incentive.initial, problem.default_parameters
    >>> bool(mdps_are_valid(problem, x, parameters).all())
    True
    >>> bool(mdps_are_valid(problem, x, parameters | {"temperature": -0.25}).any())
    False
    """
    incentive = problem.incentive.transform(unconstrained)
    parameters = settled(problem, incentive, parameters, key=key)
    values, weights = problem.contexts.support(parameters, key)

    def one_pair(pair: tuple) -> Array:
        context, follower = pair
        one = problem.follower_parameters(parameters, follower)
        return is_valid(problem.mdp_fn(incentive, context, one))

    found = jax.lax.map(one_pair, each_pair(values, weights.shape[0], problem))
    return found.reshape(weights.shape[0], problem.followers.num_followers)


def check_mdps(
    problem: Problem,
    designs: Float[np.ndarray, "design *draw coordinate"],
    draws: Mapping[str, np.ndarray],
    *,
    key: Key[Array, ""] | None = None,
) -> Feasibility:
    """Check every MDP that final designs lead to: each draw, context and follower.

    Values inside compiled programs pass unchecked; this looks at them afterwards.

    Parameters
    ----------
    problem : Problem
    designs : array, shape (D, P) or (D, N, P)
        Before their transform, as flat vectors; with an axis of draws where each has its own.
    draws : mapping
        Name -> array (N, ...), of all parameters.
    key : typed key, optional
        Of the sampled contexts; each draw folds in its number, as in `evaluate_designs`.

    Returns
    -------
    Feasibility
        Nothing is raised: look at its ``findings``.

    Examples
    --------
    >>> import numpy as np
    >>> from cbrl_bayes.problems import two_state
    >>> problem = two_state()
    >>> draws = {name: np.stack([value] * 2) for name, value in problem.default_parameters.items()}
    >>> check_mdps(problem, np.zeros((1, 1)), draws).findings
    ('',)
    >>> draws["temperature"] = np.array([0.25, -0.25])
    >>> found = check_mdps(problem, np.zeros((1, 1)), draws)
    >>> print(found.findings[0])  # doctest: +ELLIPSIS
    2 of 4 MDPs cannot be; the first, of draw 1, context ...: temperature is -0.25, accepted: ...
    """
    designs = np.asarray(designs, float)
    num = len(next(iter(draws.values())))

    @jax.jit
    def of_designs(points: Array, parameters: Parameters, draw_key: Any) -> Array:
        def one(point: Array) -> Array:
            x = problem.incentive.unflatten(point)
            return mdps_are_valid(problem, x, parameters, key=draw_key)

        return jax.lax.map(one, points)

    def item(index: int) -> tuple:
        points = designs if designs.ndim == 2 else designs[:, index]
        draw_key = None if key is None else jax.random.fold_in(key, index)
        return points, {name: jnp.asarray(v[index]) for name, v in draws.items()}, draw_key

    valid = np.stack([np.asarray(of_designs(*item(index))) for index in range(num)], axis=1)
    findings = [
        "" if found.all() else _in_words(problem, found, number, item)
        for number, found in enumerate(valid)
    ]
    return Feasibility(valid, tuple(findings))


def _in_words(
    problem: Problem, valid: np.ndarray, number: int, item: Callable[[int], tuple]
) -> str:
    """Build the first MDP of a design that cannot be once more, and list what is wrong with it."""
    draw, c, f = map(int, np.argwhere(~valid)[0])
    points, parameters, draw_key = item(draw)
    values, _ = problem.contexts.support(parameters, draw_key)
    context = jax.tree.map(lambda leaf: jnp.asarray(leaf)[c], values)
    incentive = problem.incentive.transform(problem.incentive.unflatten(points[number]))
    parameters = settled(problem, incentive, parameters, key=draw_key)
    one = problem.follower_parameters(parameters, f)
    mdp = jax.jit(problem.mdp_fn)(incentive, context, one)  # compiled, so that it is made at all
    place = (
        f"draw {draw}, context {problem.contexts.names[c]}, follower {problem.followers.names[f]}"
    )
    wrong = "; ".join(value_violations(mdp, _names(problem)))
    return f"{(~valid).sum()} of {valid.size} MDPs cannot be; the first, of {place}: {wrong}"


def _names(problem: Problem) -> dict[str, list[str]]:
    """Return the names of states and actions, where the problem has any."""
    labels = [values for dims, values in problem.state_labels.coords.values() if len(dims) == 1]
    names = {}
    if labels:
        names["state"] = [" ".join(map(str, parts)) for parts in zip(*labels, strict=True)]
    if problem.action_names:
        names["action"] = list(problem.action_names)
    return names
