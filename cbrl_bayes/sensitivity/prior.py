"""The group ``sensitivity``: what moves a study's results, from its draws alone.

Variables (``output``: a quantity of the study, ``parameter``: an uncertain parameter):

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
- ``sobol_first_order`` (output, parameter), ``sobol_interval`` (.., ci_bound) and
  ``draw_correlation`` (parameter, other_parameter): ranks of the draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import arviz_stats as az
import numpy as np
import pandas as pd
import xarray as xr
from arviz_stats.base import array_stats
from jaxtyping import Float, Int
from scipy.stats import rankdata

from cbrl_bayes.errors import InvalidInputError, explain
from cbrl_bayes.hypergradients import FAILED_ASCENTS
from cbrl_bayes.results.summary import entry_name
from cbrl_bayes.sensitivity.sobol import SobolIndices, WeightedDecision

__all__ = [
    "COMPONENTS",
    "THRESHOLD",
    "PowerScaling",
    "add_power_scaling",
    "add_sobol",
    "component_densities",
    "constant_priors",
    "parameter_table",
    "power_scale_weights",
    "power_scaling_sensitivity",
    "sensitivity_table",
    "study_outputs",
]

COMPONENTS = ("prior", "likelihood")
THRESHOLD = 0.05
"""Of `power_scaling`, from Kallioinen et al. (2024): above, an output is sensitive."""
RESULTS = ("leader_objective", "incentive_cost", "follower_value")


@dataclass(frozen=True)
class PowerScaling:
    """What power-scaling found, as plain arrays; C components, A alphas, O outputs.

    Attributes
    ----------
    outputs, options : tuple of str
    alphas : tuple of float
    sensitivity, standard_error : arrays, shape (C, O)
    decisions : tuple of WeightedDecision
        One per component, over the alphas.
    pareto_k : array, shape (C, A)
        NaN where alpha is 1, which needs no weights.
    unsolved : int array, shape (options,)
        Draws under which an option's best response did not converge.
    constant_priors : tuple of str
        From `constant_priors`.
    """

    outputs: tuple[str, ...]
    options: tuple[str, ...]
    alphas: tuple[float, ...]
    sensitivity: Float[np.ndarray, "component output"]
    standard_error: Float[np.ndarray, "component output"]
    decisions: tuple[WeightedDecision, ...]
    pareto_k: Float[np.ndarray, "component alpha"]
    unsolved: Int[np.ndarray, " option"]
    constant_priors: tuple[str, ...]


def study_outputs(study: xr.DataTree, outputs: Sequence[str] | None = None) -> xr.DataArray:
    """Return the scalar results of each designed draw, dims (chain, draw, output).

    Objective, cost and follower values of each draw's own design, every entry of its incentive,
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
    wanted = [*RESULTS, *incentives] if outputs is None else list(outputs)
    unknown = sorted(set(wanted) - {*RESULTS, *incentives})
    if unknown:
        raise InvalidInputError(
            explain(
                "these are no outputs of the study",
                received=unknown,
                accepted=", ".join([*RESULTS, *incentives]),
            )
        )
    columns: dict[str, np.ndarray] = {}
    for name in wanted:
        columns |= _entries(name, design[name])
    for which in decision["design"].values:
        columns[f"objective of {which} design"] = decision["objective"].sel(design=which).values
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
        Where the tree does not hold them (draws from another tool, or an old file), or where they
        are not finite.
    """
    absent = [
        n
        for n in ("log_prior", "log_likelihood")
        if n not in study.children or not study[n].data_vars
    ]
    if absent:
        raise InvalidInputError(
            explain(
                f"power-scaling needs the groups {', '.join(absent)}",
                received=f"a tree with {', '.join(study.children)}",
                remedy="infer(problem, data, ...) with this version, then design",
            )
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
            explain(
                "log densities of the designed draws are not finite",
                received=", ".join(f"{name}: {n} draws" for name, n in wrong.items() if n),
                accepted="finite numbers at every draw",
                remedy="a prior that gives every draw some density, or a fit whose best "
                "responses converge",
            )
        )
    return found


def constant_priors(study: xr.DataTree) -> tuple[str, ...]:
    """Return the sites whose prior density is the same at all designed draws: no power moves it."""
    prior = _scaled_priors(study)
    return tuple(str(n) for n, one in prior.data_vars.items() if np.ptp(one.values) == 0.0)


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


def power_scale_weights(
    log_density: Float[np.ndarray, "chain draw"], alpha: float
) -> tuple[Float[np.ndarray, " draw"], float]:
    r"""Return weights that turn posterior draws into draws of a power-scaled posterior.

    :math:`w \propto p^{\alpha - 1}`, Pareto-smoothed; above a Pareto k of .7 they cannot be
    relied on.

    Parameters
    ----------
    log_density : array, shape (chain, draw)
        Of the component that is raised to ``alpha``.
    alpha : float
        > 0; 1 leaves the posterior as it is.

    Returns
    -------
    tuple
        Weights that sum to one, shape (N,), and the Pareto k (NaN for equal weights).

    Examples
    --------
    >>> weights, _ = power_scale_weights(np.zeros((2, 50)), 0.8)
    >>> float(weights[0])
    0.01
    """
    flat = np.asarray(log_density, float).ravel()
    if alpha == 1.0 or np.ptp(flat) == 0.0:
        return np.full(flat.size, 1.0 / flat.size), np.nan
    log_weights, pareto_k = array_stats.psislw(-(alpha - 1.0) * flat)
    weights = np.exp(log_weights - log_weights.max())
    return weights / weights.sum(), float(pareto_k)


def power_scaling_sensitivity(
    outputs: xr.DataArray,
    densities: Mapping[str, np.ndarray],
    generator: np.random.Generator,
    num_resamples: int,
) -> tuple[Float[np.ndarray, "component output"], Float[np.ndarray, "component output"]]:
    """Return ArviZ's ``psense`` of each output, and its standard error by resampling draws.

    An output that does not vary has NaN.
    """
    values = outputs.values
    varies = np.isfinite(values).all((0, 1)) & (np.ptp(values, axis=(0, 1)) > 0)
    shape = (len(COMPONENTS), values.shape[-1])
    found, error = np.full(shape, np.nan), np.full(shape, np.nan)
    if not varies.any():
        return found, error
    tree = xr.DataTree.from_dict(
        {"posterior": xr.Dataset({"quantity": outputs.isel(output=np.flatnonzero(varies))})}
        | {
            f"log_{name}": xr.Dataset({name: (("chain", "draw"), densities[name])})
            for name in COMPONENTS
        }
    )
    flat = values[..., varies].reshape(-1, int(varies.sum())).T
    picks = generator.integers(0, flat.shape[1], (num_resamples, flat.shape[1]))
    for row, name in enumerate(COMPONENTS):
        if np.ptp(densities[name]) == 0.0:
            found[row, varies], error[row, varies] = 0.0, 0.0
            continue
        found[row, varies] = az.psense(tree, group=name)["quantity"].values
        again = [_sense(flat[:, pick], densities[name].ravel()[pick]) for pick in picks]
        error[row, varies] = np.std(again, axis=0, ddof=1)
    return found, error


def add_power_scaling(study: xr.DataTree, found: PowerScaling) -> xr.DataTree:
    """Return a copy of ``study`` with what power-scaling found in its group ``sensitivity``."""
    pairs = ("component", "alpha")

    def by_alpha(name: str) -> tuple:
        return pairs, np.stack([getattr(one, name) for one in found.decisions])

    options = np.array(found.options)
    dataset = xr.Dataset(
        {
            "power_scaling": (("component", "output"), found.sensitivity),
            "power_scaling_standard_error": (("component", "output"), found.standard_error),
            "expected_objective": (
                (*pairs, "option"),
                np.stack([one.expected for one in found.decisions]),
            ),
            "best_option": (pairs, np.stack([options[one.best] for one in found.decisions])),
            "loss_of_common": by_alpha("loss"),
            "loss_of_common_standard_error": by_alpha("loss_standard_error"),
            "effective_draws": by_alpha("effective_draws"),
            "pareto_k": (pairs, found.pareto_k),
            "unsolved": ("option", found.unsolved),
        },
        coords={
            "component": list(COMPONENTS),
            "alpha": list(found.alphas),
            "output": list(found.outputs),
            "option": list(found.options),
        },
    )
    for name in ("expected_objective", "loss_of_common", "loss_of_common_standard_error"):
        dataset[name].attrs["units"] = study.attrs.get("objective_unit", "")
    dataset["power_scaling"].attrs["constant_priors"] = ", ".join(found.constant_priors)
    return _merged(study, dataset)


def add_sobol(
    study: xr.DataTree,
    outputs: Sequence[str],
    parameters: Sequence[str],
    found: SobolIndices,
    draws: Float[np.ndarray, "draw parameter"],
    prob: float,
) -> xr.DataTree:
    """Return a copy of ``study`` with Sobol indices in its group ``sensitivity``."""
    ranks = rankdata(draws, axis=0)
    correlation = np.atleast_2d(np.corrcoef(ranks, rowvar=False))
    dims = ("output", "parameter")
    dataset = xr.Dataset(
        {
            "sobol_first_order": (dims, found.first_order),
            "sobol_interval": ((*dims, "ci_bound"), np.stack([found.lower, found.upper], axis=-1)),
            "draw_correlation": (("parameter", "other_parameter"), correlation),
        },
        coords={
            "output": list(outputs),
            "parameter": list(parameters),
            "other_parameter": list(parameters),
            "ci_bound": ["lower", "upper"],
        },
    )
    dataset["sobol_first_order"].attrs["meaning"] = "Var E[Y|X] / Var Y over posterior draws"
    dataset["sobol_interval"].attrs |= {
        "prob": prob,
        "kind": "normal, from resampled draws; does not hold the estimator's bias",
    }
    dataset["draw_correlation"].attrs["meaning"] = "rank correlation of the posterior draws"
    return _merged(study, dataset)


def sensitivity_table(study: xr.DataTree) -> pd.DataFrame:
    """Return one row per output: power-scaling with errors, and a word on what it says.

    ArviZ's words, at its threshold of .05: *potential prior-data conflict* where prior and
    likelihood both move the output (also where both simply inform it), *potential strong prior or
    weak likelihood* where only the prior does. ``unsolved``: draws whose number rests on a search
    that failed or a best response that did not converge; it is used as it stands.

    Raises
    ------
    InvalidInputError
        If the study holds no power-scaling.
    """
    if "sensitivity" not in study.children or "power_scaling" not in study["sensitivity"]:
        raise InvalidInputError(
            explain(
                "the study holds no power-scaling",
                remedy="prior_sensitivity(problem, study, ...) first",
            )
        )
    group = study["sensitivity"].to_dataset()
    columns = {}
    for name in COMPONENTS:
        columns[name] = group["power_scaling"].sel(component=name).values
        error = group["power_scaling_standard_error"].sel(component=name)
        columns[f"{name}_standard_error"] = error.values
    table = pd.DataFrame(columns, index=pd.Index(group["output"].values, name="output"))
    prior, likelihood = table["prior"] >= THRESHOLD, table["likelihood"] >= THRESHOLD
    weak = "potential strong prior or weak likelihood"
    says = np.where(prior & likelihood, "potential prior-data conflict", "")
    table["diagnosis"] = np.where(prior & ~likelihood, weak, says)
    if "unsolved_draws" in group:  # files of an earlier version lack it
        table["unsolved"] = group["unsolved_draws"].values
    return table


def _sense(outputs: np.ndarray, log_density: np.ndarray) -> np.ndarray:
    """As ``psense``, on plain arrays: outputs (O, N)."""
    lower, upper = 0.99, 1.01

    def shares(alpha: float) -> np.ndarray:
        weights = np.exp(array_stats.power_scale_lw(log_density, alpha=alpha))
        return (weights / weights.sum())[None]

    at = {"lower_w": shares(lower), "upper_w": shares(upper)}
    sense = array_stats.power_scale_sense
    return np.array(
        [sense(row[None], **at, lower_alpha=lower, upper_alpha=upper) for row in outputs]
    )


def _entries(name: str, array: xr.DataArray) -> dict[str, np.ndarray]:
    """Return every entry of a variable by its name, each (chain, draw)."""
    one = array.isel(chain=0, draw=0, drop=True)
    return {
        entry_name(name, one, index): array.values[(..., *index)] for index in np.ndindex(one.shape)
    }


def _unsolved_draws(study: xr.DataTree, outputs: Sequence[str]) -> Int[np.ndarray, " output"]:
    """Return, for each output of `study_outputs`, how many draws have a number that failed.

    For what is each draw's own, draws whose search failed; for the objective of a design, draws
    under which its best response did not converge.
    """
    own = int(study["design"].to_dataset()["status"].isin(FAILED_ASCENTS).sum())
    decision = study["decision"].to_dataset()
    served = (decision["solve_status"] != 0).sum(("chain", "draw"))
    shared = {
        f"objective of {which} design": int(served.sel(design=which))
        for which in decision["design"].values
    }
    return np.array([shared.get(output, own) for output in outputs])


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
