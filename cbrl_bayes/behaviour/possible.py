"""What the model says of each observed step: possible, or ruled out and why."""

import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from cbrl_bayes.behaviour.cells import UNSEEN, contexts_of, groups_of, incentives_of, state_in_words
from cbrl_bayes.behaviour.schema import MISSING
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import MDP, replace_fields
from cbrl_bayes.problems import DiscreteContexts, Problem, respond, settled

MOST_SHOWN = 3
HEAT = 1e3
"""An action counts as impossible if followers of this many times the default lambda avoid it."""
NEVER = -100.0
"""Log-probability below which an action counts as avoided altogether: about 1e-43."""
NO_START = "the model starts there with probability 0"
NO_CHOICE = (
    "the model makes this action impossible (probability below 1e-43 even at 1,000 times the "
    "default temperature, lambda)"
)
SHUT = "this action is not available there"
GOES_ON = "the episode goes on after this state, which ends it"
CLOSED = "the move has probability 0"
MOST_EAGER = 8
"""Processes above this number are built by a compiled program."""


def impossibilities(
    problem: Problem, data: xr.Dataset, estimated: Collection[str] | None = None
) -> Iterator[str]:
    """Yield one sentence on all steps that the problem rules out, if there are any.

    A step is ruled out if its action is not available; if it has no probability even for
    followers of 1,000 times the default temperature (lambda); if the move to the next state has
    probability 0 whatever the estimated parameters; or if the episode goes on after a state that
    ends it. Where the context was not observed, the first state counts too, and a step is ruled
    out if no context allows the whole episode. Where ``successor_slot`` is recorded it counts in
    place of the next state.

    Parameters
    ----------
    problem : Problem
    data : xarray.Dataset
        Of the right form (`check_trajectories`).
    estimated : collection of str, optional
        Names of the parameters that are not known. A move of probability 0 counts as possible
        if one of them could give it more. Default: all.

    Yields
    ------
    str
        How many, and of the first three: follower, episode, step, state, action, and why.

    Raises
    ------
    InvalidInputError
        If the incentive of a regime makes no valid process.
    """
    found = list(_ruled_out(problem, data, estimated))
    if not found:
        return
    found.sort(key=lambda one: one[0])
    shown = "; ".join(words() for _, words in found[:MOST_SHOWN])
    what = "one step" if len(found) == 1 else f"{len(found)} steps"
    first = f", of which the first {MOST_SHOWN}" if len(found) > MOST_SHOWN else ""
    yield (
        f"the model rules out {what}{first}: {shown} (correct the data or the problem; a step "
        "whose move is not known: begin another episode after it)"
    )


@dataclass(frozen=True)
class _Steps:
    """Everything that was observed, as flat arrays."""

    episode: np.ndarray
    step: np.ndarray
    state: np.ndarray
    action: np.ndarray
    next_state: np.ndarray  # MISSING at the end of an episode
    slot: np.ndarray  # MISSING where not recorded
    moves_count: np.ndarray  # whether the next state is to be compared
    scored: np.ndarray

    def select(self, wanted: np.ndarray) -> "_Steps":
        return _Steps(*(array[wanted] for array in vars(self).values()))


def _ruled_out(
    problem: Problem, data: xr.Dataset, estimated: Collection[str] | None
) -> Iterator[tuple[tuple[int, int], Callable[[], str]]]:
    """Yield the place of every step that is ruled out, and what words it when asked."""
    context, values, C = contexts_of(problem, data)
    regimes, regime = np.unique(data["regime"].values.astype(str), return_inverse=True)
    incentives = incentives_of(problem, data, regimes)
    follower = _followers(problem, data)
    names = problem.contexts.names if isinstance(problem.contexts, DiscreteContexts) else None
    possible = (context[:, None] == np.arange(C)) | (context[:, None] == UNSEEN)
    pairs = np.argwhere(possible)
    wanted = np.stack([regime[pairs[:, 0]], pairs[:, 1], follower[pairs[:, 0]]], axis=-1)
    cells, cell_of = np.unique(wanted, axis=0, return_inverse=True)
    look = _Look(problem, estimated, len(cells) > MOST_EAGER)
    steps = _steps_of(data, context == UNSEEN)
    # Of episodes without context: episode -> context -> (step, what words it, where).
    excuses: dict[int, dict[int, tuple[int, Callable[[], str], str]]] = {}
    for index, (r, c, f) in enumerate(cells):
        members = np.zeros(len(context), bool)
        members[pairs[cell_of.ravel() == index, 0]] = True
        one = {name: array[r] for name, array in incentives.items()}
        value = jax.tree.map(lambda leaf, c=c: jnp.asarray(leaf)[c], values)
        where = f" in context {names[c]!r}" if names and C > 1 else ""
        mdp = look.mdp(one, value, f, f"regime {str(regimes[r])!r}{where}")
        mine = steps.select(members[steps.episode])
        for row, why in look.faults(mdp, mine, (one, value, f), context == UNSEEN):
            episode, step = int(mine.episode[row]), int(mine.step[row])
            words = partial(_fault, problem, mine, row, why)
            if context[episode] == UNSEEN:
                excuses.setdefault(episode, {}).setdefault(int(c), (step, words, where))
            else:
                yield (episode, step), partial(_whose, data, episode, [(step, words, where)])
    for episode, by_context in excuses.items():
        if len(by_context) == C:
            reasons = list(by_context.values())
            first = min(step for step, _, _ in reasons)
            yield (episode, first), partial(_whose, data, episode, reasons)


class _Look:
    """Builds processes at the default parameters and compares steps with them."""

    def __init__(self, problem: Problem, estimated: Collection[str] | None, compiled: bool) -> None:
        self.problem = problem
        self.defaults = problem.default_parameters
        self.estimated = set(self.defaults if estimated is None else estimated)
        self._settled: dict[bytes, dict[str, Any]] = {}
        self.build = jax.jit(problem.mdp_fn) if compiled else problem.mdp_fn

    def at(self, incentive: Mapping[str, Any]) -> dict[str, Any]:
        """Return the default parameters, and what followers do together under the incentive."""
        stated = b"".join(np.asarray(incentive[name]).tobytes() for name in sorted(incentive))
        if stated not in self._settled:
            key = jax.random.key(0)
            self._settled[stated] = settled(self.problem, incentive, self.defaults, key=key)
        return self._settled[stated]

    def mdp(self, incentive: Mapping[str, Any], value: Any, follower: Any, where: str) -> MDP:
        """Return the process of one cell, checked."""
        one = self.problem.follower_parameters(self.at(incentive), follower)
        try:
            mdp = self.build(incentive, value, one)
            return replace_fields(mdp)  # checked, now that its values are known
        except InvalidInputError as error:
            stated = ", ".join(f"{n} = {np.asarray(v).tolist()}" for n, v in incentive.items())
            raise InvalidInputError(
                f"the incentive stated for {where} makes no valid process ({stated}): {error}"
            ) from error

    def faults(
        self, mdp: MDP, steps: _Steps, cell: tuple, hidden: np.ndarray
    ) -> Iterator[tuple[int, str]]:
        """Yield the row of every step that is ruled out, and why, first reasons first."""
        initial = np.asarray(mdp.initial)
        first = (steps.step == 0) & hidden[steps.episode]
        starts = first & (initial[steps.state] == 0)
        starts = self._for_good(starts, lambda m, kept: m.initial[steps.state[kept]], cell)
        goes_on = steps.next_state != MISSING
        ended = goes_on & np.asarray(mdp.terminal, bool)[steps.state]
        chance, of_law = self._moves(mdp, steps)
        moved = ((goes_on & steps.moves_count) | (steps.slot != MISSING)) & ~ended
        moved &= ~np.asarray(mdp.terminal, bool)[steps.state]
        closed = moved & (chance == 0)
        closed = self._for_good(closed, of_law, cell)
        never = self._avoided(mdp, steps, cell)
        shut = np.asarray(mdp.is_open)[steps.state, steps.action] == 0
        reasons = (
            (starts, NO_START),
            (shut, SHUT),
            (never, NO_CHOICE),
            (ended, GOES_ON),
            (closed, CLOSED),
        )
        for row in np.flatnonzero(starts | shut | ended | closed | never):
            yield int(row), next(why for found, why in reasons if found[row])

    def _moves(self, mdp: MDP, steps: _Steps) -> tuple[np.ndarray, Any]:
        """Return the probability of every recorded move, and the function of a law that does."""
        by_slot = steps.slot != MISSING

        def of_law(mdp: MDP, kept: np.ndarray) -> Any:
            s, a = steps.state[kept], steps.action[kept]
            slot, after = np.maximum(steps.slot[kept], 0), np.maximum(steps.next_state[kept], 0)
            by_state = mdp.transition.step_probability(s, a, after)
            recorded = mdp.transition.probability[s, a, slot]
            return jnp.where(by_slot[kept], recorded, by_state)

        keys = np.stack([steps.state, steps.action, steps.next_state, steps.slot], axis=-1)
        _, firsts, row_of = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        # Lengths that are powers of two: few programs serve many contexts.
        spare = (1 << (len(firsts) - 1).bit_length()) - len(firsts)
        firsts = np.pad(firsts, (0, spare), mode="edge")
        concrete = copy.copy(mdp)  # it was checked; NumPy finds single entries faster
        object.__setattr__(concrete, "transition", jax.tree.map(np.asarray, mdp.transition))
        return np.asarray(of_law(concrete, firsts))[row_of.ravel()], of_law

    def _for_good(self, zero: np.ndarray, chance: Any, cell: tuple) -> np.ndarray:
        """Keep those probabilities of 0 that do not move with any parameter either."""
        if not zero.any():
            return zero
        incentive, value, follower = cell
        free = {name: v for name, v in self.defaults.items() if name in self.estimated}

        def at(parameters: Mapping[str, Any]) -> Any:
            everyone = {**self.at(incentive), **parameters}
            one = self.problem.follower_parameters(everyone, follower)
            return chance(self.problem.mdp_fn(incentive, value, one), zero)

        slopes = jax.tree.leaves(jax.jacfwd(at)(free))
        moving = np.zeros(int(zero.sum()), bool)
        for slope in slopes:
            moving |= np.asarray(slope != 0).reshape(len(moving), -1).any(1)
        kept = zero.copy()
        kept[zero] = ~moving
        return kept

    def _avoided(self, mdp: MDP, steps: _Steps, cell: tuple) -> np.ndarray:
        """Return which actions even very hot followers would not take."""
        problem, (incentive, value, follower) = self.problem, cell
        spread = float(np.ptp(np.asarray(mdp.reward))) / float(mdp.temperature)
        plans_for_ever = float(mdp.discount) == 1.0  # then heat makes the follower wander
        if plans_for_ever or (problem.response_fn is None and spread < -NEVER * HEAT / 10):
            return np.zeros(len(steps.state), bool)
        one = problem.follower_parameters(self.at(incentive), follower)
        _, hot = respond(problem.heated(HEAT), incentive, value, one)
        _, plain = respond(problem, incentive, value, one)
        # A solve that failed says nothing: NaN gives way to the other.
        log_policy = np.fmax(np.asarray(hot.log_policy), np.asarray(plain.log_policy))
        return steps.scored & (log_policy[steps.state, steps.action] < NEVER)


def _steps_of(data: xr.Dataset, hidden: np.ndarray) -> _Steps:
    state, action = data["state"].values, data["action"].values
    after = np.full_like(state, MISSING)
    after[:, :-1] = state[:, 1:]
    slot = np.full_like(state, MISSING)
    counts = np.ones(state.shape, bool)
    if "successor_slot" in data:
        # What was recorded counts where the likelihood uses it; there states may be rounded.
        slot = np.where(hidden[:, None], MISSING, data["successor_slot"].values)
        counts &= hidden[:, None]
    scored = np.ones(state.shape, bool)
    if "choice_observed" in data:
        scored = data["choice_observed"].values.astype(bool)
    episode, step = np.nonzero(state != MISSING)
    return _Steps(
        episode,
        step,
        *(array[episode, step] for array in (state, action, after, slot, counts, scored)),
    )


def _followers(problem: Problem, data: xr.Dataset) -> np.ndarray:
    """Return each episode's follower of the problem; 0 where all are alike."""
    names, group = groups_of(problem, data["group"].values.astype(str))
    alike = all(
        np.ndim(problem.default_parameters[name]) == 0
        for name in problem.per_follower
        if name in problem.default_parameters
    )
    alike &= not problem.tells_followers_apart
    return np.zeros_like(group) if alike or names != problem.followers.names else group


def _whose(
    data: xr.Dataset, episode: int, reasons: list[tuple[int, Callable[[], str], str]]
) -> str:
    """Word the fault of an episode, in the one context that it has or in all."""
    who = f"follower {str(data['follower'].values[episode])!r} (episode {episode})"
    texts = {words() for _, words, _ in reasons}
    if len(reasons) > 1 and len(texts) == 1:
        return f"{who}, {texts.pop()} in every context"
    return f"{who}, " + ", and ".join(f"{words()}{where}" for _, words, where in reasons)


def _fault(problem: Problem, steps: _Steps, row: int, why: str) -> str:
    if why == CLOSED and steps.slot[row] != MISSING:
        why = f"successor slot {steps.slot[row]} has probability 0"
    elif why == CLOSED:
        to = state_in_words(problem, int(steps.next_state[row]))
        why = f"the move to {to} has probability 0"
    return f"step {steps.step[row]}, {_what(problem, steps, row)}: {why}"


def _what(problem: Problem, steps: _Steps, row: int) -> str:
    action = int(steps.action[row])
    name = f" ({problem.action_names[action]})" if problem.action_names else ""
    return f"{state_in_words(problem, int(steps.state[row]))}, action {action}{name}"
