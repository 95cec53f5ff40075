"""What a design study is made of: draws from any posterior, and designs out of a tree."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from cbrl_bayes.designs import evenly_spaced
from cbrl_bayes.errors import InvalidInputError, require_kind
from cbrl_bayes.problems import LAW, Problem, with_unknown_law
from cbrl_bayes.results.provenance import fingerprint
from cbrl_bayes.results.schema import check_tree

SAME_DESIGN = 1e-6
"""Relative distance below which two designs are one."""


@dataclass(frozen=True)
class Designed:
    """The draws and designs of a study, chain by chain.

    Attributes
    ----------
    problem : Problem
        With the groups of the fit as its followers, where the fit has groups.
    draws : dict of arrays, each (N, ...)
        The posterior draws that were designed for.
    own : array, shape (N, P)
        Each draw's own design, before its transform.
    own_objective : array, shape (N,)
        What the leader gets with it.
    names : tuple of str
        Designs that serve all draws.
    designs : array, shape (D, P)
        Those designs, before their transform.
    shape : tuple of int
        (chains, draws per chain); N is their product.
    """

    problem: Problem
    draws: dict[str, np.ndarray]
    own: np.ndarray
    own_objective: np.ndarray
    names: tuple[str, ...]
    designs: np.ndarray
    shape: tuple[int, int]

    def options(self, num_options: int) -> tuple[tuple[str, ...], np.ndarray]:
        """Return names and points of the study's designs and of some that are best per draw.

        Those are evenly spaced among the draws. Each point stands once: designs that agree up to
        rounding are one option.

        Parameters
        ----------
        num_options : int
            Options in all, at least the study's own designs.
        """
        usable = np.flatnonzero(np.isfinite(self.own).all(1) & np.isfinite(self.own_objective))
        near = SAME_DESIGN * (1.0 + np.abs(self.designs).max())
        known = self.designs
        fresh: list[int] = []
        for index in usable:
            if np.abs(known - self.own[index]).max(1).min() > near:
                fresh.append(int(index))
                known = np.concatenate([known, self.own[index][None]])
        room = min(len(fresh), max(0, num_options - len(self.names)))
        chosen = [fresh[at] for at in evenly_spaced(len(fresh), room)] if room else []
        names = (*self.names, *(f"draw {index}" for index in chosen))
        return names, np.concatenate([self.designs, self.own[chosen]])


def designed(problem: Problem, study: xr.DataTree) -> Designed:
    """Return what ``study`` was made of.

    Parameters
    ----------
    problem : Problem
        The problem the study is of.
    study : xarray.DataTree
        From `design`.

    Raises
    ------
    InvalidInputError
        If it holds no designs, is of another problem, or was made before designs were kept.
    """
    require_kind(
        problem, Problem, "problem", "problem = cb.Problem(...) or cb.problems.two_state()"
    )
    require_kind(study, xr.DataTree, "study", "study = cb.design(problem, fit, key=...)")
    kept = "design" in study.children and "unconstrained" in study["design"]
    if not kept or study.attrs.get("problem") != problem.name:
        raise InvalidInputError(
            "the tree is not a design study of this problem",
            received=f"groups {', '.join(study.children)}; problem {study.attrs.get('problem')!r}",
            accepted=f"a study of {problem.name!r} with designs",
            remedy="design(problem, fit, ...) first",
        )
    check_tree(study)
    design, decision = study["design"].to_dataset(), study["decision"].to_dataset()
    posterior = study["posterior"].to_dataset()
    if LAW in posterior and LAW not in problem.parameters:  # learned on the way
        problem = with_unknown_law(problem)
    grouped = with_groups(problem, posterior)
    if study.attrs.get("fingerprint") != fingerprint(grouped):
        raise InvalidInputError(
            f"the study was made with a different {problem.name!r} problem: arrays, "
            "constraints, default parameters or aggregate differ",
            remedy="pass the problem that was given to design, or design again",
        )
    size = problem.incentive.size
    if design.sizes["coordinate"] != size:
        raise InvalidInputError(
            "the study's designs do not fit the problem's incentive",
            received=f"{design.sizes['coordinate']} coordinates",
            accepted=str(size),
        )
    chosen = posterior.sel(chain=design["chain"], draw=design["draw"])
    own = design["unconstrained"].values
    return Designed(
        problem=grouped,
        draws=posterior_draws(problem, chosen),
        own=own.reshape(-1, own.shape[-1]),
        own_objective=design["leader_objective"].values.ravel(),
        names=tuple(map(str, decision["design"].values)),
        designs=decision["unconstrained"].values,
        shape=(design.sizes["chain"], design.sizes["draw"]),
    )


def posterior_draws(problem: Problem, posterior: xr.Dataset) -> dict[str, np.ndarray]:
    """Return the problem's own parameters among the draws, each (N, ...), chain by chain.

    Raises
    ------
    InvalidInputError
        If there are none.
    """
    known = problem.default_parameters
    draws = {
        str(name): array.values.reshape(-1, *array.shape[2:])
        for name, array in posterior.data_vars.items()
        if name in known
    }
    if not draws:
        raise InvalidInputError(
            "the posterior has none of the problem's parameters",
            received=sorted(map(str, posterior.data_vars)),
            accepted=", ".join(sorted(known)),
        )
    return draws


def thinned(posterior: xr.Dataset, num_draws: int) -> xr.Dataset:
    """Return evenly spaced draws, as many of each chain: ``num_draws`` or just above."""
    chains, draws = posterior.sizes["chain"], posterior.sizes["draw"]
    per_chain = min(draws, -(-num_draws // chains))
    return posterior.isel(draw=evenly_spaced(draws, per_chain))


def with_groups(problem: Problem, posterior: xr.Dataset) -> Problem:
    """Return the problem with the groups of a fit as its followers, where it has groups."""
    grouped = [
        n for n in problem.per_follower if n in posterior and "follower" in posterior[n].dims
    ]
    if not grouped:
        return problem
    names = tuple(map(str, posterior["follower"].values))
    if names == problem.followers.names:
        return problem
    if problem.followers.num_followers > 1:
        raise InvalidInputError(
            "the fit's groups are not the problem's followers",
            received=names,
            accepted=", ".join(problem.followers.names),
            remedy="problem.with_followers(names, weights) with the groups' names",
        )
    return problem.with_followers(names, (1.0 / len(names),) * len(names))
