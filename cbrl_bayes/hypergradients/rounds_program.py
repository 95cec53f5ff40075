"""Search for estimators that only watch: propose in what was learned, watch, learn, repeat."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from cbrl_bayes.errors import FollowerError, InvalidInputError, require_kind
from cbrl_bayes.hypergradients.ascent import AscentProgram
from cbrl_bayes.hypergradients.contract import EstimateInfo, Estimator
from cbrl_bayes.hypergradients.doubly_robust import DoublyRobust, learned_model_of
from cbrl_bayes.hypergradients.exact import Exact
from cbrl_bayes.hypergradients.learned_law import Sharing, drawn_rows, law_posteriors
from cbrl_bayes.hypergradients.learned_model import LearnedModel
from cbrl_bayes.hypergradients.learned_state import ModelState, require_fitting
from cbrl_bayes.hypergradients.pairs import pair_weights
from cbrl_bayes.hypergradients.rounds import Round, Rounds, RoundsResult
from cbrl_bayes.hypergradients.search import Search, SearchProgram
from cbrl_bayes.problems import LAW, Problem, leader_outcome, with_unknown_law

FEWEST_STEPS = 10
"""An ascent of fewer steps is not worth its compilation."""


@dataclass(frozen=True)
class _Informed:
    """An estimator that begins with what was seen before."""

    estimator: Estimator
    state: Any

    is_exact = False

    @property
    def access(self) -> Any:
        return self.estimator.access

    @property
    def runs_on_host(self) -> bool:
        return self.estimator.runs_on_host

    def init(self, problem: Problem, unconstrained: Any, *, key: Array) -> Any:
        fresh = self.estimator.init(problem, unconstrained, key=key)
        return self.state._replace(correction=fresh.correction)

    def estimate(self, *arguments: Any, **named: Any) -> tuple[Any, Any, EstimateInfo]:
        return self.estimator.estimate(*arguments, **named)


@dataclass
class RoundsProgram:
    """A search in rounds, compiled once.

    Parameters
    ----------
    problem : Problem
        With a ``leader_reward_fn``, and one transition law for all followers.
    estimator : LearnedModel or DoublyRobust
    rounds : Rounds

    Raises
    ------
    InvalidInputError
        For another estimator, or a problem that `with_unknown_law` refuses.
    """

    problem: Problem
    estimator: LearnedModel | DoublyRobust
    rounds: Rounds = field(default_factory=Rounds)

    def __post_init__(self) -> None:
        require_kind(self.estimator, LearnedModel | DoublyRobust, "estimator", "LearnedModel()")
        if self.problem.leader_reward_fn is None:
            raise InvalidInputError(
                f"episodes do not show the general objective of problem {self.problem.name!r}",
                accepted="a problem with leader_reward_fn",
                remedy="an ascent by LearnedModel()",
            )
        self._model = learned_model_of(self.estimator)
        sharing = Sharing.of(self.problem, self.problem.default_parameters)
        if self._model.num_contexts is not None and not sharing.contexts:
            raise InvalidInputError(
                "contexts that are drawn anew each step have transition laws of their own",
                received=f"num_contexts={self._model.num_contexts}",
                accepted="num_contexts=None, so that each context's law is learned",
            )
        self._unknown = with_unknown_law(self.problem)
        self._search = SearchProgram(self._unknown, Exact(), self.rounds.search)
        whole = self.rounds.search
        again = Search(ascent=whole.ascent, prices=whole.prices)
        self._again = self._search.with_search(again)
        on_host = self.estimator.runs_on_host
        self._watch = self._watched if on_host else jax.jit(self._watched)
        self._posteriors = jax.jit(self._law_posteriors)
        self._promise = jax.jit(self._promised)

    def run(
        self,
        parameters: Mapping[str, Any],
        *,
        key: Key[Array, ""],
        start: Any = None,
        state: ModelState | None = None,
        on_step: Callable[[int], None] | None = None,
    ) -> RoundsResult:
        """Search.

        Parameters
        ----------
        parameters : mapping
            All parameters of the problem.
        key : typed key
        start : pytree, optional
            The design watched first. Default: the incentive space's initial one.
        state : ModelState, optional
            What was learned before (`RoundsResult.state`).
        on_step : callable, optional
            Called with the number of follower steps just taken.

        Returns
        -------
        RoundsResult

        Raises
        ------
        InvalidInputError
            If ``state`` does not fit the problem.
        FollowerError
            If an outside follower fails. Its ``partial`` is a RoundsResult with all that was seen:
            go on with ``start=partial.unconstrained, state=partial.state``.
        """
        space = self.problem.incentive
        first = space.initial if start is None else start
        first_key, key = jax.random.split(key)
        if state is None:
            state = self._model.init(self.problem, first, key=first_key)
        require_fitting(self.problem, state, self._model.num_contexts)
        task = _Task(self, parameters, state, on_step)
        try:
            return task.solved(np.asarray(space.flatten(first)), key)
        except FollowerError as error:
            error.partial = task.so_far() if task.rounds else None
            raise

    def _watched(
        self, point: Any, parameters: Mapping[str, Any], state: ModelState, key: Array
    ) -> tuple[ModelState, Array, Array]:
        """Return what is known after one step's episodes, their worth, and their steps."""
        x = self.problem.incentive.unflatten(point)
        contexts, state, watched = self._model.watch(self.problem, x, parameters, state, key)
        sharing = Sharing.of(self.problem, parameters)
        seen = self._model.read(self.problem, x, parameters, contexts[0], watched.walked, sharing)
        counts = state.counts + sharing.pooled(seen.counts, self.problem)
        info = watched.info.combined(pair_weights(self.problem, contexts[1]).ravel())
        after = state._replace(followers=watched.followers, counts=counts)
        return after, info.objective, info.follower_steps

    def laws(
        self, parameters: Mapping[str, Any], state: ModelState, key: Array
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean law and drawn ones, as the parameter of `with_unknown_law`."""
        prior_key, row_key = jax.random.split(key)
        mean, several = self._posteriors(parameters, state.counts, prior_key)
        return np.asarray(mean / mean.sum(-1, keepdims=True)), drawn_rows(several, row_key)

    def _law_posteriors(
        self, parameters: Mapping[str, Any], counts: Array, key: Array
    ) -> tuple[Array, Array]:
        own = counts[:, 0], self._model.prior, self.rounds.num_laws
        return law_posteriors(self.problem, parameters, *own, key=key)

    def _promised(
        self, points: Array, laws: Array, parameters: Mapping[str, Any]
    ) -> Float[Array, "design law"]:
        def worth(entry: tuple[Array, Array]) -> Array:
            point, law = entry
            x = self.problem.incentive.unflatten(point)
            found = leader_outcome(self._unknown, x, {**parameters, LAW: law})
            return found.objective

        both = (
            jnp.repeat(points, len(laws), axis=0),
            jnp.tile(laws, (len(points), *[1] * (laws.ndim - 1))),
        )
        return jax.lax.map(worth, both).reshape(len(points), len(laws))


@dataclass
class _Task:
    """One run of a search in rounds."""

    program: RoundsProgram
    parameters: Mapping[str, Any]
    state: ModelState
    on_step: Callable[[int], None] | None
    rounds: list[Round] = field(default_factory=list)
    steps_of_ascent: int = 0

    @property
    def steps(self) -> int:
        """All steps of the follower so far."""
        return sum(one.follower_steps for one in self.rounds) + self.steps_of_ascent

    def solved(self, first: np.ndarray, key: Array) -> RoundsResult:
        """Do all rounds, ascend, and compare the finalists on episodes that chose neither."""
        settings = self.program.rounds
        fresh = max(1, int(0.05 * settings.follower_steps))
        for_rounds = settings.follower_steps * (1.0 - settings.ascent_share) - 2 * fresh
        part = int(for_rounds / (2 * settings.num_rounds + 1))
        self.watch(first, np.zeros(0), part, jax.random.fold_in(key, 0))
        for number in range(settings.num_rounds):
            if self.one_round(part, jax.random.fold_in(key, number + 1)):
                break
        last_key = jax.random.fold_in(key, settings.num_rounds + 2)
        finalists = [self.best(self.rounds, last_key).unconstrained]
        if settings.ascent_share > 0.0:
            end = self.ascended(fresh, jax.random.fold_in(key, settings.num_rounds + 1))
            finalists += [] if end is None else [end]
        for number, point in enumerate(finalists):
            self.watch(point, np.zeros(0), fresh, jax.random.fold_in(last_key, number))
        return self.so_far(self.rounds[-len(finalists) :], last_key)

    def one_round(self, part: int, key: Array) -> bool:
        """Propose and watch; return whether promises and what was seen agree."""
        law_key, search_key, watch_key = jax.random.split(key, 3)
        points, promised = self.proposals(law_key, search_key)
        best, hopeful = int(promised.mean(1).argmax()), int(promised.max(1).argmax())
        chosen = dict.fromkeys([best, hopeful])
        for index in chosen:
            self.watch(
                points[index],
                promised[index],
                part * 2 // len(chosen),
                jax.random.fold_in(watch_key, index),
            )
        last = self.rounds[-len(chosen)]
        near = self.program.rounds.tolerance * abs(last.seen)
        error = np.hypot(last.standard_error, promised[best].std())
        kept = abs(promised[best].mean() - last.seen) <= max(2.0 * error, near)
        return bool(kept and promised.max() - last.seen <= near)

    def proposals(self, law_key: Array, key: Array) -> tuple[np.ndarray, np.ndarray]:
        """Return designs, one per row, and what each is worth under each drawn law."""
        program, space = self.program, self.program.problem.incentive
        mean, drawn = program.laws(self.parameters, self.state, law_key)
        seen = self.best(self.rounds, law_key)
        # Not from the best design so far, which is a local optimum and stays a candidate anyway.
        found = program._search.run({**self.parameters, LAW: mean}, key=key, start=space.initial)
        points = [seen.unconstrained, space.flatten(found.best.unconstrained)]
        for number, law in enumerate(drawn):
            again = program._again.run(
                {**self.parameters, LAW: law},
                key=jax.random.fold_in(key, number),
                start=space.initial,
            )
            points.append(space.flatten(again.best.unconstrained))
        proposed = np.stack([np.asarray(point) for point in points])
        return proposed, np.asarray(program._promise(proposed, drawn, self.parameters))

    def watch(self, point: np.ndarray, promised: np.ndarray, most: int, key: Array) -> None:
        """Watch a design until the follower has taken ``most`` steps; keep what was seen."""
        worth: list[float] = []
        taken = 0
        try:
            while len(worth) < 2 or taken * (len(worth) + 1) <= most * len(worth):
                self.state, one, steps = self.program._watch(
                    point, self.parameters, self.state, jax.random.fold_in(key, len(worth))
                )
                worth.append(float(one))
                taken += int(steps)
                if self.on_step is not None:
                    self.on_step(int(steps))
        finally:
            if worth:
                many = len(worth) > 1
                error = float(np.std(worth, ddof=1) / np.sqrt(len(worth))) if many else np.inf
                each = taken / len(worth)
                seen = Round(point, promised, float(np.mean(worth)), error, taken, each)
                self.rounds.append(seen)

    def best(self, among: list[Round], law_key: Array) -> Round:
        """Return the best design, by what was seen and what the model now says, by precision."""
        points = np.stack([one.unconstrained for one in among])
        _, laws = self.program.laws(self.parameters, self.state, law_key)
        promised = np.asarray(self.program._promise(points, laws, self.parameters))
        tiny = np.finfo(float).tiny
        by_model = 1.0 / np.maximum(promised.var(1, ddof=1), tiny)
        by_sight = 1.0 / np.maximum([one.standard_error**2 for one in among], tiny)
        seen = np.array([one.seen for one in among])
        worth = (by_model * promised.mean(1) + by_sight * seen) / (by_model + by_sight)
        return among[int(worth.argmax())]

    def ascended(self, fresh: int, key: Array) -> np.ndarray | None:
        """Return where the estimator's own ascent from the best design leads, if steps allow."""
        program, settings = self.program, self.program.rounds
        left = settings.follower_steps - self.steps - 2 * fresh
        best = self.best(self.rounds, key)
        # Episodes get longer, or shorter, on the way: a tenth is kept in hand.
        num = int(0.9 * left / best.steps_per_estimate)
        if num < FEWEST_STEPS:
            return None
        informed = _Informed(program.estimator, self.state)
        ascent = AscentProgram(program.problem, informed, replace(settings.ascent, num_steps=num))
        start = program.problem.incentive.unflatten(best.unconstrained)
        found = ascent.run(self.parameters, key=key, start=start)
        self.steps_of_ascent = int(np.sum(found.trace.follower_steps))
        return np.asarray(program.problem.incentive.flatten(found.unconstrained))

    def so_far(
        self, finalists: list[Round] | None = None, key: Array | None = None
    ) -> RoundsResult:
        """Return the best of the finalists (default: of all designs)."""
        program = self.program
        law_key = jax.random.key(0) if key is None else key
        best = self.best(finalists or self.rounds, law_key)
        _, laws = program.laws(self.parameters, self.state, law_key)
        promised = program._promise(best.unconstrained[None], laws, self.parameters)[0]
        return RoundsResult(
            unconstrained=program.problem.incentive.unflatten(best.unconstrained),
            seen=best.seen,
            standard_error=best.standard_error,
            promised=np.asarray(promised),
            rounds=tuple(self.rounds),
            follower_steps=self.steps,
            state=self.state,
        )
