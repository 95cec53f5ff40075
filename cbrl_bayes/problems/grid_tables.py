"""Tables of a model from plain functions: every function over all periods, places and actions."""

from collections.abc import Callable, Mapping
from functools import cached_property, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import ROW_SUM_TOLERANCE, SuccessorTransition
from cbrl_bayes.problems.calling import Named
from cbrl_bayes.problems.chains import Chain
from cbrl_bayes.problems.grids import Grid, Nodes

Given = Mapping[str, Any]

EXCESS = 1e-3
"""Added to the probability of a move off the grid. The row sums to more than one, so the MDP is
invalid; NaN would blow up the solve first, which would end as NOT_FINITE and not say why."""


class Places:
    """All combinations of some variables' nodes; the last variable changes fastest."""

    def __init__(self, variables: Mapping[str, Nodes]) -> None:
        self.variables = variables
        self.shape = tuple(one.size for one in variables.values())

    @cached_property
    def size(self) -> int:
        """Number of combinations."""
        return int(np.prod(self.shape))

    @cached_property
    def positions(self) -> dict[str, Int[np.ndarray, " place"]]:
        """The node of every variable in every combination."""
        found = np.indices(self.shape).reshape(len(self.shape), self.size)
        return dict(zip(self.variables, found, strict=True))

    @cached_property
    def numbers(self) -> dict[str, np.ndarray]:
        """What functions see of every variable, shape (size,) each."""
        return {n: self.variables[n].numbers[at] for n, at in self.positions.items()}

    @cached_property
    def labels(self) -> dict[str, tuple[Any, ...]]:
        """Label of every variable, of length size each."""
        return {
            n: tuple(map(self.variables[n].labels.__getitem__, at.tolist()))
            for n, at in self.positions.items()
        }

    @cached_property
    def strides(self) -> dict[str, int]:
        """How far the next node of a variable is."""
        sizes = np.cumprod((1, *self.shape[:0:-1]))[::-1]
        return dict(zip(self.variables, sizes.tolist(), strict=True))


class Functions(NamedTuple):
    """The functions of a model, ready to be called by the names of their arguments."""

    reward: Named
    next_state: Named | None
    available: Named | None
    terminal: Named | None
    terminal_value: Named | None
    shocks: Mapping[str, tuple[Any, Any]]  # values and probabilities: arrays or Named
    chains: Mapping[str, Any]  # matrices: arrays or Named

    def asks(self, *functions: Any) -> set[str]:
        """Return all arguments that functions need, those of the shocks that they see included."""
        wanted = {name for one in functions if isinstance(one, Named) for name in one.wanted}
        if "shock" in wanted:
            wanted |= self.asks(*(part for pair in self.shocks.values() for part in pair))
        return wanted

    @property
    def law_asks(self) -> set[str]:
        """Return all arguments that the law of the next place needs."""
        return self.asks(self.next_state, *self.chains.values())


class Tables:
    """The functions of one model on its grids, for one incentive, context and parameters."""

    def __init__(
        self,
        states: Places,
        actions: Places,
        functions: Functions,
        periods: int | None,
        given: Given,
    ) -> None:
        self.states, self.actions, self.functions = states, actions, functions
        self.num_periods, self.given = periods, given

    @cached_property
    def open(self) -> Bool[Array, "*period place action"] | None:
        """Which actions are available; None for all."""
        return self._over_pairs(self.functions.available, self.actions.numbers, bool)

    @cached_property
    def terminal(self) -> Bool[Array, "*period place"] | None:
        """Where the process ends."""
        return self._over_places(self.functions.terminal, bool)

    @cached_property
    def terminal_values(self) -> Float[Array, " place"] | None:
        """What places are worth after the last period."""
        return self._over_places(self.functions.terminal_value, float)

    def expected(self, function: Named) -> Float[Array, "*period place action"]:
        """Return a function's mean over the shocks; closed pairs hold what some open one does."""
        asks = self.functions.asks(function)

        def mean(given: Given) -> Array:
            if "shock" not in function.wanted:
                return _number(function, given, float)
            values, chance = self._shocks(given)
            each = jax.vmap(lambda shock: _number(function, {**given, "shock": shock}, float))
            return chance @ each(values)

        return self._mapped(mean, "period" in asks, self._safe_actions("period" in asks))

    def law(self) -> SuccessorTransition:
        """Return the law of the next place, with a leading axis of periods where it has one."""
        by_period = "period" in self.functions.law_asks
        place, chance = self._mapped(self._moves, by_period, self._safe_actions(by_period))
        for name, matrix in self.functions.chains.items():
            chain, at = self.states.variables[name], self.states.positions[name]
            assert isinstance(chain, Chain)
            ahead = jnp.asarray((chain.moves * self.states.strides[name])[at], jnp.int32)
            place = _joined(place, ahead[:, None], jnp.add)
            likely = self._chances(chain, matrix, by_period)[..., at, :]
            chance = _joined(chance, likely[..., :, None, :], jnp.multiply)
        goes_on = self._goes_on(by_period)
        if goes_on is not None:  # what stands in rows that are not used must be a law too
            nowhere = jnp.zeros(chance.shape[-1]).at[0].set(1.0)
            chance = jnp.where(goes_on[..., None, None], chance, nowhere)
        return SuccessorTransition(jnp.broadcast_to(place, chance.shape), chance)

    def initial(self, given_law: Mapping[str, Any]) -> Float[Array, " place"]:
        """Return the law of the first place: variables are independent, chains stationary."""
        laws = []
        for name, variable in self.states.variables.items():
            if name in given_law:
                laws.append(variable.law_of(name, given_law[name]))
            else:
                assert isinstance(variable, Chain)
                matrix = self._matrix(self.functions.chains[name], {"period": 0})
                laws.append(variable.stationary(matrix))
        return reduce(lambda one, other: jnp.outer(one, other).ravel(), laws)

    def next_values(self, pair: Given) -> tuple[dict[str, Array], dict[str, Array], Array]:
        """Return what follows one pair: values by variable, shocks, chances; shape (J,) each."""
        function, given = self.functions.next_state, {**self.given, **pair}
        if function is None:
            return {}, {}, jnp.ones(1)
        if "shock" not in function.wanted:
            one = self._next(function, given)
            return {name: value[None] for name, value in one.items()}, {}, jnp.ones(1)
        shocks, chance = self._shocks(given)
        each = jax.vmap(lambda shock: self._next(function, given | {"shock": shock}))
        return each(shocks), shocks, chance

    def _moves(self, given: Given) -> tuple[Int[Array, " move"], Float[Array, " move"]]:
        """Return where one pair leads to by the variables without a chain, and how likely."""
        values, _, chance = self.next_values(given)
        place, weight = jnp.zeros((len(chance), 1), jnp.int32), chance[:, None]
        off = jnp.zeros(len(chance), bool)
        for name, value in values.items():
            grid = self.states.variables[name]
            assert isinstance(grid, Grid)
            nodes, shares = jax.vmap(grid.split)(value)
            place = _joined(place, self.states.strides[name] * nodes, jnp.add)
            weight = _joined(weight, shares, jnp.multiply)
            off |= jax.vmap(grid.is_off)(value)
        wrong = chance[:, None] / weight.shape[1] + EXCESS
        return place.ravel(), jnp.where(off[:, None], wrong, weight).ravel()

    def _next(self, function: Named, given: Given) -> dict[str, Array]:
        found = function(given)
        wanted = {n for n, one in self.states.variables.items() if isinstance(one, Grid)}
        if not isinstance(found, Mapping) or set(found) != wanted:
            received = sorted(found) if isinstance(found, Mapping) else type(found).__name__
            raise InvalidInputError(
                "next_state does not say where the state goes",
                received=received,
                accepted=f"a dictionary with {', '.join(sorted(wanted))}"
                + (" (chains move by themselves)" if self.functions.chains else ""),
            )
        return {name: _scalar(f"next_state of {name!r}", found[name], float) for name in wanted}

    def _shocks(self, given: Given) -> tuple[dict[str, Array], Float[Array, " joint"]]:
        """Return all combinations of the shocks' values, and their probabilities."""
        each = {
            name: [jnp.asarray(part(given) if isinstance(part, Named) else part) for part in pair]
            for name, pair in self.functions.shocks.items()
        }
        for name, (values, chance) in each.items():
            if values.ndim != 1 or values.shape != chance.shape:
                raise InvalidInputError(
                    f"values and probabilities of shock {name!r} do not fit together",
                    received=f"shapes {values.shape} and {chance.shape}",
                    accepted="one list of numbers each, of the same length",
                )
        for pair in each.values():
            proper = (pair[1] >= 0.0).all() & (jnp.abs(pair[1].sum() - 1.0) < ROW_SUM_TOLERANCE)
            pair[1] = jnp.where(proper, pair[1], jnp.nan)  # no number that uses it is finite then
        grids = jnp.meshgrid(*(values for values, _ in each.values()), indexing="ij")
        joint = {name: grid.ravel() for name, grid in zip(each, grids, strict=True)}
        laws = (chance for _, chance in each.values())
        return joint, reduce(lambda one, other: jnp.outer(one, other).ravel(), laws)

    def _chances(self, chain: Chain, matrix: Any, by_period: bool) -> Array:
        if not by_period or not isinstance(matrix, Named) or "period" not in matrix.wanted:
            return chain.chances(self._matrix(matrix, {}))
        periods = jnp.arange(self.num_periods)
        return jax.vmap(lambda t: chain.chances(self._matrix(matrix, {"period": t})))(periods)

    def _matrix(self, matrix: Any, more: Given) -> Array:
        return jnp.asarray(matrix({**self.given, **more}) if isinstance(matrix, Named) else matrix)

    def _goes_on(self, by_period: bool) -> Bool[Array, "*period place"] | None:
        """Return where a move is used: not at an end, nor after the last period for nothing."""
        T, ends = self.num_periods, self.terminal
        if T is None:
            return None if ends is None else ~ends
        if ends is None and not by_period:
            return None
        over = jnp.zeros((T, self.states.size), bool) if ends is None else ends
        over = jnp.broadcast_to(over, (T, self.states.size))
        if self.functions.terminal_value is None:
            over = over.at[-1].set(True)
        return ~over if by_period else ~over.all(0)

    def _safe_actions(self, by_period: bool) -> Mapping[str, Array]:
        """Return actions, with an open one in place of every closed one, which may fit nowhere.

        What a function does there is not used; were it no number, derivatives would not be either.
        """
        numbers = {name: jnp.asarray(one) for name, one in self.actions.numbers.items()}
        if self.open is None:
            return numbers
        usable = self.open if by_period or self.open.ndim == 2 else self.open.any(0)
        own = jnp.arange(self.actions.size)
        chosen = jnp.where(usable, own, usable.argmax(-1)[..., None])
        return {name: one[chosen] for name, one in numbers.items()}

    def _over_pairs(self, function: Named | None, actions: Given, kind: Any) -> Any:
        if function is None:
            return None
        by_period = "period" in self.functions.asks(function)
        return self._mapped(lambda given: _number(function, given, kind), by_period, actions)

    def _over_places(self, function: Named | None, kind: Any) -> Any:
        if function is None:
            return None
        any_action = {name: numbers[:1] for name, numbers in self.actions.numbers.items()}
        return self._over_pairs(function, any_action, kind)[..., 0]

    def _mapped(self, function: Callable[[Given], Any], by_period: bool, actions: Given) -> Any:
        """Return a function of one pair over all: shape (T, S, A, ...), or (S, A, ...)."""

        def one(period: Array | None, state: Given, action: Given) -> Any:
            own = {"state": state, "action": action}
            return function({**self.given, **own} | ({"period": period} if by_period else {}))

        num_axes = next(np.ndim(leaf) for leaf in actions.values())
        found = jax.vmap(one, (None, None, 0))
        found = jax.vmap(found, (None, 0, 0 if num_axes > 1 else None))
        states = {name: jnp.asarray(values) for name, values in self.states.numbers.items()}
        if not by_period:
            return found(None, states, dict(actions))
        assert self.num_periods is not None
        found = jax.vmap(found, (0, None, 0 if num_axes > 2 else None))
        return found(jnp.arange(self.num_periods), states, dict(actions))


def _joined(one: Array, other: Array, combine: Callable[[Array, Array], Array]) -> Array:
    """Return all combinations along the last axis."""
    both = combine(one[..., :, None], other[..., None, :])
    return both.reshape(*both.shape[:-2], -1)


def _number(function: Named, given: Given, kind: Any) -> Array:
    return _scalar(function.name, function(given), kind)


def _scalar(name: str, value: Any, kind: Any) -> Array:
    try:
        found = jnp.asarray(value, kind)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{name} is no number", received=type(value).__name__, accepted="one number"
        ) from error
    if found.shape:
        raise InvalidInputError(
            f"{name} is not one number",
            received=f"shape {found.shape}",
            accepted="one number, for one state and action",
        )
    return found
