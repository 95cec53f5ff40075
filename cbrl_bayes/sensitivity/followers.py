"""Whether another kind of follower predicts better, and what it costs to decide by the wrong one.

The group ``model_comparison``: per ``model`` ``elpd``, ``elpd_standard_error``, ``elpd_difference``
(to the best model, <= 0) and its standard error, ``weight`` (stacking), ``effective_parameters``,
``largest_pareto_k``, ``share_pareto_k_bad`` (above .7), ``elpd_difference_caution`` and
``elpd_caution`` (what ArviZ says against difference and elpd, "" for nothing: few episodes,
models that predict alike, how many Pareto k are above its bound); ``objective`` (designed_for,
model, sample): the common design for one model's posterior under another's draws; ``loss``, the
same dims: what it loses there against that model's own common design (negative draws are
possible); ``unsolved`` (designed_for, model): draws where a best response did not converge.
"""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import arviz_stats as az
import numpy as np
import xarray as xr
from arviz_stats.utils import ELPDData
from jaxtyping import Array, Float, Int, Key

from cbrl_bayes.designs import Evaluation, ExactEvaluation, Executor, evaluate_designs
from cbrl_bayes.errors import InvalidInputError, require_kind
from cbrl_bayes.problems import Problem
from cbrl_bayes.progress import Progress
from cbrl_bayes.results import designed, fingerprint, running
from cbrl_bayes.sensitivity.labels import COMMON, check_finite, opened

BAD_PARETO_K = 0.7


@dataclass(frozen=True)
class FollowerComparisonSettings:
    """How models of the follower are compared.

    Parameters
    ----------
    evaluation : Evaluation
        How designs are scored under each model; exact where possible.
    """

    evaluation: Evaluation = field(default_factory=ExactEvaluation)

    def __post_init__(self) -> None:
        require_kind(self.evaluation, Evaluation, "evaluation", "cb.ExactEvaluation()")


def compare_followers(
    problem: Problem,
    study: xr.DataTree,
    *,
    key: Key[Array, ""],
    others: Mapping[str, tuple[Problem, xr.DataTree]],
    name: str = "soft-optimal",
    settings: FollowerComparisonSettings | None = None,
    executor: Executor | None = None,
    num_workers: int = 2,
    checkpoint: str | Path | None = None,
    progress: Progress = None,
) -> xr.DataTree:
    """Compare models of the follower: how well they predict, and what each would decide.

    Prediction: PSIS-LOO over episodes (`arviz.compare`, stacking weights). Decision: the common
    design under each model is scored under every model's posterior draws.

    Parameters
    ----------
    problem : Problem
        The first model: the problem the study is of.
    study : xarray.DataTree
        From `infer` and `design`.
    key : typed key
    others : mapping
        Name of another model -> (problem, its study). The problems differ only in how followers
        respond (`problems.follower_models`). All are fitted to the same data and designed for the
        same number of draws.
    name : str
        Of the first model.
    settings : FollowerComparisonSettings, optional
    executor, num_workers, checkpoint, progress
        How it runs, as in `design`.

    Returns
    -------
    xarray.DataTree
        The study with the group ``model_comparison``; `loss_table` prints it.

    Raises
    ------
    InvalidInputError
        For no other model, models of the same name, different data or different incentives.
    NotConvergedError
        If some design has no finite objective under some draw.

    Notes
    -----
    That the data are the same is checked by what the fits keep of them (`check_same_data`), which
    is not everything.
    """
    settings = FollowerComparisonSettings() if settings is None else settings
    made = {name: opened(problem, study, key, settings, FollowerComparisonSettings)}
    studies = {name: study}
    for other, (model, tree) in _pairs(others, name).items():
        made[other], studies[other] = designed(model, tree), tree
    check_same_data(studies)
    if len({one.designs.shape[1] for one in made.values()}) > 1:
        raise InvalidInputError("the models' incentives differ, so their designs do not compare")
    common = np.stack([one.designs[one.names.index(COMMON)] for one in made.values()])
    labels = [f"common design for {model}" for model in made]
    with running(
        made[name].problem,
        executor=executor,
        num_workers=num_workers,
        checkpoint=checkpoint,
        progress=progress,
        question="comparison of followers",
        models=[(fingerprint(one.problem), one.problem, one.draws) for one in made.values()],
        designs=common,
        settings=settings,
        key=key,
    ) as run:
        scores = [
            evaluate_designs(
                one.problem,
                common,
                one.draws,
                key=key,
                evaluation=settings.evaluation,
                run=run,
                table=f"designs_under_model_{number}",
            )
            for number, one in enumerate(made.values())
        ]
    for one in scores:
        check_finite(labels, one)
    return add_model_comparison(
        study,
        studies,
        np.stack([one.objective for one in scores], axis=1),
        unsolved=np.stack([(one.status != 0).sum(1) for one in scores], axis=1),
    )


def check_same_data(studies: Mapping[str, xr.DataTree]) -> None:
    """Raise unless all fits seem to be of the same data, and are designed for as many draws.

    Compared are the numbers of episodes and choices, the groups, how often each action was chosen
    and how often each context is known. Fits keep nothing else of the data that does not depend on
    the model. So data that agree in all this and differ otherwise (in hidden contexts, or in which
    episode a choice belongs to) pass.

    Raises
    ------
    InvalidInputError
    """
    first, *others = studies.values()
    for tree in (first, *others):
        if "log_likelihood" not in tree.children or "design" not in tree.children:
            raise InvalidInputError(
                "a study to compare has no fit or no designs",
                received=f"groups {', '.join(tree.children)}",
                remedy="design(model, infer(model, data, ...), ...) for each",
            )
    shapes = {(t["design"].sizes["chain"], t["design"].sizes["draw"]) for t in studies.values()}
    if len(shapes) > 1:
        raise InvalidInputError(
            "the studies are designed for different numbers of draws",
            received=sorted(shapes),
            accepted="the same chains and draws in all",
        )
    seen = _seen(first)
    same = all(_seen(tree) == seen for tree in others)
    if not same or len({_size_of_data(tree) for tree in studies.values()}) > 1:
        raise InvalidInputError(
            "the studies were fitted to different data, so their models cannot be compared",
            remedy="fit every model to the same data",
        )


def add_model_comparison(
    study: xr.DataTree,
    studies: Mapping[str, xr.DataTree],
    objective: Float[np.ndarray, "designed_for model sample"],
    *,
    unsolved: Int[np.ndarray, "designed_for model"],
) -> xr.DataTree:
    """Return a copy of ``study`` with the group ``model_comparison``.

    Parameters
    ----------
    study : xarray.DataTree
    studies : mapping
        Model name -> fit, all of the same data.
    objective : array, shape (M, M, N)
        Common design of the first axis' model under the draws of the second's.
    unsolved : int array, shape (M, M)
        Draws of these where a best response did not converge.
    """
    names = list(studies)
    with warnings.catch_warnings():  # a large Pareto k is reported in the result instead
        warnings.filterwarnings("ignore", ".*Pareto", UserWarning)
        loos = {name: az.loo(tree, pointwise=True) for name, tree in studies.items()}
    table = az.compare(_centred(loos), round_to="none").loc[names]
    pareto_k = [np.asarray(loos[name].pareto_k) for name in names]
    own = objective[np.arange(len(names)), np.arange(len(names))]
    square = ("designed_for", "model", "sample")
    dataset = xr.Dataset(
        {
            "elpd": ("model", table["elpd"].to_numpy(float)),
            "elpd_standard_error": ("model", table["se"].to_numpy(float)),
            "elpd_difference": ("model", 0.0 - np.abs(table["elpd_diff"].to_numpy(float))),
            "elpd_difference_standard_error": ("model", table["dse"].to_numpy(float)),
            "weight": ("model", table["weight"].to_numpy(float)),
            "effective_parameters": ("model", table["p"].to_numpy(float)),
            "largest_pareto_k": ("model", [float(k.max()) for k in pareto_k]),
            "share_pareto_k_bad": ("model", [float((k > BAD_PARETO_K).mean()) for k in pareto_k]),
            "elpd_difference_caution": ("model", table["diag_diff"].to_numpy(str)),
            "elpd_caution": ("model", table["diag_elpd"].to_numpy(str)),
            "objective": (square, objective),
            "loss": (square, own[None] - objective),
            "unsolved": (("designed_for", "model"), unsolved),
        },
        coords={"model": names, "designed_for": names},
    )
    for name in ("objective", "loss"):
        dataset[name].attrs["units"] = study.attrs.get("objective_unit", "")
    dataset.attrs["fingerprints"] = json.dumps(
        {name: tree.attrs["fingerprint"] for name, tree in studies.items()}
    )
    tree = study.copy(deep=True)
    tree["model_comparison"] = xr.DataTree(dataset)
    return tree


def _pairs(others: Any, name: str) -> Mapping[str, tuple[Problem, xr.DataTree]]:
    """Return the other models after checking that they are named pairs."""
    remedy = 'others={"lapsing": (problem, study)}'
    require_kind(others, Mapping, "others", remedy)
    pairs = all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in others.values())
    if not others or not pairs or name in others:
        raise InvalidInputError(
            f"others cannot be compared with {name!r}",
            received=", ".join(f"{n}: {type(pair).__name__}" for n, pair in others.items()),
            accepted="at least one other name, each with (problem, study)",
            remedy=remedy,
        )
    return others


def _seen(tree: xr.DataTree) -> dict[Any, float]:
    """Return all that was observed, choices added up over decision points in the same place.

    A model of followers who remember has a decision point for each episode, others share them.
    """
    seen: dict[Any, float] = {}
    for name, values in tree["observed_data"].to_dataset().data_vars.items():
        places = [
            values[place].values
            for place in ("decision_state", "decision_context", "decision_follower", "action")
            if place in values.coords
        ] or [np.arange(values.size)]
        for *place, number in zip(*places, values.values.ravel(), strict=True):
            at = (name, *map(str, place))
            seen[at] = seen.get(at, 0.0) + float(number)
    return {at: number for at, number in seen.items() if number}


def _size_of_data(tree: xr.DataTree) -> tuple:
    """Return episodes, choices and groups of the data that a tree was fitted to."""
    attrs = tree.attrs
    return (
        tree["log_likelihood"].sizes.get("episode"),
        attrs.get("num_choices"),
        attrs.get("groups"),
    )


def _centred(loos: Mapping[str, ELPDData]) -> dict[str, ELPDData]:
    """Subtract from each episode's elpd its largest over the models.

    Stacking exponentiates them, and exp of less than -745 is 0: without this, long episodes would
    leave the weights at 1/M. The optimal weights and all differences stay as they are; so do the
    totals, which ArviZ takes from the field ``elpd``.
    """
    largest = np.max([one.elpd_i.values for one in loos.values()], axis=0)
    return {name: replace(one, elpd_i=one.elpd_i - largest) for name, one in loos.items()}
