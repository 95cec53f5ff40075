"""What came back from one incentive in one round, as counts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from cbrl_bayes.problems import Problem, respond_everywhere
from cbrl_bayes.problems.response import each_pair


class Answer(NamedTuple):
    """How followers answered one incentive. Leaves may have leading axes.

    Attributes
    ----------
    point : array, shape (P,)
        The incentive before its transform.
    choices : array, shape (C, F, S, A)
        How often each action was taken.
    moves : array, shape (C, F, S, A, K)
        Where steps led, by listed successor; one zero in its place where nobody asks for it.
    contexts : array, shape (C,)
        Episodes begun in each context.
    ended : int
        Episodes that ended by themselves or at their longest.
    worth, worth_square : float
        Sum, and sum of squares, of what the ended episodes were worth to the leader.
    steps : int
        Of the follower.
    """

    point: Float[Any, " coordinate"]
    choices: Float[Any, "context follower state action"]
    moves: Float[Any, "context follower state action successor"]
    contexts: Float[Any, " context"]
    ended: Int[Any, ""]
    worth: Float[Any, ""]
    worth_square: Float[Any, ""]
    steps: Int[Any, ""]

    @property
    def mean(self) -> Any:
        """Mean worth of an ended episode; not a number where none ended.

        Where steps are the budget, the episode that is cut is left out, and long ones are cut more
        often: of n episodes the mean leans towards short ones, by an order of 1/n.
        """
        return self.worth / np.where(self.ended > 0, self.ended, np.nan)

    @property
    def standard_error(self) -> Any:
        """Standard error of `mean`; not a number below two episodes."""
        number = np.where(self.ended > 1, self.ended, np.nan)
        spread = np.maximum(self.worth_square / number - (self.worth / number) ** 2, 0.0)
        return np.sqrt(spread / (number - 1.0))


class Episodes(NamedTuple):
    """Whose episodes are watched, in order.

    Attributes
    ----------
    context, follower, limit : int arrays, shape (E,)
        Context, follower and most steps of each.
    """

    context: Int[Any, " episode"]
    follower: Int[Any, " episode"]
    limit: Int[Any, " episode"]


class Watch(NamedTuple):
    """How much of one arm is watched: until so many episodes or so many steps.

    Attributes
    ----------
    num_episodes : int
        At most.
    num_steps : int
        At most, in all; the last episode is cut there.
    max_steps : int
        Longest episode.
    """

    num_episodes: int
    num_steps: int
    max_steps: int

    def episodes(self, problem: Problem, parameters: Any, key: Key[Array, ""]) -> Episodes:
        """Draw contexts; followers take turns."""
        _, context = problem.contexts.draw(parameters, key, self.num_episodes)
        follower = np.arange(self.num_episodes) % problem.followers.num_followers
        return Episodes(context, follower, np.full(self.num_episodes, self.max_steps))


class _Walk(NamedTuple):
    """Where a collection is."""

    step: Array
    episode: Array
    state: Array
    age: Array
    worth: Array
    answer: Answer


def collect(
    problem: Problem,
    point: Float[Array, " coordinate"],
    parameters: Any,
    episodes: Episodes,
    num_steps: int,
    key: Key[Array, ""],
) -> Answer:
    """Let followers who respond at best act, one episode after the other; compiled code.

    Parameters
    ----------
    problem : Problem
    point : array, shape (P,)
    parameters : mapping
        All of them.
    episodes : Episodes
    num_steps : int
        Most steps in all.
    key : typed key
    """
    tables = _Tables.of(problem, point, parameters)
    num = episodes.context.shape[0]
    start_key, walk_key = jax.random.split(key)
    heights = jax.random.uniform(start_key, (num,))
    blank = _blank(problem, point)

    def begun(number: Array) -> Array:
        at = jnp.minimum(number, num - 1)
        return _rung(tables.initial[tables.pair(episodes, at)], heights[at])

    def going(walk: _Walk) -> Array:
        return (walk.step < num_steps) & (walk.episode < num)

    def advance(walk: _Walk) -> _Walk:
        pair = tables.pair(episodes, walk.episode)
        height = jax.random.uniform(jax.random.fold_in(walk_key, walk.step), (2,))
        action = _rung(tables.policy[pair][walk.state], height[0])
        slot = _rung(tables.law[pair][walk.state, action], height[1])
        reached = tables.successor[pair][walk.state, action, slot]
        ends = tables.terminal[pair][walk.state]
        worth = walk.worth + tables.net[pair][walk.state, action] * (
            problem.leader_discount**walk.age
        )
        over = ends | (walk.age + 1 >= jnp.asarray(episodes.limit)[walk.episode])
        old = walk.answer
        answer = old._replace(
            choices=old.choices.at[*pair, walk.state, action].add(1.0),
            contexts=old.contexts.at[pair[0]].add(jnp.where(walk.age == 0, 1.0, 0.0)),
            ended=old.ended + over,
            worth=old.worth + jnp.where(over, worth, 0.0),
            worth_square=old.worth_square + jnp.where(over, worth**2, 0.0),
            steps=old.steps + 1,
        )
        following = walk.episode + over
        state = jnp.where(over, begun(following), reached)
        age = jnp.where(over, 0, walk.age + 1)
        worth = jnp.where(over, 0.0, worth)
        return _Walk(walk.step + 1, following, state, age, worth, answer)

    zero = jnp.zeros((), int)
    first = _Walk(zero, zero, begun(zero), zero, jnp.zeros(()), blank)
    return jax.lax.while_loop(going, advance, first).answer


def merged(answers: Sequence[Answer]) -> Answer:
    """Stack answers along a first axis, as NumPy arrays."""
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *answers)


def emptied(answer: Answer) -> Answer:
    """Return an answer in which nothing was seen, to pad lists of answers with."""
    counts = ("choices", "contexts", "moves")
    return answer._replace(**{name: np.zeros_like(getattr(answer, name)) for name in counts})


def _blank(problem: Problem, point: Array) -> Answer:
    shape = (
        problem.contexts.num_contexts,
        problem.followers.num_followers,
        problem.num_states,
        problem.num_actions,
    )
    none, zero = jnp.zeros(()), jnp.zeros((), int)
    return Answer(point, jnp.zeros(shape), none, jnp.zeros(shape[0]), zero, none, none, zero)


class _Tables(NamedTuple):
    """Cumulated laws and net rewards, leaves (C, F, ...)."""

    policy: Array
    law: Array
    successor: Array
    initial: Array
    terminal: Array
    net: Array

    @classmethod
    def of(cls, problem: Problem, point: Array, parameters: Any) -> "_Tables":
        incentive = problem.incentive.transform(problem.incentive.unflatten(point))
        log_policy, _ = respond_everywhere(problem, incentive, parameters)
        values, weights = problem.contexts.support(parameters)
        every = jnp.arange(problem.num_successors)
        S, A = problem.num_states, problem.num_actions

        def one(pair: tuple) -> tuple:
            context, follower = pair
            own = problem.follower_parameters(parameters, follower)
            mdp = problem.mdp_fn(incentive, context, own)
            net = (
                problem.leader_net_reward(incentive, context, own)
                if problem.leader_reward_fn is not None
                else jnp.full((S, A), jnp.nan)
            )
            reached = mdp.transition.next_state(
                jnp.arange(S)[:, None, None], jnp.arange(A)[:, None], every
            )
            return (
                jnp.cumsum(mdp.transition.probability, -1),
                jnp.broadcast_to(reached, (S, A, len(every))),
                jnp.cumsum(mdp.initial),
                jnp.asarray(mdp.terminal, bool),
                net,
            )

        found = jax.lax.map(one, each_pair(values, weights.shape[0], problem))
        shape = (weights.shape[0], problem.followers.num_followers)
        law, successor, initial, terminal, net = jax.tree.map(
            lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), found
        )
        policy = jnp.cumsum(jnp.exp(log_policy), -1)
        return cls(policy, law, successor, initial, terminal, net)

    def pair(self, episodes: Episodes, number: Array) -> tuple[Array, Array]:
        """Return context and follower of an episode."""
        return jnp.asarray(episodes.context)[number], jnp.asarray(episodes.follower)[number]


def _rung(ladder: Array, height: Array) -> Array:
    """Invert a cumulative distribution; rounding never leads past the last rung."""
    return (height * ladder[-1] >= ladder).sum().astype(int)
