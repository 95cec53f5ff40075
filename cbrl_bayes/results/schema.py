"""The schema of a results tree, and a checker that lists all violations at once."""

from collections.abc import Iterator
from dataclasses import dataclass

import xarray as xr

from cbrl_bayes.errors import ResultsError, require_kind

SCHEMA_NAME = "cbrl_bayes results 1"


@dataclass(frozen=True)
class _Group:
    """What a group must hold: variable -> leading dims."""

    variables: dict[str, tuple[str, ...]]
    leading: tuple[str, ...] = ()


DRAWS = ("chain", "draw")
GROUPS = {
    "posterior": _Group({}, DRAWS),
    "prior": _Group({}, DRAWS),
    "prior_predictive": _Group({}, DRAWS),
    "posterior_predictive": _Group({}, DRAWS),
    "log_likelihood": _Group({"behaviour": (*DRAWS, "episode")}, DRAWS),
    "log_prior": _Group({}, DRAWS),
    "sample_stats": _Group({"solve_status": DRAWS}, DRAWS),
    "observed_data": _Group({}),
    "variational": _Group({"loss": ("svi_step",)}),
    "design": _Group(
        {
            "leader_objective": DRAWS,
            "objective_standard_error": DRAWS,
            "incentive_cost": DRAWS,
            "follower_value": (*DRAWS, "follower"),
            "status": DRAWS,
        },
        DRAWS,
    ),
    "design_trace": _Group(
        {
            "objective": (*DRAWS, "iteration"),
            "gradient_norm": (*DRAWS, "iteration"),
            "step_norm": (*DRAWS, "iteration"),
            "truncated_share": (*DRAWS, "iteration"),
        },
        DRAWS,
    ),
    "decision": _Group(
        {
            "objective": ("design", *DRAWS),
            "objective_standard_error": ("design", *DRAWS),
            "regret": ("design", *DRAWS),
            "solve_status": ("design", *DRAWS),
            "status": ("design",),
            "restart_objective": ("restart",),
        }
    ),
    "response": _Group({}, DRAWS),
    "error_budget": _Group({"variance": ("source", "design"), "mean_error": ("design",)}),
    "information": _Group({"net_benefit": ("option", *DRAWS), "evpi": ()}),
    "sensitivity": _Group({}),
    "stress": _Group({"objective": ("stress", "design", *DRAWS)}),
    "model_comparison": _Group({"elpd": ("model",)}),
}
"""Group -> required variables; groups outside this list are left alone."""

FIT_GROUPS = (
    "posterior",
    "prior",
    "prior_predictive",
    "posterior_predictive",
    "log_likelihood",
    "sample_stats",
    "observed_data",
)
DESIGN_GROUPS = ("design", "design_trace", "decision")
OF_DESIGNS = (
    *DESIGN_GROUPS,
    "response",
    "error_budget",
    "information",
    "sensitivity",
    "stress",
    "model_comparison",
)
"""Groups that speak of the designs in the tree."""
ATTRIBUTES = ("schema", "stage", "problem", "created", "versions", "settings", "fingerprint")


def check_tree(tree: xr.DataTree) -> None:
    """Raise `ResultsError` naming every violation of the schema, all at once."""
    require_kind(tree, xr.DataTree, "tree", "a tree from cb.infer, cb.design or cb.load")
    found = list(tree_violations(tree))
    if found:
        raise ResultsError("this is not a complete results tree: " + "; ".join(found))


def tree_violations(tree: xr.DataTree) -> Iterator[str]:
    """Yield one sentence per violation.

    A tree of stage "fit" needs the groups of a fit, one of stage "design" also those of a
    design; a design from draws of another tool (stage "design only") needs posterior and
    design groups.
    """
    absent = [name for name in ATTRIBUTES if name not in tree.attrs]
    if absent:
        yield f"attributes are missing: {', '.join(absent)}"
    if tree.attrs.get("schema", SCHEMA_NAME) != SCHEMA_NAME:
        yield f"attribute schema is {tree.attrs['schema']!r}, accepted: {SCHEMA_NAME!r}"
    stage = tree.attrs.get("stage", "fit")
    needed = {
        "fit": FIT_GROUPS,
        "design": FIT_GROUPS + DESIGN_GROUPS,
        "design only": ("posterior", *DESIGN_GROUPS),
    }.get(stage)
    if needed is None:
        yield f"attribute stage is {stage!r}, accepted: fit, design, design only"
        needed = ()
    groups = tree.children
    missing = [name for name in needed if name not in groups]
    if missing:
        yield f"groups are missing: {', '.join(missing)}"
    for name, wanted in GROUPS.items():
        if name in groups:
            yield from _group_violations(name, wanted, groups[name].to_dataset())


def _group_violations(name: str, wanted: _Group, dataset: xr.Dataset) -> Iterator[str]:
    for variable, dims in wanted.variables.items():
        if variable not in dataset:
            yield f"{name}/{variable} is missing"
        elif dataset[variable].dims[: len(dims)] != dims:
            yield f"{name}/{variable} has dims {dataset[variable].dims}, accepted: {dims} first"
    for name_found, array in dataset.data_vars.items():
        if array.dims[: len(wanted.leading)] != wanted.leading:
            yield f"{name}/{name_found} has dims {array.dims}, accepted: {wanted.leading} first"
