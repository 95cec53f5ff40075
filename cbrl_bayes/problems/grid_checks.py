"""What a model from plain functions must be, and where its next states must lie."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from cbrl_bayes.errors import InvalidInputError, require_kind, require_ranges
from cbrl_bayes.problems.chains import Chain
from cbrl_bayes.problems.grid_tables import EXCESS, Tables
from cbrl_bayes.problems.grids import Grid, Nodes, text_of
from cbrl_bayes.problems.names import AXES
from cbrl_bayes.problems.shocks import Shock

if TYPE_CHECKING:
    from cbrl_bayes.problems.grid_model import GridModel

KINDS = {"states": Grid | Chain, "actions": Grid, "shocks": Shock}


def check_variables(model: "GridModel") -> None:
    """Refuse variables of the wrong kind, reserved names, and what does not fit together."""
    for name, kind in KINDS.items():
        given = getattr(model, name)
        require_kind(given, Mapping, name, '{"assets": cb.Grid([0.0, 1.0])}')
        for own, one in given.items():
            require_kind(one, kind, f"{name}[{own!r}]", "cb.Grid(...)")
        if not given and name != "shocks":
            raise InvalidInputError(f"a model needs {name}", received="none")
    reserved = sorted(({*AXES, "period"} - {"state"}) & set(model.states))
    if reserved:
        raise InvalidInputError(
            "state variables have names that results use for something else",
            received=", ".join(reserved),
            remedy="other names",
        )
    if model.num_periods is not None:
        require_ranges(model, "numbers of the model", num_periods=">= 1")
    elif model.terminal_value is not None:
        raise InvalidInputError(
            "terminal_value needs num_periods", remedy="rewards in the states that end it"
        )
    moving = [name for name, one in model.states.items() if isinstance(one, Grid)]
    if model.next_state is None and moving:
        raise InvalidInputError(
            "a model needs next_state", received=f"no law for {', '.join(moving)}"
        )


def check_initial(states: Mapping[str, Nodes], law: Any) -> None:
    """Refuse a start that leaves a variable out, or names what is none."""
    require_kind(law, Mapping, "initial", '{"assets": 0.0}')
    needed = {name for name, one in states.items() if isinstance(one, Grid)}
    if not needed <= set(law) <= set(states):
        raise InvalidInputError(
            "initial does not say where every variable begins",
            received=", ".join(map(str, law)) or "nothing",
            accepted=", ".join(n if n in needed else f"{n} (optional)" for n in states),
        )


def refuse_off_grid(tables: Tables, arrays: Mapping[str, Any], first: Mapping[str, Any]) -> None:
    """Say which first or next value is off its grid; other faults are the MDP's to name.

    Parameters
    ----------
    tables : Tables
        Of known values.
    arrays : mapping
        What was made of them: law, initial law and open actions.
    first : mapping
        Where the variables begin, as given.
    """
    if np.isnan(np.asarray(arrays["initial"])).any():
        _refuse_first(tables.states.variables, first)
    wrong = np.asarray(abs(arrays["transition"].probability.sum(-1) - 1.0) > EXCESS / 2.0)
    if arrays["available"] is not None:
        is_open = np.asarray(arrays["available"])
        wrong = wrong & (is_open.any(0) if is_open.ndim > wrong.ndim else is_open)
    if not wrong.any():
        return
    *period, place, action = np.argwhere(wrong)[0].tolist()
    pair = {
        "state": {name: values[place] for name, values in tables.states.numbers.items()},
        "action": {name: values[action] for name, values in tables.actions.numbers.items()},
    } | ({"period": period[0]} if period else {})
    values, shocks, _ = tables.next_values(pair)
    where = [
        f"{kind} " + ", ".join(f"{n} {text_of(labels[at])}" for n, labels in part.labels.items())
        for kind, part, at in (("state", tables.states, place), ("action", tables.actions, action))
    ]
    where += [f"period {one}" for one in period]
    for name, value in values.items():
        grid = tables.states.variables[name]
        assert isinstance(grid, Grid)
        off = np.flatnonzero(jax.vmap(grid.is_off)(value))
        if len(off):
            chance = [f"shock {one} {of_it[off[0]]:g}" for one, of_it in shocks.items()]
            raise _off_grid(name, grid, float(value[off[0]]), "; ".join(where + chance))


def _refuse_first(states: Mapping[str, Nodes], first: Mapping[str, Any]) -> None:
    for name, given in first.items():
        grid = states[name]
        if isinstance(given, str) or np.ndim(given) or not isinstance(grid, Grid):
            continue
        if bool(grid.is_off(jnp.asarray(given, float))):
            raise InvalidInputError(
                f"initial of {name!r} is off its grid",
                received=f"{float(given):g}",
                accepted=grid.accepted,
            )


def _off_grid(name: str, grid: Grid, value: float, where: str) -> InvalidInputError:
    remedies = ["a wider grid", "available=... to close the action there"]
    if not grid.named:
        remedies.append("Grid(..., clip=True), which keeps such a state at the edge")
        if grid.num_parts == 1:
            remedies.append("Grid(..., between=True), which splits it among two nodes")
    return InvalidInputError(
        f"next_state leads off the grid of {name!r}",
        received=f"{value:.6g} from {where}",
        accepted=grid.accepted,
        remedy=remedies,
    )
