"""The leader's desk: compiled searches, scores and simulations under what is believed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from cbrl_bayes.campaigns.answers import Answer, Episodes, Watch, collect
from cbrl_bayes.designs.average import PosteriorCriterion
from cbrl_bayes.errors import require_kind, require_ranges
from cbrl_bayes.hypergradients import LOW_PRICES, Ascent, Exact, Search, SearchProgram
from cbrl_bayes.information import FutureData
from cbrl_bayes.problems import LAW, Problem, leader_outcome, respond_everywhere

Draws = Mapping[str, np.ndarray]
FIRST_ROUNDS = 10
SMALL = 64
"""Entries of a policy up to which many are solved at once rather than one after the other."""


@dataclass(frozen=True)
class PlanningSettings:
    """How designs are looked for in each round.

    Parameters
    ----------
    search : Search
        Under one draw, from the incentive space's own start. One more ascent begins at the best of
        the designs deployed last.
    wide_every : int
        >= 1: after the first ten rounds, ``search`` only in every so many; in the others that one
        ascent alone.
    num_draws : int
        Draws under which designs are scored and predicted, >= 10.
    num_common : int
        Of these, draws that the common design is an ascent for, >= 2.
    """

    search: Search = field(
        default_factory=lambda: Search(
            ascent=Ascent(num_steps=100, learning_rate=0.3),
            num_starts=2,
            start_scales=(1.0, 2.0),
            num_candidates=16,
            prices=LOW_PRICES,
        )
    )
    wide_every: int = 1
    num_draws: int = 100
    num_common: int = 16

    def __post_init__(self) -> None:
        require_kind(self.search, Search, "search", "cb.Search(...)")
        require_ranges(
            self,
            "settings of the planning",
            wide_every=">= 1",
            num_draws=">= 10",
            num_common=">= 2",
        )


class Outcomes(NamedTuple):
    """What designs lead to under draws.

    Attributes
    ----------
    objective, cost, value : arrays, shape (D, N)
        The leader's objective, what the incentive costs, and the followers' value, weighted.
    unsolved : array, shape (D, N)
        1 where some best response did not converge.
    """

    objective: Float[np.ndarray, "design draw"]
    cost: Float[np.ndarray, "design draw"]
    value: Float[np.ndarray, "design draw"]
    unsolved: Float[np.ndarray, "design draw"]


@dataclass
class Desk:
    """Searches and scores of one problem, each compiled once.

    Parameters
    ----------
    problem : Problem
        With the law among its parameters where it is unknown.
    settings : PlanningSettings
    """

    problem: Problem
    settings: PlanningSettings = field(default_factory=PlanningSettings)

    def __post_init__(self) -> None:
        whole = self.settings.search
        self._wide = SearchProgram(self.problem, Exact(), whole)
        self._near = self._wide.with_search(Search(ascent=whole.ascent))
        common = PosteriorCriterion(Exact(), self.settings.num_common)
        self._common = SearchProgram(self.problem, common, Search(ascent=whole.ascent))
        self._score = jax.jit(self._scored)
        self._policies = jax.jit(self._log_policies)
        self._simulate = jax.jit(self._simulated, static_argnums=(3,))

    @property
    def initial(self) -> Float[np.ndarray, " coordinate"]:
        """Where the incentive space begins."""
        return np.asarray(self.problem.incentive.flatten(self.problem.incentive.initial))

    def incentive(self, point: np.ndarray) -> dict[str, np.ndarray]:
        """Return an incentive in readable values."""
        found = self.problem.incentive.transform(self.problem.incentive.unflatten(point))
        return {name: np.asarray(value) for name, value in found.items()}

    def best_for(
        self,
        parameters: Mapping[str, Any],
        starts: Sequence[np.ndarray],
        key: Key[Array, ""],
        *,
        wide: bool = True,
    ) -> np.ndarray:
        """Return the best design found under one set of parameters.

        One ascent begins at the best of ``starts``; ``wide`` adds the whole search.
        """
        space = self.problem.incentive
        points = np.stack(starts)
        one = {name: np.asarray(value)[None] for name, value in parameters.items()}
        first = points[self.outcomes(points, one).objective[:, 0].argmax()]
        found = [self._near.run(parameters, key=key, start=space.unflatten(first)).best]
        if wide:
            found.append(self._wide.run(parameters, key=key, start=space.initial).best)
        best = max(found, key=lambda one: one.worth)
        return np.asarray(space.flatten(best.unconstrained))

    def is_wide(self, number: int) -> bool:
        """Whether round ``number``, from 0, has the whole search."""
        return number < FIRST_ROUNDS or number % self.settings.wide_every == 0

    def common(
        self, draws: Draws, starts: Sequence[np.ndarray], key: Key[Array, ""], *, wide: bool = True
    ) -> np.ndarray:
        """Return a design with a high mean over draws.

        It ascends from the best of the starts and of the design for the mean parameters.
        """
        mean = {name: jnp.asarray(value.mean(0)) for name, value in draws.items()}
        points = np.stack([*starts, self.best_for(mean, starts, key, wide=wide)])
        first = points[self.outcomes(points, draws).objective.mean(1).argmax()]
        some = {name: value[: self.settings.num_common] for name, value in draws.items()}
        found = self._common.run(some, key=key, start=self.problem.incentive.unflatten(first))
        ends = np.stack(
            [first, np.asarray(self.problem.incentive.flatten(found.best.unconstrained))]
        )
        return ends[self.outcomes(ends, draws).objective.mean(1).argmax()]

    def outcomes(self, points: np.ndarray, draws: Draws) -> Outcomes:
        """Return what designs, (D, P), lead to under draws."""
        num, many = len(points), len(next(iter(draws.values())))
        size = 1 << (num - 1).bit_length()
        padded = np.concatenate([points, np.repeat(points[:1], size - num, axis=0)])
        found = self._score(padded, dict(draws))
        return Outcomes(*(np.asarray(part).reshape(size, many)[:num] for part in found))

    def future(
        self, point: np.ndarray, draws: Draws, watch: Watch, key: Key[Array, ""]
    ) -> tuple[FutureData, Answer]:
        """Simulate one round under every draw.

        Returns
        -------
        tuple
            Counts of choices and contexts with their log-probabilities, as the value of
            information takes them (where a round's steps are numbered, transitions say nothing);
            and the answers, stacked.
        """
        num = len(next(iter(draws.values())))
        answers = self.replicates(point, draws, watch, key)
        table = np.asarray(self._policies(point, dict(draws))).reshape(num, -1)
        chance = np.log(np.maximum(np.asarray(draws["context_probability"]), 1e-300))
        counts = np.concatenate([answers.choices.reshape(num, -1), answers.contexts], axis=1)
        return FutureData(counts, np.concatenate([table, chance], axis=1)), answers

    def replicates(
        self, point: np.ndarray, draws: Draws, watch: Watch | tuple[Episodes, int], key: Any
    ) -> Answer:
        """Simulate one round's answer under every draw; leaves (N, ...).

        ``watch`` is how much to watch, or the very episodes and the most steps in all.
        """
        num = len(next(iter(draws.values())))
        context_key, walk_key = jax.random.split(key)
        keys = jax.random.split(walk_key, num)
        if isinstance(watch, Watch):
            own = jax.random.split(context_key, num)
            episodes = self._drawn_episodes(watch, dict(draws), own)
            most = watch.num_steps
        else:
            given, most = watch
            episodes = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (num, *leaf.shape)), given)
        found = self._simulate(point, dict(draws), (episodes, keys), most)
        return jax.tree.map(np.asarray, found)

    def log_policies(self, point: np.ndarray, draws: Draws) -> Float[np.ndarray, "draw ..."]:
        """Return followers' log policies under every draw, (N, C, F, S, A)."""
        return np.asarray(self._policies(point, dict(draws)))

    @property
    def _batch(self) -> int | None:
        size = self.problem.num_states * self.problem.num_actions
        return 128 if size <= SMALL else None

    def _scored(self, points: Array, draws: dict[str, Array]) -> tuple[Array, ...]:
        num = next(iter(draws.values())).shape[0]
        weights = jnp.asarray(self.problem.followers.weights)

        def one(number: Array) -> tuple[Array, ...]:
            parameters = jax.tree.map(lambda leaf: leaf[number % num], draws)
            point = self.problem.incentive.unflatten(points[number // num])
            found = leader_outcome(self.problem, point, parameters)
            value = found.follower_value @ weights
            unsolved = (found.status != 0).astype(float)
            return found.objective, found.incentive_cost, value, unsolved

        return jax.lax.map(one, jnp.arange(len(points) * num), batch_size=self._batch)

    def _log_policies(self, point: Array, draws: dict[str, Array]) -> Array:
        incentive = self.problem.incentive.transform(self.problem.incentive.unflatten(point))

        def one(parameters: dict[str, Array]) -> Array:
            return respond_everywhere(self.problem, incentive, parameters)[0]

        return jax.lax.map(one, draws, batch_size=self._batch)

    def _drawn_episodes(self, watch: Watch, draws: dict[str, Any], keys: Array) -> Episodes:
        chance = jnp.asarray(draws["context_probability"])

        def one(entry: tuple) -> Array:
            own, key = entry
            return jax.random.categorical(key, jnp.log(own), shape=(watch.num_episodes,))

        context = jax.vmap(one)((chance, keys))
        num, F = chance.shape[0], self.problem.followers.num_followers
        shape = (num, watch.num_episodes)
        return Episodes(
            context,
            jnp.broadcast_to(jnp.arange(watch.num_episodes) % F, shape),
            jnp.full(shape, watch.max_steps),
        )

    def _simulated(self, point: Array, draws: dict[str, Array], rest: tuple, most: int) -> Answer:
        def one(entry: tuple) -> Answer:
            parameters, (episodes, key) = entry
            return collect(self.problem, point, parameters, episodes, most, key)

        return jax.lax.map(one, (draws, rest), batch_size=16)


def has_unknown_law(problem: Problem) -> bool:
    """Whether the law is among the parameters."""
    return LAW in problem.parameters
