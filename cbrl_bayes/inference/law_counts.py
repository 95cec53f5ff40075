"""What observed transitions say of an unknown law: its counts, and where they do not fit."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from cbrl_bayes.behaviour import BehaviourCounts, slots_of
from cbrl_bayes.errors import DataError, InvalidInputError
from cbrl_bayes.inference.likelihood import law_of_cell
from cbrl_bayes.inference.unknown_law import UnknownLaw
from cbrl_bayes.mdp import is_traced
from cbrl_bayes.problems import LAW, Problem, law_support


def transition_counts(
    problem: Problem, counts: BehaviourCounts
) -> Float[np.ndarray, "... state action successor"]:
    """Count transitions in the axes of the parameter `LAW`.

    Episodes whose context was not observed count where one law serves all contexts.
    """
    support = law_support(problem)
    by_context = support.successor.ndim == 4
    table = np.zeros(support.successor.shape)
    seen = counts.transition_state, counts.transition_action, counts.transition_slot
    whose = (counts.cell_context[counts.transition_cell],) if by_context else ()
    np.add.at(table, (*whose, *seen), counts.transition_count)
    if not by_context and len(counts.move_count):
        place = counts.move_state, counts.move_action
        slot = slots_of(support, counts.move_episode, *place, counts.move_next)
        np.add.at(table, (*place, slot), np.where(slot >= 0, counts.move_count, 0))
    return table


def check_transitions(problem: Problem, counts: BehaviourCounts, law: UnknownLaw) -> None:
    """Refuse data that say nothing of an unknown law, or that it rules out.

    Raises
    ------
    DataError
        Saying what is missing, or the first transition that cannot be.
    InvalidInputError
        If a cut is asked for that has no Dirichlet posterior.
    """
    if is_traced(counts.transition_count) or is_traced(counts.move_count):
        return
    table = transition_counts(problem, counts)
    hidden = counts.has_latent_contexts and table.ndim == 4
    if not table.sum() and not (hidden and counts.move_count.sum()):
        raise DataError(
            "the data hold no transitions, from which the unknown law could be learned",
            received=f"{len(counts.episode_names)} episodes without a next state",
            accepted="episodes of several steps, or the variable successor_slot",
            remedy="a problem whose law is known (not made by with_unknown_law)",
        )
    wrong = np.argwhere((table > 0) & ~(law.concentration > 0.0))
    if len(wrong):
        state, action = wrong[0][-3:-1].tolist()
        after = int(law_support(problem).successor[tuple(wrong[0])])
        raise DataError(
            "the data hold transitions that the law rules out",
            received=f"{int(table[tuple(wrong.T)].sum())} of {int(table.sum())}, the first from "
            f"state {state} with action {action} to state {after}",
            accepted="states to which mdp_fn gives some probability, or UnknownLaw.concentration",
            remedy="a law in mdp_fn that lists every state that can follow",
        )
    if not law.is_joint:
        _check_cut(problem, counts, hidden)


def _check_cut(problem: Problem, counts: BehaviourCounts, hidden: bool) -> None:
    """Refuse a cut where transitions alone give no Dirichlet posterior."""
    why = ""
    if hidden:
        why = "the law differs between contexts, and some contexts were not observed"
    elif any(_moved(problem, counts)):
        why = "the incentive moves the law, and the data are from another than the initial one"
    if why:
        raise InvalidInputError(
            "an unknown law cannot be cut from the rest here",
            received=why,
            accepted="transitions whose law has a Dirichlet posterior",
            remedy=f"priors={{{LAW!r}: cb.UnknownLaw(joint=True)}}",
        )


def _moved(problem: Problem, counts: BehaviourCounts) -> Iterator[bool]:
    """Say of each cell whether its law is another than the parameter."""
    possible = law_support(problem).possible
    even = possible / possible.sum(-1, keepdims=True)
    for cell in zip(*counts.cells, strict=True):
        own = even[cell[1]] if even.ndim == 4 else even
        found = law_of_cell(problem, counts, problem.default_parameters | {LAW: even}, cell)
        yield not np.allclose(np.where(own > 0.0, found, 0.0), own)
