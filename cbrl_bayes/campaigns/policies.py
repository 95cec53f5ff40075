"""What to deploy next: policies of a leader who learns as it goes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from cbrl_bayes.campaigns.answers import Watch
from cbrl_bayes.campaigns.desk import Desk, Draws
from cbrl_bayes.errors import InvalidInputError, require_kind, require_ranges
from cbrl_bayes.information.sampling import reweighted_information


class Situation(NamedTuple):
    """What a policy may look at.

    Attributes
    ----------
    draws : mapping
        Equally weighted draws of all parameters, leading axis N.
    last : array, shape (P,)
        The design deployed last, or today's.
    earlier : array, shape (n, P)
        Some designs deployed before.
    number, num_rounds : int
        Of the round that is planned, from 0; and how many there are at most.
    seen : mapping
        Arm number -> (sum of worths, episodes that ended), of `FixedArms`.
    watch : Watch
        How much a round shows of each arm.
    """

    draws: Draws
    last: Float[np.ndarray, " coordinate"]
    earlier: Float[np.ndarray, "design coordinate"]
    number: int
    num_rounds: int
    seen: Mapping[int, tuple[float, int]]
    watch: Watch


class Policy(Protocol):
    """A rule that says what to deploy in the next round."""

    @property
    def num_arms(self) -> int:
        """Designs deployed side by side in a round; episodes are shared evenly."""

    @property
    def explores(self) -> bool:
        """Whether it gives something up to learn; then the last round has the common design."""

    def propose(
        self, desk: Desk, situation: Situation, key: Key[Array, ""]
    ) -> Float[np.ndarray, "arm coordinate"]:
        """Return the designs of the next round, before their transform."""


@dataclass(frozen=True)
class Greedy:
    """Deploy the common design: the highest mean objective under what is believed.

    Examples
    --------
    >>> Greedy().num_arms
    1
    """

    explores: ClassVar[bool] = False
    num_arms: int = field(default=1, init=False)

    def propose(self, desk: Desk, situation: Situation, key: Key[Array, ""]) -> np.ndarray:
        """See `Policy.propose`."""
        starts = [situation.last, *situation.earlier]
        is_last = situation.number + 1 >= situation.num_rounds
        wide = is_last or desk.is_wide(situation.number)
        return desk.common(situation.draws, starts, key, wide=wide)[None]


@dataclass(frozen=True)
class Thompson:
    """Deploy the best design for one draw of what is believed; several arms, several draws.

    Parameters
    ----------
    num_arms : int
        >= 1.
    """

    explores: ClassVar[bool] = True
    num_arms: int = 1

    def __post_init__(self) -> None:
        require_ranges(self, "settings of Thompson", num_arms=">= 1")

    def propose(self, desk: Desk, situation: Situation, key: Key[Array, ""]) -> np.ndarray:
        """See `Policy.propose`."""
        return _best_of_draws(desk, situation, self.num_arms, key)


@dataclass(frozen=True)
class UpperConfidence:
    """Deploy the design with the highest quantile of its objective.

    Candidates are the common design, the last one, and the best for each of some draws.

    Parameters
    ----------
    quantile : float
        In (.5, 1).
    num_candidates : int
        Draws whose best designs are candidates, >= 1.
    """

    explores: ClassVar[bool] = True
    quantile: float = 0.9
    num_candidates: int = 4
    num_arms: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        require_ranges(
            self, "settings of UpperConfidence", quantile="(0.5, 1)", num_candidates=">= 1"
        )

    def propose(self, desk: Desk, situation: Situation, key: Key[Array, ""]) -> np.ndarray:
        """See `Policy.propose`."""
        points, worth = _candidates(desk, situation, self.num_candidates, key)
        return points[np.quantile(worth, self.quantile, axis=1).argmax()][None]


@dataclass(frozen=True)
class KnowledgeGradient:
    """Deploy the design of the highest worth now plus what its data are worth later.

    A candidate's score is its mean objective plus the rounds left times the expected value of the
    sample information (EVSI) that one round of it brings, for a choice among all candidates
    (Ryzhov, Powell and Frazier, Operations Research 60, 2012). EVSI by re-weighting the draws.

    Parameters
    ----------
    num_candidates : int
        Draws whose best designs are candidates beside the common and the last one, >= 1.
    """

    explores: ClassVar[bool] = True
    num_candidates: int = 4
    num_arms: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        require_ranges(self, "settings of KnowledgeGradient", num_candidates=">= 1")

    def propose(self, desk: Desk, situation: Situation, key: Key[Array, ""]) -> np.ndarray:
        """See `Policy.propose`."""
        points, worth = _candidates(desk, situation, self.num_candidates, key)
        left = situation.num_rounds - situation.number - 1
        value = np.zeros(len(points))
        for number, point in enumerate(points if left else []):
            own = jax.random.fold_in(key, number)
            future, _ = desk.future(point, situation.draws, situation.watch, own)
            value[number], _ = reweighted_information(worth.T, future)
        return points[(worth.mean(1) + left * value).argmax()][None]


@dataclass(frozen=True)
class EpsilonGreedy:
    """Deploy the common design, but with some chance a random one.

    Parameters
    ----------
    epsilon : float
        That chance, in [0, 1].
    spread : float
        Standard deviation of a random design around the incentive space's start, > 0, in units of
        the problem's scale.
    """

    explores: ClassVar[bool] = True
    epsilon: float = 0.1
    spread: float = 1.0
    num_arms: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        require_ranges(self, "settings of EpsilonGreedy", epsilon="[0, 1]", spread="> 0")

    def propose(self, desk: Desk, situation: Situation, key: Key[Array, ""]) -> np.ndarray:
        """See `Policy.propose`."""
        coin, own = jax.random.split(key)
        if float(jax.random.uniform(coin)) >= self.epsilon:
            return Greedy().propose(desk, situation, own)
        space = desk.problem.incentive
        start = space.random_start(own, self.spread * desk.problem.scale.incentive)
        return np.asarray(space.flatten(start))[None]


@dataclass(frozen=True)
class FixedArms:
    """Try given designs side by side, then keep the one whose episodes were worth most.

    Parameters
    ----------
    arms : tuple of mappings
        Two designs at least, in readable values (`IncentiveSpace.unconstrained_for`).
    num_trials : int
        Rounds in which all are deployed, >= 1.
    """

    explores: ClassVar[bool] = False
    arms: tuple[Mapping[str, Any], ...]
    num_trials: int = 5

    def __post_init__(self) -> None:
        require_kind(self.arms, tuple, "arms", "({'bonus': 0.5}, {'bonus': 1.0})")
        require_ranges(self, "settings of FixedArms", num_trials=">= 1")
        if len(self.arms) < 2:
            raise InvalidInputError(
                "FixedArms compares designs", received=f"{len(self.arms)}", accepted="2 or more"
            )

    @property
    def num_arms(self) -> int:
        """Number of designs."""
        return len(self.arms)

    def propose(self, desk: Desk, situation: Situation, key: Key[Array, ""]) -> np.ndarray:
        """See `Policy.propose`."""
        space = desk.problem.incentive
        points = np.stack([space.flatten(space.unconstrained_for(arm)) for arm in self.arms])
        if situation.number < self.num_trials or not situation.seen:
            return points
        worth, ended = np.array([situation.seen[k] for k in range(len(points))], float).T
        if not np.isfinite(worth).all() or (ended == 0).any():
            raise InvalidInputError(
                "FixedArms cannot compare its designs: no whole episode of known worth was seen "
                "of some",
                received=f"episodes {ended.astype(int).tolist()}, worth {worth.tolist()}",
                accepted="a problem with leader_reward_fn, and episodes that end",
                remedy="a larger max_steps or more trials",
            )
        mean = worth / ended
        return points[int(np.argmax(mean))][None]


POLICIES = {
    "greedy": Greedy,
    "thompson": Thompson,
    "upper_confidence": UpperConfidence,
    "knowledge_gradient": KnowledgeGradient,
    "epsilon_greedy": EpsilonGreedy,
}
"""Policies that need no settings, by name."""


def _best_of_draws(desk: Desk, situation: Situation, num: int, key: Array) -> np.ndarray:
    """Return the best designs of some draws, which are exchangeable."""
    found = []
    starts, wide = [situation.last, *situation.earlier], desk.is_wide(situation.number)
    for number in range(num):
        one = {name: value[number] for name, value in situation.draws.items()}
        own = jax.random.fold_in(key, number)
        found.append(desk.best_for(one, starts, own, wide=wide))
    return np.stack(found)


def _candidates(
    desk: Desk, situation: Situation, num: int, key: Array
) -> tuple[np.ndarray, np.ndarray]:
    """Return candidate designs and their objectives under all draws, (D, N)."""
    own = _best_of_draws(desk, situation, num, key)
    wide = desk.is_wide(situation.number)
    common = desk.common(situation.draws, [situation.last, *own], key, wide=wide)
    points = np.stack([common, situation.last, *own])
    return points, desk.outcomes(points, situation.draws).objective
