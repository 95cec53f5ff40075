"""What a leader holds itself to in a campaign: constraints on designs, and when to stop."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from cbrl_bayes.campaigns.desk import Desk, Draws
from cbrl_bayes.errors import require_ranges
from cbrl_bayes.information import FutureData
from cbrl_bayes.information.sampling import reweighted_gains

SHARES = np.linspace(1.0, 0.0, 11)
"""How far towards a proposal a design is moved, tried from the farthest on."""


@dataclass(frozen=True)
class CampaignConstraints:
    """What every deployed design must keep.

    A proposal that breaks one is drawn back, before its transform, towards the design deployed
    last, in steps of a tenth, until all are kept. If none of these keeps them, the last design
    stays in force.

    Parameters
    ----------
    largest_move : float, optional
        > 0: most that any entry of the incentive, in readable values, changes from one round to
        the next.
    budget : float, optional
        >= 0: most that incentives may cost over the campaign, as expected: the mean cost of an
        episode times the round's episodes, in the objective's unit.
    least_follower_value : float, optional
        Least mean value of followers at their start (soft value, units of their reward).
    worse_than_today : float, optional
        In [0, 1]: largest probability, under what is believed, that the design is worth less than
        today's.

    Examples
    --------
    >>> CampaignConstraints(largest_move=0.2, worse_than_today=0.1).budget is None
    True
    """

    largest_move: float | None = None
    budget: float | None = None
    least_follower_value: float | None = None
    worse_than_today: float | None = None

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "constraints of the campaign",
            largest_move="> 0 or None",
            budget=">= 0 or None",
            worse_than_today="[0, 1] or None",
            least_follower_value="(-inf, inf) or None",
        )

    @property
    def in_force(self) -> bool:
        """Whether there is any."""
        return any(value is not None for value in vars(self).values())

    def drawn_back(
        self, desk: Desk, proposal: Float[np.ndarray, " coordinate"], ground: "Ground"
    ) -> tuple[Float[np.ndarray, " coordinate"], tuple[str, ...]]:
        """Return the design that may be deployed, and the constraints that the proposal broke.

        Parameters
        ----------
        desk : Desk
        proposal : array, shape (P,)
        ground : Ground
        """
        if not self.in_force:
            return proposal, ()
        path = ground.last + SHARES[:, None] * (proposal - ground.last)
        kept = self._kept(desk, path, ground)
        fine = np.stack(list(kept.values())).all(0)
        first = int(fine.argmax()) if fine.any() else len(path) - 1
        return path[first], tuple(name for name, held in kept.items() if not held[0])

    def _kept(self, desk: Desk, path: np.ndarray, ground: "Ground") -> dict[str, np.ndarray]:
        points = np.concatenate([path, ground.today[None]])
        found = desk.outcomes(points, ground.draws)
        kept = {}
        if self.largest_move is not None:
            before = desk.incentive(ground.last)
            after = [desk.incentive(point) for point in path]
            # A hair's breadth for rounding.
            most = self.largest_move * (1.0 + 1e-9)
            moves = [max(np.abs(a[n] - before[n]).max() for n in before) for a in after]
            kept["largest_move"] = np.array(moves) <= most
        if self.budget is not None:
            costs = found.cost[:-1].mean(1) * ground.episodes
            kept["budget"] = ground.spent + costs <= self.budget
        if self.least_follower_value is not None:
            kept["least_follower_value"] = found.value[:-1].mean(1) >= self.least_follower_value
        if self.worse_than_today is not None:
            tiny = 1e-9 * np.abs(found.objective).max()
            worse = (found.objective[:-1] < found.objective[-1] - tiny).mean(1)
            kept["worse_than_today"] = worse <= self.worse_than_today
        return kept


class Ground(NamedTuple):
    """Where a round begins.

    Attributes
    ----------
    draws : mapping
    last, today : arrays, shape (P,)
    spent : float
        What incentives have cost so far.
    episodes : float
        Of the round that is planned.
    """

    draws: Draws
    last: Float[np.ndarray, " coordinate"]
    today: Float[np.ndarray, " coordinate"]
    spent: float
    episodes: float


@dataclass(frozen=True)
class StopRule:
    """Stop when one more round of experimenting costs more than it is worth.

    The net value of the round that is planned is ``population`` times the expected value of its
    sample information (EVSI), for a choice among designs at hand, less ``cost_per_round``, less
    what the design gives up against the best now: its episodes times the difference of means.
    EVSI is by re-weighting of draws. Where dynamics are unknown the value of perfect information
    among the same designs takes its place, an upper bound: then a stop is surely right.

    Parameters
    ----------
    cost_per_round : float
        >= 0, in the objective's unit.
    population : float
        > 0: episodes that the design chosen in the end will serve.
    least_rounds : int
        Rounds before the rule may stop, >= 0.

    Examples
    --------
    >>> StopRule(cost_per_round=2.0, population=1000.0).least_rounds
    1
    """

    cost_per_round: float
    population: float
    least_rounds: int = 1

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "settings of the stopping rule",
            cost_per_round=">= 0",
            population="(0, inf)",
            least_rounds=">= 0",
        )

    def net_value(
        self,
        worth: Float[np.ndarray, "draw option"],
        proposal: int,
        episodes: float,
        future: FutureData | None,
    ) -> "NetValue":
        """Return what one more round is worth.

        Parameters
        ----------
        worth : array, shape (N, D)
            Objective of the designs at hand under draws.
        proposal : int
            Which of them the round would deploy.
        episodes : float
            Of the round.
        future : FutureData, optional
            Simulated data of the round; None for perfect information.
        """
        mean = worth.mean(0)
        if future is None:
            gain = worth.max(1) - worth[:, mean.argmax()]
        else:
            gain, _ = reweighted_gains(worth, future)
        error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
        lost = episodes * float(mean.max() - mean[proposal])
        value = float(gain.mean())
        net = self.population * value - self.cost_per_round - lost
        return NetValue(value, error, lost, net, self.population * error)


class NetValue(NamedTuple):
    """The stopping rule's inputs and answer, all but the first two times what is at stake.

    Attributes
    ----------
    information, information_error : float
        EVSI (or its upper bound) of an episode's objective, and its standard error.
    given_up : float
        What the planned design gives up in its round.
    net, net_error : float
        The net value of the round, and its standard error.
    """

    information: float
    information_error: float
    given_up: float
    net: float
    net_error: float
