"""What a fit learned of an unknown transition law, and how: the group ``dynamics``."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Array, Key

from cbrl_bayes.designs import seldom_share
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.inference import BehaviourModel, transition_counts
from cbrl_bayes.problems import LAW, Problem
from cbrl_bayes.results.law_words import FEW_VISITS


def law_dims(num: int) -> list[str]:
    """Return the axes of the parameter `LAW`, which has so many."""
    return [*(["context"] if num == 4 else []), "state", "action", "successor"]


def learned_law(model: BehaviourModel, *, exact: bool) -> xr.Dataset:
    """Return what was seen and believed of the law, place by place, and how it was learned.

    Parameters
    ----------
    model : BehaviourModel
        With an `UnknownLaw`.
    exact : bool
        False for a variational fit.
    """
    law = model.unknown_law
    if law is None:
        raise InvalidInputError("the transition law of this model is known")
    counts = transition_counts(model.problem, model.counts)
    way = "joint" if law.is_joint else "cut" if exact else "cut at the mean"
    dims = law_dims(counts.ndim)
    found = xr.Dataset(
        {"transition_count": (dims, counts.astype(int)), "concentration": (dims, law.concentration)}
    )
    if "context" in dims:
        found = found.assign_coords(context=list(model.problem.contexts.names))
    found.attrs = {
        "learned": way,
        "transitions": int(counts.sum()),
        "free_probabilities": law.prior.num_free,
        "pairs": int(open_pairs(law.concentration).sum()),
        "seldom_seen": int(seldom_pairs(law.concentration, counts).sum()),
    }
    return found


def open_pairs(concentration: np.ndarray) -> np.ndarray:
    """Tell in which pairs there is something to learn."""
    return (concentration > 0.0).sum(-1) > 1


def seldom_pairs(concentration: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Tell which pairs were seen too seldom to be known by themselves."""
    return open_pairs(concentration) & (counts.sum(-1) < FEW_VISITS)


def refuse_known_law(problem: Problem, names: Iterable[Any]) -> None:
    """Refuse draws of a learned law for a problem that states a known one."""
    if LAW in set(map(str, names)) and LAW not in problem.parameters:
        raise InvalidInputError(
            f"the transition law was learned, and problem {problem.name!r} states a known one",
            received=f"draws of {LAW}",
            remedy="problem = cb.problems.with_unknown_law(problem), as its law was learned",
        )


def with_seldom_share(
    tree: xr.DataTree, problem: Problem, draws: Mapping[str, np.ndarray], key: Key[Array, ""]
) -> xr.DataTree:
    """Return the tree with the share of visits in pairs that a learned law saw seldom.

    ``seldom_share`` (design,) in the group decision, at the mean of the draws; the tree as it is
    where the law was not learned.
    """
    if "dynamics" not in tree.children or LAW not in draws:
        return tree
    told = tree["dynamics"].to_dataset()
    seldom = seldom_pairs(told["concentration"].values, told["transition_count"].values)
    decision = tree["decision"].to_dataset()
    parameters = problem.default_parameters | {n: v.mean(0) for n, v in draws.items()}
    points = decision["unconstrained"].values
    share = seldom_share(problem, points, parameters, seldom, key=key)
    tree = tree.copy()
    tree["decision"] = xr.DataTree(decision.assign(seldom_share=("design", share)))
    return tree
