"""The schema of a results tree, and a checker that lists all violations at once."""

from collections import Counter
from collections.abc import Iterable, Iterator
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
    "dynamics": _Group({"transition_count": (), "concentration": ()}),
    "rounds": _Group({"seen": ("round",), "follower_steps": ("round",)}),
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
STATUSES = ("status", "solve_status")
ATTRIBUTES = ("schema", "stage", "problem", "created", "versions", "settings", "fingerprint")


def repeated(labels: Iterable) -> list:
    """Return the labels that occur more than once.

    Examples
    --------
    >>> repeated(["a", "b", "a"])
    ['a']
    """
    counts = Counter(labels)
    return [label for label, count in counts.items() if count > 1]


def check_tree(tree: xr.DataTree) -> None:
    """Raise `ResultsError` naming every violation of the schema, all at once."""
    require_kind(tree, xr.DataTree, "tree", "a tree from cb.infer, cb.design or cb.load")
    found = list(tree_violations(tree))
    if found:
        raise ResultsError("this is not a complete results tree: " + "; ".join(found))


def tree_violations(tree: xr.DataTree) -> Iterator[str]:
    """Yield one sentence per violation.

    A tree of stage "fit" needs the groups of a fit, one of stage "design" also those of a
    design. Draws of another tool (stage "draws") need a posterior, a design from them (stage
    "design only") a posterior and the groups of a design. Labels occur once, and the groups of a
    design belong together: a tree joined of two that do not fit each other is refused.
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
        "draws": ("posterior",),
    }.get(stage)
    if needed is None:
        yield f"attribute stage is {stage!r}, accepted: fit, design, design only, draws"
        needed = ()
    groups = tree.children
    missing = [name for name in needed if name not in groups]
    if missing:
        yield f"groups are missing: {', '.join(missing)}"
    for name in GROUPS:
        if name in groups:
            yield from group_violations(tree, name)
    if "posterior" in groups and not tree["posterior"].data_vars:
        yield "posterior holds no draws"
    if "posterior" in groups and {"design", "decision"} <= set(groups):
        yield from _joined_violations(tree)


def _joined_violations(tree: xr.DataTree) -> Iterator[str]:
    """Yield what shows that the groups are not of one study."""
    posterior, design, decision = (
        tree[name].to_dataset() for name in ("posterior", "design", "decision")
    )
    for name, array in decision.data_vars.items():
        is_incentive = str(name).startswith("incentive") and name != "incentive_cost"
        if (is_incentive or name in ("status", "unconstrained")) and set(DRAWS) & set(array.dims):
            yield f"decision/{name} differs between draws: studies of other designs were joined"
    for dim in DRAWS:
        of_all, own, compared = (
            set(group[dim].values.tolist()) for group in (posterior, design, decision)
        )
        if not own <= of_all:
            yield f"design has draws that posterior does not have (axis {dim})"
        if own != compared:
            yield f"design and decision are of different draws (axis {dim})"


def group_violations(tree: xr.DataTree, name: str) -> Iterator[str]:
    """Yield one sentence per violation in one group; none for a group outside the schema."""
    wanted, dataset = GROUPS.get(name, _Group({})), tree[name].to_dataset()
    if name in FIT_GROUPS and tree.attrs.get("stage") in ("design only", "draws"):
        wanted = _Group({}, wanted.leading)  # of another tool
    for variable, dims in wanted.variables.items():
        if variable not in dataset:
            yield f"{name}/{variable} is missing"
        elif dataset[variable].dims[: len(dims)] != dims:
            yield f"{name}/{variable} has dims {dataset[variable].dims}, accepted: {dims} first"
    for dim, index in dataset.indexes.items():
        if not index.is_unique and dim != "episode":  # a follower may have several
            yield f"{name} has labels twice along {dim}: {list(index[index.duplicated()])[:3]}"
    for name_found, array in dataset.data_vars.items():
        if name_found in STATUSES and array.dtype.kind not in "iu":
            yield f"{name}/{name_found} has type {array.dtype}, accepted: whole numbers"
        if array.dims[: len(wanted.leading)] != wanted.leading:
            yield f"{name}/{name_found} has dims {array.dims}, accepted: {wanted.leading} first"
