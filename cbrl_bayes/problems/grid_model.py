"""A follower's decision process from plain functions of named numbers, on labelled grids."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cbrl_bayes.mdp import MDP, finite_horizon, is_traced
from cbrl_bayes.problems.calling import Named
from cbrl_bayes.problems.chains import Chain
from cbrl_bayes.problems.grid_checks import check_initial, check_variables, refuse_off_grid
from cbrl_bayes.problems.grid_tables import Functions, Given, Places, Tables
from cbrl_bayes.problems.grids import Grid, text_of
from cbrl_bayes.problems.incentive import Labels
from cbrl_bayes.problems.periods import period_labels
from cbrl_bayes.problems.shocks import Shock

OUTSIDE = ("incentive", "context", "parameters")


@dataclass(frozen=True, kw_only=True, eq=False)
class GridModel:
    r"""A decision process from plain functions: what is earned, and what comes next.

    The functions are written for one state and one action, with `jax.numpy`, and are evaluated on
    all combinations of the grids' nodes. Each names in its signature what it needs:

    ``state``, ``action``
        What each variable is now: ``state["assets"]`` is a number, or the position of a name.
    ``shock``
        What chance brings in this step. Rewards that need it are averaged over it.
    ``period``
        0, 1, ..., T - 1, in a model with ``num_periods``.
    ``incentive``, ``context``, ``parameters``
        As the functions of a `Problem` get them.

    Parameters
    ----------
    states : mapping
        Name -> `Grid`, or `Chain` for what moves by itself. States are all combinations, the last
        variable changing fastest.
    actions : mapping
        Name -> `Grid`. Actions are all combinations.
    reward : callable
        Of any of the arguments above: the follower's reward, in its unit.
    next_state : callable, optional
        Returns a dictionary: name -> next value of every variable that is a `Grid`. Between two
        nodes it is split among both, with weights that keep its mean; see `Grid`. Needed unless all
        variables are chains.
    initial : mapping, or callable that returns one
        Name -> where the variable begins: a number (split as above), a name, or a probability for
        every node. Variables are independent. A `Chain` that is left out begins with its stationary
        law. A function may name incentive, context and parameters.
    discount : float, or callable
        gamma, in [0, 1]; a function of incentive, context, parameters.
    temperature : float, or callable
        lambda > 0, in units of reward; rationality is 1/lambda. Default: the parameter
        ``temperature``.
    shocks : mapping
        Name -> `Shock`. All of them are independent.
    available : callable, optional
        Whether an action is open in a state. What the other functions do at a closed action is
        never used, nor is its derivative. Default: all are.
    terminal : callable, optional
        Of all but action and shock: whether the process ends after this state's action.
    num_periods : int, optional
        T. Default: no end but that of ``terminal``.
    terminal_value : callable, optional
        Of state, incentive, context, parameters: what a state is worth after the last period, in
        units of reward. Default: nothing.

    Raises
    ------
    InvalidInputError
        For functions that ask for something else, and reserved names. When an MDP is built: for a
        next state off its grid, with variable, state, action and value. Under a JAX transformation
        such an MDP is invalid instead (`cbrl_bayes.mdp.is_valid`, `SolveStatus.INVALID_MDP`).

    Notes
    -----
    The transition law lists S x A x K successors: K is two for each variable that may come to lie
    between nodes, times the nodes of the shocks that ``next_state`` sees, times the moves of the
    chains. Interpolation has an error of the order of the square of the distance between nodes.

    Examples
    --------
    >>> import cbrl_bayes as cb
    >>> model = cb.GridModel(  # eat a cake of size 1 over 3 days
    ...     states={"cake": cb.Grid(jnp.linspace(0.0, 1.0, 11))},
    ...     actions={"share": cb.Grid(jnp.linspace(0.0, 1.0, 11))},
    ...     reward=lambda state, action: jnp.sqrt(state["cake"] * action["share"]),
    ...     next_state=lambda state, action: {"cake": state["cake"] * (1.0 - action["share"])},
    ...     initial={"cake": 1.0}, discount=1.0, temperature=1e-3, num_periods=3)
    >>> value = cb.best_response(model.mdp({}, None, {})).values
    >>> round(float(model.by_variable(value)[0, -1]), 2)  # near sqrt(3), a third a day
    1.73
    """

    states: Mapping[str, Grid | Chain]
    actions: Mapping[str, Grid]
    reward: Callable[..., Any]
    next_state: Callable[..., Mapping[str, Any]] | None = None
    initial: Mapping[str, Any] | Callable[..., Mapping[str, Any]]
    discount: float | Callable[..., Any]
    temperature: float | Callable[..., Any] = lambda parameters: parameters["temperature"]
    shocks: Mapping[str, Shock] = field(default_factory=dict)
    available: Callable[..., Any] | None = None
    terminal: Callable[..., Any] | None = None
    num_periods: int | None = None
    terminal_value: Callable[..., Any] | None = None
    _parts: tuple[Places, Places, Functions] = field(init=False, repr=False)
    _compiled: Callable[..., Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_variables(self)
        parts = Places(self.states), Places(self.actions), self._functions()
        object.__setattr__(self, "_parts", parts)
        object.__setattr__(self, "_compiled", jax.jit(self._arrays))
        if not callable(self.initial):
            check_initial(self.states, self.initial)

    @property
    def num_places(self) -> int:
        """Number of combinations of the state variables."""
        return self._parts[0].size

    @property
    def num_states(self) -> int:
        """Number of states S: places, times periods where there are any."""
        return self.num_places * (self.num_periods or 1)

    @property
    def num_actions(self) -> int:
        """Number of actions A."""
        return self._parts[1].size

    def mdp(self, incentive: Any, context: Any, parameters: Any) -> MDP:
        """Return the MDP of one follower; give this as ``mdp_fn`` of a `Problem`.

        Parameters
        ----------
        incentive, context, parameters
            As a problem's ``mdp_fn`` gets them; passed on to the functions that name them.

        Returns
        -------
        MDP
        """
        given = {"incentive": incentive, "context": context, "parameters": parameters}
        known = not is_traced(given)
        # Compiled only where values are known: what traces a problem's functions looks into them.
        arrays = (self._compiled if known else self._arrays)(given)
        if known:
            refuse_off_grid(self._tables(given), arrays, self._of_outside("initial", given))
        numbers = {name: self._of_outside(name, given) for name in ("discount", "temperature")}
        if self.num_periods is None:
            arrays.pop("terminal_values")
            return MDP(**arrays, **numbers)
        return finite_horizon(**arrays, **numbers, num_periods=self.num_periods)

    def table(self, function: Callable[..., Any]) -> Callable[[Any, Any, Any], Array]:
        """Return what a function of one state and action is worth in all of them.

        Parameters
        ----------
        function : callable
            Of the same named arguments as ``reward``; averaged over shocks that it names.

        Returns
        -------
        callable
            ``(incentive, context, parameters) -> array (S, A)``, 0 at closed actions: what
            ``leader_reward_fn`` and ``incentive_price_fn`` of a `Problem` must be.
        """
        named = self._named(getattr(function, "__name__", "function"), function)

        def over_all(incentive: Any, context: Any, parameters: Any) -> Float[Array, "state action"]:
            tables = self._tables(
                {"incentive": incentive, "context": context, "parameters": parameters}
            )
            found = tables.expected(named)
            if tables.open is not None:
                found = jnp.where(tables.open, found, 0.0)
            shape = (self.num_periods or 1, self.num_places, self.num_actions)
            return jnp.broadcast_to(found, shape).reshape(self.num_states, self.num_actions)

        return over_all

    def by_variable(self, table: Any) -> Any:
        """Return a table over states with an axis for each variable (first one for periods).

        Parameters
        ----------
        table : array, shape (S, ...)

        Returns
        -------
        array, shape (T, n1, n2, ..., ...)
            Without T where there are no periods.
        """
        periods = () if self.num_periods is None else (self.num_periods,)
        return table.reshape(*periods, *self._parts[0].shape, *table.shape[1:])

    @property
    def state_labels(self) -> Labels:
        """The variables (and the period) as coordinates of the states."""
        coords = {name: (("state",), one) for name, one in self._parts[0].labels.items()}
        units = {name: one.unit for name, one in self.states.items() if one.unit}
        alone = len(self.states) == 1
        labels = Labels(
            ("state",),
            coords,
            unit="".join(units.values()) if alone else "",
            description="" if alone else ", ".join(f"{n} in {unit}" for n, unit in units.items()),
        )
        return labels if self.num_periods is None else period_labels(self.num_periods, labels)

    @property
    def action_names(self) -> tuple[str, ...]:
        """A text for each action: the name itself, or "saving 1.5, hours 20"."""
        labels = self._parts[1].labels
        alone = next(iter(self.actions.values()))
        if len(self.actions) == 1 and alone.named:
            return alone.labels
        each = ([f"{name} {text_of(one)}" for one in values] for name, values in labels.items())
        return tuple(map(", ".join, zip(*each, strict=True)))

    def _tables(self, given: Given) -> Tables:
        return Tables(*self._parts, self.num_periods, given)

    def _arrays(self, given: Given) -> dict[str, Any]:
        """Return what `finite_horizon` takes, as arrays."""
        tables, law = self._tables(given), self._of_outside("initial", given)
        if callable(self.initial):
            check_initial(self.states, law)
        return {
            "reward": tables.expected(self._parts[2].reward),
            "transition": tables.law(),
            "initial": tables.initial(law),
            "terminal": tables.terminal,
            "available": tables.open,
            "terminal_values": tables.terminal_values,
        }

    def _of_outside(self, name: str, given: Given) -> Any:
        """Return a field that is fixed, or a function of incentive, context and parameters."""
        value = getattr(self, name)
        return Named.of(name, value, OUTSIDE)(given) if callable(value) else value

    def _named(self, name: str, function: Any, *less: str) -> Named:
        offered = ("state", "action", "shock", "period", *OUTSIDE)
        if self.num_periods is None:
            less = (*less, "period")
        if not self.shocks:
            less = (*less, "shock")
        return Named.of(name, function, tuple(one for one in offered if one not in less))

    def _functions(self) -> Functions:
        def maybe(name: str, *less: str) -> Named | None:
            function = getattr(self, name)
            return None if function is None else self._named(name, function, *less)

        def part(name: str, value: Any, *less: str) -> Any:
            return self._named(name, value, *less) if callable(value) else jnp.asarray(value, float)

        return Functions(
            reward=self._named("reward", self.reward),
            next_state=maybe("next_state"),
            available=maybe("available", "shock"),
            terminal=maybe("terminal", "action", "shock"),
            terminal_value=maybe("terminal_value", "action", "shock", "period"),
            shocks={
                name: (
                    part(f"values of shock {name!r}", shock.values, "shock"),
                    part(f"probability of shock {name!r}", shock.probability, "shock"),
                )
                for name, shock in self.shocks.items()
            },
            chains={
                name: part(f"matrix of chain {name!r}", one.matrix, "state", "action", "shock")
                for name, one in self.states.items()
                if isinstance(one, Chain)
            },
        )
