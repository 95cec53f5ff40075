"""Followers who meet: what all of them do together enters what each of them faces."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from cbrl_bayes.errors import InvalidInputError, require_ranges
from cbrl_bayes.mdp import occupancy
from cbrl_bayes.problems.dependence import depends_on_input, is_weighted_sum
from cbrl_bayes.problems.incentive import Labels
from cbrl_bayes.problems.response import each_pair, respond
from cbrl_bayes.problems.roots import root_with_derivative
from cbrl_bayes.problems.shared_network import shared_network
from cbrl_bayes.status import SolveStatus

if TYPE_CHECKING:
    from cbrl_bayes.problems.record import Problem

POPULATION = "population"
"""Under this name the functions of a problem find the statistic among their parameters."""
SETTLED = 1e-8
"""Largest difference, relative to the statistic's size, that still counts as an equilibrium."""
APART = 1e-4
"""Equilibria that differ by less than this share of the statistic's size are one."""


@dataclass(frozen=True)
class Population:
    r"""A population statistic: what followers do together, and how it is made.

    The statistic is :math:`m = \sum_c P(c) \sum_f w_f\, g(x, \mu_{cf}, c, \theta_f)` with the
    expected visits :math:`\mu` of each follower f in each context c. All functions of the problem
    find it as ``parameters["population"]``. In **equilibrium** the followers respond at best to
    the statistic that their own responses make.

    Parameters
    ----------
    statistic_fn : callable
        ``(incentive, visits, context, parameters) -> array (n,)``: g, what one follower adds.
        ``visits`` (S, A) are expected visits, discounted with the follower's discount (without a
        discount: numbers of visits). It may not depend on the statistic itself.
    start : array, shape (n,)
        A first guess, for example an even split. It also says in which order of size each
        entry is: flows and a sum of money may stand side by side. An entry of zero counts as
        the largest one (``size``, if all are zero).
    size : float
        Number of followers (or of any unit that ``statistic_fn`` counts in): a factor on the
        sum, > 0.
    labels : Labels
        Names of the n entries.
    max_steps : int
        Limit of Newton steps, >= 1; and, where there are more than 20 numbers, of the responses to
        responses before them (30 at most).

    Notes
    -----
    The statistic is found by a trust-region Newton method (dogleg of optimistix, with the
    derivative of the best responses); one of more than 20 numbers by responding to responses,
    and by Newton's method only where that does not settle. It is differentiated by the implicit
    function theorem: no iteration is unrolled, and memory does not grow with their number.
    Several equilibria may exist: `equilibria` looks for them.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> Population(lambda incentive, visits, context, parameters: visits[0], jnp.zeros(2)).size
    1.0
    """

    statistic_fn: Callable[[Mapping[str, Any], Array, Any, Mapping[str, Any]], Array]
    start: Float[Array, " entry"]
    size: float = 1.0
    labels: Labels = field(default_factory=lambda: Labels(("entry",)))
    max_steps: int = 100

    def __post_init__(self) -> None:
        require_ranges(self, "numbers of a population", size="(0, inf)", max_steps=">= 1")
        start = np.asarray(self.start)
        if start.ndim != 1 or not start.size or not np.isfinite(start).all():
            raise InvalidInputError(
                "start of the population statistic is no list of finite numbers",
                received=f"shape {start.shape}",
                accepted="shape (n,), n >= 1",
            )

    @property
    def scale(self) -> Float[np.ndarray, " entry"]:
        """The order of size of each entry, as ``start`` says it."""
        sizes = np.abs(np.asarray(self.start, float))
        return np.where(sizes > 0.0, sizes, sizes.max() or self.size)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Equilibrium:
    """A population statistic that the responses to it make again.

    Attributes
    ----------
    statistic : array, shape (n,)
        m.
    residual : float
        Largest difference between m and what the responses to it make. Each entry is held
        against its own size: what is made, or its entry of ``start`` if that is larger (but the
        latter only as far as any entry is as large as its start).
    iterations : int
        Steps of the solver, responses to responses included.
    status : int
        Worst `SolveStatus` of the responses; if these are right, UNSETTLED where the residual is
        above 1e-8.
    """

    statistic: Float[Array, " entry"]
    residual: Float[Array, ""]
    iterations: Int[Array, ""]
    status: Int[Array, ""]


def equilibrium(
    problem: "Problem",
    incentive: Mapping[str, Any],
    parameters: Mapping[str, Any],
    *,
    key: Key[Array, ""] | None = None,
    start: Float[Array, " entry"] | None = None,
) -> Equilibrium:
    """Solve for the population statistic; differentiable in ``incentive`` and ``parameters``.

    Parameters
    ----------
    problem : Problem
        With a `Population`.
    incentive : mapping
        Readable, as the incentive's transform returns it.
    parameters : mapping
        All parameters (`Problem.complete_parameters`).
    key : typed key, optional
        Needed where contexts are sampled.
    start : array, shape (n,), optional
        Where to begin. Default: the population's.

    Returns
    -------
    Equilibrium
    """
    population = _population_of(problem)
    _check_given(problem, incentive, parameters, start)
    first = jnp.asarray(population.start if start is None else start, float)
    given: tuple[dict[str, Any], dict[str, Any]] = (dict(incentive), dict(parameters))
    fixed = jax.lax.stop_gradient(given)
    scale = population.scale

    def gap(share: Array) -> Array:
        made, _ = statistic_of_responses(problem, given[0], given[1], share * scale, key=key)
        return made / scale - share

    share, iterations = root_with_derivative(gap, first / scale, population.max_steps)
    again, status = statistic_of_responses(
        problem, fixed[0], fixed[1], jax.lax.stop_gradient(share) * scale, key=key
    )
    off, size = jnp.abs(again / scale - jax.lax.stop_gradient(share)), jnp.abs(again / scale)
    size = jnp.maximum(size, jnp.minimum(size.max(), 1.0))
    residual = (off / jnp.where(size > 0.0, size, 1.0)).max()
    unsettled = jnp.where(residual <= SETTLED, 0, int(SolveStatus.UNSETTLED))
    status = jnp.where(status > 0, status, unsettled)  # what failed first says more
    return Equilibrium(share * scale, residual, iterations, status)


def settled(
    problem: "Problem",
    incentive: Mapping[str, Any],
    parameters: Mapping[str, Any],
    *,
    key: Key[Array, ""] | None = None,
) -> dict[str, Any]:
    """Return the parameters with the population statistic of the incentive among them.

    Unchanged for a problem whose followers do not meet, or where the statistic is given. A
    statistic that is not settled is NaN, so that every solve under it says NOT_FINITE.
    """
    given, status = settle(problem, incentive, parameters, key=key)
    if POPULATION in given:
        given[POPULATION] = jnp.where(status == 0, given[POPULATION], jnp.nan)
    return given


def start_of_crowd(problem: "Problem", parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters with the population's first guess, unless a statistic is given.

    For looking at what a problem's functions depend on, where followers meet.
    """
    if problem.population is None:
        return dict(parameters)
    return {POPULATION: jnp.asarray(problem.population.start, float), **parameters}


def settle(
    problem: "Problem",
    incentive: Mapping[str, Any],
    parameters: Mapping[str, Any],
    *,
    key: Key[Array, ""] | None = None,
) -> tuple[dict[str, Any], Int[Array, ""]]:
    """Return the parameters with the population statistic, and how its search ended.

    As `settled`, with a statistic that is not settled as the search left it.
    """
    if problem.population is None:
        return dict(parameters), jnp.zeros((), int)
    if POPULATION in parameters:
        given, wanted = np.shape(parameters[POPULATION]), np.shape(problem.population.start)
        if given != wanted:
            raise InvalidInputError(
                "the population statistic that is given has the wrong shape",
                received=given,
                accepted=str(wanted),
            )
        return dict(parameters), jnp.zeros((), int)
    found = equilibrium(problem, incentive, parameters, key=key)
    return {**parameters, POPULATION: found.statistic}, found.status


def statistic_of_responses(
    problem: "Problem",
    incentive: Mapping[str, Any],
    parameters: Mapping[str, Any],
    statistic: Float[Array, " entry"],
    *,
    key: Key[Array, ""] | None = None,
) -> tuple[Float[Array, " entry"], Int[Array, ""]]:
    """Return what the best responses to a statistic make, and the worst status of the solves."""
    population = _population_of(problem)
    values, weights = problem.contexts.support(parameters, key)
    mass = weights[:, None] * jnp.asarray(problem.followers.weights) * population.size
    everyone = {**parameters, POPULATION: statistic}
    by_one_solve = [
        _from_one_network(problem, incentive, values, everyone, who, mass[:, who])
        for who in range(problem.followers.num_followers)
    ]
    possible = [each for each in by_one_solve if each is not None]
    if len(possible) == len(by_one_solve):
        made, status = (jnp.stack(parts) for parts in zip(*possible, strict=True))
        return made.sum(0), status.max()

    def one_pair(entry: tuple) -> tuple[Array, Array]:
        (context, who), weight = entry
        one = problem.follower_parameters(everyone, who)
        mdp, response = respond(problem, incentive, context, one)
        visits = occupancy(mdp, response.policy)
        added = population.statistic_fn(incentive, visits, context, one)
        return weight * added, response.status

    pairs = each_pair(values, weights.shape[0], problem)
    made, status = jax.lax.map(one_pair, (pairs, mass.ravel()))
    return made.sum(0), status.max()


def _from_one_network(
    problem: "Problem",
    incentive: Mapping[str, Any],
    contexts: Any,
    parameters: Mapping[str, Any],
    who: int,
    mass: Float[Array, " context"],
) -> tuple[Float[Array, " entry"], Int[Array, ""]] | None:
    """Return what one follower adds in all contexts, by one solve for all, and its status.

    None unless contexts share a network (`shared_network`) and what visits add is a weighted sum
    of them, the same in all contexts: only then it is enough to know all visits together.
    """
    one = problem.follower_parameters(parameters, who)
    network = shared_network(problem, incentive, contexts, one)
    if network is None:
        return None
    statistic_fn = _population_of(problem).statistic_fn
    context = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], contexts)

    def added(visits: Array, context: Any = context) -> Array:
        return statistic_fn(incentive, visits, context, one)

    if not is_weighted_sum(added, network.reward) or depends_on_input(
        lambda context: added(network.reward, context), context
    ):
        return None
    initial = jax.vmap(lambda context: problem.mdp_fn(incentive, context, one).initial)(contexts)
    visits, status = network.visits(mass[:, None] * initial)
    constant = added(jnp.zeros_like(visits))
    return added(visits) + (mass.sum() - 1.0) * constant, status


def equilibria(
    problem: "Problem",
    incentive: Mapping[str, Any],
    parameters: Mapping[str, Any] | None = None,
    *,
    key: Key[Array, ""],
    num_starts: int = 16,
) -> list[Equilibrium]:
    """Look for equilibria from many statistics, and return those that are different.

    Starts are the population's own, what followers make who respond to it, and random
    statistics between nothing and twice the largest of these. An equilibrium that was not found
    may exist all the same.

    Parameters
    ----------
    problem : Problem
        With a `Population`.
    incentive : mapping
        Readable.
    parameters : mapping, optional
        Default: the problem's.
    key : typed key
    num_starts : int
        >= 2.

    Returns
    -------
    list of Equilibrium
        Settled ones alone, in the order found; empty where none settled.
    """
    population = _population_of(problem)
    require_ranges({"num_starts": num_starts}, "the search", num_starts=">= 2")
    given = problem.complete_parameters(parameters)
    incentive = {name: jnp.asarray(value) for name, value in incentive.items()}
    own = jnp.asarray(population.start, float)
    made, _ = statistic_of_responses(problem, incentive, given, own, key=key)
    scale = population.scale
    most = 2.0 * scale * (jnp.maximum(jnp.abs(own), jnp.abs(made)) / scale).max()
    random = jax.random.uniform(key, (num_starts - 2, own.size)) * most
    solve = jax.jit(lambda start: equilibrium(problem, incentive, given, key=key, start=start))
    found: list[Equilibrium] = []
    for start in [own, made, *random]:
        one = solve(start)
        size = float((jnp.abs(one.statistic) / scale).max()) or 1.0
        new = all(
            float((jnp.abs(e.statistic - one.statistic) / scale).max()) > APART * size
            for e in found
        )
        if int(one.status) == SolveStatus.CONVERGED and new:
            found.append(one)
    return found


def refuse_population(problem: "Problem", what: str, remedy: str) -> None:
    """Raise where followers meet and what is asked for takes them one at a time."""
    if problem.population is not None:
        raise InvalidInputError(
            f"followers of problem {problem.name!r} meet (it has a population statistic); "
            f"{what} takes them one at a time",
            remedy=remedy,
        )


def _check_given(
    problem: "Problem", incentive: Mapping[str, Any], parameters: Mapping[str, Any], start: Any
) -> None:
    """Refuse names that are missing, and a start of another shape."""
    for what, wanted, found in (
        ("parts of the incentive", problem.incentive.labels, incentive),
        ("parameters", problem.default_parameters, parameters),
    ):
        missing = sorted(set(wanted) - set(found))
        if missing:
            raise InvalidInputError(
                f"{what} are missing: {', '.join(missing)}",
                received=", ".join(map(str, found)) or "none",
                remedy="problem.complete_parameters({name: value}) for parameters",
            )
    for name, shape in problem.incentive.shapes.items():
        if np.shape(incentive[name]) != shape:
            raise InvalidInputError(
                f"the incentive {name!r} has the wrong shape",
                received=np.shape(incentive[name]),
                accepted=str(shape),
            )
    size = np.shape(_population_of(problem).start)
    if start is not None and np.shape(start) != size:
        raise InvalidInputError(
            "start is no population statistic", received=np.shape(start), accepted=str(size)
        )


def _population_of(problem: "Problem") -> Population:
    if problem.population is None:
        raise InvalidInputError(
            f"problem {problem.name!r} has no population statistic",
            accepted="Problem(population=cb.Population(...))",
        )
    return problem.population
