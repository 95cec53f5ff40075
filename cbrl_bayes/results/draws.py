"""Draws of any origin as a posterior of this package: by name and by label, or refused."""

import warnings
from collections.abc import Mapping
from typing import Any

import pandas as pd
import xarray as xr

from cbrl_bayes.errors import InvalidInputError, require_kind
from cbrl_bayes.problems import Problem
from cbrl_bayes.results.alignment import fitted, leading
from cbrl_bayes.results.dynamics import refuse_known_law
from cbrl_bayes.results.names_of_draws import of_table, parameters_among
from cbrl_bayes.results.provenance import certificate
from cbrl_bayes.results.schema import (
    DRAWS,
    FIT_GROUPS,
    GROUPS,
    OF_DESIGNS,
    SCHEMA_NAME,
    check_tree,
    group_violations,
)


def from_draws(
    problem: Problem,
    draws: xr.DataTree | xr.Dataset | Mapping[str, Any] | pd.DataFrame,
    *,
    names: Mapping[str, str] | None = None,
) -> xr.DataTree:
    """Read draws of Stan, PyMC, ArviZ or any other tool as a posterior of the problem.

    Names decide, and labels: an axis that is labelled is put into the problem's order, or refused.
    `cbrl_bayes.design` does this by itself; call it for draws under other names.

    Parameters
    ----------
    problem : Problem
    draws : mapping, pandas.DataFrame, xarray.Dataset or xarray.DataTree
        - mapping: name -> array (draws, ...), or a DataArray with axes ``chain`` and ``draw``;
        - table: a column per number (``temperature``, ``context_probability[1]``,
          ``context_probability.1``, ``context_probability[easy]``), as Stan writes it; columns
          such as ``chain__`` or ``.chain`` say which chain a row is of;
        - dataset: axes ``chain`` and ``draw`` in any order, one of them may be absent;
        - tree: of `infer`, of ArviZ or PyMC, or its group ``posterior`` alone.
    names : mapping, optional
        Name among the draws -> name of the problem's parameter, e.g. ``{"lambda": "temperature"}``.

    Returns
    -------
    xarray.DataTree
        With the group ``posterior``, and for a tree its other groups. `cbrl_bayes.design` and
        `cbrl_bayes.save` take it. Names that the problem does not have are left out, and a warning
        says so. A distribution that sums to one up to 1e-5 (rounded in a table, or in single
        precision) is divided by its sum.

    Raises
    ------
    InvalidInputError
        For a misspelt name (the nearest one is named), labels that are not the problem's, labels
        or names that occur twice, shapes that do not fit, and what is no finite number. Also if an
        uncertain parameter has no draws while there are draws under names that are not known.

    Examples
    --------
    >>> import numpy as np, cbrl_bayes as cb
    >>> problem = cb.problems.two_state()
    >>> tree = cb.from_draws(problem, {"lam": np.full(9, 0.3)}, names={"lam": "temperature"})
    >>> tree["posterior"]["temperature"].dims
    ('chain', 'draw')
    """
    require_kind(problem, Problem, "problem", "cb.problems.two_state(), or a cb.Problem")
    remedy = "fit = cb.infer(problem, data, key=...), or {parameter name: array of draws}"
    kinds = (xr.DataTree, Mapping, pd.DataFrame, xr.Dataset)
    require_kind(draws, kinds, "fit", remedy)
    if not isinstance(draws, xr.DataTree):
        return _tree(problem, _posterior(problem, draws, names or {}))
    tree = _whole(draws)
    ours = tree.attrs.get("schema") == SCHEMA_NAME
    if ours and tree.attrs.get("problem", problem.name) != problem.name:
        raise InvalidInputError(
            "fit belongs to a different problem",
            received=tree.attrs["problem"],
            accepted=problem.name,
        )
    tree = _in_order(tree)
    posterior = tree["posterior"].to_dataset()
    for name in set(OF_DESIGNS) & set(tree.children):
        del tree[name]
    if names or not ours:
        return _tree(problem, _posterior(problem, posterior, names or {}), tree)
    tree["posterior"] = xr.DataTree(_own_posterior(problem, posterior))
    whole = set(FIT_GROUPS) <= set(tree.children)
    tree.attrs |= {"stage": "fit"} if whole else {"stage": "draws", "sampler": "given"}
    check_tree(tree)  # now, and not when all work is done
    return tree


def _tree(
    problem: Problem, posterior: xr.Dataset, others: xr.DataTree | None = None
) -> xr.DataTree:
    """Return a tree of draws of another tool, with the groups that came with them."""
    tree = xr.DataTree() if others is None else others
    tree["posterior"] = xr.DataTree(posterior)
    tree.attrs = certificate(problem, "draws", {}) | {"sampler": "given"}
    unfit = [n for n in tree.children if n != "posterior" and list(group_violations(tree, n))]
    for name in unfit:
        del tree[name]
    if unfit:
        warnings.warn(
            f"groups {', '.join(unfit)} are left out: their axes are not those of draws",
            UserWarning,
            stacklevel=3,
        )
    return tree


def _whole(tree: xr.DataTree) -> xr.DataTree:
    """Return the tree that has the group ``posterior``, which itself may have been given."""
    if "posterior" in tree.children:
        return tree
    if tree.parent is not None and tree.name == "posterior":
        return tree.parent
    if set(DRAWS) & {*tree.dims, *tree.coords}:
        return xr.DataTree.from_dict({"/posterior": tree.to_dataset()})
    raise InvalidInputError(
        "fit has no group 'posterior'",
        received=f"groups: {', '.join(tree.children) or 'none'}",
        remedy="fit = cb.infer(problem, data, key=...)",
    )


def _in_order(tree: xr.DataTree) -> xr.DataTree:
    """Return a copy whose groups of draws begin with chain and draw, whichever was absent."""
    tree = tree.copy()
    for name in [n for n in tree.children if n in GROUPS and GROUPS[n].leading == DRAWS]:
        group = tree[name].to_dataset()
        if set(DRAWS) & {*group.dims, *group.coords}:
            # Such as the densities of single numbers beside the likelihood.
            beside = [
                n for n, c in group.coords.items() if len(c.dims) > 1 and {*DRAWS} & {*c.dims}
            ]
            every = group.reset_coords(beside).data_vars
            arrays = {n: leading(str(n), array) for n, array in every.items()}
            tree[name] = xr.DataTree(xr.Dataset(arrays, attrs=group.attrs).set_coords(beside))
    return tree


def _own_posterior(problem: Problem, posterior: xr.Dataset) -> xr.Dataset:
    """Return a posterior of this package with contexts and followers in the problem's order."""
    refuse_known_law(problem, posterior.data_vars)
    known = set(problem.default_parameters) & set(map(str, posterior.data_vars))
    if not known:
        raise InvalidInputError(
            "the posterior has none of the problem's parameters",
            received=sorted(map(str, posterior.data_vars)),
            accepted=", ".join(sorted(problem.default_parameters)),
        )
    arrays = {
        name: fitted(problem, str(name), array, keep_axes=True) if name in known else array
        for name, array in posterior.data_vars.items()
    }
    moved = {str(dim) for name in known for dim in posterior[name].dims[2:]}
    still = all(
        posterior[dim].equals(arrays[name][dim])
        for name in known
        for dim in moved & set(arrays[name].dims) & set(posterior.coords)
    )
    if still:
        return posterior.assign({name: arrays[name] for name in known})
    aligned = xr.align(*arrays.values(), join="left", copy=False)
    return xr.Dataset(dict(zip(arrays, aligned, strict=True)), attrs=posterior.attrs)


def _posterior(problem: Problem, draws: Any, names: Mapping[str, str]) -> xr.Dataset:
    """Return the problem's parameters among draws of another tool."""
    if isinstance(draws, xr.Dataset):
        if not {*DRAWS, "sample"} & {*draws.dims, *draws.coords}:
            raise InvalidInputError(
                "fit holds data, not a posterior",
                received=f"an xarray.Dataset with axes {', '.join(map(str, draws.sizes))}",
                accepted="draws with axes chain and draw, or the tree from infer",
                remedy="fit = cb.infer(problem, data, key=...)",
            )
        entries: Mapping[Any, Any] = draws.data_vars
    else:
        entries = of_table(draws) if isinstance(draws, pd.DataFrame) else draws
    refuse_known_law(problem, [names.get(str(n), str(n)) for n in entries])
    found = parameters_among(problem, {str(n): value for n, value in entries.items()}, names)
    arrays = {name: fitted(problem, name, array) for name, array in found.items()}
    try:
        return xr.Dataset(dict(zip(arrays, xr.align(*arrays.values(), join="exact"), strict=True)))
    except ValueError as error:
        raise InvalidInputError(
            "draws of different parameters differ in number or in their labels",
            received={name: array.shape[:2] for name, array in arrays.items()},
            accepted="the same chains and draws for all",
        ) from error
