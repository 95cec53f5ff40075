"""A fit whose transition law is learned by watching a follower in rounds."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from jaxtyping import Array, Key
from scipy import stats

from cbrl_bayes.designs import WatchedRounds, laws_of_rounds, readable_designs, watch_in_rounds
from cbrl_bayes.designs.running import Running
from cbrl_bayes.errors import require_key, require_kind
from cbrl_bayes.followers import ExactFollower
from cbrl_bayes.hypergradients import (
    DoublyRobust,
    LearnedModel,
    Rounds,
    RoundsResult,
    rounds_that_watch,
)
from cbrl_bayes.hypergradients.doubly_robust import learned_model_of
from cbrl_bayes.problems import (
    LAW,
    Problem,
    law_dependence,
    law_moves_with,
    law_support,
    with_unknown_law,
)
from cbrl_bayes.progress import Progress
from cbrl_bayes.results.assembly import incentive_names, label_coords
from cbrl_bayes.results.checkpoint import Checkpoint, Records
from cbrl_bayes.results.draws import from_draws
from cbrl_bayes.results.dynamics import law_dims, open_pairs, seldom_pairs
from cbrl_bayes.results.ingredients import posterior_draws, thinned, with_groups
from cbrl_bayes.results.keywords import running
from cbrl_bayes.results.next_period import for_next_period
from cbrl_bayes.results.provenance import certificate, fingerprint

MOST_ENTRIES = 20_000_000
"""Of all drawn laws (160 MB); draws of the posterior are thinned to what fits."""
WIDE = 3.0
"""Standard errors beyond which what was seen is not what was promised."""


def learn_law(
    problem: Problem,
    fit: Any,
    *,
    key: Key[Array, ""],
    estimator: LearnedModel | DoublyRobust | None = None,
    rounds: Rounds | None = None,
    before: RoundsResult | None = None,
    checkpoint: str | Path | Records | Checkpoint | None = None,
    progress: Progress = None,
) -> xr.DataTree:
    """Watch a follower in rounds, and add draws of the transition law to a posterior.

    Each round watches the designs that promise most under what is known of the law. One set of
    episodes serves all draws of the posterior. `cbrl_bayes.design` with ``LearnedModel()`` does
    this first, by itself; call it to keep what was learned, for other questions too.

    Parameters
    ----------
    problem : Problem
        With its law as stated, of which only the possible successors are used, and what the
        incentive does to it. All followers share one law.
    fit : xarray.DataTree, xarray.Dataset, mapping or pandas.DataFrame
        As `cbrl_bayes.design` takes it. The follower that is watched acts at the mean of its draws,
        unless ``estimator.oracle`` is a follower of its own.
    key : typed key
    estimator : LearnedModel or DoublyRobust, optional
        What watches. Default: `LearnedModel()`.
    rounds : Rounds, optional
        Default: two rounds, 300,000 steps of the follower, no ascent.
    before : RoundsResult, optional
        What was seen before a follower failed (`FollowerError.partial`), to go on from there.
    checkpoint : str, Path or records, optional
        A folder that receives all rounds when they are done.
    progress : bool or callable, optional
        As in `cbrl_bayes.design`.

    Returns
    -------
    xarray.DataTree
        The fit with the parameter ``transition_probability`` in its posterior and the groups
        ``dynamics`` (what was learned of each pair) and ``rounds`` (designs watched, what they
        promised, what was seen). Design with ``problem = cb.problems.with_unknown_law(problem)``.
        Where all laws would be large (160 MB), fewer draws of the whole posterior are kept, evenly
        spaced.

    Raises
    ------
    InvalidInputError
        For another estimator, or a problem that `with_unknown_law` or `RoundsProgram` refuses.
    FollowerError
        If an outside follower fails. Its ``partial`` holds what was seen.

    Examples
    --------
    >>> import jax, numpy as np, cbrl_bayes as cb
    >>> problem = cb.problems.contract_design()
    >>> few = cb.Rounds(num_rounds=1, follower_steps=400, ascent_share=0.0)
    >>> known = cb.learn_law(problem, {"temperature": np.full(4, 0.5)}, key=jax.random.key(0),
    ...                      rounds=few)
    >>> known["posterior"]["transition_probability"].dims
    ('chain', 'draw', 'state', 'action', 'successor')
    """
    require_key(key)
    base = for_next_period(problem, from_draws(problem, fit))
    problem = with_groups(problem, base["posterior"].to_dataset())
    rounds = rounds_that_watch() if rounds is None else rounds
    estimator = LearnedModel() if estimator is None else estimator
    require_kind(rounds, Rounds, "rounds", "cb.Rounds(follower_steps=100_000)")
    require_kind(before, RoundsResult | None, "before", "error.partial of a FollowerError")
    draws = posterior_draws(problem, base["posterior"].to_dataset())
    work: Any = {"draws": draws, "estimator": estimator, "rounds": rounds, "key": key}
    with running(problem, checkpoint=checkpoint, progress=progress, **work) as run:
        tree, _ = with_watched_law(
            problem, base, estimator, rounds, key=key, run=run, before=before
        )
    return tree


def with_watched_law(
    problem: Problem,
    base: xr.DataTree,
    estimator: Any,
    rounds: Rounds,
    *,
    key: Key[Array, ""],
    run: Running,
    before: RoundsResult | None = None,
) -> tuple[xr.DataTree, WatchedRounds]:
    """Return the tree with a learned law, and what was seen; see `learn_law`."""
    accepted = "cb.LearnedModel() or cb.DoublyRobust()"
    require_kind(
        estimator, LearnedModel | DoublyRobust, "estimator of a search in rounds", accepted
    )
    unknown = with_unknown_law(problem)
    draws = posterior_draws(problem, base["posterior"].to_dataset())
    seen = watch_in_rounds(
        problem, draws, estimator=estimator, rounds=rounds, key=key, run=run, before=before
    )
    law_shape = np.shape(unknown.default_parameters[LAW])
    base = _thinned(base, max(1, MOST_ENTRIES // int(np.prod(law_shape))))
    posterior = base["posterior"].to_dataset()
    shape = posterior.sizes["chain"], posterior.sizes["draw"]
    concentration, laws = laws_of_rounds(
        problem, draws, seen, estimator, shape[0] * shape[1], key=jax.random.fold_in(key, 2)
    )
    dims = law_dims(len(law_shape))
    posterior[LAW] = (("chain", "draw", *dims), laws.reshape(*shape, *law_shape))
    posterior[LAW].attrs["units"] = "probability"
    if "context" in dims:
        posterior = posterior.assign_coords(context=list(problem.contexts.names))
    base["posterior"] = xr.DataTree(posterior)
    base["dynamics"] = xr.DataTree(_dynamics(unknown, seen, concentration))
    base["rounds"] = xr.DataTree(_rounds(problem, seen, _cautions(problem, estimator, draws)))
    base.attrs["fingerprint"] = fingerprint(unknown)
    told = certificate(problem, "draws", {"estimator": estimator, "rounds": rounds})
    base["rounds"].attrs["settings"] = told["settings"]
    return base, seen


def _thinned(tree: xr.DataTree, most: int) -> xr.DataTree:
    """Return the tree with at most so many draws, in all groups that have these draws."""
    tree = tree.copy()
    posterior = tree["posterior"].to_dataset()
    if posterior.sizes["chain"] * posterior.sizes["draw"] <= most:
        return tree
    # `thinned` rounds up to whole numbers of each chain.
    few = max(1, most // posterior.sizes["chain"]) * posterior.sizes["chain"]
    kept = thinned(posterior, few)
    for name, group in tree.children.items():
        own = group.to_dataset()
        if {"chain", "draw"} <= set(own.dims) and own["draw"].equals(posterior["draw"]):
            tree[name] = xr.DataTree(own.sel(draw=kept["draw"]))
    return tree


def _dynamics(unknown: Problem, seen: WatchedRounds, posterior: np.ndarray) -> xr.Dataset:
    """Return what was seen and is believed of each pair."""
    counts = seen.counts.reshape(posterior.shape)
    support = law_support(unknown)
    concentration = np.where(support.possible, posterior, 0.0)
    dims = law_dims(counts.ndim)
    found = xr.Dataset(
        {"transition_count": (dims, counts), "concentration": (dims, concentration)},
        attrs={
            "learned": "watched",
            "transitions": int(seen.round_steps.sum()),
            "free_probabilities": int(np.maximum(support.possible.sum(-1) - 1, 0).sum()),
            "pairs": int(open_pairs(concentration).sum()),
            "seldom_seen": int(seldom_pairs(concentration, counts).sum()),
        },
    )
    found["concentration"].attrs["description"] = "most likely posterior, what was seen included"
    named = {"context": list(unknown.contexts.names)} if "context" in dims else {}
    return found.assign_coords(named)


def _rounds(problem: Problem, seen: WatchedRounds, cautions: list[str]) -> xr.Dataset:
    """Return the designs that were watched, in order, and how the best of them did."""
    found = xr.Dataset(
        {
            "unconstrained": (("round", "coordinate"), seen.round_unconstrained),
            "promised": ("round", seen.round_promised[:, 0]),
            "promised_spread": ("round", seen.round_promised[:, 1]),
            "seen": ("round", seen.round_seen),
            "seen_standard_error": ("round", seen.round_standard_error),
            "follower_steps": ("round", seen.round_steps),
        },
        coords={"round": np.arange(len(seen.round_seen)), **label_coords(problem)},
    )
    names = incentive_names(problem)
    readable = readable_designs(problem, seen.round_unconstrained)
    for name, label in problem.incentive.labels.items():
        found[names[name]] = (("round", *label.dims), readable[name], {"units": label.unit})
    for name in ("promised", "promised_spread", "seen", "seen_standard_error"):
        found[name].attrs["units"] = problem.objective_unit
    found.attrs = {
        "description": "a row per design watched, in order; best_*: the design that the search "
        "ended with, by episodes that had no part in choosing it",
        "follower_steps": int(seen.follower_steps),
        "best_seen": float(seen.seen),
        "best_seen_standard_error": float(seen.standard_error),
        "best_promised": float(seen.promised.mean()),
        "reviews": json.dumps([*cautions, *_disagreement(problem, seen)]),
    }
    return found


def _cautions(problem: Problem, estimator: Any, draws: Mapping[str, np.ndarray]) -> list[str]:
    """Say what a study that rests on these rounds takes for granted."""
    found = []
    if not isinstance(learned_model_of(estimator).oracle, ExactFollower):
        found.append(
            "episodes taught where actions lead; that the follower which was watched chooses as "
            "the posterior says is taken for granted: compare with ascents, "
            "DesignSettings(search=cb.Search(...))"
        )
    if law_moves_with(problem, draws):
        found.append(
            "the transition law depends on parameters that were inferred; watching a simulated "
            "follower put its law at their mean in the place of their draws"
        )
    if law_dependence(problem, problem.default_parameters).incentive:
        found.append(
            "the incentive moves the law: steps seen under other incentives are re-weighted, and "
            "the spread of the law's draws takes each for a whole step"
        )
    return found


def _disagreement(problem: Problem, seen: WatchedRounds) -> list[str]:
    """Say where episodes contradict what the learned model promised of the best design."""
    promised, spread = float(seen.promised.mean()), float(seen.promised.std(ddof=1))
    gap = float(seen.seen) - promised
    few = stats.t.ppf(stats.norm.cdf(WIDE), seen.promised.size - 1)  # the spread is of few laws
    if abs(gap) <= np.hypot(few * spread, WIDE * float(seen.standard_error)):
        return []
    return [
        f"the best design watched was promised {promised:.4g} {problem.objective_unit} by the "
        f"learned model, and its episodes were worth {float(seen.seen):.4g} (standard error "
        f"{float(seen.standard_error):.2g}): the follower is not as the model says, or more has "
        "to be watched"
    ]
