"""How likely a campaign's answers are: choices, contexts, and where steps led."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cbrl_bayes.campaigns.answers import Answer, emptied
from cbrl_bayes.inference.prior_law import PriorLaw
from cbrl_bayes.problems import (
    Problem,
    depends_on_input,
    law_dependence,
    law_moves_with,
    respond_everywhere,
)
from cbrl_bayes.problems.response import each_pair
from cbrl_bayes.problems.successors import merged_probability

CONTEXTS = "context_probability"
SMALL = 64
"""Entries of a policy up to which many are solved at once rather than one after the other."""
_USED = ("point", "choices", "contexts", "moves")


def choices_see_contexts(problem: Problem) -> bool:
    """Return whether followers act on the law of contexts, so that choices speak of it too."""
    given = problem.default_parameters
    incentive = problem.incentive.transform(problem.incentive.initial)

    def choices(law: Array) -> Array:
        return respond_everywhere(problem, incentive, given | {CONTEXTS: law})[0]

    return depends_on_input(choices, jnp.asarray(given[CONTEXTS]))


@dataclass
class AnswerLikelihood:
    """The log-likelihood of answers under points of the prior's space.

    Parameters
    ----------
    problem : Problem
    law : PriorLaw
        What the points stand for.
    with_contexts : bool
        Whether the law of contexts is among the points; else it is conjugate, and left out.
    with_moves : bool, optional
        Whether where steps led counts. Default: where a parameter that is learned enters the
        transition law, and the incentive does not; where it does, moves are kept in another form
        (`count_transitions`), and never count.
    """

    problem: Problem
    law: PriorLaw
    with_contexts: bool
    with_moves: bool | None = None

    def __post_init__(self) -> None:
        if self.with_moves is None:
            self.with_moves = law_moves_with(self.problem, self.law.sampled)
        by_incentive = law_dependence(self.problem, self.problem.default_parameters).incentive
        self.with_moves = self.with_moves and not by_incentive
        self._compiled = jax.jit(self._of_all)

    def __call__(
        self, points: Float[np.ndarray, "draw coordinate"], answers: Sequence[Answer]
    ) -> tuple[Float[np.ndarray, " draw"], int]:
        """Return the log-likelihood of each point.

        Beside it, how many best responses (of a draw to an incentive) did not converge.
        """
        if not answers or not points.shape[1]:
            return np.zeros(len(points)), 0
        # Padded to a power of two, so that few shapes are compiled.
        more = (1 << (len(answers) - 1).bit_length()) - len(answers)
        padded = [*answers, *[emptied(answers[0])] * more]
        arms = [np.stack([np.asarray(getattr(a, n)) for a in padded]) for n in _USED]
        found, unsolved = self._compiled(points, *arms)
        return np.asarray(found), int(unsolved)

    def _of_all(
        self, points: Array, arms: Array, choices: Array, contexts: Array, moves: Array
    ) -> tuple[Array, Array]:
        num = self.problem.num_states * self.problem.num_actions
        size = 128 if num <= SMALL else None

        def one_arm(entry: tuple) -> tuple[Array, Array]:
            parameters, arm, chosen, begun, moved = entry
            incentive = self.problem.incentive.transform(self.problem.incentive.unflatten(arm))
            log_policy, status = respond_everywhere(self.problem, incentive, parameters)
            total = jnp.where(chosen > 0.0, chosen * log_policy, 0.0).sum()
            if self.with_contexts:
                chance = jnp.log(parameters[CONTEXTS])
                total += jnp.where(begun > 0.0, begun * chance, 0.0).sum()
            if self.with_moves:
                total += self._of_moves(incentive, parameters, moved)
            return total, (status != 0).any() & (chosen > 0.0).any()

        num_points, num_arms = points.shape[0], arms.shape[0]
        drawn = jax.vmap(self._complete)(points)
        several = jax.tree.map(lambda leaf: jnp.repeat(leaf, num_arms, axis=0), drawn)
        repeated = [
            jnp.tile(leaf, (num_points, *[1] * (leaf.ndim - 1)))
            for leaf in (arms, choices, contexts, moves)
        ]
        found, unsolved = jax.lax.map(one_arm, (several, *repeated), batch_size=size)
        total = found.reshape(num_points, num_arms).sum(1)
        return jnp.where(jnp.isfinite(total), total, -jnp.inf), unsolved.sum()

    def _of_moves(self, incentive: Any, parameters: Mapping[str, Any], moved: Array) -> Array:
        """Return the log-likelihood of where steps led."""
        values, weights = self.problem.contexts.support(parameters)

        def one(entry: tuple) -> Array:
            (context, follower), counts = entry
            own = self.problem.follower_parameters(parameters, follower)
            law = self.problem.mdp_fn(incentive, context, own).transition
            chance = merged_probability(law)
            logs = jnp.log(jnp.where(counts > 0.0, chance, 1.0))
            return (counts * logs).sum()

        pairs = each_pair(values, weights.shape[0], self.problem)
        return jax.lax.map(one, (pairs, moved.reshape(-1, *moved.shape[2:]))).sum()

    def _complete(self, point: Array) -> dict[str, Array]:
        return {**self.problem.default_parameters, **self.law.parameters(point)}
