"""Designs that lead to no MDP under some draws: which one, and what is wrong with it."""

import json
from collections.abc import Mapping

import numpy as np
import xarray as xr
from jaxtyping import Array, Key

from cbrl_bayes.designs.scoring import complete_draws
from cbrl_bayes.problems import Problem, check_mdps
from cbrl_bayes.results.names import design_title
from cbrl_bayes.status import SolveStatus


def with_invalid_mdps(
    tree: xr.DataTree, problem: Problem, draws: Mapping[str, np.ndarray], key: Key[Array, ""]
) -> xr.DataTree:
    """Return the tree with a sentence on each design that leads to an MDP that cannot be.

    Compiled programs mark such solves with `SolveStatus.INVALID_MDP`. This builds the first of
    them once more and looks at its numbers; the verdict is FAIL.
    """
    decision = tree["decision"].to_dataset()
    status = decision["solve_status"].transpose("design", "chain", "draw").values
    broken = status.reshape(len(status), -1) == SolveStatus.INVALID_MDP
    if not broken.any():
        return tree
    complete, _ = complete_draws(problem, draws)
    failures = json.loads(decision.attrs.get("failures", "[]"))
    for place in np.flatnonzero(broken.any(1)):
        first = int(broken[place].argmax())
        ahead = {name: values[: first + 1] for name, values in complete.items()}
        point = decision["unconstrained"].values[[place]]
        finding = check_mdps(problem, point, ahead, key=key).findings[0].partition("; ")[2]
        failures.append(
            f"the {design_title(decision['design'].values[place])} design leads to MDPs that "
            f"cannot be under {broken[place].sum()} of {broken.shape[1]} draws"
            f"{f': {finding}' if finding else ''}; state the bound in the incentive's transform"
        )
    tree = tree.copy()
    decision.attrs["failures"] = json.dumps(failures)
    tree["decision"] = xr.DataTree(decision)
    return tree
