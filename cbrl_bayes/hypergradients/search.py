"""Search over local optima: random starts, screening, and hops from the best one found."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Key

from cbrl_bayes.errors import FollowerError, InvalidInputError, explain
from cbrl_bayes.hypergradients.ascent import FAILED_ASCENTS, Ascent, AscentProgram, AscentResult
from cbrl_bayes.hypergradients.contract import Estimator
from cbrl_bayes.problems import Problem, leader_outcome

__all__ = ["Search", "SearchProgram", "SearchResult", "global_search"]


@dataclass(frozen=True)
class Search:
    """How to look for the best of many local optima.

    Parameters
    ----------
    ascent : Ascent
        The local ascent, temperature continuation and gradient noise included.
    num_starts : int
        Ascents from different starts; the best answer counts.
    start_scales : tuple of float
        Standard deviations of random starts, used in turn; () means the incentive space's own.
    num_candidates : int
        Random starts whose objective is evaluated first, so that only the ``num_starts`` most
        promising are followed; 0 for no screening.
    num_hops : int
        Rounds of hops: perturb a few coordinates of the best point many times, screen, ascend
        from the three most promising.
    num_mutants : int
        Perturbed points per hop.
    hop_scale : float
        Standard deviation of a perturbation.
    hop_coordinates : float
        Expected number of coordinates perturbed at once.
    """

    ascent: Ascent = field(default_factory=Ascent)
    num_starts: int = 1
    start_scales: tuple[float, ...] = ()
    num_candidates: int = 0
    num_hops: int = 0
    num_mutants: int = 256
    hop_scale: float = 4.0
    hop_coordinates: float = 3.0

    def __post_init__(self) -> None:
        counts = (self.num_candidates, self.num_hops, *self.start_scales)
        if self.num_starts < 1 or self.num_mutants < 1 or min((0, *counts)) < 0:
            raise InvalidInputError(explain("search settings are out of range", received=self))
        if self.num_candidates and self.num_starts < 2:
            raise InvalidInputError(
                explain(
                    "screened candidates need starts to choose them for",
                    received=f"num_starts={self.num_starts}",
                    accepted="num_starts >= 2",
                )
            )

    @property
    def needs_exact_objective(self) -> bool:
        """Whether candidates are compared by the exact objective."""
        return self.num_candidates > 0 or self.num_hops > 0

    @property
    def total_steps(self) -> int:
        """Ascent steps of the whole search, for progress bars."""
        return self.ascent.total_steps * (self.num_starts + 3 * self.num_hops)


def global_search(*, num_hops: int = 12, num_steps: int = 200) -> Search:
    """Return the search that reached the best known optimum in every Four-Rooms cell.

    384 random starts of three widths are screened, seven followed, then ``num_hops`` rounds of
    hops of 256 mutants each.

    Parameters
    ----------
    num_hops : int
    num_steps : int
        Steps of each local ascent.
    """
    return Search(
        ascent=Ascent(num_steps=num_steps, learning_rate=0.3),
        num_starts=7,
        start_scales=(1.0, 2.0, 4.0),
        num_candidates=384,
        num_hops=num_hops,
    )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SearchResult:
    """The best ascent of a search, and all others' objectives.

    Attributes
    ----------
    best : AscentResult
    restart_objectives : array, shape (num ascents,)
        What each ascent reached, in the order they ran; NaN for failed ones. A wide spread
        says that the optimum found is one of many.
    """

    best: AscentResult
    restart_objectives: np.ndarray


@dataclass
class SearchProgram:
    """A compiled search of one problem with one estimator.

    Parameters
    ----------
    problem : Problem
    estimator : Estimator
    search : Search

    Raises
    ------
    InvalidInputError
        If the search compares candidates exactly but the estimator only simulates.

    Examples
    --------
    >>> import jax
    >>> from cbrl_bayes.hypergradients import Exact
    >>> from cbrl_bayes.problems import two_state
    >>> problem = two_state()
    >>> program = SearchProgram(problem, Exact(), Search(num_starts=2))
    >>> found = program.run(problem.default_parameters, key=jax.random.key(0))
    >>> found.restart_objectives.shape
    (2,)
    """

    problem: Problem
    estimator: Estimator
    search: Search = field(default_factory=Search)

    def __post_init__(self) -> None:
        if self.search.needs_exact_objective and not self.estimator.is_exact:
            raise InvalidInputError(
                explain(
                    "screening and hops compare exact objectives, which a simulating "
                    "estimator does not have",
                    received=type(self.estimator).__name__,
                    remedy="Search(num_starts=...) with continuation, or the exact estimator",
                )
            )
        self._ascent = AscentProgram(self.problem, self.estimator, self.search.ascent)
        flat, self._unravel = ravel_pytree(
            jax.tree.map(lambda leaf: jnp.asarray(leaf, float), self.problem.incentive.initial)
        )
        self._initial = np.asarray(flat)
        self._screen = jax.jit(self._objectives)

    def with_search(self, search: Search) -> "SearchProgram":
        """Return a program for another search, with the same compiled ascent if that is equal."""
        other = SearchProgram(self.problem, self.estimator, search)
        if search.ascent == self.search.ascent:
            other._ascent = self._ascent
        return other

    def run(
        self,
        parameters: Mapping[str, Any],
        *,
        key: Key[Array, ""],
        start: Any = None,
        on_step: Callable[[int], None] | None = None,
    ) -> SearchResult:
        """Search from ``start`` (if given) and from random starts.

        Parameters
        ----------
        parameters : mapping
            All parameters, e.g. one posterior draw.
        key : typed key
        start : pytree, optional
            The first ascent's start; the others' are random.
        on_step : callable, optional
            Called with the number of steps just finished.

        Returns
        -------
        SearchResult
        """
        start_key, run_key, hop_key = jax.random.split(key, 3)
        points = self._starts(parameters, start, start_key, run_key)
        found: list[AscentResult] = []

        def follow(point: Any) -> None:
            ascent_key = jax.random.fold_in(run_key, len(found))
            try:
                found.append(
                    self._ascent.run(
                        parameters,
                        key=ascent_key,
                        start=point,
                        context_key=run_key,
                        on_step=on_step,
                    )
                )
            except FollowerError as error:
                error.finished = tuple(found)
                raise

        for point in points:
            follow(point)
        rng = np.random.default_rng(np.asarray(jax.random.key_data(hop_key)))
        for _ in range(self.search.num_hops):
            best, _ = ravel_pytree(max(found, key=attrgetter("worth")).unconstrained)
            mutants = self._mutants(np.asarray(best), rng)
            worth = np.asarray(self._screen(mutants, parameters, run_key))
            for index in np.argsort(-worth)[:3]:
                follow(self._unravel(mutants[index]))
        objectives = [r.objective if r.worth > -np.inf else np.nan for r in found]
        return SearchResult(max(found, key=attrgetter("worth")), np.array(objectives))

    def traced(self, parameters: Mapping[str, Any], key: Array, start: Any) -> SearchResult:
        """Return what `run` returns, as one traceable function; all leaves are arrays.

        Raises
        ------
        InvalidInputError
            For a search that chooses candidates between ascents, and for followers outside
            compiled programs.
        """
        if self.search.needs_exact_objective or self.estimator.runs_on_host:
            raise InvalidInputError(
                explain(
                    "screening, hops and followers outside compiled programs cannot be part "
                    "of one program",
                    received=self.search,
                    remedy="ThreadExecutor or DaskExecutor, or Search(num_starts=...)",
                )
            )
        start_key, run_key, _ = jax.random.split(key, 3)
        points = self._starts(parameters, start, start_key, run_key)
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *points)
        found = jax.lax.map(
            lambda entry: self._ascent.ascend(
                parameters, entry[1], jax.random.fold_in(run_key, entry[0]), run_key
            ),
            (jnp.arange(len(points)), stacked),
        )
        failed = jnp.isin(found.status, jnp.array(FAILED_ASCENTS))
        best = jnp.argmax(jnp.where(failed, -jnp.inf, found.objective))
        reached: Any = jnp.where(failed, jnp.nan, found.objective)
        return SearchResult(jax.tree.map(lambda leaf: leaf[best], found), reached)

    def _starts(
        self, parameters: Mapping[str, Any], start: Any, key: Array, run_key: Array
    ) -> list:
        """Return the first start (given or default) and the most promising random ones."""
        search, space = self.search, self.problem.incentive
        first_key, key = jax.random.split(key)
        first = space.random_start(first_key) if start is None else start
        more = search.num_starts - 1
        num = max(more, search.num_candidates)
        scales = search.start_scales or (space.start_scale,)
        random = [
            ravel_pytree(space.random_start(k, scales[i % len(scales)]))[0]
            for i, k in enumerate(jax.random.split(key, max(num, 1)))
        ][:num]
        if search.num_candidates and more:
            worth = np.asarray(self._screen(jnp.stack(random), parameters, run_key))
            random = [random[index] for index in np.argsort(-worth)[:more]]
        return [first, *(self._unravel(point) for point in random)]

    def _mutants(self, best: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        shape = (self.search.num_mutants, best.size)
        touched = rng.random(shape) < self.search.hop_coordinates / best.size
        return best + touched * rng.normal(scale=self.search.hop_scale, size=shape)

    def _objectives(self, points: Array, parameters: Mapping[str, Any], key: Array) -> Array:
        def worth(point: Array) -> Array:
            outcome = leader_outcome(self.problem, self._unravel(point), parameters, key=key)
            return jnp.where(jnp.isfinite(outcome.objective), outcome.objective, -jnp.inf)

        return jax.lax.map(worth, points)
