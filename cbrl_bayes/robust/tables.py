"""Robust designs in the group ``decision``, and one table that compares all designs.

Beside the variables of a design study, `add_robust` writes into ``decision``:

| variable | dims | meaning |
|---|---|---|
| `incentive_cost` | design, chain, draw | what the incentive costs |
| `follower_value` | design, chain, draw, follower | expected soft value V* at the start |
| `own_objective` | chain, draw | each draw's own design, scored like the others |
| `best_objective` | chain, draw | what the best design known for a draw is worth |
| `depth` | chain, draw | share of draws closer to the posterior's centre |
| `criterion_value` | criterion, design | each criterion of each design, where it was chosen |
| `start_value` | criterion, start | what each ascent reached |
| `satisfied_probability` | constraint, design | share of draws in which the outcome is as wanted |
| `feasible` | design | 1 if a design keeps all chance constraints |
| `held_out_objective` | design, held_out | under draws on which no design was chosen |
| `held_out_best` | held_out | the best design known for such a draw, of these and the candidates |
| `held_out_depth` | held_out | share of draws closer to the posterior's centre |
| `held_out_criterion_value` | criterion, design | each criterion of each design (`HeldOut`) |
| `held_out_satisfied` | constraint, design | share of them in which the outcome is as wanted |

What carries no ``held_out`` in its name is told on draws that chose the designs, and flatters.
"""

import json

import arviz_stats as az
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from cbrl_bayes.designs import CVaR, readable_designs
from cbrl_bayes.problems import Problem
from cbrl_bayes.results.assembly import incentive_names
from cbrl_bayes.results.error_budget import error_budget
from cbrl_bayes.results.names import BEST_PER_DRAW, design_title
from cbrl_bayes.results.provenance import describe
from cbrl_bayes.results.table import Table, bounds, need_group, study_table, win_shares
from cbrl_bayes.robust.record import RobustStudy
from cbrl_bayes.robust.verdict import judge_robust

OBJECTIVES = (
    "objective",
    "objective_standard_error",
    "objective_context_error",
    "regret",
    "own_objective",
    "best_objective",
    "incentive_cost",
)
"""Variables in the unit of the leader's objective."""
OF_CRITERIA = ("criterion_value", "held_out_criterion_value", "start_value")
"""In the same unit: every criterion is a number of objectives, a tail of them or a regret."""
IN_OBJECTIVE_UNIT = ("mean", "mcse", "sd", "lower", "upper", "cvar_0.1", "regret")
CHOSEN_ON = "on the {} draws on which designs were chosen, which flatter them"
BEATS = "probability that the row's design is worth more than the column's"


def add_robust(
    study: xr.DataTree, problem: Problem, found: RobustStudy, settings: dict
) -> xr.DataTree:
    """Return a copy of a design study whose ``decision`` holds the robust designs too.

    Parameters
    ----------
    study : xarray.DataTree
        From `design`.
    problem : Problem
    found : RobustStudy
        For the study's draws, its known designs first.
    settings : dict
        What to record of how it was made.

    Returns
    -------
    xarray.DataTree
    """
    before = study["decision"].to_dataset()
    shape = (study["design"].sizes["chain"], study["design"].sizes["draw"])
    known, asked = before.sizes["design"], list(found.names[before.sizes["design"] :])
    scores = found.scores

    def by_draw(array: np.ndarray, *more: str) -> tuple:
        return ("design", "chain", "draw", *more), array.reshape(-1, *shape, *array.shape[2:])

    feasible = found.feasible.copy()
    if "feasible" in before:  # constraints of an earlier call
        feasible[:known] &= before["feasible"].values.astype(bool)
    kept = before.drop_dims("design").drop_vars(["criterion", "constraint"], errors="ignore")
    gone = ["criterion", "constraint", "held_out"]
    decision = kept.drop_dims(gone, errors="ignore").assign_coords(
        design=list(found.names), criterion=asked, follower=list(problem.followers.names)
    )
    decision = decision.assign(
        objective=by_draw(scores.objective),
        objective_standard_error=by_draw(scores.standard_error),
        objective_context_error=by_draw(scores.context_error),
        incentive_cost=by_draw(scores.incentive_cost),
        follower_value=by_draw(scores.follower_value, "follower"),
        regret=by_draw(found.best - scores.objective),
        solve_status=by_draw(scores.status),
        status=("design", np.append(before["status"].values, found.status)),
        unconstrained=(("design", "coordinate"), found.designs),
        own_objective=(("chain", "draw"), found.own_objective.reshape(shape)),
        best_objective=(("chain", "draw"), found.best.reshape(shape)),
        depth=(("chain", "draw"), found.depth.reshape(shape)),
        criterion_value=(("criterion", "design"), found.criterion_value),
        start_value=(("criterion", "start"), found.start_value),
        feasible=("design", feasible.astype(int)),
    )
    if found.constraints:
        decision = decision.assign_coords(constraint=list(found.constraints))
        decision["satisfied_probability"] = (("constraint", "design"), found.satisfied)
    decision = decision.assign(_held_out(found))
    for name in ("objective_other_law", "other_law_standard_error"):
        if name in before:  # of the designs that were there before
            decision[name] = before[name].reindex(design=list(found.names))
    rows = readable_designs(problem, found.designs)
    for name, variable in incentive_names(problem).items():
        decision[variable] = (before[variable].dims, rows[name], before[variable].attrs)
    for name in (*OBJECTIVES, *OF_CRITERIA, "held_out_objective", "held_out_best"):
        if name in decision:
            decision[name].attrs["units"] = problem.objective_unit
    decision["criterion_value"].attrs["draws"] = CHOSEN_ON.format(found.num_chosen_on)
    reviews, failures = judge_robust(found, known)
    # What was said of earlier designs still holds.
    decision.attrs = {
        "reviews": json.dumps(list(dict.fromkeys(_before(before, "reviews") + reviews))),
        "failures": json.dumps(_before(before, "failures") + failures),
        "settings": json.dumps([*_before(before, "settings"), describe(settings)], sort_keys=True),
    }
    tree = study.copy(deep=True)
    tree["decision"] = xr.DataTree(decision)
    tree["error_budget"] = xr.DataTree(error_budget(tree))
    return tree


def _held_out(found: RobustStudy) -> dict[str, tuple]:
    """Return what was found on draws that no design was chosen on, as variables."""
    scored = found.held_out
    if scored is None:
        return {}
    variables = {
        "held_out_objective": (("design", "held_out"), scored.objective),
        "held_out_best": ("held_out", scored.best),
        "held_out_depth": ("held_out", scored.depth),
        "held_out_criterion_value": (("criterion", "design"), scored.criterion_value),
    }
    if found.constraints:
        variables["held_out_satisfied"] = (("constraint", "design"), scored.satisfied)
    return variables


def compare_designs(
    study: xr.DataTree, *, prob: float = 0.9, kind: str = "eti", accept_failed: bool = False
) -> Table:
    """Compare each draw's own design, the common, the plug-in and all robust designs.

    Parameters
    ----------
    study : xarray.DataTree
        From `design` or `robust_designs`.
    prob : float
        Probability of the credible intervals, in (0, 1).
    kind : {"eti", "hdi"}
        Equal-tailed or highest-density.
    accept_failed : bool
        Show the numbers although the study failed its checks.

    Returns
    -------
    Table
        ``frame``: a row per design. Columns: mean of the objective over draws with its
        Monte-Carlo standard error, sd, interval, the mean of the worst tenth of the draws
        (cvar_0.1), mean regret and its upper quantile, every criterion that was asked for, and,
        where there are chance constraints, whether the design keeps them. ``frames`` also holds
        P(row's design is worth more than column's design), ties counted half, paired within draws.

        After `robust_designs` both rest on draws on which no design was chosen, if the posterior
        has others than the study's, and a last frame holds the rows of the study's draws, with
        *best per draw*. Else there are only those.

    Raises
    ------
    InvalidInputError
        For a tree without designs, or an interval that cannot be computed.
    """
    decision = need_group(study, "decision", "design(problem, fit, key=...) first")
    unit = str(study.attrs.get("objective_unit", ""))
    return study_table(
        study,
        f"leader's objective [{unit}] and regret by design",
        lambda: _frames(study, decision, prob, kind),
        accept_failed=accept_failed,
        prob=prob,
        kind=kind,
        units=dict.fromkeys(
            (*IN_OBJECTIVE_UNIT, _regret_quantile(prob), *_criteria(decision)), unit
        ),
    )


def _frames(
    study: xr.DataTree, decision: xr.Dataset, prob: float, kind: str
) -> dict[str, pd.DataFrame]:
    chosen_on = _rows(study, decision, prob, kind)
    if "held_out_objective" not in decision:
        return {"": chosen_on, BEATS: _beats(decision["objective"])}
    fresh = decision["held_out_objective"].rename(held_out="draw").expand_dims("chain")
    best = decision["held_out_best"].rename(held_out="draw").expand_dims("chain")
    rows = {
        design_title(name): _row(fresh.sel(design=name), best - fresh.sel(design=name), prob, kind)
        for name in decision["design"].values
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table["mcse"] = np.nan  # thinned from several chains: no order left to tell it from
    _add_criteria(table, decision, "held_out_criterion_value")
    if "held_out_satisfied" in decision:
        table["feasible"] = _yes_no(decision)
    heading = CHOSEN_ON.format(decision.sizes["chain"] * decision.sizes["draw"])
    return {"": table, BEATS: _beats(fresh), heading: chosen_on}


def _criteria(decision: xr.Dataset) -> list[str]:
    """Return the criteria that have no column of another name."""
    asked = map(str, decision["criterion"].values) if "criterion" in decision else ()
    return [name for name in asked if name not in ("expectation", "cvar_0.1")]


def _add_criteria(table: pd.DataFrame, decision: xr.Dataset, variable: str) -> None:
    for name in _criteria(decision):
        for which in decision["design"].values:
            value = decision[variable].sel(criterion=name, design=which)
            table.loc[design_title(which), name] = float(value)


def _yes_no(decision: xr.Dataset) -> list[str]:
    return ["yes" if kept else "no" for kept in decision["feasible"].values]


def _rows(study: xr.DataTree, decision: xr.Dataset, prob: float, kind: str) -> pd.DataFrame:
    own, best = own_and_best(study)
    rows = {BEST_PER_DRAW: _row(own, best - own, prob, kind)}
    for name in decision["design"].values:
        one = decision.sel(design=name)
        row = rows[design_title(name)] = _row(one["objective"], one["regret"], prob, kind)
        if "satisfied_probability" in decision:
            row["feasible"] = "yes" if int(one["feasible"]) else "no"
    table = pd.DataFrame.from_dict(rows, orient="index")
    if "criterion_value" in decision:
        _add_criteria(table, decision, "criterion_value")
    return table.fillna({"feasible": ""}) if "feasible" in table else table


def _row(objective: xr.DataArray, regret: xr.DataArray, prob: float, kind: str) -> dict:
    lower, upper = bounds(objective, prob, kind).values
    values = objective.values.ravel()
    return {
        "mean": float(values.mean()),
        "mcse": float(az.mcse(objective)) if objective.sizes["draw"] > 3 else np.nan,
        "sd": float(values.std()),
        "lower": float(lower),
        "upper": float(upper),
        "cvar_0.1": tail_mean(values),
        "regret": float(regret.mean()),
        _regret_quantile(prob): float(regret.quantile(prob)),
    }


def _regret_quantile(prob: float) -> str:
    return f"regret_q{100 * prob:g}"


def _beats(objective: xr.DataArray) -> pd.DataFrame:
    names = [design_title(name) for name in objective["design"].values]
    worth = objective.transpose("design", ...).values.reshape(len(names), -1)
    return pd.DataFrame(win_shares(worth), index=names, columns=names)


def own_and_best(study: xr.DataTree) -> tuple[xr.DataArray, xr.DataArray]:
    """Return what each draw's own design and the best known for it are worth, (chain, draw).

    Scored like the designs in ``decision``: with the same contexts and noise within a draw.
    """
    decision = study["decision"].to_dataset()
    own = decision.get("own_objective", study["design"].to_dataset()["leader_objective"])
    return own, decision.get("best_objective", own)


def tail_mean(values: np.ndarray, share: float = 0.1) -> float:
    """Return the mean of the lowest ``share`` of equally likely values (`CVaR`)."""
    flat = jnp.asarray(values).ravel()
    return float(CVaR(share).value(flat, flat, flat))


def _before(decision: xr.Dataset, name: str) -> list:
    return json.loads(decision.attrs.get(name, "[]"))
