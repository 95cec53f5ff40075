"""What a data file says of a planned round: checked, and counted arm by arm."""

from collections.abc import Callable, Mapping
from datetime import date
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cbrl_bayes.behaviour import check_trajectories, with_incentives
from cbrl_bayes.behaviour.cells import groups_of, incentives_of
from cbrl_bayes.behaviour.schema import MISSING
from cbrl_bayes.campaigns.answers import Answer, Episodes, Watch
from cbrl_bayes.campaigns.watching import tally
from cbrl_bayes.errors import DataError
from cbrl_bayes.mdp import MDP, Trajectories
from cbrl_bayes.problems import Problem

CLOSE = 1e-3
"""Share of its largest entry by which a stated incentive may miss the planned one: plans are
printed with four digits."""


class Recorded(NamedTuple):
    """One arm's data.

    Attributes
    ----------
    answer : Answer
    episodes : Episodes
        Whose episodes they were, and how long each could have been.
    most : int
        Steps that these could have had in all.
    """

    answer: Answer
    episodes: Episodes
    most: int


def read_round(
    problem: Problem,
    data: Any,
    regimes: Mapping[str, Mapping[str, np.ndarray]],
    points: np.ndarray,
    watch: Watch,
    *,
    accept_fewer: bool,
    parameters: Mapping[str, Any] | None = None,
) -> list[Recorded]:
    """Check a round's data against its plan, and count them.

    Parameters
    ----------
    problem : Problem
    data : xarray.Dataset
        Trajectories.
    regimes : mapping
        Name of each planned regime -> its incentive in readable values.
    points : array, shape (R, P)
        Their incentives before the transform.
    watch : Watch
        What was planned for each.
    accept_fewer : bool
        Whether fewer episodes (or steps) than planned will do.
    parameters : mapping, optional
        Under which episodes are valued, where the leader's reward depends on them. Default: the
        problem's own.

    Raises
    ------
    DataError
        For data of another problem, regimes that were not planned, other incentives than planned,
        contexts that were not observed, or fewer episodes than planned.
    """
    data = _with_plan(data, regimes)
    check_trajectories(data, problem)
    _check_observed(problem, data)
    if "choice_observed" in data and not data["choice_observed"].values.astype(bool).all():
        raise DataError(
            "some choices are marked as not to enter the likelihood (choice_observed)",
            accepted="data in which all choices count",
        )
    own = problem.default_parameters if parameters is None else dict(parameters)
    run = jax.jit(partial(tally, problem, own))
    found = []
    for name, point in zip(regimes, points, strict=True):
        some = data.isel(episode=np.flatnonzero(data["regime"].values.astype(str) == name))
        _check_size(some, name, watch, accept_fewer)
        found.append(_counted(problem, some, point, watch, run))
    return found


def read_earlier(problem: Problem, data: Any, watch: Watch) -> tuple[Answer, ...]:
    """Check behaviour from before a campaign, and count it, one answer for each regime.

    Parameters
    ----------
    problem : Problem
    data : xarray.Dataset
        Trajectories with the incentives they were observed under; 0 where none is stated.
    watch : Watch
        A round's.

    Raises
    ------
    DataError
        For data of another problem, contexts that were not observed, or other groups.
    InvalidInputError
        For an incentive that the problem cannot set.
    """
    check_trajectories(data, problem)
    _check_observed(problem, data)
    run = jax.jit(partial(tally, problem, problem.default_parameters))
    names = data["regime"].values.astype(str)
    regimes = np.array(list(dict.fromkeys(names)))
    stated = incentives_of(problem, data, regimes)
    alike: dict[bytes, list[int]] = {}  # regimes with one incentive are one answer
    for which in range(len(regimes)):
        own = b"".join(values[which].tobytes() for values in stated.values())
        alike.setdefault(own, []).append(which)
    found = []
    for same in alike.values():
        incentive = {name: values[same[0]] for name, values in stated.items()}
        point = np.asarray(
            problem.incentive.flatten(problem.incentive.unconstrained_for(incentive))
        )
        some = data.isel(episode=np.flatnonzero(np.isin(names, regimes[same])))
        found.append(_counted(problem, some, point, watch, run).answer)
    return tuple(found)


def _not_observed(
    problem: Problem, data: Any, context: np.ndarray, follower: np.ndarray
) -> np.ndarray:
    """Count the actions that are not to enter the likelihood, (C, F, S, A)."""
    C, F = problem.contexts.num_contexts, problem.followers.num_followers
    table = np.zeros((C, F, problem.num_states, problem.num_actions))
    if "choice_observed" in data:
        left_out = ~data["choice_observed"].values.astype(bool) & (data["state"].values != MISSING)
        row, step = np.nonzero(left_out)
        at = data["state"].values[row, step], data["action"].values[row, step]
        np.add.at(table, (context[row], follower[row], *at), 1.0)
    return table


def _pairs(problem: Problem, data: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return context and follower of each episode, by number."""
    names = list(problem.contexts.names)
    one = data["context"].values.astype(str)
    context = np.array([names.index(n) if n else 0 for n in one])
    _, group = groups_of(problem, data["group"].values.astype(str))
    alone = problem.followers.num_followers == 1
    return context, np.zeros(len(context), int) if alone else group


def _with_plan(data: Any, regimes: Mapping[str, Mapping[str, np.ndarray]]) -> Any:
    """Return the data with the planned incentives stated; refuse other regimes or incentives."""
    if "regime" not in getattr(data, "variables", {}):
        check_trajectories(data)
    seen = list(dict.fromkeys(map(str, data["regime"].values)))
    foreign = [name for name in seen if name not in regimes]
    missing = [name for name in regimes if name not in seen]
    if foreign or missing:
        raise DataError(
            "the data's regimes are not those that were deployed in this round",
            received=", ".join(seen),
            accepted=", ".join(regimes),
            remedy="the names that the plan gives in the column 'regime'",
        )
    stated = [str(n) for n in data.data_vars if str(n).startswith("incentive_")]
    known = [str(value) for value in data["regime_name"].values] if stated else []
    for variable in stated:
        name = variable.removeprefix("incentive_")
        for regime, planned in regimes.items():
            if regime not in known or name not in planned:
                continue
            given, wanted = data[variable].values[known.index(regime)], planned[name]
            room = CLOSE * max(float(np.abs(wanted).max()), 1e-300)
            if np.shape(given) != np.shape(wanted) or np.abs(given - wanted).max() > room:
                raise DataError(
                    f"the data state another incentive {name!r} for regime {regime!r} than was "
                    "planned",
                    received=np.asarray(given).tolist(),
                    accepted=np.asarray(wanted).tolist(),
                    remedy="a table may leave the incentive out; what was deployed otherwise than "
                    "planned is a round of FixedArms",
                )
    names = next(iter(regimes.values()))
    other = [v for v in stated if v.removeprefix("incentive_") not in names]
    if other:
        raise DataError(
            "the data state incentives that the campaign's problem does not have",
            received=", ".join(v.removeprefix("incentive_") for v in other),
            accepted=", ".join(names),
            remedy="the data of this campaign's problem",
        )
    return with_incentives(data, regimes)


def _check_observed(problem: Problem, data: Any) -> None:
    unseen = int((data["context"].values.astype(str) == "").sum())
    if unseen and problem.contexts.num_contexts > 1:
        raise DataError(
            "contexts were not observed; a campaign counts by context",
            received=f"{unseen} of {data.sizes['episode']} episodes without one",
            accepted=f"one of {', '.join(problem.contexts.names)} for each",
        )
    groups, _ = groups_of(problem, data["group"].values.astype(str))
    alone = problem.followers.num_followers == 1 and len(groups) == 1
    if groups != problem.followers.names and not alone:
        raise DataError(
            "the data's groups are not the problem's followers",
            received=", ".join(groups),
            accepted=", ".join(problem.followers.names),
        )


def _check_size(data: Any, name: str, watch: Watch, accept_fewer: bool) -> None:
    """Refuse fewer episodes than planned, where steps do not tell how much to watch."""
    episodes, steps = data.sizes["episode"], int((data["state"].values != MISSING).sum())
    by_steps = watch.num_steps < watch.num_episodes * watch.max_steps
    short = steps < watch.num_steps if by_steps else episodes < watch.num_episodes
    if short and not accept_fewer:
        noun, got, wanted = (
            ("steps", steps, watch.num_steps)
            if by_steps
            else ("episodes", episodes, watch.num_episodes)
        )
        raise DataError(
            f"regime {name!r} has fewer {noun} than planned",
            received=f"{got:,}",
            accepted=f"{wanted:,} or more",
            remedy="all of the round's data; or accept_fewer=True (--accept-fewer)",
        )


def _counted(
    problem: Problem, data: Any, point: np.ndarray, watch: Watch, run: Callable[..., Answer]
) -> Recorded:
    state, action = data["state"].values, data["action"].values
    active = state != MISSING
    length = active.sum(1)
    C, F = problem.contexts.num_contexts, problem.followers.num_followers
    context, follower = _pairs(problem, data)
    mdps = _mdps(problem, point, context, follower)
    following = _next_states(data, mdps, context, follower)
    last = state[np.arange(len(state)), length - 1]
    ends = {pair: np.asarray(mdp.terminal, bool) for pair, mdp in mdps.items()}
    ended = np.array([ends[c, f][s] for c, f, s in zip(context, follower, last, strict=True)])
    whole = ended | (length >= watch.max_steps)

    pair = context * F + follower
    most = int(np.bincount(pair, minlength=C * F).max())
    blank = {n: np.zeros((C * F, most, state.shape[1]), int) for n in ("state", "action", "next")}
    there = np.zeros((C * F, most, state.shape[1]), bool)
    long, complete = np.zeros((C * F, most), int), np.zeros((C * F, most), bool)
    for which in range(C * F):
        rows = np.flatnonzero(pair == which)
        blank["state"][which, : len(rows)] = np.maximum(state[rows], 0)
        blank["action"][which, : len(rows)] = np.maximum(action[rows], 0)
        blank["next"][which, : len(rows)] = following[rows]
        there[which, : len(rows)] = active[rows]
        long[which, : len(rows)], complete[which, : len(rows)] = length[rows], whole[rows]
    walked = Trajectories(
        jnp.asarray(blank["state"]),
        jnp.asarray(blank["action"]),
        jnp.asarray(blank["next"]),
        jnp.zeros(there.shape),
        jnp.asarray(there),
    )
    answer = jax.tree.map(np.asarray, run(point, walked, long, complete))
    begun = np.bincount(context, minlength=C).astype(float)
    limit = np.where(whole, max(watch.max_steps, int(length.max())), length)
    return Recorded(
        answer._replace(
            point=point,
            contexts=begun,
            choices=answer.choices - _not_observed(problem, data, context, follower),
        ),
        Episodes(context, follower, limit),
        int(limit.sum()),
    )


def _mdps(
    problem: Problem, point: np.ndarray, context: np.ndarray, follower: np.ndarray
) -> dict[tuple[int, int], MDP]:
    """Return the process of every (context, follower) that was seen, at the default parameters."""
    values, _ = problem.contexts.support(problem.default_parameters)
    incentive = problem.incentive.transform(problem.incentive.unflatten(point))
    found = {}
    for pair in set(zip(context.tolist(), follower.tolist(), strict=True)):
        own = problem.follower_parameters(problem.default_parameters, pair[1])
        value = jax.tree.map(lambda leaf, c=pair[0]: np.asarray(leaf)[c], values)
        found[pair] = problem.mdp_fn(incentive, value, own)
    return found


def _next_states(
    data: Any, mdps: Mapping[tuple[int, int], MDP], context: np.ndarray, follower: np.ndarray
) -> np.ndarray:
    """Return where each step led, (E, T): by the recorded slot, else by the next state."""
    state = data["state"].values
    found = np.concatenate([state[:, 1:], np.full((len(state), 1), MISSING)], axis=1)
    if "successor_slot" not in data:
        return found
    slot, action = data["successor_slot"].values, data["action"].values
    for pair, mdp in mdps.items():
        rows = np.flatnonzero((context == pair[0]) & (follower == pair[1]))
        row, step = np.nonzero((slot[rows] >= 0) & (state[rows] != MISSING))
        at = rows[row], step
        found[at] = np.asarray(mdp.transition.next_state(state[at], action[at], slot[at]))
    return found


def check_new(rounds: list[dict[str, Any]], digest: str) -> None:
    """Refuse data that some round of a manifest has already."""
    same = [entry["number"] for entry in rounds if entry.get("digest") == digest]
    if same:
        raise DataError(
            "these data were recorded before",
            received=f"the data of round {same[0]}",
            accepted="the data of the round that is planned",
        )


def checked_period(
    rounds: list[dict[str, Any]], period: tuple[str, str] | None
) -> list[str] | None:
    """Return first and last day; refuse what is no period, or overlaps with another."""
    if period is None:
        return None
    try:
        first, last = (date.fromisoformat(str(day)) for day in period)
        proper = first <= last
    except ValueError as error:
        raise DataError(
            "the period of a round cannot be read",
            received=repr(period),
            accepted="two days, as in ('2026-03-01', '2026-03-31')",
        ) from error
    if not proper:
        raise DataError(
            "the period of a round ends before it begins",
            received=f"{first} to {last}",
            accepted="the first day first",
        )
    for entry in rounds:
        if "period" not in entry:
            continue
        other = [date.fromisoformat(day) for day in entry["period"]]
        if first <= other[1] and other[0] <= last:
            raise DataError(
                f"the period overlaps with that of round {entry['number']}",
                received=f"{first} to {last}",
                accepted=f"days outside {other[0]} to {other[1]}",
            )
    return [first.isoformat(), last.isoformat()]
