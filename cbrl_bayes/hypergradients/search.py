"""Search over local optima: random starts, screening, and hops from the best one found."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from cbrl_bayes.errors import FollowerError, InvalidInputError, require_kind, require_ranges
from cbrl_bayes.hypergradients.ascent import Ascent, AscentProgram
from cbrl_bayes.hypergradients.contract import Estimator
from cbrl_bayes.hypergradients.trace import AscentResult
from cbrl_bayes.mdp import is_traced
from cbrl_bayes.problems import Problem, leader_outcome
from cbrl_bayes.status import FAILED_ASCENTS

HOPS_FOLLOWED = 3
LOW_PRICES = (0.03, 0.1, 0.3, 0.6)
"""Stages of an ascent that begins where the incentive costs little."""


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
        Standard deviations of random starts, used in turn, in units of the problem's scale
        (`Problem.scale`); () means the incentive space's own.
    num_candidates : int
        Random starts whose objective is evaluated first, so that only the ``num_starts`` most
        promising are followed; 0 for no screening.
    prices : tuple of float
        Factors on the incentive's price. One more ascent, from the first start, goes through a
        stage at each of them first (as `Ascent.price_continuation`); () for none. Problems that
        state no price, and followers outside compiled programs, do without.
    num_hops : int
        Rounds of hops: perturb a few coordinates of the best point many times, screen, ascend
        from the three most promising.
    num_mutants : int
        Perturbed points per hop.
    hop_scale : float
        Standard deviation of a perturbation, in units of the problem's scale.
    hop_coordinates : float
        Expected number of coordinates perturbed at once.
    """

    ascent: Ascent = field(default_factory=Ascent)
    num_starts: int = 1
    start_scales: tuple[float, ...] = ()
    num_candidates: int = 0
    prices: tuple[float, ...] = ()
    num_hops: int = 0
    num_mutants: int = 256
    hop_scale: float = 4.0
    hop_coordinates: float = 3.0

    def __post_init__(self) -> None:
        require_kind(self.ascent, Ascent, "ascent", "Ascent(...)")
        require_ranges(
            self,
            "search settings",
            num_starts=">= 1",
            num_candidates=">= 0",
            num_hops=">= 0",
            num_mutants=">= 1",
            hop_scale=">= 0",
            hop_coordinates="> 0",
        )
        for name in ("start_scales", "prices"):
            given = getattr(self, name)
            if np.ndim(given) != 1:
                raise InvalidInputError(
                    f"{name} is no tuple of numbers", received=repr(given), accepted="(1.0,)"
                )
            entries = {f"{name}[{i}]": entry for i, entry in enumerate(given)}
            require_ranges(entries, "search settings", **dict.fromkeys(entries, ">= 0"))
        if self.num_candidates and self.num_starts < 2:
            raise InvalidInputError(
                "num_candidates > 0 requires num_starts >= 2",
                received=f"num_candidates={self.num_candidates}, num_starts={self.num_starts}",
            )

    @property
    def needs_exact_objective(self) -> bool:
        """Whether candidates are compared by the exact objective."""
        return self.num_candidates > 0 or self.num_hops > 0

    @property
    def total_steps(self) -> int:
        """Ascent steps of the whole search, for progress bars."""
        ascents = self.num_starts + bool(self.prices) + HOPS_FOLLOWED * self.num_hops
        return self.ascent.total_steps * ascents


def global_search(*, num_hops: int = 12, num_steps: int = 200) -> Search:
    """Return a thorough search; it reached the best known optimum in every Four-Rooms cell.

    384 random starts of three widths are screened, seven followed; one more ascent begins where
    the incentive costs little; then ``num_hops`` rounds of hops of 256 mutants each.

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
        prices=LOW_PRICES,
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
        What each ascent reached, in the order they ran; NaN for failed ones. If they differ
        widely, the problem has many local optima.
    ends : array, shape (num ascents, P)
        Where each of them ended, before the transform.
    """

    best: AscentResult
    restart_objectives: np.ndarray
    ends: np.ndarray

    def joined(self, *parts: "SearchResult") -> "SearchResult":
        """Return this answer with the ascents of several searches."""
        reached = [one.restart_objectives for one in parts]
        ends = [one.ends for one in parts]
        return SearchResult(self.best, np.concatenate(reached), np.concatenate(ends))


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
        require_kind(self.search, Search, "search", "Search(...)")
        self._ascent = AscentProgram(self.problem, self.estimator, self.search.ascent)
        if self.search.needs_exact_objective and not self.estimator.is_exact:
            raise InvalidInputError(
                "num_candidates and num_hops compare exact objectives; this estimator has none",
                received=type(self.estimator).__name__,
                remedy="Search(num_starts=...) with continuation, or Exact()",
            )
        self._screen = jax.jit(self._objectives)
        self._draw_points = jax.jit(self._random_points)

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

        Under a JAX transformation the search is a part of the caller's program, and all leaves
        of the result are traced arrays.

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

        Raises
        ------
        InvalidInputError
            Under a JAX transformation, for a search that chooses candidates between ascents, and
            for followers outside compiled programs.
        FollowerError
            If an outside follower fails. Its ``finished`` holds the ascents that had ended.
        """
        traced = is_traced((parameters, key, start))
        if traced and (self.search.needs_exact_objective or self.estimator.runs_on_host):
            raise InvalidInputError(
                "screening, hops and outside followers cannot be part of a compiled program",
                received=self.search,
                remedy="ThreadExecutor or DaskExecutor, or Search(num_starts=...)",
            )

        keys = _search_keys(key)

        def ascend(entry: tuple[Any, Any]) -> AscentResult:
            number, point = entry
            return self._ascent.run(
                parameters,
                key=jax.random.fold_in(keys.run, number),
                start=self.problem.incentive.unflatten(point),
                context_key=keys.run,
                on_step=on_step,
            )

        points = self._starts(parameters, start, keys)
        if self._goes_through_prices:
            points.append(self._end_of_low_prices(points[0], parameters, keys.run))
        if traced:
            found = jax.lax.map(ascend, (jnp.arange(len(points)), jnp.stack(points)))
            return self._best_of(found)
        done: list[AscentResult] = []
        try:
            for point in points:
                done.append(ascend((len(done), point)))
        except FollowerError as error:
            error.finished = tuple(done)
            raise
        rng = np.random.default_rng(np.asarray(keys.hops))
        for _ in range(self.search.num_hops):
            best = max(done, key=attrgetter("worth"))
            mutants = self._mutants(self.problem.incentive.flatten(best.unconstrained), rng)
            worth = self._worth(mutants, parameters, keys.run)
            for index in np.argsort(-worth)[:HOPS_FOLLOWED]:
                done.append(ascend((len(done), mutants[index])))
        return self._best_of(jax.tree.map(lambda *leaves: np.stack(leaves), *done))

    @property
    def _goes_through_prices(self) -> bool:
        priced = self.problem.incentive_price_fn is not None
        return priced and bool(self.search.prices) and not self.estimator.runs_on_host

    def _end_of_low_prices(self, first: Any, parameters: Mapping[str, Any], key: Array) -> Any:
        space = self.problem.incentive
        end = self._ascent.from_low_prices(
            space.unflatten(first), parameters, prices=self.search.prices, key=key
        )
        flat = space.flatten(end)
        return flat if is_traced(flat) else np.asarray(flat)

    def _best_of(self, found: AscentResult) -> SearchResult:
        """Return the best of ascents that are stacked along the first axis of all leaves."""
        numeric = jnp if is_traced(found) else np
        failed = numeric.isin(found.status, numeric.array(FAILED_ASCENTS))
        best = numeric.argmax(numeric.where(failed, -numeric.inf, found.objective))
        chosen = jax.tree.map(lambda leaf: leaf[best], found).settled()
        leaves = [leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(found.unconstrained)]
        ends = numeric.concatenate(leaves, axis=1)
        return SearchResult(chosen, numeric.where(failed, numeric.nan, found.objective), ends)

    def _starts(self, parameters: Mapping[str, Any], start: Any, keys: "_Keys") -> list[Any]:
        """Return the first start (given or default) and the most promising random ones."""
        search, space = self.search, self.problem.incentive
        more = search.num_starts - 1
        first = None if start is None else space.flatten(start)
        random: Any = ()
        if first is None or more:
            drawn, random = self._draw_points(keys.starts)
            first = drawn if first is None else first
            random = random if is_traced(random) else np.asarray(random)
        if search.num_candidates and more:
            random = random[np.argsort(-self._worth(random, parameters, keys.run))[:more]]
        return [first, *random]

    def _random_points(self, key: Array) -> tuple[Array, Array]:
        """Return a start of the default scale, and the candidates, one per row."""
        search, space = self.search, self.problem.incentive
        first_key, key = jax.random.split(key)
        num = max(search.num_starts - 1, search.num_candidates)
        scales = np.resize(search.start_scales or (space.start_scale,), num)

        def point(one_key: Array, scale: Any) -> Array:
            spread = scale * self.problem.scale.incentive
            return space.flatten(space.random_start(one_key, spread))

        return point(first_key, space.start_scale), jax.vmap(point)(
            jax.random.split(key, num), scales
        )

    def _mutants(self, best: Any, rng: np.random.Generator) -> np.ndarray:
        shape = (self.search.num_mutants, best.size)
        touched = rng.random(shape) < self.search.hop_coordinates / best.size
        change = rng.normal(scale=self.search.hop_scale, size=shape)
        return best + touched * change * self.problem.scale.incentive

    def _worth(self, points: np.ndarray, parameters: Mapping[str, Any], key: Array) -> np.ndarray:
        """Return exact objectives; candidates and mutants share one program where they can."""
        common = math.gcd(self.search.num_candidates, self.search.num_mutants)
        size = common if common >= 16 else len(points)
        parts = points.reshape(-1, size, points.shape[1])
        return np.concatenate([self._screen(part, parameters, key) for part in parts])

    def _objectives(self, points: Array, parameters: Mapping[str, Any], key: Array) -> Array:
        def worth(point: Array) -> Array:
            unconstrained = self.problem.incentive.unflatten(point)
            outcome = leader_outcome(self.problem, unconstrained, parameters, key=key)
            return jnp.where(jnp.isfinite(outcome.objective), outcome.objective, -jnp.inf)

        return jax.lax.map(worth, points)


class _Keys(NamedTuple):
    """The random keys of a search."""

    starts: Array
    run: Array
    hops: Array  # as numbers


@jax.jit
def _search_keys(key: Array) -> _Keys:
    starts, run, hops = jax.random.split(key, 3)
    return _Keys(starts, run, jax.random.key_data(hops))
