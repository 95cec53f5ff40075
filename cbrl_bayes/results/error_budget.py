r"""Where the spread of a reported objective comes from: the group ``error_budget``.

For every design that serves all draws, the variance of its objective over posterior draws is
split into what each source adds (variance, in the squared unit of the objective):

- ``posterior``: what is not known of the followers and of the context law, the observed variance
  over draws less the noise of the scores and less the next row;
- ``dynamics``: what is not known of the transition law (0 where it is known): the variance that
  would be left if all else were known. Each draw's objective is compared with that under the law
  of another draw, all else as it is; half the mean squared difference is this variance (Jansen's
  estimate of a total effect, for a law that is independent of the rest; where the two go together
  it is somewhat too large, and it is cut at the observed variance). NaN, and then in ``posterior``,
  for designs that robust criteria added;
- ``contexts``: sampling contexts that cannot be enumerated (0 where they are);
- ``simulation``: followers that are simulated rather than solved (0 where they are solved);
- ``optimiser``: the luck of a search with restarts. The search reports the best of R ascents; this
  is the variance of the best when R ascents are drawn again from those seen. **It is too small,
  about half of the truth on average**, since none drawn again is better than the best seen: for R
  independent normal ascents of variance 1 its mean is .38 for a variance of .68 with R = 2, .18 for
  .34 with R = 10. Take it as a rough size (hops, which start from the best so far, are not
  independent of it either). NaN, so left out of the shares, for designs that rest on one ascent,
  like the common one, and for robust designs whose ascents climb another criterion than the
  expectation: the spread of a tail mean or of a regret says nothing about the mean objective.

Draws carry noise of their own (a key per draw), so that contexts and simulation add to what is
observed: observed = posterior + dynamics + contexts + simulation. The optimiser's part comes on
top. ``mean_error`` is the Monte-Carlo standard error of the reported mean, from the effective
sample size of its draws; it holds all but the optimiser's part. Draws under which a design's
objective is not finite are left out of all parts but ``mean_error``, which is NaN then;
``not_finite`` counts them.
"""

import lazy_loader
import numpy as np
import xarray as xr

from cbrl_bayes.results.table import need_group

az = lazy_loader.load("arviz_stats")  # a second of imports, when first asked for

SOURCES = ("posterior", "dynamics", "contexts", "simulation", "optimiser")


def error_budget(study: xr.DataTree) -> xr.Dataset:
    """Split the variance of each design's reported objective by source.

    Parameters
    ----------
    study : xarray.DataTree
        From `design`.

    Returns
    -------
    xarray.Dataset
        ``variance`` and ``share`` (source, design), ``mean_error`` and ``not_finite`` (design,).
        Shares are of the sum over known sources.

    Raises
    ------
    InvalidInputError
        For a tree without designs.
    """
    decision = need_group(study, "decision", "design(problem, fit, key=...) first")
    objective = decision["objective"]
    over = ("chain", "draw")
    finite = abs(objective) < np.inf
    several = objective.sizes["chain"] * objective.sizes["draw"] > 1
    observed = (
        objective.where(finite).var(over, ddof=1)
        if several
        else objective.isel(chain=0, draw=0, drop=True) * np.nan
    )
    noise = (decision["objective_standard_error"].where(finite) ** 2).mean(over)
    contexts = (decision["objective_context_error"].where(finite) ** 2).mean(over)
    spread = (observed - noise).clip(min=0.0)
    dynamics = _dynamics(decision, spread)
    variance = xr.concat(
        [
            spread - dynamics.fillna(0.0),
            dynamics,
            contexts,
            (noise - contexts).clip(min=0.0),
            _optimiser(decision, observed),
        ],
        dim=xr.Variable("source", list(SOURCES)),
    ).rename("variance")
    enough = objective.sizes["draw"] > 3
    error = az.mcse(objective.where(finite)) if enough else xr.full_like(observed, np.nan)
    unit = str(study.attrs.get("objective_unit", ""))
    budget = xr.Dataset(
        {
            "variance": variance,
            "share": variance / variance.sum("source"),
            "mean_error": error,
            "not_finite": (~finite).sum(over),
        }
    )
    for name in budget:
        budget[name].attrs.pop("units", None)
    budget["variance"].attrs["optimiser"] = "bootstrap of the best ascent: about half of the truth"
    budget["variance"].attrs["units"] = f"({unit})^2" if unit else ""
    budget["mean_error"].attrs["units"] = unit
    return budget


def _dynamics(decision: xr.Dataset, spread: xr.DataArray) -> xr.DataArray:
    """Return what not knowing the transition law adds, at most the whole spread over draws."""
    if "objective_other_law" not in decision:
        return xr.zeros_like(spread)
    over = ("chain", "draw")
    gap = decision["objective"] - decision["objective_other_law"]
    noise = decision["objective_standard_error"] ** 2 + decision["other_law_standard_error"] ** 2
    half = ((gap**2 - noise) / 2.0).where(abs(gap) < np.inf).mean(over)
    return half.clip(min=0.0).where(~(half > spread), spread)


def _optimiser(decision: xr.Dataset, observed: xr.DataArray) -> xr.DataArray:
    """Return each design's own: the plug-in search's, or of the ascents by expectation.

    Ascents by another criterion reach values that are no mean objectives: NaN.
    """
    from cbrl_bayes.designs import Expectation  # needs JAX, which reading results does not

    expectation = Expectation().name
    found = xr.full_like(observed, np.nan)
    found.loc[{"design": "plug_in"}] = best_of_restarts_variance(
        decision["restart_objective"].values
    )
    if expectation in decision.get("criterion", ()):
        reached = decision["start_value"].sel(criterion=expectation).values
        found.loc[{"design": expectation}] = best_of_restarts_variance(reached)
    return found


def best_of_restarts_variance(objectives: np.ndarray) -> float:
    r"""Return the bootstrap variance of the best of R ascents; NaN for fewer than two.

    With values sorted from worst to best, the best of R drawn with replacement is the k-th with
    probability :math:`(k/R)^R - ((k-1)/R)^R`, so that no resampling is needed. On average about
    half of the variance of the best of R new ascents: nothing better than the best seen is drawn.

    Examples
    --------
    >>> best_of_restarts_variance(np.array([0.0, 1.0]))  # 1 with probability 3/4
    0.1875
    """
    found = np.sort(objectives[np.isfinite(objectives)])
    size = len(found)
    if size < 2:
        return float("nan")
    chance = np.diff((np.arange(size + 1) / size) ** size)
    mean = chance @ found
    return float(chance @ (found - mean) ** 2)
