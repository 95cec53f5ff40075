"""Other models of the follower: myopic, lapsing, still learning; each a problem from a problem."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import (
    MDP,
    BestResponse,
    best_response,
    finite_status,
    replace_fields,
    soft_policy_values,
    value_iteration,
)
from cbrl_bayes.problems.record import Problem


def myopic(
    problem: Problem, share: float = 0.0, *, uncertain: bool = False, name: str = ""
) -> Problem:
    r"""Return the problem with followers who plan with a smaller discount than their own.

    They play :math:`\mathrm{softmax}(Q_\delta/\lambda)`, the soft optimum of the same problem
    with discount :math:`\delta = ` ``share`` :math:`\gamma`. With share 0 only the present reward
    counts; with share 1 they respond at best.

    Parameters
    ----------
    problem : Problem
        With soft-optimal followers.
    share : float
        In [0, 1].
    uncertain : bool
        Make the share a parameter ``discount_share`` that inference does not know; ``share`` is
        then its default, strictly between 0 and 1 (and the mean of its default prior).
    name : str
        Default: the problem's own, with ``_myopic`` added.

    Returns
    -------
    Problem

    Notes
    -----
    What the followers *get* (`LeaderOutcome.follower_value`) is counted with their own discount:
    the expected reward and entropy of what they play.

    Raises
    ------
    InvalidInputError
        For a share out of range, or a problem that already has another response.

    Examples
    --------
    >>> from cbrl_bayes.problems import follower_models, four_rooms
    >>> follower_models.myopic(four_rooms()).name
    'four_rooms_myopic'
    """
    checked = _checked("share", share, closed=not uncertain)
    return _with_response(
        problem,
        Myopic(None if uncertain else checked),
        name or f"{problem.name}_myopic",
        {"discount_share": checked} if uncertain else {},
    )


def lapsing(
    problem: Problem, lapse: float = 0.1, *, uncertain: bool = True, name: str = ""
) -> Problem:
    r"""Return the problem with followers who now and then act at random.

    They play :math:`(1-\epsilon)\,\pi^* + \epsilon / A`: with probability :math:`\epsilon` an
    action drawn uniformly. They plan as if they would not lapse. With :math:`\epsilon = 0` they
    respond at best.

    Parameters
    ----------
    problem : Problem
        With soft-optimal followers.
    lapse : float
        epsilon in [0, 1]; where ``uncertain``, strictly between 0 and 1, and the mean of its
        default prior, Beta(1, (1 - lapse) / lapse).
    uncertain : bool
        Make epsilon a parameter ``lapse`` that inference does not know.
    name : str
        Default: the problem's own, with ``_lapsing`` added.

    Returns
    -------
    Problem

    Raises
    ------
    InvalidInputError
        As `myopic`.

    Examples
    --------
    >>> from cbrl_bayes.problems import follower_models, two_state
    >>> follower_models.lapsing(two_state()).uncertain
    ('temperature', 'lapse')
    """
    share = _checked("lapse", lapse, closed=not uncertain)
    return _with_response(
        problem,
        Lapsing(None if uncertain else share),
        name or f"{problem.name}_lapsing",
        {"lapse": share} if uncertain else {},
    )


def learning(problem: Problem, num_sweeps: int, *, name: str = "") -> Problem:
    r"""Return the problem with followers who have not finished learning.

    They play :math:`\mathrm{softmax}(Q_k/\lambda)`, where :math:`Q_k = r + \gamma P V_k` and
    :math:`V_k` is what k soft Bellman sweeps make of zero: the first k + 1 steps ahead are seen,
    what lies beyond is not known yet. With many sweeps they respond at best; the error falls as
    :math:`\gamma^k`.

    Parameters
    ----------
    problem : Problem
        With soft-optimal followers.
    num_sweeps : int
        k >= 0. It is given, not inferred: compare a few by `cbrl_bayes.compare_followers`.
    name : str
        Default: the problem's own, with ``_learning_<k>`` added.

    Returns
    -------
    Problem

    Raises
    ------
    InvalidInputError
        For a negative number, or a problem that already has another response.

    Examples
    --------
    >>> from cbrl_bayes.problems import follower_models, four_rooms
    >>> follower_models.learning(four_rooms(), 3).response_fn
    Learning(num_sweeps=3)
    """
    if num_sweeps < 0:
        raise InvalidInputError("num_sweeps is too small", received=num_sweeps, accepted=">= 0")
    return _with_response(
        problem, Learning(num_sweeps), name or f"{problem.name}_learning_{num_sweeps}", {}
    )


@dataclass(frozen=True)
class Myopic:
    """Plans with ``share`` of its discount; None reads the parameter ``discount_share``."""

    share: float | None

    def __call__(
        self, mdp: MDP, parameters: Mapping[str, Any], initial_values: Array | None
    ) -> BestResponse:
        """Solve with the smaller discount; a warm start would be of another problem."""
        share = parameters["discount_share"] if self.share is None else self.share
        short = replace_fields(mdp, discount=jnp.asarray(mdp.discount) * share)
        found = best_response(short)
        return _played(mdp, found, found.log_policy)


@dataclass(frozen=True)
class Lapsing:
    """Lapses with probability ``lapse``; None reads the parameter of that name."""

    lapse: float | None

    def __call__(
        self, mdp: MDP, parameters: Mapping[str, Any], initial_values: Array | None
    ) -> BestResponse:
        """Mix the best response with the uniform policy."""
        lapse = parameters["lapse"] if self.lapse is None else self.lapse
        found = best_response(mdp, initial_values=initial_values)
        if self.lapse == 0.0:
            return found
        mixed = jnp.logaddexp(
            found.log_policy + jnp.log1p(-lapse), mdp.uniform_log_policy + jnp.log(lapse)
        )
        return _played(mdp, found, mixed)


@dataclass(frozen=True)
class Learning:
    """Has made ``num_sweeps`` soft Bellman sweeps from zero."""

    num_sweeps: int

    def __call__(
        self, mdp: MDP, parameters: Mapping[str, Any], initial_values: Array | None
    ) -> BestResponse:
        """Sweep and act; no solver can fail here, so only numbers that blow up are reported."""
        values = value_iteration(mdp, num_sweeps=self.num_sweeps)
        q_values = mdp.q_values(values)
        log_policy = mdp.log_policy(q_values / mdp.temperature)
        found = BestResponse(
            values,
            q_values,
            log_policy,
            jnp.asarray(self.num_sweeps),
            jnp.zeros(()),
            finite_status(mdp, q_values),
        )
        return _played(mdp, found, log_policy)


def _played(mdp: MDP, found: BestResponse, log_policy: Array) -> BestResponse:
    """Return what the policy that is played is worth in the follower's own problem."""
    values = soft_policy_values(mdp, log_policy)
    return replace(found, values=values, q_values=mdp.q_values(values), log_policy=log_policy)


def _with_response(
    problem: Problem, response: Myopic | Lapsing | Learning, name: str, more: Mapping[str, float]
) -> Problem:
    if problem.response_fn is not None:
        raise InvalidInputError(
            f"followers of problem {problem.name!r} already have a response of their own",
            received=problem.response_fn,
            accepted="soft-optimal followers",
        )
    taken = sorted(set(more) & set(problem.default_parameters))
    if taken:
        raise InvalidInputError(f"problem {problem.name!r} already has the parameters {taken}")
    return replace(
        problem,
        name=name,
        response_fn=response,
        parameters={**problem.parameters, **more},
        uncertain=(*problem.uncertain, *more),
        ranges={**problem.ranges, **dict.fromkeys(more, (0.0, 1.0))},
        parameter_units={**problem.parameter_units, **dict.fromkeys(more, "share")},
        per_follower=(*problem.per_follower, *more),
    )


def _checked(name: str, value: float, *, closed: bool) -> float:
    """Return a share; 0 and (for the discount) 1 only where it is fixed."""
    inside = 0.0 <= value <= 1.0 if closed else 0.0 < value < 1.0
    if not inside:
        raise InvalidInputError(
            f"{name} is out of range",
            received=value,
            accepted="[0, 1]" if closed else "between 0 and 1, both excluded",
        )
    return float(value)
