"""What a problem must be: parameters, functions and labels that fit together, all traceable."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from cbrl_bayes.errors import CbrlBayesError, InvalidInputError, as_numbers, require_kind
from cbrl_bayes.mdp import MDP, check_ends, is_traced
from cbrl_bayes.problems.calling import NEEDS_A_VALUE, failed, needs_a_value
from cbrl_bayes.problems.contexts import DiscreteContexts, SampledContexts
from cbrl_bayes.problems.dependence import depends_on_input
from cbrl_bayes.problems.equilibrium import POPULATION, Population
from cbrl_bayes.problems.history import check_history
from cbrl_bayes.problems.incentive import IncentiveSpace
from cbrl_bayes.problems.names import check_names
from cbrl_bayes.problems.population import Followers
from cbrl_bayes.problems.shared_network import shared_network
from cbrl_bayes.status import SolveStatus

if TYPE_CHECKING:
    from cbrl_bayes.problems.record import Problem


def completed(problem: "Problem", given: Mapping[str, Any] | None) -> dict[str, Array]:
    """Return the defaults with ``given`` put in; see `Problem.complete_parameters`."""
    require_kind(given, Mapping | None, "parameters", "{'temperature': 0.5}")
    parameters = problem.default_parameters
    for name, value in (given or {}).items():
        if name not in parameters:
            raise InvalidInputError(
                f"problem {problem.name!r} has no parameter {name!r}",
                accepted=", ".join(sorted(parameters)),
            )
        array = as_numbers(f"parameter {name!r}", value)
        shapes = {np.shape(parameters[name])}
        if name in problem.per_follower:
            shapes |= {(), (problem.followers.num_followers,)}
        if array.shape not in shapes or not np.isfinite(array).all():
            raise InvalidInputError(
                f"parameter {name!r} cannot be used",
                received=value,
                accepted=f"finite, shape {' or '.join(map(str, sorted(shapes)))}",
            )
        low, high = problem.ranges.get(name, (-np.inf, np.inf))
        if not ((low < array) & (array < high)).all():
            raise InvalidInputError(
                f"parameter {name!r} is out of its range",
                received=value,
                accepted=f"between {low:g} and {high:g}, both excluded",
            )
        if name == "temperature" and (array <= 0).any():
            raise InvalidInputError(
                "temperature is not positive",
                received=value,
                accepted="> 0 (temperature is lambda, rationality is 1/lambda)",
            )
        parameters[name] = jnp.asarray(array)
    for name in {"context_probability", *problem.laws} & set(parameters):
        if not _is_distribution(parameters[name]):
            raise InvalidInputError(
                f"parameter {name!r} is not a distribution",
                received=np.asarray(parameters[name]).tolist(),
                accepted="numbers >= 0 that sum to one"
                + (" in each row" if np.ndim(parameters[name]) > 1 else ""),
            )
    return parameters


def check_parameters(problem: "Problem") -> None:
    """Raise unless names, defaults, uncertain names and values per follower fit together."""
    _check_kinds(problem)
    if "temperature" not in problem.parameters and problem.uncertain == ("temperature",):
        object.__setattr__(problem, "uncertain", ())
    check_names(problem)
    known = problem.default_parameters
    for name in problem.per_follower:
        shape = np.shape(known.get(name, 0.0))
        if shape not in ((), (problem.followers.num_followers,)):
            raise InvalidInputError(
                f"parameter {name!r} does not fit the followers",
                received=shape,
                accepted=f"a scalar or {problem.followers.num_followers} values",
            )


def _check_kinds(problem: "Problem") -> None:
    """Refuse parts of another kind, and defaults that are no finite numbers."""
    require_kind(problem.incentive, IncentiveSpace, "incentive")
    require_kind(problem.contexts, DiscreteContexts | SampledContexts, "contexts")
    require_kind(problem.followers, Followers, "followers")
    require_kind(problem.population, Population | None, "population", "cb.Population(...)")
    if POPULATION in {*problem.parameters, *getattr(problem.contexts, "parameters", {})}:
        raise InvalidInputError(
            "no parameter can be called 'population': there functions find what followers do "
            "together",
            remedy="another name",
        )
    if not callable(problem.mdp_fn):
        raise InvalidInputError("mdp_fn is no function", received=repr(problem.mdp_fn))
    require_kind(problem.parameters, Mapping, "parameters", "{'temperature': 0.5}")
    for name, value in {
        **problem.parameters,
        **getattr(problem.contexts, "parameters", {}),
    }.items():
        if not is_traced(value) and not np.isfinite(as_numbers(f"parameter {name!r}", value)).all():
            raise InvalidInputError(
                f"parameter {name!r} has a default that is not finite", received=value
            )


def check_functions(problem: "Problem") -> tuple[int, int, int]:
    """Return S, A and K, after running and tracing every function of the problem once."""
    if problem.aggregate is not None:
        table = jnp.ones((1, problem.followers.num_followers))
        shape = jnp.shape(problem.aggregate(table, table, table / table.size))
        if shape != ():
            raise InvalidInputError(
                "the aggregate is not one number",
                received=f"shape {shape}",
                accepted="a scalar from three arrays (context, follower)",
            )
    mdp, given = _check_values(problem, 0)
    S, A, K = mdp.transition.probability.shape
    _check_labels(problem, S, A)
    _check_programs(problem, *given, mdp)
    for follower in problem.all_followers[1:]:
        other, _ = _check_values(problem, follower)
        _check_shapes([(S, A, K), other.transition.probability.shape])
    return S, A, K


def _check_values(problem: "Problem", follower: int) -> tuple[MDP, tuple[Any, Any, Any]]:
    """Run the functions in every context; return the last process, and what it was made from."""
    parameters = problem.first_parameters
    incentive = problem.incentive.transform(problem.incentive.initial)
    values, _ = problem.contexts.support(parameters, jax.random.key(0))
    one = problem.follower_parameters(parameters, follower)
    shapes: list[tuple[int, ...]] = []
    for index in range(problem.contexts.num_contexts):
        if index == 1 and _all_alike(problem, incentive, values, one):
            break
        context = jax.tree.map(lambda leaf, i=index: jnp.asarray(leaf)[i], values)
        mdp = _called(problem, "mdp_fn", incentive, context, one)
        if not isinstance(mdp, MDP):
            raise InvalidInputError(
                "mdp_fn does not return an MDP",
                received=type(mdp).__name__,
                remedy="return MDP(reward=..., transition=..., ...)",
            )
        shapes.append(mdp.transition.probability.shape)
        if not is_traced(mdp) and 1.0 in (float(mdp.discount), float(problem.leader_discount)):
            check_ends(mdp, _state_names(problem, mdp.num_states))
        check_history(problem, mdp)
        for name in ("leader_reward_fn", "incentive_price_fn"):
            _check_finite(name, _called(problem, name, incentive, context, one))
    _check_shapes(shapes)
    return mdp, (incentive, context, one)


def _all_alike(problem: "Problem", incentive: Any, values: Any, parameters: Any) -> bool:
    """Return whether the first context stands for all: they share a network, and it is solved.

    One solve for all contexts says whether every path ends and below the critical temperature.
    """
    if problem.leader_reward_fn is not None or is_traced(parameters):
        return False
    network = shared_network(problem, incentive, values, parameters)
    if network is None:
        return False
    first_laws = jax.vmap(lambda context: problem.mdp_fn(incentive, context, parameters).initial)
    initial = first_laws(jax.tree.map(jnp.asarray, values))
    proper = (initial >= 0.0).all() & (jnp.abs(initial.sum(-1) - 1.0) <= 1e-8).all()
    solved = (network.solve().status == int(SolveStatus.CONVERGED)).all()
    return bool(proper & solved & network.available.any(-1).all())


def _state_names(problem: "Problem", num_states: int) -> Sequence[object] | None:
    """Return one text for each state, where some coordinate has one."""
    for dims, values in problem.state_labels.coords.values():
        if len(dims) == 1 and len(values) == num_states and isinstance(values[0], str):
            return values
    return None


def _check_shapes(shapes: list[tuple[int, ...]]) -> None:
    if len(set(shapes)) > 1:
        raise InvalidInputError(
            "mdp_fn returns MDPs of different shapes", received=sorted(set(shapes))
        )


def asks_who(problem: "Problem") -> bool:
    """Return whether what a function returns can depend on ``parameters["follower"]``."""
    parameters = problem.first_parameters
    incentive = problem.incentive.transform(problem.incentive.initial)
    values, _ = problem.contexts.support(parameters, jax.random.key(0))
    context = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], values)

    def all_of_it(follower: Array) -> list[Any]:
        one = problem.follower_parameters(parameters, 0) | {"follower": follower}
        mdp = problem.mdp_fn(incentive, context, one)
        found: list[Any] = [mdp]
        for function in (problem.leader_reward_fn, problem.incentive_price_fn):
            found.append(None if function is None else function(incentive, context, one))
        if problem.objective_fn is not None:
            uniform = jnp.exp(mdp.uniform_log_policy)
            found.append(problem.objective_fn(incentive, uniform, context, one))
        if problem.response_fn is not None:
            found.append(problem.response_fn(mdp, one, None))
        return found

    return depends_on_input(all_of_it, jnp.asarray(0))


def _check_labels(problem: "Problem", S: int, A: int) -> None:
    misfit = problem.state_labels.misfit((S,))
    if misfit:
        raise InvalidInputError(f"state_labels do not fit the {S} states", received=misfit)
    if problem.action_names and len(problem.action_names) != A:
        raise InvalidInputError(
            "action_names do not fit the MDP",
            received=f"{len(problem.action_names)} names",
            accepted=f"{A}, one per action",
        )


def _check_programs(
    problem: "Problem",
    incentive: Mapping[str, Any],
    context: Any,
    parameters: Mapping[str, Any],
    mdp: MDP,
) -> None:
    """Trace every function, as all later computations do, and check what it returns."""
    S, A = mdp.transition.probability.shape[:2]
    table = jnp.zeros((S, A))
    given = dict(incentive), context, parameters
    _traced_shape(problem, "mdp_fn", *given)
    for name in ("leader_reward_fn", "incentive_price_fn"):
        shape = _traced_shape(problem, name, *given)
        if shape not in (None, (S, A)):
            per_state = f"jnp.broadcast_to({name.split('_')[1]}[:, None], {(S, A)})"
            raise InvalidInputError(
                f"{name} returns an array of the wrong shape",
                received=shape,
                accepted=f"{(S, A)}, one number for each state and action",
                remedy=per_state if shape == (S,) else "",
            )
    shape = _traced_shape(problem, "objective_fn", given[0], table + 1.0 / A, *given[1:])
    if shape not in (None, ()):
        raise InvalidInputError(
            "objective_fn does not return one number", received=f"shape {shape}"
        )
    _traced_shape(problem, "response_fn", mdp, parameters, None)
    if problem.population is not None:
        _check_statistic(problem, given[0], table, context, parameters)


def _check_statistic(problem: "Problem", *arguments: Any) -> None:
    """Refuse a population whose statistic has another shape than its first guess."""
    population = problem.population
    assert population is not None
    wanted = np.shape(population.start)
    incentive, visits, context, parameters = arguments
    own = {name: value for name, value in parameters.items() if name != POPULATION}
    try:
        traced = jax.eval_shape(population.statistic_fn, incentive, visits, context, own)
    except KeyError as error:
        raise InvalidInputError(
            f"statistic_fn asks for {error}, which is not among the parameters",
            accepted="the problem's own parameters, not the statistic itself",
        ) from error
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise InvalidInputError(
            f"statistic_fn fails ({type(error).__name__}: {str(error).splitlines()[0]})",
            accepted="(incentive, visits, context, parameters) -> array, in jax.numpy",
        ) from error
    found = getattr(traced, "shape", None)
    if found != wanted:
        raise InvalidInputError(
            "statistic_fn returns an array of the wrong shape",
            received=type(traced).__name__ if found is None else found,
            accepted=f"{wanted}, as start",
        )
    misfit = population.labels.misfit(wanted)
    if misfit:
        raise InvalidInputError("labels of the population do not fit", received=misfit)


def _called(problem: "Problem", name: str, *arguments: Any) -> Any:
    """Return what one of the user's functions returns; say in one line how it fails."""
    function = getattr(problem, name)
    try:
        return None if function is None else function(*arguments)
    except (CbrlBayesError, *NEEDS_A_VALUE):
        raise
    except Exception as error:
        raise failed(name, error, "a function of (incentive, context, parameters)") from error


def _check_finite(name: str, values: Any) -> None:
    if values is None or is_traced(values):
        return
    wrong = np.argwhere(~np.isfinite(np.asarray(values)))
    if len(wrong):
        place = tuple(wrong[0].tolist())
        raise InvalidInputError(
            f"{name} returns what is no finite number",
            received=f"{np.asarray(values)[place]} at [state, action] = {list(place)}",
            accepted="finite numbers, at the start and for the default parameters",
        )


def _traced_shape(problem: "Problem", name: str, *arguments: Any) -> tuple[int, ...] | None:
    """Return the shape of a function's array; None if it returns no array or does not exist."""
    function = getattr(problem, name)
    if function is None:
        return None
    try:
        return getattr(jax.eval_shape(function, *arguments), "shape", None)
    except NEEDS_A_VALUE as error:
        raise needs_a_value(name, function, error) from error


def _is_distribution(value: Any) -> bool:
    """Return whether all rows along the last axis are distributions."""
    array = np.asarray(value)
    return array.ndim > 0 and bool((array >= 0).all() and (abs(array.sum(-1) - 1.0) < 1e-8).all())
