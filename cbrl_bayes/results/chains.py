"""Whether the chains of a fit say enough, and the same, for what is printed of them."""

from collections.abc import Callable
from typing import Any

import lazy_loader
import numpy as np
import xarray as xr
from scipy.special import ndtri

from cbrl_bayes.errors import counted

az = lazy_loader.load("arviz_stats")  # a second of imports, when first asked for

RHAT_PASS, RHAT_FAIL = 1.01, 1.05
ESS_PASS, ESS_LEAST, ESS_FAIL = 400, 200, 100
"""For PASS with 90 % intervals, for PASS with any, for FAIL."""
DIVERGENT_FAIL = 0.01
BFMI_REVIEW = 0.3
DEEPEST_TREE, DEEP_SHARE_REVIEW = 10, 0.01
MANY_MAXIMA = "; if they still end in different places, the posterior has several maxima"
MOST_ENTRIES = 8
"""Entries of an array that `summary` prints."""

Note = Callable[[bool, bool, str], None]


def judge_chains(tree: xr.DataTree, note: Note, prob: float) -> None:
    """Judge R-hat, effective sizes and the sampler's own signs.

    Parameters
    ----------
    tree : xarray.DataTree
        With the groups posterior and sample_stats of NUTS; ``prior``, if there is one, tells a
        known value from a chain that is stuck.
    note : callable
        ``(fails, reviews, text)``, as `Health.note`.
    prob : float
        Of the intervals that are printed: the further out their ends, the more draws they need.
    """
    posterior = tree["posterior"].to_dataset()
    if "dynamics" in tree.children and tree["dynamics"].attrs.get("learned") == "watched":
        # Laws are drawn one by one, not by the chains.
        laws = [name for name in posterior.data_vars if "successor" in posterior[name].dims]
        posterior = posterior.drop_vars(laws)
    prior = tree["prior"].to_dataset() if "prior" in tree.children else xr.Dataset()
    moving = {}
    for name, array in posterior.data_vars.items():
        values = _flat(array)
        still = np.ptp(values, axis=1) == 0  # (chain, entry)
        constant = np.ptp(values, axis=(0, 1)) == 0
        known = np.ptp(_flat(prior[name]), axis=(0, 1)) == 0 if name in prior else True
        stuck = int((still & ~(constant & known)).any(1).sum())
        note(
            stuck > 0,
            False,
            f"{counted(stuck, 'chain')} did not move in {name}: use a tighter prior",
        )
        moving[str(name)] = values[:, :, ~still.any(0)], _printed(array)[~still.any(0)]
    moving = {name: found for name, found in moving.items() if found[0].size}
    if moving:
        _judge_moving(moving, note, prob)
    _judge_sampler(tree["sample_stats"].to_dataset(), note)


def diagnostics(dataset: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """Return R-hat and effective size of each entry; NaN for one that is constant in a chain."""
    several = dataset.sizes["chain"] > 1 and dataset.sizes["draw"] > 3
    enough = dataset.sizes["draw"] > 3

    def measured(array: xr.DataArray, measure: Callable[..., Any] | None) -> xr.DataArray:
        values = _flat(array)
        found = np.full(values.shape[2], np.nan)
        usable = np.isfinite(values).all((0, 1)) & (np.ptp(values, axis=1) > 0).all(0)
        if measure is not None and usable.any():
            found[usable] = measure(_labelled(values[:, :, usable])).values
        empty = array.isel(chain=0, draw=0, drop=True)
        return empty.copy(data=found.reshape(empty.shape))

    rhat = dataset.map(measured, measure=az.rhat if several else None)
    return rhat, dataset.map(measured, measure=az.ess if enough else None)


def needed_draws(prob: float) -> float:
    """Return the effective draws asked for where intervals of this probability are printed.

    The end of an interval is a quantile; of normal draws its Monte Carlo error is
    ``sqrt(p (1 - p) / draws) / density`` standard deviations. What is asked for keeps it at .106,
    with 400 draws for 90 %.

    Examples
    --------
    >>> [round(needed_draws(prob)) for prob in (0.5, 0.9, 0.95, 0.99)]
    [200, 400, 639, 2131]
    """

    def variance(prob: float) -> float:
        tail = (1.0 - prob) / 2.0
        return tail * (1.0 - tail) * 2.0 * np.pi * np.exp(ndtri(tail) ** 2)

    return max(ESS_LEAST, ESS_PASS * variance(prob) / variance(0.9))


def printed_entries(mean: np.ndarray) -> np.ndarray:
    """Return the positions, in a flattened array, of the entries that a table prints."""
    return np.sort(np.argsort(-np.abs(mean.ravel()))[:MOST_ENTRIES])


def _judge_moving(
    moving: dict[str, tuple[np.ndarray, np.ndarray]], note: Note, prob: float
) -> None:
    """Judge entries that moved in all chains: name -> values (chain, draw, entry), printed."""
    names = np.concatenate([[name] * values.shape[2] for name, (values, _) in moving.items()])
    printed = np.concatenate([shown for _, shown in moving.values()])
    draws = _labelled(np.concatenate([values for values, _ in moving.values()], axis=2))
    if draws.sizes["chain"] < 2:
        note(False, True, "one chain only, R-hat cannot be computed: run 4")
    else:
        rhat = np.nan_to_num(az.rhat(draws).values, nan=np.inf)
        worst = rhat.argmax()
        note(
            rhat[worst] > RHAT_FAIL,
            rhat[worst] > RHAT_PASS,
            f"R-hat of {names[worst]} is {rhat[worst]:.3f} (wanted: below {RHAT_PASS}): run longer "
            "chains" + MANY_MAXIMA * bool(rhat[worst] > RHAT_FAIL),
        )
    wanted = needed_draws(prob)
    tail = (1.0 - prob) / 2.0
    sizes = {
        "": az.ess(draws).values,
        " in the tails": az.ess(draws, method="tail", prob=(tail, 1.0 - tail)).values,
    }
    for where, size in sizes.items():
        if not np.isfinite(size).any():
            continue
        worst = np.nanargmin(size)
        shown = np.where(printed, size, np.nan)
        fails = bool(size[worst] < ESS_FAIL)
        if not fails and np.isfinite(shown).any():  # what nobody sees has no need of digits
            worst = np.nanargmin(shown)
        note(
            fails,
            bool(printed[worst] and size[worst] < wanted),
            f"effective sample size of {names[worst]}{where} is {size[worst]:.0f} (wanted for "
            f"{100 * prob:g} % intervals: {wanted:.0f}): run longer chains",
        )


def _judge_sampler(stats: xr.Dataset, note: Note) -> None:
    share = float(stats["diverging"].mean())
    note(
        share > DIVERGENT_FAIL,
        share > 0,
        f"{int(stats['diverging'].sum())} divergent transitions: raise target_accept or use a "
        "tighter prior",
    )
    if "energy" in stats:
        energy = stats["energy"].transpose("chain", "draw").values
        variance = energy.var(1)
        moved = variance > 0
        if moved.any():
            bfmi = ((np.diff(energy[moved], axis=1) ** 2).mean(1) / variance[moved]).min()
            note(
                False,
                bool(bfmi < BFMI_REVIEW),
                f"E-BFMI is {bfmi:.2f} (wanted: above {BFMI_REVIEW}): the sampler hardly reaches "
                "the tails; use tighter priors, or fewer hierarchies",
            )
    if "tree_depth" in stats:
        deep = float((stats["tree_depth"] >= DEEPEST_TREE).mean())
        note(
            False,
            deep > DEEP_SHARE_REVIEW,
            f"{100 * deep:.0f} % of the transitions ended at the largest tree depth "
            f"({DEEPEST_TREE}): parameters are nearly exchangeable for each other; use a prior "
            "that tells them apart",
        )


def _printed(array: xr.DataArray) -> np.ndarray:
    """Say of each entry whether a table prints it."""
    shown = np.zeros(int(np.prod(array.shape[2:])), bool)
    if not str(array.name).endswith("_offset"):
        shown[printed_entries(array.mean(("chain", "draw")).values)] = True
    return shown


def _flat(array: xr.DataArray) -> np.ndarray:
    """Return the values as (chain, draw, entry)."""
    values = array.transpose("chain", "draw", ...).values
    return values.reshape(*values.shape[:2], -1).astype(float)


def _labelled(values: np.ndarray) -> xr.DataArray:
    return xr.DataArray(values, dims=("chain", "draw", "entry"))
