"""Experiments that could be run next, and the behaviour each would show under every draw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from cbrl_bayes.designs.running import Record, Running
from cbrl_bayes.designs.scoring import complete_draws
from cbrl_bayes.designs.thinning import evenly_spaced
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import MDP, rollout
from cbrl_bayes.problems import (
    DiscreteContexts,
    Problem,
    refuse_history,
    respond_everywhere,
    settled,
)

MOST_ENTRIES = 200_000_000
"""Log policies of all draws are held up to this size (1.6 GB)."""


@dataclass(frozen=True)
class Experiment:
    """Observe more episodes of behaviour, their contexts seen.

    Parameters
    ----------
    name : str
        Short name for tables.
    num_episodes : int
        Episodes, >= 1; shared evenly among the followers in turn.
    num_steps : int
        Longest episode, >= 1.
    context : str, optional
        Name of the one context in which to observe. Default: contexts as nature draws them, so
        that their law is learned about too.
    follower : str, optional
        Name of the one follower to observe. Default: all.
    incentive : mapping or str, optional
        Readable incentive in force, {name: array}; within a study also the name of one
        of its designs. Default: zero.
    fixed_cost, cost_per_episode : float
        In the unit of the leader's objective, >= 0.

    Examples
    --------
    >>> Experiment("forty walks", 40, 30, fixed_cost=0.01, cost_per_episode=0.002).cost
    0.09
    """

    name: str
    num_episodes: int
    num_steps: int
    context: str | None = None
    follower: str | None = None
    incentive: Mapping[str, Any] | str | None = None
    fixed_cost: float = 0.0
    cost_per_episode: float = 0.0

    def __post_init__(self) -> None:
        costs = np.array([self.fixed_cost, self.cost_per_episode], float)
        few = min(self.num_episodes, self.num_steps) < 1
        if not self.name or few or not np.isfinite(costs).all() or (costs < 0).any():
            raise InvalidInputError(
                "the experiment cannot be run as described",
                received=self,
                accepted="a name, num_episodes and num_steps >= 1, finite costs >= 0",
            )

    @property
    def cost(self) -> float:
        """Price of the whole experiment."""
        return self.fixed_cost + self.cost_per_episode * self.num_episodes

    @property
    def setting(self) -> str:
        """What the experiment varies beside the number of episodes, in words."""
        if isinstance(self.incentive, str):
            incentive = f"design {self.incentive}"
        else:
            shown = [
                f"{name} {float(np.asarray(value)):g}" if np.ndim(value) == 0 else f"{name} given"
                for name, value in (self.incentive or {}).items()
            ]
            incentive = ", ".join(shown) or "no incentive"
        where = "contexts as drawn" if self.context is None else f"context {self.context}"
        who = "" if self.follower is None else f", follower {self.follower}"
        steps = "1 step" if self.num_steps == 1 else f"{self.num_steps} steps"
        return f"{incentive}, {where}{who}, {steps}"


@dataclass(frozen=True)
class FutureData:
    r"""One simulated data set per draw, and how likely each is under every draw.

    The log-likelihood of data set n under draw m is :math:`\sum_l t_{nl} \eta_{ml}` up to what
    does not depend on m: counts times log-probabilities here, sufficient statistics times natural
    parameters in any exponential family.

    Attributes
    ----------
    statistic : array, shape (N, L)
        t, of the data set simulated under each draw.
    log_probability : array, shape (N, L)
        eta, of each draw.
    num_failed : int
        Best responses that did not converge.
    """

    statistic: Float[np.ndarray, "draw entry"]
    log_probability: Float[np.ndarray, "draw entry"]
    num_failed: int = 0

    def log_likelihood(
        self, data_sets: Int[np.ndarray, " data_set"]
    ) -> Float[np.ndarray, "data_set draw"]:
        """Return the log-likelihood of some of the data sets under every draw."""
        return self.statistic[data_sets] @ self.log_probability.T


def simulate_experiments(
    problem: Problem,
    draws: Mapping[str, np.ndarray],
    experiments: Sequence[Experiment],
    *,
    key: Key[Array, ""],
    run: Running | None = None,
) -> list[FutureData]:
    """Simulate one data set per draw and experiment, from the policies under that draw.

    What is observed: states, actions and contexts. Moves count as evidence where the law of
    motion differs between draws; the first state never does. Experiments under the same incentive
    share their best responses, and all share their random numbers draw by draw.

    Parameters
    ----------
    problem : Problem
        With finitely many contexts.
    draws : mapping
        Parameter name -> array (N, ...); missing ones take their default.
    experiments : sequence of Experiment
        Incentives as readable arrays.
    key : typed key
    run : Running, optional
        How it runs; its records keep every experiment that is finished.

    Returns
    -------
    list of FutureData

    Raises
    ------
    InvalidInputError
        For contexts that are sampled, names the problem does not have, more draws than fit in
        memory, or followers who remember (`cbrl_bayes.problems.History`).

    Examples
    --------
    >>> from cbrl_bayes.problems import two_state
    >>> data, = simulate_experiments(two_state(), {"temperature": np.array([0.2, 0.4])},
    ...                              [Experiment("ten", 10, 1)], key=jax.random.key(0))
    >>> data.statistic.sum(1).tolist()  # ten choices and ten contexts
    [20.0, 20.0]
    """
    if experiments:
        refuse_history(problem, "an experiment", "value_of_information(...) without experiments")
    draws, num = complete_draws(problem, draws)
    incentives = [_checked(problem, experiment, num) for experiment in experiments]
    run = run or Running()
    policies: dict[bytes, tuple[np.ndarray, int]] = {}

    def simulate(index: int) -> Record:
        experiment, incentive = experiments[index], incentives[index]
        mark = b"".join(np.asarray(incentive[name]).tobytes() for name in sorted(incentive))
        if mark not in policies:
            policies[mark] = _policies(problem, draws, incentive)
        log_policy, num_failed = policies[mark]
        simulated = _Simulation(problem, draws, experiment, incentive, log_policy)
        return {name: np.asarray(v) for name, v in vars(simulated.run(key, num_failed)).items()}

    found = []
    for index in range(len(experiments)):
        run.report("experiments simulated", index, len(experiments))
        kept = run.once(f"experiment_{index}", partial(simulate, index))
        failed = int(kept["num_failed"])
        found.append(FutureData(kept["statistic"], kept["log_probability"], failed))
    return found


@dataclass(frozen=True)
class _Simulation:
    """One experiment under all draws."""

    problem: Problem
    draws: Mapping[str, np.ndarray]
    experiment: Experiment
    incentive: Mapping[str, Any]
    log_policy: Float[np.ndarray, "draw context follower state action"]

    def run(self, key: Array, num_failed: int) -> FutureData:
        """Simulate, and set counts beside the log-probabilities of what was counted."""
        num = len(self.log_policy)
        contexts = self._chosen(self.experiment.context, self.problem.contexts.names)
        followers = self._chosen(self.experiment.follower, self.problem.followers.names)
        cells = np.ix_(np.arange(num), contexts, followers)
        parameters = {name: jnp.asarray(value) for name, value in self.draws.items()}
        moving = self._law_varies(parameters, contexts, followers)
        keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(jnp.arange(num))

        def count(entry: tuple[Any, Array, Array]) -> tuple[Array, Array, Array]:
            own, log_policy, own_key = entry
            return self._count(own, log_policy, own_key, contexts, followers, moving)

        counts = jax.jit(lambda entries: jax.lax.map(count, entries))(
            (parameters, jnp.asarray(self.log_policy[cells]), keys)
        )
        statistic = [counts[0]]
        log_probability: list[Any] = [self.log_policy[cells]]
        if self.experiment.context is None:
            statistic.append(counts[1])
            log_probability.append(np.log(np.maximum(self.draws["context_probability"], 1e-300)))
        if moving:
            statistic.append(counts[2])
            log_probability.append(self._log_law(parameters, contexts, followers))
        flat = [np.asarray(part, float).reshape(num, -1) for part in statistic]
        chances = [np.asarray(part, float).reshape(num, -1) for part in log_probability]
        seen = [part.any(0) for part in flat]
        return FutureData(
            np.concatenate([p[:, s] for p, s in zip(flat, seen, strict=True)], axis=1),
            np.concatenate([p[:, s] for p, s in zip(chances, seen, strict=True)], axis=1),
            num_failed,
        )

    def _count(
        self,
        parameters: Mapping[str, Array],
        log_policy: Array,
        key: Array,
        contexts: np.ndarray,
        followers: np.ndarray,
        moving: bool,
    ) -> tuple[Array, Array, Array]:
        """Count choices, contexts and moves of one simulated data set."""
        S, A, K = self.problem.num_states, self.problem.num_actions, self.problem.num_successors
        context_key, walk_key = jax.random.split(key)
        each = -(-self.experiment.num_episodes // len(followers))
        chances = jnp.log(parameters["context_probability"][contexts])
        drawn = jax.random.categorical(context_key, chances, shape=(len(followers), each))
        place = jnp.arange(each) * len(followers) + jnp.arange(len(followers))[:, None]
        held = place < self.experiment.num_episodes

        def one(pair: tuple[Array, Array]) -> tuple[Array, Array]:
            c, f = pair
            mdp = self._mdp(parameters, jnp.asarray(contexts)[c], jnp.asarray(followers)[f])
            walked = rollout(
                mdp,
                jnp.exp(log_policy[c, f]),
                key=jax.random.fold_in(jax.random.fold_in(walk_key, c), f),
                num_steps=self.experiment.num_steps,
                num_rollouts=each,
                step_limit=jnp.where(held[f] & (drawn[f] == c), self.experiment.num_steps, 0),
            )
            at = (walked.state, walked.action)
            choices = jnp.zeros((S, A)).at[at].add(walked.active)
            if not moving:
                return choices, jnp.zeros(0)
            follows = _successors(mdp)[at] == walked.next_state[..., None]
            moved = walked.active & ~jnp.asarray(mdp.terminal)[walked.state]
            moves = jnp.zeros((S, A, K)).at[(*at, follows.argmax(-1))].add(moved)
            return choices, moves

        c, f = (grid.ravel() for grid in jnp.indices((len(contexts), len(followers))))
        choices, moves = jax.lax.map(one, (c, f))
        seen = jnp.zeros(self.problem.contexts.num_contexts)
        return choices, seen.at[jnp.asarray(contexts)[drawn]].add(held), moves

    def _mdp(self, parameters: Mapping[str, Array], context: Any, follower: Any) -> MDP:
        values = self.problem.contexts.values  # type: ignore[union-attr]
        value = jax.tree.map(lambda leaf: jnp.asarray(leaf)[context], values)
        incentive = {name: jnp.asarray(array) for name, array in self.incentive.items()}
        everyone = settled(self.problem, incentive, parameters)
        one = self.problem.follower_parameters(everyone, follower)
        return self.problem.mdp_fn(incentive, value, one)

    def _log_law(
        self, parameters: Mapping[str, Array], contexts: np.ndarray, followers: np.ndarray
    ) -> Float[Array, "draw pair state action successor"]:
        """Return the log-probability of each listed move under every draw."""
        s, a, _ = jnp.indices(
            (self.problem.num_states, self.problem.num_actions, self.problem.num_successors)
        )

        def one(own: Mapping[str, Array]) -> Array:
            laws = []
            for c in contexts:
                for f in followers:
                    mdp = self._mdp(own, c, f)
                    chance = mdp.transition.step_probability(s, a, _successors(mdp))
                    laws.append(jnp.log(jnp.maximum(chance, 1e-300)))
            return jnp.stack(laws)

        return jax.jit(lambda sampled: jax.lax.map(one, sampled))(parameters)

    def _law_varies(
        self, parameters: Mapping[str, Array], contexts: np.ndarray, followers: np.ndarray
    ) -> bool:
        """Return whether some draws differ in how states follow each other."""
        num = len(self.log_policy)
        some = evenly_spaced(num, 6)
        few = {name: value[some] for name, value in parameters.items()}
        laws = np.asarray(self._log_law(few, contexts, followers))
        return bool(np.abs(laws - laws[0]).max() > 1e-9)

    def _chosen(self, name: str | None, names: tuple[str, ...]) -> np.ndarray:
        return np.arange(len(names)) if name is None else np.array([names.index(name)])


def _successors(mdp: MDP) -> Int[Array, "state action successor"]:
    """Return the state that each slot of the transition law leads to."""
    s, a, k = jnp.indices(mdp.transition.probability.shape)
    return mdp.transition.next_state(s, a, k)


def _policies(
    problem: Problem, draws: Mapping[str, np.ndarray], incentive: Mapping[str, Any]
) -> tuple[np.ndarray, int]:
    """Return all log policies, (N, C, F, S, A), and the number of solves that failed."""
    in_force = {name: jnp.asarray(array) for name, array in incentive.items()}

    def one(parameters: Mapping[str, Array]) -> tuple[Array, Array]:
        return respond_everywhere(problem, in_force, parameters)

    sampled = {name: jnp.asarray(value) for name, value in draws.items()}
    log_policy, status = jax.jit(lambda all_draws: jax.lax.map(one, all_draws))(sampled)
    return np.asarray(log_policy), int((status != 0).sum())


def _checked(problem: Problem, experiment: Experiment, num: int) -> dict[str, np.ndarray]:
    """Refuse what cannot be simulated; return the incentive in force, gaps filled with zeros."""
    if not isinstance(problem.contexts, DiscreteContexts):
        raise InvalidInputError(
            f"problem {problem.name!r} samples its contexts, whose likelihood is not known here",
            accepted="finitely many contexts (DiscreteContexts)",
        )
    places = (
        ("context", experiment.context, problem.contexts.names),
        ("follower", experiment.follower, problem.followers.names),
    )
    for kind, name, names in places:
        if name is not None and name not in names:
            raise InvalidInputError(
                f"experiment {experiment.name!r} names no {kind} of the problem",
                received=name,
                accepted=", ".join(names),
            )
    entries = (
        num
        * problem.contexts.num_contexts
        * problem.followers.num_followers
        * problem.num_states
        * problem.num_actions
    )
    if entries > MOST_ENTRIES:
        raise InvalidInputError(
            "policies of all draws are too large to hold",
            received=f"{entries} numbers",
            accepted=f"at most {MOST_ENTRIES}",
            remedy="fewer draws",
        )
    readable = problem.incentive.transform(problem.incentive.initial)
    given = experiment.incentive if experiment.incentive is not None else {}
    known = {name: np.zeros(np.shape(array)) for name, array in readable.items()}
    fits = isinstance(given, Mapping) and set(given) <= set(known)
    if not fits or any(np.shape(value) != known[name].shape for name, value in given.items()):  # type: ignore[union-attr]
        raise InvalidInputError(
            f"the incentive of experiment {experiment.name!r} does not fit the problem",
            received=given if isinstance(given, str) else sorted(given),
            accepted=", ".join(f"{n} of shape {v.shape}" for n, v in known.items()),
        )
    return known | {name: np.asarray(value, float) for name, value in given.items()}  # type: ignore[union-attr]
