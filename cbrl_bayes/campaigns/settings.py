"""How a campaign is run: rounds, policy, constraints, stopping, beliefs, checks."""

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cbrl_bayes.campaigns.answers import Watch
from cbrl_bayes.campaigns.desk import SMALL, PlanningSettings
from cbrl_bayes.campaigns.dynamics import DynamicsSettings
from cbrl_bayes.campaigns.particles import ParticleSettings
from cbrl_bayes.campaigns.policies import FixedArms, KnowledgeGradient, Policy, Thompson
from cbrl_bayes.campaigns.rules import CampaignConstraints, StopRule
from cbrl_bayes.errors import InvalidInputError, require_kind, require_ranges
from cbrl_bayes.hypergradients import LOW_PRICES, Ascent, Search
from cbrl_bayes.problems import DiscreteContexts, Problem, refuse_history, refuse_population

LITTLE_LEFT = 1e-3
LONGEST = 1000
DEFAULT_EPISODES = 100


@dataclass(frozen=True)
class CampaignSettings:
    """How a leader decides, watches and learns.

    Parameters
    ----------
    policy : Policy
        `Greedy`, `Thompson`, `UpperConfidence`, `KnowledgeGradient`, `EpsilonGreedy`, `FixedArms`.
    num_rounds : int
        At most, >= 1. In the last one the common design is deployed: there is no later round to
        learn for.
    episodes_per_round, steps_per_round : int, optional
        How much of a round is watched, over all its arms; the first limit reached counts. Default:
        100 episodes.
    groups : tuple of str
        Names of groups that get designs of their own, as regions: a multiple of the policy's arms.
        In a real campaign each has a regime, "round 3, north"; arms are assigned at random in
        every round. Simulated followers are alike and need none.
    max_steps : int, optional
        Longest episode. Default: where the leader's discount has left a thousandth, at least 2 and
        at most 1000.
    dynamics : DynamicsSettings, optional
        If given, the transition law is unknown: only which states can follow is used of the law
        that the problem states.
    constraints : CampaignConstraints
    stopping : StopRule, optional
        Default: all rounds are done.
    particles : ParticleSettings
        Of beliefs while the dynamics are known.
    planning : PlanningSettings
    num_replicates : int
        Simulated answers that a round's answer is ranked among (`surprise`); 0 for no check, else
        >= 19.
    false_alarm : float
        In (0, 1): probability that the surprise check ever fires if the model is right.
    prob : float
        In (0, 1), of the intervals that are predicted.
    """

    policy: Policy = field(default_factory=Thompson)
    num_rounds: int = 20
    episodes_per_round: int | None = None
    steps_per_round: int | None = None
    groups: tuple[str, ...] = ()
    max_steps: int | None = None
    dynamics: DynamicsSettings | None = None
    constraints: CampaignConstraints = field(default_factory=CampaignConstraints)
    stopping: StopRule | None = None
    particles: ParticleSettings = field(default_factory=ParticleSettings)
    planning: PlanningSettings = field(default_factory=PlanningSettings)
    num_replicates: int = 199
    false_alarm: float = 0.05
    prob: float = 0.9

    def __post_init__(self) -> None:
        kinds: dict[str, tuple[Any, str]] = {
            "dynamics": (DynamicsSettings | None, "cb.DynamicsSettings()"),
            "constraints": (CampaignConstraints, "cb.CampaignConstraints(...)"),
            "stopping": (StopRule | None, "cb.StopRule(...)"),
            "particles": (ParticleSettings, "cb.ParticleSettings(...)"),
            "planning": (PlanningSettings, "cb.PlanningSettings(...)"),
        }
        for name, (kind, remedy) in kinds.items():
            require_kind(getattr(self, name), kind, name, remedy)
        needed = ("propose", "num_arms", "explores")
        if isinstance(self.policy, type) or not all(hasattr(self.policy, n) for n in needed):
            raise InvalidInputError(
                "policy cannot be used",
                received=repr(self.policy)[:60],
                accepted=f"an object with {', '.join(needed)}",
                remedy="cb.Thompson()",
            )
        require_ranges(
            self,
            "settings of the campaign",
            num_rounds=">= 1",
            episodes_per_round=">= 1 or None",
            steps_per_round=">= 1 or None",
            max_steps=">= 1 or None",
            num_replicates=">= 0",
            false_alarm="(0, 1)",
            prob="(0, 1)",
        )
        if 0 < self.num_replicates < 19:
            raise InvalidInputError(
                "too few replicates to rank an answer among",
                received=self.num_replicates,
                accepted="0, or 19 and more",
            )

        self._check_together()

    def _check_together(self) -> None:
        """Refuse settings that cannot go together."""
        names = self.groups if isinstance(self.groups, tuple) else (None,)
        if any(not isinstance(n, str) or not n for n in names) or len(set(names)) < len(names):
            raise InvalidInputError(
                "groups cannot be used",
                received=repr(self.groups),
                accepted='a tuple of different names, as ("north", "south")',
            )
        if len(names) % self.policy.num_arms:
            raise InvalidInputError(
                "the groups cannot be shared evenly among the arms of a round",
                received=f"{len(names)} groups, {self.policy.num_arms} arms",
                accepted=f"a multiple of {self.policy.num_arms} groups, or none",
                remedy="another num_arms of the policy",
            )
        if self.policy.num_arms > 1 and self.stopping is not None:
            raise InvalidInputError(
                "a stopping rule weighs rounds of one design",
                received=f"{type(self.policy).__name__}, {self.policy.num_arms} a round",
                remedy="one arm, or stopping=None",
            )
        if isinstance(self.policy, FixedArms) and self.constraints != CampaignConstraints():
            raise InvalidInputError(
                "FixedArms deploys its designs as they are; constraints would change them",
                received=repr(self.constraints),
                remedy="designs that keep to the constraints by themselves",
            )
        if isinstance(self.policy, KnowledgeGradient) and self.dynamics is not None:
            raise InvalidInputError(
                "the knowledge gradient weighs what choices tell, and not what transitions tell",
                received="KnowledgeGradient with unknown dynamics",
                remedy="Thompson(), or dynamics=None where the law is known",
            )
        if self.dynamics is not None and self.dynamics.prior.outlook != "neutral":
            raise InvalidInputError(
                "campaigns take the neutral outlook on what was not seen",
                received=self.dynamics.prior.outlook,
                accepted="LawPrior(outlook='neutral')",
            )

    def watch(self, problem: Problem) -> Watch:
        """Return how much of one arm is watched."""
        arms = self.policy.num_arms
        longest = self.max_steps or _default_length(problem.leader_discount)
        episodes, steps = self.episodes_per_round, self.steps_per_round
        if episodes is None:
            episodes = DEFAULT_EPISODES if steps is None else steps
        own = max(1, episodes // arms)
        limit = own * longest if steps is None else max(1, steps // arms)
        return Watch(min(own, limit), limit, min(longest, limit))


def suitable_settings(
    problem: Problem, settings: CampaignSettings, *, known_dynamics: bool = False
) -> CampaignSettings:
    """Return settings whose planning takes seconds on a large problem.

    Parameters
    ----------
    problem : Problem
    settings : CampaignSettings
        Those of the result, but for ``dynamics``, ``planning`` and ``num_replicates``.
    known_dynamics : bool
        If not, the law is learned, unless no step of the problem leads anywhere by chance.
    """
    check_problem(problem)
    unknown = not known_dynamics and _moves_by_chance(problem)
    changes: dict[str, Any] = {"dynamics": DynamicsSettings() if unknown else None}
    if problem.num_states * problem.num_actions > SMALL:
        ascent = Ascent(num_steps=80, learning_rate=0.3, num_extensions=0)
        changes["planning"] = PlanningSettings(
            search=Search(ascent=ascent, prices=LOW_PRICES),
            wide_every=5,
            num_draws=24,
            num_common=8,
        )
        changes["num_replicates"] = min(settings.num_replicates, 39)
    return replace(settings, **changes)


def _moves_by_chance(problem: Problem) -> bool:
    """Whether some state and action can lead to several states."""
    parameters = problem.default_parameters
    values, _ = problem.contexts.support(parameters)
    incentive = problem.incentive.transform(problem.incentive.initial)
    one = problem.follower_parameters(parameters, 0)
    for number in range(problem.contexts.num_contexts):
        context = jax.tree.map(lambda leaf, n=number: jnp.asarray(leaf)[n], values)
        mdp = problem.mdp_fn(incentive, context, one)
        law = np.asarray(mdp.transition.probability)[~np.asarray(mdp.terminal, bool)]
        if ((law > 0.0) & (law < 1.0)).any():
            return True
    return False


def check_problem(problem: Problem) -> None:
    """Refuse a problem whose contexts are not listed: a campaign counts by context."""
    require_kind(problem, Problem, "problem", "cb.problems.two_state(), or a cb.Problem")
    if not isinstance(problem.contexts, DiscreteContexts):
        raise InvalidInputError(
            f"the contexts of problem {problem.name!r} are sampled from a continuous family",
            accepted="a problem with DiscreteContexts",
            remedy="a few typical contexts with their probabilities",
        )
    refuse_population(problem, "a campaign", "cb.design after each round")
    refuse_history(problem, "a campaign", "cb.design after each round")


def _default_length(discount: float) -> int:
    if discount <= 0.0:
        return 2
    if discount >= 1.0:
        return LONGEST  # an episode lasts until it ends
    return int(np.clip(np.ceil(np.log(LITTLE_LEFT) / np.log(discount)), 2, LONGEST))
