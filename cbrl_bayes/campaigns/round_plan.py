"""What to deploy in a round, in words that an organisation can act on."""

from dataclasses import dataclass

import numpy as np

from cbrl_bayes.campaigns.rules import NetValue


@dataclass(frozen=True)
class RoundPlan:
    """What to deploy in a round.

    Attributes
    ----------
    number : int
        From 1.
    incentives : dict
        Regime -> {incentive: array in readable values}. Data name their regime so.
    num_episodes, num_steps : int
        Episodes of each regime to watch, or steps, whichever comes first.
    predicted, today, gain : tuple of float
        Low, mean and high of the objective, mean over regimes; that of today's design; and of the
        difference.
    better : float
        Probability that the difference is positive.
    unsolved : int
        Best responses behind these numbers that did not converge.
    objective_unit : str
    prob : float
        Of these intervals.
    expected_regret : float
        Mean shortfall against the best among the campaign's designs.
    broken : tuple of str
        Constraints for which a proposal was drawn back.
    net : NetValue, optional
        The stopping rule's inputs and answer.
    stop : bool
        Whether the rule says to stop; the design is then the one to keep.
    """

    number: int
    incentives: dict[str, dict[str, np.ndarray]]
    num_episodes: int
    num_steps: int
    predicted: tuple[float, float, float]
    today: tuple[float, float, float]
    gain: tuple[float, float, float]
    better: float
    unsolved: int
    objective_unit: str
    prob: float
    expected_regret: float
    broken: tuple[str, ...]
    net: NetValue | None
    stop: bool

    def __str__(self) -> str:
        lines = [f"round {self.number}"]
        if self.stop:
            lines.append("stop experimenting: one more round is worth less than its cost. Keep:")
        for regime, arrays in self.incentives.items():
            told = ", ".join(f"{name} {in_few_words(values)}" for name, values in arrays.items())
            lines.append(f"  {regime}: {told}")
        lines.append(
            f"watch {self.num_episodes:,} episodes of each, or {self.num_steps:,} steps of each"
        )
        named = {"predicted": self.predicted, "today": self.today, "gain": self.gain}
        for name, (low, mean, high) in named.items():
            lines.append(
                f"{name}: {mean:.4g} {self.objective_unit}, {100 * self.prob:g} % credible "
                f"interval {low:.4g} to {high:.4g}"
            )
        lines.append(f"probability of doing better than today: {self.better:.2g}")
        if self.unsolved:
            lines.append(f"best responses that did not converge: {self.unsolved:,}")
        if self.broken:
            lines.append(f"drawn back to keep: {', '.join(self.broken)}")
        if self.net is not None:
            lines.append(
                f"net value of the round: {self.net.net:.4g}, standard error "
                f"{self.net.net_error:.2g}"
            )
        return "\n".join(lines)


def in_few_words(values: np.ndarray) -> str:
    """Return numbers in words: all of few, the range of many."""
    flat = np.ravel(values)
    if flat.size <= 6:
        return ", ".join(f"{value:.4g}" for value in flat)
    return f"{flat.size} numbers from {flat.min():.3g} to {flat.max():.3g}"
