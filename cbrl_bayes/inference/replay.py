"""What draws of the parameters imply: derived values, densities, simulated data."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from numpyro import handlers
from scipy.sparse import csr_array

from cbrl_bayes.behaviour import BehaviourCounts
from cbrl_bayes.inference.chain_block import ONCE
from cbrl_bayes.inference.densities import site_densities
from cbrl_bayes.inference.likelihood import (
    choice_rows,
    policies,
    row_policies,
    transition_log_likelihood,
    with_populations,
)
from cbrl_bayes.inference.model import BehaviourModel

Draws = Mapping[str, np.ndarray]


class Replay:
    """Runs a model again for draws of its parameters.

    Draws are taken in blocks of one size, so that prior and posterior share compiled programs,
    and best responses are solved once per draw.

    Parameters
    ----------
    model : BehaviourModel
    block : int
        Draws in one call of a program.
    """

    def __init__(self, model: BehaviourModel, block: int) -> None:
        self.model, self.block = model, block
        # With all contexts known, an episode's choices are a weighted sum of entries of the rows:
        # a sparse product for all draws is ten times as fast as summing draw by draw.
        self._choices = None if model.counts.has_latent_contexts else _choices(model.counts)
        self._examined = _looped(self._examine, block)
        self._predicted = _looped(self._predict, block)

    def prior_draws(self, key: Key[Array, ""], num: int) -> tuple[Draws, np.ndarray]:
        """Draw all sampled sites from the prior; also return the random key left to each draw."""

        def drawn(key: Array) -> tuple[dict[str, Array], Array]:
            return jax.lax.map(self._draw, jax.random.split(key, num))

        draws, keys = jax.jit(drawn, compiler_options=ONCE)(key)
        return jax.tree.map(np.asarray, draws), np.asarray(keys)

    def examine(self, draws: Draws, kept: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
        """Return what follows from each draw, and its choice probabilities where ``kept``.

        Parameters
        ----------
        draws : mapping
            Sampled site -> array (draw, ...).
        kept : int array
            Draws whose choice probabilities are wanted, in ascending order.

        Returns
        -------
        parts : dict
            ``derived``, ``stats``, ``log_prior`` (name -> array (draw, ...)) and
            ``log_likelihood``, shape (draw, episode); of a family of contexts also
            ``context_density``, that of each episode's context, alike.
        rows : array, shape (kept, rows, A)
            Log policy in each decision point.
        """
        parts, rows = [], []
        for index, (part, log_policy) in self._in_blocks(self._examined, draws):
            if self._choices is not None:
                flat = log_policy.reshape(len(log_policy), -1)
                context = part["log_likelihood"][:, self._contexts]
                if self.model.context_family is not None:
                    part["context_density"] = context
                part["log_likelihood"] = context + (self._choices @ flat.T).T
            parts.append(part)
            rows.append(log_policy[np.isin(index, kept)])
        return _joined(parts), np.concatenate(rows)

    @property
    def _contexts(self) -> np.ndarray:
        """Which context law's entry is each episode's."""
        counts = self.model.counts
        of_families = np.arange(len(counts.episode_names))
        return counts.episode_context if self.model.context_family is None else of_families

    def predict(self, draws: Draws, keys: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Simulate data once for each draw, with its key and its choice probabilities."""
        given = {
            name: draws[name] for name in draws if name in self.model.problem.default_parameters
        }
        found = self._in_blocks(self._predicted, (given, keys, rows))
        return _joined([part for _, part in found])

    def _draw(self, key: Array) -> tuple[dict[str, Array], Array]:
        seeded = handlers.seed(rng_seed=key)
        with seeded, handlers.trace() as sites:
            self.model.parameters()
        free = {n: site["value"] for n, site in sites.items() if site["type"] == "sample"}
        return free, jax.random.key_data(seeded.rng_key)

    def _examine(self, draw: dict[str, Array]) -> tuple[dict[str, Any], Array]:
        model = self.model
        with handlers.trace() as sites, handlers.substitute(data=draw):
            parameters = with_populations(model.problem, model.counts, model.parameters())
        if self._choices is None:
            log_policy, status = policies(model.problem, model.counts, parameters)
            rows = choice_rows(model.counts, log_policy)
        else:
            rows, status = row_policies(model.problem, model.counts, parameters)
        stats = {"solve_status": status}
        if len(model.counts.transition_count):
            # It belongs to no one episode, so the pointwise log-likelihood does not hold it.
            stats["transition_log_likelihood"] = transition_log_likelihood(
                model.problem, model.counts, parameters
            )
        derived = {n: site["value"] for n, site in sites.items() if site["type"] == "deterministic"}
        return {
            "derived": derived,
            "stats": stats,
            "log_prior": site_densities(sites),
            "log_likelihood": (
                model.pointwise(parameters, log_policy)
                if self._choices is None
                else model.context_densities(parameters)
            ),
        }, rows

    def _predict(self, one: tuple[dict[str, Array], Array, Array]) -> dict[str, Array]:
        draw, key, rows = one
        with handlers.seed(rng_seed=key), handlers.trace() as sites:
            self.model.observe(self.model.complete(draw), rows, condition=False)
        return {n: site["value"] for n, site in sites.items() if site["type"] == "sample"}

    def _in_blocks(self, program: Callable, draws: Any) -> Iterator[tuple[np.ndarray, Any]]:
        """Yield positions and results; what fills up the last block is not computed."""
        num = len(jax.tree.leaves(draws)[0])
        for begin in range(0, num, self.block):
            index = np.minimum(np.arange(begin, begin + self.block), num - 1)
            whole = min(num - begin, self.block)
            found = program(jax.tree.map(lambda leaf, at=index: leaf[at], draws), whole)
            yield index[:whole], jax.tree.map(lambda leaf, n=whole: np.asarray(leaf)[:n], found)


def _choices(counts: BehaviourCounts) -> csr_array:
    """Return how often each entry of `choice_rows` occurs in each episode, (episode, row * A)."""
    num_actions = counts.action_count.shape[1]
    episode = counts.entry_episode
    cell = counts.episode_cells[episode, counts.episode_context[episode]]
    wanted, known = (
        cells * (1 + counts.entry_state.max(initial=0)) + states
        for cells, states in ((cell, counts.entry_state), (counts.row_cell, counts.row_state))
    )
    order = np.argsort(known)
    row = order[np.searchsorted(known[order], wanted)]
    shape = len(counts.episode_names), counts.action_count.size
    return csr_array(
        (counts.entry_count, (episode, row * num_actions + counts.entry_action)), shape
    )


def _looped(function: Callable, block: int) -> Callable:
    """Return a program for the first ``num`` of ``block`` draws; the rest is filled with zeros."""

    def program(draws: Any, num: Array) -> Any:
        def one(index: Array, found: Any) -> Any:
            fresh = function(jax.tree.map(lambda leaf: leaf[index], draws))
            return jax.tree.map(lambda leaf, new: leaf.at[index].set(new), found, fresh)

        first = jax.tree.map(lambda leaf: leaf[0], draws)
        empty = jax.tree.map(
            lambda leaf: jnp.zeros((block, *leaf.shape), leaf.dtype),
            jax.eval_shape(function, first),
        )
        return jax.lax.fori_loop(0, num, one, empty)

    return jax.jit(program)


def _joined(parts: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
