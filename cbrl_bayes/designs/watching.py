"""A transition law learned by watching a follower in rounds, before designs are searched."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from cbrl_bayes.designs.alternatives import WATCHED, Alternatives
from cbrl_bayes.designs.running import Running
from cbrl_bayes.designs.scoring import readable_designs
from cbrl_bayes.hypergradients import (
    DoublyRobust,
    LearnedModel,
    Rounds,
    RoundsProgram,
    RoundsResult,
)
from cbrl_bayes.hypergradients.doubly_robust import learned_model_of
from cbrl_bayes.hypergradients.learned_law import drawn_rows, law_posteriors
from cbrl_bayes.problems import Problem


class WatchedRounds(NamedTuple):
    """What a search in rounds saw, as arrays; R designs were watched.

    Attributes
    ----------
    unconstrained : array, shape (P,)
        The best design, before its transform.
    seen, standard_error : array, shape ()
        What episodes under it were worth, and the error of their mean.
    promised : array, shape (L,)
        Its objective under laws drawn from what was learned.
    round_unconstrained : array, shape (R, P)
    round_promised : array, shape (R, 2)
        Mean and standard deviation over laws before it was watched; NaN where none was drawn.
    round_seen, round_standard_error : arrays, shape (R,)
    round_steps : array, shape (R,)
        Steps of the follower.
    follower_steps : array, shape ()
        All of them.
    counts : array, shape (1 or C, S, A, K)
        Transitions; where the incentive moves the law, each weighs 1 / P.
    """

    unconstrained: np.ndarray
    seen: np.ndarray
    standard_error: np.ndarray
    promised: np.ndarray
    round_unconstrained: np.ndarray
    round_promised: np.ndarray
    round_seen: np.ndarray
    round_standard_error: np.ndarray
    round_steps: np.ndarray
    follower_steps: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, problem: Problem, found: RoundsResult) -> "WatchedRounds":
        """Take what is kept out of a search's result."""
        rounds = found.rounds
        nothing = np.full(2, np.nan)
        return cls(
            np.asarray(problem.incentive.flatten(found.unconstrained)),
            np.asarray(found.seen),
            np.asarray(found.standard_error),
            found.promised,
            np.stack([one.unconstrained for one in rounds]),
            np.stack(
                [
                    np.array([one.promised.mean(), one.promised.std(ddof=1)])
                    if one.promised.size
                    else nothing
                    for one in rounds
                ]
            ),
            np.array([one.seen for one in rounds]),
            np.array([one.standard_error for one in rounds]),
            np.array([one.follower_steps for one in rounds]),
            np.asarray(found.follower_steps),
            np.asarray(found.state.counts)[:, 0],
        )


def watch_in_rounds(
    problem: Problem,
    draws: Mapping[str, np.ndarray],
    *,
    estimator: LearnedModel | DoublyRobust,
    rounds: Rounds,
    key: Key[Array, ""],
    run: Running,
    before: RoundsResult | None = None,
) -> WatchedRounds:
    """Search in rounds at the mean of the draws, and return what was seen.

    Parameters
    ----------
    problem : Problem
    draws : mapping
        Parameter name -> array (N, ...); what has none takes its default.
    estimator : LearnedModel or DoublyRobust
    rounds : Rounds
    key : typed key
    run : Running
        Its records receive the search as one piece.
    before : RoundsResult, optional
        What was seen before a follower failed (`FollowerError.partial`).
    """
    known = {} if before is None else {"start": before.unconstrained, "state": before.state}
    steps = 0

    def on_step(taken: int) -> None:
        nonlocal steps
        steps += taken
        budget = rounds.follower_steps
        run.report("follower steps", min(steps, budget), budget)

    def search() -> dict[str, np.ndarray]:
        program = RoundsProgram(problem, estimator, rounds)
        parameters = _watched_parameters(problem, draws)
        found = program.run(parameters, key=key, on_step=on_step, **known)
        return WatchedRounds.of(problem, found)._asdict()

    return WatchedRounds(**run.once("rounds", search, stage="search in rounds"))


def _watched_parameters(problem: Problem, draws: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the mean of the draws: the follower that is watched has these parameters."""
    return problem.default_parameters | {n: jnp.asarray(v.mean(0)) for n, v in draws.items()}


def with_watched(problem: Problem, stated: Alternatives, seen: WatchedRounds) -> Alternatives:
    """Return stated designs and the best one that was watched."""
    found = readable_designs(problem, seen.unconstrained[None])
    both = {
        name: np.concatenate([stated.incentive[name], found[name]]) for name in stated.incentive
    }
    points = np.concatenate([stated.points, seen.unconstrained[None]])
    return Alternatives((*stated.names, WATCHED), points, both or found)


def laws_of_rounds(
    problem: Problem,
    draws: Mapping[str, np.ndarray],
    seen: WatchedRounds,
    estimator: LearnedModel | DoublyRobust,
    num: int,
    *,
    key: Key[Array, ""],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the concentration of the law's posterior given what was seen, and draws, (N, ...)."""
    prior = learned_model_of(estimator).prior
    prior_key, row_key = jax.random.split(key)
    whole = partial(law_posteriors, problem, _watched_parameters(problem, draws))
    posteriors = jax.jit(whole, static_argnums=(1, 2))
    concentration, several = posteriors(seen.counts, prior, num, key=prior_key)
    return np.asarray(concentration), drawn_rows(several, row_key)
