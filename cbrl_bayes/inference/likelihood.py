"""The likelihood of counted behaviour, through the implicit derivative of the best response."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cbrl_bayes.behaviour import BehaviourCounts
from cbrl_bayes.mdp import MDP, finite_status
from cbrl_bayes.problems import (
    POPULATION,
    History,
    Problem,
    has_unknown_law,
    respond,
    settled,
    shared_network,
)
from cbrl_bayes.problems.successors import merged_probability


def policies(
    problem: Problem, counts: BehaviourCounts, parameters: Mapping[str, Any]
) -> tuple[Float[Array, "cell state action"], Int[Array, ""]]:
    """Solve for the log policy of every cell; also return the worst solve status.

    Where followers remember, a cell is an episode, and its policy in each state is the one after
    its own past: one scan over the steps, of all episodes at once.
    """
    parameters = with_populations(problem, counts, parameters)
    if problem.history is not None:
        return _given_own_past(problem, problem.history, counts, parameters)

    def solve(cell: tuple) -> tuple[Array, Array]:
        incentive, value, one = _cell_inputs(problem, counts, parameters, *cell)
        _, response = respond(problem, incentive, value, one)
        return response.log_policy, response.status

    log_policy, status = jax.lax.map(solve, jax.tree.map(jnp.asarray, counts.cells))
    return log_policy, status.max()


def _given_own_past(
    problem: Problem, history: History, counts: BehaviourCounts, parameters: Mapping[str, Any]
) -> tuple[Float[Array, "cell state action"], Int[Array, ""]]:
    def scan(cell: tuple, states: Array, actions: Array) -> tuple[Array, Array]:
        incentive, value, one = _cell_inputs(problem, counts, parameters, *cell)
        mdp = problem.mdp_fn(incentive, value, one)
        log_policy = history.along(mdp, one, states, actions)
        return log_policy, finite_status(mdp, log_policy)

    paths = counts.cells, counts.cell_states, counts.cell_actions
    log_policy, status = jax.vmap(scan)(*jax.tree.map(jnp.asarray, paths))
    return log_policy, status.max()


def row_policies(
    problem: Problem, counts: BehaviourCounts, parameters: Mapping[str, Any]
) -> tuple[Float[Array, "row action"], Int[Array, ""]]:
    """Return the log policy in every (cell, state) with observed choices, and the worst status.

    The same as `choice_rows` of `policies`, without the tables of all states where the contexts
    share one network.
    """
    parameters = with_populations(problem, counts, parameters)
    regime, context, group = counts.cells
    kinds, kind_of = np.unique(np.stack([regime, group]), axis=1, return_inverse=True)
    rows = jnp.zeros((len(counts.row_cell), problem.num_actions))
    statuses = []
    for number, (one_regime, one_group) in enumerate(kinds.T):
        cells = np.flatnonzero(kind_of.ravel() == number)
        incentive, values, one = _cell_inputs(
            problem, counts, parameters, one_regime, context[cells], one_group
        )
        network = shared_network(problem, incentive, values, one)
        if network is None:
            log_policy, status = policies(problem, counts, parameters)
            return choice_rows(counts, log_policy), status
        found = network.solve()
        mine = np.flatnonzero(np.isin(counts.row_cell, cells))
        place = jnp.searchsorted(jnp.asarray(cells), counts.row_cell[mine])
        of_rows = network.log_policy(found.values, place, jnp.asarray(counts.row_state[mine]))
        rows = rows.at[mine].set(of_rows)
        statuses.append(found.status.max())
    return rows, jnp.stack(statuses).max()


def choice_rows(
    counts: BehaviourCounts, log_policy: Float[Array, "cell state action"]
) -> Float[Array, "row action"]:
    """Return the log policy in every (cell, state) with observed choices."""
    return log_policy[counts.row_cell, counts.row_state]


def episode_log_likelihood(
    counts: BehaviourCounts,
    log_policy: Float[Array, "cell state action"],
    context_log_probability: Float[Array, " context"],
    evidence: Float[Array, "episode context"] | float = 0.0,
) -> Float[Array, " episode"]:
    """Return the log-likelihood of each episode's choices and context.

    An episode whose context was not observed is marginalised over contexts; then where it
    started and went also speaks of the context (``evidence``, from `context_evidence`).
    """
    by_context = _by_context(counts, log_policy) + evidence
    joint = context_log_probability + by_context
    seen = jnp.asarray(counts.episode_context)
    chosen = jnp.take_along_axis(joint, jnp.maximum(seen, 0)[:, None], axis=1)[:, 0]
    return jnp.where(seen >= 0, chosen, jax.nn.logsumexp(joint, axis=1))


def latent_log_likelihood(
    counts: BehaviourCounts,
    log_policy: Float[Array, "cell state action"],
    context_log_probability: Float[Array, " context"],
    evidence: Float[Array, "episode context"] | float = 0.0,
) -> Float[Array, ""]:
    """Return the total over the episodes whose context was not observed."""
    per_episode = episode_log_likelihood(counts, log_policy, context_log_probability, evidence)
    return jnp.where(counts.episode_context < 0, per_episode, 0.0).sum()


def context_evidence(
    problem: Problem, counts: BehaviourCounts, parameters: Mapping[str, Any]
) -> Float[Array, "episode context"] | float:
    """Return the log-probability of each hidden episode's first state and moves, by context.

    A context in which an episode would have ended, or could not have moved as it did, is ruled
    out. Zero for episodes with an observed context.
    """
    if not counts.has_latent_contexts:
        return 0.0
    parameters = with_populations(problem, counts, parameters)

    def one_cell(cell: tuple) -> tuple[Array, Array]:
        mdp = _cell_mdp(problem, counts, parameters, *cell)
        chance = mdp.transition.step_probability(
            jnp.asarray(counts.move_state),
            jnp.asarray(counts.move_action),
            jnp.asarray(counts.move_next),
        )
        going = chance * mdp.continues[counts.move_state]
        return _safe_log(mdp.initial[counts.first_state]), _safe_log(going)

    starts, moves = jax.lax.map(one_cell, jax.tree.map(jnp.asarray, counts.cells))
    num = len(counts.episode_names)
    of_episode = jnp.maximum(jnp.asarray(counts.episode_cells), 0)
    per_move = moves[of_episode[counts.move_episode], jnp.arange(moves.shape[1])[:, None]]
    # A move that was not made says nothing, not even where it is impossible.
    made = jnp.asarray(counts.move_count)[:, None]
    weighed = jnp.where(made > 0, per_move, 0.0) * made
    total = jax.ops.segment_sum(weighed, counts.move_episode, num)
    total += starts[of_episode, jnp.arange(num)[:, None]]
    return jnp.where(counts.episode_context[:, None] < 0, total, 0.0)


def transition_log_likelihood(
    problem: Problem, counts: BehaviourCounts, parameters: Mapping[str, Any]
) -> Float[Array, ""]:
    """Return the log-likelihood of the transitions, each under the law of its own cell."""
    cell, count = jnp.asarray(counts.transition_cell), jnp.asarray(counts.transition_count)
    place = counts.transition_state, counts.transition_action, counts.transition_slot
    parameters = with_populations(problem, counts, parameters)

    def one_cell(entry: tuple) -> Array:
        index, inputs = entry
        chance = _law(problem, counts, parameters, inputs)[place]
        made = (cell == index) & (count > 0)
        return (jnp.where(made, count, 0) * jnp.log(jnp.where(made, chance, 1.0))).sum()

    cells = jax.tree.map(jnp.asarray, counts.cells)
    return jax.lax.map(one_cell, (jnp.arange(counts.num_cells), cells)).sum()


def law_of_cell(
    problem: Problem, counts: BehaviourCounts, parameters: Mapping[str, Any], cell: tuple
) -> Array:
    """Return the transition probabilities that hold in one cell (regime, context, group).

    Where the law is an unknown parameter, those of a state that is listed twice are added up.
    """
    return _law(problem, counts, with_populations(problem, counts, parameters), cell)


def _law(
    problem: Problem, counts: BehaviourCounts, parameters: Mapping[str, Any], cell: tuple
) -> Array:
    law = _cell_mdp(problem, counts, parameters, *cell).transition
    return merged_probability(law) if has_unknown_law(problem) else law.probability


def _by_context(counts: BehaviourCounts, log_policy: Array) -> Float[Array, "episode context"]:
    cells = jnp.asarray(counts.episode_cells)[counts.entry_episode]
    per_entry = log_policy[
        jnp.maximum(cells, 0), counts.entry_state[:, None], counts.entry_action[:, None]
    ]
    weighed = jnp.where(cells >= 0, per_entry, 0.0) * counts.entry_count[:, None]
    return jax.ops.segment_sum(weighed, counts.entry_episode, len(counts.episode_names))


def with_populations(
    problem: Problem, counts: BehaviourCounts, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the parameters with each regime's population statistic, where followers meet.

    Whoever asks for several parts of a likelihood calls it first: the crowd then settles once.
    """
    if problem.population is None or POPULATION in parameters:
        return dict(parameters)

    def of_regime(incentive: dict[str, Array]) -> Array:
        return settled(problem, incentive, parameters)[POPULATION]

    incentives = {name: jnp.asarray(values) for name, values in counts.incentives.items()}
    return {**parameters, POPULATION: jax.lax.map(of_regime, incentives)}


def _cell_inputs(
    problem: Problem,
    counts: BehaviourCounts,
    parameters: Mapping[str, Any],
    regime: Any,
    context: Any,
    group: Any,
) -> tuple[dict[str, Array], Any, dict[str, Any]]:
    """Return incentive, context value and follower's parameters of one cell."""
    incentive = {name: jnp.asarray(v)[regime] for name, v in counts.incentives.items()}
    value = jax.tree.map(lambda leaf: jnp.asarray(leaf)[context], counts.context_values)
    if POPULATION in parameters:
        parameters = {**parameters, POPULATION: parameters[POPULATION][regime]}
    return incentive, value, problem.follower_parameters(parameters, group)


def _cell_mdp(
    problem: Problem, counts: BehaviourCounts, parameters: Mapping[str, Any], *cell: Any
) -> MDP:
    return problem.mdp_fn(*_cell_inputs(problem, counts, parameters, *cell))


def _safe_log(chance: Array) -> Array:
    """Return log, minus infinity at zero, without a gradient that is not a number."""
    positive = chance > 0.0
    return jnp.where(positive, jnp.log(jnp.where(positive, chance, 1.0)), -jnp.inf)
