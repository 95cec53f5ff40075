"""One round after the other: plan under what is believed, absorb what came back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from cbrl_bayes.campaigns.answers import Answer, Episodes, Watch
from cbrl_bayes.campaigns.desk import Desk, Outcomes
from cbrl_bayes.campaigns.dynamics import DynamicsPrograms
from cbrl_bayes.campaigns.likelihood import CONTEXTS
from cbrl_bayes.campaigns.particles import Belief, ParticlePrograms
from cbrl_bayes.campaigns.policies import Greedy, Situation
from cbrl_bayes.campaigns.rules import Ground, NetValue
from cbrl_bayes.campaigns.settings import CampaignSettings, check_problem
from cbrl_bayes.campaigns.surprise import STATISTICS, Evidence, bets_of, p_values
from cbrl_bayes.inference import Prior, default_priors
from cbrl_bayes.inference.prior_law import PriorLaw
from cbrl_bayes.problems import LAW, Problem, depends_on_input

OPTIONS = 8
"""Designs of earlier rounds that count as options of a choice."""


class State(NamedTuple):
    """Where a campaign is.

    Attributes
    ----------
    belief : Particles or LearnedDynamics
    number : int
        Rounds done.
    points : array, shape (n, P)
        Designs deployed, in order; the first is today's.
    spent : float
        Expected cost of all incentives so far.
    episodes : float
        Begun in an arm of the last round.
    evidence : Evidence
    seen : dict
        Arm number -> (sum of worths, episodes), as `Situation.seen`.
    """

    belief: Belief
    number: int
    points: Float[np.ndarray, "design coordinate"]
    spent: float
    episodes: float
    evidence: Evidence
    seen: Mapping[int, tuple[float, int]]


class Plan(NamedTuple):
    """What to deploy in a round, and what is expected of it.

    Attributes
    ----------
    points : array, shape (A, P)
    outcomes : Outcomes
        Of the arms and, last, of today's design, under the draws.
    draws : mapping
        What was believed.
    regret : float
        Mean shortfall of the arms against the best among the campaign's designs under each draw.
    broken : tuple of str
        Constraints that some proposal broke, so that it was drawn back.
    net : NetValue, optional
        The stopping rule's answer.
    stop : bool
        Whether the rule stops the campaign before this round; ``points`` is then the common design.
    """

    points: Float[np.ndarray, "arm coordinate"]
    outcomes: Outcomes
    draws: Mapping[str, np.ndarray]
    regret: float
    broken: tuple[str, ...]
    net: NetValue | None
    stop: bool


class Check(NamedTuple):
    """How surprising a round's answer was.

    Attributes
    ----------
    p_values : array, shape (A, 3)
        Of `STATISTICS`, arm by arm.
    bets : array, shape (3,)
        Means over arms.
    """

    p_values: Float[np.ndarray, "arm statistic"]
    bets: Float[np.ndarray, " statistic"]


@dataclass
class Engine:
    """All that the campaigns of one problem share: compiled programs and settings.

    Parameters
    ----------
    problem : Problem
        What the leader takes for the truth, but for its parameters.
    settings : CampaignSettings
    priors : mapping, optional
        As in `infer`.
    today : array, shape (P,), optional
        The design in force before the campaign, before its transform. Default: the incentive
        space's own start.
    answers_before : tuple of Answer
        What was observed before the first round (`read_earlier`). All campaigns begin with what it
        teaches: the same particles or laws.
    key_before : typed key
        For what it teaches.
    with_moves : bool, optional
        With known dynamics: whether where steps led counts (`AnswerLikelihood`).
    """

    problem: Problem
    settings: CampaignSettings
    priors: Mapping[str, Prior] | None = None
    today: Float[np.ndarray, " coordinate"] | None = None
    answers_before: tuple[Answer, ...] = ()
    key_before: Key[Array, ""] = field(default_factory=lambda: jax.random.key(0))
    with_moves: bool | None = None
    programs: Any = field(init=False)
    desk: Desk = field(init=False)
    watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        check_problem(self.problem)
        priors, dynamics = default_priors(self.problem, self.priors), self.settings.dynamics
        if dynamics is None:
            self.programs = ParticlePrograms(
                self.problem, priors, self.settings.particles, self.with_moves
            )
            planned = self.problem
        else:
            self.programs = DynamicsPrograms(self.problem, priors, dynamics)
            planned = self.programs.unknown
        self.desk = Desk(planned, self.settings.planning)
        self.watch = self.settings.watch(self.problem)
        if self.today is None:
            self.today = self.desk.initial

    @cached_property
    def unknown(self) -> tuple[str, ...]:
        """Names of the parameters that are learned, the law left out."""
        return tuple(default_priors(self.problem, self.priors))

    @property
    def moves_tell(self) -> bool:
        """Whether where steps lead teaches parameters, with known dynamics."""
        return self.settings.dynamics is None and self.programs.likelihood.with_moves

    @cached_property
    def learned_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each parameter that is learned."""
        drawn = self.programs.first(jax.random.key(0)).draws(jax.random.key(1), 2)
        return {name: np.shape(drawn[name])[1:] for name in self.unknown}

    @cached_property
    def worth_rests_on(self) -> tuple[str, ...]:
        """What is learned that the leader's reward depends on: behaviour alone tells no worth."""
        problem, given = self.problem, self.problem.default_parameters
        if problem.leader_reward_fn is None:
            return ()
        values, _ = problem.contexts.support(given)
        context = jax.tree.map(lambda leaf: np.asarray(leaf)[0], values)
        incentive = problem.incentive.transform(problem.incentive.initial)

        def reward(value: Any, name: str) -> Any:
            own = problem.follower_parameters({**given, name: value}, 0)
            return problem.leader_net_reward(incentive, context, own)

        return tuple(
            name
            for name in self.unknown
            if depends_on_input(partial(reward, name=name), np.asarray(given[name], float))
        )

    def prior_draws(self, key: Key[Array, ""], num: int) -> dict[str, np.ndarray]:
        """Return draws of all unknown parameters before the first round, but for the law.

        From the prior, where they are independent; with earlier data from what these leave.
        """
        if self.answers_before:
            draws = self._taught(key).draws(jax.random.fold_in(key, 1), num)
            return {name: draws[name] for name in self.unknown}
        law = PriorLaw(
            default_priors(self.problem, self.priors), self.problem.followers.num_followers
        )
        drawn = jax.vmap(law.parameters)(law.draw(key, num))
        return {name: np.asarray(value) for name, value in drawn.items()}

    def begin(self, key: Key[Array, ""]) -> State:
        """Return where a campaign begins."""
        assert self.today is not None  # set when made
        rough = float(min(self.watch.num_episodes, self.watch.num_steps))
        start = np.asarray(self.today)[None]
        belief = self.belief_before if self.answers_before else self.programs.first(key)
        return State(belief, 0, start, 0.0, rough, Evidence(), {})

    @cached_property
    def belief_before(self) -> Belief:
        """What is believed before the first round, where there are earlier data."""
        return self._taught(self.key_before)

    def _taught(self, key: Key[Array, ""]) -> Belief:
        first_key, taught_key = jax.random.split(key)
        return self.programs.first(first_key).taught(self.answers_before, taught_key)

    def plan(self, state: State, key: Key[Array, ""]) -> Plan:
        """Decide what to deploy in the next round."""
        draw_key, policy_key, stop_key, last_key = jax.random.split(key, 4)
        draws = state.belief.draws(draw_key, self.settings.planning.num_draws)
        situation = Situation(
            draws=draws,
            last=state.points[-1],
            earlier=state.points[-OPTIONS:],
            number=state.number,
            num_rounds=self.settings.num_rounds,
            seen=state.seen,
            watch=self.watch,
        )
        is_last = state.number + 1 >= self.settings.num_rounds
        policy = self.settings.policy
        policy = Greedy() if is_last and policy.explores else policy
        proposed = policy.propose(self.desk, situation, policy_key)
        points, broken = self._allowed(proposed, state, draws)
        net, stop = self._worth_it(points, state, situation, stop_key)
        if stop:
            common = Greedy().propose(self.desk, situation, last_key)
            points, broken = self._allowed(common, state, draws)
        options = np.concatenate([points, state.points[:1], state.points[1:][-OPTIONS:]])
        found = self.desk.outcomes(options, draws)
        arms = len(points)
        best = found.objective.max(0)
        regret = float((best - found.objective[:arms].mean(0)).mean())
        kept = Outcomes(*(part[: arms + 1] for part in found))
        return Plan(points, kept, draws, regret, broken, net, stop)

    def absorb(
        self,
        state: State,
        plan: Plan,
        answers: Sequence[Answer],
        key: Key[Array, ""],
        *,
        episodes: Sequence[tuple[Episodes, int]] | None = None,
    ) -> tuple[State, Check]:
        """Learn from a round's answers, one for each arm of the plan.

        ``episodes`` are the very episodes that were watched, of real data: answers are then ranked
        among simulations of the same contexts and lengths.
        """
        update_key, check_key = jax.random.split(key)
        check = self._checked(state, plan, answers, episodes, check_key)
        arms = len(plan.points)
        begun = np.array([answer.contexts.sum() for answer in answers])
        cost = plan.outcomes.cost[:arms].mean(1)
        seen = dict(state.seen)
        if arms == self.settings.policy.num_arms:
            for arm, answer in enumerate(answers):
                worth, number = seen.get(arm, (0.0, 0))
                seen[arm] = (worth + float(answer.worth), number + int(answer.ended))
        after = State(
            belief=state.belief.updated(answers, update_key),
            number=state.number + 1,
            points=np.concatenate([state.points, plan.points]),
            spent=state.spent + float(begun @ cost),
            episodes=self._planned_episodes(begun),
            evidence=state.evidence.after(check.bets),
            seen=seen,
        )
        return after, check

    def _planned_episodes(self, begun: np.ndarray) -> float:
        """Return how many episodes of an arm the next round will have, as far as can be told."""
        watch = self.watch
        by_steps = watch.num_steps < watch.num_episodes * watch.max_steps
        return float(begun.mean()) if by_steps else float(watch.num_episodes)

    def _allowed(
        self, proposed: np.ndarray, state: State, draws: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        episodes = state.episodes * len(proposed)
        ground = Ground(draws, state.points[-1], state.points[0], state.spent, episodes)
        found = [
            self.settings.constraints.drawn_back(self.desk, point, ground) for point in proposed
        ]
        broken = dict.fromkeys(name for _, names in found for name in names)
        return np.stack([point for point, _ in found]), tuple(broken)

    def _worth_it(
        self, points: np.ndarray, state: State, situation: Situation, key: Array
    ) -> tuple[NetValue | None, bool]:
        rule = self.settings.stopping
        if rule is None:
            return None, False
        common_key, *future_keys = jax.random.split(key, 3)
        wide = self.desk.is_wide(situation.number)
        common = self.desk.common(situation.draws, [situation.last], common_key, wide=wide)
        earlier = state.points[-OPTIONS:]
        options = np.concatenate([points[:1], common[None], earlier])
        worth = self.desk.outcomes(options, situation.draws).objective.T
        found = []
        for option, own in enumerate(future_keys):
            future = None  # then perfect information stands in: an upper bound
            if LAW not in self.desk.problem.parameters and not self.moves_tell:
                future, _ = self.desk.future(options[option], situation.draws, self.watch, own)
            found.append(rule.net_value(worth, option, state.episodes, future))
        net = max(found, key=lambda one: one.net)
        return net, bool(state.number >= rule.least_rounds and net.net < 0.0)

    def _checked(
        self,
        state: State,
        plan: Plan,
        answers: Sequence[Answer],
        episodes: Sequence[tuple[Episodes, int]] | None,
        key: Array,
    ) -> Check:
        num, arms = self.settings.num_replicates, len(plan.points)
        found = np.full((arms, len(STATISTICS)), np.nan)
        if num == 0:
            return Check(found, np.ones(len(STATISTICS)))
        draw_key, key = jax.random.split(key)
        some = state.belief.draws(draw_key, num)
        mean_contexts = plan.draws[CONTEXTS].mean(0)
        for arm, (point, answer) in enumerate(zip(plan.points, answers, strict=True)):
            own = jax.random.fold_in(key, arm)
            rng = np.random.default_rng(np.asarray(jax.random.key_data(own)))
            watch = self.watch if episodes is None else episodes[arm]
            replicates = self.desk.replicates(point, some, watch, own)
            if episodes is not None:
                drawn = [
                    rng.multinomial(int(answer.contexts.sum()), chance / chance.sum())
                    for chance in some[CONTEXTS]
                ]
                replicates = replicates._replace(contexts=np.array(drawn, float))
            mean_policy = np.exp(self.desk.log_policies(point, plan.draws)).mean(0)
            found[arm] = p_values(answer, replicates, mean_policy, mean_contexts, rng)
            if self.settings.dynamics is not None:
                # A cut posterior predicts choices too narrowly while the law is little known.
                found[arm, STATISTICS.index("choices")] = np.nan
            if episodes is not None and self.worth_rests_on:
                found[arm, STATISTICS.index("worth")] = np.nan  # data do not tell it
        return Check(found, bets_of(found).mean(0))


def state_arrays(state: State) -> dict[str, np.ndarray]:
    """Return a state, but for its belief, as arrays."""
    seen = np.array([[arm, *numbers] for arm, numbers in state.seen.items()], float)
    return {
        "number": np.asarray(state.number),
        "points": state.points,
        "spent": np.asarray(state.spent),
        "episodes": np.asarray(state.episodes),
        "evidence": np.array([*state.evidence.started, *state.evidence[1:]], float),
        "seen": seen.reshape(-1, 3),
    }


def restored_state(belief: Any, kept: Mapping[str, np.ndarray]) -> State:
    """Return the state that `state_arrays` wrote down."""
    *started, rounds, largest = kept["evidence"].tolist()
    return State(
        belief=belief,
        number=int(kept["number"]),
        points=kept["points"],
        spent=float(kept["spent"]),
        episodes=float(kept["episodes"]),
        evidence=Evidence(tuple(started), int(rounds), largest),
        seen={int(arm): (worth, int(number)) for arm, worth, number in kept["seen"].tolist()},
    )
