"""What a study's tree holds for these questions, and the groups that answer them.

``sensitivity``: what moves a study's results. An ``output`` is a quantity of the study, a
``parameter`` an uncertain parameter.

- ``power_scaling`` and ``power_scaling_standard_error`` (component, output): ArviZ's ``psense``,
  how far an output's distribution moves as the exponent of prior or likelihood is doubled. The
  attribute ``constant_priors`` of the first lists priors that no power moves;
- ``expected_objective`` (component, alpha, option), ``best_option``, ``loss_of_common``,
  ``loss_of_common_standard_error``, ``effective_draws`` and ``pareto_k`` (component, alpha): the
  decision under the posterior with the component raised to alpha. The loss is against the best
  option by one half of the draws, scored on the other half;
- ``unsolved`` (option): draws under which the option's best response did not converge;
- ``unsolved_draws`` (output): draws whose own search failed, or under which the best response to
  the design in question did not converge. Their numbers are used as they stand;
- ``sobol_first_order``, ``sobol_standard_error`` (output, parameter) and ``draw_correlation``
  (parameter, other_parameter): ranks of the draws.

``stress``, dims (stress, design, chain, draw): ``objective``, ``objective_standard_error``,
``change`` (against the stress "none"; of the design "reoptimised" each world has its own),
``regret`` (against the design with the largest mean in that world), ``status``; ``best``
(stress); if it was searched, ``reoptimised_unconstrained`` (stress, coordinate) and
``reoptimised_status`` (stress), how that search ended.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from scipy.stats import rankdata

from cbrl_bayes.designs import Score
from cbrl_bayes.errors import (
    InvalidInputError,
    NotConvergedError,
    counted,
    require_key,
    require_kind,
)
from cbrl_bayes.hypergradients import FAILED_ASCENTS, AscentStatus
from cbrl_bayes.problems import Problem
from cbrl_bayes.results import Designed, designed
from cbrl_bayes.results.names import design_title, entry_name
from cbrl_bayes.sensitivity.prior import COMPONENTS, WeightedDecision
from cbrl_bayes.sensitivity.sobol import SobolIndices
from cbrl_bayes.sensitivity.stress import StressScores

COMMON = "common"
RESULTS = ("leader_objective", "incentive_cost", "follower_value")


def opened(problem: Problem, study: xr.DataTree, key: Any, settings: Any, kind: type) -> Designed:
    """Check what every question is given, and return what the study was made of."""
    require_key(key)
    require_kind(settings, kind, "settings", f"cb.{kind.__name__}(...)")
    return designed(problem, study)


def study_outputs(study: xr.DataTree, outputs: Sequence[str] | None = None) -> xr.DataArray:
    """Return the scalar results of each designed draw, dims (chain, draw, output).

    Objective, cost, follower values and every entry of the incentive of the best design per draw,
    and the objective of every design that serves all draws.

    Parameters
    ----------
    study : xarray.DataTree
        From `design`.
    outputs : sequence of str, optional
        Only these variables of the group ``design``; the designs' objectives always come along.

    Raises
    ------
    InvalidInputError
        For a name that the study does not have.
    """
    design, decision = study["design"].to_dataset(), study["decision"].to_dataset()
    incentives = [
        n for n in map(str, design.data_vars) if n.startswith("incentive") and n != "incentive_cost"
    ]
    require_kind(outputs, list | tuple | None, "outputs", f"outputs={[outputs]}")
    wanted = [*RESULTS, *incentives] if outputs is None else list(outputs)
    unknown = sorted(set(wanted) - {*RESULTS, *incentives})
    if unknown:
        raise InvalidInputError(
            "the study has no such outputs",
            received=unknown,
            accepted=", ".join([*RESULTS, *incentives]),
        )
    columns: dict[str, np.ndarray] = {}
    for name in wanted:
        columns |= _entries(name, design[name])
    for which in decision["design"].values:
        values = decision["objective"].sel(design=which).values
        columns[f"objective of {design_title(which)} design"] = values
    return xr.DataArray(
        np.stack(list(columns.values()), axis=-1),
        dims=("chain", "draw", "output"),
        coords={"chain": design["chain"], "draw": design["draw"], "output": list(columns)},
    )


def parameter_table(
    study: xr.DataTree, names: Sequence[str]
) -> tuple[list[str], Float[np.ndarray, "draw parameter"]]:
    """Return labels and draws (N, P) of every entry of some parameters, at the designed draws."""
    design = study["design"]
    posterior = study["posterior"].to_dataset().sel(chain=design["chain"], draw=design["draw"])
    columns: dict[str, np.ndarray] = {}
    for name in names:
        columns |= _entries(name, posterior[name])
    return list(columns), np.stack([value.ravel() for value in columns.values()], axis=-1)


def component_densities(study: xr.DataTree) -> dict[str, Float[np.ndarray, "chain draw"]]:
    """Return log prior and log likelihood of the designed draws.

    Priors are those of the parameters' unbounded forms (`inference.log_prior`). Of a hierarchy the
    prior of the population counts, not that of each group's offset. The likelihood is that of
    choices and contexts, and of transitions where they were recorded.

    Raises
    ------
    InvalidInputError
        If the tree does not hold them (draws from another tool, or an old file), or if they are
        not finite.
    """
    absent = [
        n
        for n in ("log_prior", "log_likelihood")
        if n not in study.children or not study[n].data_vars
    ]
    if absent:
        raise InvalidInputError(
            f"the study lacks the groups {', '.join(absent)}, which power-scaling needs",
            received=f"a tree with {', '.join(study.children)}",
            remedy="infer(problem, data, ...) with this version of the package, then design",
        )
    at = {"chain": study["design"]["chain"], "draw": study["design"]["draw"]}
    prior = _scaled_priors(study)
    pointwise = study["log_likelihood"].to_dataset()["behaviour"]
    likelihood = np.asarray(pointwise.sel(at).sum("episode").values)
    stats = study["sample_stats"].to_dataset()
    if "transition_log_likelihood" in stats:
        likelihood = likelihood + stats["transition_log_likelihood"].sel(at).values
    total = sum((prior[name].values for name in prior.data_vars), np.zeros(likelihood.shape))
    found = {"prior": total, "likelihood": likelihood}
    wrong = {name: int((~np.isfinite(one)).sum()) for name, one in found.items()}
    if any(wrong.values()):
        raise InvalidInputError(
            "log densities of the designed draws are not finite",
            received=", ".join(f"{name}: {counted(n, 'draw')}" for name, n in wrong.items() if n),
            accepted="finite numbers at every draw",
            remedy="a prior that is positive at every draw, or a fit whose best responses converge",
        )
    return found


def constant_priors(study: xr.DataTree) -> tuple[str, ...]:
    """Return the sites whose prior density is the same at all designed draws: no power moves it."""
    prior = _scaled_priors(study)
    return tuple(str(n) for n, one in prior.data_vars.items() if np.ptp(one.values) == 0.0)


def check_finite(names: Sequence[str], scores: Score) -> None:
    """Raise if a design has no finite objective under some draw."""
    wrong = (~np.isfinite(scores.objective)).sum(1)
    if wrong.any():
        listed = ", ".join(
            f"{n} ({counted(k, 'draw')})" for n, k in zip(names, wrong, strict=True) if k
        )
        raise NotConvergedError(
            "the objective of some designs is not finite under some draws",
            received=listed,
            accepted="finite numbers",
            remedy="look at these draws; a solver with more steps; fewer options (num_options)",
        )


def add_power_scaling(
    study: xr.DataTree,
    *,
    outputs: Sequence[str],
    options: Sequence[str],
    alphas: Sequence[float],
    sensitivity: Mapping[str, np.ndarray],
    decisions: Sequence[tuple[WeightedDecision, np.ndarray]],
    unsolved: Int[np.ndarray, " option"],
) -> xr.DataTree:
    """Return a copy of ``study`` with what power-scaling found in its group ``sensitivity``.

    Parameters
    ----------
    study : xarray.DataTree
    outputs, options, alphas : sequences
        Labels: O outputs, the options, A alphas.
    sensitivity : mapping
        ``sensitivity`` and ``standard_error``, arrays of shape (components, O).
    decisions : sequence
        One per component: the decision over the alphas and the Pareto k of its weights, NaN where
        alpha is 1, which needs no weights.
    unsolved : int array
        Draws under which an option's best response did not converge.
    """
    pairs = ("component", "alpha")
    names = np.array(options)

    def by_alpha(name: str, *more: str) -> tuple:
        return (*pairs, *more), np.stack([getattr(one, name) for one, _ in decisions])

    dataset = xr.Dataset(
        {
            "power_scaling": (("component", "output"), sensitivity["sensitivity"]),
            "power_scaling_standard_error": (
                ("component", "output"),
                sensitivity["standard_error"],
            ),
            "expected_objective": by_alpha("expected", "option"),
            "best_option": (pairs, np.stack([names[one.best] for one, _ in decisions])),
            "loss_of_common": by_alpha("loss"),
            "loss_of_common_standard_error": by_alpha("loss_standard_error"),
            "effective_draws": by_alpha("effective_draws"),
            "pareto_k": (pairs, np.stack([pareto_k for _, pareto_k in decisions])),
            "unsolved": ("option", unsolved),
        },
        coords={
            "component": list(COMPONENTS),
            "alpha": list(alphas),
            "output": list(outputs),
            "option": list(options),
        },
    )
    for name in ("expected_objective", "loss_of_common", "loss_of_common_standard_error"):
        dataset[name].attrs["units"] = study.attrs.get("objective_unit", "")
    dataset["power_scaling"].attrs["constant_priors"] = ", ".join(constant_priors(study))
    return _merged(study, dataset)


def add_sobol(
    study: xr.DataTree,
    outputs: Sequence[str],
    parameters: Sequence[str],
    found: SobolIndices,
    draws: Float[np.ndarray, "draw parameter"],
) -> xr.DataTree:
    """Return a copy of ``study`` with Sobol indices in its group ``sensitivity``."""
    ranks = rankdata(draws, axis=0)
    correlation = np.atleast_2d(np.corrcoef(ranks, rowvar=False))
    dims = ("output", "parameter")
    dataset = xr.Dataset(
        {
            "sobol_first_order": (dims, found.first_order),
            "sobol_standard_error": (dims, found.standard_error),
            "draw_correlation": (("parameter", "other_parameter"), correlation),
        },
        coords={
            "output": list(outputs),
            "parameter": list(parameters),
            "other_parameter": list(parameters),
        },
    )
    meanings = {
        "sobol_first_order": "Var E[Y|X] / Var Y over posterior draws",
        "sobol_standard_error": "spread over resamples of half the draws, without the bias",
        "draw_correlation": "rank correlation of the posterior draws",
    }
    for name, meaning in meanings.items():
        dataset[name].attrs["meaning"] = meaning
    return _merged(study, dataset)


def add_stress(study: xr.DataTree, found: StressScores) -> xr.DataTree:
    """Return a copy of ``study`` with the group ``stress``."""
    design = study["design"]
    shape = (design.sizes["chain"], design.sizes["draw"])
    dims = ("stress", "design", "chain", "draw")

    def shaped(array: np.ndarray) -> tuple:
        return dims, array.reshape(*array.shape[:2], *shape)

    dataset = xr.Dataset(
        {
            "objective": shaped(found.objective),
            "objective_standard_error": shaped(found.standard_error),
            "change": shaped(found.change),
            "regret": shaped(found.regret),
            "status": shaped(found.status),
            "best": ("stress", np.array(found.designs)[found.best]),
        },
        coords={
            "stress": list(found.stresses),
            "design": list(found.designs),
            "chain": design["chain"].values,
            "draw": design["draw"].values,
        },
    )
    if found.reoptimised is not None:
        dataset["reoptimised_unconstrained"] = (("stress", "coordinate"), found.reoptimised)
        dataset["reoptimised_status"] = ("stress", found.reoptimised_status)
        dataset["reoptimised_status"].attrs["meaning"] = json.dumps(
            {s.value: s.name for s in AscentStatus}
        )
    for name in ("objective", "objective_standard_error", "change", "regret"):
        dataset[name].attrs["units"] = study.attrs.get("objective_unit", "")
    tree = study.copy(deep=True)
    tree["stress"] = xr.DataTree(dataset)
    return tree


def _merged(study: xr.DataTree, dataset: xr.Dataset) -> xr.DataTree:
    """Put variables into the group ``sensitivity``; what was made before under them goes.

    With them go the coordinates that nothing else uses: labels of an earlier call leave no rows.
    """
    tree = study.copy(deep=True)
    if "sensitivity" in tree.children:
        before = tree["sensitivity"].to_dataset()
        kept = before.drop_vars([name for name in dataset.data_vars if name in before])
        used = {dim for one in kept.data_vars.values() for dim in one.dims}
        kept = kept.drop_dims([dim for dim in kept.dims if dim not in used])
        dataset = dataset if not kept.data_vars else xr.merge([kept, dataset], join="outer")
    dataset["unsolved_draws"] = (
        "output",
        _unsolved_draws(study, list(map(str, dataset["output"].values))),
    )
    tree["sensitivity"] = xr.DataTree(dataset)
    return tree


def _unsolved_draws(study: xr.DataTree, outputs: Sequence[str]) -> Int[np.ndarray, " output"]:
    """Return, for each output of `study_outputs`, how many draws have a number that failed.

    For what is each draw's own, draws whose search failed; for the objective of a design, draws
    under which its best response did not converge.
    """
    own = int(study["design"].to_dataset()["status"].isin(FAILED_ASCENTS).sum())
    decision = study["decision"].to_dataset()
    served = (decision["solve_status"] != 0).sum(("chain", "draw"))
    shared = {
        f"objective of {design_title(which)} design": int(served.sel(design=which))
        for which in decision["design"].values
    }
    return np.array([shared.get(output, own) for output in outputs])


def _scaled_priors(study: xr.DataTree) -> xr.Dataset:
    """Return the densities that count as prior: all but the offsets of hierarchies."""
    prior = study["log_prior"].to_dataset()
    offsets = [
        name
        for name in prior.data_vars
        if str(name).endswith("_offset")
        and str(name).removesuffix("_offset") + "_population" in prior
    ]
    at = {name: study["design"][name] for name in ("chain", "draw")}
    return prior.drop_vars(offsets).sel(at)


def _entries(name: str, array: xr.DataArray) -> dict[str, np.ndarray]:
    """Return every entry of a variable by its name, each (chain, draw)."""
    one = array.isel(chain=0, draw=0, drop=True)
    return {
        entry_name(name, one, index): array.values[(..., *index)] for index in np.ndindex(one.shape)
    }
