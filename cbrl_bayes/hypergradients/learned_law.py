"""A transition law learned from what was seen: counts, and what is believed where little was.

The leader knows which states can follow a state and an action (the successors that the problem's
law lists), and how the incentive moves their probabilities. The probabilities are learned.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from cbrl_bayes.errors import DataError, InvalidInputError, require_ranges
from cbrl_bayes.hypergradients.alike import AlikeStates
from cbrl_bayes.mdp import (
    MDP,
    DenseTransition,
    SuccessorTransition,
    Trajectories,
    Transition,
    replace_fields,
)
from cbrl_bayes.problems import Problem, law_dependence
from cbrl_bayes.problems.successors import merged_probability, possible_successors

FEW_VISITS = 10.0
"""A pair with fewer visits is reported as resting on the prior."""


class Outlook(StrEnum):
    """What an unseen state and action are believed to lead to."""

    NEUTRAL = "neutral"
    CAUTIOUS = "cautious"
    OPTIMISTIC = "optimistic"


@dataclass(frozen=True)
class LawPrior:
    """What is believed about where a state and an action lead before they were tried.

    The law of a pair seen n times is ``(counts + weight * base) / (n + weight)``.

    Parameters
    ----------
    weight : float
        > 0, in visits: after as many, prior and data count alike.
    outlook : {"neutral", "cautious", "optimistic"}
        The base law of a pair. *neutral*: what was seen in the same state under all its actions,
        and all possible successors alike where nothing was. *cautious*, *optimistic*: the possible
        successor that is worst, or best, for the leader, by its values under the neutral law.
    alike : bool
        Whether places in a list of successors may mean the same in every state, as directions on
        a map do. How alike states are is then learned from all counts, and a pair seldom seen
        takes over what other states say of its action. Only for laws that list their successors
        and that the incentive does not move. False: each state by itself.

    Examples
    --------
    >>> LawPrior(weight=2.0, outlook="cautious").outlook
    <Outlook.CAUTIOUS: 'cautious'>
    """

    weight: float = 1.0
    outlook: Outlook | str = Outlook.NEUTRAL
    alike: bool = True

    def __post_init__(self) -> None:
        require_ranges(self, "settings of the prior on transitions", weight="(0, inf)")
        if self.outlook not in list(Outlook):
            raise InvalidInputError(
                "this outlook on unseen transitions does not exist",
                received=repr(self.outlook),
                accepted=", ".join(Outlook),
            )
        object.__setattr__(self, "outlook", Outlook(self.outlook))


class Sharing(NamedTuple):
    """Whose transitions inform one law."""

    contexts: bool
    followers: bool
    incentive_moves: bool

    @classmethod
    def of(cls, problem: Problem, parameters: Mapping[str, Any]) -> "Sharing":
        """Find out from the problem's functions on what the law depends."""
        depends = law_dependence(problem, parameters)
        return cls(not depends.context, not depends.follower, depends.incentive)

    def pooled(
        self, counts: Float[Array, "pair ..."], problem: Problem
    ) -> Float[Array, "context follower ..."]:
        """Add up the counts of pairs that share a law; their axes keep the length 1."""
        table = counts.reshape(-1, problem.followers.num_followers, *counts.shape[1:])
        for axis, shared in enumerate((self.contexts, self.followers)):
            if shared:
                table = table.sum(axis, keepdims=True)
        return table


def count_transitions(
    mdp: MDP, walked: Trajectories, *, incentive_moves: bool, ruled_out: bool = False
) -> Float[Array, "state action successor"]:
    """Count where the steps of walkers led, by listed successor (the first of equal ones).

    Where the incentive moves the law, each step counts 1 / P of the present law: times the P of
    another incentive it is what would have been seen there. Steps to a state that is not listed
    do not count (`refuse_unlisted`); nor do steps of probability 0 under a dense law, unless
    ``ruled_out``: another law may allow them.
    """
    slot, listed = _slots_seen(mdp.transition, walked)
    if ruled_out and isinstance(mdp.transition, DenseTransition):
        listed = jnp.ones_like(listed)
    moved = walked.active & ~jnp.asarray(mdp.terminal, bool)[walked.state] & listed
    weight = moved.astype(float)
    if incentive_moves:
        chance = merged_probability(mdp.transition)[walked.state, walked.action, slot]
        weight = jnp.where(chance > 0.0, weight / jnp.where(chance > 0.0, chance, 1.0), 0.0)
    blank = jnp.zeros(mdp.transition.probability.shape)
    return blank.at[walked.state, walked.action, slot].add(weight)


def refuse_unlisted(mdp: MDP, walked: Trajectories) -> None:
    """Raise for a step that led where the problem's law says that nothing leads."""
    _, listed = _slots_seen(mdp.transition, walked)
    moved = walked.active & ~jnp.asarray(mdp.terminal, bool)[walked.state]
    wrong = np.argwhere(np.asarray(moved & ~listed))
    if wrong.size:
        first = tuple(wrong[0])
        state, action, after = (
            int(np.asarray(leaf)[first])
            for leaf in (walked.state, walked.action, walked.next_state)
        )
        raise DataError(
            "the follower moved where the problem's law never leads",
            received=f"{len(wrong)} such steps, the first from state {state} with action {action} "
            f"to state {after}",
            accepted="the successors that the problem's transition law lists",
            remedy="a law in mdp_fn that lists every state that can follow",
        )


def _slots_seen(transition: Transition, walked: Trajectories) -> tuple[Array, Array]:
    """Return the slot of each step's successor, and whether it is listed at all."""
    if not isinstance(transition, DenseTransition):
        places = jnp.asarray(transition.successor)[walked.state, walked.action]
        reached = places == walked.next_state[..., None]
        return reached.argmax(-1), reached.any(-1)
    chance = transition.step_probability(walked.state, walked.action, walked.next_state)
    return walked.next_state, chance > 0.0


class LearnedLaw(NamedTuple):
    """A law made from counts.

    Attributes
    ----------
    counts : array, shape (S, A, K)
        As `count_transitions` returns them.
    told : array, shape (S, A, K) or ()
        What states tell of each other, in visits (`LawPrior.alike`).
    base : array, shape (S, A, K)
        What is believed of unseen pairs.
    weight : float
        Of the prior, in visits.
    incentive_moves : bool
    """

    counts: Float[Array, "state action successor"]
    told: Float[Array, "..."]
    base: Float[Array, "state action successor"]
    weight: float
    incentive_moves: bool

    @classmethod
    def of(
        cls,
        mdp: MDP,
        counts: Array,
        prior: LawPrior,
        *,
        incentive_moves: bool,
        told: Array | None = None,
    ) -> "LearnedLaw":
        """Return the law with the neutral base.

        ``told`` is what states tell of each other. Default: as the prior has it, at the most likely
        weight, from these counts alone.
        """
        if told is None:
            others = _alike_states(mdp.transition, counts, prior, incentive_moves=incentive_moves)
            told = jnp.zeros(()) if others is None else others.pseudo_counts()
        possible = possible_successors(mdp.transition)
        law = cls(counts, told, possible, prior.weight, incentive_moves)
        seen = law._visits(mdp) + told
        pooled = (seen.sum(1, keepdims=True) + possible) * (possible > 0.0)
        base = pooled / jnp.maximum(pooled.sum(-1, keepdims=True), jnp.finfo(float).tiny)
        return law._replace(base=jax.lax.stop_gradient(base))

    def concentration(self, mdp: MDP) -> Float[Array, "state action successor"]:
        """Return the numbers of the Dirichlet posterior of each pair, at the MDP's incentive."""
        return self._visits(mdp) + self.told + self.weight * self.base

    def applied(self, mdp: MDP) -> MDP:
        """Return the MDP with the mean law; differentiable in what moves the stated one."""
        concentration = self.concentration(mdp)
        mean = concentration / concentration.sum(-1, keepdims=True)
        return replace_fields(mdp, transition=mdp.transition.with_probability(mean))

    def hopeful(self, mdp: MDP, values: Float[Array, " state"], sign: float) -> "LearnedLaw":
        """Return the law with each pair's base on the successor of highest ``sign * values``."""
        possible = possible_successors(mdp.transition) > 0.0
        worth = jnp.where(possible, sign * _of_successors(mdp.transition, values), -jnp.inf)
        base = jax.nn.one_hot(worth.argmax(-1), worth.shape[-1], dtype=float)
        return self._replace(base=jax.lax.stop_gradient(base))

    def seldom(self, mdp: MDP) -> Float[Array, "state action"]:
        """Return 1 for pairs that were seen too seldom to be known."""
        known = (self._visits(mdp).sum(-1) >= FEW_VISITS) | jnp.asarray(mdp.terminal)[:, None]
        return 1.0 - known

    def _visits(self, mdp: MDP) -> Float[Array, "state action successor"]:
        """Return the counts as they would be under the law that the MDP states."""
        return (
            self.counts * merged_probability(mdp.transition)
            if self.incentive_moves
            else self.counts
        )


def law_posteriors(
    problem: Problem,
    parameters: Mapping[str, Any],
    counts: Float[Array, "context state action successor"],
    prior: LawPrior,
    num: int,
    *,
    key: Array,
) -> tuple[Array, Array]:
    """Return Dirichlet posteriors of the law: the most likely one, and ``num`` to draw laws from.

    Each of the latter has a drawn answer to how alike states are. Draw laws by `drawn_rows`. The
    numbers have the shape in which `with_unknown_law` takes a law.

    Parameters
    ----------
    problem : Problem
        One transition law for all followers.
    parameters : mapping
        Under which the counts were made.
    counts : array, shape (1 or C, S, A, K)
        Of transitions seen, one table where contexts share a law.
    prior : LawPrior
    num : int
    key : typed key
    """
    values, _ = problem.contexts.support(parameters, jax.random.key(0))
    one = problem.follower_parameters(parameters, 0)
    initial = problem.incentive.transform(problem.incentive.initial)
    sharing = Sharing.of(problem, parameters)
    moves = sharing.incentive_moves

    def mdp_of(number: Array) -> MDP:
        context = jax.tree.map(lambda leaf: jnp.asarray(leaf)[number], values)
        return problem.mdp_fn(initial, context, one)

    def of_context(number: Array, told: Array) -> Array:
        mdp = mdp_of(number)
        law = LearnedLaw.of(mdp, counts[number], prior, incentive_moves=moves, told=told)
        return law.concentration(mdp)

    def of_all(told: Array) -> Array:
        found = jax.vmap(of_context)(tables, jnp.broadcast_to(told, counts.shape))
        return found[0] if sharing.contexts else found

    tables = jnp.arange(counts.shape[0])
    stated = jax.vmap(lambda number: mdp_of(number).transition)(tables)
    others = _alike_states(stated, counts, prior, incentive_moves=moves)
    if others is None:
        whole = of_all(jnp.zeros(()))
        return whole, jnp.broadcast_to(whole, (num, *whole.shape))

    def drawn(key: Array) -> Array:
        return of_all(others.drawn_pseudo_counts(key).reshape(counts.shape))

    told = others.pseudo_counts().reshape(counts.shape)
    return of_all(told), jax.vmap(drawn)(jax.random.split(key, num))


def _alike_states(
    stated: Transition, counts: Array, prior: LawPrior, *, incentive_moves: bool
) -> AlikeStates | None:
    """Return what all rows of an action say, of all contexts where counts have these."""
    if not prior.alike or incentive_moves or not isinstance(stated, SuccessorTransition):
        return None
    rows = (-1, *counts.shape[-2:])
    # A place stands for the same move wherever it is listed: successors need no common names.
    return AlikeStates.learned(stated.successor.reshape(rows), counts.reshape(rows))


def drawn_rows(
    concentration: Float[Array | np.ndarray, "... successor"], key: Key[Array, ""]
) -> Float[np.ndarray, "... successor"]:
    """Draw a law, row by row, from Dirichlet distributions with impossible successors.

    On the log scale: where all concentrations of a row are small, all its gammas may be too small
    for a number. A row without any possible successor is zero.
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    shape = np.asarray(concentration)
    possible = shape > 0.0
    own = np.where(possible, shape, 1.0)
    # A gamma of shape a + 1 times U^(1 / a) is one of shape a.
    logs = np.log(rng.standard_gamma(own + 1.0)) - rng.standard_exponential(own.shape) / own
    logs = np.where(possible, logs, -np.inf)
    weight = np.exp(logs - np.max(logs, axis=-1, keepdims=True, where=possible, initial=-1e300))
    return weight / np.maximum(weight.sum(-1, keepdims=True), np.finfo(float).tiny)


def _of_successors(transition: Transition, values: Float[Array, " state"]) -> Array:
    if not isinstance(transition, DenseTransition):
        return values[transition.successor]
    return jnp.broadcast_to(values, transition.probability.shape)
