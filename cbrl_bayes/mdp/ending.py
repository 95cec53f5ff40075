"""Without a discount: whether every path ends, and up to which temperature that is worth while."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import sparse

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp.linear import BackwardInduction, LinearSolver
from cbrl_bayes.mdp.record import MDP, is_traced
from cbrl_bayes.mdp.transition import StagedTransition, SuccessorTransition

MOST_SWEEPS = 20_000
ACCURACY = 1e-4
"""Relative accuracy of the critical temperature; its sign at the given temperature is exact."""
COLDEST = 1e-9
"""Share of the given temperature below which no critical temperature is looked for."""


def check_ends(mdp: MDP, names: Sequence[object] | None = None) -> None:
    r"""Refuse an undiscounted process that need not end, or that pays for never ending.

    A process with periods always ends. At discount 1 the sum of rewards has a limit only if every
    policy comes to an end: from every state a terminal one must be in reach through open actions.
    Entropy is worth something in every step. Where a follower can wander for ever, the value is
    infinite, although every policy ends, as soon as a step of wandering earns more than it costs:
    if :math:`\max_\pi \bar r_\pi + \lambda \bar H_\pi \ge 0` in some set of states that can be
    kept to. The temperature lambda at which this turns zero is the critical one. A process with a
    discount below 1 is asked only whether it ends (for a leader without a discount).

    Parameters
    ----------
    mdp : MDP
        Of known values; temperature = lambda, rationality = 1/lambda.
    names : sequence, optional
        Names of the states. Default: their numbers.

    Raises
    ------
    InvalidInputError
        Names a state from which no end can be reached, or the critical temperature.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from cbrl_bayes.mdp import MDP, SuccessorTransition
    >>> def walk(temperature):  # go on, or stay and pay
    ...     return MDP(
    ...         jnp.array([[-1.0, -1.0], [0.0, 0.0]]),
    ...         SuccessorTransition(jnp.array([[[0], [1]], [[1], [1]]]), jnp.ones((2, 2, 1))),
    ...         jnp.array([1.0, 0.0]), 1.0, temperature, terminal=jnp.array([False, True]),
    ...         available=jnp.array([[True, True], [True, False]]))
    >>> check_ends(walk(50.0))  # staying has one way: no entropy is earned by it
    """
    if isinstance(mdp.transition, StagedTransition):
        return
    law, going = _law_of(mdp)
    stuck = np.flatnonzero(~_reaches(law, ~going))
    if len(stuck):
        state = names[stuck[0]] if names is not None else int(stuck[0])
        more = f" (and from {len(stuck) - 1} more)" if len(stuck) > 1 else ""
        raise InvalidInputError(
            f"with discount 1 every path must end, but no end can be reached from state {state}"
            f"{more}",
            accepted="a way to a terminal state from every state",
            remedy="terminal=..., a discount below 1, or a number of periods (finite_horizon)",
        )
    wandering = _Wandering.of(mdp, law, going) if float(mdp.discount) == 1.0 else None
    if wandering is not None and wandering.pays(float(mdp.temperature)):
        raise _endless(mdp, wandering)


def critical_temperature(mdp: MDP) -> float:
    """Return the temperature from which wandering for ever is worth more than arriving.

    Parameters
    ----------
    mdp : MDP
        Of known values. Its discount and its own temperature are not used.

    Returns
    -------
    float
        lambda in units of reward, to 1 part in 10,000; infinite where nobody can wander, or
        where wandering leaves no choice and costs; 0 where it pays at any temperature.
    """
    law, going = _law_of(mdp)
    wandering = _Wandering.of(mdp, law, going)
    return np.inf if wandering is None else wandering.critical(float(mdp.temperature))


def require_end(mdp: MDP) -> None:
    """Apply `check_ends` where the discount is known to be 1 and all values are known."""
    if not is_traced(mdp) and float(mdp.discount) == 1.0:
        check_ends(mdp)


def first_values(mdp: MDP, solver: LinearSolver) -> Float[Array, " state"]:
    """Return values from which Newton's method is safe.

    With periods: backward induction, the answer. At discount 1: those of the uniform policy,
    which ends; from zeros the first policy might not. Else zeros.
    """
    fixed = jax.lax.stop_gradient(mdp)
    if isinstance(solver, BackwardInduction):
        return _backward(fixed)
    if not is_traced(mdp.discount):
        ends = float(mdp.discount) == 1.0
        return _of_uniform(fixed, solver) if ends else jnp.zeros(mdp.num_states)
    return jax.lax.cond(
        fixed.discount < 1.0, lambda: jnp.zeros(mdp.num_states), lambda: _of_uniform(fixed, solver)
    )


@partial(jax.jit, static_argnames="solver")
def _of_uniform(mdp: MDP, solver: LinearSolver) -> Array:
    """Return what taking all open actions alike is worth to the follower."""
    log_policy = mdp.uniform_log_policy
    policy = jnp.exp(log_policy)
    earned = (policy * (mdp.reward - mdp.temperature * log_policy)).sum(-1)
    return solver.solve(mdp, policy, mdp.discount, earned)


@jax.jit
def _backward(mdp: MDP) -> Array:
    """Return the soft values by one sweep from the last period to the first."""
    law = mdp.transition
    assert isinstance(law, StagedTransition)  # `default_linear_solver` chose by this
    reward, is_open, going = (
        law.by_period(jnp.asarray(table))
        for table in (mdp.reward, mdp.is_open, mdp.discount * mdp.continues)
    )

    def back(later: Array, entry: tuple) -> tuple[Array, Array]:
        period, earned, usable, ahead = entry
        q = earned + ahead[:, None] * law.stage(period).expectation(later)
        values = mdp.temperature * jax.nn.logsumexp(q / mdp.temperature, axis=-1, where=usable)
        return values, values

    entries = jnp.arange(law.num_periods), reward, is_open, going
    return jax.lax.scan(back, jnp.zeros(law.num_places), entries, reverse=True)[1].ravel()


def _law_of(mdp: MDP) -> tuple[sparse.csr_array, np.ndarray]:
    """Return the law of open pairs as a sparse matrix (S A, S), and which states go on."""
    S, A = mdp.reward.shape
    law = mdp.transition
    chance = np.asarray(law.probability)
    if isinstance(law, SuccessorTransition):
        to = np.asarray(law.successor)
    else:
        to = np.broadcast_to(np.arange(S), chance.shape)
    going = np.asarray(mdp.terminal) == 0
    used = (chance > 0.0) & (np.asarray(mdp.is_open) != 0)[..., None] & going[:, None, None]
    pair = np.broadcast_to(np.arange(S * A).reshape(S, A, 1), chance.shape)
    return sparse.csr_array((chance[used], (pair[used], to[used])), shape=(S * A, S)), going


def _reaches(law: sparse.csr_array, ends: np.ndarray) -> np.ndarray:
    """Return from which states an end can be reached."""
    S = len(ends)
    pair, to = law.nonzero()
    graph = sparse.csr_array((np.ones(len(to)), (to, pair // (law.shape[0] // S))), shape=(S, S))
    # From one state beyond all others, which leads to every end, against the arrows.
    first = sparse.csr_array(ends[None].astype(float))
    whole = sparse.block_array([[graph, None], [first, sparse.csr_array((1, 1))]], format="csr")
    order = sparse.csgraph.breadth_first_order(whole, S, return_predecessors=False)
    found = np.zeros(S + 1, bool)
    found[order] = True
    return found[:S]


class _Wandering(NamedTuple):
    """Sets of states that can be kept to for ever, with the pairs that keep to them."""

    reward: np.ndarray  # (pairs,)
    law: sparse.csr_array  # (pairs, S)
    first: np.ndarray  # where the pairs of each state begin
    state: np.ndarray  # the states, one for each entry of first
    component: np.ndarray  # of each of these states

    @classmethod
    def of(cls, mdp: MDP, law: sparse.csr_array, going: np.ndarray) -> "_Wandering | None":
        """Find the maximal end components; None where there is none."""
        S, A = mdp.reward.shape
        owner = np.arange(S * A) // A
        pairs = np.flatnonzero(np.diff(law.indptr) > 0)
        while len(pairs):
            part = law[pairs]
            row, to = part.nonzero()
            graph = sparse.csr_array((np.ones(len(to)), (owner[pairs][row], to)), shape=(S, S))
            _, label = sparse.csgraph.connected_components(graph, connection="strong")
            has_pair = np.zeros(S, bool)
            has_pair[owner[pairs]] = True
            leaves = np.zeros(len(pairs), bool)
            np.logical_or.at(leaves, row, (label[to] != label[owner[pairs][row]]) | ~has_pair[to])
            if not leaves.any():
                states, first = np.unique(owner[pairs], return_index=True)
                reward = np.asarray(mdp.reward).ravel()[pairs]
                return cls(reward, part, first, states, label[states])
            pairs = pairs[~leaves]
        return None

    def pays(self, temperature: float) -> bool:
        """Return whether wandering earns at least nothing a step in the long run."""
        values = np.zeros(self.law.shape[1])
        num = self.component.max() + 1
        for _ in range(MOST_SWEEPS):
            gain = self._sweep(values, temperature) - values[self.state]
            # Of any values: the long-run gain of a component lies between least and most.
            least, most = np.full(num, np.inf), np.full(num, -np.inf)
            np.minimum.at(least, self.component, gain)
            np.maximum.at(most, self.component, gain)
            if ((least >= 0.0) & np.isfinite(least)).any():
                return True
            if (most < 0.0).all():
                return False
            values[self.state] += 0.5 * gain  # half a step: no cycle keeps it from settling
        return True

    def critical(self, temperature: float) -> float:
        """Return the temperature at which wandering begins to pay, by bisection."""
        low = high = temperature
        while self.pays(low):
            low /= 10.0
            if low < COLDEST * temperature:
                return 0.0
        while not self.pays(high):
            high *= 10.0
            if high > temperature / COLDEST:
                return np.inf
        while high - low > ACCURACY * low:
            middle = np.sqrt(low * high)
            low, high = (low, middle) if self.pays(middle) else (middle, high)
        return float(low)

    def _sweep(self, values: np.ndarray, temperature: float) -> np.ndarray:
        q = (self.reward + self.law @ values) / temperature
        most = np.maximum.reduceat(q, self.first)
        size = np.diff(np.append(self.first, len(q)))
        total = np.add.reduceat(np.exp(q - np.repeat(most, size)), self.first)
        return temperature * (most + np.log(total))


def _endless(mdp: MDP, wandering: _Wandering) -> InvalidInputError:
    critical, now = wandering.critical(float(mdp.temperature)), float(mdp.temperature)
    meaning = "from where wandering for ever is worth more than arriving"
    if critical == 0.0:
        return InvalidInputError(
            "with discount 1 wandering for ever is worth more than arriving, at any temperature",
            received=f"temperature {now:.6g}",
            accepted="steps that cost something wherever one can go in circles",
            remedy="a cost for each step, a discount below 1, or a number of periods",
        )
    return InvalidInputError(
        f"temperature {now:.6g} is above {critical:.4g}, {meaning} (discount 1)",
        received=f"temperature (lambda) {now:.6g}; rationality 1/lambda {1.0 / now:.6g}",
        accepted=f"temperature below {critical:.4g}",
        remedy="dearer steps, a discount below 1, or a number of periods",
    )
