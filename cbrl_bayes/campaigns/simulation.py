"""Whole campaigns against simulated followers, as plain records."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from cbrl_bayes.campaigns.answers import Answer
from cbrl_bayes.campaigns.engine import Check, Engine, Plan, State
from cbrl_bayes.campaigns.watching import World
from cbrl_bayes.hypergradients import Exact, Search, SearchProgram
from cbrl_bayes.problems import Problem, leader_outcome

BANDS = ("low", "mean", "high")


class Ending(IntEnum):
    """Why a campaign ended."""

    ALL_ROUNDS = 0
    NET_VALUE = 1

    @property
    def words(self) -> str:
        """The reason in words."""
        reasons = ("all rounds were done", "one more round was worth less than its cost")
        return reasons[self]


@dataclass
class Simulation:
    """Campaigns of one leader against one kind of followers, compiled once.

    Parameters
    ----------
    engine : Engine
        The leader.
    world : World
        The followers; their parameters are those of each campaign's own truth.
    clairvoyant : Search
        How the true optimum is looked for, with all parameters known.
    """

    engine: Engine
    world: World
    clairvoyant: Search
    _optima: dict[bytes, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        problem = self.world.problem
        self._search = SearchProgram(problem, Exact(), self.clairvoyant)
        self._true = jax.jit(self._objective)

    def _objective(self, point: Array, parameters: Mapping[str, Any]) -> Array:
        problem = self.world.problem
        return leader_outcome(problem, problem.incentive.unflatten(point), parameters).objective

    def run(
        self,
        truth: Mapping[str, Any],
        key: Key[Array, ""],
        on_round: Callable[[int], None] | None = None,
    ) -> dict[str, np.ndarray]:
        """Run one campaign; see `Ledger.record` for what is returned.

        Parameters
        ----------
        truth : mapping
            All parameters of the world's problem.
        key : typed key
        on_round : callable, optional
            Called with the number of rounds done.
        """
        start_key, key = jax.random.split(key)
        engine = self.engine
        world = self.world.of(truth)
        state, memory = engine.begin(start_key), world.initial_memory()
        ledger, ending = Ledger(engine), Ending.ALL_ROUNDS
        while state.number < engine.settings.num_rounds:
            begun = time.perf_counter()
            keys = jax.random.split(jax.random.fold_in(key, state.number), 3)
            plan = engine.plan(state, keys[0])
            if plan.stop:
                ending = Ending.NET_VALUE
            true = np.array([float(self._true(point, dict(truth))) for point in plan.points])
            answers: list[Answer] = []
            for arm, point in enumerate(plan.points):
                own = jax.random.fold_in(keys[1], arm)
                answer, memory = world.answer(point, engine.watch, memory, own)
                answers.append(answer)
            state, check = engine.absorb(state, plan, answers, keys[2])
            ledger.add(state, plan, answers, check, true, time.perf_counter() - begun)
            if on_round is not None:
                on_round(state.number)
            if plan.stop:
                break
        best = max(self._optimum(truth), ledger.best_true)
        return ledger.record() | {"optimum": np.array(best), "ending": np.array(int(ending))}

    def _optimum(self, truth: Mapping[str, Any]) -> float:
        """Search the optimum once for each truth, alike whoever asks first."""
        name = b"".join(np.asarray(truth[entry]).tobytes() for entry in sorted(truth))
        if name not in self._optima:
            self._optima[name] = float(
                self._search.run(dict(truth), key=jax.random.key(0)).best.objective
            )
        return self._optima[name]


class Ledger:
    """The books of a campaign: one row for each round, rows of rounds not done are NaN."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.rows: list[dict[str, np.ndarray]] = []

    @property
    def best_true(self) -> float:
        """The highest true objective of all designs deployed."""
        return max(float(row["true_objective"].max()) for row in self.rows)

    def add(
        self,
        state: State,
        plan: Plan,
        answers: list[Answer],
        check: Check,
        true: Float[np.ndarray, " arm"],
        seconds: float,
    ) -> None:
        """Write down one round."""
        arms, most = len(plan.points), self.engine.settings.policy.num_arms
        net, belief = plan.net, state.belief
        gain = plan.outcomes.objective[:arms] - plan.outcomes.objective[arms]
        by_arm = {
            "point": plan.points,
            "predicted": bands(plan.outcomes.objective[:arms], self.engine.settings.prob),
            "true_objective": true,
            "realised": np.array([float(answer.mean) for answer in answers]),
            "realised_error": np.array([float(answer.standard_error) for answer in answers]),
            "p_value": check.p_values,
            "gain": bands(gain, self.engine.settings.prob),
            "better": (gain > 0.0).mean(1),
        }
        row = {name: _padded(values, most) for name, values in by_arm.items()}
        today = bands(plan.outcomes.objective[arms:], self.engine.settings.prob)[0]
        numbers = {
            "today": today,
            "expected_regret": plan.regret,
            "bet": check.bets,
            "evidence": state.evidence.value,
            "alarm_p_value": state.evidence.p_value,
            "information": np.nan if net is None else net.information,
            "information_error": np.nan if net is None else net.information_error,
            "given_up": np.nan if net is None else net.given_up,
            "net_value": np.nan if net is None else net.net,
            "net_value_error": np.nan if net is None else net.net_error,
            "drawn_back": float(len(plan.broken) > 0),
            "arms": float(arms),
            "follower_steps": float(sum(int(answer.steps) for answer in answers)),
            "episodes": float(sum(answer.contexts.sum() for answer in answers)),
            "effective_size": belief.effective_size,
            "distinct": float(belief.num_distinct),
            "moves": float(getattr(belief, "num_moves", 0)),
            "unsolved": float(belief.num_unsolved + plan.outcomes.unsolved.sum()),
            "seconds": seconds,
            "learned": learned(self.engine, state),
        }
        self.rows.append(row | {name: np.asarray(value) for name, value in numbers.items()})

    def record(self) -> dict[str, np.ndarray]:
        """Return all rows, (R, ...), R rounds at most; and how many were done."""
        missing = self.engine.settings.num_rounds - len(self.rows)
        found = {}
        for name in self.rows[0]:
            column = np.stack([np.asarray(row[name], float) for row in self.rows])
            rest = np.full((missing, *column.shape[1:]), np.nan)
            found[name] = np.concatenate([column, rest])
        return found | {"rounds": np.array(len(self.rows))}


def learned(engine: Engine, state: State) -> Float[np.ndarray, "unknown band"]:
    """Return mean and interval of every unknown, entry by entry, as `unknown_names` lists them."""
    draws = state.belief.draws(jax.random.key(state.number), engine.settings.planning.num_draws)
    rows = []
    for name in engine.unknown:
        flat = np.asarray(draws[name]).reshape(len(draws[name]), -1)
        rows.append(bands(flat.T, engine.settings.prob))
    return np.concatenate([np.zeros((0, len(BANDS))), *rows])


def bands(values: Float[np.ndarray, "row draw"], prob: float) -> Float[np.ndarray, "row band"]:
    """Return the equal-tailed interval and the mean of each row, in the order of `BANDS`."""
    tail = (1.0 - prob) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail], axis=-1)
    return np.stack([low, values.mean(-1), high], axis=-1)


def fired(evidence_p_value: np.ndarray, false_alarm: float) -> np.ndarray:
    """Return the first round, from 1, in which the check fired; 0 where it did not. Last axis."""
    over = evidence_p_value <= false_alarm
    return np.where(over.any(-1), over.argmax(-1) + 1, 0)


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    values = np.asarray(values, float)
    rest = np.full((length - len(values), *values.shape[1:]), np.nan)
    return np.concatenate([values, rest])


def complete_truth(problem: Problem, given: Mapping[str, Any] | None) -> dict[str, np.ndarray]:
    """Return all parameters of a truth, checked."""
    return {name: np.asarray(value) for name, value in problem.complete_parameters(given).items()}
