"""Networks of deterministic moves on the host: sparse factors, shared by all that can share them.

With z = exp(V / lambda) the undiscounted soft Bellman equation is linear, z = M z + b: M holds the
moves between states that go on, b those that end. Lanes (contexts) that differ only in where one
may end have the same M, and one factorisation serves them all.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix

from cbrl_bayes.mdp.factors import Factors, factored
from cbrl_bayes.status import SolveStatus

LARGEST = 1e200
"""Desirabilities from 1/LARGEST to LARGEST are used as they are; what lies outside is shifted."""
BLOCK = 16
"""Lanes at a time: more would not fit into the processor's cache."""


@dataclass(frozen=True)
class Some:
    """Some moves of a network, by number.

    Attributes
    ----------
    state, action, ahead : int arrays, shape (k,)
        From where, by which action, to where; from a terminal state to itself.
    reward : array, shape (k,)
    open_ : bool array, shape (n, k) or (k,)
        In which lanes.
    closing : bool
        Whether the state ends the episode, so that nothing lies ahead.
    """

    state: np.ndarray
    action: np.ndarray
    ahead: np.ndarray
    reward: np.ndarray
    open_: np.ndarray
    closing: bool = False

    def share(self, values: np.ndarray, temperature: float) -> np.ndarray:
        """Return the probability of each move, (n, k), given the values (n, S) of its policy."""
        gain = self.reward - values[:, self.state]
        if not self.closing:
            gain += values[:, self.ahead]
        gain = np.where(self.open_, gain / temperature, -np.inf)
        return np.exp(gain, out=gain)


@dataclass(frozen=True)
class Moves:
    """Deterministic moves that several lanes share, except for where they may end.

    Parameters
    ----------
    reward : array, shape (S, A)
    successor : int array, shape (S, A)
    terminal : bool array, shape (S,)
    temperature : float
        lambda > 0, units of reward; rationality is 1/lambda.
    available : bool array, shape (n, S, A)
        Open actions of each lane; those between states that go on are the same in all.
    """

    reward: np.ndarray
    successor: np.ndarray
    terminal: np.ndarray
    temperature: float
    available: np.ndarray

    @cached_property
    def between(self) -> Some:
        """Open moves between states that go on, the same in all lanes."""
        state, action = np.nonzero(inside(self.successor, self.terminal) & self.available[0])
        ahead, reward = self.successor[state, action], self.reward[state, action]
        return Some(state, action, ahead, reward, np.ones(len(state), bool))

    @cached_property
    def exits(self) -> Some:
        """Moves to a terminal state that are open in some lane."""
        leaving = ~self.terminal[:, None] & self.terminal[self.successor]
        state, action = np.nonzero(leaving & self.available.any(axis=0))
        ahead, reward = self.successor[state, action], self.reward[state, action]
        return Some(state, action, ahead, reward, self.available[:, state, action])

    @cached_property
    def ends(self) -> Some:
        """Actions of the terminal states."""
        closing = np.broadcast_to(self.terminal[:, None], self.reward.shape)
        state, action = np.nonzero(closing)
        reward = self.reward[state, action]
        return Some(state, action, state, reward, self.available[:, state, action], True)

    def of(self, lanes: Any) -> "Moves":
        """Return the moves of some lanes."""
        some = replace(self, available=self.available[lanes])
        some.__dict__["between"] = self.between
        for name in ("exits", "ends"):
            whole = getattr(self, name)
            some.__dict__[name] = replace(whole, open_=whole.open_[lanes])
        return some

    def factors(self, shift: np.ndarray | None = None) -> Factors | None:
        """Return the factors of I - M, with rewards shaped by a shift (S,) of the values."""
        moves = self.between
        shaped = moves.reward
        if shift is not None:
            shaped = shaped + shift[moves.ahead] - shift[moves.state]
        with np.errstate(over="ignore", under="ignore"):
            weight = np.exp(shaped / self.temperature)
        return factored(moves.state, moves.ahead, weight, len(self.terminal))

    def end_values(self) -> np.ndarray:
        """Return the values of terminal states, (n, S), and minus infinity elsewhere."""
        found = np.full(self.available.shape[:2], -np.inf)
        logits = np.where(self.ends.open_, self.ends.reward / self.temperature, -np.inf)
        for action in np.unique(self.ends.action):
            one = self.ends.action == action
            place = self.ends.state[one]
            found[:, place] = np.logaddexp(found[:, place], logits[:, one])
        return self.temperature * found

    def ends_from(self, end_values: np.ndarray, shift: np.ndarray | float = 0.0) -> np.ndarray:
        """Return b, (n, S): what ending at once is worth, less the shift (S,)."""
        exits, found = self.exits, np.zeros_like(end_values)
        shift = np.broadcast_to(shift, self.terminal.shape)
        gain = exits.reward + end_values[:, exits.ahead] - shift[exits.state]
        with np.errstate(over="ignore", under="ignore"):
            worth = np.exp(np.where(exits.open_, gain / self.temperature, -np.inf))
        _add_at(found, exits.state, worth)
        return found

    def solve_values(self) -> tuple[np.ndarray, np.ndarray]:
        """Return values (n, S), and a `SolveStatus` of each lane."""
        n, S = self.available.shape[:2]
        values, status = np.full((n, S), np.nan), np.full(n, int(SolveStatus.NOT_FINITE))
        factors = self.factors()
        if factors is not None:
            over_blocks(n, partial(self._fill_values, factors, values, status))
        for lane in np.flatnonzero(status != SolveStatus.CONVERGED):
            values[lane], status[lane] = self.of(slice(lane, lane + 1))._shifted_values()
        return values, status

    def _fill_values(
        self, factors: Factors, values: np.ndarray, status: np.ndarray, lanes: slice
    ) -> None:
        """Solve some lanes as they are; leave NaN where z is out of range."""
        one = self.of(lanes)
        at_end = one.end_values()
        z = factors.solve(one.ends_from(at_end))
        z[:, self.terminal] = 1.0
        good = in_range(z)
        status[lanes][good] = int(SolveStatus.CONVERGED)
        z[~good] = np.nan
        found = self.temperature * np.log(z, out=z)
        values[lanes] = np.where(self.terminal, at_end, found)

    def _shifted_values(self) -> tuple[np.ndarray, int]:
        """Solve one lane for the excess over its best path: no weight is above one then."""
        at_end = self.end_values()
        best = self.best_path_values(at_end[0])
        factors = self.factors(best) if np.isfinite(best).all() else None
        if factors is not None:
            excess = factors.solve(self.ends_from(at_end, best))
            excess[:, self.terminal] = 1.0
            if in_range(excess)[0]:
                found = best + self.temperature * np.log(excess[0])
                return found, int(SolveStatus.CONVERGED)
        return np.full(len(best), np.nan), int(SolveStatus.NOT_FINITE)

    def best_path_values(self, at_end: np.ndarray) -> np.ndarray:
        """Return what the best path is worth from each state of the first lane, (S,).

        NaN where a cycle gains for ever, minus infinity where no path ends.
        """
        open_ = self.available[0] & ~self.terminal[:, None]
        reward = np.where(open_, self.reward, -np.inf)
        found = at_end
        for _ in range(len(at_end) + 1):
            better = np.maximum(at_end, (reward + found[self.successor]).max(axis=1))
            if np.array_equal(better, found):
                return found
            found = better
        return np.full_like(found, np.nan)

    def response(
        self, values: np.ndarray, lanes_side: np.ndarray, reward_side: np.ndarray
    ) -> np.ndarray:
        """Return ``(I - P)^-1 (lanes_side + sum_a pi reward_side)``, (n, S), for each lane.

        ``lanes_side`` (n, S), ``reward_side`` (S, A): how values move when rewards do.
        """

        def block(one: "Moves", factors: Factors, mine: slice, scale: Any) -> None:
            given = lanes_side[mine].copy()
            for group in (one.between, one.exits, one.ends):
                share = group.share(values[mine], self.temperature)
                _add_at(given, group.state, share * reward_side[group.state, group.action])
            exits = one.exits
            _add_at(given, exits.state, one._out(values[mine]) * given[:, exits.ahead])
            inner = factors.solve(np.where(self.terminal, 0.0, given) * scale) / scale
            found[mine] = np.where(self.terminal, given, inner)

        found = np.full_like(lanes_side, np.nan)
        self._by_factors(values, block)
        return found

    def sensitivity(
        self, values: np.ndarray, lanes_side: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return ``x = (I - P)^-T lanes_side``, (n, S), and ``sum_lanes x pi``, (S, A)."""

        def block(one: "Moves", factors: Factors, mine: slice, scale: Any) -> None:
            given = np.where(self.terminal, 0.0, lanes_side[mine])
            found = scale * factors.solve_transposed(given / scale)
            found[:, self.terminal] = lanes_side[mine][:, self.terminal]
            exits = one.exits
            _add_at(found, exits.ahead, one._out(values[mine]) * found[:, exits.state])
            visits[mine] = found
            for group in (one.between, one.exits, one.ends):
                share = group.share(values[mine], self.temperature)
                share *= found[:, group.state]
                taken.append((group, share.sum(axis=0)))

        visits = np.full_like(lanes_side, np.nan)
        taken: list[tuple[Some, np.ndarray]] = []
        self._by_factors(values, block)
        used = np.zeros(self.reward.shape)
        for group, amount in taken:
            used[group.state, group.action] += amount
        return visits, used if np.isfinite(visits).all() else np.full_like(used, np.nan)

    def _out(self, values: np.ndarray) -> np.ndarray:
        return self.exits.share(values, self.temperature)

    def _by_factors(self, values: np.ndarray, work: Callable[..., None]) -> None:
        """Call ``work`` for blocks of lanes, with what to solve by; not for lanes without values.

        P is M scaled by z = exp(values / lambda) from both sides: one factorisation serves all
        lanes. Where z is out of range, I - P has its own factors and scale 1.
        """
        near = (np.abs(values) < self.temperature * np.log(LARGEST)).all(axis=1)  # not for NaN
        factors = self.factors() if near.any() else None

        def block(lanes: slice) -> None:
            if factors is not None and near[lanes].all():
                scale = np.exp(values[lanes] / self.temperature)
                scale[:, self.terminal] = 1.0
                work(self.of(lanes), factors, lanes, scale)
                return
            for lane in range(*lanes.indices(len(values))):
                own = self.factors(values[lane]) if np.isfinite(values[lane]).all() else None
                if own is not None:
                    alone = slice(lane, lane + 1)
                    work(self.of(alone), own, alone, 1.0)

        over_blocks(len(values), block)


def inside(successor: np.ndarray, terminal: np.ndarray) -> np.ndarray:
    """Return which moves (S, A) go from a state that goes on to another one."""
    return ~terminal[:, None] & ~terminal[successor]


def in_range(z: np.ndarray) -> np.ndarray:
    """Return which lanes (n,) of z (n, S) are positive and neither too small nor too large."""
    with np.errstate(invalid="ignore"):
        return ((z >= 1.0 / LARGEST) & (z <= LARGEST)).all(axis=1)


def over_blocks(num: int, work: Callable[[slice], None]) -> None:
    """Do some work for a few lanes at a time, on all cores."""
    blocks = [slice(start, min(start + BLOCK, num)) for start in range(0, num, BLOCK)]
    if len(blocks) == 1:
        work(blocks[0])
        return
    with ThreadPoolExecutor(min(len(blocks), os.cpu_count() or 1)) as pool:
        list(pool.map(work, blocks))


def _add_at(table: np.ndarray, place: np.ndarray, amount: np.ndarray) -> None:
    """Add the columns of ``amount`` (n, k) to those columns of the table (n, S)."""
    columns, column_of = np.unique(place, return_inverse=True)
    shape = len(place), len(columns)
    pick = coo_matrix((np.ones(len(place)), (np.arange(len(place)), column_of)), shape)
    table[:, columns] += amount @ pick.tocsr()
