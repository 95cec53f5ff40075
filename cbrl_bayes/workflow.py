"""The chain in two calls: `infer` turns behaviour into a posterior, `design` into incentives."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import xarray as xr
from jaxtyping import Array, Key

from cbrl_bayes.behaviour import count_behaviour
from cbrl_bayes.designs import (
    Alternatives,
    DesignSettings,
    DeviceExecutor,
    Executor,
    ThreadExecutor,
    default_design_settings,
    read_alternatives,
    score_under_other_laws,
    study_designs,
    with_watched,
)
from cbrl_bayes.designs.running import Running
from cbrl_bayes.errors import InvalidInputError, is_whole, require_key, require_kind
from cbrl_bayes.hypergradients import Estimator, Exact, Rounds
from cbrl_bayes.inference import (
    BehaviourModel,
    ContextFamily,
    NUTSSettings,
    OfGroups,
    Prior,
    SVISettings,
    default_priors,
    device_kind,
    fit,
    identification,
    known_values,
    prior_text,
)
from cbrl_bayes.problems import Problem, with_unknown_law
from cbrl_bayes.progress import Progress
from cbrl_bayes.results import (
    Checkpoint,
    Records,
    add_design,
    error_budget,
    fit_tree,
    for_next_period,
    from_draws,
    posterior_draws,
    running,
    thinned,
    with_groups,
    with_invalid_mdps,
    with_response,
    with_seldom_share,
    with_watched_law,
)

ALL_STEPS = 1_000_000_000


def behaviour_model(
    problem: Problem,
    data: xr.Dataset,
    *,
    priors: Mapping[str, Prior | dist.Distribution | Any] | None = None,
    context_family: ContextFamily | None = None,
) -> BehaviourModel:
    """Build the NumPyro model that `infer` fits; arguments as there."""
    require_kind(problem, Problem, "problem", "cb.problems.two_state(), or a cb.Problem")
    remedy = "cb.from_table, cb.load_trajectories or cb.make_trajectories, which return one"
    if isinstance(data, xr.DataTree):
        remedy = "the observed behaviour; a fit is what cb.design takes"
    require_kind(data, xr.Dataset, "data", remedy)
    require_kind(context_family, ContextFamily | None, "context_family")
    chosen = default_priors(problem, priors)
    grouped = any(isinstance(prior, OfGroups) for prior in chosen.values())
    known = problem.default_parameters
    alike = all(np.ndim(known[name]) == 0 for name in problem.per_follower if name in known)
    if alike and not grouped and "group" in data and not problem.tells_followers_apart:
        # Groups that share all parameters share their policies: solve once.
        data = data.assign(group=xr.full_like(data["group"], "all", dtype=object).astype(str))
    fixed = known_values(chosen, context_family, problem.followers.num_followers)
    estimated = {*chosen, *(context_family.priors if context_family else {})} - set(fixed)
    counts = count_behaviour(_at(problem, fixed), data, estimated=estimated)
    return BehaviourModel(problem, counts, chosen, context_family)


def _at(problem: Problem, known: Mapping[str, np.ndarray]) -> Problem:
    """Return the problem with what is known as its defaults, against which data are checked."""
    several = (problem.followers.num_followers,)
    own = {
        name: value
        for name, value in known.items()
        if name in problem.parameters
        and value.shape in ((), several, np.shape(problem.parameters[name]))
    }
    return replace(problem, parameters={**problem.parameters, **own}) if own else problem


def infer(
    problem: Problem,
    data: xr.Dataset,
    *,
    key: Key[Array, ""],
    priors: Mapping[str, Prior | dist.Distribution | Any] | None = None,
    settings: NUTSSettings | SVISettings | None = None,
    context_family: ContextFamily | None = None,
    executor: Executor | None = None,
    num_workers: int = 2,
    checkpoint: str | Path | Records | Checkpoint | None = None,
    progress: Progress = None,
) -> xr.DataTree:
    """Infer rationality, reward parameters and the context law from observed behaviour.

    Parameters
    ----------
    problem : Problem
        Its ``uncertain`` parameters and context law get priors.
    data : xarray.Dataset
        Trajectories (`load_trajectories`, `make_trajectories`, `from_table`).
    key : typed key
        From `jax.random.key`; same key, same draws.
    priors : mapping, optional
        Parameter name -> `Pooled`, `PerGroup`, `Hierarchical`, `Drift` or a NumPyro distribution,
        in the parameter's unit; replaces or adds to `default_priors`. A number (or a distribution
        of one value, such as `Delta`) says that the parameter is known: it stands in the
        posterior as a constant, and nothing is learned about it.
    settings : NUTSSettings or SVISettings, optional
        Default: NUTS with 4 chains.
    context_family : ContextFamily, optional
        For problems with continuous contexts.
    executor : Executor, optional
        Where chains run: `ThreadExecutor`, or `DaskExecutor`, where a piece of work is a whole
        chain. Default: ``num_workers`` threads of this process. Variational inference has no
        chains and runs in this process.
    num_workers : int
        Chains side by side, >= 1. The draws do not depend on it.
    checkpoint : str, Path or records, optional
        A folder that receives the chains as they are drawn, at most 50 steps of every chain at a
        time (all steps on Dask). If the run dies, the same call goes on from there, with
        the same draws, bit for bit, on the same kind of machine. Delete the folder when you no
        longer need it. Variational inference begins anew.
    progress : bool or callable, optional
        As in `design`.

    Returns
    -------
    xarray.DataTree
        Groups posterior, prior, prior_predictive, posterior_predictive, log_likelihood,
        sample_stats, observed_data.

    Notes
    -----
    JAX keeps what it compiled. A script that makes dozens of fits of different shapes can let go of
    it between them with `jax.clear_caches`.

    Raises
    ------
    DataError, InvalidInputError
        Naming every violation.
    ResultsError
        If the checkpoint belongs to a different run (what differs is named) or cannot be written.

    Examples
    --------
    >>> import jax, cbrl_bayes as cb
    >>> problem = cb.problems.four_rooms(temperature=0.004)
    >>> data = cb.simulate_trajectories(
    ...     problem, key=jax.random.key(0), num_episodes=6, num_steps=30)
    >>> fit = cb.infer(problem, data, key=jax.random.key(1),
    ...                settings=cb.SVISettings(num_steps=20, num_samples=8))
    >>> fit["posterior"]["temperature"].dims
    ('chain', 'draw')
    """
    require_kind(
        settings, NUTSSettings | SVISettings | None, "settings", "cb.NUTSSettings(num_samples=1000)"
    )
    require_key(key)
    if str(jax.random.key_impl(key)) != "threefry2x32":
        raise InvalidInputError(
            "the sampler takes keys of JAX's default kind only",
            received=f"a key of {jax.random.key_impl(key)}",
            accepted="jax.random.key(seed)",
        )
    model = behaviour_model(problem, data, priors=priors, context_family=context_family)
    model.require_unknown()
    advice = identification(model).advice
    settings = NUTSSettings() if settings is None else settings
    in_threads = isinstance(executor, ThreadExecutor | None)
    if isinstance(executor, DeviceExecutor):
        raise InvalidInputError(
            "chains cannot run inside one compiled program",
            received="DeviceExecutor",
            accepted="None, ThreadExecutor(...) or DaskExecutor(...)",
        )
    with running(
        problem,
        executor=executor,
        num_workers=num_workers,
        checkpoint=checkpoint,
        progress=progress,
        data=data,
        priors=model.priors,
        context_family=context_family,
        settings=settings,
        key=key,
        device=device_kind(),
    ) as run:
        draws = fit(
            model,
            key=key,
            settings=settings,
            records=run.records,
            report=run.report,
            over_chains=(executor or ThreadExecutor(num_workers)).run,
            **({} if in_threads else {"most_steps": ALL_STEPS}),
        )
    used = {
        "inference": settings,
        "priors": {name: prior_text(prior) for name, prior in model.priors.items()},
        "seed": np.asarray(jax.random.key_data(key)).tolist(),
    }
    return fit_tree(model, draws, data, used, advice)


def design(
    problem: Problem,
    fit: xr.DataTree | xr.Dataset | Mapping[str, np.ndarray] | pd.DataFrame,
    *,
    key: Key[Array, ""],
    estimator: Estimator | None = None,
    num_draws: int = 100,
    settings: DesignSettings | None = None,
    alternatives: Mapping[str, Mapping[str, Any] | str] | None = None,
    executor: Executor | None = None,
    num_workers: int = 2,
    checkpoint: str | Path | Records | Checkpoint | None = None,
    progress: Progress = None,
) -> xr.DataTree:
    """Solve the leader's problem under posterior draws and once for all of them.

    Parameters
    ----------
    problem : Problem
        If the fit has one value per group and the problem a single follower, the groups become
        its followers, with equal weights that sum to one. A problem with several followers must
        name them as the groups.
    fit : xarray.DataTree, xarray.Dataset, mapping or pandas.DataFrame
        From `infer`, or draws from any other tool, as `from_draws` reads them: for instance
        parameter name -> array (draws, ...).
    key : typed key
    estimator : Estimator, optional
        Default: `Exact()`.
    num_draws : int
        Posterior draws to solve for, evenly spaced; as many of each chain: this number or
        just above.
    settings : DesignSettings, optional
        Default: `default_design_settings`.
    alternatives : mapping, optional
        Designs to compare with, in readable values: name -> incentive. An incentive is name ->
        array, one number for all entries or label -> number; or "no incentive". For instance
        ``{"today": {"toll": [2.0, 1.0]}, "none": "no incentive"}``. They are scored under all
        draws like the others.
    executor : Executor, optional
        Where pieces of work (here: draws) run: `DaskExecutor`, `DeviceExecutor` or
        `ThreadExecutor`. Default: ``num_workers`` threads of this process.
    num_workers : int
        Threads, >= 1 (one where the follower lives outside compiled programs). The numbers do not
        depend on it.
    checkpoint : str, Path or records, optional
        A folder that receives every piece of work as soon as it is finished. If the run dies, the
        same call goes on from there, with the same numbers as an uninterrupted run. Delete the
        folder when you no longer need it. Or the ``records`` of a `FollowerError`.
    progress : bool or callable, optional
        None: a bar on a terminal or in a notebook, nothing elsewhere. True: a bar. False: nothing.
        A callable gets (stage, done, total).

    Returns
    -------
    xarray.DataTree
        The fit with the groups design, design_trace, decision and (where small) response. Where
        the law was learned in rounds, also with its draws, and the groups dynamics and rounds.

    Raises
    ------
    InvalidInputError
        For draws or settings that cannot be used.
    ResultsError
        If the checkpoint belongs to a different run (what differs is named) or cannot be written.
    FollowerError
        If an outside follower fails; its ``records`` hold what was finished.

    Examples
    --------
    >>> import jax, numpy as np, cbrl_bayes as cb
    >>> problem = cb.problems.two_state()
    >>> quick = cb.Search(ascent=cb.Ascent(num_steps=50))
    >>> study = cb.design(problem, {"temperature": np.array([0.2, 0.25, 0.3])},
    ...                   key=jax.random.key(0), num_draws=3,
    ...                   settings=cb.DesignSettings(search=quick, per_draw=quick))
    >>> study["design"]["leader_objective"].shape
    (1, 3)
    """
    estimator = Exact() if estimator is None else estimator
    require_kind(estimator, Estimator, "estimator", "cb.Exact() or cb.HPGD()")
    require_kind(problem, Problem, "problem", "cb.problems.two_state(), or a cb.Problem")
    if settings is None:
        settings = default_design_settings(estimator, problem)
    require_kind(settings, DesignSettings, "settings", "cb.DesignSettings(...)")
    require_key(key)
    if not is_whole(num_draws) or num_draws < 1:
        raise InvalidInputError(
            "num_draws cannot be used", received=repr(num_draws), accepted="1, 2, ..."
        )
    base = for_next_period(problem, from_draws(problem, fit))
    problem = with_groups(problem, base["posterior"].to_dataset())
    chosen = thinned(base["posterior"].to_dataset(), num_draws)
    stated = read_alternatives(problem, alternatives)
    used = {
        "design": settings,
        "estimator": estimator,
        "num_draws": num_draws,
        **({"alternatives": stated.by_name} if stated.names else {}),
        "seed": np.asarray(jax.random.key_data(key)).tolist(),
    }
    with running(
        problem,
        executor=executor,
        num_workers=num_workers,
        checkpoint=checkpoint,
        progress=progress,
        draws=posterior_draws(problem, chosen),
        estimator=estimator,
        settings=settings,
        key=key,
        **({"alternatives": stated.points} if stated.names else {}),
    ) as run:
        if isinstance(settings.search, Rounds):
            rounds = settings.search
            base, seen = with_watched_law(problem, base, estimator, rounds, key=key, run=run)
            problem = with_unknown_law(problem)
            stated = with_watched(problem, stated, seen)
            estimator, settings = Exact(), replace(settings, search=rounds.search)
        tree = _designed(problem, base, used, estimator, settings, stated, key=key, run=run)
    tree.attrs["estimator"] = type(used["estimator"]).__name__
    return tree


def _designed(
    problem: Problem,
    base: xr.DataTree,
    used: dict[str, Any],
    estimator: Estimator,
    settings: DesignSettings,
    stated: Alternatives,
    *,
    key: Key[Array, ""],
    run: Running,
) -> xr.DataTree:
    """Return the tree with designs, once every parameter that is not known has draws."""
    chosen = thinned(base["posterior"].to_dataset(), used["num_draws"])
    draws = posterior_draws(problem, chosen)
    study = study_designs(
        problem,
        draws,
        estimator=estimator,
        key=key,
        settings=settings,
        alternatives=stated,
        run=run,
    )
    moved = score_under_other_laws(
        problem, study, draws, key=key, evaluation=settings.evaluation, run=run
    )
    tree = add_design(
        base,
        problem,
        study,
        chosen,
        used,
        is_exact=estimator.is_exact,
        other_laws=moved,
        stage="design only" if base.attrs["stage"] == "draws" else "design",
    )
    tree["error_budget"] = xr.DataTree(error_budget(tree))
    tree = with_invalid_mdps(with_seldom_share(tree, problem, draws, key), problem, draws, key)
    return with_response(tree, problem, draws, study.design_incentive)
