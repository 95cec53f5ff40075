"""Followers that live outside this package: any trainer, watched through its episodes alone."""

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from cbrl_bayes.errors import FollowerError, InvalidInputError
from cbrl_bayes.followers.episodes import Episode, as_trajectories
from cbrl_bayes.followers.oracle import TrajectorySampler
from cbrl_bayes.mdp import SolveStatus, Trajectories
from cbrl_bayes.problems import Problem


class Player(Protocol):
    """A trained follower: plays episodes from the initial law when asked."""

    def __call__(self, *, num_rollouts: int, num_steps: int, seed: int) -> Sequence[Episode]:
        """Return ``num_rollouts`` episodes of ``num_steps`` steps, or shorter if they end."""


Trainer = Callable[[Mapping[str, np.ndarray], Any, Mapping[str, float], int], Player]


@dataclass(frozen=True)
class OutsideFollower:
    """Hands the incentive to a trainer in plain Python and takes back episodes.

    The estimator gets episodes and nothing else: there is no policy here to look at. Episodes
    begin where the environment begins them, so estimators that restart the follower in chosen
    states (`HPGD`) cannot use it; `BoltzmannCovariance` and `ZerothOrder` can.

    Parameters
    ----------
    train_fn : callable
        ``(incentive, context, parameters, seed) -> Player``. ``incentive`` maps names to NumPy
        arrays in readable units; ``context`` is one context value; ``parameters`` are those the
        leader's model assumes (a real follower will not look at them), and ``follower``, the number
        of the one who is to train. It may keep what it
        learned between calls. This package makes float64 the default of JAX in the whole
        process: a trainer that uses JAX should name its number types.
    time_limit : float, optional
        Seconds for one training or one set of episodes; None waits for ever. When it passes,
        the call is abandoned (Python cannot stop it; it may go on in the background, so go on
        with a trainer that shares nothing with the abandoned one).
    name : str
        For error messages.

    Raises
    ------
    FollowerError
        When the follower fails, is too slow, or returns unusable episodes; the message names
        context and incentive. An ascent interrupted so hands over what it had reached
        (``error.partial``).
    InvalidInputError
        When it is asked to begin in a chosen state, or to act at another temperature.

    Examples
    --------
    >>> import jax, numpy as np
    >>> from cbrl_bayes.followers import Episode
    >>> from cbrl_bayes.hypergradients import BoltzmannCovariance
    >>> from cbrl_bayes.problems import two_state
    >>> def train(incentive, context, parameters, seed):
    ...     chance = 0.5 + 0.1 * float(np.clip(incentive["bonus"] - context, -1, 1))
    ...     def play(*, num_rollouts, num_steps, seed):
    ...         works = np.random.default_rng(seed).random(num_rollouts) < chance
    ...         return [Episode(state=[0, 1], action=[int(w)]) for w in works]
    ...     return play
    >>> problem, follower = two_state(), OutsideFollower(train, time_limit=10.0)
    >>> estimator = BoltzmannCovariance(num_rollouts=200, max_steps=1, oracle=follower)
    >>> x = problem.incentive.initial
    >>> state = estimator.init(problem, x, key=jax.random.key(0))
    >>> gradient, state, info = estimator.estimate(
    ...     problem, x, problem.default_parameters, state, key=jax.random.key(1))
    >>> int(info.follower_steps)
    200
    """

    runs_on_host: ClassVar[bool] = True
    train_fn: Trainer
    time_limit: float | None = None
    name: str = "outside follower"

    def __post_init__(self) -> None:
        if self.time_limit is not None and self.time_limit <= 0:
            raise InvalidInputError(
                "time_limit is not positive",
                received=self.time_limit,
                accepted="seconds > 0, or None",
            )

    def initial_memory(self, problem: Problem) -> tuple:
        """Return nothing: it keeps its own."""
        return ()

    def train(
        self,
        problem: Problem,
        incentive: Mapping[str, Array],
        context: Any,
        parameters: Mapping[str, Any],
        memory: tuple,
        *,
        key: Array,
    ) -> tuple[TrajectorySampler, tuple, Array]:
        """Let it train; see `TrajectoryOracle.train`."""
        if float(problem.heat) != 1.0:
            raise InvalidInputError(
                "an outside follower's temperature cannot be changed",
                received=f"temperature times {float(problem.heat):g}",
                remedy="an ascent with continuation=(1.0,)",
            )
        given = {name: np.asarray(value) for name, value in incentive.items()}
        place = jax.tree.map(np.asarray, context)
        call = _Call(self.name, given, place, self.time_limit)
        player = call.run(
            "training",
            self.train_fn,
            given,
            place,
            {name: np.asarray(value) for name, value in parameters.items()},
            _seed(key),
        )
        terminal = np.asarray(problem.mdp_fn(incentive, context, parameters).terminal)

        def sample(
            *,
            key: Array,
            num_steps: int,
            num_rollouts: int | None = None,
            initial_state: Array | None = None,
            initial_action: Array | None = None,
            step_limit: Array | None = None,
            noise_copies: int = 1,
        ) -> Trajectories:
            if initial_state is not None or initial_action is not None:
                raise InvalidInputError(
                    f"{self.name} cannot be started in a chosen state",
                    remedy="BoltzmannCovariance, which needs whole episodes only, or ZerothOrder",
                )
            wanted = num_rollouts or 1
            limit = np.full(wanted, num_steps) if step_limit is None else np.asarray(step_limit)
            limit = np.minimum(limit, num_steps)
            episodes = call.run(
                "playing", player, num_rollouts=wanted, num_steps=int(limit.max()), seed=_seed(key)
            )
            walked, faults = as_trajectories(
                episodes, limit, num_steps, problem.num_states, problem.num_actions, terminal
            )
            if walked is None:
                raise call.error("returned episodes that cannot be used: " + "; ".join(faults))
            return walked

        return sample, (), jnp.asarray(int(SolveStatus.CONVERGED))


@dataclass(frozen=True)
class _Call:
    """One call to the outside, and the error to raise if it goes wrong."""

    name: str
    incentive: Mapping[str, np.ndarray]
    context: Any
    time_limit: float | None

    def run(self, doing: str, function: Callable, *arguments: Any, **named: Any) -> Any:
        """Call in a thread of its own where there is a time limit."""
        if not callable(function):
            raise self.error(f"returned {function!r}, not a function")
        if self.time_limit is None:
            try:
                return function(*arguments, **named)
            except Exception as error:
                raise self.error(f"failed while {doing}: {_words(error)}") from error
        answers: queue.Queue = queue.Queue(maxsize=1)

        def work() -> None:
            try:
                answers.put((function(*arguments, **named), None))
            except BaseException as error:
                answers.put((None, error))

        threading.Thread(target=work, daemon=True, name=f"{self.name}, {doing}").start()
        try:
            answer, failure = answers.get(timeout=self.time_limit)
        except queue.Empty:
            raise self.error(
                f"did not finish {doing} within {self.time_limit:g} s",
                remedy="a longer time_limit, or less training",
            ) from None
        if failure is not None:
            raise self.error(f"failed while {doing}: {_words(failure)}") from failure
        return answer

    def error(self, what: str, remedy: str = "") -> FollowerError:
        """Return the error, with the incentive and context that the follower was given."""
        shown = ", ".join(
            f"{name} {np.array2string(value, threshold=6, edgeitems=2, precision=4)}"
            for name, value in self.incentive.items()
        )
        given = f"incentive {shown}; context {self.context}"
        return FollowerError(f"{self.name} {what}", received=given, remedy=remedy)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _seed(key: Array) -> int:
    return int(jax.random.randint(key, (), 0, np.iinfo(np.int32).max))
