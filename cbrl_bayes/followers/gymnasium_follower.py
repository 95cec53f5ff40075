"""Gymnasium, both ways: a follower trained in any environment, and a problem as an environment."""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cbrl_bayes.errors import InvalidInputError, import_extra
from cbrl_bayes.followers.episodes import Episode
from cbrl_bayes.followers.outside import OutsideFollower, Player
from cbrl_bayes.mdp import MDP

Act = Callable[[Any, np.random.Generator], Any]


def gymnasium_follower(
    make_env: Callable[[Mapping[str, np.ndarray], Any], Any],
    train: Callable[[Any, int], Act],
    *,
    read_state: Callable[[Any], int] = int,
    ends_on_arrival: bool = False,
    time_limit: float | None = None,
    name: str = "Gymnasium follower",
) -> OutsideFollower:
    """Let any trainer learn in a Gymnasium environment that carries the incentive.

    Parameters
    ----------
    make_env : callable
        ``(incentive, context) -> gymnasium.Env`` with a discrete action space. A trainer that
        keeps what it learned in each context reads the context off the environment: put it there.
    train : callable
        ``(env, seed) -> act``, and ``act(observation, rng)`` returns the action or
        (action, its log-probability).
    read_state : callable
        Observation -> number of the state in the leader's problem.
    ends_on_arrival : bool
        For environments that end when a terminal state is reached. In this package an action is
        still taken there; with True a step with action 0 is added in its place.
    time_limit : float, optional
        As in `OutsideFollower`.
    name : str
        For error messages.

    Returns
    -------
    OutsideFollower

    See Also
    --------
    environment_of : an environment made from a problem of this package.
    """

    def train_fn(
        incentive: Mapping[str, np.ndarray], context: Any, parameters: Mapping, seed: int
    ) -> Player:
        env = make_env(incentive, context)
        try:
            act = train(env, seed)
        except BaseException:
            env.close()
            raise

        def play(*, num_rollouts: int, num_steps: int, seed: int) -> list[Episode]:
            rng = np.random.default_rng(seed)
            return [
                _episode(env, act, read_state, num_steps, rng, ends_on_arrival)
                for _ in range(num_rollouts)
            ]

        # Closed with the last reference to the follower trained in it.
        weakref.finalize(play, env.close)
        return play

    return OutsideFollower(train_fn, time_limit=time_limit, name=name)


def _episode(
    env: Any,
    act: Act,
    read_state: Callable[[Any], int],
    num_steps: int,
    rng: np.random.Generator,
    ends_on_arrival: bool,
) -> Episode:
    observation, _ = env.reset(seed=int(rng.integers(2**31)))
    states, actions, rewards, logs = [read_state(observation)], [], [], []
    for _ in range(num_steps):
        answer = act(observation, rng)
        action, log = answer if isinstance(answer, tuple) else (answer, None)
        observation, reward, terminated, truncated, _ = env.step(action)
        states.append(read_state(observation))
        actions.append(int(action))
        rewards.append(float(reward))
        logs.append(log)
        if terminated or truncated:
            break
    if terminated and ends_on_arrival and len(actions) < num_steps:
        actions.append(0)
        rewards.append(0.0)
        logs.append(0.0)
    known = all(log is not None for log in logs)
    return Episode(states, actions, [float(log) for log in logs] if known else None, rewards)


def environment_of(mdp: MDP) -> Any:
    """Return a Gymnasium environment of one MDP: observations are state numbers.

    An episode terminates after the action taken in a terminal state, as everywhere in this
    package; it is never truncated (wrap it in ``gymnasium.wrappers.TimeLimit``). Where some
    actions are closed, ``info["action_mask"]`` says which are open, and `step` refuses others.

    Parameters
    ----------
    mdp : MDP
        E.g. ``problem.mdp_fn(incentive, context, parameters)``.

    Returns
    -------
    gymnasium.Env

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from cbrl_bayes.mdp import DenseTransition
    >>> env = environment_of(
    ...     MDP(jnp.ones((1, 2)), DenseTransition(jnp.ones((1, 2, 1))), jnp.ones(1), 0.5, 1.0))
    >>> env.reset(seed=0)[0], env.step(1)[1]
    (0, 1.0)
    """
    gymnasium = import_extra("gymnasium", "gymnasium")

    law = mdp.transition.to_dense().probability
    reward, table, terminal = (np.asarray(a) for a in (mdp.reward, law, mdp.terminal))
    initial, is_open = np.asarray(mdp.initial), np.asarray(mdp.is_open) != 0

    class Environment(gymnasium.Env):  # type: ignore[name-defined]
        """One follower's MDP."""

        observation_space = gymnasium.spaces.Discrete(mdp.num_states)
        action_space = gymnasium.spaces.Discrete(mdp.num_actions)

        def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple:
            super().reset(seed=seed)
            self.state = int(self.np_random.choice(len(initial), p=initial))
            return self.state, self._open()

        def _open(self) -> dict:
            return {"action_mask": is_open[self.state].astype(np.int8)}

        def step(self, action: Any) -> tuple:
            state, action = self.state, int(action)
            if not is_open[state, action]:
                raise InvalidInputError(
                    "this action is not available there",
                    received=f"action {action} in state {state}",
                    accepted=", ".join(map(str, np.flatnonzero(is_open[state]))),
                    remedy='info["action_mask"]',
                )
            earned = float(reward[state, action])
            if terminal[state]:
                return state, earned, True, False, self._open()
            self.state = int(self.np_random.choice(len(initial), p=table[state, action]))
            return self.state, earned, False, False, self._open()

    return Environment()
