"""Read observed behaviour from a plain table, as people have it."""

import json
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from cbrl_bayes.behaviour.check import check_trajectories
from cbrl_bayes.behaviour.headers import (
    COLUMNS,
    check_padded_size,
    columns_are_missing,
    constant_of,
    rename,
    without_foreign,
)
from cbrl_bayes.behaviour.incentives import none_is_stated, with_incentives
from cbrl_bayes.behaviour.labels import context_names, positions, renamed
from cbrl_bayes.behaviour.periods import has_periods, merge_periods
from cbrl_bayes.behaviour.regimes import (
    Place,
    incentive_columns,
    incentives_of_rows,
    incentives_of_table,
    keyed_by_regime,
)
from cbrl_bayes.behaviour.schema import MISSING, make_trajectories
from cbrl_bayes.behaviour.steps import Gaps, episode_parts, step_numbers
from cbrl_bayes.behaviour.values import as_frame, listed, real_numbers, texts, truths, whole_numbers
from cbrl_bayes.errors import DataError, InvalidInputError, note, require_kind
from cbrl_bayes.files import DEFAULT_LIMITS, FileLimits
from cbrl_bayes.problems import Problem

LABELLED = ("state", "action", "context", "follower", "group", "regime")


def from_table(
    table: Any,
    problem: Problem | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    labels: Mapping[str, Mapping[Any, Any]] | None = None,
    incentives: Any = None,
    missing: str | Iterable[str] = (),
    gaps: Gaps = "refuse",
    step_unit: str | None = None,
    limits: FileLimits | None = DEFAULT_LIMITS,
) -> xr.Dataset:
    """Turn a plain table, one row per step, into trajectories.

    Text stays text: followers "007" and "7" are two, and a context called "NA" is a context.
    Blanks around headers and cells do not count. Only an empty cell is empty.

    Parameters
    ----------
    table : pandas.DataFrame, or a table of polars or Arrow
        Columns ``follower``, ``step``, ``state``, ``action``; optional ``episode`` (where a
        follower has several), ``context`` (empty where not observed), ``regime``, ``group``,
        ``successor_slot`` (empty or -1 where not recorded), ``choice_observed`` (true or false),
        ``context_value``, and incentives; ``period`` where the problem's states carry one
        (`period_labels`): ``state`` is then the place within it. Other columns are left out
        with a `DataNote`. Rows may come in any order. Steps count up from any number; dates and
        periods are steps too.
    problem : Problem, optional
        With it, states, actions and contexts may have the problem's names; columns may have the
        names of its incentives; and the data are checked against it. If every follower has one
        row, ``step`` may be left out, and ``state`` too where all start in the same state.
        ``context`` is the only one where there is one.
    columns : mapping, optional
        Name in the table -> name above.
    labels : mapping, optional
        ``{"action": {"Yes": "buy", "No": 0}}``: cell -> name or number, for ``state``,
        ``action``, ``context``, ``follower``, ``group`` or ``regime``. Without, yes and no, or
        true and false, are 1 and 0.
    incentives : mapping or table, optional
        ``{regime: {incentive: numbers}}``, ``{}`` for none; or a table with a column ``regime``
        and one for each incentive. They may also be columns of the table itself:
        ``incentive_bonus``, or ``bonus`` where the problem has it (`incentive_columns`); then
        the column ``regime`` may be left out. Needed once there is more than one regime.
    missing : str or sequence of str
        Texts that stand for an empty cell, such as "NA".
    gaps : {"refuse", "split", "join"}
        What a gap between steps is: a fault; the end of an episode, after which another begins;
        or nothing, so that the next row is the next step.
    step_unit : str, optional
        For dates: "s", "min", "h", "D", "W", "M", "Q" or "Y". Default: the commonest distance.
    limits : FileLimits or None
        How much memory the trajectories may take: every episode is stored at the length of the
        longest. None: any.

    Returns
    -------
    xarray.Dataset
        Its attribute ``notes`` holds what was noted, if anything (`data_report` shows it).

    Raises
    ------
    DataError
        Names every violation.

    Warns
    -----
    DataNote
        Of what was left out, or read in another way than written.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"follower": ["a", "a", "b"], "step": [1, 0, 0],
    ...                       "state": [1, 0, 0], "action": [0, 1, 1]})
    >>> from_table(table).state.values.tolist()
    [[0, 1], [0, -1]]

    An offer, and whether it was taken:

    >>> from cbrl_bayes.problems import two_state
    >>> offers = pd.DataFrame({"follower": ["a", "b"], "action": ["work", "decline"],
    ...                        "context": ["cost 0.5", "cost 1.5"], "bonus": [0.8, 1.2]})
    >>> from_table(offers, two_state()).regime.values.tolist()
    ['bonus=0.8', 'bonus=1.2']
    """
    _check_arguments(problem, columns, labels, missing)
    told: list[str] = []  # what changes the meaning of the data
    notes: list[str] = []  # what was merely filled in
    given = frozenset([missing] if isinstance(missing, str) else missing)
    try:
        frame = as_frame(table)
        rename(frame, columns or {}, notes)
        headers = list(frame.columns)
        labels = labels or {}
        if problem is not None and has_periods(frame, problem):
            frame = merge_periods(frame, problem, labels.get("state"), notes)
            labels = {name: mapping for name, mapping in labels.items() if name != "state"}
        places = incentive_columns(list(frame.columns), COLUMNS, problem)
        frame = without_foreign(frame, places, told)
        read = _Reader(frame, headers, problem, labels, given, notes, told)
        data = read.dataset(places, incentives, gaps, step_unit, limits)
    except (DataError, InvalidInputError):
        raise
    except Exception as error:  # a table can hold any Python object
        raise DataError(
            f"the table cannot be read ({type(error).__name__}: {error})",
            accepted="columns of numbers and text",
        ) from error
    if told or notes:
        data.attrs["notes"] = json.dumps([*told, *notes])
    for text in told:
        note(text)
    check_trajectories(data, problem)
    return data


class _Reader:
    """One table and what is known of it."""

    def __init__(
        self,
        frame: pd.DataFrame,
        headers: list[str],
        problem: Problem | None,
        labels: Mapping[str, Mapping[Any, Any]],
        missing: frozenset[str],
        notes: list[str],
        told: list[str],
    ) -> None:
        self.frame, self.headers, self.problem, self.labels = frame, headers, problem, labels
        self.missing, self.notes, self.told = missing, notes, told

    def dataset(
        self,
        places: Mapping[str, Place],
        incentives: Any,
        gaps: str,
        step_unit: str | None,
        limits: FileLimits | None,
    ) -> xr.Dataset:
        """Read all columns, cut the rows into episodes and label them."""
        frame, notes = self.frame, self.notes
        follower = self.text("follower") if "follower" in frame else self.own_followers()
        keys = pd.DataFrame({"follower": follower})
        if "episode" in frame:
            keys["episode"] = self.text("episode")
        episode = keys.groupby(list(keys), sort=False).ngroup().to_numpy()
        self.complete(episode)
        by_step = self.by_step()
        step = step_numbers(frame, episode, step_unit, notes)
        regime, stated = self.regimes(places, incentives)
        by_episode = self.by_episode() | {"follower": follower}
        if regime is not None:
            by_episode["regime"] = regime
        order = np.lexsort((step, episode))
        check_padded_size(by_step, by_episode, np.bincount(episode), limits)
        names = [follower[row] for row in order]

        def place(row: int) -> str:
            return f"{names[row]!r} after step {frame['step'].iloc[order[row]]}"

        parts = episode_parts(step[order], episode[order], place, gaps, notes)
        starts = np.concatenate([[0], np.flatnonzero(np.diff(parts)) + 1])[: len(order)]
        constant: dict[str, Any] = {
            name: constant_of(name, [values[row] for row in order], starts, names)
            for name, values in by_episode.items()
        }
        numbers = constant.pop("context_value", None)
        rows: dict[str, Any] = {
            name: np.split(array[order], starts[1:])[: len(starts)]
            for name, array in by_step.items()
        }
        data = make_trajectories(**rows, **constant)
        if numbers is not None:
            data["context_value"] = ("episode", np.array(numbers, dtype=float))
        self.tell_of_incentives(regime, stated)
        return data if stated is None else with_incentives(data, stated)

    def by_step(self) -> dict[str, np.ndarray]:
        """Read the columns that have an entry for each step."""
        frame = self.frame
        found = {
            name: positions(frame, name, self.problem, self.labels.get(name), self.told)
            for name in ("state", "action")
        }
        if "successor_slot" in frame:
            found["successor_slot"] = whole_numbers(frame, "successor_slot", MISSING, self.missing)
        if "choice_observed" in frame:
            found["choice_observed"] = truths(frame, "choice_observed")
        return found

    def by_episode(self) -> dict[str, Any]:
        """Read the columns that may not change within an episode, followers and regimes apart."""
        frame, found = self.frame, dict[str, Any]()
        if "group" in frame:
            found["group"] = self.text("group")
        if "context" in frame:
            found["context"] = self.contexts()
        if "context_value" in frame:
            found["context_value"] = real_numbers(frame, "context_value", self.missing)
        return found

    def tell_of_incentives(self, regime: list[str] | None, stated: Any) -> None:
        """Note where incentives are not stated."""
        if stated is None and self.problem is not None and regime is None:
            self.told.append(none_is_stated(self.problem))
        elif stated is None and self.problem is None and len(set(regime or [])) > 1:
            self.told.append(
                "regimes are named and their incentives are not stated: they are needed before "
                "a fit (incentives=, or cb.with_incentives)"
            )

    def text(self, name: str) -> list[str]:
        """Return a column of names, none of them empty."""
        column = texts(self.frame, name, self.missing)
        if name in LABELLED:
            column = renamed(column, name, (), self.labels.get(name), self.told)
        if None in column:
            row = self.frame.index[column.index(None)]
            raise DataError(f"column {name!r} is empty in row {row}")
        return [str(cell) for cell in column]

    def own_followers(self) -> list[str]:
        """Every row is a follower of its own, where nothing says otherwise."""
        if "step" in self.frame or "episode" in self.frame:
            raise columns_are_missing(self.headers, ["follower"])
        self.notes.append("no column 'follower': every row is taken for a follower of its own")
        return [f"follower {number}" for number in range(len(self.frame))]

    def complete(self, episode: np.ndarray) -> None:
        """Fill in what decisions of one step leave unsaid; raise for what is missing."""
        frame, problem = self.frame, self.problem
        alone = problem is not None and len(np.unique(episode)) == len(episode)
        start = _only_start(problem) if problem is not None and alone else None
        can_fill = {"step": 0 if alone else None, "state": start, "action": None}
        absent = [name for name in can_fill if name not in frame]
        if any(can_fill[name] is None for name in absent):
            raise columns_are_missing(self.headers, absent)
        for name in absent:
            frame[name] = can_fill[name]
            self.notes.append(f"no column {name!r}: it is {can_fill[name]} in every row")
        only = context_names(problem)
        if len(only) == 1 and "context" not in frame:
            frame["context"] = only[0]
            self.notes.append(f"no column 'context': it is {only[0]!r} in every row")

    def contexts(self) -> list[str]:
        """Return the contexts, '' where none was observed."""
        known = context_names(self.problem)
        column = texts(self.frame, "context", self.missing)
        column = renamed(column, "context", known, self.labels.get("context"), self.told)
        return [cell or "" for cell in column]

    def regimes(
        self, places: Mapping[str, Place], incentives: Any
    ) -> tuple[list[str] | None, dict[str, Any] | None]:
        """Return the regime of every row, and what is stated of the regimes' incentives."""
        regime = self.text("regime") if "regime" in self.frame else None
        if places and incentives is not None:
            raise DataError(
                "incentives are given twice, as an argument and as columns",
                received=listed(list(places)),
            )
        if places:
            return incentives_of_rows(self.frame, places, regime, self.problem, self.missing)
        if incentives is None or isinstance(incentives, Mapping):
            return regime, None if incentives is None else keyed_by_regime(incentives)
        return regime, incentives_of_table(incentives, self.problem, self.missing)


def _check_arguments(
    problem: Problem | None,
    columns: Mapping[str, str] | None,
    labels: Mapping[str, Mapping[Any, Any]] | None,
    missing: str | Iterable[str],
) -> None:
    require_kind(missing, str | Iterable, "missing", "missing=['NA', '?']")
    require_kind(problem, Problem | None, "problem", "cb.problems.two_state(), or a cb.Problem")
    require_kind(columns, Mapping | None, "columns", "columns={'person': 'follower'}")
    require_kind(labels, Mapping | None, "labels", "labels={'action': {'Yes': 1, 'No': 0}}")
    for name, mapping in (labels or {}).items():
        if name not in LABELLED:
            raise InvalidInputError(
                "labels of an unknown column", received=repr(name), accepted=", ".join(LABELLED)
            )
        require_kind(mapping, Mapping, f"labels[{name!r}]", "{'Yes': 1, 'No': 0}")


def _only_start(problem: Problem) -> int | None:
    """Return the state in which every context starts; None where there are several."""
    if problem.num_states == 1:
        return 0
    values, _ = problem.contexts.support(problem.default_parameters, jax.random.key(0))
    incentive = problem.incentive.transform(problem.incentive.initial)
    starts = set()
    for follower, index in product(problem.all_followers, range(problem.contexts.num_contexts)):
        one = problem.follower_parameters(problem.first_parameters, follower)
        context = jax.tree.map(lambda leaf, i=index: jnp.asarray(leaf)[i], values)
        initial = np.asarray(problem.mdp_fn(incentive, context, one).initial)
        starts |= set(np.flatnonzero(initial > 0).tolist())
    return starts.pop() if len(starts) == 1 else None
