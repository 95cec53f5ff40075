"""Whether a result can be relied on: PASS, REVIEW or FAIL, with the reasons and what to do."""

import json
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from cbrl_bayes.results.chains import judge_chains
from cbrl_bayes.results.names import design_title
from cbrl_bayes.status import FAILED_ASCENTS, AscentStatus, SolveStatus

FAILED_SHARE_FAIL = 0.05
UNSETTLED_SHARE_REVIEW = 0.1
CONTRACTION_REVIEW = 0.1
CUT_SHARE_REVIEW, CUT_SHARE_FAIL = 0.01, 0.1
PRIOR_SHARE_REVIEW, PRIOR_SHARE_FAIL = 0.05, 0.5
SHARED_SHARE_REVIEW, SHARED_SHARE_FAIL = 0.1, 0.5
DRAWS_REVIEW, DRAWS_FAIL = 50, 10
DRAWS_IN_TAIL = 2.5
BETTER, ROUNDING = 0.01, 1e-9
"""What another design may have more than the common one: a share of the spread over draws."""
OWN_SEARCH = 2
"""The code of a draw's own search in ``source``."""
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


def assess(tree: xr.DataTree, *, prob: float = 0.9) -> Health:
    """Judge a results tree by its chains, its solves and its ascents.

    FAIL: R-hat > 1.05, a chain that did not move, ESS < 100, over 1 % divergent transitions, any
    failed best response, over 5 % of failed ascents or of those in which the objective reacts to
    nothing, a common or plug-in design with such an ascent or whose objective is not finite, fewer
    than 10 designed draws, over 10 % of rollouts cut by a step limit, parameters that behaviour
    cannot tell apart. REVIEW: R-hat > 1.01, ESS < 400 (for 90 % intervals; `needed_draws`), one
    chain only, any divergence, E-BFMI < .3, over 1 % of transitions at the largest tree depth, any
    such ascent, over 10 % of exact ascents that met their step limit or incentives that lead to no
    MDP, a design with a higher mean than the common one, ascents by a stochastic estimator, over
    1 % of rollouts cut, fewer than 50 designed draws (for 90 % intervals), simulation error above
    30 % of the spread over draws, over 5 % of visits where a learned transition law is its prior
    (over 50 %: FAIL), a parameter the data hardly informed or bound on one side only, draws from a
    variational fit. And what the groups say of themselves, as of the predictive check.

    Parameters
    ----------
    tree : xarray.DataTree
    prob : float
        Of the intervals that are printed: those further out need more draws.

    Returns
    -------
    Health
    """
    health = Health()
    if tree.attrs.get("sampler") == "NUTS":
        judge_chains(tree, health.note, prob)
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
            f"{100 * (1 - value):.0f} % of the prior's uncertainty; see prior sensitivity",
        )
    units = json.loads(tree.attrs.get("parameter_units", "{}"))
    for bound in json.loads(tree.attrs.get("one_sided", "[]")):
        health.note(False, True, _one_sided(bound, units))
    if "sample_stats" in tree.children and "solve_status" in tree["sample_stats"]:
        failed = int((tree["sample_stats"]["solve_status"] != 0).sum())
        health.note(
            failed > 0,
            False,
            f"{failed} posterior draws rest on a best response that "
            "did not converge: narrow the prior of the temperature",
        )
    if "design" in tree.children:
        _judge_designs(tree, health, prob)
    for name, group in tree.children.items():
        _judge_group(name, group, health)
    return health


def _one_sided(found: dict, units: dict[str, str]) -> str:
    """Say in words which side of a parameter the data leave open."""
    name, side = found["parameter"], found["side"]
    if side == "neither":
        return (
            f"the data bound {name} on neither side: where its interval ends is the prior's "
            "doing; see prior sensitivity"
        )
    unit = units.get(name.partition("[")[0], "")
    limit = " ".join(filter(None, [f"{found['bound']:.2g}", unit]))
    return (
        f"the data say only that {name} is {side} about {limit}; the rest of its posterior is "
        "the prior: choose that with care, or observe behaviour under other incentives"
    )


def _judge_group(name: str, group: xr.DataTree, health: Health) -> None:
    """Take over what the writer of a group had to say: JSON lists ``reviews`` and ``failures``."""
    for attribute, fails in (("failures", True), ("reviews", False)):
        for text in json.loads(group.attrs.get(attribute, "[]")):
            health.note(fails, True, f"{name}: {text}")


def _judge_designs(tree: xr.DataTree, health: Health, prob: float) -> None:
    status = tree["design"].to_dataset()["status"].values
    failed = np.isin(status, FAILED_ASCENTS)
    health.note(
        bool(failed.mean() > FAILED_SHARE_FAIL),
        bool(failed.any()),
        f"{failed.sum()} of {failed.size} designs failed: their draws are kept, marked by status",
    )
    if tree.attrs.get("estimator_is_exact", 1):
        unsettled = _unsettled(tree)
        health.note(False, bool(unsettled.mean() > UNSETTLED_SHARE_REVIEW), _still_gaining(tree))
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
        _judge_learned_model(tree, health)
        _judge_shared(tree, health)
    _judge_law(tree, health)
    _judge_scores(tree, health, prob)
    _judge_reaction(tree, health)
    _judge_common(tree, health)
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


def _judge_learned_model(tree: xr.DataTree, health: Health) -> None:
    """Say where the last steps of the ascents rest on what was believed, not seen."""
    trace = tree["design_trace"].to_dataset()
    if "prior_share" not in trace:  # a study of an earlier version
        return
    share = float(trace["prior_share"].isel(iteration=-1).mean())
    health.note(
        share > PRIOR_SHARE_FAIL,
        share > PRIOR_SHARE_REVIEW,
        f"{100 * share:.0f} % of the visits at the last step are in states and actions that were "
        "seldom seen: there the model is its prior; allow more rollouts or more steps",
    )


def _judge_law(tree: xr.DataTree, health: Health) -> None:
    """Say where the common design leads followers to where a learned law is its prior."""
    decision = tree["decision"].to_dataset()
    if "seldom_share" not in decision:  # the law was not learned
        return
    share = float(decision["seldom_share"].values[0])
    health.note(
        share > PRIOR_SHARE_FAIL,
        share > PRIOR_SHARE_REVIEW,
        f"{100 * share:.0f} % of the visits under the common design are in states and actions that "
        "the data hardly show: there the learned law is its prior; watch more, or state a prior "
        "that you can answer for (UnknownLaw)",
    )


def _judge_shared(tree: xr.DataTree, health: Health) -> None:
    """Say for how many draws the search found nothing better than a design shared by all."""
    design = tree["design"].to_dataset()
    if "source" not in design:  # a study of an earlier version
        return
    shared = (design["source"] != OWN_SEARCH).values
    health.note(
        bool(shared.mean() > SHARED_SHARE_FAIL),
        bool(shared.mean() > SHARED_SHARE_REVIEW),
        f"for {shared.sum()} of {shared.size} draws the search found nothing better than a design "
        "that all draws share: intervals of the incentive tell of the search, not of the "
        "posterior; allow more steps or rollouts",
    )


def _unsettled(tree: xr.DataTree) -> np.ndarray:
    """Tell which draws' designs come from a search of their own that did not settle."""
    design = tree["design"].to_dataset()
    own = design["source"].values == OWN_SEARCH if "source" in design else True
    return (design["status"].values == AscentStatus.STEP_LIMIT) & own


def _still_gaining(tree: xr.DataTree) -> str:
    """Say what share of designs stopped at the step limit, and what they were still gaining."""
    design = tree["design"].to_dataset()
    unsettled = _unsettled(tree)
    text = f"{100 * unsettled.mean():.0f} % of the draws' designs stopped at the step limit"
    gain = design["gain_at_stop"].values[unsettled] if "gain_at_stop" in design else np.zeros(0)
    gain = gain[np.isfinite(gain)]
    if gain.size:
        spread = float(design["leader_objective"].std())
        share = (
            f", {100 * gain.mean() / spread:.2g} % of the spread over draws" if spread > 0 else ""
        )
        text += (
            f", while points near them were still better: by {gain.mean():.2g} in the mean{share}"
        )
    return f"{text}: allow more steps"


def _judge_reaction(tree: xr.DataTree, health: Health) -> None:
    """Judge searches that found nothing to climb, and searches at the edge of the problem."""
    flat = (tree["design"].to_dataset()["status"] == AscentStatus.FLAT).values
    common = (tree["decision"].to_dataset()["status"].values[:2] == AscentStatus.FLAT).any()
    health.note(
        bool(common or flat.mean() > FAILED_SHARE_FAIL),
        bool(flat.any()),
        f"the objective does not react to the incentive, near or far, in {flat.sum()} of "
        f"{flat.size} draws' searches{' and in that for all draws' if common else ''}: start from "
        "an incentive that moves the followers",
    )
    trace = tree["design_trace"].to_dataset()
    if "solve_status" not in trace:  # of an earlier version
        return
    outside = (trace["solve_status"] == SolveStatus.INVALID_MDP).values
    share = float(outside.any(-1).mean())
    health.note(
        False,
        share > UNSETTLED_SHARE_REVIEW,
        f"in {100 * share:.0f} % of the draws the search met incentives that lead to no MDP (a "
        "probability above one, a temperature below zero): its best design may lie at that edge; "
        "state the bound in the transform",
    )


def _judge_common(tree: xr.DataTree, health: Health) -> None:
    """Judge whether the common design is what it is said to be: the best on these draws."""
    objective = tree["decision"].to_dataset()["objective"].transpose("design", "chain", "draw")
    gain = (objective - objective.isel(design=0, drop=True)).mean(("chain", "draw"))
    noise = tree["decision"].to_dataset()["objective_standard_error"].mean(("chain", "draw"))
    scale = float(np.abs(objective).max())
    num = objective.sizes["chain"] * objective.sizes["draw"]
    more = gain.values - 3.0 * noise.values / np.sqrt(num) - BETTER * float(objective.std())
    for place in np.flatnonzero(more > ROUNDING * scale):
        name = design_title(str(objective["design"].values[place]))
        health.note(
            False,
            True,
            f"the {name} design has a higher mean objective than the common one, by "
            f"{float(gain[place]):.3g}: its search fell short; allow more starts",
        )


def _judge_scores(tree: xr.DataTree, health: Health, prob: float) -> None:
    design = tree["design"].to_dataset()
    objective = design["leader_objective"]
    num = objective.size
    wanted = max(DRAWS_REVIEW, int(np.ceil(round(2.0 * DRAWS_IN_TAIL / (1.0 - prob), 6))))
    health.note(
        num < DRAWS_FAIL,
        num < wanted,
        f"{num} designed draws are few for the tails of {100 * prob:g} % intervals: use {wanted} "
        "or more",
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
