"""Joint laws of parameters and data: draw from the prior, simulate, and the model to invert them.

A data set is a pytree of arrays whose shapes do not depend on its numbers, so that a program
compiled for one data set serves all others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jaxtyping import Array, Float, Key
from numpyro import handlers

from cbrl_bayes.behaviour import BehaviourCounts
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.inference.default_priors import default_priors
from cbrl_bayes.inference.known import drawn
from cbrl_bayes.inference.model import BehaviourModel
from cbrl_bayes.inference.preferences import PreferenceModel
from cbrl_bayes.inference.priors import ContextFamily, Prior, known_values, require_unknown
from cbrl_bayes.inference.shares import ShareModel
from cbrl_bayes.inference.unknown_law import UnknownLaw
from cbrl_bayes.problems import LAW, DiscreteContexts, Problem, settled, walk


class GenerativeModel(Protocol):
    """A joint law of parameters and data, and the NumPyro model that is to invert it."""

    def prior(self) -> Any:
        """Sample the parameters inside NumPyro; its sites are what is checked."""

    def simulate(self, truth: Mapping[str, Array], key: Key[Array, ""]) -> Any:
        """Return data under given parameters: a pytree of arrays of fixed shapes."""

    def program(self, data: Any) -> Any:
        """Run the model of the data inside NumPyro; ``data`` may be traced."""


@dataclass(frozen=True)
class DenseCounts(BehaviourCounts):
    """Counts with a place for everything that could occur, whose numbers may be traced.

    The two facts that decide which parts a model has are given, not read off the numbers.
    """

    observed_contexts: int = 0
    latent_contexts: bool = False

    @property
    def num_observed_contexts(self) -> int:
        """Number of episodes whose context was observed."""
        return self.observed_contexts

    @property
    def has_latent_contexts(self) -> bool:
        """Whether some episode's context was not observed."""
        return self.latent_contexts


@dataclass(frozen=True)
class BehaviourSimulation:
    """Watch followers act, as `BehaviourModel` takes it.

    Episode e is of follower e mod F, each in a context of its own, and lasts until it ends or
    ``num_steps`` are recorded. Every follower is a group.

    Parameters
    ----------
    problem : Problem
    priors : mapping, optional
        Default: `default_priors`.
    context_family : ContextFamily, optional
        For problems with continuous contexts.
    num_episodes, num_steps : int
        At least 1.
    incentive : mapping, optional
        Readable incentive in force. Default: zero.
    num_hidden : int
        So many episodes, the last ones, do not show their context.
    record_transitions : bool
        Whether to record which successor followed, from which a law among the parameters is
        learned. Not together with hidden contexts.

    Raises
    ------
    InvalidInputError
        For settings that do not go together.

    Notes
    -----
    Where contexts differ in the states that **end** an episode, that a hidden episode ended is
    news of its context, which the likelihood leaves out (it cannot tell an end from a record
    that was cut). Then ranks need not be uniform.

    Examples
    --------
    >>> from cbrl_bayes.problems import two_state
    >>> simulation = BehaviourSimulation(two_state(), num_episodes=5, num_steps=1)
    >>> truth = {"temperature": jnp.array(0.2), "context_probability": jnp.array([0.5, 0.5])}
    >>> simulation.simulate(truth, jax.random.key(0))["action"].shape
    (5, 1)
    """

    problem: Problem
    priors: Mapping[str, Prior] = field(default_factory=dict)
    context_family: ContextFamily | None = None
    num_episodes: int = 20
    num_steps: int = 10
    incentive: Mapping[str, Any] = field(default_factory=dict)
    num_hidden: int = 0
    record_transitions: bool = False

    def __post_init__(self) -> None:
        sizes = min(self.num_episodes, self.num_steps) >= 1
        if not sizes or not 0 <= self.num_hidden <= self.num_episodes:
            raise InvalidInputError(
                "the simulation's sizes are out of range",
                received=f"{self.num_episodes} episodes of {self.num_steps} steps, "
                f"{self.num_hidden} hidden",
                accepted="num_episodes >= 1, num_steps >= 1, 0 <= num_hidden <= num_episodes",
            )
        discrete = isinstance(self.problem.contexts, DiscreteContexts)
        if self.num_hidden and (self.record_transitions or not discrete):
            raise InvalidInputError(
                "num_hidden > 0 requires a finite list of contexts and record_transitions=False"
            )
        object.__setattr__(self, "priors", default_priors(self.problem, self.priors))
        require_unknown(self.priors, self.context_family, self.problem.followers.num_followers)
        law = self.priors.get(LAW)
        if isinstance(law, UnknownLaw) and not law.is_joint:
            raise InvalidInputError(
                "a cut posterior belongs to no joint law of parameters and data, so that the truth "
                "has no uniform rank among its draws",
                received=str(law),
                accepted=f"priors={{{LAW!r}: cb.UnknownLaw(joint=True)}}",
            )
        readable = self.problem.incentive.transform(self.problem.incentive.initial)
        zero = {name: np.zeros(np.shape(value)) for name, value in readable.items()}
        if set(self.incentive) - set(zero):
            raise InvalidInputError(
                "unknown incentives", received=sorted(self.incentive), accepted=", ".join(zero)
            )
        object.__setattr__(self, "incentive", zero | dict(self.incentive))

    def prior(self) -> None:
        """Sample every parameter once."""
        for name, prior in self.priors.items():
            prior.sample(name, self.problem.followers.num_followers)
        if self.context_family is not None:
            for name, law in self.context_family.priors.items():
                drawn(name, law)

    def simulate(self, truth: Mapping[str, Array], key: Key[Array, ""]) -> dict[str, Array]:
        """Return contexts, states, actions and which steps were made, (episode, step)."""
        problem = self.problem
        known = problem.default_parameters | self._known
        parameters = known | {name: truth[name] for name in truth if name in known}
        context_key, walk_key, slot_key = jax.random.split(key, 3)
        values, chosen = problem.contexts.draw(parameters, context_key, self.num_episodes)
        in_force = {name: jnp.asarray(value) for name, value in self.incentive.items()}
        parameters = settled(problem, in_force, parameters, key=context_key)

        def act(entry: tuple) -> dict[str, Array]:
            value, follower, walker, slot = entry
            one = problem.follower_parameters(parameters, follower)
            mdp, steps = walk(problem, in_force, value, one, key=walker, num_steps=self.num_steps)
            state, action = steps.state[0], steps.action[0]
            every = jnp.arange(mdp.transition.probability.shape[-1])
            reached = mdp.transition.next_state(state[:, None], action[:, None], every)
            law = mdp.transition.probability[state, action]
            fits = jnp.where(reached == steps.next_state[0][:, None], law, 0.0)
            return {
                "state": state,
                "action": action,
                "active": steps.active[0],
                "slot": jax.random.categorical(slot, jnp.log(fits)),
                "goes_on": steps.active[0] & (mdp.continues[state] > 0.0),
            }

        walkers = jax.random.split(walk_key, self.num_episodes)
        slots = jax.random.split(slot_key, self.num_episodes)
        found = jax.lax.map(act, (values, self._follower, walkers, slots))
        return found | {"context": chosen, "value": values}

    def program(self, data: Mapping[str, Array]) -> None:
        """Run `BehaviourModel` on the data."""
        counts = self.counts(data)
        # What is checked at construction rests on no traced number.
        at_once = jax.ensure_compile_time_eval
        with at_once():
            model = BehaviourModel(self.problem, counts, self.priors, self.context_family)
        model()

    def counts(self, data: Mapping[str, Array]) -> DenseCounts:
        """Put the data into counts with a row for every (cell, state)."""
        problem, episodes = self.problem, self.num_episodes
        S, A = problem.num_states, problem.num_actions
        hidden = np.arange(episodes) >= episodes - self.num_hidden
        cells, own, laid_out = self._layout(data, hidden)
        seen = (data["active"] & ~hidden[:, None]).astype(int)
        rows = own[:, None] * S + data["state"]
        made: dict[str, Any] = laid_out | self._listed(data, hidden, own)
        made["action_count"] = (
            jnp.zeros((len(cells) * S, A), int).at[rows, data["action"]].add(seen)
        )
        return DenseCounts(
            regimes=("in force",),
            incentives={name: np.asarray(v)[None] for name, v in self.incentive.items()},
            groups=problem.followers.names,
            cell_regime=np.zeros(len(cells), int),
            cell_context=cells[:, 0],
            cell_group=cells[:, 1],
            **self._paths(data, len(cells)),
            row_cell=np.repeat(np.arange(len(cells)), S),
            row_state=np.tile(np.arange(S), len(cells)),
            episode_names=tuple(f"episode {e}" for e in range(episodes)),
            observed_contexts=episodes - self.num_hidden,
            latent_contexts=self.num_hidden > 0,
            **made,
        )

    def _layout(
        self, data: Mapping[str, Array], hidden: np.ndarray
    ) -> tuple[np.ndarray, Array, dict[str, Any]]:
        """Return (context, group) of each cell, each episode's cell, and what follows."""
        contexts, episodes = self.problem.contexts, np.arange(self.num_episodes)
        if not isinstance(contexts, DiscreteContexts):
            # Every episode has a value, and so a cell, of its own.
            return (
                np.stack([episodes, self._follower], axis=-1),
                jnp.asarray(episodes),
                {
                    "context_values": data["value"],
                    "episode_context": episodes,
                    "episode_cells": np.where(np.eye(len(episodes), dtype=bool), episodes, -1),
                    "context_count": np.ones(len(episodes), int),
                },
            )
        # Episodes share the policy of their follower, unless each has a past of its own.
        remembers = self.problem.history is not None
        C, chosen = contexts.num_contexts, data["context"]
        groups = np.arange(self.problem.followers.num_followers)
        own, who = (episodes, self._follower) if remembers else (self._follower, groups)
        possible = hidden[:, None] | (chosen[:, None] == np.arange(C))
        every = np.arange(C) * len(who) + own[:, None]
        cells = np.stack([np.repeat(np.arange(C), len(who)), np.tile(who, C)], axis=-1)
        return (
            cells,
            chosen * len(who) + own,
            {
                "context_values": contexts.values,
                "episode_context": jnp.where(hidden, -1, chosen),
                "episode_cells": jnp.where(possible, every, -1),
                "context_count": jnp.zeros(C, int).at[chosen].add((~hidden).astype(int)),
            },
        )

    def _paths(self, data: Mapping[str, Array], num_cells: int) -> dict[str, Any]:
        """Return what the episode of each cell met and did, of followers who remember."""
        if self.problem.history is None:
            none = np.zeros((num_cells, 0), int)
            return {"cell_states": none, "cell_actions": none}
        times = num_cells // self.num_episodes, 1
        met = {"cell_states": data["state"], "cell_actions": data["action"]}
        return {n: jnp.tile(jnp.where(data["active"], v, -1), times) for n, v in met.items()}

    def _listed(self, data: Mapping[str, Array], hidden: np.ndarray, own: Array) -> dict[str, Any]:
        """Choices, moves and transitions, one place for each step of each episode."""
        steps = self.num_steps
        state, action = data["state"], data["action"]
        of_step = np.repeat(np.arange(self.num_episodes), steps)
        made = (data["active"][:, 1:] & hidden[:, None]).astype(int).ravel()
        recorded = steps if self.record_transitions else 0
        return {
            "first_state": state[:, 0],
            "entry_episode": of_step,
            "entry_state": state.ravel(),
            "entry_action": action.ravel(),
            "entry_count": data["active"].astype(int).ravel(),
            "move_episode": np.repeat(np.arange(self.num_episodes), steps - 1),
            "move_state": state[:, :-1].ravel(),
            "move_action": action[:, :-1].ravel(),
            "move_next": state[:, 1:].ravel(),
            "move_count": made,
            "transition_cell": jnp.repeat(own, recorded),
            "transition_state": state[:, :recorded].ravel(),
            "transition_action": action[:, :recorded].ravel(),
            "transition_slot": data["slot"][:, :recorded].ravel(),
            "transition_count": data["goes_on"][:, :recorded].astype(int).ravel(),
        }

    @property
    def _known(self) -> dict[str, Array]:
        num = self.problem.followers.num_followers
        known = known_values(self.priors, self.context_family, num)
        return {name: jnp.asarray(value) for name, value in known.items()}

    @property
    def _follower(self) -> np.ndarray:
        return np.arange(self.num_episodes) % self.problem.followers.num_followers


@dataclass(frozen=True)
class ShareSimulation:
    """Watch shares of households, all goods bought, under a `ShareModel`.

    Parameters
    ----------
    model : ShareModel
        One whose density can be traced: `DirichletShares` or `Participation`.
    design : array, shape (N, C)
        Covariates; C may be 0.
    num_goods : int
        At least 2.
    """

    model: ShareModel
    design: Float[np.ndarray, "household column"]
    num_goods: int = 3

    def prior(self) -> None:
        """Sample every parameter once."""
        self._draw()

    def simulate(self, truth: Mapping[str, Array], key: Key[Array, ""]) -> Array:
        """Return one composition per household, shape (N, G)."""
        draw = handlers.substitute(handlers.seed(self._draw, 0), dict(truth))()
        return self.model.simulate(draw, jnp.asarray(self.design), key)

    def program(self, data: Array) -> None:
        """Run the model as `fit_shares` does."""
        total = self.model.log_density(self._draw(), data, jnp.asarray(self.design)).sum()
        numpyro.factor("composition", total)

    def _draw(self) -> dict[str, Array]:
        return self.model.parameters(self.num_goods, np.shape(self.design)[1])


@dataclass(frozen=True)
class PreferenceSimulation:
    """Let annotators judge pairs of answers, each row ``num_judgements`` times.

    Parameters
    ----------
    model : PreferenceModel
        Its rows are the design; of its counts only whether there are ties matters.
    num_judgements : int
        Of each row, at least 1.
    """

    model: PreferenceModel
    num_judgements: int = 1

    def prior(self) -> None:
        """Sample every parameter once."""
        self.model(condition=False)

    def simulate(self, truth: Mapping[str, Array], key: Key[Array, ""]) -> Array:
        """Return how often left, right and tie were said, shape (M, 3)."""
        trace = handlers.trace(
            handlers.substitute(handlers.seed(self.model, 0), dict(truth))
        ).get_trace(condition=False)
        parameters = {name: site["value"] for name, site in trace.items()}
        table = self.model.log_probability(parameters, self.model.rows)
        said = jax.random.categorical(key, table, shape=(self.num_judgements, len(table)))
        return jax.nn.one_hot(said, 3).sum(0)

    def program(self, data: Array) -> None:
        """Run the model on the counts."""
        self.model(counts=data)
