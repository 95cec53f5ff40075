"""The record of a contextual bilevel problem: leader, contexts, followers, and the map to MDPs."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cbrl_bayes.errors import InvalidInputError, require_ranges
from cbrl_bayes.mdp import MDP, BestResponse, is_traced
from cbrl_bayes.problems.checks import asks_who, check_functions, check_parameters, completed
from cbrl_bayes.problems.contexts import ContextDistribution, SampledContexts
from cbrl_bayes.problems.equilibrium import POPULATION, Population
from cbrl_bayes.problems.heat import PLACE_OF_PARAMETERS, Heated, Priced
from cbrl_bayes.problems.history import History
from cbrl_bayes.problems.incentive import IncentiveSpace, Labels
from cbrl_bayes.problems.population import Followers
from cbrl_bayes.problems.scale import Scale, find_scale
from cbrl_bayes.problems.welfare import Aggregate

Incentive = Mapping[str, Any]
Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Problem:
    """A contextual bilevel reinforcement learning problem.

    The leader picks an incentive x; nature draws a context xi; follower i then solves the MDP
    ``mdp_fn(x, xi, parameters)``. The leader **maximises** the expectation over contexts of the
    weighted sum over followers of either its own discounted reward under the follower's policy
    (``leader_reward_fn``) or of any differentiable ``objective_fn``.

    Parameters
    ----------
    name : str
        Short name, used in files and tables.
    incentive : IncentiveSpace
        What the leader chooses.
    contexts : DiscreteContexts or SampledContexts
        What nature draws.
    mdp_fn : callable
        ``(incentive, context, parameters) -> MDP``; ``parameters`` are one follower's, and
        ``parameters["follower"]`` is the number (0, 1, ..., traced) of the follower whose they are.
        All functions below that take one follower's parameters are told it too.
    parameters : mapping
        What the leader may not know, beside the context law: name -> default value. Most
        problems have ``temperature`` (lambda > 0, units of the follower's reward; rationality is
        1/lambda). All followers share a value unless its name is in ``per_follower``.
    leader_reward_fn : callable, optional
        ``(incentive, context, parameters) -> array (S, A)``: the leader's reward before price.
    incentive_price_fn : callable, optional
        ``(incentive, context, parameters) -> array (S, A)``: what the incentive costs the
        leader in each state and action, in the unit of its reward; subtracted.
    leader_discount : float
        gamma_U in [0, 1]. With 1 every path must end (`cbrl_bayes.mdp.check_ends`).
    objective_fn : callable, optional
        ``(incentive, policy, context, parameters) -> scalar`` to be maximised, in place of the
        two above; ``parameters`` are one follower's.
    aggregate : Aggregate, optional
        ``(gain, value, mass) -> scalar`` to be maximised, all of shape (C, F), in place of the
        weighted sum of gains over contexts and followers (`SocialWelfare`). Estimators: `Exact`,
        or `ZerothOrder` with ``num_rollouts=None``.
    per_follower : tuple of str
        Names of parameters that may have one value per follower.
    followers : Followers
        Names and weights.
    state_labels : Labels
        One-dimensional labels of the states.
    action_names : tuple of str
        One per action.
    objective_unit : str
        Unit of the leader's objective.
    parameter_units : mapping
        Parameter name -> unit.
    derived_fn : callable, optional
        ``parameters -> {name: value}`` to report beside the parameters. Default: rationality
        (1 / temperature) where there is a temperature.
    laws : tuple of str
        Names of parameters that are distributions along their last axis, beside the context law.
    ranges : mapping
        Parameter name -> (low, high), both excluded; a temperature is positive anyway.
    uncertain : tuple of str
        Names of the parameters that `infer` estimates by default, beside the context law.
    response_fn : callable, optional
        ``(mdp, parameters, initial values or None) -> BestResponse``, differentiable, in place of
        the best response (`follower_models`). Estimators: as with an ``aggregate``. A `History`
        is one of followers who remember.
    population : Population, optional
        What followers do together; all functions find it as ``parameters["population"]``.
        Estimators: as with an ``aggregate``.
    heat : float
        Factor by which `heated` has multiplied every temperature (lambda); leave it at 1.

    Raises
    ------
    InvalidInputError
        If the functions do not fit together; the MDP of every context is built and checked.

    See Also
    --------
    cbrl_bayes.problems.two_state : a complete problem in some thirty lines.
    """

    name: str
    incentive: IncentiveSpace
    contexts: ContextDistribution
    mdp_fn: Callable[[Incentive, Any, Parameters], MDP]
    parameters: Parameters
    leader_reward_fn: Callable[[Incentive, Any, Parameters], Array] | None = None
    incentive_price_fn: Callable[[Incentive, Any, Parameters], Array] | None = None
    leader_discount: float = 0.99
    objective_fn: Callable[[Incentive, Array, Any, Parameters], Array] | None = None
    aggregate: Aggregate | None = None
    per_follower: tuple[str, ...] = ("temperature",)
    followers: Followers = field(default_factory=Followers)
    state_labels: Labels = field(default_factory=lambda: Labels(("state",)))
    action_names: tuple[str, ...] = ()
    objective_unit: str = ""
    parameter_units: Mapping[str, str] = field(default_factory=dict)
    derived_fn: Callable[[Parameters], Mapping[str, Array]] | None = None
    laws: tuple[str, ...] = ()
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    uncertain: tuple[str, ...] = ("temperature",)
    response_fn: Callable[[MDP, Parameters, Array | None], BestResponse] | None = None
    population: Population | None = None
    heat: Array | float = field(repr=False, default=1.0)
    _shape: tuple[int, int, int] = field(init=False, repr=False, default=(0, 0, 0))

    def __post_init__(self) -> None:
        if (self.leader_reward_fn is None) == (self.objective_fn is None):
            raise InvalidInputError(
                "a problem needs exactly one of leader_reward_fn and objective_fn"
            )
        require_ranges(self, "numbers of the problem", leader_discount="[0, 1]")
        check_parameters(self)
        object.__setattr__(self, "_shape", check_functions(self))

    @property
    def num_states(self) -> int:
        """Number of states S."""
        return self._shape[0]

    @property
    def num_actions(self) -> int:
        """Number of actions A."""
        return self._shape[1]

    @property
    def num_successors(self) -> int:
        """Number of successors K that the transition law lists for each pair."""
        return self._shape[2]

    @cached_property
    def tells_followers_apart(self) -> bool:
        """Whether some function depends on ``parameters["follower"]``, read off its program."""
        return asks_who(self)

    @property
    def all_followers(self) -> range:
        """The followers who must be looked at to see all that the functions do.

        All of them if the functions tell them apart; else the first, who stands for everyone.
        """
        num = self.followers.num_followers
        return range(num if num > 1 and self.tells_followers_apart else 1)

    @property
    def history(self) -> History | None:
        """How followers remember; None where they respond to the present alone."""
        response = self.response_fn
        while isinstance(response, Heated):
            response = response.function
        return response if isinstance(response, History) else None

    @cached_property
    def scale(self) -> Scale:
        """What counts as a step of the incentive and of the objective; found when first asked."""
        with jax.ensure_compile_time_eval():  # it may first be asked for inside a program
            return find_scale(self)

    def derived(self, parameters: Parameters) -> dict[str, Array]:
        """Return quantities worth reporting that follow from the parameters."""
        if self.derived_fn is not None:
            return dict(self.derived_fn(parameters))
        if "temperature" in parameters:
            return {"rationality": 1.0 / jnp.asarray(parameters["temperature"])}
        return {}

    def with_followers(self, names: tuple[str, ...], weights: tuple[float, ...]) -> "Problem":
        """Return the same problem with other followers, e.g. the groups found in data."""
        return replace(self, followers=Followers(names, weights))

    @property
    def default_parameters(self) -> dict[str, Array]:
        """All parameters at their defaults, the context law included."""
        own = {name: jnp.asarray(value, float) for name, value in self.parameters.items()}
        return own | self.contexts.default_parameters

    @property
    def first_parameters(self) -> dict[str, Array]:
        """The defaults, and the first guess of the population statistic where there is one."""
        if self.population is None:
            return self.default_parameters
        return self.default_parameters | {POPULATION: jnp.asarray(self.population.start, float)}

    def complete_parameters(self, given: Parameters | None = None) -> dict[str, Array]:
        """Return the defaults with ``given`` put in, after checking names, shapes and ranges.

        Parameters
        ----------
        given : mapping, optional
            Parameter name -> value.

        Raises
        ------
        InvalidInputError
            For an unknown name, a wrong shape, a value that is not finite, a temperature that
            is not positive, or context probabilities or ``laws`` that are not distributions.
        """
        return completed(self, given)

    def heated(self, factor: Array | float) -> "Problem":
        """Return the same problem with every follower's lambda multiplied by ``factor``.

        All functions of the problem then see the parameter ``temperature`` times the factor. In
        a problem without this parameter the temperature of the MDP is multiplied.

        Parameters
        ----------
        factor : float
            > 0 and finite; may be traced.

        Raises
        ------
        InvalidInputError
            For another factor, where it is not traced.

        Examples
        --------
        >>> from cbrl_bayes.problems import two_state
        >>> hot = two_state().heated(4.0)
        >>> float(hot.mdp_fn({"bonus": 1.0}, 0.5, hot.default_parameters).temperature)
        1.0
        """
        if not is_traced(factor):
            require_ranges({"factor": factor}, "numbers of heated", factor="(0, inf)")
        hot = copy.copy(self)  # nothing to check again, and a traced factor could not be
        changes: dict[str, Any] = {"heat": self.heat * factor}
        for name, place in PLACE_OF_PARAMETERS.items():
            function = getattr(self, name)
            if function is not None:
                changes[name] = Heated(function, factor, place)
        if isinstance(self.contexts, SampledContexts):
            sample_fn = Heated(self.contexts.sample_fn, factor, 0)
            changes["contexts"] = replace(self.contexts, sample_fn=sample_fn)
        for name, value in changes.items():
            object.__setattr__(hot, name, value)
        return hot

    def priced(self, factor: Array | float) -> "Problem":
        """Return the same problem with the price of the incentive multiplied by ``factor``.

        Parameters
        ----------
        factor : float
            >= 0; may be traced.

        Raises
        ------
        InvalidInputError
            For a problem that states no price.

        Examples
        --------
        >>> from cbrl_bayes.problems import four_rooms
        >>> cheap = four_rooms(penalty_weight=5.0).priced(0.1)
        >>> at = cheap.incentive.transform(cheap.incentive.initial), 0, cheap.default_parameters
        >>> round(float(cheap.incentive_price_fn(*at)[0, 0]), 3)
        0.099
        """
        if self.incentive_price_fn is None:
            raise InvalidInputError(
                f"problem {self.name!r} states no price of its incentive",
                accepted="a problem with incentive_price_fn",
                remedy="an ascent without price_continuation",
            )
        cheap = copy.copy(self)  # nothing to check again, and a traced factor could not be
        object.__setattr__(cheap, "incentive_price_fn", Priced(self.incentive_price_fn, factor))
        return cheap

    def follower_parameters(self, parameters: Parameters, follower: Any) -> dict[str, Any]:
        """Return the parameters that one follower (an index, may be traced) acts on.

        ``follower`` itself is among them, so that the problem's functions can tell who responds.

        Examples
        --------
        >>> from cbrl_bayes.problems import two_state
        >>> problem = two_state().with_followers(("calm", "rash"), (0.5, 0.5))
        >>> one = problem.follower_parameters({"temperature": jnp.array([0.1, 0.4])}, 1)
        >>> float(one["temperature"]), int(one["follower"])
        (0.4, 1)
        """
        own = {
            name: value[follower] if name in self.per_follower and jnp.ndim(value) == 1 else value
            for name, value in parameters.items()
        }
        return {**own, "follower": jnp.asarray(follower)}

    def leader_net_reward(
        self, incentive: Incentive, context: Any, parameters: Parameters
    ) -> Float[Array, "state action"]:
        """Return the leader's reward less the price of the incentive, shape (S, A)."""
        if self.leader_reward_fn is None:
            raise InvalidInputError(
                f"problem {self.name!r} has an objective_fn; this needs a leader_reward_fn",
                remedy="an estimator that takes any objective: Exact, LearnedModel, HPGD, SoBiRL, "
                "Penalty, or ZerothOrder(num_rollouts=None)",
            )
        reward = self.leader_reward_fn(incentive, context, parameters)
        if self.incentive_price_fn is None:
            return reward
        return reward - self.incentive_price_fn(incentive, context, parameters)

    def refuse_aggregate(self) -> None:
        """Raise where the objective is no weighted sum over followers and contexts."""
        if self.aggregate is not None:
            raise InvalidInputError(
                f"problem {self.name!r} has an aggregate; it cannot be estimated one "
                "follower at a time",
                received=self.aggregate,
                remedy="Exact() or ZerothOrder(num_rollouts=None); scores by ExactEvaluation()",
            )

    def signature(self) -> list[Array]:
        """Return what identifies the problem: its arrays at the start and default parameters."""
        parameters = self.first_parameters
        incentive = self.incentive.transform(self.incentive.initial)
        values, weights = self.contexts.support(parameters, jax.random.key(0))
        arrays = [weights, *jax.tree.leaves(values), *incentive.values(), *parameters.values()]
        arrays += [jnp.asarray(self.followers.weights), jnp.asarray(self.leader_discount)]
        if self.aggregate is not None:
            shape = (weights.shape[0], self.followers.num_followers)
            probe = jnp.arange(1.0, 1.0 + weights.shape[0] * shape[1]).reshape(shape)
            arrays.append(self.aggregate(probe, probe[::-1] ** 2, probe / probe.sum()))
        if self.population is not None:
            arrays += [jnp.asarray(self.population.size), jnp.asarray(self.population.start)]
        pairs = product(self.all_followers, range(self.contexts.num_contexts))
        for follower, index in pairs:
            one = self.follower_parameters(parameters, follower)
            context = jax.tree.map(lambda leaf, i=index: jnp.asarray(leaf)[i], values)
            mdp = self.mdp_fn(incentive, context, one)
            arrays += jax.tree.leaves(mdp)
            if self.population is not None:
                visits = jnp.exp(mdp.uniform_log_policy)
                arrays.append(self.population.statistic_fn(incentive, visits, context, one))
            if self.response_fn is not None:
                arrays.append(self.response_fn(mdp, one, None).log_policy)
            if self.leader_reward_fn is not None:
                arrays.append(self.leader_net_reward(incentive, context, one))
            if self.objective_fn is not None:
                uniform = jnp.exp(mdp.uniform_log_policy)
                arrays.append(self.objective_fn(incentive, uniform, context, one))
        return arrays
