"""Whether a result can be relied on: PASS, REVIEW or FAIL, with the reasons and what to do."""

import json
from dataclasses import dataclass, field

import arviz as az
import numpy as np
import xarray as xr

from cbrl_bayes.hypergradients import AscentStatus

__all__ = ["Health", "assess"]

RHAT_PASS, RHAT_FAIL = 1.01, 1.05
ESS_PASS, ESS_FAIL = 400, 100
DIVERGENT_FAIL = 0.01
FAILED_SHARE_FAIL = 0.05
UNSETTLED_SHARE_REVIEW = 0.1
CONTRACTION_REVIEW = 0.1


@dataclass
class Health:
    """A verdict and what led to it.

    Attributes
    ----------
    reviews, failures : list of str
        One sentence each: what was seen and what to do.
    """

    reviews: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """PASS, REVIEW or FAIL."""
        if self.failures:
            return "FAIL"
        return "REVIEW" if self.reviews else "PASS"

    def note(self, fails: bool, reviews: bool, text: str) -> None:
        """Record ``text`` if one of the conditions holds."""
        if fails:
            self.failures.append(text)
        elif reviews:
            self.reviews.append(text)

    def __str__(self) -> str:
        lines = [f"health: {self.verdict}"]
        lines += [f"  FAIL   {text}" for text in self.failures]
        lines += [f"  REVIEW {text}" for text in self.reviews]
        return "\n".join(lines)


def assess(tree: xr.DataTree) -> Health:
    """Judge a results tree by its chains, its solves and its ascents.

    FAIL: R-hat > 1.05, ESS < 100, over 1 % divergent transitions, any failed best response,
    over 5 % of failed ascents, a common or plug-in design whose ascent failed or whose objective
    is not finite, parameters that behaviour cannot tell apart. REVIEW: R-hat > 1.01, ESS < 400,
    one chain only, any divergence, any failed ascent, over 10 % of exact ascents that met their
    step limit, ascents by a stochastic estimator, a parameter the data hardly informed, draws
    from a variational fit.

    Parameters
    ----------
    tree : xarray.DataTree

    Returns
    -------
    Health
    """
    health = Health()
    if tree.attrs.get("sampler") == "NUTS":
        _judge_chains(tree, health)
    elif tree.attrs.get("sampler") == "variational":
        health.note(False, True, "draws come from a variational fit, whose intervals tend to be "
                    "too narrow: compare with NUTS")  # fmt: skip
    advice = tree.attrs.get("identification", "")
    health.note(bool(advice), False, advice)
    for name, value in json.loads(tree.attrs.get("contraction", "{}")).items():
        weak = value < CONTRACTION_REVIEW and not name.endswith("_offset")
        health.note(
            False,
            weak,
            f"the data say little about {name}: its posterior keeps "
            f"{100 * (1 - value):.0f} % of the prior's variance; see prior sensitivity",
        )
    if "sample_stats" in tree.children and "solve_status" in tree["sample_stats"]:
        failed = int((tree["sample_stats"]["solve_status"] != 0).sum())
        health.note(failed > 0, False, f"{failed} posterior draws rest on a best response that "
                    "did not converge: narrow the prior of the temperature")  # fmt: skip
    if "design" in tree.children:
        _judge_designs(tree, health)
    return health


def _judge_chains(tree: xr.DataTree, health: Health) -> None:
    posterior = tree["posterior"].to_dataset()
    if posterior.sizes["chain"] < 2:
        health.note(False, True, "one chain only, R-hat cannot be computed: run 4")
    else:
        worst, name = _extreme(az.rhat(posterior), largest=True)
        health.note(worst > RHAT_FAIL or not np.isfinite(worst), worst > RHAT_PASS,
                    f"R-hat of {name} is {worst:.3f} (wanted: below {RHAT_PASS}): "
                    "run longer chains")  # fmt: skip
    worst, name = _extreme(az.ess(posterior), largest=False)
    health.note(worst < ESS_FAIL, worst < ESS_PASS,
                f"effective sample size of {name} is {worst:.0f} (wanted: {ESS_PASS}): "
                "run longer chains")  # fmt: skip
    diverging = tree["sample_stats"]["diverging"]
    share = float(diverging.mean())
    health.note(share > DIVERGENT_FAIL, share > 0,
                f"{int(diverging.sum())} divergent transitions: raise target_accept or "
                "use a tighter prior")  # fmt: skip


def _judge_designs(tree: xr.DataTree, health: Health) -> None:
    status = tree["design"].to_dataset()["status"].values
    failed = np.isin(status, (AscentStatus.NOT_FINITE, AscentStatus.SOLVER_FAILED))
    health.note(bool(failed.mean() > FAILED_SHARE_FAIL), bool(failed.any()),
                f"{failed.sum()} of {failed.size} designs failed: their draws are kept, "
                "marked by status")  # fmt: skip
    if tree.attrs.get("estimator_is_exact", 1):
        unsettled = float(np.mean(status == AscentStatus.STEP_LIMIT))
        health.note(False, unsettled > UNSETTLED_SHARE_REVIEW,
                    f"{100 * unsettled:.0f} % of the ascents met their step limit before "
                    "they settled: allow more steps")  # fmt: skip
    else:
        health.note(False, True, "a stochastic estimator gives no certificate of convergence: "
                    "compare with more steps, more starts or the exact estimator")  # fmt: skip
    decision = tree["decision"].to_dataset()
    bad = ~np.isfinite(decision["objective"].values)
    health.note(
        bool(bad.any()), False, f"{bad.sum()} objectives of the common designs are not finite"
    )
    broken = np.isin(decision["status"].values,
                     (AscentStatus.NOT_FINITE, AscentStatus.SOLVER_FAILED))  # fmt: skip
    health.note(bool(broken.any()), False, "the ascent of the common or plug-in design failed")


def _extreme(values: xr.Dataset, *, largest: bool) -> tuple[float, str]:
    """Return the worst entry and its variable; an entry that is constant has no R-hat."""
    found = {
        str(name): float(array.max() if largest else array.min())
        for name, array in values.data_vars.items()
        if np.isfinite(array.values).any()
    }
    if not found:
        return np.nan, "all parameters"
    name = (max if largest else min)(found, key=lambda entry: found[entry])
    return found[name], name
