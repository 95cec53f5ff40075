"""Whether a result can be relied on: PASS, REVIEW or FAIL, with the reasons and what to do."""

import json
from dataclasses import dataclass, field

import lazy_loader
import numpy as np
import xarray as xr

from cbrl_bayes.status import FAILED_ASCENTS, AscentStatus

az = lazy_loader.load("arviz_stats")  # a second of imports, when first asked for

RHAT_PASS, RHAT_FAIL = 1.01, 1.05
ESS_PASS, ESS_FAIL = 400, 100
DIVERGENT_FAIL = 0.01
FAILED_SHARE_FAIL = 0.05
UNSETTLED_SHARE_REVIEW = 0.1
CONTRACTION_REVIEW = 0.1
CUT_SHARE_REVIEW, CUT_SHARE_FAIL = 0.01, 0.1
DRAWS_REVIEW, DRAWS_FAIL = 50, 10
NOISE_REVIEW = 0.3


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
    is not finite, fewer than 10 designed draws, over 10 % of rollouts cut by a step limit,
    parameters that behaviour cannot tell apart. REVIEW: R-hat > 1.01, ESS < 400, one chain only,
    any divergence, any failed ascent, over 10 % of exact ascents that met their step limit,
    ascents by a stochastic estimator, over 1 % of rollouts cut, fewer than 50 designed draws,
    simulation error above 30 % of the spread over draws, a parameter the data hardly informed,
    draws from a variational fit.

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
        health.note(
            False,
            True,
            "draws come from a variational fit, whose intervals tend to be "
            "too narrow: compare with NUTS",
        )
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
        health.note(
            failed > 0,
            False,
            f"{failed} posterior draws rest on a best response that "
            "did not converge: narrow the prior of the temperature",
        )
    if "design" in tree.children:
        _judge_designs(tree, health)
    for name, group in tree.children.items():
        _judge_group(name, group, health)
    return health


def _judge_group(name: str, group: xr.DataTree, health: Health) -> None:
    """Take over what the writer of a group had to say: JSON lists ``reviews`` and ``failures``."""
    for attribute, fails in (("failures", True), ("reviews", False)):
        for text in json.loads(group.attrs.get(attribute, "[]")):
            health.note(fails, True, f"{name}: {text}")


def _judge_chains(tree: xr.DataTree, health: Health) -> None:
    posterior = tree["posterior"].to_dataset()
    if posterior.sizes["chain"] < 2:
        health.note(False, True, "one chain only, R-hat cannot be computed: run 4")
    else:
        worst, name = _extreme(az.rhat(posterior), largest=True)
        health.note(
            worst > RHAT_FAIL or not np.isfinite(worst),
            worst > RHAT_PASS,
            f"R-hat of {name} is {worst:.3f} (wanted: below {RHAT_PASS}): run longer chains",
        )
    worst, name = _extreme(az.ess(posterior), largest=False)
    health.note(
        worst < ESS_FAIL,
        worst < ESS_PASS,
        f"effective sample size of {name} is {worst:.0f} (wanted: {ESS_PASS}): run longer chains",
    )
    diverging = tree["sample_stats"]["diverging"]
    share = float(diverging.mean())
    health.note(
        share > DIVERGENT_FAIL,
        share > 0,
        f"{int(diverging.sum())} divergent transitions: raise target_accept or use a tighter prior",
    )


def _judge_designs(tree: xr.DataTree, health: Health) -> None:
    status = tree["design"].to_dataset()["status"].values
    failed = np.isin(status, FAILED_ASCENTS)
    health.note(
        bool(failed.mean() > FAILED_SHARE_FAIL),
        bool(failed.any()),
        f"{failed.sum()} of {failed.size} designs failed: their draws are kept, marked by status",
    )
    if tree.attrs.get("estimator_is_exact", 1):
        unsettled = float(np.mean(status == AscentStatus.STEP_LIMIT))
        health.note(
            False,
            unsettled > UNSETTLED_SHARE_REVIEW,
            f"{100 * unsettled:.0f} % of the ascents met their step limit before "
            "they settled: allow more steps",
        )
    else:
        health.note(
            False,
            True,
            "an estimator that is not exact gives no certificate of "
            "convergence: compare with more steps, more starts or the exact "
            "estimator",
        )
        cut = float(tree["design_trace"].to_dataset()["truncated_share"].mean())
        health.note(
            cut > CUT_SHARE_FAIL,
            cut > CUT_SHARE_REVIEW,
            f"{100 * cut:.0f} % of the estimator's rollouts were cut by its step limit, "
            "which biases the gradient: raise max_steps",
        )
    _judge_scores(tree, health)
    decision = tree["decision"].to_dataset()
    # Designs by other criteria bring sentences of their own.
    unfinished = (decision["status"].values[:2] == AscentStatus.STEP_LIMIT).any()
    exact = bool(tree.attrs.get("estimator_is_exact", 1))
    health.note(
        False,
        bool(exact and unfinished),
        "the ascent of the common or plug-in design "
        "met its step limit before it settled: allow more steps",
    )
    unsolved = int((decision["solve_status"] != 0).sum())
    health.note(
        unsolved > 0, False, f"{unsolved} best responses to designs for all draws did not converge"
    )
    bad = ~np.isfinite(decision["objective"].values)
    health.note(
        bool(bad.any()), False, f"{bad.sum()} objectives of designs for all draws are not finite"
    )
    broken = np.isin(decision["status"].values[:2], FAILED_ASCENTS)
    health.note(bool(broken.any()), False, "the ascent of the common or plug-in design failed")


def _judge_scores(tree: xr.DataTree, health: Health) -> None:
    design = tree["design"].to_dataset()
    objective = design["leader_objective"]
    num = objective.size
    health.note(
        num < DRAWS_FAIL,
        num < DRAWS_REVIEW,
        f"{num} designed draws are few for the tails of an interval: use {DRAWS_REVIEW} or more",
    )
    missing = int((~np.isfinite(objective.values)).sum())
    health.note(missing > 0, False, f"{missing} objectives of the draws' designs are not finite")
    noise, spread = float(design["objective_standard_error"].mean()), float(objective.std())
    health.note(
        False,
        noise > NOISE_REVIEW * spread and noise > 0,
        f"simulation error ({noise:.2g}) is large beside the spread over draws "
        f"({spread:.2g}): use more replicates or sampled contexts",
    )


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
